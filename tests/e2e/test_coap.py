"""CoAP end to end: one device that is observed and one that pushes, simulated, to a real broker."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

Wait = Callable[..., Any]
MANIFEST = """
apiVersion: devicemesh.io/v1alpha1
kind: DeviceModel
metadata: {name: room}
spec:
  properties:
  - name: temperature
    type: float32
    unit: Cel
    address: {coap: {path: /3303/0/5700}}
    telemetry: {samplingInterval: 100ms, report: every}
    simulation: {signal: sine, low: 18, high: 24, period: 5s}
  - name: limit
    type: float64
    access: ReadWrite
    minimum: 0
    maximum: 100
    address: {coap: {path: /state, pointer: /limit, format: cbor}}
    simulation: {value: 30}
---
apiVersion: devicemesh.io/v1alpha1
kind: Device
metadata: {name: room-1}
spec:
  modelRef: {name: room}
  endpoint: {coap: {uri: "coap://192.0.2.5/a", timeout: 2s, ackTimeout: 200ms, retransmissions: 2, keepAlive: 1s}}
---
apiVersion: devicemesh.io/v1alpha1
kind: Device
metadata: {name: node-1}
spec:
  modelRef: {name: room}
  endpoint: {coap: {listen: "0.0.0.0:5683", name: node-1, lifetime: 2s}}
"""


def test_from_simulated_devices_to_the_broker(
    site: Any, listener: Any, wait: Wait, tmp_path: Path, gapless: Callable[[list[Any]], int]
) -> None:
    folder = tmp_path / "declared"
    folder.mkdir()
    (folder / "room.yaml").write_text(MANIFEST)
    site.simulate(folder)
    run = site.run(files=folder)
    devices = ("room-1", "node-1")
    wait(site.all_ready)
    wait(lambda: set(listener.telemetry()) == set(devices))
    wait(lambda: all(len(messages) > 5 for messages in listener.telemetry().values()))

    def held() -> dict[str, Any]:
        listed = site.device("room-1")["status"]["properties"]
        return {one["name"]: one.get("reported", {}).get("value") for one in listed}

    wait(lambda: held()["limit"] == 30 and 18 <= held()["temperature"] <= 24)

    done = site.dm("set", "room-1", "limit=42.5", "--wait")
    assert (done.returncode, "read back 42.5" in done.stdout) == (0, True), done
    assert "2.05 Content" in site.dm("trace", "room-1", "limit").stdout

    for name, why in (("room-1", "no answer from"), ("node-1", "has sent nothing")):
        assert site.dm("fault", name, "unplug").returncode == 0
        wait(lambda name=name, why=why: why in str(site.device(name).get("status", {})))
        assert site.dm("fault", name, "heal").returncode == 0
        wait(lambda name=name: site.condition(name, "Ready").get("status") == "True")

    assert site.stop(run) == 0
    for device, messages in listener.telemetry().items():
        assert gapless(messages) == len(messages), device
    assert "Traceback" not in site.log() + site.log("sim")
