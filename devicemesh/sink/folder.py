"""The file system as the outbox sees it: one folder, owned by one process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from devicemesh.system import forget_cached, sync_data


class Readable(Protocol):
    """One flat folder of files. Every method may raise OSError."""

    def names(self) -> Sequence[str]: ...

    def size(self, name: str) -> int: ...

    def read(self, name: str, offset: int, length: int) -> bytes: ...


class FileSystem(Readable, Protocol):
    """The same to write to; methods of open files take their descriptor."""

    def create(self, name: str) -> int: ...

    def write(self, descriptor: int, data: bytes) -> int: ...

    def sync(self, descriptor: int) -> None:
        """Make a file's bytes survive a power cut."""
        ...

    def sync_name(self, name: str) -> None:
        """The same for a file of an earlier process, which is read from the medium from then on.

        Should a sync of it have failed back then, this one would succeed all the same and leave in the cache
        what is nowhere else.
        """
        ...

    def sync_folder(self) -> None:
        """Make names created and removed survive a power cut."""
        ...

    def close(self, descriptor: int) -> None: ...

    def unlink(self, name: str) -> None: ...

    def release(self) -> None:
        """Let go of the folder."""
        ...


class Folder:
    """A real folder, made when missing and locked against a second process."""

    def __init__(self, path: Path) -> None:
        """Raises OSError; BlockingIOError when another process uses the folder."""
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = str(path)
        self._folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._folder)
            if isinstance(error, BlockingIOError):
                raise BlockingIOError(error.errno, "in use by another runtime", self._path) from error
            raise

    def names(self) -> Sequence[str]:
        return os.listdir(self._folder)  # noqa: PTH208 - by descriptor: still right after a rename

    def size(self, name: str) -> int:
        return os.stat(name, dir_fd=self._folder).st_size

    def read(self, name: str, offset: int, length: int) -> bytes:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._folder)
        try:
            return os.pread(descriptor, length, offset)
        finally:
            os.close(descriptor)

    def create(self, name: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        return os.open(name, flags, 0o600, dir_fd=self._folder)

    def write(self, descriptor: int, data: bytes) -> int:
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        sync_data(descriptor)

    def sync_name(self, name: str) -> None:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._folder)
        try:
            sync_data(descriptor)
            forget_cached(descriptor)
        finally:
            os.close(descriptor)

    def sync_folder(self) -> None:
        os.fsync(self._folder)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def unlink(self, name: str) -> None:
        os.unlink(name, dir_fd=self._folder)

    def release(self) -> None:
        os.close(self._folder)
