"""Faults at random: what is good is true, every point comes once a poll, and all heals."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from devicemesh_modbus.endpoint import ModbusEndpoint
from devicemesh_modbus.session import open_session

from devicemesh.mapper import LinkError, Quality, Write
from devicemesh.testing.clock import SOCKETS_S, run_virtual

POLLS = 40
TEXTS = [f"{unit}/{where}" for unit in (1, 2, 3) for where in (
    *(f"holding:{n}" for n in (0, 1, 2, 7, 40, 300, 301)), "holding:9:uint32", "holding:600", "holding:900", "input:5", "coil:3", "discrete:900",
)]  # fmt: skip


def faults_at(rng: random.Random, fault: Any, transport: str, pipeline: int) -> list[Any]:
    """None, one or two faults that a device might really have: no forged answers among them."""
    possible: list[dict[str, Any]] = [
        {"registers": rng.choice((-1, 1))},
        {"byte_count": rng.randrange(9, 256, 2)},
        {"exception": rng.choice((1, 2, 3, 4, 5, 6, 10, 11, 255))},
        {"pdu": rng.choice(("83", "04 02 00 09", "03"))},
        {"silent": True},
        {"deaf": True},
        {"delay_s": 0.045},
        {"twice": True},
    ]
    if transport in ("rtuovertcp", "asciiovertcp"):
        noise = rng.randbytes(rng.randrange(1, 9)).hex()
        possible += [{"spoil": True}, {"before": noise}, {"after": noise}, {"echo": True}]
    else:
        possible += [{"tid": 0}, {"unit_plus": rng.randrange(4, 200)}]
        possible += [{"tid_plus": 40000}] if pipeline == 1 else []
    if transport != "udp":
        possible += [{"cut": rng.randrange(1, 9)}, {"close": True}, {"drip_s": 0.0005}]
    chosen = rng.sample(possible, rng.choice((0, 0, 1, 1, 2)))
    return [
        fault(
            **one, unit=rng.choice((None, 1, 2)), times=rng.choice((1, 3, 1000)), start=rng.choice((None, 0))
        )
        for one in chosen
    ]


@pytest.mark.parametrize(
    ("transport", "pipeline"), [("tcp", 1), ("tcp", 5), ("rtuovertcp", 1), ("asciiovertcp", 1), ("udp", 1)]
)
def test_random_faults(
    transport: str, pipeline: int, hostile: Any, fault: Any, serving: Any, points: Any, collect: Any
) -> None:
    rng = random.Random(f"{transport} {pipeline}")
    seen_good = seen_bad = 0
    ahead_s = [0.0]

    def truth(device: Any, point: Any) -> int:
        address, value = point.address, 0
        for i in range(address.span(point.type)):
            value = value << 16 | device.value(point.endpoint.unit, address.table, address.offset + i)
        return value

    async def work() -> None:
        nonlocal seen_good, seen_bad
        loop, device, polls = asyncio.get_running_loop(), hostile(transport=transport), 0
        async with serving(device):
            endpoint = ModbusEndpoint.model_validate(
                {"host": "127.0.0.1", "port": device.port, "timeout": "30ms", "transport": transport,
                 "pipeline": pipeline}
            )  # fmt: skip
            many = points(endpoint, *TEXTS)
            while polls < POLLS:
                try:
                    async with open_session(endpoint, lambda: loop.time() + ahead_s[0], rng) as session:
                        reader = session.reader(many)
                        while polls < POLLS:
                            polls += 1
                            device.faults = faults_at(rng, fault, transport, pipeline)
                            if polls == POLLS:
                                device.faults, ahead_s[0] = [], ahead_s[0] + 7200
                            last = await collect(reader)
                            assert len(last) == len(many)
                            for slot, (value, quality, error) in last.items():
                                if quality == Quality.GOOD:
                                    assert value == truth(device, many[slot]), many[slot].name
                                    seen_good += 1
                                else:
                                    assert error is not None
                                    seen_bad += 1
                            (outcome,) = await session.write([Write(many[polls % 5], polls)])
                            if outcome.error is None:
                                assert outcome.value in (polls, None), "confirmed, but not written"
                            ahead_s[0] += rng.choice((0.0, 0.0, 3.0, 70.0))
                except LinkError:
                    continue
            assert all(row[1] == Quality.GOOD for row in last.values()), "did not heal"

    run_virtual(work(), patience_s=SOCKETS_S)
    assert seen_good > POLLS * 10 and seen_bad > POLLS, "the faults were too many or too few to mean anything"
