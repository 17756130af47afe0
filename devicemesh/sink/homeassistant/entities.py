"""What Home Assistant shows of a device: entities for properties, alarms and commands. Pure.

They read and write the topics that are there anyway. Their templates are Jinja2, rendered by Home Assistant;
"None" is its word for a state that is not known, and an empty result leaves the state as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from devicemesh.sink.base import Declaration
from devicemesh.sink.homeassistant.classes import COUNTER_STATISTICS, classes
from devicemesh.spec.device import Alarm, Property
from devicemesh.spec.values import INTEGER_RANGES, ValueType, duration_ns

LONGEST_STATE = 255
"""Characters of a state, at most."""
_WIDEST, _WIDEST_INTEGER = 10.0**12, 2**53
"""Beyond these a number without limits can't be set: Home Assistant wants limits, and counts in float64."""
_FINEST_STEP = 0.001  # that it takes

Entity = Mapping[str, Any]
"""One component, as the discovery message has it."""


class Place(NamedTuple):
    """Where a device is told of, and told to."""

    reported: str  # topics
    write: str
    command: Callable[[str], str]
    available: Sequence[Mapping[str, Any]]  # when the device is, of which all must hold


def entities(declaration: Declaration, place: Place) -> Iterator[tuple[str, str, Entity]]:
    """(platform, name, entity) of what a device has; names are `speed`, `speed/overspeed`, `command/go`."""
    for prop in declaration.properties.values():
        if (found := _property(prop, place)) is not None:
            platform, entity = found
            yield platform, prop.name, {"name": prop.name, **entity}
        for alarm in prop.alarms:
            if _is_carried(alarm) and prop.access != "WriteOnly":
                said = {"name": f"{prop.name} {alarm.name}", **_alarm(prop, alarm)}
                yield "binary_sensor", f"{prop.name}/{alarm.name}", said
    for command in declaration.commands.values():
        if all(one.default is not None for one in command.arguments):
            topic = place.command(command.name)
            button = {"name": command.name, "command_topic": topic, "payload_press": "{}"}
            yield "button", f"command/{command.name}", button


def value_of(prop: Property) -> str:
    """An expression for the newest value; none while it is not known.

    What can't be read has the value that was written last. Nothing of the payload need be there: Home
    Assistant may still hold an older one than the declaration.
    """
    entry = f"(value_json|default({{}})).get('{prop.name}',{{}})"
    if prop.access != "WriteOnly":
        return f"{entry}.get('reported',{{}}).get('value')"
    wanted = f"{entry}.get('desired',{{}})"
    return f"({wanted}.get('value') if {wanted}.get('state')=='applied' else none)"


def _property(prop: Property, place: Place) -> tuple[str, dict[str, Any]] | None:
    """(platform, entity); None where Home Assistant has no state that could hold such a value."""
    value, writable = value_of(prop), prop.access != "ReadOnly"
    if prop.type == ValueType.BOOL:
        return _boolean(prop, value) if writable else ("binary_sensor", {**_ON_OFF, **_template(value)})
    if prop.type.is_number:
        return ("number", _number(prop, value)) if writable else ("sensor", _sensor(prop, value))
    if prop.type != ValueType.STRING:
        return None
    if writable:
        return "text", _text(prop, value, place)
    shown = f"{{% set v={value} %}}{{{{ v[:{LONGEST_STATE}] if v is string else none }}}}"
    return "sensor", {"value_template": shown}


_ON_OFF = {"payload_on": "True", "payload_off": "False"}  # as Jinja2 prints a boolean


def _template(value: str) -> dict[str, Any]:
    return {"value_template": f"{{{{ {value} }}}}"}


def _boolean(prop: Property, value: str) -> tuple[str, dict[str, Any]]:
    command = f'{{"{prop.name}": {{{{ value|lower }}}}}}'
    return "switch", {**_ON_OFF, **_template(value), "command_template": command}


def _sensor(prop: Property, value: str) -> dict[str, Any]:
    counter = not COUNTER_STATISTICS.isdisjoint(prop.telemetry.statistics)
    unit, device_class, state_class = classes(prop.unit, counter=counter, whole=prop.type.is_integer)
    state = {"state_class": state_class} if state_class else {}
    return {**_template(value), **_said(unit, device_class), **state}


def _said(unit: str, device_class: str) -> dict[str, Any]:
    said = {"unit_of_measurement": unit, "device_class": device_class}
    return {key: value for key, value in said.items() if value}


def _number(prop: Property, value: str) -> dict[str, Any]:
    """A reported value beyond the limits is not known: Home Assistant would keep the one before it."""
    low, high = limits(prop)
    shown = f"{{% set v={value} %}}{{{{ v if v is number and {low!r}<=v<={high!r} else none }}}}"
    unit, device_class, _ = classes(prop.unit, counter=False, whole=prop.type.is_integer)
    return {
        "value_template": shown,
        "command_template": f'{{"{prop.name}": {{{{ value }}}}}}',
        "min": low,
        "max": high,
        "step": 1 if prop.type.is_integer else _FINEST_STEP,
        **_said(unit, device_class),
    }


def limits(prop: Property) -> tuple[float, float]:
    """Between which a property can be set: its own, as far as its type has them."""
    low, high = INTEGER_RANGES.get(prop.type, (-_WIDEST, _WIDEST))
    if prop.type.is_integer:
        low, high = max(low, -_WIDEST_INTEGER), min(high, _WIDEST_INTEGER)
    if prop.minimum is not None:
        low = math.ceil(prop.minimum) if prop.type.is_integer else prop.minimum
    if prop.maximum is not None:
        high = math.floor(prop.maximum) if prop.type.is_integer else prop.maximum
    return low, high


def _text(prop: Property, value: str, place: Place) -> dict[str, Any]:
    """A text has no state for "not known": it is not available then."""
    shown = f"{{% set v={value} %}}{{{{ v[:{LONGEST_STATE}] if v is string else '' }}}}"
    text = {
        "value_template": shown,
        "command_template": f'{{"{prop.name}": {{{{ value|tojson }}}}}}',
        "max": LONGEST_STATE,
    }
    if prop.access == "WriteOnly":
        return text
    known = f"{{% set v={value} %}}{{{{ 'online' if v is string else 'offline' }}}}"
    also = {"topic": place.reported, "value_template": known}
    return {**text, "availability": [*place.available, also], "availability_mode": "all"}


def _is_carried(alarm: Alarm) -> bool:
    """Whether the newest value tells if the alarm stands: one with a delay has a time of its own."""
    limit = alarm.above if alarm.above is not None else alarm.below
    return duration_ns(alarm.delay) == 0 and limit is not None and math.isfinite(limit)


def _alarm(prop: Property, alarm: Alarm) -> dict[str, Any]:
    """Between the limit and where it clears nothing is said: then it stays as it is."""
    if alarm.above is not None:
        least = alarm.above if alarm.clear_below is None else alarm.clear_below
        raised, cleared = f"v>{alarm.above!r}", f"v<{least!r}"
    else:
        most = alarm.below if alarm.clear_above is None else alarm.clear_above
        raised, cleared = f"v<{alarm.below!r}", f"v>{most!r}"
    state = f"{{% if v is not number %}}None{{% elif {raised} %}}ON{{% elif {cleared} %}}OFF{{% endif %}}"
    return {"device_class": "problem", "value_template": f"{{% set v={value_of(prop)} %}}{state}"}
