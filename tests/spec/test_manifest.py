"""All mistakes at once, each at its place, each with its mend."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from devicemesh.spec.codes import CODES
from devicemesh.spec.manifest import Manifest, load, read_files
from devicemesh.spec.places import dump, parse

Check = Callable[[str], Manifest]

MODEL = """\
apiVersion: devicemesh.io/v1alpha1
kind: DeviceModel
metadata: {name: pump}
spec:
  properties:
  - {name: speed, type: float32, unit: rpm, access: ReadWrite, minimum: 0, maximum: 3000, address: {toy: {table: holding, offset: 100}}}
  - {name: level, type: uint16, address: {toy: {table: input, offset: 7}}}
---
"""
DEVICE = """\
apiVersion: devicemesh.io/v1alpha1
kind: Device
metadata: {name: pump-1}
spec:
  modelRef: {name: pump}
  endpoint: {toy: {host: h}}
"""


def codes(found: Manifest) -> list[tuple[int, int, str]]:
    return [(p.line, p.column, p.code) for p in found.problems]


def test_a_good_manifest_has_no_problems(check: Check) -> None:
    found = check(MODEL + DEVICE)
    assert found.problems == []
    assert [(r.kind, r.name) for r in found.resources] == [("DeviceModel", "pump"), ("Device", "pump-1")]


def test_every_mistake_is_found_at_once(check: Check) -> None:
    found = check("""\
apiVersion: devicemesh.io/v1alpha1
kind: DeviceModel
metadata: {name: pump}
spec:
  properties:
  - name: speed
    type: flaot32
    unit: rpn
    access: ReadWrite
    maximum: 3000
    address:
      toy: {table: holding, ofset: 100}
    telemetry: {samplingInterval: 100 millis}
---
apiVersion: devicemesh.io/v1alpha1
kind: Device
metadata: {name: pump-1}
spec:
  modelRef: {name: pomp}
  endpoint:
    toy:
      host: h
      port: 502
      port: 70000
  desired:
  - {name: sped, value: 4200}
  - {name: speed, value: 4200}
