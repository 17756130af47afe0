/* Batches of rows: what is wrong with them, and the common row's short way. The other rows are in take.c. */
#include "machine.h"
#include "sessions.h"
#include "take.h"
#include "watch.h"

#include <float.h>

enum { AHEAD = 16 };

/* Whatever a caller does to its buffer, each value is loaded once: what was checked is what is used. */
struct u32_at {
    uint32_t value;
} __attribute__((packed));
struct i64_at {
    int64_t value;
} __attribute__((packed));
struct f64_at {
    double value;
} __attribute__((packed));

static inline uint32_t load_u32(const void *column, size_t row)
{
    return ((const volatile struct u32_at *)column)[row].value;
}

static inline int64_t load_i64(const void *column, size_t row)
{
    return ((const volatile struct i64_at *)column)[row].value;
}

static inline double load_f64(const void *column, size_t row)
{
    return ((const volatile struct f64_at *)column)[row].value;
}

/* Touch the two lines of a row that comes soon. The address may be anything: it is not read. */
static inline void fetch(const struct line *lines, const struct cell *cells, uint32_t series, uint32_t position)
{
    __builtin_prefetch((const void *)((uintptr_t)lines + (size_t)series * sizeof *lines), 1);
    __builtin_prefetch((const void *)((uintptr_t)cells + (size_t)position * sizeof *cells), 1);
}

static inline void fetch_sketch(const struct sketch *sketches, uint32_t position)
{
    uintptr_t at = (uintptr_t)sketches + (size_t)position * sizeof *sketches;
    __builtin_prefetch((const void *)at, 1);
    __builtin_prefetch((const void *)(at + sizeof *sketches / 2), 1);
}

/* A group's current pane, in registers. Empty where each of its rows needs take_row. */
struct view {
    struct line *lines;
    struct cell *cells;
    struct sketch *sketches;
    uint64_t *touched;
    int64_t start;
    double length; /* of the pane; exact, as offsets in it are */
    uint64_t span; /* from the start, in which no row closes a window or is in the future */
    uint32_t series_count;
};

/* `count` rows are on their way. */
static inline struct view look(const struct engine *engine, const struct group *group, size_t count)
{
    const struct pane *pane = group->pane;
    struct view view = {.lines = engine->lines, .series_count = engine->series_count};
    if (pane) {
        int64_t until = group->turn < pane->end ? group->turn : pane->end;
        view.cells = pane->cells;
        view.sketches = pane->sketches;
        view.touched = pane->touched;
        view.start = pane->start;
        view.length = (double)(pane->end - pane->start);
        bool counts_fit = engine->offered - pane->begun + count < CELL_COUNT_MAX; /* in any cell */
        bool other = group->needs_extras || !counts_fit || engine->offset_shift || until <= pane->start;
        view.span = other ? 0 : (uint64_t)(until - pane->start);
    }
    return view;
}

/* Whether a row is in the current pane, Good, and newer than its series' newest. Of other series it is not known, too. */
static inline __attribute__((always_inline)) bool is_plain(const struct view *view, const struct line *line,
                                                           int64_t time, uint8_t quality)
{
    uint64_t into = (uint64_t)time - (uint64_t)view->start;
    return LIKELY(into < view->span) && LIKELY(quality == 0) && LIKELY(time > line->time);
}

/* Whether there is nothing to say of a row; then it is finite, and there was a value before it: see struct line. */
static inline __attribute__((always_inline)) bool is_quiet(const struct line *line, int64_t time, double x)
{
    return LIKELY(x >= line->low) && LIKELY(x <= line->high) && LIKELY(time < line->due);
}

/* Put a plain, finite value that follows another one into its cell. */
static inline __attribute__((always_inline)) void put_value(const struct view *view, bool timed, struct line *line,
                                                            uint32_t position, int64_t time, double x)
{
    struct cell *cell = &view->cells[position];
    uint64_t into = (uint64_t)(time - view->start);
    double last = line->last, remaining = view->length - (double)(int64_t)into;
    if (LIKELY(line->time >= view->start)) { /* its newest row is in this pane */
        cell_add(cell, x);
        if (timed)
            cell->held += (x - last) * remaining;
        cell_set_last(cell, x, into);
    } else { /* and here no row of it is, as it has none later */
        view->touched[position / 64] |= UINT64_C(1) << position % 64;
        cell_open(cell, x, into);
        double shift = cell_shift(cell);
        cell->held = (last - shift) * (double)(int64_t)into + (x - shift) * remaining;
    }
    line->last = x;
    line->time = time;
}

