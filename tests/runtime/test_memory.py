"""What many devices leave behind goes back to the system, and what is alike in them is one object."""

import asyncio
from collections.abc import Sequence

import pytest

from devicemesh.runtime import runtime
from devicemesh.spec.device import DeviceSpec
from devicemesh.testing.clock import run_virtual

SPEC = {"modelRef": {"name": "meter"}, "endpoint": {"modbus": {"host": "h"}}}


async def tidied(counts: Sequence[int], monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When it was tidied up, where so many devices are there after each turn."""
    loop = asyncio.get_running_loop()
    start, found = loop.time(), list[float]()
    devices: list[int] = []
    monkeypatch.setattr(runtime, "settle", lambda: None)
    monkeypatch.setattr(runtime, "give_back", lambda: None)
    monkeypatch.setattr(runtime, "tidy", lambda: found.append(round(loop.time() - start - runtime.SETTLED_S)))
    task = asyncio.create_task(runtime._settle_memory(devices))
    await asyncio.sleep(runtime.SETTLED_S + runtime.TRIM_S / 2)
    for count in counts:
        devices[:] = range(count)
        await asyncio.sleep(runtime.TRIM_S)
    task.cancel()
    return found


def test_it_is_tidied_up_once_no_more_devices_come(monkeypatch: pytest.MonkeyPatch) -> None:
    turn = runtime.TRIM_S
    assert run_virtual(tidied([0, 0, 0], monkeypatch)) == []
    assert run_virtual(tidied([500, 1000, 1000, 1000, 1000], monkeypatch)) == [3 * turn]
    assert run_virtual(tidied([9, 9, 9, 3, 3, 3], monkeypatch)) == [2 * turn, 5 * turn]


def test_what_was_given_the_same_fields_shares_the_set_of_their_names() -> None:
    one, other = DeviceSpec.model_validate(SPEC), DeviceSpec.model_validate(SPEC)
    paused = DeviceSpec.model_validate(SPEC | {"paused": True})
    assert one.model_fields_set is other.model_fields_set == {"model_ref", "endpoint"}
    assert paused.model_fields_set == {"model_ref", "endpoint", "paused"}
    changed = one.model_copy(update={"paused": True})
    assert changed.model_fields_set == paused.model_fields_set and "paused" not in other.model_fields_set
