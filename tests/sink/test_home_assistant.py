"""Discovery messages: what Home Assistant will take, and what it makes of our payloads."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from devicemesh.settings import MqttSettings, Settings
from devicemesh.sink.base import Declaration
from devicemesh.sink.homeassistant.classes import MEANINGS, classes
from devicemesh.sink.homeassistant.messages import SUFFIX, DiscoveryTopics, device_message, runtime_message
from devicemesh.sink.homeassistant.told import Told
from devicemesh.sink.topics import Incoming
from devicemesh.spec.device import Command, Property
from devicemesh.spec.units import TABLE
from devicemesh.spec.values import ValueType

FOLDER = Path(__file__).parent / "home_assistant"
RELEASES = json.loads((FOLDER / "rules.json").read_text())
"""What two releases of Home Assistant, 2024.12.5 and 2026.11.0, allow with a device class."""
TOPICS = DiscoveryTopics(MqttSettings(), "main")
JINJA = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
COUNTER = {"report": "window", "statistics": ["last", "increase"]}


def declared(
    *properties: dict[str, Any], commands: tuple[dict[str, Any], ...] = (), **about: str
) -> Declaration:
    props = [Property.model_validate(one) for one in properties]
    found = [Command.model_validate(one) for one in commands]
    return Declaration({p.name: p for p in props}, {c.name: c for c in found}, {}, **about)


def message(*properties: dict[str, Any], **about: Any) -> dict[str, Any]:
    return device_message("default/pump-1", declared(*properties, **about), TOPICS)


def component(**prop: Any) -> tuple[str, dict[str, Any]]:
    """(platform, component) of the one property."""
    ((key, found),) = message({"name": "x", **prop})["components"].items()
    assert key == f"{found['platform']}/x"
    return found["platform"], found


def state(template: str, **twin: Any) -> str:
    """As Home Assistant renders it: a text without blanks around it."""
    return JINJA.from_string(template).render(value=json.dumps(twin), value_json=twin).strip()


def reported(value: Any, **more: Any) -> dict[str, Any]:
    return {"reported": {"value": value, "time": "2026-11-29T10:00:00Z", "quality": "Good"}, **more}


# -- units and classes


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("counter", [False, True])
def test_unit_device_class_and_state_class_agree(release: str, counter: bool) -> None:
    rules = RELEASES[release]
    for unit in MEANINGS:
        found = classes(unit, counter=counter, whole=False)
        if found.device_class:
            written = rules["written_as"].get(found.unit, found.unit) or None
            assert written in rules["units"][found.device_class], unit
            assert found.state_class in rules["state_classes"][found.device_class], unit
            assert classes(unit, counter=False, whole=False).device_class in rules["numbers"], unit


def test_the_table_has_no_unit_that_does_not_exist() -> None:
    assert MEANINGS.keys() <= {unit.ucum for unit in TABLE}


@pytest.mark.parametrize(
    ("declaration", "unit", "device_class", "state_class"),
    [
        ({"unit": "degC"}, "°C", "temperature", "measurement"),
        ({"unit": "%rh"}, "%", "humidity", "measurement"),
        ({"unit": "K"}, "K", None, "measurement"),
        ({"unit": "kVA"}, "kVA", None, "measurement"),
        ({"unit": "kWh"}, "kWh", "energy", "total"),
        ({"unit": "kWh", "telemetry": COUNTER}, "kWh", "energy", "total_increasing"),
        ({"unit": "m3"}, "m³", "volume_storage", "measurement"),
        ({"unit": "m3", "telemetry": COUNTER}, "m³", "volume", "total_increasing"),
        ({"unit": "degC", "telemetry": COUNTER}, "°C", "temperature", "measurement"),
        ({"unit": "kvarh"}, "kvarh", None, "total"),
        ({"unit": "pH"}, None, "ph", "measurement"),
        ({"unit": "1"}, None, None, "measurement"),
        ({}, None, None, "measurement"),
        ({"type": "uint16"}, None, None, None),  # a code, perhaps
        ({"type": "uint16", "unit": "1"}, None, None, "measurement"),
    ],
)
def test_how_a_number_is_understood(
    declaration: dict[str, Any], unit: str | None, device_class: str | None, state_class: str | None
) -> None:
    platform, found = component(**{"type": "float64", **declaration})
    assert platform == "sensor"
    assert [found.get(k) for k in ("unit_of_measurement", "device_class", "state_class")] == [
        unit,
        device_class,
        state_class,
    ]


# -- entities


@pytest.mark.parametrize("type_", list(ValueType))
@pytest.mark.parametrize("access", ["ReadOnly", "ReadWrite", "WriteOnly"])
def test_every_type_has_its_platform_or_none(type_: ValueType, access: str) -> None:
    found = message({"name": "x", "type": type_, "access": access})["components"]
    writable = access != "ReadOnly"
    if type_ in (ValueType.BYTES, ValueType.JSON):
        assert found == {}
    elif type_ == ValueType.BOOL:
        assert list(found) == ["switch/x" if writable else "binary_sensor/x"]
    elif type_ == ValueType.STRING:
        assert list(found) == ["text/x" if writable else "sensor/x"]
    else:
        assert list(found) == ["number/x" if writable else "sensor/x"]


def test_a_number_that_can_be_set_has_its_limits() -> None:
    _, speed = component(type="float32", access="ReadWrite", unit="rpm", minimum=0, maximum=3000)
    assert (speed["min"], speed["max"], speed["step"]) == (0, 3000, 0.001)
    _, mode = component(type="int16", access="ReadWrite", minimum=-0.5, maximum=7.5)
    assert (mode["min"], mode["max"], mode["step"]) == (0, 7, 1)
    _, wide = component(type="uint64", access="ReadWrite")
    assert (wide["min"], wide["max"]) == (0, 2**53)
    _, open_ = component(type="float64", access="ReadWrite")
    assert (open_["min"], open_["max"]) == (-(10**12), 10**12)
    assert state(speed["value_template"], x=reported(3000.4)) == "None"  # it would keep the value before
    assert state(speed["value_template"], x=reported(2999.5)) == "2999.5"


@pytest.mark.parametrize(
    ("prop", "value", "shown"),
    [
        ({"type": "float64"}, 1e-7, "1e-07"),
        ({"type": "float64"}, None, "None"),
        ({"type": "int64"}, 2**60 + 1, str(2**60 + 1)),
        ({"type": "bool"}, True, "True"),
        ({"type": "bool"}, False, "False"),
        ({"type": "bool"}, None, "None"),
        ({"type": "bool", "access": "ReadWrite"}, False, "False"),
        ({"type": "int8", "access": "ReadWrite"}, -3, "-3"),
        ({"type": "int8", "access": "ReadWrite"}, None, "None"),
        ({"type": "string"}, "EM-1", "EM-1"),
        ({"type": "string"}, "x" * 300, "x" * 255),
        ({"type": "string"}, None, "None"),
        ({"type": "string", "access": "ReadWrite"}, "{{ 1 }}", "{{ 1 }}"),
        ({"type": "string", "access": "ReadWrite"}, None, ""),
    ],
)
def test_what_is_shown_of_a_value(prop: dict[str, Any], value: Any, shown: str) -> None:
    _, found = component(**prop)
    assert state(found["value_template"], x=reported(value)) == shown


@pytest.mark.parametrize("access", ["ReadOnly", "ReadWrite", "WriteOnly"])
@pytest.mark.parametrize("type_", [ValueType.BOOL, ValueType.FLOAT32, ValueType.STRING])
def test_a_payload_without_the_property_is_no_error(type_: ValueType, access: str) -> None:
    name = "flow.rate-2"
    ((_, found),) = message({"name": name, "type": type_, "access": access})["components"].items()
    for twin in ({}, {name: {}}, {name: {"reported": {}}}):
        assert state(found["value_template"], **twin) in ("None", "")
    assert JINJA.from_string(found["value_template"]).render(value="").strip() in (
        "None",
        "",
    )  # it was removed


def test_what_can_not_be_read_shows_what_was_written() -> None:
    _, found = component(type="int16", access="WriteOnly")
    waiting, applied = {"value": 5, "state": "waiting"}, {"value": 5, "state": "applied"}
    assert state(found["value_template"], x=reported(None)) == "None"
    assert state(found["value_template"], x=reported(None, desired=waiting)) == "None"
    assert state(found["value_template"], x=reported(None, desired=applied)) == "5"


@pytest.mark.parametrize(
    ("prop", "given", "sent"),
    [
        ({"type": "float32"}, 12.5, {"x": 12.5}),
        ({"type": "uint8"}, 3, {"x": 3}),
        ({"type": "bool"}, "True", {"x": True}),
        ({"type": "bool"}, "False", {"x": False}),
        ({"type": "string"}, 'a "b"\n\\ <ü>', {"x": 'a "b"\n\\ <ü>'}),
    ],
)
def test_what_is_sent_for_a_value(prop: dict[str, Any], given: Any, sent: dict[str, Any]) -> None:
    _, found = component(access="ReadWrite", **prop)
    for key in ("payload_on", "payload_off"):
        assert found.get(key, given) in (given, {"True": "False", "False": "True"}.get(str(given)))
    assert json.loads(JINJA.from_string(found["command_template"]).render(value=given)) == sent


def test_a_text_that_is_not_known_is_not_available() -> None:
    found = message({"name": "x", "type": "string", "access": "ReadWrite"})
    common, own = found["availability"], found["components"]["text/x"]["availability"]
    assert list(own[:2]) == list(common)
    assert own[2]["topic"] == found["state_topic"]
    assert state(own[2]["value_template"], x=reported("")) == "online"
    assert state(own[2]["value_template"], x=reported(None)) == "offline"


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({"state": "Ready"}, "online"),
        ({"state": "Degraded"}, "online"),
        ({"state": "Offline"}, "offline"),
        ({"state": "Starting"}, "offline"),
    ],
)
def test_when_a_device_is_available(payload: dict[str, Any], said: str) -> None:
    device, runtime = message({"name": "x", "type": "bool"})["availability"]
    assert state(device["value_template"], **payload) == said
    assert state(runtime["value_template"], state=said) == said
    for one in (device, runtime):
        assert JINJA.from_string(one["value_template"]).render(value="") == "offline"


@pytest.mark.parametrize(
    ("alarm", "states"),
    [
        ({"above": 10, "clearBelow": 8}, {11: "ON", 10: "", 8: "", 7.9: "OFF", None: "None"}),
        ({"above": 10}, {10.1: "ON", 10: "", 9.9: "OFF"}),
        ({"below": -2, "clearAbove": 0}, {-3: "ON", -2: "", 0: "", 0.1: "OFF"}),
        ({"below": 5}, {4: "ON", 6: "OFF"}),
    ],
)
def test_an_alarm_stays_as_it_is_between_its_limits(alarm: dict[str, Any], states: dict[Any, str]) -> None:
    found = message({"name": "x", "type": "float64", "alarms": [{"name": "a", **alarm}]})["components"]
    entity = found["binary_sensor/x/a"]
    assert (entity["device_class"], entity["name"]) == ("problem", "x a")
    assert {value: state(entity["value_template"], x=reported(value)) for value in states} == states


def test_an_alarm_with_a_delay_is_left_out() -> None:
    alarm = {"name": "a", "above": 1, "delay": "5s"}
    assert list(message({"name": "x", "type": "int8", "alarms": [alarm]})["components"]) == ["sensor/x"]


def test_commands_that_need_no_argument_are_buttons() -> None:
    argument = {"name": "level", "type": "uint8"}
    commands = (
        {"name": "reset", "writes": [{"property": "x", "value": 0}]},
        {"name": "home", "address": {"opcua": {}}},
        {"name": "ramp", "arguments": [{**argument, "default": 3}]},
        {"name": "go", "arguments": [argument]},
    )
    found = message({"name": "reset", "type": "bool"}, commands=commands)["components"]
    assert list(found) == ["binary_sensor/reset", *(f"button/command/{n}" for n in ("reset", "home", "ramp"))]
    button = found["button/command/reset"]
    assert (button["command_topic"], button["payload_press"]) == (
        "devicemesh/v1/default/pump-1/command/reset",
        "{}",
    )
    assert len({each["unique_id"] for each in found.values()}) == 4


def test_the_page_shows_settings_and_topics_as_they_are() -> None:
    text = (Path(__file__).parent.parent.parent / "docs/home-assistant.md").read_text()
    shown = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert Settings.model_validate(shown).mqtt.home_assistant
    names = {"<prefix>": "homeassistant", "<root>": "devicemesh_v1", "<instance>": "main"}
    names |= {"<namespace>": "default", "<device>": "pump-1"}
    topics = re.findall(r"^\| `(<prefix>/device/[^`]+)` \|", text, re.M)
    for name, value in names.items():
        topics = [topic.replace(name, value) for topic in topics]
    assert topics == [TOPICS.retained(device, SUFFIX) for device in ("default/pump-1", "")]


# -- whose it is


def test_a_device_is_known_by_its_place_below_the_root() -> None:
    topics = DiscoveryTopics(MqttSettings(root="plant.a/gateway_7", home_assistant_prefix="ha"), "line-1")
    topic = topics.retained("hall-2/pump-1", SUFFIX)
    assert topic == "ha/device/plant_a_gateway_7_hall-2_pump-1/config"
    assert re.fullmatch(r"\w+/[a-zA-Z0-9_-]+/config", topic.removeprefix("ha/"))  # what it subscribes to
    found = device_message("hall-2/pump-1", declared(model="pump", manufacturer="ACME"), topics)
    runtime = runtime_message("line-1", topics)
    assert found["device"] == {
        "identifiers": ["plant_a_gateway_7_hall-2_pump-1"],
        "name": "hall-2/pump-1",
        "model": "pump",
        "manufacturer": "ACME",
        "via_device": runtime["device"]["identifiers"][0],
    }
    assert topics.retained("", SUFFIX) == "ha/device/plant_a_gateway_7__runtime_line-1/config"
    assert "manufacturer" not in device_message("a/b", declared(), topics)["device"]


def test_topics_beside_those_of_mqtt() -> None:
    assert TOPICS.retained("default/pump-1", "status") == "devicemesh/v1/default/pump-1/status"
    assert TOPICS.retained("", "status") == TOPICS.runtime_status
    assert TOPICS.parse("devicemesh/v1/a/b/twin/desired/now") == Incoming("write", "a/b", "")
    assert TOPICS.parse("devicemesh/v1/a/b/twin/desired") == Incoming("desired", "a/b", "")
    assert {"devicemesh/v1/+/+/twin/desired/now", "homeassistant/status"} <= set(TOPICS.subscriptions)
    assert message()["command_topic"] == "devicemesh/v1/default/pump-1/twin/desired/now"


@pytest.mark.parametrize("prefix", ["", "/x", "a/#", "x/", "+", "a//b", "x" * 129])
def test_a_prefix_that_makes_no_topics(prefix: str) -> None:
    with pytest.raises(ValueError, match="home_assistant_prefix"):
        MqttSettings(home_assistant_prefix=prefix)


def test_names_that_are_no_device() -> None:
    with pytest.raises(ValueError, match="is no device"):
        device_message("a/b.c", declared(), TOPICS)


# -- what is not declared any more


def test_what_is_gone_is_taken_back_by_its_platform() -> None:
    found = device_message(
        "a/b", declared({"name": "x", "type": "bool"}), TOPICS, ["number/x", "button/command/go"]
    )
    assert found["components"].pop("binary_sensor/x")
    assert found["components"] == {
        "number/x": {"platform": "number"},
        "button/command/go": {"platform": "button"},
    }


def test_what_was_told_outlives_the_process(tmp_path: Path) -> None:
    file = tmp_path / SUFFIX
    first = Told(file)
    for number in range(3):
        assert first.gone(f"a/{number}", ["sensor/x", "sensor/y"]) == []
    assert first.gone("a/2", ["sensor/x"]) == ["sensor/y"]
    first.forget("a/1")
    assert first.due
    first.save(*first.text())
    assert not first.due
    assert len(file.read_text().splitlines()) == 1  # all are alike
    with file.open("ab") as end:
        end.write(b'\xff\n{"no": 1}\n[1, 2]\n')  # a damaged file harms nobody
    second = Told(file)
    assert second.gone("a/0", ["number/x"]) == ["sensor/x", "sensor/y"]
    assert second.gone("a/0", ["number/x", "sensor/y"]) == ["sensor/x"]
    assert second.gone("a/1", ["sensor/z"]) == []
    assert second.gone("a/2", ["sensor/x", "sensor/y"]) == []


def test_a_home_that_takes_no_file_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    told = Told(tmp_path / "no" / "folder")
    for number in range(3):
        told.gone(f"a/{number}", ["sensor/x"])
        told.save(*told.text())
    assert told.due
    assert len(caplog.records) == 1


# -- Home Assistant itself

SINCE_2024_12 = {"area", "conductivity"}
"""Device classes that the release which can be installed here does not have yet."""


def test_home_assistant_takes_and_renders_it() -> None:
    python = FOLDER / ".venv/bin/python"
    if not python.exists():
        pytest.skip(f"Home Assistant is not installed: {FOLDER / 'install.sh'}")
    alarms = [{"name": "high", "above": 9, "clearBelow": 8}]
    units = [unit.ucum for unit in TABLE]
    properties: list[dict[str, Any]] = [
        {
            "name": f"u{number}.{access}",
            "type": "float64",
            "unit": unit,
            "access": access,
            "telemetry": telemetry,
        }
        for number, unit in enumerate(units)
        for access, telemetry in (("ReadOnly", {}), ("WriteOnly", COUNTER), ("ReadWrite", {}))
    ]
    properties += [
        {"name": f"{type_}-{access}", "type": type_, "access": access}
        for type_ in ValueType
        for access in ("ReadOnly", "ReadWrite", "WriteOnly")
    ]
    properties += [
        {"name": "level", "type": "float64", "alarms": alarms, "telemetry": COUNTER, "unit": "kWh"}
    ]
    found = message(*properties, commands=({"name": "go", "writes": [{"property": "level", "value": 0}]},))
    for one in found["components"].values():
        if one.get("device_class") in SINCE_2024_12:
            del one["device_class"]
    runtime = runtime_message("main", TOPICS)
    twins = [{"level": reported(8.5)}, {"level": reported(9.5)}, {}]
    typed = [one for one in found["components"].values() if not re.match(r"u\d", one["name"])]
    shown = [one["value_template"] for one in typed if "value_template" in one]
    sent = [one["command_template"] for one in typed if "command_template" in one]
    renders = [[text, {"value": json.dumps(twin), "value_json": twin}] for text in shown for twin in twins]
    renders += [[text, {"value": ""}] for text in shown]
    renders += [[text, {"value": 'a "b" <ü>'}] for text in sent]
    job = json.dumps({"messages": [found, runtime], "renders": renders})
    command = [str(python), str(FOLDER / "oracle.py")]
    done = subprocess.run(command, input=job, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["wrong"] == []
    assert answer["rendered"] == [JINJA.from_string(text).render(**said).strip() for text, said in renders]
    assert {"ON", "9.5", "None"} <= set(answer["rendered"])
