"""The mapper itself: what DeviceMesh sees of OPC UA."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

from devicemesh.mapper import Found, Mapper, Secrets, Session, no_secrets
from devicemesh_opcua import uri
from devicemesh_opcua.left import Leavings
from devicemesh_opcua.model import OpcUaAddress, OpcUaEndpoint, OpcUaEvents, OpcUaMethod


class OpcUaMapper(Mapper[OpcUaEndpoint, OpcUaAddress]):
    """OPC UA over opc.tcp. asyncua is loaded when the first session is opened.

    All that it remembers is what sessions that were lost have left at their servers.
    """

    protocol = "opcua"
    schemes = ("opc.tcp",)
    endpoint_type = OpcUaEndpoint
    address_type = OpcUaAddress
    command_type = OpcUaMethod
    event_type = OpcUaEvents

    def __init__(self) -> None:
        self._leavings = Leavings()

    def open(
        self, endpoint: OpcUaEndpoint, secrets: Secrets = no_secrets
    ) -> AbstractAsyncContextManager[Session[OpcUaEndpoint, OpcUaAddress]]:
        from devicemesh_opcua.session import open_session

        return open_session(endpoint, secrets, self._leavings)

    def parse_endpoint(self, uri_: str) -> OpcUaEndpoint:
        return uri.parse_endpoint(uri_)

    def parse_address(self, text: str) -> OpcUaAddress:
        return uri.parse_address(text)

    def discover(self, uri_: str, secrets: Secrets = no_secrets) -> AsyncIterator[Found]:
        from devicemesh_opcua.discover import discover

        return discover(uri_, secrets)
