"""The C core against its readable twin, over adversarial rows; and what must hold at every step."""

from __future__ import annotations

import json
import math
import struct
from array import array
from itertools import product
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from devicemesh._core import _native, pow10, reference, reference_decode, reference_record
from devicemesh.layout import Field, Layout, problem
from devicemesh.spec.values import ValueType

SECOND = 10**9
NOW = 1_795_235_285 * SECOND
NUMBERS = [type_ for type_ in ValueType if type_.is_number or type_ == ValueType.BOOL]
ALL = (1 << len(reference_record.STATISTICS)) - 1
NAMES = ["speed", 'a "name"', "µ", "\x01"]

examples = settings(derandomize=True, deadline=None, max_examples=400)

# ---- decoding ----

fields = st.builds(
    Field,
    offset=st.integers(0, 24),
    type=st.sampled_from(NUMBERS),
    byte_order=st.sampled_from(["big", "little"]),
    word_order=st.sampled_from(["big", "little"]),
    bit=st.none() | st.integers(0, 63),
    bits=st.none() | st.integers(1, 64),
    length=st.none() | st.sampled_from([1, 2, 4, 8]),
    scale=st.just(1.0) | st.floats(allow_nan=False, allow_infinity=False).filter(bool),
    add=st.just(0.0) | st.floats(allow_nan=False, allow_infinity=False),
    enum=st.none() | st.just({0: "off", 1: "on"}),
    null=st.none() | st.sampled_from([0, 1, -1, 255, 0x8000, 0xFFFF, -(2**31), 2**64 - 1]),
).filter(lambda field: problem(field) is None)


@settings(examples, max_examples=400)
@given(
    st.lists(fields, min_size=1, max_size=12),
    st.binary(max_size=32)
    | st.lists(st.sampled_from([b"\0\0", b"\xff\xff", b"\x80\0", b"\0\x01"]), max_size=16).map(b"".join),
)
def test_decoding(declared, record):
    rows = {}
    for batch in Layout(declared, range(len(declared))).decode(record, 0):
        for row, slot in enumerate(batch.slot):
            assert slot not in rows
            quality = batch.quality if isinstance(batch.quality, int) else batch.quality[row]
            rows[slot] = (batch.value[row], quality)
    assert len(rows) == len(declared)
    for slot, (value, quality) in enumerate(reference_decode.decode(declared, record)):
        got, got_quality = rows[slot]
        if quality:
            assert got_quality == quality
        elif (words := declared[slot].enum) is not None:
            assert (got, got_quality) == ((words[value], 0) if value in words else (value, 0x41))
        else:
            assert got_quality == 0
            assert got == value or (math.isnan(got) and math.isnan(value))


# ---- aggregation ----

