"""The page in a real browser, on a real runtime and simulated Modbus devices."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from devicemesh.api.files import PAGE
from devicemesh.testing.broker import RealBroker, free_port

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="no browser tests: pip install 'devicemesh[browser]'"
)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no browser tests: apt install chromium")

EVIL = "<img src=x>"
MODEL = """
apiVersion: devicemesh.io/v1alpha1
kind: DeviceModel
metadata: {name: pump}
spec:
  properties:
  - name: speed
    type: float32
    unit: rpm
    access: ReadWrite
    minimum: 0
    maximum: 3000
    address: {modbus: {table: holding, offset: 100}}
    telemetry: {samplingInterval: 200ms}
    alarms: [{name: overspeed, above: 2800, severity: critical}]
    simulation: {signal: constant, value: 1450}
  - {name: uptime, type: uint32, unit: s, address: {modbus: {table: holding, offset: 120}},
     telemetry: {samplingInterval: 200ms}, simulation: {signal: counter, step: 1, period: 200ms}}
  - {name: running, type: bool, address: {modbus: {table: discrete, offset: 0}}, simulation: {value: true}}
  - {name: serial, type: int64, access: ReadWrite, address: {modbus: {table: holding, offset: 130}},
     simulation: {value: 9007199254740993}}
  - {name: note, type: string, address: {modbus: {table: holding, offset: 200, length: 8}}, simulation: {value: "<img src=x>"}}
  commands:
  - {name: stop, description: "Stops <b>now</b>", writes: [{property: speed, value: 0}]}
"""
DEVICE = """---
apiVersion: devicemesh.io/v1alpha1
kind: Device
metadata: {name: %s, labels: {line: %s}}
spec: {modelRef: {name: pump}, endpoint: {modbus: {host: 192.0.2.%d, timeout: 300ms}}}
"""
PUMPS = {f"pump-{n}": "a" if n < 4 else "b" for n in range(1, 7)}


class Site:
    """A folder of declarations, simulators, a broker, and a runtime on a port of its own."""

    def __init__(self, folder: Path, broker: RealBroker) -> None:
        self.folder, self.home, self.broker, self.port = folder, folder / "home", broker, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        devices = [DEVICE % (name, line, n) for n, (name, line) in enumerate(PUMPS.items(), 1)]
        odd = DEVICE.replace("{line: %s}", "{note: '<img src=y>'}") % ("odd", 9)
        (folder / "site.yaml").write_text(MODEL + "".join(devices) + odd)
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "devicemesh", "--home", str(self.home), *words]
        with (self.folder / f"{words[0]}.log").open("ab") as log:
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        return self.processes[-1]

    def run(self) -> subprocess.Popen[bytes]:
        """Start the runtime and wait until it has read the devices."""
        found = self.start(
            "run",
            "--simulated",
            "-f",
            str(self.folder),
            "--mqtt",
            self.broker.url,
            "--api-port",
            str(self.port),
        )
        until(lambda: self.ask("/readyz")["devices"]["Ready"] >= len(PUMPS))
        return found

    def ask(self, path: str) -> Any:
        """The answer; empty where there is none yet."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                return json.load(answer)
        except OSError:
            return {"devices": {"Ready": 0}}

    @contextmanager
    def fault(self, device: str, fault: str) -> Iterator[None]:
        """As long as it lasts."""
        command = [sys.executable, "-m", "devicemesh", "--home", str(self.home), "fault", device]
        subprocess.run([*command, fault], check=True, capture_output=True)
        try:
            yield
        finally:
            subprocess.run([*command, "heal"], check=True, capture_output=True)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        self.processes.remove(process)

    def close(self) -> None:
        for process in list(self.processes):
            self.kill(process)


def until(what: Callable[[], Any], seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with RealBroker() as broker:
        made = Site(tmp_path_factory.mktemp("site"), broker)
        try:
            made.start("sim", "-f", str(made.folder))
            until((made.home / "sim.json").exists)
            made.run()
            yield made
        finally:
            made.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []  # which root can't have
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield found
        found.close()


Open = Callable[..., AbstractContextManager[Any]]


@pytest.fixture
def opened(browser: Any) -> Open:
    """A page that complains of nothing and asks nobody else, in a browser that has no memory."""

    @contextmanager
    def page(url: str, *, allowed: str = "$^", **options: Any) -> Iterator[Any]:
        context = browser.new_context(**options)
        context.set_default_timeout(15_000)
        sync_api.expect.set_options(timeout=15_000)
        found, said, asked = context.new_page(), [], []
        found.on("console", lambda message: said.append(message.text))
        found.on("pageerror", lambda error: said.append(f"{error}"))
        found.on("request", lambda request: asked.append(request.url))
        found.goto(url)
        yield found
        host = url.partition("#")[0].rstrip("/") + "/"
        assert [one for one in said if not re.search(allowed, one)] == []
        assert [one for one in asked if not one.startswith(host)] == []
        assert asked
        context.close()

    return page


def row(page: Any, name: str) -> Any:
    return page.get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))


