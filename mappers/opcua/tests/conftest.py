"""Servers to test against: asyncua's, each in a process that a test may kill."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import multiprocessing.forkserver
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from devicemesh_opcua.model import OpcUaAddress, OpcUaEndpoint

from devicemesh.mapper import Point
from devicemesh.spec.telemetry import Telemetry
from devicemesh.spec.values import ValueType
from devicemesh.testing import contract

sys.path.append(str(Path(__file__).parent))  # the fork server imports the plant by its name
PLANT = "urn:plant"
PATIENCE_S = 90.0
FORKS = multiprocessing.forkserver.ForkServer()
"""A fork server of its own: that of the process has preloaded what the first who came asked for, and nothing since.

With pytest, as each child imports the main program of its parent."""
FORKS.set_forkserver_preload(["pytest", "opcua_plant"])


class Plant:
    """A server in another process; every method of `opcua_plant.PlantServer` can be awaited."""

    def __init__(self, **options: Any) -> None:
        import opcua_plant

        context = multiprocessing.get_context("forkserver")
        self._pipe, theirs = context.Pipe()
        self.process = context.Process(target=opcua_plant.main, args=(theirs, options), daemon=True)
        with (
            patch.dict(os.environ, PYTHONPATH=str(Path(__file__).parent)),  # for the preloading
            patch.object(multiprocessing.forkserver, "connect_to_new_process", FORKS.connect_to_new_process),
        ):
            self.process.start()
        theirs.close()
        self.port, self.index = self._answer()

    def _answer(self) -> Any:
        if not self._pipe.poll(PATIENCE_S):
            raise TimeoutError("the plant does not answer")
        done, answer = self._pipe.recv()
        assert done, answer
        return answer

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def ask(*args: Any, **kwargs: Any) -> Any:
            self._pipe.send((name, args, kwargs))
            return await asyncio.to_thread(self._answer)

        return ask

    def endpoint(self, **fields: Any) -> OpcUaEndpoint:
        return OpcUaEndpoint(url=f"opc.tcp://127.0.0.1:{self.port}", **{"timeout": "5s", **fields})

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self._pipe.close()

    async def stop(self) -> None:
        self.kill()


@asynccontextmanager
async def plant(**options: Any) -> AsyncIterator[Plant]:
    running = Plant(**options)
    try:
        yield running
    finally:
        running.kill()


@pytest.fixture(scope="session")
def forkserver() -> None:
    """Load the standard's nodes, which takes seconds, before a test begins to count its own."""
    Plant().kill()


@pytest.fixture
def serve_plant(forkserver: None) -> Callable[..., Any]:
    """A server for the time of an `async with`; options as `opcua_plant.PlantServer` has them."""
    return plant


def make_point(slot: int, endpoint: OpcUaEndpoint, type_: str, address: Any, **telemetry: Any) -> Any:
    place = {"node": f"nsu={PLANT};s={address}"} if isinstance(address, str) else address
    wish = Telemetry.model_validate({"sampling_interval": "50ms", **telemetry})
    where = OpcUaAddress.model_validate(place)
    return Point(slot, "default/plc", f"p{slot}", ValueType(type_), endpoint, where, wish)


@pytest.fixture
def point() -> Callable[..., Any]:
    """A point of the plant: (slot, endpoint, type, name or address)."""
    return make_point


@pytest.fixture
def run() -> Callable[[Any], None]:
    """Run a test's coroutine; it must end in time and leave no task behind."""
    return contract.run


@pytest.fixture(scope="session")
def issue() -> Callable[..., tuple[bytes, bytes]]:
    """Make a server's certificate and its authority's (DER): (days, host, uri, usage, self_signed)."""
    keys = [rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, n)]) for n in ("Authority", "Server")]
    now = datetime.datetime.now(datetime.UTC)

    def build(owner: int, signer: int, days: int, extensions: list[Any]) -> bytes:
        made = x509.CertificateBuilder().subject_name(names[owner]).issuer_name(names[signer])
        made = made.public_key(keys[owner].public_key()).serial_number(x509.random_serial_number())
        made = made.not_valid_before(now - datetime.timedelta(days=20))
        made = made.not_valid_after(now + datetime.timedelta(days=days))
        for extension in (x509.BasicConstraints(ca=owner == 0, path_length=None), *extensions):
            made = made.add_extension(extension, critical=False)
        return made.sign(keys[signer], hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def make(
        days: int = 10,
        host: str = "127.0.0.1",
        uri: str = "urn:test:plant",
        usage: str = "server",
        self_signed: bool = False,
    ) -> tuple[bytes, bytes]:
        oid = ExtendedKeyUsageOID.SERVER_AUTH if usage == "server" else ExtendedKeyUsageOID.CLIENT_AUTH
        alternatives = [x509.UniformResourceIdentifier(uri), x509.IPAddress(ipaddress.ip_address(host))]
        extensions = [x509.ExtendedKeyUsage([oid]), x509.SubjectAlternativeName(alternatives)]
        return build(1, 1 if self_signed else 0, days, extensions), build(0, 0, 10, [])

    return make
