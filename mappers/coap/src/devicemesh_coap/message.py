"""CoAP messages: bytes to fields and back (RFC 7252, 3). Pure.

Nothing in a datagram is believed: lengths are checked before they are used, and what does not parse raises
`MessageError`, never anything else.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

CON, NON, ACK, RST = range(4)
EMPTY = 0
GET, POST, PUT, DELETE, FETCH, PATCH, IPATCH = range(1, 8)
METHODS = {
    "GET": GET, "POST": POST, "PUT": PUT, "DELETE": DELETE, "FETCH": FETCH, "PATCH": PATCH, "iPATCH": IPATCH,
}  # fmt: skip
CREATED, DELETED, VALID, CHANGED, CONTENT, CONTINUE = 0x41, 0x42, 0x43, 0x44, 0x45, 0x5F
BAD_REQUEST, UNAUTHORIZED, BAD_OPTION, FORBIDDEN, NOT_FOUND = 0x80, 0x81, 0x82, 0x83, 0x84
METHOD_NOT_ALLOWED, NOT_ACCEPTABLE, INCOMPLETE, PRECONDITION_FAILED = 0x85, 0x86, 0x88, 0x8C
TOO_LARGE, UNSUPPORTED_FORMAT, TOO_MANY_REQUESTS, UNAVAILABLE = 0x8D, 0x8F, 0x9D, 0xA3
CODES = {
    0x41: "Created", 0x42: "Deleted", 0x43: "Valid", 0x44: "Changed", 0x45: "Content", 0x5F: "Continue",
    0x80: "Bad Request", 0x81: "Unauthorized", 0x82: "Bad Option", 0x83: "Forbidden", 0x84: "Not Found",
    0x85: "Method Not Allowed", 0x86: "Not Acceptable", 0x88: "Request Entity Incomplete", 0x89: "Conflict",
    0x8C: "Precondition Failed", 0x8D: "Request Entity Too Large", 0x8F: "Unsupported Content-Format",
    0x96: "Unprocessable Entity", 0x9D: "Too Many Requests", 0xA0: "Internal Server Error",
    0xA1: "Not Implemented", 0xA2: "Bad Gateway", 0xA3: "Service Unavailable", 0xA4: "Gateway Timeout",
    0xA5: "Proxying Not Supported",
}  # fmt: skip
"""Response codes (RFC 7252, 12.1.2; 7959; 8132; 8516)."""


class Option(enum.IntEnum):
    """Option numbers that are understood here (RFC 7252, 5.10; 7641; 7959; 8613; 9175)."""

    IF_MATCH = 1
    URI_HOST = 3
    ETAG = 4
    IF_NONE_MATCH = 5
    OBSERVE = 6
    URI_PORT = 7
    LOCATION_PATH = 8
    OSCORE = 9
    URI_PATH = 11
    CONTENT_FORMAT = 12
    MAX_AGE = 14
    URI_QUERY = 15
    ACCEPT = 17
    LOCATION_QUERY = 20
    BLOCK2 = 23
    BLOCK1 = 27
    SIZE2 = 28
    PROXY_URI = 35
    PROXY_SCHEME = 39
    SIZE1 = 60
    ECHO = 252
    REQUEST_TAG = 292


_LIMITS: dict[int, int] = dict.fromkeys(map(int, Option), 1034) | {
    Option.ETAG: 8, Option.OBSERVE: 3, Option.CONTENT_FORMAT: 2, Option.MAX_AGE: 4, Option.ACCEPT: 2,
    Option.BLOCK1: 3, Option.BLOCK2: 3, Option.SIZE1: 4, Option.SIZE2: 4,
}  # fmt: skip
"""The most bytes that a known option may have."""
_TEXTS = frozenset({Option.URI_HOST, Option.URI_PATH, Option.URI_QUERY, Option.LOCATION_PATH})
Options = tuple[tuple[int, bytes], ...]
_MARKER = 0xFF
MAX_TOKEN = 8
LATEST_DEFAULT_S = 60
"""Max-Age where a message states none (RFC 7252, 5.10.5)."""


class MessageError(ValueError):
    """Bytes that are no CoAP message, in words."""


class Block(NamedTuple):
    """A Block1 or Block2 option (RFC 7959, 2.2)."""

    number: int
    more: bool
    exponent: int  # the block has 2 ** (exponent + 4) bytes; 7 is reserved

    @property
    def size(self) -> int:
        return 1 << (self.exponent + 4)

    def encoded(self) -> bytes:
        return uint(self.number << 4 | self.more << 3 | self.exponent)


@dataclass(slots=True)
class Message:
    """One message. Options are in order of their numbers."""

    code: int
    options: Options = ()
    payload: bytes = b""
    token: bytes = b""
    mid: int = 0
    type: int = CON
    flaw: str = field(default="", compare=False)  # why a response can't be used although its header is sound

    def option(self, number: int) -> bytes | None:
        """The first one of this number."""
        for found, value in self.options:
            if found == number:
                return value
        return None

    def all(self, number: int) -> list[bytes]:
        """Every one of this number."""
        return [value for found, value in self.options if found == number]

    def integer(self, number: int) -> int | None:
        """An option of format uint."""
        value = self.option(number)
        return None if value is None else int.from_bytes(value, "big")

    def block(self, number: int) -> Block | None:
        """Block1 or Block2."""
        value = self.integer(number)
        return None if value is None else Block(value >> 4, bool(value & 8), value & 7)

    def texts(self, number: int) -> list[str]:
        """Every option of this number, of format string."""
        return [value.decode("utf-8", "replace") for value in self.all(number)]

    def having(self, *more: tuple[int, bytes]) -> Options:
        """The options, those of `more` in place of others of their numbers."""
        replaced = {number for number, _ in more}
        return ordered([one for one in self.options if one[0] not in replaced] + list(more))

    def without(self, *numbers: int) -> Options:
        """The options but these."""
        return tuple(one for one in self.options if one[0] not in numbers)


def ordered(options: Iterable[tuple[int, bytes]]) -> Options:
    """In order of their numbers; those of one number stay as they were."""
    return tuple(sorted(options, key=lambda one: one[0]))


def uint(value: int) -> bytes:
    """A number in as few bytes as it takes; 0 in none (RFC 7252, 3.2)."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def dotted(code: int) -> str:
    """`4.04`."""
    return f"{code >> 5}.{code & 31:02}"


