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
    if (empty || x < cell->min || (x == cell->min && time < extra->min_time))
        extra->min_time = time;
    if (empty || x > cell->max || (x == cell->max && time < extra->max_time))
        extra->max_time = time;
}

#endif
