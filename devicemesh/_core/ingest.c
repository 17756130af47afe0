#include <math.h>
#include <string.h>

#include "aggregator.h"
#include "alarms.h"
#include "pace.h"
#include "publish.h"
#include "windowing.h"
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

static void report(struct aggregator *a, struct series *series, int64_t time, uint8_t quality,
                   const struct value *value, enum policy why_bad)
{
    struct reported *last = &series->reported;
    bool on_change = series->rules->report == REPORT_CHANGE;
    bool paced = rules_paced(series->rules), bad = quality_is_bad(quality);
    bool news = !last->any || last->quality != quality || (paced && heartbeat_due(a, series, time));
    if (!news && bad) {
        drop(a, why_bad);
        return;
    }
    if (!news && on_change && !report_differs(last, &series->rules->deadband, value)) {
        last->held = false; /* it is back where it was */
        drop(a, DROP_DEADBAND);
        return;
    }
    if (!news && paced && hold_change(a, series, time, value)) {
        drop(a, DROP_RATE);
        return;
    }
    if (!publish_reading(a, series, time, quality, value))
        return;
    if (on_change) {
        report_remember(last, time, quality, value);
        if (paced)
            note_said(a, series, time);
    } else {
        last->any = true;
        last->quality = quality;
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
            watch_alarms(a, slot, series, time, number);
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
