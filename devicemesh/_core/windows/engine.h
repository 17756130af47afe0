/* The window engine: high-rate rows in, closed windows, reports and events out as columns.
 *
 * Every row pushed is counted once: see struct row_counts. Rows are judged one by one, in their order: splitting
 * a batch anywhere changes nothing. Not safe for concurrent calls: the binding has the lock. */
#ifndef DEVICEMESH_WINDOWS_ENGINE_H
#define DEVICEMESH_WINDOWS_ENGINE_H

#include "profile.h"
#include "sheet.h"

#define ENGINE_TIME_LIMIT (INT64_C(1) << 62) /* times are below it, and lengths and delays, too: sums do not overflow */

enum grid_kind { GRID_PANES, GRID_SESSIONS };

struct grid {
    enum grid_kind kind;
    int64_t length, hop, offset; /* panes: the length is a multiple of the hop, 0 <= offset < hop */
    int64_t gap;                 /* sessions */
    int64_t lateness_ns;
    int64_t max_future_ns; /* negative: no limit */
    int64_t idle_ns;       /* advance closes a source's windows when no row came for so long */
};

/* What became of rows. Each is one of these; `counted` ones are in windows, open, emitted or merged. */
struct row_counts {
    uint64_t counted;
    uint64_t late;       /* all its windows are closed */
    uint64_t duplicate;  /* same time as the series' newest row: only its value is taken, as the last */
    uint64_t future;     /* later than the clock allows: moves nothing */
    uint64_t bad;        /* no value, by its quality */
    uint64_t nonfinite;  /* no value: NaN or an infinity */
    uint64_t inexact;    /* no value: an integer beyond 2^53 */
    uint64_t overflow;   /* no memory for its window, or a window of 2^31 rows */
    uint64_t evicted;    /* counted before, but its window found no memory to leave */
    uint64_t undeclared; /* the caller changed the buffer while it was read */
};

/* Rows as columns of any alignment. Only one of the values is not NULL; no qualities: all Good. */
struct rows_view {
    size_t count;
    const void *series; /* uint32 */
    const void *times;  /* int64 */
    const double *floats;
    const int64_t *integers;
    const uint8_t *qualities;
};

enum engine_status {
    ENGINE_DONE,
    ENGINE_NO_MEMORY,
    ENGINE_NOT_DEFINED,     /* a series; engine_fault has the row */
    ENGINE_TIME,            /* a time out of range; engine_fault has the row */
    ENGINE_DEFINED_ALREADY, /* a series */
    ENGINE_NO_PROFILE,
    ENGINE_TOO_MANY, /* profiles, sources */
    ENGINE_RELATIVE_ERROR,
};

struct engine;

/* A new engine, or NULL without memory. The grid must be valid; see engine_grid_fault. */
struct engine *engine_new(const struct grid *grid, size_t max_bytes);
void engine_free(struct engine *engine);

/* The name of the argument that makes a grid invalid, or NULL. */
const char *engine_grid_fault(const struct grid *grid);

enum engine_status engine_profile(struct engine *engine, const struct profile *profile, uint32_t *number);

/* Define `count` series from `first` on; none on failure. */
enum engine_status engine_define(struct engine *engine, uint32_t first, uint32_t count, uint32_t profile,
                                 uint32_t source);

/* Look through a batch before any of it is taken: ids and times. `row` is the first at fault. */
enum engine_status engine_check(const struct engine *engine, const struct rows_view *rows, size_t *row);

/* Take a batch that was checked. What a caller changes in it meanwhile can do no harm. */
void engine_ingest(struct engine *engine, const struct rows_view *rows);

/* Samples of one series at equal distances, Good all: double, float or int16, of any alignment. */
enum samples_type { SAMPLES_DOUBLE, SAMPLES_FLOAT, SAMPLES_INT16 };

struct samples {
    uint32_t series;
    int64_t start, step; /* ns; the step is above 0 */
    size_t count;
    enum samples_type type;
    const void *values;
};

/* Take an array: what ingesting its rows would do, but for the rounding of sums. Nothing is taken on failure. */
enum engine_status engine_ingest_array(struct engine *engine, const struct samples *samples);

/* Take one row, of a value that is a double. */
enum engine_status engine_add(struct engine *engine, uint32_t series, int64_t time, double value, uint8_t quality);

/* Tell the time. Closes the windows of idle sources; delayed alarms, held reports and missing data become known. */
void engine_advance(struct engine *engine, int64_t now);

/* Close every window, partial as it is. Rows that would have entered them are late from now on. */
void engine_flush(struct engine *engine);

/* The closed windows, reports and events since the last call. */
enum engine_output { OUTPUT_WINDOWS, OUTPUT_REPORTS, OUTPUT_EVENTS, OUTPUT_COUNT };
void engine_take(struct engine *engine, enum engine_output output, struct sheet *out);

/* A column that was taken is not needed any more: its memory may be used again. */
void engine_return(struct engine *engine, void *column);
const char *engine_column_name(const struct engine *engine, enum engine_output output, uint32_t column);

const struct row_counts *engine_counts(const struct engine *engine);

/* Values that are counted, but found no memory in their window's quantiles. */
uint64_t engine_unsketched(const struct engine *engine);
size_t engine_memory(const struct engine *engine);

#endif
