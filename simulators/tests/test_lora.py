"""The LoRa simulator, heard by the mapper: values, writes, and every fault."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from devicemesh_lora.mapper import LoraMapper
from devicemesh_lora.model import LoraAddress, LoraEndpoint
from devicemesh_simulators.lora import LoraSimulator

from devicemesh.mapper import Point, Write
from devicemesh.spec.device import Property
from devicemesh.testing.contract import rows
from devicemesh.testing.simulator import SimulatedDevice
from devicemesh.testing.waiting import until

FAST = {"samplingInterval": "100ms"}
NODE: list[dict[str, Any]] = [
    {"name": "temperature", "type": "float64", "address": {"port": 2, "offset": 0, "type": "int16", "scale": 0.1},
     "simulation": {"value": 21.5}, "telemetry": FAST},
    {"name": "door", "type": "bool", "address": {"port": 2, "offset": 2, "bit": 3}, "simulation": {"value": True}},
    {"name": "limit", "type": "uint16", "access": "ReadWrite", "simulation": {"value": 7},
     "address": {"port": 3, "offset": 0, "prefix": "0a"}},
    {"name": "north", "type": "float64", "address": {"port": 4, "channel": 1, "quantity": "latitude"},
     "simulation": {"value": 52.5}},
    {"name": "reason", "type": "string", "address": {"stat": "refusedReason"}},
    {"name": "lost", "type": "uint32", "address": {"stat": "lost"}},
    {"name": "battery", "type": "float64", "address": {"stat": "battery"}},
]  # fmt: skip
GATEWAY: list[dict[str, Any]] = [
    {"name": "badCrc", "type": "uint32", "address": {"stat": "badCrc"}},
]  # fmt: skip
KEY = {"appKey": {"name": "n", "key": "appKey"}}


def declare(name: str, properties: list[dict[str, Any]], first: int, **endpoint: Any) -> SimulatedDevice:
    fields = {"listen": "0.0.0.0:1700", "deduplication": "20ms", **endpoint}
    reached = LoraEndpoint.model_validate({key: value for key, value in fields.items() if value is not None})
    found = {p["name"]: Property.model_validate(p) for p in properties}
    points = [
        Point(
            first + i,
            f"default/{name}",
            p.name,
            p.type,
            reached,
            LoraAddress.model_validate(p.address),
            p.telemetry,
        )
        for i, p in enumerate(found.values())
    ]
    return SimulatedDevice(f"default/{name}", reached, points, found, Path())


DEVICES = [
    declare("probe", NODE, 0, devEui="70b3d57ed0000001", otaa=KEY),
    declare("roof", GATEWAY, 10, gateway="0102030405060708"),
]


class Seen:
    """The last value of each point, and all errors."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.errors: list[str] = []

    async def collect(self, session: Any, points: list[Any]) -> None:
        names = {point.slot: point.name for point in points}
        async with contextlib.aclosing(session.subscribe(points)) as batches:
            async for batch in batches:
                for row in rows(batch):
                    if row.error is None:
                        self.values[names[row.slot]] = row.value
                    else:
                        self.errors.append(str(row.error))


@asynccontextmanager
async def heard(devices: list[SimulatedDevice]) -> AsyncIterator[tuple[Any, Any, Seen, list[Any]]]:
    async with LoraSimulator().serve(devices, seed=1, host="127.0.0.1") as simulation:
        points = [
            dataclasses.replace(
                point, endpoint=point.endpoint.redirect(simulation.addresses[point.endpoint.link()])
            )
            for device in devices
            for point in device.points
        ]
        seen = Seen()
        async with LoraMapper().open(points[0].endpoint) as session:
            task = asyncio.create_task(seen.collect(session, points))
            try:
                yield simulation, session, seen, points
            finally:
                task.cancel()
                await asyncio.wait({task})


