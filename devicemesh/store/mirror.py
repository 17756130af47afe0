"""What an API server said last, in a file of the home, and what was edited here while it was away."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from devicemesh.store.base import Key, Object, StoreUnavailableError
from devicemesh.store.merge import Edit

_SCHEMA = """
CREATE TABLE IF NOT EXISTS object (
  kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
  uid TEXT NOT NULL, generation INTEGER NOT NULL, version INTEGER NOT NULL, created TEXT NOT NULL,
  body TEXT NOT NULL, PRIMARY KEY (kind, namespace, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS edit (
  namespace TEXT NOT NULL, device TEXT NOT NULL, name TEXT NOT NULL,
  value TEXT NOT NULL, base TEXT NOT NULL, time_ns INTEGER NOT NULL, owner TEXT NOT NULL,
  PRIMARY KEY (namespace, device, name)) WITHOUT ROWID;
"""


class Mirror:
    """Plain and synchronous; of one thread. Raises StoreUnavailableError. Secrets never come here."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=5, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA cache_size=-128")
            self._db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailableError(f"{path} can't be opened: {error}") from error

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _transaction(self, durable: str) -> Iterator[None]:
        try:
            self._db.execute(f"PRAGMA synchronous={durable}")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreUnavailableError(f"{self._path}: {error}") from error

    def load(self) -> tuple[dict[Key, Object], dict[Key, dict[str, Edit]]]:
        """All that is kept."""
        try:
            rows = self._db.execute("SELECT * FROM object").fetchall()
            changed = self._db.execute("SELECT * FROM edit").fetchall()
        except sqlite3.Error as error:
            raise StoreUnavailableError(f"{self._path}: {error}") from error
        objects: dict[Key, Object] = {}
        for kind, namespace, name, uid, generation, version, created, body in rows:
            key = Key(kind, namespace, name)
            objects[key] = Object(key, uid, generation, version, created, body.encode(), {})
        edits: dict[Key, dict[str, Edit]] = {}
        for namespace, device, name, value, base, time_ns, owner in changed:
            edit = Edit(name, json.loads(value), json.loads(base), time_ns, owner)
            edits.setdefault(Key("Device", namespace, device), {})[name] = edit
        return objects, edits

    def save(self, changes: Mapping[Key, Object | None]) -> None:
        """What the server has now (None: gone). It can be asked again: no flush for it."""
        with self._transaction("NORMAL"):
            gone = [key for key, found in changes.items() if found is None]
            self._db.executemany("DELETE FROM object WHERE kind=? AND namespace=? AND name=?", gone)
            self._db.executemany(
                "INSERT OR REPLACE INTO object VALUES (?,?,?,?,?,?,?,?)",
                [
                    (*key, o.uid, o.generation, o.version, o.created, o.packed.decode())
                    for key, o in changes.items()
                    if o is not None
                ],
            )

    def edit(self, key: Key, edits: Iterable[Edit]) -> None:
        """Keep what was edited here: it survives a power cut."""
        rows = [
            (key.namespace, key.name, e.name, json.dumps(e.value), json.dumps(e.base), e.time_ns, e.owner)
            for e in edits
        ]
        with self._transaction("FULL"):
            self._db.executemany("INSERT OR REPLACE INTO edit VALUES (?,?,?,?,?,?,?)", rows)

    def settle(self, key: Key, edits: Sequence[Edit]) -> None:
        """Both sides know of these."""
        rows = [(key.namespace, key.name, e.name, e.time_ns) for e in edits]
        with self._transaction("FULL"):
            self._db.executemany(
                "DELETE FROM edit WHERE namespace=? AND device=? AND name=? AND time_ns=?", rows
            )
