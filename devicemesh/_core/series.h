/* One series: how its rows are treated, what was last seen and reported of it, and its open windows. */
#ifndef DEVICEMESH_SERIES_H
#define DEVICEMESH_SERIES_H

#include <stddef.h>

#include "report.h"
#include "rules.h"
#include "value.h"
#include "window.h"

enum { MAX_IDS = 1 << 24 };

/* Which property of which stream a series is. */
struct place {
    uint32_t stream;
    uint32_t property;
};

/* The last row of a slot; of a text only the tag. */
struct latest {
    bool any;
    uint8_t quality;
    int64_t time;
    struct value value;
};

/* There is one for each property of each device: the order is the one that leaves no gaps. */
struct series {
    const struct rules *rules; /* shared */
    struct place place;
    uint64_t rows; /* ever pushed; the first is the latest, so 0: there is no latest yet */
    union {
        struct reported reported; /* every, change */
        struct {                  /* window */
            struct windows windows;
            struct steps *steps; /* its own, or NULL: its rules ask for no details */
        };
    };
    int64_t latest_time;
    int64_t latest_bits; /* see value_of */
    uint32_t next;       /* slot of the stream's next series */
    uint8_t latest_tag;
    uint8_t latest_quality;
    struct alarm_state alarms[]; /* by limit; behind them one int64_t, see series_said, if the rules pace */
};

_Static_assert(sizeof(void *) > 8 || sizeof(struct series) <= 72, "a device has many series");

/* A new series of these rules, which it then owns a share of; NULL without memory. */
struct series *series_new(const struct rules *rules, struct place place);

/* The last row. */
static inline struct latest series_latest(const struct series *series)
{
    return (struct latest){series->rows > 0, series->latest_quality, series->latest_time,
                           value_of(series->latest_tag, series->latest_bits)};
}

/* When, by our clock, a row of a series whose rules pace was reported last. */
static inline int64_t *series_said(const struct series *series)
{
    return (int64_t *)&series->alarms[series->rules->limits_count];
}

/* Remember a row as the last. */
static inline void series_set_latest(struct series *series, int64_t time, uint8_t quality, const struct value *value)
{
    series->latest_time = time;
    series->latest_quality = quality;
    series->latest_tag = (uint8_t)value->tag;
    series->latest_bits = value_bits(value);
}

/* Our clock was set back to `now`: nothing of the series is later than that. */
void series_set_back(struct series *series, int64_t now);

/* The value as a series of this kind has it; nothing is cut off. */
struct value value_of_kind(uint8_t kind, const struct value *value);

/* Whether a window can hold the value exactly: no integer beyond 2^53, no text. */
bool value_is_exact(const struct value *value);

/* Whether a text is what its tag says, and not too long. */
bool value_text_valid(const struct value *value);

/* Free a series, but for its share of the rules. */
void series_free(struct series *series);

#endif
