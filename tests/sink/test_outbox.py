"""The outbox, case by case; `test_outbox_model.py` looks for the cases that nobody thought of."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from typing import Any

import pytest

from devicemesh.sink.outbox import FRAME_BYTES, Outbox
from devicemesh.sink.segment import POLICIES
from devicemesh.testing.disk import SimulatedDisk

CONTEXTS = {1: b"pump-1", 2: b"pump-2"}
Drain = Callable[[Outbox], list[bytes]]
Conserved = Callable[[Outbox], None]


class Bench:
    """A disk, and one outbox after the other on it."""

    def __init__(self, seed: int, clock: Any) -> None:
        self.disk = SimulatedDisk(random.Random(seed))
        self.clock = clock
        self.serial = 0

    def open(self, **options: Any) -> Outbox:
        options = {"segment_bytes": 3000, "clock": self.clock} | options
        self.outbox = Outbox(self.disk, **options)
        return self.outbox

    def put(self, count: int = 1, size: int = 100, samples: int = 3, key: int = 1) -> list[bytes]:
        bodies = []
        for _ in range(count):
            self.serial += 1
            bodies.append(b"%06d" % self.serial + b"." * size)
        at = self.outbox.append([(key, samples, body) for body in bodies], CONTEXTS)
        self.first, self.stored = at.position, at.stored
        return bodies

    def kill(self, **options: Any) -> Outbox:
        self.disk.kill()
        return self.open(**options)

    def cut(self, **options: Any) -> Outbox:
        self.disk.cut()
        return self.open(**options)

    def acknowledge(self, count: int) -> None:
        for item in self.outbox.read(self.outbox.acked, 1 << 30).items[:count]:
            self.outbox.ack(item.position, item.sample, item.samples)


@pytest.fixture(params=range(8))
def bench(request: pytest.FixtureRequest, clock: Any) -> Bench:
    return Bench(request.param, clock)


@pytest.fixture
def one(clock: Any) -> Bench:
    return Bench(0, clock)


def bodies(outbox: Outbox) -> list[bytes]:
    return [item.body for item in outbox.read(outbox.acked, 1 << 30).items]


def test_records_come_back_in_order_with_their_context(
    one: Bench, drain: Drain, conserved: Conserved
) -> None:
    outbox = one.open()
    sent = one.put(5) + one.put(3, key=2) + one.put(1, size=9000)
    items = outbox.read(0, 1 << 20).items
    assert [item.body for item in items] == sent
    assert [item.context for item in items] == [b"pump-1"] * 5 + [b"pump-2"] * 3 + [b"pump-1"]
    assert [item.sample for item in items] == [3 * i for i in range(9)]
    assert outbox.stats().spooled == 27
    assert drain(outbox) == sent
    assert outbox.stats().published == 27
    conserved(outbox)


def test_a_kill_loses_nothing_and_begins_a_new_epoch(one: Bench, drain: Drain, conserved: Conserved) -> None:
    first = one.open().epoch
    sent = one.put(40)
    outbox = one.kill()
    assert outbox.epoch > first
    assert outbox.next == 40
    assert outbox.stats().recovered.spooled == 120
    assert drain(outbox) == sent
    conserved(outbox)


def test_synced_records_survive_a_power_cut(bench: Bench) -> None:
    outbox = bench.open()
    sent = bench.put(3) + bench.put(30)
    assert outbox.sync() == 33
    bench.put(5)
    outbox = bench.cut()
    assert outbox.next >= 33
    assert bodies(outbox)[:33] == sent


def test_what_a_dead_process_wrote_is_made_durable_before_it_is_claimed(bench: Bench) -> None:
    bench.open()
    sent = bench.put(30)
    outbox = bench.kill()
    assert outbox.durable == 30
    assert bodies(bench.cut()) == sent


def test_recovered_records_that_can_not_be_made_durable_are_not_claimed(one: Bench) -> None:
    one.open()
    one.outbox.sync()
    one.put(30)
    one.disk.kill()
    one.disk.fail["sync"] = 1.0
    outbox = one.open()
    one.disk.fail.clear()
    one.put(1)
    outbox.sync()
    assert outbox.durable < 30  # though the newest record is
    assert outbox.stats().sync_failures >= 1


def test_a_file_is_never_synced_again_after_its_sync_failed(bench: Bench) -> None:
    outbox = bench.open()
    sent = bench.put(10)
    bench.disk.fail["sync"] = 1.0
    with pytest.raises(OSError):
        outbox.sync()
    assert outbox.durable < 10
    bench.disk.fail.clear()
    bench.put(1)
    outbox.sync()
    assert outbox.durable == 10  # the originals are settled; of their copies nothing is claimed
    assert set(bodies(outbox)) <= {*sent, b"000011" + b"." * 100}


def test_the_next_process_claims_only_what_the_medium_has(bench: Bench) -> None:
    """A sync that failed is forgotten with the process; syncing the file again would succeed."""
    bench.open()
    sent = bench.put(30)
    bench.disk.fail["sync"] = 1.0
    with pytest.raises(OSError):
        bench.outbox.sync()
    outbox = bench.kill()
    assert outbox.durable == outbox.next
    claimed = bodies(outbox)
    assert set(claimed) <= set(sent)
    assert bodies(bench.cut()) == claimed


def test_records_of_a_failed_sync_are_written_anew(bench: Bench, conserved: Conserved) -> None:
    outbox = bench.open()
    sent = bench.put(10)
    bench.disk.fail["sync"] = 1.0
    job = outbox.begin_sync()
    assert job is not None
    job.run()
    assert not outbox.end_sync(job)
    bench.disk.fail.clear()
    outbox.sync()
    assert outbox.durable == outbox.next == 20  # the ten again, at new positions
    conserved(outbox)
    assert outbox.stats().spooled == 30
    assert bodies(outbox) == sent
    assert bodies(bench.cut())[-10:] == sent


def test_a_copy_that_is_not_durable_does_not_shadow_its_original(one: Bench) -> None:
    """The folder's sync fails, the data's does not: the originals may be all there is after a cut."""
    outbox = one.open()
    sent = one.put(10) + one.put(20)  # in two files, of which the folder has one only
    originals = set(one.disk.names())
    one.disk.fail["folder"] = 1.0
    job = outbox.begin_sync()
    assert job is not None
    job.run()
    assert not outbox.end_sync(job)
    one.disk.fail.clear()
    job = outbox.begin_sync()  # writes the copies, and never gets to prove them
    assert job is not None
    one.put(1)  # with it, what is settled would reach the page cache
    outbox.checkpoint()
    assert bodies(outbox)[:30] == sent
    assert originals <= set(one.disk.names())
    for name in set(one.disk.names()) - originals:
        one.disk.damage(name, b"")  # the copies do not survive
    assert set(sent) <= set(bodies(one.kill()))


def test_an_acknowledgement_does_not_outrun_the_copies(one: Bench) -> None:
    """As above, but of the files with copies only the last acknowledgement survives."""
    outbox = one.open()
    sent = one.put(10) + one.put(20)
    one.disk.fail["folder"] = 1.0
    job = outbox.begin_sync()
    assert job is not None
    job.run()
    outbox.end_sync(job)
    one.disk.fail.clear()
    outbox.begin_sync()
    outbox.checkpoint()
    newest = one.disk.names()[-1]
    data = one.disk.read(newest, 0, 1 << 20)
    last = data.rindex(b"DMA\x01")
    one.disk.damage(newest, bytes(last) + data[last:])
    assert set(sent) <= set(bodies(one.kill()))


def test_originals_go_once_their_copies_are_durable(one: Bench) -> None:
    outbox = one.open()
    one.put(30)
    originals = set(one.disk.names())
    one.disk.fail["sync"] = 1.0
    job = outbox.begin_sync()
    assert job is not None
    job.run()
    outbox.end_sync(job)
    one.disk.fail.clear()
    outbox.sync()
    assert not originals & set(one.disk.names())


def test_acknowledgements_ride_with_the_next_records(one: Bench, drain: Drain) -> None:
    one.open()
    sent = one.put(5)
    one.acknowledge(3)
    sent += one.put(1)
    assert drain(one.kill()) == sent[3:]


def test_a_dying_medium_is_not_filled_with_copies(one: Bench, conserved: Conserved) -> None:
    outbox = one.open()
    one.put(10)
    one.disk.fail["sync"] = 1.0
    for _ in range(20):
        with pytest.raises(OSError):
            outbox.sync()
        one.put(1)
    assert outbox.stats().bytes < 30_000
    assert outbox.durable < 10
    conserved(outbox)


def test_a_sync_claims_only_what_was_there_when_it_began(bench: Bench) -> None:
    outbox = bench.open()
    sent = bench.put(3)
    job = outbox.begin_sync()
    assert job is not None
    job.run()
    more = bench.put(40)  # into the same file, and into another one
    assert outbox.end_sync(job)
    assert outbox.durable == 3
    outbox.sync()
    assert outbox.durable == 43
    assert bodies(bench.cut()) == sent + more


def test_what_is_written_during_a_sync_waits_for_the_next(bench: Bench) -> None:
    outbox = bench.open()
    bench.put(1)
    job = outbox.begin_sync()
    assert job is not None
    job.run()
    more = bench.put(2)  # into the same file
    outbox.end_sync(job)
    bench.put(60)  # on to other files: the first one is closed to writing
    outbox.sync()
    assert outbox.durable == 63
    assert bodies(bench.cut())[1:3] == more


def test_a_file_unlinked_during_its_sync_is_closed_after_it(one: Bench) -> None:
    outbox = one.open()
    one.put(40)
    job = outbox.begin_sync()
    assert job is not None
    one.acknowledge(40)
    job.run()  # the simulated disk does not forgive a closed descriptor
    assert outbox.end_sync(job)
    outbox.close()


def test_all_acknowledged_still_keeps_position_and_epoch(bench: Bench) -> None:
    outbox = bench.open()
    for _ in range(5):
        bench.put(10)
        bench.acknowledge(10)
        outbox.recycle(above_bytes=0)
    outbox.sync()
    epoch = outbox.epoch
    for reopen in (bench.kill, bench.cut, bench.cut):
        outbox = reopen()
        assert (outbox.next, outbox.stats().recovered.spooled) == (50, 0)
        assert outbox.epoch > epoch
        epoch = outbox.epoch
    assert len(bench.disk.names()) == 1


def test_acknowledgements_are_remembered(one: Bench, drain: Drain) -> None:
    outbox = one.open()
    sent = one.put(20)
    one.acknowledge(7)
    items = outbox.read(0, 1 << 20).items
    for item in (items[3], items[5], items[4]):  # out of order
        assert outbox.ack(item.position, item.sample, item.samples) == 3
    outbox.checkpoint()
    outbox = one.kill()
    assert outbox.stats().recovered.spooled == 30
    assert drain(outbox) == sent[7:10] + sent[13:]


def test_an_acknowledgement_beyond_torn_data_keeps_the_position(one: Bench) -> None:
    """Positions must not come again when only the acknowledgement's sector reached the medium."""
    outbox = one.open()
    outbox.sync()
    one.put(1, size=5000)
    one.acknowledge(1)
    outbox.checkpoint()
    name = one.disk.names()[0]
    data = bytearray(one.disk.read(name, 0, 1 << 20))
    data[600:4600] = bytes(4000)
    one.disk.damage(name, bytes(data))
    assert one.kill().next == 1