def words(code: int) -> str:
    """`4.04 Not Found`."""
    return f"{dotted(code)} {CODES[code]}" if code in CODES else dotted(code)


def succeeded(code: int) -> bool:
    return code >> 5 == 2


def encode(message: Message) -> bytes:
    """As it goes into a datagram. Raises ValueError for a token or an option that is too long."""
    token = message.token
    if len(token) > MAX_TOKEN:
        raise ValueError(f"a token of {len(token)} bytes")
    head = bytes((0x40 | message.type << 4 | len(token), message.code, message.mid >> 8, message.mid & 0xFF))
    body = encode_options(message.options)
    return b"".join((head, token, body, b"\xff" + message.payload if message.payload else b""))


def encode_options(options: Iterable[tuple[int, bytes]]) -> bytes:
    """The options alone (RFC 7252, 3.1); they must be in order."""
    parts = []
    last = 0
    for number, value in options:
        delta, delta_more = _split(number - last)
        length, length_more = _split(len(value))
        parts.append(bytes((delta << 4 | length,)) + delta_more + length_more + value)
        last = number
    return b"".join(parts)


def _split(value: int) -> tuple[int, bytes]:
    """A nibble, and the bytes that extend it."""
    if value < 13:
        return value, b""
    if value < 269:
        return 13, bytes((value - 13,))
    return 14, (value - 269).to_bytes(2, "big")


def decode(data: bytes) -> Message:
    """The message in a datagram. Raises MessageError.

    An unknown critical option, or one that its format does not allow, does not raise: the message bears it as
    its `flaw`, for it has still to be acknowledged or reset.
    """
    if len(data) < 4:
        raise MessageError(f"a message of {len(data)} bytes")
    first = data[0]
    if first >> 6 != 1:
        raise MessageError(f"version {first >> 6}")
    length = first & 0x0F
    if length > MAX_TOKEN:
        raise MessageError(f"token length {length}")
    at = 4 + length
    if len(data) < at:
        raise MessageError("it ends inside its token")
    code, mid = data[1], data[2] << 8 | data[3]
    if code == EMPTY and len(data) != 4:
        raise MessageError("an empty message with something in it")
    message = Message(code, (), b"", data[4:at], mid, first >> 4 & 3)
    message.options, message.payload, message.flaw = decode_options(data, at)
    return message


def decode_options(data: bytes, at: int) -> tuple[Options, bytes, str]:
    """Options, payload, and what is wrong with an option. Raises MessageError."""
    options: list[tuple[int, bytes]] = []
    flaw, number, end = "", 0, len(data)
    while at < end:
        byte = data[at]
        at += 1
        if byte == _MARKER:
            if at == end:
                raise MessageError("a payload marker without a payload")
            return tuple(options), data[at:], flaw
        delta, length = byte >> 4, byte & 15
        if delta > 12:
            delta, at = _extended(data, at, delta)
        if length > 12:
            length, at = _extended(data, at, length)
        number += delta
        if at + length > end:
            raise MessageError(f"option {number} of {length} bytes reaches past its end")
        value = data[at : at + length]
        at += length
        limit = _LIMITS.get(number)
        if limit is None or length > limit or number in _TEXTS:
            wrong = _flaw(number, value)
            if wrong and not number & 1:
                continue  # elective: as if it were not there
            flaw = flaw or wrong
        options.append((number, value))
    return tuple(options), b"", flaw


def _extended(data: bytes, at: int, nibble: int) -> tuple[int, int]:
    size = nibble - 12
    if nibble == 15:
        raise MessageError("an option delta or length of 15")
    if at + size > len(data):
        raise MessageError("it ends inside an option")
    return int.from_bytes(data[at : at + size], "big") + (13 if size == 1 else 269), at + size


def _flaw(number: int, value: bytes) -> str:
    """What is wrong with an option, or nothing (RFC 7252, 5.4.1 and 5.4.3)."""
    if number not in _LIMITS:
        return f"critical option {number}, which is unknown here" if number & 1 else ""
    if len(value) > _LIMITS[number]:
        return f"option {number} of {len(value)} bytes"
    if number in _TEXTS:
        try:
            value.decode("utf-8")
        except UnicodeDecodeError:
            return f"option {number}, which is no UTF-8"
    return ""
