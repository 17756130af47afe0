"""Real connections, with pymodbus's client on the other side."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from devicemesh_modbus.mapper import ModbusMapper
from pymodbus.exceptions import ModbusException
from pymodbus.framer import FramerRTU

PROPERTIES: list[dict[str, Any]] = [
    {
        "name": "speed",
        "type": "float32",
        "access": "ReadWrite",
        "address": {"modbus": {"table": "holding", "offset": 100}},
        "simulation": {"value": 1450},
    },
    {
        "name": "mode",
        "type": "uint16",
        "access": "ReadWrite",
        "address": {"modbus": {"table": "holding", "offset": 102}},
    },
    {
        "name": "serial",
        "type": "uint16",
        "address": {"modbus": {"table": "holding", "offset": 110}},
        "simulation": {"value": 42},
    },
    {
        "name": "pressure",
        "type": "float64",
        "address": {"modbus": {"table": "input", "offset": 10, "type": "int16", "scale": 0.01}},
        "simulation": {"value": 3.14},
    },
    {
        "name": "pump",
        "type": "bool",
        "access": "ReadWrite",
        "address": {"modbus": {"table": "coil", "offset": 3}},
    },
    {
        "name": "valve",
        "type": "bool",
        "access": "ReadWrite",
        "address": {"modbus": {"table": "coil", "offset": 4}},
    },
    {
        "name": "door",
        "type": "bool",
        "address": {"modbus": {"table": "discrete", "offset": 2}},
        "simulation": {"value": True},
    },
]
SERIAL = {"serial": {"port": "/dev/ttyUSB0", "parity": "none"}}
TRANSPORTS = {
    "tcp": {},
    "udp": {"transport": "udp"},
    "rtuovertcp": {"transport": "rtuovertcp"},
    "asciiovertcp": {"transport": "asciiovertcp"},
    "serial": SERIAL,
    "serial-ascii": {"serial": {**SERIAL["serial"], "mode": "ascii"}},
}


def run(main: Any) -> Any:
    return asyncio.run(asyncio.wait_for(main, 30))


@pytest.fixture
def with_client(declare: Any, serve: Any, client: Any) -> Callable[..., Any]:
    """Run a test with the simulation and a client of it."""

    def on(test: Callable[..., Any], transport: str = "tcp", patience: float = 5.0) -> None:
        async def main() -> None:
            one = declare("pump-1", PROPERTIES, **TRANSPORTS[transport])
            async with serve(one) as simulation:
                (address,) = simulation.addresses.values()
                async with client(address, transport, patience) as connected:
                    await test(connected, simulation)

        run(main())

    return on


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_every_function_on_every_transport(with_client: Any, transport: str) -> None:
    async def test(c: Any, _: Any) -> None:
        assert (await c.read_holding_registers(100, count=2)).registers == [0x44B5, 0x4000]
        assert (await c.read_input_registers(10)).registers == [314]
        assert (await c.read_discrete_inputs(2)).bits[0] is True
        assert (await c.read_coils(3, count=2)).bits[:2] == [False, False]
        assert not (await c.write_coil(3, True)).isError()
        assert (await c.read_coils(3, count=2)).bits[:2] == [True, False]
        assert not (await c.write_coils(3, [False, True])).isError()
        assert (await c.read_coils(3, count=2)).bits[:2] == [False, True]
        assert (await c.write_register(102, 7)).registers == [7]
        assert not (await c.write_registers(100, [0x42F6, 0xE979])).isError()
        assert not (await c.mask_write_register(address=102, and_mask=0xFFFE, or_mask=0x0000)).isError()
        assert (await c.read_holding_registers(100, count=3)).registers == [0x42F6, 0xE979, 6]
        both = await c.readwrite_registers(read_address=102, read_count=1, write_address=102, values=[9])
        assert both.registers == [9]
        identity = await c.read_device_information(read_code=1, object_id=0)
        assert identity.information == {0: b"DeviceMesh", 1: b"pump-1", 2: b"simulated"}

    with_client(test, transport)


def test_holes_ends_and_read_only_registers(with_client: Any) -> None:
    async def test(c: Any, _: Any) -> None:
        assert (await c.read_holding_registers(103, count=8)).registers == [0] * 7 + [42]
        assert (await c.read_holding_registers(110, count=2)).exception_code == 2
        assert (await c.write_register(110, 1)).exception_code == 2
        assert (await c.read_holding_registers(110)).registers == [42]

    with_client(test)


def test_exception_and_heal(with_client: Any) -> None:
    async def test(c: Any, simulation: Any) -> None:
        assert simulation.fault("default/pump-1", "exception", {"value": "4"}) == "exception 4"
        assert (await c.read_coils(3)).exception_code == 4
        assert (await c.write_register(102, 5)).exception_code == 4
        assert simulation.fault("default/pump-1", "heal", {}) == "healthy"
        assert (await c.read_holding_registers(102)).registers == [0]

    with_client(test)


def test_delay(with_client: Any) -> None:
    async def test(c: Any, simulation: Any) -> None:
        loop = asyncio.get_running_loop()
        simulation.fault("default/pump-1", "delay", {"value": "150ms"})
        began = loop.time()
        assert (await c.read_holding_registers(110)).registers == [42]
        assert loop.time() - began >= 0.149

    with_client(test)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("fault", [("drop", {"value": "100"}), ("unplug", {})])
def test_silence_and_heal(with_client: Any, transport: str, fault: Any) -> None:
    async def test(c: Any, simulation: Any) -> None:
        simulation.fault("default/pump-1", *fault)
        with pytest.raises(ModbusException, match="No response"):
            await c.write_register(102, 5)
        simulation.fault("default/pump-1", "heal", {})
        if not c.connected:
            assert await c.connect()
        assert (await c.read_holding_registers(102)).registers == [0]  # unheard, so not done

    with_client(test, transport, patience=0.3)


def test_some_are_dropped_and_the_seed_says_which(declare: Any, serve: Any) -> None:
    async def answered(seed: int) -> list[bool]:
        async with serve(declare("pump-1", PROPERTIES, transport="udp"), seed=seed) as simulation:
            simulation.fault("default/pump-1", "drop", {"value": "50"})
            host, _, port = next(iter(simulation.addresses.values())).partition(":")
            heard: set[int] = set()

            class Client(asyncio.DatagramProtocol):
                def datagram_received(self, data: bytes, addr: Any) -> None:
                    heard.add(data[1])

            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_datagram_endpoint(Client, remote_addr=(host, int(port)))
            for number in range(40):
                transport.sendto(bytes((0, number)) + bytes.fromhex("0000 0006 01 03 006e 0001"))
                await asyncio.sleep(0.001)
            simulation.fault("default/pump-1", "heal", {})
            while 99 not in heard:  # all before it have been seen
                transport.sendto(bytes.fromhex("0063 0000 0006 01 03 006e 0001"))
                await asyncio.sleep(0.005)
            transport.close()
            return [number in heard for number in range(40)]

    first = run(answered(1))
    assert 8 < sum(first) < 32
    assert run(answered(1)) == first
    assert run(answered(2)) != first


def test_disconnect(with_client: Any) -> None:
    async def test(_: Any, simulation: Any) -> None:
        simulation.fault("default/pump-1", "disconnect", {})
        host, _, port = next(iter(simulation.addresses.values())).partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(bytes.fromhex("0001 0000 0006 01 06 0066 0005"))
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        simulation.fault("default/pump-1", "heal", {})
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(bytes.fromhex("0001 0000 0006 01 03 0066 0001"))
        assert (await reader.readexactly(11))[-2:] == b"\0\0"
        writer.close()

    with_client(test)


def test_garbage(with_client: Any) -> None:
    async def test(_: Any, simulation: Any) -> None:
        simulation.fault("default/pump-1", "garbage", {"value": "100"})
        host, _, port = next(iter(simulation.addresses.values())).partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        answers = set()
        for _ in range(5):
            writer.write(bytes.fromhex("0001 0000 0006 01 03 006e 0001"))
            answers.add(await reader.readexactly(11))
        assert len(answers) == 5
        assert bytes.fromhex("0001 0000 0005 01 03 02 002a") not in answers
        writer.close()

    with_client(test)


def test_noise(with_client: Any) -> None:
    async def test(c: Any, simulation: Any) -> None:
        await c.write_registers(100, list(struct.unpack(">HH", struct.pack(">f", 200.0))))
        simulation.fault("default/pump-1", "noise", {"value": "10"})
        seen = set()
        for _ in range(40):
            registers = (await c.read_holding_registers(100, count=2)).registers
            seen.add(struct.unpack(">f", struct.pack(">HH", *registers))[0])
        assert len(seen) > 30
        assert 179.9 < min(seen) < max(seen) < 220.1
        simulation.fault("default/pump-1", "heal", {})
        assert (await c.read_holding_registers(100, count=2)).registers == [0x4348, 0]

    with_client(test)


def test_faults_belong_to_one_unit(declare: Any, serve: Any, client: Any) -> None:
    async def main() -> None:
        both = [declare(f"pump-{unit}", PROPERTIES, unit=unit) for unit in (1, 2)]
        twin = declare("twin-of-2", PROPERTIES, unit=2)
        async with serve(*both, twin) as simulation:
            assert list(simulation.addresses) == ["192.0.2.1:502"]
            said = simulation.fault("default/pump-2", "exception", {"value": "6"})
            assert said == "exception 6 (so is default/twin-of-2, the same unit)"
            async with client(simulation.addresses["192.0.2.1:502"]) as c:
                codes = [getattr(await c.read_coils(3, device_id=u), "exception_code", 0) for u in (1, 2, 3)]
            assert codes == [0, 6, 0x0B]
            with pytest.raises(ValueError, match="no simulated device default/pump-9"):
                simulation.fault("default/pump-9", "heal", {})

    run(main())


@pytest.mark.parametrize("transport", ["rtuovertcp", "asciiovertcp", "serial", "serial-ascii"])
def test_a_broadcast_is_obeyed_by_all_and_answered_by_none(
    declare: Any, serve: Any, client: Any, transport: str
) -> None:
    async def main() -> None:
        line = [declare(f"pump-{unit}", PROPERTIES, unit=unit, **TRANSPORTS[transport]) for unit in (1, 2)]
        async with serve(*line) as simulation:
            async with client(*simulation.addresses.values(), transport, patience=0.3) as c:
                with pytest.raises(ModbusException, match="No response"):
                    await c.write_register(102, 8, device_id=0, no_response_expected=False)
            async with client(*simulation.addresses.values(), transport) as c:
                for unit in (1, 2):
                    assert (await c.read_holding_registers(102, device_id=unit)).registers == [8]

    run(main())


def test_pipelined_requests_are_answered_in_order(with_client: Any) -> None:
    async def test(_: Any, simulation: Any) -> None:
        host, _, port = next(iter(simulation.addresses.values())).partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        requests = b"".join(bytes((0, n)) + bytes.fromhex("0000 0006 01 03 006e 0001") for n in range(20))
        writer.write(requests[:7])
        await writer.drain()
        writer.write(requests[7:])
        answers = await reader.readexactly(20 * 11)
        assert [answers[at + 1] for at in range(0, len(answers), 11)] == list(range(20))
        writer.close()

    with_client(test)


@pytest.mark.parametrize("header", ["0001 0007 0006 01 03", "0001 0000 0001 01", "0001 0000 ffff 01 03"])
def test_what_is_not_modbus_is_hung_up_on(with_client: Any, header: str) -> None:
    async def test(c: Any, simulation: Any) -> None:
        host, _, port = next(iter(simulation.addresses.values())).partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(bytes.fromhex(header))
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        assert (await c.read_holding_registers(110)).registers == [42]

    with_client(test)


def test_half_a_request_on_a_line_is_forgotten_after_silence(
    with_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devicemesh_simulators.modbus_line.RTU_SILENCE_S", 0.0)
    request = bytes.fromhex("01 03 006e 0001")
    frame = request + FramerRTU.compute_CRC(request).to_bytes(2)

    async def test(_: Any, simulation: Any) -> None:
        host, _, port = next(iter(simulation.addresses.values())).partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        writer.write(bytes.fromhex("01 10 0000"))
        await asyncio.sleep(0.05)  # two segments, not one
        writer.write(frame)
        assert (await reader.readexactly(7))[3:5] == b"\0\x2a"
        writer.close()

    with_client(test, "rtuovertcp")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.7"])
def test_a_link_of_this_machine_keeps_its_port(declare: Any, serve: Any, client: Any, host: str) -> None:
    async def main() -> None:
        port = free_port()
        async with serve(declare("a", PROPERTIES, host=host, port=port)) as simulation:
            served = "127.0.0.1" if host == "localhost" else host
            assert simulation.addresses == {f"{host}:{port}": f"{served}:{port}"}
            async with client(f"{served}:{port}") as c:
                assert (await c.read_holding_registers(110)).registers == [42]

    run(main())


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_port_that_is_taken_is_named(declare: Any, serve: Any, kind: str) -> None:
    async def main() -> None:
        with socket.socket(type=socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM) as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            if kind == "tcp":
                taken.listen()
            one = declare("a", PROPERTIES, host="127.0.0.1", port=port, transport=kind)
            with pytest.raises(OSError, match=f"^127.0.0.1:{port} is used by another program$"):
                async with serve(one):
                    pass

    run(main())


def test_what_can_not_be_served_is_said(declare: Any, serve: Any) -> None:
    async def refused(*devices: Any) -> str:
        with pytest.raises(ValueError, match=r".") as caught:
            async with serve(*devices):
                pass
        return str(caught.value)

    tls = declare("vault", PROPERTIES, port=802, transport="tls")
    assert run(refused(tls)).startswith(
        "default/vault: TLS is not simulated, because only the device has its key"
    )
    tcp, udp = (declare(f"by-{kind}", PROPERTIES, transport=kind) for kind in ("tcp", "udp"))
    said = run(refused(tcp, udp))
    assert said == "default/by-tcp and default/by-udp share 192.0.2.1:502, but not: transport tcp and udp"


def open_files() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_leaving_closes_everything(declare: Any, serve: Any) -> None:
    async def main() -> None:
        before = open_files()
        devices = [
            declare("tcp", PROPERTIES),
            declare("udp", PROPERTIES, host="192.0.2.2", transport="udp"),
            declare("serial", PROPERTIES, **SERIAL),
        ]
        async with serve(*devices) as simulation:
            simulation.fault("default/tcp", "delay", {"value": "1h"})
            host, _, port = simulation.addresses["192.0.2.1:502"].partition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(bytes.fromhex("0001 0000 0006 01 03 006e 0001"))
            await writer.drain()
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        with contextlib.suppress(ConnectionResetError):
            await writer.wait_closed()
        await asyncio.sleep(0)
        assert open_files() == before

    run(main())


def test_two_hundred_devices_in_one_process(declare: Any, serve: Any) -> None:
    async def ask(simulation: Any, number: int) -> bytes:
        address = simulation.addresses[f"192.0.2.{number % 200}:{5000 + number}"]
        host, _, port = address.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(bytes.fromhex("0001 0000 0006 01 03 006e 0001"))
        answer = await reader.readexactly(11)
        writer.close()
        return answer[-2:]

    async def main() -> None:
        devices = [
            declare(f"d-{n}", PROPERTIES, host=f"192.0.2.{n % 200}", port=5000 + n) for n in range(200)
        ]
        async with serve(*devices) as simulation:
            assert await asyncio.gather(*(ask(simulation, n) for n in range(200))) == [b"\0\x2a"] * 200

    run(main())


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_mapper_reads_what_is_declared(declare: Any, serve: Any, transport: str) -> None:
    async def main() -> None:
        one = declare("pump-1", PROPERTIES, **TRANSPORTS[transport])
        async with serve(one) as simulation:
            endpoint = one.endpoint.redirect(*simulation.addresses.values())
            points = [replace(point, endpoint=endpoint) for point in one.points]
            async with ModbusMapper().open(endpoint) as session:
                traced = {p.name: (await session.trace(p)).value for p in points}
        assert traced == {
            "speed": 1450, "mode": 0, "serial": 42, "pressure": 3.14, "pump": False, "valve": False, "door": True,
        }  # fmt: skip

    run(main())
