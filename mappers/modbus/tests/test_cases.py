"""One hostile peer a folder: what it does, what must come of it, and that it heals.

Everywhere: a good value is the true one, what is not named as bad is good, and once the peer is honest
again everything is good again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from devicemesh_modbus.endpoint import ModbusEndpoint
from devicemesh_modbus.session import open_session

from devicemesh.mapper import LinkError, Quality, Write
from devicemesh.testing.clock import SOCKETS_S, run_virtual

CASES = sorted(p for p in (Path(__file__).parent / "cases").iterdir() if p.is_dir())
KNOWN = {
    "about",
    "transport",
    "endpoint",
    "points",
    "faults",
    "missing",
    "polls",
    "expect",
    "says",
    "link",
    "write",
    "max_registers",
}


@pytest.mark.parametrize("start", ["cold", "warm"])
@pytest.mark.parametrize("folder", CASES, ids=lambda p: p.name)
def test_case(
    folder: Path, start: str, hostile: Any, fault: Any, serving: Any, points: Any, collect: Callable[..., Any]
) -> None:
    case: dict[str, Any] = yaml.safe_load((folder / "case.yaml").read_text())
    assert set(case) <= KNOWN and case["about"]
    run_virtual(
        _Run(case, hostile, fault, serving, points, collect).all(start == "warm"), patience_s=SOCKETS_S
    )


class _Run:
    def __init__(
        self, case: dict[str, Any], hostile: Any, fault: Any, serving: Any, points: Any, collect: Any
    ) -> None:
        self.case, self.serving, self.make, self.collect = case, serving, points, collect
        faults = [fault(**f) for f in case.get("faults", [])]
        missing = {(m.get("unit", 1), m["table"], m["offset"]) for m in case.get("missing", [])}
        self.device = hostile(
            transport=case.get("transport", "tcp"), faults=faults, missing=missing,
            max_registers=case.get("max_registers", 125),
        )  # fmt: skip
        self.ahead_s = 0.0

    async def all(self, warm: bool) -> None:
        async with self.serving(self.device), asyncio.timeout(20):
            lost: LinkError | None = None
            try:
                async with self.open() as session:
                    reader = session.reader(self.points)
                    if warm:  # it was well before
                        await self.well(reader)
                    for _ in range(self.case.get("polls", 1)):
                        seen = await self.poll(reader)
                    self.check(seen)
                    await self.write(session)
                    self.heal()
                    self.check_healed(await self.poll(reader))
            except LinkError as error:
                lost = error
            assert (lost is not None) == (self.case.get("link") == "lost"), lost or "the link was not lost"
            if lost is not None:
                assert self.case["says"] in str(lost)
                self.heal()
                async with self.open() as session:
                    self.check_healed(await self.poll(session.reader(self.points)))

    async def well(self, reader: Any) -> None:
        """Two polls of an honest device: the second goes the short way."""
        faults, missing, limit = self.device.faults, self.device.missing, self.device.max_registers
        self.device.faults, self.device.missing, self.device.max_registers = [], set(), 125
        for _ in range(2):
            self.check_healed(await self.poll(reader))
        self.device.faults, self.device.missing, self.device.max_registers = faults, missing, limit

    def open(self) -> Any:
        endpoint = ModbusEndpoint.model_validate(
            {"host": "127.0.0.1", "port": self.device.port, "timeout": "100ms",
             "transport": self.device.transport, **self.case.get("endpoint", {})}
        )  # fmt: skip
        texts = self.case["points"]
        self.points = self.make(endpoint, *texts.values())
        self.names = dict(enumerate(texts))
        loop = asyncio.get_running_loop()
        return open_session(endpoint, clock=lambda: loop.time() + self.ahead_s)

    async def poll(self, reader: Any) -> dict[str, tuple[Any, int, Exception | None]]:
        """Poll; whatever is good must be true."""
        seen = await self.collect(reader)
        assert sorted(seen) == sorted(self.names), "every point exactly once"
        for slot, (value, quality, _) in seen.items():
            if quality == Quality.GOOD:
                assert value == self.truth(slot), f"{self.names[slot]} is wrong"
        return {self.names[slot]: row for slot, row in seen.items()}

    def truth(self, slot: int) -> int:
        """The value as the device has it, high word first."""
        point = self.points[slot]
        value = 0
        for i in range(point.address.span(point.type)):
            word = self.device.value(point.endpoint.unit, point.address.table, point.address.offset + i)
            value = value << 16 | word
        return value if point.address.bit is None else value >> point.address.bit & 1

    def check(self, seen: dict[str, tuple[Any, int, Exception | None]]) -> None:
        expected: dict[str, str] = self.case.get("expect", {})
        for name, (_, quality, error) in seen.items():
            assert Quality(quality).word == expected.get(name, "Good"), f"{name}: {error}"
            if quality >= Quality.BAD:
                assert self.case["says"] in str(error), f"{name}: {error}"

    async def write(self, session: Any) -> None:
        for one in self.case.get("write", []):
            slot = next(s for s, n in self.names.items() if n == one["to"])
            outcome = (await session.write([Write(self.points[slot], one["value"])]))[0]
            if "says" in one:
                assert outcome.error is not None and one["says"] in str(outcome.error)
            else:
                assert (outcome.value, outcome.error) == (one["value"], None)
            if "truth" in one:
                assert self.truth(slot) == one["truth"]

    def heal(self) -> None:
        self.device.faults.clear()
        self.device.missing.clear()
        self.ahead_s += 7200.0  # past every pause

    def check_healed(self, seen: dict[str, tuple[Any, int, Exception | None]]) -> None:
        bad = {name: str(error) for name, (_, quality, error) in seen.items() if quality != Quality.GOOD}
        assert not bad, f"did not recover: {bad}"
