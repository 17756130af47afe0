"""Against a server of other people: node-opcua. `tests/node/install.sh` brings it; without it this is skipped."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from devicemesh_opcua.discover import discover
from devicemesh_opcua.left import Leavings
from devicemesh_opcua.model import OpcUaEndpoint, OpcUaEvents, OpcUaMethod
from devicemesh_opcua.session import open_session

from devicemesh.mapper import (
    AuthError,
    Batch,
    Gap,
    Invocation,
    LinkError,
    Notifier,
    PointError,
    Quality,
    Write,
)
from devicemesh.testing.contract import heard, poll, rows
from devicemesh.testing.proxy import Proxy

FOLDER = Path(__file__).parent / "node"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    if shutil.which("node") is None or not (FOLDER / "node_modules/node-opcua").is_dir():
        pytest.skip(f"node-opcua is not installed: {FOLDER / 'install.sh'}")
    process = subprocess.Popen(
        ["node", "server.js"],
        cwd=FOLDER,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        told = next((line for line in process.stdout if line.startswith("PORT ")), "")
        assert told, "node-opcua did not start"
        yield f"opc.tcp://127.0.0.1:{told.split()[1]}"
    finally:
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def test_it_is_read_written_and_discovered(url: str, point: Any, run: Any) -> None:
    async def work() -> None:
        endpoint = OpcUaEndpoint(url=url, root="nsu=urn:plant;s=Pump")
        declared = [
            ("float32", "Pump.Speed", 1.5),
            ("uint64", "Pump.Big", 2**32 + 2),
            ("string", "Pump.Name", "mesh"),
            ("json", "Pump.List", [10, 20, 30]),
            ("int32", {"node": "nsu=urn:plant;s=Pump.List", "index_range": "1"}, 20),
            ("float64", {"browse_path": "Level", "namespace": "urn:plant"}, 50.0),
        ]
        points = [point(i, endpoint, kind, where) for i, (kind, where, _) in enumerate(declared)]
        broken = point(8, endpoint, "float64", "Pump.Broken")
        gone = point(9, endpoint, "float64", "Pump.Gone")
        async with open_session(endpoint) as session:
            seen = await poll(session, [*points, broken, gone])
            assert [seen[i].value for i in range(len(declared))] == [value for _, _, value in declared]
            assert "BadSensorFailure" in str(seen[8].error) and seen[9].quality == Quality.BAD_ADDRESS
            writes = [
                Write(points[0], 2.5),
                Write(points[1], 2**40),
                Write(points[2], "x"),
                Write(points[4], 21),
            ]
            outcomes = await session.write(writes)
            assert [(o.value, o.error) for o in outcomes] == [
                (2.5, None),
                (2**40, None),
                ("x", None),
                (21, None),
            ]
            assert (await poll(session, points))[3].value == [10, 21, 30]
        (found,) = [one async for one in discover(url)]
        samples = dict(found.points)
        assert samples["nsu=urn:plant;s=Pump.Speed"] == "Pump/Speed  Float 2.5  writable"
        assert found.identity["product"] and "Basic256Sha256/SignAndEncrypt" in found.identity["security"]

    run(work())


def test_it_pushes_every_change_and_filters(url: str, point: Any, run: Any) -> None:
    async def work() -> None:
        endpoint = OpcUaEndpoint(url=url, publishing_interval="100ms")
        points = [
            point(0, endpoint, "float64", "Pump.Count", sampling_interval="10ms"),
            point(1, endpoint, "float64", "Pump.Level", deadband=5),
            point(2, endpoint, "float64", {"node": "nsu=urn:plant;s=Pump.Level", "deadband_percent": 10}),
            point(3, endpoint, "float64", "Pump.Broken"),
            point(4, endpoint, "float64", "Pump.Gone"),
        ]
        async with open_session(endpoint) as session:
            seen: dict[int, list[Any]] = {i: [] for i in range(5)}
            async with contextlib.aclosing(session.subscribe(points)) as batches:
                async for batch in batches:
                    for row in rows(batch):
                        seen[row.slot].append(row)
                    if all(seen.values()) and len(seen[1]) == 1:
                        for value in (52.0, 57.0, 60.0, 75.0):
                            await session.write([Write(points[1], value)])
                    if len(seen[0]) > 12 and seen[2][-1].value == 75.0:
                        break
            counts = [row.value for row in seen[0]]
            assert counts == [counts[0] + i for i in range(len(counts))], "a change was lost"
            assert [row.value for row in seen[2]] == [50.0, 75.0], "10 % of 0..200"
            assert 52.0 not in [row.value for row in seen[1]] and seen[1][-1].value == 75.0
            assert seen[3][0].quality >= Quality.BAD and seen[4][0].quality == Quality.BAD_ADDRESS

    run(work())


def test_a_filter_that_it_refuses_is_left_out(url: str, point: Any, run: Any) -> None:
    """A percentage of no range (Part 8, 7.2): every change comes, rather than none."""

    async def work() -> None:
        endpoint = OpcUaEndpoint(url=url, publishing_interval="100ms")
        place = {"node": "nsu=urn:plant;s=Pump.Speed", "deadband_percent": 50}
        speed = point(0, endpoint, "float32", place, sampling_interval="10ms")
        async with open_session(endpoint) as session:
            values: list[float] = []
            async with contextlib.aclosing(session.subscribe([speed])) as batches:
                async for batch in batches:
                    values += [row.value for row in rows(batch)]
                    if len(values) == 3:
                        break
                    await session.write([Write(speed, values[0] + len(values) / 8)])
            assert values == [values[0], values[0] + 0.125, values[0] + 0.25]

    run(work())


def test_its_methods_are_called(url: str, run: Any) -> None:
    async def work() -> None:
        endpoint = OpcUaEndpoint(url=url, root="nsu=urn:plant;s=Pump")
        where = OpcUaMethod(browse_path="Add", namespace="urn:plant")

        def call(**arguments: Any) -> Invocation[Any]:
            return Invocation("default/plc", "add", endpoint, where, arguments)

        async with open_session(endpoint) as session:
            assert await session.invoke(call(a=1.5, b=2)) == {"sum": 3.5}
            assert await session.invoke(call(b=2, a=1.5)) == {"sum": 3.5}, "by name, whatever the order"
            assert await session.invoke(call(x=1.5, y=2)) == {"sum": 3.5}, "by order, where the names differ"
            for arguments, why in (
                ({"a": 1.0}, "1 arguments are given, the method takes 2: a, b"),
                ({"a": 1.0, "b": -1}, "argument `b`: -1 does not fit a UInt32"),
                ({"a": "x", "b": 1}, "argument `a`: 'x' is not a Double"),
                ({"a": 1.0, "b": 101}, "BadOutOfRange"),
            ):
                with pytest.raises(PointError, match=why):
                    await session.invoke(call(**arguments))

    run(work())


def test_its_structures(url: str, point: Any, run: Any) -> None:
    spots = [{"X": 1.0, "Y": 2.0}, {"X": 3.0, "Y": 4.0}]
    way = {"Name": "w", "Spots": spots, "Last": spots[0], "Laps": 3}
    other = {"Name": "ü", "Spots": [], "Last": spots[1]}

    async def work() -> None:
        endpoint = OpcUaEndpoint(url=url)
        names = ("Pump.Way", "Pump.Spots", "Pump.Range")
        points = [point(i, endpoint, "json", name) for i, name in enumerate(names)]
        async with open_session(endpoint) as session:
            read = await poll(session, points)
            assert [read[i].value for i in range(3)] == [way, spots, {"Low": 1.0, "High": 2.0}]
            wanted = [other, [spots[1]] * 3, {"Low": -5.0, "High": 0.5}]
            told = await session.write([Write(*pair) for pair in zip(points, wanted, strict=True)])
            assert [(one.value, one.error) for one in told] == [(value, None) for value in wanted]
            where = OpcUaMethod(object="nsu=urn:plant;s=Pump", node="nsu=urn:plant;s=Pump.Turn")
            given = Invocation("default/plc", "turn", endpoint, where, {"way": way})
            assert await session.invoke(given) == {"way": way, "spots": spots}

    run(work())


def test_its_alarms_and_its_past(url: str, point: Any, run: Any) -> None:
    async def work() -> None:
        endpoint = OpcUaEndpoint(url=url)
        level = point(0, endpoint, "float64", "Pump.Level")
        count = point(1, endpoint, "float64", "Pump.Count")
        mode = point(2, endpoint, "string", "Pump.Mode")
        alarms = [
            Notifier("default/plc", name, endpoint, OpcUaEvents(**where))
            for name, where in (("pump", {"node": "nsu=urn:plant;s=Pump"}), ("server", {}))
        ]
        async with open_session(endpoint) as session:
            assert (await poll(session, [mode]))[2].value == "Auto"
            await session.write([Write(level, 50.0)])
            async with contextlib.aclosing(session.subscribe([], alarms)) as pushes:
                for _ in alarms:
                    first = await heard(pushes)
                    assert first.standing and not first.occurrences, first
                for value, state in ((160.0, "active"), (50.0, "cleared")):
                    await session.write([Write(level, value)])
                    told: dict[str, Any] = {}
                    while len(told) < len(alarms):
                        notification = await heard(pushes)
                        told[notification.notifier.event] = notification.occurrences[-1]
                    assert {(one.name, one.source, one.state) for one in told.values()} == {
                        ("TooFull", "3:Pump", state)
                    }
                await session.write([Write(level, 160.0)])
                await heard(pushes)
            async with contextlib.aclosing(session.subscribe([], alarms)) as pushes:
                standing = [await heard(pushes) for _ in alarms]
                assert all(n.standing and n.occurrences[0].state == "active" for n in standing), standing
            now = time.time_ns()
            while time.time_ns() - now < 10**9:  # it counts every 150 ms
                await poll(session, [count])
            told_rows = [
                row
                async for batch in session.history(
                    [Gap(count, now, now + 10**9), Gap(level, now, now + 10**9)]
                )
                for row in rows(batch)
            ]
            values = [row.value for row in told_rows]
            assert len(values) >= 4 and values == [values[0] + i for i in range(len(values))]
            assert {(row.slot, row.quality) for row in told_rows} == {(1, Quality.FROM_HISTORY)}

    run(work())


def test_its_subscriptions_outlive_a_lost_connection(url: str, point: Any, run: Any) -> None:
    async def work() -> None:
        leavings = Leavings()
        async with Proxy(int(url.rpartition(":")[2])) as proxy:
            endpoint = OpcUaEndpoint(url=f"opc.tcp://127.0.0.1:{proxy.port}", publishing_interval="100ms")
            one = point(0, endpoint, "float64", "Pump.Count", sampling_interval="10ms", report="every")
            counts: list[Any] = []
            for turn in range(3):
                async with contextlib.AsyncExitStack() as stack:
                    stack.enter_context(contextlib.suppress(LinkError))
                    session = await stack.enter_async_context(open_session(endpoint, leavings=leavings))
                    batches = await stack.enter_async_context(contextlib.aclosing(session.subscribe([one])))
                    before = len(counts)
                    async for batch in batches:
                        assert isinstance(batch, Batch)
                        counts += [row.value for row in rows(batch)]
                        if len(counts) > before + 5 and turn < 2:
                            proxy.cut()
                        elif len(counts) > before + 5:
                            break
                await asyncio.sleep(0.5)  # an outage
            fresh = list(dict.fromkeys(counts))
            assert fresh == [fresh[0] + i for i in range(len(fresh))], "a change of the outage is lost"
            assert len(fresh) >= 15

    run(work())


@pytest.mark.parametrize("policy", ["Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"])
def test_its_secured_endpoints(url: str, point: Any, run: Any, tmp_path: Path, policy: Any) -> None:
    async def work() -> None:
        def endpoint(secret: str) -> OpcUaEndpoint:
            identity = {"user_name": "anna", "password": {"name": secret}}
            fields = {"security_policy": policy, "pki": str(tmp_path), "identity": identity}
            return OpcUaEndpoint.model_validate({"url": url, **fields})

        with pytest.raises(LinkError) as untrusted:
            async with open_session(endpoint("plc"), lambda ref: "s3cret"):
                pytest.fail("opened")
        _, kept, _, trusted, _ = str(untrusted.value).split("'")
        shutil.move(kept, trusted)
        async with open_session(endpoint("plc"), lambda ref: "s3cret") as session:
            one = point(0, endpoint("plc"), "string", "Pump.Name")
            assert (await poll(session, [one]))[0].quality == Quality.GOOD
        with pytest.raises(AuthError, match="does not let user anna in"):
            async with open_session(endpoint("old"), lambda ref: "wrong"):
                pytest.fail("opened")

    run(work())
