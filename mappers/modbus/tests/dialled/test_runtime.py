"""Modems under the runtime: what a device's conditions say, what is desired, and a neighbour that goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from devicemesh_modbus.mapper import ModbusMapper

from devicemesh.runtime.runtime import Runtime
from devicemesh.settings import Settings
from devicemesh.store.base import Key
from devicemesh.testing.broker import free_port
from devicemesh.testing.fake import FakeSink
from devicemesh.testing.memory import MemoryStore
from devicemesh.testing.waiting import until

API = "devicemesh.io/v1alpha1"
MODEL = {
    "apiVersion": API, "kind": "DeviceModel", "metadata": {"name": "meter"},
    "spec": {"properties": [
        {"name": "count", "type": "uint16", "access": "ReadWrite",
         "address": {"modbus": {"table": "holding", "offset": 1}},
         "telemetry": {"samplingInterval": "50ms", "report": "every"}},
    ]},
}  # fmt: skip


def device(name: str, port: int, **spec: Any) -> dict[str, Any]:
    endpoint = {"listen": f"127.0.0.1:{port}", "registration": f"IMEI-{name}", "timeout": "300ms"}
    return {"apiVersion": API, "kind": "Device", "metadata": {"name": name},
            "spec": {"modelRef": {"name": "meter"}, "endpoint": {"modbus": endpoint}, **spec}}  # fmt: skip


def test_modems_under_the_runtime(tmp_path: Path, kit: Any) -> None:
    async def work() -> None:
        store, sink, port = MemoryStore(), FakeSink(), free_port()
        meters = {name: kit.hostile() for name in ("a", "b")}
        wants = {"desired": [{"name": "count", "value": 7}]}
        await store.apply([MODEL, device("a", port, **wants), device("b", port)])
        states: dict[str, dict[str, tuple[str, str, str]]] = {}

        async def look() -> None:
            while True:
                for name in meters:
                    found = await store.get(Key("Device", "default", name))
                    told = found.status.get("conditions", ())
                    states[name] = {c["type"]: (c["status"], c["reason"], c["message"]) for c in told}
                await asyncio.sleep(0.01)

        def is_connected(name: str) -> bool:
            return states.get(name, {}).get("Connected", ("",))[0] == "True"

        async with Runtime(Settings(home=tmp_path), store, sink, {"modbus": ModbusMapper()}) as runtime:
            looking = asyncio.create_task(look())
            absent = ("False", "NotDialledIn", f"nobody has dialled in to 127.0.0.1:{port} yet as IMEI-a")
            await until(lambda: states.get("a", {}).get("Connected") == absent)
            assert states["a"]["DesiredApplied"][:2] == ("False", "Waiting")
            async with kit.modem(meters["b"], port, b"IMEI-b"):
                await until(lambda: is_connected("b"))
                assert states["a"]["Connected"] == absent, "its neighbour's modem is its neighbour's"
                async with kit.modem(meters["a"], port, b"IMEI-a") as calling:
                    await until(lambda: is_connected("a") and states["a"]["DesiredApplied"][0] == "True")
                    assert meters["a"].value(1, "holding", 1) == 7
                    meters["a"].faults = [kit.fault(deaf=True)]
                    await until(lambda: states["a"]["Connected"][1] == "NoAnswer")
                    slot = runtime.supervisor.devices[Key("Device", "default", "b")].slot("count")
                    seen = runtime.aggregator.count(slot)
                    await until(lambda: runtime.aggregator.count(slot) > seen + 20, 10.0)
                    assert states["b"]["Connected"][0] == "True"
                    meters["a"].faults = []
                    await until(lambda: is_connected("a"))
                    calling.again_s = 1e6
                    calling.hang_up()
                    gone = f"the modem IMEI-a has hung up, and has not dialled in to 127.0.0.1:{port} again"
                    await until(lambda: states["a"]["Connected"] == ("False", "NotDialledIn", gone))
            await store.apply([device("c", port)])
            meters["c"] = kit.hostile()
            async with kit.modem(meters["c"], port, b"IMEI-c"):
                await until(lambda: is_connected("c"))
            assert runtime.samples()["read"] > 50 and runtime.errors == 0
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    asyncio.run(work())
