"""Judging answers, in words. Pure.

The transport matches an answer to its request by transaction id, unit and checksum; whether it answers
what was asked (function, byte count, echo) is checked here, because a wrong answer must never become a value.
"""

from __future__ import annotations

from devicemesh.mapper import MapperError, PointError, Quality

EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "server device failure",
    5: "acknowledge: still working on it",
    6: "server device busy",
    7: "negative acknowledge",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target device failed to respond",
}
"""Modbus Application Protocol V1.1b3, section 7; 7 is of older revisions, 9 was never given a meaning."""

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, FAILURE, WORKING, BUSY = 1, 2, 3, 4, 5, 6
SPLITTABLE = (ILLEGAL_ADDRESS, ILLEGAL_VALUE, FAILURE)
"""What devices say when one register of several is missing, or when they are too many."""
_ABSENT = (10, 11)


class RefusedError(PointError):
    """The device answered with an exception code."""

    def __init__(self, who: str, what: str, code: int) -> None:
        again_s = 0.0 if code in (WORKING, BUSY) else None
        super().__init__(f"{who} refused {what}: {exception_text(code)}", again_s=again_s)
        self.code = code


class SilentError(PointError):
    """Nothing came in time, or a gateway says that nothing came from behind it."""

    default_reason = "NoAnswer"


class MalformedError(PointError):
    """The answer is not one to this request."""

    default_reason = "WrongAnswer"


def exception_text(code: int) -> str:
    """`illegal data address (exception 2)`; a code without a meaning stays a number."""
    return f"{EXCEPTIONS[code]} (exception {code})" if code in EXCEPTIONS else f"exception {code}"


def check(answer: bytes, function: int, who: str, what: str) -> None:
    """Raise one of the errors above unless the answer is a good one of this function."""
    if answer[0] == function:
        return
    if answer[0] != function | 0x80:
        raise MalformedError(f"{who} answered {what} with function {answer[0]} instead of {function}")
    if len(answer) < 2:
        raise MalformedError(f"{who} refused {what} without saying why")
    if answer[1] in _ABSENT:
        raise SilentError(f"no answer from {who}: {exception_text(answer[1])}")
    raise RefusedError(who, what, answer[1])


def data(answer: bytes, function: int, size: int, who: str, what: str) -> memoryview:
    """The data of a good answer to a reading function. Raises as `check`."""
    check(answer, function, who, what)
    if len(answer) < 2 or answer[1] != size or len(answer) != size + 2:
        told = answer[1] if len(answer) > 1 else 0
        raise MalformedError(
            f"{who} answered {what} with {max(len(answer) - 2, 0)} bytes "
            f"and a byte count of {told} instead of {size}"
        )
    return memoryview(answer)[2:]


def quality(error: MapperError) -> Quality:
    """The quality of points that were not read because of `error`."""
    if isinstance(error, RefusedError):
        return Quality.BAD_ADDRESS if error.code == ILLEGAL_ADDRESS else Quality.REFUSED
    if isinstance(error, SilentError):
        return Quality.NO_ANSWER
    return Quality.UNDECODABLE if isinstance(error, MalformedError) else Quality.BAD
