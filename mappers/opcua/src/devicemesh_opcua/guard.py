"""What asyncua does not check in messages of a peer, made good. The only place that changes asyncua.

asyncua 2.1 takes an array's length, and that of a text, as the peer says it: seven bytes declare an array of
755 million nothings, and a text of -4 bytes never ends a list. Values do not come this way (binary.py), but
the answers of all other services do.
"""

from __future__ import annotations

import struct
from typing import Any

from asyncua import ua as asyncua_types
from asyncua.common.utils import Buffer, NotEnoughData
from asyncua.ua import ua_binary

ua: Any = asyncua_types
_unguarded_array = ua_binary.unpack_uatype_array
_unguarded_read = Buffer.read
_unguarded_skip = Buffer.skip


def _array(kind: Any, data: Any) -> Any:
    (count,) = struct.unpack("<i", data.copy(4).read(4))
    if count > len(data) - 4:
        raise NotEnoughData(f"an array of {count} elements where {len(data) - 4} bytes are left")
    if kind == ua.VariantType.Null and count >= 0:
        raise ua.UaError("an array of nothing")
    return _unguarded_array(kind, data)


def _read(self: Buffer, size: int) -> bytes:
    if size < 0:
        raise NotEnoughData(f"a length of {size}")
    return _unguarded_read(self, size)


def _skip(self: Buffer, size: int) -> None:
    if size < 0:
        raise NotEnoughData(f"a length of {size}")
    _unguarded_skip(self, size)


def install() -> None:
    """Guard asyncua's decoder, for the whole process; again is no harm."""
    ua_binary.unpack_uatype_array = _array  # type: ignore[assignment]
    Buffer.read = _read  # type: ignore[method-assign]
    Buffer.skip = _skip  # type: ignore[method-assign]
