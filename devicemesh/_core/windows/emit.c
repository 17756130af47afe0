/* Closed windows into the output sheet, a block at a time: one column's loop has its cells in the nearest cache. */
#include "engine_internal.h"

/* A block of windows that are about to be written. */
struct block {
    uint32_t count;
    uint64_t rows; /* that are lost with it if it finds no room */
    struct closed closed[CLOSED_BLOCK];
    struct cell cells[CLOSED_BLOCK];   /* of windows merged from several panes */
    struct extra extras[CLOSED_BLOCK];
};

static void write_fixed(struct sheet *sheet, const struct closed *closed, uint32_t count)
{
    uint32_t *series = sheet_end(sheet, WINDOW_SERIES);
    int64_t *starts = sheet_end(sheet, WINDOW_START), *ends = sheet_end(sheet, WINDOW_END);
    for (uint32_t i = 0; i < count; i++) {
        series[i] = closed[i].series;
        starts[i] = closed[i].start;
        ends[i] = closed[i].end;
    }
}

static void write_block(struct engine *engine, struct block *block)
{
    struct sheet *sheet = &engine->outputs[OUTPUT_WINDOWS];
    if (!sheet_reserve(sheet, &engine->budget, block->count)) {
        engine->counts.counted -= block->rows;
        engine->counts.evicted += block->rows;
    } else {
        write_fixed(sheet, block->closed, block->count);
        for (uint32_t i = WINDOW_FIXED; i < sheet->count; i++)
            results_write(engine->window_statistics[i - WINDOW_FIXED], block->closed, block->count, engine->profiles,
                          sheet_end(sheet, i));
        sheet->rows += block->count;
    }
    block->count = 0;
    block->rows = 0;
}

/* Time of a pane in which the series has a known value. */
static int64_t known_time(const struct engine *engine, const struct pane *pane, uint32_t position, uint32_t series)
{
    int64_t known = pane->end - pane->start;
    if (isnan(pane->cells[position].held))
        return 0;
    if (pane->extras)
        known -= pane->extras[position].unknown_ns;
    if (pane->lately) {
        const struct line *line = &engine->lines[series];
        if (line->state & LINE_LATELY && line->known_since >= pane->start && line->known_since < pane->end)
            known -= line->known_since - pane->start;
    }
    return known;
}

static int64_t last_time(const struct engine *engine, const struct pane *pane, const struct cell *cell)
{
    return pane->start + (int64_t)(cell_offset(cell) << engine->offset_shift);
}

static void emit_pane(struct engine *engine, const struct group *group, const struct pane *pane, struct block *block)
{
    for (uint32_t at = pane_next(pane, 0); at < pane->capacity; at = pane_next(pane, at + 1)) {
        uint32_t series = group_id(group, at);
        const struct cell *cell = &pane->cells[at];
        block->rows += cell_count(cell);
        block->closed[block->count++] = (struct closed){
            .cell = cell,
            .extra = pane->extras ? &pane->extras[at] : NULL,
            .start = pane->start,
            .end = pane->end,
            .last_time = last_time(engine, pane, cell),
            .known_ns = known_time(engine, pane, at, series),
            .series = series,
            .profile = engine->lines[series].profile,
        };
        if (block->count == CLOSED_BLOCK)
            write_block(engine, block);
    }
}

void emit_window(struct engine *engine, struct group *group, int64_t number)
{
    struct block block;
    block.count = 0;
    block.rows = 0;
    const struct pane *pane = group_pane(engine, group, number);
    if (engine->panes_per_window == 1 && pane)
        emit_pane(engine, group, pane, &block);
    if (block.count)
        write_block(engine, &block);
}

/* ---- columns ---- */

static void fill_none(void *column, enum sheet_type type, size_t rows)
{
    for (size_t i = 0; i < rows; i++) {
        if (type == SHEET_F64)
            ((double *)column)[i] = (double)NAN;
        else if (type == SHEET_I64)
            ((int64_t *)column)[i] = -1;
    }
}

static uint32_t column_of(const struct engine *engine, enum statistic statistic)
{
    const struct sheet *sheet = &engine->outputs[OUTPUT_WINDOWS];
    for (uint32_t i = WINDOW_FIXED; i < sheet->count; i++)
        if (engine->window_statistics[i - WINDOW_FIXED] == statistic)
            return i;
    return SHEET_COLUMNS_MAX;
}

/* Free the columns of `wider` that the sheet does not have. */
static void drop_new_columns(struct engine *engine, const struct sheet *wider)
{
    const struct sheet *sheet = &engine->outputs[OUTPUT_WINDOWS];
    for (uint32_t i = WINDOW_FIXED; i < wider->count; i++) {
        bool old = false;
        for (uint32_t j = WINDOW_FIXED; j < sheet->count; j++)
            old |= sheet->columns[j] == wider->columns[i];
        if (!old)
            budget_give(&engine->budget, wider->columns[i], sheet->capacity, sheet_width(wider->types[i]));
    }
}

bool emit_columns(struct engine *engine, uint64_t statistics)
{
    struct sheet *sheet = &engine->outputs[OUTPUT_WINDOWS];
    struct sheet wider = *sheet;
    uint8_t order[STAT_TOTAL_COUNT];
    wider.types[WINDOW_SERIES] = SHEET_U32;
    wider.types[WINDOW_START] = wider.types[WINDOW_END] = SHEET_I64;
    wider.count = WINDOW_FIXED;
    for (uint32_t statistic = 0; statistic < STAT_TOTAL_COUNT; statistic++) {
        if (!((engine->statistics | statistics) >> statistic & 1))
            continue;
        uint32_t old = column_of(engine, statistic);
        wider.types[wider.count] = statistic_type(statistic);
        wider.columns[wider.count] = old < SHEET_COLUMNS_MAX ? sheet->columns[old] : NULL;
        order[wider.count - WINDOW_FIXED] = (uint8_t)statistic;
        if (old == SHEET_COLUMNS_MAX && sheet->capacity) {
            size_t width = sheet_width(wider.types[wider.count]);
            void *column = budget_take(&engine->budget, sheet->capacity, width);
            if (!column) {
                drop_new_columns(engine, &wider);
                return false;
            }
            fill_none(column, wider.types[wider.count], sheet->rows);
            wider.columns[wider.count] = column;
        }
        wider.count++;
    }
    *sheet = wider;
    memcpy(engine->window_statistics, order, wider.count - WINDOW_FIXED);
    engine->statistics |= statistics;
    return true;
}
