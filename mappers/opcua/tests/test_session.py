"""A session: polling, writing as the node's type, arrays, attributes, what goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from typing import Any

import pytest
from asyncua import ua
from devicemesh_opcua import services, status
from devicemesh_opcua.server import Server
from devicemesh_opcua.session import open_session

from devicemesh.mapper import ConfigError, LinkError, PointError, Quality, Write
from devicemesh.testing.contract import Row, once, poll
from devicemesh.testing.proxy import Proxy
from devicemesh.testing.server import StreamServer

KINDS: list[tuple[str, Any, str, Any, Any]] = [
    # OPC UA type, value there, property type, another value, as it reads back
    ("SByte", -5, "int8", 7, 7),
    ("Byte", 200, "uint8", 1, 1),
    ("Int16", -300, "int16", 2, 2),
    ("UInt16", 60000, "uint16", 3, 3),
    ("Int32", -70000, "int32", 4, 4),
    ("UInt32", 4_000_000_000, "uint32", 5, 5),
    ("Int64", -(2**62), "int64", 2**62 + 1, 2**62 + 1),
    ("UInt64", 2**64 - 1, "uint64", 2**63, 2**63),
    ("Float", 0.5, "float32", 0.25, 0.25),
    ("Double", 0.1, "float64", 3, 3.0),
    ("Int16", 12, "float64", 13.0, 13.0),
    ("Boolean", True, "bool", False, False),
    ("Byte", 1, "bool", False, False),
    ("String", "mesh", "string", "würfel", "würfel"),
    ("ByteString", b"\x00\x01", "bytes", b"\xff", b"\xff"),
    (
        "Guid",
        uuid.UUID(int=7),
        "string",
        "09087e75-8e5e-499b-954f-f2a9603db28a",
        "09087e75-8e5e-499b-954f-f2a9603db28a",
    ),
]


async def first(session: Any, point: Any) -> Row:
    return (await poll(session, [point]))[point.slot]


@pytest.mark.parametrize("kind, there, type_, other, back", KINDS)
def test_every_type_is_read_written_and_read_back(
    serve_plant: Any, point: Any, run: Any, kind: str, there: Any, type_: str, other: Any, back: Any
) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("x", there, kind)
            one = point(0, plant.endpoint(), type_, "x")
            async with open_session(one.endpoint) as session:
                wanted = str(there) if isinstance(there, uuid.UUID) else there
                assert (await first(session, one)).value == wanted
                (outcome,) = await session.write([Write(one, other)])
                assert (outcome.value, outcome.error) == (back, None)
                assert (await first(session, one)).value == back

    run(work())


def test_texts_of_other_types(serve_plant: Any, point: Any, run: Any) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            endpoint = plant.endpoint()
            started = point(0, endpoint, "string", {"node": "i=2257"})
            state = point(1, endpoint, "json", {"node": "i=2256"})
            name = point(2, endpoint, "string", {"node": "i=2253", "attribute": "DisplayName"})
            kind = point(3, endpoint, "string", {"node": "i=2255", "attribute": "DataType"})
            uris = point(4, endpoint, "json", {"node": "i=2255"})
            async with open_session(endpoint) as session:
                seen = await poll(session, [started, state, name, kind, uris])
                assert seen[0].value.endswith("Z") and seen[0].value[:2] == "20"
                assert seen[1].value["State"] == 0  # by the standard's own dictionary
                assert seen[1].value["BuildInfo"]["ProductName"] is not None
                assert seen[1].value["StartTime"] == seen[0].value
                assert seen[2].value == "Server"
                assert seen[3].value == "i=12"
                assert seen[4].value[0] == "http://opcfoundation.org/UA/" and "urn:plant" in seen[4].value

    run(work())


def test_parts_of_arrays(serve_plant: Any, point: Any, run: Any) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("list", [10.0, 20.0, 30.0, 40.0], "Double")
            endpoint = plant.endpoint()
            node = {"node": "nsu=urn:plant;s=list"}
            whole = point(0, endpoint, "json", node)
            beyond = point(1, endpoint, "float64", {**node, "index_range": "9"})
            async with open_session(endpoint) as session:
                assert (await first(session, whole)).value == [10.0, 20.0, 30.0, 40.0]
                (outcome,) = await session.write([Write(whole, [1.0, 2.5])])
                assert (outcome.value, outcome.error) == ([1.0, 2.5], None)
                row = await first(session, beyond)
                assert row.quality >= Quality.BAD and row.error is not None

    run(work())


def test_a_node_is_found_from_the_devices_root(serve_plant: Any, point: Any, run: Any) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("Pump/Motor/Speed", 1500, "Int32")
            top = plant.endpoint(namespaces={2: "urn:plant"})
            near = plant.endpoint(root="nsu=urn:plant;s=Pump")
            points = [
                point(0, top, "int32", {"browse_path": "/2:Pump/2:Motor/2:Speed"}),
                point(1, near, "int32", {"browse_path": "Motor/Speed", "namespace": "urn:plant"}),
                point(2, top, "int32", {"node": "ns=2;s=Pump/Motor/Speed"}),
                point(3, near, "int32", {"node": "s=Pump/Motor/Speed", "namespace": "urn:plant"}),
            ]
            async with open_session(top) as session:
                seen = await poll(session, points)
                assert [seen[slot].value for slot in range(4)] == [1500] * 4, seen

    run(work())


@pytest.mark.parametrize(
    "kind, there, type_, value, why",
    [
        ("Int16", 1, "int32", 70000, "70000 does not fit an Int16: -32768 to 32767"),
        ("Boolean", True, "string", "yes", "'yes' is not a Boolean, which the server has there"),
        ("Int32", 1, "json", [1, 2], "the node holds one value of Int32"),
        ("Int32", [1, 2], "int32", 1, "the node holds an array of Int32"),
        ("Guid", uuid.UUID(int=1), "string", "x", "'x' is not a Guid"),
    ],
)
def test_what_does_not_fit_is_not_written(
    serve_plant: Any, point: Any, run: Any, kind: str, there: Any, type_: str, value: Any, why: str
) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("x", there, kind)
            one = point(0, plant.endpoint(), type_, "x")
            async with open_session(one.endpoint) as session:
                (outcome,) = await session.write([Write(one, value)])
                assert isinstance(outcome.error, PointError) and why in str(outcome.error)
            assert await plant.get("x") == there

    run(work())


def test_an_empty_node_is_written_as_its_data_type_says(serve_plant: Any, point: Any, run: Any) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("x", 1.5, "Float")
            await plant.set("x", None, None)
            one = point(0, plant.endpoint(), "float32", "x")
            async with open_session(one.endpoint) as session:
                (outcome,) = await session.write([Write(one, 2.5)])
                assert (outcome.value, outcome.error) == (2.5, None)

    run(work())


def test_reads_of_any_size_keep_to_the_limit(serve_plant: Any, point: Any, run: Any) -> None:
    async def work() -> None:
        names = [f"v{i}" for i in range(25)]
        async with serve_plant(limits={11705: 10}) as plant:
            await plant.add_many(names, 1, "Int32")
            endpoint = plant.endpoint()
            points = [point(i, endpoint, "int32", name) for i, name in enumerate(names)]
            async with open_session(endpoint) as session:
                reader = session.reader(points)
                for _ in range(3):
                    assert {row.value for row in (await once(reader, points)).values()} == {1}

    run(work())


def test_a_silent_server_costs_its_points_and_then_the_session(
    serve_plant: Any, point: Any, run: Any
) -> None:
    async def work() -> None:
        async with serve_plant() as plant, Proxy(plant.port) as proxy:
            await plant.add("x", 1, "Int32")
            endpoint = plant.endpoint(timeout="200ms", session_timeout="3s").redirect(
                f"127.0.0.1:{proxy.port}"
            )
            one = point(0, endpoint, "int32", "x")
            async with open_session(endpoint) as session:
                reader = session.reader([one])
                assert (await once(reader, [one]))[0].value == 1
                proxy.hole = True
                row = (await once(reader, [one]))[0]
                assert row.quality == Quality.NO_ANSWER and "within 0.2 s" in str(row.error)
                with pytest.raises(LinkError) as caught:
                    while True:
                        await once(reader, [one])
                assert "has not answered for" in str(caught.value)

    run(work())


def test_a_dropped_connection_is_a_link_error_at_once(serve_plant: Any, point: Any, run: Any) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("x", 1, "Int32")
            one = point(0, plant.endpoint(), "int32", "x")
            async with open_session(one.endpoint) as session:
                reader = session.reader([one])
                await once(reader, [one])
                await plant.drop()
                with pytest.raises(LinkError) as caught:
                    while True:
                        await once(reader, [one])
                assert str(caught.value).startswith(f"127.0.0.1:{plant.port} ")

    run(work())


@pytest.mark.parametrize(
    "answer",
    [
        b"ACKF\x00\x00\x00\x00" + bytes(20),
        b"ACKF\xff\xff\xff\x7f" + bytes(20),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"ERRF\x10\x00\x00\x00\x00\x00\x83\x80\xff\xff\xff\xff",
        b"MSGC\x07\x00\x00\x00",
    ],
)
def test_a_peer_that_does_not_speak_opc_ua(run: Any, answer: bytes) -> None:
    async def work() -> None:
        from devicemesh_opcua.model import OpcUaEndpoint

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(64)
            writer.write(answer)
            await reader.read()

        async with StreamServer(talk) as server:
            endpoint = OpcUaEndpoint(url=f"opc.tcp://127.0.0.1:{server.port}", timeout="500ms")
            with pytest.raises((LinkError, ConfigError)) as caught:
                async with open_session(endpoint):
                    pytest.fail("opened")
            assert f"127.0.0.1:{server.port}" in str(caught.value)

    run(work())


def test_cancelling_a_poll_leaves_the_session_whole(serve_plant: Any, point: Any, run: Any) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            names = [f"v{i}" for i in range(300)]
            await plant.add_many(names, 1, "Int32")
            endpoint = plant.endpoint()
            points = [point(i, endpoint, "int32", n) for i, n in enumerate(names)]
            async with open_session(endpoint) as session:
                reader = session.reader(points)
                await once(reader, points)
                for _ in range(5):
                    task = asyncio.ensure_future(once(reader, points))
                    await asyncio.sleep(0)
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await task
                assert len(await once(reader, points)) == 300

    run(work())


def test_a_lost_answer_about_namespaces_is_no_session(
    serve_plant: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without them no node could be named: it is opened anew, not kept with every point bad."""

    async def lost(self: Server, items: Any) -> Any:
        raise PointError("no answer", reason="NoAnswer")

    async def work() -> None:
        async with serve_plant() as plant:
            monkeypatch.setattr(Server, "read", lost)
            with pytest.raises(LinkError, match="does not tell its namespaces"):
                async with open_session(plant.endpoint()):
                    pytest.fail("there is a session")

    run(work())


