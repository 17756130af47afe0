"""Against the servers of other people: pymodbus on every transport, and libmodbus."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from devicemesh_modbus.endpoint import ModbusEndpoint
from devicemesh_modbus.model import ModbusAddress
from devicemesh_modbus.session import open_session
from pymodbus.framer import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer, ModbusTlsServer, ModbusUdpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from devicemesh.mapper import AuthError, ConfigError, LinkError, Point, Quality, Write
from devicemesh.spec.values import ValueType as V

GOOD = int(Quality.GOOD)
BLOCKS = (
    [SimData(0, values=[True, False] * 30, datatype=DataType.BITS)],
    [SimData(0, values=[False, True] * 30, datatype=DataType.BITS)],
    [SimData(0, values=list(range(1000, 1200)), datatype=DataType.REGISTERS)],
    [SimData(0, values=[2.5, -1e6], datatype=DataType.FLOAT32)],
)
WANTED: list[tuple[V, dict[str, Any], Any]] = [
    (V.UINT16, {"table": "holding", "offset": 0}, 1000),
    (V.UINT16, {"table": "holding", "offset": 199}, 1199),
    (V.UINT32, {"table": "holding", "offset": 10}, 1010 << 16 | 1011),
    (V.FLOAT32, {"table": "input", "offset": 0}, 2.5),
    (V.FLOAT32, {"table": "input", "offset": 2}, -1e6),
    (V.BOOL, {"table": "coil", "offset": 0}, True),
    (V.BOOL, {"table": "coil", "offset": 59}, False),
    (V.BOOL, {"table": "discrete", "offset": 33}, True),
]


def devices() -> list[SimDevice]:
    return [SimDevice(id=unit, simdata=BLOCKS) for unit in (1, 2)]


def point(endpoint: ModbusEndpoint, slot: int, type_: V, address: dict[str, Any]) -> Any:
    return Point(slot, "default/plc", f"p{slot}", type_, endpoint, ModbusAddress.model_validate(address))


async def exercise(endpoint: ModbusEndpoint, collect: Any, units: int = 2) -> None:
    """Read everything of the units, write some of it, read it again."""
    points = [
        point(endpoint.model_copy(update={"unit": unit}), 100 * (unit - 1) + i, type_, address)
        for unit in range(1, units + 1)
        for i, (type_, address, _) in enumerate(WANTED)
    ]
    async with open_session(endpoint) as session:
        reader = session.reader(points)
        for _ in range(2):
            seen = await collect(reader)
            for i, (_, _, value) in enumerate(WANTED):
                assert [seen[s][:2] for s in (i, 100 + i) if s in seen] == [(value, GOOD)] * units
        new = {0: 7, 2: 123456789, 5: False, 6: True}
        outcomes = await session.write([Write(points[slot], value) for slot, value in new.items()])
        assert [(o.value, o.error) for o in outcomes] == [(value, None) for value in new.values()]
        bit = point(endpoint, 300, V.BOOL, {"table": "holding", "offset": 0, "bit": 4})
        assert [o.value for o in await session.write([Write(bit, True)])] == [True]
        seen = await collect(reader)
        assert {slot: seen[slot][0] for slot in new} == {**new, 0: 7 | 16}
        assert units == 1 or seen[100][0] == WANTED[0][2], "the other unit is as it was"


@asynccontextmanager
async def running(server: Any) -> AsyncIterator[int]:
    await server.serve_forever(background=True)
    try:
        sockets = getattr(server.transport, "sockets", None)
        name = sockets[0].getsockname() if sockets else server.transport.get_extra_info("sockname")
        yield name[1] if name else 0
    finally:
        await server.shutdown()


@pytest.mark.parametrize("transport", ["tcp", "rtuovertcp", "asciiovertcp", "udp"])
def test_pymodbus(transport: str, collect: Any) -> None:
    async def work() -> None:
        kind = ModbusUdpServer if transport == "udp" else ModbusTcpServer
        framers = {"rtuovertcp": FramerType.RTU, "asciiovertcp": FramerType.ASCII}
        framer = framers.get(transport, FramerType.SOCKET)
        async with running(kind(devices(), framer=framer, address=("127.0.0.1", 0))) as port:
            fields = {"host": "127.0.0.1", "port": port, "transport": transport}
            await exercise(ModbusEndpoint.model_validate(fields), collect)

    asyncio.run(work())


@pytest.mark.parametrize("mode", ["rtu", "ascii"])
def test_pymodbus_on_a_serial_line(mode: str, wire: tuple[str, str], collect: Any) -> None:
    async def work() -> None:
        server = ModbusSerialServer(devices(), framer=FramerType(mode), port=wire[0], baudrate=115200)
        async with running(server):
            line = {"port": wire[1], "baudrate": 115200, "parity": "none", "mode": mode, "dataBits": 8}
            await exercise(ModbusEndpoint.model_validate({"serial": line}), collect)
            async with open_session(ModbusEndpoint.model_validate({"serial": line})):
                with pytest.raises(LinkError, match="used by another program"):
                    async with open_session(ModbusEndpoint.model_validate({"serial": line})):
                        pytest.fail("opened a port twice")

    asyncio.run(work())


@pytest.mark.parametrize(
    ("declared", "opened"),
    [
        ({}, {"bytesize": 8, "parity": "E", "stopbits": 1, "baudrate": 19200}),
        ({"mode": "ascii", "baudrate": 9600}, {"bytesize": 7, "parity": "E", "stopbits": 1, "baudrate": 9600}),
        ({"mode": "ascii", "dataBits": 8, "parity": "none", "stopBits": 2},
         {"bytesize": 8, "parity": "N", "stopbits": 2, "baudrate": 19200}),
    ],
)  # fmt: skip
def test_a_line_is_opened_as_it_is_declared(
    declared: dict[str, Any], opened: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a pseudo-terminal can't have: seven bits, parity."""
    seen: dict[str, Any] = {}

    async def refuse(*_: Any, **settings: Any) -> None:
        seen.update(settings)
        raise OSError(2, "No such file or directory")

    async def work() -> None:
        line = {"port": "/dev/ttyUSB0", **declared}
        with pytest.raises(LinkError, match="no serial port /dev/ttyUSB0"):
            async with open_session(ModbusEndpoint.model_validate({"serial": line})):
                pytest.fail("opened a port that is not there")

    monkeypatch.setattr("devicemesh_modbus.session.create_serial_connection", refuse)
    asyncio.run(work())
    assert {name: seen[name] for name in opened} == opened


