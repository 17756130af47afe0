"""From a server's value to the property's type and back. Pure."""

from __future__ import annotations

import base64
import math
import uuid
from datetime import UTC, datetime
from typing import Any, NamedTuple

from devicemesh.spec.values import INTEGER_RANGES, Scalar, ValueType
from devicemesh_opcua import status as codes
from devicemesh_opcua.binary import (
    BOOLEAN,
    BYTE_STRING,
    DATA_VALUE,
    DATE_TIME,
    DOUBLE,
    EXPANDED_NODE_ID,
    FLOAT,
    NODE_ID,
    NULL,
    NUMBERS,
    STATUS_CODE,
    TYPE_NAMES,
    VARIANT,
    Structure,
    Typed,
)
from devicemesh_opcua.datatypes import DataTypes, Words
from devicemesh_opcua.nodeid import NodeName, parse_node

EPOCH_TICKS = 116_444_736_000_000_000
"""100 ns steps from 1601, where OPC UA begins, to 1970."""
LAST_TICKS = EPOCH_TICKS + ((1 << 63) - 1) // 100
"""The last that Unix nanoseconds in 64 bits reach, in 2262."""
_TEXTUAL = range(12, 22)  # String to LocalizedText
INTEGER_KINDS = {
    2: ValueType.INT8, 3: ValueType.UINT8, 4: ValueType.INT16, 5: ValueType.UINT16, 6: ValueType.INT32,
    7: ValueType.UINT32, 8: ValueType.INT64, 9: ValueType.UINT64,
}  # fmt: skip


def unix_ns(ticks: int, now_ns: int) -> int:
    """A DateTime as Unix nanoseconds; now where it is none (0), or too late for 64 bits (the year 9999)."""
    return (ticks - EPOCH_TICKS) * 100 if EPOCH_TICKS < ticks <= LAST_TICKS else now_ns


def date_text(ticks: int) -> str:
    """RFC 3339 to the microsecond; what lies outside the calendar stops at its ends."""
    seconds, rest = divmod(ticks - EPOCH_TICKS, 10**7)
    try:
        moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 10)
    except (ValueError, OverflowError, OSError):
        return "0001-01-01T00:00:00Z" if seconds < 0 else "9999-12-31T23:59:59Z"
    return moment.isoformat().replace("+00:00", "Z")


def date_ticks(text: str) -> int:
    """RFC 3339 as a DateTime. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone: end it with Z")
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return EPOCH_TICKS + (delta.days * 86400 + delta.seconds) * 10**7 + delta.microseconds * 10


def plain(kind: int, value: Any, types: DataTypes | None = None) -> Any:
    """A value of a built-in type as JSON has it: texts for dates, ids and statuses, base64 for bytes.

    Structures that `types` does not know stay bytes, with the id of their encoding.
    """
    if isinstance(value, list):
        return [plain(kind, one, types) for one in value]
    if isinstance(value, Typed):
        return plain(value.kind, value.value, types)
    if isinstance(value, Structure):
        found = types.decoded(value, lambda kind, one: plain(kind, one, types)) if types else None
        if found is not None:
            return found
        return {"typeId": value.type_id, "body": base64.b64encode(value.body).decode()}
    if value is None or isinstance(value, bool | int | float | str):
        return _special(kind, value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.text if isinstance(value, NodeName) else str(value)


def _special(kind: int, value: Any) -> Any:
    if kind == DATE_TIME:
        return date_text(value)
    if kind == STATUS_CODE:
        return codes.text(value).partition(":")[0] if value else "Good"
    return value


def an(word: str) -> str:
    """`an int32`, `a Double`."""
    return f"an {word}" if word[0] in "aeioAEIO" else f"a {word}"


class UnknownCodeError(ValueError):
    """An enumeration's number for which there is no word."""


class Want(NamedTuple):
    """What a property wants of a value: its type; of an array of one element (an index range of one) that
    element, where `single`; of an enumeration its word."""

    type: ValueType
    single: bool = False
    words: Words | None = None


