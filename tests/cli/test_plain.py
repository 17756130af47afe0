"""What comes from the field never steers a terminal."""

import json
import logging
import unicodedata
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from devicemesh.cli import wire
from devicemesh.cli.common import fail, table
from devicemesh.cli.main import app
from devicemesh.cli.plain import as_json, plain, plain_lines
from devicemesh.cli.run import PlainLines
from devicemesh.cli.show import value_text
from devicemesh.mapper import Found

HOSTILE = "pump\x1b]0;owned\x07\x1b[2J\x9b31m\u202ekcart\r\n\x7f\u2028"


def is_harmless(text: str) -> bool:
    """Whether it has nothing that a terminal obeys, but for our own line ends."""
    return all(one == "\n" or unicodedata.category(one) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for one in text)


@given(st.text())
def test_nothing_that_a_terminal_obeys(text: str) -> None:
    assert plain(text).isprintable() and is_harmless(plain_lines(text))
    assert plain(plain(text)) == plain(text)
    assert plain_lines(text).count("\n") == text.count("\n")


@given(
    st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_json_means_the_same(value: Any) -> None:
    assert json.loads(as_json(value)) == value and is_harmless(as_json(value))


@pytest.mark.parametrize("text", ["\ud800", "\u0600", "\u180e", "\U000e0001", "\x9b", "\u202e"])
@pytest.mark.parametrize("indent", [None, 2])
def test_json_of_what_is_rare(text: str, indent: int | None) -> None:
    """Half a character, which no terminal could be sent, and what only a few obey."""
    written = as_json({"said": text}, indent)
    assert written.isascii() and json.loads(written) == {"said": text}


def test_what_can_be_read_stays() -> None:
    assert plain("Pumpe Süd 3 m³/h 水泵 °C") == "Pumpe Süd 3 m³/h 水泵 °C"
    assert plain("12\u00a0345") == "12 345"
    assert as_json("Pumpe 水泵\u3000\u00a0°C") == '"Pumpe 水泵\u3000\u00a0°C"'
    assert plain("a\x1b[31mb\tc") == "a\\x1b[31mb\\tc"


@pytest.mark.parametrize("output", [None, "json", "yaml"])
def test_what_is_found(output: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    found = Found(HOSTILE, {HOSTILE: HOSTILE}, [(HOSTILE, HOSTILE)], f"# {HOSTILE}\n")
    wire._show(found, output)
    out = capsys.readouterr().out
    assert "owned" in out and is_harmless(out)
    if output == "json":
        assert json.loads(out)["identity"] == {HOSTILE: HOSTILE}


def test_tables_values_errors_and_logs(capsys: pytest.CaptureFixture[str]) -> None:
    assert is_harmless(table((("NAME", 0), ("MESSAGE", 0)), [(HOSTILE, HOSTILE)]))
    assert is_harmless(value_text(HOSTILE)) and is_harmless(value_text({"name": [HOSTILE]}))
    with pytest.raises(SystemExit):
        fail(HOSTILE, 1, HOSTILE)
    assert is_harmless(capsys.readouterr().err)
    record = logging.LogRecord("devicemesh", logging.WARNING, "", 0, "%s is Offline", (HOSTILE,), None)
    assert is_harmless(PlainLines("%(message)s").format(record))


def test_a_twin_that_says_so(tmp_path: Any) -> None:
    """Of a device whose serial number, and whose refusal, is an escape sequence."""
    from devicemesh.store.base import Key
    from devicemesh.store.database import Database

    declared = tmp_path / "all.yaml"
    declared.write_text(
        "apiVersion: devicemesh.io/v1alpha1\nkind: DeviceModel\nmetadata: {name: m}\nspec: {properties: ["
        "{name: serial, type: string, address: {modbus: {table: holding, offset: 0, length: 4}}}]}\n---\n"
        "apiVersion: devicemesh.io/v1alpha1\nkind: Device\nmetadata: {name: d}\n"
        "spec: {modelRef: {name: m}, endpoint: {modbus: {host: plc}}}\n"
    )
    home = ["--home", str(tmp_path / "home")]
    assert CliRunner().invoke(app, [*home, "apply", "-f", str(declared)]).exit_code == 0
    status = {
        "conditions": [{"type": "Ready", "status": "False", "reason": "Refused", "message": HOSTILE,
                        "lastTransitionTime": "2026-11-01T00:00:00.000Z"}],
        "properties": [{"name": "serial", "reported": {"value": HOSTILE, "quality": "Good"}}],
    }  # fmt: skip
    store = Database(tmp_path / "home" / "store.db")
    store.patch_status({Key("Device", "default", "d"): status})
    store.close()
    for words in (["describe", "d"], ["get", "devices", "-o", "wide"], ["get", "devices", "-o", "json"],
                  ["get", "devices", "-o", "yaml"], ["describe", "d", "-o", "yaml"]):  # fmt: skip
        told = CliRunner().invoke(app, [*home, *words])
        assert told.exit_code == 0 and "owned" in told.output and is_harmless(told.output), words
