"""The files of an outbox: one is written, the others wait to be read, synced or unlinked."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Sequence
from dataclasses import dataclass

from devicemesh.sink.clock import Clock
from devicemesh.sink.folder import FileSystem
from devicemesh.sink.replay import Segment
from devicemesh.sink.segment import file_name


class TornError(OSError):
    """A write was cut short: what follows belongs in a new file."""


@dataclass(slots=True)
class SyncJob:
    """The blocking part of a sync: `run` may be called in another thread, nothing else of the outbox may."""

    fs: FileSystem
    files: Sequence[tuple[Segment, int, int]]  # with descriptor, and size when the job began
    folder: bool  # whether names changed
    changes: int  # of the folder, which the sync of it covers
    end: int  # position up to which a success proves the records
    error: OSError | None = None

    def run(self) -> None:
        try:
            for _, descriptor, _ in self.files:
                self.fs.sync(descriptor)
            if self.folder:
                self.fs.sync_folder()
        except OSError as error:
            self.error = error


class Files:
    """Segments in the order of their positions. Every method may raise OSError."""

    def __init__(
        self, fs: FileSystem, segments: list[Segment], generation: int, segment_bytes: int, clock: Clock
    ) -> None:
        self.segments = segments
        self.active: Segment | None = None
        self.bytes = sum(each.size for each in segments)
        self._fs, self._clock = fs, clock
        self._generation = generation
        self._segment_bytes = segment_bytes
        self._changes, self._proven_changes = 1, 0  # an earlier process may have left some unproven
        self._job: SyncJob | None = None
        self._to_close: list[int] = []

    def room(self, position: int, sample: int, length: int) -> Segment:
        """Return the file for `length` more bytes: the active one, or a new one that begins at `position`."""
        active = self.active
        if active is None or (active.end > active.position and active.size + length > self._segment_bytes):
            return self.open(position, sample)
        return active

    def open(self, position: int, sample: int) -> Segment:
        """Begin a new file, of a name never used before; one that still waits for its first bytes will do."""
        if self.active is not None and not self.active.size:
            return self.active
        self.retire()
        if self.segments and self.segments[-1].position == position:
            self._generation += 1
        name = file_name(position, self._generation)
        descriptor = self._fs.create(name)
        now = self._clock.boottime()
        self.active = Segment(
            position,
            sample,
            self._generation,
            name,
            time_ns=self._clock.wall_ns(),
            started=now,
            newest=now,
            descriptor=descriptor,
            end=position,
        )
        self.segments.append(self.active)
        self._changes += 1
        return self.active

    def retire(self) -> None:
        """Write no more to the active file."""
        self.active = None

    def write(self, segment: Segment, data: bytes) -> None:
        """Append to a file. Raises `TornError` when not all of it went in, OSError when nothing did."""
        assert segment.descriptor is not None
        written = self._fs.write(segment.descriptor, data)
        segment.size += written
        segment.dirty = True
        self.bytes += written
        if written != len(data):
            raise TornError(errno.ENOSPC, "short write", segment.name)

    def end(self, segment: Segment, last: tuple[int, int]) -> tuple[int, int]:
        """Where the records of a file end, as (position, sample); `last` for the last one."""
        index = self.segments.index(segment) + 1
        if index == len(self.segments):
            return last
        return self.segments[index].position, self.segments[index].sample

    def remove(self, segment: Segment) -> None:
        """Unlink a file that is not the last one: the last one's name carries position and epoch."""
        assert segment is not self.segments[-1]
        with contextlib.suppress(FileNotFoundError):
            self._fs.unlink(segment.name)
        self.segments.remove(segment)
        self.bytes -= segment.size
        self._close(segment)

    def prove_recovered(self, segment: Segment) -> None:
        """Make a file of an earlier process durable: it may be in the page cache only."""
        self._fs.sync_name(segment.name)

    # -- syncing

    @property
    def syncing(self) -> bool:
        return self._job is not None

    def begin_sync(self) -> SyncJob | None:
        """Collect what is not durable; None when all is, or a job is under way."""
        if self._job is not None:
            return None
        files = [
            (each, each.descriptor, each.size)
            for each in self.segments
            if each.dirty and each.descriptor is not None
        ]
        folder = self._changes != self._proven_changes
        if not files and not folder:
            return None
        end = files[-1][0].end if files else 0
        self._job = SyncJob(self._fs, files, folder, self._changes, end)
        return self._job

    def end_sync(self, job: SyncJob) -> bool:
        """Take a job's result in: True when all of its files are durable, False when they never will be."""
        self._job = None
        for segment, _, size in job.files:
            if job.error is None:
                segment.dirty = segment.size > size
            else:  # the kernel dropped pages: another sync would report success and prove nothing
                segment.dirty, segment.failed = False, True
                if segment is self.active:
                    self.retire()
            if segment is not self.active and not segment.dirty:
                self._close(segment)
        if job.error is None:
            self._proven_changes = job.changes
        for descriptor in self._to_close:
            self._close_now(descriptor)
        self._to_close.clear()
        return job.error is None

    def _close(self, segment: Segment) -> None:
        if segment.descriptor is None:
            return
        descriptor, segment.descriptor = segment.descriptor, None
        if self._job is not None:  # a thread may be syncing it: its number must not be given to another file
            self._to_close.append(descriptor)
        else:
            self._close_now(descriptor)

    def _close_now(self, descriptor: int) -> None:
        # a late write error: a sync will have told, or nothing was promised
        with contextlib.suppress(OSError):
            self._fs.close(descriptor)

    def release(self) -> None:
        """Close all and let go of the folder."""
        for each in self.segments:
            self._close(each)
        self.active = None
        self._fs.release()
