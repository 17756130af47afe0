/* What is wrong with a batch of rows, before any of it is taken. */
#include "parts.h"
#include "load.h"
#include "machine.h"

/* Whether all series are below `series_count`, and all times in range. */
FOR_MACHINES static bool all_within(const struct rows_view *rows, uint32_t series_count)
{
    const struct u32_at *series = rows->series;
    const struct i64_at *times = rows->times;
    uint32_t largest = 0;
    uint64_t bits = 0; /* of all times: 62 and 63 are set where one is too large or negative */
    for (size_t i = 0; i < rows->count; i++) {
        largest = series[i].value > largest ? series[i].value : largest;
        bits |= (uint64_t)times[i].value;
    }
    return largest < series_count && bits < ENGINE_TIME_LIMIT;
}

enum engine_status engine_check(const struct engine *engine, const struct rows_view *rows, size_t *row)
{
    if (engine->defined == engine->series_count && all_within(rows, engine->series_count))
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