def converted(held: Typed, want: Want, types: DataTypes | None = None) -> Any:
    """The value as a property has it. Raises ValueError, in words, where it can't be."""
    type_ = want.type
    if want.single and held.is_array and isinstance(held.value, list) and len(held.value) == 1:
        held = Typed(held.kind, held.value[0])
    if type_ == ValueType.JSON:
        return plain(held.kind, held.value, types)
    if held.is_array or held.kind == NULL or held.value is None:
        what = f"an array of {TYPE_NAMES[held.kind]}" if held.is_array else "no value"
        hint = ": take one element with `indexRange`, or all with type json" if held.is_array else ""
        raise ValueError(f"the server sends {what}, the property is {an(type_)}{hint}")
    if held.kind in (VARIANT, DATA_VALUE) and isinstance(held.value, Typed):
        return converted(held.value, want, types)
    if want.words is not None and held.kind in INTEGER_KINDS:
        return _word(want.words, held.value)
    found = _scalar(held.kind, held.value, type_)
    if found is None:
        raise ValueError(f"the server sends {an(TYPE_NAMES[held.kind])}, the property is {an(type_)}")
    return found


def _word(words: Words, code: int) -> str:
    """The word of a number. Raises UnknownCodeError, whose text is the number."""
    if code not in words:
        raise UnknownCodeError(f"{code}")
    return words[code]


def _scalar(kind: int, value: Any, type_: ValueType) -> Any:
    """None where the one is not the other."""
    if type_ == ValueType.BOOL:
        return bool(value) if kind in NUMBERS and kind not in (FLOAT, DOUBLE) else None
    if type_.is_integer:
        return int(value) if kind in INTEGER_KINDS or kind == BOOLEAN else None
    if type_.is_float:
        return float(value) if kind in NUMBERS and kind != BOOLEAN else None
    if type_ == ValueType.BYTES:
        return value if kind == BYTE_STRING else None
    return plain(kind, value) if kind in _TEXTUAL and kind != BYTE_STRING else None


def raw(value: Scalar, kind: int) -> Any:
    """A property's value as the built-in type takes it. Raises ValueError, in words, if it can't."""
    name = TYPE_NAMES[kind]
    if isinstance(value, list):
        return [raw(one, kind) for one in value]
    if kind == BOOLEAN and isinstance(value, bool | int) and value in (0, 1):
        return bool(value)
    if kind in INTEGER_KINDS and isinstance(value, int | float):
        low, high = INTEGER_RANGES[INTEGER_KINDS[kind]]
        if not math.isfinite(value) or value != int(value) or not low <= value <= high:
            raise ValueError(f"{value!r} does not fit {an(name)}: {low} to {high}")
        return int(value)
    if kind in (FLOAT, DOUBLE) and isinstance(value, int | float) and not isinstance(value, bool):
        if kind == FLOAT and math.isfinite(value) and abs(value) > 3.4028234663852886e38:
            raise ValueError(f"{value!r} does not fit a Float")
        return float(value)
    if kind == BYTE_STRING and isinstance(value, bytes):
        return value
    if kind in _TEXTUAL and isinstance(value, str):
        return _text_to(value, kind)
    raise ValueError(f"{value!r:.60} is not {an(name)}, which the server has there")


def _text_to(value: str, kind: int) -> Any:
    name = TYPE_NAMES[kind]
    if name in ("String", "LocalizedText", "XmlElement"):
        return value
    try:
        if name == "DateTime":
            return date_ticks(value)
        if name == "Guid":
            return uuid.UUID(value)
        if name == "ByteString":
            return base64.b64decode(value, validate=True)
        if name == "StatusCode":
            return codes.number(value)
        if kind in (NODE_ID, EXPANDED_NODE_ID):
            return _standard_node(value)
    except ValueError as error:
        raise ValueError(f"{value!r:.60} is not {an(name)}: {error}") from None
    raise ValueError(f"{an(name)} can't be written")


def _standard_node(text: str) -> NodeName:
    found = parse_node(text)
    if found.space != 0:
        raise ValueError("only those of namespace 0 can be written, as i=85")
    return found
