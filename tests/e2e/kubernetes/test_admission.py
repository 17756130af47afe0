"""deploy/base/admission.yaml: a desired value is held against its model by the API server itself."""

from __future__ import annotations

import json
import time
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
APPLY = "application/apply-patch+yaml"
GROUP = "/apis/devicemesh.io/v1alpha1/namespaces/default"
POLICIES = "/apis/admissionregistration.k8s.io/v1"
PLURALS = {
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
}
TYPES = [
    ("speed", "uint16", {"access": "ReadWrite", "minimum": 10, "maximum": 3000}),
    ("ratio", "float32", {"access": "ReadWrite", "maximum": 1.5}),
    ("on", "bool", {"access": "WriteOnly"}),
    ("name", "string", {"access": "ReadWrite"}),
    ("blob", "json", {"access": "ReadWrite"}),
    ("power", "int32", {}),
]


def _model(name: str, types: Any) -> dict[str, Any]:
    properties = [
        {"name": name, "type": type_, "address": {"modbus": {"table": "holding", "offset": 2 * at}}, **more}
        for at, (name, type_, more) in enumerate(types)
    ]
    return {
        "apiVersion": "devicemesh.io/v1alpha1",
        "kind": "DeviceModel",
        "metadata": {"name": name},
        "spec": {"properties": properties},
    }


def _device(desired: dict[str, Any], model: str = "judged") -> dict[str, Any]:
    return {
        "apiVersion": "devicemesh.io/v1alpha1",
        "kind": "Device",
        "metadata": {"name": "judged"},
        "spec": {
            "modelRef": {"name": model},
            "endpoint": {"modbus": {"host": "192.0.2.1"}},
            "desired": [{"name": name, "value": value} for name, value in desired.items()],
        },
    }


@pytest.fixture(scope="module")
def apply(api_server: Any) -> Iterator[Callable[[dict[str, Any]], str]]:
    """Applies a resource; returns why it was refused, or an empty text."""

    def apply(body: dict[str, Any]) -> str:
        path = f"{GROUP}/{body['kind'].lower()}s/{body['metadata']['name']}?fieldManager=test&force=true"
        try:
            api_server.ask("PATCH", path, body, content=APPLY)
        except urllib.error.HTTPError as error:
            return str(json.loads(error.read())["message"])
        return ""

    resources = list(yaml.safe_load_all((ROOT / "deploy/base/admission.yaml").read_text()))
    for one in resources:
        api_server.ask("POST", f"{POLICIES}/{PLURALS[one['kind']]}", one)
    assert not apply(_model("judged", TYPES))
    assert not apply(_model("other", [("speed", "bool", {"access": "ReadOnly"})]))
    deadline = time.monotonic() + 30
    while not apply(_device({"nothing": 1})):  # until the server has compiled the policy
        assert time.monotonic() < deadline, "the policy does not hold"
        api_server.ask("DELETE", f"{GROUP}/devices/judged")
        time.sleep(0.1)
    yield apply
    for one in resources:
        api_server.ask("DELETE", f"{POLICIES}/{PLURALS[one['kind']]}/{one['metadata']['name']}")
    api_server.ask("DELETE", f"{GROUP}/devicemodels/judged")
    api_server.ask("DELETE", f"{GROUP}/devicemodels/other")


@pytest.fixture(autouse=True)
def _gone(api_server: Any) -> Iterator[None]:
    yield
    try:
        api_server.ask("DELETE", f"{GROUP}/devices/judged")
    except urllib.error.HTTPError as error:
        assert error.code == 404


@pytest.mark.parametrize(
    ("desired", "words"),
    [
        ({"speed": 4200}, "4200 is above speed's maximum of 3000"),
        ({"speed": 9}, "9 is below speed's minimum of 10"),
        ({"ratio": 1.75}, "1.75 is above ratio's maximum of 1.5"),
        ({"speed": 5, "ratio": 2}, "5 is below speed's minimum of 10"),
        ({"power": 1}, "power is read-only"),
        ({"sped": 1}, "the model judged has no property sped"),
        ({"speed": "fast"}, "speed is of type uint16"),
        ({"speed": True}, "speed is of type uint16"),
        ({"speed": 10.5}, "speed is of type uint16"),
        ({"on": 1}, "on is of type bool"),
        ({"name": 7}, "name is of type string"),
    ],
)
def test_it_is_refused_with_the_reason(desired: dict[str, Any], words: str, apply: Any) -> None:
    assert words in apply(_device(desired))


@pytest.mark.parametrize(
    "desired",
    [
        {},
        {"speed": 10, "ratio": 1, "on": False, "name": "x", "blob": {"a": [1]}},
        {"speed": 3000, "ratio": -1.5},
    ],
)
def test_it_is_let_in(desired: dict[str, Any], apply: Any) -> None:
    assert apply(_device(desired)) == ""


def test_a_model_that_is_not_there_yet_refuses_nothing(apply: Any) -> None:
    assert apply(_device({"speed": 4200}, model="later")) == ""


def test_what_was_let_in_once_stops_no_other_edit(apply: Any, api_server: Any) -> None:
    assert apply(_device({"speed": 2900})) == ""
    narrower = [(n, t, {**more, "maximum": 2000}) if n == "speed" else (n, t, more) for n, t, more in TYPES]
    assert apply(_model("judged", narrower)) == ""
    try:
        paused = _device({"speed": 2900})
        paused["spec"]["paused"] = True
        assert apply(paused) == ""
        assert "2950 is above" in apply(_device({"speed": 2950}))
    finally:
        apply(_model("judged", TYPES))
