"""The session: what it sends, what it learns, what it leaves alone, what it writes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from devicemesh_modbus.endpoint import ModbusEndpoint
from devicemesh_modbus.model import ModbusAddress
from devicemesh_modbus.session import open_session
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devicemesh.mapper import ConfigError, LinkError, Point, PointError, Quality, Write
from devicemesh.spec.values import ValueType as V
from devicemesh.testing.clock import SOCKETS_S, run_virtual

GOOD = int(Quality.GOOD)


def endpoint_of(device: Any, **fields: Any) -> ModbusEndpoint:
    return ModbusEndpoint.model_validate(
        {
            "host": "127.0.0.1",
            "port": device.port,
            "timeout": "100ms",
            "transport": device.transport,
            **fields,
        }
    )


def point(endpoint: ModbusEndpoint, type_: V, slot: int = 0, **address: Any) -> Any:
    return Point(slot, "default/plc", "value", type_, endpoint, ModbusAddress.model_validate(address))


class Clock:
    """The loop's clock, moved ahead at will."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self.ahead_s


def test_one_request_reads_all_that_lies_together(
    hostile: Any, serving: Any, points: Any, collect: Any
) -> None:
    async def work() -> None:
        async with serving(hostile()) as device:
            endpoint = endpoint_of(device)
            many = points(
                endpoint, *(f"holding:{n}" for n in range(0, 120, 3)), "input:0", "coil:0", "coil:99"
            )
            async with open_session(endpoint) as session:
                reader = session.reader(many)
                assert device.requests == [], "planning is without I/O"
                for _ in range(2):
                    assert all(row[1] == GOOD for row in (await collect(reader)).values())
            assert device.requests == [(1, 1, 0, 100), (1, 3, 0, 118), (1, 4, 0, 1)] * 2

    run_virtual(work(), patience_s=SOCKETS_S)


def test_what_is_refused_is_found_once_and_remembered(
    hostile: Any, serving: Any, points: Any, collect: Any
) -> None:
    async def work() -> None:
        device = hostile(missing={(1, "holding", n) for n in (33, 50)})
        async with serving(device):
            endpoint, clock = endpoint_of(device), Clock()
            many = points(endpoint, *(f"holding:{n}" for n in range(100)))
            async with open_session(endpoint, clock=clock) as session:
                reader = session.reader(many)
                bad = {33: Quality.BAD_ADDRESS, 50: Quality.BAD_ADDRESS}
                for _ in range(3):
                    seen = await collect(reader)
                    assert {s: q for s, (_, q, _) in seen.items() if q != GOOD} == bad
                device.requests.clear()
                await collect(session.reader(many))
                assert [r[2:] for r in device.requests] == [(0, 33), (34, 16), (51, 49)], (
                    "known to all readers"
                )
                clock.ahead_s += 61
                device.requests.clear()
                await collect(reader)
                alone = [r[2:] for r in device.requests if r[2] in (33, 50)]
                assert alone == [(33, 1), (50, 1)], "asked again after a while, alone"
                device.missing.clear()
                clock.ahead_s += 61
                assert all(row[1] == GOOD for row in (await collect(reader)).values())
                device.requests.clear()
                await collect(reader)
                assert [r[2:] for r in device.requests] == [(0, 100)], "and merged again once they are there"

    run_virtual(work(), patience_s=SOCKETS_S)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    wanted=st.sets(st.integers(0, 90), min_size=1, max_size=30),
    missing=st.sets(st.integers(0, 90), max_size=8),
    limit=st.integers(3, 125),
)
def test_no_hole_and_no_limit_makes_a_good_point_bad(
    hostile: Any, serving: Any, points: Any, collect: Any, wanted: set[int], missing: set[int], limit: int
) -> None:
    async def work() -> None:
        device = hostile(missing={(1, "holding", n) for n in missing}, max_registers=limit)
        async with serving(device):
            endpoint = endpoint_of(device)
            many = points(endpoint, *(f"holding:{n}" for n in sorted(wanted)))
            async with open_session(endpoint) as session:
                reader = session.reader(many)
                for _ in range(8):
                    device.requests.clear()
                    for slot, (value, quality, _) in (await collect(reader)).items():
                        offset = many[slot].address.offset
                        if offset in missing:
                            assert quality == Quality.BAD_ADDRESS
                        else:
                            assert (value, quality) == (device.value(1, "holding", offset), GOOD)
                for _, _, start, count in device.requests:
                    assert count <= limit, "still asks for more than the device gives"
                    assert not missing & set(range(start, start + count)), "still asks for what is not there"

    run_virtual(work(), patience_s=SOCKETS_S)