def prop(page: Any, name: str) -> Any:
    return page.locator(".twin tbody tr").filter(
        has=page.locator("td.name", has_text=re.compile(f"^{name}$"))
    )


def value(page: Any, name: str) -> str:
    return str(prop(page, name).locator(".reported .value").inner_text())


def test_the_list_is_live(site: Site, opened: Open) -> None:
    with opened(site.url) as page:
        expect = sync_api.expect
        expect(page.get_by_role("row")).to_have_count(len(PUMPS) + 2)  # and the titles
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


def test_a_filter_is_in_the_address_and_says_how_many(site: Site, opened: Open) -> None:
    with opened(site.url) as page:
        expect = sync_api.expect
        counted = page.get_by_role("status").filter(has_text=" of ")
        expect(counted).to_have_text("7 of 7")
        page.get_by_label("Search devices").fill("LINE=b")
        expect(counted).to_have_text("3 of 7")
        expect(row(page, "pump-1")).to_have_count(0)
        assert page.url.endswith("#/?q=LINE%3Db")
        page.reload()
        expect(counted).to_have_text("3 of 7")
        page.get_by_role("button", name="Not ready 0").click()
        expect(counted).to_have_text("0 of 7")
        expect(page.get_by_text("Nothing is like this")).to_be_visible()
        assert page.url.endswith("#/?q=LINE%3Db&ready=false")
        page.get_by_role("button", name="clear").click()
        expect(counted).to_have_text("7 of 7")
        assert page.url.endswith("#/")


def test_the_keyboard_is_enough(site: Site, opened: Open) -> None:
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


def test_a_write_is_asked_about_then_written_and_read_back(site: Site, opened: Open) -> None:
    with opened(f"{site.url}/#/device/default/pump-1") as page:
        expect = sync_api.expect
        expect(prop(page, "speed").locator(".value")).to_have_text("1450")
        prop(page, "speed").get_by_role("button", name="Write…").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("0 to 3000 rpm")
        field = dialog.get_by_label("New value in rpm")
        field.fill("3001")
        dialog.get_by_role("button", name="Write").click()
        expect(dialog.get_by_role("status")).to_have_text("speed: at most 3000 rpm")
        field.fill("2900.5")
        expect(dialog.locator(".change")).to_have_text("1450 rpm → 2900.5 rpm")
        dialog.get_by_role("button", name="Write 2900.5 rpm").click()
        expect(dialog.get_by_role("status")).to_contain_text("written, read back 2900.5 rpm")
        twin = site.ask("/api/v1/devices/default/pump-1")["properties"][0]
        assert (twin["reported"]["value"], twin["desired"]["state"]) == (2900.5, "applied")
        dialog.get_by_role("button", name="Close").click()
        expect(dialog).to_have_count(0)
        expect(prop(page, "speed").locator(".desired")).to_contain_text("2900.5 rpm")
        expect(page.locator("article .alarms")).to_contain_text("overspeed")
        page.get_by_role("link", name="Alarms").click()
        expect(page.get_by_role("row").filter(has_text="pump-1")).to_contain_text("2900.5 rpm")
        expect(page.locator("nav").get_by_label("1 active")).to_be_visible()

        page.goto(f"{site.url}/#/device/default/pump-1")
        prop(page, "speed").get_by_role("button", name="take back").click()
        dialog.get_by_role("button", name="Take back").click()
        expect(prop(page, "speed").locator(".desired")).to_contain_text("–")
        assert "desired" not in site.ask("/api/v1/devices/default/pump-1")["properties"][0]
        page.keyboard.press("Escape")
        page.get_by_role("button", name="stop…").click()
        expect(dialog).to_contain_text("Stops <b>now</b>")
        dialog.get_by_role("button", name="Run stop").click()
        expect(dialog.get_by_role("status")).to_have_text("done")
        expect(prop(page, "speed").locator(".value")).to_have_text("0")


