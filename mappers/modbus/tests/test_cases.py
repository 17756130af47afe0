"""One hostile peer a folder: what it does, what must come of it, and that it heals.

Everywhere: a good value is the true one, what is not named as bad is good, and once the peer is honest
again everything is good again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from devicemesh_modbus.endpoint import ModbusEndpoint
from devicemesh_modbus.session import open_session

from devicemesh.mapper import LinkError, Quality, Write
from devicemesh.testing.broker import free_port
from devicemesh.testing.clock import SOCKETS_S, run_virtual
from devicemesh.testing.waiting import until

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


def ways() -> Iterator[Any]:
    """Each case as it is declared; what is of one line of bytes also in text, and both behind a modem."""
    for folder in CASES:
        transport = read(folder).get("transport", "tcp")
        yield pytest.param(folder, transport, False, id=folder.name)
        if transport == "rtuovertcp":
            yield pytest.param(folder, "asciiovertcp", False, id=f"{folder.name}-in-ascii")
            yield pytest.param(folder, "rtuovertcp", True, id=f"{folder.name}-dialled")
            yield pytest.param(folder, "asciiovertcp", True, id=f"{folder.name}-in-ascii-dialled")


def read(folder: Path) -> dict[str, Any]:
    case: dict[str, Any] = yaml.safe_load((folder / "case.yaml").read_text())
    return case


@pytest.mark.parametrize("start", ["cold", "warm"])
@pytest.mark.parametrize(("folder", "transport", "dialled"), list(ways()))
def test_case(
    folder: Path, transport: str, dialled: bool, start: str, hostile: Any, fault: Any, serving: Any, modem: Any,
    points: Any, collect: Callable[..., Any],
) -> None:  # fmt: skip
    case = {**read(folder), "transport": transport}
    if transport == "asciiovertcp" and "says" in case:
        case["says"] = case["says"].lstrip("0123456789 ")  # how many bytes it was
    assert set(case) <= KNOWN and case["about"]
    kind = partial(_Dialled, modem) if dialled else _Run
    run = kind(case, hostile, fault, serving, points, collect)
    run_virtual(run.all(start == "warm"), patience_s=SOCKETS_S)


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
                    reader = await self.begin(session)
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

    async def begin(self, session: Any) -> Any:
        return session.reader(self.points)

    async def well(self, reader: Any) -> None:
        """Two polls of an honest device: the second goes the short way."""
        faults, missing, limit = self.device.faults, self.device.missing, self.device.max_registers
        self.device.faults, self.device.missing, self.device.max_registers = [], set(), 125
        for _ in range(2):
            self.check_healed(await self.poll(reader))
        self.device.faults, self.device.missing, self.device.max_registers = faults, missing, limit

    def place(self) -> dict[str, Any]:
        return {"host": "127.0.0.1", "port": self.device.port}

    def open(self) -> Any:
        endpoint = ModbusEndpoint.model_validate(
            {**self.place(), "timeout": "100ms", "transport": self.device.transport,
             **self.case.get("endpoint", {})}
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


class _Dialled(_Run):
    """The same peer behind a modem, which dials in."""

    def __init__(self, modem: Any, *given: Any) -> None:
        super().__init__(*given)
        self.modem, self.port = modem, free_port()

    def place(self) -> dict[str, Any]:
        return {"listen": f"127.0.0.1:{self.port}", "registration": "86"}

    async def all(self, warm: bool) -> None:
        async with self.modem(self.device, self.port, b"86") as self.calling:
            await super().all(warm)

    async def begin(self, session: Any) -> Any:
        """Nothing is asked until it has dialled in, so that each case begins as it is written."""
        reader = session.reader(self.points)
        await until(lambda: self.calling.dialled)
        await asyncio.sleep(0.05)  # of virtual time: until it has been let in
        return reader
