"""SunSpec maps of the published models, served by pymodbus and held against pysunspec2's own client."""

from __future__ import annotations

import asyncio
import json
import math
import random
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from devicemesh_modbus.endpoint import ModbusEndpoint
from devicemesh_modbus.mapper import ModbusMapper
from devicemesh_modbus.model import ModbusAddress
from devicemesh_modbus.session import open_session
from devicemesh_modbus.sunspec import compose, models
from devicemesh_modbus.sunspec.look import look
from devicemesh_modbus.sunspec.walk import FORMATS, NOT_IMPLEMENTED, Placed, walk
from hypothesis import given, settings
from hypothesis import strategies as st
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice
from sunspec2.modbus.client import SunSpecModbusClientDeviceTCP

from devicemesh.mapper import Found, Point
from devicemesh.spec.base import Protocol
from devicemesh.spec.device import Device, DeviceModel
from devicemesh.spec.manifest import load

COUNTS = {"N": 2, "NPt": 4, "NCrv": 3, "NCtl": 1}
MODELS = (1, 103, 113, 120, 160, 203, 213, 701, 705, 802)


def encoded(point: models.Point, chance: random.Random, model: int, length: int) -> bytes:
    """A value of a point, now and then one that is not implemented."""
    size = 2 * point.size
    if point.type == "string":
        return f"ACME {point.name}".encode()[:size].ljust(size, b"\0")
    if point.type not in FORMATS:
        return bytes(size)
    known = {"ID": model, "L": length, **COUNTS}
    if point.name in known or point.type == "count":
        value: float = known.get(point.name, 1)
    elif point.type == "sunssf":
        value = chance.choice([-2, -1, 0, 1])
    elif point.type.startswith("float"):
        value = math.nan if chance.random() < 0.2 else round(chance.uniform(-500, 500), 2)
    elif point.type == "pad":
        value = 0x8000
    elif chance.random() < 0.2:
        return NOT_IMPLEMENTED.get(point.type, 0).to_bytes(size, "big")
    elif point.symbols:
        value = chance.choice(list(point.symbols))
    else:
        value = chance.randint(1, 30000)
    return struct.pack(FORMATS[point.type], value)


def body(group: models.Group, chance: random.Random, model: int, length: int) -> bytes:
    own = b"".join(encoded(point, chance, model, length) for point in group.points)
    for inner in group.groups:
        count = COUNTS.get(inner.count, 1) if isinstance(inner.count, str) else inner.count or 2
        own += b"".join(body(inner, chance, model, length) for _ in range(count))
    return own


def image(numbers: tuple[int, ...] = MODELS, seed: int = 7) -> bytes:
    """A whole map, from the mark to the end, with a model in it that nobody published."""
    out = b"SunS"
    for number in numbers:
        group = models.model(number)
        assert group is not None
        length = len(body(group, random.Random(seed), number, 0)) // 2 - 2
        out += body(group, random.Random(seed), number, length)
    return out + struct.pack(">HHHH", 64999, 2, 7, 7) + struct.pack(">HH", 0xFFFF, 0)


@asynccontextmanager
async def inverter(base: int = 40000, data: bytes = b"") -> AsyncIterator[int]:
    words = [word for (word,) in struct.iter_unpack(">H", data or image())]
    blocks = [SimData(base, values=words, datatype=DataType.REGISTERS)]
    server = ModbusTcpServer(SimDevice(id=1, simdata=blocks), address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    try:
        yield server.transport.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]


async def discovered(port: int) -> Found:
    (one,) = [found async for found in ModbusMapper().discover(f"modbus://127.0.0.1:{port}/1")]
    return one


def declared(manifest: str) -> tuple[DeviceModel, Device]:
    protocols = {"modbus": Protocol(ModbusEndpoint, ModbusAddress)}
    found = load({"found.yaml": manifest}, protocols, lambda namespace, name: None)
    assert [str(problem) for problem in found.problems] == []
    model, device = (one.body for one in found.resources)
    return DeviceModel.model_validate(model), Device.model_validate(device)


