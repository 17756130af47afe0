#include <math.h>
#include <stdlib.h>

#include "aggregate_internal.h"

bool has_room(const struct aggregator *a, size_t more)
{
    return more <= a->max_pending_bytes && a->pending_bytes <= a->max_pending_bytes - more;
}

/* Account for what was appended to a stream's records since `before`. */
static void appended(struct aggregator *a, uint32_t id, size_t before)
{
    struct stream *stream = a->streams[id];
    a->pending_bytes += stream_bytes(stream) - before;
    if (!stream->ready) {
        stream->ready = true;
        a->ready[a->ready_count++] = id;
    }
}

bool publish_reading(struct aggregator *a, struct series *series, int64_t time, uint8_t quality,
                     const struct value *value)
{
    struct stream *stream = stream_of(a, series);
    size_t before = stream_bytes(stream);
    size_t text = value_is_text(value) ? value->text->length : 0;
    if (!has_room(a, RECORD_HEADER + RECORD_ROW_MAX + RECORD_READING_MAX + text) ||
        !stream_reading(stream, &series->reported.row, time, series->place.property, quality, value)) {
        drop(a, DROP_OVERFLOW);
        return false;
    }
    appended(a, series->place.stream, before);
    a->counts.pending++;
    return true;
}

static void publish_window(struct aggregator *a, const struct series *series, const struct window *window)
{
    struct stream *stream = stream_of(a, series);
    const struct rules *rules = series->rules;
    struct record_window record = {
        .property = series->place.property,
        .kind = rules->kind,
        .mask = rules->mask,
        .start = window->start,
        .length_ns = (uint64_t)rules->window_ns,
        .count = window->count,
        .bad = window->bad,
        .statistics = {window_mean(window), NAN, NAN, NAN, NAN, window_stddev(window)},
    };
    if (window->count) {
        record.statistics[STATISTIC_MIN] = window->min;
        record.statistics[STATISTIC_MAX] = window->max;
        record.statistics[STATISTIC_FIRST] = window->first;
        record.statistics[STATISTIC_LAST] = window->last;
    }
    size_t before = stream_bytes(stream);
    if (stream_window(stream, &record)) {
        appended(a, series->place.stream, before);
    } else { /* there was room for it, so this is the machine's memory */
        a->counts.pending -= window->count;
        a->counts.dropped[DROP_OVERFLOW] += window->count;
    }
}

void close_windows(struct aggregator *a, struct series *series, int64_t until)
{
    struct windows *windows = &series->windows;
    const struct rules *rules = series->rules;
    struct closed *closed = closed_of(a, series);
    uint32_t count = 0;
    while (count < windows->count && windows->items[count].start + rules->window_ns <= until) {
        int64_t start = windows->items[count].start;
        closed->first = start < closed->first ? start : closed->first;
        closed->until = closed->last = start + rules->window_ns;
        a->pending_bytes -= sizeof(struct window);
        publish_window(a, series, &windows->items[count++]);
    }
    windows_drop(windows, count);
}

void close_due(struct aggregator *a, struct stream *stream, int64_t watermark)
{
    if (watermark <= stream->watermark)
        return;
    stream->watermark = watermark;
    struct windowed *windowed = stream->windowed;
    if (!windowed || watermark < windowed->next_close)
        return;
    windowed->next_close = INT64_MAX;
    for (uint32_t i = 0; i < windowed->members_count; i++) {
        struct series *series = a->series[windowed->members[i]];
        const struct rules *rules = series->rules;
        close_windows(a, series, watermark - rules->lateness_ns);
        if (series->windows.count) {
            int64_t due = series->windows.items[0].start + rules->window_ns + rules->lateness_ns;
            if (due < windowed->next_close)
                windowed->next_close = due;
        }
    }
}

bool raise_event(struct aggregator *a, struct alarm_event event)
{
    if (a->events_count == MAX_EVENTS)
        return false;
    if (a->events_count == a->events_capacity) {
        uint32_t capacity = a->events_capacity ? a->events_capacity * 2 : 16;
        struct alarm_event *events = realloc(a->events, capacity * sizeof *events);
        if (!events)
            return false;
        a->events = events;
        a->events_capacity = capacity;
    }
    a->events[a->events_count++] = event;
    return true;
}