def test_a_dead_unit_costs_its_neighbours_one_timeout_a_pause(
    hostile: Any, fault: Any, serving: Any, points: Any, collect: Any
) -> None:
    async def work() -> None:
        device = hostile(faults=[fault(unit=1, silent=True)])
        async with serving(device):
            endpoint, clock = endpoint_of(device, timeout="50ms"), Clock()
            texts = ("1/holding:0", "1/holding:500", "1/coil:0", "2/holding:0", "3/holding:0")
            many = points(endpoint, *texts)
            one_of_unit_1 = many[0]
            async with open_session(endpoint, clock=clock) as session:
                reader = session.reader(many)
                for _ in range(3):
                    await collect(reader)
                asked = [r for r in device.requests if r[0] == 1]
                assert len(asked) == 3, "one request of a silent unit a poll, the others are not even sent"
                device.requests.clear()
                for _ in range(20):
                    seen = await collect(reader)
                    assert [seen[s][1] for s in (3, 4)] == [GOOD, GOOD]
                    assert {seen[s][1] for s in (0, 1, 2)} == {int(Quality.NO_ANSWER)}
                assert [r for r in device.requests if r[0] == 1] == [], "not one while the pause lasts"
                assert str(seen[0][2]).startswith(
                    f"no answer from {endpoint.link()} unit 1 within 0.05 s, 3 tries, next in "
                )
                (outcome,) = await session.write([Write(one_of_unit_1, 5)])
                assert outcome.error is not None and outcome.error.reason == "NoAnswer"
                assert [r[1] for r in device.requests if r[0] == 1] == [6], (
                    "a write costs one timeout, not two"
                )
                device.requests.clear()
                clock.ahead_s += 1.2
                await collect(reader)
                await collect(reader)
                assert len([r for r in device.requests if r[0] == 1]) == 1, "then one probe"
                device.faults.clear()
                clock.ahead_s += 2.5
                seen = await collect(reader)
                assert all(row[1] == GOOD for row in seen.values()), "and all is well at once"
                assert not session.shared.quiet, "nothing is kept of units that answer"

    run_virtual(work(), patience_s=SOCKETS_S)


def test_a_silent_range_of_a_living_unit_is_left_alone(
    hostile: Any, fault: Any, serving: Any, points: Any, collect: Any
) -> None:
    async def work() -> None:
        device = hostile(faults=[fault(start=500, silent=True)])
        async with serving(device):
            endpoint, clock = endpoint_of(device, timeout="20ms"), Clock()
            async with open_session(endpoint, clock=clock) as session:
                reader = session.reader(points(endpoint, "holding:0", "holding:500", "holding:1000"))
                for _ in range(3):
                    await collect(reader)
                device.requests.clear()
                for _ in range(5):
                    seen = await collect(reader)
                    assert [seen[s][1] for s in (0, 1, 2)] == [GOOD, Quality.NO_ANSWER, GOOD]
                assert {r[2] for r in device.requests} == {0, 1000}
                device.faults.clear()
                clock.ahead_s += 2
                assert all(row[1] == GOOD for row in (await collect(reader)).values())

    run_virtual(work(), patience_s=SOCKETS_S)


