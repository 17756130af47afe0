"""What people write in cells: types, access, numbers, names of signals."""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

from devicemesh.spec import units
from devicemesh.spec.values import ValueType

Access = Literal["ReadOnly", "ReadWrite", "WriteOnly"]
MAX_NAME = 63
_TYPES: dict[ValueType, str] = {
    ValueType.BOOL: "bool boolean bit flag binary",
    ValueType.INT8: "sint",
    ValueType.UINT8: "usint byte uchar",
    ValueType.INT16: "int integer short signed signedword",
    ValueType.UINT16: "uint word ushort unsigned unsignedint unsignedinteger unsignedshort unsignedword",
    ValueType.INT32: "dint long longint signedlong",
    ValueType.UINT32: "udint dword ulong unsignedlong doubleword",
    ValueType.INT64: "lint longlong llong",
    ValueType.UINT64: "ulint lword qword ulonglong unsignedlonglong",
    ValueType.FLOAT16: "half f16",
    ValueType.FLOAT32: "float real single f32",
    ValueType.FLOAT64: "double lreal f64",
    ValueType.STRING: "string str text ascii char",
    ValueType.BYTES: "bytes bytestring bytearray",
    ValueType.JSON: "json",
}
_BY_WORD = {word: type_ for type_, words in _TYPES.items() for word in (*words.split(), type_.value)}
_BARE = {"int", "integer", "signed", "uint", "unsigned", "unsignedint", "unsignedinteger", "long", "ulong"}
"""Words whose size is another one in other houses."""
_SIZED = re.compile(
    r"(?P<before>8|16|32|64)?(?P<sign>unsigned|signed|ui|[uis])?(?P<kind>integer|int|float|real|f)?"
    r"(?P<after>8|16|32|64)?(?P<tail>unsigned|signed|[us])?"
)
_TEXT = re.compile(r"(?:string|str|char|ascii|text)(\d{1,4})")
_READ = {"r", "ro", "read", "readonly", "rd", "lesen", "nurlesen", "input", "in"}
_WRITE = {"w", "wo", "write", "writeonly", "schreiben"}
_BOTH = {"rw", "wr", "readwrite", "writeread", "rdwr", "readandwrite", "rwc", "lesenschreiben", "inout"}
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d{1,4})?")
_COMMA = re.compile(r"[-+]?\d*,\d+([eE][-+]?\d{1,4})?")
_FRACTION = re.compile(r"(?P<top>[^/]+)/(?P<bottom>[^/]+)")
_LETTERS = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss", "µ": "u"}
)
_NOTHING = {"", "-", "--", "–", "—", "n/a", "na", "none", "n.a.", "null"}


@dataclass(frozen=True, slots=True)
class Typed:
    """A type as a table gives it."""

    type: ValueType
    sized: bool = True
    characters: int | None = None


def fold(text: str) -> str:
    """Small letters and digits only: `Data Type` and `data_type` are `datatype`."""
    return "".join(c for c in unicodedata.normalize("NFKD", text).casefold() if c.isalnum() and c.isascii())


def is_nothing(text: str) -> bool:
    """Whether a cell says that there is nothing to say."""
    return text.casefold() in _NOTHING


def type_of(text: str) -> Typed | None:
    """INT16, U16, word, REAL, `32 bit float`, string(8); None where it is no type of ours."""
    word = fold(text) if len(text) <= 40 else ""
    if word not in _BY_WORD:  # 32-bit float (IEEE 754), uint16_t
        word = re.sub(r"ieee754|(?<=\d)bit(s(?!igned))?|(?<=\d)t$", "", word)
    if word in _BY_WORD:
        return Typed(_BY_WORD[word], word not in _BARE)
    if sized := _TEXT.fullmatch(word):
        return Typed(ValueType.STRING, True, int(sized[1]))
    found = _SIZED.fullmatch(word)
    if not found or (found["before"] and found["after"]) or not (found["before"] or found["after"]):
        return None
    bits, kind = found["before"] or found["after"], found["kind"] or ""
    if kind in ("float", "real", "f"):
        name = f"float{bits}"
    elif kind or found["sign"]:
        unsigned = (found["sign"] or "").startswith("u") or (found["tail"] or "").startswith("u")
        name = f"{'u' if unsigned else ''}int{bits}"
    else:
        return None
    return Typed(ValueType(name)) if name in list(ValueType) else None


def access_of(text: str) -> Access | None:
    """R, RW, R/W, `read only`; None where it is none of them."""
    word = fold(text).replace("current", "")  # CurrentRead, as servers of OPC UA say
    access: Access
    for access, words in zip(get_args(Access), (_READ, _BOTH, _WRITE), strict=True):
        if word in words:
            return access
    return None


def number_of(text: str, comma: bool) -> int | float | None:
    """A number: 10, 0.1, 1e-3, `x 0.1`, 1/10, and 0,1 where `comma` says so; None where it is none."""
    bare = text.replace(" ", "").lstrip("xX×*")
    if parts := _FRACTION.fullmatch(bare):
        top, bottom = number_of(parts["top"], comma), number_of(parts["bottom"], comma)
        ratio = math.nan if top is None or not bottom else top / bottom
        return _short(ratio) if math.isfinite(ratio) else None
    if comma and _COMMA.fullmatch(bare):
        bare = bare.replace(",", ".")
    if not _NUMBER.fullmatch(bare):
        return None
    number = float(bare)
    if not math.isfinite(number):
        return None
    return int(bare) if re.fullmatch(r"[-+]?\d{1,18}", bare) else number


def line_of(
    raw_low: float | None, raw_high: float | None, low: float | None, high: float | None
) -> tuple[float, float] | None:
    """Scale and add of the line through (raw low, low) and (raw high, high); None where there is none."""
    if raw_low is None or raw_high is None or low is None or high is None or raw_low == raw_high:
        return None
    left, right, bottom, top = (Fraction(str(number)) for number in (raw_low, raw_high, low, high))
    scale = (top - bottom) / (right - left)
    try:
        return _short(float(scale)), _short(float(bottom - left * scale))
    except OverflowError:
        return None


def unit_of(text: str) -> str:
    """A unit as it is written; of a word with a capital, as Volts, the word that the table of units has."""
    small = text.lower()
    known = None if units.find(text) or not text.istitle() else units.find(small)
    return small if known and small in known.spellings else text


def _short(number: float) -> int | float:
    return int(number) if number.is_integer() and abs(number) < 1e15 else number


def property_name(text: str) -> str:
    """The name of a signal as a property's: letters, digits, `_`, `.` and `-`; "" where nothing is left.

    ä, ö, ü and ß become ae, oe, ue and ss, other accents are dropped; every other run of characters
    becomes one `_`.
    """
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFC", text).translate(_LETTERS))
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    word = re.sub(r"[^A-Za-z0-9_.-]+", "_", plain).strip("_.-")[:MAX_NAME].rstrip("_.-")
    return f"_{word}"[:MAX_NAME] if word and not re.match(r"[A-Za-z_]", word) else word


def resource_name(text: str) -> str:
    """Any text as a resource's name; "" where nothing is left."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:60].strip("-")