def test_a_lost_answer_to_a_write_is_judged_by_what_reads_back(
    serve_plant: Any, point: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, arrives = Server.ask, True

    async def lossy(self: Server, type_id: int, parameters: bytes) -> bytes:
        if type_id != services.WRITE_REQUEST:
            return await ask(self, type_id, parameters)
        if arrives:
            await ask(self, type_id, parameters)
        raise PointError("no answer from plc within 5 s", reason="NoAnswer")

    async def work() -> None:
        nonlocal arrives
        async with serve_plant() as plant:
            await plant.add("float", 0.5, "Float")
            await plant.add("text", "a", "String")
            endpoint = plant.endpoint()
            number, text = point(0, endpoint, "float64", "float"), point(1, endpoint, "string", "text")
            async with open_session(endpoint) as session:
                monkeypatch.setattr(Server, "ask", lossy)
                done = await session.write([Write(number, 0.1), Write(text, "b")])
                assert [one.error for one in done] == [None, None] and done[1].value == "b"
                assert done[0].value == pytest.approx(0.1), "to the bit what was sent"
                arrives = False
                failed = await session.write([Write(number, 0.2), Write(text, "c")])
                assert [(one.value, one.error.reason) for one in failed if one.error] == [
                    (done[0].value, "NoAnswer"), ("b", "NoAnswer"),
                ]  # fmt: skip
                assert "no answer from plc within 5 s, and it reads back as 'b'" in str(failed[1].error)

    run(work())


@pytest.mark.parametrize(
    ("name", "passes"),
    [
        ("BadOutOfService", True),
        ("BadNoCommunication", True),
        ("BadServerTooBusy", True),
        ("BadNotWritable", False),
    ],
)
def test_what_a_server_refuses_for_now_may_be_asked_again(name: str, passes: bool) -> None:
    error = status.error("plc:4840", getattr(ua.StatusCodes, name))
    assert error.passes == passes
    assert f"plc:4840 says {name}: " in str(error)
