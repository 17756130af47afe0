#include "engine.h"

#include "parts.h"
#include "sessions.h"
#include "watch.h"

#include <stdlib.h>

#define LONGEST (INT64_C(1) << 60) /* of lengths, gaps and delays */

enum { RING_MAX = 1 << 20 };

/* ---- life ---- */

static bool within(int64_t value, int64_t from)
{
    return value >= from && value <= LONGEST;
}

const char *engine_grid_fault(const struct grid *grid)
{
    if (!within(grid->lateness_ns, 0))
        return "lateness_ns";
    if (grid->max_future_ns > LONGEST)
        return "max_future_ns";
    if (!within(grid->idle_ns, 0))
        return "idle_ns";
    if (grid->kind == GRID_SESSIONS)
        return within(grid->gap, 1) ? NULL : "gap";
    if (!within(grid->length, 1)) /* before the hop, which tumbling windows do not have */
        return "length";
    if (!within(grid->hop, 1))
        return "hop";
    if (grid->length % grid->hop)
        return "length";
    if (grid->offset < 0 || grid->offset >= grid->hop)
        return "offset";
    if (grid->lateness_ns / grid->hop + grid->length / grid->hop + 1 > RING_MAX)
        return "lateness_ns";
    return NULL;
}

struct engine *engine_new(const struct grid *grid, size_t max_bytes)
{
    struct engine *engine = calloc(1, sizeof *engine);
    if (!engine)
        return NULL;
    engine->grid = *grid;
    engine->budget.limit = max_bytes;
    engine->now = -1;
    if (grid->kind == GRID_PANES) {
        engine->panes_per_window = grid->length / grid->hop;
        engine->ring_count = (uint32_t)((grid->lateness_ns + grid->hop - 1) / grid->hop + engine->panes_per_window);
        engine->offset_shift = pane_shift(grid->hop);
    }
    watch_columns(engine);
    if (!emit_start(engine)) {
        engine_free(engine);
        return NULL;
    }
    return engine;
}

void group_free(struct engine *engine, struct group *group)
{
    if (!group)
        return;
    for (uint32_t i = 0; group->ring && i < engine->ring_count; i++)
        pane_free(&group->ring[i], &engine->budget);
    budget_give(&engine->budget, group->ring);
    budget_give(&engine->budget, group->ids);
    budget_give(&engine->budget, group);
}

void engine_free(struct engine *engine)
{
    for (uint32_t i = 0; i < engine->groups_count; i++)
        group_free(engine, engine->groups[i]);
    for (int i = 0; i < OUTPUT_COUNT; i++)
        sheet_free(&engine->outputs[i], &engine->budget);
    sessions_free(engine);
    memory_free(engine->groups);
    memory_free(engine->lines);
    memory_free(engine->declared);
    memory_free(engine->places);
    memory_free(engine->profiles);
    memory_free(engine->timers);
    memory_free(engine->rules);
    emit_stop(engine);
    budget_trim(&engine->budget);
    free(engine);
}

/* ---- time ---- */

void engine_advance(struct engine *engine, int64_t now)
{
    if (now <= engine->now)
        return;
    engine->now = now;
    for (uint32_t i = 0; i < engine->groups_count; i++) {
        struct group *group = engine->groups[i];
        if (!group)
            continue;
        if (group->newest != group->known) {
            group->known = group->newest;
            group->heard = now;
            group_close_until(engine, group, group->newest - engine->grid.lateness_ns); /* rows move it at turns only */
        }
        if (now - group->heard >= engine->grid.idle_ns)
            group_close_until(engine, group, now - engine->grid.lateness_ns);
        group_set_turn(engine, group);
        if (group->started)
            watch_group(engine, group);
    }
}

void engine_flush(struct engine *engine)
{
    for (uint32_t i = 0; i < engine->groups_count; i++)
        if (engine->groups[i] && engine->grid.kind == GRID_PANES)
            group_flush(engine, engine->groups[i]);
    if (engine->grid.kind == GRID_SESSIONS)
        sessions_flush(engine);
}

/* ---- what comes out ---- */

void engine_take(struct engine *engine, enum engine_output output, struct sheet *out)
{
    if (engine->grid.kind == GRID_SESSIONS && output == OUTPUT_WINDOWS)
        sessions_close(engine);
    sheet_take(&engine->outputs[output], &engine->budget, out);
}

const char *engine_column_name(const struct engine *engine, enum engine_output output, uint32_t column)
{
    static const char *const windows[] = {"series", "start", "end"};
    static const char *const reports[] = {"series", "time_ns", "value", "reason"};
    static const char *const events[] = {"series", "time_ns", "kind", "alarm", "active", "value"};
    if (output == OUTPUT_REPORTS)
        return reports[column];
    if (output == OUTPUT_EVENTS)
        return events[column];
    if (column < WINDOW_FIXED)
        return windows[column];
    const struct asked *asked = &engine->asked[column - WINDOW_FIXED];
    return asked->statistic == STAT_TOTAL_COUNT ? asked->name : statistic_name(asked->statistic);
}

void engine_return(struct engine *engine, void *column)
{
    budget_return(&engine->budget, column);
}

const struct row_counts *engine_counts(const struct engine *engine)
{
    return &engine->counts;
}

uint64_t engine_unsketched(const struct engine *engine)
{
    return engine->unsketched;
}

size_t engine_memory(const struct engine *engine)
{
    return engine->budget.used;
}
