/* One row of panes, whatever it is: late, out of order, without a value, the first of its window. */
#include "take.h"

#include "watch.h"

#include <float.h>

static inline bool nonzero(double x)
{
    return x != 0;
}

static inline uint64_t offset_in(const struct engine *engine, const struct pane *pane, int64_t time)
{
    return (uint64_t)(time - pane->start) >> engine->offset_shift;
}

/* One row on its way: what its functions share. */
struct row {
    struct group *group;
    struct pane *pane;
    struct cell *cell;
    struct extra *extra; /* NULL where the pane has none */
    struct line *line;
    uint32_t position;
    int64_t time;
    double x;
    int64_t remaining; /* until the pane's end */
};

/* The first value of a cell. What is held in it already (a value known before a Bad row) is kept. */
static void first_value(struct row *row)
{
    struct cell *cell = row->cell;
    double held = 0, shift = 0;
    int64_t known = 0;
    uint32_t marks = 0;
    if (pane_touched(row->pane, row->position)) {
        shift = cell_shift(cell);
        held = cell->held;
        marks = cell->marks;
        known = row->pane->end - row->pane->start - (row->extra ? row->extra->unknown_ns : 0);
    }
    cell_begin(cell, row->x);
    cell->marks = marks;
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
        cell->marks |= CELL_DISORDERED;
        return;
    }
    bool fresh = !pane_touched(row->pane, row->position), empty = !cell_count(cell);
    if (row->extra)
        extra_value(row->extra, cell, row->time, row->x);
    if (empty)
        first_value(row);
    cell_add(cell, row->x);
    if (empty || offset > cell_offset(cell))
        cell_set_last(cell, row->x, offset);
    if (fresh)
        cell->held = (double)NAN;
    cell->marks |= CELL_DISORDERED;
    if (row->pane->sketches)
        take_quantile(engine, row->line, &row->pane->sketches[row->position], row->x, NULL);
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

/* The first row of a series: it may be older than what its missing data was counted from. */
static void first_row(struct row *row)
{
    row->line->state |= LINE_SEEN;
    row->group->look = INT64_MIN;
}

/* The newest row had no value: from now on there is one. The first rows of all series come together, and are
 * remembered in their lines. */
static void become_known(struct engine *engine, struct row *row)
{
    struct line *line = row->line;
    struct extra *extra = row->extra;
    if (line->state & LINE_SEEN && line->time >= row->pane->start) {
        if (extra)
            extra->unknown_ns -= row->remaining;
    } else if (extra ||
               (line->state & LINE_SEEN && (extra = pane_mark(row->pane, &engine->budget, row->position)) != NULL)) {
        extra->unknown_ns += row->time - row->pane->start;
    } else {
        line->known_since = row->time;
        line->state |= LINE_LATELY;
        row->pane->lately = true;
    }
    if (!(line->state & LINE_SEEN))
        first_row(row);
    line->state |= LINE_KNOWN | LINE_VALUED;
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
    if (line->state & LINE_VALUED)
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
    cell_add(cell, row->x);
    cell_set_last(cell, row->x, offset_in(engine, row->pane, row->time));
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
        take_quantile(engine, line, &row->pane->sketches[row->position], row->x, NULL);
}

static struct row make_row(struct group *group, struct line *line, uint32_t position, int64_t time, double x,
                           struct extra *extra)
{
    struct pane *pane = group->pane;
    if (!pane_touched(pane, position))
        pane->cells[position].marks = 0; /* it may hold what an earlier window left */
    return (struct row){.group = group,
                        .pane = pane,
                        .cell = &pane->cells[position],
                        .extra = extra,
                        .line = line,
                        .position = position,
                        .time = time,
                        .x = x,
                        .remaining = pane->end - time};
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
    if (x < line->low || x > line->high || time >= line->due)
        watch_row(engine, series, time, x);
}

/* Write down in the pane's extra since when a series is known; false without room. */
static bool settle_lately(struct engine *engine, struct group *group, struct line *line, uint32_t position)
{
    if (line->state & LINE_LATELY) {
        struct pane *pane = group_pane_of(engine, group, line->known_since);
        if (pane) {
            struct extra *extra = pane_mark(pane, &engine->budget, position);
            if (!extra)
                return false;
            extra->unknown_ns += line->known_since - pane->start;
        }
        line->state &= (uint8_t)~LINE_LATELY;
    }
    return true;
}

/* From this row on there is no known value. */
static void become_unknown(struct row *row)
{
    struct line *line = row->line;
    struct extra *extra = row->extra;
    int64_t into = row->time - row->pane->start;
    double last = line->last;
    extra->left = 0;
    if (!(line->state & LINE_KNOWN)) {
        if (!(line->state & LINE_SEEN) || line->time < row->pane->start)
            extra->unknown_ns = into + row->remaining;
    } else if (line->time >= row->pane->start) {
        row->cell->held -= (last - cell_shift(row->cell)) * (double)row->remaining;
        extra->unknown_ns += row->remaining;
        extra->nonzero_ns -= nonzero(last) * row->remaining;
    } else {
        row->cell->held = (last - cell_shift(row->cell)) * (double)into;
        extra->unknown_ns = row->remaining;
        extra->nonzero_ns = nonzero(last) * into;
        extra->entered = 1;
        extra->entry = last;
    }
    if (!(line->state & LINE_SEEN))
        first_row(row);
    line->state &= (uint8_t)~LINE_KNOWN;
    line->low = (double)INFINITY;
    line->time = row->time;
}

/* A row without a value, counted as `cause`. */
static void take_bad(struct engine *engine, struct group *group, uint32_t series, uint32_t position, int64_t time,
                     uint64_t *cause)
{
    struct line *line = &engine->lines[series];
    struct pane *pane = group->pane;
    bool disordered = line->state & LINE_SEEN && time < line->time;
    bool settled = disordered || settle_lately(engine, group, line, position);
    struct extra *extra = settled ? pane_mark(pane, &engine->budget, position) : NULL;
    if (!extra) {
        engine->counts.overflow++;
        return;
    }
    struct row row = make_row(group, line, position, time, 0, extra);
    ++*cause;
    row.extra->bad++;
    if (!pane_touched(pane, position)) {
        pane_touch(pane, position);
        cell_begin(row.cell, line->state & LINE_KNOWN ? line->last : 0);
        if (disordered)
            row.cell->held = (double)NAN;
    }
    if (disordered)
        row.cell->marks |= CELL_DISORDERED;
    else
        become_unknown(&row);
    if (!disordered && line->state & LINE_MISSING)
        watch_heard(engine, series, time);
}

/* A row that is not simply Good and finite. */
static void take_doubtful(struct engine *engine, struct group *group, uint32_t series,
                                                    uint32_t position, int64_t time, double x, uint8_t quality,
                                                    uint64_t *nonfinite)
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

void take_row(struct engine *engine, struct group *group, uint32_t series, uint32_t position, int64_t time, double x,
              uint8_t quality, uint64_t *nonfinite)
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
    if (quality || !(fabs(x) <= DBL_MAX))
        take_doubtful(engine, group, series, position, time, x, quality, nonfinite);
    else
        take_value(engine, group, series, position, time, x);
}
