"""Tables as JSON and as line protocol: held against Python's own writers and a reader of the protocol."""

from __future__ import annotations

import json
import math
import re
import sys
from array import array
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from devicemesh._core import _native

U8, U32, I64, U64, F64, TIME, TEXT, SERIES = range(8)
FORMATS = {U8: "B", U32: "I", I64: "q", U64: "Q", F64: "d", TIME: "q"}
RANGES = {
    U8: (0, 255),
    U32: (0, 2**32 - 1),
    I64: (-(2**63), 2**63 - 1),
    U64: (0, 2**64 - 1),
    TIME: (-1, 2**63 - 1),
}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
characters = st.characters(exclude_categories=["Cs"])
names = st.text(characters, min_size=1, max_size=12)
said = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(
    lambda text: not text.endswith("\\") and not text.startswith("#")
)


def values_of(kind, text):
    if kind == TEXT:
        return text
    return st.floats() if kind == F64 else st.integers(*RANGES[kind])


@st.composite
def tables(draw, text=names):
    """(columns for the core, rows as lists of plain values)."""
    rows = draw(st.integers(0, 5))
    columns, plain = [], []
    for name in draw(st.lists(text, min_size=1, max_size=6, unique=True)):
        kind = draw(st.sampled_from([*FORMATS, TEXT]))
        values = draw(st.lists(values_of(kind, text), min_size=rows, max_size=rows))
        columns.append((name, kind, tuple(values) if kind == TEXT else array(FORMATS[kind], values)))
        plain.append(values)
    return columns, rows, [list(row) for row in zip(*plain, strict=True)] if rows else []


