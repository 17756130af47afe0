"""What else there is to know of a runtime: its links, alarms and models, and itself."""

from __future__ import annotations

import functools
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any

from pydantic import ValidationError

from devicemesh import __version__
from devicemesh.api.answers import Query, refused
from devicemesh.mapper import Mapper
from devicemesh.plugins import GROUP
from devicemesh.runtime.histogram import Histogram
from devicemesh.runtime.link import Link
from devicemesh.runtime.occurrences import payload
from devicemesh.runtime.reporter import stamp
from devicemesh.runtime.runtime import Runtime, alarm
from devicemesh.spec.base import first_mistake
from devicemesh.spec.device import DeviceModel
from devicemesh.spec.units import symbol
from devicemesh.store.base import Key

LINK_PARAMETERS = ("q", "up", "limit")
ALARM_PARAMETERS = ("name", "q", "limit")
LIMIT, MOST = 100, 1000
_URGENCY = {"critical": 0, "warning": 1, "info": 2}


def links(runtime: Runtime, query: Query) -> dict[str, Any]:
    """The peers, those that are down first."""
    words, up = query.words(), query.flag("up")
    everything = runtime.supervisor.links
    found = [
        link
        for name, link in sorted(everything.items(), key=lambda item: (item[1].stats.up, item[0]))
        if up in (None, link.stats.up) and _holds(words, *name, link.stats.why)
    ]
    return {
        "total": len(everything),
        "matched": len(found),
        "links": [_link(link) for link in found[: query.number("limit", LIMIT, MOST)]],
    }


def _link(link: Link) -> dict[str, Any]:
    stats = link.stats
    return {
        "protocol": link.name[0],
        "link": link.name[1],
        "up": stats.up,
        "message": stats.why,
        "devices": len(link.devices()),
        "requests": {"ok": stats.answers, "failed": stats.failures},
        "errors": dict(stats.errors),
        "backoffSeconds": round(stats.backoff_s, 1),
        "opened": stats.reconnects,
        "overruns": stats.overruns,
        "lastSuccess": stamp(round(stats.last_success_s * 1e9)) if stats.last_success_s else None,
        "answerSeconds": {"mean": _mean(stats.request), "p95": stats.request.quantile(0.95)},
        "lost": dict(link.lost()),
    }


def _mean(histogram: Histogram) -> float | None:
    return round(histogram.sum_s / histogram.count, 6) if histogram.count else None


def alarms(runtime: Runtime, query: Query) -> dict[str, Any]:
    """What is active, the most urgent first, and of the equally urgent the newest."""
    words, names = query.words(), set(query.many("name"))
    everything = list(_alarms(runtime))
    found = [
        one
        for one in everything
        if (not names or one["name"] in names or f"{one['namespace']}/{one['name']}" in names)
        and _holds(words, *(str(value) for value in one.values()))
    ]
    found.sort(key=lambda one: one["time"], reverse=True)
    found.sort(key=lambda one: _URGENCY[one["severity"]])
    return {
        "total": len(everything),
        "matched": len(found),
        "alarms": found[: query.number("limit", LIMIT, MOST)],
    }


def _alarms(runtime: Runtime) -> Iterator[dict[str, Any]]:
    """Those of limits in models, and those that devices tell of; as on the topic `alarm`."""
    for (device, prop, _), event in runtime.alarms.items():
        yield {**_named(device), **alarm(prop, event), "unit": _unit(runtime, device, prop)}
    for device, source, one in runtime.occurrences.standing():
        yield {**_named(device), **payload(source, one)}


def _unit(runtime: Runtime, device: str, prop: str) -> str | None:
    found = runtime.supervisor.find(device)
    unit = found.specs[prop].unit if found is not None and prop in found.specs else None
    return symbol(unit) if unit else None


def _named(device: str) -> dict[str, str]:
    namespace, _, name = device.partition("/")
    return {"namespace": namespace, "name": name}


def _holds(words: list[str], *texts: str) -> bool:
    """Whether all words are in these texts."""
    text = " ".join(texts).casefold()
    return all(word in text for word in words)


def model(runtime: Runtime, namespace: str, name: str) -> dict[str, Any]:
    """What a model says of its properties and commands. Raises RefusedError."""
    declared = runtime.supervisor.declared(Key("DeviceModel", namespace, name))
    if declared is None:
        raise refused(404, f"there is no DeviceModel `{name}` in namespace {namespace}")
    try:
        spec = DeviceModel.model_validate(declared.body).spec
    except ValidationError as error:
        raise refused(422, f"DeviceModel `{name}` makes no sense: {first_mistake(error)}") from None
    body = spec.model_dump(
        mode="json",
        by_alias=True,
        exclude={"properties": {"__all__": {"address", "simulation"}}, "commands": {"__all__": {"address"}}},
    )
    for one in (*body["properties"], *(a for c in body["commands"] for a in c["arguments"])):
        one["unit"] = symbol(one["unit"]) if one["unit"] else None
    for event in body["events"]:
        del event["address"]
    return {"namespace": namespace, "name": name, "generation": declared.generation, **body}


def about(runtime: Runtime) -> dict[str, Any]:
    """The runtime itself."""
    sink, every = runtime.sink.stats(), runtime.supervisor.links.values()
    return {
        "version": __version__,
        "python": platform.python_version(),
        "instance": runtime.settings.instance,
        "started": stamp(round(runtime.started_s * 1e9)),
        "devices": runtime.states(),
        "links": {"total": len(every), "up": sum(link.stats.up for link in every)},
        "samples": runtime.samples(),
        "sink": {
            "up": sink.up,
            "message": sink.last_error or "",
            "accepted": sink.messages,
            "refused": sink.refusals,
            "connected": sink.reconnects,
        },
        "outbox": {
            "messages": sink.outbox_messages,
            "bytes": sink.outbox_bytes,
            "capacityBytes": sink.outbox_capacity_bytes,
            "oldest": stamp(round(sink.outbox_oldest_s * 1e9)) if sink.outbox_oldest_s else None,
        },
        "store": {"kind": runtime.store.kind, "writes": dict(runtime.reporter.writes)},
        "mappers": [_mapper(name, one) for name, one in sorted(runtime.mappers.items())],
        "loopLagSeconds": round(runtime.loop_lag_s, 3),
        "errors": runtime.errors,
    }


def _mapper(protocol: str, mapper: Mapper[Any, Any]) -> dict[str, str]:
    distribution, version = _distributions().get(type(mapper).__module__.partition(".")[0], ("", ""))
    return {"protocol": protocol, "distribution": distribution, "version": version}


@functools.cache
def _distributions() -> Mapping[str, tuple[str, str]]:
    """Name and version of each installed plugin, by its package. Reads the disk, once."""
    found = {one.module.partition(".")[0]: one.dist for one in entry_points(group=GROUP)}
    return {package: (dist.name, dist.version) for package, dist in found.items() if dist is not None}
