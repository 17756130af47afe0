/* Arrays of one series: the first sample of each window is a row, the others are folded at once where nothing but
 * the window's sums can come of them. */
#include "dense.h"
#include "load.h"
#include "take.h"

static double load(const struct samples *samples, size_t at)
{
    switch (samples->type) {
    case SAMPLES_DOUBLE:
        return load_f64(samples->values, at);
    case SAMPLES_FLOAT:
        return (double)load_f32(samples->values, at);
    default:
        return load_i16(samples->values, at);
    }
}

static void fold(const struct samples *samples, size_t from, size_t count, struct dense *dense)
{
    static const size_t sizes[] = {sizeof(double), sizeof(float), sizeof(int16_t)};
    const uint8_t *values = (const uint8_t *)samples->values + from * sizes[samples->type];
    if (samples->type == SAMPLES_DOUBLE)
        dense_fold_double(dense, values, count);
    else if (samples->type == SAMPLES_FLOAT)
        dense_fold_float(dense, values, count);
    else
        dense_fold_int16(dense, values, count);
}

static int64_t time_at(const struct samples *samples, size_t at)
{
    return samples->start + (int64_t)at * samples->step;
}

/* Where the array falls. */
struct target {
    struct group *group;
    struct line *line;
    uint32_t position;
};

/* How many samples from `from` on share the current pane with the newest row, and close nothing. */
static size_t run_length(const struct target *target, const struct samples *samples, size_t from)
{
    const struct group *group = target->group;
    int64_t until = group->turn < group->end ? group->turn : group->end, time = time_at(samples, from);
    const struct line *line = target->line;
    if (!group->pane || time < group->start || time >= until || !(line->state & LINE_KNOWN) ||
        line->time < group->start || line->time >= time || !cell_count(&group->pane->cells[target->position]))
        return 0;
    uint64_t steps = (uint64_t)(until - 1 - time) / (uint64_t)samples->step + 1;
    return steps < samples->count - from ? (size_t)steps : samples->count - from;
}

static void add_extra(struct extra *extra, const struct cell *cell, const struct samples *samples, size_t from,
                      const struct dense *dense)
{
    if (dense->min < cell_min(cell))
        extra->min_time = time_at(samples, from + dense->min_at);
    if (dense->max > cell_max(cell))
        extra->max_time = time_at(samples, from + dense->max_at);
    extra->left = 1;
    extra->exit = dense->last;
}

/* Fold a run into its cell; false if its rows must be looked at one by one: nothing has happened. */
static bool take_run(struct engine *engine, const struct target *target, const struct samples *samples, size_t from,
                     size_t count)
{
    struct group *group = target->group;
    struct line *line = target->line;
    struct pane *pane = group->pane;
    struct cell *cell = &pane->cells[target->position];
    const struct profile *profile = &engine->profiles[line->profile];
    struct dense dense;
    int64_t first = time_at(samples, from), last = time_at(samples, from + count - 1);
    if (profile->sloped || profile->statistics & STATS_STEPPED || count > CELL_COUNT_MAX - cell_count(cell))
        return false;
    fold(samples, from, count, &dense);
    if (dense.nonfinite || -dense.min > line->edges[0] || dense.max > line->edges[1] || last >= line->due)
        return false;
    double shift = cell_shift(cell), before = dense.sum + (double)count * (dense.shift - shift) - (dense.last - shift);
    struct extra *extra = pane_extra(pane, target->position); /* the row before gave it one, where all have one */
    if (extra)
        add_extra(extra, cell, samples, from, &dense);
    cell_add_many(cell, (uint32_t)count, dense.shift, dense.sum, dense.squares, dense.min, dense.max);
    cell->held += (dense.last - shift) * (double)(pane->end - last) + before * (double)samples->step -
                  (line->last - shift) * (double)(pane->end - first);
    cell_set_last(cell, dense.last, (uint64_t)(last - pane->start) >> engine->offset_shift);
    for (size_t i = 0; pane->sketches && i < count; i++)
        take_quantile(engine, line, &pane->sketches[target->position], load(samples, from + i));
    line->last = dense.last;
    line->time = last;
    group->newest = last > group->newest ? last : group->newest;
    return true;
}

static struct target find_target(const struct engine *engine, uint32_t series)
{
    struct target target = {engine->only, &engine->lines[series], series};
    if (!engine->only) {
        target.group = engine->groups[engine->places[series].group];
        target.position = engine->places[series].position;
    }
    return target;
}

enum engine_status engine_ingest_array(struct engine *engine, const struct samples *samples)
{
    enum { RUN_MAX = 1 << 16, WORTH_FOLDING = 4 };
    if (samples->series >= engine->series_count || engine->lines[samples->series].profile == NO_PROFILE)
        return ENGINE_NOT_DEFINED;
    if (samples->start < 0 || samples->start >= ENGINE_TIME_LIMIT || samples->step <= 0 ||
        (samples->count &&
         samples->count - 1 > (uint64_t)(ENGINE_TIME_LIMIT - 1 - samples->start) / (uint64_t)samples->step))
        return ENGINE_TIME;
    struct target target = find_target(engine, samples->series);
    if (target.group->bare)
        group_settle_one(engine, target.group, samples->series, target.position);
    uint64_t refused = counts_refused(&engine->counts);
    engine->offered += samples->count;
    for (size_t at = 0; at < samples->count;) {
        size_t run = engine->grid.kind == GRID_PANES ? run_length(&target, samples, at) : 0;
        run = run < RUN_MAX ? run : RUN_MAX;
        if (run >= WORTH_FOLDING && take_run(engine, &target, samples, at, run)) {
            at += run;
            continue;
        }
        for (size_t end = at + (run ? run : 1); at < end; at++)
            take_other(engine, target.group, samples->series, target.position, time_at(samples, at), load(samples, at),
                       0, &engine->counts.nonfinite);
    }
    engine->counts.counted += samples->count - (counts_refused(&engine->counts) - refused);
    return ENGINE_DONE;
}
