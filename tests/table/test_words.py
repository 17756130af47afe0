"""The words of cells."""

import pytest

from devicemesh.spec.values import ValueType
from devicemesh.table import words


@pytest.mark.parametrize(
    ("text", "type_"),
    [
        *[(text, ValueType.UINT16) for text in ("UINT16", "uint", "WORD", "U16", "ui16", "Unsigned 16-bit", "uint16_t", "16 bit unsigned", "INT16U", "unsigned short")],
        *[(text, ValueType.INT16) for text in ("int", "INT16", "S16", "i16", "short", "SINT16", "Signed 16", "16-bit signed integer")],
        *[(text, ValueType.INT32) for text in ("DINT", "long", "int32", "Signed 32 bits", "INT32S")],
        *[(text, ValueType.UINT32) for text in ("UDINT", "DWORD", "ulong", "Unsigned long")],
        *[(text, ValueType.FLOAT32) for text in ("REAL", "float", "FLOAT32", "Float 32", "32-bit float (IEEE 754)", "single", "F32")],
        *[(text, ValueType.FLOAT64) for text in ("LREAL", "double", "float64", "64bit float")],
        *[(text, ValueType.UINT64) for text in ("QWORD", "uint64", "ULINT", "LWORD")],
        *[(text, ValueType.BOOL) for text in ("BOOL", "Boolean", "bit", "flag")],
        *[(text, None) for text in ("DateTime", "16", "float128", "int12", "unsigned float", "BCD", "", "u", "x" * 999)],
    ],
)  # fmt: skip
def test_types(text: str, type_: ValueType | None) -> None:
    found = words.type_of(text)
    assert (found.type if found else None) == type_


def test_texts_have_a_size() -> None:
    for text in ("string(16)", "STRING[16]", "char 16", "ASCII(16)"):
        found = words.type_of(text)
        assert found is not None
        assert (found.type, found.characters) == (ValueType.STRING, 16)


@pytest.mark.parametrize(
    ("text", "comma", "number"),
    [
        ("10", False, 10), ("-1.50", False, -1.5), ("1e-3", False, 0.001), ("x 0.1", False, 0.1), ("×10", False, 10),
        ("1/10", False, 0.1), ("1/1000", False, 0.001), (".5", False, 0.5), ("0,1", True, 0.1), ("-,5", True, -0.5),
        ("0,1", False, None), ("1.234,5", True, None), ("1/0", False, None), ("1e999", False, None), ("ten", False, None),
        ("nan", False, None), ("1/2/3", False, None), ("1 000", False, 1000), ("", False, None),
    ],
)  # fmt: skip
def test_numbers(text: str, comma: bool, number: float | None) -> None:
    assert words.number_of(text, comma) == number


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Voltage L1-N (V)", "Voltage_L1-N_V"), ("Größe", "Groesse"), ("température d'eau", "temperature_d_eau"),
        ("1st stage", "_1st_stage"), ("Pump.Speed", "Pump.Speed"), (" .a. ", "a"), ("%", ""), ("温度", ""),
        ("x" * 99, "x" * 63),
    ],
)  # fmt: skip
def test_names(text: str, name: str) -> None:
    assert words.property_name(text) == name


def test_access_and_units() -> None:
    both = ("RW", "R/W", "r/w", "read/write", "Read-Write", "WR", "CurrentRead | CurrentWrite", "R/WC")
    assert {words.access_of(text) for text in both} == {"ReadWrite"}
    assert {words.access_of(text) for text in ("R", "RO", "read only", "Read-Only", "r/o")} == {"ReadOnly"}
    assert words.access_of("W") == "WriteOnly"
    assert words.access_of("sometimes") is None
    assert [words.unit_of(text) for text in ("Volts", "kWh", "Mbar", "Foos")] == [
        "volts",
        "kWh",
        "Mbar",
        "Foos",
    ]
