"""The mapper itself: what DeviceMesh sees of Bluetooth Low Energy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

from devicemesh.mapper import Found, Mapper, Secrets, Session, no_secrets
from devicemesh_ble import uri
from devicemesh_ble.model import BleAddress, BleEndpoint


class BleMapper(Mapper[BleEndpoint, BleAddress]):
    """Advertisements and GATT. bleak, and bumble if asked for, are loaded when a session needs them."""

    protocol = "ble"
    endpoint_type = BleEndpoint
    address_type = BleAddress

    def open(
        self, endpoint: BleEndpoint, secrets: Secrets = no_secrets
    ) -> AbstractAsyncContextManager[Session[BleEndpoint, BleAddress]]:
        from devicemesh_ble.session import open_session

        return open_session(endpoint, secrets)

    def parse_endpoint(self, uri_: str) -> BleEndpoint:
        return uri.parse_endpoint(uri_)

    def parse_address(self, text: str) -> BleAddress:
        return uri.parse_address(text)

    def discover(self, uri_: str, secrets: Secrets = no_secrets) -> AsyncIterator[Found]:
        from devicemesh_ble.discover import discover

        return discover(uri_)