/* A plain row of which something is to be said, out of the loop's way. False: nothing has happened. */
static __attribute__((noinline)) bool take_loud(struct engine *engine, const struct view *view, uint32_t series,
                                                uint32_t position, int64_t time, double x)
{
    struct line *line = &view->lines[series];
    if (!(fabs(x) <= DBL_MAX) || !(line->state & LINE_KNOWN))
        return false;
    put_value(view, true, line, position, time, x);
    if (view->sketches)
        take_quantile(engine, line, &view->sketches[position], x, NULL);
    watch_row(engine, series, time, x);
    return true;
}

/* What rows of a group can need: constants, so that loops are made for them. */
struct kind {
    bool timed;
    bool sketched;
};

static inline struct kind kind_of(const struct group *group)
{
    return (struct kind){.timed = group->needs_time, .sketched = group->needs_sketches};
}

/* The common row. False: it is not that, and nothing has happened. */
static inline __attribute__((always_inline)) bool take_common(struct engine *engine, const struct view *view,
                                                              struct kind kind, uint32_t series, uint32_t position,
                                                              int64_t time, double x, const double *log,
                                                              uint8_t quality)
{
    struct line *line = &view->lines[series];
    if (!is_plain(view, line, time, quality))
        return false;
    if (is_quiet(line, time, x)) {
        put_value(view, kind.timed, line, position, time, x);
        if (kind.sketched)
            take_quantile(engine, line, &view->sketches[position], x, log);
    } else {
        const struct view here = *view; /* a copy, so that the loop's own can stay in registers */
        if (!take_loud(engine, &here, series, position, time, x))
            return false;
    }
    return true;
}

void take_other(struct engine *engine, struct group *group, uint32_t series, uint32_t position, int64_t time,
                double x, uint8_t quality, uint64_t *nonfinite)
{
    if (time < 0 || time >= ENGINE_TIME_LIMIT)
        engine->counts.undeclared++;
    else if (engine->grid.kind == GRID_SESSIONS)
        sessions_take(engine, group, series, time, x, quality, nonfinite);
    else
        take_row(engine, group, series, position, time, x, quality, nonfinite);
}

static inline uint8_t load_quality(const struct rows_view *rows, size_t row)
{
    return rows->qualities ? ((const volatile uint8_t *)rows->qualities)[row] : 0;
}

static inline int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* One row of the one group. */
static inline __attribute__((always_inline)) void take_one(struct engine *engine, struct group *group,
                                                           struct view *view, int64_t *newest, struct kind kind,
                                                           const struct rows_view *rows, size_t i,
                                                           double x, const double *log, uint64_t *nonfinite)
{
    uint32_t series = load_u32(rows->series, i);
    int64_t time = load_i64(rows->times, i);
    uint8_t quality = load_quality(rows, i);
    if (UNLIKELY(series >= view->series_count)) {
        engine->counts.undeclared++;
    } else if (LIKELY(take_common(engine, view, kind, series, series, time, x, log, quality))) {
        *newest = later(*newest, time);
    } else {
        group->newest = *newest;
        take_other(engine, group, series, series, time, x, quality, nonfinite);
        *newest = group->newest;
        *view = look(engine, group, rows->count);
    }
}

enum { CHUNK = 64 };

/* Values that come soon, with their sketch_log: many at once are worked out sooner than one by one. */
struct chunk {
    double values[CHUNK];
    double logs[CHUNK];
    bool measured;
};

/* Load a chunk of rows. They are not measured where the first of them says that sketches hold few values yet. */
static inline __attribute__((always_inline)) void chunk_load(struct chunk *chunk, const struct view *view,
                                                             const struct engine *engine, const struct rows_view *rows,
                                                             size_t from)
{
    size_t count = rows->count - from < CHUNK ? rows->count - from : CHUNK;
    uint32_t first = load_u32(rows->series, from);
    memcpy(chunk->values, (const uint8_t *)rows->floats + from * sizeof(double), count * sizeof(double));
    chunk->measured = view->sketches && first < engine->series_count && view->sketches[first].form != SKETCH_IS_RAW;
    for (size_t i = 0; chunk->measured && i < count; i++)
        chunk->logs[i] = sketch_log(chunk->values[i]);
}

