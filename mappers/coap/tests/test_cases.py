"""What devices do wrong, one folder each: the points concerned turn bad, say why, and nobody else does.

`replies` are datagrams, for each request of /a the next list of them, the last one for ever. A datagram is
written in words: hex bytes, 'text', x300:81 (a byte many times), and of the request `mid`, `mid+1`, `token`,
`token+1`, `block` (its Block2 option with more to come). `elsewhere` in front: from another socket.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from devicemesh_coap import message as coap
from devicemesh_coap.message import Option
from devicemesh_coap.model import CoapEndpoint
from devicemesh_coap.session import open_session

from devicemesh.mapper import QUALITY_WORDS, Quality
from devicemesh.testing import contract
from devicemesh.testing.contract import once, rows

ALL = sorted(p for p in (Path(__file__).parent / "cases").iterdir() if p.is_dir())
CASES = [p for p in ALL if p.name[:2] not in ("15", "20")]
"""Those of a multicast are in test_discover.py, of OSCORE in test_secured.py: they need other peers."""
GOOD = "64 45 mid token c0 ff '7'"


def written(words: str, request: coap.Message) -> bytes:
    """A datagram out of its words."""
    out = bytearray()
    for word in words.split():
        name, _, more = word.partition("+")
        if name == "mid":
            out += (request.mid + int(more or 0) & 0xFFFF).to_bytes(2, "big")
        elif name == "token":
            out += (int.from_bytes(request.token, "big") + int(more or 0) & 0xFFFFFFFF).to_bytes(4, "big")
        elif name == "block":
            asked = request.block(Option.BLOCK2) or coap.Block(0, False, 0)
            value = coap.Block(asked.number, True, 0).encoded()
            out += bytes((0xD0 | len(value), 10)) + value
        elif word.startswith("'"):
            out += word.strip("'").encode()
        elif word.startswith("x"):
            count, _, byte = word[1:].partition(":")
            out += bytes.fromhex(byte) * int(count)
        else:
            out += bytes.fromhex(word)
    return bytes(out)


class Script:
    """Answers as a case says; /n is always well."""

    def __init__(self, replies: list[list[str]]) -> None:
        self._replies = replies
        self._count = 0
        self._seen: dict[int, list[bytes]] = {}
        self.peer: Any = None

    def __call__(self, data: bytes) -> list[bytes]:
        with contextlib.suppress(coap.MessageError):
            request = coap.decode(data)
            if not 0 < request.code < 32:
                return []
            if request.texts(Option.URI_PATH) == ["n"]:
                return [written(GOOD, request)]
            if request.mid not in self._seen:  # else a retransmission
                chosen = self._replies[min(self._count, len(self._replies) - 1)]
                self._count += 1
                self._seen[request.mid] = [self._made(words, request) for words in chosen]
            return [datagram for datagram in self._seen[request.mid] if datagram]
        return []

    def _made(self, words: str, request: coap.Message) -> bytes:
        if not words.startswith("elsewhere"):
            return written(words, request)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", 0))
            other.sendto(written(words.removeprefix("elsewhere"), request), self.peer.caller)
        return b""


def endpoint_of(case: dict[str, Any], port: int) -> CoapEndpoint:
    fields = {
        "uri": f"coap://127.0.0.1:{port}", "mode": "poll", "ackTimeout": "50ms", "timeout": "200ms",
        "retransmissions": 1, "maxPayload": 256,
    }  # fmt: skip
    return CoapEndpoint.model_validate({**fields, **case.get("endpoint", {})})


def same(value: Any, row: Any) -> bool:
    if isinstance(value, str) and value.startswith("Bad"):
        return QUALITY_WORDS[Quality(row.quality)] == value
    return bool(row.quality == Quality.GOOD and row.value == value)


@pytest.mark.parametrize("folder", CASES, ids=lambda p: p.name)
def test_case(folder: Path, raw_peer: Callable[..., Any], point: Callable[..., Any]) -> None:
    case = yaml.safe_load((folder / "case.yaml").read_text())
    script = Script(case["replies"])

    async def work() -> None:
        async with raw_peer(script) as peer:
            script.peer = peer
            endpoint = endpoint_of(case, peer.port)
            places = case.get("points", {"a": {"path": "/a", "type": "float64"}})
            points = []
            for slot, (name, place) in enumerate(places.items()):
                fields = dict(place)
                points.append((name, point(slot, endpoint, fields.pop("type"), fields)))
            neighbour = point(99, endpoint, "float64", "/n")
            async with open_session(endpoint) as session:
                if "notifications" in case:
                    await observed(session, peer, [p for _, p in points])
                    return
                reader = session.reader([*(p for _, p in points), neighbour])
                for _ in range(case.get("polls", 1)):
                    seen = await once(reader, [*(p for _, p in points), neighbour])
                    assert same(7, seen.pop(99)), "the neighbour"
                for name, p in points:
                    expected = case["expect"][name]
                    assert same(expected, seen[p.slot]), (name, seen[p.slot])
                errors = " ".join(str(row.error) for row in seen.values())
                assert case.get("says", "") in errors, errors
                assert len(peer.heard) <= case.get("requests", 100)

    async def observed(session: Any, peer: Any, points: list[Any]) -> None:
        """The values that notifications bring, in order."""
        values: list[Any] = []
        async with contextlib.aclosing(session.subscribe(points)) as batches:
            async for batch in batches:
                values += [r.value if r.error is None else str(r.error) for r in rows(batch)]
                if len(values) == 1:
                    registration = next(m for m in map(coap.decode, peer.heard) if m.code == coap.GET)
                    for words in case["notifications"]:
                        peer.send(written(words, registration))
                if len(values) == len(case["values"]):
                    break
        for value, expected in zip(values, case["values"], strict=True):
            assert value == expected or str(expected) in str(value), values

    contract.run(work())


def test_every_attack_of_the_list_has_its_folder() -> None:
    assert {int(folder.name[:2]) for folder in ALL} >= set(range(1, 21))
