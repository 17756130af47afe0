"""Resources in one SQLite file, shared by the runtime and the command line; plain and synchronous.

WAL with synchronous=FULL: what was answered survives a power cut (NORMAL does not). What a listing shows is
kept in columns of its own: ten thousand rows are printed without parsing a resource.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from devicemesh.store.base import Key, NotFoundError, Object, StoreUnavailableError, alike, pack

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE object (
  kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
  uid TEXT NOT NULL, generation INTEGER NOT NULL, version INTEGER NOT NULL, created TEXT NOT NULL,
  body TEXT NOT NULL, owners TEXT NOT NULL, model TEXT, protocol TEXT, deleted INTEGER NOT NULL,
  PRIMARY KEY (kind, namespace, name)) WITHOUT ROWID;
CREATE INDEX object_version ON object (version);
CREATE TABLE status (
  kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
  version INTEGER NOT NULL, body TEXT NOT NULL, properties TEXT NOT NULL,
  ready TEXT, reason TEXT, desired TEXT, last_seen TEXT,
  PRIMARY KEY (kind, namespace, name)) WITHOUT ROWID;
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counter VALUES ('version', 0), ('forgotten', 0);
"""
_COLUMNS = (
    "o.kind, o.namespace, o.name, o.uid, o.generation, o.version, o.created,"
    " o.body, s.body, s.properties, o.deleted"
)
_FROM = "FROM object o LEFT JOIN status s USING (kind, namespace, name)"
_TOMBSTONES = 10_000


