"""Discovery against aiocoap's server, its Resource Directory, and a multicast on the loopback interface."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cbor2
import pytest
import yaml
from devicemesh_coap import links
from devicemesh_coap.discover import discover
from devicemesh_coap.mapper import CoapMapper
from devicemesh_coap.message import CONTENT, NON, Message, Option, decode, encode, ordered
from devicemesh_coap.model import CoapAddress, CoapEndpoint
from devicemesh_coap.session import open_session

from devicemesh.mapper import Found
from devicemesh.spec.base import Protocol
from devicemesh.spec.manifest import load
from devicemesh.testing.contract import poll


async def all_of(uri: str) -> list[Found]:
    return [found async for found in discover(uri)]


def properties(manifest: str) -> dict[str, dict[str, Any]]:
    """What would be applied: the properties by name; it must have no mistake."""
    found = load({"found.yaml": manifest}, {"coap": Protocol(CoapEndpoint, CoapAddress)}, lambda *_: None)
    assert found.problems == []
    assert [r.kind for r in found.resources] == ["DeviceModel", "Device"]
    return {p["name"]: p for p in found.resources[0].body["spec"]["properties"]}


def test_link_format_as_in_rfc_6690() -> None:
    text = (
        '</sensors>;ct=40;title="Sensor, Index",</sensors/temp>;rt="temperature-c a\\"b";if="sensor";obs,'
        '<http://www.example.com/sensors/t123>;anchor="/sensors/temp";rel="describedby" , </t>'
    )
    found = links.parse(text)
    assert [link.target for link in found] == [
        "/sensors", "/sensors/temp", "http://www.example.com/sensors/t123", "/t",
    ]  # fmt: skip
    assert found[0].about == {"ct": "40", "title": "Sensor, Index"} and found[0].formats == (40,)
    assert found[1].observable and found[1].about["rt"] == 'temperature-c a"b'
    assert links.parse("") == []
    for wrong in ("x", "<a", "</a>;;", '</a>;t="', "</a> </b>"):
        with pytest.raises(ValueError, match="malformed link format"):
            links.parse(wrong)


def test_a_device_is_described_and_its_yaml_reads_it(
    serve_plant: Any, point: Any, run: Callable[[Any], None]
) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("/temp", b"21.5")
            await plant.add("/name", b"kitchen")
            await plant.add("/air", b'{"co2": 400, "door": true, "n": {"a/b": "x"}, "list": [1]}', 50)
            await plant.add("/state", cbor2.dumps({"level": 0.5}), 60)
            await plant.add("/raw", b"\x01", 42)
            await plant.add("/3303/0", b'[{"bn":"/3303/0/","n":"5700","v":20.5},{"n":"5601","v":1}]', 110)
            await plant.add("/3342/0/5850", b"1")
            await plant.add("/broken", b"{", 50)
            (found,) = await all_of(plant.endpoint().uri)
            assert found.identity == {"types": "test"}
            shown = dict(found.points)
            assert shown["/temp"] == "float64  21.5" and shown["/air#/n/a~1b"] == 'string  "x"'
            assert shown["/broken"].startswith("? malformed JSON")
            made = properties(found.manifest)
            assert {name: p["type"] for name, p in made.items()} == {
                "temp": "float64", "name": "string", "co2": "float64", "door": "bool", "a-b": "string",
                "list": "json", "level": "float64", "raw": "bytes", "temperature-0": "float64",
                "temperature-0.low": "float64", "switch-0.on": "float64",
            }  # fmt: skip
            assert made["temperature-0"]["unit"] == "Cel" and made["switch-0.on"]["access"] == "ReadWrite"
            endpoint = CoapEndpoint(uri=found.uri)
            points = [
                point(i, endpoint, p["type"], p["address"]["coap"]) for i, p in enumerate(made.values())
            ]
            async with open_session(endpoint) as session:
                seen = await poll(session, points)
                assert all(row.error is None for row in seen.values()), seen

    run(work())


def test_a_directory_lists_its_devices(serve_plant: Any, run: Callable[[Any], None]) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("/temp", b"21.5")
            port = await plant.directory()
            found: list[Found] = []
            async with asyncio.timeout(10):
                while len(found) < 2:  # until it has registered
                    found = await all_of(f"coap://127.0.0.1:{port}")
            assert found[1].uri == f"coap://127.0.0.1:{plant.port}"
            assert "temp" in properties(found[1].manifest)

    run(work())


def test_who_hears_a_multicast_is_found_and_a_storm_is_bounded(
    serve_plant: Any, run: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = yaml.safe_load((Path(__file__).parent / "cases/15-multicast-storm/case.yaml").read_text())["storm"]

    async def work() -> None:
        loop = asyncio.get_running_loop()
        async with serve_plant() as plant:
            await plant.add("/temp", b"21.5")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as group:
                group.setblocking(False)
                group.bind(("224.0.1.187", 0))
                index = socket.if_nametoindex("lo").to_bytes(4, "little")
                mreqn = socket.inet_aton("224.0.1.187") + bytes(4) + index
                try:
                    group.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, mreqn)
                except OSError as error:
                    pytest.skip(f"no multicast on lo: {error}")
                port = group.getsockname()[1]
                strangers = [
                    socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(case["strangers"])
                ]

                async def storm() -> None:
                    data, source = await loop.sock_recvfrom(group, 2048)
                    asked = decode(data)
                    assert (asked.type, asked.all(Option.URI_PATH)) == (NON, [b".well-known", b"core"])
                    answer = encode(Message(CONTENT, ordered([]), b"</x>", asked.token, 1, NON))
                    for stranger in strangers:
                        for junk in (
                            b"\x00",
                            encode(Message(CONTENT, (), b"</x>", b"other", 1, NON)),
                            answer,
                        ):
                            stranger.sendto(junk, source)

                task = asyncio.create_task(storm())
                monkeypatch.setattr("devicemesh_coap.discover.MOST_DEVICES", case["most"])
                uri = f"coap://224.0.1.187:{port}?interface=lo&timeout=1s&ackTimeout=100ms&retransmissions=0"
                found = await all_of(uri)
                await task
                for stranger in strangers:
                    stranger.close()
        assert 1 <= len(found) <= case["most"]
        assert all("problem" in one.identity for one in found), "they answer nothing else"

    run(work())


def test_nobody_there_says_so(run: Callable[[Any], None]) -> None:
    async def work() -> None:
        from devicemesh.mapper import ConfigError, LinkError

        with pytest.raises(LinkError):
            await all_of("coap://127.0.0.1:9")
        with pytest.raises(ConfigError):
            await anext(CoapMapper().discover("coap://?"))

    run(work())
