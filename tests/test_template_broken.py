"""The template broken in the ways that authors break a mapper: the contract's tests say so in words that lead there."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Mapping

import pytest

from devicemesh.cli.new import write

# how -> (file, what stands there, what the author wrote, what a test says)
BROKEN: dict[str, tuple[str, str, str, str]] = {
    "forgets_a_point": (
        "session", "plan.by_device(points)", "plan.by_device(points[:-1])",
        "a poll covers every point, with a bad row where it must; label (slot 24) did not come",
    ),
    "gives_up_at_the_first_bad_point": (
        "session", "yield rows([point, *rest] if silent else [point], None, error)", "raise",
        "a PointError ends no poll, it is the `error` of a bad row, and the other points follow: 127.0.0.1",
    ),
    "raises_value_error": (
        "plan", "raise PointError(f\"{what} is refused: {text} ({code})\", reason=reason)", "raise ValueError(text)",
        "What is wrong with a point is a bad row, or an Outcome, with a PointError as its",
    ),
    "sleeps": (
        "session", "await writer.drain()", "time.sleep(0.01)",
        "time.sleep keeps the event loop, and with it every other link, from running",
    ),
    "waits_without_the_loop": (
        "session", "await writer.drain()", "import socket; mine, other = socket.socketpair(); mine.recv(1)",
        "a call that took 1 s keeps the event loop, and with it every other link, from running",
    ),
    "ignores_cancellation": (
        "session", "except PointError as error:\n                        silent",
        "except (PointError, asyncio.CancelledError):\n                        error = PointError('?', reason='NoAnswer')\n                        silent",
        "its task was cancelled, and the session goes on: a CancelledError was caught",
    ),
    "swallows_link_errors": (
        "session", "except PointError as error:\n                        silent",
        "except (PointError, LinkError) as error:\n                        error = PointError(str(error), reason='NoAnswer')\n                        silent",
        "the peer is gone, and no LinkError says so; polls give",
    ),
    "columns_of_two_lengths": (
        "session", "[value] * len(points)", "[value, value]",
        "value has 2 rows where there are 1 slots",
    ),
    "wrong_slot": (
        "session", "[point.slot for point", "[point.slot + 7 for point",
        "slot 17 was not asked for: voltage (slot 10), energy (slot 11)",
    ),
    "no_quality": (
        "session", "int(quality), error)", "None, error)",
        "quality must be an int or array('B'), not None",
    ),
    "bad_rows_look_good": (
        "session", "int(quality), error)", "error=error)",
        "slot 90 has an `error` and a good quality: 127.0.0.1",
    ),
    "slots_in_a_list": (
        "session", 'array("I", [point.slot for point in points])', "[point.slot for point in points]",
        "slot must be array('I'), not [10]",
    ),
    "connects_in_the_constructor": (
        "session", "self._endpoint = endpoint\n",
        "self._endpoint = endpoint\n        import socket\n        socket.create_connection((endpoint.host, endpoint.port)).close()\n",
        "socket.connect keeps the event loop",
    ),
    "connects_when_open_is_called": (
        "mapper", "return open_session(endpoint)",
        "open(f'/nowhere/{endpoint.port}')\n        return open_session(endpoint)",
        "`open` connects when entered, not when called",
    ),
    "open_is_a_coroutine": (
        "session", "@asynccontextmanager\n", "",
        "`open` returns an async context manager, as contextlib.asynccontextmanager makes",
    ),
    "reads_in_reader": (
        "session", "        return read\n", "        first = asyncio.ensure_future(anext(read()))\n        first.add_done_callback(lambda done: done.exception())\n        return read\n",
        "`reader` plans, and what it returns reads: this has begun to read already",
    ),
    "reader_is_a_coroutine": (
        "session", "    def reader(", "    async def reader(",
        "`reader` plans and waits for nothing: `def`, not `async def`",
    ),
    "returns_a_list": (
        "session", "        return read\n", "        async def all(): return [batch async for batch in read()]\n        return all\n",
        "what `reader` returns is a generator of batches: `async def` with `yield`",
    ),
    "leaves_a_task": (
        "session", "        await line.connect()\n        yield", "        await line.connect()\n        asyncio.ensure_future(asyncio.sleep(60))\n        yield",
        "tasks were left behind",
    ),
}  # fmt: skip
HASTE = """
import pytest
from devicemesh.testing import blocking, contract
contract.PATIENCE_S, blocking.STILL = 4.0, 10
told = set()

def pytest_runtest_logreport(report):
    told.update([report.nodeid.partition("::")[0]] if report.failed else [])

def pytest_runtest_setup(item):
    if item.nodeid.partition("::")[0] in told:
        pytest.skip("one failure of each is enough")
"""


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """What the contract's tests say of each, all of them run by one pytest."""
    folder = tmp_path_factory.mktemp("broken")
    paths = []
    for name, (file, before, after, _) in BROKEN.items():
        protocol = name.replace("_", "")
        write(protocol, folder / name)
        source = folder / name / f"src/devicemesh_{protocol}/{file}.py"
        text = source.read_text()
        assert text.count(before) == 1, f"the template has no {before!r} any more"
        source.write_text(text.replace(before, after))
        paths.append(str(folder / name / "src"))
    (folder / "conftest.py").write_text(HASTE)
    report = folder / "report.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--import-mode=importlib",
        "-p",
        "no:cacheprovider",
        "--tb=short",
        f"--junitxml={report}",
    ]
    tests = [str(folder / name / "tests/test_contract.py") for name in BROKEN]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [*command, f"--rootdir={folder}", "-c", os.devnull, *tests],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    said: dict[str, str] = {}
    for case in ET.parse(report).iter("testcase"):
        name = case.attrib["classname"].split(".")[0]
        for found in (*case.findall("failure"), *case.findall("error")):
            said[name] = said.get(name, "") + found.attrib["message"] + "\n" + (found.text or "")
    return said


@pytest.mark.parametrize("how", BROKEN)
def test_the_contract_says_what_is_wrong(how: str, failures: Mapping[str, str]) -> None:
    assert BROKEN[how][3] in failures.get(how, "nothing failed")
