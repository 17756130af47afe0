#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "aggregate_internal.h"

/* ---- life ---- */

struct aggregator *aggregator_new(uint32_t epoch, size_t max_pending_bytes)
{
    struct aggregator *a = calloc(1, sizeof *a);
    if (a) {
        a->epoch = epoch;
        a->max_pending_bytes = max_pending_bytes;
        a->touched = NOBODY;
    }
    return a;
}

void aggregator_free(struct aggregator *a)
{
    for (uint32_t i = 0; i < a->series_count; i++)
        if (a->series[i])
            series_free(a->series[i]);
    for (uint32_t i = 0; i < a->streams_count; i++)
        if (a->streams[i])
            stream_free(a->streams[i]);
    free(a->series);
    free(a->streams);
    free(a->ready);
    free(a->events);
    free(a);
}

/* Grow a table of pointers to hold `id`; false without memory. */
static bool grow(void ***table, uint32_t *count, uint32_t id)
{
    if (id < *count)
        return true;
    uint32_t wanted = *count ? *count : 16;
    while (wanted <= id)
        wanted *= 2;
    void **grown = realloc(*table, wanted * sizeof *grown);
    if (!grown)
        return false;
    memset(grown + *count, 0, (wanted - *count) * sizeof *grown);
    *table = grown;
    *count = wanted;
    return true;
}

void aggregator_begin(struct aggregator *a, uint32_t epoch)
{
    a->epoch = epoch;
}

static struct stream *stream_of(struct aggregator *a, uint32_t id)
{
    void **streams = (void **)a->streams;
    bool grown = grow(&streams, &a->streams_count, id);
    a->streams = (struct stream **)streams;
    if (!grown)
        return NULL;
    if (!a->streams[id]) {
        uint32_t *ready = realloc(a->ready, a->streams_count * sizeof *ready);
        if (!ready)
            return NULL;
        a->ready = ready;
        struct stream *stream = calloc(1, sizeof *stream);
        if (stream) {
            stream->newest = stream->watermark = -TIME_LIMIT;
            stream->next_close = INT64_MAX;
            stream->epoch = a->epoch;
        }
        a->streams[id] = stream;
    }
    return a->streams[id];
}

/* ---- definitions ---- */

/* Close what is open and leave the stream's list. */
static void retire(struct aggregator *a, uint32_t slot, struct series *series)
{
    if (series->rules.report != REPORT_WINDOW)
        return;
    struct stream *stream = a->streams[series->rules.stream];
    stream->closed[series->rules.property].until = closed_until(stream, &series->rules);
    close_windows(a, series, INT64_MAX);
    stream_leave(stream, slot);
}

/* Take over what goes on from the series that was in the slot: the latest row, and active alarms. */
static void carry_over(struct aggregator *a, uint32_t slot, struct series *old, struct series *series,
                       const int32_t *carry)
{
    bool same = series && old->rules.stream == series->rules.stream && old->rules.property == series->rules.property;
    if (same) {
        series->latest = old->latest;
        series->rows = old->rows;
    }
    for (uint32_t i = 0; series && same && i < series->rules.limits_count; i++) {
        if (carry[i] >= 0 && (uint32_t)carry[i] < old->rules.limits_count) {
            series->limits[i].active = old->limits[carry[i]].active;
            old->limits[carry[i]].active = false;
        }
    }
    for (uint32_t i = 0; i < old->rules.limits_count; i++)
        if (old->limits[i].active)
            raise_event(a, (struct alarm_event){slot, i, false, old->latest.time, NAN});
}