def test_nothing_is_written_to_a_file_of_an_earlier_process(one: Bench) -> None:
    one.open()
    one.put(1)
    before = {name: one.disk.size(name) for name in one.disk.names()}
    one.kill()
    one.put(1)
    assert all(one.disk.size(name) == size for name, size in before.items())


def test_epochs_without_records_leave_no_files(one: Bench) -> None:
    one.open()
    one.put(1)
    for _ in range(10):
        one.kill()
    assert len(one.disk.names()) == 2


def test_a_lost_folder_does_not_bring_an_epoch_back(one: Bench) -> None:
    one.clock.wall = 1_800_000_000 * 10**9
    epoch = one.open().epoch
    one.disk = SimulatedDisk(random.Random(1))
    one.clock.wall += 10**9
    assert one.open().epoch > epoch
    one.clock.wall = 1 << 62  # a clock that can't be believed
    assert one.kill().epoch == one.outbox.epoch


def test_the_bound_drops_the_oldest_and_counts_it(one: Bench, drain: Drain, conserved: Conserved) -> None:
    outbox = one.open(max_bytes=96_000)
    sent = one.put(2000)
    stats = outbox.stats()
    assert 80_000 < stats.bytes <= 96_000
    assert stats.dropped["outbox_bytes"] > 0
    assert stats.spooled + stats.dropped["outbox_bytes"] == 3 * 2000
    conserved(outbox)
    outbox.checkpoint()
    left = drain(outbox)
    assert left == sent[-len(left) :]
    outbox = one.kill()
    assert outbox.stats().dropped_ever["outbox_bytes"] == stats.dropped["outbox_bytes"]


