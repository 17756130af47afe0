"""Structures that are only in a DataTypeDictionary, as before OPC UA 1.04 (Part 5, Annex D). Pure.

Such a dictionary is XML of OPC Binary (Part 3, Annex C of 1.03). Of that language is read what stands for
OPC UA's own encoding: built-in types, structures in each other, arrays behind their length, optional fields
behind 32 bits, unions. A type that uses more stays unknown. The XML may come from anyone: a document type,
and so every entity, is refused, and size, depth and number are bounded. Nothing of it is ever run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from xml.parsers import expat

from devicemesh_opcua import binary, datatypes
from devicemesh_opcua.datatypes import Definition, Field
from devicemesh_opcua.nodeid import NodeName

BINARY_SCHEMA = "http://opcfoundation.org/BinarySchema/"
STANDARD = "http://opcfoundation.org/UA/"
MAX_BYTES, MAX_ELEMENTS, MAX_DEPTH = 4 << 20, 50_000, 16
_BUILT_IN = {name: kind for kind, name in enumerate(binary.TYPE_NAMES)} | {"CharArray": binary.STRING}
_MASK_BITS = 32


class DictionaryError(ValueError):
    """This is no dictionary, or one that is not read."""


@dataclass(frozen=True, slots=True)
class TypeName:
    """A type's name and the namespace of its dictionary."""

    space: str
    name: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A Field element."""

    name: str
    type: TypeName
    length: str = ""  # how often: a number (of bits), or
    length_field: str = ""  # the field that says it
    switch_field: str = ""
    switch_value: str = ""
    more: bool = False  # it says something that OPC UA's encoding does not need


@dataclass(slots=True)
class Dictionary:
    """What is declared, by name."""

    space: str = ""
    structures: dict[str, list[Entry]] = field(default_factory=dict)
    enumerations: dict[str, str] = field(default_factory=dict)
    """With their lengths in bits."""


def parse(text: bytes) -> Dictionary:
    """Read a dictionary. Raises DictionaryError."""
    if len(text) > MAX_BYTES:
        raise DictionaryError(f"a dictionary of {len(text)} bytes; at most {MAX_BYTES} are read")
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator="\n")
    parser.StartDoctypeDeclHandler = _refuse
    parser.EntityDeclHandler = _refuse
    parser.StartNamespaceDeclHandler = reader.prefix
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    try:
        parser.Parse(text.rstrip(b"\0"), True)
    except expat.ExpatError as error:
        raise DictionaryError(f"the dictionary is no XML: {error}") from error
    return reader.made


def _refuse(*_: object) -> None:
    raise DictionaryError("a dictionary with a document type")


class _Reader:
    """expat's handlers."""

    def __init__(self) -> None:
        self.made = Dictionary()
        self._prefixes: dict[str, str] = {}
        self._count = 0
        self._depth = 0
        self._current: list[Entry] | None = None

    def prefix(self, prefix: str | None, uri: str | None) -> None:
        self._step(prefix or "", uri or "")
        self._prefixes[prefix or ""] = uri or ""

    def _step(self, *texts: str) -> None:
        self._count += 1
        if self._count > MAX_ELEMENTS:
            raise DictionaryError(f"a dictionary of more than {MAX_ELEMENTS} elements")
        if any(len(text) > datatypes.MAX_NAME for text in texts):
            raise DictionaryError(f"a name of more than {datatypes.MAX_NAME} characters")

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise DictionaryError(f"elements lie more than {MAX_DEPTH} deep in each other")
        self._step(*attributes.values())
        space, _, element = name.rpartition("\n")
        if space != BINARY_SCHEMA:
            return
        if element == "TypeDictionary":
            self.made.space = attributes.get("TargetNamespace", "")
        elif element == "StructuredType":
            self._current = self.made.structures[attributes.get("Name", "")] = []
        elif element == "EnumeratedType":
            self.made.enumerations[attributes.get("Name", "")] = attributes.get("LengthInBits", "32")
        elif element == "Field" and self._current is not None:
            self._current.append(self._entry(attributes))

    def end(self, name: str) -> None:
        self._depth -= 1
        if name == f"{BINARY_SCHEMA}\nStructuredType":
            self._current = None

    def _entry(self, attributes: Mapping[str, str]) -> Entry:
        prefix, _, name = attributes.get("TypeName", "").rpartition(":")
        get = attributes.get
        more = get("Terminator") or get("IsLengthInBytes", "false") != "false"
        odd = get("SwitchOperand", "Equals") != "Equals"
        return Entry(
            get("Name", ""),
            TypeName(self._prefixes.get(prefix, ""), name),
            get("Length", ""),
            get("LengthField", ""),
            get("SwitchField", ""),
            get("SwitchValue", ""),
            bool(more or odd),
        )


def definition(wanted: TypeName, find: Callable[[str], Dictionary | None]) -> Definition | None:
    """A structure's fields; None where it, or a part of it, is not known or not OPC UA's encoding.

    `find` has the dictionary of a namespace.
    """
    return _Resolver(find).structure(wanted, 0)