/* Row `i` of the one group, with those before it taken. */
static inline __attribute__((always_inline)) void take_next(struct engine *engine, struct group *group,
                                                            struct view *view, int64_t *newest, struct kind kind,
                                                            const struct rows_view *rows, size_t i,
                                                            struct chunk *chunk, uint64_t *nonfinite)
{
    if (!kind.sketched) {
        take_one(engine, group, view, newest, kind, rows, i, load_f64(rows->floats, i), NULL, nonfinite);
        return;
    }
    if (i % CHUNK == 0)
        chunk_load(chunk, view, engine, rows, i);
    const double *log = chunk->measured ? &chunk->logs[i % CHUNK] : NULL;
    take_one(engine, group, view, newest, kind, rows, i, chunk->values[i % CHUNK], log, nonfinite);
}

/* Rows of the one group. */
static inline __attribute__((always_inline)) void take_part(struct engine *engine, struct group *group,
                                                            const struct rows_view *rows, struct kind kind,
                                                            uint64_t *nonfinite)
{
    struct view view = look(engine, group, rows->count);
    struct chunk chunk;
    int64_t newest = group->newest;
    size_t i = 0, far = rows->count > AHEAD ? rows->count - AHEAD : 0;
    for (; i < far; i++) {
        uint32_t ahead = load_u32(rows->series, i + AHEAD);
        fetch(view.lines, view.cells, ahead, ahead);
        if (kind.sketched)
            fetch_sketch(view.sketches, ahead);
        take_next(engine, group, &view, &newest, kind, rows, i, &chunk, nonfinite);
    }
    for (; i < rows->count; i++)
        take_next(engine, group, &view, &newest, kind, rows, i, &chunk, nonfinite);
    group->newest = newest;
}

/* A loop with qualities, and one without. */
static inline __attribute__((always_inline)) void take_parts(struct engine *engine, const struct rows_view *rows,
                                                             struct kind kind, uint64_t *nonfinite)
{
    struct rows_view here = *rows; /* no store to a cell can change these */
    if (here.qualities) {
        take_part(engine, engine->only, &here, kind, nonfinite);
    } else {
        here.qualities = NULL; /* as it is; in writing, so that this is another loop */
        take_part(engine, engine->only, &here, kind, nonfinite);
    }
}

/* One function for each kind, so that each has the registers for itself. */
FOR_MACHINES static void take_plain(struct engine *engine, const struct rows_view *rows, uint64_t *nonfinite)
{
    take_parts(engine, rows, (struct kind){0}, nonfinite);
}

FOR_MACHINES static void take_timed(struct engine *engine, const struct rows_view *rows, uint64_t *nonfinite)
{
    take_parts(engine, rows, (struct kind){.timed = true}, nonfinite);
}

FOR_MACHINES static void take_sketched(struct engine *engine, const struct rows_view *rows, uint64_t *nonfinite)
{
    take_parts(engine, rows, (struct kind){.timed = true, .sketched = true}, nonfinite);
}

/* Rows of the one group. */
static void take_rows(struct engine *engine, const struct rows_view *rows, uint64_t *nonfinite)
{
    struct kind kind = kind_of(engine->only);
    if (kind.sketched)
        take_sketched(engine, rows, nonfinite);
    else if (kind.timed)
        take_timed(engine, rows, nonfinite);
    else
        take_plain(engine, rows, nonfinite);
}

/* Rows of several groups: one more look-up each. */
static void take_rows_of_many(struct engine *engine, const struct rows_view *rows, uint64_t *nonfinite)
{
    for (size_t i = 0; i < rows->count; i++) {
        uint32_t series = load_u32(rows->series, i);
        int64_t time = load_i64(rows->times, i);
        double x = load_f64(rows->floats, i);
        uint8_t quality = load_quality(rows, i);
        uint32_t ahead = load_u32(rows->series, i + AHEAD < rows->count ? i + AHEAD : i);
        if (LIKELY(ahead < engine->series_count)) {
            struct place soon = engine->places[ahead];
            const struct group *group = engine->groups[soon.group];
            fetch(engine->lines, group && group->pane ? group->pane->cells : NULL, ahead, soon.position);
        }
        if (UNLIKELY(series >= engine->series_count || engine->lines[series].profile == NO_PROFILE)) {
            engine->counts.undeclared++;
            continue;
        }
        struct place place = engine->places[series];
        struct group *group = engine->groups[place.group];
        struct view view = look(engine, group, rows->count);
        if (LIKELY(take_common(engine, &view, kind_of(group), series, place.position, time, x, NULL, quality)))
            group->newest = later(group->newest, time);
        else
            take_other(engine, group, series, place.position, time, x, quality, nonfinite);
    }
}

