"""Layouts: every type in every order, bit fields, texts, records that are too short, and the way back."""

from __future__ import annotations

import math
import struct

import pytest

from devicemesh.layout import Field, Layout, encode, nearest, problem
from devicemesh.mapper import Quality
from devicemesh.spec.values import ValueType

BIG = bytes.fromhex("0123456789abcdef")


def decode(field: Field, record: bytes) -> tuple[object, int]:
    (batch,) = Layout([field], [7]).decode(record, 5)
    assert list(batch.slot) == [7]
    assert batch.time_ns == 5
    quality = batch.quality if isinstance(batch.quality, int) else batch.quality[0]
    return batch.value[0], quality


def value(field: Field, record: bytes) -> object:
    got, quality = decode(field, record)
    assert quality == Quality.GOOD
    return got


@pytest.mark.parametrize(
    ("byte_order", "word_order", "record"),
    [
        ("big", "big", "44960000"),  # ABCD
        ("big", "little", "00004496"),  # CDAB
        ("little", "big", "96440000"),  # BADC
        ("little", "little", "00009644"),  # DCBA
    ],
)
def test_the_four_orders_of_32_bits(byte_order, word_order, record):
    field = Field(0, ValueType.FLOAT32, byte_order, word_order)
    assert value(field, bytes.fromhex(record)) == 1200.0
    assert encode(field, 1200.0) == bytes.fromhex(record)


@pytest.mark.parametrize(
    ("byte_order", "word_order", "record"),
    [
        ("big", "big", "0123456789abcdef"),
        ("big", "little", "cdef89ab45670123"),
        ("little", "big", "23016745ab89efcd"),
        ("little", "little", "efcdab8967452301"),
    ],
)
def test_the_four_orders_of_64_bits(byte_order, word_order, record):
    field = Field(0, ValueType.UINT64, byte_order, word_order)
    assert value(field, bytes.fromhex(record)) == 0x0123456789ABCDEF
    assert encode(field, 0x0123456789ABCDEF) == bytes.fromhex(record)


@pytest.mark.parametrize("word_order", ["big", "little"])
def test_one_word_has_no_word_order(word_order):
    assert value(Field(0, ValueType.UINT16, "big", word_order), b"\x01\x02") == 0x0102
    assert value(Field(0, ValueType.UINT16, "little", word_order), b"\x01\x02") == 0x0201


def test_integers_up_to_32_bits_are_floats_and_wider_ones_are_integers():
    fields = [Field(0, ValueType.INT16), Field(0, ValueType.UINT32), Field(0, ValueType.INT64)]
    floats, integers = Layout(fields, [1, 2, 3]).decode(b"\xff" * 8, 0)
    assert (floats.value.typecode, list(floats.value)) == ("d", [-1.0, 4294967295.0])
    assert (integers.value.typecode, list(integers.value)) == ("q", [-1])
    assert (list(floats.slot), list(integers.slot)) == ([1, 2], [3])


def test_an_unsigned_value_beyond_int64_is_an_object_and_its_neighbour_is_not_harmed():
    fields = [Field(0, ValueType.UINT64), Field(8, ValueType.UINT64), Field(0, ValueType.UINT64)]
    integers, objects = Layout(fields, [1, 2, 3]).decode(b"\xff" * 8 + bytes(8), 9)
    assert (list(integers.slot), list(integers.value), integers.quality) == ([2], [0], 0)
    assert (list(objects.slot), list(objects.value)) == ([1, 3], [2**64 - 1] * 2)
    only = Layout([Field(0, ValueType.UINT64)], [1]).decode(b"\xff" * 8, 9)
    assert [list(batch.value) for batch in only] == [[2**64 - 1]]


def test_scale_makes_a_float_even_of_64_bits():
    assert value(Field(0, ValueType.UINT64, scale=0.5, add=-1.0), b"\xff" * 8) == float(2**64 - 1) * 0.5 - 1.0
    assert value(Field(0, ValueType.INT16, scale=0.1), struct.pack(">h", 1198)) == 1198 * 0.1


