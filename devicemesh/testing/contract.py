"""What every mapper promises, as tests to inherit.

    class TestContract(MapperContract):
        @pytest.fixture
        def mapper(self): return MyMapper()

        @pytest.fixture
        def serve(self): return my_server  # () -> async context manager of a Peer

Capabilities that a session does not have are skipped. The tests talk to the peer that `serve` starts, so
it should be a real implementation of the protocol, not a part of the mapper under test.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devicemesh.mapper import (
    Batch,
    ConfigError,
    Endpoint,
    Gap,
    Historical,
    Invocable,
    Invocation,
    LinkError,
    Mapper,
    Notification,
    Notifier,
    Notifying,
    Occurrence,
    PointError,
    Quality,
    Readable,
    Subscribable,
    Traceable,
    Writable,
    Write,
)
from devicemesh.spec.values import Scalar
from devicemesh.testing.blocking import blaming
from devicemesh.testing.polls import PATIENCE_S, Row, once, planned, poll, rows, run


@dataclass(frozen=True)
class Peer:
    """A running counterpart of the mapper under test. Slots of all points differ."""

    points: Sequence[tuple[Any, Scalar]]  # at least two points with the values that they have
    bad: Any  # a point whose address the peer does not have
    writable: tuple[
        Any, Scalar
    ]  # one of `points`, and another value that it accepts, if only nearly (2.3 in a float32)
    refused: Write[Any, Any] | None  # a write that the peer refuses; None: it refuses none
    stop: Callable[[], Awaitable[None]]  # end the peer: connections close, nobody listens any more
    call: tuple[Invocation[Any], Any] | None = None  # one that is done, and what it gives back
    refused_calls: Sequence[Invocation[Any]] = ()  # that the peer refuses
    notifier: Notifier[Any] | None = None
    raise_alarm: Callable[[], Awaitable[Occurrence]] | None = None  # at `notifier`; what is to be heard of it
    past: tuple[Any, Callable[[], Awaitable[Sequence[tuple[int, Scalar]]]]] | None = None
    # a point whose past the peer keeps; called, it has one, of three rows or more: (time, value)

    @property
    def endpoint(self) -> Endpoint:
        """Where it serves."""
        endpoint: Endpoint = self.points[0][0].endpoint
        return endpoint


Serve = Callable[[], AbstractAsyncContextManager[Peer]]


async def heard(pushes: AsyncIterator[Batch | Notification]) -> Notification:
    """The next notification."""
    async for push in pushes:
        if isinstance(push, Notification):
            assert push.error is None, push.error
            return push
    raise AssertionError("the subscription has ended")


def said(one: Occurrence) -> tuple[str, str, str, str, str]:
    """What of an occurrence a test can know beforehand."""
    return one.name, one.source, one.state, one.severity, one.message


class MapperContract:
    """Inherit it in a class whose name begins with `Test`, and override the two fixtures."""

    @pytest.fixture
    def mapper(self) -> Mapper[Any, Any]:
        raise NotImplementedError("the test class must override the fixture `mapper`")

    @pytest.fixture
    def serve(self) -> Serve:
        raise NotImplementedError("the test class must override the fixture `serve`")

    @pytest.fixture(autouse=True)
    def _nobody_blocks(self, mapper: Mapper[Any, Any]) -> Iterator[None]:
        own = [one for one in type(mapper).__mro__ if issubclass(one, Mapper) and one is not Mapper]
        with blaming(Path(inspect.getfile(own[-1])).parent):
            yield

    def test_every_field_is_documented(self, mapper: Mapper[Any, Any]) -> None:
        for model in (mapper.endpoint_type, mapper.address_type):
            schema = model.model_json_schema()
            for owner in (schema, *schema.get("$defs", {}).values()):
                for name, field in owner.get("properties", {}).items():
                    assert "description" in field, f"{owner['title']}.{name} has no docstring"

    def test_fields_of_calls_and_events_are_documented(self, mapper: Mapper[Any, Any]) -> None:
        for model in (mapper.command_type, mapper.event_type):
            schema = model.model_json_schema() if model is not None else {}
            for name, field in schema.get("properties", {}).items():
                assert "description" in field, f"{schema['title']}.{name} has no docstring"

    def test_garbage_is_a_config_error(self, mapper: Mapper[Any, Any]) -> None:
        for text in ("", "?", f"{mapper.protocol}://", "\0"):
            with pytest.raises(ConfigError):
                mapper.parse_endpoint(text)
            with pytest.raises(ConfigError):
                mapper.parse_address(text)

    def test_a_link_is_opened_when_its_block_is_entered(self, mapper: Mapper[Any, Any], serve: Serve) -> None:
        async def work() -> None:
            async with serve() as peer:
                await peer.stop()
                try:
                    opened = mapper.open(peer.endpoint)
                except Exception as error:
                    raise AssertionError("`open` connects when entered, not when called") from error
                why = "`open` returns an async context manager, as contextlib.asynccontextmanager makes"
                assert hasattr(opened, "__aenter__"), f"{why}, not {opened!r}"

        run(work())

    def test_good_values_arrive_with_type_and_time(self, mapper: Mapper[Any, Any], serve: Serve) -> None:
        async def work() -> None:
            async with serve() as peer, mapper.open(peer.endpoint) as session:
                if not isinstance(session, Readable):
                    pytest.skip("this session is not Readable")
                before_ns = time.time_ns()
                seen = await poll(session, [p for p, _ in peer.points])
                for point, value in peer.points:
                    row = seen[point.slot]
                    assert row.quality == Quality.GOOD and row.error is None, f"{point.name}: {row}"
                    assert row.value == value, f"{point.name} is {row.value!r}, not {value!r}"
                    assert before_ns <= row.time_ns <= time.time_ns(), f"{point.name}: stamped {row.time_ns}"

        run(work())

    def test_a_bad_point_leaves_the_others_good(self, mapper: Mapper[Any, Any], serve: Serve) -> None:
        async def work() -> None:
            async with serve() as peer, mapper.open(peer.endpoint) as session:
                if not isinstance(session, Readable):
                    pytest.skip("this session is not Readable")
                points = [*(p for p, _ in peer.points), peer.bad]
                reader = planned(session, points)
                for _ in range(3):
                    seen = await once(reader, points)
                    bad = seen.pop(peer.bad.slot)
                    assert bad.quality >= Quality.BAD and bad.error is not None, f"{peer.bad.name}: {bad}"
                    for point, value in peer.points:
                        assert (seen[point.slot].value, seen[point.slot].quality) == (value, Quality.GOOD)

        run(work())

    def test_pushed_points_all_say_something(self, mapper: Mapper[Any, Any], serve: Serve) -> None:
        async def work() -> None:
            async with serve() as peer, mapper.open(peer.endpoint) as session:
                if not isinstance(session, Subscribable):
                    pytest.skip("this session is not Subscribable")
                points = [p for p in (*(p for p, _ in peer.points), peer.bad) if session.pushes(p)]
                if not points:
                    pytest.skip("this session pushes none of the points")
                seen: dict[int, Row] = {}
                async with contextlib.aclosing(session.subscribe(points)) as batches:
                    async for batch in batches:
                        assert isinstance(batch, Batch), "nothing was asked of notifiers"
                        seen |= {row.slot: row for row in rows(batch)}
                        if len(seen) == len(points):
                            break
                assert seen.keys() == {p.slot for p in points}, "no batch has rows of other points"
                for point, value in peer.points:
                    if row := seen.get(point.slot):
                        assert (row.value, row.quality, row.error) == (value, Quality.GOOD, None), point.name
                if row := seen.get(peer.bad.slot):
                    assert row.quality >= Quality.BAD and row.error is not None

        run(work())

    def test_a_peer_that_dies_ends_its_subscription(self, mapper: Mapper[Any, Any], serve: Serve) -> None:
        async def work() -> None:
            async with serve() as peer:
                with pytest.raises(LinkError):
                    async with mapper.open(peer.endpoint) as session:
                        if not isinstance(session, Subscribable):
                            pytest.skip("this session is not Subscribable")
                        points = [p for p, _ in peer.points if session.pushes(p)]
                        if not points:
                            pytest.skip("this session pushes none of the points")
                        async with contextlib.aclosing(session.subscribe(points)) as batches:
                            await anext(batches)
                            await peer.stop()
                            async for _ in batches:
                                pass

        run(work())

    def test_a_call_is_done_and_gives_back(self, mapper: Mapper[Any, Any], serve: Serve) -> None:
        async def work() -> None:
            async with serve() as peer, mapper.open(peer.endpoint) as session:
                if not isinstance(session, Invocable):
                    pytest.skip("this session is not Invocable")
                assert mapper.command_type is not None, "commands need a type for their addresses"
                assert peer.call is not None, "the peer must offer a call"
                for refused in peer.refused_calls:
                    with pytest.raises(PointError) as caught:
                        await session.invoke(refused)
                    assert str(caught.value)
                invocation, expected = peer.call
                assert await session.invoke(invocation) == expected, "after a refused one"

        run(work())

    def test_an_alarm_is_told_of_and_stands_after_a_reconnect(
        self, mapper: Mapper[Any, Any], serve: Serve
    ) -> None:
        async def work() -> None:
            async with serve() as peer:
                async with mapper.open(peer.endpoint) as session:
                    if not isinstance(session, Notifying):
                        pytest.skip("this session is not Notifying")
                    assert peer.notifier is not None and peer.raise_alarm is not None
                    async with contextlib.aclosing(session.subscribe([], [peer.notifier])) as pushes:
                        assert (await heard(pushes)).standing, "what stands comes first"
                        wanted = await peer.raise_alarm()
                        told = await heard(pushes)
                        assert not told.standing and [said(one) for one in told.occurrences] == [said(wanted)]
                async with mapper.open(peer.endpoint) as session:
                    assert isinstance(session, Notifying)
                    async with contextlib.aclosing(session.subscribe([], [peer.notifier])) as pushes:
                        told = await heard(pushes)
                        assert told.standing and [said(one) for one in told.occurrences] == [said(wanted)]

        run(work())

    def test_the_past_is_read_between_the_ends_of_a_gap(self, mapper: Mapper[Any, Any], serve: Serve) -> None:
        async def work() -> None:
            async with serve() as peer, mapper.open(peer.endpoint) as session:
                if not isinstance(session, Historical):
                    pytest.skip("this session is not Historical")
                assert peer.past is not None
                point, make = peer.past
                kept = await make()
                gaps = [Gap(point, kept[0][0], kept[-1][0]), Gap(peer.bad, kept[0][0], kept[-1][0])]
                told = [row async for batch in session.history(gaps) for row in rows(batch)]
                assert [(row.time_ns, row.value) for row in told] == list(kept[1:-1])
                assert {(row.slot, row.quality) for row in told} == {(point.slot, Quality.FROM_HISTORY)}

        run(work())

    def test_a_write_is_read_back(self, mapper: Mapper[Any, Any], serve: Serve) -> None:
        async def work() -> None:
            async with serve() as peer, mapper.open(peer.endpoint) as session:
                if not isinstance(session, Writable):
                    pytest.skip("this session is not Writable")
                point, value = peer.writable
                outcomes = await session.write([Write(point, value)])
                held = point.address.nearest(point.type, value)
                assert [(o.value, o.error) for o in outcomes] == [(held, None)]
                if isinstance(session, Readable):
                    seen = await poll(session, [p for p, _ in peer.points])
                    for other, old in peer.points:
                        expected = held if other.slot == point.slot else old
                        assert seen[other.slot].value == expected, f"{other.name} after the write"

        run(work())

    def test_a_refused_write_is_an_outcome(self, mapper: Mapper[Any, Any], serve: Serve) -> None:
        async def work() -> None:
            async with serve() as peer, mapper.open(peer.endpoint) as session:
                if not isinstance(session, Writable):
                    pytest.skip("this session is not Writable")
                if peer.refused is None:
                    pytest.skip("this peer refuses nothing")
                point, value = peer.writable
                first, second = await session.write([peer.refused, Write(point, value)])
                assert isinstance(first.error, PointError) and str(first.error)
                held = point.address.nearest(point.type, value)
                assert (second.value, second.error) == (held, None), "one refusal must not stop the next"

        run(work())

    def test_a_trace_shows_the_value_that_is_read(self, mapper: Mapper[Any, Any], serve: Serve) -> None:
        async def work() -> None:
            async with serve() as peer, mapper.open(peer.endpoint) as session:
                if not isinstance(session, Traceable):
                    pytest.skip("this session is not Traceable")
                for point, value in peer.points:
                    trace = await session.trace(point)
                    assert (trace.value, trace.quality) == (value, Quality.GOOD)
                    assert trace.field in trace.response and trace.request and trace.steps
                with pytest.raises(PointError):
                    await session.trace(peer.bad)

        run(work())

    def test_nobody_there_is_a_link_error(self, mapper: Mapper[Any, Any], serve: Serve) -> None:
        async def work() -> None:
            async with serve() as peer:
                await peer.stop()
                with pytest.raises(LinkError) as caught:
                    async with mapper.open(peer.endpoint):
                        pytest.fail("opened a session to nobody")
                assert peer.endpoint.link() in str(caught.value), "the message must name the link"

        run(work())

    def test_a_dying_peer_is_a_link_error(self, mapper: Mapper[Any, Any], serve: Serve) -> None:
        async def work() -> None:
            async with serve() as peer:
                seen: dict[int, Row] = {}
                with pytest.raises(LinkError):
                    async with mapper.open(peer.endpoint) as session:
                        if not isinstance(session, Readable):
                            pytest.skip("this session is not Readable")
                        points = [p for p, _ in peer.points]
                        reader = planned(session, points)
                        await once(reader, points)
                        await peer.stop()
                        until = asyncio.get_running_loop().time() + PATIENCE_S / 2
                        while asyncio.get_running_loop().time() < until:
                            seen = await once(reader, points)
                            await asyncio.sleep(0.01)
                        pytest.fail(f"the peer is gone, and no LinkError says so; polls give {seen}")

        run(work())

    def test_cancelling_closes_the_session(self, mapper: Mapper[Any, Any], serve: Serve) -> None:
        async def work() -> None:
            async with serve() as peer:
                points = [p for p, _ in peer.points]
                reading, over = asyncio.Event(), asyncio.Event()

                async def poll_for_ever() -> None:
                    async with mapper.open(peer.endpoint) as session:
                        reader = planned(session, points) if isinstance(session, Readable) else None
                        if reader is not None:
                            await once(reader, points)
                        while not over.is_set():
                            reading.set()  # whoever waits for it goes on when this task waits, in the session
                            if reader is not None:
                                await once(reader, points)
                            await asyncio.sleep(0)

                task = asyncio.ensure_future(poll_for_ever())
                task.add_done_callback(lambda _: reading.set())
                await reading.wait()
                task.cancel()
                await asyncio.wait({task}, timeout=PATIENCE_S / 4)
                over.set()
                if not task.done():
                    await asyncio.wait({task})
                assert task.cancelled() or task.exception(), (
                    "its task was cancelled, and the session goes on: a CancelledError was caught "
                    "(as by `except BaseException`) and not raised again"
                )
                with pytest.raises(asyncio.CancelledError):
                    await task
                async with mapper.open(peer.endpoint) as session:  # the link is free again
                    if isinstance(session, Readable):
                        await poll(session, points)

        run(work())
