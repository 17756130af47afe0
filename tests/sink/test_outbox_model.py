"""The outbox on a failing disk that loses power, against plain dictionaries: thousands of lives of it."""

from __future__ import annotations

import contextlib
import os
import random
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from devicemesh.sink.files import SyncJob
from devicemesh.sink.inspect import waiting
from devicemesh.sink.outbox import Outbox
from devicemesh.sink.segment import Item
from devicemesh.testing.disk import SimulatedDisk

SEGMENT = 3000
FAULTS = ["write", "sync", "create", "short", "folder", "unlink"]


class StoppedClock:
    """The wall clock never moves: epochs must be told apart by the files alone."""

    boot_id = b"thisboot"

    def __init__(self) -> None:
        self.boot = 0.0

    def boottime(self) -> float:
        return self.boot

    def wall_ns(self) -> int:
        return 0


class OutboxMachine(RuleBasedStateMachine):
    outbox: Outbox

    @initialize(
        seed=st.integers(0, 2**32),
        capacity=st.sampled_from([1 << 30, 20_000]),
        max_bytes=st.sampled_from([1 << 30, 9_000]),
        max_age_s=st.sampled_from([None, 50.0]),
    )
    def start(self, seed: int, capacity: int, max_bytes: int, max_age_s: float | None) -> None:
        self.rng = random.Random(seed)
        self.disk = SimulatedDisk(self.rng, capacity)
        self.clock = StoppedClock()
        self.max_bytes, self.max_age_s = max_bytes, max_age_s
        self.serial = 0
        self.contexts = {key: b"context %d" % key for key in range(4)}
        self.told: dict[int, tuple[bytes, int]] = {}  # position -> body, samples: as appended
        self.stored: set[int] = set()  # of those, what was reported as stored by this process
        self.claimed: dict[int, bytes] = {}  # below the watermark: must be read until it is settled
        self.by_epoch: dict[tuple[int, int], bytes] = {}
        self.durable_epochs: set[int] = set()
        self.job: SyncJob | None = None
        self.damage_expected = False
        self.cursor = 0
        self.open()

    def open(self) -> None:
        self.outbox = Outbox(
            self.disk,
            segment_bytes=SEGMENT,
            max_bytes=self.max_bytes,
            max_age_s=self.max_age_s,
            clock=self.clock,
            on_moved=self.moved,
        )
        # a small bound would also make the segments tiny
        self.outbox._files._segment_bytes = SEGMENT
        assert self.outbox.epoch not in self.durable_epochs, "an epoch came twice"
        if self.outbox.epoch_is_durable:
            self.durable_epochs.add(self.outbox.epoch)
        self.job, self.stored, self.cursor = None, set(), self.outbox.acked
        assert self.outbox.acked <= self.outbox.next

    def moved(self, old: int, new: int) -> None:
        assert new not in self.told or new >= self.outbox.next
        self.told[new] = self.told[old]
        self.stored.add(new)
        self.by_epoch[self.outbox.epoch, new] = self.told[old][0]

    # -- what the sink does

    @rule(sizes=st.lists(st.integers(0, 700), min_size=1, max_size=8), samples=st.integers(1, 5))
    def append(self, sizes: list[int], samples: int) -> None:
        records = []
        for size in sizes:
            self.serial += 1
            records.append((self.serial % 4, samples, b"%d." % self.serial + b"x" * size))
        first = self.outbox.next
        at = self.outbox.append(records, self.contexts)
        assert at.position == first
        assert self.outbox.next == first + len(records)
        sample = at.sample
        for index, (_, count, body) in enumerate(records):
            position = at.position + index
            if self.outbox.epoch_is_durable:  # else only the wall clock tells it from others
                key = (self.outbox.epoch, position)
                assert self.by_epoch.setdefault(key, body) == body, "a position came twice in an epoch"
            if index < at.stored:
                self.told[position] = (body, count)
                self.stored.add(position)
            elif self.rng.random() < 0.5:
                assert self.outbox.ack(position, sample, count) == count
            else:
                assert self.outbox.drop(position, sample, count, "disk_full") == count
            sample += count

    @rule(count=st.integers(1, 30), skip=st.integers(0, 3), max_bytes=st.sampled_from([1, 1000, 1 << 20]))
    def deliver(self, count: int, skip: int, max_bytes: int) -> None:
        chunk = self.outbox.read(self.cursor, max_bytes)
        last = self.cursor - 1
        for item in chunk.items:
            self.check(item)
            assert item.position > last, "out of order"
            last = item.position
        for item in chunk.items[skip : skip + count]:
            samples = self.outbox.ack(item.position, item.sample, item.samples)
            assert samples in (0, item.samples)
            assert not self.outbox.ack(item.position, item.sample, item.samples), "acknowledged twice"
            self.claimed.pop(item.position, None)
        self.cursor = chunk.end

    @rule()
    def rewind(self) -> None:
        self.cursor = self.outbox.acked

    @rule()
    def refuse_one(self) -> None:
        for item in self.outbox.read(self.outbox.acked, 1).items[:1]:
            self.outbox.drop(item.position, item.sample, item.samples, "too_large")
            self.claimed.pop(item.position, None)

    @rule()
    def sync(self) -> None:
        if self.job is None:
            try:
                self.outbox.sync()
            except OSError:
                return
            self.claim()

    @precondition(lambda self: self.job is None)
    @rule()
    def begin_sync(self) -> None:
        self.job = self.outbox.begin_sync()
        if self.job is not None and self.rng.random() < 0.5:
            self.job.run()

    @precondition(lambda self: self.job is not None)
    @rule(run=st.booleans())
    def end_sync(self, run: bool) -> None:
        assert self.job is not None
        if run or self.job.error is None:
            self.job.run()
        job, self.job = self.job, None
        if self.outbox.end_sync(job):
            self.claim()

    def claim(self) -> None:
        readable = {item.position for item in waiting(self.disk, [])}
        for position in range(self.outbox.acked, self.outbox.durable):
            # of what was recovered, only what could be read then: the rest is counted
            if position in self.told and (position in self.stored or position in readable):
                self.claimed[position] = self.told[position][0]

    @rule()
    def tend(self) -> None:
        self.outbox.checkpoint()
        self.outbox.recycle(above_bytes=1000)

    @rule(seconds=st.sampled_from([0.0, 2.0, 30.0]))
    def later(self, seconds: float) -> None:
        self.clock.boot += seconds
        self.outbox.expire()

    # -- what happens to it

    @rule(operation=st.sampled_from(FAULTS), chance=st.sampled_from([0.0, 0.3, 1.0]))
    def fault(self, operation: str, chance: float) -> None:
        self.disk.fail[operation] = chance
        self.damage_expected |= operation == "sync"

    @rule(read_only=st.booleans())
    def remount(self, read_only: bool) -> None:
        self.disk.read_only = read_only

    @rule(capacity=st.sampled_from([1 << 30, 20_000, 4_000, 0]))
    def others_fill_the_disk(self, capacity: int) -> None:
        self.disk.capacity = capacity

    @rule(power=st.booleans())
    def crash(self, power: bool) -> None:
        before, sick = self.outbox, self.disk.sick
        readable = {item.position for item in waiting(self.disk, [])}
        stored_end = max(self.stored, default=-1) + 1
        self.damage_expected |= power
        if power:
            self.disk.cut()
        else:
            self.disk.kill()
        self.open()
        assert self.outbox.next >= before.durable, "a durable position was lost"
        if not power and not sick:
            assert self.outbox.next >= stored_end, "a kill lost records"
            for position in range(before.acked, self.outbox.next):
                if position in readable and not before.is_settled(position):
                    self.claimed[position] = self.told[position][0]  # in the page cache: must be read
        for position in [each for each in self.told if each >= self.outbox.next]:
            del self.told[position]
            self.claimed.pop(position, None)

    @rule()
    def restart(self) -> None:
        if self.job is not None:
            self.end_sync(run=True)
        with contextlib.suppress(OSError):
            self.outbox.close()
        self.crash(power=False)

    # -- what must hold

    def check(self, item: Item) -> None:
        body, samples = self.told[item.position]
        assert (item.body, item.samples) == (body, samples), "wrong content"
        serial = int(body.split(b".")[0])
        assert item.context == b"context %d" % (serial % 4), "wrong context"

    @invariant()
    def every_sample_is_accounted_for(self) -> None:
        stats = self.outbox.stats()
        assert stats.taken == stats.published + sum(stats.dropped.values()) + stats.spooled
        for book in (stats, stats.recovered):
            assert min(stats.messages, book.spooled, book.published, *book.dropped.values()) >= 0
            assert self.damage_expected or not book.dropped["corrupt"]
        assert stats.bytes == sum(self.disk.size(name) for name in self.disk.names())

    @invariant()
    def what_is_durable_can_be_read(self) -> None:
        readable: dict[int, Any] = {}
        for item in waiting(self.disk, []):
            assert item.position not in readable
            self.check(item)
            readable[item.position] = item.body
        oldest = min((int(name[:16], 16) for name in self.disk.names()), default=0)
        for position, body in list(self.claimed.items()):
            if position < oldest or self.outbox.is_settled(position):
                del self.claimed[position]
            else:
                assert readable.get(position) == body, f"durable record {position} lost"

    @invariant()
    def bounded(self) -> None:
        if not self.disk.fail.get("unlink") and not self.disk.read_only:
            assert self.outbox.stats().bytes <= self.max_bytes + 2 * (SEGMENT + 8 * 800)

    @rule()
    def heal(self) -> None:
        """On a healthy disk everything left is delivered or counted, and on it goes."""
        self.disk.fail.clear()
        self.disk.read_only, self.disk.capacity = False, 1 << 30
        self.clock.boot += 2
        position = self.outbox.acked
        delivered = set()
        while position < self.outbox.next:
            chunk = self.outbox.read(position)
            assert chunk.end > position, "no progress"
            for item in chunk.items:
                self.check(item)
                delivered.add(item.position)
                self.outbox.ack(item.position, item.sample, item.samples)
            position = chunk.end
        assert delivered >= set(self.claimed)
        self.claimed.clear()
        stats = self.outbox.stats()
        assert (stats.spooled, stats.recovered.spooled, stats.messages) == (0, 0, 0)
        self.append([10, 20], 1)
        assert self.outbox.next - 1 in self.told
        if self.job is not None:
            self.end_sync(run=True)
        self.outbox.sync()
        assert self.outbox.durable == self.outbox.next
        assert self.outbox.epoch_is_durable
        self.durable_epochs.add(self.outbox.epoch)
        self.claim()


OutboxMachine.TestCase.settings = settings(
    max_examples=int(os.environ.get("OUTBOX_EXAMPLES", "120")),
    stateful_step_count=50,
    deadline=None,
    derandomize="OUTBOX_EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    report_multiple_bugs=False,
)
TestOutboxModel = OutboxMachine.TestCase
