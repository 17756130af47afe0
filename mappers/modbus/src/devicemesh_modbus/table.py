"""Register lists as people have them: tables, function codes, Modicon's numbers, sizes, orders. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from devicemesh.mapper import ConfigError
from devicemesh.spec.rows import Column, Placed, Row
from devicemesh.spec.values import ValueType
from devicemesh_modbus import uri
from devicemesh_modbus.model import BIT_TABLES, MAX_REGISTERS, Table

COLUMNS: dict[str, Column] = {
    "address": Column(("modiconaddress", "plcaddress"), ("physicaladdress",)),
    "table": Column(
        ("table", "registertype", "regtype", "registertable", "typeofregister", "objecttype", "primarytable",
         "area", "memoryarea", "registerclass", "registerart"),
        ("type", "kind", "block"),
    ),
    "function": Column(
        ("functioncode", "fc", "fcode", "readfunction", "readfunctioncode", "funktionscode"),
        ("function", "func"),
    ),
    "base": Column(("addressbase", "countsfrom")),
    "length": Column(
        ("size", "registers", "numberofregisters", "noofregisters", "numregisters", "registercount",
         "registerlength", "words", "wordcount", "anzahlregister"),
        ("quantity", "count"),
    ),
    "offset": Column(()),  # a header `Offset` is the address only where no other column is
    "bit": Column(()),
    "byteOrder": Column(()),
    "wordOrder": Column(()),
}  # fmt: skip
_NAMES: dict[Table, str] = {
    "holding": "holding holdingregister hr 4x 4xxxx 4xxxxx halteregister",
    "input": "input inputregister ir 3x 3xxxx 3xxxxx analoginput eingangsregister",
    "coil": "coil outputcoil co 0x 0xxxx 0xxxxx coilstatu digitaloutput do",
    "discrete": "discrete discreteinput discretesinput di 1x 1xxxx 1xxxxx inputstatu inputcoil contact "
    "digitalinput",
}
_TABLES: dict[str, Table] = {name: table for table, names in _NAMES.items() for name in names.split()}
"""Without the s of a plural."""
_READS: dict[int, Table] = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}
_WRITES: dict[int, Table] = {5: "coil", 15: "coil", 6: "holding", 16: "holding", 22: "holding", 23: "holding"}
_DIGITS: dict[str, Table] = {"0": "coil", "1": "discrete", "3": "input", "4": "holding"}
_ORDERS = {
    "abcd": ("big", "big"),
    "cdab": ("big", "little"),
    "badc": ("little", "big"),
    "dcba": ("little", "little"),
}
_BIG, _LITTLE = (
    re.compile("big|bigendian|be|ms[bw](first)?|high(word)?(first)?|hl|no|false|normal|none"),
    re.compile("little|littleendian|le|ls[bw](first)?|low(word)?(first)?|lh|yes|true|swap(ped)?"),
)
_NUMBER = r"0x[0-9a-f]{1,4}|&h[0-9a-f]{1,4}|[0-9][0-9a-f]{0,4}h|\d{1,6}"
_PLACE = re.compile(
    rf"(?:(?P<digit>[134])[x:])?(?P<first>{_NUMBER})(?:\.(?P<bit>\d{{1,2}}))?"
    rf"(?: ?(?:-|–|\.\.\.?|…|to|/) ?(?P<last>{_NUMBER}))?"
)
_MODICON = re.compile(r"[0134]\d{4,5}")
_INTEGERS = {
    (signed, size): ValueType(f"{'' if signed else 'u'}int{16 * size}")
    for signed in (True, False)
    for size in (1, 2, 4)
}
_CHARACTERS = "string(n) is taken for n characters, two to a register"

_LITTLE_BYTES = (
    "a little byte order is that of the two bytes of each register, BADC; "
    "if it is of the registers, write CDAB or DCBA"
)
_BARE = "a bare int or uint has 16 bits and a long 32, where nothing says how many registers it takes"


@dataclass(slots=True)
class _Spot:
    """A row on its way to an address."""

    row: Row
    placed: Placed = field(default_factory=Placed)
    table: Table | None = None
    number: int | None = None
    digits: str | None = None  # of a decimal number, which may be Modicon's
    bit: int | None = None
    count: int | None = None  # registers

    def wrong(self, column: str, message: str) -> None:
        self.placed.mistakes.append((column, message))

    def cell(self, column: str) -> str:
        return self.row.cells.get(column, "").casefold()


def place(rows: Sequence[Row]) -> list[Placed]:
    """Read the rows of one register list. What the list leaves open is said in `assumed`."""
    spots = [_Spot(row) for row in rows]
    for spot in spots:
        _table(spot)
        _address(spot)
    _count(spots)
    in_bytes = next((spot for spot in spots if _is_bytes(spot)), None)
    if in_bytes is not None:
        said = f"lengths are in bytes, as a {in_bytes.row.type} of {in_bytes.cell('length')} shows"
        in_bytes.placed.assumed.append(said)
    for spot in spots:
        _finish(spot, in_bytes is not None)
    return [spot.placed for spot in spots]


def _fold(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text)


def _table(spot: _Spot) -> None:
    word = _fold(spot.cell("table")).removesuffix("s")
    if word.isdecimal():
        _function(spot, "table", spot.cell("table"))
        said = "numbers in the column of the table are function codes: 3 is holding, 4 is input"
        spot.placed.assumed.append(said)
    elif word in _TABLES:
        spot.table = _TABLES[word]
    elif word:
        spot.wrong("table", f"`{spot.cell('table'):.40}` is not a table: holding, input, coil or discrete")
    if spot.cell("function"):
        _function(spot, "function", spot.cell("function"))


def _function(spot: _Spot, column: str, text: str) -> None:
    """A function code, or all that may be used: `03`, `FC3`, `3/6/16`."""
    codes = [
        int(code, 16) if code.startswith("0x") else int(code)
        for code in re.findall(r"0x[0-9a-f]{1,2}|\d{1,3}", text)
    ]
    tables = {(_READS | _WRITES).get(code) for code in codes}
    table = tables.pop() if len(tables) == 1 else None
    if table is None:
        spot.wrong(column, f"`{text:.40}` is not a function code of one table: 1 to 4, or 5, 6, 15, 16")
    elif spot.table not in (None, table):
        spot.wrong(column, f"function {text:.40} is for {table}, and the table is {spot.table}")
    spot.table = spot.table or table
    if _WRITES.keys() & set(codes):
        spot.placed.writable = True


def _address(spot: _Spot) -> None:
    text = spot.cell("address")
    if not text:
        spot.wrong("address", "this row has no address")
        return
    found = _PLACE.fullmatch(text)
    if found is None:
        _short_form(spot, text)
        return
    if found["digit"]:
        _of_table(
            spot, _DIGITS[found["digit"]], int(found["first"]) - 1 if found["first"].isdecimal() else -1
        )
    else:
        spot.number = _number(found["first"])
        spot.digits = found["first"] if found["first"].isdecimal() else None
    spot.bit = int(found["bit"]) if found["bit"] else None
    if found["last"]:
        spot.count = _number(found["last"]) - _number(found["first"]) + 1
        if not 1 <= spot.count <= MAX_REGISTERS:
            spot.wrong("address", f"`{text:.40}` is no range of registers")
            spot.count = None


def _number(text: str) -> int:
    if text.isdecimal():
        return int(text)
    return int(text.removeprefix("0x").removeprefix("&h").removesuffix("h"), 16)


def _short_form(spot: _Spot, text: str) -> None:
    try:
        address = uri.parse_address(text)
    except ConfigError:
        spot.wrong("address", f"`{text:.40}` is not an address: 100, 0x64, 40101, 40101.3 or holding:100")
        return
    _of_table(spot, address.table, address.offset)
    spot.bit, spot.count = address.bit, address.length
    spot.placed.type = address.type


def _of_table(spot: _Spot, table: Table, offset: int) -> None:
    """The address says both."""
    if spot.table not in (None, table):
        spot.wrong(
            "address", f"`{spot.cell('address'):.40}` is {table} {offset}, and the table is {spot.table}"
        )
    spot.table, spot.number, spot.digits = table, offset, None


def _count(spots: Sequence[_Spot]) -> None:
    """Decide, for the list as a whole, from what its decimal numbers count."""
    decimal = [spot for spot in spots if spot.digits is not None]
    bases = {spot.cell("base") for spot in decimal}
    if wrong := [spot for spot in decimal if spot.cell("base") not in ("", "0", "1")]:
        wrong[0].wrong("base", "`base` is 0 or 1: what the first register is called")
        return
    modicon = [spot for spot in decimal if _modicon(spot)]
    if bases == {""} and 2 * len(modicon) > len(decimal):
        for spot in decimal:
            _of_modicon(spot, spot in modicon)
        first = modicon[0]
        first.placed.assumed.append(
            f"addresses are Modicon's, which count from 1: {first.digits} is {first.table} {first.number}; "
            "if they are plain offsets: --column base=0"
        )
        return
    for spot in decimal:
        if spot.cell("base") == "1":
            spot.number = int(spot.digits or 0) - 1
    odd = next((spot for spot in decimal if _MODICON.fullmatch(spot.digits or "") and spot.table), None)
    if odd is not None and not odd.cell("base"):
        odd.placed.assumed.append(
            f"addresses are plain offsets: Modicon's {odd.digits} would be {_DIGITS[(odd.digits or '')[0]]}, "
            f"and the table is {odd.table}"
        )
    if "" in bases and len(decimal) > 1 and min(int(spot.digits or 0) for spot in decimal) == 1:
        decimal[0].placed.assumed.append(
            "addresses begin at 1 and are taken as offsets from 0; if the list counts from 1: --column base=1"
        )


def _modicon(spot: _Spot) -> bool:
    digits = spot.digits or ""
    if not _MODICON.fullmatch(digits) or not 1 <= int(digits[1:]) <= 65536:
        return False
    return spot.table in (None, _DIGITS[digits[0]])


def _of_modicon(spot: _Spot, it_is: bool) -> None:
    digits = spot.digits or ""
    if it_is:
        spot.table, spot.number = _DIGITS[digits[0]], int(digits[1:]) - 1
        return
    of = f" for {spot.table}" if spot.table else ""
    spot.wrong(
        "address",
        f"`{digits}` is no Modicon address{of}, as the others are (40001 is holding 0); "
        "if all are plain offsets: --column base=0",
    )


def _is_bytes(spot: _Spot) -> bool:
    """Whether this row's length can only be one in bytes."""
    type_, text = spot.row.type, spot.cell("length")
    size = type_.size if type_ is not None and spot.row.sized else None
    return bool(size and size > 1 and text.isdecimal() and int(text) == size)


