"""Desired values that were set on both sides: which one holds, and who is told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devicemesh.store.merge import Edit, Policy, merge
from devicemesh.store.resource import edit_times

NS = 10**9
AT = 1_795_235_280
values = st.none() | st.integers(0, 3)
policies = st.sampled_from(["newest", "cloud", "edge"])


def edit(value: Any, base: Any, at: float = AT) -> Edit:
    return Edit("speed", value, base, round(at * NS), "mqtt")


@given(values, values, values, st.integers(AT - 2, AT + 2), policies)
def test_every_edit_ends_in_one_value_and_only_a_conflict_has_a_loser(
    here: Any, base: Any, there: Any, at: int, policy: Policy
) -> None:
    cloud = {} if there is None else {"speed": there}
    merged = merge([edit(here, base)], cloud, {"speed": at, "": at}, policy)
    holds = merged.send.get("speed", there)
    assert holds in (here, there)
    conflict = there not in (here, base)
    assert (merged.overruled != {}) == conflict
    if not conflict:
        assert holds == here, "what nobody else touched is as it was set here"
    else:
        told, why = merged.overruled["speed"]
        assert told == holds
        assert "holds" in why
    ours = {"edge": True, "cloud": False, "newest": at < AT}[policy]
    assert not conflict or (holds == here) == ours


@given(values, values, values, policies)
def test_merging_again_changes_nothing(here: Any, base: Any, there: Any, policy: Policy) -> None:
    cloud = {} if there is None else {"speed": there}
    merged = merge([edit(here, base)], cloud, {"": AT}, policy)
    after = {n: v for n, v in (cloud | dict(merged.send)).items() if v is not None}
    if "speed" in merged.send:
        assert merge([edit(here, base)], after, {"": AT}, policy).send == {}


@given(st.permutations(["a", "b", "c"]), policies)
def test_properties_do_not_touch_each_other(order: list[str], policy: Policy) -> None:
    edits = [Edit(name, 1, 0, AT * NS, "mqtt") for name in order]
    cloud = {"a": 0, "b": 5, "c": 1}
    merged = merge(edits, cloud, {"": AT - 10}, policy)
    assert merged.send.keys() == ({"a"} if policy == "cloud" else {"a", "b"})
    assert merged.overruled.keys() == {"b"}


@pytest.mark.parametrize(
    ("policy", "there_s", "sentence"),
    [
        ("newest", AT + 5, "900 was set here at 2026-11-21T04:28:00Z, but 1200 holds: the newest does"),
        (
            "newest",
            AT - 5,
            "1200 was set on the server at 2026-11-21T04:27:55Z, but 900 holds: the newest does",
        ),
        ("newest", AT, "900 was set here at 2026-11-21T04:28:00Z, but 1200 holds: the newest does"),
        ("cloud", AT - 5, "900 was set here at 2026-11-21T04:28:00Z, but 1200 holds: the server's does"),
        (
            "edge",
            AT + 5,
            "1200 was set on the server at 2026-11-21T04:28:05Z, but 900 holds: ours does",
        ),
    ],
)
def test_the_loser_is_told(policy: Policy, there_s: int, sentence: str) -> None:
    merged = merge([edit(900, 100)], {"speed": 1200}, {"speed": there_s, "": AT + 99}, policy)
    assert merged.overruled["speed"][1] == sentence


def test_a_value_that_was_taken_back_there_has_the_time_of_the_newest_edit() -> None:
    assert merge([edit(900, 100)], {}, {"": AT + 1}, "newest").send == {}
    assert merge([edit(900, 100)], {}, {"": AT - 1}, "newest").send == {"speed": 900}
    assert "taken back" in merge([edit(900, 100)], {}, {"": AT - 1}, "newest").overruled["speed"][1]


def test_times_are_read_out_of_managed_fields() -> None:
    def manager(name: str, at: str, *names: str, **more: Any) -> dict[str, Any]:
        entries = {f'k:{{"name":"{one}"}}': {".": {}, "f:value": {}} for one in names}
        fields = {"f:spec": {"f:desired": {".": {}, **entries}}}
        return {"manager": name, "time": at, "fieldsV1": fields, **more}

    managed = [
        manager("kubectl", "2026-11-21T04:28:00Z", "speed", "level"),
        manager("devicemesh-mqtt", "2026-11-21T04:29:00Z", "speed"),
        manager("devicemesh-runtime", "2026-11-21T05:00:00Z", "speed", subresource="status"),
        {"manager": "old", "fieldsV1": {"f:metadata": {}}, "time": "2026-11-21T06:00:00Z"},
    ]
    assert edit_times(managed) == {"speed": AT + 60, "level": AT, "": AT + 60}
    assert edit_times([]) == {}