def test_a_function_that_a_unit_lacks_is_not_tried_again(hostile: Any, fault: Any, serving: Any) -> None:
    async def work() -> None:
        device = hostile(faults=[fault(function=22, exception=1)])
        async with serving(device):
            endpoint = endpoint_of(device)
            bit = point(endpoint, V.BOOL, table="holding", offset=0, bit=3)
            async with open_session(endpoint) as session:
                await session.write([Write(bit, True), Write(bit, False)])
            assert [r[1] for r in device.requests] == [22, 3, 6, 3, 3, 6, 3]

    run_virtual(work(), patience_s=SOCKETS_S)


def test_a_connection_on_which_nothing_comes_for_long_is_given_up(
    hostile: Any, fault: Any, serving: Any, points: Any, collect: Any
) -> None:
    async def work() -> None:
        device = hostile(faults=[fault(silent=True)])
        async with serving(device):
            endpoint, clock = (
                endpoint_of(device, timeout="10ms", breaker={"failures": 1, "period": "4s"}),
                Clock(),
            )
            async with open_session(endpoint, clock=clock) as session:
                reader = session.reader(points(endpoint, "holding:0"))
                with pytest.raises(LinkError, match="nothing comes from"):
                    for _ in range(10):
                        await collect(reader)
                        clock.ahead_s += 5

    run_virtual(work(), patience_s=SOCKETS_S)


def test_other_readers_spare_a_silent_unit_too(
    hostile: Any, fault: Any, serving: Any, points: Any, collect: Any
) -> None:
    async def work() -> None:
        device = hostile()
        async with serving(device):
            endpoint = endpoint_of(device, timeout="20ms", breaker={"failures": 1})
            async with open_session(endpoint) as session:
                fast, slow = (session.reader(points(endpoint, "holding:0")) for _ in range(2))
                await collect(fast)
                await collect(slow)
                device.faults.append(fault(silent=True))
                await collect(fast)
                device.requests.clear()
                assert (await collect(slow))[0][1] == Quality.NO_ANSWER
                assert device.requests == []

    run_virtual(work(), patience_s=SOCKETS_S)


def test_a_line_is_never_given_a_late_answer_for_a_new_one(
    hostile: Any, fault: Any, serving: Any, points: Any
) -> None:
    """A cancelled request, then another of the same unit, function and size."""

    async def work() -> None:
        asked = asyncio.Event()

        class Watched(hostile):  # type: ignore[misc]
            def honest(self, unit: int, pdu: bytes, more: int = 0) -> bytes:
                asked.set()
                return bytes(super().honest(unit, pdu, more))

        device = Watched(transport="rtuovertcp", faults=[fault(delay_s=0.05)])
        async with serving(device):
            endpoint = endpoint_of(device)
            one, two = points(endpoint, "holding:111", "holding:222")
            async with open_session(endpoint) as session:
                first = asyncio.ensure_future(session.trace(one))
                await asked.wait()
                first.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await first
                assert (await session.trace(two)).value == device.value(1, "holding", 222)

    run_virtual(work(), patience_s=SOCKETS_S)


def test_requests_under_way_at_once_are_bounded(
    hostile: Any, fault: Any, serving: Any, points: Any, collect: Any
) -> None:
    async def work() -> None:
        for depth in (1, 4):
            device = hostile(faults=[fault(delay_s=0.01)])
            async with serving(device):
                endpoint = endpoint_of(device, pipeline=depth)
                many = points(endpoint, *(f"holding:{500 * n}" for n in range(12)))
                async with open_session(endpoint) as session:
                    seen = await collect(session.reader(many))
                assert all(row[1] == GOOD for row in seen.values())
                assert device.most_under_way == depth

    run_virtual(work(), patience_s=SOCKETS_S)


