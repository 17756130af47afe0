"""A connected server: its limits and namespaces, its services in our own terms.

Services that carry values go through `services`; the others are asyncua's, from and to its types here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, TypeVar

from devicemesh.mapper import LinkError, PointError
from devicemesh_opcua import binary, services
from devicemesh_opcua import status as codes
from devicemesh_opcua.channel import Connection, ua
from devicemesh_opcua.datatypes import DataTypes
from devicemesh_opcua.model import OpcUaEndpoint, OpcUaPoint
from devicemesh_opcua.nodeid import BrowseName, Identifier, NodeName, Space, parse_node
from devicemesh_opcua.services import ServiceFaultError

VALUE = 13
ATTRIBUTES = {
    "NodeClass": 2, "BrowseName": 3, "DisplayName": 4, "Description": 5, "EventNotifier": 12, "Value": VALUE,
    "DataType": 14, "ValueRank": 15, "AccessLevel": 17, "MinimumSamplingInterval": 19, "Historizing": 20,
    "Executable": 21,
}  # fmt: skip
"""Attribute ids (Part 6, A.1)."""
NAMESPACE_ARRAY, SERVER_STATE = 2255, 2259
MOST = 1000
"""Operations in one request where the server names no limit: a lost answer then costs little."""
_SESSION_OVER = {0x80220000, 0x80250000, 0x80260000, 0x80270000, 0x80860000, 0x800C0000, 0x800E0000}
"""BadSecureChannelIdInvalid, BadSession..., BadSecureChannelClosed, BadShutdown, BadServerHalted."""
TIMESTAMPS = {
    "source": services.SOURCE_TIMESTAMPS,
    "server": services.SERVER_TIMESTAMPS,
    "arrival": services.NO_TIMESTAMPS,
}


class Node(NamedTuple):
    """A NodeId of this session: its index is what the URI's place is now."""

    place: int  # of the namespace
    identifier: Identifier

    @property
    def encoded(self) -> bytes:
        return binary.encode_node(self.place, self.identifier)

    @property
    def foreign(self) -> Any:
        """As asyncua has it."""
        return ua.NodeId(self.identifier, self.place)


T = TypeVar("T")
_Path: TypeAlias = tuple[Node, Sequence[tuple[int, str]]]
"""Where a path begins, and its names with the indices of their namespaces."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A place whose node is looked for."""

    place: NodeName | tuple[BrowseName, ...]
    endpoint: OpcUaEndpoint
    base: NodeName | None = None  # where a path begins; None: at the endpoint's root


@dataclass(frozen=True, slots=True)
class Limits:
    """Operations in one request (Part 5, 6.3.11)."""

    read: int = MOST
    write: int = MOST
    register: int = MOST
    translate: int = MOST
    browse: int = MOST
    monitor: int = MOST
    history: int = MOST


_LIMIT_NODES = {
    "read": 11705,
    "write": 11707,
    "browse": 11710,
    "register": 11711,
    "translate": 11712,
    "monitor": 11714,
    "history": 12165,
}


def _is_too_much(fault: ServiceFaultError, asked: Sequence[object]) -> bool:
    """Whether a server that tells no limit, or a wrong one, may do half of it."""
    return fault.status & 0xFFFF0000 in codes.TOO_MUCH and len(asked) > 1


