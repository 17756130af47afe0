"""What a session hands to the runtime: batches by device, silence, and words in the log. No I/O."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence

from devicemesh.mapper import Batch, Quality
from devicemesh_lora.endpoint import LoraEndpoint
from devicemesh_lora.plan import LoraPoint, Plan

log = logging.getLogger("devicemesh.lora")
TICK_S = 0.2
"""How often it is looked who is silent."""
MOST_TOLD = 1000
"""Kinds of refused frames that are told of, once each."""
MOST_BATCHES = 20_000
"""Batches that nobody has fetched yet; older ones are dropped, and counted."""


def printable(text: str) -> str:
    """A stranger's words on one line: nobody writes lines of his own into the log."""
    return "".join(one if one.isprintable() else "?" for one in text[:400])


class Delivery:
    """The declared devices and gateways of a link, by EUI."""

    def __init__(self, link: str) -> None:
        self.link = link
        self.dropped = 0
        self.redeclared = 0
        self.plans: dict[str, Plan] = {}
        self.endpoints: dict[str, LoraEndpoint] = {}
        self._silent: dict[str, bool] = {}
        self._since: dict[str, float] = {}
        self._told: set[tuple[str, str]] = set()
        self._out: deque[Batch] = deque()
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def declare(self, points: Sequence[LoraPoint]) -> None:
        """These points, and no others, from now on."""
        by_eui: dict[str, list[LoraPoint]] = {}
        for point in points:
            by_eui.setdefault(point.endpoint.eui, []).append(point)
        self.plans = {eui: Plan(held) for eui, held in by_eui.items()}
        self.endpoints = {eui: held[0].endpoint for eui, held in by_eui.items()}
        now = self._loop.time()
        self._since = {eui: self._since.get(eui, now) for eui in by_eui}
        self._silent = {eui: self._silent.get(eui, False) for eui in by_eui}

    def forget(self) -> None:
        """Drop, and count, what nobody has fetched: its slots may be those of others now."""
        self.redeclared += sum(len(batch.slot) for batch in self._out if batch.error is None)
        self._out.clear()

    def lost(self) -> dict[str, int]:
        """Samples that did not get to the runtime, by reason."""
        counts = {"server_queue": self.dropped, "redeclared": self.redeclared}
        return {reason: count for reason, count in counts.items() if count}

    async def batches(self, tasks: Sequence[asyncio.Task[None]]) -> AsyncGenerator[Batch]:
        """What is put, until one of the tasks ends: then its error."""
        while True:
            while self._out:
                yield self._out.popleft()
            for task in tasks:
                if task.done():
                    task.result()
            self._wake.clear()
            await self._wake.wait()

    def wake(self) -> None:
        self._wake.set()

    def put(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            if len(self._out) >= MOST_BATCHES:
                self.dropped += len(self._out.popleft().slot)
            self._out.append(batch)
        if batches:
            self._wake.set()

    def stats(self, eui: str, known: Mapping[str, float | str | None], time_ns: int) -> None:
        """What is known of a device or gateway."""
        if (plan := self.plans.get(eui)) is not None:
            self.put(plan.stats(known, time_ns))

    def heard(self, eui: str) -> None:
        """It has just spoken."""
        if eui in self._since:
            self._since[eui] = self._loop.time()
            self._silent[eui] = False

    def silence(self, eui: str, why: str, reason: str, quality: Quality) -> None:
        """Its values turn bad."""
        if (plan := self.plans.get(eui)) is not None:
            self.put([plan.silence(why, reason, quality, time.time_ns())])

    def silences(self, served: Sequence[str]) -> None:
        """Those of `served` whose lifetime is over turn bad, once."""
        now = self._loop.time()
        for eui in served:
            endpoint = self.endpoints.get(eui)
            if endpoint is None or self._silent.get(eui) or now - self._since[eui] < endpoint.lifetime_s:
                continue
            self._silent[eui] = True
            why = f"{eui} has sent nothing to {self.link} for {endpoint.lifetime_s:.6g} s"
            self.silence(eui, why, "NoAnswer", Quality.NO_ANSWER)

    def tell(self, eui: str, what: str, why: str) -> None:
        """Once for each kind."""
        if (eui, what) not in self._told and len(self._told) < MOST_TOLD:
            self._told.add((eui, what))
            log.warning("%s: %s", self.link, printable(f"{eui} {what}: {why}".strip()))
