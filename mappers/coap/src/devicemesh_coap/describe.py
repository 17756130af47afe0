"""From what a device says of itself to a model and a device in YAML, ready to be applied. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devicemesh.spec.units import canonical
from devicemesh.spec.values import ValueType
from devicemesh_coap import lwm2m, payload, senml
from devicemesh_coap.links import Link
from devicemesh_coap.message import Message, Option
from devicemesh_coap.model import CoapEndpoint
from devicemesh_coap.payload import CBOR, JSON, OCTETS, SENML, TEXT, PayloadError

MAX_NAME = 63
MAX_LEAVES = 64
"""Values of one document that become properties."""
_WRITABLE = {"core.a", "core.p"}
"""Interfaces of what can be set (CoRE interfaces)."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A value of a device: where it lies, and what it was when it was looked at."""

    path: str
    value: Any
    address: Mapping[str, str]  # the address's fields but the path
    unit: str | None = None
    writable: bool = False
    title: str = ""

    @property
    def type(self) -> ValueType:
        if isinstance(self.value, bool):
            return ValueType.BOOL
        if isinstance(self.value, int | float):
            return ValueType.FLOAT64  # the next one may have a fraction
        if isinstance(self.value, str):
            return ValueType.STRING
        return ValueType.BYTES if isinstance(self.value, bytes) else ValueType.JSON

    @property
    def text(self) -> str:
        """The address in its short form."""
        if "pointer" in self.address:
            return f"{self.path}#{self.address['pointer']}"
        return f"{self.path}!{self.address['record']}" if "record" in self.address else self.path

    @property
    def sample(self) -> str:
        """Its type and value, for people."""
        value = json.dumps(payload.plain(self.value), ensure_ascii=False)
        shown = value if len(value) <= 40 else f"{value[:37]}..."
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.type}  {shown}{unit}{'  writable' if self.writable else ''}"


def spots(link: Link, response: Message, now_ns: int) -> list[Spot]:
    """The values of a resource. Raises PayloadError where its body makes no sense."""
    path, body = link.target, response.payload
    form = response.integer(Option.CONTENT_FORMAT)
    title = link.about.get("title", "")
    writable = bool(_WRITABLE & set(link.about.get("if", "").split())) or lwm2m.writable(path)
    if form in (TEXT, None):
        word = payload.text(body)
        try:
            value: Any = payload.number(word.strip())
        except PayloadError:
            value = word
        return [Spot(path, value, {}, lwm2m.unit(path), writable, title)]
    if form in (JSON, CBOR):
        document = payload.from_cbor(body) if form == CBOR else payload.from_json(body)
        fields = {"format": "cbor"} if form == CBOR else {}
        leaves = list(_leaves(document, ""))[:MAX_LEAVES]
        return [
            Spot(path, value, {**fields, "pointer": at} if at else fields, None, writable, title)
            for at, value in leaves
        ]
    if form in SENML:
        found = {one.name: one for one in senml.records(body, form, now_ns)}
        name = "senml+cbor" if form == payload.SENML_CBOR else "senml+json"
        return [
            Spot(path, one.value, {"format": name, "record": one.name}, one.unit or lwm2m.unit(one.name),
                 writable or lwm2m.writable(one.name))
            for one in list(found.values())[:MAX_LEAVES]
        ]  # fmt: skip
    if form == OCTETS:
        return [Spot(path, body, {}, None, writable, title)]
    return []


def _leaves(document: Any, at: str) -> Iterator[tuple[str, Any]]:
    """The scalars of a document and the pointers to them; a list is one value."""
    if isinstance(document, Mapping) and document:
        for key, value in document.items():
            token = str(key).replace("~", "~0").replace("/", "~1")
            yield from _leaves(value, f"{at}/{token}")
    elif document is not None:
        yield at, document


def names(found: Sequence[Spot]) -> list[str]:
    """A property's name for each: as short a part of its way as tells it apart."""
    taken: set[str] = set()
    given = []
    for one in found:
        ways = [*re.split(r"[/;:?]+", one.path + "/" + one.address.get("record", ""))]
        ways += payload.tokens(one.address.get("pointer", ""))
        parts = [_word(part) for part in ways]
        parts = [part for part in parts if part] or ["value"]
        meant = lwm2m.name(one.address.get("record", one.path))
        choices = [meant] if meant else []
        choices += [".".join(parts[-depth:]) for depth in range(1, len(parts) + 1)]
        choices += [f"{parts[-1]}-{number}" for number in range(2, len(found) + 3)]
        name = next(c for c in (_name(choice) for choice in choices) if c not in taken)
        taken.add(name)
        given.append(name)
    return given


def _word(part: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", part).strip("-")


def _name(choice: str) -> str:
    return (choice if re.match(r"[A-Za-z_]", choice) else f"_{choice}")[-MAX_NAME:].lstrip(".-") or "x"


def resource_name(text: str) -> str:
    """A resource's name out of any text: `coap-10-0-0-5`."""
    word = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return f"coap-{word}"[:56].strip("-")


def model_yaml(endpoint: CoapEndpoint, found: Sequence[Spot], name: str) -> str:
    """A DeviceModel `name` with a property for each value, and a Device `name`-1 that is this device."""
    head = "---\napiVersion: devicemesh.io/v1alpha1\nkind: {}\nmetadata: {{name: {}}}\nspec:"
    lines = [head.format("DeviceModel", name), "  properties:"]
    for word, one in zip(names(found), found, strict=True):
        lines += _property(word, one)
    lines += [head.format("Device", f"{name}-1"), f"  modelRef: {{name: {name}}}"]
    fields = endpoint.model_dump(by_alias=True, exclude_unset=True, mode="json")
    lines.append(f"  endpoint: {{coap: {json.dumps(fields, ensure_ascii=False)}}}")
    return "\n".join(lines) + "\n"


def _property(word: str, one: Spot) -> Iterator[str]:
    yield f"  - name: {word}"
    yield f"    type: {one.type}"
    if one.type.is_number and (unit := _unit(one.unit)):
        yield f"    unit: {json.dumps(unit, ensure_ascii=False)}"
    if one.title:
        yield f"    description: {json.dumps(one.title, ensure_ascii=False)}"
    if one.writable:
        yield "    access: ReadWrite"
    fields = json.dumps({"path": one.path, **one.address}, ensure_ascii=False)
    yield f"    address: {{coap: {fields}}}"


def _unit(text: str | None) -> str | None:
    """The unit, if it is one that is known here."""
    try:
        return canonical(text) if text else None
    except ValueError:
        return None
