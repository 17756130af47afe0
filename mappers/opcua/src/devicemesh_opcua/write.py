"""Writing one value after another, each as the type that its node holds, and reading it back."""

from __future__ import annotations

from typing import TypeAlias

from devicemesh.mapper import Outcome, PointError, Write
from devicemesh.spec.values import Scalar
from devicemesh_opcua import binary, compose, convert, rows, services
from devicemesh_opcua import status as codes
from devicemesh_opcua.compose import Shape
from devicemesh_opcua.datatypes import Words
from devicemesh_opcua.learn import Learner, number
from devicemesh_opcua.lookup import held_kind
from devicemesh_opcua.model import OpcUaAddress, OpcUaEndpoint, OpcUaPoint
from devicemesh_opcua.server import ATTRIBUTES, Node, Server
from devicemesh_opcua.services import ServiceFaultError

OpcUaWrite: TypeAlias = Write[OpcUaEndpoint, OpcUaAddress]
_UNREADABLE = {0x803A0000, 0x801F0000}
"""BadNotReadable, BadUserAccessDenied."""


class Writer:
    """What it has learnt of nodes holds for the session."""

    def __init__(self, server: Server, learner: Learner) -> None:
        self._server = server
        self._learner = learner
        self._kinds: dict[Node, tuple[int, bool]] = {}
        self._shapes: dict[Node, Shape] = {}
        self._words: dict[Node, Words | None] = {}

    async def write(self, write: OpcUaWrite) -> Outcome:
        """One value. Raises LinkError."""
        point = write.point
        try:
            found = (await self._server.resolve([point]))[point.slot]
            if isinstance(found, PointError):
                return Outcome(error=found)
            variant = await self._variant(point, found, write.value)
            return await self._written(point, found, variant)
        except ServiceFaultError as fault:
            self._server.check(fault)
            return Outcome(error=codes.error(self._server.link, fault.status))
        except PointError as error:
            return Outcome(error=error)

    async def _variant(self, point: OpcUaPoint, node: Node, value: Scalar) -> bytes:
        if node not in self._kinds:
            self._kinds[node] = await held_kind(self._server, node, ATTRIBUTES[point.address.attribute])
        kind, is_array = self._kinds[node]
        words = await self._enumeration(point, node)
        shape = await self._shape(node) if kind == binary.EXTENSION_OBJECT else None
        if is_array and point.address.single and not isinstance(value, list):
            value = [value]
        try:
            if words is not None and isinstance(value, str):
                value = number(words, value)
            if isinstance(value, list) != is_array:
                held = "an array" if is_array else "one value"
                raise ValueError(
                    f"{value!r:.60} does not fit: the node holds {held} of {binary.TYPE_NAMES[kind]}"
                )
            return compose.variant(kind, value, is_array, shape)
        except ValueError as error:
            raise PointError(str(error), reason="WrongType") from error

    async def _shape(self, node: Node) -> Shape:
        """Of a node that holds structures."""
        if node not in self._shapes:
            self._shapes[node] = await self._learner.shape_at(node)
        return self._shapes[node]

    async def _enumeration(self, point: OpcUaPoint, node: Node) -> Words | None:
        """The words of a node whose property is a text. Raises PointError where the server is silent."""
        if node not in self._words:
            words, silent = await self._learner.words([(point, node)])
            if point.slot in silent:
                raise silent[point.slot]
            self._words[node] = words.get(point.slot)
        return self._words[node]

    async def _written(self, point: OpcUaPoint, node: Node, variant: bytes) -> Outcome:
        server, address = self._server, point.address
        where = services.target(node.encoded, ATTRIBUTES[address.attribute], address.index_range)
        lost: PointError | None = None
        try:
            body = await server.ask(services.WRITE_REQUEST, services.write_request(where, variant))
            status = services.write_response(body)
            if status >> 31:
                self._kinds.pop(node, None)  # its type may have changed
                self._shapes.pop(node, None)
                return Outcome(error=codes.error(server.link, status))
        except binary.DecodeError as error:
            lost = server.senseless(error)
        except PointError as error:  # the answer is lost: what reads back decides
            lost = error
        item = services.item(node.encoded, ATTRIBUTES[address.attribute], address.index_range)
        try:
            ((held, status, _),) = await server.read([item])
            if status & 0xFFFF0000 in _UNREADABLE and lost is None:
                return Outcome()
            want = convert.Want(point.type, address.single, self._words.get(node))
            value, _ = rows.single(server.link, held, status, want, server.types)
            if server.types.missing:
                await self._learner.structures()
                value, _ = rows.single(server.link, held, status, want, server.types)
        except PointError as error:
            return Outcome(error=lost or error)
        if lost is not None and not _holds(held, variant):
            message = f"{lost}, and it reads back as {value!r:.60}"
            return Outcome(value, PointError(message, reason=lost.reason))
        return Outcome(value, None)


def _holds(held: binary.Typed, variant: bytes) -> bool:
    """Whether what a node holds is what was written."""
    return binary.variant(variant, 0)[0] == held
