"""Methods (Part 4, 5.11): their arguments looked up once, the values as their data types, one call."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from devicemesh.mapper import Invocation, PointError
from devicemesh.spec.values import Scalar
from devicemesh_opcua import binary, compose, convert, services
from devicemesh_opcua import status as codes
from devicemesh_opcua.binary import DecodeError, Structure, Typed
from devicemesh_opcua.compose import Shape
from devicemesh_opcua.learn import Learner
from devicemesh_opcua.lookup import built_in
from devicemesh_opcua.model import OpcUaEndpoint, OpcUaMethod
from devicemesh_opcua.nodeid import NodeName
from devicemesh_opcua.server import VALUE, Node, Server, Wanted
from devicemesh_opcua.services import ServiceFaultError

Call: TypeAlias = Invocation[OpcUaEndpoint]
CALL_REQUEST, CALL_RESPONSE = 712, 715
_ARGUMENT = "i=298"
"""Encoding of an Argument (Part 3, 8.6)."""
_NOT_ASKED = {0x80AB0000}
"""BadInvalidArgument: the statuses of the arguments say which."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """An argument as the server declares it."""

    name: str
    data_type: NodeName
    is_array: bool


@dataclass(frozen=True, slots=True)
class Method:
    """A method on its object, as this session names them."""

    owner: Node
    node: Node
    takes: Sequence[tuple[Parameter, int, Shape | None]]  # with its built-in type; of a structure its shape
    gives: Sequence[str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back of a call."""

    status: int
    arguments: Sequence[int]  # statuses
    values: Sequence[Typed]


def parameter(body: bytes) -> Parameter:
    """Take an Argument apart. Raises DecodeError."""
    name, at = binary.string(body, 0)
    data_type, at = binary.node_id(body, at)
    if at + 4 > len(body):
        raise DecodeError("the message ends inside an Argument")
    (rank,) = struct.unpack_from("<i", body, at)
    return Parameter(name or "", data_type, rank >= 0)


def call_request(owner: bytes, method: bytes, arguments: Sequence[bytes]) -> bytes:
    """The parameters of a Call of one method; the arguments are Variants."""
    return struct.pack("<i", 1) + owner + method + struct.pack("<i", len(arguments)) + b"".join(arguments)


def call_response(body: bytes) -> Answer:
    """What became of the one method called. Raises DecodeError, ServiceFaultError."""
    count, at = binary.length(body, services.header(body, CALL_RESPONSE), 4)
    if count != 1 or at + 4 > len(body):
        raise DecodeError(f"{count} results instead of 1")
    (status,) = struct.unpack_from("<I", body, at)
    count, at = binary.length(body, at + 4, 4)
    arguments = struct.unpack_from(f"<{max(count, 0)}I", body, at)
    at += 4 * len(arguments)
    count, at = binary.length(body, at)
    for _ in range(count):
        at = binary.skip_diagnostic(body, at)
    count, at = binary.length(body, at)
    values = []
    for _ in range(count):
        value, at = binary.variant(body, at)
        values.append(value)
    return Answer(status, arguments, values)


def ordered(given: Mapping[str, Scalar], takes: Sequence[str]) -> list[tuple[str, Scalar]]:
    """The values as the method takes them: by their names where they are the same, else by their order.

    Raises ValueError where there are more or fewer.
    """
    if len(given) != len(takes):
        names = ", ".join(takes) or "none"
        raise ValueError(f"{len(given)} arguments are given, the method takes {len(takes)}: {names}")
    if set(given) == set(takes):
        return [(name, given[name]) for name in takes]
    return list(given.items())


