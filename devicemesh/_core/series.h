/* One series: how its rows are treated, what was last seen and reported of it, and its open windows. */
#ifndef DEVICEMESH_SERIES_H
#define DEVICEMESH_SERIES_H

#include "alarm.h"
#include "report.h"
#include "value.h"
#include "window.h"

enum report { REPORT_NONE, REPORT_EVERY, REPORT_CHANGE, REPORT_WINDOW, REPORT_COUNT };

#define MAX_SPAN_NS INT64_C(31622400000000000) /* 366 days, for a window and its lateness */
enum { MAX_IDS = 1 << 24, MAX_LIMITS = 255 };

/* How the rows of a slot are treated. */
struct rules {
    uint32_t stream;
    uint32_t property;
    uint8_t kind;   /* enum kind */
    uint8_t report; /* enum report */
    uint8_t mask;   /* of enum statistic */
    struct deadband deadband;
    int64_t window_ns;
    int64_t lateness_ns;
    const struct limit *limits; /* copied */
    uint32_t limits_count;
};

/* The last row of a slot; of a text only the tag. */
struct latest {
    bool any;
    uint8_t quality;
    int64_t time;
    struct value value;
};

struct series {
    struct rules rules;
    struct latest latest;
    uint64_t rows; /* ever pushed */
    struct reported reported;
    struct windows windows;
    uint32_t row_seen; /* see stream_reading */
    struct limit limits[];
};

/* Whether the rules are within their bounds. */
bool rules_valid(const struct rules *rules);

/* The value as a series of this kind has it; nothing is cut off. */
struct value value_of_kind(uint8_t kind, const struct value *value);

/* Whether a window can hold the value exactly: no integer beyond 2^53, no text. */
bool value_is_exact(const struct value *value);

/* Whether a text is what its tag says, and not too long. */
bool value_text_valid(const struct value *value);

void series_free(struct series *series);

#endif