def flat(
    number: int, group: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[int, tuple[str, ...], str, Any]]:
    """What pysunspec2 has of a model: (model, groups, point, value)."""
    for name, point in group.points.items():
        yield number, path, name, point.cvalue
    for name, inner in group.groups.items():
        several = inner if isinstance(inner, list) else [inner]
        for index, one in enumerate(several):
            repeated = isinstance(inner, list)
            yield from flat(number, one, (*path, f"{name}{index + 1}" if repeated else name))


def oracle(port: int) -> dict[tuple[int, tuple[str, ...], str], Any]:
    client = SunSpecModbusClientDeviceTCP(slave_id=1, ipaddr="127.0.0.1", ipport=port)
    try:
        client.scan()
        return {row[:3]: row[3] for one in client.model_list for row in flat(one.model_id, one)}
    finally:
        client.close()


@pytest.mark.parametrize("base", [40000, 50000, 0])
def test_every_value_is_what_pysunspec2_reads(base: int) -> None:
    async def work() -> None:
        async with inverter(base) as port:
            wanted = await asyncio.to_thread(oracle, port)
            found = await discovered(port)
            model, device = declared(found.manifest)
            endpoint = ModbusEndpoint.model_validate(device.spec.endpoint["modbus"])
            placed = compose.usable([one for each in await read(port) for one in each])
            names = compose.names(placed)
            assert len(names) == len(set(names)) == len(found.points)
            specs = {prop.name: prop for prop in model.spec.properties}
            compared = 0
            async with open_session(endpoint) as session:
                for name, one in zip(names, placed, strict=True):
                    spec = specs[name]
                    address = ModbusAddress.model_validate(spec.address["modbus"])
                    value = (await session.trace(Point(0, "d", name, spec.type, endpoint, address))).value
                    theirs = wanted[one.model, one.path, one.point.name]
                    if one.point.symbols:
                        theirs = one.point.symbols[int(theirs)]
                    assert value == (pytest.approx(theirs) if isinstance(theirs, float) else theirs), name
                    compared += 1
            assert compared > 300
            implemented = {key for key, value in wanted.items() if value is not None}
            mine = {(one.model, one.path, one.point.name) for one in placed}
            frame = {key for key in implemented if key[2] in ("ID", "L", "Pad") or key[2].endswith("_SF")}
            assert {key for key in implemented - mine - frame if wanted[key] not in ("", 0)} == set()

    async def read(port: int) -> list[list[Placed]]:
        (found,) = [await look(reader(image(), base))]
        assert found is not None
        return [found.placed]

    asyncio.run(work())


def reader(data: bytes, base: int) -> Any:
    async def read(start: int, count: int) -> bytes:
        at = 2 * (start - base)
        assert start + count <= 65536
        return data[at : at + 2 * count] if at >= 0 else b""

    return read


def test_what_is_found_says_who_it_is_and_can_be_applied() -> None:
    async def work() -> None:
        async with inverter() as port:
            found = await discovered(port)
            assert found.identity["vendor"] == "ACME Mn"
            assert found.identity["serial"] == "ACME SN"
            assert found.identity["sunspec"] == "1, 103, 113, 120, 160, 203, 213, 701, 705, 802, 64999?"
            model, device = declared(found.manifest)
            assert (model.metadata.name, device.metadata.name) == (
                "acme-mn-acme-md",
                "acme-mn-acme-md-acme-sn",
            )
            place = {"host": "127.0.0.1", "port": port, "unit": 1, "transport": "tcp"}
            assert device.spec.endpoint == {"modbus": place}

    asyncio.run(work())


