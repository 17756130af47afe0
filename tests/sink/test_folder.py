"""The outbox on real file systems: full ones, limited ones, and a second owner."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devicemesh.sink.folder import Folder
from devicemesh.sink.outbox import Outbox, dump, verify

CONTEXTS = {1: b'["T","default/pump-1","speed"]'}
Drain = Callable[[Outbox], list[bytes]]


def fill(outbox: Outbox, batches: int) -> list[bytes]:
    sent = []
    for number in range(batches):
        bodies = [b"%06d-%d" % (number, index) + b"." * 200 for index in range(50)]
        at = outbox.append([(1, 3, body) for body in bodies], CONTEXTS)
        for index in range(at.stored, 50):
            outbox.drop(at.position + index, at.sample + 3 * index, 3, "disk_full")
        sent += bodies[: at.stored]
    return sent


def test_a_second_owner_is_refused(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "outbox")
    with pytest.raises(BlockingIOError, match="another runtime"):
        Folder(tmp_path / "outbox")
    folder.release()
    Folder(tmp_path / "outbox").release()


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    outbox = Outbox(Folder(tmp_path / "outbox"))
    assert (tmp_path / "outbox").stat().st_mode & 0o777 == 0o700
    for path in (tmp_path / "outbox").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    outbox.close()


def test_a_clean_end_and_a_new_start(tmp_path: Path, drain: Drain) -> None:
    outbox = Outbox(Folder(tmp_path))
    sent = fill(outbox, 3)
    outbox.close()
    outbox = Outbox(Folder(tmp_path))
    assert outbox.durable == outbox.next == 150
    assert drain(outbox) == sent
    outbox.close()


def test_looking_into_it_changes_nothing(tmp_path: Path) -> None:
    outbox = Outbox(Folder(tmp_path))
    fill(outbox, 2)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    report = verify(tmp_path)  # while it is running
    assert (report["waiting"], report["waiting samples"], report["corrupt"]) == (100, 300, 0)
    assert report["bytes"] == report["intact bytes"]
    lines = list(dump(tmp_path))
    assert len(lines) == 100
    assert lines[7] == f"7 3 samples 208 bytes {CONTEXTS[1].decode()}"
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    outbox.close()
    path = sorted(tmp_path.iterdir())[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert verify(tmp_path)["corrupt"] == 50


def test_a_limit_per_file_is_answered_by_new_files(tmp_path: Path) -> None:
    """In a child, since the limit can't be raised again."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
            outbox = Outbox(Folder(tmp_path))
            sent = fill(outbox, 40)
            stats = outbox.stats()
            bodies = [item.body for item in outbox.read(0, 1 << 30).items]
            good = len(sent) == 2000 and bodies == sent and not sum(stats.dropped.values())
            status = 0 if good and stats.write_failures else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    mount = tmp_path / "tiny"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(mount)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("may not mount")
    yield mount
    subprocess.run(["umount", "--lazy", str(mount)], check=True)


@pytest.mark.root
def test_a_full_disk_keeps_the_newest_and_goes_on(tiny: Path, drain: Drain) -> None:
    outbox = Outbox(Folder(tiny / "outbox"), segment_bytes=200_000)
    sent = fill(outbox, 600)
    stats = outbox.stats()
    assert stats.dropped["disk_full"] > 0
    assert stats.taken == stats.spooled + stats.dropped["disk_full"]
    waiting = stats.spooled
    outbox.close()
    outbox = Outbox(Folder(tiny / "outbox"), segment_bytes=200_000)
    assert outbox.stats().recovered.spooled + outbox.stats().recovered.dropped["disk_full"] == waiting
    left = drain(outbox)
    assert left == sent[-len(left) :]
    assert len(left) * 200 > 2_000_000
    outbox.close()


@pytest.mark.root
def test_a_disk_that_others_fill_heals_by_itself(tiny: Path, drain: Drain) -> None:
    outbox = Outbox(Folder(tiny / "outbox"), segment_bytes=200_000)
    others = tiny / "others"
    descriptor = os.open(others, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while True:
            os.write(descriptor, bytes(1 << 12))
    os.close(descriptor)
    fill(outbox, 50)
    assert outbox.stats().dropped["disk_full"] > 0
    others.unlink()
    drain(outbox)
    deadline = time.monotonic() + 5
    while not fill(outbox, 1):  # the file system gives blocks back in its own time
        assert time.monotonic() < deadline
        time.sleep(0.05)
    drain(outbox)
    sent = fill(outbox, 10)
    assert len(sent) == 500
    assert drain(outbox) == sent
    outbox.close()
