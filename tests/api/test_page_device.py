"""The page of one device in a real browser, on a real runtime and simulated Modbus devices."""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="no browser tests: pip install 'devicemesh[browser]'"
)
Open = Callable[..., AbstractContextManager[Any]]


def prop(page: Any, name: str) -> Any:
    return page.locator(".twin tbody tr").filter(
        has=page.locator("td.name", has_text=re.compile(f"^{name}$"))
    )


def test_a_write_is_asked_about_then_written_and_read_back(site: Any, opened: Open) -> None:
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


def test_a_refusal_is_shown_with_its_reason(site: Any, opened: Open) -> None:
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
        sync_api.expect(prop(page, "speed").locator(".value")).not_to_have_text("–")  # it answers again
        dialog.get_by_role("button", name="Write 1000 rpm").click()  # the same once more is done once more
        sync_api.expect(told).to_contain_text("written, read back 1000 rpm")


def test_integers_keep_all_their_digits(site: Any, opened: Open) -> None:
    with opened(f"{site.url}/#/device/default/pump-3") as page:
        sync_api.expect(prop(page, "serial").locator(".value")).to_have_text("9007199254740993")
        prop(page, "serial").get_by_role("button", name="Write…").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("New value").fill("9007199254740995")
        dialog.get_by_role("button", name="Write 9007199254740995").click()
        sync_api.expect(dialog.get_by_role("status")).to_contain_text("read back 9007199254740995")
        wanted = site.ask("/api/v1/devices/default/pump-3")["properties"][3]["desired"]["value"]
        assert wanted == 9007199254740995


def test_a_dead_device_has_no_values_but_a_reason_and_a_gap_in_its_plot(site: Any, opened: Open) -> None:
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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_quality_and_age_are_beside_the_value(site: Any, opened: Open, scheme: str) -> None:
    phone = {"width": 360, "height": 780}
    with opened(f"{site.url}/#/device/default/pump-6", viewport=phone, color_scheme=scheme) as page:
        reported = prop(page, "speed").locator(".reported")
        sync_api.expect(reported).to_have_text(re.compile(r"1450\s*rpm\s*● \d s"))
        for place in ("#/", "#/links", "#/alarms", "#/system", "#/device/default/pump-6"):
            page.goto(f"{site.url}/{place}")
            page.wait_for_timeout(300)
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, place
