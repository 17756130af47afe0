"""Encoders: what columns mean, and how others join."""

from __future__ import annotations

import json
from array import array

import pytest

from devicemesh import encode as module
from devicemesh.encode import JsonArrays, Line, encode, encoder, register

NAMES = ("pump/speed", "pump/flow")


@pytest.fixture
def table():
    return {
        "series": array("I", [1, 0]),
        "start": array("q", [10**18, 10**18 + 10**9]),
        "count": array("I", [3, 4]),
        "bad": bytes([0, 1]),
        "max_time": array("q", [10**18 + 5, 10**18 + 6]),
        "total": array("Q", [1, 2**64 - 1]),
        "delta": array("q", [-1, 2]),
        "mean": array("d", [0.5, float("nan")]),
        "status": ("Good", "Bad"),
    }


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(module, "_encoders", dict(module._encoders))


def test_json_has_an_object_a_row(table):
    first, second = map(json.loads, encode(table, NAMES, "json").splitlines())
    assert first == {
        "series": "pump/flow",
        "start": "2001-09-09T01:46:40Z",
        "count": 3,
        "bad": 0,
        "max_time": "2001-09-09T01:46:40.000000005Z",
        "total": 1,
        "delta": -1,
        "mean": 0.5,
        "status": "Good",
    }
    assert (second["series"], second["mean"], second["total"]) == ("pump/speed", None, 2**64 - 1)


def test_arrays_say_the_same(table):
    arrays = json.loads(encode(table, NAMES, JsonArrays()))
    objects = [json.loads(line) for line in encode(table, NAMES, "json").splitlines()]
    assert [dict(zip(arrays["columns"], row, strict=True)) for row in arrays["rows"]] == objects


def test_lines_have_tags_fields_and_a_stamp(table):
    assert encode(table, NAMES, Line("flow")).decode().splitlines()[0] == (
        "flow,series=pump/flow,status=Good count=3i,bad=0i,max_time=1000000000000000005i,total=1u,delta=-1i,mean=0.5"
        " 1000000000000000000"
    )
    assert encode(table, NAMES, Line("flow", stamp="max_time")).startswith(
        b"flow,series=pump/flow,status=Good start="
    )
    assert encode(table, NAMES, "line").startswith(b"window,")


@pytest.mark.parametrize("stamp", ["end", "count"])
def test_a_line_needs_its_stamp(table, stamp):
    with pytest.raises(ValueError, match=f"no column of times named {stamp}"):
        encode(table, NAMES, Line("flow", stamp))


def test_columns_must_fit(table):
    with pytest.raises(ValueError, match="columns: 1 rows, not 2 as in the other columns"):
        encode({**table, "mean": array("d", [1])}, NAMES, "json")
    with pytest.raises(TypeError, match="mean is of 'f'"):
        encode({**table, "mean": array("f", [1, 2])}, NAMES, "json")
    with pytest.raises(TypeError, match="mean is of 'd'"):
        encode({**table, "mean": memoryview(bytes(16)).cast("d", (2, 1))}, NAMES, "json")
    with pytest.raises(ValueError, match="names: series 1 has none"):
        encode(table, NAMES[:1], "json")


def test_names_may_be_a_list(table):
    assert encode(table, list(NAMES), "json") == encode(table, NAMES, "json")


def test_an_empty_table():
    assert encode({}, (), "json") == b""
    assert encode({"start": array("q")}, (), "line") == b""


@pytest.mark.usefixtures("registry")
def test_others_may_join(table):
    class Csv:
        def encode(self, columns, names):
            return ",".join(columns).encode()

    with pytest.raises(ValueError, match="no encoder is named csv; there are json, json-arrays, line"):
        encoder("csv")
    joined = Csv()
    register("csv", joined)
    register("csv", joined)
    assert encode(table, NAMES, "csv").startswith(b"series,start")
    with pytest.raises(ValueError, match="named csv already"):
        register("csv", Csv())