def test_a_scale_that_changes_raises_an_alarm() -> None:
    """Scales are those of the scan: what they depend on is read, too."""

    async def work() -> None:
        async with inverter(data=image((1, 103))) as port:
            model, _ = declared((await discovered(port)).manifest)
            specs = {prop.name: prop for prop in model.spec.properties}
            factor = specs["A_SF"]
            raised, lowered = factor.alarms
            assert (factor.simulation.signal, factor.simulation.value) == ("constant", raised.above)
            assert raised.above == lowered.below is not None
            expected = 10.0 ** float(raised.above or 0)
            assert specs["A"].address["modbus"].get("scale", 1.0) == pytest.approx(expected)
            assert specs["A"].address["modbus"]["noValue"] == 0xFFFF
            assert str(specs["A"].unit) == "A"
            assert specs["St"].type == "string"
            assert specs["St"].address["modbus"]["enum"]["4"] == "MPPT"

    asyncio.run(work())


def test_without_the_definitions_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, hostile: Any, serving: Any
) -> None:
    words = [word for (word,) in struct.iter_unpack(">H", image((1,)))]

    async def work() -> None:
        memory = {(1, "holding", 40000 + at): word for at, word in enumerate(words)}
        async with serving(hostile(memory=memory)) as device:
            found = await discovered(device.port)
            assert found.manifest == "" and found.points

    models.model.cache_clear()
    monkeypatch.setattr(models, "folder", lambda: None)
    asyncio.run(work())
    models.model.cache_clear()
    assert "pip install 'devicemesh-modbus[sunspec]'" in caplog.text


@pytest.mark.parametrize("limit", [125, 1])
def test_a_device_that_refuses_in_the_middle_gives_the_rest(
    limit: int, hostile: Any, serving: Any, caplog: pytest.LogCaptureFixture
) -> None:
    words = [word for (word,) in struct.iter_unpack(">H", image((1, 103, 160)))]
    missing = range(40002 + 68 + 25, 40002 + 68 + 30)  # of model 103

    async def work() -> None:
        memory = {(1, "holding", 40000 + at): word for at, word in enumerate(words)}
        gone = {(1, "holding", register) for register in missing}
        async with serving(hostile(memory=memory, missing=gone)) as device:
            uri = f"modbus://127.0.0.1:{device.port}/1?max_registers={limit}"
            (found,) = [one async for one in ModbusMapper().discover(uri)]
        model, _ = declared(found.manifest)
        names = {prop.name for prop in model.spec.properties}
        assert found.identity["sunspec"] == "1, 103, 160, 64999?"
        assert {"Mn", "module2.DCA"} <= names
        assert ("A" in names) == (limit == 1)  # in one request it gives nothing of the model

    asyncio.run(work())
    assert "gives not all, of model 103 less than it says" in caplog.text