def test_age_is_measured_on_the_boot_clock(one: Bench, drain: Drain, conserved: Conserved) -> None:
    outbox = one.open(max_age_s=800)
    old = one.put(3)
    for jump in (10**9 * 86400 * 1000, -(10**9) * 86400 * 2000):
        one.clock.wall += jump
        outbox.expire()
    assert outbox.stats().dropped["outbox_age"] == 0
    one.clock.advance(500)
    outbox.expire()
    young = one.put(2)
    one.clock.advance(400)
    outbox.expire()
    assert outbox.stats().dropped["outbox_age"] == 3 * len(old)
    assert drain(outbox) == young
    conserved(outbox)


def test_age_across_boots_is_measured_by_the_wall(one: Bench) -> None:
    one.clock.wall = 10**18
    one.open()
    one.put(3)
    one.clock.boot_id, one.clock.boot = b"nextboot", 5.0
    one.clock.wall += 1000 * 10**9
    outbox = one.kill(max_age_s=2000)
    outbox.expire()
    assert outbox.stats().recovered.dropped["outbox_age"] == 0
    one.clock.boot += 1001
    outbox.expire()
    assert outbox.stats().recovered.dropped["outbox_age"] == 9


def test_age_within_a_boot_survives_a_restart_and_a_clock_jump(one: Bench) -> None:
    one.open()
    one.put(3)
    one.clock.advance(100)
    one.clock.wall += 10**18
    outbox = one.kill(max_age_s=200)
    outbox.expire()
    assert outbox.stats().recovered.dropped["outbox_age"] == 0
    one.clock.advance(201)
    outbox.expire()
    assert outbox.stats().recovered.dropped["outbox_age"] == 9


