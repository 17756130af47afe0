"""Texts inside records: what is UTF-8 and what is JSON, held against Python's own readers."""

from __future__ import annotations

import base64
import itertools
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from devicemesh._core import _native

STRING, BYTES, JSON = 0x17, 0x18, 0x19
HEADER = b"\x01" + bytes(12) + b"\x01" + bytes(8)


def payload(tag, data):
    """The value as it is published, or None where the record is refused."""
    rest, length = len(data), bytearray()
    while rest >= 0x80:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    try:
        text = _native.encode_json(HEADER + bytes([tag, 0, *length, rest]) + data, ["x"])
    except ValueError:
        return None
    return text.decode().partition('"values":{"x":')[2].removesuffix("}}]}")


def as_utf8(data):
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def test_what_is_utf8_and_what_is_not():
    second = [0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0]
    rest = [0x41, 0x7F, 0x80, 0xBF, 0xC0]
    for first in range(0xC0, 0x100):
        for tail in [(), *((a,) for a in second), *itertools.product(second, rest)]:
            check_utf8(bytes([first, *tail]))
    for first in range(0xE0, 0x100):
        for tail in itertools.product(second, rest, rest):
            check_utf8(bytes([first, *tail]))


def check_utf8(data):
    wanted = as_utf8(data)
    got = payload(STRING, data)
    assert (None if got is None else json.loads(got)) == wanted, data


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.binary(max_size=200) | st.text(max_size=60).map(lambda text: text.encode(errors="replace")))
def test_strings_are_escaped_as_json_escapes_them(data):
    wanted = as_utf8(data)
    assert payload(STRING, data) == (None if wanted is None else json.dumps(wanted, ensure_ascii=False))


def as_json(data):
    def refuse(word):
        raise ValueError(word)

    try:
        return repr(json.loads(data.decode(), parse_constant=refuse))
    except ValueError:
        return None


WORDS = ["true", "false", "null", "nul", "NaN"]
pieces = st.lists(
    st.sampled_from(
        [
            *'{}[],: \n\t"-+.e01\x1f\0é',
            '"a"',
            '"\\',
            "\\u12aF",
            "\\u12g4",
            "\\n",
            "\\x",
            "E5",
            "-0",
            "1.5",
            *WORDS,
        ]
    ),
    max_size=12,
).map(lambda parts: "".join(parts).encode())
structures = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)
written = st.builds(
    lambda value, indent: json.dumps(value, indent=indent).encode(), structures, st.sampled_from([None, 1])
)


@settings(derandomize=True, deadline=None, max_examples=1500)
@given(pieces | written.filter(lambda data: len(data) < 1 << 14))
@example(b"")
@example(b'"\xed\xa0\x80"')
@example(b"[1,]")
@example(b'{"a":1,}')
@example(b'{"a" : [ ] , "b":{ } }')
@example(b"1 2")
@example(b"-")
@example(b"[}")
def test_what_is_json_and_what_is_not(data):
    got = payload(JSON, data)
    assert (None if got is None else as_json(got.encode())) == as_json(data)


@pytest.mark.parametrize(("depth", "good"), [(512, True), (513, False)])
def test_json_is_nested_so_deep(depth, good):
    for opened, closed in ((b"[", b"]"), (b'{"":', b"}")):
        data = opened * depth + b"1" + closed * depth
        assert (payload(JSON, data) == data.decode()) is good


@pytest.mark.parametrize("length", range(6))
def test_bytes_are_base64(length):
    data = bytes(range(250, 250 + length))
    assert payload(BYTES, data) == f'"{base64.b64encode(data).decode()}"'


def test_a_text_has_a_limit():
    limit = 4 << 20
    assert payload(STRING, b"a" * limit) is not None
    assert payload(STRING, b"a" * (limit + 1)) is None