def missing(wanted: TypeName, find: Callable[[str], Dictionary | None]) -> set[str]:
    """The namespaces whose dictionaries are wanted for it, and not found."""
    resolver = _Resolver(find)
    resolver.structure(wanted, 0)
    return resolver.strange


class _Resolver:
    def __init__(self, find: Callable[[str], Dictionary | None]) -> None:
        self._find = find
        self._made: dict[TypeName, Definition | None] = {}
        self._fields = 0
        self.strange: set[str] = set()

    def structure(self, wanted: TypeName, depth: int) -> Definition | None:
        if wanted in self._made:
            return self._made[wanted]
        found = self._find(wanted.space)
        if found is None:
            self.strange.add(wanted.space)
            return None
        entries = found.structures.get(wanted.name)
        self._made[wanted] = None  # while it is looked at: one that holds itself is not known
        if entries is None or depth > datatypes.MAX_DEPTH:
            return None
        self._fields += len(entries)
        if self._fields > datatypes.MAX_FIELDS:
            return None
        plan = _plan(entries)
        if plan is None:
            return None
        made = Definition(plan[0])
        for entry, is_array, optional in plan[1]:
            one = self._field(entry, is_array, optional, depth)
            if one is None:
                return None
            made.fields.append(one)
        self._made[wanted] = made
        return made

    def _field(self, entry: Entry, is_array: bool, optional: bool, depth: int) -> Field | None:
        rank = 1 if is_array else -1
        kind = _BUILT_IN.get(entry.type.name) if entry.type.space in (BINARY_SCHEMA, STANDARD) else None
        if kind is None:
            kind = self._enumeration(entry.type)
        if kind is not None:
            return Field(entry.name, NodeName(0, kind), rank, optional, kind) if kind else None
        inner = self.structure(entry.type, depth + 1)
        if inner is None:
            return None
        return Field(entry.name, NodeName(0, 22), rank, optional, binary.EXTENSION_OBJECT, inner)

    def _enumeration(self, wanted: TypeName) -> int | None:
        """An enumeration is an Int32 (Part 6, 5.2.4); 0 where its length is another, None: it is none."""
        found = self._find(wanted.space)
        if found is None or wanted.name not in found.enumerations:
            return None
        return 6 if found.enumerations[wanted.name] == "32" else binary.NULL


def _plan(entries: Sequence[Entry]) -> tuple[int, list[tuple[Entry, bool, bool]]] | None:
    """The StructureType, and each field with whether it is an array, and optional."""
    if any(one.more for one in entries):
        return None
    if entries and entries[0].type == TypeName(BINARY_SCHEMA, "UInt32") and _is_union(entries):
        rest = _arrays(entries[1:], {entries[0].name})
        return None if rest is None else (datatypes.UNION, [(one, many, False) for one, many in rest])
    bits = [one for one in entries if one.type == TypeName(BINARY_SCHEMA, "Bit")]
    if not bits:
        rest = _arrays(entries, set())
        return None if rest is None else (datatypes.PLAIN, [(one, many, False) for one, many in rest])
    names = [one.name for one in bits]
    sizes = [one.length or "1" for one in bits]
    if list(entries[: len(bits)]) != bits or not all(size.isdigit() for size in sizes):
        return None
    if sum(map(int, sizes)) != _MASK_BITS:
        return None
    rest = _arrays(entries[len(bits) :], set(names))
    if rest is None:
        return None
    switches = [one.switch_field for one, _ in rest if one.switch_field]
    if switches != names[: len(switches)] or any(size != "1" for size in sizes[: len(switches)]):
        return None  # the bits are those of other fields, or in another order
    return datatypes.OPTIONAL, [(one, many, bool(one.switch_field)) for one, many in rest]


def _counters(entries: Sequence[Entry]) -> set[str]:
    """The fields that say how long an array is."""
    return {one.length_field for one in entries} - {""}


def _is_union(entries: Sequence[Entry]) -> bool:
    """Whether the first field chooses one of the others, by its number."""
    name, counters = entries[0].name, _counters(entries)
    rest = [one for one in entries[1:] if one.name not in counters]
    numbers = [str(number) for number in range(1, len(rest) + 1)]
    chosen = [one.switch_value for one in rest]
    return bool(rest) and all(one.switch_field == name for one in rest) and chosen == numbers


def _arrays(entries: Sequence[Entry], switches: set[str]) -> list[tuple[Entry, bool]] | None:
    """The fields, the lengths of arrays left out: each comes just before its array, as an Int32."""
    found: list[tuple[Entry, bool]] = []
    counters, before = _counters(entries), None
    for one in entries:
        if one.length or (one.switch_field and one.switch_field not in switches):
            return None
        if one.name in counters:
            if before is not None or one.type != TypeName(BINARY_SCHEMA, "Int32"):
                return None
            before = one
            continue
        if one.length_field != (before.name if before is not None else ""):
            return None
        if before is not None and before.switch_field != one.switch_field:
            return None
        before = None
        found.append((one, bool(one.length_field)))
    return found if before is None else None