def test_the_oldest_waiting_record_has_a_time(one: Bench) -> None:
    outbox = one.open()
    assert outbox.stats().oldest_s == 0
    one.clock.advance(10)
    one.put(1)
    one.clock.advance(50)
    one.put(1)
    assert outbox.stats().oldest_s == 10
    one.acknowledge(1)
    assert outbox.stats().oldest_s == 60
    one.acknowledge(1)
    assert outbox.stats().oldest_s == 0
    one.clock.advance(5)
    one.put(1)
    assert outbox.stats().oldest_s == 65


# -- a disk that is full, or breaks


def test_a_full_disk_costs_the_oldest_and_heals_by_itself(
    one: Bench, drain: Drain, conserved: Conserved
) -> None:
    one.disk.capacity = 20_000
    outbox = one.open()
    sent = [body for _ in range(60) for body in one.put(10)]
    assert outbox.stats().dropped["disk_full"] > 0
    conserved(outbox)
    left = drain(outbox)
    assert left == sent[-len(left) :]
    assert len(left) > 50


def test_without_any_room_records_stay_with_the_caller(one: Bench, conserved: Conserved) -> None:
    outbox = one.open()
    one.disk.capacity = 0
    one.put(2)
    assert (one.first, one.stored, outbox.next) == (0, 0, 2)
    assert outbox.stats().spooled == 6
    assert outbox.read(0).items == []
    assert outbox.stats().dropped["corrupt"] == 0  # never on disk, so not missing there
    assert outbox.ack(0, 0, 3) == 3
    assert outbox.drop(1, 3, 3, "disk_full") == 3
    one.disk.capacity = 1 << 30
    sent = one.put(2)
    assert one.stored == 2
    assert bodies(outbox) == sent
    conserved(outbox)
    assert bodies(one.kill()) == sent


def test_a_broken_write_goes_on_in_a_new_file(bench: Bench, drain: Drain, conserved: Conserved) -> None:
    outbox = bench.open()
    sent = bench.put(4)
    bench.disk.fail["short"] = 0.5
    for _ in range(20):
        put = bench.put(4)
        assert bench.stored in (0, 4)
        if bench.stored:
            sent += put
        else:
            for index in range(4):
                outbox.drop(bench.first + index, 3 * (bench.first + index), 3, "disk_full")
            bench.clock.boot += 2
    bench.disk.fail.clear()
    bench.clock.boot += 2
    sent += bench.put(1)
    conserved(outbox)
    outbox.sync()
    assert outbox.durable == outbox.next  # the torn files are durable too: they hold earlier records
    assert bodies(bench.cut()) == sent


def test_a_failing_medium_is_left_alone_for_a_while(one: Bench) -> None:
    one.open()
    one.disk.fail["write"] = 1.0
    one.put(1)
    failures = one.outbox.write_failures
    one.put(1)
    assert (one.stored, one.outbox.write_failures) == (0, failures)
    one.disk.fail.clear()
    one.clock.boot += 1
    one.put(1)
    assert one.stored == 1


