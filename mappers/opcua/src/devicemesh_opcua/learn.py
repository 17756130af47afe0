"""What a server says of its data types: fields of structures, words of enumerations (Part 3, 5.8.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from devicemesh.mapper import PointError
from devicemesh.spec.values import ValueType
from devicemesh_opcua import binary, datatypes, services
from devicemesh_opcua.binary import DecodeError, Structure, Typed
from devicemesh_opcua.compose import Shape
from devicemesh_opcua.datatypes import Definition, Words
from devicemesh_opcua.dictionaries import Dictionaries
from devicemesh_opcua.lookup import built_in, forward, inverse
from devicemesh_opcua.model import OpcUaPoint
from devicemesh_opcua.nodeid import NodeName, parse_node
from devicemesh_opcua.server import VALUE, Node, Server
from devicemesh_opcua.services import ServiceFaultError

DATA_TYPE, DEFINITION = 14, 23
"""Attributes: of a variable its DataType, of that one its DataTypeDefinition."""
RETRY_S = 60.0
"""After which a structure is asked for again where the server did not answer."""
HAS_ENCODING = 38
BINARY_ENCODING = "Default Binary"
_STRUCTURE = Node(0, 22)
_INT32 = 6
_NUMBERS = set(binary.NUMBERS) - {binary.BOOLEAN, binary.FLOAT, binary.DOUBLE}


def is_silence(error: Exception) -> bool:
    """Whether the server has not answered: it may another time."""
    return isinstance(error, PointError) and error.reason == "NoAnswer"


class Learner:
    """Asks each thing once a session; what the server does not tell stays unknown.

    What it did not answer is asked again.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._words: dict[Node, Words | None] = {}  # by data type
        self._definitions: dict[Node, Definition | None] = {}
        self._fields = 0
        self._learning = asyncio.Lock()  # what is half learnt looks as if the server did not say it
        self._dictionaries = Dictionaries(server)

    async def structures(self) -> None:
        """Look up what decoding has missed. Raises LinkError."""
        missing = self._server.types.missing
        async with self._learning:
            while missing:  # others may miss more meanwhile
                await self._structure(text := min(missing))
                missing.discard(text)

    async def _structure(self, text: str) -> None:
        known = self._server.types.known
        try:
            name = parse_node(text)
            node = await inverse(self._server, self._server.said(name), HAS_ENCODING)
            known[text] = await self._definition(node, 0)
        except (PointError, ServiceFaultError, DecodeError, ValueError) as error:
            known[text] = None
            if is_silence(error):
                asyncio.get_running_loop().call_later(RETRY_S, known.pop, text, None)

    async def _definition(self, node: Node, depth: int) -> Definition | None:
        """The fields of a DataType, those of its structures too. Raises as what it asks."""
        if node in self._definitions:
            return self._definitions[node]
        if depth > datatypes.MAX_DEPTH or self._fields > datatypes.MAX_FIELDS:
            return None
        ((held, _, _),) = await self._server.read([services.item(node.encoded, DEFINITION, None)])
        self._definitions[node] = None  # for one that holds itself
        try:
            self._definitions[node] = found = await self._told(node, held.value, depth)
        except PointError:
            del self._definitions[node]
            raise
        return found

    async def _told(self, node: Node, body: object, depth: int) -> Definition | None:
        """What a DataTypeDefinition says, or else a dictionary. Raises as what it asks."""
        if not isinstance(body, Structure) or body.type_id != datatypes.STRUCTURE_DEFINITION:
            return await self._dictionaries.definition(node)
        found = datatypes.structure_definition(body.body)
        self._fields += len(found.fields)
        for one in found.fields:
            inner = self._server.said(one.data_type)
            one.kind = await built_in(self._server, one.data_type)
            if one.kind == binary.EXTENSION_OBJECT and inner != _STRUCTURE and not found.many_types(one):
                one.inner = await self._definition(inner, depth + 1)
                if one.inner is None:
                    return None
        return found

    async def shape_at(self, node: Node) -> Shape:
        """What structure a variable holds, or else is to hold. Raises PointError, ServiceFaultError."""
        items = [services.item(node.encoded, one, None) for one in (VALUE, DATA_TYPE)]
        (held, _, _), (data_type, _, _) = await self._server.read(items)
        one = held.value
        while isinstance(one, list) and one:
            one = one[0]
        types = self._server.types
        if not isinstance(one, Structure):
            if not isinstance(data_type.value, NodeName):
                raise self._unknown("of no known type")
            return await self.shape(data_type.value)
        if one.type_id not in types.known:
            types.missing.add(one.type_id)
            await self.structures()
        found = types.known.get(one.type_id)
        if found is None:
            raise self._unknown(f"of the encoding {one.type_id}")
        return Shape(self._server.said(parse_node(one.type_id)).encoded, found)

    async def shape(self, data_type: NodeName) -> Shape:
        """How a structure of this data type is sent. Raises PointError, ServiceFaultError."""
        node = self._server.said(data_type)
        try:
            async with self._learning:
                found = await self._definition(node, 0)
        except DecodeError as error:
            raise self._server.senseless(error) from error
        if found is None:
            raise self._unknown(f"of the type {data_type.text}")
        if found.encoding is not None:
            return Shape(self._server.said(found.encoding).encoded, found)
        for encoding, name in await forward(self._server, node, HAS_ENCODING):
            if name == BINARY_ENCODING:
                return Shape(encoding.encoded, found)
        raise self._unknown(f"of the type {data_type.text}")

    def _unknown(self, what: str) -> PointError:
        return PointError(
            f"{self._server.link} does not say which fields a structure {what} has", reason="UnknownDataType"
        )

    async def words(
        self, points: Sequence[tuple[OpcUaPoint, Node]]
    ) -> tuple[dict[int, Words], dict[int, PointError]]:
        """The words of those points that are texts here and numbers there, by slot. Raises LinkError.

        And why they are not known of others, for now: the server was silent.
        """
        texts = [(p, n) for p, n in points if p.type == ValueType.STRING and p.address.attribute == "Value"]
        if not texts:
            return {}, {}
        try:
            items = [services.item(node.encoded, DATA_TYPE, None) for _, node in texts]
            held = [value for value, _, _ in await self._server.read(items)]
        except PointError as error:
            return {}, {point.slot: error for point, _ in texts} if is_silence(error) else {}
        except ServiceFaultError:
            return {}, {}
        found: dict[int, Words] = {}
        silent: dict[int, PointError] = {}
        for (point, node), one in zip(texts, held, strict=True):
            try:
                if isinstance(one.value, NodeName) and (words := await self._of(node, one.value)):
                    found[point.slot] = words
            except PointError as error:
                silent[point.slot] = error
        return found, silent

    async def _of(self, variable: Node, name: NodeName) -> Words | None:
        """An enumeration's words: of the variable's type, or, of a discrete item, its own (Part 8, 5.3.3).

        Raises PointError where the server is silent.
        """
        try:
            data_type = self._server.said(name)
            if await built_in(self._server, name) not in _NUMBERS:
                return None
            if data_type not in self._words:
                self._words[data_type] = await self._enumeration(data_type)
            return self._words[data_type] or await self._listed(variable)
        except PointError as error:
            if is_silence(error):
                raise
        except (ServiceFaultError, DecodeError):
            pass
        return None

    async def _enumeration(self, data_type: Node) -> Words | None:
        ((held, _, _),) = await self._server.read([services.item(data_type.encoded, DEFINITION, None)])
        body = held.value
        if isinstance(body, Structure) and body.type_id == datatypes.ENUM_DEFINITION:
            return datatypes.enum_definition(body.body)
        return await self._listed(data_type)

    async def _listed(self, node: Node) -> Words | None:
        """The words of its property EnumStrings or EnumValues."""
        for child in await self._server.children(node, ("EnumStrings", "EnumValues")):
            if child is None:
                continue
            ((held, _, _),) = await self._server.read([services.item(child.encoded, VALUE, None)])
            if words := _words(held):
                return words
        return None


def _words(held: Typed) -> Words | None:
    if not held.is_array or not isinstance(held.value, list):
        return None
    if held.kind == binary.LOCALIZED_TEXT:
        return {number: str(word or "") for number, word in enumerate(held.value)}
    return datatypes.enum_values(held.value) if held.kind == binary.EXTENSION_OBJECT else None


def number(words: Mapping[int, str], word: str) -> int:
    """The number of a word. Raises ValueError with the words that there are."""
    for code, known in words.items():
        if known == word:
            return code
    raise ValueError(f"{word!r} is none of its words: {', '.join(_some(words.values()))}")


def _some(words: Iterable[str]) -> list[str]:
    all_ = list(words)
    return [*all_[:20], "..."] if len(all_) > 20 else all_
