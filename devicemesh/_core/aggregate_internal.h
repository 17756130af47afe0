/* What the sources of the aggregator share: aggregate.c (definitions, time, taking), ingest.c (rows in),
 * windowing.c (windows that open and close), alarms.c, pace.c (heartbeats and pauses), publish.c (records out). */
#ifndef DEVICEMESH_AGGREGATE_INTERNAL_H
#define DEVICEMESH_AGGREGATE_INTERNAL_H

#include "aggregate.h"

#define FUTURE_NS INT64_C(3600000000000)
#define OWN_CLOCK_NS INT64_C(1000000000)
#define NOBODY UINT32_MAX
enum { MAX_EVENTS = 1 << 16 };
enum { MAX_HELD = 60 }; /* windows that open at once because a value is known in them */

struct aggregator {
    uint32_t epoch;
    size_t max_pending_bytes;
    size_t pending_bytes;
    int64_t clock; /* the newest advance */
    bool clock_known;
    struct counts counts;

    struct rulebook rulebook;
    struct sketch_rule sketch_rule; /* of all quantiles */
    struct series **series; /* by slot; NULL: undefined */
    uint32_t series_count;
    struct stream **streams; /* by id; NULL: never used */
    uint32_t streams_count;
    uint32_t touched; /* head of the list of streams to settle */

    uint32_t *ready; /* streams with records; room for all streams */
    uint32_t ready_count;
    int64_t next_alarm; /* before it no pending alarm is raised by the clock */
    int64_t next_repeat; /* before it nothing that rests is said again */
    struct alarm_event *events;
    uint32_t events_count;
    uint32_t events_capacity;
};

static inline struct series *series_of(const struct aggregator *a, uint32_t slot)
{
    return slot < a->series_count ? a->series[slot] : NULL;
}

static inline void drop(struct aggregator *a, enum policy policy)
{
    a->counts.dropped[policy]++;
}

static inline bool is_future(const struct aggregator *a, int64_t time)
{
    return a->clock_known && time > a->clock + FUTURE_NS;
}

static inline struct stream *stream_of(const struct aggregator *a, const struct series *series)
{
    return a->streams[series->place.stream];
}

/* The time by which a silent stream is judged. */
static inline int64_t clock_of(const struct aggregator *a, const struct stream *stream)
{
    return stream->own_clock ? a->clock - stream->lag : a->clock;
}

/* What is closed of a windowed series. */
static inline struct closed *closed_of(const struct aggregator *a, const struct series *series)
{
    return &stream_of(a, series)->windowed->closed[series->place.property];
}

/* The times after which a row of a windowed series is late for a window that ends there. */
static inline int64_t closed_until(const struct aggregator *a, const struct series *series)
{
    int64_t until = closed_of(a, series)->until;
    int64_t by_watermark = stream_of(a, series)->watermark - series->rules->lateness_ns;
    return until > by_watermark ? until : by_watermark;
}

static inline bool is_closed(const struct aggregator *a, const struct series *series, int64_t start)
{
    const struct closed *closed = closed_of(a, series);
    int64_t end = start + series->rules->window_ns;
    return end <= closed_until(a, series) || (start >= closed->from && end <= closed->to);
}

/* Whether `more` bytes may still become pending. */
bool has_room(const struct aggregator *a, size_t more);

/* Append to the records of the series' stream, or drop the row as overflow. Returns whether it is in. */
bool publish_reading(struct aggregator *a, struct series *series, int64_t time, uint8_t quality,
                     const struct value *value);

/* The same of a closed window; without memory its rows are dropped as overflow. */
void publish_window(struct aggregator *a, const struct series *series, const struct window *window);

/* The open window of a series that starts at `start`, new if it has to be; NULL without room. */
struct window *window_for(struct aggregator *a, struct series *series, int64_t start);

/* The newest value of a series holds until `until`, in the window that ends there or later. */
static inline void hold_in(const struct window *window, struct steps *steps, int64_t until)
{
    details_hold(window->details, steps, steps->until > window->start ? steps->until : window->start, until);
    steps->until = until > steps->until ? until : steps->until;
}

/* A row of the window that starts at `start` is about to come, in order: until there the value before it held. */
void catch_up(struct aggregator *a, struct series *series, int64_t start);

/* While its value is known, a series that weighs by time has a window in every span: the one that starts at `start`, or the
 * next after those that were published before the watermark was turned back. */
void open_known(struct aggregator *a, struct series *series, int64_t start);

/* Close the windows of a series that end by `until`, and refuse rows for them from now on. */
void close_windows(struct aggregator *a, struct series *series, int64_t until);

/* Move a stream's watermark and close what ended. */
void close_due(struct aggregator *a, struct stream *stream, int64_t watermark);

/* Queue an alarm event; false if there is no room. */
bool raise_event(struct aggregator *a, struct alarm_event event);

/* Raise and clear what a value makes due: the newest of its series. */
void watch_alarms(struct aggregator *a, uint32_t slot, struct series *series, int64_t time, double number);

/* Raise what the clock makes due. */
void raise_waiting(struct aggregator *a);

/* Whether a row of this time, of a series whose rules pace, is to be reported, changed or not: by its own time (the clock is
 * told now and then only), or by our clock (the times of rows may stand still). */
bool heartbeat_due(const struct aggregator *a, const struct series *series, int64_t time);

/* Whether a change comes too soon after the last report; it is then held, and reported by the clock. */
bool hold_change(struct aggregator *a, struct series *series, int64_t time, const struct value *value);

/* A row of this time was reported of such a series. */
void note_said(struct aggregator *a, struct series *series, int64_t time);

/* Publish once more what was silent for its heartbeat. */
void repeat_resting(struct aggregator *a);

#endif
