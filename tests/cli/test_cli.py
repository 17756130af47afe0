"""What a person types, and what comes back: text, data and exit codes."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from devicemesh.cli.common import table
from devicemesh.cli.main import COMMANDS, app
from devicemesh.spec.codes import CODES
from devicemesh.store.base import Key
from devicemesh.store.database import Database
from devicemesh.testing.store import HEALTH, body

FACTORY = Path(__file__).parent.parent.parent / "examples/factory"
Invoke = Callable[..., Result]
PUMP = Key("Device", "default", "pump-1")


@pytest.fixture
def dm(tmp_path: Path) -> Invoke:
    """Run a command on a home of its own."""
    return lambda *words: CliRunner().invoke(
        app, ["--home", str(tmp_path / "home"), *words], prog_name="devicemesh"
    )


@pytest.fixture
def store(tmp_path: Path) -> Database:
    return Database(tmp_path / "home/store.db")


def test_apply_get_describe_delete(dm: Invoke) -> None:
    assert "device/pump-1 created" in dm("apply", "-f", str(FACTORY)).stdout
    assert "device/pump-1 unchanged" in dm("apply", "-f", str(FACTORY)).stdout
    listed = dm("get")
    assert listed.exit_code == 0
    assert re.search(r"^NAME +MODEL +PROTOCOL +READY +REASON +DESIRED +AGE$", listed.stdout, re.M)
    assert re.search(r"^pump-2 +centrifugal-pump +modbus +Unknown +NotRunning +- +-$", listed.stdout, re.M)
    assert (
        dm("get", "devices", "-l", "line=b", "-o", "name").stdout
        == "device/meter-2\ndevice/oven-1\ndevice/pump-3\n"
    )
    assert "centrifugal-pump" in dm("get", "models").stdout
    assert json.loads(dm("get", "device", "pump-1", "-o", "json").stdout)["metadata"]["labels"] == {
        "line": "a"
    }
    assert "modelRef" in dm("get", "device", "pump-1", "-o", "yaml").stdout
    assert "shares 192.0.2.5:502 with pump-2" in dm("describe", "pump-1").stdout
    both = dm("describe", "device", "pump-1", "pump-2").stdout
    assert both.count("Name:") == 2 and "\n\nName:      pump-2" in both
    assert [
        one["metadata"]["name"]
        for one in json.loads(dm("describe", "device", "pump-1", "pump-2", "-o", "json").stdout)
    ] == ["pump-1", "pump-2"]
    refused = dm("delete", "model", "oven")
    assert (refused.exit_code, "is used by oven-1" in refused.stderr) == (1, True)
    assert dm("delete", "device", "oven-1").stdout == "device/oven-1 deleted\n"
    assert dm("delete", "-f", str(FACTORY / "models.yaml")).exit_code == 1


def test_delete_of_all_that_files_declare(dm: Invoke) -> None:
    dm("apply", "-f", str(FACTORY))
    assert dm("delete", "-f", str(FACTORY)).exit_code == 0
    assert "No Devices" in dm("get").stderr


def test_a_listing_is_a_list_and_one_that_is_named_is_not(dm: Invoke, store: Database) -> None:
    store.apply([body("pump-1")])
    assert [one["metadata"]["name"] for one in json.loads(dm("get", "-o", "json").stdout)] == ["pump-1"]
    assert json.loads(dm("get", "device", "pump-1", "-o", "json").stdout)["metadata"]["name"] == "pump-1"
    assert json.loads(dm("get", "models", "-o", "json").stdout) == []


def test_devices_of_one_name_in_two_namespaces_are_told_apart(dm: Invoke, store: Database) -> None:
    other = body("pump-1")
    other["metadata"]["namespace"] = "site-2"
    store.apply([body("pump-1"), other])
    for words in (("get",), ("get", "device", "pump-1")):
        lines = dm(*words).stdout.splitlines()
        assert [line.split()[:2] for line in lines] == [
            ["NAMESPACE", "NAME"],
            ["default", "pump-1"],
            ["site-2", "pump-1"],
        ]
    assert dm("get", "-n", "site-2").stdout.splitlines()[1].startswith("pump-1 ")


def test_where_nothing_is_like_that_there_may_be_others(dm: Invoke, store: Database) -> None:
    store.apply([body("pump-1")])
    store.patch_status({PUMP: {"conditions": [HEALTH]}})
    for words in (("--not-ready",), ("-n", "site-9"), ("-l", "line=z"), ("models", "-l", "line=z")):
        found = dm("get", *words)
        assert (found.exit_code, found.stdout) == (0, "")
        assert found.stderr.splitlines()[0].endswith(" is like that.")


def test_the_caret_is_under_the_mistake_also_in_a_long_line(dm: Invoke, tmp_path: Path) -> None:
    notes = ", ".join(f"note-{i}: x" for i in range(90))
    file = tmp_path / "long.yaml"
    file.write_text(f"{{kind: DeviceModel, metadata: {{annotations: {{{notes}}}, nam: long}}}}\n")
    shown = dm("validate", "-f", str(file)).stdout.splitlines()
    at = next(number for number, text in enumerate(shown) if "`nam` is not a field" in text)
    place, line, caret = shown[at : at + 3]
    assert ":1:" in place
    assert len(line) < 220
    assert line[caret.index("^") :].startswith("nam: long")


def test_validate_makes_no_home(tmp_path: Path) -> None:
    home = tmp_path / "file/home"
    (tmp_path / "file").touch()  # nothing can be made there
    done = CliRunner().invoke(app, ["--home", str(home), "validate", "-f", str(FACTORY)])
    assert (done.exit_code, "no problems" in done.stderr) == (0, True)
    CliRunner().invoke(app, ["--home", str(tmp_path / "new"), "validate", "-f", str(FACTORY)])
    assert not (tmp_path / "new").exists()


def test_a_misspelt_name_deletes_nothing_of_the_others(dm: Invoke) -> None:
    dm("apply", "-f", str(FACTORY))
    refused = dm("delete", "device", "pump-1", "pump-9", "oven-1", "oven-9")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "there is no Device `pump-9`, `oven-9` in namespace default" in refused.stderr
    assert dm("delete", "device", "pump-1", "pump-1").stdout == "device/pump-1 deleted\n"
    both = dm("delete", "device", "pump-2", "-f", str(FACTORY))
    assert (both.exit_code, "say what to delete" in both.stderr) == (2, True)


def test_delete_of_files_goes_on_where_some_is_gone(dm: Invoke) -> None:
    dm("apply", "-f", str(FACTORY))
    dm("delete", "device", "meter-1")
    done = dm("delete", "-f", str(FACTORY))
    assert (done.exit_code, done.stderr) == (0, "device/meter-1 is not there\n")
    assert dm("get", "-o", "name").stdout == dm("get", "models", "-o", "name").stdout == ""


def test_a_wrong_manifest_changes_nothing_and_shows_everything(dm: Invoke, tmp_path: Path) -> None:
    text = (
        (FACTORY / "devices.yaml")
        .read_text()
        .replace("unit: 2}", "unti: 2}")
        .replace("value: 1500", "value: 9500")
    )
    (tmp_path / "x").mkdir()
    (tmp_path / "x/devices.yaml").write_text(text)
    (tmp_path / "x/models.yaml").write_text((FACTORY / "models.yaml").read_text())
    for command in ("apply", "validate"):
        found = dm(command, "-f", str(tmp_path / "x"))
        assert found.exit_code == 1
        lines = found.stdout.splitlines()
        assert re.match(
            rf"{re.escape(str(tmp_path))}/x/devices\.yaml:18:51: unknown-field `unti` is not a field",
            lines[0],
        )
        assert lines[1] == "18 │   endpoint: {modbus: {host: 192.0.2.5, port: 502, unti: 2}}"
        assert lines[2] == "   │ " + " " * 50 + "^^^^  did you mean `unit`?"
        assert "out-of-range 9500 is above speed's maximum of 3000 rpm" in found.stdout
        assert "2 problems in" in found.stderr
    assert "No Devices" in dm("get").stderr
    data = json.loads(dm("validate", "-f", str(tmp_path / "x"), "-o", "json").stdout)
    assert [p["code"] for p in data] == ["unknown-field", "out-of-range"]
    assert dm("validate", "-f", str(tmp_path / "x"), "-o", "github").stdout.startswith("::error file=")


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("type: float32                  #", "type: flaot32 #", "unknown-word"),
        ("offset: 100,", "offset: 70000,", "out-of-range"),
        ("{table: holding, offset: 110}", "{table: holding, offset: 101}", "overlap"),
        ("modbus: {table: discrete", "modbsu: {table: discrete", "unknown-protocol"),
        ("{table: discrete, offset: 0}", "{table: discreet, offset: 0}", "unknown-word"),
        ("{property: fault, value: 0}", "{property: flaut, value: 0}", "unknown-property"),
        ("unit: rpm", "unit: rmp", "wrong-value"),
        ("name: oven}", "name: energy-meter}", "duplicate-name"),
        ("length: 8}", "}", "wrong-address"),
        ("samplingInterval: 200ms", "samplingInterval: 200 ms", "wrong-value"),
    ],
)
def test_mistakes_in_the_factory(dm: Invoke, tmp_path: Path, old: str, new: str, code: str) -> None:
    text = (FACTORY / "models.yaml").read_text()
    assert old in text
    (tmp_path / "m.yaml").write_text(text.replace(old, new, 1))
    found = dm("validate", "-f", str(tmp_path / "m.yaml"), "-o", "json")
    problems = json.loads(found.stdout)
    assert code in [p["code"] for p in problems], problems
    assert found.exit_code == 1


def test_set_checks_before_it_writes(dm: Invoke, store: Database) -> None:
    dm("apply", "-f", str(FACTORY))
    for words, message in {
        ("speed=9000",): "9000 is above speed's maximum of 3000 rpm",
        ("sped=1",): "did you mean `speed`?",
        ("pressure=1",): "pressure is read-only",
        ("speed=fast",): "'fast' is not a number",
        ("speed=9000", "sped=1"): "did you mean `speed`?",
    }.items():
        found = dm("set", "pump-1", *words)
        assert (found.exit_code, message in found.stderr) == (1, True), found.stderr
        assert "Try:" in found.stderr
    assert store.get(PUMP).generation == 1
    assert dm("set", "pump-1", "speed").exit_code == 2
    assert dm("set", "nothing", "speed=1").exit_code == 1
    assert dm("set", "pump-1", "speed=1200").exit_code == 0
    assert store.get(PUMP).spec["desired"] == [{"name": "speed", "value": 1200}]
    assert dm("set", "pump-1", "speed=").exit_code == 0
    assert store.get(PUMP).spec["desired"] == []


def test_bytes_are_typed_in_hexadecimal(dm: Invoke, store: Database, tmp_path: Path) -> None:
    manifest = tmp_path / "key.yaml"
    manifest.write_text("""
