"""From what others have to values: imported, simulated from the same YAML, read and kept as a twin."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

CASES = Path(__file__).parent.parent / "table/cases"
FOREIGN = Path(__file__).parent.parent / "foreign/cases"
Wait = Callable[..., Any]


def test_an_imported_table_is_simulated_and_read(site: Any, wait: Wait, tmp_path: Path) -> None:
    folder = tmp_path / "declared"
    folder.mkdir()
    shutil.copy(CASES / "energy-meter.csv", tmp_path)
    made = site.dm(
        "import", str(tmp_path / "energy-meter.csv"), "--endpoint", "modbus://192.0.2.30:502/1",
        "-o", str(folder / "meter.yaml"),
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert site.dm("apply", "-f", str(folder)).returncode == 0
    site.simulate(folder)
    address = json.loads((site.home / "sim.json").read_text())["addresses"]["192.0.2.30:502"]
    read = site.dm("read", f"modbus://{address}/1", "input:52", "--as", "float32", "-o", "json")
    assert read.returncode == 0, read.stderr
    assert isinstance(json.loads(read.stdout)["readings"]["float32"], float)
    site.run(files=folder)
    wait(lambda: site.condition("energy-meter-1", "Ready").get("status") == "True")

    def good() -> list[str]:
        entries = site.device("energy-meter-1")["status"].get("properties", [])
        return [one["name"] for one in entries if one.get("reported", {}).get("quality") == "Good"]

    wait(lambda: len(good()) == 11)
    assert "Total_system_power" in good()


def test_an_imported_configuration_is_simulated_and_read(site: Any, wait: Wait, tmp_path: Path) -> None:
    """Telegraf's: Modbus over TCP and on a serial line, and OPC UA with nodes of unknown types."""
    folder = tmp_path / "declared"
    folder.mkdir()
    theirs = (FOREIGN / "telegraf.conf").read_text().replace('interval = "10s"', 'interval = "500ms"')
    theirs = re.sub(r"(?m)^ *(security_\w+|auth_method|username|password) = .*\n", "", theirs)
    (tmp_path / "telegraf.conf").write_text(theirs)
    made = site.dm("import", str(tmp_path / "telegraf.conf"), "-o", str(folder / "all.yaml"))
    assert made.returncode == 0, made.stderr
    assert site.dm("apply", "-f", str(folder)).returncode == 0
    site.simulate(folder)
    site.run(files=folder)

    def good(device: str) -> list[str]:
        entries = site.device(device).get("status", {}).get("properties", [])
        return [one["name"] for one in entries if one.get("reported", {}).get("quality") == "Good"]

    expected = {"device": 16, "presses-1": 7, "presses-1-2": 1, "presses-2": 4, "zones": 5, "press": 3}
    wait(lambda: {device: len(good(device)) for device in expected} == expected)
    assert "Zone_2_humidity" in good("zones")
