/* The aggregator from within: what it is made of, and what is asked of it everywhere. */
#ifndef DEVICEMESH_AGGREGATOR_H
#define DEVICEMESH_AGGREGATOR_H

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

#endif
