"""What is said on our own topics (docs/mqtt.md), as values of Sparkplug metrics. Pure."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from devicemesh.sink.sparkplug.metrics import COUNTS, OWN_ALARM, Definition, Metrics, alarm_name
from devicemesh.sink.sparkplug.wire import Metric, Type

BAD, STALE = 0, 500
"""Of the property `Quality` (section 6.4.17); a metric without it is good."""
_EPOCH, _MS = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)
_FLOAT_END = 3.4028235677973366e38  # from here on a number rounds to no float32
_RANGES = {
    Type.INT32: (-(1 << 31), (1 << 31) - 1),
    Type.INT64: (-(1 << 63), (1 << 63) - 1),
    Type.UINT8: (0, 255),
    Type.UINT16: (0, 65535),
    Type.UINT64: (0, (1 << 64) - 1),
}
_WINDOW = ("name", "start", "end")  # of a window; all else in it are statistics


class Told(NamedTuple):
    """A value of a metric, as JSON has it; `quality` is a word of docs/mqtt.md."""

    name: str
    value: Any
    time_ms: int
    quality: str = "Good"


def milliseconds(time: str) -> int:
    """Of a time in RFC 3339 since 1970, rounded down. Raises ValueError."""
    return (datetime.fromisoformat(time) - _EPOCH) // _MS


def telemetry(payload: Mapping[str, Any]) -> Iterator[Told]:
    """Readings in the order of their times, then windows, each statistic at the end of its window."""
    for row in payload.get("rows", ()):
        time_ms, qualities = milliseconds(row["time"]), row.get("quality", {})
        for name, value in row["values"].items():
            yield Told(name, value, time_ms, qualities.get(name, "Good"))
    for window in payload.get("windows", ()):
        time_ms, name = milliseconds(window["end"]), window["name"]
        for statistic, value in window.items():
            if statistic not in _WINDOW:
                yield Told(f"{name}/{statistic}", value, time_ms)


def event(suffix: str, payload: Mapping[str, Any], now_ms: int) -> Iterator[Told]:
    """An alarm of a limit is a boolean; all else is what it is, as JSON in a string."""
    if suffix == "alarm" and "property" in payload:
        name = alarm_name(payload["property"], payload["alarm"])
        yield Told(name, payload["active"], milliseconds(payload["time"]))
        return
    time = payload.get("time")
    time_ms = milliseconds(time) if isinstance(time, str) else now_ms
    yield Told(OWN_ALARM if suffix == "alarm" else suffix, _text(payload), time_ms)


def reported(payload: Mapping[str, Any]) -> Iterator[Told]:
    """The newest reading of each property that has one."""
    for name, entry in payload.items():
        reading = entry["reported"]
        if reading["quality"] != "Bad.Pending":
            yield Told(name, reading["value"], milliseconds(reading["time"]), reading["quality"])


def gap(payload: Mapping[str, Any]) -> Iterator[Told]:
    """Samples that nobody will see, by policy, since the outbox was made."""
    for policy, count in payload["dropped"].items():
        yield Told(f"Dropped/{policy}", count, payload["time"] // 10**6)


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
    return value if isinstance(value, str) else _text(value)


def held(value: Any, definition: Definition) -> Any:
    """A JSON value as its metric has it: what is declared as JSON is its text, so "5" is not 5."""
    if definition.structured and value is not None:
        return _text(value)
    return fitted(value, definition.type)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


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
