/* Windows of several panes: merged as they close. */
#include "block.h"

/* A window that is merged from its panes: what is known so far of its time. */
struct merging {
    struct cell *cell;
    struct extra *extra;
    int64_t known;
    int64_t last_time;
    uint32_t series;
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
    merging->known += time;
    merging->extra->nonzero_ns += x != 0 ? time : 0;
}

static void merge_pane(const struct engine *engine, struct merging *merging, const struct pane *pane,
                       uint32_t position)
{
    struct cell cell = pane->cells[position];
    const struct extra *extra = pane_extra(pane, position);
    bool in_order = !isnan(cell.held);
    int64_t known = in_order ? known_time(engine, pane, extra, merging->series) : 0;
    if (!in_order)
        cell.held = 0;
    if (extra)
        extra_merge(merging->extra, merging->cell, extra, &cell);
    if (cell_count(&cell))
        merging->last_time = last_time(engine, pane, &cell);
    if (merging->begun)
        cell_merge(merging->cell, merging->known, &cell, known);
    else
        *merging->cell = cell;
    merging->begun = true;
    merging->known += known;
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

static void merge_sketch(struct engine *engine, const struct sketch_rule *rule, struct sketch *sketch,
                         const struct sketch *from)
{
    if (sketch_merge(sketch, rule, from) < 0)
        engine->unsketched += sketch_count(from);
}

static void merge_window(struct engine *engine, const struct group *group, int64_t number, uint32_t position,
                         struct block *block)
{
    uint32_t at = block->closed.count, series = group_id(group, position);
    uint16_t profile = engine->lines[series].profile;
    const struct sketch_rule *rule = &engine->rules[profile];
    struct merging merging = {.cell = &block->cells[at], .extra = &block->extras[at], .series = series};
    int64_t hop = engine->grid.hop, start = number * hop + engine->grid.offset;
    bool sketched = false;
    cell_begin(merging.cell, 0);
    *merging.extra = (struct extra){0};
    for (int64_t i = number; i < number + engine->panes_per_window; i++) {
        const struct pane *pane = group_pane(engine, group, i);
        if (pane && pane_touched(pane, position)) {
            merge_pane(engine, &merging, pane, position);
            if (pane->sketches && rule->max_bins) {
                merge_sketch(engine, rule, &block->sketches[at], &pane->sketches[position]);
                sketched = true;
            }
        } else if (merging.carrying) {
            hold(&merging, merging.carried, hop);
        } else if (!merging.in_order) {
            merging.unknown += hop;
        }
    }
    struct window window = {.series = series,
                            .profile = profile,
                            .start = start,
                            .end = start + engine->grid.length,
                            .last_time = merging.last_time,
                            .length_ns = engine->grid.length,
                            .known_ns = merging.known};
    emit_own(engine, block, &window, sketched);
}

/* A window leaves if any of its panes has a row of the series; what is lost with it is what ends with it. */
void emit_merged(struct engine *engine, const struct group *group, int64_t number, struct block *block)
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
    }
    emit_finish(engine);
}
