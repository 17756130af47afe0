"""What LwM2M's numbers stand for: the usual IPSO objects and resources (OMA LwM2M registry). Pure."""

from __future__ import annotations

import re

OBJECTS = {
    3: "device", 4: "connectivity", 6: "location", 3200: "digital-input", 3201: "digital-output",
    3202: "analog-input", 3203: "analog-output", 3300: "sensor", 3301: "illuminance", 3302: "presence",
    3303: "temperature", 3304: "humidity", 3305: "power-measurement", 3306: "actuation", 3308: "set-point",
    3310: "load-control", 3311: "light", 3312: "power-control", 3313: "accelerometer", 3314: "magnetometer",
    3315: "barometer", 3316: "voltage", 3317: "current", 3318: "frequency", 3319: "depth", 3320: "percentage",
    3321: "altitude", 3322: "load", 3323: "pressure", 3324: "loudness", 3325: "concentration",
    3326: "acidity", 3327: "conductivity", 3328: "power", 3329: "power-factor", 3330: "distance",
    3331: "energy", 3332: "direction", 3333: "time", 3334: "gyrometer", 3336: "gps-location",
    3337: "positioner", 3338: "buzzer", 3340: "timer", 3342: "switch", 3346: "rate", 3347: "push-button",
}  # fmt: skip
RESOURCES = {
    5500: "input", 5501: "count", 5505: "reset", 5513: "latitude", 5514: "longitude", 5515: "altitude",
    5518: "timestamp", 5519: "compass", 5550: "output", 5600: "input", 5601: "low", 5602: "high",
    5603: "range-low", 5604: "range-high", 5605: "reset-low-high", 5650: "output", 5700: "value",
    5701: "unit", 5702: "x", 5703: "y", 5704: "z", 5705: "direction", 5706: "colour", 5750: "application",
    5800: "power", 5805: "energy", 5821: "calibration", 5850: "on", 5851: "dimmer", 5852: "on-time",
    5900: "set-point",
}  # fmt: skip
UNITS = {
    3301: "lx", 3303: "Cel", 3304: "%RH", 3315: "Pa", 3316: "V", 3317: "A", 3318: "Hz", 3319: "m",
    3320: "%", 3321: "m", 3323: "Pa", 3326: "pH", 3327: "S/m", 3328: "W", 3330: "m", 3331: "Wh", 3332: "deg",
}  # fmt: skip
"""Usual unit of resource 5700, where the device does not state one in 5701."""
WRITABLE = frozenset({5550, 5650, 5706, 5750, 5850, 5851, 5852, 5900})
_PATH = re.compile(r"/(\d{1,5})/(\d{1,5})(?:/(\d{1,5}))?")


def ids(path: str) -> tuple[int, int, int | None] | None:
    """Object, instance and resource of a path, if it is one of LwM2M: (3303, 0, 5700)."""
    found = _PATH.fullmatch(path)
    if found is None or int(found[1]) not in OBJECTS:
        return None
    return int(found[1]), int(found[2]), None if found[3] is None else int(found[3])


def name(path: str) -> str | None:
    """A property's name for a resource: `temperature-0`, `temperature-0.low`."""
    found = ids(path)
    if found is None:
        return None
    object_, instance, resource = found
    base = f"{OBJECTS[object_]}-{instance}"
    if resource is None or resource == 5700:
        return base
    return f"{base}.{RESOURCES.get(resource, str(resource))}"


def unit(path: str) -> str | None:
    """The usual unit of a resource."""
    found = ids(path)
    return UNITS.get(found[0]) if found is not None and found[2] == 5700 else None


def writable(path: str) -> bool:
    found = ids(path)
    return found is not None and found[2] in WRITABLE
