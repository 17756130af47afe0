"""The factory, end to end: simulators, a real broker, the runtime as a process."""

import json
import signal
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

Wait = Callable[..., Any]
PUMP = "default/pump-1"


def scrape(site: Any) -> dict[str, float]:
    """The metrics, as {name{labels}: value}."""
    url = site.log().rsplit("http ", 1)[1].split()[0]
    with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")
    }


def test_the_factory_from_wire_to_broker(
    site: Any, listener: Any, wait: Wait, gapless: Callable[[list[Any]], int]
) -> None:
    site.simulate()
    run = site.run()
    wait(site.all_ready)
    wait(lambda: len(listener.telemetry()) == 6)
    assert wait(lambda: listener.of(f"{PUMP}/twin/reported"))[-1]["speed"]["unit"] == "rpm"
    assert listener.of(f"{PUMP}/status")[-1]["state"] == "Ready"
    assert listener.of("_runtime/main/status")[-1]["state"] == "online"
    window = wait(lambda: [w for m in listener.telemetry()["pump-1"] for w in m.get("windows", ())])
    assert {"name", "start", "end", "count", "mean", "min", "max"} <= window[0].keys()

    listed = json.loads(site.dm("get", "devices", "-o", "json").stdout)
    ready = {one["metadata"]["name"]: one["status"]["conditions"][0]["status"] for one in listed}
    assert ready == dict.fromkeys(listener.telemetry(), "True")
    shown = json.loads(site.dm("get", "device", "pump-1", "-o", "json").stdout)
    assert shown.keys() == site.device("pump-1").keys()
    assert shown["spec"] == site.device("pump-1")["spec"]
    described = site.dm("describe", "oven-1").stdout
    assert "automatic" in described
    assert "● Good" in described
    assert site.dm("trace", "pump-1", "pressure").stdout.startswith("→ 04 00 0a 00 01")

    found = scrape(site)
    read, published = found["devicemesh_samples_read_total"], found["devicemesh_samples_published_total"]
    dropped = sum(v for n, v in found.items() if n.startswith("devicemesh_samples_dropped_total"))
    rest = found["devicemesh_samples_pending"] + found["devicemesh_samples_spooled"]
    assert read == published + dropped + rest > 100
    assert found['devicemesh_devices{state="Ready"}'] == 6

    assert site.stop(run) == 0
    wait(lambda: listener.of("_runtime/main/status")[-1]["state"] == "offline")
    for device, messages in listener.telemetry().items():
        assert gapless(messages) == len(messages), device
    assert "Traceback" not in site.log()


def test_set_wait_and_mqtt_end_in_a_register(site: Any, listener: Any, wait: Wait) -> None:
    site.simulate()
    site.run()
    wait(site.all_ready)
    done = site.dm("set", "pump-1", "speed=1200", "--wait")
    assert (done.returncode, "read back 1200 rpm" in done.stdout) == (0, True), done
    address = json.loads((site.home / "sim.json").read_text())["addresses"]["192.0.2.5:502"]
    assert "1200" in site.dm("read", f"modbus://{address}/1", "holding:100", "--as", "float32").stdout
    assert site.condition("pump-1", "DesiredApplied")["reason"] == "Applied"

    between = site.dm("set", "oven-1", "setpoint=200.04", "--wait")  # the register has steps of 0.1
    assert (between.returncode, "read back 200 " in between.stdout) == (0, True), between
    assert site.condition("oven-1", "DesiredApplied")["reason"] == "Applied"

    listener.say(f"{PUMP}/twin/desired", {"speed": 900})
    result = wait(lambda: [r for r in listener.of(f"{PUMP}/twin/desired/result") if r.get("value") == 900])
    assert result[0]["state"] == "applied"
    assert "900" in site.dm("read", f"modbus://{address}/1", "holding:100", "--as", "float32").stdout

    listener.say(f"{PUMP}/twin/desired", {"speed": 9000, "pressure": 1, "sped": 1})
    refused = wait(
        lambda: (
            (r := [x for x in listener.of(f"{PUMP}/twin/desired/result") if x["state"] == "refused"])
            and len(r) == 3
            and r
        )
    )
    assert {r["property"]: r["message"] for r in refused} == {
        "speed": "9000 is above speed's maximum of 3000 rpm",
        "pressure": "pressure is read-only",
        "sped": "the model has no property `sped`",
    }

    site.dm("fault", "pump-1", "exception=4")
    refused = site.dm("set", "pump-1", "speed=1000", "--wait")
    assert refused.returncode == 1
    assert "exception 4" in refused.stderr
    site.dm("fault", "pump-1", "heal")

    listener.say(f"{PUMP}/command/reset", {})
    assert wait(lambda: listener.of(f"{PUMP}/command/reset/result"))[-1]["state"] == "applied"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("unplug", "NoAnswer"), ("disconnect", ""), ("garbage=100", ""), ("exception=4", "")],
)
def test_a_sick_device_is_said_to_be_and_recovers(factory: Any, wait: Wait, fault: str, reason: str) -> None:
    wait(factory.all_ready)
    factory.dm("fault", "pump-3", fault)
    sick = wait(lambda: (c := factory.condition("pump-3", "Ready")) and c["reason"] != "Polling" and c)
    assert sick["message"]
    if reason:
        wait(lambda: factory.condition("pump-3", "Ready")["reason"] == reason)
        assert "no answer from 127.0.0.1" in factory.condition("pump-3", "Connected")["message"]
    assert factory.condition("pump-1", "Ready")["reason"] == "Polling"
    assert factory.condition("meter-1", "Ready")["reason"] == "Polling"
    factory.dm("fault", "pump-3", "heal")
    wait(lambda: factory.condition("pump-3", "Ready")["reason"] == "Polling", 60)
    assert "Traceback" not in factory.log()


