"""The counters of encrypted BTHome devices, which outlive a restart, in SQLite.

Else whoever has recorded a device could play it back to a runtime that has just started. A device is known by
its address and its key together: a new key begins anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from devicemesh.mapper import LinkError, default_home
from devicemesh_ble.advert import Heard

log = logging.getLogger("devicemesh.ble")
_TABLES = "create table if not exists counters (id text primary key, counter integer, frame blob)"


def identity(address: str, key: bytes) -> str:
    """A device's name in the store; says nothing of the key."""
    return f"{address} {hashlib.sha256(b'devicemesh ble' + key).hexdigest()[:16]}"


class Counters:
    """One file, opened when the first counter is asked for. What is noted is written by `flush`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: sqlite3.Connection | None = None
        self._dirty: dict[str, Heard] = {}

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._database = sqlite3.connect(self._path, timeout=2.0)
            self._database.execute("pragma journal_mode=wal")
            self._database.execute(_TABLES)
        return self._database

    def load(self, name: str) -> Heard | None:
        """What was heard last of a device. Raises LinkError."""
        try:
            query = "select counter, frame from counters where id = ?"
            found = self._opened().execute(query, (name,)).fetchone()
        except (OSError, sqlite3.Error) as error:
            raise LinkError(f"counters can't be kept in {self._path}: {error}", reason="NoStore") from error
        return Heard(*found) if found else None

    def note(self, name: str, heard: Heard) -> None:
        """Keep this at the next `flush`."""
        self._dirty[name] = heard

    def flush(self) -> None:
        """Write what is new, in one transaction. Raises LinkError."""
        if not self._dirty:
            return
        rows = [(name, heard.counter, heard.frame) for name, heard in self._dirty.items()]
        try:
            with self._opened() as database:
                database.executemany("insert or replace into counters values (?, ?, ?)", rows)
        except (OSError, sqlite3.Error) as error:
            raise LinkError(f"counters can't be kept in {self._path}: {error}", reason="NoStore") from error
        self._dirty.clear()

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


@contextlib.contextmanager
def kept(path: Path | None = None) -> Iterator[Counters]:
    """The counters in this file, by default `ble/counters.sqlite` in the home; written at the end, too."""
    counters = Counters(path or default_home() / "ble/counters.sqlite")
    try:
        yield counters
    finally:
        try:
            counters.flush()
        except LinkError as error:
            log.warning("%s", error)
        counters.close()
