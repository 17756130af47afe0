"""A durable queue of records: a log of segment files that survives kills, power cuts, full and failing disks.

What a record goes through, and what each word promises:

- *stored*: written to the page cache; survives the end of this process, by whatever signal.
- *durable*: covered by a successful sync of its file and of the folder; survives a power cut.
- *settled*: delivered (`ack`), or dropped under a policy that is counted. Never read again.

One kind of file and no ledger: deleting is unlinking whole files, so it needs no space, and no second file
can disagree with the first. A file that an earlier process wrote is never appended to. A file whose sync
failed is never synced again (the kernel has dropped its pages and would report success): its records are
written anew, to another file, at new positions, so they may be delivered twice and are never lost.

Not thread-safe: everything but `SyncJob.run` belongs in one thread.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator, Mapping, Sequence

from devicemesh.sink import segment as fmt
from devicemesh.sink.clock import Clock, SystemClock
from devicemesh.sink.durability import Durability, Record, Unsynced
from devicemesh.sink.files import Files, SyncJob, TornError
from devicemesh.sink.folder import FileSystem
from devicemesh.sink.inspect import dump, verify
from devicemesh.sink.replay import Chunk, Reader, Segment, recover
from devicemesh.sink.settled import Range, Settled
from devicemesh.sink.tally import OutboxStats, Tally
from devicemesh.sink.writer import Appended, Place, Writer, batches

__all__ = ["Appended", "Chunk", "Outbox", "OutboxStats", "Record", "SyncJob", "dump", "verify"]

FRAME_BYTES = 256 * 1024  # what one damaged frame may cost at most, but for a single larger record
_UNSYNCED_BYTES = 8 << 20  # kept in memory until durable
_RANGES = 64  # settled ranges in a checkpoint; what is beyond them may be sent twice after a restart
_RETRY_S = 1.0  # between attempts to write to a failing medium
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Outbox:
    """Opening reads what is there and begins a new epoch; content never makes it fail.

    `epoch` is greater than any before it, also where the folder was lost, as far as the clock is right.
    """

    def __init__(
        self,
        fs: FileSystem,
        *,
        segment_bytes: int = 4 << 20,
        max_bytes: int = 1 << 30,
        max_age_s: float | None = None,
        clock: Clock | None = None,
        on_moved: Callable[[int, int], None] = lambda old, new: None,
    ) -> None:
        """Raises OSError when the folder can't be listed. `on_moved(old, new)` tells where a copy went."""
        self._fs, self._clock, self._on_moved = fs, clock or SystemClock(), on_moved
        self._max_bytes, self._max_age_s = max_bytes, max_age_s
        found = recover(fs, self._clock)
        wall_s = self._clock.wall_ns() // 10**9
        self.epoch = max(found.generation + 1, wall_s if wall_s < fmt.LATEST_EPOCH else 0)
        segment_bytes = min(segment_bytes, max(1, max_bytes // 32))
        self._frame_bytes = min(FRAME_BYTES, segment_bytes)
        self._files = Files(fs, found.segments, self.epoch, segment_bytes, self._clock)
        self._writer = Writer(self._files, self._clock, self._checkpoint)
        self._next, self._next_sample = found.position, found.sample
        self._settled = Settled(found.acked, found.acked_sample)
        for each in found.ranges:
            self._settled.add(*each)
        recovered = max(0, self._next_sample - self._settled.samples)
        self._tally = Tally(found.position, recovered, found.dropped)
        for segment in found.segments:
            self._tally.mark(segment.position, segment.time_ns)
        self._volatile = (0, 0)  # positions that only the caller has
        self._reader = Reader(fs)
        self._durability = Durability()
        self._rest_until = 0.0
        self.epoch_is_durable = False  # until then only the clock keeps it from coming again
        self.write_failures = self.sync_failures = 0
        self.last_error: OSError | None = None
        self._begin()

    def _begin(self) -> None:
        """Make what was recovered durable, then the new epoch."""
        for each in self._files.segments:
            try:
                self._files.prove_recovered(each)
            except OSError as error:  # still read and sent, but never claimed
                self.sync_failures, self.last_error = self.sync_failures + 1, error
                self._durability.disclaim(each.position, self._files.end(each, self._end)[0])
        self._persist(lambda: self._writer.start(self._end))
        with contextlib.suppress(OSError):
            self.sync()
            for each in self._files.segments[:-1]:
                if self._files.end(each, self._end)[0] == each.position:
                    self._files.remove(each)  # an epoch in which nothing was appended
            self._reap()

    @property
    def _end(self) -> tuple[int, int]:
        return self._next, self._next_sample

    @property
    def next(self) -> int:
        """Position of the next record."""
        return self._next

    @property
    def acked(self) -> int:
        """Every position below is settled."""
        return self._settled.position

    @property
    def waiting(self) -> int:
        """Records that are not settled."""
        beyond = sum(end - start for start, end, _, _ in self._settled.ranges) if self._settled.ranges else 0
        return self._next - self._settled.position - beyond

    @property
    def ranges(self) -> int:
        """Stretches that were settled out of order."""
        return len(self._settled.ranges)

    @property
    def durable(self) -> int:
        """Every position below is durable, or settled."""
        return self._durability.durable

    # -- writing

    def append(self, records: Sequence[Record], contexts: Mapping[int, bytes]) -> Appended:
        """Take records; never raises for trouble with the disk, see `Appended`.

        `contexts` has the bytes of every key in use: they never change, and the mapping outlives the call.
        """
        (position, sample), stored = self._end, 0
        ok = self._clock.boottime() >= self._rest_until
        for batch in batches(records, self._frame_bytes):
            samples = sum([each[1] for each in batch])
            self._tally.own.taken += samples
            ok = ok and self._store(batch, samples, contexts, None)
            if ok:
                stored += len(batch)
                continue
            start = self._volatile[0] if self._volatile[1] > self._settled.position else self._next
            self._next, self._next_sample = self._next + len(batch), self._next_sample + samples
            self._volatile = (start, self._next)
        self._bound()
        return Appended(position, sample, stored)

    def _store(
        self, records: Sequence[Record], samples: int, contexts: Mapping[int, bytes], origin: Place | None
    ) -> bool:
        """Write one frame at the next position; False when there is no way to."""
        body, place = fmt.pack_records(records), self._end
        written: list[tuple[Segment, int]] = []
        if not self._persist(lambda: written.append(self._writer.records(records, body, contexts, place))):
            return False
        (segment, time_ns), now = written[0], self._clock.boottime()
        if self._settled.position == self._next:
            self._tally.forget_marks()
        self._tally.mark(self._next, time_ns)
        entry = Unsynced(segment, *place, samples, records, contexts, now, len(body), origin)
        self._durability.note(entry)
        self._next, self._next_sample = entry.end, self._next_sample + samples
        segment.newest, segment.end = now, self._next
        return True

    def _persist(self, write: Callable[[], None]) -> bool:
        """Write, in a new file or instead of the oldest one if need be."""
        renewed = 0
        while True:
            try:
                write()
            except OSError as error:
                self.write_failures, self.last_error = self.write_failures + 1, error
                if error.errno in _FULL and not isinstance(error, TornError):
                    if self._drop_oldest("disk_full"):
                        continue
                    return False
                self._files.retire()  # a torn frame, a limit per file, a bad sector: another file may do
                renewed += 1
                if renewed < 3:
                    continue
                self._rest_until = self._clock.boottime() + _RETRY_S
                return False
            return True

    def _checkpoint(self) -> fmt.Checkpoint:
        settled, dropped = self._settled, self._tally.dropped_ever()
        place, ranges = (settled.position, settled.sample), settled.ranges[:_RANGES]
        keep = self._durability.keep_from
        if keep is not None and keep < place:  # an original may turn out to be the only copy
            place, ranges = keep, ()
        return fmt.Checkpoint(self._clock.boot_id, self._clock.boottime(), *place, dropped, ranges)

    # -- settling

    def ack(self, position: int, sample: int, samples: int) -> int:
        """Settle one record as delivered; return its samples, or 0 when it was settled before."""
        fresh = self._settle((position, position + 1, sample, sample + samples))
        return self._tally.book(position).publish(fresh)

    def drop(self, position: int, sample: int, samples: int, policy: str) -> int:
        """Settle one record as dropped; return its samples, or 0 when it was settled before."""
        return self._lose((position, position + 1, sample, sample + samples), policy)

    def is_settled(self, position: int) -> bool:
        return position in self._settled

    def _settle(self, span: Range) -> int:
        before = self._settled.position
        fresh = self._settled.add(*span)
        self._writer.stale = True
        if self._settled.position != before:
            self._durability.settle(self._settled.position)
            segments = self._files.segments
            if len(segments) > 1 and segments[1].position <= self._settled.position:
                self._reap()
        return fresh

    def _lose(self, span: Range, policy: str) -> int:
        return self._tally.book(span[0]).drop(self._settle(span), policy)

    def _reap(self) -> None:
        """Unlink files that nobody needs any more, from the oldest on."""
        segments, keep = self._files.segments, self._durability.keep_from
        limit = self._settled.position if keep is None else min(keep[0], self._settled.position)
        while len(segments) > 1 and segments[1].position <= limit:
            try:
                self._files.remove(segments[0])
            except OSError as error:  # read-only: with the next acknowledgement
                self.last_error = error
                return

    # -- bounds

    def _drop_oldest(self, policy: str) -> bool:
        """Give up the oldest file that has bytes; False when there is none but the last one."""
        segments = self._files.segments
        while len(segments) > 1:
            oldest, after = segments[0], segments[1]
            try:
                self._files.remove(oldest)
            except OSError as error:
                self.last_error = error
                return False
            self._lose((oldest.position, after.position, oldest.sample, after.sample), policy)
            if oldest.size:
                return True
        return False

    def _bound(self) -> None:
        while self._files.bytes > self._max_bytes and self._drop_oldest("outbox_bytes"):
            pass

    def expire(self) -> None:
        """Drop files with nothing newer than the bound; a file takes new records for an eighth of it."""
        if self._max_age_s is None:
            return
        now, active = self._clock.boottime(), self._files.active
        if active is not None and active.end > active.position and now - active.started > self._max_age_s / 8:
            self._persist(lambda: self._writer.start(self._end))
        while self._files.segments and now - self._files.segments[0].newest > self._max_age_s:
            if not self._drop_oldest("outbox_age"):
                return

    def recycle(self, above_bytes: int = 1 << 18) -> None:
        """With everything settled, begin anew and unlink the old file: it may never reach the medium."""
        active = self._files.active
        if active is not None and self._settled.position == self._next and active.size > above_bytes:
            self._persist(lambda: self._writer.start(self._end))
            self._reap()

    def checkpoint(self) -> None:
        """Write down what is settled, lest it be sent again after a restart; writing records does it too."""
        try:
            self._writer.checkpoint(self._end)
        except OSError as error:
            self.write_failures, self.last_error = self.write_failures + 1, error
            self._files.retire()

    # -- durability

    def sync(self) -> int:
        """Make all that is stored durable; return the watermark. Raises OSError when that failed twice."""
        for attempt in (1, 2):
            job = self.begin_sync()
            if job is None:
                break
            job.run()
            if self.end_sync(job):
                break
            if attempt == 2 and job.error is not None:
                raise job.error
        return self.durable

    def unsynced_since(self) -> float | None:
        """Boottime of the oldest stored record that is neither settled nor durable."""
        return self._durability.oldest()

    def begin_sync(self) -> SyncJob | None:
        """Start a sync: call the job's `run` in any thread, then `end_sync`. None when all is durable."""
        if self._files.syncing:
            return None
        lost = self._durability.take_lost()
        while lost and self._copy(lost[0]):
            lost.popleft()
        self._durability.put_back(lost)
        self._durability.shed(_UNSYNCED_BYTES)
        self._durability.update_keep()
        self._bound()
        return self._files.begin_sync()

    def end_sync(self, job: SyncJob) -> bool:
        """Take the result in; False when it failed: the next sync writes those records anew."""
        if not self._files.end_sync(job):
            self.sync_failures, self.last_error = self.sync_failures + 1, job.error
            return False
        if job.files:
            self.epoch_is_durable = True  # all of our files carry it, or a later one
            self._durability.prove(job.end)
        self._durability.update_keep()
        self._reap()
        return True

    def _copy(self, entry: Unsynced) -> bool:
        """Write records anew that a failed sync left unproven."""
        if entry.end <= self._settled.position:
            return True
        live, at, sample = [], entry.position, entry.sample
        for record in entry.records:
            if at not in self._settled:
                live.append((at, record))
            at, sample = at + 1, sample + record[1]
        if not live:
            return True
        new, records = self._next, [record for _, record in live]
        samples = sum([each[1] for each in records])
        if not self._store(records, samples, entry.contexts, (entry.position, entry.sample)):
            return False
        self._durability.update_keep()  # before anything is settled, and with it unlinked
        self._settle((entry.position, entry.end, entry.sample, entry.sample + entry.samples))
        for offset, (old, _) in enumerate(live):
            self._on_moved(old, new + offset)
        return True

    # -- reading

    def read(self, position: int, max_bytes: int = 1 << 18) -> Chunk:
        """Read what is not settled, from `position` on; damage counts as `corrupt`. OSError: not now."""
        start = max(position, self._settled.position)
        items, gaps, end = self._reader.read(self._files.segments, self._end, start, max_bytes)
        for gap in gaps:
            for span in self._without_volatile(gap):
                self._lose(span, "corrupt")
        if self._settled.ranges:
            items = [each for each in items if each.position not in self._settled]
        return Chunk(items, end)

    def _without_volatile(self, gap: Range) -> Iterator[Range]:
        """The parts of a gap that are damage: what was never on disk is not missing there."""
        start, end, first, last = gap
        low, high = self._volatile
        if high <= start or end <= low:
            yield gap
            return
        if start < low:
            yield start, low, first, min(last, first + low - start)
        if high < end:
            yield high, end, max(first, last - (end - high)), last

    def stats(self) -> OutboxStats:
        settled, tally, waiting = self._settled, self._tally, self.waiting
        tally.close_books(settled.position, self._next)
        return OutboxStats(
            taken=tally.own.taken,
            published=tally.own.published,
            dropped=dict(tally.own.dropped),
            spooled=tally.own.spooled,
            recovered=tally.recovered,
            dropped_ever=dict(zip(fmt.POLICIES, tally.dropped_ever(), strict=False)),
            messages=waiting,
            bytes=self._files.bytes,
            capacity_bytes=self._max_bytes,
            oldest_s=tally.oldest_s(settled.position) if waiting else 0.0,
            write_failures=self.write_failures,
            sync_failures=self.sync_failures,
        )

    def close(self) -> None:
        """Write down what is settled, make all durable, let go. Raises OSError when it can't be durable."""
        try:
            self.checkpoint()
            self.sync()
        finally:
            self._files.release()
