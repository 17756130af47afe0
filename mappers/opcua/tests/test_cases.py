"""One hostile peer a folder: what it does, what must come of it, and that it heals.

The server is an honest one; a relay in front of it, once armed, changes what it says. Everywhere: a good value
is the true one, what is not named as bad is good, nothing grows, and once the peer is honest again everything is
good again.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import struct
import tracemalloc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from devicemesh_opcua import certificates, channel, services, subscribe
from devicemesh_opcua.session import open_session

from devicemesh.mapper import Batch, ConfigError, LinkError, Quality
from devicemesh.testing.contract import poll, rows
from devicemesh.testing.server import StreamServer

ALL = sorted(p for p in (Path(__file__).parent / "cases").iterdir() if p.is_dir())
CASES = [folder for folder in ALL if "-certificate-" not in folder.name]
CERTIFICATES = [folder for folder in ALL if "-certificate-" in folder.name]
KNOWN = {
    "about", "points", "mode", "endpoint", "tamper", "do", "restart", "expect", "values", "says", "link", "lost",
    "opening", "patch", "endless", "heals",
}  # fmt: skip
ANSWERS = {"read": 634, "publish": 829, "subscription": 790, "republish": 835}
VALUES: dict[str, tuple[Any, Any]] = {  # by kind: before the attack, and a change of it
    "Double": (1.5, 2.5), "Int32": (3, 4), "String": ("mesh", "net"),
}  # fmt: skip
TYPES = {"Double": "float64", "Int32": "int32", "String": "string"}
MOST_BYTES = 48 << 20
"""What a case may take of memory at its worst: a decoder that believes a length takes gigabytes."""


def raw(text: str) -> bytes:
    """`01 18x200`: bytes in hex, some many times."""
    found = b""
    for word in text.split():
        part, _, times = word.partition("x")
        found += bytes.fromhex(part) * int(times or 1)
    return found


class Relay:
    """Between a client and an honest server; once armed it changes answers as its rules say."""

    def __init__(self, port: int, rules: list[dict[str, Any]]) -> None:
        self.target, self.rules, self.armed = port, [{"times": 1, "skip": 0, **rule} for rule in rules], False
        self._last: dict[str, bytes] = {}
        self._server = StreamServer(self._forward)

    @property
    def port(self) -> int:
        return self._server.port

    async def __aenter__(self) -> Relay:
        await self._server.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._server.__aexit__(*exc)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)

        async def up() -> None:
            while data := await reader.read(65536):
                far_writer.write(data)

        async def down() -> None:
            while True:
                head = await far_reader.readexactly(8)
                body = await far_reader.readexactly(int.from_bytes(head[4:], "little") - 8)
                for frame in self._changed(head + body):
                    writer.write(frame)
                    await writer.drain()

        jobs = [asyncio.create_task(up()), asyncio.create_task(down())]
        try:
            await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
        finally:
            far_writer.close()  # before anything is waited for, as that may be cancelled
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)

    def _changed(self, frame: bytes) -> list[bytes]:
        kind = frame[:3].decode()
        (number,) = struct.unpack_from("<H", frame, 26) if kind == "MSG" else (0,)
        name = next((n for n, k in ANSWERS.items() if k == number), kind)
        rule = next((r for r in self.rules if r["answer"] == name and r["times"]), None)
        if not self.armed or rule is None:
            self._last[name] = frame
            return [frame]
        if rule["skip"]:
            rule["skip"] -= 1
            return [frame]
        rule["times"] -= 1
        return self._attack(rule, name, frame)

    def _attack(self, rule: dict[str, Any], name: str, frame: bytes) -> list[bytes]:
        if rule.get("drop"):
            return []
        if "size" in rule:
            return [frame[:4] + struct.pack("<I", rule["size"]) + frame[8:]]
        if "chunks" in rule:
            filler = frame[:3] + b"C" + struct.pack("<I", 65536) + frame[8:24] + bytes(65536 - 24)
            return [filler] * rule["chunks"]
        if rule.get("replay"):
            return [frame[:24] + self._last[name][24:]]
        at = 24 + services.header(frame[24:], ANSWERS[name])
        told = frame[at:]
        if "values" in rule:
            held = [raw(text) for text in rule["values"]]
            told = struct.pack("<i", len(held)) + b"".join(held) + b"\xff\xff\xff\xff"
        if "change" in rule:  # the body of the DataChangeNotification that is in it
            (available,) = struct.unpack_from("<i", told, 4)
            start = 8 + 4 * max(available, 0) + 13
            change = raw(rule["change"])
            told = told[:start] + struct.pack("<i", 1) + b"\x01\x00\x2b\x03\x01"
            told += struct.pack("<i", len(change)) + change + b"\xff" * 8
        if "sequence" in rule:
            (available,) = struct.unpack_from("<i", told, 4)
            place = 8 + 4 * max(available, 0) + 1
            (number,) = struct.unpack_from("<I", told, place)
            told = told[:place] + struct.pack("<I", number + rule["sequence"]) + told[place + 4 :]
        for place, text in rule.get("bytes", {}).items():
            part = raw(text)
            told = told[:place] + part + told[place + len(part) :]
        made = frame[:at] + told
        return [made[:4] + struct.pack("<I", len(made)) + made[8:]]


@pytest.mark.parametrize("folder", CASES, ids=lambda p: p.name)
def test_case(
    folder: Path, serve_plant: Any, point: Any, run: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    case: dict[str, Any] = yaml.safe_load((folder / "case.yaml").read_text())
    assert set(case) <= KNOWN and case["about"]
    for name, value in case.get("patch", {}).items():
        module, _, attribute = name.partition(".")
        monkeypatch.setattr({"channel": channel, "subscribe": subscribe}[module], attribute, value)
    run(_Run(case, serve_plant, point).all())


class _Run:
    def __init__(self, case: dict[str, Any], serve_plant: Any, point: Any) -> None:
        self.case, self.serve, self.make = case, serve_plant, point
        self.kinds: dict[str, str] = case["points"]
        self.names = list(self.kinds)
        self.worst: dict[int, Any] = {}

    async def all(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            plant = await stack.enter_async_context(self.serve())
            relay = await stack.enter_async_context(Relay(plant.port, self.case.get("tamper", [])))
            await self.fill(plant, 0)
            fields = {
                "timeout": "300ms",
                "mode": self.case.get("mode", "poll"),
                **self.case.get("endpoint", {}),
            }
            endpoint = plant.endpoint(**fields).redirect(f"127.0.0.1:{relay.port}")
            endpoint = endpoint.model_copy(update={"security_policy": fields.get("securityPolicy", "None")})
            told = self.case.get("values", {})
            self.points = [
                self.make(i, endpoint, told.get(n, {}).get("type") or TYPES[k], n, report="every")
                for i, (n, k) in enumerate(self.kinds.items())
            ]
            relay.armed = bool(self.case.get("opening"))
            if "restart" in self.case:
                await self.restarted(plant, stack)
                return
            tracemalloc.start()
            try:
                error = await self.attacked(plant, relay)
                assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
            finally:
                tracemalloc.stop()
            wanted = self.case.get("link")
            kind = {LinkError: "lost", ConfigError: "misconfigured", type(None): None}[type(error)]
            assert kind == wanted, error or "the link was not lost"
            if error is not None:
                assert self.case["says"] in str(error)
            relay.armed = False
            if wanted != "misconfigured" and self.case.get("heals", True):
                await self.fill(plant, 1)
                await self.healed()

    async def restarted(self, plant: Any, stack: contextlib.AsyncExitStack) -> None:
        """The server is another one after a while: what it still has is found by its name."""
        with pytest.raises(LinkError):
            async with open_session(self.points[0].endpoint) as session:
                self.check_good(await poll(session, self.points), 0)
                plant.kill()
                while True:
                    await poll(session, self.points)
        how = self.case["restart"]
        again = await stack.enter_async_context(self.serve(port=plant.port, namespaces=how["namespaces"]))
        self.kinds = {name: kind for name, kind in self.kinds.items() if name not in how["without"]}
        await self.fill(again, 0)
        await self.fill(again, 1)
        async with open_session(self.points[0].endpoint) as session:
            self.check(await poll(session, self.points))

    async def attacked(self, plant: Any, relay: Relay) -> Exception | None:
        try:
            async with open_session(self.points[0].endpoint) as session:
                async with self.reading(session, lambda: relay.armed) as read:
                    if not self.case.get("opening"):
                        before = await read()
                        if "values" not in self.case:
                            self.check_good(before, 0)
                    relay.armed = True
                    await self.disturb(plant)
                    self.check(await read())
                assert dict(session.lost()) == self.case.get("lost", {})
        except (LinkError, ConfigError) as error:
            return error
        return None

    @contextlib.asynccontextmanager
    async def reading(self, session: Any, armed: Callable[[], bool]) -> AsyncIterator[Callable[[], Any]]:
        """Polls, or waits until the subscription has said as much as it will."""
        if self.case.get("mode") != "subscribe":
            yield lambda: poll(session, self.points)
            return
        last: dict[int, Any] = {}
        async with contextlib.aclosing(session.subscribe(self.points)) as batches:

            async def read() -> dict[int, Any]:
                fresh: set[int] = set()
                while len(fresh) < len(self.points) or (armed() and self.case.get("endless")):
                    batch = await anext(batches)
                    assert isinstance(batch, Batch)
                    for row in rows(batch):
                        last[row.slot] = row
                        fresh.add(row.slot)
                return last

            yield read

    async def disturb(self, plant: Any) -> None:
        """What the plant itself does; else its values change."""
        if "do" not in self.case:
            await self.fill(plant, 1)
        for name, arguments in self.case.get("do", {}).items():
            await getattr(plant, name)(*arguments)

    async def fill(self, plant: Any, turn: int) -> None:
        for name, kind in self.kinds.items():
            await (plant.set if turn else plant.add)(name, VALUES[kind][turn], kind)

    def check_good(self, seen: dict[int, Any], turn: int) -> None:
        for slot, row in seen.items():
            assert row.quality == Quality.GOOD, f"{self.names[slot]}: {row.error}"
            assert row.value == VALUES[self.kinds[self.names[slot]]][turn], self.names[slot]

    def check(self, seen: dict[int, Any]) -> None:
        expected: dict[str, str] = self.case.get("expect", {})
        for slot, row in seen.items():
            name = self.names[slot]
            wanted = self.case.get("values", {}).get(name, {})
            assert Quality(row.quality).word == expected.get(name, "Good"), f"{name}: {row.error}"
            if row.quality >= Quality.BAD:
                assert self.case["says"] in str(row.error), f"{name}: {row.error}"
            elif "is" in wanted:
                assert row.value == wanted["is"], name
            elif "do" not in self.case:
                assert row.value == VALUES[self.kinds[name]][1], name
            assert abs(row.time_ns / 1e9 - datetime.datetime.now().timestamp()) < 3600, "no time of its own"

    async def healed(self) -> None:
        """A new session reads everything, in both ways."""
        async with open_session(self.points[0].endpoint) as session:
            told = self.case.get("values", {})
            plain = [p for p in self.points if "type" not in told.get(self.names[p.slot], {})]
            self.check_good(await poll(session, plain), 1)


@pytest.mark.parametrize("folder", CERTIFICATES, ids=lambda p: p.name)
def test_certificate(folder: Path, tmp_path: Path, issue: Callable[..., tuple[bytes, bytes]]) -> None:
    """A server's certificate that a trusted authority has issued, but for one thing."""
    case = yaml.safe_load((folder / "case.yaml").read_text())
    certificate, authority = issue(**case["certificate"])
    (tmp_path / "trusted").mkdir()
    (tmp_path / "trusted/authority.der").write_bytes(authority)
    with pytest.raises(LinkError) as caught:
        certificates.check("plc:4840", tmp_path, certificate, "urn:test:plant", "127.0.0.1")
    assert case["says"] in str(caught.value) and caught.value.reason == "Untrusted"
    good, authority = issue()
    (tmp_path / "trusted/authority.der").write_bytes(authority)
    certificates.check("plc:4840", tmp_path, good, "urn:test:plant", "127.0.0.1")


def test_every_attack_of_the_list_has_its_folder() -> None:
    assert {int(folder.name[:2]) for folder in ALL} == set(range(1, 21))
