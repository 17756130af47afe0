"""What `devicemesh run` takes of the system."""

import json
import logging
import resource
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from devicemesh.cli.run import JsonLines, run_guarded
from devicemesh.settings import Settings


@pytest.fixture
def limits() -> Iterator[tuple[int, int]]:
    """Of descriptors; put back afterwards."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_runtime_takes_all_descriptors_that_it_may_have(tmp_path: Path, limits: tuple[int, int]) -> None:
    _, most = limits
    seen = []

    async def main() -> None:
        seen.append(resource.getrlimit(resource.RLIMIT_NOFILE))

    resource.setrlimit(resource.RLIMIT_NOFILE, (256, most))
    run_guarded(main(), Settings(home=tmp_path))
    assert seen == [(most, most)]


def test_a_home_that_is_anothers_is_said_with_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mounted folder mostly is root's, and a container is not."""
    lock = tmp_path / "runtime.lock"

    async def main() -> None:
        raise PermissionError(13, "Permission denied", str(lock))

    with pytest.raises(SystemExit) as ended:
        run_guarded(main(), Settings(home=tmp_path))
    assert ended.value.code == 3
    error, mend = capsys.readouterr().err.splitlines()
    assert error.startswith(f"Error: {lock}: Permission denied for user ")
    assert mend.startswith("Try: chown -R ") and mend.endswith(str(tmp_path))


def test_a_file_that_is_not_of_the_home_is_not_given_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        raise PermissionError(13, "Permission denied", "/etc/ssl/private/plant.key")

    with pytest.raises(SystemExit):
        run_guarded(main(), Settings(home=tmp_path))
    assert "chown" not in capsys.readouterr().err


def test_a_line_for_a_collector_has_a_time_with_a_zone() -> None:
    record = logging.LogRecord("devicemesh", logging.INFO, "", 0, "up", None, None)
    body = json.loads(JsonLines().format(record))
    assert body["time"].endswith("Z")
    assert datetime.fromisoformat(body["time"]).timestamp() == pytest.approx(record.created, abs=0.002)
