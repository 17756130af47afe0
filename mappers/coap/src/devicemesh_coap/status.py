"""What a response code means for the points of a resource. Pure."""

from __future__ import annotations

from devicemesh.mapper import PointError, Quality
from devicemesh_coap.message import (
    BAD_OPTION,
    FORBIDDEN,
    METHOD_NOT_ALLOWED,
    NOT_ACCEPTABLE,
    NOT_FOUND,
    PRECONDITION_FAILED,
    TOO_LARGE,
    TOO_MANY_REQUESTS,
    UNAUTHORIZED,
    UNAVAILABLE,
    UNSUPPORTED_FORMAT,
    Message,
    Option,
    words,
)

LONGEST_PAUSE_S = 300.0
"""A device that wants to be left alone for longer is asked after this all the same."""
FIRST_PAUSE_S = 60.0
_HINTS = {
    UNAUTHORIZED: "it wants credentials: `oscore`, or coaps with `dtls`",
    FORBIDDEN: "it does not allow that to us",
    NOT_FOUND: "it has no such resource: devicemesh discover coap://... lists those that it has",
    METHOD_NOT_ALLOWED: "the resource does not know this method: see `read` and `write` of the address",
    NOT_ACCEPTABLE: "it does not have this format: leave `format` away, or give another",
    UNSUPPORTED_FORMAT: "it does not take this format: give another as `format`",
    PRECONDITION_FAILED: "it was changed by others meanwhile",
    TOO_LARGE: "the value is too large for it",
    BAD_OPTION: "it does not understand an option of the request",
}


def quality(code: int) -> Quality:
    """Of the points that were asked for."""
    return Quality.BAD_ADDRESS if code == NOT_FOUND else Quality.REFUSED


def pause_s(response: Message) -> float:
    """How long a device wants to be left alone (RFC 7252, 5.9.3.4; RFC 8516); 0: it does not say."""
    if response.code not in (UNAVAILABLE, TOO_MANY_REQUESTS):
        return 0.0
    wanted = response.integer(Option.MAX_AGE)
    return min(float(FIRST_PAUSE_S if wanted is None else wanted), LONGEST_PAUSE_S)


def error(where: str, response: Message) -> PointError:
    """What to tell a person about a response that is no success."""
    said = words(response.code)
    hint = _HINTS.get(response.code, "")
    if pause := pause_s(response):
        hint = f"it wants to be left alone for {pause:.0f} s"
    told = _diagnosis(response)
    message = f"{where} says {said}" + (f" ({told})" if told else "") + (f": {hint}" if hint else "")
    reason = "BadAddress" if response.code == NOT_FOUND else "Refused"
    again_s = pause if response.code in (UNAVAILABLE, TOO_MANY_REQUESTS) else None
    return PointError(message, reason=reason, again_s=again_s)


def _diagnosis(response: Message) -> str:
    """The device's own words (RFC 7252, 5.5.2), as far as they are some."""
    if response.option(Option.CONTENT_FORMAT) not in (None, b""):
        return ""
    text = response.payload[:80].decode("utf-8", "replace")
    return text if text.isprintable() else ""
