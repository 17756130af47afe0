/* Limits with hysteresis: raised beyond the limit, cleared beyond `clear` on the other side. */
#ifndef DEVICEMESH_ALARM_H
#define DEVICEMESH_ALARM_H

#include <stdbool.h>
#include <stdint.h>

struct limit {
    double limit;
    double clear; /* above: <= limit; below: >= limit */
    bool above;
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

#endif
