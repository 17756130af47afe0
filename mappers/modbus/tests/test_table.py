"""Register lists in the words that people use for them."""

import pytest
from devicemesh_modbus.table import place

from devicemesh.spec.rows import Placed, Row
from devicemesh.spec.values import ValueType


def one(type_: ValueType | None = ValueType.UINT16, sized: bool = True, **cells: str) -> Placed:
    placed = place([Row(cells, type_, sized)])[0]
    placed.assumed.clear()
    return placed


@pytest.mark.parametrize(
    ("text", "table", "offset"),
    [
        ("40001", "holding", 0),
        ("400001", "holding", 0),
        ("465536", "holding", 65535),
        ("30010", "input", 9),
        ("4x0101", "holding", 100),
        ("3:12", "input", 11),
        ("holding:100", "holding", 100),
        ("0x64", "holding", 100),
        ("64h", "holding", 100),
        ("&H64", "holding", 100),
        ("100", "holding", 100),
    ],
)
def test_addresses(text: str, table: str, offset: int) -> None:
    placed = one(address=text)
    assert (placed.mistakes, placed.fields) == ([], {"table": table, "offset": offset})


@pytest.mark.parametrize("text", ["", "4000l", "0x12345", "-1", "40001-39999", "40001.123", "%MW100", "coil"])
def test_what_is_no_address(text: str) -> None:
    cells = {"address": text} if text else {}
    assert [column for column, _ in one(**cells).mistakes] == ["address"]


@pytest.mark.parametrize(
    ("cells", "table"),
    [
        ({"table": "Holding Registers"}, "holding"),
        ({"table": "INPUT_REGISTERS"}, "input"),
        ({"table": "3x"}, "input"),
        ({"table": "3"}, "holding"),
        ({"function": "04"}, "input"),
        ({"function": "FC3"}, "holding"),
        ({"function": "0x03"}, "holding"),
        ({"function": "3, 6, 16"}, "holding"),
    ],
)
def test_tables_and_functions(cells: dict[str, str], table: str) -> None:
    placed = one(address="7", **cells)
    assert (placed.mistakes, placed.fields) == ([], {"table": table, "offset": 7})
    assert placed.writable is (True if "16" in cells.get("function", "") else None)


@pytest.mark.parametrize(
    ("cells", "column"),
    [
        ({"table": "memory"}, "table"),
        ({"table": "0"}, "table"),
        ({"function": "3/4"}, "function"),
        ({"function": "read"}, "function"),
        ({"table": "input", "function": "3"}, "function"),
        ({"base": "2"}, "base"),
        ({"bit": "low"}, "bit"),
        ({"length": "two"}, "length"),
        ({"length": "3"}, "length"),
        ({"byteOrder": "middle"}, "byteOrder"),
        ({"table": "input", "address": "holding:7"}, "address"),
        ({"base": "1", "address": "0"}, "address"),
    ],
)
def test_a_mistake_is_at_its_column(cells: dict[str, str], column: str) -> None:
    assert [at for at, _ in one(**({"address": "7"} | cells)).mistakes] == [column]


def test_bits_are_of_a_coil_or_of_a_register() -> None:
    assert one(None, address="00017", table="coil").type == ValueType.BOOL
    assert one(None, address="40001.3").fields == {"table": "holding", "offset": 0, "bit": 3}
    assert one(None, address="40001", bit="11").type == ValueType.BOOL
    assert [column for column, _ in one(ValueType.BOOL, address="12").mistakes] == ["table"]


@pytest.mark.parametrize(
    ("type_", "sized", "cells", "found"),
    [
        (ValueType.INT16, False, {"length": "2"}, ValueType.INT32),
        (ValueType.UINT16, False, {"length": "4"}, ValueType.UINT64),
        (ValueType.INT16, False, {"address": "40001-40002"}, ValueType.INT32),
        (ValueType.FLOAT32, True, {"length": "2"}, ValueType.FLOAT32),
        (ValueType.FLOAT32, True, {"length": "32"}, ValueType.FLOAT32),
        (ValueType.FLOAT32, True, {"length": "4"}, ValueType.FLOAT32),
        (None, True, {"length": "2"}, ValueType.UINT32),
    ],
)
def test_sizes(type_: ValueType | None, sized: bool, cells: dict[str, str], found: ValueType) -> None:
    placed = one(type_, sized, **({"address": "40001"} | cells))
    assert (placed.mistakes, placed.type) == ([], found)


def test_a_size_is_in_bytes_for_all_rows_where_one_shows_it() -> None:
    rows = [
        Row({"address": "1", "length": "2"}, ValueType.INT16),
        Row({"address": "2", "length": "4"}, ValueType.INT16, sized=False),
        Row({"address": "4", "length": "10"}, ValueType.STRING),
    ]
    placed = place(rows)
    assert [one.mistakes for one in placed] == [[], [], []]
    assert [one.type for one in placed] == [ValueType.INT16, ValueType.INT32, ValueType.STRING]
    assert placed[2].fields["length"] == 5


@pytest.mark.parametrize(
    ("cells", "orders"),
    [
        ({"byteOrder": "ABCD"}, {}),
        ({"byteOrder": "CDAB"}, {"wordOrder": "little"}),
        ({"wordOrder": "badc"}, {"byteOrder": "little"}),
        ({"byteOrder": "DCBA"}, {"byteOrder": "little", "wordOrder": "little"}),
        ({"wordOrder": "LSW first"}, {"wordOrder": "little"}),
        ({"wordOrder": "big-endian"}, {}),
    ],
)
def test_orders(cells: dict[str, str], orders: dict[str, str]) -> None:
    place_ = {"table": "holding", "offset": 0}
    assert one(ValueType.FLOAT32, address="40001", **cells).fields == place_ | orders


def test_a_little_byte_order_alone_is_told() -> None:
    placed = place([Row({"address": "40001", "byteOrder": "Little"}, ValueType.FLOAT32)])[0]
    assert placed.fields["byteOrder"] == "little"
    assert any("BADC" in said for said in placed.assumed)
    assert not any(
        "BADC" in said
        for cells in ({"byteOrder": "DCBA"}, {"byteOrder": "little", "wordOrder": "little"})
        for said in place([Row({"address": "40001", **cells}, ValueType.FLOAT32)])[0].assumed
    )


def test_one_number_that_is_not_modicons_among_those_that_are_is_a_mistake() -> None:
    placed = place([Row({"address": text}, ValueType.UINT16) for text in ("30001", "30002", "3003")])
    assert [len(one.mistakes) for one in placed] == [0, 0, 1]
    plain = place([Row({"address": text, "base": "0"}, ValueType.UINT16) for text in ("40000", "40001")])
    assert [one.fields["offset"] for one in plain] == [40000, 40001]


def test_numbers_that_fit_another_table_are_plain_offsets() -> None:
    placed = place([Row({"address": t, "table": "holding"}, ValueType.UINT16) for t in ("30001", "30002")])
    assert "Modicon's 30001 would be input, and the table is holding" in placed[0].assumed[0]
    assert [one.fields for one in placed] == [
        {"table": "holding", "offset": 30001},
        {"table": "holding", "offset": 30002},
    ]
