/* Closed windows into the output sheet, a block at a time: one column's loop has its cells in the nearest cache. */
#include "engine_internal.h"
#include "machine.h"

#include <stdio.h>
#include <stdlib.h>

/* A block of windows that are about to be written; the cells, extras and sketches are of windows of several panes. */
struct block {
    uint32_t count;
    uint64_t rows; /* that are lost with it if it finds no room */
    bool streams;  /* so many windows leave that the caches would not hold them */
    double column[CLOSED_BLOCK]; /* then: a column on its way */
    struct closed closed[CLOSED_BLOCK];
    struct cell cells[CLOSED_BLOCK];
    struct extra extras[CLOSED_BLOCK];
    struct sketch sketches[CLOSED_BLOCK];
};

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

static void write_block(struct engine *engine, struct block *block)
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

/* Time of a pane in which the series has a known value. */
static int64_t known_time(const struct engine *engine, const struct pane *pane, uint32_t position, uint32_t series)
{
    int64_t known = pane->end - pane->start;
    if (isnan(pane->cells[position].held))
        return 0;
    const struct extra *extra = pane_extra(pane, position);
    if (extra)
        known -= extra->unknown_ns;
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

static inline void close_cell(struct engine *engine, const struct group *group, const struct pane *pane, uint32_t at,
                              struct block *block)
{
    uint32_t series = group_id(group, at);
    const struct cell *cell = &pane->cells[at];
    uint16_t profile = engine->profiles_count > 1 ? engine->lines[series].profile : 0;
    block->rows += cell_count(cell);
    block->closed[block->count++] = (struct closed){
        .cell = cell,
        .extra = pane_extra(pane, at),
        .sketch = pane->sketches && engine->rules[profile].max_bins ? &pane->sketches[at] : NULL,
        .start = pane->start,
        .end = pane->end,
        .last_time = last_time(engine, pane, cell),
        .known_ns = known_time(engine, pane, at, series),
        .length_ns = pane->end - pane->start,
        .series = series,
        .profile = profile,
    };
}

/* Touch what a word that comes soon holds. */
static INLINED void fetch_cells(const struct pane *pane, uint32_t word)
{
    for (uint64_t bits = word < pane->capacity / 64 ? pane->touched[word] : 0; bits; bits &= bits - 1) {
        uint32_t at = word * 64 + (uint32_t)__builtin_ctzll(bits);
        __builtin_prefetch(&pane->cells[at]);
        if (pane->sketches) {
            __builtin_prefetch(&pane->sketches[at]);
            __builtin_prefetch((const uint8_t *)&pane->sketches[at] + sizeof *pane->sketches / 2);
        }
    }
}

static void emit_pane(struct engine *engine, const struct group *group, struct pane *pane, struct block *block)
{
    enum { STREAMS_FROM = 1 << 15 }; /* windows: some MB of columns */
    uint32_t count = pane_count(pane);
    (void)sheet_reserve(&engine->outputs[OUTPUT_WINDOWS], &engine->budget, count); /* at once, if it can */
    block->streams = count >= STREAMS_FROM;
    for (uint32_t word = 0; word < pane->capacity / 64; word++) {
        fetch_cells(pane, word + 2);
        for (uint64_t bits = pane->touched[word]; bits; bits &= bits - 1)
            close_cell(engine, group, pane, word * 64 + (uint32_t)__builtin_ctzll(bits), block);
        if (block->count > CLOSED_BLOCK - 64) {
            write_block(engine, block);
            pane_clear_to(pane, &engine->budget, word + 1); /* while its cells are near */
        }
    }
    if (block->count)
        write_block(engine, block);
    pane_clear_to(pane, &engine->budget, pane->capacity / 64);
    if (block->streams)
        stream_end();
    block->streams = false;
}

/* ---- windows of several panes ---- */

/* A window that is merged from its panes: what is known so far of its time. */
struct merging {
    struct closed *at;
    struct cell *cell;
    struct extra *extra;
    bool begun;    /* a pane with rows came */
    bool in_order; /* one with rows in order */
    bool carrying; /* the newest row in order had a value, which holds until the next pane */
    double carried;
    int64_t unknown; /* time before the first pane with rows in order */
};

/* A value holds for some time that no row of the series falls into. */
static void hold(struct merging *merging, double x, int64_t time)
{
    merging->cell->held += (x - cell_shift(merging->cell)) * (double)time;
    merging->at->known_ns += time;
    merging->extra->nonzero_ns += x != 0 ? time : 0;
}

static void merge_pane(const struct engine *engine, struct merging *merging, const struct pane *pane,
                       uint32_t position)
{
    struct cell cell = pane->cells[position];
    const struct extra *extra = pane_extra(pane, position);
    int64_t known = known_time(engine, pane, position, merging->at->series);
    bool in_order = !isnan(cell.held);
    if (!in_order)
        cell.held = 0;
    if (extra)
        extra_merge(merging->extra, merging->cell, extra, &cell);
    if (cell_count(&cell))
        merging->at->last_time = last_time(engine, pane, &cell);
    if (merging->begun)
        cell_merge(merging->cell, merging->at->known_ns, &cell, known);
    else
        *merging->cell = cell;
    merging->begun = true;
    merging->at->known_ns += known;
    if (!in_order) { /* as if no row had come */
        if (merging->carrying)
            hold(merging, merging->carried, pane->end - pane->start);
        merging->unknown += pane->end - pane->start;
        return;
    }
    if (!merging->in_order && extra && extra->entered)
        hold(merging, extra->entry, merging->unknown);
    merging->in_order = true;
    merging->carrying = extra && extra->left;
    merging->carried = extra ? extra->exit : 0;
}

static void merge_sketch(struct engine *engine, struct closed *at, struct sketch *sketch, const struct sketch *from)
{
    int64_t grown = sketch_merge(sketch, &engine->rules[at->profile], from);
    at->sketch = sketch;
    if (grown < 0)
        engine->unsketched += sketch_count(from);
}

static void write_merged(struct engine *engine, struct block *block)
{
    uint32_t count = block->count;
    if (count)
        write_block(engine, block);
    for (uint32_t i = 0; i < count; i++)
        sketch_clear(&block->sketches[i]);
}

static void merge_window(struct engine *engine, const struct group *group, int64_t number, uint32_t position,
                         struct block *block)
{
    uint32_t series = group_id(group, position);
    struct closed *at = &block->closed[block->count];
    struct merging merging = {.at = at, .cell = &block->cells[block->count], .extra = &block->extras[block->count]};
    struct sketch *sketch = &block->sketches[block->count];
    int64_t hop = engine->grid.hop;
    *at = (struct closed){.cell = merging.cell,
                          .extra = merging.extra,
                          .start = number * hop + engine->grid.offset,
                          .length_ns = engine->grid.length,
                          .series = series,
                          .profile = engine->lines[series].profile};
    at->end = at->start + at->length_ns;
    cell_begin(merging.cell, 0);
    *merging.extra = (struct extra){0};
    for (int64_t i = number; i < number + engine->panes_per_window; i++) {
        const struct pane *pane = group_pane(engine, group, i);
        if (pane && pane_touched(pane, position)) {
            merge_pane(engine, &merging, pane, position);
            if (pane->sketches && engine->rules[at->profile].max_bins)
                merge_sketch(engine, at, sketch, &pane->sketches[position]);
        } else if (merging.carrying) {
            hold(&merging, merging.carried, hop);
        } else if (!merging.in_order) {
            merging.unknown += hop;
        }
    }
    block->count++;
}

/* A window leaves if any of its panes has a row of the series; what is lost with it is what ends with it. */
static void emit_merged(struct engine *engine, const struct group *group, int64_t number, struct block *block)
{
    const struct pane *first = group_pane(engine, group, number);
    for (uint32_t position = 0; position < group->members; position++) {
        bool any = false;
        for (int64_t i = number; i < number + engine->panes_per_window && !any; i++) {
            const struct pane *pane = group_pane(engine, group, i);
            any = pane && pane_touched(pane, position);
        }
        if (!any)
            continue;
        if (first && pane_touched(first, position))
            block->rows += cell_count(&first->cells[position]);
        merge_window(engine, group, number, position, block);
        if (block->count == CLOSED_BLOCK)
            write_merged(engine, block);
    }
    write_merged(engine, block);
}

void emit_window(struct engine *engine, struct group *group, int64_t number)
{
    struct block *block = engine->block;
    struct pane *pane = group_pane(engine, group, number);
    if (engine->panes_per_window > 1)
        emit_merged(engine, group, number, block);
    else if (pane)
        emit_pane(engine, group, pane, block);
}

/* ---- windows from elsewhere ---- */

void emit_closed(struct engine *engine, const struct closed *closed, const struct cell *cell,
                 const struct extra *extra, const struct sketch *sketch)
{
    struct block *block = engine->block;
    uint32_t at = block->count++;
    block->rows += cell_count(cell);
    block->cells[at] = *cell;
    block->extras[at] = *extra;
    block->sketches[at] = *sketch;
    block->closed[at] = *closed;
    block->closed[at].cell = &block->cells[at];
    block->closed[at].extra = &block->extras[at];
    block->closed[at].sketch = engine->rules[closed->profile].max_bins ? &block->sketches[at] : NULL;
    if (block->count == CLOSED_BLOCK)
        write_merged(engine, block);
}

void emit_finish(struct engine *engine)
{
    write_merged(engine, engine->block);
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
