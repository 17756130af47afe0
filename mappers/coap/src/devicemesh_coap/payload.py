"""Bodies by content format: text, JSON, CBOR and SenML, to plain values and back. Pure.

Whatever is wrong with a body raises `PayloadError`, in words. Depth and size of what is built are bounded by
the size of the body (`max_payload`), MOST_TIMES and MAX_DEPTH.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

TEXT, LINKS, XML, OCTETS, JSON, MERGE_PATCH, CBOR = 0, 40, 41, 42, 50, 52, 60
SENML_JSON, SENSML_JSON, SENML_CBOR, SENSML_CBOR = 110, 111, 112, 113
ETCH_JSON, ETCH_CBOR = 320, 322
FORMATS = {
    "text": TEXT, "json": JSON, "cbor": CBOR, "senml+json": SENML_JSON, "senml+cbor": SENML_CBOR,
    "binary": OCTETS,
}  # fmt: skip
NAMES = {
    TEXT: "text/plain", LINKS: "link-format", XML: "xml", OCTETS: "octet-stream", 47: "exi", JSON: "json",
    MERGE_PATCH: "merge-patch+json", CBOR: "cbor", SENML_JSON: "senml+json", SENSML_JSON: "sensml+json",
    SENML_CBOR: "senml+cbor", SENSML_CBOR: "sensml+cbor", ETCH_JSON: "senml-etch+json",
    ETCH_CBOR: "senml-etch+cbor", 11542: "LwM2M TLV", 11543: "LwM2M JSON",
}  # fmt: skip
"""Content formats (IANA, CoAP Content-Formats)."""
SENML = frozenset({SENML_JSON, SENSML_JSON, SENML_CBOR, SENSML_CBOR})
MAX_DEPTH = 64
MOST_TIMES = 16
"""How much larger than its body a document may be."""
MAX_NUMBER = 400
"""Characters of a number in text."""


MOST_BITS = 1024
"""Of an integer that is written out: longer ones are no JSON for anybody."""


class PayloadError(ValueError):
    """A body that is not what its content format says, in words."""


def name(content_format: int | None) -> str:
    """For people."""
    if content_format is None:
        return "no content format"
    return NAMES.get(content_format, f"content format {content_format}")


def text(body: bytes) -> str:
    """A text body. Raises PayloadError."""
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PayloadError(f"the text is no UTF-8 at byte {error.start}") from error


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def from_json(body: bytes) -> Any:
    """A JSON document. Raises PayloadError."""
    try:
        document = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise PayloadError(f"malformed JSON: {why}") from error
    return _bounded(document, len(body))


def from_cbor(body: bytes) -> Any:
    """A CBOR document (RFC 8949); one item, and nothing behind it. Raises PayloadError."""
    import cbor2  # here: who speaks no CBOR does not pay for it

    stream = io.BytesIO(body)
    try:
        document = cbor2.CBORDecoder(stream).decode()
    except Exception as error:  # its tags call constructors of the standard library
        why = (
            "it is nested too deep"
            if isinstance(error, RecursionError)
            else str(error) or type(error).__name__
        )
        raise PayloadError(f"malformed CBOR: {why}") from error
    if stream.tell() < len(body):
        raise PayloadError(f"malformed CBOR: {len(body) - stream.tell()} bytes behind its end")
    return _bounded(document, len(body))


def _bounded(document: Any, size: int) -> Any:
    """The document of a body of `size` bytes, if it is not too deep, and not too large.

    References of CBOR can make a circle, and of one list thousands in thousands: each counts as if it held
    what it refers to.
    """
    level, left = [document], MOST_TIMES * size
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for one in level:
            left -= _weight(one)
            if isinstance(one, Mapping):
                left -= sum(map(_weight, one))
                below += one.values()
            elif isinstance(one, list | tuple):
                below += one
            if left < len(below):
                raise PayloadError("the document refers to its parts again and again: it is too large")
        if not below:
            return document
        level = below
    raise PayloadError(f"the document is nested deeper than {MAX_DEPTH}")


def _weight(value: Any) -> int:
    """The bytes that a value takes, about, without those in it."""
    if isinstance(value, str | bytes):
        return len(value) + 1
    return value.bit_length() // 8 + 1 if isinstance(value, int) else 1


def plain(value: Any) -> Any:
    """A value out of CBOR as JSON has it: base64url for bytes, text for what has no counterpart."""
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, bytes):
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        return hex(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    import cbor2

    return None if value is cbor2.undefined else str(value)[:1024]


def tokens(pointer: str) -> tuple[str, ...]:
    """The reference tokens of a JSON pointer (RFC 6901, 4)."""
    return tuple(one.replace("~1", "/").replace("~0", "~") for one in pointer.split("/")[1:])


def at(document: Any, pointer: str) -> Any:
    """What a pointer points at. Raises PayloadError, which says how far it leads."""
    place = document
    done = ""
    for token in tokens(pointer):
        if (
            isinstance(place, list | tuple)
            and token.isascii()
            and token.isdigit()
            and int(token) < len(place)
        ):
            place = place[int(token)]
        elif isinstance(place, Mapping) and token in place:
            place = place[token]
        elif isinstance(place, Mapping) and _number(token) in place:  # keys of CBOR maps
            place = place[_number(token)]
        else:
            raise PayloadError(f"the document has no {done}/{token}{_offers(place)}")
        done += f"/{token}"
    return place


def _number(token: str) -> int | None:
    digits = token.removeprefix("-")
    return int(token) if digits.isascii() and digits.isdigit() and len(digits) < 20 else None


def _offers(place: Any) -> str:
    if isinstance(place, Mapping):
        keys = ", ".join(str(key)[:30] for key in list(place)[:8])
        return f", only {keys}" if keys else ": it is empty there"
    return f": it has {len(place)} elements there" if isinstance(place, list | tuple) else ""


def put(document: Any, pointer: str, value: Any) -> Any:
    """The document with another value at a pointer; a map is made where there is nothing."""
    if not pointer:
        return value
    first, *_ = tokens(pointer)
    rest = pointer[1:].partition("/")
    below = f"/{rest[2]}" if rest[1] else ""
    if isinstance(document, list | tuple):
        number = _number(first)
        if number is None or not 0 <= number < len(document):
            raise PayloadError(f"the document has no element {first}: it has {len(document)}")
        changed = list(document)
        changed[number] = put(changed[number], below, value)
        return changed
    held = dict(document) if isinstance(document, Mapping) else {}
    key: Any = first
    if first not in held and _number(first) in held:
        key = _number(first)
    held[key] = put(held.get(key), below, value)
    return held


def to_json(document: Any) -> bytes:
    """Raises PayloadError for what JSON has no word for."""
    try:
        return json.dumps(
            plain(document), ensure_ascii=False, separators=(",", ":"), allow_nan=False
        ).encode()
    except ValueError as error:
        raise PayloadError(f"{document!r} is no JSON: {error}") from error


def to_cbor(document: Any) -> bytes:
    """A document; floats are float64."""
    import cbor2

    return cbor2.dumps(document)


def number(word: str) -> int | float:
    """A number in text. Raises PayloadError."""
    if word.isascii() and "_" not in word and len(word) <= MAX_NUMBER:
        for read in (int, float):
            try:
                return read(word)
            except ValueError:
                continue
    brief = word if len(word) <= 40 else f"{word[:37]}..."
    raise PayloadError(f"{brief!r} is no number")


def shown(values: Sequence[str]) -> str:
    """The first of many names, for people."""
    return ", ".join(values[:8]) + (f" and {len(values) - 8} more" if len(values) > 8 else "")