def test_the_pause_that_a_device_needs_is_kept(hostile: Any, serving: Any, points: Any, collect: Any) -> None:
    async def work() -> None:
        async with serving(hostile()) as device:
            endpoint = endpoint_of(device, pauseBetweenRequests="30ms")
            async with open_session(endpoint) as session:
                reader = session.reader(points(endpoint, "holding:0", "holding:500", "holding:1000"))
                await collect(reader)
                clock = asyncio.get_running_loop().time
                started = clock()
                await collect(reader)
                assert clock() - started >= 0.09

    run_virtual(work(), patience_s=SOCKETS_S)


def test_a_misdeclared_point_is_bad_alone(hostile: Any, serving: Any, points: Any, collect: Any) -> None:
    async def work() -> None:
        async with serving(hostile()) as device:
            endpoint = endpoint_of(device)
            other = endpoint.model_copy(update={"transport": "rtuovertcp"})
            wrong = [
                point(endpoint, V.STRING, 1, table="holding", offset=0),
                point(other, V.UINT16, 2, table="holding", offset=0),
            ]
            async with open_session(endpoint) as session:
                reader = session.reader([*points(endpoint, "holding:0"), *wrong])
                for _ in range(2):
                    seen = await collect(reader)
                    assert seen[0][1] == GOOD
                    assert [seen[s][1] for s in (1, 2)] == [Quality.BAD, Quality.BAD]
                    assert all(isinstance(seen[s][2], ConfigError) for s in (1, 2))
                    assert "disagrees with another device" in str(seen[2][2])
                for one in wrong:
                    (outcome,) = await session.write([Write(one, "x")])
                    assert outcome.error is not None and outcome.error.reason == "NotWritable"
                with pytest.raises(PointError, match="a string needs `length`"):
                    await session.trace(wrong[0])

    run_virtual(work(), patience_s=SOCKETS_S)


@pytest.mark.parametrize(
    ("type_", "address", "value", "function", "data"),
    [
        (V.BOOL, {"table": "coil"}, True, 5, "ff00"),
        (V.BOOL, {"table": "coil"}, False, 5, "0000"),
        (V.BOOL, {"table": "coil", "writeFunction": "multiple"}, True, 15, "00010101"),
        (V.UINT16, {}, 0x1234, 6, "1234"),
        (V.UINT16, {"byteOrder": "little"}, 0x1234, 6, "3412"),
        (V.UINT16, {"writeFunction": "multiple"}, 0x1234, 16, "0001021234"),
        (V.INT16, {"writeFunction": "mask"}, -2, 22, "0000fffe"),
        (V.FLOAT32, {}, 1.5, 16, "0002043fc00000"),
        (V.FLOAT32, {"wordOrder": "little"}, 1.5, 16, "00020400003fc0"),
        (V.UINT64, {}, 2**64 - 2, 16, "000408fffffffffffffffe"),
        (V.STRING, {"length": 3}, "mesh", 16, "0003066d6573680000"),
        (V.FLOAT64, {"type": "int16", "scale": 0.1, "add": -40}, 20.5, 6, "025d"),
        (V.STRING, {"enum": {3: "run", 5: "stop"}}, "stop", 6, "0005"),
        (V.BOOL, {"bit": 3}, True, 22, "fff70008"),
        (V.BOOL, {"bit": 3}, False, 22, "fff70000"),
        (V.BOOL, {"bit": 3, "byteOrder": "little"}, True, 22, "f7ff0800"),
        (V.UINT8, {"bit": 4, "bits": 3}, 5, 22, "ff8f0050"),
        (V.INT8, {"bit": 4, "bits": 3}, -1, 22, "ff8f0070"),
        (V.UINT8, {}, 0xAB, 22, "ff0000ab"),
        (V.UINT8, {"byteOrder": "little"}, 0xAB, 22, "00ffab00"),
        (V.BOOL, {}, True, 6, "0001"),
        (V.BOOL, {"type": "uint32", "bit": 20}, True, 16, None),
    ],
)
def test_each_write_uses_its_function_and_reads_back(
    hostile: Any, serving: Any, type_: V, address: dict[str, Any], value: Any, function: int, data: str | None
) -> None:
    async def work() -> None:
        sent: list[bytes] = []

        class Recorder(hostile):  # type: ignore[misc]
            def honest(self, unit: int, pdu: bytes, more: int = 0) -> bytes:
                sent.append(pdu)
                return bytes(super().honest(unit, pdu, more))

        async with serving(Recorder()) as device:
            endpoint = endpoint_of(device)
            one = point(endpoint, type_, **{"table": "holding", "offset": 100, **address})
            before = [device.value(1, "holding", n) for n in (100, 101)]
            async with open_session(endpoint) as session:
                (outcome,) = await session.write([Write(one, value)])
            assert (outcome.value, outcome.error) == (value, None)
            writes = [pdu for pdu in sent if pdu[0] not in (1, 3)]
            assert [(pdu[0], pdu[1:3]) for pdu in writes] == [(function, b"\0\x64")]
            if data is not None:
                assert writes[0][3:].hex() == data
            else:  # read, changed and written back: nothing but the bit
                after = [device.value(1, "holding", n) for n in (100, 101)]
                assert after == [before[0] | 0x10, before[1]]

    run_virtual(work(), patience_s=SOCKETS_S)


