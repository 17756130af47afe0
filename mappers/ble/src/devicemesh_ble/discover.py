"""Discovery: listen for a while, and say who is there what was recognised; as YAML that can be applied."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence

from devicemesh.mapper import Found
from devicemesh.spec.places import dump
from devicemesh.spec.values import Scalar
from devicemesh_ble.advert import Advert, AdvertError, Guard, recognised, values
from devicemesh_ble.bthome import is_encrypted
from devicemesh_ble.model import BleEndpoint
from devicemesh_ble.sig import short
from devicemesh_ble.uri import format_endpoint, split
from devicemesh_ble.vendors import said_by_any

LISTEN_S = 5.0
_UNITS = {"temperature": "Cel", "humidity": "%RH", "pressure": "hPa", "voltage": "V", "battery": "%"}


async def discover(uri: str) -> AsyncIterator[Found]:
    """Peers heard by an adapter (`ble://hci0?seconds=10`). Raises ConfigError, LinkError."""
    from devicemesh_ble.adapter import open_adapter

    adapter_name, peer, given = split(uri)
    seconds = float(given.pop("seconds", LISTEN_S))
    endpoint = BleEndpoint.model_validate({"adapter": adapter_name, "address": "00:00:00:00:00:00", **given})
    heard: dict[str, list[Advert]] = {}

    def hear(advert: Advert) -> None:
        kept = heard.setdefault(advert.address, [])
        if all(_content(advert) != _content(one) for one in kept) and len(kept) < 32:
            kept.append(advert)

    async with open_adapter(endpoint) as adapter:
        with adapter.listening("*", hear):
            await asyncio.wait({adapter.lost}, timeout=seconds)
        adapter.check()
    for address in sorted(heard):
        if not peer or peer.upper() == address or any(one.name == peer for one in heard[address]):
            yield found(adapter_name, heard[address])


def _content(advert: Advert) -> tuple[object, ...]:
    return tuple(recognised(advert)), tuple(advert.manufacturer), tuple(advert.service_data), advert.name


def found(adapter: str, adverts: Sequence[Advert]) -> Found:
    """A device out of what it has advertised."""
    address = adverts[0].address
    name = next((one.name for one in adverts if one.name), None)
    endpoint = BleEndpoint(adapter=adapter, address=address)
    identity = {"address": address, "rssi": f"{adverts[-1].rssi} dBm"}
    if name:
        identity["name"] = name
    fields = _fields(adverts)
    formats = sorted(
        {one for advert in adverts for one in recognised(advert)} | {one.partition("/")[0] for one in fields}
    )
    if formats:
        identity["recognised"] = ", ".join(formats)
    services = sorted({short(one) for advert in adverts for one in advert.services})
    if services:
        identity["services"] = ", ".join(services)
    companies = sorted({f"0x{one:04x}" for advert in adverts for one in advert.manufacturer})
    if companies:
        identity["manufacturer data"] = ", ".join(companies)
    encrypted = any(
        is_encrypted(advert.service_data[key])
        for advert in adverts
        for key in advert.service_data
        if short(key) == "fcd2" and advert.service_data[key]
    )
    points = [(place, str(value)) for place, value in fields.items()]
    points.append(("signal:rssi", str(adverts[-1].rssi)))
    if encrypted:
        identity["encrypted"] = "BTHome: declare its `key`"
    return Found(format_endpoint(endpoint), identity, points, _manifest(endpoint, name, fields, encrypted))


def _fields(adverts: Sequence[Advert]) -> dict[str, Scalar]:
    fields: dict[str, Scalar] = {}
    for advert in adverts:
        for format_ in recognised(advert):
            try:
                said = values(advert, format_, Guard())
            except AdvertError:
                continue
            fields |= {f"{format_}/{name}": value for name, value in said.items() if value is not None}
        for format_, said in said_by_any(advert).items():
            fields |= {f"{format_}/{name}": value for name, value in said.items() if value is not None}
    return fields


def _manifest(endpoint: BleEndpoint, name: str | None, fields: dict[str, Scalar], encrypted: bool) -> str:
    """A model and a device that can be applied as they are."""
    word = re.sub(r"[^a-z0-9]+", "-", (name or "").lower()).strip("-")
    unique = endpoint.peer.replace(":", "").lower()
    title = f"{word[:40]}-{unique[-6:]}" if word else f"ble-{unique}"
    properties: list[dict[str, object]] = []
    for place, value in fields.items():
        kind = (
            "bool"
            if isinstance(value, bool)
            else "int64"
            if isinstance(value, int)
            else "string"
            if isinstance(value, str)
            else "bytes"
            if isinstance(value, bytes)
            else "float64"
        )
        own = place.partition("/")[2]
        prop: dict[str, object] = {"name": own.replace("#", "-").replace("_", "-"), "type": kind}
        if kind == "float64" and own in _UNITS:
            prop["unit"] = _UNITS[own]
        properties.append({**prop, "address": {"ble": {"beacon": place}}})
    taken = {one["name"] for one in properties}
    for own, kind, signal in (("rssi", "int16", "rssi"), ("last-seen", "int64", "lastSeen")):
        if own not in taken:
            properties.append({"name": own, "type": kind, "address": {"ble": {"signal": signal}}})
    declared: dict[str, object] = {"adapter": endpoint.adapter, "address": endpoint.address}
    if encrypted:
        declared["key"] = {"name": title, "key": "key"}
    head = {"apiVersion": "devicemesh.io/v1alpha1"}
    model = {**head, "kind": "DeviceModel", "metadata": {"name": title}, "spec": {"properties": properties}}
    spec = {"modelRef": {"name": title}, "endpoint": {"ble": declared}}
    device = {**head, "kind": "Device", "metadata": {"name": title}, "spec": spec}
    return dump([model, device])