static void take_floats(struct engine *engine, const struct rows_view *rows, uint64_t *nonfinite)
{
    uint64_t before = counts_refused(&engine->counts);
    engine->offered += rows->count;
    if (engine->only)
        take_rows(engine, rows, nonfinite);
    else
        take_rows_of_many(engine, rows, nonfinite);
    engine->counts.counted += rows->count - (counts_refused(&engine->counts) - before);
}

/* Integers as doubles, a chunk at a time; one that a double cannot hold becomes NaN, which is then `inexact`. */
static void take_integers(struct engine *engine, const struct rows_view *rows)
{
    enum { CHUNK = 512 };
    const int64_t exact = INT64_C(1) << 53;
    double values[CHUNK];
    for (size_t from = 0; from < rows->count; from += CHUNK) {
        size_t count = rows->count - from < CHUNK ? rows->count - from : CHUNK;
        for (size_t i = 0; i < count; i++) {
            int64_t value = load_i64(rows->integers, from + i);
            values[i] = value < -exact || value > exact ? (double)NAN : (double)value;
        }
        struct rows_view part = {.count = count,
                                 .series = (const uint8_t *)rows->series + from * sizeof(uint32_t),
                                 .times = (const uint8_t *)rows->times + from * sizeof(int64_t),
                                 .floats = values,
                                 .qualities = rows->qualities ? rows->qualities + from : NULL};
        take_floats(engine, &part, &engine->counts.inexact);
    }
}

void engine_ingest(struct engine *engine, const struct rows_view *rows)
{
    if (rows->count == 0 || engine->defined == 0)
        return;
    if (rows->integers)
        take_integers(engine, rows);
    else
        take_floats(engine, rows, &engine->counts.nonfinite);
}

enum engine_status engine_check(const struct engine *engine, const struct rows_view *rows, size_t *row)
{
    const struct u32_at *all_series = rows->series;
    const struct i64_at *times = rows->times;
    uint32_t largest = 0;
    uint64_t bits = 0; /* of all times: 62 and 63 are set where one is too large or negative */
    for (size_t i = 0; i < rows->count; i++) {
        largest = all_series[i].value > largest ? all_series[i].value : largest;
        bits |= (uint64_t)times[i].value;
    }
    bool all_defined = engine->defined == engine->series_count && (rows->count == 0 || largest < engine->series_count);
    if (all_defined && bits < ENGINE_TIME_LIMIT)
        return ENGINE_DONE;
    for (*row = 0; *row < rows->count; ++*row) {
        uint32_t series = load_u32(rows->series, *row);
        int64_t time = load_i64(rows->times, *row);
        if (series >= engine->series_count || !(engine->declared[series / 64] >> series % 64 & 1))
            return ENGINE_NOT_DEFINED;
        if (time < 0 || time >= ENGINE_TIME_LIMIT)
            return ENGINE_TIME;
    }
    return ENGINE_DONE;
}

enum engine_status engine_add(struct engine *engine, uint32_t series, int64_t time, double value, uint8_t quality)
{
    if (series >= engine->series_count || engine->lines[series].profile == NO_PROFILE)
        return ENGINE_NOT_DEFINED;
    if (time < 0 || time >= ENGINE_TIME_LIMIT)
        return ENGINE_TIME;
    struct place place = {0, series};
    struct group *group = engine->only;
    if (!group) {
        place = engine->places[series];
        group = engine->groups[place.group];
    }
    engine->offered++;
    struct view view = look(engine, group, 1);
    if (take_common(engine, &view, kind_of(group), series, place.position, time, value, NULL, quality)) {
        group->newest = later(group->newest, time);
        engine->counts.counted++;
        return ENGINE_DONE;
    }
    uint64_t before = counts_refused(&engine->counts);
    take_other(engine, group, series, place.position, time, value, quality, &engine->counts.nonfinite);
    engine->counts.counted += 1 - (counts_refused(&engine->counts) - before);
    return ENGINE_DONE;
}
