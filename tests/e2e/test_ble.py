"""BLE end to end: a device that is heard and one that is connected to, on the virtual air, to a real broker."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

Wait = Callable[..., Any]
MANIFEST = """
apiVersion: devicemesh.io/v1alpha1
kind: DeviceModel
metadata: {name: thermometer}
spec:
  properties:
  - name: temperature
    type: float64
    unit: Cel
    address: {ble: {beacon: bthome/temperature}}
    telemetry: {report: every}
    simulation: {signal: sine, low: 18, high: 24, period: 5s}
  - name: rssi
    type: int16
    address: {ble: {signal: rssi}}
---
apiVersion: devicemesh.io/v1alpha1
kind: Device
metadata: {name: thermometer-1}
spec:
  modelRef: {name: thermometer}
  endpoint: {ble: {adapter: hci0, address: "A4:C1:38:8D:18:B2", silence: 1s, slots: 2}}
---
apiVersion: devicemesh.io/v1alpha1
kind: DeviceModel
metadata: {name: pump}
spec:
  properties:
  - name: battery
    type: uint8
    address: {ble: {characteristic: battery_level}}
    telemetry: {samplingInterval: 200ms, report: every}
    simulation: {value: 77}
  - name: flow
    type: float64
    address: {ble: {characteristic: fff2, mode: notify, type: sfloat}}
    telemetry: {report: every}
    simulation: {signal: ramp, low: 0, high: 100, period: 5s}
  - name: setpoint
    type: uint16
    access: ReadWrite
    address: {ble: {characteristic: fff1}}
    telemetry: {samplingInterval: 200ms}
    simulation: {value: 30}
---
apiVersion: devicemesh.io/v1alpha1
kind: Device
metadata: {name: pump-1}
spec:
  modelRef: {name: pump}
  endpoint: {ble: {adapter: hci0, name: Pump 1, silence: 1s, slots: 2, timeout: 2s, connectTimeout: 3s}}
"""


def test_from_the_virtual_air_to_the_broker(
    site: Any, listener: Any, wait: Wait, tmp_path: Path, gapless: Callable[[list[Any]], int]
) -> None:
    folder = tmp_path / "declared"
    folder.mkdir()
    (folder / "ble.yaml").write_text(MANIFEST)
    site.simulate(folder)
    run = site.run(files=folder)
    devices = {"thermometer-1", "pump-1"}
    wait(site.all_ready)
    wait(lambda: set(listener.telemetry()) == devices)
    wait(lambda: all(len(messages) > 5 for messages in listener.telemetry().values()))

    def held(name: str) -> dict[str, Any]:
        listed = site.device(name)["status"]["properties"]
        return {one["name"]: one.get("reported", {}).get("value") for one in listed}

    wait(lambda: 18 <= (held("thermometer-1")["temperature"] or 0) <= 24)
    wait(lambda: held("thermometer-1")["rssi"] == -50)
    wait(lambda: held("pump-1")["battery"] == 77 and held("pump-1")["setpoint"] == 30)
    assert 0 <= held("pump-1")["flow"] <= 100

    done = site.dm("set", "pump-1", "setpoint=42", "--wait")
    assert (done.returncode, "read back 42" in done.stdout) == (0, True), done
    assert "bthome/temperature" in site.dm("trace", "thermometer-1", "temperature").stdout

    for name, fault, why in (
        ("thermometer-1", ["silence"], "has advertised nothing"),
        ("pump-1", ["att=14"], "ATT error 0x0e"),
    ):
        assert site.dm("fault", name, *fault).returncode == 0
        wait(lambda name=name, why=why: why in str(site.device(name).get("status", {})))
        assert site.dm("fault", name, "heal").returncode == 0
        wait(lambda name=name: site.condition(name, "Ready").get("status") == "True")

    assert site.stop(run) == 0
    for device, messages in listener.telemetry().items():
        assert gapless(messages) == len(messages), device
    assert "Traceback" not in site.log() + site.log("sim")
