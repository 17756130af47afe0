"""Which header means what: the columns that the framework reads, those of a mapper, those of its address."""

from __future__ import annotations

import enum
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticUndefined

from devicemesh.spec.base import Strict
from devicemesh.spec.rows import Column
from devicemesh.table.words import fold

OWN: dict[str, Column] = {
    "name": Column(
        ("name", "tag", "tagname", "signal", "signalname", "parameter", "parametername", "variable",
         "variablename", "point", "pointname", "datapoint", "property", "registername", "itemname", "symbol",
         "displayname", "browsename", "sensor", "channel", "messwert", "messstelle", "kanal",
         "bezeichnung", "signalbezeichnung"),
        ("item", "measurement", "quantity"),
    ),
    "address": Column(
        ("address", "addr", "adr", "adresse", "registeraddress", "registernumber", "registerno", "addressdec",
         "addresshex", "startaddress", "startingaddress", "startregister", "startreg", "registeradresse"),
        ("register", "reg", "offset", "start", "location", "index"),
    ),
    "type": Column(
        ("datatype", "dataformat", "valuetype", "vartype", "variabletype", "typeofdata", "datentyp",
         "typedonnee"),
        ("type", "format", "typ"),
    ),
    "unit": Column(
        ("unit", "units", "uom", "engunit", "engunits", "engineeringunit", "engineeringunits",
         "unitofmeasure", "measurementunit", "einheit", "unite"),
        ("eu",),
    ),
    "access": Column(
        ("access", "accessmode", "accesstype", "accesslevel", "rw", "readwrite", "clientaccess", "permission",
         "permissions", "rights", "zugriff"),
        ("mode", "direction", "attribute"),
    ),
    "minimum": Column(
        ("minimum", "min", "minvalue", "minimumvalue", "rangemin", "lowerlimit", "lowlimit"), ("low",)
    ),
    "maximum": Column(
        ("maximum", "max", "maxvalue", "maximumvalue", "rangemax", "upperlimit", "highlimit"), ("high",)
    ),
    "description": Column(
        ("description", "registerdescription", "desc", "comment", "comments", "remark", "remarks", "note",
         "notes", "beschreibung", "kommentar", "bemerkung", "commentaire"),
        ("text", "meaning", "details", "label"),
    ),
    "samplingInterval": Column(
        ("samplinginterval", "scanrate", "scaninterval", "pollinginterval", "pollinterval",
         "pollrate", "pollperiod", "updateinterval", "collectcycle"),
        ("interval", "cycle", "period"),
    ),
}  # fmt: skip
ARITHMETIC: dict[str, Column] = {
    "scale": Column(
        ("scale", "factor", "scalefactor", "multiplier", "scaling", "gain", "resolution", "faktor",
         "skalierung", "facteur"),
        ("multiply", "mult", "res", "step"),
    ),
    "divisor": Column(("divisor", "divider", "divide", "divideby", "teiler")),
    "rawLow": Column(("rawlow", "rawlo", "rawmin", "rawminimum")),
    "rawHigh": Column(("rawhigh", "rawhi", "rawmax", "rawmaximum")),
    "scaledLow": Column(("scaledlow", "scaledlo", "scaledmin", "englow", "englo", "engmin", "eulow", "eulo")),
    "scaledHigh": Column(
        ("scaledhigh", "scaledhi", "scaledmax", "enghigh", "enghi", "engmax", "euhigh", "euhi")
    ),
    "add": Column(("add", "bias", "offsetvalue", "valueoffset", "adder"), ("offset",)),
    "bit": Column(("bit", "bitnumber", "bitno", "bitposition", "bitoffset", "startbit")),
    "bits": Column(("bits", "bitcount", "bitlength", "numberofbits")),
    "byteOrder": Column(("byteorder", "endian", "endianness", "endianess", "byteendian")),
    "wordOrder": Column(("wordorder", "wordswap", "registerorder", "wordendian")),
    "length": Column(("length", "len", "laenge", "lange")),
}  # fmt: skip
"""Fields that an address of most protocols has, and how people call them."""
LINE = ("rawLow", "rawHigh", "scaledLow", "scaledHigh")
"""Two points of a line, instead of `scale` and `add`."""
SCALING = frozenset({"scale", "add", "divisor", *LINE})
_NOISE = re.compile(r"(?<=..)(id|no|nr|number|name)$")
_BRACKETS = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")


