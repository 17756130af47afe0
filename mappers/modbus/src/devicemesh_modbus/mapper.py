"""The mapper itself: what DeviceMesh sees of Modbus."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from devicemesh.mapper import Found, Mapper, Secrets, Session, no_secrets
from devicemesh.spec.rows import Column, Placed, Row, Tabular
from devicemesh_modbus import uri
from devicemesh_modbus.endpoint import ModbusEndpoint
from devicemesh_modbus.model import ModbusAddress


class ModbusMapper(Mapper[ModbusEndpoint, ModbusAddress], Tabular):
    """Modbus on all its transports. pymodbus is loaded when the first link is opened."""

    protocol = "modbus"
    endpoint_type = ModbusEndpoint
    address_type = ModbusAddress

    @property
    def columns(self) -> Mapping[str, Column]:
        from devicemesh_modbus.table import COLUMNS

        return COLUMNS

    def open(
        self, endpoint: ModbusEndpoint, secrets: Secrets = no_secrets
    ) -> AbstractAsyncContextManager[Session[ModbusEndpoint, ModbusAddress]]:
        from devicemesh_modbus.session import open_session

        return open_session(endpoint)

    def parse_endpoint(self, uri_: str) -> ModbusEndpoint:
        return uri.parse_endpoint(uri_)[0]

    def parse_address(self, text: str) -> ModbusAddress:
        return uri.parse_address(text)

    def discover(self, uri_: str, secrets: Secrets = no_secrets) -> AsyncIterator[Found]:
        from devicemesh_modbus.discover import discover

        return discover(uri_)

    def place(self, rows: Sequence[Row]) -> Sequence[Placed]:
        from devicemesh_modbus.table import place

        return place(rows)
