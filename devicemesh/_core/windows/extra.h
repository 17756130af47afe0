/* What is rarely asked of a window of one series: beside its cell, only where a profile asks for it or a row
 * without a value came. All zero is that of an empty window. */
#ifndef DEVICEMESH_WINDOWS_EXTRA_H
#define DEVICEMESH_WINDOWS_EXTRA_H

#include <stdint.h>

#include "cell.h"

struct extra {
    double first;
    int64_t first_time;
    int64_t min_time; /* earliest of the minimum */
    int64_t max_time;
    double entry;       /* value held when it began, if `entered` */
    double exit;        /* value held when it ends, if `left` */
    int64_t unknown_ns; /* time without a known value */
    int64_t nonzero_ns; /* known time with a value other than zero, as if the last stays */
    double increase;    /* of a counter, a fall taken as a new start from zero */
    uint32_t bad;       /* rows without a value: Bad, not finite, inexact */
    uint32_t uncertain; /* rows of Uncertain quality among the values */
    uint32_t transitions; /* between zero and not zero */
    uint32_t resets;
    uint8_t entered;
    uint8_t left;
};

/* A value that is about to enter the cell, whichever row of its series it is. */
static inline void extra_value(struct extra *extra, const struct cell *cell, int64_t time, double x)
{
    bool empty = cell_count(cell) == 0;
    if (empty || time < extra->first_time) {
        extra->first = x;
        extra->first_time = time;
    }
    if (empty || x < cell_min(cell) || (x == cell_min(cell) && time < extra->min_time))
        extra->min_time = time;
    if (empty || x > cell_max(cell) || (x == cell_max(cell) && time < extra->max_time))
        extra->max_time = time;
}

/* Add those of a later cell, before the cells themselves are merged. */
static inline void extra_merge(struct extra *extra, const struct cell *cell, const struct extra *later,
                               const struct cell *later_cell)
{
    bool none = !cell_count(cell), values = cell_count(later_cell) > 0;
    if (values && none) {
        extra->first = later->first;
        extra->first_time = later->first_time;
    }
    if (values && (none || cell_min(later_cell) < cell_min(cell)))
        extra->min_time = later->min_time;
    if (values && (none || cell_max(later_cell) > cell_max(cell)))
        extra->max_time = later->max_time;
    extra->nonzero_ns += later->nonzero_ns;
    extra->increase += later->increase;
    extra->bad += later->bad;
    extra->uncertain += later->uncertain;
    extra->transitions += later->transitions;
    extra->resets += later->resets;
}

/* From the series' value before to the next one in order. */
static inline void extra_step(struct extra *extra, double before, double x)
{
    extra->transitions += (before != 0) != (x != 0);
    extra->resets += x < before;
    extra->increase += x < before ? x : x - before;
}

#endif
