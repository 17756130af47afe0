/* Limits with hysteresis and delay: raised once the value was beyond the limit for so long, cleared at once beyond `clear` on
 * the other side (an on-delay as in ISA-18.2). */
#ifndef DEVICEMESH_ALARM_H
#define DEVICEMESH_ALARM_H

#include <stdbool.h>
#include <stdint.h>

struct limit {
    double limit;
    double clear; /* above: <= limit; below: >= limit */
    int64_t delay_ns;
    bool above;
};

/* One alarm of one series. All zero: it is not active. */
struct alarm_state {
    double value;  /* the newest, while pending */
    int64_t since; /* likewise: the time of the first value beyond the limit */
    bool active;
    bool pending; /* beyond the limit, but not for the delay */
};

struct alarm_event {
    uint32_t slot;
    uint32_t limit; /* its index in the series */
    bool active;
    int64_t time;
    double number; /* NaN when the alarm ended because nobody watches it any more */
};

/* Whether the alarm is active after a value, which it was or was not before; NaN changes nothing. */
static inline bool limit_next(const struct limit *limit, bool active, double number)
{
    if (active)
        return !(limit->above ? number < limit->clear : number > limit->clear);
    return limit->above ? number > limit->limit : number < limit->limit;
}

/* Whether a pending alarm is to be raised at `time`. */
static inline bool alarm_is_due(const struct limit *limit, const struct alarm_state *state, int64_t time)
{
    return state->pending && time >= state->since &&
           (uint64_t)time - (uint64_t)state->since >= (uint64_t)limit->delay_ns;
}

/* When a pending alarm is raised, unless a value comes that is not beyond the limit. */
static inline int64_t alarm_due(const struct limit *limit, const struct alarm_state *state)
{
    return state->since > INT64_MAX - limit->delay_ns ? INT64_MAX : state->since + limit->delay_ns;
}

#endif
