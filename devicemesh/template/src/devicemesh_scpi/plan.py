"""What is said, and what an answer means. Pure: tests/test_plan.py needs no peer.

Replace: all of it, but keep it pure. Here a question is a line, and `SYST:ERR?` follows each line: its answer
always comes, so that a line that is refused needs no timeout, and says that nothing more belongs to it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from devicemesh.mapper import Point, PointError
from devicemesh.spec.values import Scalar, ValueType, mismatch
from devicemesh_scpi.model import ScpiAddress, ScpiEndpoint

ScpiPoint = Point[ScpiEndpoint, ScpiAddress]
ERROR_QUERY = "SYST:ERR?"
NO_SUCH_HEADER = range(-119, -109)  # SCPI-99, 21.8.9: among them -113, undefined header
_ERROR = re.compile(rb'\s*([+-]?\d+),\s*"(.*)"\s*')
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_BOOLS = {"0": False, "1": True, "OFF": False, "ON": True}


def by_device(points: Sequence[ScpiPoint]) -> list[list[ScpiPoint]]:
    """The points of each device: where it is silent, the others are not."""
    devices: dict[str, list[ScpiPoint]] = {}
    for point in points:
        devices.setdefault(point.device, []).append(point)
    return list(devices.values())


def question(point: ScpiPoint) -> str:
    """`MEAS:VOLT? (@2)`."""
    channel = point.endpoint.channel
    return f"{point.address.header}?" + (f" (@{channel})" if channel is not None else "")


def command(point: ScpiPoint, value: Scalar) -> str:
    """`VOLT 5.0,(@2)`. Raises `PointError` for what no line can hold."""
    text = str(int(value)) if isinstance(value, bool) else str(value)
    if isinstance(value, str) and not _WORD.fullmatch(text):
        text = '"' + text.replace('"', '""') + '"'
    if not (text.isascii() and text.isprintable()):
        raise PointError(f"{point.address.header} takes a line of ASCII, not {value!r}")
    channel = point.endpoint.channel
    return f"{point.address.header} {text}" + (f",(@{channel})" if channel is not None else "")


def error(line: bytes) -> tuple[int, str] | None:
    """What `SYST:ERR?` is answered with, as in `-113,"Undefined header"`; 0 is none. None: another line."""
    found = _ERROR.fullmatch(line)
    return (int(found[1]), found[2].decode("ascii", "replace")) if found else None


def fits(text: str, answer: bytes, said: bytes) -> bool:
    """Whether these two lines belong to this question or command; else the peer is out of step."""
    found, asked = error(said), text.partition(" ")[0].endswith("?")
    return found is not None and (found[0] != 0 or bool(answer) == asked)


def check(what: str, said: bytes) -> None:
    """Raise `PointError` where `SYST:ERR?` says that `what` is refused."""
    code, text = error(said) or (0, "")
    if code:
        reason = "BadAddress" if code in NO_SUCH_HEADER else "Refused"
        raise PointError(f"{what} is refused: {text} ({code})", reason=reason)


def decode(line: bytes, point: ScpiPoint) -> Scalar:
    """The value of an answer. Raises `PointError` where it is none of the point's type."""
    text, type_ = line.decode("ascii", "replace").strip(), point.type
    value: Scalar = text[1:-1].replace('""', '"') if text[:1] == text[-1:] == '"' else text
    if type_ == ValueType.BOOL:
        value = _BOOLS.get(text.upper(), text)
    elif type_ != ValueType.STRING and _NUMBER.fullmatch(text):
        value = int(text) if text.lstrip("+-").isdigit() else float(text)
        if type_.is_integer and isinstance(value, float) and value.is_integer():
            value = int(value)
    absent = isinstance(value, float) and abs(value) >= 9.9e37  # as SCPI says that there is no number
    if wrong := "there is no number" if absent else mismatch(value, type_):
        raise PointError(f"{question(point)} is answered {text[:40]!r}: {wrong}", reason="Undecodable")
    return value
