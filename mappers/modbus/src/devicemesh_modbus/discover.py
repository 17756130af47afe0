"""Looking for units behind an endpoint, and for what a unit holds."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import get_args

from devicemesh.mapper import Found, PointError
from devicemesh_modbus import answers
from devicemesh_modbus.door import callers
from devicemesh_modbus.endpoint import ModbusEndpoint
from devicemesh_modbus.exchange import Shared, exchange
from devicemesh_modbus.model import BIT_TABLES, Table
from devicemesh_modbus.plan import data_size
from devicemesh_modbus.session import open_line
from devicemesh_modbus.sunspec import compose
from devicemesh_modbus.sunspec.look import look
from devicemesh_modbus.uri import format_address, format_endpoint, parse_endpoint

log = logging.getLogger("devicemesh.modbus")
SCAN_TIMEOUT_S = 0.25
"""For units of which most are not there; `?timeout=` in the URI says otherwise."""
UNITS = (*range(1, 248), 255, 0)
BUDGET = 1500
"""Requests a table, at most."""
PROBES = (*range(16), *range(16, 256, 8), *range(256, 2000, 32), *range(2000, 65536, 100))
"""Addresses that are asked for one by one."""
SAMPLES = 8
"""Registers or bits that are shown of a run."""
IDENTITY = {
    0: "vendor", 1: "product", 2: "revision", 3: "url", 4: "productName", 5: "model", 6: "application",
}  # fmt: skip
"""Names of the objects of function 43/14 (Modbus Application Protocol V1.1b3, 6.21)."""
MAX_PARTS = 8
CALLERS_S = 60.0
"""How long modems are waited for: most say who they are at once, or with a heartbeat."""


async def discover(uri: str) -> AsyncIterator[Found]:
    """Without a unit in the URI: each unit that answers. With one: what it says it has, or its addresses.

    Where modems dial in and the URI says neither which one nor which unit: who does within a minute.
    """
    endpoint, one_unit = parse_endpoint(uri)
    if endpoint.listen is not None and endpoint.registration is None and not one_unit:
        log.warning("%s: waiting for %g s for who dials in", endpoint.link(), CALLERS_S)
        async for peer, says in callers(endpoint, CALLERS_S):
            own = endpoint.model_copy(update={"registration": says})
            yield Found(format_endpoint(own, None), {"from": peer, "registration": says or "none"})
        return
    async with open_line(endpoint) as session:
        if one_unit:
            yield await _sunspec(session.shared, endpoint) or await _inside(session.shared, endpoint)
            return
        for unit in UNITS:
            if unit == 0 and endpoint.kind == "serial":
                continue  # there it is everyone, and nobody answers
            timeout_s = endpoint.timeout_s if "timeout" in endpoint.model_fields_set else SCAN_TIMEOUT_S
            if await _is_there(session.shared, unit, timeout_s):
                identity = await _identity(session.shared, unit, timeout_s)
                yield Found(format_endpoint(endpoint, unit), identity)


async def _is_there(shared: Shared, unit: int, timeout_s: float) -> bool:
    """Whether a unit answers anything at all; a refusal is an answer."""
    ask = shared.requests.read(unit, "holding", 0, 1, timeout_s=timeout_s, pause_s=0.0)
    try:
        await exchange(shared, ask, 1, lambda answer: answers.check(answer, ask.function, "", ""))
    except answers.SilentError:
        return False
    except PointError:
        return True
    return True


async def _identity(shared: Shared, unit: int, timeout_s: float) -> dict[str, str]:
    """What the unit says of itself; most say nothing."""
    found: dict[str, str] = {}
    for code in (1, 2):  # basic, then regular
        first: int | None = 0
        for _ in range(MAX_PARTS):
            if first is None:
                break
            ask = shared.requests.identify(unit, code, first, timeout_s=timeout_s)
            try:
                (objects, first), _ = await exchange(shared, ask, 1, lambda a: _objects(shared, a))
            except PointError:
                return found
            for number, text in ((n, t) for n, t in objects.items() if t):
                found[IDENTITY.get(number, f"object {number}")] = text.decode("utf-8", "replace").strip("\0 ")
    return found


def _objects(shared: Shared, answer: bytes) -> tuple[dict[int, bytes], int | None]:
    answers.check(answer, 43, "", "")
    try:
        return shared.requests.identity(answer)
    except ValueError as error:
        raise answers.MalformedError(str(error)) from error


async def _sunspec(shared: Shared, endpoint: ModbusEndpoint) -> Found | None:
    """What the device says of itself by SunSpec, if it does."""
    scan = _Scan(shared, endpoint, "holding")
    try:
        found = await look(scan.read)
    except LookupError as error:
        log.warning(
            "%s speaks SunSpec. To have its points: %s", format_endpoint(endpoint, endpoint.unit), error
        )
        return None
    if found is None:
        return None
    if found.cut or scan.left == 0:
        said = "".join(f", of model {one} less than it says" for one in found.cut)
        spent = f"; {BUDGET} requests were not enough" if scan.left == 0 else ""
        log.warning("%s gives not all%s%s", format_endpoint(endpoint, endpoint.unit), said, spent)
    listed = ", ".join(f"{one}{'?' if one in found.unknown else ''}" for one in found.models)
    who = {**compose.identity(found.placed), "sunspec": listed}
    points = [
        (format_address("holding", one.register), compose.sample(one)) for one in compose.usable(found.placed)
    ]
    manifest = compose.manifest(endpoint, found.placed)
    return Found(format_endpoint(endpoint, endpoint.unit), who, points, manifest)


async def _inside(shared: Shared, endpoint: ModbusEndpoint) -> Found:
    points: list[tuple[str, str]] = []
    for table in get_args(Table):
        for start, end, sample in await _readable(shared, endpoint, table):
            last = f"..{end - 1}" if end - start > 1 else ""
            points.append((format_address(table, start), f"{table} {start}{last}: {sample}"))
    identity = await _identity(shared, endpoint.unit, endpoint.timeout_s)
    return Found(format_endpoint(endpoint, endpoint.unit), identity, points)


async def _readable(shared: Shared, endpoint: ModbusEndpoint, table: Table) -> list[tuple[int, int, str]]:
    """The readable runs of a table, each with its first words.

    Probes lie close together where devices usually begin and far apart further on; each hit is widened to
    its whole run. At most `BUDGET` requests, so that a small island far out may stay unseen.
    """
    scan = _Scan(shared, endpoint, table)
    runs: list[tuple[int, int]] = []
    for probe in PROBES:
        if runs and probe < runs[-1][1]:
            continue
        if await scan.has(probe, probe + 1):
            first = await scan.widen(probe, runs[-1][1] if runs else 0)
            end = await scan.widen(probe + 1, 65536)
            runs.append((first, end))
            await scan.has(first, min(end, first + SAMPLES))  # for the sample
        if scan.left == 0:
            break
    return [(start, end, scan.samples[start]) for start, end in runs]


class _Scan:
    """Asks one table of one unit for ranges, until the budget is spent."""

    def __init__(self, shared: Shared, endpoint: ModbusEndpoint, table: Table) -> None:
        self.left = BUDGET
        self.samples: dict[int, str] = {}  # by first address
        self.last = b""  # the newest answer
        self._shared = shared
        self._endpoint = endpoint
        self._table = table
        self._limit = endpoint.max_bits if table in BIT_TABLES else endpoint.max_registers

    async def has(self, start: int, end: int) -> bool:
        """Whether the device gives all of [start, end) in one answer."""
        if self.left == 0:
            return False
        self.left -= 1
        endpoint, count = self._endpoint, end - start
        ask = self._shared.requests.read(
            endpoint.unit, self._table, start, count, timeout_s=endpoint.timeout_s, pause_s=endpoint.pause_s
        )
        size = data_size(self._table, count)
        try:
            data, _ = await exchange(
                self._shared, ask, endpoint.tries, lambda a: answers.data(a, ask.function, size, "", "")
            )
        except PointError as error:
            hopeless = getattr(error, "code", 0) == answers.ILLEGAL_FUNCTION or isinstance(
                error, answers.SilentError
            )
            self.left = 0 if hopeless else self.left
            return False
        self.last = bytes(data)
        self.samples[start] = _sample(self._table, count, data)
        return True

    async def read(self, start: int, count: int) -> bytes:
        """The registers from `start` on, as many requests of them as the device answers."""
        parts = []
        for at in range(start, start + count, self._limit):
            if not await self.has(at, min(at + self._limit, start + count)):
                break
            parts.append(self.last)
        return b"".join(parts)

    async def widen(self, edge: int, bound: int) -> int:
        """Move the edge of a run towards `bound` as far as the device has addresses."""
        up = bound > edge
        size = self._limit
        while size and edge != bound:
            step = min(size, abs(bound - edge))
            start, end = (edge, edge + step) if up else (edge - step, edge)
            if await self.has(start, end):
                edge = end if up else start
            else:
                size = step // 2
        return edge


def _sample(table: Table, count: int, data: memoryview) -> str:
    if table in BIT_TABLES:
        return " ".join(str(data[bit // 8] >> bit % 8 & 1) for bit in range(min(count, SAMPLES)))
    return data[: 2 * SAMPLES].hex(" ", 2)
