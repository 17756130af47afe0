/* Tables as bytes: JSON and InfluxDB line protocol. */
#ifndef DEVICEMESH_WINDOWS_ROWS_H
#define DEVICEMESH_WINDOWS_ROWS_H

#include "buffer.h"
#include "value.h"

enum column_type {
    COLUMN_U8,
    COLUMN_U32,
    COLUMN_I64,
    COLUMN_U64,
    COLUMN_F64,
    COLUMN_TIME, /* i64: nanoseconds since 1970; negative: none */
    COLUMN_TEXT, /* struct text: UTF-8 */
    COLUMN_TYPES,
};

/* Bytes of a value of each type. */
extern const uint8_t column_sizes[COLUMN_TYPES];

/* A column's values, of any alignment; borrowed, as all here is. */
struct column {
    struct text name; /* UTF-8 */
    enum column_type type;
    const uint8_t *values;
};

struct table {
    const struct column *columns;
    size_t columns_count;
    size_t rows;
};

enum rows_status {
    ROWS_DONE,
    ROWS_NO_MEMORY,
    ROWS_UNSAYABLE, /* line protocol: a name or text is empty, has a control character, or ends with a backslash;
                       or a measurement that starts with # */
};

/* The writers append to `out`; after another status than ROWS_DONE it is as it was. Floats are the shortest decimals that
 * read back as the same; NaN, infinities and times that are none are null. Times are RFC 3339 in UTC: a reader's doubles can't hold them. */

/* {"series":"pump/speed","start":"2026-01-01T00:00:00Z","mean":0.5} and a newline for every row. */
enum rows_status rows_json_objects(const struct table *table, struct buffer *out);

/* {"columns":["series","start","mean"],"rows":[["pump/speed","2026-01-01T00:00:00Z",0.5]]} */
enum rows_status rows_json_arrays(const struct table *table, struct buffer *out);

/* measurement,series=pump/speed end=1767225610000000000i,count=10i,mean=0.5 1767225600000000000
 *
 * The column `stamp`, a time, is the stamp; texts are tags; all else are fields: integers with i, u64 with u. Floats that
 * are not finite and times that are none are left out, and a row that has no field left with them. Commas, spaces and equal signs are escaped. */
enum rows_status rows_line(const struct table *table, struct text measurement, size_t stamp, struct buffer *out);

#endif
