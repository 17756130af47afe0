"""The HTTP server over a real socket."""

import asyncio
import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from devicemesh.api.server import ExposedError, serve
from devicemesh.cli.main import app
from devicemesh.mapper import PointError
from devicemesh.runtime.runtime import Runtime
from devicemesh.settings import ApiSettings, MqttSettings, Settings
from devicemesh.sink.mqtt import MqttSink
from devicemesh.store.database import Database
from devicemesh.testing.fake import FakeMapper, FakeSink
from devicemesh.testing.memory import MemoryStore

MODEL = {
    "apiVersion": "devicemesh.io/v1alpha1", "kind": "DeviceModel", "metadata": {"name": "pump"},
    "spec": {"properties": [{"name": "speed", "type": "float64", "unit": "rpm", "address": {"fake": {"key": "s"}},
                             "telemetry": {"samplingInterval": "10ms", "report": "every"}}]},
}  # fmt: skip
DEVICE = {
    "apiVersion": "devicemesh.io/v1alpha1", "kind": "Device", "metadata": {"name": "pump-1"},
    "spec": {"modelRef": {"name": "pump"}, "endpoint": {"fake": {"host": "h"}}},
}  # fmt: skip


def ask(url: str, token: str | None = None) -> tuple[int, bytes]:
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


async def scene(
    tmp_path: Path, token: str | None, questions: list[tuple[str, str | None]]
) -> list[tuple[int, bytes]]:
    store, sink = MemoryStore(), FakeSink()
    await store.apply([MODEL, DEVICE])
    mapper = FakeMapper(time.time_ns)
    mapper.values["h", 1, "s"] = 42.5
    async with (
        Runtime(Settings(home=tmp_path), store, sink, {"fake": mapper}) as runtime,
        serve(runtime, ApiSettings(port=0), token) as url,
    ):
        while not sink.published:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return [await asyncio.to_thread(ask, url + path, given) for path, given in questions]


def test_health_twins_and_metrics(tmp_path: Path) -> None:
    paths = [
        "/healthz",
        "/readyz",
        "/api/v1/devices/default/pump-1",
        "/api/v1/devices/default/none",
        "/metrics",
        "/nothing",
    ]
    found = asyncio.run(scene(tmp_path, None, [(path, None) for path in paths]))
    assert [status for status, _ in found] == [200, 200, 200, 404, 200, 404]
    twin: Any = json.loads(found[2][1])
    assert twin["properties"][0]["reported"]["value"] == 42.5
    assert twin["properties"][0]["unit"] == "rpm"
    assert twin["conditions"][0]["type"] == "Ready"
    metrics = found[4][1].decode()
    for name in (
        "link_up",
        "samples_read_total",
        "poll_lag_seconds_bucket",
        "link_request_duration_seconds_bucket",
        "write_duration_seconds_bucket",
        "samples_bad_total{",
        "samples_recovered_total{",
        "store_writes_total{",
        "outbox_capacity_bytes",
        "devices",
        "samples_backfilled_total{",
    ):
        assert f"\ndevicemesh_{name}" in metrics, name


