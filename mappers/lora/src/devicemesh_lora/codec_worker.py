"""The process that codecs run in. It is started as a file, imports nothing of ours, and trusts nobody.

Lines in, lines out, an empty one behind each trip:

- in: `+CODEC SOURCE` (a JSON string), then a line for each call: `DEVICE CODEC FUNCTION INPUT` (JSON)
- out, for each call: `MICROSECONDS +RESULT` (JSON), or `MICROSECONDS -REASON MESSAGE` (a JSON string)

Before a call its number goes into memory that the parent shares, so that it knows whose call did not end.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import resource
import signal
import sys
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

CALL_S = 0.1
"""CPU time of one call, as ChirpStack gives it. Where the engine never looks, the parent kills."""
LOAD_S = 0.5
CONTEXT_BYTES = 16 << 20
STACK_BYTES = 512 << 10
PROCESS_BYTES = 512 << 20
"""Address space of this process."""
CROWDED_BYTES = 256 << 20
"""Above it all contexts are dropped: codecs may not lean on what they kept."""
MOST_CONTEXTS = 500
"""A context takes 170 kB, and what the codec makes of it."""
ORPHAN_S = 60
"""A trip is over by far by then: the parent is not there any more to end it."""
PIPE_BYTES = 1 << 20
OUT_OF_MEMORY = "InternalError: out of memory"
STATM = Path("/proc/self/statm")
NAMES = ("decodeUplink", "normalizeUplink", "encodeDownlink", "decodeDownlink", "encodeUplink")
OWN = ", ".join(f"{name}: typeof {name} === 'function' ? {name} : undefined" for name in NAMES)


class RefusedError(Exception):
    """A call without a result: reason, and message."""


class Codecs:
    """Contexts by device, the last used ones."""

    def __init__(self, engine: Any, shims: str, buffer: str) -> None:
        self._engine, self._shims, self._buffer = engine, shims, buffer
        self.sources: dict[str, str] = {}
        self._broken: dict[str, RefusedError] = {}
        self._calls: OrderedDict[str, tuple[str, Any, Any]] = OrderedDict()

    def clear(self) -> None:
        self._calls.clear()

    def call(self, device: str, codec: str, way: str, given: str) -> str:
        """The result as JSON. Raises RefusedError."""
        held = self._calls.get(device)
        if held is None or held[0] != codec:
            held = self._loaded(device, codec)
        else:
            self._calls.move_to_end(device)
        try:
            answer: str = held[2](way, given)
        except self._engine.JSException as error:
            del self._calls[device]
            raise _refused(error) from error
        if answer[0] == "-":
            del self._calls[device]  # what it left behind is not to be trusted
            raise _worded(answer[1:])
        return answer

    def _loaded(self, device: str, codec: str) -> tuple[str, Any, Any]:
        if codec in self._broken:
            raise self._broken[codec]
        self._calls.pop(device, None)
        if len(self._calls) >= MOST_CONTEXTS:
            self._calls.popitem(last=False)
        context = self._engine.Context()
        context.set_memory_limit(CONTEXT_BYTES)
        context.set_max_stack_size(STACK_BYTES)
        context.set_time_limit(LOAD_S)
        bind, source = context.eval(self._shims), self.sources[codec]
        try:
            if "Buffer" in source or "TextDecoder" in source or "TextEncoder" in source:
                context.eval(self._buffer)
            context.eval(source)
            call = bind(context.eval(f"({{{OWN}}})"))
        except self._engine.JSException as error:
            found = _refused(error)
            reason, message = found.args
            found = RefusedError(reason, f"it can't be loaded: {message}")
            if "SyntaxError" in message:
                self._broken[codec] = found
            raise found from error
        context.set_time_limit(CALL_S)
        held = codec, context, call  # the context lives as long as what came out of it
        self._calls[device] = held
        return held


def _worded(said: str) -> RefusedError:
    if said.startswith(OUT_OF_MEMORY):
        return RefusedError("CodecMemory", f"it takes more than {CONTEXT_BYTES >> 20} MB")
    if said in ("null", ""):  # there was no room for the words; a codec may throw that too
        return RefusedError("CodecMemory", f"it takes more than {CONTEXT_BYTES >> 20} MB, or throws null")
    return RefusedError("CodecError", said)


def _refused(error: Exception) -> RefusedError:
    lines = [line.strip() for line in str(error).split("\n")]
    said = lines[0][:300]
    where = next((line for line in lines if "<input>:" in line), "") if "SyntaxError" in said else ""
    if "interrupted" in said:
        return RefusedError("CodecTimeout", f"it did not end within {CALL_S:g} s")
    return RefusedError(
        "CodecError", said + (f" (line {where.split('<input>:')[1].split(':')[0]})" if where else "")
    )


def widen() -> None:
    """Let a whole trip fit the pipes, so that no side waits for the other's turn in the middle (Linux)."""
    for pipe in (0, 1):
        with contextlib.suppress(OSError, AttributeError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def confine() -> None:
    """Leave this process memory for its work, and nothing else."""
    resource.setrlimit(resource.RLIMIT_AS, (PROCESS_BYTES, PROCESS_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


def crowded() -> bool:
    """Whether too much memory is in use (Linux; elsewhere the limits alone hold)."""
    with contextlib.suppress(OSError, ValueError, IndexError), STATM.open("rb") as statm:
        return int(statm.read().split()[0]) * mmap.PAGESIZE > CROWDED_BYTES
    return False


def trip(codecs: Codecs, lines: list[bytes], progress: Any) -> bytes:
    """Work a trip off."""
    made: list[str] = []
    number = 0
    for line in lines:
        if line[:1] == b"+":
            codec, source = line[1:].decode().split(" ", 1)
            codecs.sources[codec] = json.loads(source)
            continue
        number += 1
        progress[0] = number
        device, codec, way, given = line.decode().split(" ", 3)
        start = time.perf_counter_ns()
        try:
            answer = "+" + codecs.call(device, codec, way, given)
        except RefusedError as error:
            answer = f"-{error.args[0]} {json.dumps(error.args[1])}"
        spent = (time.perf_counter_ns() - start) // 1000
        if spent > 1000 and crowded():
            codecs.clear()
        made.append(f"{spent} {answer}\n")
    made.append("\n")
    progress[0] = 0
    return "".join(made).encode("utf-8", "replace")


def main() -> None:
    folder, site, shared = sys.argv[1], sys.argv[2], int(sys.argv[3])
    sys.path.append(site)
    import quickjs  # here, as only now it is known where it is

    codecs = Codecs(quickjs, Path(folder, "shims.js").read_text(), Path(folder, "buffer.js").read_text())
    progress = memoryview(mmap.mmap(shared, mmap.PAGESIZE)).cast("I")
    widen()
    confine()
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    sink.write(b"ready\n\n")
    sink.flush()
    lines: list[bytes] = []
    for line in source:
        if line != b"\n":
            lines.append(line[:-1])
            continue
        signal.setitimer(signal.ITIMER_REAL, ORPHAN_S)
        answer = trip(codecs, lines, progress)
        signal.setitimer(signal.ITIMER_REAL, 0)
        lines.clear()
        sink.write(answer)
        sink.flush()
    os._exit(0)  # the parent is gone, or wants us gone: contexts need not be taken apart


if __name__ == "__main__":
    main()
