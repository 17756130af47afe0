/* The heartbeat: no series is silent for longer, be it that its rows do not change or that none come, since its device tells
 * changes only. */
#include "aggregate_internal.h"

#define GRACE_NS INT64_C(1000000000) /* for a poll that brings a fresh value; the clock is told now and then only */

/* When a series that is silent from now on is repeated. */
static int64_t repeat_due(const struct series *series)
{
    int64_t at = *series_said(series) + GRACE_NS, silence = series->rules->deadband.silence_ns;
    return at > INT64_MAX - silence ? INT64_MAX : at + silence;
}

/* The distance of two times. A clock that was set back must not keep a series silent: it counts both ways. */
static uint64_t distance(int64_t one, int64_t other)
{
    return one > other ? (uint64_t)one - (uint64_t)other : (uint64_t)other - (uint64_t)one;
}

bool heartbeat_due(const struct aggregator *a, const struct series *series, int64_t time)
{
    int64_t silence = series->rules->deadband.silence_ns;
    bool by_row = distance(time, series->reported.time) >= (uint64_t)silence;
    if (!a->clock_known)
        return by_row;
    int64_t since = a->clock - *series_said(series);
    return since >= silence || (by_row && since >= silence - GRACE_NS);
}

void note_said(struct aggregator *a, struct series *series, int64_t time)
{
    int64_t now = a->clock_known ? a->clock : time;
    *series_said(series) = now < -TIME_LIMIT ? -TIME_LIMIT : now > TIME_LIMIT ? TIME_LIMIT : now;
    int64_t due = repeat_due(series);
    a->next_repeat = due < a->next_repeat ? due : a->next_repeat;
}

/* Publish the latest row once more; of a text what was published last, if it is one. */
static void repeat(struct aggregator *a, struct series *series)
{
    struct latest latest = series_latest(series);
    struct reported *last = &series->reported;
    struct text text;
    bool is_text = value_is_text(&latest.value);
    if (is_text && last->tag != latest.value.tag)
        return;
    if (is_text) {
        text = (struct text){last->text->bytes, last->text->length};
        latest.value.text = &text;
        latest.time = last->time;
    }
    a->counts.read++;
    a->counts.qualities[latest.quality]++;
    if (publish_reading(a, series, latest.time, latest.quality, &latest.value) && !is_text)
        report_remember(last, latest.time, latest.quality, &latest.value);
}

void repeat_resting(struct aggregator *a)
{
    if (a->clock < a->next_repeat)
        return;
    a->next_repeat = INT64_MAX;
    for (uint32_t slot = 0; slot < a->series_count; slot++) {
        struct series *series = a->series[slot];
        if (!series || !rules_repeat(series->rules) || !series->reported.any)
            continue;
        if (a->clock >= repeat_due(series)) {
            repeat(a, series);
            *series_said(series) = a->clock;
        }
        int64_t due = repeat_due(series);
        a->next_repeat = due < a->next_repeat ? due : a->next_repeat;
    }
}