def test_simulators_that_are_gone_and_come_back(site: Any, wait: Wait) -> None:
    sim = site.simulate()
    addresses = (site.home / "sim.json").read_text()
    site.run()
    wait(site.all_ready)
    site.stop(sim)
    wait(lambda: site.condition("meter-1", "Connected")["status"] == "False")
    assert "Offline" in site.dm("describe", "meter-1").stdout
    assert json.loads(addresses)["addresses"]


def test_a_broker_that_is_away_loses_nothing(
    site: Any, broker: Any, listener: Any, wait: Wait, gapless: Callable[[list[Any]], int]
) -> None:
    site.simulate()
    run = site.run()
    wait(lambda: len(listener.telemetry().get("pump-3", ())) > 2)
    broker.kill()
    wait(lambda: "not connected" in site.log())
    assert scrape(site)["devicemesh_sink_up"] == 0
    wait(lambda: scrape(site)["devicemesh_samples_spooled"] > 100)
    run.send_signal(signal.SIGSTOP)  # until the listener is back: nobody keeps messages for it
    before = listener.subscribed
    broker.start()
    wait(lambda: listener.subscribed > before)
    run.send_signal(signal.SIGCONT)
    wait(lambda: scrape(site)["devicemesh_sink_up"] == 1)
    wait(lambda: scrape(site)["devicemesh_samples_spooled"] < 20)
    assert site.stop(run) == 0
    for messages in listener.telemetry().values():
        gapless(messages)
    assert "Traceback" not in site.log()


def test_sigkill_begins_a_new_epoch_and_loses_nothing_spooled(
    site: Any, broker: Any, listener: Any, wait: Wait, gapless: Callable[[list[Any]], int]
) -> None:
    site.simulate()
    run = site.run()
    wait(lambda: len(listener.telemetry().get("pump-3", ())) > 2)
    broker.kill()
    wait(lambda: scrape(site)["devicemesh_samples_spooled"] > 50)
    last = scrape(site)
    site.stop(run, signal.SIGKILL)
    assert site.dm("outbox", "verify").returncode == 0
    before = listener.subscribed
    broker.start()
    wait(lambda: listener.subscribed > before)
    run = site.run()
    wait(lambda: len({m["epoch"] for m in listener.telemetry().get("pump-3", ())}) == 2)
    wait(lambda: len({m["epoch"] for m in listener.telemetry().get("oven-1", ())}) == 2)
    assert site.stop(run) == 0
    for messages in listener.telemetry().values():
        gapless(messages)
    assert last["devicemesh_samples_spooled"] > 50


def test_two_runtimes_never_share_a_home(site: Any, wait: Wait) -> None:
    site.simulate()
    site.run()
    wait(lambda: "devices on" in site.log())
    second = site.dm("run", "--api-port", "0", "--mqtt", site.broker.url)
    assert second.returncode == 2
    assert "already uses" in second.stderr


def test_edits_reach_a_running_runtime(site: Any, listener: Any, wait: Wait) -> None:
    site.simulate()
    site.run()
    wait(site.all_ready)
    assert site.dm("delete", "device", "pump-3").returncode == 0
    wait(lambda: listener.of("default/pump-3/status")[-1] is None)
    assert site.condition("pump-1", "Ready")["status"] == "True"


def test_demo_for_a_few_seconds_balances(site: Any) -> None:
    done = site.dm("demo", "--for", "6", "--mqtt", site.broker.url)
    line = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done
    assert line["read"] == line["published"] + line["dropped"] > 100
    assert (line["devices_connected"], line["errors"]) == (6, 0)


def test_a_device_that_is_deleted_while_nobody_runs_is_not_ready_for_ever(
    site: Any, listener: Any, wait: Wait
) -> None:
    site.simulate()
    run = site.run()
    wait(site.all_ready)
    assert wait(lambda: listener.of(f"{PUMP}/status"))[-1]["state"] == "Ready"
    assert site.stop(run) == 0
    assert site.dm("delete", "device", "pump-1").returncode == 0
    site.start("run", "--simulated", "--mqtt", site.broker.url, "--api-port", "0")
    wait(
        lambda: listener.of(f"{PUMP}/status")[-1] is None and listener.of(f"{PUMP}/twin/reported")[-1] is None
    )
    assert listener.of("default/pump-2/status")[-1] is not None
