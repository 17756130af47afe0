"""Do the outbox's tests bite? Each change below breaks one of its rules, and some test must notice.

    python tests/sink/mutants.py [part of a name]

Runs the directed cases first and, where they let one pass, the model with 400 examples.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SINK = Path("devicemesh/sink")


class Mutant(NamedTuple):
    name: str
    file: str
    old: str
    new: str


MUTANTS = [
    Mutant("no checksum of bodies", "segment.py", "if zlib.crc32(body) == crc:", "if True:"),
    Mutant(
        "no checksum of headers",
        "segment.py",
        "or check != zlib.crc32(buffer[offset : offset + _CRC_OFFSET])",
        "",
    ),
    Mutant(
        "no sync of the folder",
        "files.py",
        "            if self.folder:\n                self.fs.sync_folder()\n",
        "",
    ),
    Mutant(
        "no sync of the data",
        "files.py",
        "                self.fs.sync(descriptor)\n",
        "                pass\n",
    ),
    Mutant(
        "sync tried again on the same file", "files.py", "segment.dirty, segment.failed = False, True", "pass"
    ),
    Mutant("recovered files taken as durable", "outbox.py", "self._files.prove_recovered(each)", "pass"),
    Mutant(
        "last file unlinked",
        "outbox.py",
        "while len(segments) > 1 and segments[1].position <= limit:",
        "while segments and (segments[1].position if segments[1:] else self._next) <= limit:",
    ),
    Mutant("short write ignored", "files.py", "if written != len(data):", "if False:"),
    Mutant("drop not counted", "tally.py", "        self.dropped[policy] += samples\n", ""),
    Mutant("publish not counted", "tally.py", "        self.published += samples\n", ""),
    Mutant("missing head not taken as settled", "replay.py", "segments[0].position > found.acked", "False"),
    Mutant(
        "position not beyond an acknowledgement",
        "replay.py",
        "if end >= found.position:",
        "if end >= found.position and frame.kind == fmt.DATA:",
    ),
    Mutant(
        "retired files never synced",
        "files.py",
        "if each.dirty and each.descriptor is not None",
        "if each.dirty and each.descriptor is not None and each is self.active",
    ),
    Mutant(
        "sync claims what came after it began",
        "outbox.py",
        "self._durability.prove(job.end)",
        "self._durability.prove(self._next)",
    ),
    Mutant(
        "copy skipped after a failed sync", "outbox.py", "while lost and self._copy(lost[0]):", "while lost:"
    ),
    Mutant("epoch not new", "outbox.py", "max(found.generation + 1,", "max(found.generation,"),
    Mutant(
        "no epoch file at open",
        "outbox.py",
        "        self._persist(lambda: self._writer.start(self._end))\n        with contextlib",
        "        with contextlib",
    ),
    Mutant("copies on and on", "durability.py", "elif entry.origin is None:", "elif True:"),
    Mutant(
        "recovered but unproven is claimed", "durability.py", "limits.append(self._disclaimed[0])", "pass"
    ),
    Mutant(
        "originals not kept for unproven copies",
        "outbox.py",
        "if keep is not None and keep < place:",
        "if False:",
    ),
    Mutant(
        "originals unlinked before copies are proven",
        "outbox.py",
        "self._settled.position if keep is None else min(keep[0], self._settled.position)",
        "self._settled.position",
    ),
    Mutant(
        "contexts written once per process",
        "writer.py",
        "segment.contexts.get(key, due) <= due",
        "self.__dict__.setdefault('seen', {}).setdefault(key, segment) is segment",
    ),
    Mutant("contexts not repeated", "writer.py", "due = offset - _CONTEXT_EVERY", "due = offset - (1 << 40)"),
    Mutant("acknowledgements not written", "writer.py", "if offset == 0 or self.stale:", "if offset == 0:"),
    Mutant("ranges not written", "outbox.py", "settled.ranges[:_RANGES]", "()"),
    Mutant("gaps not counted", "outbox.py", 'self._lose(span, "corrupt")', "pass"),
    Mutant(
        "volatile records counted as damage",
        "outbox.py",
        "for span in self._without_volatile(gap):",
        "for span in [gap]:",
    ),
    Mutant("settled records read again", "outbox.py", "if each.position not in self._settled]", "]"),
    Mutant(
        "age by the wall clock",
        "outbox.py",
        "        now, active = self._clock.boottime(), self._files.active",
        "        now, active = self._clock.wall_ns() / 1e9, self._files.active",
    ),
    Mutant(
        "bytes without a bound",
        "outbox.py",
        "while self._files.bytes > self._max_bytes and",
        "while False and",
    ),
    Mutant("closed while a thread syncs it", "files.py", "if self._job is not None:  #", "if False:  #"),
    Mutant(
        "written during a sync, taken as durable",
        "files.py",
        "segment.dirty = segment.size > size",
        "segment.dirty = False",
    ),
    Mutant("no rest for a failing medium", "outbox.py", "+ _RETRY_S", ""),
    Mutant(
        "a damaged body is searched for frames",
        "segment.py",
        "        offset = end\n",
        "            offset = end\n        else:\n            offset += 1\n",
    ),
    Mutant(
        "damaged starts lose their samples",
        "replay.py",
        "position, each.sample = frame.position + frame.records, frame.sample + _count(frame)",
        "pass",
    ),
    Mutant(
        "position falls behind the file's name",
        "replay.py",
        "found.position = max(found.position, each.position)",
        "pass",
    ),
]


def run(folder: Path, test: str, examples: int, seconds: float) -> str:
    """Run one test file on a mutated copy; say how it ended."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OUTBOX_EXAMPLES": str(examples)}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "--import-mode=importlib",
        "--rootdir",
        str(folder),
        "-o",
        "timeout=0",
        str(folder / "tests/sink" / test),
    ]
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return "killed (endless)"
    if done.returncode == 0:
        return "survived"
    return "killed" if done.returncode == 1 else f"broken: {done.stdout[-300:]!r}"


def try_one(mutant: Mutant) -> str:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(ROOT / "devicemesh", folder / "devicemesh")
        (folder / "tests").mkdir()
        shutil.copytree(ROOT / "tests/sink", folder / "tests/sink")
        shutil.copy(ROOT / "pyproject.toml", folder)
        path = folder / SINK / mutant.file
        text = path.read_text(encoding="utf-8")
        if text.count(mutant.old) != 1:
            return f"broken: {text.count(mutant.old)} places to change"
        path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        result = run(folder, "test_outbox.py", 0, 60)
        return result if result != "survived" else run(folder, "test_outbox_model.py", 400, 120) + " (model)"


def main() -> int:
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    survivors = 0
    for mutant in MUTANTS:
        if wanted not in mutant.name:
            continue
        start = time.monotonic()
        result = try_one(mutant)
        survivors += not result.startswith("killed")
        print(f"{mutant.name:48} {result} {time.monotonic() - start:.1f} s", flush=True)
    return min(survivors, 1)


if __name__ == "__main__":
    sys.exit(main())