def _halves(asked: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
    middle = len(asked) // 2
    return asked[:middle], asked[middle:]


class Server:
    """The services of one session. Raises LinkError when it is over."""

    def __init__(self, connection: Connection, endpoint: OpcUaEndpoint) -> None:
        self.connection = connection
        self.endpoint = endpoint
        self.link = endpoint.link()
        self.limits = Limits()
        self.namespaces: list[str] = []
        self.types = DataTypes()
        self.lost: Counter[str] = Counter()  # samples that did not get here, by reason

    async def learn(self) -> None:
        """Read namespaces and limits. Raises LinkError without namespaces: no node could be named."""
        (told,) = await self.values([NAMESPACE_ARRAY])
        if not told.is_array or not told.value:
            raise LinkError(f"{self.link} does not tell its namespaces", reason="NoAnswer")
        self.namespaces = [str(uri) for uri in told.value]
        limits = await self.values(_LIMIT_NODES.values())
        known = {
            name: min(int(held.value), MOST)
            for name, held in zip(_LIMIT_NODES, limits, strict=True)
            if held.kind in (3, 5, 7) and not held.is_array and held.value
        }
        self.limits = Limits(**known)

    async def values(self, numbers: Iterable[int]) -> list[binary.Typed]:
        """The values of standard nodes; Null where there is none."""
        items = [services.item(Node(0, number).encoded, VALUE, None) for number in numbers]
        try:
            return [held for held, _, _ in await self.read(items)]
        except (PointError, ServiceFaultError):
            return [binary.Typed(binary.NULL, None)] * len(items)

    async def read(self, items: Sequence[bytes]) -> list[tuple[binary.Typed, int, int]]:
        """Value, status and ticks of each item. Raises PointError where the answer is lost or no sense."""
        found: list[tuple[binary.Typed, int, int]] = []
        for start in range(0, len(items), self.limits.read):
            part = items[start : start + self.limits.read]
            request = services.read_request(part, services.SOURCE_TIMESTAMPS)
            try:
                body = await self.ask(services.READ_REQUEST, request)
            except ServiceFaultError as fault:
                if not _is_too_much(fault, part):
                    raise
                for half in _halves(part):
                    found += await self.read(half)
                continue
            try:
                at = services.read_response(body, len(part))
                for _ in part:
                    held, status, ticks, at = binary.data_value(body, at)
                    found.append((held, status, ticks))
            except binary.DecodeError as error:
                raise self.senseless(error) from error
        return found

    def senseless(self, error: Exception) -> PointError:
        """The answer can't be decoded."""
        return PointError(f"{self.link} sent an answer that can't be read: {error}", reason="Undecodable")

    async def ask(self, type_id: int, parameters: bytes) -> bytes:
        """One of `services`. Raises LinkError, PointError (no answer), ServiceFaultError from there."""
        timeout_s = self.endpoint.timeout_s
        try:
            future = self.connection.channel.post(type_id, parameters, timeout_s)
            async with asyncio.timeout(timeout_s):
                return bytes(await future)
        except TimeoutError as error:
            raise PointError(
                f"no answer from {self.link} within {timeout_s:g} s", reason="NoAnswer"
            ) from error
        except (ConnectionError, ua.UaError) as error:
            raise self.over(error) from error

    def over(self, error: Exception) -> LinkError:
        """The session is over."""
        protocol = self.connection.uaclient.protocol
        return LinkError(f"{self.link} {getattr(protocol, 'lost', None) or error}")

    def check(self, fault: ServiceFaultError) -> None:
        """Raise LinkError where a fault means that the session is over."""
        if fault.status & 0xFFFF0000 in _SESSION_OVER:
            name = ua.status_codes.get_name_and_doc(fault.status)[0]
            raise LinkError(f"{self.link} has ended the session ({name})") from fault

    async def call(self, request: Any) -> Any:
        """One of asyncua's services. Raises LinkError, PointError, ServiceFaultError."""
        try:
            return await self.connection.call(request)
        except ua.UaStatusCodeError as error:
            fault = ServiceFaultError(error.code)
            self.check(fault)
            raise fault from error
        except TimeoutError as error:
            raise PointError(
                f"no answer from {self.link} within {self.endpoint.timeout_s:g} s", reason="NoAnswer"
            ) from error
        except ConnectionError as error:
            raise self.over(error) from error
        except Exception as error:  # asyncua raises what its decoder stumbles over
            raise self.senseless(error) from error

    async def monitor(self, subscription: int, timestamps: int, items: Sequence[Any]) -> list[int]:
        """CreateMonitoredItems (Part 4, 5.12.2); the status of each. Raises LinkError."""
        request = ua.CreateMonitoredItemsRequest()
        request.Parameters.SubscriptionId = subscription
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn(timestamps)
        request.Parameters.ItemsToCreate = list(items)
        try:
            results = (await self.call(request)).Results
        except ServiceFaultError as fault:
            if _is_too_much(fault, items):
                return [
                    one
                    for half in _halves(items)
                    for one in await self.monitor(subscription, timestamps, half)
                ]
            return [fault.status] * len(items)
        except PointError as error:
            raise LinkError(f"{error}, asked to monitor {len(items)} items") from error
        if len(results) != len(items):
            raise LinkError(f"{self.link} answered {len(items)} items with {len(results)} results")
        return [result.StatusCode.value for result in results]

    async def unsubscribe(self, numbers: Sequence[int]) -> None:
        """End subscriptions, so that the server need not wait for them to time out. Raises LinkError."""
        request = ua.DeleteSubscriptionsRequest()
        request.Parameters.SubscriptionIds = list(numbers)
        with contextlib.suppress(PointError, ServiceFaultError, ConnectionError):
            await self.call(request)

    async def watch(self) -> None:
        """Ask for a sign of life whenever the server is silent: the session must not die, nor hang."""
        loop = asyncio.get_running_loop()
        silence_s = max(self.connection.session_timeout / 3000, 1.0)
        silence_s = min(silence_s, max(10.0, 2 * self.endpoint.timeout_s))
        item = services.read_request(
            [services.item(Node(0, SERVER_STATE).encoded, VALUE, None)], services.NO_TIMESTAMPS
        )
        while True:
            channel = self.connection.channel
            wait_s = channel.heard_at + silence_s - loop.time()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
                continue
            try:
                await self.ask(services.READ_REQUEST, item)
            except (PointError, LinkError):
                channel.fail(f"has not answered for {loop.time() - channel.heard_at:.0f} s")
                return

    def index(self, space: Space, meaning: dict[int, str]) -> int:
        """The index of a namespace now. Raises PointError."""
        if space == 0:
            return 0
        if isinstance(space, int):
            uri = meaning.get(space)
            if uri is None:
                now = self.namespaces[space] if space < len(self.namespaces) else None
                said = f"today it is `{now}` here" if now else "there is none here today"
                raise PointError(
                    f"ns={space} means another namespace whenever {self.link} numbers them anew; {said}:"
                    f" write nsu={now or 'URI'}; instead,"
                    f" or `namespaces: {{{space}: {now or 'URI'}}}` in the endpoint",
                    reason="BareNamespaceIndex",
                )
            space = uri
        if space not in self.namespaces:
            known = ", ".join(self.namespaces[1:]) or "none"
            raise PointError(
                f"{self.link} has no namespace `{space}`; it has {known}", reason="NoSuchNamespace"
            )
        return self.namespaces.index(space)

    def node(self, name: NodeName, meaning: dict[int, str]) -> Node:
        """A NodeId of now. Raises PointError."""
        return Node(self.index(name.space, meaning), name.identifier)

    def said(self, name: NodeName) -> Node:
        """A NodeId as the server itself has just said it: an index is one of now. Raises PointError."""
        space = name.space
        return Node(space if isinstance(space, int) else self.index(space, {}), name.identifier)

    async def resolve(self, points: Sequence[OpcUaPoint]) -> dict[int, Node | PointError]:
        """The node of each point, by slot, or why there is none."""
        return await self.find({p.slot: Wanted(p.address.place(), p.endpoint) for p in points})

    async def find(self, wanted: Mapping[int, Wanted]) -> dict[int, Node | PointError]:
        """The node of each place, by the same key, or why there is none."""
        found: dict[int, Node | PointError] = {}
        paths: list[tuple[int, Wanted, _Path]] = []
        for key, one in wanted.items():
            meaning = one.endpoint.namespaces
            try:
                if isinstance(one.place, NodeName):
                    found[key] = self.node(one.place, meaning)
                else:
                    root = self.node(one.base or parse_node(one.endpoint.root), meaning)
                    paths.append(
                        (key, one, (root, [(self.index(n.space, meaning), n.name) for n in one.place]))
                    )
            except PointError as error:
                found[key] = error
        for start in range(0, len(paths), self.limits.translate):
            part = paths[start : start + self.limits.translate]
            try:
                targets = await self._translate([path for _, _, path in part])
            except PointError as error:
                found |= {key: error for key, _, _ in part}
                continue
            found |= {
                key: self._target(one, target) for (key, one, _), target in zip(part, targets, strict=True)
            }
        return found

    async def children(self, node: Node, names: Sequence[str]) -> list[Node | None]:
        """The properties of a node that have these names of the standard. Raises PointError."""
        targets = await self._translate([(node, [(0, name)]) for name in names])
        return [target if isinstance(target, Node) else None for target in targets]

    async def _translate(self, paths: Sequence[_Path]) -> list[Node | int]:
        """TranslateBrowsePathsToNodeIds (Part 4, 5.8.4): a node or a status for each. Raises PointError."""
        request = ua.TranslateBrowsePathsToNodeIdsRequest()
        for root, names in paths:
            path = ua.BrowsePath(StartingNode=root.foreign)
            path.RelativePath.Elements = [
                ua.RelativePathElement(
                    ReferenceTypeId=ua.NodeId(ua.ObjectIds.HierarchicalReferences),
                    IsInverse=False,
                    IncludeSubtypes=True,
                    TargetName=ua.QualifiedName(name, index),
                )
                for index, name in names
            ]
            request.Parameters.BrowsePaths.append(path)
        try:
            results = (await self.call(request)).Results
        except ServiceFaultError as fault:
            if _is_too_much(fault, paths):
                return [one for half in _halves(paths) for one in await self._translate(half)]
            raise codes.error(self.link, fault.status) from fault
        if len(results) != len(paths):
            raise PointError(f"{self.link} sent too few results", reason="Undecodable")
        found: list[Node | int] = []
        for result in results:
            whole = [one.TargetId for one in result.Targets or () if one.RemainingPathIndex == 0xFFFFFFFF]
            status = result.StatusCode.value or 0x806F0000
            found.append(Node(whole[0].NamespaceIndex, whole[0].Identifier) if whole else status)
        return found

    def _target(self, wanted: Wanted, target: Node | int) -> Node | PointError:
        if isinstance(target, Node):
            return target
        path = "/".join(name.name for name in wanted.place) if isinstance(wanted.place, tuple) else ""
        root = wanted.base.text if wanted.base is not None else wanted.endpoint.root
        return PointError(
            f"{self.link} has no `{path}` below {root} ({codes.text(target)})",
            reason=codes.quality(target).word.rpartition(".")[2],
        )

    def root(self, endpoint: OpcUaEndpoint) -> Node:
        """The device's own object. Raises PointError."""
        return self.node(parse_node(endpoint.root), endpoint.namespaces)

    async def register(self, nodes: Sequence[Node]) -> list[Node]:
        """Names that the server finds sooner (Part 4, 5.8.5); the same ones where it gives none."""
        given: list[Node] = []
        for start in range(0, len(nodes), self.limits.register):
            part = nodes[start : start + self.limits.register]
            request = ua.RegisterNodesRequest()
            request.Parameters.NodesToRegister = [node.foreign for node in part]
            try:
                aliases = (await self.call(request)).Parameters.RegisteredNodeIds
            except (PointError, ServiceFaultError):
                return list(nodes)
            if len(aliases) != len(part):
                return list(nodes)
            given.extend(Node(alias.NamespaceIndex, alias.Identifier) for alias in aliases)
        return given
