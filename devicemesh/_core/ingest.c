#include <math.h>
#include <string.h>

#include "aggregate_internal.h"
#include "quality.h"

/* Whether a row becomes the latest. Between values the time decides, unless the one we hold is from the future;
 * a bad row always counts, as does a value after it: the clocks of a device and of its link may differ. */
static bool is_latest(const struct aggregator *a, const struct series *series, int64_t time, uint8_t quality)
{
    return !series->rows || quality_is_bad(quality) || quality_is_bad(series->latest_quality) ||
           time >= series->latest_time || is_future(a, series->latest_time);
}

/* Let a value's time move its stream's clock; windows close in `aggregator_settle`. */
static void touch(struct aggregator *a, const struct series *series, int64_t time)
{
    struct stream *stream = stream_of(a, series);
    stream->pushed = true;
    if (time <= stream->newest || time > TIME_LIMIT || is_future(a, time))
        return;
    if (!stream->contact && a->clock_known && a->clock - time > OWN_CLOCK_NS)
        stream_turn_back(stream);
    stream->contact = true;
    stream->newest = time;
    if (!stream->touched) {
        stream->touched = true;
        stream->next_touched = a->touched;
        a->touched = series->place.stream;
    }
}

static void watch(struct aggregator *a, uint32_t slot, struct series *series, int64_t time, double number)
{
    for (uint32_t i = 0; i < series->rules->limits_count; i++) {
        const struct limit *limit = &series->rules->limits[i];
        struct alarm_state *state = &series->alarms[i];
        if (!raise_delayed(a, slot, series, i, time))
            continue;
        bool active = limit_next(limit, state->active, number), waits = active && !state->active && limit->delay_ns;
        if (waits && !state->pending) {
            state->since = time;
            int64_t due = alarm_due(limit, state);
            a->next_alarm = due < a->next_alarm ? due : a->next_alarm;
        }
        state->pending = waits;
        state->value = number;
        /* Without room for the event the state stays, and the next value raises it. */
        if (active != state->active && !waits && raise_event(a, (struct alarm_event){slot, i, active, time, number}))
            state->active = active;
    }
}

static void report(struct aggregator *a, struct series *series, int64_t time, uint8_t quality,
                   const struct value *value, enum policy why_bad)
{
    struct reported *last = &series->reported;
    bool on_change = series->rules->report == REPORT_CHANGE;
    const struct deadband *deadband = on_change ? &series->rules->deadband : NULL;
    if (quality_is_bad(quality)) {
        if (!report_bad(last, deadband, time, quality)) {
            drop(a, why_bad);
            return;
        }
    } else if (on_change && !report_change(last, deadband, time, quality, value)) {
        drop(a, DROP_DEADBAND);
        return;
    }
    if (!publish_reading(a, series, time, quality, value))
        return;
    if (on_change) {
        report_remember(last, time, quality, value);
    } else {
        last->any = true;
        last->quality = quality;
    }
}

/* A new window of a series; NULL without memory. */
static struct window *open_window(struct series *series, int64_t start)
{
    bool detailed = rules_detailed(series->rules);
    struct details *details = detailed ? details_new() : NULL;
    struct window *window = detailed && !details ? NULL : windows_open(&series->windows, start);
    if (window)
        window->details = details;
    else
        details_free(details);
    return window;
}

struct window *window_for(struct aggregator *a, struct series *series, int64_t start)
{
    struct window *window = windows_find(&series->windows, start);
    if (window)
        return window;
    if (!has_room(a, sizeof *window + (rules_detailed(series->rules) ? sizeof *window->details : 0)))
        return NULL;
    window = open_window(series, start);
    if (window) {
        struct windowed *windowed = stream_of(a, series)->windowed;
        int64_t due = start + series->rules->window_ns + series->rules->lateness_ns;
        a->pending_bytes += window_bytes(window);
        if (due < windowed->next_close)
            windowed->next_close = due;
    }
    return window;
}

/* A row of the window that starts at `start` is about to come: until there the value before it held. */
static void catch_up(struct aggregator *a, struct series *series, int64_t start)
{
    struct steps *steps = series->steps;
    if (!steps->known || steps->until >= start)
        return;
    int64_t length = series->rules->window_ns, first = start - MAX_HELD * length;
    int64_t at = window_start(steps->until, length);
    const struct window *window = windows_find(&series->windows, at);
    if (window)
        hold_in(window, steps, at + length);
    for (at = at > first ? at : first; rules_timed(series->rules) && at < start; at += length) {
        window = is_closed(a, series, at) ? NULL : window_for(a, series, at);
        if (window)
            hold_in(window, steps, at + length);
    }
}

