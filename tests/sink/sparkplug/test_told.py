"""What JSON says, as values of metrics; what a device has."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devicemesh.sink.base import Declaration
from devicemesh.sink.sparkplug import told
from devicemesh.sink.sparkplug.commands import asked
from devicemesh.sink.sparkplug.devices import NodeDevices, parts_of_alias
from devicemesh.sink.sparkplug.host import PrimaryHost
from devicemesh.sink.sparkplug.metrics import TYPES, metrics_of
from devicemesh.sink.sparkplug.numbers import SessionNumber
from devicemesh.sink.sparkplug.table import Table
from devicemesh.sink.sparkplug.told import fitted
from devicemesh.sink.sparkplug.wire import Metric, Type, encode
from devicemesh.sink.told import Told, event, milliseconds, telemetry
from devicemesh.sink.topics import device_of, identity
from devicemesh.spec.device import Command, EventSource, Property
from devicemesh.spec.values import ValueType


@pytest.mark.parametrize(
    ("value", "type_", "found"),
    [
        (5, Type.INT32, 5),
        (5.0, Type.INT32, 5),
        (5.5, Type.INT32, None),
        (True, Type.INT32, 1),
        (2**31, Type.INT32, None),
        (-1, Type.UINT8, None),
        (256, Type.UINT8, None),
        (2**64 - 1, Type.UINT64, 2**64 - 1),
        (2**64, Type.UINT64, None),
        ("5", Type.INT64, None),
        (1, Type.BOOLEAN, True),
        (0.0, Type.BOOLEAN, False),
        (2, Type.BOOLEAN, None),
        ("true", Type.BOOLEAN, None),
        (5, Type.DOUBLE, 5.0),
        (True, Type.DOUBLE, 1.0),
        (1e300, Type.FLOAT, None),
        (1e300, Type.DOUBLE, 1e300),
        (10**400, Type.DOUBLE, None),
        ("x", Type.DOUBLE, None),
        ("AQI=", Type.BYTES, b"\x01\x02"),
        ("?", Type.BYTES, None),
        (5, Type.BYTES, None),
        ("x", Type.STRING, "x"),
        (True, Type.STRING, "true"),
        ({"a": [1, "ü"]}, Type.STRING, '{"a":[1,"ü"]}'),
        (None, Type.STRING, None),
    ],
)
def test_a_value_is_of_its_type_or_none(value: Any, type_: Type, found: Any) -> None:
    result = fitted(value, type_)
    assert result == found and type(result) is type(found)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda each: st.lists(each, max_size=3),
)


@given(JSON, st.sampled_from(sorted(set(TYPES.values()))))
def test_whatever_comes_is_fitted_or_none(value: Any, type_: Type) -> None:
    fitted(value, type_)


@given(st.integers(-(2**62), 2**62))
def test_milliseconds(time_ns: int) -> None:
    from devicemesh._core.reference_record import timestamp

    assert milliseconds(timestamp(time_ns)) == time_ns // 10**6


def test_milliseconds_of_a_time_that_is_exact_in_no_float() -> None:
    assert (
        milliseconds("2026-11-29T22:10:03.123999999Z")
        == int(datetime(2026, 11, 29, 22, 10, 3, tzinfo=UTC).timestamp()) * 1000 + 123
    )


def test_rows_and_windows_in_order() -> None:
    payload = {
        "epoch": 1,
        "seq": 0,
        "rows": [
            {"time": "1970-01-01T00:00:01Z", "values": {"a": 1, "b": None}, "quality": {"b": "Bad.NoAnswer"}},
            {"time": "1970-01-01T00:00:02Z", "values": {"a": 2}},
        ],
        "windows": [
            {
                "name": "p",
                "start": "1970-01-01T00:00:00Z",
                "end": "1970-01-01T00:00:10Z",
                "count": 3,
                "mean": 1.5,
            }
        ],
    }
    assert list(telemetry(payload)) == [
        Told("a", 1, 1000),
        Told("b", None, 1000, "Bad.NoAnswer"),
        Told("a", 2, 2000),
        Told("p/count", 3, 10_000),
        Told("p/mean", 1.5, 10_000),
    ]


def test_quality_words() -> None:
    assert told.quality("Good") == told.quality("Good.FromHistory") == {}
    assert told.quality("Uncertain.UnknownCode") == {"Quality": (Type.INT32, 500)}
    assert told.quality("Bad.NoLink") == {"Quality": (Type.INT32, 0)}


def test_every_type_of_a_property_has_one(declaration: Any) -> None:
    assert set(TYPES) == set(ValueType)
    assert not {Type.INT8, Type.INT16, Type.UINT32} & set(TYPES.values())
    metrics = metrics_of(declaration)
    assert [metrics.at(one.offset) for one in metrics.values()] == list(metrics.values())
    assert metrics.at(len(metrics)) is None
    assert metrics.at(-1) is None


def test_whatever_a_property_is_called_no_two_metrics_have_one_name() -> None:
    names = ("alarm", "event", "command", "twin", "count", "mean")
    limits = [{"name": "event", "above": 1}, {"name": "alarm", "above": 2}]
    properties = {
        name: Property.model_validate(
            {
                "name": name,
                "type": "float64",
                "access": "ReadWrite",
                "alarms": limits,
                "telemetry": {"report": "window"},
            }
        )
        for name in names
    }
    source = EventSource.model_validate({"name": "alarm"})
    command = Command.model_validate({"name": "result", "writes": [{"property": "mean", "value": 1}]})
    metrics = metrics_of(Declaration(properties, {"result": command}, {"alarm": source}))
    assert [one.offset for one in metrics.values()] == list(range(len(metrics)))
    assert [metrics.at(one.offset) for one in metrics.values()] == list(metrics.values())
    assert metrics["alarm"].type == Type.DOUBLE
    (own,) = event("alarm", {"alarm": "MotorHot", "event": "alarms"}, 5)
    assert metrics[own.name].type == Type.STRING


def test_what_is_told_though_nothing_declares_it(declaration: Any) -> None:
    found = [
        Told("speed", 1.0, 1),
        Told("p/count", 3, 1),
        Told("p/mean", 3, 1),
        Told("x", 3, 1),
        Told("y", None, 1),
    ]
    unknown = told.unknown(found, metrics_of(declaration))
    assert unknown == {"p/count": Type.INT64, "p/mean": Type.DOUBLE, "x": Type.INT64, "y": Type.STRING}
    metrics = metrics_of(declaration).with_unknown(unknown)
    assert metrics["x"].offset == metrics["p/count"].offset + 2 == len(metrics_of(declaration)) + 2
    assert metrics.at(metrics["x"].offset) is metrics["x"]


def test_a_value_of_the_wrong_type_is_null_and_bad(declaration: Any) -> None:
    metrics = metrics_of(declaration)
    odd = told.metric(Told("count", "text", 5), metrics, 1 << 20, late=True)
    assert (odd.value, odd.properties, odd.historical) == (None, {"Quality": (Type.INT32, 0)}, True)
    assert (odd.alias, odd.name) == ((1 << 20) + metrics["count"].offset, None)
    null = told.metric(Told("count", None, 5), metrics, None, late=False)
    assert (null.value, null.properties, null.name, null.alias) == (None, {}, "count", None)
    for word, historical in (("Good", False), ("Good.FromHistory", True), ("Uncertain.FromHistory", True)):
        assert told.metric(Told("count", 1, 5, word), metrics, None, late=False).historical is historical


def test_names_of_devices() -> None:
    for device, name in (("default/pump-1", "pump-1"), ("north/pump-1", "north:pump-1")):
        assert identity(device) == name
        assert device_of(name) == device
    for nothing in ("", "a/b", "A", "north:", ":x", "a:b:c", "x" * 64, "pump+1"):
        with pytest.raises(ValueError, match="no device"):
            device_of(nothing)


def test_a_number_is_of_one_device_with_one_set_of_metrics(declaration: Any) -> None:
    devices = NodeDevices()
    first = devices["default/a"].number
    assert devices["default/a"].number == first
    assert devices["default/b"].number == first + 1
    devices.forget("default/a")
    assert devices.find("default/a") is None
    table = Table(metrics_of(declaration), list(declaration.properties.values()))
    changed = devices.redeclare("default/a", table, frozenset()).number
    assert changed > first + 1  # an alias of before is none of them
    assert parts_of_alias((changed << 20) + 7) == (changed, 7)


def _asked(devices: NodeDevices, *metrics: Metric) -> Any:
    return [(one.name, one.body) for one in asked("pump-1", encode(list(metrics), 1), devices)]


def test_an_alias_of_yesterdays_model_sets_nothing(declaration: Any) -> None:
    devices = NodeDevices()
    table = Table(metrics_of(declaration), list(declaration.properties.values()))
    device = devices.redeclare("default/pump-1", table, frozenset())
    metric = Metric(None, (device.number << 20) + table.metrics["mode"].offset, Type.STRING, "x", 1)
    assert _asked(devices, metric) == [("", {"mode": "x"})]
    devices.redeclare("default/pump-1", table, frozenset())
    with pytest.raises(ValueError, match="nothing that can be set"):
        _asked(devices, metric)


@pytest.mark.parametrize(
    "metric",
    [
        Metric("speed", None, 29, b"\1\2\3\4", 1),  # a UInt64Array
        Metric("speed", None, 0, b"5", 1),
        Metric("command/reset", None, 29, b"\1", 1),
        Metric("command/reset", None, Type.STRING, "false", 1),
        Metric("command/reset", None, Type.DOUBLE, 0.5, 1),
    ],
)
def test_what_can_not_be_read_is_not_null_and_no_yes(declaration: Any, metric: Metric) -> None:
    devices = NodeDevices()
    table = Table(metrics_of(declaration), list(declaration.properties.values()))
    devices.redeclare("default/pump-1", table, frozenset())
    with pytest.raises(ValueError, match=r"without a value|takes no"):
        _asked(devices, metric)
    assert _asked(devices, Metric("speed", None, Type.FLOAT, None, 1)) == [("", {"speed": None})]
    assert _asked(devices, Metric("command/reset", None, Type.INT32, 1, 1)) == [("reset", None)]
    assert _asked(devices, Metric("command/reset", None, Type.BOOLEAN, False, 1)) == []
    with pytest.raises(ValueError, match="without a value"):
        asked("pump-1", b"\x12\x07\x0a\x05speed", devices)  # nothing but its name


def test_the_session_number_survives_and_goes_round(tmp_path: Any, caplog: Any) -> None:
    number = SessionNumber(tmp_path / "sparkplug")
    seen = []
    for _ in range(257):
        number.next()
        seen.append(number.value)
    assert seen == [*range(256), 0]
    again = SessionNumber(tmp_path / "sparkplug")
    again.next()
    assert again.value == 1
    (tmp_path / "sparkplug").write_text("rubbish")
    assert SessionNumber(tmp_path / "sparkplug").value == 255
    lost = SessionNumber(tmp_path / "no" / "sparkplug")
    lost.next()
    lost.next()
    assert lost.value == 1
    assert len(caplog.records) == 1


def test_what_the_primary_host_says() -> None:
    host = PrimaryHost("scada")
    assert host.topic == "spBv1.0/STATE/scada"
    for nothing in (
        b"",
        b"ONLINE",
        b"{}",
        b'{"online":1,"timestamp":5}',
        b'{"online":true,"timestamp":"5"}',
        b"[1]",
    ):
        assert not host.heard(nothing)
    assert not host.online
    assert host.heard(json.dumps({"online": True, "timestamp": 5}).encode())
    assert not host.heard(b'{"online":false,"timestamp":4}')
    assert host.online
    assert host.heard(b'{"online":false,"timestamp":5}')
    assert not host.online
