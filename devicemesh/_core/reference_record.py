"""The readable twin of the C core: records (record.h) and their JSON."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any

from devicemesh._core.tagged import Tag

VERSION = 1
HEADER_BYTES, ROW_BYTES, READING_BYTES = 13, 9, 22  # the most that each can take, but for texts
MAX_TEXT_BYTES = 4 << 20
WHOLE_MAX = 1 << 24
STATISTICS = (
    "mean", "min", "max", "first", "last", "stddev", "sum", "range", "delta", "rms",
    "timeAverage", "percentGood", "durationNonzero", "transitions", "increase", "rate", "resets",
)  # fmt: skip
VALUES, SUMS = ("min", "max", "first", "last"), ("sum", "range", "delta", "increase")
TIMES = ("transitions", "resets")
QUANTILES = len(STATISTICS)  # the bit that says there are some
MAX_QUANTILES = 8
WORDS = {
    0x00: "Good",
    0x01: "Good.FromHistory",
    0x40: "Uncertain",
    0x41: "Uncertain.UnknownCode",
    0x42: "Uncertain.FromHistory",
    0x80: "Bad",
    0x81: "Bad.NoLink",
    0x82: "Bad.NoAnswer",
    0x83: "Bad.Refused",
    0x84: "Bad.BadAddress",
    0x85: "Bad.Undecodable",
    0x86: "Bad.Pending",
}


@dataclass(frozen=True)
class Value:
    tag: Tag
    plain: Any = None  # float, int, bool, or the bytes of a text

    @property
    def is_text(self) -> bool:
        return self.tag >= Tag.STRING

    @property
    def is_float(self) -> bool:
        return self.tag in (Tag.FLOAT, Tag.FLOAT32)


def is_float32(number: float) -> bool:
    """Whether a float32 holds the number."""
    return math.isfinite(number) and abs(number) <= 3.4028234663852886e38 and _as_float32(number) == number


def _as_float32(number: float) -> float:
    (rounded,) = struct.unpack("<f", struct.pack("<f", number))
    return float(rounded)


# ---- writing ----


def _varint(value: int) -> bytes:
    head = bytearray()
    while value >= 0x80:
        head.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*head, value])


def _signed(value: int) -> bytes:
    return _varint(2 * value if value >= 0 else -2 * value - 1)


def header(epoch: int, seq: int) -> bytes:
    return struct.pack("<BIQ", VERSION, epoch, seq)


def row(time: int) -> bytes:
    return struct.pack("<Bq", 0x01, time)


def reading(property_: int, quality: int, value: Value) -> bytes:
    op, payload = _payload(value)
    with_quality = bytes([quality]) if quality else b""
    return bytes([0x10 + op | (0x80 if quality else 0)]) + _varint(property_) + with_quality + payload


def _payload(value: Value) -> tuple[int, bytes]:
    plain = value.plain
    if value.is_float:
        negative_zero = plain == 0 and math.copysign(1, plain) < 0
        if abs(plain) <= WHOLE_MAX and plain == int(plain) and not negative_zero:
            return 3, _signed(int(plain))
        return (1, struct.pack("<d", plain)) if value.tag == Tag.FLOAT else (2, struct.pack("<f", plain))
    if value.tag == Tag.INTEGER:
        return 4, _signed(plain)
    if value.tag == Tag.BOOLEAN:
        return 5 + bool(plain), b""
    if value.is_text:
        return 2 + value.tag, _varint(len(plain)) + plain
    return 0, b""


def window(
    identity: tuple[int, int, int],
    span: tuple[int, int],
    rows: tuple[int, int],
    statistics: Sequence[float],
    quantiles: Sequence[tuple[int, float]],
) -> bytes:
    """A window of (property, kind, mask), (start, length) and (count, bad)."""
    property_, kind, mask = identity
    start, length = span
    mask |= bool(quantiles) << QUANTILES
    head = b"\x02" + _varint(property_) + bytes([kind]) + _varint(mask) + struct.pack("<q", start)
    chosen = [number for bit, number in enumerate(statistics) if mask >> bit & 1]
    found = b"".join(_varint(which) + struct.pack("<d", number) for which, number in quantiles)
    return (
        head
        + _varint(length)
        + _varint(rows[0])
        + _varint(rows[1])
        + struct.pack(f"<{len(chosen)}d", *chosen)
        + (_varint(len(quantiles)) + found if quantiles else b"")
    )


# ---- reading ----


class Reader:
    """Reads a body that it does not trust: every mistake is a ValueError."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.at = 0

    def bytes(self, count: int) -> bytes:
        piece = self.body[self.at : self.at + count]
        if len(piece) < count:
            raise ValueError("the record ends too early")
        self.at += count
        return piece

    def unpack(self, form: str) -> Any:
        (value,) = struct.unpack("<" + form, self.bytes(struct.calcsize("<" + form)))
        return value

    def varint(self) -> int:
        value = 0
        for shift in range(0, 64, 7):
            byte = self.bytes(1)[0]
            value |= (byte & 0x7F) << shift
            if value >> 64:
                break
            if byte < 0x80:
                return value
        raise ValueError("a varint is too long")

    def signed(self) -> int:
        raw = self.varint()
        return raw >> 1 if raw % 2 == 0 else -(raw + 1 >> 1)

    def property(self) -> int:
        if (index := self.varint()) >> 32:
            raise ValueError("a property is out of range")
        return index

    def text(self) -> Any:
        length = self.varint()
        if length > MAX_TEXT_BYTES:
            raise ValueError("a text is too long")
        return self.bytes(length)


