/* The body of a record: what one stream has to publish, self-contained but for the property names.
 *
 * All numbers are little-endian; `varint` has seven bits a byte, lowest first; a signed one is zigzag.
 *
 *   header   version u8 (1) · epoch u32 · seq u64
 *   then any number of
 *   row      0x01 · time i64                          the readings that follow are of this time (Unix ns)
 *   window   0x02 · property varint · kind u8 · mask varint · start i64 · length varint (ns) ·
 *            count varint · bad varint · a f64 per bit of the mask, lowest bit first ·
 *            where the mask has STATISTIC_QUANTILES: their number varint, then of each
 *            which varint (thousandths of a percent) · f64
 *   reading  0x10 + tag (| 0x80: a quality byte comes after the property) · property varint · payload
 *            tags: null · float f64 · float32 f32 · whole (a float, as signed varint) · integer signed varint ·
 *                  false · true · string, bytes, json: length varint, then so many bytes
 */
#ifndef DEVICEMESH_RECORD_H
#define DEVICEMESH_RECORD_H

#include "buffer.h"
#include "value.h"
#include "wire.h"

enum {
    RECORD_VERSION = 1,
    RECORD_HEADER = 13,
    RECORD_ROW_MAX = 9,
    RECORD_READING_MAX = 1 + VARINT_MAX + 1 + VARINT_MAX, /* plus a text's bytes */
    QUANTILES_MOST = 8, /* of one window */
    QUANTILE_WHOLE = 100000,
    RECORD_TEXT_MAX = 4 << 20, /* bytes of one string, bytes or json */
};

/* What a window publishes beside count and bad: bits of the mask, in the order of the payload. */
enum statistic {
    STATISTIC_MEAN,
    STATISTIC_MIN,
    STATISTIC_MAX,
    STATISTIC_FIRST,
    STATISTIC_LAST,
    STATISTIC_STDDEV,
    STATISTIC_SUM,
    STATISTIC_RANGE,
    STATISTIC_DELTA, /* last - first */
    STATISTIC_RMS,
    STATISTIC_TIME_AVERAGE, /* from here on they need struct details */
    STATISTIC_PERCENT_GOOD, /* of the time */
    STATISTIC_DURATION_NONZERO, /* s */
    STATISTIC_TRANSITIONS,
    STATISTIC_INCREASE,
    STATISTIC_RATE, /* 1/s */
    STATISTIC_RESETS,
    STATISTIC_COUNT,
    STATISTIC_QUANTILES = STATISTIC_COUNT, /* that there are some */
};
enum { RECORD_WINDOW_MAX = 2 + 8 + 6 * VARINT_MAX + STATISTIC_COUNT * 8 + QUANTILES_MOST * (VARINT_MAX + 8) };

struct record_header {
    uint32_t epoch;
    uint64_t seq;
};

struct record_window {
    uint32_t property;
    uint8_t kind; /* enum kind */
    uint32_t mask;
    int64_t start;
    uint64_t length_ns;
    uint64_t count;
    uint64_t bad;
    double statistics[STATISTIC_COUNT]; /* by bit; NaN: there is none */
    uint32_t quantiles_count;
    uint32_t quantiles[QUANTILES_MOST]; /* which, in thousandths of a percent */
    double quantile_values[QUANTILES_MOST];
};

enum record_item { ITEM_END, ITEM_ROW, ITEM_READING, ITEM_WINDOW, ITEM_MALFORMED };

struct record_entry {
    int64_t time;                /* ITEM_ROW */
    uint32_t property;           /* ITEM_READING */
    uint8_t quality;             /* ITEM_READING */
    struct value value;          /* ITEM_READING; its text, if it is one, is: */
    struct text text;            /* part of the body, and well-formed */
    struct record_window window; /* ITEM_WINDOW */
};

/* The writers append; false without memory. */
bool record_begin(struct buffer *out, struct record_header header);
bool record_row(struct buffer *out, int64_t time);
bool record_reading(struct buffer *out, uint32_t property, uint8_t quality, const struct value *value);
bool record_window(struct buffer *out, const struct record_window *window);

/* Start reading a body; false if it is none. Nothing of it is trusted. */
bool record_open(struct cursor *cursor, const uint8_t *body, size_t length, struct record_header *header);

/* Read the next item into `entry`. */
enum record_item record_next(struct cursor *cursor, struct record_entry *entry);

#endif