def _object(row: Sequence[Any]) -> Object:
    kind, namespace, name, uid, generation, version, created, body, status, properties, _ = row
    key = Key(kind, namespace, name)
    try:
        whole = json.loads(status) if status else {}
        if properties and properties != "null":
            whole["properties"] = json.loads(properties)
        return Object(key, uid, generation, version, created, pack(json.loads(body)), whole)
    except ValueError as error:
        raise StoreUnavailableError(f"{kind} `{name}` in the store is damaged: {error}") from error


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _shown(spec: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """(model, protocol) of a device's spec."""
    return spec.get("modelRef", {}).get("name"), next(iter(spec.get("endpoint", {})), None)


def _parts(status: Mapping[str, Any]) -> tuple[str | None, ...]:
    """A status as columns: all but the values, the values, and what a listing shows."""
    rest = {name: value for name, value in status.items() if name != "properties"}
    ready: Mapping[str, Any] = next((c for c in status.get("conditions", ()) if c["type"] == "Ready"), {})
    shown = (ready.get("status"), ready.get("reason"), status.get("desired"), status.get("lastSeen"))
    properties = status.get("properties")
    return _dumps(rest), properties.decode() if isinstance(properties, bytes) else _dumps(properties), *shown


class Changes(NamedTuple):
    """What happened since a version."""

    rows: list[tuple[Object, bool]]  # with: deleted?
    version: int  # ask from here next time
    complete: bool  # the rows are all that exists, not only what changed


class Database:
    """Resources in a file. Safe across processes; use one per thread. Raises StoreUnavailableError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=5, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA cache_size=-128")  # KiB: the page cache of the system serves as well
            self._db.execute("PRAGMA synchronous=FULL")
            with self._transaction():
                (found,) = self._db.execute("PRAGMA user_version").fetchone()
                if found == 0:
                    for statement in _SCHEMA.split(";\n"):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailableError(f"the store {path} can't be opened: {error}") from error
        if found > SCHEMA_VERSION:
            raise StoreUnavailableError(f"the store {path} was written by a newer DeviceMesh")

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreUnavailableError(f"the store {self.path}: {error}") from error

    def _rows(self, where: str, parameters: Sequence[Any] = ()) -> list[tuple[Object, bool]]:
        try:
            rows = self._db.execute(f"SELECT {_COLUMNS} {_FROM} WHERE {where}", parameters).fetchall()
        except sqlite3.Error as error:
            raise StoreUnavailableError(f"the store {self.path}: {error}") from error
        return [(_object(row), bool(row[-1])) for row in rows]

    def _next_version(self) -> int:
        row = self._db.execute(
            "UPDATE counter SET value=value+1 WHERE name='version' RETURNING value"
        ).fetchone()
        version: int = row[0]
        return version

    def get(self, key: Key) -> Object:
        found = self._rows("o.kind=? AND o.namespace=? AND o.name=? AND NOT o.deleted", key)
        if not found:
            raise NotFoundError(f"there is no {key.kind} `{key.name}` in namespace {key.namespace}")
        return found[0][0]

    def list(self, kind: str, namespace: str | None = None) -> list[Object]:
        if namespace is None:
            rows = self._rows("o.kind=? AND NOT o.deleted ORDER BY o.namespace, o.name", (kind,))
        else:
            where = "o.kind=? AND o.namespace=? AND NOT o.deleted ORDER BY o.name"
            rows = self._rows(where, (kind, namespace))
        return [found for found, _ in rows]

    def device_rows(self, namespace: str | None = None) -> Sequence[tuple[str | None, ...]]:
        """What a listing shows: namespace, name, model, protocol, ready, reason, desired, last seen."""
        where, parameters = ("", []) if namespace is None else ("AND o.namespace=?", [namespace])
        query = (
            "SELECT o.namespace, o.name, o.model, o.protocol, s.ready, s.reason, s.desired, s.last_seen"
            f" {_FROM} WHERE o.kind='Device' AND NOT o.deleted {where} ORDER BY o.namespace, o.name"
        )
        try:
            return self._db.execute(query, parameters).fetchall()
        except sqlite3.Error as error:
            raise StoreUnavailableError(f"the store {self.path}: {error}") from error

    def apply(self, bodies: Sequence[Mapping[str, Any]]) -> Sequence[tuple[Key, str]]:
        with self._transaction():
            return [self._apply(body) for body in bodies]

    def _apply(self, body: Mapping[str, Any]) -> tuple[Key, str]:
        metadata = body["metadata"]
        key = Key(body["kind"], metadata.get("namespace", "default"), metadata["name"])
        row = self._db.execute(
            "SELECT body, owners, generation FROM object"
            " WHERE kind=? AND namespace=? AND name=? AND NOT deleted", key
        ).fetchone()  # fmt: skip
        declared = {**body, "metadata": {**metadata, "namespace": key.namespace}}
        wanted = declared["spec"].get("desired", ())
        owners = {entry["name"]: "apply" for entry in wanted}
        if row is None:
            now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            self._db.execute(
                "INSERT OR REPLACE INTO object VALUES (?,?,?,?,1,?,?,?,?,?,?,0)",
                (
                    *key,
                    str(uuid.uuid4()),
                    self._next_version(),
                    now,
                    _dumps(declared),
                    _dumps(owners),
                    *_shown(declared["spec"]),
                ),
            )
            return key, "created"
        old, old_owners, generation = json.loads(row[0]), json.loads(row[1]), row[2]
        for entry in old["spec"].get("desired", ()):
            owner = old_owners.get(entry["name"], "apply")
            if owner != "apply" and entry["name"] not in owners:
                owners[entry["name"]] = owner
                declared["spec"] = {
                    **declared["spec"], "desired": [*declared["spec"].get("desired", ()), entry]
                }  # fmt: skip
        if alike(declared, old):
            return key, "unchanged"
        self._update(key, declared, owners, generation + (not alike(declared["spec"], old["spec"])))
        return key, "configured"

    def _update(self, key: Key, body: Mapping[str, Any], owners: Mapping[str, str], generation: int) -> None:
        self._db.execute(
            "UPDATE object SET body=?, owners=?, generation=?, version=?, model=?, protocol=?"
            " WHERE kind=? AND namespace=? AND name=?",
            (_dumps(body), _dumps(owners), generation, self._next_version(), *_shown(body["spec"]), *key),
        )

    def delete(self, key: Key) -> None:
        with self._transaction():
            done = self._db.execute(
                "UPDATE object SET deleted=1, version=?"
                " WHERE kind=? AND namespace=? AND name=? AND NOT deleted",
                (self._next_version(), *key),
            )
            if not done.rowcount:
                raise NotFoundError(f"there is no {key.kind} `{key.name}` in namespace {key.namespace}")
            self._db.execute("DELETE FROM status WHERE kind=? AND namespace=? AND name=?", key)
            self._forget()

    def _forget(self) -> None:
        """Keep a bounded number of tombstones; a watcher further behind lists again."""
        old = self._db.execute(
            "SELECT version FROM object WHERE deleted ORDER BY version DESC LIMIT 1 OFFSET ?", (_TOMBSTONES,)
        ).fetchone()
        if old:
            self._db.execute("UPDATE counter SET value=? WHERE name='forgotten'", old)
            self._db.execute("DELETE FROM object WHERE deleted AND version<=?", old)

    def set_desired(self, key: Key, values: Mapping[str, Any], owner: str) -> Object:
        with self._transaction():
            row = self._db.execute(
                "SELECT body, owners, generation FROM object"
                " WHERE kind=? AND namespace=? AND name=? AND NOT deleted", key
            ).fetchone()  # fmt: skip
            if row is None:
                raise NotFoundError(f"there is no {key.kind} `{key.name}` in namespace {key.namespace}")
            body, owners, generation = json.loads(row[0]), json.loads(row[1]), row[2]
            desired = {entry["name"]: entry["value"] for entry in body["spec"].get("desired", ())}
            desired.update(values)
            owners.update(dict.fromkeys(values, owner))
            body["spec"]["desired"] = [{"name": n, "value": v} for n, v in desired.items() if v is not None]
            self._update(key, body, owners, generation + 1)
        return self.get(key)

    def patch_status(self, statuses: Mapping[Key, Mapping[str, Any]]) -> None:
        self._db.execute("PRAGMA synchronous=NORMAL")  # it comes again in a moment: no flush for it
        try:
            self._patch_status(statuses)
        finally:
            self._db.execute("PRAGMA synchronous=FULL")

    def _patch_status(self, statuses: Mapping[Key, Mapping[str, Any]]) -> None:
        with self._transaction():
            version = self._next_version()
            self._db.executemany(
                "INSERT OR REPLACE INTO status SELECT kind, namespace, name, ?, ?, ?, ?, ?, ?, ? FROM object"
                " WHERE kind=? AND namespace=? AND name=? AND NOT deleted",
                [(version, *_parts(status), *key) for key, status in statuses.items()],
            )

    def data_version(self) -> int:
        """Changes whenever another connection has written: cheap enough to ask ten times a second."""
        try:
            version: int = self._db.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error as error:
            raise StoreUnavailableError(f"the store {self.path}: {error}") from error
        return version

    def changes(self, kinds: Sequence[str], since: int) -> Changes:
        """Bodies changed after version `since`; all of them when that history is forgotten, or since < 0."""
        marks = ",".join("?" * len(kinds))
        try:
            self._db.execute("BEGIN")
            (forgotten,) = self._db.execute("SELECT value FROM counter WHERE name='forgotten'").fetchone()
            (version,) = self._db.execute("SELECT value FROM counter WHERE name='version'").fetchone()
            complete = since < forgotten
            where = "NOT o.deleted" if complete else "o.version>?"
            parameters = kinds if complete else (since, *kinds)
            rows = self._rows(f"{where} AND o.kind IN ({marks}) ORDER BY o.version", parameters)
        except sqlite3.Error as error:
            raise StoreUnavailableError(f"the store {self.path}: {error}") from error
        finally:
            if self._db.in_transaction:
                self._db.execute("COMMIT")
        return Changes(rows, version, complete)