class Caller:
    """What it has learnt of methods holds for the session."""

    def __init__(self, server: Server, learner: Learner) -> None:
        self._server = server
        self._learner = learner
        self._methods: dict[tuple[OpcUaMethod, str], Method] = {}

    async def invoke(self, call: Call) -> Mapping[str, Any]:
        """See `Invocable`."""
        server = self._server
        try:
            method = await self._method(call)
            request = call_request(method.owner.encoded, method.node.encoded, _encoded(call, method))
            answer = call_response(await server.ask(CALL_REQUEST, request))
        except ServiceFaultError as fault:
            server.check(fault)
            raise codes.error(server.link, fault.status) from fault
        except DecodeError as error:
            raise server.senseless(error) from error
        self._judge(call, method, answer)
        names = [*method.gives, *(f"result{i}" for i in range(len(method.gives), len(answer.values)))]
        plain = [convert.plain(one.kind, one.value, server.types) for one in answer.values]
        if server.types.missing:  # structures that are new here
            await self._learner.structures()
            plain = [convert.plain(one.kind, one.value, server.types) for one in answer.values]
        return dict(zip(names, plain, strict=False))

    def _judge(self, call: Call, method: Method, answer: Answer) -> None:
        """Raise PointError where it was not done, naming the argument that was wrong."""
        if not answer.status >> 31:
            return
        error = codes.error(self._server.link, answer.status)
        wrong = [
            f"`{name.name}`: {codes.text(status)}"
            for (name, _, _), status in zip(method.takes, answer.arguments, strict=False)
            if status >> 31
        ]
        if wrong:
            raise PointError(f"{error}: {'; '.join(wrong)}", reason="BadArguments")
        if answer.status & 0xFFFF0000 not in _NOT_ASKED:
            self._methods.pop((call.address, call.endpoint.root), None)  # it may have changed
        raise error

    async def _method(self, call: Call) -> Method:
        key = (call.address, call.endpoint.root)
        if key not in self._methods:
            self._methods[key] = await self._look_up(call)
        return self._methods[key]

    async def _look_up(self, call: Call) -> Method:
        """Find the method and what it takes and gives. Raises PointError, ServiceFaultError, DecodeError."""
        server, where = self._server, call.address
        wanted = {0: Wanted(where.place(), call.endpoint, where.base())}
        owner = where.owner()
        if owner is not None:
            wanted[1] = Wanted(owner, call.endpoint, where.base())
        found = await server.find(wanted)
        root = found.get(1) or server.root(call.endpoint)
        node = found[0]
        if isinstance(node, PointError):
            raise node
        if isinstance(root, PointError):
            raise root
        takes, gives = await self._signature(node)
        kinds = [(one, *await self._kind(one.data_type)) for one in takes]
        return Method(root, node, kinds, [one.name or f"result{i}" for i, one in enumerate(gives)])

    async def _kind(self, data_type: NodeName) -> tuple[int, Shape | None]:
        kind = await built_in(self._server, data_type)
        return kind, await self._learner.shape(data_type) if kind == binary.EXTENSION_OBJECT else None

    async def _signature(self, node: Node) -> tuple[list[Parameter], list[Parameter]]:
        """InputArguments and OutputArguments; a method without has no such property."""
        server = self._server
        children = await server.children(node, ("InputArguments", "OutputArguments"))
        both: list[list[Parameter]] = []
        for child in children:
            held = Typed(binary.NULL, None)
            if child is not None:
                ((held, _, _),) = await server.read([services.item(child.encoded, VALUE, None)])
            declared = held.value if held.is_array and isinstance(held.value, list) else []
            bodies = [one for one in declared if isinstance(one, Structure) and one.type_id == _ARGUMENT]
            both.append([parameter(one.body) for one in bodies])
        return both[0], both[1]


def _encoded(call: Call, method: Method) -> list[bytes]:
    """The arguments as Variants. Raises PointError that names the one that does not fit."""
    try:
        given = ordered(call.arguments, [one.name for one, _, _ in method.takes])
    except ValueError as error:
        raise PointError(str(error), reason="BadArguments") from error
    variants = []
    for (name, value), (takes, kind, shape) in zip(given, method.takes, strict=True):
        try:
            variants.append(compose.variant(kind, value, takes.is_array, shape))
        except ValueError as error:
            raise PointError(f"argument `{name}`: {error}", reason="BadArguments") from error
    return variants
