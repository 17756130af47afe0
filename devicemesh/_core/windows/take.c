/* One row of panes, whatever it is: late, out of order, without a value, the first of its window. */
#include "gap.h"
#include "sessions.h"
#include "watch.h"

#include <float.h>

/* The first value of a cell. What is held in it already (a value known before a Bad row) is kept. */
static void first_value(struct row *row)
{
    struct cell *cell = row->cell;
    double held = 0, shift = 0;
    int64_t known = 0;
    bool disordered = false;
    if (pane_touched(row->pane, row->position)) {
        shift = cell_shift(cell);
        held = cell->held;
        disordered = cell_disordered(cell);
        known = row->pane->end - row->pane->start - (row->extra ? row->extra->unknown_ns : 0);
    }
    cell_begin(cell, row->x);
    if (disordered)
        cell_disorder(cell);
    cell->held = held + (shift - cell_shift(cell)) * (double)known;
    pane_touch(row->pane, row->position);
}

/* A row older than the newest of its series: in the sums, without weight in time. */
static void take_disordered(struct engine *engine, struct row *row)
{
    struct cell *cell = row->cell;
    uint64_t offset = offset_in(engine, row->pane, row->time);
    if (cell_count(cell) && offset == cell_offset(cell)) {
        engine->counts.duplicate++;
        cell->last = row->x;
        cell_disorder(cell);
        return;
    }
    bool fresh = !pane_touched(row->pane, row->position), empty = !cell_count(cell), shut = cell_is_shut(cell);
    if (row->extra)
        extra_value(row->extra, cell, row->time, row->x);
    if (empty)
        first_value(row);
    cell_add(cell, row->x);
    if (empty || offset > cell_offset(cell)) {
        cell_set_last(cell, row->x, offset);
        if (shut)
            cell_shut(cell);
    }
    if (fresh)
        cell->held = (double)NAN;
    cell_disorder(cell);
    if (row->pane->sketches)
        take_quantile(engine, row->line, &row->pane->sketches[row->position], row->x);
}

/* A row of a cell that has rows, and is as new as its newest at most. False: it is one of the same time, and takes the last
 * one's place. */
static bool put_older(struct engine *engine, struct cell *cell, uint64_t offset, double x)
{
    bool counts = offset != cell_offset(cell);
    if (counts) {
        cell_add(cell, x);
    } else {
        engine->counts.duplicate++;
        cell->last = x;
    }
    cell_disorder(cell);
    return counts;
}

/* A row of a bare group in any open pane: its line does not matter. */
static bool take_bare_row(struct engine *engine, struct group *group, uint32_t position, int64_t time, double x)
{
    bool here = time >= group->start && time < group->end;
    if (time < 0 || time >= group->turn)
        return false;
    struct pane *pane = here ? group->pane : group_pane_of(engine, group, time);
    if (!pane)
        return false;
    struct cell *cell = &pane->cells[position];
    uint64_t offset = (uint64_t)(time - pane->start);
    uint32_t count = pane_touched(pane, position) ? cell_count(cell) : 0;
    if (count == 0 || count == CELL_COUNT_MAX || cell_is_shut(cell))
        return false;
    group->newest = time > group->newest ? time : group->newest;
    if (offset > cell_offset(cell)) {
        cell_append(cell, x, mirrored(x), cell_place(offset));
        cell->last = x;
    } else {
        (void)put_older(engine, cell, offset, x);
    }
    return true;
}

bool take_older(struct engine *engine, struct group *group, uint32_t series, uint32_t position, int64_t time, double x)
{
    if (group->bare)
        return take_bare_row(engine, group, position, time, x);
    const struct line *line = &engine->lines[series];
    const struct pane *pane = group->pane;
    bool here = time >= group->start && time < group->end && time < group->turn;
    if (!here || !(line->state & LINE_SEEN) || time >= line->time || group->needs_extras || !pane_touched(pane, position))
        return false;
    struct cell *cell = &pane->cells[position];
    uint64_t offset = offset_in(engine, pane, time);
    uint32_t count = cell_count(cell);
    if (count == 0 || count == CELL_COUNT_MAX || offset > cell_offset(cell))
        return false;
    if (put_older(engine, cell, offset, x) && pane->sketches)
        take_quantile(engine, line, &pane->sketches[position], x);
    return true;
}

/* A row of the same time as the newest: it is what the value was. */
static void take_correction(struct engine *engine, struct row *row)
{
    double last = row->line->last;
    engine->counts.duplicate++;
    row->cell->last = row->x;
    row->cell->held += (row->x - last) * (double)row->remaining;
    if (row->extra) {
        row->extra->nonzero_ns += (nonzero(row->x) - nonzero(last)) * row->remaining;
        row->extra->increase += row->x - last;
        row->extra->exit = row->x;
    }
    row->line->last = row->x;
}

/* Linear between rows: replaces what was held since the last row by the slope to this one. */
static void slope(const struct engine *engine, struct row *row)
{
    const struct line *line = row->line;
    const struct pane *pane = row->pane;
    double rise = row->x - line->last, span = (double)(row->time - line->time);
    if (line->time >= pane->start) {
        row->cell->held += rise / 2 * span;
        return;
    }
    double into = (double)(row->time - pane->start);
    double bound = line->last + rise * ((double)(pane->start - line->time) / span);
    row->cell->held += ((bound + row->x) / 2 - line->last) * into;
    struct pane *before = group_pane_of(engine, row->group, line->time);
    if (before) {
        double tail = (double)(before->end - line->time);
        before->cells[row->position].held += rise * (tail / span) / 2 * tail;
    }
}

