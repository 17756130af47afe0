/* One row, whatever it is. */
#ifndef DEVICEMESH_WINDOWS_TAKE_H
#define DEVICEMESH_WINDOWS_TAKE_H

#include "parts.h"

/* The common row that comes late: a finite, Good value of a window that has some; of a bare group in any open pane, of
 * others in the current one and older than the newest. False: it is not that, and nothing has happened. */
bool take_older(struct engine *engine, struct group *group, uint32_t series, uint32_t position, int64_t time, double x);

/* Take a row, whatever it is, into panes or sessions. What enters no window is counted by its cause, a value that is not finite
 * as `nonfinite`; what does is for the caller to count. */
void take_other(struct engine *engine, struct group *group, uint32_t series, uint32_t position, int64_t time, double x,
                uint8_t quality, uint64_t *nonfinite);

/* Rows that are not counted as `counted`, and were not before. */
static inline uint64_t counts_refused(const struct row_counts *counts)
{
    return counts->late + counts->duplicate + counts->future + counts->bad + counts->nonfinite + counts->inexact +
           counts->overflow + counts->undeclared;
}

#endif
