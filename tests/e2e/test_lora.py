"""LoRaWAN end to end: simulated devices and two gateways, by UDP and websocket, to a real broker."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

Wait = Callable[..., Any]
MANIFEST = """
apiVersion: devicemesh.io/v1alpha1
kind: DeviceModel
metadata: {name: gateway}
spec:
  properties:
  - name: lastSeen
    type: float64
    address: {lora: {stat: lastSeen}}
    telemetry: {report: every}
---
apiVersion: devicemesh.io/v1alpha1
kind: DeviceModel
metadata: {name: probe}
spec:
  properties:
  - name: temperature
    type: float64
    unit: Cel
    address: {lora: {port: 2, offset: 0, type: int16, scale: 0.1}}
    telemetry: {samplingInterval: 100ms, report: every}
    simulation: {signal: sine, low: 18, high: 24, period: 5s}
  - name: interval
    type: uint16
    access: ReadWrite
    address: {lora: {port: 3, offset: 0}}
    simulation: {value: 30}
  - name: lost
    type: uint32
    address: {lora: {stat: lost}}
---
apiVersion: devicemesh.io/v1alpha1
kind: Device
metadata: {name: roof}
spec:
  modelRef: {name: gateway}
  endpoint: {lora: {listen: "0.0.0.0:1700", gateway: "0102030405060708", lifetime: 2s, deduplication: 50ms}}
---
apiVersion: devicemesh.io/v1alpha1
kind: Device
metadata: {name: mast}
spec:
  modelRef: {name: gateway}
  endpoint: {lora: {listen: "0.0.0.0:1700", gateway: "0102030405060709", station: {}, lifetime: 2s, deduplication: 50ms}}
---
apiVersion: devicemesh.io/v1alpha1
kind: Device
metadata: {name: probe-1}
spec:
  modelRef: {name: probe}
  endpoint:
    lora:
      listen: "0.0.0.0:1700"
      devEui: "70b3d57ed0000001"
      lifetime: 2s
      deduplication: 50ms
      otaa: {appKey: {name: probe-1, key: appKey}}
"""


def test_from_simulated_devices_to_the_broker(
    site: Any, listener: Any, wait: Wait, tmp_path: Path, gapless: Callable[[list[Any]], int]
) -> None:
    folder = tmp_path / "declared"
    folder.mkdir()
    (folder / "field.yaml").write_text(MANIFEST)
    site.simulate(folder)
    run = site.run(files=folder)
    devices = {"probe-1", "roof", "mast"}
    wait(site.all_ready)
    wait(lambda: set(listener.telemetry()) == devices)
    wait(lambda: len(listener.telemetry()["probe-1"]) > 5)

    def held() -> dict[str, Any]:
        listed = site.device("probe-1")["status"]["properties"]
        return {one["name"]: one.get("reported", {}).get("value") for one in listed}

    wait(lambda: held()["interval"] == 30 and 18 <= held()["temperature"] <= 24)
    assert held()["lost"] == 0

    assert site.dm("set", "probe-1", "interval=60", "--wait").returncode == 0
    wait(lambda: held()["interval"] == 60)

    assert site.dm("fault", "probe-1", "loss=50").returncode == 0
    wait(lambda: held()["lost"] > 0)
    for fault in (
        "heal",
        "wrap",
        "replay",
        "duplicate=100",
        "late=100",
        "badMic=20",
        "crc=20",
        "tooLate=100",
    ):
        assert site.dm("fault", "probe-1", fault).returncode == 0, fault
    count = len(listener.telemetry()["probe-1"])
    wait(lambda: len(listener.telemetry()["probe-1"]) > count + 5)
    assert site.dm("fault", "probe-1", "heal").returncode == 0
    wait(lambda: site.condition("probe-1", "Ready").get("status") == "True")

    for fault, why in (("reboot", "forgot its counter"), ("unplug", "has sent nothing")):
        assert site.dm("fault", "probe-1", fault).returncode == 0
        wait(lambda why=why: why in str(site.device("probe-1").get("status", {})))
        assert site.dm("fault", "probe-1", "heal").returncode == 0

    assert site.stop(run) == 0
    for device, messages in listener.telemetry().items():
        assert gapless(messages) == len(messages), device
    assert "Traceback" not in site.log() + site.log("sim")
