/* The sessions' own structures: for their .c files only. */
#ifndef DEVICEMESH_WINDOWS_SESSIONS_INTERNAL_H
#define DEVICEMESH_WINDOWS_SESSIONS_INTERNAL_H

#include "sessions.h"

enum { NOBODY = 0 };

/* An open session. It weighs by time from its first row in order to its last. */
struct session {
    struct cell cell;
    struct extra extra;
    struct sketch sketch;
    int64_t start, last; /* times of its first and last row */
    int64_t value_time;  /* of cell.last */
    int64_t ordered_from, ordered_until;
    int64_t known_ns;
    uint32_t series;
    uint32_t next; /* of the series, by time; or of the free ones */
    uint8_t ordered; /* a row came in order */
};

/* The sessions of a series. */
struct head {
    uint32_t first;       /* the earliest that is open */
    int64_t closed_until; /* end of the latest that is closed: a row before it belonged there */
};

struct sessions {
    struct session *items; /* [0] is nobody's */
    uint32_t count;
    uint32_t capacity;
    uint32_t free;
    struct head *heads; /* by series */
    uint32_t heads_capacity;
};

/* Make the container fit all series; false without room. */
bool sessions_start(struct engine *engine);

/* A new session of a series at a time; NOBODY without room. */
uint32_t sessions_open(struct engine *engine, uint32_t series, int64_t time);

#endif