def test_a_serial_port_that_is_unplugged(points: Any, collect: Any) -> None:
    async def work() -> None:
        master, end = os.openpty()
        line = {"port": os.ttyname(end), "parity": "none"}
        endpoint = ModbusEndpoint.model_validate({"serial": line, "timeout": "5s"})
        async with open_session(endpoint) as session:
            reading = asyncio.ensure_future(collect(session.reader(points(endpoint, "holding:0"))))
            await asyncio.to_thread(os.read, master, 8)  # the request is out
            os.close(end)
            os.close(master)
            with pytest.raises(LinkError, match=f"the connection to {line['port']} broke"):
                await reading

    asyncio.run(work())


def test_pymodbus_over_tls(certificates: Any, collect: Any) -> None:
    async def work() -> None:
        context = certificates.server_context(demand=True)
        server = ModbusTlsServer(devices(), sslctx=context, address=("127.0.0.1", 0))
        async with running(server) as port:
            tls = {"caFile": certificates.ca, "certFile": certificates.client}
            endpoint = {"host": "127.0.0.1", "port": port, "tls": tls}
            await exercise(ModbusEndpoint.model_validate(endpoint), collect)

    asyncio.run(work())


@pytest.fixture
def strict_peer(certificates: Any) -> Iterator[int]:
    """A peer on OpenSSL itself: unlike asyncio's server it says why it ends a handshake."""
    context = certificates.server_context(demand=True)

    def serve(listening: socket.socket) -> None:
        with suppress(OSError):
            connection, _ = listening.accept()
            stream = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            with suppress(ssl.SSLError):
                stream.do_handshake()
            with socket.socket(fileno=stream.detach()) as plain:  # a reset would overtake the alert
                plain.shutdown(socket.SHUT_WR)
                while plain.recv(4096):
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        yield listening.getsockname()[1]
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@pytest.mark.parametrize(
    ("changed", "error", "says"),
    [
        ({"caFile": "STRANGER"}, LinkError, "its certificate is not trusted"),
        ({"serverName": "another.example"}, LinkError, "its certificate is not trusted: .*another.example"),
        ({"certFile": None}, AuthError, "does not accept our certificate"),
        (
            {"certFile": "STRANGER"},
            (AuthError, LinkError),
            "accept our certificate",
        ),  # as the alert is lost or not
        ({"caFile": "/no/such/file"}, ConfigError, "can't use the certificates /no/such/file"),
    ],
)
def test_who_is_not_trusted(
    changed: dict[str, Any], error: type[Exception], says: str, certificates: Any, strict_peer: int, points: Any,
    collect: Any,
) -> None:  # fmt: skip
    async def work() -> None:
        tls = {"caFile": certificates.ca, "certFile": certificates.client, **changed}
        tls = {k: certificates.stranger if v == "STRANGER" else v for k, v in tls.items()}
        endpoint = ModbusEndpoint.model_validate({"host": "127.0.0.1", "port": strict_peer, "tls": tls})
        with pytest.raises(error, match=says):
            async with open_session(endpoint) as session:
                await collect(session.reader(points(endpoint, "holding:0")))

    asyncio.run(work())