@dataclass(frozen=True, slots=True)
class Known:
    """The columns that a table of one protocol can have."""

    columns: Mapping[str, Column]
    protocol: str
    where: Sequence[str]
    """Those of which a table has one: they say where a signal lives."""

    def match(self, headers: Sequence[str]) -> dict[str, int]:
        """Column -> index of its header, one each; a plain meaning goes before a weak one."""
        found: dict[str, int] = {}
        taken: set[int] = set()
        folded = [list(self._readings(header)) for header in headers]
        for weak in (False, True):
            for key, column in self.columns.items():
                spellings = column.weak if weak else column.names
                at = (i for i, words in enumerate(folded) if i not in taken and set(words) & set(spellings))
                index = next(at, None) if key not in found else None
                if index is not None:
                    found[key] = index
                    taken.add(index)
        return found

    def _readings(self, header: str) -> Iterator[str]:
        """The header whole, without what is in brackets, the protocol's name, a plural's s, `ID` or `No`."""
        for text in dict.fromkeys((header, _BRACKETS.sub("", header))):
            word = fold(text)
            for one in (word, word.removeprefix(self.protocol)):
                yield from (one, one.removesuffix("s"), _NOISE.sub("", one))

    def look(self, headers: Sequence[str]) -> tuple[int, str]:
        """How many headers of a row are known, and what it lacks to be a header ("": nothing)."""
        found = self.match(headers)
        if not found.keys() & {"name", "description"}:
            return len(found), "has the names: name, tag, signal, parameter, ..."
        if not found.keys() & set(self.where):
            others = "".join(f", {field}" for field in self.where[1:])
            return len(found), f"says where a value lives: address, register, offset{others}"
        return len(found), ""


def known(protocol: str, address: type[Strict], own: Mapping[str, Column]) -> Known:
    """The columns of a protocol: the framework's, the mapper's, and the plain fields of its address."""
    fields = {alias: Column((fold(alias),)) for alias in scalar_fields(address)}
    arithmetic = {
        key: column
        for key, column in ARITHMETIC.items()
        if key in fields or (key in SCALING and {"scale", "add"} <= fields.keys())
    }
    plain = {key: column for key, column in fields.items() if key not in OWN}
    more = {key: _joined(column, arithmetic.get(key) or OWN.get(key)) for key, column in own.items()}
    shapes = address.model_fields.values()
    where = [
        f.alias
        for f in shapes
        if f.alias in plain.keys() - arithmetic.keys() and f.default in (None, PydanticUndefined)
    ]
    where = [] if own else [one for one in where if one]
    return Known({**OWN, **plain, **arithmetic, **more}, protocol, ("address", *where))


def _joined(one: Column, other: Column | None) -> Column:
    return Column(one.names + other.names, one.weak + other.weak) if other else one


def scalar_fields(model: type[Strict]) -> dict[str, Any]:
    """The fields of an address that a cell can hold: alias -> annotation."""
    found = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
    return {alias: shape for alias, shape in found.items() if _is_scalar(shape)}


def _is_scalar(shape: Any) -> bool:
    return all(one is type(None) or one in (str, int, float, bool) or words(one) for one in parts(shape))


def parts(shape: Any) -> tuple[Any, ...]:
    """The members of a union, or the shape itself."""
    if typing.get_origin(shape) in (typing.Union, types.UnionType):
        return tuple(inner for one in typing.get_args(shape) for inner in parts(one))
    return (shape,)


def words(shape: Any) -> tuple[str, ...]:
    """The words that a Literal or an enum of them allows."""
    if typing.get_origin(shape) is typing.Literal:
        return tuple(one for one in typing.get_args(shape) if isinstance(one, str))
    return tuple(map(str, shape)) if isinstance(shape, type) and issubclass(shape, enum.StrEnum) else ()
