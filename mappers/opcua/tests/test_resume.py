"""Subscriptions that outlive their session: taken over where the server lets us, begun anew where it does not."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from devicemesh_opcua import resume
from devicemesh_opcua.left import Leavings
from devicemesh_opcua.model import OpcUaEvents
from devicemesh_opcua.server import Server
from devicemesh_opcua.session import open_session

from devicemesh.mapper import Batch, LinkError, Notification, Notifier
from devicemesh.testing.contract import rows
from devicemesh.testing.proxy import Proxy


class Taps:
    """Counts what is asked of the server."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        call = Server.call

        async def counted(server: Server, request: Any) -> Any:
            self.asked.append(type(request).__name__.removesuffix("Request"))
            return await call(server, request)

        monkeypatch.setattr(Server, "call", counted)

    def count(self, name: str) -> int:
        return self.asked.count(name)


async def follow(
    session: Any, points: list[Any], notifiers: list[Any], seen: dict[int, list[Any]], done: Any
) -> None:
    async with contextlib.aclosing(session.subscribe(points, notifiers)) as pushes:
        async for push in pushes:
            if isinstance(push, Batch):
                for row in rows(push):
                    assert row.error is None, row.error
                    seen[row.slot].append(row.value)
            else:
                assert isinstance(push, Notification) and push.error is None
            if await done():
                return


def test_a_lost_connection_loses_no_change(
    serve_plant: Any, point: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    taps = Taps(monkeypatch)
    leavings = Leavings()

    async def work() -> None:
        async with serve_plant() as plant, Proxy(plant.port) as proxy:
            names = [f"v{i}" for i in range(20)]
            await plant.add_many(names, 0.0, "Double")
            endpoint = plant.endpoint(publishing_interval="100ms").redirect(f"127.0.0.1:{proxy.port}")
            points = [
                point(i, endpoint, "float64", n, sampling_interval="10ms", report="every")
                for i, n in enumerate(names)
            ]
            notifiers = [Notifier("default/plc", "alarms", endpoint, OpcUaEvents())]
            seen: dict[int, list[Any]] = {i: [] for i in range(len(names))}

            async def first() -> bool:
                if all(seen.values()):
                    await plant.set_many(names, 1.0, "Double")
                    proxy.cut()
                return False

            with pytest.raises(LinkError):
                async with open_session(endpoint, leavings=leavings) as session:
                    await follow(session, points, notifiers, seen, first)
            assert set(leavings.left) == {session.server.link}
            await plant.set_many(names, 2.0, "Double")

            async def last() -> bool:
                return all(values[-1] == 2.0 for values in seen.values())

            async with open_session(endpoint, leavings=leavings) as session:
                await follow(session, points, notifiers, seen, last)
            assert all(set(values) == {0.0, 1.0, 2.0} for values in seen.values()), seen[0]
            assert leavings.left == {} and taps.count("TransferSubscriptions") == 1

    run(work())


def test_what_does_not_fit_is_begun_anew(
    serve_plant: Any, point: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    taps = Taps(monkeypatch)
    leavings = Leavings()

    async def work() -> None:
        port = 0
        async with serve_plant() as plant:
            port = plant.port
            await plant.add("a", 1.0, "Double")
            await plant.add("b", 1.0, "Double")
            endpoint = plant.endpoint()
            a, b = point(0, endpoint, "float64", "a"), point(1, endpoint, "float64", "b")

            async def lose(points: list[Any]) -> None:
                seen: dict[int, list[Any]] = {0: [], 1: []}

                async def drop() -> bool:
                    await plant.drop()
                    return False

                with pytest.raises(LinkError):
                    async with open_session(endpoint, leavings=leavings) as session:
                        await follow(session, points, [], seen, drop)

            await lose([a])
            await lose([a, b])
            assert taps.count("TransferSubscriptions") == 0, "declared otherwise meanwhile"
        async with serve_plant(port=port) as plant:
            await plant.add("a", 2.0, "Double")
            await plant.add("b", 2.0, "Double")
            seen: dict[int, list[Any]] = {0: [], 1: []}

            async def both() -> bool:
                return all(seen.values())

            async with open_session(endpoint, leavings=leavings) as session:
                await follow(session, [a, b], [], seen, both)
            assert taps.count("TransferSubscriptions") == 1, "another server knows nothing of them"
            assert seen == {0: [2.0], 1: [2.0]}

    run(work())


def test_which_messages_are_asked_for_again() -> None:
    last = resume.LAST_SEQUENCE
    assert resume.following(5, [3, 4, 5, 7, 6]) == [6, 7]
    assert resume.following(last - 1, [last - 1, 1, last, 2]) == [last, 1, 2]
    assert resume.following(5, [5000]) == [], "of no use: all is told anew"
