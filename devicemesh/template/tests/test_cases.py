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
from devicemesh_scpi.plan import ScpiPoint

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
        self.asked = 0  # how often channel 1 was asked

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"*CLS\n"
        while question := (await reader.readline()).decode():
            assert await reader.readline() == b"SYST:ERR?\n"
            channel = question[-3]
            self.asked += channel == "1"
            for text in self.says if channel == "1" else HONEST:
                if text == "hang up":
                    return
                if text == "wait":
                    await asyncio.sleep(0.3)  # the endpoint's timeout is 0.1 s
                else:
                    line = "1" * 200_000 if text == "endless" else text.format(channel=channel) + "\n"
                    writer.write(line.encode())
                    await writer.drain()


def points_of(channel: int, port: int) -> list[ScpiPoint]:
    """Two points of a device."""
    endpoint = ScpiEndpoint(host="127.0.0.1", port=port, channel=channel, timeout="100ms")
    device, address = f"default/{channel}", ScpiAddress(header="MEAS:X")
    return [Point(10 * channel + n, device, "x", ValueType.FLOAT64, endpoint, address) for n in (0, 1)]


@pytest.mark.parametrize("folder", CASES, ids=lambda path: path.name)
def test_case(folder: Path) -> None:
    case: dict[str, Any] = yaml.safe_load((folder / "case.yaml").read_text())
    assert case.keys() == {"about", "says", "expect", "message"}

    async def work() -> None:
        peer = Peer(case["says"])
        async with StreamServer(peer.talk) as server:
            points = points_of(1, server.port) + points_of(2, server.port)
            lost = ""
            try:
                async with ScpiMapper().open(points[0].endpoint) as session:
                    seen = await poll(session, points)
                    for slot in (10, 11):
                        assert Quality(seen[slot].quality).word == case["expect"], seen[slot]
                        assert case["message"] in str(seen[slot].error)
                        assert (seen[slot + 10].value, seen[slot + 10].error) == (2.5, None)
                    silent = case["expect"] == "Bad.NoAnswer"
                    assert peer.asked == (1 if silent else 2), (
                        "silence costs one timeout a device, not one a point"
                    )
                    peer.says = HONEST
                    seen = await poll(session, points)
            except LinkError as error:
                lost, peer.says = str(error), HONEST
                assert case["message"] in lost
                async with ScpiMapper().open(points[0].endpoint) as session:
                    seen = await poll(session, points)
            assert bool(lost) == (case["expect"] == "Bad.NoLink")
            assert [row.value for row in seen.values()] == [1.5, 1.5, 2.5, 2.5]

    run(work())
