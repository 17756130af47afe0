/* The statistics that a window can have: names, types, and their values from cells and extras. */
#ifndef DEVICEMESH_WINDOWS_RESULTS_H
#define DEVICEMESH_WINDOWS_RESULTS_H

#include "extra.h"
#include "profile.h"
#include "sheet.h"

/* Column order. From STAT_EXTRA on they need an extra; the order of the table in results.c is the same. */
enum statistic {
    STAT_COUNT,
    STAT_SUM,
    STAT_MEAN,
    STAT_MIN,
    STAT_MAX,
    STAT_RANGE,
    STAT_LAST,
    STAT_LAST_TIME,
    STAT_VARIANCE,
    STAT_STD,
    STAT_VARIANCE_POPULATION,
    STAT_STD_POPULATION,
    STAT_RMS,
    STAT_PEAK,
    STAT_CREST,
    STAT_TIME_AVERAGE,
    STAT_TOTAL,
    STAT_DURATION_GOOD,
    STAT_DURATION_BAD,
    STAT_PERCENT_GOOD,
    STAT_PERCENT_BAD,
    STAT_BAD,
    STAT_UNCERTAIN,
    STAT_DISORDERED,
    STAT_STATUS,
    STAT_TIME_STATUS,
    STAT_FIRST,
    STAT_FIRST_TIME,
    STAT_MIN_TIME,
    STAT_MAX_TIME,
    STAT_DELTA,
    STAT_DURATION_NONZERO,
    STAT_DURATION_ZERO,
    STAT_TRANSITIONS,
    STAT_INCREASE,
    STAT_RATE,
    STAT_RESETS,
    STAT_TOTAL_COUNT,
    STAT_EXTRA = STAT_FIRST,
};

/* Those that weigh by time. */
#define STATS_TIMED                                                                                                    \
    (UINT64_C(1) << STAT_TIME_AVERAGE | UINT64_C(1) << STAT_TOTAL | UINT64_C(1) << STAT_DURATION_GOOD |                \
     UINT64_C(1) << STAT_DURATION_BAD | UINT64_C(1) << STAT_PERCENT_GOOD | UINT64_C(1) << STAT_PERCENT_BAD |           \
     UINT64_C(1) << STAT_TIME_STATUS)

/* Name and type of a statistic's column. */
const char *statistic_name(enum statistic statistic);
enum sheet_type statistic_type(enum statistic statistic);

/* Those of steps from value to value. */
#define STATS_STEPPED                                                                                                  \
    (UINT64_C(1) << STAT_DURATION_NONZERO | UINT64_C(1) << STAT_DURATION_ZERO | UINT64_C(1) << STAT_TRANSITIONS |      \
     UINT64_C(1) << STAT_INCREASE | UINT64_C(1) << STAT_RATE | UINT64_C(1) << STAT_RESETS)

enum { CLOSED_BLOCK = 64 };

/* Closed windows, field by field: the loops over them can be vectors. */
struct closed {
    uint32_t count; /* at most CLOSED_BLOCK */
    uint32_t series[CLOSED_BLOCK];
    uint16_t profiles[CLOSED_BLOCK];
    const struct cell *cells[CLOSED_BLOCK];
    uint64_t marked;                          /* a bit each: something rare happened, it has an extra */
    const struct extra *extras[CLOSED_BLOCK]; /* of those that are marked */
    const struct sketch *sketches[CLOSED_BLOCK];
    int64_t starts[CLOSED_BLOCK], ends[CLOSED_BLOCK];
    int64_t last_times[CLOSED_BLOCK];
    int64_t lengths[CLOSED_BLOCK]; /* that it weighs by time, in ns: all of it, but for sessions */
    int64_t known[CLOSED_BLOCK];   /* of that, with a known value */
};

/* What the common statistics of closed windows are of. */
struct fields {
    int64_t rows[CLOSED_BLOCK];
    double count[CLOSED_BLOCK]; /* the same */
    double shift[CLOSED_BLOCK];
    double sum[CLOSED_BLOCK];
    double squares[CLOSED_BLOCK];
    double min[CLOSED_BLOCK], max[CLOSED_BLOCK], last[CLOSED_BLOCK]; /* NaN without values */
    double held[CLOSED_BLOCK];
    double known[CLOSED_BLOCK];
    int64_t most; /* no less than any of `rows` */
};

/* Read the cells. Nothing is known where all that came was out of order. */
void results_gather(struct closed *closed, struct fields *fields);

/* A statistic of closed windows, of which `fields` are: in `room`, 8 bytes for each of a block, or in the fields. */
const void *results_column(enum statistic statistic, const struct closed *closed, const struct fields *fields,
                           const struct profile *profiles, void *room);

/* Where a series' profile did not ask for it: NaN, -1, or UINT8_MAX. */
void results_forget(enum statistic statistic, const struct closed *closed, const struct profile *profiles, void *column);

#endif
