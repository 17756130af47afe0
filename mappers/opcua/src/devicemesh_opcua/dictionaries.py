"""A server's DataTypeDictionaries, looked up where it has no DataTypeDefinition (Part 5, Annex D)."""

from __future__ import annotations

from devicemesh.mapper import PointError
from devicemesh_opcua import dictionary, services
from devicemesh_opcua.datatypes import Definition
from devicemesh_opcua.dictionary import STANDARD, Dictionary, DictionaryError, TypeName
from devicemesh_opcua.lookup import forward, inverse
from devicemesh_opcua.server import VALUE, Node, Server
from devicemesh_opcua.services import ServiceFaultError

HAS_ENCODING, HAS_DESCRIPTION, HAS_COMPONENT = 38, 39, 47
BINARY_SCHEMAS, STANDARD_SCHEMA = Node(0, 93), Node(0, 7617)
"""OPCBinarySchema_TypeSystem, in which dictionaries are; the standard's own."""
MOST = 32
"""Dictionaries that are read in a session."""


class Dictionaries:
    """Each is read once; what can't be read is as if it were not there."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._read: dict[Node, Dictionary | None] = {}
        self._by_space: dict[str, Dictionary] = {}
        self._listed: dict[str, Node] | None = None  # by the namespace that they say they are of

    async def definition(self, data_type: Node) -> Definition | None:
        """The fields of a structure. Raises LinkError, and PointError where nothing is said of it."""
        try:
            wanted = await self._described(data_type)
            if wanted is None:
                return None
            for _ in range(MOST):  # each turn brings a dictionary that another one needs
                strange = dictionary.missing(wanted, self._by_space.get)
                if not strange or not await self._bring(strange):
                    break
            return dictionary.definition(wanted, self._by_space.get)
        except ServiceFaultError as fault:
            self._server.check(fault)
            return None

    async def _described(self, data_type: Node) -> TypeName | None:
        """Its name in a dictionary that is read by now."""
        server = self._server
        for encoding, name in await forward(server, data_type, HAS_ENCODING):
            if name != "Default Binary":
                continue
            for description, _ in await forward(server, encoding, HAS_DESCRIPTION):
                ((held, _, _),) = await server.read([services.item(description.encoded, VALUE, None)])
                home = await inverse(server, description, HAS_COMPONENT)
                found = await self._dictionary(home)
                if found is not None and isinstance(held.value, str):
                    return TypeName(found.space, held.value)
        return None

    async def _dictionary(self, node: Node) -> Dictionary | None:
        if node in self._read or len(self._read) >= MOST:
            return self._read.get(node)
        self._read[node] = None
        try:
            ((held, _, _),) = await self._server.read([services.item(node.encoded, VALUE, None)])
            found = dictionary.parse(held.value if isinstance(held.value, bytes) else b"")
        except (PointError, DictionaryError):
            return None
        self._read[node] = self._by_space[found.space] = found
        return found

    async def _bring(self, spaces: set[str]) -> bool:
        """Read the dictionaries of these namespaces; says whether there were any."""
        if self._listed is None:
            self._listed = await self._list()
        homes = [self._listed.pop(space) for space in spaces if space in self._listed]
        for home in homes:
            await self._dictionary(home)
        return bool(homes)

    async def _list(self) -> dict[str, Node]:
        server = self._server
        found = {STANDARD: STANDARD_SCHEMA}
        for home, _ in (await forward(server, BINARY_SCHEMAS, HAS_COMPONENT))[:MOST]:
            (told,) = await server.children(home, ("NamespaceUri",))
            if told is not None:
                ((held, _, _),) = await server.read([services.item(told.encoded, VALUE, None)])
                found.setdefault(str(held.value), home)
        return found
