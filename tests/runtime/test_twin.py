from typing import Any

from devicemesh.mapper import Quality
from devicemesh.spec.device import Property
from devicemesh.twin import (
    Attempt,
    Condition,
    Reported,
    connected,
    degraded,
    delta,
    desired_applied,
    ready,
    same,
    text,
)


def prop(name: str = "speed", **more: Any) -> Property:
    defaults = {"type": "float32", "unit": "rpm", "access": "ReadWrite", "minimum": 0, "maximum": 3000}
    return Property.model_validate({"name": name, **defaults, **more})


SPEED = {"speed": prop()}
GOOD = {"speed": Reported(1000.0, 5, Quality.GOOD)}
NONE: frozenset[str] = frozenset()


def test_an_edit_is_written_unasked() -> None:
    plan = delta(SPEED, {"speed": 1000}, {"speed": 1000}, GOOD, {}, frozenset({"speed"}), 9)
    assert (plan.writes, plan.settled) == ({"speed": 1000}, {})


def test_after_a_restart_only_a_difference_is_written() -> None:
    same_ = delta(SPEED, {"speed": 1000}, {"speed": 1000}, GOOD, {}, NONE, 9)
    assert (same_.writes, same_.settled["speed"].state) == ({}, "applied")
    other = delta(SPEED, {"speed": 1200}, {"speed": 1200}, GOOD, {}, NONE, 9)
    assert other.writes == {"speed": 1200}


def test_without_a_reading_it_waits() -> None:
    bad = {"speed": Reported(None, 0, Quality.PENDING)}
    plan = delta(SPEED, {"speed": 1200}, {"speed": 1200}, bad, {}, NONE, 9)
    assert (plan.writes, plan.settled) == ({}, {})


def test_write_only_properties_are_not_waited_for() -> None:
    plan = delta({"speed": prop(access="WriteOnly")}, {"speed": 1200}, {"speed": 1200}, {}, {}, NONE, 9)
    assert plan.writes == {"speed": 1200}


def test_what_the_model_refuses_is_never_written() -> None:
    properties = {**SPEED, "level": prop("level", access="ReadOnly"), "n": prop("n", type="int16", unit=None)}
    desired = {"speed": 4200, "level": 1, "n": "7", "nothing": 1}
    plan = delta(properties, desired, desired, {}, {}, frozenset(desired), 9)
    assert plan.writes == {}
    assert {n: a.reason for n, a in plan.settled.items()} == {
        "speed": "OutOfRange", "level": "ReadOnly", "n": "WrongType", "nothing": "UnknownProperty",
    }  # fmt: skip
    assert plan.settled["speed"].message == "4200 is above speed's maximum of 3000 rpm"


def test_a_refused_value_is_not_tried_again_but_a_new_one_is() -> None:
    refused = {"speed": Attempt(1200, "refused", 7, "Refused", "no")}
    assert delta(SPEED, {"speed": 1200}, {"speed": 1200}, GOOD, refused, NONE, 9).writes == {}
    assert delta(SPEED, {"speed": 1300}, {"speed": 1300}, GOOD, refused, NONE, 9).writes == {"speed": 1300}
    assert delta(SPEED, {"speed": 1200}, {"speed": 1200}, GOOD, refused, frozenset({"speed"}), 9).writes == {
        "speed": 1200
    }


def test_a_failed_write_is_tried_again_in_time() -> None:
    failed = {"speed": Attempt(1200, "failed", 7, "NoAnswer", "silent", retry_s=100)}
    assert delta(SPEED, {"speed": 1200}, {"speed": 1200}, GOOD, failed, NONE, 9, 99).writes == {}
    assert delta(SPEED, {"speed": 1200}, {"speed": 1200}, GOOD, failed, NONE, 9, 100).writes == {
        "speed": 1200
    }
    silent = {"speed": Reported(None, 5, Quality.NO_ANSWER)}
    assert delta(SPEED, {"speed": 1200}, {"speed": 1200}, silent, failed, NONE, 9, 100).writes == {}, (
        "its neighbours would wait"
    )


def test_a_failed_write_that_was_done_after_all_is_not_done_again() -> None:
    failed = {"speed": Attempt(1000, "failed", 3, "Busy", "still working on it")}
    plan = delta(SPEED, {"speed": 1000}, {"speed": 1000}, GOOD, failed, NONE, 9)
    assert (plan.writes, plan.settled["speed"].state) == ({}, "applied")
    old = {"speed": Reported(1000.0, 2, Quality.GOOD)}
    assert delta(SPEED, {"speed": 1000}, {"speed": 1000}, old, failed, NONE, 9).writes == {"speed": 1000}


