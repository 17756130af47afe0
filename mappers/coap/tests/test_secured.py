"""OSCORE, coap+tcp and what DTLS says where it is not installed, against aiocoap's server."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from devicemesh_coap.mapper import CoapMapper
from devicemesh_coap.message import Message, Option
from devicemesh_coap.model import CoapEndpoint
from devicemesh_coap.oscore import OscoreChannel, folder
from devicemesh_coap.session import open_session

from devicemesh.mapper import AuthError, ConfigError, LinkError, SecretRef, Write
from devicemesh.testing.contract import poll

SECRET = "0102030405060708090a0b0c0d0e0f10"
SALT = "9e7ca92223786340"
KEYS = {"senderId": "02", "recipientId": "01", "secret": {"name": "k", "key": "secret"},
        "salt": {"name": "k", "key": "salt"}}  # fmt: skip


def secrets(ref: SecretRef) -> str:
    return {"secret": SECRET, "salt": SALT, "wrong": "ff" * 16, "word": "not hex"}[ref.key]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEVICEMESH_HOME", str(tmp_path / "home"))
    return tmp_path


async def secured(plant: Any, home: Path) -> CoapEndpoint:
    place = home / "server"
    place.mkdir(exist_ok=True)
    held = {"sender-id_hex": "01", "recipient-id_hex": "02", "secret_hex": SECRET, "salt_hex": SALT}
    (place / "settings.json").write_text(json.dumps(held))
    await plant.secure(str(place))
    endpoint: CoapEndpoint = plant.endpoint(oscore=KEYS)
    return endpoint


def test_oscore_reads_writes_and_observes(
    serve_plant: Any, point: Any, run: Callable[[Any], None], home: Path
) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("/a", b"1.5")
            await plant.add("/big", b"x" * 3000)
            endpoint = await secured(plant, home)
            a, big = point(0, endpoint, "float64", "/a"), point(1, endpoint, "string", "/big")
            async with open_session(endpoint, secrets) as session:
                assert isinstance(session.channel, OscoreChannel)
                seen = await poll(session, [a, big])
                assert (seen[0].value, seen[1].value) == (1.5, "x" * 3000)
                (outcome,) = await session.write([Write(a, 2.5)])
                assert (outcome.value, outcome.error) == (2.5, None)
                async with contextlib.aclosing(session.subscribe([a])) as batches:
                    values = [(await anext(batches)).value[0]]
                    for number in (3.5, 4.5, 5.5):
                        await plant.set("/a", str(number).encode())
                        values.append((await anext(batches)).value[0])
                assert values == [2.5, 3.5, 4.5, 5.5]

    run(work())


def test_sequence_numbers_survive_a_crash(
    serve_plant: Any, point: Any, run: Callable[[Any], None], home: Path
) -> None:
    """A number that is used twice gives the key away: what is in the file is always ahead."""

    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("/a", b"1")
            endpoint = await secured(plant, home)
            file = folder(endpoint.oscore, bytes.fromhex(SECRET)) / "sequence.json"
            async with open_session(endpoint, secrets) as session:
                for _ in range(25):
                    await poll(session, [point(0, endpoint, "float64", "/a")])
                    used = session.channel._context.sender_sequence_number  # type: ignore[attr-defined]
                    assert json.loads(file.read_text())["next-to-send"] >= used
                crashed = file.read_text()
            file.write_text(crashed)  # as it is after a kill, without the tidy end
            async with open_session(endpoint, secrets) as session:
                assert session.channel._context.sender_sequence_number >= used  # type: ignore[attr-defined]
            assert SECRET not in "".join(p.read_text() for p in file.parent.iterdir())

    run(work())


def test_oscore_mistakes_say_what_to_do(
    serve_plant: Any, point: Any, run: Callable[[Any], None], home: Path
) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("/a", b"1")
            endpoint = await secured(plant, home)
            for key, problem in (("wrong", AuthError), ("word", ConfigError)):
                wrong = plant.endpoint(oscore={**KEYS, "secret": {"name": "k", "key": key}})
                with pytest.raises(problem):
                    async with open_session(wrong, secrets):
                        pytest.fail("opened with the wrong key")
            async with open_session(endpoint, secrets):
                with pytest.raises(ConfigError, match="another link uses these OSCORE keys"):
                    async with open_session(endpoint, secrets):
                        pytest.fail("one key on two links")

    run(work())


def test_damaged_sequence_numbers_are_not_guessed(
    serve_plant: Any, run: Callable[[Any], None], home: Path
) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            endpoint = await secured(plant, home)
            async with open_session(endpoint, secrets):
                pass
            file = folder(endpoint.oscore, bytes.fromhex(SECRET)) / "sequence.json"
            kept = file.read_text()
            for damage in ("", "[]", "{}", '{"next-to-send": "x"}'):
                file.write_text(damage)
                with pytest.raises(ConfigError, match="is damaged: agree on new keys"):
                    async with open_session(endpoint, secrets):
                        pytest.fail("opened")
            file.write_text(kept)
            async with open_session(endpoint, secrets):
                pass

    run(work())


CASES = sorted((Path(__file__).parent / "cases").glob("20-*"))


def wronged(case: dict[str, Any], answer: Message, before: Message) -> Message:
    """An answer as a case has it."""
    option = bytes.fromhex(case.get("option", answer.option(Option.OSCORE).hex()))
    payload = case["payload"].encode() if "payload" in case else answer.payload
    if "flip" in case:
        at = case["flip"]
        payload = payload[:at] + bytes((payload[at] ^ 1,)) + payload[at + 1 :]
    if case.get("replay"):
        return before
    plain = tuple(one for one in answer.options if one[0] != Option.OSCORE)
    if case.get("without"):
        return Message(answer.code, plain, payload)
    return Message(answer.code, (*plain, (int(Option.OSCORE), option)), payload)


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.name)
def test_what_is_not_protected_is_not_believed(
    serve_plant: Any, point: Any, run: Callable[[Any], None], home: Path, path: Path
) -> None:
    case = yaml.safe_load((path / "case.yaml").read_text())

    async def work() -> None:
        async with serve_plant() as plant:
            for name in ("/a", "/b", "/c"):
                await plant.add(name, b"1")
            endpoint = await secured(plant, home)
            points = [point(i, endpoint, "float64", name) for i, name in enumerate(("/a", "/b", "/c"))]
            async with open_session(endpoint, secrets) as session:
                inner = session.channel._inner  # type: ignore[attr-defined]
                honest, seen = inner.request, []

                async def request(message: Message) -> Message:
                    seen.append(await honest(message))
                    return wronged(case["oscore"], seen[1], seen[0]) if len(seen) == 2 else seen[-1]

                inner.request = request
                read = await poll(session, points)
                assert [read[i].value for i in (0, 2)] == [1.0, 1.0], "its neighbours"
                assert read[1].error is not None
                assert case["says"] in str(read[1].error)
                assert (await poll(session, points))[1].value == 1.0, "once is not for ever"

    run(work())


def test_tcp_reads_writes_observes_and_notices_the_end(
    serve_plant: Any, point: Any, run: Callable[[Any], None]
) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("/a", b"1.5")
            await plant.add("/big", b"y" * 5000)
            endpoint = plant.endpoint(scheme="coap+tcp", keep_alive="500ms")
            a, big = point(0, endpoint, "float64", "/a"), point(1, endpoint, "string", "/big")
            with pytest.raises(LinkError):
                async with CoapMapper().open(endpoint) as session:
                    seen = await poll(session, [a, big])
                    assert (seen[0].value, seen[1].value) == (1.5, "y" * 5000)
                    (outcome,) = await session.write([Write(big, "z" * 4000)])  # type: ignore[attr-defined]
                    assert outcome.value == "z" * 4000
                    async with contextlib.aclosing(session.subscribe([a])) as batches:  # type: ignore[attr-defined]
                        assert (await anext(batches)).value[0] == 1.5
                        await plant.set("/a", b"9")
                        assert (await anext(batches)).value[0] == 9
                        await plant.stop()
                        async for _ in batches:
                            pass
            with pytest.raises(LinkError, match=endpoint.link().replace("+", r"\+")):
                async with CoapMapper().open(endpoint):
                    pytest.fail("opened a session to nobody")
            await asyncio.sleep(0)

    run(work())


@pytest.mark.skipif(importlib.util.find_spec("DTLSSocket") is not None, reason="DTLS is installed here")
def test_dtls_says_how_to_install_it(run: Callable[[Any], None]) -> None:
    async def work() -> None:
        key = {"identity": "me", "key": {"name": "k", "key": "secret"}}
        endpoint = CoapEndpoint.model_validate({"uri": "coaps://127.0.0.1", "dtls": key})
        with pytest.raises(ConfigError, match=r"devicemesh-coap\[dtls\]"):
            async with CoapMapper().open(endpoint, secrets):
                pytest.fail("opened")

    run(work())
