import sqlite3
import threading
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from devicemesh.store import database
from devicemesh.store.base import Key, Store, StoreUnavailableError
from devicemesh.store.database import Database
from devicemesh.store.sqlite import SqliteStore
from devicemesh.testing.store import KEY, StoreContract, body


class TestSqliteStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _path(self, tmp_path: Path) -> None:
        self.path = tmp_path / "store.db"

    def open(self) -> AbstractAsyncContextManager[Store]:
        return SqliteStore(self.path, poll_s=0.01)


def test_a_watcher_behind_forgotten_history_lists_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_TOMBSTONES", 1)
    store = Database(tmp_path / "store.db")
    store.apply([body(f"d{i}") for i in range(5)])
    since = store.changes(("Device",), -1).version
    for i in range(4):
        store.delete(Key("Device", "default", f"d{i}"))
    found = store.changes(("Device",), since)
    assert found.complete
    assert [(o.key.name, gone) for o, gone in found.rows] == [("d4", False)]


def test_a_broken_file_is_an_error_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"this is not a database" * 100)
    with pytest.raises(StoreUnavailableError, match=r"store\.db"):
        Database(path)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    Database(tmp_path / "store.db").close()
    raw = sqlite3.connect(tmp_path / "store.db")
    raw.execute("PRAGMA user_version=99")
    raw.close()
    with pytest.raises(StoreUnavailableError, match="newer DeviceMesh"):
        Database(tmp_path / "store.db")


def test_two_writers_lose_no_edit(tmp_path: Path) -> None:
    Database(tmp_path / "store.db").apply([body()])

    def write(owner: str) -> None:
        store = Database(tmp_path / "store.db")
        for number in range(25):
            store.set_desired(KEY, {f"{owner}{number}": number}, owner)
        store.close()

    threads = [threading.Thread(target=write, args=(owner,)) for owner in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = Database(tmp_path / "store.db").get(KEY)
    assert len(found.spec["desired"]) == 50
    assert found.generation == 51


def test_an_apply_is_all_or_nothing(tmp_path: Path) -> None:
    store = Database(tmp_path / "store.db")
    with pytest.raises(KeyError):
        store.apply([body("a"), {"kind": "Device", "metadata": {"name": "b"}}])
    assert store.list("Device") == []


def test_a_damaged_row_is_an_error_with_its_name(tmp_path: Path) -> None:
    store = Database(tmp_path / "store.db")
    store.apply([body()])
    raw = sqlite3.connect(tmp_path / "store.db")
    raw.execute("UPDATE object SET body='{'")
    raw.commit()
    raw.close()
    for ask in (lambda: store.list("Device"), lambda: store.changes(("Device",), -1)):
        with pytest.raises(StoreUnavailableError, match="`pump-1`"):
            ask()


def test_a_watch_says_that_the_store_is_away(tmp_path: Path) -> None:
    store = Database(tmp_path / "store.db")
    store.close()
    with pytest.raises(StoreUnavailableError):
        store.data_version()