def test_values_writes_and_faults() -> None:
    async def work() -> None:
        async with heard(DEVICES) as (simulation, session, seen, points):
            await until(lambda: {"temperature", "door", "limit", "north", "battery"} <= set(seen.values))
            assert (seen.values["temperature"], seen.values["door"]) == (21.5, 1)
            assert (seen.values["limit"], seen.values["north"]) == (7, 52.5) and not seen.errors
            (done,) = await session.write([Write(points[2], 900)])
            assert done.error is None
            await until(lambda: seen.values["limit"] == 900)

            def fault(name: str, device: str = "default/probe", **arguments: str) -> str:
                said: str = simulation.fault(device, name, arguments)
                return said

            assert fault("loss", value="60") == "60 % lost"
            await until(lambda: seen.values["lost"] > 0)
            assert fault("heal") == "healthy"
            assert "old frame" in fault("replay")
            await until(lambda: seen.values["reason"] == "CounterWentBack")
            fault("badMic", value="100")
            await until(lambda: seen.values["reason"] == "WrongMic")
            fault("heal")
            fault("crc", value="100")
            await until(lambda: seen.values.get("badCrc", 0) > 2)
            fault("heal")
            fault("tooLate", value="100")
            writing = asyncio.create_task(session.write([Write(points[2], 901)]))
            await until(lambda: session.flights.refused.get("TOO_LATE", 0) >= 2)
            fault("heal")
            assert (await writing)[0].error is None
            assert "wrap now" in fault("wrap")
            (done,) = await session.write([Write(points[2], 902)])
            assert done.error is None
            fault("duplicate", value="100")
            refused = session.network.by_eui["70b3d57ed0000001"].refused
            fault("late", value="100")
            uplinks = session.network.by_eui["70b3d57ed0000001"].uplinks
            await until(lambda: session.network.by_eui["70b3d57ed0000001"].uplinks > uplinks + 3)
            assert session.network.by_eui["70b3d57ed0000001"].refused == refused
            fault("heal")
            fault("reboot")
            await until(lambda: any("forgot its counter" in error for error in seen.errors))
            for wrong in ("loss=200", "melt", "heal=1"):
                name, _, value = wrong.partition("=")
                with pytest.raises(ValueError, match=r"percentage|no fault|takes no value"):
                    fault(name, **({"value": value} if value else {}))
            with pytest.raises(ValueError, match="not of gateways"):
                fault("reboot", "default/roof")

    asyncio.run(work())


def test_a_station_brings_values_and_takes_writes() -> None:
    async def work() -> None:
        station = declare("mast", [{"name": "sent", "type": "uint32", "address": {"stat": "txnb"}}], 20,
                          gateway="0102030405060709", station={"token": {"name": "mast"}})  # fmt: skip
        async with heard([DEVICES[0], station]) as (simulation, session, seen, points):
            await until(lambda: {"temperature", "door", "limit", "north", "battery"} <= set(seen.values))
            assert (seen.values["temperature"], seen.values["limit"]) == (21.5, 7) and not seen.errors
            (done,) = await session.write([Write(points[2], 900)])
            assert done.error is None
            await until(lambda: seen.values["limit"] == 900 and seen.values["sent"] > 0)
            simulation.fault("default/probe", "tooLate", {"value": "100"})
            simulation.fault("default/probe", "crc", {"value": "50"})
            writing = asyncio.create_task(session.write([Write(points[2], 901)]))
            lost = seen.values["lost"]
            await until(lambda: seen.values["lost"] > lost)
            assert not writing.done()
            simulation.fault("default/probe", "heal", {})
            assert (await writing)[0].error is None

    asyncio.run(work())


SERVERS: list[dict[str, Any]] = [
    {"chirpstack": {"broker": "mqtt://192.0.2.1", "application": "b3a1", "topicPrefix": "site", "regionPrefix": "eu868"}},
    {"thingsStack": {"broker": "mqtts://eu1.cloud.thethings.network", "application": "app", "tenant": "ttn",
                     "apiKey": {"name": "tts"}}},
]  # fmt: skip


