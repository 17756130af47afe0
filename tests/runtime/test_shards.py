"""Who serves what: selectors, then rendezvous hashing. Properties."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from devicemesh.runtime.shards import (
    HOSTNAME,
    Alone,
    Claim,
    Claims,
    OnNode,
    Shared,
    Want,
    merged,
    owner,
)
from devicemesh.store.base import Key
from devicemesh.store.lease import Lease

MODBUS = frozenset({"modbus"})
names = st.text("abcdefgh", min_size=1, max_size=4)
members = st.sets(names, min_size=1, max_size=6)
LINKS = [("modbus", f"10.0.{n // 250}.{n % 250}:502") for n in range(2000)]


def view(*found: str, **labelled: Mapping[str, str]) -> dict[str, Lease]:
    leases = {name: Lease(name, name, 8, {}, MODBUS) for name in found}
    return leases | {name: Lease(name, name, 8, labels, MODBUS) for name, labels in labelled.items()}


@given(members, names)
def test_one_that_comes_or_goes_moves_only_what_it_takes_or_leaves(before: set[str], other: str) -> None:
    after = before | {other}
    for link in LINKS[:200]:
        was, now = owner(link, before - {other}), owner(link, after)
        assert now in (was, other)


@given(members)
def test_every_link_has_one_owner_and_all_agree_on_it(found: set[str]) -> None:
    for link in LINKS[:100]:
        serving = [
            name for name in found if Shared(name, [view(*found)]).verdict(Want(link, {}, "modbus")) == "mine"
        ]
        assert serving == [owner(link, found)]


def test_shares_are_balanced() -> None:
    for count in (2, 3, 5, 10):
        shares = Counter(owner(link, [f"replica-{n}" for n in range(count)]) for link in LINKS)
        fair = len(LINKS) / count
        assert len(shares) == count
        assert max(shares.values()) < fair * 1.25 and min(shares.values()) > fair * 0.75


def test_nobody_owns_a_link_where_nobody_is() -> None:
    assert owner(LINKS[0], []) is None


def test_a_selector_comes_before_the_hash() -> None:
    sites = view(north={"site": "north"}, south={"site": "south"})
    for link in LINKS[:50]:
        want = Want(link, {"site": "north"}, "modbus")
        assert Shared("north", [sites]).verdict(want) == "mine"
        assert Shared("south", [sites]).verdict(want) == "others"


def test_what_nobody_may_take_is_told_by_one() -> None:
    sites = view(north={"site": "north"}, south={"site": "south"})
    asked = [
        Want(LINKS[0], {"site": "east"}, "modbus"),
        Want(LINKS[0], None, "modbus"),
        Want(LINKS[0], {}, "opcua"),
    ]
    for want in asked:
        verdicts = sorted(Shared(name, [sites]).verdict(want) for name in sites)
        assert verdicts == ["others", "stranded"]


def test_what_is_pinned_to_a_node_is_that_nodes_alone() -> None:
    pinned, free = Want(LINKS[0], {HOSTNAME: "edge-7"}, "modbus"), Want(LINKS[0], {}, "modbus")
    mine = {HOSTNAME: "edge-7", "site": "north"}
    assert OnNode(mine).verdict(pinned) == "mine"
    assert OnNode(mine).verdict(free) == "others"
    assert OnNode({HOSTNAME: "edge-8"}).verdict(pinned) == "others"
    assert Alone({}).verdict(free) == "mine"
    assert Alone({}).verdict(pinned) == "others"
    assert Shared("a", [view(a=mine)]).verdict(pinned) == "others"


@given(members, members, st.sampled_from(LINKS))
def test_while_members_change_only_what_is_kept_is_served(
    before: set[str], after: set[str], link: tuple[str, str]
) -> None:
    want = Want(link, {}, "modbus")
    for name in before:
        both = Shared(name, [view(*before), view(*after)]).verdict(want) == "mine"
        assert both == (owner(link, before) == name == owner(link, after))


def test_a_bus_goes_where_all_its_devices_may_go() -> None:
    claims = Claims()
    bus = ("modbus", "/dev/ttyUSB0")
    one, two = (Key("Device", "default", name) for name in ("one", "two"))
    assert claims.put(one, Claim(bus, {}, "modbus")) == {one}
    assert claims.want(one) == Want(bus, {}, "modbus")
    assert claims.put(two, Claim(bus, {"site": "north"}, "modbus")) == {one, two}
    assert claims.want(one) == Want(bus, {"site": "north"}, "modbus")
    assert claims.put(two, Claim(bus, {"site": "north"}, "modbus")) == set()
    claims.put(one, Claim(bus, {"site": "south"}, "modbus"))
    assert claims.want(two).selector is None
    assert claims.put(one, None) == {one, two}
    assert one not in claims
    assert claims.want(two).selector == {"site": "north"}


def test_selectors_are_merged() -> None:
    assert merged([{"a": "1"}, {}, {"b": "2"}]) == {"a": "1", "b": "2"}
    assert merged([{"a": "1"}, {"a": "2"}]) is None