def test_a_map_that_takes_too_many_requests_is_said_to_be_cut(
    hostile: Any, serving: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devicemesh_modbus.discover.BUDGET", 100)
    words = [word for (word,) in struct.iter_unpack(">H", image((1, 103)))]

    async def work() -> None:
        memory = {(1, "holding", 40000 + at): word for at, word in enumerate(words)}
        async with serving(hostile(memory=memory)) as device:
            uri = f"modbus://127.0.0.1:{device.port}/1?max_registers=1"
            (found,) = [one async for one in ModbusMapper().discover(uri)]
        assert found.identity["vendor"] == "ACME Mn"

    asyncio.run(work())
    assert "100 requests were not enough" in caplog.text


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_map_that_is_cut_or_damaged_gives_what_is_whole(data: st.DataObject) -> None:
    damaged = bytearray(image((1, 160, 705)))
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(4, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: 2 * data.draw(st.integers(2, len(damaged) // 2))])
    found = asyncio.run(look(reader(cut, 40000)))
    assert found is not None
    text = compose.manifest(ModbusEndpoint(host="127.0.0.1"), found.placed)
    if compose.usable(found.placed):
        declared(text)


def test_points_whose_scale_is_cut_off_are_left_out() -> None:
    """Model 103 ends before W_SF: 5000 might be 5000 W, or 50."""
    whole = image((103,))
    found = asyncio.run(look(reader(whole[: 4 + 2 * 12], 40000)))
    assert found is not None and found.cut == [103]
    names = [one.point.name for one in found.placed]
    assert "A" in names  # and A_SF
    assert not {"W", "PhVphA", "PPVphAB"} & set(names)


@pytest.mark.parametrize("exponent", [11, -11, 32767])
def test_a_scale_that_is_none_scales_nothing(exponent: int) -> None:
    group = models.model(103)
    assert group is not None
    data = bytearray(body(group, random.Random(7), 103, 50))
    place = next(one for one in walk(103, group, 0, bytes(data)) if one.point.name == "A_SF").register
    data[2 * place : 2 * place + 2] = exponent.to_bytes(2, "big", signed=True)
    assert "A" not in [one.point.name for one in walk(103, group, 0, bytes(data))]
    data[2 * place : 2 * place + 2] = b"\x80\0"  # it has none: 1
    assert next(one for one in walk(103, group, 0, bytes(data)) if one.point.name == "A").exponent == 0


def test_a_chain_that_runs_past_the_last_register_ends() -> None:
    head = b"SunS" + struct.pack(">HH", 64999, 3998)
    data = head + bytes(2 * 3998) + (struct.pack(">HH", 103, 3998) + bytes(2 * 3998)) * 20
    found = asyncio.run(look(reader(data, 40000)))
    assert found is not None
    assert len(found.models) == (65536 - 40002) // 4000


def common(vendor: bytes, product: bytes, serial: bytes) -> list[Placed]:
    group = models.model(1)
    assert group is not None
    fields = ((vendor, 32), (product, 32), (b"", 16), (b"", 16), (serial, 32))
    text = b"".join(each[:size].ljust(size, b"\0") for each, size in fields)
    return list(walk(1, group, 40002, struct.pack(">HH", 1, 66) + text + b"\0\1\x80\0"))


@pytest.mark.parametrize(
    "word",
    [
        b"null", b"true", b"off", b"no", b"1e5", b"0x1f", b"123", b"2020-01-01", b".inf", b"-", b"a\nb: c", b"\"'{}[],#&*!|>%@`",
        b"\x7f\x80\xff\x1b[31m", b"\xc2\x80\xc2\x85", "\u2028\ufeff\ufffe".encode(), "日本".encode(),
    ],
)  # fmt: skip
def test_whatever_a_device_calls_itself_makes_yaml_that_can_be_applied(word: bytes) -> None:
    placed = common(word, b"", word)
    model, _ = declared(compose.manifest(ModbusEndpoint(host="127.0.0.1"), placed))
    assert (model.spec.description or "").isprintable()
    assert all(text.isprintable() for text in compose.identity(placed).values())


def test_two_devices_of_a_kind_with_long_names_are_two() -> None:
    made = [
        declared(
            compose.manifest(ModbusEndpoint(host="127.0.0.1"), common(b"A" * 32, b"B" * 32, b"S%d" % number))
        )
        for number in (1, 2)
    ]
    assert made[0][0].metadata.name == made[1][0].metadata.name
    assert made[0][1].metadata.name != made[1][1].metadata.name


def test_a_device_without_a_point_makes_no_model() -> None:
    assert compose.manifest(ModbusEndpoint(host="127.0.0.1"), []) == ""


def test_what_has_no_map() -> None:
    assert asyncio.run(look(reader(b"SunX" + bytes(100), 40000))) is None
    assert asyncio.run(look(reader(b"", 40000))) is None


def test_all_published_models_can_be_walked_and_declared() -> None:
    where = models.folder()
    assert where is not None
    numbers = sorted(int(file.stem.removeprefix("model_")) for file in where.glob("model_*.json"))
    assert len(numbers) > 100
    for number in numbers:
        group = models.model(number)
        assert group is not None
        data = body(group, random.Random(number), number, 0)
        placed = list(walk(number, group, 40002, data))
        assert sum(len(one.raw) for one in placed) == len(data), number
        if compose.usable(placed):
            model, _ = declared(compose.manifest(ModbusEndpoint(host="127.0.0.1"), placed))
            assert json.dumps(model.metadata.name)
