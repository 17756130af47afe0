/* Which rows of a series leave as readings: every one, or what leaves the deadband. */
#ifndef DEVICEMESH_REPORT_H
#define DEVICEMESH_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "value.h"

struct deadband {
    double absolute;
    double fraction;   /* of the value reported last; the larger of the two holds */
    int64_t silence_ns; /* report again after so long, changed or not; 0: never */
    int64_t pause_ns; /* report no change of a number sooner after another */
};

struct reported_text {
    size_t length;
    uint8_t bytes[];
};

/* What was reported last. All zero: nothing yet. */
struct reported {
    int64_t time;
    union {
        int64_t bits; /* see value_of */
        struct reported_text *text; /* where the tag says so */
    };
    uint32_t row; /* of its stream's rows the one that it is in: see stream_reading */
    uint8_t tag;
    uint8_t quality;
    bool any;
    bool held; /* a change was dropped for the pause: it is reported once that is over */
};

/* Whether a value is beyond the deadband around the one reported last. */
bool report_differs(const struct reported *last, const struct deadband *deadband, const struct value *value);

/* Remember a row as reported. Without memory for its text, the next row counts as the first again. */
void report_remember(struct reported *last, int64_t time, uint8_t quality, const struct value *value);

/* Forget the value, and with it the memory of a text. */
void report_reset(struct reported *last);

#endif