@pytest.mark.parametrize(
    ("type_", "address", "value", "reason", "says"),
    [
        (V.UINT16, {"table": "input", "offset": 0}, 1, "NotWritable", "input registers can only be read"),
        (V.BOOL, {"table": "discrete", "offset": 0}, True, "NotWritable", "discrete inputs can only be read"),
        (
            V.FLOAT64,
            {"table": "holding", "offset": 0, "type": "uint8", "scale": 0.5},
            200.0,
            "OutOfRange",
            "fit",
        ),
        (
            V.UINT8,
            {"table": "holding", "offset": 0, "bit": 4, "bits": 3},
            9,
            "OutOfRange",
            "does not fit 3 bits",
        ),
        (V.STRING, {"table": "holding", "offset": 0, "length": 1}, "long", "OutOfRange", "do not fit in 2"),
        (
            V.STRING,
            {"table": "holding", "offset": 0, "enum": {1: "on"}},
            "off",
            "OutOfRange",
            "is none of on",
        ),
    ],
)
def test_what_can_not_be_written_never_leaves(
    hostile: Any, serving: Any, type_: V, address: dict[str, Any], value: Any, reason: str, says: str
) -> None:
    async def work() -> None:
        async with serving(hostile()) as device:
            endpoint = endpoint_of(device)
            async with open_session(endpoint) as session:
                (outcome,) = await session.write([Write(point(endpoint, type_, **address), value)])
            assert outcome.error is not None and outcome.error.reason == reason
            assert says in str(outcome.error) and device.requests == []

    run_virtual(work(), patience_s=SOCKETS_S)


def test_many_writes_of_a_dead_unit_cost_few_timeouts(hostile: Any, fault: Any, serving: Any) -> None:
    async def work() -> None:
        device = hostile(faults=[fault(unit=1, silent=True)])
        async with serving(device):
            endpoint, clock = endpoint_of(device, timeout="20ms"), Clock()
            neighbour = endpoint.model_copy(update={"unit": 2})

            def writes(count: int, *others: Any) -> list[Any]:
                many = [point(endpoint, V.UINT16, n, table="holding", offset=n) for n in range(count)]
                return [Write(one, 5) for one in (*many, *others)]

            async with open_session(endpoint, clock=clock) as session:
                other = point(neighbour, V.UINT16, 20, table="holding", offset=0)
                *dead, living = await session.write(writes(20, other))
                assert {one.error and one.error.reason for one in dead} == {"NoAnswer"}
                assert living.error is None, "each unit has its own silence"
                assert [r[1:3] for r in device.requests if r[0] == 1] == [(6, 0), (3, 0), (6, 1), (3, 1)]
                device.requests.clear()
                clock.ahead_s += 1.1
                await session.write(writes(20))
                assert [r[1:3] for r in device.requests] == [(6, 0), (3, 0)], "then one try"
                device.faults.clear()
                clock.ahead_s += 1.1
                assert all(one.error is None for one in await session.write(writes(20)))

    run_virtual(work(), patience_s=SOCKETS_S)