def _finish(spot: _Spot, in_bytes: bool) -> None:
    placed, row = spot.placed, spot.row
    if bit := spot.cell("bit"):
        if bit.isdecimal() and len(bit) < 4:
            spot.bit = int(bit)
        else:
            spot.wrong("bit", f"`{bit:.40}` is not the number of a bit")
    type_ = placed.type or row.type
    if spot.table is None and spot.number is not None and not placed.mistakes:
        if type_ == ValueType.BOOL and spot.bit is None:
            spot.wrong(
                "table", "nothing says which table this bit is in: add a column `table` (coil, discrete)"
            )
        else:
            spot.table = "holding"
            placed.assumed.append(
                "nothing says which table: holding registers; if they are others: --column table=input"
            )
    if spot.number is not None and spot.number < 0:
        spot.wrong("address", f"`{spot.cell('address'):.40}` is before the first: the list counts from 1")
    if spot.table in BIT_TABLES:
        type_ = type_ or ValueType.BOOL
    else:
        type_ = _sized(spot, type_, in_bytes)
        _orders(spot, type_)
    placed.type = type_
    fields = {"table": spot.table, "offset": spot.number, "bit": spot.bit}
    placed.fields |= {name: value for name, value in fields.items() if value is not None}


def _sized(spot: _Spot, type_: ValueType | None, in_bytes: bool) -> ValueType:
    """The type by its registers too; of a text, their count."""
    count = _registers(spot, in_bytes)
    if type_ in (ValueType.STRING, ValueType.BYTES):
        if count is None and spot.row.characters:
            count = (spot.row.characters + 1) // 2
            spot.placed.assumed.append(_CHARACTERS)
        if count is not None:
            spot.placed.fields["length"] = count
        return type_
    if type_ is None and spot.bit is not None:
        return ValueType.BOOL
    if type_ is None:
        type_ = _INTEGERS.get((False, count or 1), ValueType.UINT16)
        spot.placed.assumed.append(f"nothing says the type: {type_}; if it is another: --column type=int16")
    elif not spot.row.sized and count is not None:
        type_ = _INTEGERS.get((type_.startswith("int"), count), type_)
    elif not spot.row.sized:
        spot.placed.assumed.append(_BARE)
    needed = max(1, (type_.size or 2) // 2)
    if count not in (None, needed):
        column = "length" if spot.cell("length") else "address"
        spot.wrong(column, f"{count} registers do not fit the type: a {type_} has {needed}")
    return type_


def _registers(spot: _Spot, in_bytes: bool) -> int | None:
    text = spot.cell("length")
    if not text:
        return spot.count
    if not text.isdecimal() or len(text) > 4 or not int(text):
        spot.wrong("length", f"`{text:.40}` is not a number of registers")
        return None
    number = int(text)
    size = spot.row.type.size if spot.row.type is not None else None
    if size is not None and number == 8 * size and number >= 8:
        return max(1, size // 2)  # in bits
    return (number + 1) // 2 if in_bytes else number


def _orders(spot: _Spot, type_: ValueType) -> None:
    is_one = (type_.size or 0) <= 2  # of one register there is no order; and a text is in that of reading
    for column in ("byteOrder", "wordOrder"):
        word = _fold(spot.cell(column))
        if word in _ORDERS:
            orders = dict(zip(("byteOrder", "wordOrder"), _ORDERS[word], strict=True))
        elif _BIG.fullmatch(word) or _LITTLE.fullmatch(word):
            orders = {column: "big" if _BIG.fullmatch(word) else "little"}
        else:
            orders = {}
            if word:
                spot.wrong(
                    column, f"`{spot.cell(column):.40}` is no order: ABCD, CDAB, BADC, DCBA, big or little"
                )
        if orders == {"byteOrder": "little"} and not is_one and not spot.cell("wordOrder"):
            spot.placed.assumed.append(_LITTLE_BYTES)
        if is_one and "wordOrder" in orders:
            orders.pop("wordOrder", None)
        spot.placed.fields |= {name: order for name, order in orders.items() if order != "big"}
