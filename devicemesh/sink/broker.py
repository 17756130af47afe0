"""A broker of our own, on loopback, for who has none: mosquitto, else rumqttd (the `iotcore` wheel)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from importlib.util import find_spec
from pathlib import Path

log = logging.getLogger("devicemesh.broker")

USUAL_PORT = 1883
START_S = 10.0
MAX_PACKET_BYTES = 16 << 20
_STOP_S = 3.0
_LOG_BYTES = 1 << 20
_POLL_S = 0.02

# The child ends when our end of the pipe does, however we end; mosquitto gives up root, and with it the
# signal that prctl(PR_SET_PDEATHSIG) would send.
_LEASH = 'exec 3<&0; "$@" & child=$!; (read -r _ <&3; kill "$child" 2>/dev/null) & wait "$child"'
RUMQTTD = """
import signal, sys
from iotcore import Broker
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
with Broker(config_path=sys.argv[1]):  # a process of its own, which must end with this one
    while True:
        signal.pause()
"""


class BrokerError(RuntimeError):
    """There is no broker to embed, or it does not start; the message says what to do."""


def find_mosquitto() -> str | None:
    """The path of mosquitto, which Debian puts where users do not look."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


@contextlib.asynccontextmanager
async def embedded_broker(folder: Path, port: int | None = None) -> AsyncIterator[str]:
    """Run a broker on 127.0.0.1, started again should it end; yields its URL.

    It listens on `port`, by default 1883 or, where that is taken, a free one. `folder` holds its
    configuration and its log. Raises BrokerError.
    """
    port = _free_port() if port is None else port
    child = _Child(_command(folder, port), folder / "broker.log", port)
    await child.start()
    keeper = asyncio.create_task(child.keep(), name="broker")
    try:
        yield f"mqtt://127.0.0.1:{port}"
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
        await child.stop()


def _free_port() -> int:
    for wanted in (USUAL_PORT, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", wanted))
            return int(probe.getsockname()[1])
    raise BrokerError("127.0.0.1 has no free port")


def _command(folder: Path, port: int) -> Sequence[str]:
    """Write the configuration; return what to run. Raises BrokerError when no broker is installed."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    mosquitto = find_mosquitto()
    if mosquitto is not None:
        path = folder / "mosquitto.conf"
        _write(path, mosquitto_conf(port))
        return [mosquitto, "-c", str(path)]
    if find_spec("iotcore") is not None:
        path = folder / "rumqttd.toml"
        _write(path, rumqttd_toml(port))
        return [sys.executable, "-c", RUMQTTD, str(path)]
    raise BrokerError(
        "no broker to embed: apt install mosquitto, or pip install 'devicemesh[broker]', or set mqtt.url"
    )


def mosquitto_conf(port: int) -> str:
    """Loopback only, nothing on disk, and bounds on what a client that went away may cost."""
    return f"""listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_inflight_messages 1000
max_queued_messages 10000
max_queued_bytes {64 << 20}
message_size_limit {MAX_PACKET_BYTES}
max_packet_size {MAX_PACKET_BYTES}
set_tcp_nodelay true
log_dest stderr
log_type error
log_type warning
log_type notice
"""


def rumqttd_toml(port: int) -> str:
    """The same for rumqttd: by default it listens everywhere and swallows what is larger than 20 kB.

    It speaks one version of MQTT a port, so this is for MQTT 5; small segments keep its memory flat.
    """
    listen = json.dumps(f"127.0.0.1:{port}")
    return f"""id = 0
[router]
id = 0
max_connections = 1010
max_outgoing_packet_count = 200
max_segment_size = 1048576
max_segment_count = 10
[v5.1]
name = "v5-1"
listen = {listen}
next_connection_delay_ms = 1
[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = {MAX_PACKET_BYTES}
max_inflight_count = 1000
dynamic_filters = true
"""


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)


class _Child:
    """The broker's process, on its leash."""

    def __init__(self, command: Sequence[str], log_path: Path, port: int) -> None:
        self._command, self._log, self._port = command, log_path, port
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Run it until it takes connections. Raises BrokerError."""
        if self._log.exists() and self._log.stat().st_size > _LOG_BYTES:
            self._log.replace(self._log.with_suffix(".log.1"))
        spawning = asyncio.create_task(self._spawn())  # asyncio's own hangs for ever where it is cancelled
        try:
            self._process = await asyncio.shield(spawning)
        except asyncio.CancelledError:
            self._process = await spawning
            await self.stop()
            raise
        reason = f"takes no connections on port {self._port}"
        try:
            async with asyncio.timeout(START_S):
                while not await _answers(self._port):
                    if self._process.returncode is not None:
                        reason = "does not start"
                        raise TimeoutError
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            await self.stop()
            raise BrokerError(f"the broker {self._command[0]} {reason}: see {self._log}") from None
        except BaseException:
            await self.stop()
            raise

    async def _spawn(self) -> asyncio.subprocess.Process:
        with self._log.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                *("/bin/sh", "-c", _LEASH, "devicemesh-broker", *self._command),
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    async def stop(self) -> None:
        """End it; its process group, if it does not listen."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()  # the leash
        try:
            async with asyncio.timeout(_STOP_S):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    async def keep(self) -> None:
        """Start it again whenever it ends, for ever."""
        delay_s = 0.2
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            if self._process is not None:
                await self._process.wait()
                log.error("the broker ended: starting it again")
            delay_s = 0.2 if loop.time() - started > 60 else min(10.0, 2 * delay_s)
            await self.stop()
            await asyncio.sleep(delay_s)
            try:
                await self.start()
            except (BrokerError, OSError) as error:
                log.error("%s; next try in %.1f s", error, min(10.0, 2 * delay_s))


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
