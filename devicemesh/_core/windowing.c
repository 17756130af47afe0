/* Which windows of a series are open: from its first row, or because its value is known, to the watermark. */
#include "windowing.h"
#include "publish.h"

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

void catch_up(struct aggregator *a, struct series *series, int64_t start)
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

void open_known(struct aggregator *a, struct series *series, int64_t start)
{
    int64_t length = series->rules->window_ns;
    if (!rules_timed(series->rules) || !series->steps->known || series->steps->time >= start + length)
        return;
    const struct closed *closed = closed_of(a, series);
    if (start >= closed->from && start + length <= closed->to)
        start = window_start(closed->to, length);
    (void)window_for(a, series, start);
}

void close_windows(struct aggregator *a, struct series *series, int64_t until)
{
    struct windows *windows = &series->windows;
    const struct rules *rules = series->rules;
    struct closed *closed = closed_of(a, series);
    uint32_t count = 0;
    bool cut_short = until == INT64_MAX;
    while (count < windows->count && windows->items[count].start + rules->window_ns <= until) {
        struct window *window = &windows->items[count++];
        int64_t start = window->start;
        a->pending_bytes -= window_bytes(window);
        if (cut_short && !window->count && !window->bad)
            continue; /* it was open for what is known in it, which it is not to its end */
        closed->first = start < closed->first ? start : closed->first;
        closed->until = closed->last = start + rules->window_ns;
        if (window->details)
            hold_in(window, series->steps, closed->until);
        publish_window(a, series, window);
        if (cut_short)
            continue;
        bool jumped = until - closed->until > MAX_HELD * rules->window_ns; /* the clock, that is */
        open_known(a, series, jumped ? window_start(until, rules->window_ns) : closed->until);
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