times = (
    st.integers(-30, 30).map(lambda n: NOW + n * SECOND // 2)
    | st.integers(-12, 12).map(lambda n: n * SECOND // 4)  # about the epoch, before it too
    | st.integers(-3, 3).map(lambda n: NOW + n * 3600 * SECOND)
    | st.sampled_from([reference.TIME_LIMIT, -reference.TIME_LIMIT]).flatmap(
        lambda limit: st.integers(limit - 2, limit + 2)
    )
    | st.sampled_from([-(1 << 63), (1 << 63) - 1])
)
qualities = st.sampled_from([0] * 6 + [0x01, 0x40, 0x41, 0x80, 0x80, 0x82, 0x85, 0xC1, 0xFF])
floats = (
    st.floats()
    | st.integers(-3, 3).map(float)
    | st.sampled_from([0.1, 2.0**53, 1e17, 2.0**63, 1e300, 5e-324])
)
integers = (
    st.integers(-3, 3)
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.sampled_from([1 << 53, (1 << 53) + 1, -(1 << 53), -(1 << 53) - 1])
)
texts = st.sampled_from(
    [(5, b"on"), (5, b""), (5, "µ".encode()), (5, b"\xff"), (6, b"\xff\0"), (7, b'{"a":[1.5]}'), (7, b"{")]
)
slots = st.integers(0, 4)  # 4 is never defined
limits = st.lists(
    st.tuples(
        st.booleans(),
        st.sampled_from([0.0, 1.0, 2.5]),
        st.sampled_from([0.0, 1.0]),
        st.sampled_from([0, 0, 1, SECOND, 3600 * SECOND]),
        st.integers(-1, 1),
    ),
    max_size=2,
)
spans = st.sampled_from([0, 1, SECOND // 3, SECOND, 5 * SECOND, 366 * 86400 * SECOND])
rules = st.tuples(
    st.integers(0, 4),  # kind
    st.sampled_from([0, 1, 2, 2, 3, 3, 3]),  # report
    st.integers(0, ALL) | st.integers(0, 63),  # mask
    st.lists(st.sampled_from([0, 50_000, 95_000, 99_900, 99_999]), max_size=3, unique=True) | st.just([]),
    st.sampled_from([0.0, 0.5, 1e300]),
    st.sampled_from([0.0, 0.1, 1.0]),
    spans,  # heartbeat
    spans,  # pause
    spans.filter(bool),  # window
    spans,  # lateness
    limits,
)


@st.composite
def batches(draw):
    rows = draw(st.integers(1, 8))
    column = {"min_size": rows, "max_size": rows}
    values = draw(st.lists(floats, **column) | st.lists(integers, **column))
    return (
        "push",
        array("I", draw(st.lists(slots, **column))),
        draw(times | st.lists(times, **column).map(lambda each: array("q", each))),
        array("d" if isinstance(values[0], float) else "q", values),
        draw(qualities | st.lists(qualities, **column).map(lambda each: array("B", each))),
    )


operations = st.lists(
    batches()
    | st.tuples(st.just("define"), st.integers(0, 3), st.integers(0, 1), rules)
    | st.tuples(st.just("text"), slots, times, qualities, texts)
    | st.tuples(st.just("advance"), times)
    | st.tuples(st.just("remove"), slots)
    | st.sampled_from([("take",), ("flush",), ("settle",)]),
    max_size=40,
)


class Pair:
    """Both cores, driven alike and compared after every step."""

    def __init__(self, max_pending_bytes):
        self.both = [core.Aggregator(7, max_pending_bytes) for core in (_native, reference)]
        self.windows = set()
        self.next_seq = {}
        self.samples = 0

    def call(self, name, *arguments):
        native, twin = [getattr(core, name)(*arguments) for core in self.both]
        assert repr(native) == repr(twin)  # NaN is equal to itself here
        self.check()
        return native

    def check(self):
        for name in ("counts", "alarms"):
            native, twin = [getattr(core, name)() for core in self.both]
            assert repr(native) == repr(twin)
        read, taken, pending, dropped, qualities = self.both[0].counts()
        assert read == taken + pending + sum(dropped) == sum(qualities.values())
        assert self.both[0].pending_bytes == self.both[1].pending_bytes
        assert taken == self.samples
        for stream, index in product(range(3), range(len(NAMES) + 1)):
            native, twin = [core.slot_at(stream, index) for core in self.both]
            assert native == twin
        for slot in self.both[1].series:
            native, twin = [core.latest(slot) for core in self.both]
            assert repr(native) == repr(twin)

    def run(self, operation):
        match operation:
            case ["define", slot, stream, rules]:
                self.call("define", slot, stream, slot % len(NAMES), *rules)
            case ["text", slot, time, quality, [tag, data]]:
                self.call("row", slot, time, quality, tag, data, math.nan)
                self.call("settle")
            case ["take"]:
                self.take()
            case [name, *arguments]:
                self.call(name, *arguments)

    def take(self):
        native, twin = [core.take() for core in self.both]
        assert native == twin
        for stream, seq, samples, body in native:
            assert seq == self.next_seq.get(stream, 0)
            self.next_seq[stream] = seq + 1
            text = _native.encode_json(body, NAMES)
            assert text == reference_record.encode_json(body, NAMES)
            payload = json.loads(text)
            assert (payload["epoch"], payload["seq"]) == (7, seq)
            rows = sum(len(row["values"]) for row in payload.get("rows", ()))
            windows = payload.get("windows", ())
            assert rows + sum(window["count"] for window in windows) == samples
            for window in windows:
                key = (stream, window["name"], window["start"], window["end"])
                assert key not in self.windows
                self.windows.add(key)
            self.samples += samples
        self.check()


QUANTILES = [[], [50_000], [95_000, 99_900], []]
DEFINED = [
    ("define", slot, slot % 2, (slot, 3, ALL, QUANTILES[slot], 0.0, 0.0, 0, 0, SECOND, SECOND, []))
    for slot in range(4)
]


@settings(examples, max_examples=800)
@given(operations, st.sampled_from([0, 300, 2000, 1 << 20]), st.booleans())
@example([("push", array("I", [0, 2]), NOW, array("d", [1.0, 2.0]), 0), ("flush",)], 0, True)
def test_aggregation(steps, max_pending_bytes, defined):
    pair = Pair(max_pending_bytes)
    for step in [*DEFINED[: 4 * defined], *steps, ("take",), ("flush",), ("take",)]:
        pair.run(step)
    assert pair.both[0].counts()[2] == 0
    assert pair.both[0].pending_bytes == 0


@examples
@given(st.lists(st.tuples(st.floats(-5, 5), st.integers(0, 40)), min_size=1, max_size=200), st.data())
def test_windows_of_a_plain_stream(rows, data):
    """Rows in order, a few of them late: every row is in its window or counted as late."""
    pair = Pair(1 << 20)
    pair.run(("define", 0, 0, (0, 3, ALL, [50_000, 95_000], 0.0, 0.0, 0, 0, SECOND, SECOND // 2, [])))
    time = NOW
    for value, step in rows:
        time += step * SECOND // 100
        late = data.draw(st.sampled_from([0, 0, 0, SECOND, 3 * SECOND]))
        pair.run(("push", array("I", [0]), time - late, array("d", [value]), 0))
        if step == 40:
            pair.run(("take",))
    pair.run(("flush",))
    pair.run(("take",))


# ---- numbers and records ----


def written(value, kind=0):
    """A float as it is printed, by way of a record."""
    core = _native.Aggregator(0, 1 << 20)
    core.define(0, 0, 0, kind, 1, 0, [], 0.0, 0.0, 0, 0, 0, 0, [])
    core.push(array("I", [0]), 0, array("d", [value]), 0)
    text = _native.encode_json(core.take()[0][3], ["x"]).decode()
    return text.partition('{"x":')[2].partition("}")[0]


@settings(derandomize=True, deadline=None, max_examples=3000)
@given(st.floats(allow_nan=False, allow_infinity=False))
@example(5e-324)
@example(2.2250738585072011e-308)
@example(1.7976931348623157e308)
@example(-0.0)
@example(1e16)
@example(9007199254740993.0)
@example(1e-5)
@example(1e23)
@example(5.0)
def test_floats_print_as_repr(value):
    assert written(value) == repr(value)


def test_every_power_of_two_and_ten_prints_as_repr():
    powers = [math.ldexp(1, exponent) for exponent in range(-1074, 1024)]
    tens = [float(f"{digit}e{exponent}") for digit in (1, 3, 9) for exponent in range(-323, 308)]
    beside = [math.nextafter(power, way) for power in powers for way in (0, math.inf) if power < 2.0**1023]
    for value in powers + tens + beside:
        assert written(value) == repr(value)


@settings(derandomize=True, deadline=None, max_examples=1500)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
@example(0.1)
@example(2.0**-149)
@example(2.0**-126)
@example(3.4028234663852886e38)
@example(16777216.0)
@example(1.1754942106924411e-38)
def test_float32_prints_its_own_shortest_digits(value):
    (value,) = struct.unpack("<f", struct.pack("<f", value))
    text = written(value, kind=4)
    assert text == repr(reference_record.shortest_float32(value))
    assert struct.pack("<f", float(text)) == struct.pack("<f", value)


def test_every_power_of_two_as_float32():
    for exponent in range(-149, 128):
        text = written(2.0**exponent, kind=4)
        assert text == repr(reference_record.shortest_float32(2.0**exponent))


def test_the_table_of_powers_is_what_its_script_writes():
    committed = Path(__file__).parents[2] / "devicemesh/_core/pow10.h"
    assert committed.read_text(encoding="ascii") == pow10.header()


@settings(derandomize=True, deadline=None, max_examples=1000)
@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_times(time_ns):
    core = _native.Aggregator(0, 1 << 20)
    core.define(0, 0, 0, 0, 1, 0, [], 0.0, 0.0, 0, 0, 0, 0, [])
    core.push(array("I", [0]), time_ns, array("d", [1]), 0)
    payload = json.loads(_native.encode_json(core.take()[0][3], ["x"]))
    assert payload["rows"][0]["time"] == reference_record.timestamp(time_ns)


def outcome(encode, body):
    try:
        return json.loads(encode(body, NAMES), parse_constant=pytest.fail)
    except (ValueError, IndexError):
        return None


HEADER = reference_record.header(1, 2)
pieces = st.lists(
    st.binary(max_size=6)
    | st.sampled_from([reference_record.row(NOW), b"\x10\0", b"\x91\x01\x80" + bytes(8), b"\x17\x02\x01a"])
    | st.builds(lambda tag, rest: bytes([tag]) + rest, st.integers(0, 0x1F), st.binary(max_size=12))
    | st.builds(
        lambda n, head: b"\x02\x01\x01\x3f" + head + bytes(n), st.integers(0, 60), st.binary(max_size=11)
    ),
    max_size=6,
)


@settings(derandomize=True, deadline=None, max_examples=1500)
@given(pieces.map(b"".join))
def test_garbage_is_json_or_a_value_error(rest):
    got = outcome(_native.encode_json, HEADER + rest)
    assert got == outcome(reference_record.encode_json, HEADER + rest)


@examples
@given(operations, st.data())
def test_a_damaged_record_is_json_or_a_value_error(steps, data):
    core = _native.Aggregator(1, 1 << 20)
    for slot in range(4):
        core.define(slot, 0, slot, slot, 1 + slot % 3, ALL, [50_000], 0.0, 0.0, 0, 0, SECOND, 0, [])
    for step in steps:
        if step[0] == "push":
            core.push(*step[1:])
        elif step[0] == "text":
            core.row(step[1], step[2], step[3], *step[4], math.nan)
    core.flush()
    records = core.take()
    assume(records)
    body = bytearray(records[0][3])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(body)))
    for damaged in (bytes(body), bytes(body[:end])):
        assert outcome(_native.encode_json, damaged) == outcome(reference_record.encode_json, damaged)