def encode_json(body: bytes, names: Sequence[str]) -> bytes:
    """The payload of a body, or ValueError."""
    reader = Reader(body)
    if reader.unpack("B") != VERSION:
        raise ValueError("another version")
    payload: dict[str, Any] = {"epoch": reader.unpack("I"), "seq": reader.unpack("Q")}
    rows: list[dict[str, Any]] = []
    windows: list[dict[str, Any]] = []
    in_row = False
    while reader.at < len(body):
        op = reader.bytes(1)[0]
        if op == 0x01 and (not rows or rows[-1]["values"]):
            rows.append({"time": timestamp(reader.unpack("q")), "values": {}, "quality": {}})
        elif op == 0x02 and (not rows or rows[-1]["values"]):
            windows.append(_read_window(reader, names))
        elif op & 0x7F in range(0x10, 0x1A) and in_row:
            _read_reading(reader, op, names, rows[-1])
        else:
            raise ValueError(f"unexpected {op:#x}")
        in_row = op != 0x02
    if rows and not rows[-1]["values"]:
        raise ValueError("an empty row")
    if rows:
        payload["rows"] = [{key: each for key, each in row.items() if each} for row in rows]
    if windows:
        payload["windows"] = windows
    return json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()


def _read_reading(reader: Reader, op: int, names: Sequence[str], into: dict[str, Any]) -> None:
    property_ = reader.property()
    quality = reader.bytes(1)[0] if op & 0x80 else 0
    into["values"][names[property_]] = _read_value(reader, op & 0x0F)
    if quality:
        into["quality"][names[property_]] = quality_word(quality)


def _read_value(reader: Reader, tag: int) -> Any:
    if tag == 2:
        return shortest_float32(reader.unpack("f"))
    if tag in (1, 3):
        return _or_none(reader.unpack("d") if tag == 1 else float(reader.signed()))
    if tag == 4:
        return reader.signed()
    if tag in (7, 8, 9):
        text = reader.text()
        if tag == 7:
            return text.decode()
        return base64.b64encode(text).decode() if tag == 8 else json.loads(text)
    return {0: None, 5: False, 6: True}[tag]


def _read_window(reader: Reader, names: Sequence[str]) -> dict[str, Any]:
    property_ = reader.property()
    kind, mask, start = reader.unpack("B"), reader.varint(), reader.unpack("q")
    length, count, bad = reader.varint(), reader.varint(), reader.varint()
    if kind > 4 or mask >> QUANTILES + 1 or start + length >= 1 << 63:
        raise ValueError("no window")
    found: dict[str, Any] = {
        "name": names[property_],
        "start": timestamp(start),
        "end": timestamp(start + length),
    }
    found.update(count=count, bad=bad)
    for bit, name in enumerate(STATISTICS):
        if mask >> bit & 1:
            found[name] = _statistic(name, kind, reader.unpack("d"))
    if mask >> QUANTILES & 1:
        found |= _read_quantiles(reader, kind)
    return found


def _read_quantiles(reader: Reader, kind: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    count = reader.varint()
    if not 0 < count <= MAX_QUANTILES:
        raise ValueError("no number of quantiles")
    for _ in range(count):
        if (which := reader.varint()) > 100_000:
            raise ValueError("no quantile")
        percent = f"{which // 1000}.{which % 1000:03}".rstrip("0").rstrip(".")
        found[f"p{percent}"] = _of_kind(kind, reader.unpack("d"))
    return found


def _statistic(name: str, kind: int, number: float) -> float | None:
    if name in VALUES or (name in SUMS and kind == 1):
        return _of_kind(kind, number)
    counted = name in TIMES or (name in SUMS and kind == 2)
    return _of_kind(1, number) if counted else _or_none(number)


def _or_none(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _of_kind(kind: int, number: float) -> float | None:
    if not math.isfinite(number):
        return None
    if kind == 1 and abs(number) <= 1 << 53 and number == int(number):
        return int(number)
    if kind == 2:
        return number != 0
    return shortest_float32(number) if kind == 4 and is_float32(number) else number


def quality_word(code: int) -> str:
    """As mapper.Quality.word; a code without a word is its severity and its number."""
    return WORDS.get(code) or f"{('Good', 'Uncertain', 'Bad', 'Bad')[code >> 6]}.0x{code:02X}"


def timestamp(time_ns: int) -> str:
    """RFC 3339 in UTC, the fraction without trailing zeros."""
    second, nanosecond = divmod(time_ns, 10**9)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
    fraction = f".{nanosecond:09}".rstrip("0") if nanosecond else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def shortest_float32(number: float) -> float | None:
    """The number with the fewest digits that is nearest to a float32 and reads back as it."""
    if not math.isfinite(number) or number == 0:
        return _or_none(number)
    exact = Decimal(number)
    for digits in range(1, 10):
        near = {Context(digits, rounding).create_decimal(exact) for rounding in (ROUND_FLOOR, ROUND_CEILING)}
        same = [each for each in near if is_float32_of(each, number)]
        if same:
            return float(min(same, key=lambda each: (abs(each - exact), each.as_tuple().digits[-1] % 2)))
    return number


def is_float32_of(text: Decimal, number: float) -> bool:
    """Whether a decimal rounds to the float32 `number` (directly, not by way of a double)."""
    (bits,) = struct.unpack("<i", struct.pack("<f", abs(number)))
    beside = [struct.unpack("<f", struct.pack("<i", bits + step))[0] for step in (-1, 1)] if bits else []
    low, high = beside
    size, exact = abs(text), Decimal(abs(number))
    upper = (exact + Decimal(high)) / 2 if math.isfinite(high) else exact + (exact - Decimal(low)) / 2
    lower = (exact + Decimal(low)) / 2
    return lower <= size <= upper if bits % 2 == 0 else lower < size < upper
