"""Calls and sources of events in a manifest: where they live, what they take, whose they are."""

import pytest

from devicemesh.spec.base import Protocol, Strict
from devicemesh.spec.codes import CODES
from devicemesh.spec.device import Command
from devicemesh.spec.manifest import Manifest, load


class ToyPlace(Strict):
    name: str


def check(model: str, device: str = "") -> Manifest:
    text = f"""\
apiVersion: devicemesh.io/v1alpha1
kind: DeviceModel
metadata: {{name: pump}}
spec:
  properties: [{{name: speed, type: float32, address: {{toy: {{name: s}}}}}}]
  {model}
---
apiVersion: devicemesh.io/v1alpha1
kind: Device
metadata: {{name: pump-1}}
spec:
  modelRef: {{name: pump}}
  endpoint: {{toy: {{name: h}}}}
  {device}
"""

    class Place(ToyPlace):
        def refusal(self, *_: object) -> None: ...
        def extent(self, *_: object) -> None: ...

        def overlap(self, *_: object) -> None: ...
        def link(self) -> str:
            return self.name

        def conflict(self, _: object) -> None: ...
        def claims(self) -> None: ...
        def listens(self) -> None: ...

    protocols = {"toy": Protocol(Place, Place, ToyPlace, ToyPlace), "mute": Protocol(Place, Place)}
    return load({"x.yaml": text}, protocols, lambda namespace, name: None)


GO = "{name: go, address: {toy: {name: x}}}"


@pytest.mark.parametrize(
    ("model", "device", "code", "says"),
    [
        (f"commands: [{GO}, {GO}]", "", "duplicate-name", "command `go` is declared twice"),
        ("commands: [{name: go, address: {toy: {nam: x}}}]", "", "unknown-field", "nam"),
        ("commands: [{name: go, address: {mute: {}}}]", "", "wrong-address", "mute calls nothing"),
        ("commands: [{name: go, address: {nobody: {}}}]", "", "unknown-protocol", "nobody"),
        ("commands: [{name: go}]", "", "wrong-value", "needs `writes`, or the `address` of a call"),
        ("events: [{name: e, address: {mute: {}}}]", "", "wrong-address", "mute tells of no events"),
        (
            f"commands: [{GO}]",
            "commands: [{name: gone, address: {toy: {name: y}}}]",
            "unknown-name",
            "no call `gone`",
        ),
        ("", "events: [{name: e, address: {toy: {name: y}}}]", "unknown-name", "no event source `e`"),
    ],
)
def test_mistakes_are_said(model: str, device: str, code: str, says: str) -> None:
    found = [p for p in check(model, device).problems if p.code != "unknown-model"]  # which follows from it
    assert [(p.code, says in p.message) for p in found] == [(code, True)], found
    assert code in CODES


def test_what_is_right_has_no_problems() -> None:
    events = "events: [{name: e, severity: warning, address: {toy: {name: n}}}]"
    device = (
        "commands: [{name: go, address: {toy: {name: y}}}]\n  events: [{name: e, address: {toy: {name: z}}}]"
    )
    assert check(f"commands: [{GO}]\n  {events}", device).problems == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([{"name": "a", "type": "int8", "default": 300}], "does not fit int8"),
        ([{"name": "a", "type": "int8", "minimum": 2, "maximum": 1}], "minimum 2 is above maximum 1"),
        ([{"name": "a", "type": "string", "minimum": 2}], "can't have the limit"),
        ([{"name": "a", "type": "int8"}, {"name": "a", "type": "int8"}], "argument `a` is declared twice"),
    ],
)
def test_arguments_are_checked(arguments: list[dict[str, object]], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Command.model_validate({"name": "go", "address": {"toy": {}}, "arguments": arguments})
