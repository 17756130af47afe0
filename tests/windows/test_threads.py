"""Several threads at one object: nothing is lost, and nothing breaks. Means most on a build without the GIL."""

from __future__ import annotations

import threading
from array import array

from devicemesh._core import _native
from devicemesh.windows import Profile, Tumbling, WindowAggregator

SECOND = 10**9
START = 1_700_000_000 * SECOND
THREADS, ROUNDS = 4, 60


def in_threads(work):
    """Run work(number) in several threads at once; the first error is raised here."""
    errors = []
    gate = threading.Barrier(THREADS)

    def run(number):
        gate.wait()
        try:
            work(number)
        except BaseException as error:  # whatever it is, the test has failed
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_an_aggregator_counts_every_row_once():
    rows = 500
    aggregator = WindowAggregator(Tumbling(SECOND), lateness_ns=SECOND)
    series = 16
    aggregator.define(range(series), profile=aggregator.profile(Profile()))
    taken = [0] * THREADS

    def work(number):
        for turn in range(ROUNDS):
            start = START + turn * SECOND // 4
            aggregator.ingest(
                array("I", [(number + place) % series for place in range(rows)]),
                array("q", [start + place * 1000 + number for place in range(rows)]),
                array("d", [1.0]) * rows,
            )
            aggregator.add(number, start, 2.0)
            taken[number] += sum(aggregator.windows()["count"])
            aggregator.advance(START)

    in_threads(work)
    aggregator.flush()
    counts = aggregator.counts
    assert sum(counts) == THREADS * ROUNDS * (rows + 1)
    assert sum(taken) + sum(aggregator.windows()["count"]) == counts.counted


def test_a_sketch_counts_every_value_once():
    sketch, other = _native.Sketch(), _native.Sketch()
    other.update(array("d", range(100)))

    def work(number):
        for turn in range(ROUNDS):
            sketch.update(array("d", [number * 1000.0 + turn] * 50))
            sketch.add(turn)
            sketch.merge(other)
            assert sketch.quantile(0.5) >= 0
            _native.Sketch().read(sketch.to_bytes())

    in_threads(work)
    assert sketch.count == THREADS * ROUNDS * 151


def test_a_buffer_may_change_while_it_is_read():
    """A caller that breaks the rules gets wrong numbers, never a crash, and every row is still counted once."""
    rows = 20_000
    aggregator = WindowAggregator(Tumbling(SECOND), lateness_ns=SECOND, max_future_ns=100 * SECOND)
    aggregator.define(range(8), profile=aggregator.profile(Profile()))
    series = array("I", [0]) * rows
    times = array("q", [START]) * rows
    values = array("d", [1.0]) * rows
    pushed = [0] * THREADS

    def work(number):
        for turn in range(ROUNDS):
            if number % 2:
                at = turn * 331 % rows
                series[at : at + 5] = array("I", [4_000_000_000, 7, 1 << 31, 8, 0])
                times[at : at + 3] = array("q", [-1, 2**63 - 1, START + turn])
                values[at] = float("nan")
                series[at : at + 5] = array("I", [0] * 5)
                times[at : at + 3] = array("q", [START] * 3)
                _native.fold_dense(values)
                continue
            try:
                aggregator.ingest(series, times, values)
            except ValueError:
                continue  # it was seen before anything was taken
            pushed[number] += rows

    in_threads(work)
    assert sum(aggregator.counts) == sum(pushed)
