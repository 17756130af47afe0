/* A block of closed windows into the output sheet: one column's loop has its cells in the nearest cache. */
#include "block.h"
#include "machine.h"

#include <stdio.h>
#include <stdlib.h>

static bool asks(const struct profile *profile, double quantile)
{
    for (uint32_t i = 0; i < profile->quantiles_count; i++)
        if (profile->quantiles[i] == quantile)
            return true;
    return false;
}

/* The columns of quantiles. */
struct quantiles {
    uint32_t count;
    double asked[SHEET_COLUMNS_MAX];
    double *columns[SHEET_COLUMNS_MAX]; /* where the block's first goes */
};

/* Of one window; all at once, as a sketch is walked once. */
static void write_quantiles_of(const struct engine *engine, const struct closed *closed, uint32_t at,
                               const struct quantiles *all)
{
    double found[SHEET_COLUMNS_MAX];
    const struct sketch *sketch = closed->sketches[at];
    const struct cell *cell = closed->cells[at];
    if (sketch)
        sketch_quantiles(sketch, &engine->rules[closed->profiles[at]], all->asked, all->count, found);
    for (uint32_t i = 0; i < all->count; i++) /* no p99 above the maximum */
        all->columns[i][at] = sketch ? between(found[i], cell_min(cell), cell_max(cell)) : (double)NAN;
}

static void write_quantiles_of_two(const struct closed *closed, uint32_t first, uint32_t second,
                                   const struct quantiles *all)
{
    double found[2 * SHEET_COLUMNS_MAX];
    const struct sketch *const two[2] = {closed->sketches[first], closed->sketches[second]};
    sketch_quantiles_of_two(two, all->asked, all->count, found);
    for (uint32_t i = 0; i < all->count; i++) {
        all->columns[i][first] = found[2 * i];
        all->columns[i][second] = found[2 * i + 1];
    }
}

static void forget_quantiles(const struct engine *engine, const struct closed *closed, const struct quantiles *all)
{
    for (uint32_t at = 0; at < closed->count; at++)
        for (uint32_t i = 0; i < all->count; i++)
            if (!asks(&engine->profiles[closed->profiles[at]], all->asked[i]))
                all->columns[i][at] = (double)NAN;
}

static void write_quantiles(const struct engine *engine, const struct closed *closed, const struct quantiles *all)
{
    enum { NOBODY = CLOSED_BLOCK };
    uint32_t waiting = NOBODY; /* with few values, for another such one */
    for (uint32_t at = 0; at < closed->count; at++) {
        const struct sketch *sketch = closed->sketches[at];
        if (!sketch || sketch->form != SKETCH_IS_RAW) {
            write_quantiles_of(engine, closed, at, all);
        } else if (waiting == NOBODY) {
            waiting = at;
        } else {
            write_quantiles_of_two(closed, waiting, at, all);
            waiting = NOBODY;
        }
    }
    if (waiting != NOBODY)
        write_quantiles_of(engine, closed, waiting, all);
    if (engine->profiles_count > 1)
        forget_quantiles(engine, closed, all);
}

static const void *column_of(const struct engine *engine, struct block *block, uint32_t column)
{
    const struct closed *closed = &block->closed;
    switch (column) {
    case WINDOW_SERIES:
        return closed->series;
    case WINDOW_START:
        return closed->starts;
    case WINDOW_END:
        return closed->ends;
    default:
        return results_column(engine->asked[column - WINDOW_FIXED].statistic, closed, &block->fields, engine->profiles,
                              block->room);
    }
}

static void write_column(const struct engine *engine, struct block *block, uint32_t column)
{
    const struct sheet *sheet = &engine->outputs[OUTPUT_WINDOWS];
    size_t bytes = block->closed.count * sheet_width(sheet->types[column]);
    const void *from = column_of(engine, block, column);
    void *to = sheet_end(sheet, column);
    if (block->streams)
        stream_copy(to, from, bytes);
    else
        memcpy(to, from, bytes);
    if (column < WINDOW_FIXED)
        return;
    enum statistic statistic = engine->asked[column - WINDOW_FIXED].statistic;
    if (!(engine->asked_by_all >> statistic & 1))
        results_forget(statistic, &block->closed, engine->profiles, to);
}

/* Touch the cells of windows that leave next. */
static void fetch(const struct pane *pane, struct queue *queue, uint32_t count)
{
    for (; count-- && queue->fetched < queue->count; queue->fetched++) {
        uint32_t at = queue->positions[queue->fetched];
        __builtin_prefetch(&pane->cells[at]);
        if (pane_has_extra(pane, at))
            __builtin_prefetch(&pane->places[at]);
        if (pane->sketches) {
            __builtin_prefetch(&pane->sketches[at]);
            __builtin_prefetch((const uint8_t *)&pane->sketches[at] + sizeof *pane->sketches / 2);
        }
    }
}

static void write_columns(struct engine *engine, struct block *block)
{
    struct sheet *sheet = &engine->outputs[OUTPUT_WINDOWS];
    uint32_t count = block->closed.count, part = CLOSED_BLOCK / sheet->count + 1;
    struct quantiles quantiles;
    quantiles.count = 0; /* the rest would take longer to clear than many a column to write */
    results_gather(&block->closed, &block->fields);
    for (uint32_t i = 0; i < sheet->count; i++) {
        if (block->pane)
            fetch(block->pane, &block->queue, part); /* what comes next, while this is written */
        if (i < WINDOW_FIXED || engine->asked[i - WINDOW_FIXED].statistic != STAT_TOTAL_COUNT) {
            write_column(engine, block, i);
            continue;
        }
        quantiles.asked[quantiles.count] = engine->asked[i - WINDOW_FIXED].quantile;
        quantiles.columns[quantiles.count++] = sheet_end(sheet, i);
    }
    if (quantiles.count)
        write_quantiles(engine, &block->closed, &quantiles);
    sheet->rows += count;
}

