"""Which replica serves what, pure: selectors first, then rendezvous hashing over those that may.

What is placed is a link, with all devices on it: a shared bus stays in one process. Rendezvous hashing
(Thaler and Ravishankar, 1998): every replica weighs every link, the greatest weight has it; one that comes or
goes moves only what it takes or leaves.
"""

from __future__ import annotations

import functools
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from devicemesh.store.base import Key
from devicemesh.store.lease import Lease

HOSTNAME = "kubernetes.io/hostname"
"""A selector that names a node: what it pins there nobody else may take."""
Verdict = Literal["mine", "others", "stranded"]
"""stranded: no live replica may take it, and this one is to say so."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A device asks for a replica."""

    link: tuple[str, str]  # (protocol, link name), or ("", device) where it has none
    selector: Mapping[str, str]
    needs: str = ""  # the protocol, where that is known


@dataclass(frozen=True, slots=True)
class Want:
    """What a link needs: what its devices ask for together; `selector` is None if that is a contradiction."""

    link: tuple[str, str]
    selector: Mapping[str, str] | None
    needs: str = ""


def selects(selector: Mapping[str, str] | None, labels: Mapping[str, str]) -> bool:
    """Whether a replica with these labels has all that is asked for."""
    return selector is not None and all(labels.get(name) == value for name, value in selector.items())


@functools.lru_cache(65536)
def _weight(member: str, link: tuple[str, str]) -> int:
    text = "\0".join((member, *link))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def owner(link: tuple[str, str], members: Iterable[str]) -> str | None:
    """The member with the greatest weight; None where there is none."""
    return max(members, key=lambda name: (_weight(name, link), name), default=None)


class Placement(ABC):
    """What this runtime serves now."""

    epoch: int | None = None  # of the streams that begin now; None: the sink's

    @abstractmethod
    def verdict(self, want: Want) -> Verdict: ...


@dataclass(frozen=True)
class Alone(Placement):
    """All that its labels may serve: nobody else is there."""

    labels: Mapping[str, str]

    def verdict(self, want: Want) -> Verdict:
        return "mine" if selects(want.selector, self.labels) else "others"


@dataclass(frozen=True)
class OnNode(Placement):
    """What is pinned to its node, and nothing else."""

    labels: Mapping[str, str]  # with HOSTNAME

    def verdict(self, want: Want) -> Verdict:
        pinned = want.selector is not None and HOSTNAME in want.selector
        return "mine" if pinned and selects(want.selector, self.labels) else "others"


@dataclass(frozen=True)
class Shared(Placement):
    """Its share. `views` are the members as they were and as they are: what it has in all of them."""

    me: str
    views: Sequence[Mapping[str, Lease]]
    epoch: int | None = None

    def verdict(self, want: Want) -> Verdict:
        if want.selector is not None and HOSTNAME in want.selector:
            return "others"
        verdicts = {self._verdict(want, view) for view in self.views}
        return verdicts.pop() if len(verdicts) == 1 else "others"

    def _verdict(self, want: Want, view: Mapping[str, Lease]) -> Verdict:
        able = [
            name
            for name, lease in view.items()
            if selects(want.selector, lease.labels) and (not want.needs or want.needs in lease.protocols)
        ]
        if able:
            return "mine" if owner(want.link, able) == self.me else "others"
        return "stranded" if owner(want.link, view) == self.me else "others"


@dataclass(frozen=True)
class Nothing(Placement):
    """No Lease: nothing is served."""

    def verdict(self, want: Want) -> Verdict:
        return "others"


class Claims:
    """What every declared device asks for, by device and by link."""

    def __init__(self) -> None:
        self._claims: dict[Key, Claim] = {}
        self._sharing: dict[tuple[str, str], dict[Key, None]] = {}  # a set would take twice as much
        self._wants: dict[tuple[str, str], Want] = {}

    def put(self, key: Key, claim: Claim | None) -> set[Key]:
        """Take what a device asks for now (None: it is gone); returns the devices that this may move."""
        before = self._claims.get(key)
        if before == claim:
            return set()
        if before is not None:
            self._sharing[before.link].pop(key, None)
            if not self._sharing[before.link]:
                del self._sharing[before.link]
            del self._claims[key]
        if claim is not None:
            self._claims[key] = claim
            self._sharing.setdefault(claim.link, {})[key] = None
        links = [one.link for one in (before, claim) if one is not None]
        for link in links:
            self._wants.pop(link, None)
        return {key, *(other for link in links for other in self._sharing.get(link, ()))}

    def __iter__(self) -> Iterator[Key]:
        return iter(self._claims)

    def __contains__(self, key: Key) -> bool:
        return key in self._claims

    def want(self, key: Key) -> Want:
        """What the link needs that a device is on."""
        link = self._claims[key].link
        if link not in self._wants:
            sharing = [self._claims[other] for other in self._sharing[link]]
            self._wants[link] = Want(link, merged([one.selector for one in sharing]), sharing[0].needs)
        return self._wants[link]


def merged(selectors: Iterable[Mapping[str, str]]) -> Mapping[str, str] | None:
    """All of them at once, or None where they contradict each other."""
    out: dict[str, str] = {}
    for selector in selectors:
        for name, value in selector.items():
            if out.setdefault(name, value) != value:
                return None
    return out
