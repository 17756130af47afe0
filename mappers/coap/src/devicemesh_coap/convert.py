"""From what a body holds to the property's type and back. Pure."""

from __future__ import annotations

import base64
import math
from typing import Any

from devicemesh.spec.values import INTEGER_RANGES, Scalar, ValueType
from devicemesh_coap import payload
from devicemesh_coap.model import CoapAddress, raw_number
from devicemesh_coap.payload import PayloadError

_TRUTHS = {"true": True, "1": True, "on": True, "false": False, "0": False, "off": False}


def an(word: str) -> str:
    """`an int32`, `a float64`."""
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def typed(value: Any, type_: ValueType, address: CoapAddress) -> Any:
    """A value out of a document as the property has it. Raises PayloadError, in words, where it is none."""
    if type_ == ValueType.JSON:
        return payload.plain(value)
    if type_.is_number:
        return _number(value, type_, address)
    if type_ == ValueType.BOOL:
        if isinstance(value, bool) or (isinstance(value, int) and value in (0, 1)):
            return bool(value)
    elif type_ == ValueType.STRING:
        if isinstance(value, str):
            return value
    elif isinstance(value, bytes):
        return value
    elif isinstance(value, str):
        return _from_base64(value)
    raise PayloadError(f"the device sends {_brief(value)}, the property is {an(type_)}")


def _from_base64(word: str) -> bytes:
    """Bytes in a JSON document, which has none: base64, of either alphabet."""
    try:
        padded = word + "=" * (-len(word) % 4)
        return base64.b64decode(padded.replace("-", "+").replace("_", "/"), validate=True)
    except ValueError as error:
        raise PayloadError(f"{_brief(word)} is no base64, and the property is bytes") from error


def _number(value: Any, type_: ValueType, address: CoapAddress) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        if type(value).__name__ != "Decimal":
            raise PayloadError(f"the device sends {_brief(value)}, the property is {an(type_)}")
        value = float(value)
    try:
        if address.scaled:
            value = value * address.scale + address.add
        if type_.is_float:
            value = float(value)
    except OverflowError:  # an integer beyond all floats
        value = math.inf
    if isinstance(value, float) and not math.isfinite(value):
        raise PayloadError(f"the device sends {value!r}: no number")
    if not type_.is_integer:
        return float(value)
    low, high = INTEGER_RANGES[type_]
    if value != int(value) or not low <= value <= high:
        raise PayloadError(f"the device sends {_brief(value)}, which is no {type_}: {low} to {high}")
    return int(value)


def from_text(word: str, type_: ValueType, address: CoapAddress) -> Any:
    """A text body as the property has it. Raises PayloadError."""
    if type_ == ValueType.STRING:
        return word
    word = word.strip()
    if type_ == ValueType.JSON:
        try:
            return payload.from_json(word.encode())
        except PayloadError:
            return word
    if type_ == ValueType.BOOL:
        if word.lower() not in _TRUTHS:
            raise PayloadError(f"the device sends {_brief(word)}, the property is a bool")
        return _TRUTHS[word.lower()]
    if type_ == ValueType.BYTES:
        return _from_base64(word)
    return _number(payload.number(word), type_, address)


def _brief(value: Any) -> str:
    if isinstance(value, dict):
        return f"a map of {len(value)}: point at a value with `pointer`"
    if isinstance(value, list | tuple):
        return f"an array of {len(value)}: point at an element with `pointer`"
    if value is None:
        return "null"
    if isinstance(value, int) and value.bit_length() > payload.MOST_BITS:
        return f"a number of {value.bit_length()} bits"
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."


def raw(value: Scalar, type_: ValueType, address: CoapAddress) -> Any:
    """A property's value as a document holds it. Raises ValueError where it can't."""
    wire = address.type or type_
    if not wire.is_number or isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if address.scaled:
        return raw_number((value - address.add) / address.scale, wire)
    held = address.nearest(type_, value)
    return int(held) if wire.is_integer and isinstance(held, float) else held


def to_text(value: Any) -> bytes:
    """A value as a text body: `1` and `0` are LwM2M's words for true and false (OMA LwM2M Core, 7.4.2)."""
    if isinstance(value, bool):
        return b"1" if value else b"0"
    if isinstance(value, bytes):
        return base64.b64encode(value)
    if isinstance(value, list | dict):
        return payload.to_json(value)
    return str(value).encode()
