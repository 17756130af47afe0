/* A block of closed windows into the output sheet: one column's loop has its cells in the nearest cache. */
#include "emit_internal.h"
#include "machine.h"

#include <stdio.h>
#include <stdlib.h>

static void write_fixed(uint32_t fixed, const struct closed *closed, uint32_t count, void *column)
{
    uint32_t *series = column;
    int64_t *times = column;
    if (fixed == WINDOW_SERIES)
        for (uint32_t i = 0; i < count; i++)
            series[i] = closed[i].series;
    else
        for (uint32_t i = 0; i < count; i++)
            times[i] = fixed == WINDOW_START ? closed[i].start : closed[i].end;
}

static bool asks(const struct profile *profile, double quantile)
{
    for (uint32_t i = 0; i < profile->quantiles_count; i++)
        if (profile->quantiles[i] == quantile)
            return true;
    return false;
}

/* All quantiles of a window at once: a sketch is walked once. */
static void write_quantiles(const struct engine *engine, const struct closed *at, size_t row)
{
    const struct sheet *sheet = &engine->outputs[OUTPUT_WINDOWS];
    double wanted[SHEET_COLUMNS_MAX], found[SHEET_COLUMNS_MAX];
    uint32_t columns[SHEET_COLUMNS_MAX], count = 0;
    for (uint32_t i = WINDOW_FIXED; i < sheet->count; i++) {
        const struct asked *asked = &engine->asked[i - WINDOW_FIXED];
        if (asked->statistic != STAT_TOTAL_COUNT)
            continue;
        bool mine = at->sketch && asks(&engine->profiles[at->profile], asked->quantile);
        wanted[count] = mine ? asked->quantile : (double)NAN;
        columns[count++] = i;
    }
    if (at->sketch)
        sketch_quantiles(at->sketch, &engine->rules[at->profile], wanted, count, found);
    for (uint32_t i = 0; i < count; i++)
        ((double *)sheet->columns[columns[i]])[row] = at->sketch ? found[i] : (double)NAN;
}

static void write_column(const struct engine *engine, const struct block *block, const struct fields *fields,
                         uint32_t column, void *to)
{
    if (column < WINDOW_FIXED) {
        write_fixed(column, block->closed, block->count, to);
        return;
    }
    enum statistic statistic = engine->asked[column - WINDOW_FIXED].statistic;
    results_write(statistic, block->closed, fields, block->count, engine->profiles, to);
    if (!(engine->asked_by_all >> statistic & 1))
        results_forget(statistic, block->closed, block->count, engine->profiles, to);
}

static void write_columns(struct engine *engine, struct block *block)
{
    struct sheet *sheet = &engine->outputs[OUTPUT_WINDOWS];
    struct fields fields;
    bool quantiles = false;
    results_gather(block->closed, block->count, &fields);
    for (uint32_t i = 0; i < sheet->count; i++) {
        if (i >= WINDOW_FIXED && engine->asked[i - WINDOW_FIXED].statistic == STAT_TOTAL_COUNT) {
            quantiles = true;
            continue;
        }
        void *to = sheet_end(sheet, i);
        write_column(engine, block, &fields, i, block->streams ? block->column : to);
        if (block->streams)
            stream_copy(to, block->column, block->count * sheet_width(sheet->types[i]));
    }
    for (uint32_t i = 0; quantiles && i < block->count; i++)
        write_quantiles(engine, &block->closed[i], sheet->rows + i);
    sheet->rows += block->count;
}

void emit_block(struct engine *engine, struct block *block)
{
    struct sheet *sheet = &engine->outputs[OUTPUT_WINDOWS];
    if (!sheet_reserve(sheet, &engine->budget, block->count)) {
        engine->counts.counted -= block->rows;
        engine->counts.evicted += block->rows;
    } else {
        write_columns(engine, block);
    }
    block->count = 0;
    block->rows = 0;
}

void emit_own_block(struct engine *engine, struct block *block)
{
    uint32_t count = block->count;
    if (count)
        emit_block(engine, block);
    for (uint32_t i = 0; i < count; i++)
        sketch_clear(&block->sketches[i]);
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
