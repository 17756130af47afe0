"""The page in a real browser: its lists, and whom it trusts."""

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from devicemesh.api.files import PAGE

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="no browser tests: pip install 'devicemesh[browser]'"
)
Open = Callable[..., AbstractContextManager[Any]]
EVIL = "<img src=x>"


def row(page: Any, name: str) -> Any:
    return page.get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))


def prop(page: Any, name: str) -> Any:
    return page.locator(".twin tbody tr").filter(
        has=page.locator("td.name", has_text=re.compile(f"^{name}$"))
    )


def at(page: Any, fragment: str) -> None:
    """Wait until the address is so: a click is over before it is."""
    sync_api.expect(page).to_have_url(re.compile(f"{re.escape(fragment)}$"))


def test_the_list_is_live(site: Any, opened: Open) -> None:
    with opened(site.url) as page:
        expect = sync_api.expect
        expect(page.get_by_role("row")).to_have_count(8)  # seven, and the titles
        first = row(page, "pump-2")
        expect(first.locator(".state")).to_contain_text("Ready")
        expect(first.get_by_role("cell").nth(2)).to_contain_text("1450")
        expect(first.get_by_role("cell").nth(2)).to_contain_text("rpm")
        expect(first.get_by_label("Good").first).to_have_text("●")
        expect(first.locator(".age")).to_contain_text(re.compile(r"\b[012] s"))
        ticking = first.locator("li", has_text="uptime").locator(".value")
        before = ticking.inner_text()
        expect(ticking).not_to_have_text(before)
        expect(page.locator("#live")).to_have_text("live")
        scripts = page.evaluate(
            "performance.getEntriesByType('resource').map((one) => new URL(one.name).pathname)"
        )
        assert {f"/page/{one.name}" for one in PAGE.iterdir()} - {"/page/index.html"} <= set(scripts) | {
            "/page/icon.svg"
        }


def test_a_filter_is_in_the_address_and_says_how_many(site: Any, opened: Open) -> None:
    with opened(site.url) as page:
        expect = sync_api.expect
        counted = page.get_by_role("status").filter(has_text=" of ")
        expect(counted).to_have_text("7 of 7")
        page.get_by_label("Search devices").fill("LINE=b")
        expect(counted).to_have_text("3 of 7")
        expect(row(page, "pump-1")).to_have_count(0)
        at(page, "#/?q=LINE%3Db")
        page.reload()
        expect(counted).to_have_text("3 of 7")
        page.get_by_role("button", name="Not ready 0").click()
        expect(counted).to_have_text("0 of 7")
        expect(page.get_by_text("Nothing is like this")).to_be_visible()
        at(page, "#/?q=LINE%3Db&ready=false")
        page.get_by_role("button", name="clear").click()
        expect(counted).to_have_text("7 of 7")
        at(page, "#/")


def test_the_keyboard_is_enough(site: Any, opened: Open) -> None:
    with opened(site.url) as page:
        sync_api.expect(row(page, "pump-1")).to_be_visible()
        page.keyboard.press("/")
        page.keyboard.type("pump-")
        sync_api.expect(row(page, "odd")).to_have_count(0)
        page.get_by_label("Search devices").blur()
        for key in "jjk":
            page.keyboard.press(key)
        sync_api.expect(page.get_by_role("link", name="pump-1", exact=True)).to_be_focused()
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        sync_api.expect(page.get_by_role("heading", name="pump-2")).to_be_visible()


def test_a_dead_device_is_found_and_the_list_is_as_it_was_on_return(site: Any, opened: Open) -> None:
    with opened(f"{site.url}/#/?ready=false") as page:
        with site.fault("pump-5", "unplug"):
            link = row(page, "pump-5").get_by_role("link")
            sync_api.expect(row(page, "pump-5").locator(".values")).not_to_contain_text("1450")
            link.click()
            page.get_by_role("link", name="‹ Devices").click()
            at(page, "#/?ready=false")
            sync_api.expect(link).to_be_visible()
        sync_api.expect(link).to_have_count(0)


def test_what_devices_say_stays_text(site: Any, opened: Open) -> None:
    with opened(site.url, allowed="TrustedHTML|status of 404") as page:
        sync_api.expect(row(page, "odd")).to_contain_text("note=<img src=y>")
        page.goto(f"{site.url}/#/device/default/odd")
        sync_api.expect(prop(page, "note").locator(".value")).to_have_text(EVIL)
        sync_api.expect(page.get_by_text("note=<img src=y>")).to_be_visible()
        assert page.locator("img").count() == 0
        with pytest.raises(sync_api.Error, match="TrustedHTML"):
            page.evaluate("document.body.innerHTML = '<img src=x>'")
        page.goto(f"{site.url}/#/device/default/%3Cimg%20src=x%3E")  # which is not there
        sync_api.expect(page.get_by_role("heading", name=EVIL)).to_be_visible()
        sync_api.expect(page.get_by_text("no device default/<img src=x> runs here")).to_be_visible()
        page.goto(f"{site.url}/#/device/%/%E0%A4%A")  # which is no address
        sync_api.expect(page.get_by_role("heading", name="%E0%A4%A")).to_be_visible()
        for nowhere in ("constructor", "device", "device/x", "none/at/all"):
            page.goto(f"{site.url}/#/{nowhere}")
            sync_api.expect(row(page, "pump-1")).to_be_visible()


