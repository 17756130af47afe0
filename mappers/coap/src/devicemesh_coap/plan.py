"""Points to resources, and bodies to columns. Pure.

Points that live in one resource share its requests: a body is taken apart once, for all of them.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from devicemesh.layout import Layout
from devicemesh.mapper import Batch, MapperError, Point, PointError, Quality
from devicemesh.spec.values import ValueType, duration_ns
from devicemesh_coap import convert, payload, senml
from devicemesh_coap.message import FETCH, METHODS, Option, Options, ordered, uint
from devicemesh_coap.model import CoapAddress, CoapEndpoint, segments
from devicemesh_coap.payload import CBOR, JSON, OCTETS, SENML, SENML_CBOR, SENML_JSON, TEXT, PayloadError

CoapPoint: TypeAlias = Point[CoapEndpoint, CoapAddress]
_DOCUMENTS = frozenset({JSON, payload.MERGE_PATCH, CBOR})


def bad(slots: Sequence[int], time_ns: int, quality: Quality, error: MapperError) -> Batch:
    """Rows without a value."""
    return Batch(array("I", slots), time_ns, array("d", [math.nan]) * len(slots), int(quality), error)


def uri_options(endpoint: CoapEndpoint, address: CoapAddress) -> Options:
    """Uri-Path and Uri-Query of a resource, below the endpoint's prefix (RFC 7252, 6.4)."""
    path, _, query = address.path.partition("?")
    options = [(int(Option.URI_PATH), one.encode()) for one in (*endpoint.prefix, *segments(path))]
    options += [(int(Option.URI_QUERY), one.encode()) for one in query.split("&") if one]
    return ordered(options)


def candidates(address: CoapAddress) -> tuple[int | None, ...]:
    """What to ask for (Accept), in order: the next one where a device does not have it (4.06)."""
    if address.format is not None:
        return (payload.FORMATS[address.format],)
    if address.record is not None:
        return (SENML_CBOR, SENML_JSON, None)
    return (None,)


@dataclass(eq=False)
class Resource:
    """Points that one request serves."""

    where: str  # for people: coap://10.0.0.5:5683/sensors
    uri: Options
    method: int
    accepts: tuple[int | None, ...]
    points: list[CoapPoint] = field(default_factory=list)
    accept: int | None = None  # the one that the device knows
    decoder: Decoder = field(init=False)

    def __post_init__(self) -> None:
        self.accept = self.accepts[0]

    @property
    def slots(self) -> list[int]:
        return [point.slot for point in self.points]

    @property
    def endpoint(self) -> CoapEndpoint:
        return self.points[0].endpoint

    @property
    def interval_s(self) -> float:
        """The shortest of its points' sampling intervals."""
        return min(duration_ns(point.telemetry.sampling_interval) for point in self.points) / 1e9

    @property
    def options(self) -> Options:
        """Those of a request for it."""
        if self.accept is None:
            return self.uri
        return ordered((*self.uri, (Option.ACCEPT, uint(self.accept))))

    def next_format(self) -> bool:
        """Ask for another format from now on; False where there is none left."""
        later = self.accepts[self.accepts.index(self.accept) + 1 :]
        if later:
            self.accept = later[0]
        return bool(later)

    def bad(self, time_ns: int, quality: Quality, error: MapperError) -> Batch:
        """All of its points, without a value."""
        return bad(self.slots, time_ns, quality, error)

    def body(self) -> tuple[Options, bytes]:
        """What a FETCH for it bears: the records by their names (RFC 8790, 4)."""
        if self.method != FETCH:
            return self.options, b""
        form = senml.etch(self.accept if self.accept is not None else SENML_CBOR)
        names = dict.fromkeys(point.address.record or "" for point in self.points)
        options = ordered((*self.options, (Option.CONTENT_FORMAT, uint(form))))
        return options, senml.encode(form, [(name, None) for name in names])


