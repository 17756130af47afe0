/* One row on its way into its window: what take.c and gap.c share. */
#ifndef DEVICEMESH_WINDOWS_ROW_H
#define DEVICEMESH_WINDOWS_ROW_H

#include "take.h"

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

static inline struct row make_row(struct group *group, struct line *line, uint32_t position, int64_t time, double x,
                                  struct extra *extra)
{
    struct pane *pane = group->pane;
    if (!pane_touched(pane, position))
        cell_empty(&pane->cells[position]); /* it may hold what an earlier window left */
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

#endif