/* Rows that are lost with a block. */
static uint64_t rows_of(const struct block *block)
{
    uint64_t rows = 0;
    if (!block->pane)
        return block->rows;
    for (uint32_t i = 0; i < block->closed.count; i++)
        rows += cell_count(block->closed.cells[i]);
    return rows;
}

void emit_block(struct engine *engine, struct block *block)
{
    if (!sheet_reserve(&engine->outputs[OUTPUT_WINDOWS], &engine->budget, block->closed.count)) {
        uint64_t rows = rows_of(block);
        engine->counts.counted -= rows;
        engine->counts.evicted += rows;
    } else {
        write_columns(engine, block);
    }
    for (uint32_t i = 0; !block->pane && i < block->closed.count; i++)
        sketch_clear(&block->sketches[i]);
    block->closed.count = 0;
    block->closed.marked = 0;
    block->rows = 0;
}

/* ---- windows that no pane has: of several panes, and sessions ---- */

void emit_own(struct engine *engine, struct block *block, const struct window *window, bool sketched)
{
    struct closed *closed = &block->closed;
    uint32_t at = closed->count++;
    closed->series[at] = window->series;
    closed->profiles[at] = window->profile;
    closed->cells[at] = &block->cells[at];
    closed->marked |= UINT64_C(1) << at;
    closed->extras[at] = &block->extras[at];
    closed->sketches[at] = sketched ? &block->sketches[at] : NULL;
    closed->starts[at] = window->start;
    closed->ends[at] = window->end;
    closed->last_times[at] = window->last_time;
    closed->lengths[at] = window->length_ns;
    closed->known[at] = window->known_ns;
    if (closed->count == CLOSED_BLOCK)
        emit_block(engine, block);
}

void emit_closed(struct engine *engine, const struct window *window, const struct cell *cell,
                 const struct extra *extra, const struct sketch *sketch)
{
    struct block *block = engine->block;
    uint32_t at = block->closed.count;
    block->rows += cell_count(cell);
    block->cells[at] = *cell;
    block->extras[at] = *extra;
    block->sketches[at] = *sketch;
    emit_own(engine, block, window, engine->rules[window->profile].max_bins > 0);
}

void emit_finish(struct engine *engine)
{
    if (engine->block->closed.count)
        emit_block(engine, engine->block);
}

/* ---- columns ---- */

static void fill_none(void *column, enum sheet_type type, size_t rows)
{
    for (size_t i = 0; column && i < rows; i++) {
        if (type == SHEET_F64)
            ((double *)column)[i] = (double)NAN;
        else if (type == SHEET_I64)
            ((int64_t *)column)[i] = -1;
    }
}

static bool has_column(const struct engine *engine, const struct asked *asked)
{
    const struct sheet *sheet = &engine->outputs[OUTPUT_WINDOWS];
    for (uint32_t i = 0; i < sheet->count - WINDOW_FIXED; i++)
        if (engine->asked[i].statistic == asked->statistic && engine->asked[i].quantile == asked->quantile)
            return true;
    return false;
}

/* Rows that wait have nothing in a new column. */
static bool add_column(struct engine *engine, const struct asked *asked)
{
    struct sheet *sheet = &engine->outputs[OUTPUT_WINDOWS];
    bool quantile = asked->statistic == STAT_TOTAL_COUNT;
    enum sheet_type type = quantile ? SHEET_F64 : statistic_type(asked->statistic);
    void *column = NULL;
    if (has_column(engine, asked))
        return true;
    if (sheet->count == SHEET_COLUMNS_MAX)
        return false;
    if (sheet->capacity && !(column = budget_take(&engine->budget, sheet->capacity, sheet_width(type))))
        return false;
    fill_none(column, type, sheet->rows);
    sheet->types[sheet->count] = type;
    sheet->columns[sheet->count] = column;
    engine->asked[sheet->count - WINDOW_FIXED] = *asked;
    engine->tells_last_times |= asked->statistic == STAT_LAST_TIME;
    sheet->count++;
    return true;
}

bool emit_columns(struct engine *engine, const struct profile *profile)
{
    for (uint32_t statistic = 0; statistic < STAT_TOTAL_COUNT; statistic++) {
        struct asked asked = {.statistic = statistic};
        if (profile->statistics >> statistic & 1 && !add_column(engine, &asked))
            return false;
    }
    for (uint32_t i = 0; i < profile->quantiles_count; i++) {
        struct asked asked = {.statistic = STAT_TOTAL_COUNT, .quantile = profile->quantiles[i]};
        (void)snprintf(asked.name, sizeof asked.name, "p%.10g", 100 * asked.quantile);
        if (!add_column(engine, &asked))
            return false;
    }
    return true;
}

bool emit_start(struct engine *engine)
{
    struct sheet *sheet = &engine->outputs[OUTPUT_WINDOWS];
    sheet->types[WINDOW_SERIES] = SHEET_U32;
    sheet->types[WINDOW_START] = sheet->types[WINDOW_END] = SHEET_I64;
    sheet->count = WINDOW_FIXED;
    return (engine->block = calloc(1, sizeof *engine->block)) != NULL;
}

void emit_stop(struct engine *engine)
{
    free(engine->block);
}
