"""A disk in memory that fails, fills up and loses power: what an outbox must live with."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

SECTOR = 512


@dataclass(slots=True, eq=False)
class _File:
    data: bytearray = field(default_factory=bytearray)  # as a running process sees it
    medium: bytearray = field(default_factory=bytearray)  # as the next boot will
    dirty: set[int] = field(default_factory=set)  # sectors of `data` that differ


def _error(number: int, name: str) -> OSError:
    return OSError(number, os.strerror(number), name)


class SimulatedDisk:
    """A `devicemesh.sink.folder.FileSystem` whose bytes and names become durable only by a sync.

    A power cut keeps, of what was never synced, a random part: any prefix of the changes of names (a
    metadata journal is ordered), and of each file any of the dirty sectors, others torn to zeros or garbage.
    A failing sync writes some sectors, forgets about the others and will report success next time.
    `fail` maps an operation (write, short, sync, folder, create, unlink, read) to the chance that it fails.
    """

    def __init__(self, rng: random.Random, capacity: int = 1 << 40) -> None:
        self.capacity = capacity
        self.read_only = False
        self.fail: dict[str, float] = {}
        self.sick = False  # a sync failed since the last power cut or kill
        self._rng = rng
        self._files: dict[str, _File] = {}
        self._durable: dict[str, _File] = {}  # names on the medium
        self._journal: list[tuple[str, _File | None]] = []  # changes of names not yet there
        self._open: dict[int, _File] = {}
        self._next = 3

    # -- what a process sees

    def names(self) -> Sequence[str]:
        return sorted(self._files)

    def size(self, name: str) -> int:
        return len(self._named(name).data)

    def read(self, name: str, offset: int, length: int) -> bytes:
        self._maybe("read", name)
        return bytes(self._named(name).data[offset : offset + length])

    def create(self, name: str) -> int:
        self._writable("create", name)
        if name in self._files:
            raise _error(errno.EEXIST, name)
        if self._room() <= 0:
            raise _error(errno.ENOSPC, name)
        file = self._files[name] = _File()
        self._journal.append((name, file))
        self._next += 1
        self._open[self._next] = file
        return self._next

    def write(self, descriptor: int, data: bytes) -> int:
        self._writable("write", "")
        room = self._room()
        if room <= 0:
            raise _error(errno.ENOSPC, "")
        length = min(room, len(data))
        if self._hit("short"):
            length = self._rng.randrange(length)
        file = self._open[descriptor]
        start = len(file.data)
        file.data += data[:length]
        file.dirty.update(range(start // SECTOR, -(-len(file.data) // SECTOR)))
        return length

    def sync(self, descriptor: int) -> None:
        self._sync(self._open[descriptor])

    def sync_name(self, name: str) -> None:
        file = self._named(name)
        self._sync(file)
        self._evict(file)

    def sync_folder(self) -> None:
        self._maybe("folder", ".")
        self._replay(len(self._journal))

    def close(self, descriptor: int) -> None:
        del self._open[descriptor]

    def unlink(self, name: str) -> None:
        self._writable("unlink", name)
        self._named(name)
        del self._files[name]
        self._journal.append((name, None))

    def release(self) -> None:
        assert not self._open, "a file was left open"

    # -- what happens to it

    def kill(self) -> None:
        """End the process: the page cache lives on."""
        self._open.clear()
        self.fail.clear()
        self.read_only = False

    def cut(self) -> None:
        """Cut the power and boot again."""
        self.kill()
        self._replay(self._rng.randint(0, len(self._journal)))
        self._journal.clear()
        self._files = dict(self._durable)
        for file in self._files.values():
            self._torn(file)
            file.data = bytearray(file.medium)
        self.sick = False

    def damage(self, name: str, data: bytes) -> None:
        """Replace a file's content, cache and medium alike."""
        file = self._named(name)
        file.data, file.medium = bytearray(data), bytearray(data)
        file.dirty.clear()

    def forget(self, name: str) -> None:
        """Remove a file as a person would."""
        del self._files[name]
        self._durable.pop(name, None)
        self._journal = [each for each in self._journal if each[0] != name]

    # -- inside

    def _named(self, name: str) -> _File:
        if name not in self._files:
            raise _error(errno.ENOENT, name)
        return self._files[name]

    def _room(self) -> int:
        return self.capacity - sum(len(file.data) for file in self._files.values())

    def _hit(self, operation: str) -> bool:
        chance = self.fail.get(operation, 0.0)
        return chance > 0 and self._rng.random() < chance

    def _maybe(self, operation: str, name: str) -> None:
        if self._hit(operation):
            raise _error(errno.EIO, name)

    def _writable(self, operation: str, name: str) -> None:
        if self.read_only:
            raise _error(errno.EROFS, name)
        self._maybe(operation, name)

    def _sync(self, file: _File) -> None:
        if not file.dirty:
            return
        if self._hit("sync"):
            self.sick = True
            self._torn(file)
            if self._rng.random() < 0.5:  # the cache still has the pages, until memory runs short
                self._evict(file)
            raise _error(errno.EIO, "")
        for sector in file.dirty:
            self._write_back(file, sector)
        file.dirty.clear()

    def _evict(self, file: _File) -> None:
        file.data[:] = file.medium.ljust(len(file.data), b"\0")

    def _replay(self, count: int) -> None:
        for name, file in self._journal[:count]:
            if file is None:
                self._durable.pop(name, None)
            else:
                self._durable[name] = file
        del self._journal[:count]

    def _write_back(self, file: _File, sector: int) -> None:
        start = sector * SECTOR
        self._put(file, start, file.data[start : start + SECTOR])

    def _put(self, file: _File, start: int, data: bytes | bytearray) -> None:
        if len(file.medium) < start:
            file.medium += bytes(start - len(file.medium))
        file.medium[start : start + len(data)] = data

    def _torn(self, file: _File) -> None:
        """Bring some of the dirty sectors to the medium and forget about the others."""
        everything = self._rng.random() < 0.2
        length = self._rng.randint(min(len(file.medium), len(file.data)), len(file.data))
        for sector in sorted(file.dirty):
            start, chance = sector * SECTOR, self._rng.random()
            if everything or chance < 0.6:
                self._write_back(file, sector)
            elif start >= len(file.medium):  # never written before: what the medium had there
                size = len(file.data[start : start + SECTOR])
                self._put(file, start, bytes(size) if chance < 0.8 else self._rng.randbytes(size))
        if not everything:
            del file.medium[max(length, 0) :]
        file.dirty.clear()
