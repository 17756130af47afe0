"""Which properties are held against each other: all that may collide, and not many more."""

import tracemalloc
from typing import Any, Self, cast

from hypothesis import given
from hypothesis import strategies as st

from devicemesh.mapper import Address
from devicemesh.spec.device import Property
from devicemesh.spec.places import Document
from devicemesh.spec.rules import _near, _overlaps
from devicemesh.spec.values import ValueType

PROP = Property.model_validate({"name": "x", "type": "int16"})


class Span(Address):
    space: str
    first: int
    last: int

    def extent(self, type_: ValueType) -> tuple[str, int, int] | None:
        return (self.space, self.first, self.last) if self.space != "anywhere" else None

    def overlap(self, other: Self, type_: ValueType, other_type: ValueType) -> str | None:
        return None


class Named(Address):
    pass


def meet(one: Span, other: Span) -> bool:
    if "anywhere" in (one.space, other.space):
        return True
    return one.space == other.space and one.first <= other.last and other.first <= one.last


spans = st.builds(
    lambda space, first, length: Span(space=space, first=first, last=first + length),
    st.sampled_from(["a", "b", "anywhere"]),
    st.integers(0, 30),
    st.integers(0, 8),
)


@given(st.lists(spans, max_size=12))
def test_pairs_are_those_that_meet(addresses: list[Span]) -> None:
    placed = [(PROP.type, one) for one in addresses]
    wanted = {
        (late, early)
        for late in range(len(addresses))
        for early in range(late)
        if meet(addresses[late], addresses[early])
    }
    assert list(_near(placed)) == sorted(wanted)


def test_where_no_extent_is_known_pairs_are_not_kept() -> None:
    """They are many: of 2000 properties two million, as a set 300 MB."""
    anywhere = Span(space="anywhere", first=0, last=0)
    placed: list[tuple[Property, Any, tuple[int | str, ...]]] = [(PROP, anywhere, ()) for _ in range(500)]
    tracemalloc.start()
    problems = list(_overlaps(cast(Document, None), placed))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert problems == []
    assert peak < 1 << 20


def test_of_a_protocol_where_nothing_collides_there_are_none() -> None:
    placed = [(PROP.type, Named()) for _ in range(5)]
    assert list(_near(placed)) == []
