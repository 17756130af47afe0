"""Where settings come from, and what their mistakes say."""

from pathlib import Path
from typing import Any

import pytest

from devicemesh.settings import ThingsBoardSettings, load


def test_file_environment_and_command_line_in_rising_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("instance: file\nmqtt: {url: mqtt://file, keepalive_s: 20, inflight: 7}\n")
    monkeypatch.setenv("DEVICEMESH_MQTT__URL", "mqtt://environment")
    monkeypatch.setenv("DEVICEMESH_MQTT__KEEPALIVE_S", "25")
    found = load(file, {"mqtt": {"url": "mqtt://line"}})
    assert (found.instance, found.mqtt.inflight) == ("file", 7)
    assert (found.mqtt.keepalive_s, found.mqtt.url) == (25, "mqtt://line")


@pytest.mark.parametrize("name", ["DEVICEMESH_INSTANCE", "devicemesh_instance"])
def test_one_variable_is_enough(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "line-4")
    assert load().instance == "line-4"


def test_variables_of_others_are_no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DEVICEMESH_SECRET_BROKER_PASSWORD", "hidden")
    monkeypatch.setenv("DEVICEMESH_HOME", str(tmp_path))
    assert load().home == tmp_path


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("mqtt: {url: mqtt://a}\noutbox: {max_age: 1d}\nmqtt: {url: mqtt://b}\n")
    with pytest.raises(ValueError, match=r"settings.yaml can't be read: `mqtt` is given twice, line 3"):
        load(file)


def test_a_wrong_variable_is_named_and_its_value_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVICEMESH_MQTT__KEEPALIVE_S", "hunter2")
    with pytest.raises(ValueError, match=r"mqtt\.keepalive_s") as raised:
        load()
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"shards": {"mode": "shared"}}, "shards.mode shared needs the Kubernetes store"),
        ({"shards": {"mode": "node"}, "store": {"kind": "kubernetes"}}, "mode node needs `node`"),
        (
            {"mqtt": {"home_assistant": True, "sparkplug": {"group": "g"}}},
            "which `sparkplug` replaces: leave one out",
        ),
        (
            {"mqtt": {"thingsboard": {"tokn": "x"}}},
            r"^mqtt\.thingsboard\.tokn: Extra inputs are not permitted$",
        ),
        (
            {"mqtt": {"thingsboard": "maybe"}},
            r"^mqtt\.thingsboard: it is true, false, or a section of its own$",
        ),
        ({"mqtt": {"thingsboard": True, "home_assistant": True}}, "and so home_assistant: leave one out"),
        ({"mqtt": {"thingsboard": {}, "sparkplug": {"group": "g"}}}, "and so sparkplug: leave one out"),
    ],
)
def test_a_mode_that_can_not_work_is_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        load(None, values)


@pytest.mark.parametrize("name", ["mesh-0", "edge-7.plant.example", "ip-10-0-0-1.ec2.internal"])
def test_a_pod_or_a_node_names_its_runtime(name: str) -> None:
    assert load(None, {"instance": name}).instance == name


@pytest.mark.parametrize("name", ["Edge", "a/b", "a+", ".a", "a-", ""])
def test_what_no_topic_and_no_lease_may_be_called_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="instance"):
        load(None, {"instance": name})


def test_replicas_are_edge_nodes_of_their_own() -> None:
    given = {"store": {"kind": "kubernetes"}, "mqtt": {"sparkplug": {"group": "g", "node": "n"}}}
    for shards in ({"mode": "shared"}, {"mode": "node", "node": "machine-1"}):
        with pytest.raises(ValueError, match=r"leave mqtt\.sparkplug\.node out"):
            load(None, {**given, "shards": shards})
    assert load(None, {**given, "shards": {"mode": "alone"}}).mqtt.sparkplug is not None


@pytest.mark.parametrize("name", ["a/b", "", "+", "x" * 129, "a#"])
def test_an_id_of_sparkplug_is_one_level_of_a_topic(name: str) -> None:
    for key in ("group", "node", "primary_host"):
        with pytest.raises(ValueError, match=rf"mqtt\.sparkplug\.{key}.*none of"):
            load(None, {"mqtt": {"sparkplug": {"group": "g", key: name}}})
    with pytest.raises(ValueError, match=r"^mqtt\.sparkplug\.group: an ID has"):
        load(None, {"mqtt": {"sparkplug": {"group": "a/b"}}})
    assert load(None, {"mqtt": {"sparkplug": {"group": "Plant 1"}}}).mqtt.sparkplug is not None


def test_replicas_are_gateways_of_their_own() -> None:
    shared = {"store": {"kind": "kubernetes"}, "shards": {"mode": "shared"}}
    for given in (True, {"token": {"name": "things", "key": "token"}}):
        with pytest.raises(ValueError, match=r"put \{instance\} into mqtt\.thingsboard\.token\.key"):
            load(None, {**shared, "mqtt": {"thingsboard": given}})
    found = load(
        None, {**shared, "mqtt": {"thingsboard": {"token": {"name": "things", "key": "{instance}"}}}}
    )
    assert found.mqtt.thingsboard is not None
    token = found.mqtt.thingsboard.token_of("mesh-0")
    assert token is not None and (token.name, token.key) == ("things", "mesh-0")


def test_one_variable_makes_a_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().mqtt.thingsboard is None
    monkeypatch.setenv("DEVICEMESH_MQTT__THINGSBOARD", "true")
    assert load().mqtt.thingsboard == ThingsBoardSettings()
    monkeypatch.delenv("DEVICEMESH_MQTT__THINGSBOARD")
    monkeypatch.setenv("DEVICEMESH_MQTT__THINGSBOARD__PREFIX", "hall 2/")
    assert load().mqtt.thingsboard == ThingsBoardSettings(prefix="hall 2/")
