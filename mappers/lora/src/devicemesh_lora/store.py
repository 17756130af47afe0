"""Counters and nonces that outlive a restart, in SQLite.

Session keys are not kept: they are worked out again from the AppKey and the nonces. A device is known by its
EUI and its key together: a new key begins anew.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devicemesh.mapper import LinkError, default_home

DOWN_BLOCK = 16
"""Downlink counters are reserved by so many: a crash skips some, which a device does not mind."""
_TABLES = """
create table if not exists sessions (
    id text primary key, dev_addr integer, join_nonce integer not null, dev_nonce integer,
    up integer not null, down integer not null
) without rowid;
create table if not exists nonces (id text, nonce integer, primary key (id, nonce)) without rowid;
"""


@dataclass(slots=True)
class Kept:
    """What is kept of a device."""

    dev_addr: int | None = None
    join_nonce: int = 0  # the last one given
    dev_nonce: int | None = None  # of the session
    up: int = -1  # the last uplink counter accepted, -1: none
    down: int = 0  # downlink counters below this may have been used


def identity(eui: str, key: bytes) -> str:
    """A device's name in the store; says nothing of the key."""
    return f"{eui} {hashlib.sha256(b'devicemesh lora' + key).hexdigest()[:16]}"


@contextmanager
def _kept(path: Path | None) -> Iterator[None]:
    """A disk that is full, or gone, is no mistake of ours. Raises LinkError."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise LinkError(f"counters can't be kept in {path}: {error}", reason="NoStore") from error


class Store:
    """One file; each method is one transaction on the disk. Raises LinkError."""

    def __init__(self, database: sqlite3.Connection, path: Path | None) -> None:
        self._database, self._path = database, path
        self._database.executescript(_TABLES)

    def load(self, name: str) -> Kept:
        with _kept(self._path):
            found = self._database.execute(
                "select dev_addr, join_nonce, dev_nonce, up, down from sessions where id = ?", (name,)
            ).fetchone()
        return Kept(*found) if found else Kept()

    def save(self, sessions: dict[str, Kept]) -> None:
        """Keep these, all or none of them."""
        with _kept(self._path), self._database:
            self._database.executemany(
                "insert or replace into sessions values (?, ?, ?, ?, ?, ?)",
                [(name, k.dev_addr, k.join_nonce, k.dev_nonce, k.up, k.down) for name, k in sessions.items()],
            )

    def use_nonce(self, name: str, nonce: int) -> bool:
        """Mark a DevNonce as used; False: it was used before."""
        with _kept(self._path), self._database:
            done = self._database.execute("insert or ignore into nonces values (?, ?)", (name, nonce))
        return done.rowcount == 1


def folder() -> Path:
    """`lora` in the home."""
    return default_home() / "lora"


@contextmanager
def opened(path: Path | None) -> Iterator[Store]:
    """The store in this file; None: in memory, for simulated devices. Raises LinkError."""
    with _kept(path):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        database = sqlite3.connect(str(path) if path else ":memory:", timeout=2.0)
        database.execute("pragma journal_mode=wal")
        database.execute("pragma synchronous=full")
        store = Store(database, path)
    try:
        yield store
    finally:
        database.close()