def test_read_only_and_back(one: Bench, conserved: Conserved) -> None:
    outbox = one.open()
    sent = one.put(30)
    one.disk.read_only = True
    one.acknowledge(29)
    one.put(2)
    assert one.stored == 0
    assert isinstance(outbox.last_error, OSError)
    assert outbox.last_error.errno == errno.EROFS
    for index in range(2):
        outbox.ack(one.first + index, 3 * (one.first + index), 3)
    one.disk.read_only = False
    one.clock.boot += 2
    sent += one.put(1)
    assert bodies(outbox) == [sent[29], sent[30]]
    conserved(outbox)
    assert bodies(one.kill()) == [sent[29], sent[30]]


def test_opening_on_a_full_disk_makes_room_for_the_epoch(one: Bench, conserved: Conserved) -> None:
    outbox = one.open()
    one.put(200)
    one.disk.capacity = outbox.stats().bytes
    outbox = one.kill()
    assert outbox.epoch_is_durable
    assert outbox.stats().recovered.dropped["disk_full"] > 0
    conserved(outbox)


# -- damage


def damaged(rng: random.Random, disk: SimulatedDisk) -> str:
    """Hurt one file in one of the ways that media and people do."""
    name = rng.choice(disk.names())
    data = bytearray(disk.read(name, 0, 1 << 30))
    kind = rng.choice(["flip", "truncate", "zeros", "garbage", "unlink", "duplicate", "swap", "empty"])
    at = rng.randrange(len(data) + 1)
    if kind == "unlink":
        disk.forget(name)
        return kind
    match kind:
        case "flip" if data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        case "truncate":
            del data[at:]
        case "zeros":
            data[at : at + 2000] = bytes(len(data[at : at + 2000]))
        case "garbage":
            data[at : at + 1000] = rng.randbytes(rng.randrange(3000))
        case "duplicate":
            data += bytes(data)
        case "swap":
            data = data[at:] + data[:at]
        case "empty":
            data.clear()
    disk.damage(name, bytes(data))
    return kind


@pytest.mark.parametrize("seed", range(300))
def test_any_damage_is_survived_and_counted(
    seed: int, clock: Any, drain: Drain, conserved: Conserved
) -> None:
    bench, rng = Bench(seed, clock), random.Random(seed)
    outbox = bench.open()
    sent = [body for _ in range(20) for body in bench.put(5)]
    bench.acknowledge(17)
    outbox.checkpoint()
    bench.disk.kill()
    kinds = [damaged(rng, bench.disk) for _ in range(rng.choice([1, 1, 1, 3])) if bench.disk.names()]
    outbox = bench.open()
    left = drain(outbox)
    conserved(outbox)
    stats = outbox.stats()
    assert stats.spooled == stats.recovered.spooled == stats.messages == 0
    assert [body for body in sent if body in set(left)] == left  # in order, nothing twice, nothing else
    if kinds == ["flip"]:
        assert len(set(sent[17:]) - set(left)) <= 5, "one bit costs one frame"
        assert stats.recovered.dropped["corrupt"] in (0, 3, 6, 9, 12, 15)
    on = bench.put(2)
    assert drain(outbox) == on


def test_damage_is_counted_in_samples(one: Bench, drain: Drain) -> None:
    outbox = one.open(segment_bytes=1 << 20)
    one.put(1, samples=10)
    one.put(2, samples=7)
    one.put(1, samples=1)
    name = one.disk.names()[0]
    data = bytearray(one.disk.read(name, 0, 1 << 20))
    data[data.index(b"000003")] ^= 1
    one.disk.damage(name, bytes(data))
    assert len(drain(outbox)) == 2
    assert outbox.stats().dropped["corrupt"] == 14
    assert outbox.stats().published == 11


def test_samples_are_counted_across_files_with_damaged_starts(one: Bench, drain: Drain) -> None:
    one.open()
    one.put(120)  # five files
    one.disk.kill()
    for name in one.disk.names()[1:3]:
        one.disk.damage(name, b"")
    outbox = one.open()
    assert len(drain(outbox)) == 120 - 56
    stats = outbox.stats().recovered
    assert (stats.published, stats.dropped["corrupt"]) == (3 * (120 - 56), 3 * 56)


def test_of_a_lost_end_only_the_records_are_known(one: Bench, drain: Drain) -> None:
    one.open()
    one.put(80)
    one.disk.kill()
    names = one.disk.names()
    assert [int(name[:16], 16) for name in names] == [0, 28, 56]
    for name in names[1:]:
        one.disk.damage(name, b"")
    outbox = one.open()
    assert outbox.next == 56
    drain(outbox)
    stats = outbox.stats().recovered
    assert (stats.published, stats.dropped["corrupt"]) == (3 * 28, 28)


