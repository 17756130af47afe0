"""Looking into a server: what it is, how it can be reached, and which variables it has."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devicemesh.mapper import ConfigError, Found, PointError, Secrets, no_secrets
from devicemesh_opcua import binary, services
from devicemesh_opcua.channel import ua
from devicemesh_opcua.connect import endpoints
from devicemesh_opcua.describe import Variable, model_yaml, range_of, unit_of
from devicemesh_opcua.lookup import built_in
from devicemesh_opcua.model import OpcUaEndpoint
from devicemesh_opcua.nodeid import NodeName, parse_node
from devicemesh_opcua.server import VALUE, Node, Server
from devicemesh_opcua.services import ServiceFaultError
from devicemesh_opcua.session import open_session
from devicemesh_opcua.uri import format_endpoint, parse_place

MOST_NODES = 50_000
"""Nodes that are looked at, at most."""
HIERARCHICAL, HAS_PROPERTY = 33, 46
SERVER_OBJECT = Node(0, 2253)
OBJECT, VARIABLE = 1, 2
_IDENTITY = {"vendor": 2263, "product": 2261, "revision": 2264}
_ATTRIBUTES = (VALUE, 14, 15, 17, 5)  # Value, DataType, ValueRank, AccessLevel, Description
_EU_INFORMATION, _RANGE = "i=889", "i=886"


@dataclass(frozen=True, slots=True)
class _Seen:
    """A node on the way."""

    node: Node
    path: tuple[str, ...]
    is_variable: bool


async def discover(uri: str, secrets: Secrets = no_secrets) -> AsyncIterator[Found]:
    """The server behind a URI, and its variables below `root` (by default the Objects folder) and `path`."""
    endpoint, path = parse_place(uri)
    offers = sorted({_offer(one) for one in await endpoints(endpoint)})
    async with open_session(endpoint, secrets) as session:
        identity = await _identity(session.server)
        variables = await browse(session.server, endpoint, path)
        points = [(one.node.text, one.sample) for one in variables]
        about = {**identity, "security": ", ".join(offers)}
        manifest = model_yaml(endpoint, variables, _name(identity)) if variables else ""
        yield Found(format_endpoint(endpoint), about, points, manifest)


def _name(identity: Mapping[str, str]) -> str:
    """A resource's name out of what the server calls itself."""
    word = re.sub(r"[^a-z0-9]+", "-", identity.get("product", "").lower())[:40].strip("-")
    return word or "opcua-server"


def _offer(one: Any) -> str:
    return f"{str(one.SecurityPolicyUri).rpartition('#')[2]}/{one.SecurityMode.name.strip('_')}"


async def _identity(server: Server) -> dict[str, str]:
    held = await server.values(_IDENTITY.values())
    told = {name: str(one.value) for name, one in zip(_IDENTITY, held, strict=True) if one.value}
    return told | ({"application": server.namespaces[1]} if len(server.namespaces) > 1 else {})


async def browse(server: Server, endpoint: OpcUaEndpoint, path: Sequence[str] = ()) -> list[Variable]:
    """Every variable below the root and a path, but for the standard's.

    Raises LinkError, PointError, and ConfigError where there is no such path.
    """
    root = server.node(parse_node(endpoint.root), endpoint.namespaces)
    seen: dict[Node, _Seen] = {}
    properties: list[tuple[Node, str, Node]] = []  # variable, name, property
    beside: dict[tuple[str, ...], list[str]] = {}  # below each part of the path: what does not lead there
    level = [_Seen(root, (), False)]
    while level and len(seen) < MOST_NODES:
        below: list[_Seen] = []
        for parent, references in await _children(server, level):
            for one in references:
                node = Node(one.NodeId.NamespaceIndex, one.NodeId.Identifier)
                name = str(one.BrowseName.Name)
                if one.ReferenceTypeId == ua.NodeId(HAS_PROPERTY):
                    properties.append((parent.node, name, node))
                elif not _on_the_way((*parent.path, name), path):
                    beside.setdefault(parent.path, []).append(name)
                elif node not in seen and node not in (SERVER_OBJECT, root):
                    found = _Seen(node, (*parent.path, name), one.NodeClass == ua.NodeClass.Variable)
                    seen[node] = found
                    below.append(found)
        level = below
    if path and all(one.path != tuple(path) for one in seen.values()):
        raise ConfigError(f"{server.link} has no {_nothing(path, max(beside, key=len, default=()), beside)}")
    named = range(1, len(server.namespaces))  # not the standard's, nor those that the server does not tell
    wanted = [one for one in seen.values() if one.is_variable and one.node.place in named]
    return await _described(server, [one for one in wanted if len(one.path) >= len(path)], properties)