def test_a_runtime_that_is_gone_is_said_and_one_that_is_back_is_live_again(site: Any, opened: Open) -> None:
    with opened(site.url, allowed="ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE") as page:
        expect, banner = sync_api.expect, page.get_by_role("alert")
        ticking = row(page, "pump-5").locator("li", has_text="uptime").locator(".value")
        expect(ticking).to_have_text(re.compile(r"\d"))
        expect(banner).to_be_hidden()
        page.evaluate("document.body.dataset.same = 'yes'")
        site.kill(site.processes[-1])
        expect(banner).to_have_text("connection lost: values below are old")
        assert (
            page.evaluate("(node) => getComputedStyle(node).textDecorationLine", ticking.element_handle())
            == "line-through"
        )
        old = ticking.inner_text()
        expect(row(page, "pump-5").locator(".age")).to_contain_text(re.compile(r"\b([3-9]|[1-5]\d) s"))
        site.run()
        expect(banner).to_be_hidden()
        expect(ticking).not_to_have_text(old)
        assert page.locator("body").get_attribute("data-same") == "yes"


def test_links_and_system_say_how_it_goes(site: Any, opened: Open) -> None:
    with opened(f"{site.url}/#/links") as page:
        expect = sync_api.expect
        expect(page.get_by_role("row")).to_have_count(8)
        expect(page.locator(".rate").nth(0)).to_contain_text(re.compile(r"[1-9]"))
        page.get_by_label("Search links").fill("nothing")
        expect(page.get_by_text("0 of 7")).to_be_visible()
        page.get_by_role("link", name="System").click()
        expect(page.locator("dl")).to_contain_text(re.compile(r"read = .* published \+ .* dropped"))
        expect(page.locator(".mappers")).to_contain_text("devicemesh-modbus")


def test_what_has_not_changed_is_not_sent_again(site: Any, opened: Open) -> None:
    with opened(f"{site.url}/#/alarms") as page:
        for _ in range(2):
            with page.expect_response(lambda answer: answer.status == 304):
                pass
        sync_api.expect(page.locator("#live")).to_have_text("live")
        sync_api.expect(page.get_by_role("alert")).to_be_hidden()
        sync_api.expect(page.get_by_text("No alarm is active.")).to_be_visible()


@pytest.fixture
def foreign() -> Iterator[str]:
    """A page of somebody else."""

    class Empty(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Empty) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join(10)


def test_a_page_of_another_site_reads_and_does_nothing(site: Any, browser: Any, foreign: str) -> None:
    attempts = """async ([device]) => {
        const json = { "content-type": "application/json" };
        const ways = [
            [device, {}],
            [`${device}/desired/speed`, { method: "PUT", headers: json, body: "0" }],
            [`${device}/desired/speed`, { method: "DELETE" }],
            [`${device}/commands/stop`, { method: "POST", headers: json, body: "{}" }],
            [`${device}/commands/stop`, { method: "POST", mode: "no-cors", body: "{}" }],
            [device, { mode: "no-cors" }],
        ];
        const told = [];
        for (const [url, options] of ways) {
            try { told.push(await (await fetch(url, options)).text()); } catch (error) { told.push(error.name); }
        }
        return told;
    }"""
    device = "/api/v1/devices/default/pump-6"
    before = site.ask(device)["properties"]
    page = browser.new_page()
    page.goto(foreign)
    told = page.evaluate(attempts, [site.url + device])
    page.close()
    assert told == ["TypeError"] * 6
    after = site.ask(device)["properties"]
    assert [(one["name"], one.get("desired")) for one in after] == [(one["name"], None) for one in before]
    assert after[0]["reported"]["value"] == 1450


Do = Callable[[Callable[[Any], Any]], None]


@contextmanager
def in_a_thread(scene: Callable[[], Any], token: str | None = None) -> Iterator[tuple[str, Do]]:
    """A runtime on fakes; yields its address, and what has something done with its scene."""
    loop, up, worlds = asyncio.new_event_loop(), threading.Event(), []
    over = asyncio.Event()

    async def main() -> None:
        world = scene()
        await world.model({"name": "speed", "unit": "rpm"})
        await world.device("pump-1")
        async with world.running(token=token):
            worlds.append(world)
            up.set()
            await over.wait()

    def do(what: Callable[[Any], Any]) -> None:
        asyncio.run_coroutine_threadsafe(what(worlds[0]), loop).result(20)

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    try:
        assert up.wait(20)
        yield str(worlds[0].client.base_url), do
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(20)
        loop.close()


def test_a_value_that_is_old_is_struck_through(opened: Open, scene: Callable[[], Any]) -> None:
    struck = "(node) => getComputedStyle(node).textDecorationLine"
    with in_a_thread(scene) as (url, do), opened(url) as page:
        shown = row(page, "pump-1").locator(".value")
        sync_api.expect(shown).to_have_text("0")
        assert page.evaluate(struck, shown.element_handle()) == "none"
        do(lambda world: world.device("pump-1", paused=True))
        sync_api.expect(row(page, "pump-1").locator(".value.stale")).to_have_text("0")
        assert page.evaluate(struck, shown.element_handle()) == "line-through"
        page.goto(f"{url}/#/device/default/pump-1")
        sync_api.expect(prop(page, "speed").locator(".quality")).to_have_text("● Good, stale")
        sync_api.expect(page.locator(".sentence")).to_contain_text("paused in its declaration")


def test_a_token_is_asked_for_once(opened: Open, scene: Callable[[], Any]) -> None:
    with in_a_thread(scene, "open sesame") as (url, _), opened(url, allowed="status of 401") as page:
        expect = sync_api.expect
        expect(page.get_by_role("heading", name="This runtime asks for a token")).to_be_visible()
        assert "pump-1" not in page.content()
        page.get_by_label("Token").fill("wrong")
        page.get_by_role("button", name="Go on").click()
        expect(page.get_by_text("That one was not right.")).to_be_visible()
        page.get_by_label("Token").fill("open sesame")
        page.get_by_role("button", name="Go on").click()
        expect(row(page, "pump-1")).to_be_visible()
        page.reload()
        expect(row(page, "pump-1")).to_be_visible()
        assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