def test_a_register_that_is_silent_is_no_silent_unit(hostile: Any, fault: Any, serving: Any) -> None:
    async def work() -> None:
        async with serving(hostile(faults=[fault(start=0, silent=True)])) as device:
            endpoint = endpoint_of(device, timeout="20ms")
            many = [point(endpoint, V.UINT16, n, table="holding", offset=n % 2) for n in range(6)]
            async with open_session(endpoint) as session:
                outcomes = await session.write([Write(one, 5) for one in many])
            assert [one.error is None for one in outcomes] == [False, True] * 3

    run_virtual(work(), patience_s=SOCKETS_S)


def test_a_register_that_can_not_be_read_is_written_all_the_same(
    hostile: Any, fault: Any, serving: Any
) -> None:
    async def work() -> None:
        async with serving(hostile(faults=[fault(function=3, exception=2)])) as device:
            endpoint = endpoint_of(device)
            async with open_session(endpoint) as session:
                (outcome,) = await session.write(
                    [Write(point(endpoint, V.UINT16, table="holding", offset=0), 9)]
                )
            assert (outcome.value, outcome.error, device.value(1, "holding", 0)) == (None, None, 9)

    run_virtual(work(), patience_s=SOCKETS_S)


def test_a_trace_tells_each_step(hostile: Any, serving: Any) -> None:
    async def work() -> None:
        device = hostile(memory={(1, "holding", 0): 0x4496, (1, "holding", 1): 0, (1, "holding", 2): 0x0103})
        async with serving(device):
            endpoint = endpoint_of(device)
            cases: list[tuple[V, dict[str, Any], list[str], Any]] = [
                (V.FLOAT64, {"offset": 0, "type": "uint32", "scale": 0.1, "add": 2},
                 ["uint32 big-endian 1150681088", "x 0.1", "+ 2"], 115068110.8),
                (V.FLOAT32, {"offset": 0}, ["float32 big-endian 1200.0"], 1200.0),
                (V.BOOL, {"offset": 2, "bit": 8}, ["uint16 big-endian 259", "bit 8 = True"], True),
                (V.BOOL, {"offset": 2}, ["uint16 big-endian 259", "not 0 = True"], True),
                (V.BYTES, {"offset": 2, "length": 1, "byteOrder": "little"}, [r"bytes b'\x03\x01'"], b"\3\1"),
                (V.STRING, {"offset": 2, "bit": 0, "bits": 8, "enum": {3: "run"}},
                 ["uint16 big-endian 259", "bits 0..7 = 3", "enum: run"], "run"),
                (V.FLOAT64, {"offset": 2, "type": "int16", "scale": 0.1, "noValue": 0x0103},
                 ["int16 big-endian 259", "which says: no value"], None),
                (V.FLOAT64, {"offset": 2, "type": "int16", "scale": 0.1, "noValue": -32768},
                 ["int16 big-endian 259", "x 0.1"], 25.9),
            ]  # fmt: skip
            async with open_session(endpoint) as session:
                for type_, address, steps, value in cases:
                    one = point(endpoint, type_, table="holding", **address)
                    trace = await session.trace(one)
                    where = one.address.text(type_)
                    assert trace.steps == [f"function 3: {where} of unit 1", *steps]
                    assert trace.value == (pytest.approx(value) if isinstance(value, float) else value)
                assert trace.request.hex() == "0300020001"
                assert (trace.response.hex(), trace.field.hex()) == ("03020103", "0103")
                coil = await session.trace(point(endpoint, V.BOOL, table="coil", offset=3))
                assert coil.value == bool(device.value(1, "coil", 3))

    run_virtual(work(), patience_s=SOCKETS_S)


