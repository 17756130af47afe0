"""Who has dialled in to a port, and who is who: by what they say first, or by the units that answer.

A modem that dials in anew while its old connection is half open takes its place: the old one is asked, and
has nothing to say. Where it does answer, two claim to be one: the first stays, the other is sent away, and
it is said once. Nobody here can hold up anybody else: each is asked on a connection of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeAlias

from devicemesh.mapper import LinkError, PointError
from devicemesh_modbus import answers
from devicemesh_modbus.door import Gossip, Stranger, declared
from devicemesh_modbus.endpoint import ModbusEndpoint
from devicemesh_modbus.exchange import Requests
from devicemesh_modbus.link import Ask, Link
from devicemesh_modbus.plan import ModbusPoint

log = logging.getLogger("devicemesh.modbus")
REGISTER_S = 120.0
"""How long one may stay who is not known: some modems say who they are with their first heartbeat only."""
SPEAK_S = 3.0
"""The silence after which one has said all where more would make it another, or its units might tell."""
LOOK_S, MOST_LOOK_S = 30.0, 300.0
"""After which one is asked again for units that nobody has: a meter may be switched on after its modem.

Doubled each time: each that is not there costs its neighbours a timeout.
"""
MOST_STRANGERS = 64
"""So many more may stay than are declared; one more, and the first who is not known has to go."""
ASKED = 3
SHOWN = 32

Identity: TypeAlias = bytes | int
"""What a modem says first, or the unit that answers."""
Framed: TypeAlias = Callable[[ModbusEndpoint, str], Link]


class AbsentError(PointError):
    """The device has not dialled in, or has hung up."""

    default_reason = "NotDialledIn"

    def __init__(self, message: str) -> None:
        super().__init__(message, again_s=1.0)


class Hall:
    """Everybody who has dialled in to one port."""

    def __init__(self, endpoint: ModbusEndpoint, framed: Framed, requests: Requests) -> None:
        self.endpoint = endpoint
        self.links: dict[Identity, Link] = {}
        self.bug: BaseException | None = None  # what one of our tasks ended with
        self._framed, self._requests = framed, requests
        self._place = endpoint.link().removeprefix("listen ")
        self.expected: dict[Identity, dict[int, ModbusPoint]] = {}  # of each unit a point to ask it for
        self._were_here: set[Identity] = set()
        self._strangers: list[Stranger] = []  # the first has been here longest
        self._claimants: dict[Identity, Stranger | None] = {}  # who claim to be one that is being asked
        self._units: dict[Link, Stranger] = {}  # those who are known by their units, if they are
        self._tasks: set[asyncio.Task[None]] = set()
        self._gossip = Gossip(endpoint.link())
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._declared: asyncio.Future[None] = self._loop.create_future()  # more units
        self._closed = False

    def stranger(self) -> Stranger:
        """One more, who is about to come in."""
        return Stranger(self._heard, self._left)

    def expect(self, points: Iterable[ModbusPoint]) -> None:
        """These are all that are expected; who waits is looked at again."""
        before, self.expected = self.expected, {}
        for point in points:
            self.expected.setdefault(point.endpoint.identity, {})[point.endpoint.unit] = point
        if any(isinstance(identity, int) for identity in self.expected.keys() - before.keys()):
            self._declared.set_result(None)
            self._declared = self._loop.create_future()
        for one in list(self._strangers):
            self._heard(one)
        self._loop.call_soon(self._dismiss)  # all readers of a plan are made by then

    def link_of(self, endpoint: ModbusEndpoint) -> Link:
        """The connection of a device. Raises `AbsentError`."""
        identity = endpoint.identity
        link = self.links.get(identity)
        if link is not None and link.lost is None:
            return link
        if isinstance(identity, bytes):
            who, nobody = f"the modem {endpoint.registration}", f"as {endpoint.registration}"
        else:
            who, nobody = f"the modem of unit {identity}", f"who answers as unit {identity}"
        if identity in self._were_here:
            raise AbsentError(f"{who} has hung up, and has not dialled in to {self._place} again")
        raise AbsentError(f"nobody has dialled in to {self._place} yet {nobody}")

    def _dismiss(self) -> None:
        """Hang up on who is not expected any more: it dials in again, and may be another's by now.

        But for those who are asked for units anyway.
        """
        for identity in self.links.keys() - self.expected.keys():
            link = self.links.pop(identity)
            asked = link in self._units and self._wanted(others=False)
            if not asked and link not in self.links.values():
                link.close()

    async def arrival(self, endpoint: ModbusEndpoint, patience_s: float) -> None:
        """Wait until a device is here, at most so long; somebody sits before it, and is told so."""
        identity = endpoint.identity
        if identity not in self.links:
            log.warning("%s: nobody is there yet; waiting for %g s", endpoint.text(), patience_s)
        try:
            async with asyncio.timeout(patience_s):
                while identity not in self.links:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass

    async def close(self) -> None:
        """Hang up on everybody, and on who comes yet."""
        self._closed = True
        for one in (*self._strangers, *filter(None, self._claimants.values())):
            one.hang_up()
        self._strangers.clear()  # that we hang up is no news of them
        for link in {*self.links.values(), *self._units}:
            link.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # an aborted connection is closed in the next round of the loop

    # Strangers

    def _heard(self, one: Stranger) -> None:
        """Who has come, or has said more, may be known by now."""
        if self._closed:
            one.hang_up()
            return
        if one in self._claimants.values():  # that one is being asked already
            return
        if one not in self._strangers:
            self._strangers.append(one)
            one.timer = self._loop.call_later(REGISTER_S, self._give_up, one)
            self._make_room()
        known = [i for i in self.expected if isinstance(i, bytes)]
        fitting = max((i for i in known if begins(one.said, i)), key=len, default=None)
        quiet_s = self._loop.time() - one.since
        has_said_all = quiet_s >= SPEAK_S or not self._awaited(one.said)
        if has_said_all and fitting is not None:
            self._claims(one, fitting)
        elif has_said_all and any(isinstance(i, int) for i in self.expected):
            self._by_units(one)
        elif quiet_s < SPEAK_S:
            self._loop.call_later(SPEAK_S - quiet_s, self._silent, one)
        else:
            self._tell_of(one)

    def _awaited(self, said: bytes) -> bool:
        """Whether it may be the beginning of somebody."""
        known = (i for i in self.expected if isinstance(i, bytes))
        return any(i.startswith(said) and i != said for i in known)

    def _tell_of(self, one: Stranger) -> None:
        """It has said what no device is known by."""
        if one.said and not self._awaited(one.said) and any(isinstance(i, bytes) for i in self.expected):
            self._gossip.tell(
                (one.peer, one.said[:SHOWN]), f"{one.peer} dialled in and said {shown(one.said)}: no device's"
                " `registration`",
            )  # fmt: skip

    def _silent(self, one: Stranger) -> None:
        if one in self._strangers:
            self._heard(one)

    def _left(self, one: Stranger) -> None:
        if one in self._strangers:
            self._strangers.remove(one)
            self._tell_of(one)
        for identity in [i for i, claimant in self._claimants.items() if claimant is one]:
            self._claimants[identity] = None

    def _give_up(self, one: Stranger) -> None:
        said = f"said only {shown(one.said)}" if one.said else "said nothing"
        if self.expected:
            self._gossip.tell((one.peer, "mute"), f"{one.peer} dialled in and {said} for {REGISTER_S:g} s")
        self._strangers.remove(one)
        one.hang_up()

    def _make_room(self) -> None:
        known = set(self.links.values())
        unknown = [link for link in self._units if link not in known and link.lost is None]
        most = MOST_STRANGERS + len(self.expected)  # all may come at once, before their old connections end
        if len(self._strangers) + len(unknown) <= most:
            return
        self._gossip.tell("many", f"more than {MOST_STRANGERS} dialled in who are not known")
        if unknown and len(unknown) >= len(self._strangers):
            unknown[0].close()
        else:
            self._strangers.pop(0).hang_up()

    # Known by what they say

    def _claims(self, one: Stranger, identity: bytes) -> None:
        """It says that it is this one; where that one is here already, it is asked."""
        self._strangers.remove(one)
        one.rest()
        old, asked = self.links.get(identity), identity in self._claimants
        if asked:  # and the newest is to have its place
            if (before := self._claimants[identity]) is not None:
                before.hang_up()
            self._claimants[identity] = one
        elif old is None or old.lost is not None:
            self._admit(one, identity)
        else:
            self._claimants[identity] = one
            self._spawn(self._challenge(identity, old))

    async def _challenge(self, identity: bytes, old: Link) -> None:
        """Ask the old one, once for all who come meanwhile."""
        alive = await self._lives(old)
        one = self._claimants.pop(identity)
        if one is None:  # it has left
            return
        if alive and old.lost is None:
            self._two(identity, one.peer)
            one.hang_up()
            return
        old.close()
        self._admit(one, identity)

    async def _lives(self, link: Link) -> bool:
        """Whether anything comes over a connection, while its units are asked, the first few of them.

        One that does not answer proves nothing: its neighbours may, between two of these questions.
        """
        heard = link.heard
        units = [self.expected.get(identity, {}) for identity, here in self.links.items() if here is link]
        for point in [point for of in units for point in of.values()][:ASKED]:
            with contextlib.suppress(LinkError):
                await link.ask(self._ask(point))
            if link.heard != heard or link.lost is not None:
                break
        return link.heard != heard and link.lost is None

    def _admit(self, one: Stranger, identity: bytes) -> None:
        link = self._linked(one, f"modem {self._name(identity)} at {self._place}")
        self._here(identity, link)

    # Known by their units

    def _by_units(self, one: Stranger) -> None:
        self._strangers.remove(one)
        link = self._linked(one, f"modem {one.peer} at {self._place}")
        self._units[link] = one
        self._spawn(self._recognise(link, one))

    async def _recognise(self, link: Link, one: Stranger) -> None:
        """Ask for each unit that nobody has, and for those of others only who seems to have none."""
        until, pause_s = self._loop.time() + REGISTER_S, LOOK_S
        while link.lost is None:
            declared = self._declared
            for others in (False, True):
                if others and link in self.links.values():
                    break
                for unit in self._wanted(others):
                    if link.lost is None and await self._answers(link, unit):
                        await self._take(link, unit, one.peer)
            if link not in self.links.values() and self._loop.time() >= until:
                units = ", ".join(str(i) for i in self.expected if isinstance(i, int))
                self._gossip.tell(
                    (one.peer, "units"), f"{one.peer} dialled in, but answers as none of: {units}"
                )
                link.close()
            await asyncio.wait([link.closed, declared], timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
            pause_s = LOOK_S if declared.done() else min(2 * pause_s, MOST_LOOK_S)

    def _wanted(self, others: bool) -> list[int]:
        """Units that nobody has, or that others have."""
        return [i for i in self.expected if isinstance(i, int) and (i in self.links) == others]

    async def _answers(self, link: Link, unit: int) -> bool:
        """Whether the unit is there; a refusal is an answer, unless a gateway says that nobody is."""
        if unit not in self.expected:  # it is not declared any more
            return False
        ask = self._ask(self.expected[unit][unit])
        try:
            answer = await link.ask(ask)
            if answer is not None:
                answers.check(answer[0], ask.function, "", "")
        except (answers.SilentError, LinkError):
            return False
        except PointError:
            return True
        return answer is not None

    async def _take(self, link: Link, unit: int, peer: str) -> None:
        """The unit is this one's, unless it is another's who lives."""
        old = self.links.get(unit)
        if old is link:
            return
        if old is not None and old.lost is None:
            if not await self._lives(old):
                old.close()
            elif await self._answers(old, unit):
                self._two(unit, peer)
                return
        if link.lost is None:
            self._here(unit, link)

    # All

    def _linked(self, one: Stranger, name: str) -> Link:
        link = self._framed(self.endpoint, name)
        one.become(link)
        link.closed.add_done_callback(lambda _: self._gone(link))
        return link

    def _here(self, identity: Identity, link: Link) -> None:
        self.links[identity] = link
        self._were_here.add(identity)
        self._changed.set()

    def _gone(self, link: Link) -> None:
        self._units.pop(link, None)
        for identity in [i for i, here in self.links.items() if here is link]:
            del self.links[identity]
            self._gossip.forget(identity)

    def _two(self, identity: Identity, peer: str) -> None:
        who = self._name(identity) if isinstance(identity, bytes) else f"unit {identity}"
        said = f"two modems are {who}: the one from {peer} was sent away, the first stays"
        self._gossip.tell(identity, said)

    def _name(self, registration: bytes) -> str:
        """A registration as it is declared."""
        points = self.expected.get(registration, {}).values()
        return next((p.endpoint.registration or "" for p in points), shown(registration))

    def _ask(self, point: ModbusPoint) -> Ask:
        """The request for a point of a device."""
        endpoint, address = point.endpoint, point.address
        return self._requests.read(
            endpoint.unit, address.table, address.offset, address.span(point.type),
            timeout_s=endpoint.timeout_s, pause_s=endpoint.pause_s,
        )  # fmt: skip

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and self.bug is None:
            self.bug = task.exception()


def begins(said: bytes, registration: bytes) -> bool:
    """Whether somebody has said this first; a number that goes on is another, unless it is said again."""
    rest = said[len(registration) :]
    goes_on = registration[-1:].isdigit() and rest[:1].isdigit() and not rest.startswith(registration)
    return said.startswith(registration) and not goes_on


def shown(said: bytes) -> str:
    """The beginning of what somebody said, as it would be declared."""
    return f"`{declared(said[:SHOWN])}`{'...' if len(said) > SHOWN else ''}"
