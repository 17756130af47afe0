"""What a device's status in the store tells of the time before this process. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from devicemesh.mapper import Quality

_UNSEEN = (Quality.NO_LINK.word, Quality.PENDING.word)
"""Of a property that was good until its device was last seen, as far as the status tells."""
_REST_NS = 10**6 - 1
"""Times in a status are cut to the millisecond. Its end is where a past begins: no reading comes twice."""


@dataclass(frozen=True, slots=True)
class Before:
    """When a device, and each of its properties, was last read well, in Unix nanoseconds; 0: not known."""

    seen_ns: int = 0
    times: Mapping[str, int] = field(default_factory=dict)


NEVER = Before()


def before(status: Mapping[str, Any]) -> Before:
    """Read a status that another process, or an older version, wrote: what makes no sense is not known.

    A property that was bad for a reason of its own has no time: nobody knows since when.
    """
    seen_ns = _time(status.get("lastSeen"))
    times: dict[str, int] = {}
    properties = status.get("properties")
    for one in properties if isinstance(properties, list) else ():
        reported = one.get("reported") if isinstance(one, dict) else None
        if not isinstance(reported, dict) or not isinstance(one.get("name"), str):
            continue
        quality = str(reported.get("quality"))
        time_ns = _time(reported.get("time")) if not quality.startswith("Bad") else 0
        if time_ns or (seen_ns and quality in _UNSEEN):
            times[one["name"]] = (time_ns or seen_ns) + _REST_NS
    return Before(seen_ns, times)


def _time(text: object) -> int:
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
        seconds = moment.timestamp() if moment is not None and moment.tzinfo is not None else 0.0
    except (ValueError, OverflowError):
        return 0
    return round(seconds * 1000) * 10**6 if seconds > 0 else 0
