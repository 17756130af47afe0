/* The pace of reports. The heartbeat: no series is silent for longer, be it that its rows do not change or that none come,
 * since its device tells changes only. The pause: none is reported sooner, and what changed in it is once it is over. */
#include "pace.h"
#include "publish.h"

#define GRACE_NS INT64_C(1000000000) /* for a poll that brings a fresh value */
#define TICK_NS INT64_C(250000000)   /* so often the clock is told, or more often */

/* When a series of which no row comes from now on is reported by the clock. */
static int64_t repeat_due(const struct series *series)
{
    const struct deadband *deadband = &series->rules->deadband;
    int64_t said = *series_said(series), silence = deadband->silence_ns;
    if (series->reported.held)
        return said > INT64_MAX - deadband->pause_ns ? INT64_MAX : said + deadband->pause_ns;
    return !silence || said + GRACE_NS > INT64_MAX - silence ? INT64_MAX : said + GRACE_NS + silence;
}

static void remind(struct aggregator *a, const struct series *series)
{
    int64_t due = repeat_due(series);
    a->next_repeat = due < a->next_repeat ? due : a->next_repeat;
}

/* The distance of two times. A clock that was set back must not keep a series silent: it counts both ways. */
static uint64_t distance(int64_t one, int64_t other)
{
    return one > other ? (uint64_t)one - (uint64_t)other : (uint64_t)other - (uint64_t)one;
}

/* Whether it is so long since the last report: by our clock, or, as that is told now and then only, nearly by it and by the
 * time of the row. */
static bool is_over(const struct aggregator *a, const struct series *series, int64_t time, int64_t span, int64_t slack)
{
    bool by_row = distance(time, series->reported.time) >= (uint64_t)span;
    if (!a->clock_known)
        return by_row;
    int64_t since = a->clock - *series_said(series);
    return since >= span || (by_row && since >= span - slack);
}

bool heartbeat_due(const struct aggregator *a, const struct series *series, int64_t time)
{
    int64_t silence = series->rules->deadband.silence_ns;
    return silence && is_over(a, series, time, silence, GRACE_NS);
}

bool hold_change(struct aggregator *a, struct series *series, int64_t time, const struct value *value)
{
    int64_t pause = series->rules->deadband.pause_ns;
    if (!pause || value_is_text(value) || is_over(a, series, time, pause, TICK_NS))
        return false;
    series->reported.held = true;
    remind(a, series);
    return true;
}

void note_said(struct aggregator *a, struct series *series, int64_t time)
{
    int64_t now = a->clock_known ? a->clock : time;
    *series_said(series) = now < -TIME_LIMIT ? -TIME_LIMIT : now > TIME_LIMIT ? TIME_LIMIT : now;
    series->reported.held = false;
    remind(a, series);
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
        if (!series || !rules_paced(series->rules) || !series->reported.any)
            continue;
        if (a->clock >= repeat_due(series)) {
            repeat(a, series);
            note_said(a, series, a->clock);
        } else {
            remind(a, series);
        }
    }
}
