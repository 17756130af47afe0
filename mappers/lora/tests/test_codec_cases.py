"""What codecs do wrong, one folder each: their own uplinks are marked, those of a neighbour are decoded.

Both devices share a helper process. `send` are payloads of the device with the case's codec; of `expect`:
`values` and `errors` (expressions) by pointer, in order; the last error's `reason`; how often the helper was
started.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

CASES = sorted((Path(__file__).parent / "cases").glob("js-*"))
NEIGHBOUR = "70b3d57ed0000002"
HEALTHY = """
function decodeUplink(input) {
  if (({}).polluted !== undefined || typeof Date !== 'function') throw new Error('somebody was here');
  return { data: { v: Math.round(input.bytes[0]) } };
}
"""


def test_all_entries_of_the_list_are_there() -> None:
    assert {int(folder.name[3:5]) for folder in CASES} == set(range(1, 21))


@pytest.mark.parametrize("folder", CASES, ids=lambda p: p.name)
def test_case(folder: Path, kit: Any, run: Callable[[Any], None], home: Path) -> None:
    case = yaml.safe_load((folder / "case.yaml").read_text())
    expect = case["expect"]
    source = case["codec"] + "// " + "x" * case.get("padding", 0)
    codec = {"source": source}
    if case.get("file"):
        (home / "codecs").mkdir()
        (home / "codecs" / "bad.js").write_text(source)
        codec = {"file": "bad.js"}

    async def work() -> None:
        port = kit.free_port()
        node = kit.node(port, codec=codec)
        keys = {key: {"name": "node", "key": key} for key in ("nwkSKey", "appSKey")}
        abp = {"devAddr": f"{kit.address + 1:08x}", **keys}
        other = kit.node(port, devEui=NEIGHBOUR, codec={"source": HEALTHY}, abp=abp)
        pointers = case.get("points", {"/v": "float64"})
        points = [
            kit.point(slot, node, type_, pointer=where)
            for slot, (where, type_) in enumerate(pointers.items())
        ]
        points.append(kit.point(50, node, "uint8", offset=0))
        points.append(kit.point(60, other, "float64", pointer="/v"))
        points.append(kit.point(70, kit.gateway(port), "float64", stat="lastSeen"))
        async with kit.session(points) as (session, heard), kit.forwarder(port) as radio:
            for counter, payload in enumerate(case["send"], 1):
                radio.uplink(kit.frame(counter, bytes.fromhex(payload)))
                radio.uplink(kit.frame(counter, bytes([counter]), address=kit.address + 1))
            count = len(case["send"])
            outcomes = sum(map(len, (*expect.get("values", {}).values(), *expect.get("errors", {}).values())))
            await kit.until(lambda: len(heard.of(60)) == count and len(heard.of(50)) == count, 15)
            await kit.until(
                lambda: len([s for s, _ in heard.values if s < 50]) + len(heard.bad) >= outcomes, 15
            )
            assert heard.of(60) == list(range(1, count + 1)), "a neighbour is harmed"
            found = {where: heard.of(slot) for slot, where in enumerate(pointers)}
            assert found == {where: expect.get("values", {}).get(where, []) for where in pointers}
            for slot, where in enumerate(pointers):
                said = [str(error) for one, error in heard.bad if one == slot]
                wanted = expect.get("errors", {}).get(where, [])
                assert len(said) == len(wanted), said
                for pattern, words in zip(wanted, said, strict=True):
                    assert re.search(pattern, words), words
            assert {slot for slot, _ in heard.bad} < set(range(50))
            if "reason" in expect:
                assert heard.errors[-1].reason == expect["reason"]
            assert session.decoding.codecs.starts == expect.get("starts", 1) and not session.lost()

    run(work())
