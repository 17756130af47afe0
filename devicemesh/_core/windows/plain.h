/* The common row's short way: it is in the current pane, Good, and newer than its series' newest. The other rows are in
 * take.c. */
#ifndef DEVICEMESH_WINDOWS_PLAIN_H
#define DEVICEMESH_WINDOWS_PLAIN_H

#include "gap.h"
#include "machine.h"
#include "watch.h"

#include <float.h>

/* A group's current pane, in registers. Empty where each of its rows needs take_other. */
struct view {
    struct pane *pane;
    struct line *lines;
    struct cell *cells;
    struct sketch *sketches;
    const struct sketch_rule *rule; /* whose keys all sketches have, or NULL */
    uint64_t *touched;
    int64_t start;
    double length; /* of the pane; exact, as offsets in it are */
    uint64_t span; /* from the start, in which no row closes a window or is in the future */
    uint32_t series_count;
};

/* `count` rows are on their way. */
static inline struct view view_of(const struct engine *engine, const struct group *group, size_t count)
{
    struct pane *pane = group->pane;
    struct view view = {.pane = pane, .lines = engine->lines, .series_count = engine->series_count};
    if (pane) {
        int64_t until = group->turn < pane->end ? group->turn : pane->end;
        view.cells = pane->cells;
        view.sketches = pane->sketches;
        view.rule = pane->sketches && engine->one_rule ? engine->rules : NULL;
        view.touched = pane->touched;
        view.start = pane->start;
        view.length = (double)(pane->end - pane->start);
        bool counts_fit = engine->offered - pane->begun + count < CELL_COUNT_MAX; /* in any cell */
        bool other = group->needs_extras || !counts_fit || engine->offset_shift || until <= pane->start;
        view.span = other ? 0 : (uint64_t)(until - pane->start);
    }
    return view;
}

#define NOT_PLAIN INT64_MIN /* a time that is newer than nothing */

/* A row that is plain, if it is newer than its series' newest. */
struct plain {
    int64_t time;     /* or NOT_PLAIN */
    uint64_t place;   /* cell_place of the time from the pane's start */
    double remaining; /* ns until the pane's end */
    double x;
};

/* Of a time that is in the view. */
static inline struct plain plain_row(const struct view *view, int64_t time, double x)
{
    uint64_t into = (uint64_t)time - (uint64_t)view->start;
    return (struct plain){time, cell_place(into), view->length - (double)(int64_t)into, x};
}

/* Put a finite value that follows another one into its cell. False: the other one is not of this pane, and a row without a value
 * came between; nothing has happened. */
static INLINED bool put_value(const struct view *view, struct line *line, size_t position, struct plain row, pair both)
{
    struct cell *cell = &view->cells[position];
    double last = line->last;
    if (LIKELY(line->time >= view->start)) { /* its newest row is in this pane */
        cell_append(cell, row.x, both, row.place);
        cell_hold(cell, (row.x - last) * row.remaining, row.x);
    } else { /* and here no row of it is, as it has none later */
        if (UNLIKELY(line->state & LINE_GAP))
            return false;
        view->touched[position / 64] |= UINT64_C(1) << position % 64;
        cell_open(cell, row.x, row.place);
        double shift = cell_shift(cell);
        cell->held = (last - shift) * (view->length - row.remaining) + (row.x - shift) * row.remaining;
    }
    line->last = row.x;
    line->time = row.time;
    return true;
}

/* A plain, finite row of a bare group: the first of its window, or newer than all others in it. Lines are left behind: see
 * group_settle. `place` is negative where it is not that. False: nothing has happened. */
static INLINED bool take_bare(const struct view *view, size_t position, int64_t place, double x)
{
    if (UNLIKELY(place < 0)) /* or there is no pane */
        return false;
    struct cell *cell = &view->cells[position];
    if (LIKELY(view->touched[position / 64] >> position % 64 & 1)) {
        uint64_t count = cell->tail & 0xFFFF;
        if (UNLIKELY((uint64_t)place <= cell->tail) || UNLIKELY(count - 1 >= 0xFFFE)) /* none yet, or it carries */
            return false;
        cell_append(cell, x, mirrored(x), (uint64_t)place);
        cell->last = x;
        return true;
    }
    view->touched[position / 64] |= UINT64_C(1) << position % 64;
    cell_open(cell, x, (uint64_t)place);
    cell->held = 0;
    return true;
}

/* A plain, finite row that follows a value, and what is to be said of it; its sketch is left behind. False: it was none, and
 * nothing has happened. */
static INLINED bool take_plain(struct engine *engine, const struct view *view, size_t series, size_t position,
                               struct plain row)
{
    struct line *line = &view->lines[series];
    pair both = mirrored(row.x);
    if (UNLIKELY(row.time <= line->time))
        return false;
    if (LIKELY(is_within(line->edges, both)) && LIKELY(row.time < line->due))
        return put_value(view, line, position, row, both);
    if (!(line->state & (LINE_KNOWN | LINE_GAP))) /* then none is within */
        return false;
    if (!put_value(view, line, position, row, both))
        return false;
    if (line->state & LINE_GAP)
        gap_end(engine, view->pane, (uint32_t)series, (uint32_t)position, row.time, row.x);
    else
        watch_row(engine, (uint32_t)series, row.time, row.x);
    return true;
}

/* The same, but nothing is said yet: two more bits in `quiet` are set where there is nothing to say. No branch depends on that:
 * where lines are not in the caches, a wrong guess makes the rows behind it wait for its own. */
static INLINED bool take_unsaid(const struct view *view, size_t series, size_t position, struct plain row, uint64_t *quiet)
{
    struct line *line = &view->lines[series];
    pair both = mirrored(row.x);
    if (UNLIKELY(row.time <= line->time) || UNLIKELY(!(line->state & (LINE_KNOWN | LINE_GAP))))
        return false;
    unsigned said = row.time < line->due ? inside(line->edges, both) : 0;
    if (UNLIKELY(!put_value(view, line, position, row, both)))
        return false;
    *quiet = *quiet << 2 | said;
    return true;
}

/* Any row of a group that is in view. False: it is not plain, and nothing has happened. */
static INLINED bool take_good(struct engine *engine, struct group *group, const struct view *view, uint32_t series,
                              uint32_t position, int64_t time, double x, uint8_t quality)
{
    struct plain row = plain_row(view, time, x);
    bool plain = (uint64_t)time - (uint64_t)view->start < view->span && quality == 0 && fabs(x) <= DBL_MAX;
    if (!LIKELY(plain) || !LIKELY(group->bare ? take_bare(view, position, (int64_t)row.place, x)
                                              : take_plain(engine, view, series, position, row)))
        return false;
    if (view->sketches)
        take_quantile(engine, &view->lines[series], &view->sketches[position], x);
    group->newest = time > group->newest ? time : group->newest;
    return true;
}

#endif
