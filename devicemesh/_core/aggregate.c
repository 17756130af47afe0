#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator.h"
#include "alarms.h"
#include "pace.h"
#include "windowing.h"

/* ---- life ---- */

struct aggregator *aggregator_new(uint32_t epoch, size_t max_pending_bytes)
{
    struct aggregator *a = calloc(1, sizeof *a);
    if (a) {
        a->epoch = epoch;
        a->max_pending_bytes = max_pending_bytes;
        a->touched = NOBODY;
        a->next_alarm = a->next_repeat = INT64_MAX;
        details_rule(&a->sketch_rule);
    }
    return a;
}

/* Free a series with its share of the rules. */
static void drop_series(struct aggregator *a, struct series *series)
{
    const struct rules *rules = series->rules;
    series_free(series);
    rulebook_release(&a->rulebook, rules);
}

void aggregator_free(struct aggregator *a)
{
    for (uint32_t i = 0; i < a->series_count; i++)
        if (a->series[i])
            drop_series(a, a->series[i]);
    for (uint32_t i = 0; i < a->streams_count; i++)
        if (a->streams[i])
            stream_free(a->streams[i]);
    rulebook_free(&a->rulebook);
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

/* The stream, new if it has to be; NULL without memory. */
static struct stream *open_stream(struct aggregator *a, uint32_t id)
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
            stream->first_series = NOBODY;
            stream->epoch = a->epoch;
        }
        a->streams[id] = stream;
    }
    return a->streams[id];
}

/* ---- definitions ---- */

/* Close what is open and leave the stream's list of windowed series. */
static void retire(struct aggregator *a, uint32_t slot, struct series *series)
{
    if (series->rules->report != REPORT_WINDOW)
        return;
    closed_of(a, series)->until = closed_until(a, series);
    close_windows(a, series, INT64_MAX);
    stream_leave(stream_of(a, series), slot);
}

/* Take over what goes on from the series that was in the slot: the latest row, and active alarms. */
static void carry_over(struct aggregator *a, uint32_t slot, struct series *old, struct series *series,
                       const int32_t *carry)
{
    bool same = series && old->place.stream == series->place.stream && old->place.property == series->place.property;
    if (same) {
        struct latest latest = series_latest(old);
        series_set_latest(series, latest.time, latest.quality, &latest.value);
        series->rows = old->rows;
    }
    for (uint32_t i = 0; series && same && i < series->rules->limits_count; i++) {
        if (carry[i] >= 0 && (uint32_t)carry[i] < old->rules->limits_count) {
            series->alarms[i] = old->alarms[carry[i]];
            old->alarms[carry[i]].active = false;
            a->next_alarm = INT64_MIN; /* the delay may be another one */
        }
    }
    for (uint32_t i = 0; i < old->rules->limits_count; i++)
        if (old->alarms[i].active)
            raise_event(a, (struct alarm_event){slot, i, false, old->latest_time, NAN});
}

/* Take the series out of a slot and its stream's list, and free it. */
static void empty_slot(struct aggregator *a, uint32_t slot)
{
    struct series *series = a->series[slot];
    uint32_t *at = &stream_of(a, series)->first_series;
    while (*at != slot)
        at = &a->series[*at]->next;
    *at = series->next;
    a->series[slot] = NULL;
    drop_series(a, series);
}

/* Put a series into a slot, in place of the one that may be there. */
static void fill_slot(struct aggregator *a, uint32_t slot, struct series *series)
{
    struct series *old = a->series[slot];
    struct stream *stream = stream_of(a, series);
    if (old && old->place.stream == series->place.stream) {
        series->next = old->next;
        drop_series(a, old);
    } else {
        if (old)
            empty_slot(a, slot);
        series->next = stream->first_series;
        stream->first_series = slot;
    }
    a->series[slot] = series;
    stream_end_row(stream); /* the new series has no mark of the row that its property may be in */
}

