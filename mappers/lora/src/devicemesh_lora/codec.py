"""Payload codecs (TS013, JavaScript) of the devices of one link: who is decoded next, and what became of it.

Calls wait for each device on their own and go to the helper process together. They are taken in turns and by
what they cost, so that a slow codec delays its neighbours by one of its calls, and loses its own uplinks.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from devicemesh_lora.codec_source import CodecError, Source
from devicemesh_lora.declared_codec import Codec
from devicemesh_lora.helper import Helper, HelperDiedError, HelperMissingError, engine_folder

_JSON = json.JSONDecoder()
log = logging.getLogger("devicemesh.lora")
MOST_WAITING = 256
"""Calls that wait for one device; of its uplinks the oldest are dropped, and counted."""
MOST_CALLS = 1000
TRIP_US = 20_000
"""Of one trip to the helper: so many calls, and by what they took before, so much time."""
_MADE_OVER = "its toJSON makes something else of what it gives back"
MOST_AGAIN = 8
"""Trips that may fail around a call that is not to blame."""
Done: TypeAlias = Callable[[Mapping[str, Any] | CodecError], None]


@dataclass(eq=False)
class Call:
    """One call of a codec's function."""

    way: str
    given: str  # JSON
    done: Done
    samples: int  # 0: somebody waits for it, it is never dropped
    again: int = 0


@dataclass(eq=False)
class Coded:
    """A device that has a codec."""

    key: str
    source: Source
    waiting: deque[Call] = field(default_factory=deque)


