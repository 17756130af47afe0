"""What is said on our own topics (docs/mqtt.md), as values by name, for dialects that have those. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

OWN_ALARM = "alarm/event"
"""What alarms and events of the device itself are called. No property's name has a slash."""
QUIET = ("window", "none")
"""A `report` of readings that are no telemetry: what is shown of them is the newest of the twin."""
_EPOCH, _MS = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)
_WINDOW = ("name", "start", "end")  # of a window; all else in it are statistics


def alarm_name(prop: str, alarm: str) -> str:
    """What says whether an alarm of a limit stands."""
    return f"{prop}/alarm/{alarm}"


def text(value: Any) -> str:
    """Compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class Told(NamedTuple):
    """A value, as JSON has it; `quality` is a word of docs/mqtt.md."""

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
    """An alarm of a limit is a boolean; all else is what it is."""
    if suffix == "alarm" and "property" in payload:
        name = alarm_name(payload["property"], payload["alarm"])
        yield Told(name, payload["active"], milliseconds(payload["time"]))
        return
    time = payload.get("time")
    time_ms = milliseconds(time) if isinstance(time, str) else now_ms
    yield Told(OWN_ALARM if suffix == "alarm" else suffix, payload, time_ms)


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
