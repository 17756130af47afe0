"""Whatever a configuration holds: resources that validate, or problems that are located; never a traceback."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import yaml
from hypothesis import given, settings

from devicemesh import plugins
from devicemesh.foreign import systems
from devicemesh.spec.manifest import load
from devicemesh.spec.places import dump

PROTOCOLS = plugins.load().protocols()
CASES = Path(__file__).parent / "cases"
DATA = {
    path.name: list(yaml.safe_load_all(path.read_text().replace("\t", " ")))
    for path in sorted(CASES.iterdir())
    if path.suffix in (".yaml", ".json") and ".out." not in path.name
}
TELEGRAF = (CASES / "telegraf.conf").read_text()
ODD = st.one_of(
    st.sampled_from(
        [None, "", " ", [], {}, [[]], [{}], [None], {"a": 1}, {1: 2}, True, 0, -1, 1, 2, 3, 4, 8, 16, 65535, 65536, 1 << 40, 1 << 70,
         0.5, -0.0, 1e300, float("inf"), float("nan"), "x", "0", "-1", "1.5", "1e400", "0x1F", "1" * 5000, "true", "int", "float64", "string",
         "json", "bits", "Int16", "Bool", "bytes", "5-9", "9-5", "1!40001", "1!400001.3", "1!400001#LL", "2!00001", "tcp://h", "tcp://h:99999",
         "opc.tcp://h:x", "file:///dev/ttyS0", "h:502", "ns=2;s=A", "i=1", "nsu=;s=", "${a}", "${ns=2;i=5}", "Root\\.Objects\\.A", "AB",
         "ABCD", "10.1", "10.99", "5s", "5", "-5s", "9999999h", "\N{EM SPACE}", "ä" * 300, "/", "RW", "ReadOnly", "INT", "register",
         "request", "metric", "modbus", "opcua"]
    ),
    st.text(max_size=8),
    st.integers(),
    st.floats(),
)  # fmt: skip


def paths(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inside:
        yield (*before, key)
        yield from paths(one, (*before, key))


@st.composite
def changed(draw: st.DrawFn, name: str) -> Any:
    """The documents of a case, of which some parts are gone, or something else, or there twice."""
    documents = copy.deepcopy(DATA[name])
    for _ in range(draw(st.integers(1, 5))):
        places = list(paths(documents))
        if not places:
            break
        *way, last = draw(st.sampled_from(places))
        within: Any = documents
        for key in way:
            within = within[key]
        match draw(st.sampled_from(["odd", "odd", "gone", "twice", "other"])):
            case "odd":
                within[last] = draw(ODD)
            case "gone":
                del within[last]
            case "twice" if isinstance(within, list):
                within.append(copy.deepcopy(within[last]))
            case _:
                other: Any = documents
                for key in draw(st.sampled_from(places)):
                    other = other[key]
                within[last] = copy.deepcopy(other)
    return documents


def held(text: str, name: str | None = None) -> None:
    found = systems.bring({"theirs": text}, PROTOCOLS, name, {2: "urn:plant"})
    if found is None:
        return
    lines = [*re.split("\r\n|[\n\r\x85\u2028\u2029]", text), ""]  # the YAML parser ends a text with a line
    for problem in found.said.problems:
        assert 1 <= problem.line <= len(lines), problem
        assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1, problem
        assert problem.message
    for line in found.said.lines():
        assert re.match(r"theirs:\d+: .", line)
    if not found.said.problems:
        made = dump(found.documents, 110)
        read = load({"out": made}, PROTOCOLS, lambda namespace, name: None)
        assert read.problems == [], made


@pytest.mark.parametrize("name", sorted(DATA))
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_any_documents(name: str, data: st.DataObject) -> None:
    documents = data.draw(changed(name))
    whose = data.draw(st.sampled_from([None, re.split(r"\W", name)[0]]))
    held(yaml.safe_dump_all(documents, allow_unicode=data.draw(st.booleans()), sort_keys=False), whose)
    for one in documents:
        try:
            text = json.dumps(one, indent=data.draw(st.sampled_from([None, 1, "\t"])), allow_nan=False)
        except ValueError:  # NaN is not JSON
            continue
        held(text, whose)


@pytest.mark.parametrize("name", sorted(DATA))
def test_documents_of_another(name: str) -> None:
    for whose in systems.SYSTEMS:
        held(yaml.safe_dump_all(DATA[name]), whose)


WORDS = st.sampled_from(
    ['""', "0", "-1", "70000", "99999999999999999999", "1e400", "nan", "true", "[]", "{}", "[1, 3]", "[0, 1, 2]", "[1, 2, 3, 4]", '"x"', "'tcp://h:99999'",
     '"tcp://"', '"udp://h"', '"ABCD"', '"BA"', '"FLOAT32"', '"INT8H"', '"STRING"', '"BIT"', '"UFIXED"', '"INT64"', "1979-05-27", "0.1",
     '"5s"', '"9999h"', '"ns=3;i=1"', '"\\u0000"', "''''", '"""a\n"""', "[[1], {a = 1}]", "# odd", '"request"', '"metric"', '"coil"', "'input'"]
)  # fmt: skip
VALUE = re.compile(r"(?<=[=])\s*(\"[^\"\n]*\"|[^,}\s]+)")


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_any_toml(data: st.DataObject) -> None:
    text = TELEGRAF
    for _ in range(data.draw(st.integers(1, 5))):
        found = data.draw(st.sampled_from(list(VALUE.finditer(text))))
        text = text[: found.start()] + data.draw(WORDS) + text[found.end() :]
    if data.draw(st.booleans()):
        lines = text.split("\n")
        del lines[data.draw(st.integers(0, len(lines) - 1))]
        text = "\n".join(lines)
    held(text)


@given(st.sampled_from(sorted(systems.SYSTEMS)), st.text(max_size=60))
@settings(deadline=None)
def test_any_text(name: str, text: str) -> None:
    held(text)
    held(text, name)
