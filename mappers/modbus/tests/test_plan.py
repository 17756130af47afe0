"""Planning, as properties: complete, within the limits, never dearer than asking one by one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from devicemesh_modbus.endpoint import ModbusEndpoint
from devicemesh_modbus.model import ModbusAddress
from devicemesh_modbus.plan import (
    Learned,
    Read,
    Refusal,
    cost_of,
    data_size,
    extent,
    items,
    keep_apart,
    plan,
    split,
)
from hypothesis import given
from hypothesis import strategies as st

from devicemesh.mapper import Point, PointError
from devicemesh.spec.values import ValueType as V

TCP = ModbusEndpoint(host="plc")
LINE = ModbusEndpoint.model_validate({"serial": {"port": "/dev/ttyUSB0", "baudrate": 9600}})
TYPES = (V.UINT8, V.UINT16, V.INT32, V.FLOAT32, V.UINT64, V.FLOAT64, V.STRING)


def point(slot: int, offset: int, type_: V = V.UINT16, endpoint: ModbusEndpoint = TCP, **fields: Any) -> Any:
    length = {"length": 5} if type_ == V.STRING else {}
    address = ModbusAddress.model_validate({"table": "holding", "offset": offset, **length, **fields})
    return Point(slot, "default/plc", f"p{slot}", type_, endpoint, address)


def extents(reads: Sequence[Read]) -> list[tuple[int, int]]:
    return [read.extent for read in reads]


endpoints = st.builds(
    lambda line, size, gap, zones: ModbusEndpoint.model_validate(
        {
            **({"serial": {"port": "/dev/ttyUSB0", "baudrate": 9600}} if line else {"host": "plc"}),
            "maxRegisters": size, "maxBits": 16 * size, "gap": gap,
            "forbidden": [{"table": "holding", "start": s, "end": s + n} for s, n in zones],
        }
    ),
    st.booleans(),
    st.integers(5, 125),
    st.none() | st.integers(0, 30),
    st.lists(st.tuples(st.integers(0, 250), st.integers(0, 10)), max_size=3),
)  # fmt: skip
places = st.lists(
    st.tuples(st.sampled_from(("holding", "coil")), st.integers(0, 260), st.sampled_from(TYPES), st.integers(1, 2)),
    min_size=1,
    max_size=40,
)  # fmt: skip
pairs = st.dictionaries(st.tuples(st.integers(0, 130), st.integers(131, 260)), st.just(1e9), max_size=3)


@given(endpoints, places, pairs)
def test_every_plan_is_complete_and_within_limits(endpoint: ModbusEndpoint, where: Any, apart: Any) -> None:
    points = [
        point(slot, offset, V.BOOL, endpoint.model_copy(update={"unit": unit}), table="coil")
        if table == "coil"
        else point(slot, offset, type_, endpoint.model_copy(update={"unit": unit}))
        for slot, (table, offset, type_, unit) in enumerate(where)
    ]
    refused = {extent(points[0]): Refusal(PointError("no"), 0.0)}
    learned = {(1, points[0].address.table): Learned(apart, refused)}
    result = plan(points, points[0].endpoint, learned)
    covered = [p.slot for read in result.reads for p in read.points] + [p.slot for _, p in result.rejected]
    assert sorted(covered) == list(range(len(points))), "every point in exactly one request"
    for read in result.reads:
        assert read.count <= (endpoint.max_bits if read.table == "coil" else endpoint.max_registers)
        assert all(read.start <= extent(p)[0] and extent(p)[1] <= read.end for p in read.points), "split"
        assert all((p.endpoint.unit, p.address.table) == (read.unit, read.table) for p in read.points), (
            "mixed"
        )
        if read.table == "holding":
            assert all(z.end < read.start or z.start >= read.end for z in endpoint.forbidden), "forbidden"
        known = learned.get((read.unit, read.table))
        if known and len({extent(p) for p in read.points}) > 1:
            assert not any(
                read.start <= a and b < read.end for a, b in known.apart if len(items(read.points)) > 1
            )
    cost = cost_of(endpoint)
    spent = sum(cost.request + cost.byte * read.size for read in result.reads)
    single = sum(
        cost.request + cost.byte * data_size(p.address.table, extent(p)[1] - extent(p)[0])
        for read in result.reads
        for p in read.points
    )
    assert spent <= single + 1e-9


@given(st.booleans(), st.lists(st.integers(0, 200), min_size=1, max_size=8, unique=True), st.integers(1, 125))
def test_no_other_cut_is_cheaper(line: bool, offsets: list[int], size: int) -> None:
    endpoint = (LINE if line else TCP).model_copy(update={"max_registers": size})
    points = [point(slot, offset, endpoint=endpoint) for slot, offset in enumerate(sorted(offsets))]
    cost = cost_of(endpoint)

    def price(runs: Sequence[tuple[int, int]]) -> float:
        return sum(cost.request + cost.byte * 2 * (end - start) for start, end in runs)

    row = sorted(offsets)
    best = float("inf")
    for cuts in itertools.product((False, True), repeat=len(row) - 1):
        bounds = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), len(row)]
        runs = [(row[a], row[b - 1] + 1) for a, b in itertools.pairwise(bounds)]
        if all(end - start <= size for start, end in runs):
            best = min(best, price(runs))
    assert abs(price(extents(plan(points, endpoint, {}).reads)) - best) < 1e-9


def test_a_hole_is_read_over_where_that_is_quicker() -> None:
    near, far = [0, 10], [0, 100]
    for endpoint, offsets, requests in ((TCP, far, 1), (LINE, near, 1), (LINE, far, 2)):
        points = [point(slot, offset, endpoint=endpoint) for slot, offset in enumerate(offsets)]
        assert len(plan(points, endpoint, {}).reads) == requests, (endpoint.kind, offsets)


def test_gap_and_forbidden_bound_it() -> None:
    narrow = TCP.model_copy(update={"gap": 3})
    assert extents(plan([point(0, 0, endpoint=narrow), point(1, 4, endpoint=narrow)], narrow, {}).reads) == [
        (0, 5)
    ]
    assert extents(plan([point(0, 0, endpoint=narrow), point(1, 5, endpoint=narrow)], narrow, {}).reads) == [
        (0, 1),
        (5, 6),
    ]
    zone = ModbusEndpoint.model_validate(
        {"host": "plc", "forbidden": [{"table": "holding", "start": 2, "end": 2}]}
    )
    result = plan(
        [point(0, 0, endpoint=zone), point(1, 2, endpoint=zone), point(2, 4, endpoint=zone)], zone, {}
    )
    assert extents(result.reads) == [(0, 1), (4, 5)]
    assert [(p.slot, str(e)) for e, p in result.rejected] == [
        (1, "default/plc p1: holding 2 lies in the forbidden range 2..2")
    ]


def test_a_wide_value_is_never_split() -> None:
    small = TCP.model_copy(update={"max_registers": 5})
    points = [point(slot, 4 * slot, V.UINT64, small) for slot in range(5)]
    assert extents(plan(points, small, {}).reads) == [(0, 4), (4, 8), (8, 12), (12, 16), (16, 20)]
    tiny = TCP.model_copy(update={"max_registers": 3})
    ((error, _),) = plan([point(0, 0, V.UINT64, tiny)], tiny, {}).rejected
    assert "is 4 registers, the device gives 3 in one answer" in str(error)


def test_overlapping_points_share_a_request() -> None:
    points = [point(0, 0, V.UINT32), point(1, 1), point(2, 0, bit=3), point(3, 1, V.UINT32)]
    assert extents(plan(points, TCP, {}).reads) == [(0, 3)]


def test_conflicting_devices_on_a_link_are_named() -> None:
    other = LINE.model_copy(
        update={"serial": LINE.serial and LINE.serial.model_copy(update={"baudrate": 19200})}
    )
    result = plan([point(0, 0, endpoint=LINE), point(1, 1, endpoint=other)], LINE, {})
    assert [read.slots for read in result.reads] == [(0,)]
    message = "default/plc disagrees with another device on /dev/ttyUSB0: baudrate 9600 and 19200"
    assert [str(error) for error, _ in result.rejected] == [message]


def test_what_was_learned_is_planned_around() -> None:
    points = [point(slot, slot) for slot in range(6)]
    learned = Learned(refused={(2, 3): Refusal(PointError("gone"), 0.0)})
    assert extents(plan(points, TCP, {(1, "holding"): learned}).reads) == [(0, 2), (2, 3), (3, 6)]
    (whole,) = plan(points, TCP, {}).reads
    halves = split(whole)
    assert halves is not None and extents(halves) == [(0, 3), (3, 6)]
    keep_apart(learned, *halves, 1.0)
    assert extents(plan(points[3:] + points[:2], TCP, {(1, "holding"): learned}).reads) == [(0, 2), (3, 6)]


def test_splitting_ends() -> None:
    whole = plan([point(0, 0, V.UINT32), point(1, 1), point(2, 1)], TCP, {}).reads[0]
    halves = split(whole)
    assert halves is not None and [h.slots for h in halves] == [(0,), (1, 2)]
    assert [split(h) for h in halves] == [None, None]
    learned = Learned()
    keep_apart(learned, *halves, 1.0)
    assert not learned.apart, "half of it asks for all of it: nothing to keep apart"


def test_thousands_of_points_are_planned_soon() -> None:
    points = [point(slot, 3 * slot) for slot in range(5000)]
    reads = plan(points, TCP, {}).reads
    assert sum(len(read.points) for read in reads) == 5000 and len(reads) == 120
