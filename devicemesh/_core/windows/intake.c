/* Batches and single rows, on their way to the panes. */
#include "batch.h"
#include "load.h"
#include "plain.h"

enum { AHEAD = 16 };

/* One row of a group, whatever it is. `rows` are on their way with it. */
static inline void take_one(struct engine *engine, struct group *group, uint32_t series, uint32_t position, int64_t time,
                            double x, uint8_t quality, size_t rows, uint64_t *nonfinite)
{
    struct view view = view_of(engine, group, rows);
    if (!take_good(engine, group, &view, series, position, time, x, quality))
        take_other(engine, group, series, position, time, x, quality, nonfinite);
}

/* Touch the lines of a row that comes soon. */
static INLINED void fetch(const struct engine *engine, uint32_t series)
{
    if (UNLIKELY(series >= engine->series_count))
        return;
    struct place place = engine->places[series];
    const struct group *group = engine->groups[place.group];
    __builtin_prefetch(&engine->lines[series], 1);
    if (group && group->pane)
        __builtin_prefetch(&group->pane->cells[place.position], 1);
}

/* Rows of several groups: one more look-up each. */
static void take_rows_of_many(struct engine *engine, const struct rows_view *rows, uint64_t *nonfinite)
{
    for (size_t i = 0; i < rows->count; i++) {
        uint32_t series = load_u32(rows->series, i);
        uint8_t quality = load_quality(rows, i);
        fetch(engine, load_u32(rows->series, i + AHEAD < rows->count ? i + AHEAD : i));
        if (UNLIKELY(series >= engine->series_count || engine->lines[series].profile == NO_PROFILE)) {
            engine->counts.undeclared++;
            continue;
        }
        struct place place = engine->places[series];
        take_one(engine, engine->groups[place.group], series, place.position, load_i64(rows->times, i),
                 load_f64(rows->floats, i), quality, rows->count, nonfinite);
    }
}

static void take_floats(struct engine *engine, const struct rows_view *rows, uint64_t *nonfinite)
{
    uint64_t before = counts_refused(&engine->counts);
    engine->offered += rows->count;
    if (engine->only)
        take_batch(engine, engine->only, rows, nonfinite);
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
    uint64_t before = counts_refused(&engine->counts);
    engine->offered++;
    take_one(engine, group, series, place.position, time, value, quality, 1, &engine->counts.nonfinite);
    engine->counts.counted += 1 - (counts_refused(&engine->counts) - before);
    return ENGINE_DONE;
}
