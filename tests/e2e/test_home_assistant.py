"""A small Home Assistant on a real broker finds what a real runtime announces, shows it, and sets it."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

Wait = Callable[..., Any]
PUMP, RUNTIME = "devicemesh_v1_default_pump-1", "devicemesh_v1__runtime_main"
JINJA = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
MANIFEST = """
apiVersion: devicemesh.io/v1alpha1
kind: DeviceModel
metadata: {name: pump, annotations: {manufacturer: ACME Pumps}}
spec:
  properties:
  - {name: speed, type: float32, unit: rpm, access: ReadWrite, minimum: 0, maximum: 3000, simulation: {value: 1450},
     alarms: [{name: overspeed, above: 2800, clearBelow: 2700}], address: {modbus: {table: holding, offset: 100}}}
  - {name: valve.open, type: bool, access: ReadWrite, simulation: {value: false}, address: {modbus: {table: coil, offset: 0}}}
  - {name: running, type: bool, simulation: {value: true}, address: {modbus: {table: discrete, offset: 0}}}
  - {name: energy, type: int64, unit: kWh, simulation: {value: 123456789012}, address: {modbus: {table: input, offset: 40}}}
  - {name: label, type: string, access: ReadWrite, simulation: {value: hall 2}, address: {modbus: {table: holding, offset: 200, length: 8}}}
  - {name: serial, type: string, simulation: {value: EM-42}, address: {modbus: {table: holding, offset: 300, length: 8}}}
  - {name: fault, type: uint16, access: ReadWrite, simulation: {value: 7}, address: {modbus: {table: holding, offset: 110}}}
  commands:
  - {name: reset, writes: [{property: fault, value: 0}]}
---
apiVersion: devicemesh.io/v1alpha1
kind: Device
metadata: {name: pump-1}
spec: {modelRef: {name: pump}, endpoint: {modbus: {host: 192.0.2.5, unit: 1}}}
"""


class Hass:
    """Keeps the newest payload of each topic, and makes of them what Home Assistant makes."""

    def __init__(self, port: int) -> None:
        self._lock = threading.Lock()
        self._newest: dict[str, bytes] = {}
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="hass")
        self._client.on_message = self._on_message
        self._client.on_connect = lambda client, *_: client.subscribe(
            [("homeassistant/#", 1), ("devicemesh/v1/#", 1)]
        )
        self._client.connect("127.0.0.1", port, 60)
        self._client.loop_start()

    def _on_message(self, _: Any, __: Any, message: mqtt.MQTTMessage) -> None:
        with self._lock:
            self._newest[message.topic] = bytes(message.payload)

    def payload(self, topic: str) -> str | None:
        with self._lock:
            found = self._newest.get(topic)
        return None if found is None else found.decode()

    def device(self, identity: str) -> dict[str, Any]:
        """What was discovered; {} while nothing was, or it was removed."""
        found: dict[str, Any] = json.loads(self.payload(f"homeassistant/device/{identity}/config") or "{}")
        return found

    def entity(self, key: str, identity: str = PUMP) -> dict[str, Any]:
        """A component with what it shares with its device."""
        device = self.device(identity)
        common = ("availability", "availability_mode", "state_topic", "command_topic")
        return {name: device[name] for name in common if name in device} | device["components"][key]

    def rendered(self, topic: str, template: str) -> str:
        payload = self.payload(topic)
        said = {"value": payload, **({"value_json": json.loads(payload)} if payload else {})}
        return JINJA.from_string(template).render(**said).strip()

    def state(self, key: str, identity: str = PUMP) -> str:
        entity = self.entity(key, identity)
        for one in entity.get("availability", ()):  # mode `all`
            if (
                self.payload(one["topic"]) is None
                or self.rendered(one["topic"], one["value_template"]) != "online"
            ):
                return "unavailable"
        if self.payload(entity["state_topic"]) is None:
            return "unknown"
        shown = self.rendered(entity["state_topic"], entity["value_template"])
        if shown == "None":
            return "unknown"
        if entity["platform"] not in ("binary_sensor", "switch"):
            return shown
        words = {
            entity.get("payload_on", "ON"): "on",
            entity.get("payload_off", "OFF"): "off",
            "": "as it was",
        }
        return words[shown]

    def set(self, key: str, value: Any) -> None:
        """As a person does: `value` is a number, a text, or of a switch the payload."""
        entity = self.entity(key)
        payload = JINJA.from_string(entity["command_template"]).render(value=value)
        self._client.publish(entity["command_topic"], payload, 1).wait_for_publish(5)

    def press(self, key: str) -> None:
        entity = self.entity(key)
        self._client.publish(entity["command_topic"], entity["payload_press"], 1).wait_for_publish(5)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def address_of(plant: Any) -> str:
    found: str = json.loads((plant.home / "sim.json").read_text())["addresses"]["192.0.2.5:502"]
    return found


def somebody_sets_speed(address: str, speed: float) -> None:
    """At the machine: Modbus's function 16, of two registers from 100 on."""
    host, _, port = address.partition(":")
    request = struct.pack(">HHHBBHHBf", 1, 0, 11, 1, 16, 100, 2, 4, speed)
    with socket.create_connection((host, int(port)), 5) as peer:
        peer.sendall(request)
        assert peer.recv(12) == struct.pack(">HHHBBHH", 1, 0, 6, 1, 16, 100, 2)


@pytest.fixture
def hass(broker: Any) -> Iterator[Hass]:
    found = Hass(broker.port)
    yield found
    found.close()


