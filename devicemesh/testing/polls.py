"""What the contract's tests, and an author's own, do with a session: poll it, and say what it does wrong."""

from __future__ import annotations

import asyncio
import inspect
from array import array
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from devicemesh.mapper import QUALITY_WORDS, Batch, MapperError, PointError, Quality, Reader
from devicemesh.testing.blocking import unblocked

PATIENCE_S = 60.0
"""How long anything may take that is not meant to hang, on a busy machine too."""
NO_BUG = """\
Out of a session, the runtime takes it for a bug: a traceback in the log, every point of the link bad.
What is wrong with a point is a bad row, or an Outcome, with a PointError as its `error`; a dead link is a
LinkError; what only a person can mend is a ConfigError or an AuthError."""
COLUMNS = {"slot": "I", "time_ns": "q", "quality": "B"}
"""The columns of a batch that are arrays, and their type codes."""


@dataclass(frozen=True)
class Row:
    """One row of a batch."""

    slot: int
    time_ns: int
    value: Any
    quality: int
    error: Exception | None


def rows(batch: Batch) -> Iterator[Row]:
    """The rows of a batch; its columns must be of one length and of their types."""
    assert isinstance(batch, Batch), f"a session yields `Batch`es, not {batch!r}"
    count = len(batch.slot)
    for name, code in COLUMNS.items():
        column = getattr(batch, name)
        alone = isinstance(column, int) and name != "slot"
        typed = isinstance(column, array) and column.typecode == code
        either = "" if name == "slot" else "an int or "
        assert typed or alone, f"{name} must be {either}array('{code}'), not {column!r}"
        assert alone or len(column) == count, f"{name} has {len(column)} rows where there are {count} slots"
    assert len(batch.value) == count, f"value has {len(batch.value)} rows where there are {count} slots"
    for i, slot in enumerate(batch.slot):
        time_ns = batch.time_ns if isinstance(batch.time_ns, int) else batch.time_ns[i]
        quality = batch.quality if isinstance(batch.quality, int) else batch.quality[i]
        assert quality in QUALITY_WORDS, f"quality {quality} of slot {slot} is none of `Quality`"
        good = quality < Quality.BAD
        assert not (good and batch.error), f"slot {slot} has an `error` and a good quality: {batch.error}"
        yield Row(slot, time_ns, batch.value[i], quality, batch.error)


def planned(session: Any, points: Sequence[Any]) -> Reader:
    """A session's reader, made without I/O."""
    before = asyncio.all_tasks()
    reader: Reader = session.reader(points)
    assert not inspect.isawaitable(reader), "`reader` plans and waits for nothing: `def`, not `async def`"
    assert callable(reader), f"`reader` returns a function, to be called at each poll, not {reader!r}"
    begun = asyncio.all_tasks() - before
    assert not begun, f"`reader` plans, and what it returns reads: this has begun to read already: {begun}"
    return reader


async def poll(session: Any, points: Sequence[Any]) -> dict[int, Row]:
    """Poll once; every point must come exactly once."""
    return await once(planned(session, points), points)


async def once(reader: Reader, points: Sequence[Any]) -> dict[int, Row]:
    """Call a reader once; every point must come exactly once."""
    seen: dict[int, Row] = {}
    names = {point.slot: f"{point.name} (slot {point.slot})" for point in points}
    batches = reader()
    why = "what `reader` returns is a generator of batches: `async def` with `yield`"
    assert hasattr(batches, "__aiter__"), f"{why}, not {batches!r}"
    try:
        async for batch in batches:
            for row in rows(batch):
                assert row.slot in names, f"slot {row.slot} was not asked for: {', '.join(names.values())}"
                assert row.slot not in seen, f"{names[row.slot]} came twice in one poll"
                seen[row.slot] = row
    except PointError as error:
        why = "a PointError ends no poll, it is the `error` of a bad row, and the other points follow"
        raise AssertionError(f"{why}: {error}") from error
    missing = ", ".join(name for slot, name in names.items() if slot not in seen)
    assert not missing, f"a poll covers every point, with a bad row where it must; {missing} did not come"
    return seen


def run(work: Awaitable[None], *, patience_s: float = PATIENCE_S) -> None:
    """Run a test's coroutine; it must end in time, block nobody and leave no task behind."""

    async def bounded() -> None:
        before = asyncio.all_tasks()
        try:
            with unblocked():
                async with asyncio.timeout(patience_s) as patience:
                    await work
        except TimeoutError as error:
            if not patience.expired():
                raise
            why = "it waits for something that does not come, and has no limit of its own"
            raise AssertionError(f"{why}: not done after {patience_s:g} s") from error
        await asyncio.sleep(0)
        left = asyncio.all_tasks() - before
        assert not left, f"tasks were left behind: {left}"

    try:
        asyncio.run(bounded())
    except (AssertionError, MapperError):
        raise
    except Exception as error:
        error.add_note(NO_BUG)
        raise
