#include "gap.h"

#include "watch.h"

/* The first row of a series: it may be older than what its missing data was counted from. */
static void first_row(struct row *row)
{
    row->line->state |= LINE_SEEN;
    row->group->look = INT64_MIN;
}

/* The first rows of all series come together, and are remembered in their lines. */
void become_known(struct engine *engine, struct row *row)
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
    line->state = (uint8_t)((line->state | LINE_KNOWN) & ~LINE_GAP);
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

/* What the last value, of a row in this pane, holds from now on until the pane's end is taken back. */
static inline void let_go(const struct line *line, struct cell *cell, struct extra *extra, int64_t remaining)
{
    cell->held -= (line->last - cell_shift(cell)) * (double)remaining;
    extra->unknown_ns += remaining;
    extra->nonzero_ns -= nonzero(line->last) * remaining;
}

/* The newest row of a series, which has no value. */
static inline void set_unknown(struct line *line, struct cell *cell, int64_t time)
{
    line->state &= (uint8_t) ~(LINE_KNOWN | LINE_GAP);
    line->edges[0] = -(double)INFINITY;
    line->time = time;
    cell_shut(cell);
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
        let_go(line, row->cell, extra, row->remaining);
    } else {
        row->cell->held = (last - cell_shift(row->cell)) * (double)into;
        extra->unknown_ns = row->remaining;
        extra->nonzero_ns = nonzero(last) * into;
        extra->entered = 1;
        extra->entry = last;
    }
    if (!(line->state & LINE_SEEN))
        first_row(row);
    set_unknown(line, row->cell, row->time);
}

void take_bad(struct engine *engine, struct group *group, uint32_t series, uint32_t position, int64_t time,
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
        cell_disorder(row.cell);
    else
        become_unknown(&row);
    if (!disordered && line->state & LINE_MISSING)
        watch_heard(engine, series, time);
}

bool gap_begin(struct engine *engine, struct group *group, uint32_t series, uint32_t position, int64_t time)
{
    enum { RARE = LINE_MISSING | LINE_HELD };
    struct line *line = &engine->lines[series];
    struct pane *pane = group->pane;
    bool here = time >= group->start && time < group->end && time < group->turn && !group->bare;
    bool ready = here && line->state & (LINE_KNOWN | LINE_GAP) && !(line->state & RARE);
    bool follows = ready && line->time >= pane->start && line->time < time;
    struct extra *extra = follows ? pane_mark(pane, &engine->budget, position) : NULL;
    if (!extra)
        return false;
    struct cell *cell = &pane->cells[position];
    group->newest = time > group->newest ? time : group->newest;
    engine->counts.bad++;
    extra->bad++;
    if (line->state & LINE_GAP) {
        line->time = time;
        return true;
    }
    extra->left = 0;
    let_go(line, cell, extra, pane->end - time);
    set_unknown(line, cell, time);
    if (!group->needs_extras) {
        line->state |= LINE_GAP;
        line->last = cell_shift(cell);
    }
    return true;
}

void gap_end(struct engine *engine, struct pane *pane, uint32_t series, uint32_t position, int64_t time, double x)
{
    struct line *line = &engine->lines[series];
    struct extra *extra = pane_extra(pane, position);
    if (extra) /* always, but for what a damaged snapshot says */
        extra->unknown_ns -= pane->end - time;
    line->state = (uint8_t)((line->state | LINE_KNOWN) & ~LINE_GAP);
    if (!watch_resume(engine, line, time, x))
        watch_row(engine, series, time, x);
}
