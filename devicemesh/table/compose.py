"""A table's rows to a DeviceModel: every mistake at its cell, every assumption in a sentence. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from devicemesh.mapper import ConfigError, Mapper
from devicemesh.spec import manifest
from devicemesh.spec.base import Protocol
from devicemesh.spec.places import Problem
from devicemesh.spec.rows import Placed, Row, Tabular
from devicemesh.spec.values import ValueType
from devicemesh.spec.words import suggest
from devicemesh.table import columns, nodes, resources, words
from devicemesh.table.reading import Cell, Table

_BOOL = {"true": True, "yes": True, "false": False, "no": False}
_NEUTRAL = {"scale": 1, "add": 0}
_TYPES = "as in bool, int16, UINT32, float32, REAL, string(8)"
SHOWN = 3
"""Examples that a note gives."""


@dataclass(slots=True)
class Imported:
    """What was made of a table: nothing is to be used while there are problems."""

    model: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what was assumed, what was left out


@dataclass(slots=True)
class _Line:
    """One row on its way to a property."""

    start: Cell  # the first that holds something
    cells: dict[str, Cell]  # by column; none is empty
    typed: words.Typed | None
    placed: Placed = field(default_factory=Placed)
    place_is_wrong: bool = False


def compose(
    table: Table, mapper: Mapper[Any, Any], known: columns.Known, name: str, given: Mapping[str, str]
) -> Imported:
    """A DeviceModel `name` of a table. `given`: column -> what stands in each row that leaves it empty."""
    return _Composer(table, mapper, known, given).model(name)


class _Composer:
    def __init__(
        self, table: Table, mapper: Mapper[Any, Any], known: columns.Known, given: Mapping[str, str]
    ) -> None:
        self._table, self._mapper = table, mapper
        self._comma = table.delimiter == ";"
        self._shapes = columns.scalar_fields(mapper.address_type)
        self._own = mapper.columns if isinstance(mapper, Tabular) else {}
        self._given = given
        self._known = known
        self._found = known.match([cell.text for cell in table.header])
        self._named = "name" in self._found or "name" in given
        self._out = Imported()

    def model(self, name: str) -> Imported:
        self._tell_columns()
        lines = self._lines()
        if not lines:
            self._wrong(self._table.header[0], "wrong-table", "there is no row below the header")
            return self._out
        self._place(lines)
        properties: list[Any] = []
        cells: dict[nodes.Loc, Cell] = {}
        for line in lines:
            properties.append(self._property(line, ("spec", "properties", len(properties)), cells))
        self._tell_names(lines)
        self._out.model = resources.model(name, properties)
        self._check(cells)
        return self._out

    def _check(self, cells: Mapping[nodes.Loc, Cell]) -> None:
        """As `validate` does, into the cells."""
        start = self._table.header[0]
        document = nodes.document(self._table.path, self._out.model, cells, start)
        mapper = self._mapper
        shapes = {mapper.protocol: Protocol(mapper.endpoint_type, mapper.address_type)}
        found = manifest.check([document], shapes, lambda namespace, name: None)
        self._out.problems = sorted({*self._out.problems, *found.problems})

    def _wrong(self, cell: Cell, code: str, message: str, help_: str = "") -> None:
        self._out.problems.append(cell.problem(self._table.path, code, message, help_))

    def _tell(self, note: str) -> None:
        if note not in self._out.notes:
            self._out.notes.append(note)

    def _tell_columns(self) -> None:
        headers = [cell.text for cell in self._table.header]
        read = [
            f"`{headers[at]}` is {key}"
            for key, at in sorted(self._found.items(), key=lambda item: item[1])
            if words.fold(headers[at]) != words.fold(key)
        ]
        left = [f"`{text}`" for at, text in enumerate(headers) if text and at not in self._found.values()]
        if read:
            self._tell(f"columns: {', '.join(read)}")
        if left:
            self._tell(f"not used: {', '.join(left)}")

    def _lines(self) -> list[_Line]:
        """The rows that declare something; headings and comments between them are told."""
        lines, passed = [], []
        for row in self._table.rows:
            cells = {key: row[at] for key, at in self._found.items() if at < len(row) and row[at].text}
            filled = [cell for cell in row if cell.text]
            if filled[0].text.startswith("#") or (len(filled) == 1 and len(self._table.header) > 2):
                passed.append(f"{filled[0].line} `{_short(filled[0].text)}`")
                continue
            start = self._table.header[0]
            for key, text in self._given.items():
                cells.setdefault(key, Cell(text, start.line, start.column, start.width))
            lines.append(_Line(filled[0], cells, self._typed(cells.get("type"))))
        if passed:
            self._tell(f"taken for headings: line {_some(passed)}")
        return lines

    def _typed(self, cell: Cell | None) -> words.Typed | None:
        if cell is None or words.is_nothing(cell.text):
            return None
        typed = words.type_of(cell.text)
        if typed is None:
            hint = suggest(cell.text.casefold(), list(ValueType)) or _TYPES
            self._wrong(cell, "unknown-word", f"`{_short(cell.text)}` is not a type", hint)
        return typed

    def _place(self, lines: Sequence[_Line]) -> None:
        """Where each row's value lives, by the mapper where it knows such tables."""
        mapper = self._mapper
        if isinstance(mapper, Tabular):
            placed = mapper.place([self._row(line) for line in lines])
        else:
            placed = [_by_short_form(mapper, line) for line in lines]
        plain = self._shapes.keys() - self._own.keys() - columns.OWN.keys() - columns.SCALING
        for line, one in zip(lines, placed, strict=True):
            line.placed = one
            for key, message in one.mistakes:
                self._wrong(line.cells.get(key) or self._first(line), "wrong-address", message)
            untyped = line.typed is None and self._says(line, "type")
            line.place_is_wrong = bool(one.mistakes) or untyped
            for note in () if untyped else one.assumed:
                self._tell(note)
            for key in (one for one in self._known.columns if one in plain and self._says(line, one)):
                self._field(line, key)
            self._scaling(line)

    @staticmethod
    def _says(line: _Line, key: str) -> bool:
        return key in line.cells and not words.is_nothing(line.cells[key].text)

    def _row(self, line: _Line) -> Row:
        cells = {key: cell.text for key, cell in line.cells.items() if key in self._own}
        if "address" in line.cells:
            cells["address"] = self._address(line.cells["address"].text)
        typed = line.typed
        if typed is None:
            return Row(cells, None)
        return Row(cells, typed.type, typed.sized, typed.characters)

    def _address(self, text: str) -> str:
        """With 0x, where the header says that the column is hexadecimal."""
        at = self._found.get("address")
        header = self._table.header[at].text.casefold() if at is not None else ""
        is_hex = "hex" in header and len(text) <= 8 and all(c in "0123456789abcdefABCDEF" for c in text)
        return f"0x{text}" if is_hex else text

    @staticmethod
    def _first(line: _Line) -> Cell:
        return line.cells.get("address") or line.cells.get("name") or line.start

    def _field(self, line: _Line, key: str) -> None:
        """A cell that is a field of the address."""
        cell = line.cells[key]
        members = columns.parts(self._shapes[key])
        allowed = [word for one in members for word in columns.words(one)]
        if allowed or str in members:
            same = {word.casefold(): word for word in allowed}
            self._set(line, key, same.get(cell.text.casefold(), cell.text))
        elif bool in members and cell.text.casefold() in _BOOL:
            self._set(line, key, _BOOL[cell.text.casefold()])
        elif (number := self._number(line, key)) is not None:
            self._set(line, key, number)

    def _set(self, line: _Line, key: str, value: Any) -> None:
        """A field of the address, unless it says what holds anyway."""
        fields = self._mapper.address_type.model_fields.values()
        neutral = next(one.default for one in fields if one.alias == key)
        if value not in (neutral, _NEUTRAL.get(key)):
            line.placed.fields[key] = value

    def _number(self, line: _Line, key: str) -> int | float | None:
        cell = line.cells[key]
        number = words.number_of(cell.text, self._comma)
        if number is None:
            self._no_number(cell, key)
        return number

    def _scaling(self, line: _Line) -> None:
        """Scale and add: given as they are, by a divisor, or by two points of a line."""
        scale = line.cells.get("scale")
        is_line = scale is None or words.fold(scale.text) == "linear"
        if is_line and all(self._says(line, key) for key in columns.LINE):
            numbers = [self._number(line, key) for key in columns.LINE]
            found = words.line_of(*numbers)
            if found is None and None not in numbers:
                self._wrong(line.cells["rawHigh"], "wrong-value", "raw low and raw high are the same")
            for key, value in zip(("scale", "add"), found or (), strict=False):
                self._set(line, key, value)
            return
        for key in ("scale", "divisor", "add"):
            number = self._number(line, key) if self._says(line, key) else None
            if number is None:
                continue
            if key == "scale" and number == 0:
                self._wrong(line.cells[key], "wrong-value", "a scale of 0 leaves nothing of a value")
            elif key != "divisor":
                self._set(line, key, number)
            elif (part := words.number_of(f"1/{number}", False)) is not None:
                self._set(line, "scale", part)
            else:
                self._wrong(line.cells[key], "wrong-value", "nothing can be divided by 0")
            if key == "scale" and abs(number) > 1:
                self._tell(
                    f"`{self._header(key)}`: a value is the raw one x {number}; "
                    "if it is to be divided, call the column divisor"
                )

    def _no_number(self, cell: Cell, key: str) -> None:
        message = f"`{key}` must be a number, not '{_short(cell.text)}'"
        self._wrong(cell, "wrong-type", message, _comma_hint(cell.text))

    def _header(self, key: str) -> str:
        at = self._found.get(key)
        return self._table.header[at].text if at is not None else key

    def _property(self, line: _Line, loc: nodes.Loc, cells: dict[nodes.Loc, Cell]) -> dict[str, Any]:
        first = self._first(line)
        cells[loc] = first
        prop: dict[str, Any] = {"name": self._name(line) or f"_{loc[-1]}"}
        prop["type"] = self._type(line)
        if self._says(line, "unit"):
            prop["unit"] = words.unit_of(line.cells["unit"].text)
        if "description" in line.cells and self._named:
            prop["description"] = line.cells["description"].text
        if access := self._access(line):
            prop["access"] = access
        for key in ("minimum", "maximum"):
            if (limit := self._limit(line, key, prop["type"])) is not None:
                prop[key] = limit
        protocol = self._mapper.protocol
        if not line.place_is_wrong:
            order = list(self._mapper.address_type.model_fields.values())
            names = [one.alias for one in order]
            fields = sorted(line.placed.fields.items(), key=lambda item: names.index(item[0]))
            prop["address"] = {protocol: dict(fields)}
        if every := self._interval(line):
            prop["telemetry"] = {"samplingInterval": every}
            cells[*loc, "telemetry", "samplingInterval"] = line.cells["samplingInterval"]
        for key in prop:
            cells[*loc, key] = line.cells.get(key, first)
        for key in line.placed.fields:
            cells[*loc, "address", protocol, key] = line.cells.get(key, line.cells.get("address", first))
        return resources.property_of(prop)

    def _name(self, line: _Line) -> str:
        cell = line.cells.get("name" if self._named else "description")
        if cell is None:
            self._wrong(self._first(line), "missing-field", "this row has no name")
            return ""
        name = words.property_name(cell.text)
        if not name:
            self._wrong(
                cell,
                "wrong-value",
                f"`{_short(cell.text)}` has no letter or digit that a name can be made of",
            )
        return name

    def _tell_names(self, lines: Sequence[_Line]) -> None:
        if not self._named:
            self._tell("no column has names: they are made from the descriptions")
        column = "name" if self._named else "description"
        texts = [line.cells[column].text for line in lines if column in line.cells]
        made = {text: words.property_name(text) for text in texts}
        changed = [f"`{_short(text)}` is {name}" for text, name in made.items() if name not in ("", text)]
        if changed:
            self._tell(f"names: {_some(changed)}")

    def _type(self, line: _Line) -> str:
        """The property's type; a scaled integer has a fraction, and is an integer on the wire only."""
        placed = line.placed
        type_ = placed.type or (line.typed.type if line.typed else None)
        if type_ is None:
            if not self._says(line, "type"):
                here = self._first(line) if "type" in self._found else self._table.header[0]
                hint = "add a column `type`, or --column type=float32"
                self._wrong(line.cells.get("type") or here, "missing-field", "nothing says the type", hint)
            line.place_is_wrong = True
            return ValueType.JSON.value
        scaled = placed.fields.get("scale", 1) != 1 or placed.fields.get("add", 0) != 0
        if scaled and type_.is_integer and "type" in self._mapper.address_type.model_fields:
            placed.fields.setdefault("type", type_.value)
            return resources.scaled_type(type_).value
        return type_.value

    def _access(self, line: _Line) -> str | None:
        cell = line.cells.get("access")
        if cell is None or words.is_nothing(cell.text):
            if line.placed.writable is None:
                self._tell("nothing says what may be written: it is read only" if cell is None else
                           "an empty access is read only")  # fmt: skip
            return "ReadWrite" if line.placed.writable else None
        access = words.access_of(cell.text)
        if access is None:
            self._wrong(cell, "unknown-word", f"`{_short(cell.text)}` is not an access", "one of R, RW, W")
        return None if access == "ReadOnly" else access

    def _interval(self, line: _Line) -> str | None:
        """How often it is read. A bare number has the unit of its header; a scan rate is in ms."""
        if not self._says(line, "samplingInterval"):
            return None
        cell, header = line.cells["samplingInterval"], self._header("samplingInterval").casefold()
        number = words.number_of(cell.text, self._comma)
        if number is None:
            return cell.text
        unit = next((one for one in ("ms", "s", "min") if f"({one})" in header or f"[{one}]" in header), None)
        if unit is None and "scan" in header:
            unit = "ms"
            self._tell(f"`{self._header('samplingInterval')}` is taken for ms")
        if unit is None:
            hint = f"write {number:g}ms or {number:g}s, or name the unit in the header: interval (ms)"
            self._wrong(cell, "wrong-value", f"`{_short(cell.text)}` has no unit", hint)
            return None
        return f"{number:g}{unit.removesuffix('in')}" if 0 < number < 1e6 else cell.text

    def _limit(self, line: _Line, key: str, type_: str) -> int | float | None:
        cell = line.cells.get(key)
        is_bool = type_ == ValueType.BOOL.value  # its limits say nothing
        if cell is None or is_bool or words.is_nothing(cell.text):
            return None
        if line.placed.fields.get("scale", 1) != 1:
            self._tell("limits are taken for those of the scaled value, not of the raw one")
        return self._number(line, key)


def _by_short_form(mapper: Mapper[Any, Any], line: _Line) -> Placed:
    cell = line.cells.get("address")
    if cell is None:
        return Placed()
    try:
        address = mapper.parse_address(cell.text)
    except (ConfigError, ValueError) as error:
        return Placed(mistakes=[("address", str(error))])
    return Placed(fields=address.model_dump(mode="json", by_alias=True, exclude_unset=True))


def _comma_hint(text: str) -> str:
    return f"write {text.replace(',', '.')}" if words.number_of(text, True) is not None else ""


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."


def _some(texts: Sequence[str]) -> str:
    more = len(texts) - SHOWN
    return ", ".join(texts[:SHOWN]) + (f", and {more} more" if more > 0 else "")
