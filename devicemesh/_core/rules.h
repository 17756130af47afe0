/* How the rows of a series are treated. Those of one model are treated alike: they share their rules. */
#ifndef DEVICEMESH_RULES_H
#define DEVICEMESH_RULES_H

#include <stdbool.h>
#include <stdint.h>

#include "alarm.h"
#include "record.h"
#include "report.h"

enum report { REPORT_NONE, REPORT_EVERY, REPORT_CHANGE, REPORT_WINDOW, REPORT_COUNT };

#define MAX_SPAN_NS INT64_C(31622400000000000) /* 366 days, for a window and its lateness */
enum { MAX_LIMITS = 255 };

struct rules {
    struct deadband deadband;
    int64_t window_ns;
    int64_t lateness_ns;
    const struct limit *limits;
    uint32_t limits_count;
    uint32_t mask; /* of enum statistic */
    uint32_t quantiles_count;
    uint32_t quantiles[QUANTILES_MOST]; /* in thousandths of a percent */
    uint8_t kind;                       /* enum kind */
    uint8_t report;                     /* enum report */
};

/* Whether windows need struct details. */
static inline bool rules_detailed(const struct rules *rules)
{
    return rules->report == REPORT_WINDOW && rules->mask >> STATISTIC_TIME_AVERAGE;
}

/* Whether windows weigh by time: then a series has one in every span in which its value is known. */
static inline bool rules_timed(const struct rules *rules)
{
    const uint32_t timed = UINT32_C(1) << STATISTIC_TIME_AVERAGE | UINT32_C(1) << STATISTIC_PERCENT_GOOD |
                           UINT32_C(1) << STATISTIC_DURATION_NONZERO;
    return rules->report == REPORT_WINDOW && rules->mask & timed;
}

/* Whether the time since the last report counts. */
static inline bool rules_paced(const struct rules *rules)
{
    return rules->report == REPORT_CHANGE && (rules->deadband.silence_ns > 0 || rules->deadband.pause_ns > 0);
}

/* Whether the rules are within their bounds. */
bool rules_valid(const struct rules *rules);

/* The rules in use, by what they say. All zero: none. */
struct rulebook {
    struct shared_rules **chains; /* a power of two of them */
    uint32_t chains_count;
    uint32_t count;
};

/* The book's own copy of rules, for one more user; NULL without memory. */
const struct rules *rulebook_share(struct rulebook *book, const struct rules *rules);

/* One user less of what `rulebook_share` returned; the last one takes them with it. */
void rulebook_release(struct rulebook *book, const struct rules *rules);

/* Free the book itself, once nobody uses its rules. */
void rulebook_free(struct rulebook *book);

#endif
