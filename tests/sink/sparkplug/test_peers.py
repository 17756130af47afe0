"""A codec that we did not write, `sparkplug-payload` of npm. `node/install.sh` brings it; else this is skipped."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devicemesh.sink.sparkplug.births import device_birth, node_birth, node_death
from devicemesh.sink.sparkplug.metrics import metrics_of
from devicemesh.sink.sparkplug.wire import Metric, Type, decode, encode
from devicemesh.sink.told import Told

FOLDER = Path(__file__).parent / "node"
Ask = Callable[[dict[str, Any]], Any]


@pytest.fixture
def codec() -> Iterator[Ask]:
    if shutil.which("node") is None or not (FOLDER / "node_modules/sparkplug-payload").is_dir():
        pytest.skip(f"sparkplug-payload is not installed: {FOLDER / 'install.sh'}")
    child = subprocess.Popen(
        ["node", "codec.js"], cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin and child.stdout

    def ask(what: dict[str, Any]) -> Any:
        assert child.stdin and child.stdout
        child.stdin.write(json.dumps(what) + "\n")
        child.stdin.flush()
        return json.loads(child.stdout.readline())

    with child:
        yield ask
        child.stdin.close()


@pytest.mark.parametrize(
    ("type_", "value", "read"),
    [
        (Type.INT32, -5, -5),
        (Type.INT64, -(2**53) - 1, str(-(2**53) - 1)),
        (Type.UINT8, 255, 255),
        (Type.UINT16, 65535, 65535),
        (Type.UINT64, 2**63, str(-(2**63))),  # as JSON of its Long; the bits are the same
        (Type.FLOAT, 1.5, 1.5),
        (Type.DOUBLE, 0.1, 0.1),
        (Type.BOOLEAN, True, True),
        (Type.STRING, "°C", "°C"),
        (Type.BYTES, b"\x01\xff", {"hex": "01ff"}),
        (Type.DOUBLE, None, None),
    ],
)
def test_it_reads_every_type_that_we_emit(type_: Type, value: Any, read: Any, codec: Ask) -> None:
    properties = {"Quality": (Type.INT32, 0), "engUnit": (Type.STRING, "rpm")}
    data = encode([Metric("speed", 7, type_, value, 1_700_000_000_123, True, properties)], 5, 255)
    found = codec({"decode": data.hex()})
    (metric,) = found["metrics"]
    assert metric["value"] == read
    assert (metric["name"], metric["alias"], metric["isHistorical"]) == ("speed", "7", True)
    assert metric["timestamp"] == "1700000000123"
    assert found["seq"] == "255"
    assert metric["properties"]["Quality"]["value"] == 0
    assert metric["properties"]["engUnit"]["value"] == "rpm"


def test_it_reads_certificates(codec: Ask, declaration: Any) -> None:
    birth = codec({"decode": node_birth(3, 1, "1.0", {"disk_full": 5}).hex()})
    assert {one["name"]: one["value"] for one in birth["metrics"]} | {"bdSeq": 3} == {
        "bdSeq": 3,
        "Node Control/Rebirth": False,
        "Properties/Software": "DeviceMesh",
        "Properties/Version": "1.0",
        **{
            f"Dropped/{policy}": "0"
            for policy in ("outbox_bytes", "outbox_age", "corrupt", "too_large", "refused")
        },
        "Dropped/disk_full": "5",
    }
    (death,) = codec({"decode": node_death(3, 1).hex()})["metrics"]
    assert (death["name"], death["value"]) == ("bdSeq", "3")
    device = device_birth(metrics_of(declaration), {"speed": Told("speed", 1.5, 9)}, 1 << 20, 5)
    found = {one["name"]: one for one in codec({"decode": device.hex()})["metrics"]}
    assert found["speed"]["value"] == 1.5
    assert found["mode"]["value"] is None
    assert found["speed"]["properties"]["engUnit"]["value"] == "rpm"


def test_we_read_what_it_writes(codec: Ask) -> None:
    written = [
        {"name": "a", "type": "Int8", "value": -5},
        {"name": "b", "type": "Int16", "value": -500},
        {"name": "c", "type": "Int32", "value": -5},
        {"name": "d", "type": "UInt32", "value": 4_000_000_000},
        {"name": "e", "type": "Double", "value": 1.5},
        {"name": "f", "type": "Float", "value": 1.5},
        {"name": "g", "type": "Boolean", "value": True},
        {"name": "h", "type": "String", "value": "x"},
        {"alias": 1048576, "name": "", "type": "UInt16", "value": 7},
    ]
    found = decode(bytes.fromhex(codec({"encode": {"timestamp": 1, "metrics": written, "seq": 1}})))
    assert [one.value for one in found] == [each["value"] for each in written]
    assert found[-1].alias == 1048576
