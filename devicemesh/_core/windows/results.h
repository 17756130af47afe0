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

/* A closed window of one series. */
struct closed {
    const struct cell *cell;
    const struct extra *extra; /* NULL: nothing rare happened */
    const struct sketch *sketch;
    int64_t start, end;
    int64_t last_time;
    int64_t length_ns; /* that it weighs by time: all of it, but for sessions */
    int64_t known_ns;  /* of that, with a known value */
    uint32_t series;
    uint16_t profile;
};

enum { CLOSED_BLOCK = 128 };

/* What the common statistics are of, of a block of closed windows, field by field: their loops can be vectors. */
struct fields {
    double count[CLOSED_BLOCK];
    double shift[CLOSED_BLOCK];
    double sum[CLOSED_BLOCK];
    double squares[CLOSED_BLOCK];
    double min[CLOSED_BLOCK], max[CLOSED_BLOCK], last[CLOSED_BLOCK]; /* NaN without values */
    double held[CLOSED_BLOCK];
    double known_ns[CLOSED_BLOCK];
};

void results_gather(const struct closed *closed, uint32_t count, struct fields *fields);

/* Write a statistic of `count` closed windows, at most CLOSED_BLOCK, of which `fields` are. */
void results_write(enum statistic statistic, const struct closed *closed, const struct fields *fields, uint32_t count,
                   const struct profile *profiles, void *column);

/* Where a series' profile did not ask for it: NaN, -1, or UINT8_MAX. */
void results_forget(enum statistic statistic, const struct closed *closed, uint32_t count,
                    const struct profile *profiles, void *column);

#endif