def rfc3339(time_ns):
    seconds, within = divmod(time_ns, 10**9)
    text = (EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    return text + (f".{within:09d}".rstrip("0") if within else "") + "Z"


def as_json(value, kind):
    if kind == TIME:
        return None if value < 0 else rfc3339(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def dumps(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@settings(derandomize=True, deadline=None, max_examples=300)
@given(tables())
def test_objects_are_what_json_writes(table):
    columns, rows, plain = table
    wanted = "".join(
        dumps({name: as_json(value, kind) for (name, kind, _), value in zip(columns, row, strict=True)})
        + "\n"
        for row in plain
    )
    assert _native.encode_json_objects(columns, rows).decode() == wanted


@settings(derandomize=True, deadline=None, max_examples=300)
@given(tables())
def test_arrays_are_what_json_writes(table):
    columns, rows, plain = table
    kinds = [kind for _, kind, _ in columns]
    wanted = {
        "columns": [name for name, _, _ in columns],
        "rows": [[as_json(value, kind) for value, kind in zip(row, kinds, strict=True)] for row in plain],
    }
    assert _native.encode_json_arrays(columns, rows).decode() == dumps(wanted)


def read_line(line):
    """(measurement, tags, fields, stamp) of a line without quoted strings, by the protocol's documentation."""
    head, fields, stamp = re.split(r"(?<!\\) ", line)
    measurement, *tags = re.split(r"(?<!\\),", head)

    def pairs(parts):
        found = [re.split(r"(?<!\\)=", part) for part in parts]
        return {re.sub(r"\\([, =])", r"\1", key): re.sub(r"\\([, =])", r"\1", value) for key, value in found}

    return (
        re.sub(r"\\([, ])", r"\1", measurement),
        pairs(tags),
        pairs(re.split(r"(?<!\\),", fields)),
        int(stamp),
    )


def as_field(value, kind):
    if kind == F64:
        return repr(value)
    return f"{value}{'u' if kind == U64 else 'i'}"


# A backslash before a special character can't be told from an escape, by any reader: the protocol says so.
plainly_said = said.filter(lambda text: "\\" not in text)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(tables(plainly_said), plainly_said, st.lists(st.integers(0, 2**63 - 1), min_size=5, max_size=5))
def test_lines_read_back(table, measurement, stamps):
    columns, rows, plain = table
    columns = [("  ", TIME, array("q", stamps[:rows])), *columns]
    lines = iter(_native.encode_line(columns, rows, measurement, 0).decode().split("\n"))
    for row, stamp in zip(plain, stamps, strict=False):
        pairs = [(name, kind, value) for (name, kind, _), value in zip(columns[1:], row, strict=True)]
        fields = {
            name: as_field(value, kind)
            for name, kind, value in pairs
            if kind != TEXT and (kind != F64 or math.isfinite(value)) and (kind != TIME or value >= 0)
        }
        if fields:
            tags = {name: value for name, kind, value in pairs if kind == TEXT}
            assert read_line(next(lines)) == (measurement, tags, fields, stamp)
    assert list(lines) == [""]


def test_a_line_as_the_documentation_shows_it():
    columns = [
        ("mean", F64, array("d", [0.5, math.nan, math.inf])),
        ("start", TIME, array("q", [10**18, 10**18 + 1, 10**18 + 2])),
        ("series", SERIES, (array("I", [1, 0, 1]), ("hall/t=1", "pump 1,b"))),
        ("count", U32, array("I", [3, 0, 1])),
        ("total", U64, array("Q", [2**64 - 1, 0, 1])),
    ]
    assert _native.encode_line(columns, 3, "a=b, c", 1).decode().split("\n") == [
        r"a=b\,\ c,series=pump\ 1\,b mean=0.5,count=3i,total=18446744073709551615u 1000000000000000000",
        r"a=b\,\ c,series=hall/t\=1 count=0i,total=0u 1000000000000000001",
        r"a=b\,\ c,series=pump\ 1\,b count=1i,total=1u 1000000000000000002",
        "",
    ]
    assert _native.encode_line(columns[:3], 3, "w", 1).count(b"\n") == 1  # rows without a field are left out


@pytest.mark.parametrize("name", ["", "a\n", "\x00", "a\x7fb", "ends with \\"])
def test_what_line_protocol_cannot_say_is_refused(name):
    stamp, one = ("start", TIME, array("q", [1])), ("count", U8, b"\1")
    for columns, measurement in (
        ([stamp, one], name),
        ([stamp, (name, U8, b"\1")], "m"),
        ([stamp, one, ("series", TEXT, (name,))], "m"),
    ):
        with pytest.raises(ValueError, match="line protocol has no way"):
            _native.encode_line(columns, 1, measurement, 0)
    with pytest.raises(ValueError, match="line protocol has no way"):
        _native.encode_line([stamp, one], 1, "#" + name, 0)


@settings(derandomize=True, deadline=None, max_examples=500)
@given(st.floats(allow_nan=False, allow_infinity=False))
@example(5e-324)
@example(-0.0)
@example(1e16)
@example(123456789012345680.0)
def test_floats_come_back_as_they_were(value):
    text = _native.encode_json_objects([("x", F64, array("d", [value]))], 1)
    assert text == b'{"x":%s}\n' % repr(value).encode()


def test_many_rows_with_long_texts():
    rows = 3000
    texts = tuple("\x01" * (i % 300) for i in range(rows))
    columns = [("a", U8, bytes(rows)), ("text", TEXT, texts), ("b", F64, array("d", [1 / 3]) * rows)]
    lines = _native.encode_json_objects(columns, rows).decode().splitlines()
    assert [json.loads(line)["text"] for line in lines] == list(texts)


def test_no_rows_and_no_columns():
    assert _native.encode_json_objects([], 3) == b""
    assert _native.encode_json_arrays([], 3) == b'{"columns":[],"rows":[]}'
    assert _native.encode_json_arrays([("x", U8, b"")], 0) == b'{"columns":["x"],"rows":[]}'
    assert _native.encode_line([("t", TIME, array("q"))], 0, "m", 0) == b""


@pytest.mark.parametrize(
    ("columns", "rows", "error", "what"),
    [
        ([("x", F64, array("d", [1]))], 2, ValueError, "columns: 1 rows"),
        ([("x", F64, array("f", [1]))], 1, TypeError, "columns: a column of 'f'"),
        ([("x", TIME, array("d", [1]))], 1, TypeError, "columns: a column of 'd'"),
        ([("x", TEXT, ["a"])], 1, TypeError, "texts is a tuple"),
        ([("x", TEXT, ("a", "b"))], 1, ValueError, "columns: 2 texts"),
        ([("x", TEXT, (5,))], 1, TypeError, "a text is not a str"),
        ([("x", SERIES, (array("I", [1]), ("a",)))], 1, ValueError, "names: series 1 has none"),
        ([("x", SERIES, (array("I", [0]), ["a"]))], 1, TypeError, "a tuple of names"),
        ([("x", SERIES, (array("I", [0]), (5,)))], 1, TypeError, "names: a name is not a str"),
        ([("x", SERIES, (array("q", [0]), ("a",)))], 1, TypeError, "columns: a column of 'q'"),
        ([("x", 8, b"")], 0, ValueError, "no such type"),
        ([("x", -1, b"")], 0, ValueError, "no such type"),
        ([(5, U8, b"")], 0, TypeError, "a name is not a str"),
        ([("x", U8)], 0, TypeError, "a column is"),
        ([["x", U8, b""]], 0, TypeError, "a column is"),
        ([], -1, ValueError, "rows is negative"),
    ],
)
def test_columns_that_do_not_fit(columns, rows, error, what):
    for encode in (
        lambda: _native.encode_json_objects(columns, rows),
        lambda: _native.encode_json_arrays(columns, rows),
        lambda: _native.encode_line(columns, rows, "m", 0),
    ):
        with pytest.raises(error, match=what):
            encode()


@pytest.mark.parametrize("stamp", [0, 2, sys.maxsize])
def test_the_stamp_is_a_column_of_times(stamp):
    with pytest.raises(ValueError, match="stamp is not a column of times"):
        _native.encode_line([("x", I64, array("q", [1])), ("t", TIME, array("q", [1]))], 1, "m", stamp)