apiVersion: devicemesh.io/v1alpha1
kind: DeviceModel
metadata: {name: lock}
spec:
  properties:
  - {name: key, type: bytes, access: ReadWrite, address: {modbus: {table: holding, offset: 0, length: 2}}}
---
apiVersion: devicemesh.io/v1alpha1
kind: Device
metadata: {name: lock-1}
spec: {modelRef: {name: lock}, endpoint: {modbus: {host: 192.0.2.7}}, desired: [{name: key, value: AP8=}]}
""")
    assert dm("apply", "-f", str(manifest)).exit_code == 0
    assert dm("set", "lock-1", "key=deadbeef").exit_code == 0
    assert store.get(Key("Device", "default", "lock-1")).spec["desired"] == [
        {"name": "key", "value": "3q2+7w=="}
    ]
    assert dm("set", "lock-1", "key=xyz").exit_code == 1


def test_set_wait_says_what_the_runtime_said(dm: Invoke, store: Database) -> None:
    dm("apply", "-f", str(FACTORY))
    nobody = dm("set", "pump-1", "speed=1200", "--wait", "--timeout", "0.2")
    assert (nobody.exit_code, "no runtime has looked at it" in nobody.stderr) == (3, True)

    def status(state: dict[str, object]) -> None:
        entry = {"name": "speed", "unit": "rpm", "reported": {"value": 1200.0}, "desired": state}
        ready = {"type": "Ready", "status": "True", "reason": "Polling", "message": ""}
        store.patch_status({PUMP: {"observedGeneration": 99, "conditions": [ready], "properties": [entry]}})

    status({"state": "applied"})
    done = dm("set", "pump-1", "speed=1200", "--wait")
    assert (done.exit_code, done.stdout.endswith("read back 1200 rpm\n")) == (0, True)
    status({"state": "refused", "reason": "Refused", "message": "illegal data value (exception 3)"})
    refused = dm("set", "pump-1", "speed=1200", "--wait")
    assert (refused.exit_code, "illegal data value (exception 3)" in refused.stderr) == (1, True)


def test_wrong_use_is_two_and_unreachable_is_three(dm: Invoke) -> None:
    assert dm("gett").exit_code == 2
    assert "Did you mean 'get'?" in dm("gett").stderr
    assert dm("get", "pumps").exit_code == 2
    assert dm("read", "modbsu://h", "holding:1").exit_code == 2
    assert dm("read", "modbus://127.0.0.1:1/1", "nowhere:1").exit_code == 2
    refused = dm("read", "modbus://127.0.0.1:1/1", "holding:1")
    assert (refused.exit_code, "Try:" in refused.stderr) == (3, True)
    assert dm("fault", "pump-1", "unplug").exit_code == 3
    assert dm("outbox").exit_code == 3
    assert dm("describe", "nothing").exit_code == 1


def test_every_command_has_help_that_agrees_with_the_list(dm: Invoke) -> None:
    listed = dm("--help").stdout
    for name in COMMANDS:
        assert re.search(rf"^  {name} ", listed, re.M)
        found = dm(name, "--help")
        assert found.exit_code == 0, name
        assert found.stdout.startswith(f"Usage: devicemesh {name}")


def test_explain_knows_fields_and_errors(dm: Invoke) -> None:
    for code in CODES:
        assert dm("explain", code).exit_code == 0
    assert "unit" in dm("explain", "device.spec.endpoint.modbus").stdout
    assert "samplingInterval" in dm("explain", "devicemodel.spec.properties.telemetry").stdout
    assert "max_bytes" in dm("explain", "settings.outbox").stdout
    near = dm("explain", "device.spec.endpiont")
    assert (near.exit_code, "did you mean `endpoint`?" in near.stderr) == (2, True)


def test_what_is_piped_in_is_applied(dm: Invoke, tmp_path: Path) -> None:
    """Into a container that has no file of ours; the mistakes have their places there, too."""

    def piped(content: bytes, *words: str) -> Result:
        command = ["--home", str(tmp_path / "home"), *words, "-f", "-"]
        return CliRunner().invoke(app, command, prog_name="devicemesh", input=content)

    whole = b"---\n".join(file.read_bytes() for file in sorted(FACTORY.glob("*.yaml")))
    assert "device/pump-1 created" in piped(whole, "apply").stdout
    wrong = piped(whole.replace(b"modelRef", b"modelRev"), "validate")
    assert (wrong.exit_code, "stdin:10:3:" in wrong.stdout) == (1, True), wrong.stdout
    assert "stdin:1:1: no-file can't be read" in piped(b"\xff", "validate").stdout


def test_crds_cover_the_installed_mappers(dm: Invoke) -> None:
    import yaml

    found = {d["spec"]["names"]["kind"]: d for d in yaml.safe_load_all(dm("crd").stdout)}
    schema = found["Device"]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    kept = Path(__file__).parent.parent.parent / "crds/devicemesh.io.yaml"
    assert kept.read_text() == dm("crd").stdout, "run: devicemesh crd > crds/devicemesh.io.yaml"
    modbus = schema["spec"]["properties"]["endpoint"]["properties"]["modbus"]
    assert {"host", "unit", "serial"} <= modbus["properties"].keys()
    assert "$ref" not in json.dumps(found)


def test_mappers_and_doctor_look_at_what_is_installed(dm: Invoke) -> None:
    found = {m["name"]: m for m in json.loads(dm("mappers", "-o", "json").stdout)}
    assert found["modbus"]["state"] == "ok"
    checks = {c["check"]: c["ok"] for c in json.loads(dm("doctor", "-o", "json").stdout)}
    assert checks["C core"]
    assert checks["store"]


def test_a_broken_store_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"not a database" * 99)
    found = subprocess.run(
        [sys.executable, "-m", "devicemesh", "--home", str(tmp_path), "get"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 3
    assert "Traceback" not in found.stderr
    assert "Try: devicemesh doctor" in found.stderr


def test_narrow_terminals_lose_columns_by_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    columns, rows = (("NAME", 0), ("MODEL", 3), ("WHY", 1)), [["pump-1", "centrifugal-pump", "Polling"]]
    monkeypatch.setenv("COLUMNS", "40")
    assert "MODEL" in table(columns, rows)
    monkeypatch.setenv("COLUMNS", "20")
    assert table(columns, rows) == "NAME     WHY\npump-1   Polling"
    monkeypatch.setenv("COLUMNS", "5")
    assert table(columns, rows).startswith("NAME")
    for unknown in ("", "0", "wide"):
        monkeypatch.setenv("COLUMNS", unknown)
        assert "MODEL" in table(columns, rows)


def test_a_console_that_does_not_know_its_width_shows_all(tmp_path: Path) -> None:
    Database(tmp_path / "store.db").apply([body()])
    ours, theirs = os.openpty()  # 0 columns, as a serial console has them
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    line = [sys.executable, "-m", "devicemesh", "--home", str(tmp_path), "get"]
    subprocess.run(line, stdout=theirs, stderr=subprocess.DEVNULL, env=environment, check=True, timeout=30)
    shown = os.read(ours, 4096)
    os.close(ours)
    os.close(theirs)
    assert b"MODEL" in shown


@pytest.mark.parametrize("words", [["get"], ["get", "-o", "yaml"], ["crd"]])
def test_a_reader_that_has_enough_is_no_problem(tmp_path: Path, words: list[str]) -> None:
    Database(tmp_path / "store.db").apply([body()])
    line = [sys.executable, "-m", "devicemesh", "--home", str(tmp_path), *words]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(line, stdout=writer, stderr=subprocess.PIPE, check=False, timeout=30)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_colour_is_never_forced_on_a_pipe(dm: Invoke) -> None:
    dm("apply", "-f", str(FACTORY))
    assert "\x1b" not in dm("get").output
