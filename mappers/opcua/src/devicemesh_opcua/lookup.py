"""What nodes say of each other: the types below a type, the ends of references (Part 4, 5.8.2)."""

from __future__ import annotations

from typing import Any

from devicemesh.mapper import PointError
from devicemesh_opcua import binary, services
from devicemesh_opcua import status as codes
from devicemesh_opcua.channel import ua
from devicemesh_opcua.nodeid import NodeName
from devicemesh_opcua.server import MOST, Node, Server
from devicemesh_opcua.services import ServiceFaultError

HAS_SUBTYPE = 45


async def held_kind(server: Server, node: Node, attribute: int) -> tuple[int, bool]:
    """The built-in type that a node holds, and whether it is an array. Raises PointError.

    What it holds now says it best; an empty one has to be looked up by its DataType and that one's
    supertypes.
    """
    items = [services.item(node.encoded, one, None) for one in (attribute, 14, 15)]
    try:
        (held, status, _), (data_type, type_status, _), (rank, _, _) = await server.read(items)
    except ServiceFaultError as fault:
        server.check(fault)
        raise codes.error(server.link, fault.status) from fault
    if held.kind != binary.NULL and not status >> 31:
        return held.kind, held.is_array
    if not isinstance(data_type.value, NodeName):
        raise codes.error(server.link, type_status or status or codes.BAD_NODE_ID_UNKNOWN)
    return await built_in(server, data_type.value), isinstance(rank.value, int) and rank.value >= 1


async def built_in(server: Server, name: NodeName) -> int:
    """The built-in type below a DataType."""
    current = server.said(name)
    for _ in range(20):
        if current.place == 0 and isinstance(current.identifier, int) and current.identifier <= 25:
            return current.identifier
        if current == Node(0, 29):  # Enumeration
            return 6
        current = await inverse(server, current, HAS_SUBTYPE)
    raise PointError(f"{server.link} does not say what {name.text} is", reason="UnknownDataType")


async def inverse(server: Server, node: Node, reference: int) -> Node:
    """Where a reference to this node comes from. Raises PointError."""
    references = await _references(server, node, reference, ua.BrowseDirection.Inverse)
    if not references:
        raise PointError(f"{server.link} does not say what {node.foreign} is", reason="UnknownDataType")
    return references[0][0]


async def forward(server: Server, node: Node, reference: int) -> list[tuple[Node, str]]:
    """Where references of this node go to, and the names there. Raises PointError."""
    return await _references(server, node, reference, ua.BrowseDirection.Forward)


async def _references(server: Server, node: Node, reference: int, direction: Any) -> list[tuple[Node, str]]:
    """The other ends, with their browse names; the first `MOST` of them. Raises PointError."""
    browse = ua.BrowseDescription(
        NodeId=node.foreign,
        BrowseDirection=direction,
        ReferenceTypeId=ua.NodeId(reference),
        IncludeSubtypes=False,
        ResultMask=ua.BrowseResultMask.BrowseName,
    )
    request = ua.BrowseRequest()
    request.Parameters.NodesToBrowse = [browse]
    try:
        results = (await server.call(request)).Results
    except ServiceFaultError as fault:
        raise codes.error(server.link, fault.status) from fault
    if not results:
        raise PointError(f"{server.link} sent too few results", reason="Undecodable")
    return [
        (Node(one.NodeId.NamespaceIndex, one.NodeId.Identifier), one.BrowseName.Name or "")
        for one in (results[0].References or ())[:MOST]
    ]
