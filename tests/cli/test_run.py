"""What `devicemesh run` takes of the system."""

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from devicemesh.cli.run import run_guarded
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