def test_a_task_of_the_sink_that_ends_is_no_health(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ends(_: object) -> None:
        raise ZeroDivisionError

    async def main() -> tuple[int, bytes]:
        settings = Settings(home=tmp_path)
        async with (
            MqttSink(MqttSettings(url="mqtt://127.0.0.1:1"), settings.outbox, tmp_path, "test") as sink,
            Runtime(settings, MemoryStore(), sink, {}) as runtime,
            serve(runtime, ApiSettings(port=0), None) as url,
        ):
            return await asyncio.to_thread(ask, url + "/healthz")

    monkeypatch.setattr(MqttSink, "_tend", ends)
    monkeypatch.setattr("devicemesh.runtime.runtime.DRAIN_S", 0.1)  # nobody is left to send anything
    status, body = asyncio.run(main())
    assert (status, json.loads(body)["errors"]) == (503, 1)


def test_a_token_guards_all_but_health(tmp_path: Path) -> None:
    questions = [
        ("/healthz", None),
        ("/readyz", None),
        ("/metrics", None),
        ("/metrics", "wrong"),
        ("/metrics", "right"),
    ]
    found = asyncio.run(scene(tmp_path, "right", questions))
    assert [status for status, _ in found] == [200, 200, 401, 401, 200]


def test_no_open_door_without_a_token(tmp_path: Path) -> None:
    async def main() -> None:
        runtime = Runtime(Settings(home=tmp_path), MemoryStore(), FakeSink(), {})
        async with serve(runtime, ApiSettings(host="0.0.0.0", port=0), None):
            pass

    with pytest.raises(ExposedError, match=r"api\.token"):
        asyncio.run(main())


def test_a_door_that_nobody_knocks_at_closes(tmp_path: Path) -> None:
    asyncio.run(scene(tmp_path, None, []))


def test_commands_over_http_and_from_the_command_line(tmp_path: Path) -> None:
    arguments = [
        {"name": "position", "type": "float64", "maximum": 9},
        {"name": "names", "type": "json", "default": []},
        {"name": "mark", "type": "bytes", "default": ""},
    ]
    move = {"name": "move", "arguments": arguments, "address": {"fake": {"name": "M"}}}
    model: Any = {**MODEL, "spec": {**MODEL["spec"], "commands": [move]}}  # type: ignore[dict-item]
    Database(tmp_path / "store.db").apply([model, DEVICE])

    def post(url: str, body: bytes, kind: str = "application/json") -> tuple[int, Any]:
        request = urllib.request.Request(url, body, {"content-type": kind}, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    async def main() -> None:
        store, mapper = MemoryStore(), FakeMapper(time.time_ns)
        await store.apply([model, DEVICE])
        mapper.answers["M"] = {"took": 3, "odd": float("nan")}
        async with (
            Runtime(Settings(home=tmp_path), store, FakeSink(), {"fake": mapper}) as runtime,
            serve(runtime, ApiSettings(port=0), None) as url,
        ):
            while not any(link.stats.up for link in runtime.supervisor.links.values()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            place = f"{url}/api/v1/devices/default"

            def cli(*words: str) -> Any:
                return CliRunner().invoke(app, ["--home", str(tmp_path), "call", *words, "--api", url])

            for path, body, kind, wanted in (
                ("pump-1/commands/move", b'{"position": 1}', "application/json; charset=utf-8", 200),
                ("pump-1/commands/move", b'{"position": 10}', "application/json", 422),
                ("pump-1/commands/none", b"{}", "application/json", 422),
                ("pump-2/commands/move", b"{}", "application/json", 404),
                ("pump-1/commands/move", b"position=1", "application/x-www-form-urlencoded", 415),
                ("pump-1/commands/move", b"{", "application/json", 400),
                ("pump-1/commands/move", b'{"position":' + b"1" * (1 << 17), "application/json", 400),
            ):
                status, answer = await asyncio.to_thread(post, f"{place}/{path}", body, kind)
                assert status == wanted, (path, body[:20], answer)
            done = await asyncio.to_thread(cli, "pump-1", "move", "position=2.5", 'names=["a"]', "mark=AP8=")
            assert (done.exit_code, done.stdout) == (0, "took 3\nodd \N{EN DASH}\n"), done.output
            assert mapper.invoked == [
                ("M", {"position": 1.0, "names": [], "mark": b""}),
                ("M", {"position": 2.5, "names": ["a"], "mark": b"\x00\xff"}),
            ]
            told = await asyncio.to_thread(cli, "pump-1", "move", "position=2", "-o", "json")
            assert json.loads(told.stdout) == {"state": "applied", "result": {"took": 3, "odd": None}}
            for words, code, why in (
                (("pump-1", "move", "position=10"), 1, "10 is above position's maximum of 9"),
                (("pump-1", "move", "position=x"), 1, "'x' is not a number"),
                (("pump-1", "move", "speed=1"), 2, "`move` takes position=... names=... mark=..."),
                (("pump-1", "mve"), 1, "did you mean `move`?"),
                (("nothing", "move"), 1, "nothing"),
            ):
                found = await asyncio.to_thread(cli, *words)
                assert (found.exit_code, why in found.stderr) == (code, True), found.stderr
            mapper.answers["M"] = PointError("h says nothing", reason="NoAnswer")
            silent = await asyncio.to_thread(cli, "pump-1", "move", "position=2")
            assert (silent.exit_code, "failed: h says nothing" in silent.stderr) == (3, True)
        gone = await asyncio.to_thread(cli, "pump-1", "move", "position=2")
        assert (gone.exit_code, "no runtime answers at http://127.0.0.1" in gone.stderr) == (3, True)

    asyncio.run(main())