def resources(points: Sequence[CoapPoint]) -> list[Resource]:
    """Points by the request that serves them, in order of their first ones."""
    found: dict[Any, Resource] = {}
    for point in points:
        endpoint, address = point.endpoint, point.address
        method = METHODS[address.read]
        uri, accepts = uri_options(endpoint, address), candidates(address)
        key = (uri, method, accepts)
        if key not in found:
            path = "".join(f"/{one}" for one in endpoint.prefix) + address.path
            where = endpoint.link() + path.partition("?")[0]
            found[key] = Resource(where, uri, method, accepts)
        found[key].points.append(point)
    for one in found.values():
        one.decoder = Decoder(one.where, one.points)
    return list(found.values())


class Decoder:
    """Takes the bodies of one resource apart."""

    def __init__(self, where: str, points: Sequence[CoapPoint]) -> None:
        self._where = where
        self._points = [point for point in points if point.address.offset is None]
        cut = [point for point in points if point.address.offset is not None]
        fields = [point.address.field(point.type) for point in cut]
        self._layout = Layout(fields, [point.slot for point in cut]) if cut else None
        # the common case, without a row builder: one number in a text body
        only = points[0]
        address = only.address
        plain = address.pointer is None and address.record is None and address.offset is None
        unlimited = only.type in (ValueType.FLOAT32, ValueType.FLOAT64) and not address.scaled
        self._number = array("I", [only.slot]) if len(points) == 1 and plain and unlimited else None

    def batches(self, body: bytes, content_format: int | None, now_ns: int, every: bool) -> list[Batch]:
        """The rows of a body. `every`: all records of a name, else the latest; a poll has one row a point."""
        if self._number is not None and content_format in (TEXT, None):
            try:
                value = float(body)
            except ValueError:
                pass
            else:
                if math.isfinite(value) and b"_" not in body:
                    return [Batch(self._number, now_ns, array("d", (value,)))]
        made: list[Batch] = []
        if self._layout is not None:
            made += self._cut(body, content_format, now_ns)
        if self._points:
            made += _Body(self._where, body, content_format, now_ns).batches(self._points, every)
        return made

    def _cut(self, body: bytes, content_format: int | None, now_ns: int) -> list[Batch]:
        assert self._layout is not None
        if content_format not in (OCTETS, None):
            sent = payload.name(content_format)
            error = PointError(f"{self._where} sends {sent}, binary is declared", reason="Undecodable")
            return self._layout.bad(now_ns, Quality.UNDECODABLE, error)
        return self._layout.decode(body, now_ns)


