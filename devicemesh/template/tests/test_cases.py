"""One misbehaving peer a folder: what it says to the first device, and what must come of that.

Replace: the folders and `Peer`. Each bug that you meet becomes a case. In all of them the device beside it, on
the same link, stays good, and once the peer is honest again both are.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml
from devicemesh_scpi.mapper import ScpiMapper
from devicemesh_scpi.model import ScpiAddress, ScpiEndpoint

from devicemesh.mapper import LinkError, Point, Quality
from devicemesh.spec.values import ValueType
from devicemesh.testing.polls import poll, run
from devicemesh.testing.server import StreamServer

CASES = sorted(path for path in (Path(__file__).parent / "cases").iterdir() if path.is_dir())
HONEST = ["{channel}.5", '0,"No error"']


class Peer:
    """Answers each question, together with the `SYST:ERR?` behind it, as it is told to."""

    def __init__(self, says: list[str]) -> None:
        self.says = says  # to channel 1; `wait` and `hang up` are done, `endless` has no end

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"*CLS\n"
        while question := (await reader.readline()).decode():
            assert await reader.readline() == b"SYST:ERR?\n"
            channel = question[-3]
            for text in self.says if channel == "1" else HONEST:
                if text == "hang up":
                    return
                if text == "wait":
                    await asyncio.sleep(0.3)  # the endpoint's timeout is 0.1 s
                else:
                    line = "1" * 200_000 if text == "endless" else text.format(channel=channel) + "\n"
                    writer.write(line.encode())
                    await writer.drain()


@pytest.mark.parametrize("folder", CASES, ids=lambda path: path.name)
def test_case(folder: Path) -> None:
    case: dict[str, Any] = yaml.safe_load((folder / "case.yaml").read_text())
    assert case.keys() == {"about", "says", "expect", "message"}

    async def work() -> None:
        peer = Peer(case["says"])
        async with StreamServer(peer.talk) as server:
            where: dict[str, Any] = {"host": "127.0.0.1", "port": server.port, "timeout": "100ms"}
            points = [
                Point(
                    n,
                    f"default/{n}",
                    "x",
                    ValueType.FLOAT64,
                    ScpiEndpoint(**where, channel=n),
                    ScpiAddress(header="MEAS:X"),
                )
                for n in (1, 2)
            ]
            lost = ""
            try:
                async with ScpiMapper().open(points[0].endpoint) as session:
                    seen = await poll(session, points)
                    assert Quality(seen[1].quality).word == case["expect"], seen[1]
                    assert case["message"] in str(seen[1].error)
                    assert (seen[2].value, seen[2].quality) == (2.5, Quality.GOOD), seen[2].error
                    peer.says = HONEST
                    seen = await poll(session, points)
            except LinkError as error:
                lost, peer.says = str(error), HONEST
                async with ScpiMapper().open(points[0].endpoint) as session:
                    seen = await poll(session, points)
            assert bool(lost) == (case["expect"] == "Bad.NoLink")
            assert [(row.value, row.quality) for row in seen.values()] == [
                (1.5, Quality.GOOD),
                (2.5, Quality.GOOD),
            ]

    run(work())