/* Statistics of steps from row to row. */
static void step_extra(struct row *row)
{
    struct extra *extra = row->extra;
    const struct line *line = row->line;
    bool now = nonzero(row->x), before = nonzero(line->last);
    int64_t into = row->time - row->pane->start;
    extra->left = 1;
    extra->exit = row->x;
    if (!(line->state & LINE_KNOWN))
        extra->nonzero_ns += now * row->remaining;
    else if (line->time >= row->pane->start)
        extra->nonzero_ns += (now - before) * row->remaining;
    else {
        extra->nonzero_ns += before * into + now * row->remaining;
        extra->entered = 1;
        extra->entry = line->last;
    }
    if (!isnan(line->last))
        extra_step(extra, line->last, row->x);
}

static void take_in_order(struct engine *engine, struct row *row)
{
    struct cell *cell = row->cell;
    struct line *line = row->line;
    if (row->extra) {
        extra_value(row->extra, cell, row->time, row->x);
        step_extra(row);
    }
    if (!cell_count(cell))
        first_value(row);
    cell_append(cell, row->x, mirrored(row->x), cell_place(offset_in(engine, row->pane, row->time)));
    cell->last = row->x;
    double shift = cell_shift(cell);
    if (!(line->state & LINE_KNOWN)) {
        cell->held += (row->x - shift) * (double)row->remaining;
        become_known(engine, row);
    } else {
        if (line->time >= row->pane->start)
            cell->held += (row->x - line->last) * (double)row->remaining;
        else
            cell->held = (line->last - shift) * (double)(row->time - row->pane->start) +
                         (row->x - shift) * (double)row->remaining;
        if (engine->profiles[line->profile].sloped)
            slope(engine, row);
    }
    line->last = row->x;
    line->time = row->time;
    if (row->pane->sketches)
        take_quantile(engine, line, &row->pane->sketches[row->position], row->x);
}

/* A finite value of a time in the current pane. */
static void take_value(struct engine *engine, struct group *group, uint32_t series, uint32_t position, int64_t time,
                       double x)
{
    struct line *line = &engine->lines[series];
    if (line->profile == NO_PROFILE) {
        engine->counts.undeclared++;
        return;
    }
    struct extra *extra = group->needs_extras ? pane_mark(group->pane, &engine->budget, position)
                                              : pane_extra(group->pane, position);
    struct row row = make_row(group, line, position, time, x, extra);
    if (cell_count(row.cell) == CELL_COUNT_MAX) {
        engine->counts.overflow++;
        return;
    }
    if (line->state & LINE_SEEN && time < line->time) {
        take_disordered(engine, &row);
        return;
    }
    if (line->state & LINE_KNOWN && time == line->time)
        take_correction(engine, &row);
    else
        take_in_order(engine, &row);
    if (time >= line->due || !is_within(line->edges, mirrored(x)))
        watch_row(engine, series, time, x);
}

/* A row that is not simply Good and finite. */
static void take_doubtful(struct engine *engine, struct group *group, uint32_t series, uint32_t position, int64_t time,
                          double x, uint8_t quality, uint64_t *nonfinite)
{
    const struct line *line = &engine->lines[series];
    if (line->profile == NO_PROFILE) {
        engine->counts.undeclared++;
        return;
    }
    bool uncertain = quality >= QUALITY_UNCERTAIN_FROM;
    if (quality >= QUALITY_BAD_FROM || (uncertain && engine->profiles[line->profile].uncertain_as_bad)) {
        take_bad(engine, group, series, position, time, &engine->counts.bad);
        return;
    }
    if (!(fabs(x) <= DBL_MAX)) {
        take_bad(engine, group, series, position, time, nonfinite);
        return;
    }
    if (uncertain) {
        struct extra *extra = pane_mark(group->pane, &engine->budget, position);
        if (!extra) {
            engine->counts.overflow++;
            return;
        }
        uint64_t lost = engine->counts.overflow + engine->counts.duplicate;
        take_value(engine, group, series, position, time, x);
        extra->uncertain += engine->counts.overflow + engine->counts.duplicate == lost;
        return;
    }
    take_value(engine, group, series, position, time, x);
}

/* A row of a time that is in range. */
static void take_row(struct engine *engine, struct group *group, uint32_t series, uint32_t position, int64_t time,
                     double x, uint8_t quality, uint64_t *nonfinite)
{
    if (time > group->newest) {
        if (time >= group->turn && !group_turn(engine, group, time)) {
            engine->counts.future++;
            return;
        }
        group->newest = time;
    }
    if ((time < group->start || time >= group->end) && !group_select(engine, group, time))
        return;
    if (group->bare)
        group_settle_one(engine, group, series, position);
    if (quality || !(fabs(x) <= DBL_MAX))
        take_doubtful(engine, group, series, position, time, x, quality, nonfinite);
    else
        take_value(engine, group, series, position, time, x);
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