def test_frames_split_over_tls_records(
    certificates: Any, hostile: Any, fault: Any, serving: Any, points: Any, collect: Any
) -> None:
    async def work() -> None:
        device = hostile(faults=[fault(drip_s=0.001)])
        async with serving(device, certificates.server_context()):
            tls = {"caFile": certificates.ca}
            endpoint = ModbusEndpoint.model_validate({"host": "127.0.0.1", "port": device.port, "tls": tls})
            async with open_session(endpoint) as session:
                seen = await collect(session.reader(points(endpoint, "holding:0", "holding:500")))
                assert [row[1] for row in seen.values()] == [GOOD, GOOD]

    asyncio.run(work())


LIBMODBUS_SERVER = r"""
#include <modbus.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

/* One device, on a free TCP port that it prints, or on the serial port argv[1]. */
int main(int argc, char **argv)
{
    int tcp = argc == 1, port = 0, listening = 0;
    modbus_t *context = tcp ? modbus_new_tcp("127.0.0.1", 0) : modbus_new_rtu(argv[1], 115200, 'N', 8, 1);
    modbus_mapping_t *map = modbus_mapping_new(60, 60, 200, 200);
    for (int i = 0; i < 200; i++)
        map->tab_registers[i] = 1000 + i;
    for (int i = 0; i < 60; i++) {
        map->tab_bits[i] = !(i & 1);
        map->tab_input_bits[i] = i & 1;
    }
    map->tab_input_registers[0] = 0x4020; /* 2.5 and -1e6 as IEEE 754, high word first */
    map->tab_input_registers[2] = 0xC974;
    map->tab_input_registers[3] = 0x2400;
    modbus_set_slave(context, 1);
    if (tcp) {
        struct sockaddr_in name;
        socklen_t size = sizeof name;
        listening = modbus_tcp_listen(context, 1);
        getsockname(listening, (struct sockaddr *)&name, &size);
        port = ntohs(name.sin_port);
    } else if (modbus_connect(context)) {
        return 1;
    }
    printf("%d\n", port);
    fflush(stdout);
    if (tcp)
        modbus_tcp_accept(context, &listening);
    for (;;) {
        unsigned char query[MODBUS_MAX_ADU_LENGTH];
        int size = modbus_receive(context, query);
        if (size > 0)
            modbus_reply(context, query, size, map);
        else if (size < 0 && tcp)
            return 0;
    }
}
"""


@pytest.fixture(scope="session")
def libmodbus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small server on libmodbus, compiled here."""
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "libmodbus"], capture_output=True, text=True, check=False
    )
    if shutil.which("cc") is None or flags.returncode:
        pytest.skip("needs a C compiler and libmodbus-dev")
    folder = tmp_path_factory.mktemp("libmodbus")
    source, program = folder / "server.c", folder / "server"
    source.write_text(LIBMODBUS_SERVER)
    subprocess.run(["cc", str(source), "-o", str(program), *flags.stdout.split()], check=True)
    return program


def libmodbus_serving(program: Path, *arguments: str) -> Iterator[int]:
    with subprocess.Popen([program, *arguments], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            yield int(child.stdout.readline())
        finally:
            child.kill()


@pytest.fixture
def libmodbus_tcp(libmodbus: Path) -> Iterator[int]:
    yield from libmodbus_serving(libmodbus)


@pytest.fixture
def libmodbus_rtu(libmodbus: Path, wire: tuple[str, str]) -> Iterator[str]:
    for _ in libmodbus_serving(libmodbus, wire[0]):
        yield wire[1]


@pytest.mark.parametrize("pipeline", [1, 4])
def test_libmodbus(pipeline: int, libmodbus_tcp: int, collect: Any) -> None:
    endpoint = ModbusEndpoint(host="127.0.0.1", port=libmodbus_tcp, pipeline=pipeline)
    asyncio.run(exercise(endpoint, collect, units=1))


def test_libmodbus_on_a_serial_line(libmodbus_rtu: str, collect: Any) -> None:
    line = {"port": libmodbus_rtu, "baudrate": 115200, "parity": "none"}
    asyncio.run(exercise(ModbusEndpoint.model_validate({"serial": line}), collect, units=1))