@pytest.mark.parametrize("bit", range(16))
def test_bit_of_a_register_and_of_a_packed_block(bit):
    register = (1 << bit).to_bytes(2, "big")
    packed = (1 << bit).to_bytes(2, "little")
    for other in range(16):
        wanted = float(bit == other)
        assert value(Field(0, ValueType.BOOL, bit=other, length=2), register) == wanted
        assert value(Field(0, ValueType.BOOL, "little", bit=other, length=2), packed) == wanted
        assert value(Field(other // 8, ValueType.BOOL, bit=other % 8), packed) == wanted


def test_a_bool_without_bit_is_any_bit():
    assert value(Field(1, ValueType.BOOL), b"\0\x10") == 1.0
    assert value(Field(0, ValueType.BOOL), b"\0\x10") == 0.0
    assert value(Field(0, ValueType.BOOL, length=2), b"\0\x10") == 1.0


def test_bit_fields():
    assert value(Field(0, ValueType.UINT16, bit=4, bits=8), b"\x0a\xb0") == 0xAB
    assert value(Field(0, ValueType.INT16, bit=4, bits=8), b"\x0a\xb0") == 0xAB - 256
    assert value(Field(0, ValueType.INT16, bit=15), b"\x80\x00") == 1
    assert value(Field(0, ValueType.UINT64, bit=0, bits=64), BIG) == 0x0123456789ABCDEF
    assert value(Field(0, ValueType.UINT64, bit=8, bits=40), BIG) == 0x0123456789ABCDEF >> 8 & (1 << 40) - 1


@pytest.mark.parametrize(
    ("bits", "wanted"),
    [
        (0x3C00, 1.0),
        (0xC000, -2.0),
        (0x7BFF, 65504.0),
        (0x0001, 2.0**-24),
        (0x03FF, 1023 * 2.0**-24),
        (0x8000, -0.0),
    ],
)
def test_half_precision(bits, wanted):
    got = value(Field(0, ValueType.FLOAT16), bits.to_bytes(2, "big"))
    assert (got, math.copysign(1, got)) == (wanted, math.copysign(1, wanted))


def test_strings_bytes_and_json():
    assert value(Field(2, ValueType.STRING, length=6), b"..PUMP\0x") == "PUMP"
    assert value(Field(0, ValueType.STRING, "little", length=4), b"UPPM") == "PUMP"
    assert value(Field(0, ValueType.STRING, encoding="utf-8"), "µ°".encode()) == "µ°"
    assert value(Field(0, ValueType.STRING, encoding="latin-1", length=1), b"\xb5") == "µ"
    assert value(Field(1, ValueType.BYTES, length=2), b"\0\x01\0") == b"\x01\0"
    assert value(Field(0, ValueType.JSON), b'{"a":[1]}\0\0') == {"a": [1]}
    assert decode(Field(0, ValueType.STRING, length=1), b"\xb5") == (None, Quality.UNDECODABLE)
    assert decode(Field(0, ValueType.JSON), b"{") == (None, Quality.UNDECODABLE)
    assert decode(Field(0, ValueType.JSON), b"[" * 100_000) == (None, Quality.UNDECODABLE)


def test_an_enum_delivers_the_word_and_an_unknown_code_its_number():
    field = Field(0, ValueType.INT16, enum={-1: "fault", 0: "off", 1: "on"})
    assert decode(field, b"\xff\xff") == ("fault", Quality.GOOD)
    assert decode(field, b"\x00\x07") == (7, Quality.UNKNOWN_CODE)
    assert decode(field, b"\x00") == (None, Quality.UNDECODABLE)
    assert encode(field, "fault") == b"\xff\xff"
    with pytest.raises(ValueError, match="none of fault, off, on"):
        encode(field, "broken")


def test_a_short_record_harms_only_what_reaches_past_it():
    fields = [
        Field(0, ValueType.UINT16), Field(2, ValueType.UINT16), Field(1, ValueType.UINT16),
        Field(0, ValueType.INT64), Field(0, ValueType.STRING, length=3), Field(0, ValueType.STRING, length=4),
        Field(9, ValueType.BYTES),
    ]  # fmt: skip
    floats, integers, objects = Layout(fields, range(7)).decode(b"abc", 0)
    assert list(floats.quality) == [Quality.GOOD, Quality.UNDECODABLE, Quality.GOOD]
    assert [floats.value[0], floats.value[2]] == [0x6162, 0x6263]
    assert math.isnan(floats.value[1])
    assert (list(integers.value), list(integers.quality)) == ([0], [Quality.UNDECODABLE])
    assert objects.value == ["abc", None, None]
    for batch in (floats, integers, objects):
        assert str(batch.error) == "the answer has 3 bytes, its layout 9"


def test_layouts_of_equal_fields_share_all_but_their_slots():
    def layout(slots):
        fields = [
            Field(0, ValueType.UINT8), Field(0, ValueType.UINT8, enum={1: "on"}), Field(0, ValueType.UINT64),
            Field(0, ValueType.INT64), Field(0, ValueType.STRING, length=1), Field(1, ValueType.UINT8),
        ]  # fmt: skip
        return Layout(fields, slots)

    one, other = layout([3, 1, 4, 15, 9, 26]), layout([60, 50, 40, 30, 20, 10])
    for slots, held in (([3, 26], [15], [4, 1, 9]), one), (([60, 10], [30], [40, 50, 20]), other):
        batches = held.decode(b"\xff" * 8, 0)
        assert tuple(list(batch.slot) for batch in batches) == slots
        assert [list(b.value) for b in batches] == [[255.0, 255.0], [-1], [2**64 - 1, 255, None]]
    assert one._form is other._form


def test_layouts_that_differ_in_an_enum_share_nothing():
    for words, word in (({1: "on"}, "on"), ({1: "off"}, "off")):
        (batch,) = Layout([Field(0, ValueType.UINT8, enum=words)], [7]).decode(b"\1", 0)
        assert batch.value == [word]


def test_an_empty_record_and_an_empty_layout():
    assert decode(Field(0, ValueType.UINT8), b"")[1] == Quality.UNDECODABLE
    assert Layout([], []).decode(b"", 0) == []
    assert Layout([], []).bad(0, Quality.NO_LINK, None) == []


def test_bad_names_every_field_once():
    layout = Layout([Field(0, ValueType.INT64), Field(0, ValueType.STRING)], [4, 9])
    (batch,) = layout.bad(3, Quality.NO_ANSWER, None)
    assert (list(batch.slot), batch.time_ns, batch.quality) == ([4, 9], 3, Quality.NO_ANSWER)
    assert all(math.isnan(v) for v in batch.value)


def test_records_of_any_buffer():
    layout = Layout([Field(1, ValueType.UINT8), Field(0, ValueType.STRING, length=1)], [0, 1])
    for record in (b"ab", bytearray(b"ab"), memoryview(b"ab"), memoryview(b"xaxb")[1::2].tobytes()):
        assert [batch.value[0] for batch in layout.decode(record, 0)] == [98.0, "a"]
    with pytest.raises(BufferError):
        layout.decode(memoryview(b"axbx")[::2], 0)
    with pytest.raises(TypeError):
        layout.decode("ab", 0)


@pytest.mark.parametrize(
    "field",
    [
        Field(-1, ValueType.UINT8),
        Field(1 << 40, ValueType.UINT8),
        Field(0, ValueType.UINT8, scale=0),
        Field(0, ValueType.UINT8, scale=math.nan),
        Field(0, ValueType.UINT8, add=math.inf),
        Field(0, ValueType.UINT8, bit=8),
        Field(0, ValueType.UINT8, bit=-1),
        Field(0, ValueType.UINT8, bit=4, bits=5),
        Field(0, ValueType.UINT8, bits=5),
        Field(0, ValueType.UINT8, bit=0, bits=0, length=2),
        Field(0, ValueType.UINT16, length=4),
        Field(0, ValueType.FLOAT32, bit=1),
        Field(0, ValueType.FLOAT32, enum={1: "on"}),
        Field(0, ValueType.UINT16, enum={1: "on"}, scale=2),
        Field(0, ValueType.BOOL, length=3),
        Field(0, ValueType.BOOL, bit=8),
        Field(0, ValueType.BOOL, bit=0, bits=2),
        Field(0, ValueType.STRING, length=0),
        Field(0, ValueType.STRING, length=3, byte_order="little"),
        Field(0, ValueType.STRING, scale=2),
    ],
)
def test_a_field_that_makes_no_sense_is_refused(field):
    with pytest.raises(ValueError, match="field 1"):
        Layout([Field(0, ValueType.UINT8), field], [0, 1])


def test_fields_and_slots_must_pair():
    with pytest.raises(ValueError, match="1 fields, but 2 slots"):
        Layout([Field(0, ValueType.UINT8)], [1, 2])


@pytest.mark.parametrize(
    ("field", "wanted", "message"),
    [
        (Field(0, ValueType.INT8), 128, "does not fit"),
        (Field(0, ValueType.UINT8), -1, "does not fit"),
        (Field(0, ValueType.UINT16, scale=0.1), 6553.7, "does not fit"),
        (Field(0, ValueType.UINT16, scale=1e-300), 1e300, "not a finite"),
        (Field(0, ValueType.INT16), 1.5, "not an integer"),
        (Field(0, ValueType.INT16), math.nan, "not an integer"),
        (Field(0, ValueType.INT16), math.inf, "not an integer"),
        (Field(0, ValueType.INT16), "1", "not a number"),
        (Field(0, ValueType.FLOAT32), 1e39, "does not fit"),
        (Field(0, ValueType.FLOAT16), 65536.0, "does not fit"),
        (Field(0, ValueType.FLOAT64), math.inf, "not a finite"),
        (Field(0, ValueType.BOOL), 2, "does not fit"),
        (Field(0, ValueType.BOOL, bit=3), True, "mask write"),
        (Field(0, ValueType.UINT16, bit=3, bits=2), 1, "mask write"),
        (Field(0, ValueType.STRING, length=2), "abc", "do not fit"),
        (Field(0, ValueType.STRING, length=2), "µ", "ascii"),
        (Field(0, ValueType.STRING, length=2), 5, "is not a string"),
        (Field(0, ValueType.BYTES, length=2), b"a", "declared"),
        (Field(0, ValueType.UINT8, bit=9), 1, "reach out"),
    ],
)
def test_what_cannot_be_written_says_why(field, wanted, message):
    with pytest.raises(ValueError, match=message):
        encode(field, wanted)


def test_the_nearest_value_that_a_field_holds():
    assert nearest(Field(0, ValueType.INT16, scale=0.1), 200.04) == 200.0
    assert nearest(Field(6, ValueType.FLOAT32, "little", "little"), 0.1) == 0.10000000149011612
    assert nearest(Field(4, ValueType.UINT16, bit=3, bits=2, scale=2.0), 5) == 4.0
    assert nearest(Field(0, ValueType.STRING, length=4), "ab") == "ab"
    assert nearest(Field(2, ValueType.UINT16, enum={1: "on"}), "on") == "on"
    with pytest.raises(ValueError, match="does not fit"):
        nearest(Field(0, ValueType.INT16, scale=0.1), 9999)


def test_writes():
    assert encode(Field(0, ValueType.UINT16, scale=0.1), 119.8) == b"\x04\xae"
    assert encode(Field(0, ValueType.INT16, scale=2, add=10), 4) == b"\xff\xfd"
    assert encode(Field(0, ValueType.INT32, "big", "little"), -2) == b"\xff\xfe\xff\xff"
    assert encode(Field(0, ValueType.BOOL, length=2), True) == b"\0\x01"
    assert encode(Field(0, ValueType.UINT64), 2**64 - 1) == b"\xff" * 8
    assert encode(Field(0, ValueType.FLOAT64, scale=2.0), 3) == struct.pack(">d", 1.5)
    assert encode(Field(0, ValueType.STRING, "little", length=4), "abc") == b"ba\0c"
    assert encode(Field(0, ValueType.BYTES), b"ab") == b"ab"
    assert encode(Field(0, ValueType.JSON, length=9), {"a": 1}) == b'{"a":1}\0\0'


@pytest.mark.parametrize(
    ("type_", "null", "record"),
    [
        (ValueType.INT16, -32768, "8000"),
        (ValueType.INT16, 32768, "8000"),
        (ValueType.UINT16, 0xFFFF, "ffff"),
        (ValueType.UINT16, -1, "ffff"),
        (ValueType.INT32, 0x80000000, "80000000"),
        (ValueType.UINT32, 0xFFFFFFFF, "ffffffff"),
        (ValueType.INT64, -(1 << 63), "8000000000000000"),
        (ValueType.UINT64, (1 << 64) - 1, "ffffffffffffffff"),
        (ValueType.UINT8, 0xFF, "ff"),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_a_code_that_says_that_there_is_no_value(type_, null, record, scale):
    field = Field(0, type_, scale=scale, null=null)
    batches = Layout([field, Field(0, ValueType.UINT8, scale=scale)], [7, 8]).decode(bytes.fromhex(record), 5)
    (batch,) = (one for one in batches if 7 in one.slot)
    assert batch.quality[0] == Quality.BAD
    assert batch.error.reason == "NoValue"
    assert value(Field(0, type_, scale=scale), bytes.fromhex(record)) != 0
    assert value(field, bytes(8)) == 0
    (short,) = Layout([field], [7]).decode(b"", 5)
    assert list(short.quality) == [Quality.UNDECODABLE]
    assert short.error.reason == "Undecodable"


def test_no_value_of_bits_and_of_a_word():
    bits = Field(0, ValueType.UINT16, bit=4, bits=4, null=15)
    assert decode(bits, b"\x00\xf3")[1] == Quality.BAD
    assert value(bits, b"\x00\xe3") == 14
    word = Field(0, ValueType.UINT16, enum={1: "on"}, null=0xFFFF)
    assert decode(word, b"\xff\xff") == (None, Quality.BAD)
    assert decode(word, b"\x00\x01") == ("on", Quality.GOOD)


@pytest.mark.parametrize("null", [0x8000, -0x8000])
def test_the_code_for_no_value_is_not_written(null):
    field = Field(0, ValueType.INT16, null=null)
    assert encode(field, -0x7FFF) == b"\x80\x01"
    with pytest.raises(ValueError, match="told apart from no value"):
        encode(field, -0x8000)
    with pytest.raises(ValueError, match="told apart from no value"):
        encode(Field(0, ValueType.INT16, null=null, scale=0.1), -3276.8)
    with pytest.raises(ValueError, match="told apart from no value"):
        encode(Field(0, ValueType.UINT16, enum={1: "on", 2: "none"}, null=2), "none")


@pytest.mark.parametrize(
    ("field", "why"),
    [
        (Field(0, ValueType.FLOAT32, null=0), "an integer's, not a float32's"),
        (Field(0, ValueType.BOOL, null=0), "an integer's, not a bool's"),
        (Field(0, ValueType.STRING, length=2, null=0), "code for no value"),
        (Field(0, ValueType.INT16, null=65536), "does not fit 16 bits"),
        (Field(0, ValueType.INT16, null=-32769), "does not fit 16 bits"),
        (Field(0, ValueType.UINT16, bit=0, bits=4, null=16), "does not fit 4 bits"),
    ],
)
def test_no_value_that_can_not_be(field, why):
    assert why in (problem(field) or "")