class _Body:
    """One body, taken apart at most once in each way."""

    def __init__(self, where: str, body: bytes, content_format: int | None, now_ns: int) -> None:
        self._where = where
        self._body = body
        self._format = content_format
        self._now_ns = now_ns
        self._done: dict[str, Any] = {}

    def batches(self, points: Sequence[CoapPoint], every: bool) -> list[Batch]:
        rows = _Rows(self._where, self._now_ns)
        for point in points:
            try:
                for time_ns, value in self._values(point, every):
                    rows.good(point, time_ns, value)
            except PayloadError as error:
                rows.bad(point.slot, str(error))
        return rows.batches()

    def _values(self, point: CoapPoint, every: bool) -> list[tuple[int, Any]]:
        address, type_ = point.address, point.type
        if address.record is not None:
            return self._recorded(point, every)
        if address.pointer is not None:
            value = payload.at(self._taken("document"), address.pointer)
            return [(self._now_ns, convert.typed(value, type_, address))]
        return self._whole(point)

    def _recorded(self, point: CoapPoint, every: bool) -> list[tuple[int, Any]]:
        address = point.address
        by_name: dict[str, list[senml.Record]] = self._taken("records")
        found = by_name.get(address.record or "")
        if not found:
            raise PayloadError(f"the pack has no record {address.record!r}, only {payload.shown([*by_name])}")
        chosen = found if every else [max(found, key=lambda one: one.time_ns)]
        return [(one.time_ns, convert.typed(one.value, point.type, address)) for one in chosen]

    def _whole(self, point: CoapPoint) -> list[tuple[int, Any]]:
        address, type_, form = point.address, point.type, self._format
        if form is None:
            form = OCTETS if type_ == ValueType.BYTES else TEXT
        if form == OCTETS and type_ == ValueType.BYTES:
            return [(self._now_ns, self._body)]
        if form in (TEXT, payload.LINKS, payload.XML):
            return [(self._now_ns, convert.from_text(payload.text(self._body), type_, address))]
        if form in _DOCUMENTS:
            return [(self._now_ns, convert.typed(self._taken("document"), type_, address))]
        if form in SENML:
            by_name: dict[str, list[senml.Record]] = self._taken("records")
            if type_ == ValueType.JSON:
                records = [one for named in by_name.values() for one in named]
                listed = [{"n": r.name, "u": r.unit, "t": r.time_ns / 1e9, "v": r.value} for r in records]
                return [(self._now_ns, payload.plain(listed))]
            if len(by_name) != 1:
                raise PayloadError(f"it is a pack: say which `record`, of {payload.shown([*by_name])}")
            one = max(next(iter(by_name.values())), key=lambda r: r.time_ns)
            return [(one.time_ns, convert.typed(one.value, type_, address))]
        hint = "give the value's `offset`" if form == OCTETS else "ask for another with `format`"
        raise PayloadError(f"it is {payload.name(form)}: {hint}")

    def _taken(self, way: str) -> Any:
        """The document, or the records by name. Raises PayloadError, the same one each time."""
        if way not in self._done:
            try:
                self._done[way] = self._document() if way == "document" else self._records()
            except PayloadError as error:
                self._done[way] = error
        found = self._done[way]
        if isinstance(found, PayloadError):
            raise found
        return found

    def _document(self) -> Any:
        if self._format in (CBOR, SENML_CBOR):
            return payload.from_cbor(self._body)
        if self._format in (JSON, payload.MERGE_PATCH, SENML_JSON, TEXT, None):
            return payload.from_json(self._body)
        raise PayloadError(f"it is {payload.name(self._format)}, where json or cbor is declared")

    def _records(self) -> dict[str, list[senml.Record]]:
        form = self._format
        if form in (CBOR, JSON, TEXT, None):  # from devices that do not know the formats' numbers
            form = SENML_CBOR if form == CBOR else SENML_JSON
        if form not in (*SENML, payload.ETCH_JSON, payload.ETCH_CBOR) or form is None:
            raise PayloadError(f"it is {payload.name(self._format)}, where SenML is declared")
        by_name: dict[str, list[senml.Record]] = {}
        for one in senml.records(self._body, form, self._now_ns):
            by_name.setdefault(one.name, []).append(one)
        return by_name


class _Rows:
    """Columns under construction."""

    def __init__(self, where: str, now_ns: int) -> None:
        self._where = where
        self._now_ns = now_ns
        self._numbers: list[tuple[int, int, float]] = []
        self._integers: list[tuple[int, int, Any]] = []
        self._objects: list[tuple[int, int, Any]] = []
        self._bad: dict[str, list[int]] = {}

    def good(self, point: CoapPoint, time_ns: int, value: Any) -> None:
        type_ = point.type
        if type_ in (ValueType.INT64, ValueType.UINT64):
            rows = self._integers if value < 1 << 63 else self._objects
            rows.append((point.slot, time_ns, value))
        elif type_ == ValueType.BOOL or type_.is_number:
            self._numbers.append((point.slot, time_ns, float(value)))
        else:
            self._objects.append((point.slot, time_ns, value))

    def bad(self, slot: int, why: str) -> None:
        self._bad.setdefault(why, []).append(slot)

    def batches(self) -> list[Batch]:
        made = []
        if self._numbers:
            slots, times, numbers = zip(*self._numbers, strict=True)
            made.append(Batch(array("I", slots), array("q", times), array("d", numbers)))
        if self._integers:
            slots, times, integers = zip(*self._integers, strict=True)
            made.append(Batch(array("I", slots), array("q", times), array("q", integers)))
        if self._objects:
            slots, times, objects = zip(*self._objects, strict=True)
            made.append(Batch(array("I", slots), array("q", times), list(objects)))
        for why, bad_slots in self._bad.items():
            error = PointError(f"{self._where}: {why}", reason="Undecodable")
            made.append(bad(bad_slots, self._now_ns, Quality.UNDECODABLE, error))
        return made
