"""Who is let in, and what a browser is told to keep to."""

import asyncio
import tomllib
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import pytest

from devicemesh.api.files import PAGE, TYPES
from devicemesh.api.loopback import loopback

Make = Callable[[], Any]
PLACE = "/api/v1/devices/default/pump-1/desired/speed"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_names_of_this_machine(host: str) -> None:
    assert loopback(host)


@pytest.mark.parametrize(
    "host", ["", "0.0.0.0", "10.0.0.1", "localhost.evil.example", "::", "127.0.0.1.nip.io"]
)
def test_names_of_others(host: str) -> None:
    assert not loopback(host)


def test_without_a_token_a_page_of_another_site_reads_and_writes_nothing(scene: Make) -> None:
    async def main() -> None:
        world = scene()
        await world.model({"name": "speed", "access": "ReadWrite"})
        await world.device("pump-1")
        async with world.running():
            await world.state("pump-1", "Ready")
            port = world.client.base_url.port
            for host in ("evil.example", f"evil.example:{port}", "10.0.0.1", "[", "localhost.evil.example"):
                for path in ("/", "/page/app.js", "/metrics", "/healthz", "/api/v1/devices"):
                    found = await world.client.get(path, headers={"host": host})
                    assert found.status_code == 403, (host, path)
                    assert "pump-1" not in found.text
            for host in ("localhost", f"localhost:{port}", f"[::1]:{port}", "127.0.0.2"):
                found = await world.client.get("/api/v1/devices", headers={"host": host})
                assert found.status_code == 200, host
            here = f"http://127.0.0.1:{port}"
            for origin in ("http://evil.example", "null", f"{here}0", f"https://127.0.0.1:{port}",
                           "http://127.0.0.1", f"http://localhost:{port}"):  # fmt: skip
                for method, path in (
                    ("PUT", PLACE),
                    ("DELETE", PLACE),
                    ("POST", "/api/v1/devices/default/pump-1/commands/x"),
                ):
                    found = await world.client.request(method, path, json=1, headers={"origin": origin})
                    assert (found.status_code, found.json()) == (
                        403, {"error": "a page of another site may not write"},
                    )  # fmt: skip
            assert world.mapper.written == []
            own = await world.client.put(PLACE, json=1, headers={"origin": here})
            assert own.status_code == 202
            asked = await world.client.get("/api/v1/devices", headers={"origin": "http://evil.example"})
            assert not [name for name in asked.headers if name.startswith("access-control")]
            preflight = await world.client.options(PLACE, headers={"origin": "http://evil.example"})
            assert preflight.status_code == 403

    asyncio.run(main())


def test_with_a_token_the_page_is_open_and_what_it_shows_is_not(scene: Make) -> None:
    async def main() -> None:
        world = scene()
        await world.model({"name": "speed", "access": "ReadWrite"})
        await world.device("pump-1")
        async with world.running(token="open sesame"):
            await world.state("pump-1", "Ready")
            told = {"host": "gateway.example", "origin": "https://gateway.example"}
            assert (await world.client.put(PLACE, json=1, headers=told)).status_code == 202
            del world.client.headers["authorization"]
            for path in ("/", "/page/app.js", "/page/style.css", "/healthz"):
                found = await world.client.get(path, headers=told)
                assert (found.status_code, "pump-1" in found.text) == (200, False)
            paths = ("devices", "devices?q=p", "devices/default/pump-1", "models/default/pump", "links",
                     "alarms", "samples", "runtime", "none", "../../page/app.js")  # fmt: skip
            for given in ({}, {"authorization": "Bearer wrong"}, {"authorization": "open sesame"}):
                for path in paths[:-1]:
                    found = await world.client.get(f"/api/v1/{path}", headers=given)
                    assert found.status_code == 401, path
                    assert found.headers["www-authenticate"] == "Bearer"
                assert (await world.client.put(PLACE, json=2, headers=given)).status_code == 401
                assert (await world.client.get("/metrics", headers=given)).status_code == 401
                assert (await world.client.get("/page/../metrics", headers=given)).status_code == 401

    asyncio.run(main())


def test_the_page_is_in_the_wheel() -> None:
    with (Path(__file__).parent.parent.parent / "pyproject.toml").open("rb") as file:
        patterns = tomllib.load(file)["tool"]["setuptools"]["package-data"]["devicemesh"]
    assert {one.suffix for one in PAGE.iterdir()} == TYPES.keys()
    for one in PAGE.iterdir():
        inside = PurePath(one).relative_to(PAGE.parent.parent)
        assert any(inside.match(pattern) for pattern in patterns), one
        assert len(one.read_text("utf-8").splitlines()) <= 400, one


def test_every_answer_tells_the_browser_what_it_may(scene: Make) -> None:
    async def main() -> None:
        world = scene()
        async with world.running():
            for path in ("/", "/page/app.js", "/page/none.js", "/api/v1/devices", "/api/v1/none", "/metrics"):
                headers = (await world.client.get(path)).headers
                policy = headers["content-security-policy"]
                assert policy.startswith("default-src 'self';"), path
                assert "unsafe" not in policy
                assert "frame-ancestors 'none'" in policy
                assert headers["x-content-type-options"] == "nosniff"
                assert headers["cache-control"] in ("no-cache", "no-store")
            html = (await world.client.get("/")).text
            assert "style=" not in html
            assert "<style" not in html
            assert "onclick" not in html
            for path in ("/page/..%2ffiles.py", "/page/../files.py", "/page/%2e%2e/files.py", "/page/"):
                assert (await world.client.get(path)).status_code == 404, path

    asyncio.run(main())
