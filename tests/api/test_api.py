"""The HTTP server over a real socket."""

import asyncio
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from devicemesh.api.server import ExposedError, serve
from devicemesh.runtime.runtime import Runtime
from devicemesh.settings import ApiSettings, Settings
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
    import time

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
    ):
        assert f"\ndevicemesh_{name}" in metrics, name


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
