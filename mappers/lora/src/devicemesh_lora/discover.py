"""Discovery: listen to a network server's application for a while, and say which devices have spoken."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from devicemesh.mapper import Found, Secrets
from devicemesh.spec.places import dump
from devicemesh_lora import uri
from devicemesh_lora.broker import connected
from devicemesh_lora.endpoint import LoraEndpoint
from devicemesh_lora.happening import MessageError, Reported
from devicemesh_lora.servers import account, dialect

MOST_DEVICES = 1000
MOST_VALUES = 64
"""Of one decoded payload."""


async def discover(uri_: str, secrets: Secrets) -> AsyncIterator[Found]:
    """Devices as they are heard, each once. Raises ConfigError, AuthError, LinkError."""
    endpoint, seconds = uri.parse_application(uri_)
    heard: asyncio.Queue[Reported] = asyncio.Queue(MOST_DEVICES)
    seen: set[str] = set()

    def receive(topic: str, payload: bytes | None, retained: bool) -> None:
        try:
            event = dialect(endpoint).decode(endpoint.server, topic, payload or b"", time.time_ns())
        except MessageError:
            return
        if isinstance(event, Reported) and event.eui not in seen and len(seen) < MOST_DEVICES:
            seen.add(event.eui)
            heard.put_nowait(event)

    async with connected(account(endpoint, secrets), receive) as broker:
        await broker.subscribe(dialect(endpoint).topics(endpoint.server, ()), dialect(endpoint).qos)
        end = asyncio.get_running_loop().time() + seconds
        while True:
            try:
                async with asyncio.timeout_at(end):
                    event = await heard.get()
            except TimeoutError:
                break
            broker.tend()
            yield found(endpoint, event)


def found(endpoint: LoraEndpoint, event: Reported) -> Found:
    """A device out of an uplink. Pure."""
    spots = list(_leaves(event.decoded, ""))[:MOST_VALUES]
    identity = {"port": str(event.port), "counter": str(event.counter)}
    for name in ("dataRate", "rssi", "gateway"):
        if event.known.get(name) is not None:
            identity[name] = str(event.known[name])
    if event.device_id and event.device_id != event.eui:
        identity["id"] = event.device_id
    points = [(f"{event.port or ''}#{at}", json.dumps(value)[:40]) for at, value in spots]
    return Found(uri.format_server(endpoint, event.eui), identity, points, manifest(endpoint, event, spots))


def _leaves(place: Any, at: str) -> Iterator[tuple[str, Any]]:
    """The scalars of a decoded payload, and the pointers to them."""
    if isinstance(place, Mapping):
        for name, value in place.items():
            token = str(name).replace("~", "~0").replace("/", "~1")
            if at.count("/") < 8:
                yield from _leaves(value, f"{at}/{token}")
    elif isinstance(place, bool | int | float | str) and at:
        yield at, place


def manifest(endpoint: LoraEndpoint, event: Reported, spots: list[tuple[str, Any]]) -> str:
    """A model and a device that can be applied; secrets are named, and have to be put there."""
    properties: list[dict[str, Any]] = []
    for at, value in spots:
        word = re.sub(r"[^A-Za-z0-9_.-]+", "-", at.strip("/").replace("/", ".")).strip("-.") or "value"
        word = (word if word[0].isalpha() or word[0] == "_" else f"_{word}")[:60]
        name = next(one for one in (word, *(f"{word}-{n}" for n in range(2, 99)))
                    if all(one != held["name"] for held in properties))  # fmt: skip
        type_ = "bool" if isinstance(value, bool) else "string" if isinstance(value, str) else "float64"
        address = {"lora": {"port": event.port, "pointer": at}}
        properties.append({"name": name, "type": type_, "address": address})
    for stat, unit in (("rssi", "dBm"), ("snr", "dB")):
        if all(held["name"] != stat for held in properties):
            properties.append(
                {"name": stat, "type": "float64", "unit": unit, "address": {"lora": {"stat": stat}}}
            )
    name = f"lora-{event.eui}"
    where = endpoint.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude={"gateway"})
    documents = [
        {"apiVersion": "devicemesh.io/v1alpha1", "kind": "DeviceModel", "metadata": {"name": name},
         "spec": {"properties": properties}},
        {"apiVersion": "devicemesh.io/v1alpha1", "kind": "Device", "metadata": {"name": name},
         "spec": {"modelRef": {"name": name}, "endpoint": {"lora": {**where, "devEui": event.eui}}}},
    ]  # fmt: skip
    return f"---\n{dump(documents)}"
