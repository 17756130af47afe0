"""The mapper itself: what DeviceMesh sees of LoRaWAN."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

from devicemesh.mapper import Found, Mapper, Secrets, Session, no_secrets
from devicemesh_lora import uri
from devicemesh_lora.model import LoraAddress, LoraCommand, LoraEndpoint


class LoraMapper(Mapper[LoraEndpoint, LoraAddress]):
    """LoRaWAN through gateways that send to us, or a network server. Libraries are loaded when needed."""

    protocol = "lora"
    endpoint_type = LoraEndpoint
    address_type = LoraAddress
    command_type = LoraCommand

    def open(
        self, endpoint: LoraEndpoint, secrets: Secrets = no_secrets
    ) -> AbstractAsyncContextManager[Session[LoraEndpoint, LoraAddress]]:
        if endpoint.server is not None:
            from devicemesh_lora import servers

            return servers.open_session(endpoint, secrets)
        from devicemesh_lora import session

        return session.open_session(endpoint, secrets)

    def parse_endpoint(self, uri_: str) -> LoraEndpoint:
        return uri.parse_endpoint(uri_)

    def parse_address(self, text: str) -> LoraAddress:
        return uri.parse_address(text)

    def discover(self, uri_: str, secrets: Secrets = no_secrets) -> AsyncIterator[Found]:
        """Devices speak first: those of a network server's application are listened to for a while."""
        from devicemesh_lora.discover import discover

        return discover(uri_, secrets)