enum define_status aggregator_define(struct aggregator *a, uint32_t slot, const struct rules *rules,
                                     const int32_t *carry)
{
    if (slot >= MAX_IDS || !rules_valid(rules))
        return DEFINE_INVALID;
    void **table = (void **)a->series;
    bool grown = grow(&table, &a->series_count, slot);
    a->series = (struct series **)table;
    struct stream *stream = grown ? stream_of(a, rules->stream) : NULL;
    struct series *series = calloc(1, sizeof *series + rules->limits_count * sizeof series->limits[0]);
    if (!stream || !series || !stream_closed_room(stream, rules->property) ||
        (rules->report == REPORT_WINDOW && !stream_join(stream, slot))) {
        free(series);
        return DEFINE_NO_MEMORY;
    }
    series->rules = *rules;
    series->rules.limits = series->limits;
    for (uint32_t i = 0; i < rules->limits_count; i++) {
        series->limits[i] = rules->limits[i];
        series->limits[i].active = false;
    }
    struct series *old = a->series[slot];
    if (old) {
        retire(a, slot, old);
        carry_over(a, slot, old, series, carry);
        series_free(old);
    }
    a->series[slot] = series;
    stream->row_open = false; /* the new series has no mark of the row that its property may be in */
    return DEFINE_DONE;
}

bool aggregator_remove(struct aggregator *a, uint32_t slot)
{
    struct series *series = series_of(a, slot);
    if (!series)
        return false;
    retire(a, slot, series);
    carry_over(a, slot, series, NULL, NULL);
    series_free(series);
    a->series[slot] = NULL;
    return true;
}

/* ---- time ---- */

void aggregator_advance(struct aggregator *a, int64_t now)
{
    if (now > TIME_LIMIT)
        now = TIME_LIMIT;
    if (now < -TIME_LIMIT)
        now = -TIME_LIMIT;
    if (!a->clock_known || now > a->clock)
        a->clock = now;
    a->clock_known = true;
    for (uint32_t i = 0; i < a->streams_count; i++) {
        struct stream *stream = a->streams[i];
        if (!stream)
            continue;
        if (stream->own_clock && stream->pushed)
            stream->lag = a->clock - stream->newest;
        stream->pushed = false;
        close_due(a, stream, stream->own_clock ? a->clock - stream->lag : a->clock);
    }
}

void aggregator_flush(struct aggregator *a)
{
    for (uint32_t i = 0; i < a->streams_count; i++) {
        struct stream *stream = a->streams[i];
        if (!stream)
            continue;
        for (uint32_t j = 0; j < stream->members_count; j++)
            close_windows(a, a->series[stream->members[j]], INT64_MAX);
        stream->next_close = INT64_MAX;
    }
}

/* ---- taking ---- */

uint32_t aggregator_ready(const struct aggregator *a, const uint32_t **streams)
{
    *streams = a->ready;
    return a->ready_count;
}

const struct stream *aggregator_stream(const struct aggregator *a, uint32_t stream)
{
    return a->streams[stream];
}

void aggregator_taken(struct aggregator *a)
{
    for (uint32_t i = 0; i < a->ready_count; i++) {
        struct stream *stream = a->streams[a->ready[i]];
        uint64_t samples = stream->samples;
        for (uint32_t j = 0; j < stream->cuts_count; j++)
            samples += stream->cuts[j].samples;
        a->counts.taken += samples;
        a->counts.pending -= samples;
        a->pending_bytes -= stream->body.length;
        stream_taken(stream);
    }
    a->ready_count = 0;
}

uint64_t aggregator_rows(const struct aggregator *a, uint32_t slot)
{
    const struct series *series = series_of(a, slot);
    return series ? series->rows : 0;
}

const struct latest *aggregator_latest(const struct aggregator *a, uint32_t slot)
{
    const struct series *series = series_of(a, slot);
    return series ? &series->latest : NULL;
}

uint32_t aggregator_events(const struct aggregator *a, const struct alarm_event **events)
{
    *events = a->events;
    return a->events_count;
}

void aggregator_events_taken(struct aggregator *a)
{
    a->events_count = 0;
}

const struct counts *aggregator_counts(const struct aggregator *a)
{
    return &a->counts;
}

size_t aggregator_pending_bytes(const struct aggregator *a)
{
    return a->pending_bytes;
}
