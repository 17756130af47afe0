"""What is told of a device (`devicemesh.sink.told`), as values of Sparkplug metrics. Pure."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable
from typing import Any

from devicemesh.sink.sparkplug.metrics import COUNTS, Definition, Metrics
from devicemesh.sink.sparkplug.wire import Metric, Type
from devicemesh.sink.told import Told, text

BAD, STALE = 0, 500
"""Of the property `Quality` (section 6.4.17); a metric without it is good."""
_FLOAT_END = 3.4028235677973366e38  # from here on a number rounds to no float32
_RANGES = {
    Type.INT32: (-(1 << 31), (1 << 31) - 1),
    Type.INT64: (-(1 << 63), (1 << 63) - 1),
    Type.UINT8: (0, 255),
    Type.UINT16: (0, 65535),
    Type.UINT64: (0, (1 << 64) - 1),
}


def fitted(value: Any, type_: Type) -> Any:
    """A JSON value as one of this type; None where it is none."""
    if value is None or (isinstance(value, bool) and type_ not in (Type.BOOLEAN, Type.STRING)):
        return None if value is None else fitted(int(value), type_)
    if type_ == Type.BOOLEAN:
        return bool(value) if value in (0, 1) else None
    if limits := _RANGES.get(type_):
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        return int(value) if whole and limits[0] <= value <= limits[1] else None
    if type_ in (Type.FLOAT, Type.DOUBLE):
        return _float(value, type_)
    if type_ == Type.BYTES:
        return _bytes(value)
    return value if isinstance(value, str) else text(value)


def held(value: Any, definition: Definition) -> Any:
    """A JSON value as its metric has it: what is declared as JSON is its text, so "5" is not 5."""
    if definition.structured and value is not None:
        return text(value)
    return fitted(value, definition.type)


def _float(value: Any, type_: Type) -> float | None:
    if not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    fits = type_ == Type.DOUBLE or not math.isfinite(number) or abs(number) < _FLOAT_END
    return number if fits else None


def _bytes(value: Any) -> bytes | None:
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError):
        return None


def guess(told: Told) -> Type:
    """The type of a metric that nothing declares."""
    if "/" in told.name and isinstance(told.value, int | float) and not isinstance(told.value, bool):
        return Type.INT64 if told.name.rpartition("/")[2] in COUNTS else Type.DOUBLE
    kinds = {bool: Type.BOOLEAN, int: Type.INT64, float: Type.DOUBLE}
    return kinds.get(type(told.value), Type.STRING)


def unknown(all_told: Iterable[Told], metrics: Metrics) -> dict[str, Type]:
    """What is told though it is no metric yet."""
    return {told.name: guess(told) for told in all_told if told.name not in metrics}


def quality(word: str) -> dict[str, tuple[Type, Any]]:
    """The property `Quality` of what is not good: Sparkplug knows bad and stale."""
    if word.startswith("Good"):
        return {}
    return {"Quality": (Type.INT32, BAD if word.startswith("Bad") else STALE)}


def metric(told: Told, metrics: Metrics, first_alias: int | None, late: bool) -> Metric:
    """What is told as a metric of DDATA: by its alias, or by its name where there is none.

    A value that its type can't hold is null, and bad.
    """
    definition = metrics[told.name]
    value = held(told.value, definition)
    properties = quality(told.quality if value is not None or told.value is None else "Bad")
    historical = late or told.quality.endswith("FromHistory")
    alias = None if first_alias is None else first_alias + definition.offset
    name = told.name if alias is None else None
    return Metric(name, alias, definition.type, value, told.time_ms, historical, properties)
