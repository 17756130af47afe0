/* A record's body as the data of a Sparkplug B payload (3.0, chapter 6: proto2). */
#ifndef DEVICEMESH_SPARKPLUG_H
#define DEVICEMESH_SPARKPLUG_H

#include "buffer.h"
#include "record.h"
#include "value.h"

/* Datatypes of the values that we emit (section 6.4.16). */
enum sparkplug_type {
    SPARKPLUG_INT32 = 3,
    SPARKPLUG_INT64 = 4,
    SPARKPLUG_UINT8 = 5,
    SPARKPLUG_UINT16 = 6,
    SPARKPLUG_UINT64 = 8,
    SPARKPLUG_FLOAT = 9,
    SPARKPLUG_DOUBLE = 10,
    SPARKPLUG_BOOLEAN = 11,
    SPARKPLUG_STRING = 12,
    SPARKPLUG_BYTES = 17,
};

/* A metric of a device. */
struct sparkplug_metric {
    uint32_t offset; /* of its alias, or of its name; SPARKPLUG_NONE: there is no such metric */
    uint32_t type;   /* enum sparkplug_type */
};
enum { SPARKPLUG_NONE = 0xFFFFFFFFu };

struct sparkplug_quantile {
    uint32_t which; /* in thousandths of a percent */
    struct sparkplug_metric metric;
};

/* The metrics of a property: its readings, and what its windows give. Nothing but uint32_t: it comes as a table. */
struct sparkplug_property {
    uint32_t kind; /* enum kind: windows of another one are not told by these metrics */
    struct sparkplug_metric reading;
    struct sparkplug_metric count;
    struct sparkplug_metric bad;
    struct sparkplug_metric statistics[STATISTIC_COUNT]; /* by bit of a window's mask */
    struct sparkplug_quantile quantiles[QUANTILES_MOST];
};

struct sparkplug_metrics {
    const struct sparkplug_property *properties;
    size_t properties_count;
    uint64_t first_alias;
    const struct text *names; /* by offset; NULL: metrics go by their aliases */
    size_t names_count;
    bool late; /* all of it is history */
};

/* ELSE: no such metric, a value of another type, or bytes that are no record: the readable twin knows what to do. */
enum sparkplug_status { SPARKPLUG_DONE, SPARKPLUG_ELSE, SPARKPLUG_NO_MEMORY };

/* Append the payload, without a sequence number, to `out`. Any bytes may come as a body. */
enum sparkplug_status sparkplug_encode(struct buffer *out, const uint8_t *body, size_t length,
                                       const struct sparkplug_metrics *metrics, int64_t now_ms);

#endif
