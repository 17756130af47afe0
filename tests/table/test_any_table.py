"""Whatever a table holds: a model that validates, or problems that are located; never a traceback."""

import io
from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings

from devicemesh import plugins
from devicemesh.spec.manifest import load
from devicemesh.spec.places import dump
from devicemesh.spec.rows import Tabular
from devicemesh.table import columns, compose, reading

PLUGINS = plugins.load()
HEADERS = st.sampled_from(
    ["Name", "Tag", "Register", "Address (hex)", "Data Type", "Type", "FC", "Table", "Unit", "Factor", "Scaling", "Divisor", "Raw Low",
     "Raw High", "Scaled Low", "Scan Rate", "Interval (s)", "Scaled High",
     "Offset", "R/W", "Min", "Max", "Bit", "Byte order", "Word Order", "Length", "Description", "NodeId", "path",
     "deadbandPercent", "mode", "base", "?", ""]
)  # fmt: skip
CELLS = st.one_of(
    st.sampled_from(
        ["speed", "40001", "30002", "1", "0", "65536", "0x10", "1Fh", "40001.3", "40001-40002", "4x0007", "holding:3",
         "int", "FLOAT32", "string(8)", "BOOL", "UINT64", "3", "03/16", "coil", "Input Register", "rpm", "Volts", "C",
         "0,1", "1e999", "1/0", "-1", "Linear", "0", "100", "4", "20", "R/W", "ABCD", "little", "ns=2;s=A", "/a#/b", "i=1", "-", "", "", "NaN", "1e-400"]
    ),
    st.text(max_size=12),
    st.integers().map(str),
    st.floats().map(str),
)  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> str:
    header = draw(st.lists(HEADERS, min_size=1, max_size=8))
    rows = draw(st.lists(st.lists(CELLS, max_size=9), max_size=6))
    delimiter = draw(st.sampled_from(",;\t"))
    out = io.StringIO()
    for row in (header, *rows):
        quoted = (f'"{c.replace(chr(34), chr(34) * 2)}"' if draw(st.booleans()) else c for c in row)
        out.write(delimiter.join(quoted) + draw(st.sampled_from(["\n", "\r\n", "\n\n"])))
    return out.getvalue()


def held(mapper: Any, data: bytes) -> None:
    own = mapper.columns if isinstance(mapper, Tabular) else {}
    known = columns.known(mapper.protocol, mapper.address_type, own)
    try:
        text, _ = reading.decode("t.csv", data)
        table = reading.find("t.csv", text, known.look)
    except reading.TableError as error:
        assert error.problem.line >= 1
        return
    found = compose.compose(table, mapper, known, "model", {})
    lines = text.split("\n")
    for problem in found.problems:
        assert 1 <= problem.line <= len(lines)
        assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1
        assert problem.message
    if not found.problems:
        again = load({"m": dump([found.model], 110)}, PLUGINS.protocols(), lambda namespace, name: None)
        assert again.problems == []
        assert len(again.resources[0].body["spec"]["properties"]) == len(found.model["spec"]["properties"])


@settings(max_examples=300, deadline=None)
@given(tables(), st.sampled_from(sorted(PLUGINS.mappers)))
def test_a_table_of_likely_words(text: str, protocol: str) -> None:
    held(PLUGINS.mappers[protocol], text.encode("utf-8", "surrogatepass"))


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(max_size=200).map(lambda t: f"name,address\n{t}".encode("utf-8", "replace")),
    )
)
def test_any_bytes(data: bytes) -> None:
    held(PLUGINS.mappers["modbus"], data)