enum define_status aggregator_define(struct aggregator *a, uint32_t slot, struct place place,
                                     const struct rules *rules, const int32_t *carry)
{
    if (slot >= MAX_IDS || place.stream >= MAX_IDS || place.property >= MAX_IDS || !rules_valid(rules))
        return DEFINE_INVALID;
    void **table = (void **)a->series;
    bool grown = grow(&table, &a->series_count, slot);
    a->series = (struct series **)table;
    struct stream *stream = grown ? open_stream(a, place.stream) : NULL;
    const struct rules *shared = stream ? rulebook_share(&a->rulebook, rules) : NULL;
    if (!shared)
        return DEFINE_NO_MEMORY;
    struct series *series = series_new(shared, place);
    if (!series || (rules->report == REPORT_WINDOW && !stream_join(stream, slot, place.property))) {
        if (series)
            series_free(series);
        rulebook_release(&a->rulebook, shared);
        return DEFINE_NO_MEMORY;
    }
    struct series *old = a->series[slot];
    if (old) {
        retire(a, slot, old);
        carry_over(a, slot, old, series, carry);
    }
    fill_slot(a, slot, series);
    return DEFINE_DONE;
}

bool aggregator_remove(struct aggregator *a, uint32_t slot)
{
    struct series *series = series_of(a, slot);
    if (!series)
        return false;
    retire(a, slot, series);
    carry_over(a, slot, series, NULL, NULL);
    empty_slot(a, slot);
    return true;
}

uint32_t aggregator_slot_at(const struct aggregator *a, struct place place)
{
    const struct stream *stream = place.stream < a->streams_count ? a->streams[place.stream] : NULL;
    uint32_t slot = stream ? stream->first_series : NOBODY;
    while (slot != NOBODY && a->series[slot]->place.property != place.property)
        slot = a->series[slot]->next;
    return slot == NOBODY ? MAX_IDS : slot;
}

/* ---- time ---- */

/* Our clock was set back: the times that it gave before are no measure for those that come. */
static void set_back(struct aggregator *a, int64_t now)
{
    aggregator_flush(a);
    for (uint32_t i = 0; i < a->streams_count; i++) {
        struct stream *stream = a->streams[i];
        if (!stream)
            continue;
        stream_turn_back(stream);
        stream->newest = -TIME_LIMIT;
        stream->own_clock = stream->contact = false;
    }
    for (uint32_t slot = 0; slot < a->series_count; slot++) {
        struct series *series = a->series[slot];
        if (!series)
            continue;
        series_set_back(series, now);
        if (rules_timed(series->rules))
            open_known(a, series, window_start(now, series->rules->window_ns));
    }
    a->next_alarm = a->next_repeat = INT64_MIN;
}

void aggregator_advance(struct aggregator *a, int64_t now)
{
    if (now > TIME_LIMIT)
        now = TIME_LIMIT;
    if (now < -TIME_LIMIT)
        now = -TIME_LIMIT;
    if (a->clock_known && a->clock - now > OWN_CLOCK_NS)
        set_back(a, now);
    else if (a->clock_known && now < a->clock)
        now = a->clock;
    a->clock = now;
    a->clock_known = true;
    for (uint32_t i = 0; i < a->streams_count; i++) {
        struct stream *stream = a->streams[i];
        if (!stream)
            continue;
        if (stream->own_clock && stream->pushed)
            stream->lag = a->clock - stream->newest;
        stream->pushed = false;
        close_due(a, stream, clock_of(a, stream));
    }
    raise_waiting(a);
    repeat_resting(a);
}

void aggregator_flush(struct aggregator *a)
{
    for (uint32_t i = 0; i < a->streams_count; i++) {
        struct windowed *windowed = a->streams[i] ? a->streams[i]->windowed : NULL;
        if (!windowed)
            continue;
        for (uint32_t j = 0; j < windowed->members_count; j++)
            close_windows(a, a->series[windowed->members[j]], INT64_MAX);
        windowed->next_close = INT64_MAX;
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
        uint64_t samples = stream_samples(stream);
        a->counts.taken += samples;
        a->counts.pending -= samples;
        a->pending_bytes -= stream_bytes(stream);
        stream_taken(stream);
    }
    a->ready_count = 0;
}

uint64_t aggregator_rows(const struct aggregator *a, uint32_t slot)
{
    const struct series *series = series_of(a, slot);
    return series ? series->rows : 0;
}

bool aggregator_latest(const struct aggregator *a, uint32_t slot, struct latest *latest)
{
    const struct series *series = series_of(a, slot);
    if (series)
        *latest = series_latest(series);
    return series != NULL;
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
