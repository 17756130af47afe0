"""The floor: as little Python as does the job. asyncio + struct + orjson + paho, QoS 1, no twin, no outbox.

Arguments: devices registers period_ms modbus_port mqtt_port
"""

from __future__ import annotations

import asyncio
import struct
import sys
import time

import orjson
import paho.mqtt.client as mqtt

DEVICES, REGISTERS, PERIOD_MS, MODBUS_PORT, MQTT_PORT = map(int, sys.argv[1:6])
REQUEST = struct.pack(">HHHBBHH", 1, 0, 6, 1, 3, 0, REGISTERS)
VALUES = struct.Struct(f">{REGISTERS}h")
NAMES = [f"r{n}" for n in range(REGISTERS)]


class Device(asyncio.Protocol):
    def __init__(self, name: str, client: mqtt.Client) -> None:
        self._topic = f"floor/{name}"
        self._client = client
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def poll(self) -> None:
        self._transport.write(REQUEST)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) < 9 + VALUES.size:
            return
        values = dict(zip(NAMES, VALUES.unpack_from(self._buffer, 9), strict=True))
        self._buffer = b""
        payload = orjson.dumps({"ts": int(time.time() * 1000), "values": values})
        self._client.publish(self._topic, payload, 1)


async def main() -> None:
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.max_inflight_messages_set(1000)
    client.connect("127.0.0.1", MQTT_PORT)
    client.loop_start()
    loop = asyncio.get_running_loop()
    period = PERIOD_MS / 1000

    async def drive(number: int) -> None:
        _, device = await loop.create_connection(
            lambda: Device(f"dev{number}", client), "127.0.0.1", MODBUS_PORT + number
        )
        due = loop.time() + period * number / DEVICES
        while True:
            await asyncio.sleep(max(0.0, due - loop.time()))
            device.poll()
            due += period

    await asyncio.gather(*(drive(number) for number in range(DEVICES)))


asyncio.run(main())
