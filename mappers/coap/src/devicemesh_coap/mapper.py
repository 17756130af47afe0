"""The mapper itself: what DeviceMesh sees of CoAP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

from devicemesh.mapper import Found, Mapper, Secrets, Session, no_secrets
from devicemesh_coap import uri
from devicemesh_coap.call import CoapCall
from devicemesh_coap.model import CoapAddress, CoapEndpoint


class CoapMapper(Mapper[CoapEndpoint, CoapAddress]):
    """CoAP over UDP, TCP and DTLS. aiocoap is loaded when a session needs it."""

    protocol = "coap"
    schemes = ("coaps",)
    endpoint_type = CoapEndpoint
    address_type = CoapAddress
    command_type = CoapCall

    def open(
        self, endpoint: CoapEndpoint, secrets: Secrets = no_secrets
    ) -> AbstractAsyncContextManager[Session[CoapEndpoint, CoapAddress]]:
        if endpoint.listen is not None:
            from devicemesh_coap.gateway import open_gateway

            return open_gateway(endpoint, secrets)
        from devicemesh_coap.session import open_session

        return open_session(endpoint, secrets)

    def parse_endpoint(self, uri_: str) -> CoapEndpoint:
        return uri.parse_endpoint(uri_)

    def parse_address(self, text: str) -> CoapAddress:
        return uri.parse_address(text)

    def discover(self, uri_: str, secrets: Secrets = no_secrets) -> AsyncIterator[Found]:
        from devicemesh_coap.discover import discover

        return discover(uri_, secrets)