@pytest.fixture
def plant(site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """One simulated pump, and a runtime that announces it; `plant.again` ends it and starts another."""
    monkeypatch.setenv("DEVICEMESH_MQTT__HOME_ASSISTANT", "true")
    monkeypatch.setenv("DEVICEMESH_STATUS_INTERVAL_S", "0.2")
    site.manifest = tmp_path / "plant"
    site.manifest.mkdir()
    (site.manifest / "pump.yaml").write_text(MANIFEST)
    site.simulate(site.manifest)
    site.process = site.run(files=site.manifest)
    return site


def test_all_is_found_and_shown(plant: Any, hass: Hass, wait: Wait) -> None:
    about = wait(lambda: hass.device(PUMP))["device"]
    assert (about["name"], about["model"], about["manufacturer"]) == ("pump-1", "pump", "ACME Pumps")
    wait(lambda: hass.device(RUNTIME))
    assert about["via_device"] in hass.device(RUNTIME)["device"]["identifiers"]
    wait(lambda: hass.state("number/speed") == "1450.0")
    shown = {key: hass.state(key) for key in hass.device(PUMP)["components"] if not key.startswith("button")}
    assert shown == {
        "number/speed": "1450.0",
        "binary_sensor/speed/overspeed": "off",
        "switch/valve.open": "off",
        "binary_sensor/running": "on",
        "sensor/energy": "123456789012",
        "text/label": "hall 2",
        "sensor/serial": "EM-42",
        "number/fault": "7",
    }
    assert hass.state("binary_sensor/status", RUNTIME) == "on"
    energy = hass.entity("sensor/energy")
    assert (energy["unit_of_measurement"], energy["device_class"], energy["state_class"]) == (
        "kWh",
        "energy",
        "total",
    )


def test_what_is_set_there_reaches_the_device(plant: Any, hass: Hass, wait: Wait) -> None:
    wait(lambda: hass.device(PUMP) and hass.state("number/speed") == "1450.0")
    hass.set("number/speed", 2850.5)
    hass.set("switch/valve.open", "True")
    hass.set("text/label", 'h "2"')
    hass.press("button/command/reset")
    wait(lambda: hass.state("number/speed") == "2850.5")
    wait(lambda: hass.state("binary_sensor/speed/overspeed") == "on")
    wait(lambda: hass.state("switch/valve.open") == "on")
    wait(lambda: hass.state("text/label") == 'h "2"')
    wait(lambda: hass.state("number/fault") == "0")
    read = plant.dm("read", f"modbus://{address_of(plant)}/1", "holding:100", "--as", "float32").stdout
    assert "2850.5" in read
    hass.set("number/speed", 2750)
    wait(lambda: hass.state("number/speed") == "2750.0")
    assert hass.state("binary_sensor/speed/overspeed") == "as it was"


def test_what_somebody_changed_at_the_machine_can_be_set_back(plant: Any, hass: Hass, wait: Wait) -> None:
    """A value that is desired already is written again, because a person acts."""
    wait(lambda: hass.device(PUMP) and hass.state("number/speed") == "1450.0")
    hass.set("number/speed", 1200)
    wait(lambda: hass.state("number/speed") == "1200.0")
    somebody_sets_speed(address_of(plant), 900)
    wait(lambda: hass.state("number/speed") == "900.0")
    assert plant.condition("pump-1", "DesiredApplied")["reason"] == "Drifted"
    hass.set("number/speed", 1200)
    wait(lambda: hass.state("number/speed") == "1200.0")
    wait(lambda: plant.condition("pump-1", "DesiredApplied")["reason"] == "Applied")


def test_what_is_away_is_not_available(plant: Any, hass: Hass, wait: Wait) -> None:
    wait(lambda: hass.device(PUMP) and hass.state("number/speed") == "1450.0")
    plant.dm("fault", "pump-1", "exception=4")  # it answers, and refuses all reads
    wait(lambda: hass.state("text/label") == "unavailable")
    wait(lambda: hass.state("number/speed") in ("unknown", "unavailable"))
    plant.dm("fault", "pump-1", "heal")
    wait(lambda: hass.state("number/speed") == "1450.0", 60)
    plant.dm("fault", "pump-1", "unplug")
    wait(lambda: hass.state("sensor/serial") == "unavailable")
    assert hass.state("binary_sensor/status", RUNTIME) == "on"
    plant.dm("fault", "pump-1", "heal")
    wait(lambda: hass.state("sensor/serial") == "EM-42", 60)
    assert plant.stop(plant.process) == 0
    wait(lambda: hass.state("sensor/serial") == "unavailable")
    assert hass.state("binary_sensor/status", RUNTIME) == "off"


def test_an_edited_and_a_deleted_device(plant: Any, hass: Hass, wait: Wait) -> None:
    wait(lambda: hass.device(PUMP))
    assert plant.stop(plant.process) == 0
    edited = MANIFEST.replace("name: serial,", "name: serialNumber,").replace(
        "uint16, access: ReadWrite", "uint16, access: ReadOnly"
    )
    (plant.manifest / "pump.yaml").write_text(edited.split("  commands:")[0] + "---" + edited.split("---")[1])
    plant.run(files=plant.manifest)
    now = wait(
        lambda: (found := hass.device(PUMP)["components"]) and "sensor/serialNumber" in found and found
    )
    assert {key: found for key, found in now.items() if len(found) == 1} == {
        "sensor/serial": {"platform": "sensor"},
        "number/fault": {"platform": "number"},
        "button/command/reset": {"platform": "button"},
    }
    wait(lambda: hass.state("sensor/fault") == "7")
    assert plant.dm("delete", "device", "pump-1").returncode == 0
    wait(lambda: hass.device(PUMP) == {})
    assert hass.device(RUNTIME)
    assert "Traceback" not in plant.log()
