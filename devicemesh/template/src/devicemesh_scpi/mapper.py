"""The mapper itself: what DeviceMesh sees of SCPI.

Replace: the two short forms, which make `devicemesh read scpi://10.0.0.8/2 MEAS:VOLT` work with no file, and
`discover`; where a protocol can't look for devices, it yields nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from devicemesh.mapper import ConfigError, Found, Mapper, Point, Secrets, Session, no_secrets, validated
from devicemesh.spec.values import ValueType
from devicemesh_scpi.model import ScpiAddress, ScpiEndpoint


class ScpiMapper(Mapper[ScpiEndpoint, ScpiAddress]):
    """Instruments that speak SCPI over a raw TCP socket."""

    protocol = "scpi"
    endpoint_type = ScpiEndpoint
    address_type = ScpiAddress

    def open(
        self, endpoint: ScpiEndpoint, secrets: Secrets = no_secrets
    ) -> AbstractAsyncContextManager[Session[ScpiEndpoint, ScpiAddress]]:
        from devicemesh_scpi.session import open_session

        return open_session(endpoint)

    def parse_endpoint(self, uri: str) -> ScpiEndpoint:
        """`scpi://host:port/channel?timeout=2s`."""
        try:
            parts = urlsplit(uri)
            place = {"host": parts.hostname, "port": parts.port, "channel": parts.path.strip("/")}
        except ValueError as error:
            raise ConfigError(f"{uri!r}: {error}") from error
        if parts.scheme != self.protocol or parts.hostname is None:
            raise ConfigError(f"{uri!r} is no SCPI URI: write it like scpi://10.0.0.8:5025/2")
        given: dict[str, Any] = {name: value for name, value in place.items() if value}
        return validated(ScpiEndpoint, given | dict(parse_qsl(parts.query)), uri)

    def parse_address(self, text: str) -> ScpiAddress:
        return validated(ScpiAddress, {"header": text.removesuffix("?")}, text)

    async def discover(self, uri: str, secrets: Secrets = no_secrets) -> AsyncIterator[Found]:
        """Who is there: `*IDN?` is answered with maker, model, serial number and version."""
        from devicemesh_scpi.session import open_session

        there = self.parse_endpoint(uri).model_copy(update={"channel": None})
        asked = Point(0, "", "identity", ValueType.STRING, there, self.parse_address("*IDN?"))
        async with open_session(there) as session:
            words = str((await session.trace(asked)).value).split(",")
        yield Found(uri, dict(zip(("maker", "model", "serial", "version"), words, strict=False)))