---
kind: Devise
""")
    assert codes(found) == [
        (7, 11, "unknown-word"),
        (8, 11, "wrong-value"),
        (12, 29, "unknown-field"),
        (13, 35, "wrong-value"),
        (19, 20, "unknown-model"),
        (24, 7, "duplicate-key"),
        (26, 12, "unknown-property"),
        (27, 26, "out-of-range"),
        (29, 7, "unknown-kind"),
    ]
    helps = {p.code: p.help for p in found.problems if "mean" in p.help}
    assert helps["unknown-word"] == "did you mean `float32`?"
    assert helps["unknown-field"] == "did you mean `offset`?"
    assert helps["unknown-model"] == "did you mean `pump`?"
    assert helps["unknown-property"] == "did you mean `speed`?"
    assert all(p.code in CODES for p in found.problems)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MODEL + MODEL.replace("---\n", "") + "---\n" + DEVICE, [(11, 18, "duplicate-name")]),
        (MODEL + DEVICE.replace("toy", "tov"), [(14, 14, "unknown-protocol")]),
        (MODEL + DEVICE.replace("host: h", "host: h, port: 70000"), [(14, 35, "out-of-range")]),
        (MODEL + DEVICE.replace("host: h", ""), [(14, 14, "missing-field")]),
        (MODEL + DEVICE.replace("pump-1", "Pump_1"), [(11, 18, "wrong-value")]),
        (MODEL + DEVICE + "  desired: [{name: level, value: 1}]\n", [(15, 20, "read-only")]),
        (MODEL + DEVICE + "  desired: [{name: speed, value: '1'}]\n", [(15, 34, "wrong-type")]),
        (MODEL + DEVICE + "  desired: [{name: speed, value: true}]\n", [(15, 34, "wrong-type")]),
        (MODEL + DEVICE + "  desired: [{name: speed, value: .nan}]\n", [(15, 34, "wrong-type")]),
        (MODEL.replace("offset: 7", "offset: 70000") + DEVICE, [(7, 71, "out-of-range")]),
        (MODEL.replace("type: uint16,", "type: uint16, access: ReadWrite,"), [(7, 67, "wrong-address")]),
        (MODEL.replace("table: input, offset: 7", "table: holding, offset: 100"), [(7, 48, "overlap")]),
        (MODEL.replace("name: level", "name: speed"), [(7, 12, "duplicate-name")]),
        (MODEL.replace(", address: {toy: {table: input, offset: 7}}", "") + DEVICE, [(13, 20, "no-address")]),
        (MODEL.replace("minimum: 0", "minimum: 9000"), [(6, 5, "wrong-value")]),
        (MODEL.replace("type: uint16", "type: uint16, simulation: {value: full}"), [(7, 5, "wrong-value")]),
        (
            MODEL + DEVICE + "  properties: [{name: level, simulation: {value: 70000}}]\n",
            [(15, 16, "wrong-value")],
        ),
        (
            MODEL.replace(
                "maximum: 3000", "maximum: 3000, alarms: [{name: a, above: 1}, {name: a, below: 0}]"
            ),
            [(6, 128, "duplicate-name")],
        ),
        (
            MODEL + DEVICE + "  properties: [{name: level, address: {toy: {table: input, offset: 9}}},\n"
            "    {name: level, telemetry: {report: every}}]\n",
            [(16, 12, "duplicate-name")],
        ),
        (
            MODEL + DEVICE + "  desired: [{name: speed, value: 1},\n    {name: speed, value: 2}]\n",
            [(16, 12, "duplicate-name")],
        ),
        (
            MODEL.replace("maximum: 3000", "maximum: 3000, alarms: [{name: a, above: .nan}]"),
            [(6, 117, "wrong-type")],
        ),
        (
            MODEL.replace("maximum: 3000", f"simulation: {{low: {10**400}, high: 1}}"),
            [(6, 88, "wrong-value")],
        ),
        (MODEL.replace("maximum: 3000", "telemetry: {deadband: .inf}"), [(6, 98, "wrong-type")]),
        (DEVICE, [(5, 20, "unknown-model")]),
        ("a: [1\n", [(2, 1, "yaml")]),
        ("- 1\n", [(1, 1, "wrong-type")]),
        ("x: 1\n", [(1, 1, "unknown-kind")]),
    ],
)
def test_one_mistake(check: Check, text: str, expected: list[tuple[int, int, str]]) -> None:
    assert codes(check(text)) == expected


def test_devices_that_share_a_link_must_agree_on_it(check: Check) -> None:
    second = DEVICE.replace("pump-1", "pump-2").replace("host: h", "host: h, baudrate: 19200")
    elsewhere = DEVICE.replace("pump-1", "pump-3").replace("host: h", "host: other, baudrate: 19200")
    found = check(f"{MODEL}{DEVICE}---\n{second}---\n{elsewhere}")
    assert codes(found) == [(21, 19, "link-conflict")]
    assert found.problems[0].message == (
        "pump-2 and pump-1 share h:502 but disagree: baudrate 19200 and 9600"
    )


def test_no_two_devices_are_the_same_one_of_those_who_dial_in(check: Check) -> None:
    first = DEVICE.replace("host: h", "host: h, caller: '86'")
    second, third = (first.replace("pump-1", f"pump-{n}") for n in (2, 3))
    other = first.replace("pump-1", "pump-1, namespace: other")
    elsewhere = third.replace("host: h", "host: there")
    found = check(f"{MODEL}{first}---\n{second}---\n{elsewhere}")
    assert codes(found) == [(21, 19, "link-conflict")]
    assert found.problems[0].message == "pump-2 and pump-1 are both the modem 86 at h:502"
    assert "link-conflict" in [code for *_, code in codes(check(f"{MODEL}{first}---\n{other}"))]


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("0.0.0.0", "10.0.0.1", True),
        ("10.0.0.1", "0.0.0.0", True),
        ("'::'", "10.0.0.1", True),
        ("'::'", "0.0.0.0", True),
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("'fd00::1'", "0.0.0.0", False),
    ],
)
def test_two_links_can_not_have_one_port(check: Check, one: str, other: str, meet: bool) -> None:
    first = DEVICE.replace("host: h", f"host: h, listensAt: {one}")
    second = DEVICE.replace("pump-1", "pump-2").replace("host: h", f"host: i, listensAt: {other}")
    third = second.replace("pump-2", "pump-3").replace("host: i", "host: i, port: 503")
    found = check(f"{MODEL}{first}---\n{second}---\n{third}")
    assert codes(found) == ([(21, 19, "link-conflict")] if meet else [])
    if meet:
        assert found.problems[0].message == "pump-2 and pump-1 need one port for two links: h:502 and i:502"


def test_a_syntax_error_hides_no_other_document(check: Check) -> None:
    found = check("metadata: {name: a\n---\n" + DEVICE)
    assert codes(found) == [(2, 1, "yaml"), (7, 20, "unknown-model")]


def test_yaml_words_stay_words(check: Check) -> None:
    labels = "{country: no, at: 12:30, on: on, octal: '010'}"
    found = check(MODEL + DEVICE.replace("{name: pump-1}", f"{{name: pump-1, labels: {labels}}}"))
    assert found.problems == []
    assert found.resources[1].body["metadata"]["labels"] == {
        "country": "no", "at": "12:30", "on": "on", "octal": "010",
    }  # fmt: skip


def test_an_alias_bomb_is_refused_quickly(check: Check) -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(8)
    )
    assert [p.code for p in check(bomb).problems] == ["too-deep"]


@pytest.mark.parametrize(
    "text", ["[" * 3000, "a: " * 500, "\x00", "\ufeff", "%YAML 9.9\n---\na: 1", "? [a]\n: 1"]
)
def test_nothing_crashes_it(check: Check, text: str) -> None:
    check(text)


def test_missing_files_are_problems_of_their_own(tmp_path) -> None:  # type: ignore[no-untyped-def]
    sources, problems = read_files([tmp_path / "nothing.yaml", tmp_path])
    assert sources == {}
    assert [p.code for p in problems] == ["no-file", "no-file"]
    assert load(sources, {}, lambda a, b: None).resources == []


def test_a_folder_that_goes_away_meanwhile_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", "sub")

    monkeypatch.setattr(Path, "rglob", gone)
    sources, problems = read_files([tmp_path])
    assert (sources, [p.code for p in problems]) == ({}, ["no-file"])


def test_text_that_looks_like_a_number_is_to_be_quoted(check: Check) -> None:
    found = check(MODEL + DEVICE.replace("pump-1", "0080e11500004218"))
    assert [(p.code, p.message, p.help) for p in found.problems] == [
        ("wrong-type", "`name` must be text, not inf", 'write "0080e11500004218"')
    ]


@given(st.one_of(st.text(), st.from_regex(r"[-+.0-9a-fxoeE_:]{1,16}", fullmatch=True)))
@example("0080e11500004218")
@example("0088")
@example("0o17")
def test_text_is_written_so_that_it_reads_back_as_text(text: str) -> None:
    (document,), problems = parse("x", dump([{"a": text, "b": [text]}]))
    assert (document.data, problems) == ({"a": text, "b": [text]}, [])
    assert yaml.safe_load(dump([text])) == text  # a reader of YAML 1.1
