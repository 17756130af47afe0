"""How fast ThingsBoard lets a session send."""

from __future__ import annotations

from typing import Any

import pytest

from devicemesh.sink.thingsboard.limits import Rate, limits


def test_a_rate_leaves_a_fifth_of_what_is_allowed() -> None:
    rate = Rate("10:1,100:60")
    assert rate.most == 8
    sent = 0
    for step in range(6000):  # a minute
        now_s = step / 100
        if rate.has(1, now_s):
            rate.take(1)
            sent += 1
    assert 80 <= sent <= 80 + 80  # what it begins with, and what comes in a minute


def test_within_any_second_there_is_no_more_than_its_limit() -> None:
    rate, times = Rate("10:1"), []
    for step in range(1000):
        if rate.has(1, step / 100):
            rate.take(1)
            times.append(step / 100)
    busiest = max(sum(t <= one < t + 0.25 for one in times) for t in times)
    assert busiest <= 10
    assert len(times) > 70


def test_what_is_more_than_ever_may_go_goes_when_all_may() -> None:
    rate = Rate("10:1")
    assert rate.has(500, 0.0)
    rate.take(500)
    assert not rate.has(500, 0.5)
    assert rate.has(500, 1.0)


@pytest.mark.parametrize("text", ["", "0:0,", "0:1"])
def test_no_limit(text: str) -> None:
    assert Rate(text).most is None
    assert Rate(text).has(10**9, 0.0)


def test_what_a_server_says() -> None:
    found = limits({
        "maxPayloadSize": 4096, "maxInflightMessages": 10,
        "rateLimits": {"messages": "5:1", "telemetryMessages": None, "telemetryDataPoints": ""},
        "gatewayRateLimits": {"messages": "100:1", "telemetryMessages": "50:1;200:60", "telemetryDataPoints": "40:1"},
    })  # fmt: skip
    assert found is not None
    assert (found.payload_bytes, found.inflight, found.message_values) == (4096, 8, 32)
    assert (found.devices.telemetry.most, found.own.messages.most, found.own.values.most) == (40, 4, None)


def test_a_server_without_limits() -> None:
    found = limits({"rateLimits": {}, "maxInflightMessages": 0})
    assert found is not None
    assert (found.payload_bytes, found.inflight, found.message_values) == (65536, 1000, 1000)
    assert found.devices.unlimited


@pytest.mark.parametrize(
    "answer", [None, [], {}, {"error": "timeout"}, {"rateLimits": "1:1"}, {"rateLimits": {"messages": "a:b"}},
               {"rateLimits": {}, "maxPayloadSize": "much"}, {"rateLimits": {"messages": 5}}],
)  # fmt: skip
def test_what_can_not_be_read_says_nothing(answer: Any) -> None:
    assert limits(answer) is None


def test_what_was_too_fast_is_halved_and_comes_back() -> None:
    found = limits({"rateLimits": {}, "gatewayRateLimits": {"telemetryDataPoints": "100:1"}})
    assert found is not None
    assert found.message_values == 80
    slow = found.slower(60, 0.01, certain=True)
    assert (slow.guess.per_s, slow.message_values) == (30.0, 30)
    assert slow.may(30, 0.0)
    slow.went(30)
    assert not slow.may(1, 0.0)
    assert slow.may(15, 0.5)
    assert slow.slower(30, 10.0, certain=True).guess.per_s == 1.5
    assert slow.slower(0, 10.0, certain=True).message_values == 1
    assert slow.faster().guess.per_s == 60
    assert slow.faster().faster().guess.per_s == pytest.approx(61.2)
    fast = found.slower(60, 0.01, certain=False)
    for _ in range(20):
        fast = fast.faster()
    assert (fast.guess.per_s, fast.message_values) == (None, 80)
