"""What one poll of 100 registers costs in the C core: `python benchmarks/core_quick.py`.

Prints nanoseconds a value, the best of several rounds (the machine may be shared). The chain is what the
runtime does: decode an answer, push its batch, take the record, encode it as JSON.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence

from devicemesh.aggregate import Aggregator, Kind, Report, Series, encode_json
from devicemesh.layout import Field, Layout
from devicemesh.mapper import Batch
from devicemesh.sink.base import Declaration
from devicemesh.sink.sparkplug.metrics import metrics_of
from devicemesh.sink.sparkplug.table import Table
from devicemesh.spec.device import Property
from devicemesh.spec.statistics import COMMON
from devicemesh.spec.values import ValueType

VALUES = 100
ROUNDS, CALLS = 15, 2000
SECOND = 10**9
NOW = 1_795_235_285 * SECOND


def best_ns(function: Callable[[], object]) -> float:
    """Nanoseconds a call in the best round."""
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter_ns()
        for _ in range(CALLS):
            function()
        rounds.append((time.perf_counter_ns() - start) / CALLS)
    return min(rounds)


def report(what: str, ns: float) -> None:
    print(f"{what:<58} {ns / VALUES:8.1f} ns/value {ns / 1000:8.2f} us")


def aggregator(how: Report, kind: Kind = Kind.FLOAT, statistics: Sequence[str] = COMMON) -> Aggregator:
    core = Aggregator(1)
    for slot in range(VALUES):
        name, rules = f"property_{slot}", {"deadband": 0.5, "window_ns": SECOND, "statistics": statistics}
        core.define(Series(slot, 0, name, kind, how, **rules))
    core.advance(NOW)
    return core


class Poll:
    """Answers that differ from poll to poll, and time that goes on."""

    def __init__(self, layout: Layout, answers: list[bytes]) -> None:
        self.layout = layout
        self.answers = answers
        self.now = NOW
        self.count = 0

    def batches(self) -> list[Batch]:
        self.count += 1
        self.now += SECOND // 100
        return self.layout.decode(self.answers[self.count % len(self.answers)], self.now)


def polls() -> dict[str, Poll]:
    slots = range(VALUES)
    int16 = [Field(2 * i, ValueType.INT16) for i in slots]
    scaled = [Field(2 * i, ValueType.INT16, scale=0.1) for i in slots]
    float32 = [Field(4 * i, ValueType.FLOAT32) for i in slots]
    words = [struct.pack(f">{VALUES}h", *range(1000 + n, 1000 + n + VALUES)) for n in (0, 7)]
    floats = [struct.pack(f">{VALUES}f", *(n + 0.37 * i for i in slots)) for n in (0, 7)]
    return {
        "int16": Poll(Layout(int16, slots), words),
        "int16 x 0.1": Poll(Layout(scaled, slots), words),
        "float32": Poll(Layout(float32, slots), floats),
    }


def push_only(core: Aggregator, poll: Poll) -> float:
    """Push, the records forgotten outside the clock."""
    best = float("inf")
    for _ in range(ROUNDS):
        spent = 0
        for _ in range(CALLS // 10):
            batches = [poll.batches() for _ in range(10)]
            start = time.perf_counter_ns()
            for (batch,) in batches:
                core.push(batch)
            spent += time.perf_counter_ns() - start
            core.take()
        best = min(best, spent / (CALLS // 10 * 10))
    return best


def encode_only(name: str, poll: Poll, kind: Kind) -> None:
    core = aggregator(Report.EVERY, kind)
    for batch in poll.batches():
        core.push(batch)
    (record,) = core.take()
    names = core.names(0)
    size = len(encode_json(record.body, names))
    label = f"encode_json {name} as {kind.name.lower()}, {len(record.body)} -> {size} bytes"
    report(label, best_ns(lambda: encode_json(record.body, names)))


def sparkplug_only(name: str, poll: Poll, kind: Kind) -> None:
    """The same record as a Sparkplug payload, by aliases."""
    core = aggregator(Report.EVERY, kind)
    for batch in poll.batches():
        core.push(batch)
    (record,) = core.take()
    names, type_ = core.names(0), "float32" if kind == Kind.FLOAT32 else "float64"
    properties = {one: Property.model_validate({"name": one, "type": type_}) for one in names}
    table = Table(metrics_of(Declaration(properties, {}, {})), list(properties.values()))

    def once() -> bytes:
        found = table.encode(record.body, names, 1 << 20, False, NOW // 10**6)
        assert found is not None
        return found

    label = f"sparkplug {name} as {type_}, {len(record.body)} -> {len(once())} bytes"
    report(label, best_ns(once))


def chain(core: Aggregator, poll: Poll) -> Callable[[], object]:
    names = core.names(0)

    def once() -> None:
        for batch in poll.batches():
            core.push(batch)
        for record in core.take():
            encode_json(record.body, names)

    return once


def main() -> None:
    for name, poll in polls().items():
        report(f"decode {VALUES} {name}", best_ns(poll.batches))
    poll = polls()["int16"]
    for how in (Report.EVERY, Report.CHANGE, Report.WINDOW):
        report(f"push {VALUES} int16, report {how.name.lower()}", push_only(aggregator(how), poll))
    for asked in (("timeAverage", "increase"), ("p50", "p95"), ("timeAverage", "increase", "p50", "p95")):
        core = aggregator(Report.WINDOW, statistics=asked)
        report(f"push {VALUES} int16, window of {', '.join(asked)}", push_only(core, poll))
    for name, poll in polls().items():
        for kind in (Kind.FLOAT, Kind.FLOAT32) if name == "float32" else (Kind.FLOAT,):
            encode_only(name, poll, kind)
            sparkplug_only(name, poll, kind)
    for name, poll in polls().items():
        for how in (Report.EVERY, Report.WINDOW):
            label = f"decode + push + take + encode_json, {name}, {how.name.lower()}"
            report(label, best_ns(chain(aggregator(how), poll)))


if __name__ == "__main__":
    main()
