"""What an Edge Node and its devices say of themselves: birth and death certificates. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from devicemesh.sink.segment import POLICIES
from devicemesh.sink.sparkplug.metrics import Definition, Metrics
from devicemesh.sink.sparkplug.told import held, quality
from devicemesh.sink.sparkplug.wire import Metric, Type, encode
from devicemesh.sink.told import Told

BD_SEQ, REBIRTH = "bdSeq", "Node Control/Rebirth"
NODE_METRICS = Metrics(Definition(f"Dropped/{policy}", Type.INT64, at) for at, policy in enumerate(POLICIES))
"""Of the node itself, beside what its birth says once."""


def node_death(bd_seq: int, time_ms: int) -> bytes:
    """NDEATH, without a sequence number (section 6.4.25, payloads-ndeath-seq)."""
    return encode([Metric(BD_SEQ, None, Type.INT64, bd_seq, time_ms)], time_ms)


def node_birth(bd_seq: int, time_ms: int, version: str, dropped: Mapping[str, int]) -> bytes:
    """NBIRTH (section 6.4.19). What this runtime had to drop, by policy, are its metrics."""
    own = {
        BD_SEQ: (Type.INT64, bd_seq),
        REBIRTH: (Type.BOOLEAN, False),
        "Properties/Software": (Type.STRING, "DeviceMesh"),
        "Properties/Version": (Type.STRING, version),
    }
    counts = {name: (Type.INT64, dropped.get(name.partition("/")[2], 0)) for name in NODE_METRICS}
    return encode(
        [Metric(name, None, type_, value, time_ms) for name, (type_, value) in (own | counts).items()],
        time_ms,
    )


def device_birth(metrics: Metrics, known: Mapping[str, Told], first_alias: int | None, time_ms: int) -> bytes:
    """DBIRTH (section 6.4.23): every metric, with its newest value; null where none is known.

    Of what can only be told (alarms, commands) the rest position is known: false.
    """
    found = []
    for definition in metrics.values():
        told = known.get(definition.name)
        value = held(told.value, definition) if told is not None else definition.rest
        properties = dict(definition.properties)
        if told is not None:
            properties |= quality(told.quality)
        alias = None if first_alias is None else first_alias + definition.offset
        time = told.time_ms if told is not None else time_ms
        found.append(Metric(definition.name, alias, definition.type, value, time, properties=properties))
    return encode(found, time_ms)


def device_death(time_ms: int) -> bytes:
    """DDEATH: nothing but its time."""
    return encode([], time_ms)