static void accumulate(struct aggregator *a, struct series *series, int64_t time, uint8_t quality,
                       const struct value *value, enum policy why_bad)
{
    if (is_future(a, time) || time > TIME_LIMIT) {
        drop(a, DROP_FUTURE);
        return;
    }
    int64_t start = time < -TIME_LIMIT ? time : window_start(time, series->rules->window_ns);
    if (time < -TIME_LIMIT || is_closed(a, series, start)) {
        drop(a, DROP_LATE);
        return;
    }
    struct steps *steps = rules_detailed(series->rules) ? series->steps : NULL;
    bool in_order = steps && (!steps->seen || time >= steps->time);
    if (in_order)
        catch_up(a, series, start);
    struct window *window = window_for(a, series, start);
    if (!window) {
        drop(a, DROP_OVERFLOW);
        return;
    }
    bool bad = quality_is_bad(quality), usable = !bad && value_is_exact(value);
    double number = usable ? value_number(value) : (double)NAN;
    if (in_order) {
        hold_in(window, steps, time);
        details_step(window->details, steps, time, number);
    }
    if (!usable) {
        window->bad++;
        drop(a, bad ? why_bad : DROP_INEXACT);
        return;
    }
    window_add(window, time, number);
    if (series->rules->quantiles_count)
        a->pending_bytes += details_sketch(window->details, &a->sketch_rule, number);
    a->counts.pending++;
}

bool aggregator_row(struct aggregator *a, uint32_t slot, int64_t time, uint8_t quality, const struct value *raw,
                    double number)
{
    a->counts.read++;
    a->counts.qualities[quality]++;
    struct series *series = series_of(a, slot);
    if (!series) {
        drop(a, DROP_UNDEFINED);
        return false;
    }
    enum policy why_bad = DROP_BAD;
    struct value value = *raw;
    if (!quality_is_bad(quality)) {
        if (value.tag == VALUE_NULL) {
            quality = QUALITY_BAD;
        } else if (value_is_text(&value) && !value_text_valid(&value)) {
            quality = QUALITY_UNDECODABLE;
        } else if (value_is_float(&value) && !isfinite(value.number)) {
            quality = QUALITY_BAD;
            why_bad = DROP_NONFINITE;
        }
    }
    if (quality_is_bad(quality)) {
        value.tag = VALUE_NULL;
    } else {
        value = value_of_kind(series->rules->kind, &value);
        touch(a, series, time);
    }
    bool latest = is_latest(a, series, time, quality);
    series->rows++;
    if (latest) {
        series_set_latest(series, time, quality, &value);
        if (value.tag != VALUE_NULL && series->rules->limits_count)
            watch(a, slot, series, time, number);
    }
    if (series->rules->report == REPORT_NONE)
        drop(a, DROP_NONE);
    else if (series->rules->report == REPORT_WINDOW)
        accumulate(a, series, time, quality, &value, why_bad);
    else
        report(a, series, time, quality, &value, why_bad);
    return latest;
}

void aggregator_push(struct aggregator *a, const struct columns *columns)
{
    struct value value = {.tag = columns->floats ? VALUE_FLOAT : VALUE_INTEGER};
    const uint8_t *values = columns->floats ? columns->floats : columns->integers;
    int64_t time = columns->time;
    uint8_t quality = columns->quality;
    for (size_t i = 0; i < columns->count; i++) {
        uint32_t slot;
        memcpy(&slot, columns->slots + 4 * i, sizeof slot);
        memcpy(&value.integer, values + 8 * i, sizeof value.integer); /* either member of the union */
        if (columns->times)
            memcpy(&time, columns->times + 8 * i, sizeof time);
        if (columns->qualities)
            quality = columns->qualities[i];
        aggregator_row(a, slot, time, quality, &value, value_number(&value));
    }
    aggregator_settle(a);
}

void aggregator_settle(struct aggregator *a)
{
    while (a->touched != NOBODY) {
        struct stream *stream = a->streams[a->touched];
        a->touched = stream->next_touched;
        stream->touched = false;
        stream->own_clock = a->clock_known && a->clock - stream->newest > OWN_CLOCK_NS;
        close_due(a, stream, stream->newest);
    }
}
