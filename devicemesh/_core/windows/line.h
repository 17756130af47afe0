/* What outlives the windows of one series: its newest row, and when it must be looked at. One cache line. */
#ifndef DEVICEMESH_WINDOWS_LINE_H
#define DEVICEMESH_WINDOWS_LINE_H

#include <stdint.h>

enum line_state {
    LINE_SEEN = 1,     /* a row came */
    LINE_KNOWN = 2,    /* the newest row has a value: it holds until the next */
    LINE_LATELY = 4,   /* known only since `known_since`, and no pane's extra says so */
    LINE_REPORTED = 8, /* `reported` is set */
    LINE_HELD = 16,    /* a change waits for the rate limit */
    LINE_MISSING = 32, /* the missing event is active */
    LINE_GAP = 64,     /* the newest rows have none, after a value in the same window: `last` is its cell's shift; see gap.h */
    LINE_AWAITED = 128, /* no row came yet: `time` is that from which its data is missing */
};

enum { NO_PROFILE = UINT16_MAX };

struct line {
    double edges[2]; /* nothing is to be looked at while -edges[0] <= value <= edges[1], as none is without LINE_KNOWN, */
    int64_t due;      /* and the time is before this */
    double last;      /* newest value, but for LINE_GAP; NaN before the first */
    int64_t time;     /* of the newest row, with a value or not */
    int64_t known_since;
    double reported;
    uint32_t timers;  /* index of its struct timers, 0 where its profile needs none */
    uint16_t profile;
    uint8_t state;
    uint8_t active; /* alarms, a bit each */
};
_Static_assert(sizeof(struct line) == 64, "one cache line");

#endif
