"""The readable twin of the C core: aggregation. Beside it: reference_series, _publish, _record, _decode.

Written for people and for the differential tests, which hold it and the core equal to the last bit; nothing
else uses it. `Aggregator` has the methods of `_native.Aggregator`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from devicemesh._core import reference_record as record
from devicemesh._core.reference_pace import CHANGE, Pace
from devicemesh._core.reference_publish import (
    DEADBAND,
    FUTURE,
    INEXACT,
    LATE,
    NO_VALUE,
    NONFINITE,
    OVERFLOW,
    RATE,
    TIME_LIMIT,
    UNDEFINED,
    UNREPORTED,
    Stream,
)
from devicemesh._core.reference_record import Value
from devicemesh._core.reference_series import (
    MAX_EXACT,
    Alarm,
    Reported,
    Series,
    Window,
    differs,
    of_kind,
    text_valid,
)
from devicemesh._core.tagged import Tag

UNDECODABLE, BAD = 0x85, 0x80
NONE, WINDOW = 0, 3  # reports
FUTURE_NS, OWN_CLOCK_NS = 3600 * 10**9, 10**9
MAX_EVENTS = 1 << 16
MAX_HELD = 60  # windows that open at once because a value is known in them
WINDOW_BYTES, DETAILS_BYTES = 104, 256  # sizeof(struct window), sizeof(struct details)


class Aggregator(Pace):
    """See aggregate.h, and the face in devicemesh.aggregate."""

    def __init__(self, epoch: int, max_pending_bytes: int) -> None:
        super().__init__(max_pending_bytes)
        self.epoch = epoch
        self.touched: list[int] = []
        self.events: list[tuple[int, int, bool, int, float]] = []

    def begin(self, epoch: int) -> None:
        self.epoch = epoch

    def counts(self) -> tuple[int, int, int, tuple[int, ...], dict[int, int]]:
        return self.read, self.taken, self.pending, tuple(self.dropped), dict(sorted(self.qualities.items()))

    def alarms(self) -> list[tuple[int, int, bool, int, float]]:
        events, self.events = self.events, []
        return events

    def latest(self, slot: int) -> tuple[int, float | None, int, bool] | None:
        row = self.series[slot].latest
        if row is None:
            return None
        time, quality, value = row
        return time, None if value.is_text else value.plain, quality, value.is_text

    # definitions

    def define(self, slot: int, stream_id: int, *rules: Any) -> None:
        stream = self.streams.setdefault(stream_id, Stream(epoch=self.epoch))
        stream.row = None
        series = Series(stream_id, *rules)
        series.alarms = [Alarm() for _ in series.limits]
        if series.report == WINDOW:
            stream.members.append(slot)
        if old := self.series.get(slot):
            self._retire(slot, old)
            if (old.stream, old.property) == (series.stream, series.property):
                series.latest = old.latest
                for index, (*_, carry) in enumerate(series.limits):
                    if 0 <= carry < len(old.limits):
                        series.alarms[index] = replace(old.alarms[carry])
                        old.alarms[carry].active = False
            self._end_alarms(slot, old)
        self.series[slot] = series

    def slot_at(self, stream: int, index: int) -> int | None:
        places = {(series.stream, series.property): slot for slot, series in self.series.items()}
        return places.get((stream, index))

    def remove(self, slot: int) -> bool:
        series = self.series.get(slot)
        if series is None:
            return False
        self._retire(slot, series)
        self._end_alarms(slot, series)
        del self.series[slot]
        return True

    def _retire(self, slot: int, series: Series) -> None:
        if series.report == WINDOW:
            stream = self.streams[series.stream]
            stream.closed[series.property] = self._closed_until(series)
            self._close(series, None)
            stream.members.remove(slot)

    def _end_alarms(self, slot: int, series: Series) -> None:
        for index, alarm in enumerate(series.alarms):
            if alarm.active and len(self.events) < MAX_EVENTS:
                time = series.latest[0] if series.latest else 0
                self.events.append((slot, index, False, time, math.nan))

    # rows in

    def push(self, slots: Any, times: Any, values: Any, qualities: Any) -> None:
        for row, (slot, number) in enumerate(zip(slots, values, strict=True)):
            time = times if isinstance(times, int) else times[row]
            quality = qualities if isinstance(qualities, int) else qualities[row]
            tag = Tag.FLOAT if isinstance(number, float) else Tag.INTEGER
            self.row(slot, time, quality, tag, number, float(number))
        self.settle()

    def row(self, slot: int, time: int, quality: int, tag: int, raw: Any, number: float) -> bool:
        self.read += 1
        self.qualities[quality] = self.qualities.get(quality, 0) + 1
        series = self.series.get(slot)
        if series is None:
            self.dropped[UNDEFINED] += 1
            return False
        why_bad = NO_VALUE
        value = Value(Tag(tag), raw)
        if quality < BAD:
            if value.tag == Tag.NULL:
                quality = BAD
            elif value.is_text and not text_valid(value):
                quality = UNDECODABLE
            elif value.is_float and not math.isfinite(raw):
                quality, why_bad = BAD, NONFINITE
        value = Value(Tag.NULL) if quality >= BAD else of_kind(series.kind, value)
        if quality < BAD:
            self._touch(series.stream, time)
        latest = self._is_latest(series, time, quality)
        if latest:
            series.latest = (time, quality, value)
            if value.tag != Tag.NULL:
                self._watch(slot, series, time, number)
        if series.report == NONE:
            self.dropped[UNREPORTED] += 1
        elif series.report == WINDOW:
            self._accumulate(series, time, quality, value, why_bad)
        else:
            self._report(series, time, quality, value, why_bad)
        return latest

    def _is_future(self, time: int) -> bool:
        return self.clock is not None and time > self.clock + FUTURE_NS

    def _touch(self, stream_id: int, time: int) -> None:
        stream = self.streams[stream_id]
        stream.pushed = True
        if stream.newest < time <= TIME_LIMIT and not self._is_future(time):
            if not stream.contact and self.clock is not None and self.clock - time > OWN_CLOCK_NS:
                stream.turn_back()
            stream.contact = True
            stream.newest = time
            if stream_id not in self.touched:
                self.touched.append(stream_id)

    def _is_latest(self, series: Series, time: int, quality: int) -> bool:
        if series.latest is None or quality >= BAD or series.latest[1] >= BAD:
            return True
        return time >= series.latest[0] or self._is_future(series.latest[0])

    def _watch(self, slot: int, series: Series, time: int, number: float) -> None:
        for index, (above, limit, clear, delay, _) in enumerate(series.limits):
            self._raise_delayed(slot, series, index, time)
            alarm = series.alarms[index]
            was = alarm.active
            beyond = number > limit if above else number < limit
            back = number < clear if above else number > clear
            now = not back if was else beyond
            if now and not was and delay:
                alarm.since = time if alarm.since is None else alarm.since
                alarm.value = number
                continue
            alarm.since = None
            if now != was and len(self.events) < MAX_EVENTS:
                alarm.active = now
                self.events.append((slot, index, now, time, number))

    def _raise_delayed(self, slot: int, series: Series, index: int, time: int) -> None:
        alarm, delay = series.alarms[index], series.limits[index][3]
        if alarm.since is not None and alarm.since + delay <= time:
            self.events.append((slot, index, True, alarm.since + delay, alarm.value))
            alarm.active, alarm.since = True, None

    def _report(self, series: Series, time: int, quality: int, value: Value, why_bad: int) -> None:
        last, on_change = series.reported, series.report == CHANGE
        news = last is None or last.quality != quality or self._heartbeat_due(series, time)
        if not news and quality >= BAD:
            self.dropped[why_bad] += 1
        elif not news and on_change and not differs(series, last, value):
            self.dropped[DEADBAND] += 1
            series.held = False  # it is back where it was
        elif not news and on_change and self._hold(series, time, value):
            self.dropped[RATE] += 1
        elif self._publish(series, time, quality, value):
            series.reported = Reported(time, quality, value)
            self._note(series, time)

    def _accumulate(self, series: Series, time: int, quality: int, value: Value, why_bad: int) -> None:
        start = time // series.length * series.length
        if self._is_future(time) or time > TIME_LIMIT:
            self.dropped[FUTURE] += 1
        elif time < -TIME_LIMIT or self._is_closed(series, start):
            self.dropped[LATE] += 1
        else:
            self._place(series, time, start, value, NO_VALUE if quality < BAD else why_bad)

    def _place(self, series: Series, time: int, start: int, value: Value, why: int) -> None:
        in_order = series.detailed() and series.in_order(time)
        if in_order:
            self._catch_up(series, start)
        window = self._window_for(series, start)
        if window is None:
            self.dropped[OVERFLOW] += 1
            return
        inexact = value.is_text or (value.tag == Tag.INTEGER and abs(value.plain) > MAX_EXACT)
        usable = value.tag != Tag.NULL and not inexact
        if in_order:
            series.step(start, time, float(value.plain) if usable else None)
        if not usable:
            window.bad += 1
            self.dropped[INEXACT if inexact else why] += 1
        else:
            window.rows.append((time, float(value.plain)))
            self.pending += 1

    def _window_for(self, series: Series, start: int) -> Window | None:
        if start not in series.windows:
            if not self._has_room(self._bytes(series)):
                return None
            series.windows[start] = Window()
            self.pending_bytes += self._bytes(series)
        return series.windows[start]

    def _catch_up(self, series: Series, start: int) -> None:
        """A row of the window that starts at `start` comes: until there the value before it held."""
        length = series.length
        newest = series.until // length * length
        if not series.known() or newest >= start:
            return
        if newest in series.windows:
            series.hold_in(newest, newest + length)
        if series.timed():
            for at in range(max(newest, start - MAX_HELD * length), start, length):
                if not self._is_closed(series, at) and self._window_for(series, at):
                    series.hold_in(at, at + length)

    @staticmethod
    def _bytes(series: Series) -> int:
        """Of a window, but for what its quantiles have on the heap."""
        return WINDOW_BYTES + DETAILS_BYTES * series.detailed()

    # time

    def settle(self) -> None:
        for stream_id in reversed(self.touched):
            stream = self.streams[stream_id]
            stream.own_clock = self.clock is not None and self.clock - stream.newest > OWN_CLOCK_NS
            self._move(stream, stream.newest)
        self.touched = []

    def advance(self, now: int) -> None:
        now = min(max(now, -TIME_LIMIT), TIME_LIMIT)
        if self.clock is not None and self.clock - now > OWN_CLOCK_NS:
            self._set_back(now)
        else:
            now = now if self.clock is None else max(self.clock, now)
        self.clock = now
        for _, stream in sorted(self.streams.items()):
            if stream.own_clock and stream.pushed:
                stream.lag = self.clock - stream.newest
            stream.pushed = False
            self._move(stream, self._clock_of(stream))
        for slot, series in sorted(self.series.items()):
            for index in range(len(series.limits)):
                self._raise_delayed(slot, series, index, self._clock_of(self.streams[series.stream]))
        self._repeat_resting(now)

    def _clock_of(self, stream: Stream) -> int:
        assert self.clock is not None
        return self.clock - stream.lag if stream.own_clock else self.clock

    def _set_back(self, now: int) -> None:
        """Our clock was set back: the times that it gave before are no measure for those that come."""
        self.flush()
        for stream in self.streams.values():
            stream.turn_back()
            stream.newest, stream.own_clock, stream.contact = -TIME_LIMIT, False, False
        for series in self.series.values():
            if series.latest and series.latest[0] > now:
                series.latest = (now, *series.latest[1:])
            if series.newest and series.newest[0] > now:
                series.newest = (now, series.newest[1])
            series.until, series.said = min(series.until, now), min(series.said, now)
            for alarm in series.alarms:
                alarm.since = min(alarm.since, now) if alarm.since is not None else None
            if series.report == WINDOW:
                self._open_known(series, now // series.length * series.length)

    def flush(self) -> None:
        for _, stream in sorted(self.streams.items()):
            for slot in stream.members:
                self._close(self.series[slot], None)

    def _closed_until(self, series: Series) -> int:
        stream = self.streams[series.stream]
        return max(stream.closed.get(series.property, -TIME_LIMIT), stream.watermark - series.lateness)

    def _is_closed(self, series: Series, start: int) -> bool:
        low, high = self.streams[series.stream].early.get(series.property, (0, 0))
        end = start + series.length
        return end <= self._closed_until(series) or (low <= start and end <= high)

    def _move(self, stream: Stream, watermark: int) -> None:
        if watermark > stream.watermark:
            stream.watermark = watermark
            for slot in stream.members:
                self._close(self.series[slot], watermark - self.series[slot].lateness)

    def _close(self, series: Series, until: int | None) -> None:
        """Publish the windows that end by `until` (None: all), and refuse rows for them from now on."""
        length = series.length
        while series.windows:
            start = min(series.windows)
            end = start + length
            if until is not None and end > until:
                break
            window = series.windows[start]
            if until is not None or window.rows or window.bad:
                self._publish_window(series, start, window)
            del series.windows[start]
            if until is None and not window.rows and not window.bad:
                self.pending_bytes -= self._bytes(series)
            if until is not None:
                jumped = until - end > MAX_HELD * length
                self._open_known(series, until // length * length if jumped else end)

    def _open_known(self, series: Series, start: int) -> None:
        """While its value is known, a series that weighs by time has a window in every span."""
        length = series.length
        if series.timed() and series.known() and series.in_order(start + length - 1):
            low, high = self.streams[series.stream].early.get(series.property, (0, 0))
            if low <= start and start + length <= high:
                start = high // length * length
            self._window_for(series, start)

    def _publish_window(self, series: Series, start: int, window: Window) -> None:
        stream, end = self.streams[series.stream], start + series.length
        stream.closed[series.property] = end
        first, _ = stream.recent.get(series.property, (start, end))
        stream.recent[series.property] = min(first, start), end
        if series.detailed():
            series.hold_in(start, end)
        self.pending_bytes -= self._bytes(series)
        body = self._open_record(series.stream, len(window.rows))
        stream.row = None
        span, rows = (start, series.length), (len(window.rows), window.bad)
        identity = (series.property, series.kind, series.mask)
        found, quantiles = window.statistics(series.length), window.quantiles(series.quantiles)
        self._append(body, record.window(identity, span, rows, found, quantiles))
