"""The systems whose configurations are read, and which of them a file is for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devicemesh.foreign import edgex, kubeedge, neuron, opcua, telegraf, thingsboard
from devicemesh.foreign.read import read
from devicemesh.foreign.things import Thing, compose
from devicemesh.foreign.tree import Branch, Said
from devicemesh.spec.base import Protocol
from devicemesh.spec.places import Problem


@dataclass(frozen=True, slots=True)
class System:
    """Somebody else's system."""

    title: str
    known: Callable[[Branch], bool]
    """Whether a document is one of its."""
    things: Callable[[Sequence[Branch]], Iterator[Thing]]


SYSTEMS: dict[str, System] = {
    "kubeedge": System("KubeEdge", kubeedge.known, kubeedge.things),
    "edgex": System("EdgeX", edgex.known, edgex.things),
    "telegraf": System("Telegraf", telegraf.known, telegraf.things),
    "thingsboard": System("the ThingsBoard gateway", thingsboard.known, thingsboard.things),
    "neuron": System("Neuron", neuron.known, neuron.things),
}


@dataclass(slots=True)
class Imported:
    """What was made of files: nothing is to be used while there are problems."""

    documents: list[dict[str, Any]]
    said: Said
    taken: dict[str, str]
    """File -> what it was taken for."""


def bring(
    sources: Mapping[str, str],
    protocols: Mapping[str, Protocol],
    name: str | None = None,
    uris: Mapping[int, str] | None = None,
) -> Imported | None:
    """Models and devices of these files; None where it is a table.

    `name`: the system whose they are; by default they are looked at. `uris`: what an index of OPC UA's
    namespaces stands for.
    """
    said = Said()
    found: dict[str, list[Branch]] = {}
    taken: dict[str, str] = {}
    for path, text in sources.items():
        before = len(said.problems)
        documents = read(path, text, said, certain=name is not None)
        if documents is None:
            if not taken and len(sources) == 1:
                return None
            said.problems.append(unknown(path))
            continue
        which = name or _whose(documents)
        if which is not None:
            taken[path] = SYSTEMS[which].title
            found.setdefault(which, []).extend(_own(documents, SYSTEMS[which]))
        elif len(said.problems) == before:
            said.problems.append(unknown(path))
    things = [
        thing for which, documents in found.items() for thing in said.attempt(_all, which, documents) or ()
    ]
    for thing in things:
        if thing.protocol == "opcua":
            opcua.name_spaces(thing, uris or {})
    return Imported(compose(things, protocols, said), said, taken)


def _all(which: str, documents: Sequence[Branch]) -> list[Thing]:
    return list(SYSTEMS[which].things(documents))


def _whose(documents: Sequence[Branch]) -> str | None:
    """The system that knows the first document that any knows."""
    for one in documents:
        for name, system in SYSTEMS.items():
            if system.known(one):
                return name
    return None


def _own(documents: Sequence[Branch], system: System) -> Iterator[Branch]:
    for one in documents:
        if system.known(one):
            yield one
        elif one.value is not None:
            kind = one.value.get("kind") if isinstance(one.value, dict) else None
            one.tell(
                f"{f'a {kind}' if isinstance(kind, str) else 'a document'} is left out: not of {system.title}"
            )


def unknown(path: str) -> Problem:
    """A file of which nothing tells whose it is."""
    names = ", ".join(system.title for system in SYSTEMS.values())
    message = f"nothing in it says whose it is: {names}"
    return Problem(path, 1, 1, 1, "wrong-file", message, f"say --from {'|'.join(SYSTEMS)}")