def test_why_a_connect_failed_is_said_in_words(hostile: Any, serving: Any) -> None:
    async def why(endpoint: ModbusEndpoint) -> str:
        with pytest.raises(LinkError) as caught:
            async with open_session(endpoint):
                pass
        return f"{caught.value.reason}: {caught.value}"

    async def work() -> None:
        async with serving(hostile()) as device:
            port = device.port
        assert await why(ModbusEndpoint(host="127.0.0.1", port=port)) == (
            f"ConnectionRefused: 127.0.0.1:{port} refused the connection"
        )
        assert (
            await why(ModbusEndpoint(host="no-such-host.invalid"))
            == "UnknownHost: no such host: no-such-host.invalid"
        )
        assert await why(ModbusEndpoint(host="localhost", port=port)) == (
            f"ConnectionRefused: localhost:{port} refused the connection"
        )
        serial = ModbusEndpoint.model_validate({"serial": {"port": "/dev/no-such-port"}})
        assert await why(serial) == "NoSuchPort: no serial port /dev/no-such-port: is it plugged in?"

    asyncio.run(work())  # names are looked up in a thread


def test_a_datagram_to_nobody_is_a_link_error(hostile: Any, serving: Any, points: Any, collect: Any) -> None:
    async def work() -> None:
        async with serving(hostile(transport="udp")) as device:
            endpoint = endpoint_of(device)
        async with open_session(endpoint) as session:
            with pytest.raises(LinkError, match="nobody listens at"):
                await collect(session.reader(points(endpoint, "holding:0")))

    run_virtual(work(), patience_s=SOCKETS_S)


def test_a_point_error_names_place_and_reason(hostile: Any, fault: Any, serving: Any, points: Any) -> None:
    async def work() -> None:
        async with serving(hostile(faults=[fault(exception=1)])) as device:
            endpoint = endpoint_of(device, unit=9)
            async with open_session(endpoint) as session:
                with pytest.raises(PointError) as caught:
                    await session.trace(points(endpoint, "holding:100:float32")[0])
            where = f"{endpoint.link()} unit 9"
            assert str(caught.value) == f"{where} refused holding 100..101: illegal function (exception 1)"

    run_virtual(work(), patience_s=SOCKETS_S)


@pytest.mark.parametrize(("code", "passes"), [(4, False), (5, True), (6, True)])
def test_a_busy_unit_may_be_written_to_later(
    hostile: Any, fault: Any, serving: Any, code: int, passes: bool
) -> None:
    async def work() -> None:
        async with serving(hostile(faults=[fault(exception=code)])) as device:
            endpoint = endpoint_of(device)
            async with open_session(endpoint) as session:
                write = Write(point(endpoint, V.UINT16, table="holding", offset=1), 7)
                (outcome,) = await session.write([write])
        assert outcome.error is not None
        assert outcome.error.passes == passes, outcome.error

    run_virtual(work(), patience_s=SOCKETS_S)


def test_learned_bounds_are_tried_again_after_an_hour(
    hostile: Any, serving: Any, points: Any, collect: Callable[..., Any]
) -> None:
    async def work() -> None:
        device = hostile(max_registers=60)
        async with serving(device):
            endpoint, clock = endpoint_of(device), Clock()
            async with open_session(endpoint, clock=clock) as session:
                reader = session.reader(points(endpoint, *(f"holding:{n}" for n in range(100))))
                await collect(reader)
                device.max_registers = 125
                device.requests.clear()
                await collect(reader)
                assert [r[2:] for r in device.requests] == [(0, 50), (50, 50)]
                clock.ahead_s += 3601
                device.requests.clear()
                await collect(reader)
                assert [r[2:] for r in device.requests] == [(0, 100)]

    run_virtual(work(), patience_s=SOCKETS_S)
