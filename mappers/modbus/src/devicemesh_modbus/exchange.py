"""One request until there is a good answer, or a reason why not; and what all users of a link share."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from devicemesh.spec.values import duration_ns
from devicemesh_modbus import answers
from devicemesh_modbus.breaker import Breaker
from devicemesh_modbus.endpoint import ModbusEndpoint
from devicemesh_modbus.link import Answer, Ask, Link
from devicemesh_modbus.model import Table
from devicemesh_modbus.plan import Learned

BUSY_TRIES = 3
BUSY_PAUSE_S = 0.05

T = TypeVar("T")


class Requests(Protocol):
    """Builds requests; `pause_s` is the silence that the unit needs after its answer."""

    def read(
        self, unit: int, table: Table, start: int, count: int, *, timeout_s: float, pause_s: float
    ) -> Ask: ...

    def write(
        self, unit: int, function: int, start: int, data: Sequence[int], *, timeout_s: float, pause_s: float
    ) -> Ask:
        """`data`: registers, coils as 0 or 1, or for function 22 the AND mask and the OR mask."""
        ...

    def identify(self, unit: int, code: int, first: int, *, timeout_s: float) -> Ask:
        """Read device identification (43/14)."""
        ...

    def identity(self, answer: bytes) -> tuple[dict[int, bytes], int | None]:
        """The objects in an answer to `identify`, and where to go on. Raises ValueError."""
        ...


@dataclass(slots=True)
class Quiet:
    """A unit that does not answer."""

    breaker: Breaker
    heard: int  # `link.heard` when it fell silent


@dataclass
class Shared:
    """What the readers and writers of a session have in common."""

    link: Link
    opened: ModbusEndpoint
    requests: Requests
    clock: Callable[[], float]
    rng: random.Random = field(default_factory=random.Random)
    learned: dict[tuple[int, Table], Learned] = field(default_factory=dict)
    generation: int = 0  # rises with what was learned
    quiet: dict[int, Quiet] = field(default_factory=dict)  # by unit; the others answer

    def who(self, unit: int) -> str:
        """`10.0.0.5:502 unit 3`."""
        return f"{self.link.name} unit {unit}"

    def breaker(self, endpoint: ModbusEndpoint) -> Breaker:
        """A new breaker as the device wants it."""
        return Breaker(endpoint.breaker.failures, duration_ns(endpoint.breaker.period) / 1e9, self.rng)

    def fell_silent(self, endpoint: ModbusEndpoint) -> Quiet:
        """The unit does not answer, or still does not."""
        if endpoint.unit not in self.quiet:
            self.quiet[endpoint.unit] = Quiet(self.breaker(endpoint), self.link.heard)
        return self.quiet[endpoint.unit]

    def answered(self, unit: int) -> None:
        """The unit lives."""
        self.quiet.pop(unit, None)

    def forget_at(self) -> float:
        """When the next thing that was learned is over."""
        return min((t for learned in self.learned.values() for t in learned.apart.values()), default=math.inf)

    def forget(self) -> None:
        """Drop what is over."""
        now = self.clock()
        for learned in self.learned.values():
            learned.apart = {pair: until for pair, until in learned.apart.items() if until > now}

    def learn(self, unit: int, table: Table) -> Learned:
        """What was learned of a table, about to be changed."""
        self.generation += 1
        return self.learned.setdefault((unit, table), Learned())


async def exchange(
    shared: Shared,
    ask: Ask,
    tries: int,
    judge: Callable[[bytes], T],
    answer: Answer | None = None,
    *,
    asked: bool = False,
) -> tuple[T, int]:
    """Ask until `judge` accepts an answer; returns its verdict and the arrival in Unix nanoseconds.

    A busy device is asked again a few times, a lost or garbled answer `tries` times in all, but silence
    only where a late answer can't be mistaken for the new one. With `asked` the first answer is already
    there. Raises `PointError` (`SilentError`, `RefusedError`, `MalformedError`) and `LinkError`.
    """
    busy = 0
    if not asked:
        answer = await shared.link.ask(ask)
    while True:
        if answer is None:
            if tries <= 1 or not shared.link.repeatable:
                raise silent(shared, ask)
            tries -= 1
        else:
            try:
                return judge(answer[0]), answer[1]
            except answers.RefusedError as refusal:
                busy += 1
                if refusal.code != answers.BUSY or busy == BUSY_TRIES:
                    raise
                await asyncio.sleep(BUSY_PAUSE_S)
            except answers.MalformedError:
                if tries <= 1:
                    raise
                tries -= 1
        answer = await shared.link.ask(ask)


def silent(shared: Shared, ask: Ask) -> answers.SilentError:
    stray = f"; {shared.link.stray} was ignored" if shared.link.stray else ""
    return answers.SilentError(f"no answer from {shared.who(ask.unit)} within {ask.timeout_s:.3g} s{stray}")


def strictest(endpoints: Iterable[ModbusEndpoint]) -> tuple[float, float, int]:
    """Timeout, pause and tries that suit all of these endpoints of one unit."""
    several = list(endpoints)
    return (
        max(e.timeout_s for e in several),
        max(e.pause_s for e in several),
        max(e.tries for e in several),
    )