class Codecs:
    """The codecs of a link, and the process that they run in, which is started for the first call."""

    def __init__(self) -> None:
        self.dropped = 0
        """Samples that were dropped, as their codec is too slow."""
        self.calls = 0
        """Calls that the helper has answered."""
        self.starts = 0
        """Helper processes that were started."""
        self.helper: Helper | None = None
        self._devices: dict[str, Coded] = {}
        self._sources: dict[Codec, Source] = {}
        self._numbers = 0
        self._ready: deque[Coded] = deque()  # those of whom calls wait, each once
        self._suspects: deque[Coded] = deque()  # likewise, of codecs that did harm: they go alone
        self._told: set[int] = set()  # sources that the helper has
        self._wake = asyncio.Event()
        self._failures = 0
        self._loop = asyncio.get_running_loop()

    def declare(self, wanted: Mapping[str, Codec]) -> None:
        """Decode for these devices, and no others."""
        known, self._sources = self._sources, {}
        for codec in wanted.values():
            if codec not in self._sources:
                self._sources[codec] = known.get(codec) or Source(self._new_number(), codec)
        before, self._devices = self._devices, {}
        for key, codec in wanted.items():
            device = before.get(key)
            if device is None or device.source is not self._sources[codec]:
                device = Coded(key, self._sources[codec])
            self._devices[key] = device
        for key, device in before.items():
            if self._devices.get(key) is not device:
                _abandon(device.waiting, "the codec was changed")

    def _new_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def refusal(self, key: str) -> CodecError | None:
        """Why nothing can be decoded for a device now, as far as can be told before it has sent something."""
        if (device := self._devices.get(key)) is None:
            return _undeclared(key)
        try:
            engine_folder()
        except HelperMissingError as error:
            return CodecError(str(error), reason="CodecMissing")
        now = self._loop.time()
        device.source.look(now)
        return device.source.refusal(now)

    def submit(self, key: str, way: str, given: str, done: Done, samples: int = 0) -> None:
        """Have a function called. `done` is called with its result, now or later."""
        device, now = self._devices.get(key), self._loop.time()
        if device is None:
            done(_undeclared(key))
            return
        source = device.source
        if source.look(now):
            source.number = self._new_number()
        if (refusal := source.refusal(now)) is not None:
            done(refusal)
            return
        if len(device.waiting) >= MOST_WAITING and not self._made_room(device):
            done(CodecError(f"{MOST_WAITING} calls wait for {key} already", reason="QueueFull"))
            return
        if not device.waiting:
            self._ready.append(device)
            self._wake.set()
        device.waiting.append(Call(way, given, done, samples))

    def _made_room(self, device: Coded) -> bool:
        for call in device.waiting:
            if call.samples:
                self.dropped += call.samples
                device.waiting.remove(call)
                return True
        return False

    def uplink(self, key: str, port: int, payload: bytes, time_ns: int, done: Done, *, samples: int,
               normalized: bool) -> None:  # fmt: skip
        """Decode a payload; `done` gets `data`, `warnings`, `errors`, `normalized`, `normalizeErrors`."""
        given = (
            f'{{"bytes":{list(payload)},"fPort":{port},"recvTime":{time_ns // 1_000_000},"variables":{{}}}}'
        )
        way = "normalizeUplink" if normalized else "decodeUplink"
        self.submit(key, way, given, done, samples)

    async def asked(self, key: str, way: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Call a function and wait for what it makes. Raises CodecError, for its own errors too."""
        answer: asyncio.Future[Mapping[str, Any]] = self._loop.create_future()

        def done(result: Mapping[str, Any] | CodecError) -> None:
            if answer.done():
                return
            if isinstance(result, CodecError):
                answer.set_exception(result)
            else:
                answer.set_result(result)

        try:
            text = json.dumps(given, allow_nan=False)
        except (ValueError, TypeError) as error:
            raise CodecError(f"{way} can't be given that: {error}", reason="WrongType") from error
        self.submit(key, way, text, done)
        found = await answer
        if errors := found.get("errors"):
            raise CodecError("; ".join(map(str, errors)), reason="CodecError")
        return found

    async def encoded(
        self, key: str, data: Mapping[str, Any], way: str = "encodeDownlink"
    ) -> tuple[bytes, int | None]:
        """Payload and FPort (None: it names none) that the codec makes of `data`. Raises CodecError."""
        found = await self.asked(key, way, {"data": data})
        listed = found.get("bytes")
        try:
            if not isinstance(listed, list):
                raise TypeError  # of a number, bytes() makes so many zeros
            payload = bytes(listed)
        except (TypeError, ValueError):
            raise CodecError(f"{way} gives back what are no bytes", reason="CodecError") from None
        port = found.get("fPort")
        if port is None:
            return payload, None
        if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 223:
            raise CodecError(f"{way} gives back an fPort of {port!r}: 1 to 223", reason="CodecError")
        return payload, port

    async def running(self) -> None:
        """Take what waits to the helper, until cancelled."""
        taken: list[tuple[Coded, Call]] = []
        try:
            while True:
                while not self._ready and not self._suspects:
                    self._wake.clear()
                    await self._wake.wait()
                for take in (self._taken, self._suspected):
                    if taken := take():
                        await self._trip(taken)
                        taken = []
        finally:
            closed = "the link is closed"
            _abandon(deque(call for _, call in taken), closed)
            for device in self._devices.values():
                _abandon(device.waiting, closed)
            if self.helper is not None:
                await self.helper.close()
                self.helper = None

    def _taken(self) -> list[tuple[Coded, Call]]:
        """The calls of the next trip."""
        taken: list[tuple[Coded, Call]] = []
        cost, now = 0.0, self._loop.time()
        while self._ready and len(taken) < MOST_CALLS and (cost < TRIP_US or not taken):
            device = self._ready.popleft()
            if device.source.strikes >= 1:
                self._suspects.append(device)
            elif (call := self._next_of(device, now)) is not None:
                taken.append((device, call))
                cost += device.source.cost_us
        return taken

    def _suspected(self) -> list[tuple[Coded, Call]]:
        """One call of a codec that ended, or stopped, the helper lately: nobody is to share its trip."""
        while self._suspects:
            device = self._suspects.popleft()
            if (call := self._next_of(device, self._loop.time())) is not None:
                return [(device, call)]
        return []

    def _next_of(self, device: Coded, now: float) -> Call | None:
        if not device.waiting:
            return None
        call = device.waiting.popleft()
        if device.waiting:
            self._ready.append(device)
        if (refusal := device.source.refusal(now)) is not None:
            call.done(refusal)
            return None
        return call

    async def _trip(self, taken: list[tuple[Coded, Call]]) -> None:
        try:
            if self.helper is None:
                self.helper = await Helper.started()
                self.starts += 1
                self._told.clear()
            answers = await self.helper.trip(self._lines(taken))
        except HelperMissingError as error:
            for _, call in taken:
                call.done(CodecError(str(error), reason="CodecMissing"))
            return
        except HelperDiedError as error:
            await self._died(error, taken)
            return
        except OSError as error:  # no process to be had
            await self._died(HelperDiedError(f"can't start it: {error.strerror}", 0), taken)
            return
        self._failures = 0
        now = self._loop.time()
        for (device, call), answer in zip(taken, answers, strict=False):
            self._answered(device.source, call, answer, now)

    def _lines(self, taken: list[tuple[Coded, Call]]) -> list[bytes]:
        lines = []
        for device, call in taken:
            source = device.source
            if source.number not in self._told:
                self._told.add(source.number)
                lines.append(f"+{source.number} {json.dumps(source.text)}\n".encode())
            lines.append(f"{device.key} {source.number} {call.way} {call.given}\n".encode())
        return lines

    def _answered(self, source: Source, call: Call, answer: bytes, now: float) -> None:
        spent, _, rest = answer.partition(b" ")
        self.calls += 1
        source.cost_us += (min(int(spent), 1_000_000) - source.cost_us) / 4
        if rest[:1] == b"+":
            source.judge("", "", now)
            try:
                result = _JSON.decode(rest[1:].decode())
            except (RecursionError, ValueError):
                call.done(
                    CodecError("it gives back an object that is nested too deeply", reason="CodecError")
                )
                return
            call.done(result if _is_meant(result) else CodecError(_MADE_OVER, reason="CodecError"))
            return
        reason, _, said = rest[1:].decode().partition(" ")
        why = json.loads(said)
        source.judge(reason, why, now)
        call.done(CodecError(why, reason=reason))

    async def _died(self, error: HelperDiedError, taken: list[tuple[Coded, Call]]) -> None:
        """The one whose call it was pays for it; the calls of the others are made again."""
        if self.helper is not None:
            await self.helper.close()
            self.helper = None
        culprit = taken[error.call - 1] if 0 < error.call <= len(taken) else None
        now = self._loop.time()
        for device, call in reversed(taken):
            if culprit is not None and call is culprit[1]:
                continue
            call.again += 1
            if call.again > MOST_AGAIN:
                call.done(CodecError(f"the helper process is of no use: {error}", reason="CodecDied"))
                continue
            if not device.waiting:
                self._ready.appendleft(device)
            device.waiting.appendleft(call)
        if culprit is None:
            self._failures += 1
            log.warning("the helper process for codecs ended: %s", error)
            await asyncio.sleep(min(30.0, 0.05 * 2**self._failures))
            return
        device, call = culprit
        log.warning("the codec %s of %s: %s; its process was started anew", device.source.codec.name,
                    device.key, error)  # fmt: skip
        device.source.judge("CodecDied", str(error), now)
        call.done(CodecError(str(error), reason="CodecDied"))


def _is_meant(result: Any) -> bool:
    """Whether it is what our script around the codec has made: a `toJSON` of the codec can change that."""
    return isinstance(result, dict) and all(
        isinstance(listed, list) and all(isinstance(one, str) for one in listed)
        for listed in (result.get(name, []) for name in ("warnings", "errors", "normalizeErrors"))
    )


def _abandon(calls: deque[Call], why: str) -> None:
    while calls:
        calls.popleft().done(CodecError(why, reason="Abandoned"))


def _undeclared(key: str) -> CodecError:
    return CodecError(f"{key} has no codec: declare `codec` in its endpoint", reason="CodecMissing")