def test_a_refusal_is_shown_with_its_reason(site: Site, opened: Open) -> None:
    with opened(f"{site.url}/#/device/default/pump-2") as page:
        dialog = page.get_by_role("dialog")
        told = dialog.get_by_role("status")
        with site.fault("pump-2", "exception=4"):
            prop(page, "speed").get_by_role("button", name="Write…").click()
            dialog.get_by_label("New value").fill("1000")
            dialog.get_by_role("button", name="Write").click()
            refused = re.compile("^refused: .*exception 4")
            sync_api.expect(told).to_have_text(refused)
            sync_api.expect(prop(page, "speed").locator(".outcome")).to_have_text(refused)
        dialog.get_by_role("button", name="Write 1000 rpm").click()  # the same once more is done once more
        sync_api.expect(told).to_contain_text("written, read back 1000 rpm")


def test_integers_keep_all_their_digits(site: Site, opened: Open) -> None:
    with opened(f"{site.url}/#/device/default/pump-3") as page:
        sync_api.expect(prop(page, "serial").locator(".value")).to_have_text("9007199254740993")
        prop(page, "serial").get_by_role("button", name="Write…").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("New value").fill("9007199254740995")
        dialog.get_by_role("button", name="Write 9007199254740995").click()
        sync_api.expect(dialog.get_by_role("status")).to_contain_text("read back 9007199254740995")
        wanted = site.ask("/api/v1/devices/default/pump-3")["properties"][3]["desired"]["value"]
        assert wanted == 9007199254740995


def test_a_dead_device_has_no_values_but_a_reason_and_a_gap_in_its_plot(site: Site, opened: Open) -> None:
    with opened(f"{site.url}/#/device/default/pump-4") as page:
        expect = sync_api.expect
        expect(page.get_by_role("img", name=re.compile("^speed, last 60 s: 1450 rpm"))).to_be_visible()
        with site.fault("pump-4", "unplug"):
            why = re.compile(r"Offline for \d+ s: no answer from .* next in")
            expect(page.locator(".sentence")).to_contain_text(why)
            for name in ("speed", "uptime", "running"):
                expect(prop(page, name).locator(".value")).to_have_text("–")
            expect(prop(page, "running").locator(".quality")).to_contain_text("○ Bad")
        expect(page.locator(".plot .line")).to_have_attribute("d", re.compile("M.*M"))


def test_a_dead_device_is_found_and_the_list_is_as_it_was_on_return(site: Site, opened: Open) -> None:
    with opened(f"{site.url}/#/?ready=false") as page:
        with site.fault("pump-5", "unplug"):
            link = row(page, "pump-5").get_by_role("link")
            sync_api.expect(row(page, "pump-5").locator(".values")).not_to_contain_text("1450")
            link.click()
            page.get_by_role("link", name="‹ Devices").click()
            assert page.url.endswith("#/?ready=false")
            sync_api.expect(link).to_be_visible()
        sync_api.expect(link).to_have_count(0)


def test_what_devices_say_stays_text(site: Site, opened: Open) -> None:
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


def test_a_runtime_that_is_gone_is_said_and_one_that_is_back_is_live_again(site: Site, opened: Open) -> None:
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
        expect(row(page, "pump-5").locator(".age")).to_contain_text(re.compile(r"\b[3-9] s"))
        site.run()
        expect(banner).to_be_hidden()
        expect(ticking).not_to_have_text(old)
        assert page.locator("body").get_attribute("data-same") == "yes"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_quality_and_age_are_beside_the_value(site: Site, opened: Open, scheme: str) -> None:
    phone = {"width": 360, "height": 780}
    with opened(f"{site.url}/#/device/default/pump-6", viewport=phone, color_scheme=scheme) as page:
        reported = prop(page, "speed").locator(".reported")
        sync_api.expect(reported).to_have_text(re.compile(r"1450\s*rpm\s*● \d s"))
        for place in ("#/", "#/links", "#/alarms", "#/system", "#/device/default/pump-6"):
            page.goto(f"{site.url}/{place}")
            page.wait_for_timeout(300)
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, place


def test_links_and_system_say_how_it_goes(site: Site, opened: Open) -> None:
    with opened(f"{site.url}/#/links") as page:
        expect = sync_api.expect
        expect(page.get_by_role("row")).to_have_count(len(PUMPS) + 2)
        expect(page.locator(".rate").nth(0)).to_contain_text(re.compile(r"[1-9]"))
        page.get_by_label("Search links").fill("nothing")
        expect(page.get_by_text("0 of 7")).to_be_visible()
        page.get_by_role("link", name="System").click()
        expect(page.locator("dl")).to_contain_text(re.compile(r"read = .* published \+ .* dropped"))
        expect(page.locator(".mappers")).to_contain_text("devicemesh-modbus")


def test_what_has_not_changed_is_not_sent_again(site: Site, opened: Open) -> None:
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


def test_a_page_of_another_site_reads_and_does_nothing(site: Site, browser: Any, foreign: str) -> None:
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
