/* Times without a known value: what begins and ends them. */
#ifndef DEVICEMESH_WINDOWS_GAP_H
#define DEVICEMESH_WINDOWS_GAP_H

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

/* The newest row had no value: from now on there is one. */
void become_known(struct engine *engine, struct row *row);

/* A row without a value, counted as `cause`. */
void take_bad(struct engine *engine, struct group *group, uint32_t series, uint32_t position, int64_t time,
              uint64_t *cause);

/* The common Bad row: the newest of its series, in the current pane, after a value. False: it is not that, and nothing
 * has happened. */
bool gap_begin(struct engine *engine, struct group *group, uint32_t series, uint32_t position, int64_t time);

/* The common value after it, into its cell: in the same pane. False as above. */
bool gap_end(struct line *line, const struct pane *pane, uint32_t position, int64_t time, double x);

#endif
