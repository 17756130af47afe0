"""What ThingsBoard asks, as it is read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from devicemesh.sink.thingsboard import requests
from devicemesh.sink.thingsboard.topics import GatewayTopics, name_of


def test_an_update_of_attributes_and_of_some_that_were_deleted() -> None:
    found = requests.update(b'{"device":"p","data":{"speed":1200,"deleted":["mode","x"]}}')
    assert found == requests.Shared("p", {"speed": 1200, "mode": None, "x": None})


def test_an_attribute_may_be_called_deleted() -> None:
    found = requests.update(b'{"device":"p","data":{"deleted":true}}')
    assert found == requests.Shared("p", {"deleted": True})


def test_an_answer_has_one_value_or_some() -> None:
    one = requests.response(b'{"id":7,"device":"p","value":5}', ["speed"])
    assert one == requests.Shared("p", {"speed": 5}, 7)
    some = requests.response(b'{"id":7,"device":"p","values":{"speed":5}}', ["speed", "mode"])
    assert some == requests.Shared("p", {"speed": 5, "mode": None}, 7)
    none = requests.response(b'{"id":7,"device":"p"}', ["speed"])
    assert none == requests.Shared("p", {"speed": None}, 7)


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"{}", b'{"device":1,"data":{}}', b'{"device":"p","data":[]}', b"\xff"]
)
def test_no_update(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        requests.update(payload)


def test_a_call() -> None:
    found = requests.call(b'{"device":"p","data":{"id":3,"method":"move","params":{"position":1}}}')
    assert found == requests.Call("p", 3, "move", {"position": 1})
    with pytest.raises(ValueError, match="no call"):
        requests.call(b'{"device":"p","data":{"method":"move"}}')


@pytest.mark.parametrize("nothing", [None, {}, [], "", "{}", True, False, "null"])
def test_what_widgets_send_for_no_params_is_none(nothing: Any) -> None:
    assert requests.arguments(nothing) is None


@pytest.mark.parametrize(
    ("params", "values"),
    [
        ({"speed": 5}, {"speed": 5}),
        ('{"speed": 5}', {"speed": 5}),
        ("speed=5", {"speed": 5}),
        ("speed = 5.5; mode=auto;", {"speed": 5.5, "mode": "auto"}),
        ("mode=a=b", {"mode": "a=b"}),
    ],
)
def test_what_is_to_be_set(params: Any, values: dict[str, Any]) -> None:
    assert requests.settings(params) == values


@pytest.mark.parametrize("params", [5, "speed", "=5", None, [1]])
def test_nothing_that_can_be_set(params: Any) -> None:
    with pytest.raises(ValueError, match=r"speed|property=value"):
        requests.settings(params)


@pytest.mark.parametrize(
    ("params", "names"), [(None, None), ("a", ["a"]), ("a; b;", ["a", "b"]), (["a"], ["a"])]
)
def test_what_is_to_be_read(params: Any, names: list[str] | None) -> None:
    assert requests.names(params) == names


def test_outcomes_in_words() -> None:
    applied = {"state": "applied", "result": {"duration": 1.5}}
    assert requests.outcome(applied) == {"success": True, "result": {"duration": 1.5}}
    refused = {
        "state": "refused",
        "property": "speed",
        "reason": "Refused",
        "message": "5000 is above the maximum",
    }
    assert requests.outcome(refused)["error"] == "speed: 5000 is above the maximum"
    several = {
        "state": "failed",
        "properties": {"a": {"state": "applied"}, "b": {"state": "failed", "message": "off"}},
    }
    assert requests.outcome(several) == {"success": False, "error": "b: off", "reason": "failed"}
    assert requests.outcome({"state": "refused", "reason": "UnknownDevice"})["error"] == "UnknownDevice"
    assert json.dumps(requests.outcome({"state": "failed"}))


def test_names_there_and_here() -> None:
    topics = GatewayTopics("plant 7/")
    assert topics.name("default/pump-1") == "plant 7/pump-1"
    assert topics.device_called("plant 7/north:pump-1") == "north/pump-1"
    assert name_of(topics.device("north/pump-1", "telemetry")) == "plant 7/north:pump-1"
    assert name_of(topics.gap) is None
    with pytest.raises(ValueError, match="no device of ours"):
        topics.device_called("pump-1")
