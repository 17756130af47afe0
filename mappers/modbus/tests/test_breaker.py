"""When a silent unit is asked again."""

from __future__ import annotations

import random

from devicemesh_modbus.answers import SilentError
from devicemesh_modbus.breaker import Breaker

QUIET = SilentError("no answer from 10.0.0.5:502 unit 3 within 1 s")


def test_pauses_double_up_to_the_period() -> None:
    breaker = Breaker(3, 60.0, random.Random(1))
    now, pauses = 1000.0, []
    for _ in range(12):
        breaker.failed(now, QUIET, 0.0)
        start = now
        while not breaker.ready(now):
            now += 0.05
        pauses.append(now - start)
    assert pauses[:2] == [0.0, 0.0], "two failures are borne without a pause"
    for pause, expected in zip(pauses[2:], [1, 2, 4, 8, 16, 32, 60, 60, 60, 60], strict=True):
        assert 0.9 * expected <= pause <= 1.1 * expected + 0.05
    assert len(set(pauses[-4:])) > 1, "without jitter all units of a site come back at once"
    assert breaker.exhausted


def test_the_error_says_how_often_and_when_next() -> None:
    breaker = Breaker(2, 60.0, random.Random(1))
    assert str(breaker.failed(0.0, QUIET, 0.0)) == str(QUIET)
    assert str(breaker.failed(0.0, QUIET, 0.0)).startswith(f"{QUIET}, 2 tries, next in 0.9")
    assert breaker.error is not None and breaker.error.reason == "NoAnswer"


def test_a_line_that_may_still_carry_the_old_answer_is_held() -> None:
    breaker = Breaker(3, 60.0, random.Random(1))
    breaker.failed(0.0, QUIET, 2.0)
    assert not breaker.ready(1.9) and breaker.ready(2.0)
