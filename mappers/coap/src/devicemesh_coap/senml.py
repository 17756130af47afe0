"""SenML packs to resolved records, and back (RFC 8428). Pure."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devicemesh_coap import payload
from devicemesh_coap.payload import ETCH_CBOR, ETCH_JSON, SENML_CBOR, SENSML_CBOR, PayloadError

LABELS = {
    -1: "bver", -2: "bn", -3: "bt", -4: "bu", -5: "bv", -6: "bs", 0: "n", 1: "u", 2: "v", 3: "vs", 4: "vb",
    5: "s", 6: "t", 7: "ut", 8: "vd",
}  # fmt: skip
"""What stands for a label in CBOR (RFC 8428, table 6)."""
_NUMBERS = {word: number for number, word in LABELS.items()}
_CBOR = frozenset({SENML_CBOR, SENSML_CBOR, ETCH_CBOR})
VERSION = 10
RELATIVE_S = 2**28
"""A time below this is relative to now (RFC 8428, 4.5.3)."""
MAX_RECORDS = 100_000
_FAR_S = 9_000_000_000


@dataclass(frozen=True, slots=True)
class Record:
    """A resolved record."""

    name: str
    value: Any  # float or int, str, bool or bytes; None: a sum only
    unit: str | None
    time_ns: int


def records(body: bytes, content_format: int, now_ns: int) -> list[Record]:
    """The records of a pack, base values applied, in the order of the pack. Raises PayloadError."""
    is_cbor = content_format in _CBOR
    pack = payload.from_cbor(body) if is_cbor else payload.from_json(body)
    if not isinstance(pack, list | tuple):
        raise PayloadError("malformed SenML: a pack is an array of records")
    if len(pack) > MAX_RECORDS:
        raise PayloadError(f"a SenML pack of {len(pack)} records: {MAX_RECORDS} at most")
    base: dict[str, Any] = {}
    found = []
    for number, raw in enumerate(pack):
        try:
            if not isinstance(raw, Mapping):
                raise PayloadError("it is no map")
            one = _resolved(_labelled(raw, is_cbor), base, is_cbor, now_ns)
        except PayloadError as error:
            raise PayloadError(f"malformed SenML, record {number}: {error}") from error
        if one is not None:
            found.append(one)
    return found


def _labelled(raw: Mapping[Any, Any], is_cbor: bool) -> dict[str, Any]:
    """A record under the labels of JSON. Raises PayloadError for one that must be understood, and is not."""
    record = {}
    for key, value in raw.items():
        label = LABELS.get(key) if is_cbor and isinstance(key, int) and not isinstance(key, bool) else key
        if isinstance(label, str):
            if label.endswith("_"):
                raise PayloadError(f"the label {label!r} must be understood, and is not")
            record[label] = value
    return record


def _resolved(record: dict[str, Any], base: dict[str, Any], is_cbor: bool, now_ns: int) -> Record | None:
    """A record with the base values that hold there (RFC 8428, 4.6); None: it only sets some."""
    for label in ("bn", "bt", "bu", "bv", "bs", "bver"):
        if label in record:
            base[label] = record[label]
    if _finite(base.get("bver", VERSION), "bver") > VERSION:
        raise PayloadError(f"SenML of version {base['bver']}, {VERSION} is known here")
    held = [label for label in ("v", "vs", "vb", "vd") if label in record]
    if len(held) > 1:
        raise PayloadError(f"it has `{'` and `'.join(held)}`")
    if not held and "s" not in record and not (record.keys() & {"v", "n"} and "bv" in base):
        return None
    name = _text(base.get("bn", ""), "bn") + _text(record.get("n", ""), "n")
    if not name:
        raise PayloadError("it has no name")
    unit = record.get("u", base.get("bu"))
    value = _value(record, held[0] if held else "", base, is_cbor)
    return Record(name, value, unit if isinstance(unit, str) else None, _time_ns(record, base, now_ns))


def _value(record: dict[str, Any], label: str, base: dict[str, Any], is_cbor: bool) -> Any:
    value = record.get(label)
    if label in ("", "v"):
        if not label and "bv" not in base:
            return None
        own = _finite(value if label else 0, "v")
        return own + _finite(base["bv"], "bv") if "bv" in base else own
    if label == "vs":
        return _text(value, "vs")
    if label == "vb":
        if not isinstance(value, bool):
            raise PayloadError("`vb` is true or false")
        return value
    if is_cbor and isinstance(value, bytes):
        return value
    try:
        word = _text(value, "vd")
        return base64.urlsafe_b64decode(word + "=" * (-len(word) % 4))
    except ValueError as error:
        raise PayloadError(f"`vd` is no base64url: {error}") from error


def _time_ns(record: dict[str, Any], base: dict[str, Any], now_ns: int) -> int:
    seconds = _finite(base.get("bt", 0), "bt") + _finite(record.get("t", 0), "t")
    if abs(seconds) > _FAR_S:
        raise PayloadError(f"time {seconds!r} is out of range")
    if seconds < RELATIVE_S:
        return now_ns + round(seconds * 1e9)
    whole = math.floor(seconds)
    return whole * 10**9 + round((seconds - whole) * 1e9)


def _finite(value: Any, label: str) -> int | float:
    if not isinstance(value, bool):
        if isinstance(value, int) and abs(value) < 1 << 64:
            return value
        if isinstance(value, float) and math.isfinite(value):
            return value
        if type(value).__name__ == "Decimal":  # a decimal fraction of CBOR, which RFC 8428 allows
            return _finite(float(value), label)
    raise PayloadError(f"`{label}` is no number")


def _text(value: Any, label: str) -> str:
    if not isinstance(value, str):
        raise PayloadError(f"`{label}` is no text")
    return value


def encode(content_format: int, values: Sequence[tuple[str, Any]]) -> bytes:
    """A pack with a record for each (name, value); a value of None: the name alone, as FETCH asks for it."""
    is_cbor = content_format in _CBOR
    pack = []
    for name, value in values:
        record: dict[str, Any] = {"n": name}
        if value is not None:
            label = _label(value)
            is_data = label == "vd" and not is_cbor
            record[label] = base64.urlsafe_b64encode(value).rstrip(b"=").decode() if is_data else value
        pack.append({_NUMBERS[k]: v for k, v in record.items()} if is_cbor else record)
    return payload.to_cbor(pack) if is_cbor else payload.to_json(pack)


def _label(value: Any) -> str:
    if isinstance(value, bool):
        return "vb"
    if isinstance(value, int | float):
        return "v"
    if isinstance(value, str | bytes):
        return "vs" if isinstance(value, str) else "vd"
    raise PayloadError(f"a SenML record can't hold {value!r}")


def etch(content_format: int) -> int:
    """The format of a part of a pack, for FETCH and iPATCH (RFC 8790)."""
    return ETCH_CBOR if content_format in _CBOR else ETCH_JSON
