"""Topics, payloads and secrets: what comes from outside is not trusted."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from devicemesh.settings import MqttSettings, SecretRef
from devicemesh.sink.broker_url import parse_url
from devicemesh.sink.payload import dumps, loads
from devicemesh.sink.secret import SecretError, resolve
from devicemesh.sink.topics import Incoming, Topics

TOPICS = Topics(MqttSettings(), "main")


def test_topics_of_a_device_and_of_the_runtime() -> None:
    assert TOPICS.device("default/pump-1", "telemetry") == "devicemesh/v1/default/pump-1/telemetry"
    assert TOPICS.runtime_status == "devicemesh/v1/_runtime/main/status"
    assert TOPICS.gap == "devicemesh/v1/_runtime/main/gap"
    assert TOPICS.subscriptions == ["devicemesh/v1/+/+/twin/desired", "devicemesh/v1/+/+/command/+"]


def test_incoming_topics() -> None:
    assert TOPICS.parse("devicemesh/v1/a/b-1/twin/desired") == Incoming("desired", "a/b-1", "")
    assert TOPICS.parse("devicemesh/v1/a/b/command/reset.all") == Incoming("command", "a/b", "reset.all")


def test_a_template_of_ones_own() -> None:
    settings = MqttSettings(root="acme", topic="{root}/{suffix}/of/{namespace}/{device}")
    topics = Topics(settings, "main")
    assert topics.device("a/b", "twin/desired") == "acme/twin/desired/of/a/b"
    assert topics.subscriptions == ["acme/twin/desired/of/+/+", "acme/command/+/of/+/+"]
    assert topics.parse("acme/command/go/of/a/b") == Incoming("command", "a/b", "go")
    assert Topics(MqttSettings(topic="x/{namespace}/{device}/{suffix}"), "main").parse("x/a/b/command/c")


@pytest.mark.parametrize(
    "options",
    [
        {"topic": "{root}/{device}/{suffix}"},
        {"topic": "{root}/{namespace}/{device}/{suffix}/{device}"},
        {"topic": "{root}/{namespace}-{device}/{suffix}"},
        {"topic": "{root}/{namespace}/{device}/{suffix}/{colour}"},
        {"topic": "{root}/{namespace}/{device}/+/{suffix}"},
        {"root": "a/#"},
        {"root": "$SYS"},
        {"root": ""},
        {"root": "a//b"},
        {"root": "/a"},
        {"root": "x" * 70_000},
    ],
)
def test_settings_that_make_no_topics(options: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        Topics(MqttSettings(**options), "main")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "device", ["pump", "a/b/c", "A/b", "a/+", "a/#", "a/", "/b", "a/b\0", "../b", "a/" + "b" * 64]
)
def test_names_that_are_no_device(device: str) -> None:
    with pytest.raises(ValueError, match="is no device"):
        TOPICS.device(device, "status")


@given(
    st.text()
    | st.from_regex(r"devicemesh/v1/[a-z/+#.\x00-]{0,30}(twin/desired|command/.{0,9})", fullmatch=True)
)
@example("devicemesh/v1/a/b/twin/desired\n")
@example("devicemesh/v1/a/b/command/")
@example("devicemesh/v1/a/b/command/x/y")
@example("devicemesh/v1/a/b/command/__proto__")
def test_any_incoming_topic(topic: str) -> None:
    found = TOPICS.parse(topic)
    if found is not None:
        suffix = "twin/desired" if found.kind == "desired" else f"command/{found.name}"
        assert TOPICS.device(found.device, suffix) == topic
        assert not set(topic) & set("+#\0\n")


# -- payloads

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)  # fmt: skip


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_what_we_write_we_can_read(body: dict[str, Any]) -> None:
    text = dumps(body)
    assert json.loads(text) == json.loads(json.dumps(body))
    assert loads(text) == body


def test_what_json_can_not_say() -> None:
    body = {
        "a": float("nan"),
        "b": [float("inf"), 1.5],
        "c": b"\0\1",
        "d": Path("/x"),
        "e": {"f": -float("inf")},
    }
    assert dumps(body) == b'{"a":null,"b":[null,1.5],"c":"AAE=","d":"/x","e":{"f":null}}'
    assert dumps({"x": "\ud800"}).decode()  # still UTF-8


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"speed",
        b"NaN",
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b"1e999",
        b"[-1e999]",
        b'{"a": 1, "a": 2}',
        b'[{"a": 1, "a": 1}]',
        b"\xff\xfe",
        b'"\xc3\x28"',
        b"{" * 100_000,
        b"[" * 33 + b"]" * 33,
        b"[" * 1_000_000,
        b"1" * 20_000,
        b'{"a": 1} x',
        b'\xef\xbb\xbf{"a": 1}',
        b"{'a': 1}",
    ],
)
def test_what_is_no_plain_json(payload: bytes) -> None:
    with pytest.raises(ValueError):
        loads(payload)


def test_depth_counts_brackets_not_texts() -> None:
    assert loads(b'"' + b"[" * 100 + b'"') == "[" * 100
    assert loads(b'["\\"[[", ' + b"[" * 30 + b"]" * 30 + b"]")[0] == '"[['
    assert len(loads(b"[" + b"[]," * 1000 + b"[]]")) == 1001


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_payload(payload: bytes) -> None:
    with contextlib.suppress(ValueError):
        loads(payload)


# -- the broker's URL and secrets


def test_urls() -> None:
    assert str(parse_url("mqtt://host")) == "host:1883"
    assert parse_url("mqtts://host").port == 8883
    assert parse_url("wss://host/path").path == "/path"
    assert str(parse_url("mqtt://[::1]:7")) == "[::1]:7"


@pytest.mark.parametrize(
    "url",
    [None, "", "host:1883", "http://x", "mqtt://", "mqtt://x:99999", "mqtt://x/y", "mqtt://user:canary@x"],
)
def test_urls_that_are_wrong(url: str | None) -> None:
    with pytest.raises(ValueError) as caught:
        parse_url(url)
    assert "mqtt.url" in str(caught.value)
    assert "canary" not in str(caught.value)


def test_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = SecretRef(name="mqtt-broker")
    with pytest.raises(SecretError, match="DEVICEMESH_SECRET_MQTT_BROKER_PASSWORD"):
        resolve(tmp_path, ref)
    monkeypatch.setenv("DEVICEMESH_SECRET_MQTT_BROKER_PASSWORD", "from the environment")
    assert resolve(tmp_path, ref) == "from the environment"
    path = tmp_path / "secrets/mqtt-broker/password"
    path.parent.mkdir(parents=True)
    path.write_bytes(b" s3cret \r\n")
    assert resolve(tmp_path, ref) == " s3cret "
    path.write_bytes(b"\xff")
    with pytest.raises(SecretError, match="no UTF-8"):
        resolve(tmp_path, ref)
    path.unlink()
    path.mkdir()
    with pytest.raises(SecretError, match="can't be read"):
        resolve(tmp_path, ref)


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "..", "a\0b", "a b"])
def test_secrets_do_not_leave_their_folder(name: str, tmp_path: Path) -> None:
    for ref in (SecretRef(name=name), SecretRef(name="x", key=name)):
        with pytest.raises(SecretError, match="no name of a secret"):
            resolve(tmp_path, ref)
