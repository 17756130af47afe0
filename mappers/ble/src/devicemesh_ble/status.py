"""What went wrong with a device, as words and a quality."""

from __future__ import annotations

from bleak.exc import BleakError, BleakGATTProtocolError

from devicemesh.mapper import PointError

_ADVICE = {
    0x01: "there is no such attribute any more: the device has changed its table",
    0x02: "it can't be read",
    0x03: "it can't be written",
    0x05: "it wants authentication: set `pair: true`, or pair it anew",
    0x08: "it is not allowed to us",
    0x0D: "the value has the wrong length for it",
    0x0F: "it wants encryption: set `pair: true`, or pair it anew",
    0x11: "the device has no room for it",
    0x13: "the device does not allow this value",
    0xFC: "the device rejected the write",
    0xFE: "the device is still busy with what was asked before",
    0xFF: "the value is out of its range",
}

_PASSING = (0x11, 0xFE)
"""Insufficient Resources, Procedure Already in Progress (Core Specification Supplement, Part B, 1.2)."""


class PairingError(BleakError):
    """A device does not let itself be paired with."""


def is_stale(problem: Exception) -> bool:
    """Whether a device says that a handle that it had is none any more (Core Specification 3F, 3.4.1.1)."""
    return isinstance(problem, BleakGATTProtocolError) and int(problem.args[0]) == 0x01


def error(where: str, problem: Exception) -> PointError:
    """An error of bleak's as one of ours; `where` names device and characteristic."""
    if isinstance(problem, BleakGATTProtocolError):
        code = int(problem.args[0])
        advice = _ADVICE.get(code) or str(problem.args[1]).removeprefix("GATT Protocol Error: ")
        reason = "Unauthorized" if code in (0x05, 0x08, 0x0C, 0x0F) else "Refused"
        again_s = 0.0 if code in _PASSING else None
        return PointError(f"{where}: ATT error 0x{code:02x}: {advice}", reason=reason, again_s=again_s)
    if isinstance(problem, PairingError):
        mend = "let it be paired with, or forget the old pairing on both sides"
        return PointError(f"{where}: not paired ({problem}): {mend}", reason="Unauthorized")
    if isinstance(problem, TimeoutError):
        return PointError(f"{where}: no answer in time", reason="NoAnswer")
    if isinstance(problem, BleakError):
        return PointError(f"{where}: {problem}", reason="NoAnswer")
    return PointError(f"{where}: {problem or type(problem).__name__}", reason="NoAnswer")