@pytest.mark.parametrize("server", SERVERS, ids=["chirpstack", "thingsStack"])
def test_a_network_server_brings_values_and_takes_writes(server: dict[str, Any]) -> None:
    more: list[dict[str, Any]] = [
        {"name": "humidity", "type": "float64", "address": {"port": 5, "pointer": "/air/humidity"},
         "simulation": {"value": 40.5}},
        {"name": "interval", "type": "uint16", "access": "ReadWrite", "address": {"port": 5, "pointer": "/interval"},
         "simulation": {"value": 30}},
    ]  # fmt: skip
    node = [one for one in NODE if one["name"] != "battery"] + more

    def served(name: str, properties: list[dict[str, Any]], first: int, **endpoint: Any) -> SimulatedDevice:
        return declare(name, properties, first, listen=None, deduplication=None, **server, **endpoint)

    async def work() -> None:
        probe = served("probe", node, 0, devEui="70b3d57ed0000001", writeTimeout="5s")
        sure = served("sure", NODE[:3], 20, devEui="70b3d57ed0000002", writeTimeout="5s", confirmed=True)
        roof = served("roof", [{"name": "lastSeen", "type": "float64", "address": {"stat": "lastSeen"}}], 40,
                      gateway="0102030405060708")  # fmt: skip
        async with heard([probe, sure, roof]) as (simulation, session, seen, points):
            await until(lambda: {"temperature", "limit", "north", "humidity", "lastSeen"} <= set(seen.values))
            assert (seen.values["temperature"], seen.values["door"], seen.values["north"]) == (21.5, 1, 52.5)
            assert (seen.values["humidity"], seen.values["interval"]) == (40.5, 30) and not seen.errors
            by_name = {point.name: point for point in points if point.device == "default/probe"}
            (done,) = await session.write([Write(by_name["interval"], 60)])
            assert done.error is None
            await until(lambda: seen.values["interval"] == 60)
            (done,) = await session.write([Write(points[-2], 901)])  # of the one that confirms
            assert done.error is None

            def fault(name: str, **arguments: str) -> str:
                said: str = simulation.fault("default/probe", name, arguments)
                return said

            fault("loss", value="60")
            await until(lambda: seen.values["lost"] > 0)
            fault("heal")
            for name in ("duplicate", "late", "crc"):
                fault(name, value="50")
            lost = session.remotes["70b3d57ed0000001"].counter
            await until(lambda: session.remotes["70b3d57ed0000001"].counter > lost + 3)
            fault("heal")
            if "chirpstack" in server:
                fault("badMic", value="100")
                await until(lambda: seen.values["reason"] == "UPLINK_MIC")
                fault("heal")
                fault("replay")
                await until(lambda: seen.values["reason"] == "UPLINK_F_CNT_RESET")
                fault("reboot")
                await until(lambda: any("UPLINK_F_CNT_RESET" in error for error in seen.errors))

    asyncio.run(work())


def test_without_a_gateway_nobody_hears() -> None:
    async def work() -> None:
        with pytest.raises(ValueError, match="has no gateway"):
            async with heard(DEVICES[:1]):
                pytest.fail("simulated")

    asyncio.run(work())


CODEC = """
function decodeUplink(i) {
  return { data: { temp: (i.bytes[0] << 8 | i.bytes[1]) / 10, cfg: { every: i.bytes[2] }, open: i.bytes[3] === 1 } };
}
function normalizeUplink(i) { return { data: { air: { temperature: i.data.temp } } }; }
function encodeDownlink(i) { return { bytes: [7, i.data.cfg.every], fPort: 9 }; }
"""
ENCODE = """
function encodeUplink(i) {
  var t = Math.round(i.data.temp * 10);
  return { bytes: [t >> 8, t & 255, i.data.cfg.every, i.data.open ? 1 : 0], fPort: 4 };
}
function decodeDownlink(i) { return i.fPort === 9 ? { data: { cfg: { every: i.bytes[1] } } } : { errors: ['?'] }; }
"""
POINTED: list[dict[str, Any]] = [
    {"name": "temperature", "type": "float64", "address": {"pointer": "/temp"}, "simulation": {"value": 21.5},
     "telemetry": FAST},
    {"name": "every", "type": "uint8", "access": "ReadWrite", "address": {"pointer": "/cfg/every"},
     "simulation": {"value": 30}},
    {"name": "open", "type": "bool", "address": {"pointer": "/open"}, "simulation": {"value": True}},
    {"name": "normal", "type": "float64", "address": {"pointer": "/air/temperature", "normalized": True}},
]  # fmt: skip


def coded(**codec: Any) -> list[SimulatedDevice]:
    return [declare("meter", POINTED, 0, devEui="70b3d57ed0000009", otaa=KEY, codec=codec), DEVICES[1]]


def test_a_device_with_a_codec_speaks_by_its_encoder() -> None:
    async def work() -> None:
        async with heard(coded(source=CODEC + ENCODE)) as (_, session, seen, points):
            await until(lambda: {"temperature", "every", "open", "normal"} <= set(seen.values))
            assert (seen.values["temperature"], seen.values["every"]) == (21.5, 30) and not seen.errors
            assert (seen.values["open"], seen.values["normal"]) == (1, 21.5)
            (done,) = await session.write([Write(points[1], 77)])
            assert done.error is None
            await until(lambda: seen.values["every"] == 77)

    asyncio.run(work())


def test_without_an_encoder_recorded_payloads_are_sent() -> None:
    async def work() -> None:
        examples = [{"port": 4, "bytes": "00d70a01"}, {"port": 4, "bytes": "00d80b00"}]
        async with heard(coded(source=CODEC, examples=examples)) as (_, _, seen, _):
            for wanted in (21.5, 21.6, 21.5):
                await until(lambda wanted=wanted: seen.values.get("temperature") == wanted)
            assert not seen.errors
        with pytest.raises(ValueError, match=r"it has no encodeUplink.*`examples`"):
            async with heard(coded(source=CODEC)):
                pytest.fail("simulated")

    asyncio.run(work())
