"""LoRaWAN end to end: simulated devices and two gateways, by UDP and websocket, to a real broker."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
---
apiVersion: devicemesh.io/v1alpha1
kind: DeviceModel
metadata: {name: meter}
spec:
  properties:
  - name: level
    type: float64
    address: {lora: {pointer: /level}}
    telemetry: {samplingInterval: 100ms, report: every}
    simulation: {signal: sine, low: 1, high: 3, period: 5s}
  - name: every
    type: uint8
    access: ReadWrite
    address: {lora: {pointer: /config/every}}
    simulation: {value: 30}
  commands:
  - name: pace
    address: {lora: {data: {config: {every: 44}}}}
---
apiVersion: devicemesh.io/v1alpha1
kind: Device
metadata: {name: meter-1}
spec:
  modelRef: {name: meter}
  endpoint:
    lora:
      listen: "0.0.0.0:1700"
      devEui: "70b3d57ed0000002"
      lifetime: 2s
      deduplication: 50ms
      otaa: {appKey: {name: probe-1, key: appKey}}
      codec:
        source: |
          function decodeUplink(input) {
            return { data: { level: input.bytes[0] / 50, config: { every: input.bytes[1] } } };
          }
          function encodeUplink(input) {
            return { bytes: [Math.round(input.data.level * 50), input.data.config.every], fPort: 4 };
          }
          function encodeDownlink(input) {
            if (input.data.config.every === 13) return { errors: ['thirteen brings bad luck'] };
            return { bytes: [input.data.config.every], fPort: 5 };
          }
          function decodeDownlink(input) { return { data: { config: { every: input.bytes[0] } } }; }
"""
SERVED = """
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
  - name: humidity
    type: float64
    address: {lora: {port: 3, pointer: /air/humidity}}
    simulation: {value: 40.5}
  - name: interval
    type: uint16
    access: ReadWrite
    address: {lora: {port: 3, pointer: /interval}}
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
  endpoint: {lora: {SERVER, gateway: "0102030405060708", lifetime: 2s}}
---
apiVersion: devicemesh.io/v1alpha1
kind: Device
metadata: {name: probe-1}
spec:
  modelRef: {name: probe}
  endpoint: {lora: {SERVER, devEui: "70b3d57ed0000001", lifetime: 2s}}
"""
SERVERS = {
    "chirpstack": 'chirpstack: {broker: "mqtts://lns.example.com", application: b3a1, userName: mesh, '
                  "password: {name: lns}}",
    "things-stack": 'thingsStack: {broker: "mqtts://eu1.cloud.thethings.network", application: soil, '
                    "tenant: ttn, apiKey: {name: ttn}}",
}  # fmt: skip


@pytest.mark.parametrize("server", SERVERS)
def test_from_a_simulated_network_server_to_the_broker(
    site: Any, listener: Any, wait: Wait, tmp_path: Path, gapless: Callable[[list[Any]], int], server: str
) -> None:
    folder = tmp_path / "declared"
    folder.mkdir()
    (folder / "field.yaml").write_text(SERVED.replace("SERVER", SERVERS[server]))
    simulation = site.simulate(folder)
    run = site.run(files=folder)
    wait(site.all_ready)
    wait(lambda: set(listener.telemetry()) == {"probe-1", "roof"})

    def held() -> dict[str, Any]:
        listed = site.device("probe-1")["status"]["properties"]
        return {one["name"]: one.get("reported", {}).get("value") for one in listed}

    wait(lambda: held()["interval"] == 30 and 18 <= held()["temperature"] <= 24)
    assert held()["humidity"] == 40.5 and held()["lost"] == 0
    assert site.dm("set", "probe-1", "interval=60", "--wait").returncode == 0
    wait(lambda: held()["interval"] == 60)
    assert site.dm("fault", "probe-1", "loss=50").returncode == 0
    wait(lambda: held()["lost"] > 0)
    assert site.dm("fault", "probe-1", "heal").returncode == 0
    assert site.dm("fault", "probe-1", "unplug").returncode == 0
    wait(lambda: "has sent nothing to" in str(site.device("probe-1").get("status", {})))
    assert site.stop(simulation) == 0  # and with it the network server's broker
    wait(lambda: site.condition("roof", "Connected").get("status") == "False")
    assert site.stop(run) == 0
    for device, messages in listener.telemetry().items():
        assert gapless(messages) == len(messages), device
    assert "Traceback" not in site.log() + site.log("sim")


def test_from_a_station_alone_to_the_broker(
    site: Any, listener: Any, wait: Wait, tmp_path: Path, gapless: Callable[[list[Any]], int]
) -> None:
    folder = tmp_path / "declared"
    folder.mkdir()
    documents = [one for one in MANIFEST.split("---") if "name: roof" not in one and "meter" not in one]
    (folder / "field.yaml").write_text("---".join(documents))
    site.simulate(folder)
    run = site.run(files=folder)
    wait(site.all_ready)
    wait(lambda: set(listener.telemetry()) == {"probe-1", "mast"})
    wait(lambda: len(listener.telemetry()["probe-1"]) > 5)
    assert site.dm("set", "probe-1", "interval=60", "--wait").returncode == 0
    for fault in ("replay", "duplicate=100", "late=100", "badMic=20", "tooLate=50"):
        assert site.dm("fault", "probe-1", fault).returncode == 0, fault
    count = len(listener.telemetry()["probe-1"])
    wait(lambda: len(listener.telemetry()["probe-1"]) > count + 5)
    assert site.dm("fault", "probe-1", "heal").returncode == 0
    assert site.dm("fault", "mast", "unplug").returncode == 0
    wait(lambda: "has sent nothing" in str(site.device("mast").get("status", {})))
    assert site.stop(run) == 0
    for device, messages in listener.telemetry().items():
        assert gapless(messages) == len(messages), device
    assert "Traceback" not in site.log() + site.log("sim")


def test_from_simulated_devices_to_the_broker(
    site: Any, listener: Any, wait: Wait, tmp_path: Path, gapless: Callable[[list[Any]], int]
) -> None:
    folder = tmp_path / "declared"
    folder.mkdir()
    (folder / "field.yaml").write_text(MANIFEST)
    site.simulate(folder)
    run = site.run(files=folder)
    devices = {"probe-1", "meter-1", "roof", "mast"}
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

    def metered(name: str) -> Any:
        listed = site.device("meter-1")["status"]["properties"]
        return {one["name"]: one.get("reported", {}).get("value") for one in listed}[name]

    wait(lambda: metered("every") == 30 and 1 <= metered("level") <= 3)
    assert site.dm("set", "meter-1", "every=60", "--wait").returncode == 0
    wait(lambda: metered("every") == 60)
    api = site.log().rsplit("http ", 1)[1].split()[0]
    called = site.dm("call", "meter-1", "pace", "--api", api)
    assert called.returncode == 0, called.stderr
    wait(lambda: metered("every") == 44)
    site.dm("set", "meter-1", "every=13")
    wait(lambda: "thirteen brings bad luck" in str(site.device("meter-1")["status"]))

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
