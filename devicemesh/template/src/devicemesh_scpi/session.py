"""The only file that does I/O: one connection for all devices of a link.

Replace: `Line`, by your protocol's library if it has a good one. Keep what `Line.ask` promises: it ends in
time, reads no more than `LONGEST`, and whatever goes wrong ends the connection, so that what comes late is
never taken for the answer to the next question. Foreign exceptions become `PointError` (this device, this
point) or `LinkError` (the peer is gone) here and nowhere else; CancelledError passes.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from devicemesh.mapper import (
    Batch,
    LinkError,
    Outcome,
    PointError,
    Quality,
    Readable,
    Reader,
    Trace,
    Traceable,
    Writable,
    Write,
)
from devicemesh.spec.values import Scalar
from devicemesh_scpi import plan
from devicemesh_scpi.model import ScpiAddress, ScpiEndpoint
from devicemesh_scpi.plan import ScpiPoint

LONGEST = 64 * 1024
"""Bytes of a line."""
QUALITIES = {
    "NoAnswer": Quality.NO_ANSWER,
    "Refused": Quality.REFUSED,
    "BadAddress": Quality.BAD_ADDRESS,
    "Undecodable": Quality.UNDECODABLE,
}


class Line:
    """Questions and answers, one after the other."""

    def __init__(self, endpoint: ScpiEndpoint) -> None:
        self._endpoint = endpoint
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, and forget the errors of others. Raises `LinkError`, which names the link."""
        there = self._endpoint
        try:
            async with asyncio.timeout(there.timeout_s):
                reader, writer = await asyncio.open_connection(there.host, there.port, limit=LONGEST)
        except OSError as error:  # as a TimeoutError is
            refused = isinstance(error, ConnectionRefusedError)
            why = "refused" if refused else error.strerror or f"nothing within {there.timeout}"
            raise LinkError(f"no connection to {there.link()}: {why}") from error
        writer.write(b"*CLS\n")
        self._streams = reader, writer
        return self._streams

    def close(self) -> None:
        """Let nothing more come in."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    async def ask(self, text: str, endpoint: ScpiEndpoint) -> tuple[bytes, bytes]:
        """Say a line; returns the answer (empty: there is none) and what `SYST:ERR?` says of it.

        Raises `PointError` where the device is silent, refuses or can't be understood, else `LinkError`.
        """
        what, fits = f"{endpoint.text()} {text}", False
        try:
            reader, writer = self._streams or await self.connect()
            async with asyncio.timeout(endpoint.timeout_s):
                writer.write(f"{text}\n{plan.ERROR_QUERY}\n".encode())
                await writer.drain()
                answer, said = b"", await reader.readuntil(b"\n")
                if plan.error(said) is None:
                    answer, said = said, await reader.readuntil(b"\n")
            fits = plan.fits(text, answer, said)
        except TimeoutError as error:
            raise PointError(f"no answer to {what} within {endpoint.timeout}", reason="NoAnswer") from error
        except asyncio.LimitOverrunError as error:
            raise PointError(f"a line without end answers {what}", reason="Undecodable") from error
        except (asyncio.IncompleteReadError, OSError) as error:
            raise LinkError(f"{self._endpoint.link()} has hung up") from error
        finally:  # also when this task is cancelled: what comes now would answer the next question
            if not fits:
                self.close()
        if not fits:
            raise PointError(f"{(answer + said)[:60]!r} is no answer to {what}", reason="Undecodable")
        plan.check(what, said)
        return answer, said


class ScpiSession(
    Readable[ScpiEndpoint, ScpiAddress],
    Writable[ScpiEndpoint, ScpiAddress],
    Traceable[ScpiEndpoint, ScpiAddress],
):
    """Its bases are what it can do; `devicemesh.mapper` has more of them, and none has to be there."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def reader(self, points: Sequence[ScpiPoint]) -> Reader:
        devices = plan.by_device(points)  # once; `read` is called at each poll

        async def read() -> AsyncIterator[Batch]:
            for device in devices:
                rest = iter(device)
                for point in rest:
                    try:
                        value = (await self.trace(point)).value
                    except PointError as error:
                        silent = error.reason == "NoAnswer"  # then the device costs one timeout a poll
                        yield rows([point, *rest] if silent else [point], None, error)
                    else:
                        yield rows([point], value)

        return read

    async def trace(self, point: ScpiPoint) -> Trace:
        text = plan.question(point)
        answer, said = await self._line.ask(text, point.endpoint)
        value, steps = plan.decode(answer, point), [f"the text {answer.strip()!r} as {point.type}"]
        request = f"{text}\n{plan.ERROR_QUERY}\n".encode()
        return Trace(request, answer + said, answer.strip(), steps, value, Quality.GOOD)

    async def write(self, writes: Sequence[Write[ScpiEndpoint, ScpiAddress]]) -> Sequence[Outcome]:
        return [await self._write(one) for one in writes]

    async def _write(self, write: Write[ScpiEndpoint, ScpiAddress]) -> Outcome:
        try:
            await self._line.ask(plan.command(write.point, write.value), write.point.endpoint)
        except PointError as error:
            return Outcome(error=error)
        with suppress(PointError):  # it was taken, and can't be asked
            return Outcome((await self.trace(write.point)).value)
        return Outcome()


def rows(points: Sequence[ScpiPoint], value: Scalar | None, error: PointError | None = None) -> Batch:
    """A row for each point, all alike, stamped now."""
    slots = array("I", [point.slot for point in points])
    quality = Quality.GOOD if error is None else QUALITIES[error.reason]
    return Batch(slots, time.time_ns(), [value] * len(points), int(quality), error)


@asynccontextmanager
async def open_session(endpoint: ScpiEndpoint) -> AsyncIterator[ScpiSession]:
    """A session while the block lasts. Raises `LinkError`."""
    line = Line(endpoint)
    try:
        await line.connect()
        yield ScpiSession(line)
    finally:
        line.close()