def _nothing(path: Sequence[str], last: tuple[str, ...], beside: Mapping[tuple[str, ...], list[str]]) -> str:
    """That there is no such path, and what there is where it ends."""
    there = sorted(set(beside.get(last, [])))
    shown = ", ".join(f"{name:.60}" for name in there[:12]) + (", ..." if len(there) > 12 else "")
    where = f"below `{'/'.join(last)}`" if last else "there"
    return f"`{'/'.join(path)}`; {where} is {shown or 'nothing'}"


def _on_the_way(names: Sequence[str], path: Sequence[str]) -> bool:
    """Whether a node leads to a path, or lies below it."""
    return all(name == wanted for name, wanted in zip(names, path, strict=False))


async def _children(server: Server, level: Sequence[_Seen]) -> list[tuple[_Seen, list[Any]]]:
    """The objects and variables right below each node."""
    found: list[tuple[_Seen, list[Any]]] = []
    for start in range(0, len(level), server.limits.browse):
        part = level[start : start + server.limits.browse]
        request = ua.BrowseRequest()
        request.Parameters.NodesToBrowse = [
            ua.BrowseDescription(
                NodeId=one.node.foreign,
                BrowseDirection=ua.BrowseDirection.Forward,
                ReferenceTypeId=ua.NodeId(HIERARCHICAL),
                IncludeSubtypes=True,
                NodeClassMask=OBJECT | VARIABLE,
                ResultMask=ua.BrowseResultMask.All,
            )
            for one in part
        ]
        results = await _called(server, request)
        for parent, result in zip(part, results.Results, strict=False):
            references = list(result.References or ())
            references += await _rest(server, result.ContinuationPoint)
            found.append((parent, references))
    return found


async def _rest(server: Server, point: bytes | None) -> list[Any]:
    """What did not fit in the first answer."""
    more: list[Any] = []
    while point and len(more) < MOST_NODES:
        request = ua.BrowseNextRequest()
        request.Parameters.ContinuationPoints = [point]
        results = (await _called(server, request)).Parameters.Results
        if not results or not results[0].References:
            break  # it may promise more without end
        more += results[0].References
        point = results[0].ContinuationPoint
    return more


async def _called(server: Server, request: Any) -> Any:
    try:
        return await server.call(request)
    except ServiceFaultError as fault:
        raise PointError(f"{server.link} can't be browsed: service fault 0x{fault.status:08X}") from fault


async def _described(
    server: Server, variables: Sequence[_Seen], properties: Sequence[tuple[Node, str, Node]]
) -> list[Variable]:
    """The variables with what their attributes and properties say of them."""
    items = [services.item(v.node.encoded, attribute, None) for v in variables for attribute in _ATTRIBUTES]
    wanted = [p for p in properties if p[1] in ("EngineeringUnits", "EURange")]
    items += [services.item(node.encoded, VALUE, None) for _, _, node in wanted]
    held = [value for value, _, _ in await _read(server, items)]
    width = len(_ATTRIBUTES)
    units: dict[Node, str | None] = {}
    ranges: dict[Node, tuple[float, float] | None] = {}
    for (owner, _, _), shown in zip(wanted, held[width * len(variables) :], strict=True):
        if isinstance(shown.value, binary.Structure):
            if shown.value.type_id == _EU_INFORMATION:
                units[owner] = unit_of(shown.value.body)
            elif shown.value.type_id == _RANGE:
                ranges[owner] = range_of(shown.value.body)
    made = []
    for at, one in enumerate(variables):
        value, data_type, rank, access, about = held[width * at : width * (at + 1)]
        kind = value.kind or await _kind(server, data_type)
        low, high = ranges.get(one.node) or (None, None)
        is_array = value.is_array or (isinstance(rank.value, int) and rank.value >= 1)
        level = access.value if isinstance(access.value, int) else 1
        name = NodeName(server.namespaces[one.node.place], one.node.identifier)
        text = about.value if isinstance(about.value, str) else None
        made.append(
            Variable(name, one.path, value, kind, is_array, level, text, units.get(one.node), low, high)
        )
    return made


async def _kind(server: Server, data_type: binary.Typed) -> int:
    """The built-in type of a node that holds nothing."""
    if not isinstance(data_type.value, NodeName):
        return binary.NULL
    try:
        return await built_in(server, data_type.value)
    except PointError:
        return binary.NULL


async def _read(server: Server, items: Sequence[bytes]) -> list[tuple[binary.Typed, int, int]]:
    try:
        return await server.read(items)
    except ServiceFaultError as fault:
        server.check(fault)
        raise PointError(f"{server.link} can't be read: service fault 0x{fault.status:08X}") from fault