def test_drift_is_reported_not_fought() -> None:
    applied = {"speed": Attempt(1200, "applied", 3)}
    assert delta(SPEED, {"speed": 1200}, {"speed": 1200}, GOOD, applied, NONE, 9).writes == {}
    found = desired_applied(SPEED, {"speed": 1200}, {"speed": 1200}, GOOD, applied, connected=True)
    assert (found.status, found.reason) == ("False", "Drifted")
    assert found.message == "speed: the device says 1000.0 rpm, desired is 1200 rpm"


def test_desired_applied_names_each_refusal() -> None:
    attempts = {"speed": Attempt(4200, "refused", 3, "OutOfRange", "too much")}
    found = desired_applied(SPEED, {"speed": 4200}, {"speed": 4200}, GOOD, attempts, connected=True)
    assert found == Condition("DesiredApplied", "False", "OutOfRange", "speed: too much")
    waiting = desired_applied(SPEED, {"speed": 1}, {"speed": 1}, {}, {}, connected=False)
    assert (waiting.reason, waiting.message) == ("Waiting", "speed: waits for the link")
    assert desired_applied(SPEED, {}, {}, GOOD, {}, connected=True).status == "True"


def test_a_scaled_register_holds_the_nearest_of_its_steps() -> None:
    """200.04 at scale 0.1 reads back as 200.0: that is applied, neither refused nor drifted nor written again."""
    wanted, nearest = {"speed": 200.04}, {"speed": 200.0}
    now = {"speed": Reported(200.0, 5, Quality.GOOD)}
    plan = delta(SPEED, wanted, nearest, now, {}, NONE, 9)
    assert (plan.writes, plan.settled["speed"].state) == ({}, "applied")
    applied = {"speed": Attempt(200.04, "applied", 3)}
    assert desired_applied(SPEED, wanted, nearest, now, applied, connected=True).status == "True"
    other = {"speed": Reported(200.1, 5, Quality.GOOD)}
    assert delta(SPEED, wanted, nearest, other, {}, NONE, 9).writes == wanted
    assert desired_applied(SPEED, wanted, nearest, other, applied, connected=True).reason == "Drifted"


def test_floats_are_compared_as_float32_holds_them() -> None:
    assert same(0.1, 0.10000000149011612)
    assert same(1200, 1200.0)
    assert not same(1200, 1200.1)
    assert not same(True, 1)
    assert not same(1, True)
    assert same("a", "a")


def test_connected_and_ready_in_words() -> None:
    silent = [Reported(None, 5, Quality.NO_ANSWER)]
    why = ("NoAnswer", "no answer from 10.0.0.5:502 within 1 s")
    link = connected(silent, True, why)
    assert link == Condition("Connected", "False", *why)
    assert connected([Reported(1, 5, Quality.BAD_ADDRESS)], True, None).status == "True"
    assert connected([Reported(None, 0, Quality.PENDING)], True, None).status == "Unknown"
    model = Condition("ModelResolved", "True", "Resolved", "")
    health = degraded({"a": Reported(None, 5, Quality.REFUSED)}, {"a": "exception 4"})
    assert health.message == "a: exception 4"
    refused = {name: Reported(None, 5, Quality.REFUSED) for name in "abcdefg"}
    assert degraded(refused, dict.fromkeys("abcdefg", "busy")).message == "a, b, c, d, e ...: busy"
    up = connected(list(GOOD.values()), True, None)
    assert ready(model, up, health).reason == "Degraded"
    assert ready(model, link, health).message == why[1]


def test_integers_are_compared_exactly() -> None:
    assert not same(10_000_001, 10_000_000)
    assert not same((1 << 53) + 1, 1 << 53)
    assert same(10_000_001, 10_000_001)


def test_objects_and_lists_hold_what_their_parts_hold() -> None:
    wanted = {"x": 0.1, "tags": [1, "a", None], "inner": {"on": True}}
    as_float32 = {"x": 0.10000000149011612, "tags": [1.0, "a", None], "inner": {"on": True}}
    assert same(wanted, as_float32)
    for name, other in (
        ("x", 0.11), ("tags", [1, "a"]), ("tags", [1, "b", None]), ("inner", {"on": 1}), ("inner", {}), ("x", None),
    ):  # fmt: skip
        assert not same(wanted, {**wanted, name: other}), name
    assert not same(wanted, {**wanted, "more": 1})
    assert not same([], {})


def test_objects_are_told_as_they_are_typed() -> None:
    assert text({"a": [1, True, None, "ü"]}, None) == '{"a": [1, true, null, "ü"]}'


def test_numbers_of_more_digits_than_a_float_has_are_compared() -> None:
    assert not same({"at": 10**400}, {"at": 1.5})
    assert not same(1.5, -(10**400))
    assert same([10**400], [10**400])
