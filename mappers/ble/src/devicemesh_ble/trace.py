"""How a value comes out of bytes, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from devicemesh.mapper import Batch, PointError, Quality, Trace
from devicemesh.spec.values import Scalar, ValueType
from devicemesh_ble.advert import Advert, record_of
from devicemesh_ble.decode import BlePoint
from devicemesh_ble.sig import uuid
from devicemesh_ble.vendors import PARSERS

Heard: TypeAlias = tuple[Advert, Batch]


def read_request(handle: int) -> bytes:
    """ATT_READ_REQ (Core Specification, volume 3, part F, 3.4.4.3)."""
    return b"\x0a" + handle.to_bytes(2, "little")


def record(point: BlePoint, advert: Advert) -> bytes:
    """The bytes of an advertisement that the point is in."""
    address = point.address
    if address.beacon is not None:
        format_ = address.beacon.partition("/")[0]
        if format_ in PARSERS:
            return b"".join([*advert.manufacturer.values(), *advert.service_data.values()])
        return record_of(advert, format_) or b""
    if address.manufacturer is not None:
        return advert.manufacturer.get(address.manufacturer, b"")
    if address.service_data is not None:
        return advert.service_data.get(uuid(address.service_data), b"")
    return b""


def typed(value: Any, type_: ValueType) -> Scalar:
    """A column's value as the declared type."""
    if type_ == ValueType.BOOL:
        return bool(value)
    return int(value) if type_.is_integer else value


def made(point: BlePoint, request: bytes, response: bytes, batch: Batch) -> Trace:
    """Raises PointError for a value that could not be decoded."""
    if batch.error is not None:
        raise PointError(str(batch.error), reason=batch.error.reason)
    quality = Quality(batch.quality if isinstance(batch.quality, int) else batch.quality[0])
    address = point.address
    part = response
    if address.beacon is None and address.signal is None:
        field = address.field(point.type)
        part = response[field.offset :][: field.size] if field.size else response[field.offset :]
    return Trace(request, response, part, list(_steps(point)), typed(batch.value[0], point.type), quality)


def _steps(point: BlePoint) -> Iterator[str]:
    address = point.address
    if address.signal is not None:
        yield f"{address.signal}, as the radio says"
        return
    if address.beacon is not None:
        yield f"{address.beacon}, as the format has it"
        return
    field = address.field(point.type)
    yield f"{address.text}: {address.special or field.type} at {field.offset}, {address.byte_order}-endian"
    if field.bit is not None:
        yield f"bit {field.bit}, {field.width} wide"
    scale = address.where[1]
    if scale != 1.0 or address.add:
        yield f"x {scale:g} + {address.add:g}"
