"""Counts the values that arrive at the broker, whoever publishes them; plays ThingsBoard's platform too.

Appends a line of JSON a second: {"values", "messages", "bytes", "lag_ms"}; arguments: port file
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from datetime import datetime
from typing import Any

import orjson
import paho.mqtt.client as mqtt

TOTAL = {"values": 0, "messages": 0, "bytes": 0}
LAGS: list[float] = []
LIMITS = '{"rateLimits":{},"gatewayRateLimits":{},"maxInflightMessages":0,"maxPayloadSize":0}'


def count_devicemesh(body: dict[str, Any]) -> int:
    rows = body.get("rows", ())
    if rows and TOTAL["messages"] % 20 == 0:
        sent = datetime.fromisoformat(rows[-1]["time"]).timestamp()
        LAGS.append((time.time() - sent) * 1e3)
    return sum(len(row["values"]) for row in rows) + sum(w["count"] for w in body.get("windows", ()))


def count_thingsboard(body: dict[str, Any]) -> int:
    total = 0
    for entries in body.values():
        for entry in entries:
            total += len(entry["values"])
            LAGS.append(time.time() * 1e3 - entry["ts"])
    return total


def on_message(client: mqtt.Client, _: Any, message: mqtt.MQTTMessage) -> None:
    topic = message.topic
    if topic.startswith("v1/devices/me/rpc/request/"):
        client.publish("v1/devices/me/rpc/response/" + topic.rsplit("/", 1)[1], LIMITS, 1)
        return
    if topic.startswith("v1/devices/me/attributes/request/"):
        client.publish("v1/devices/me/attributes/response/" + topic.rsplit("/", 1)[1], "{}", 1)
        return
    body = orjson.loads(message.payload)
    if topic.endswith("/telemetry") and not topic.startswith("v1/"):
        TOTAL["values"] += count_devicemesh(body)
    elif topic.startswith("floor/"):
        TOTAL["values"] += len(body["values"])
        LAGS.append(time.time() * 1e3 - body["ts"])
    else:
        TOTAL["values"] += count_thingsboard(body)
    TOTAL["messages"] += 1
    TOTAL["bytes"] += len(message.payload)


def main() -> None:
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "counter")
    client.on_message = on_message
    topics = ["devicemesh/v1/+/+/telemetry", "floor/#", "v1/gateway/telemetry"]
    platform = ["v1/devices/me/rpc/request/+", "v1/devices/me/attributes/request/+"]
    client.on_connect = lambda c, *_: c.subscribe([(t, 1) for t in topics + platform])
    client.connect("127.0.0.1", int(sys.argv[1]))
    client.loop_start()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with open(sys.argv[2], "w") as out:  # noqa: PTH123
        while not stop.wait(1.0):
            lags, LAGS[:] = sorted(LAGS), []
            lag = round(lags[len(lags) // 2], 2) if lags else None
            print(json.dumps({"at": time.monotonic(), **TOTAL, "lag_ms": lag}), file=out, flush=True)
    client.loop_stop()


main()
