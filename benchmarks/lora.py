"""What an uplink costs over LoRaWAN: `python benchmarks/lora.py`.

A gateway in a process of its own sends the uplinks of many devices by the packet forwarder's protocol; a
session verifies, decrypts and decodes them to columns. Printed are uplinks a second until the last one is
there, the CPU of the session's process for each, and how many were lost. With `--codec` the payloads go
through a JavaScript codec in its helper process, and what a call costs with its trip there is measured too:
devices that always have something to decode, a trip's time by its calls, the median over all calls. With
`--fuzz N` as many random, cut and changed frames are given to the network server instead. The last line is
one of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from devicemesh_lora import mac
from devicemesh_lora.codec import Codecs
from devicemesh_lora.declared_codec import Codec
from devicemesh_lora.mac import MType
from devicemesh_lora.model import LoraAddress, LoraEndpoint
from devicemesh_lora.network import Network
from devicemesh_lora.node import Keys, Node, Uplink
from devicemesh_lora.packet import Packet
from devicemesh_lora.session import LoraSession, open_session
from devicemesh_lora.store import Kept, opened
from lora_messages import fuzz_messages

from devicemesh.mapper import Point
from devicemesh.spec.values import ValueType

GATEWAY = "0102030405060708"
KEYS = bytes(16), bytes(range(16))
PAYLOAD = bytes.fromhex("cbb10b88028f0109f17fff")
DEVICES = 100
BURST = 50
PATIENCE_S = 30.0
CODEC = Codec(source=Path(__file__).with_name("lora_codec.js").read_text())


def phy(device: int, counter: int) -> bytes:
    return mac.data_frame(MType.UNCONFIRMED_UP, KEYS, device, counter, 2, PAYLOAD)


def send(port: int, count: int, rate: float) -> None:
    """The gateway: paced, as radios are, in small bursts."""
    frames = []
    for number in range(count):
        data = phy(number % DEVICES, 1 + number // DEVICES)
        packet = {"tmst": number, "freq": 868.1, "datr": "SF7BW125", "stat": 1, "rssi": -60, "lsnr": 5.5,
                  "size": len(data), "data": base64.b64encode(data).decode()}  # fmt: skip
        head = b"\x02xy\x00" + bytes.fromhex(GATEWAY)
        frames.append(head + json.dumps({"rxpk": [packet]}).encode())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.connect(("127.0.0.1", port))
        print("ready", flush=True)
        sys.stdin.readline()
        start = time.perf_counter()
        for number, frame in enumerate(frames):
            if number % BURST == 0:
                time.sleep(max(0.0, start + number / rate - time.perf_counter()))
            made.send(frame)


def started(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def declared(port: int, with_codec: bool) -> list[Any]:
    listen = {"listen": f"127.0.0.1:{port}"}
    keys = {key: {"name": "bench", "key": key} for key in ("nwkSKey", "appSKey")}
    gateway = LoraEndpoint.model_validate({**listen, "gateway": GATEWAY})
    where = LoraAddress(pointer="/TempC_SHT") if with_codec else LoraAddress(port=2, offset=0)
    more = {"codec": CODEC} if with_codec else {}
    type_ = ValueType.FLOAT64 if with_codec else ValueType.INT16
    points = [Point(0, "default/gw", "seen", ValueType.FLOAT64, gateway, LoraAddress(stat="lastSeen"))]
    for device in range(DEVICES):
        abp = {"devAddr": f"{device:08x}", **keys}
        node = LoraEndpoint.model_validate({**listen, "devEui": f"{device:016x}", "abp": abp, **more})
        points.append(Point(device + 1, f"default/d{device}", "v", type_, node, where))
    return points


async def taken(session: LoraSession, points: list[Any], count: int) -> tuple[int, float]:
    """How many values came, and when the last one did."""
    seen, last = 0, time.perf_counter()
    batches = session.subscribe(points)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S), contextlib.aclosing(batches):
            async for batch in batches:
                if batch.slot[0] > 0 and batch.error is None:
                    seen, last = seen + 1, time.perf_counter()
                if seen == count:
                    break
    return seen, last


async def uplinks(count: int, rate: float, with_codec: bool) -> dict[str, float]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    points = declared(port, with_codec)
    secrets = {"nwkSKey": KEYS[0].hex(), "appSKey": KEYS[1].hex()}
    command = [sys.executable, __file__, "--send", str(port), "--uplinks", str(count), "--rate", str(rate)]
    sender = started(command)
    assert sender.stdin is not None and sender.stdout is not None
    sender.stdout.readline()
    try:
        async with open_session(points[0].endpoint, lambda ref: secrets[ref.key]) as session:
            taking = asyncio.create_task(taken(session, points, count))
            await asyncio.sleep(0)
            sender.stdin.write("\n")
            sender.stdin.flush()
            start, cpu = time.perf_counter(), time.process_time()
            seen, last = await taking
            cpu = time.process_time() - cpu
            named = sum(session.lost().values())
    finally:
        sender.wait()
        sender.stdin.close()
        sender.stdout.close()
    return {
        "uplinks_per_s": round(seen / (last - start)),
        "uplink_cpu_us": round(cpu / max(seen, 1) * 1e6, 1),
        "uplinks_lost": count - seen,
        "of_them_counted": named,  # by us; the others the system dropped, as the socket's buffer was full
    }


class Timed(Codecs):
    """Codecs whose trips are timed: us for each call."""

    def __init__(self) -> None:
        super().__init__()
        self.each_us: list[float] = []

    async def _trip(self, taken: Any) -> None:
        start = time.perf_counter()
        await super()._trip(taken)
        self.each_us += [(time.perf_counter() - start) / len(taken) * 1e6] * len(taken)


async def codec_calls(count: int) -> dict[str, float]:
    """What a call costs while all devices always have one that waits."""
    codecs = Timed()
    names = [f"{device:016x}" for device in range(DEVICES)]
    codecs.declare(dict.fromkeys(names, CODEC))
    left, done = count, asyncio.Event()

    def answered(name: str, _: Any) -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            done.set()
        else:
            ask(name)

    def ask(name: str) -> None:
        codecs.uplink(name, 2, PAYLOAD, time.time_ns(), partial(answered, name), samples=1, normalized=False)

    for name in names:
        ask(name)
    running = asyncio.create_task(codecs.running())
    start = time.perf_counter()
    await done.wait()
    spent = time.perf_counter() - start
    running.cancel()
    await asyncio.wait({running})
    ordered = sorted(codecs.each_us)
    return {
        "codec_call_us": round(statistics.median(ordered), 1),
        "codec_call_p95_us": round(ordered[int(len(ordered) * 0.95)], 1),
        "codec_calls_per_s": round(count / spent),
    }


def fuzz(count: int) -> dict[str, float]:
    """Frames that are almost right; one that is accepted must be one that was made."""
    rng = random.Random(1)
    keys = {"name": "bench", "key": "k"}
    fields = {"listen": "127.0.0.1:1", "devEui": "0" * 16,
              "abp": {"devAddr": "00000000", "nwkSKey": keys, "appSKey": keys}}  # fmt: skip
    good = [phy(0, counter) for counter in range(1, 50)]
    good.append(mac.data_frame(MType.CONFIRMED_UP, KEYS, 0, 60, 0, b"\x02\x06\xff\x01"))
    good.append(mac.join_request(KEYS[0], bytes(8), bytes(8), 1))
    accepted = wrong = 0
    with opened(None) as store:
        network = Network(store)
        node = Node(LoraEndpoint.model_validate(fields), "n", Keys(None, KEYS, 0), Kept())
        network.declare([node])
        for _ in range(count):
            frame = (
                bytearray(rng.choice(good))
                if rng.random() < 0.9
                else bytearray(rng.randbytes(rng.randrange(64)))
            )
            for _ in range(rng.randrange(1, 4)):
                if frame:
                    frame[rng.randrange(len(frame))] = rng.randrange(256)
            if rng.random() < 0.3:
                frame = frame[: rng.randrange(len(frame) + 1)]
            event = network.heard([Packet(bytes(frame), GATEWAY, 0, 868_100_000, "SF7BW125", -60, 5)], 0.0)
            if isinstance(event, Uplink):
                accepted += 1
                wrong += bytes(frame) not in good
    return {"fuzz_frames": count, "fuzz_accepted": accepted, "fuzz_wrongly": wrong}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--uplinks", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=6000, help="uplinks a second that are sent")
    parser.add_argument("--fuzz", type=int, default=0)
    parser.add_argument("--fuzz-messages", type=int, default=0, help="of stations and network servers")
    parser.add_argument("--codec", action="store_true", help="decode with a JavaScript codec")
    parser.add_argument("--send", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.send:
        send(options.send, options.uplinks, options.rate)
        return
    with tempfile.TemporaryDirectory() as home:
        os.environ["DEVICEMESH_HOME"] = str(Path(home))
        if options.fuzz:
            found = fuzz(options.fuzz)
        elif options.fuzz_messages:
            found = fuzz_messages(options.fuzz_messages)
        else:
            found = asyncio.run(uplinks(options.uplinks, options.rate, options.codec))
        if options.codec:
            found |= asyncio.run(codec_calls(options.uplinks))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