def test_a_damaged_context_is_found_elsewhere_in_the_file(one: Bench, drain: Drain) -> None:
    outbox = one.open(segment_bytes=1 << 22)
    sent = [body for _ in range(8) for body in one.put(1, size=100_000)]
    name = one.disk.names()[0]
    data = bytearray(one.disk.read(name, 0, 1 << 22))
    data[data.index(b"pump-1")] ^= 1
    one.disk.damage(name, bytes(data))
    assert drain(outbox) == sent


def test_without_any_copy_of_its_context_a_record_is_corrupt(one: Bench, drain: Drain) -> None:
    outbox = one.open()
    one.put(2)
    sent = one.put(2, key=2)
    name = one.disk.names()[0]
    data = bytearray(one.disk.read(name, 0, 1 << 20))
    data[data.index(b"pump-1")] ^= 1
    one.disk.damage(name, bytes(data))
    assert drain(outbox) == sent
    assert outbox.stats().dropped["corrupt"] == 6


def test_an_unreadable_sector_is_damage(one: Bench, drain: Drain, conserved: Conserved) -> None:
    outbox = one.open()
    one.put(40)
    one.disk.fail["read"] = 1.0
    assert drain(outbox) == []
    one.disk.fail.clear()
    conserved(outbox)
    assert outbox.stats().dropped["corrupt"] == 120


def test_foreign_files_are_left_alone(one: Bench) -> None:
    for name in ("notes.txt", "f" * 16 + "-00000001.seg", "0" * 16 + "-ffffffff.seg", "0" * 16 + ".seg"):
        one.disk.create(name)
    one.disk.kill()
    outbox = one.open()
    assert (outbox.next, outbox.epoch) == (0, 1)
    assert len(one.disk.names()) == 5


def test_a_device_can_not_forge_records(one: Bench, drain: Drain) -> None:
    """A body that holds a whole file must never be taken for frames, not even after damage before it."""
    one.open()
    one.put(1)
    forged = one.disk.read(one.disk.names()[0], 0, 1 << 20)
    one.disk = SimulatedDisk(random.Random(0))
    outbox = one.open(segment_bytes=1 << 20)
    outbox.append([(1, 1, forged)], CONTEXTS)
    outbox.append([(1, 1, b"after")], CONTEXTS)
    name = one.disk.names()[0]
    data = bytearray(one.disk.read(name, 0, 1 << 20))
    data[data.index(forged) - 1] ^= 1  # in the body's lengths: its checksum fails, its header stands
    one.disk.damage(name, bytes(data))
    assert drain(outbox) == [b"after"]


# -- sizes


def test_large_batches_are_split_and_large_records_are_not(one: Bench, drain: Drain) -> None:
    outbox = one.open(segment_bytes=4 << 20, max_bytes=1 << 30)
    sent = one.put(40, size=30_000) + one.put(1, size=2 * FRAME_BYTES)
    assert one.stored == 1
    assert drain(outbox) == sent


def test_appending_nothing_is_nothing(one: Bench) -> None:
    outbox = one.open()
    size = outbox.stats().bytes
    assert outbox.append([], {}).stored == 0
    assert (outbox.next, outbox.stats().bytes) == (0, size)


def test_memory_for_unsynced_records_is_bounded(one: Bench) -> None:
    outbox = one.open(segment_bytes=4 << 20)
    for _ in range(100):
        one.put(1, size=200_000)
        one.clock.boot += 0.1
    one.disk.fail["sync"] = 1.0
    job = outbox.begin_sync()
    assert job is not None
    job.run()
    outbox.end_sync(job)
    assert outbox._durability.bytes <= 8 << 20
    assert outbox.durable == 0


def test_every_policy_is_in_the_figures(one: Bench) -> None:
    assert tuple(one.open().stats().dropped) == POLICIES


def test_reading_goes_on_where_it_stopped(one: Bench) -> None:
    outbox = one.open()
    sent = one.put(60)
    got: list[bytes] = []
    position = 0
    for size in (1, 500, 1, 2000, 100_000):
        chunk = outbox.read(position, size)
        got += [item.body for item in chunk.items]
        position = chunk.end
    assert got == sent
    assert outbox.read(30, 1).items[0].body == sent[30]
    assert outbox.read(outbox.next).items == []
