/* One row of the panes. */
#ifndef DEVICEMESH_WINDOWS_TAKE_H
#define DEVICEMESH_WINDOWS_TAKE_H

#include "engine_internal.h"

/* Take a row of a declared time, whatever it is; it is counted unless it is in `counted`. A value that is not finite
 * is counted as `nonfinite`. */
void take_row(struct engine *engine, struct group *group, uint32_t series, uint32_t position, int64_t time, double x,
              uint8_t quality, uint64_t *nonfinite);

/* The common row that comes late: a finite, Good value of a window that has some; of a bare group in any open pane, of
 * others in the current one and older than the newest. False: it is not that, and nothing has happened. */
bool take_older(struct engine *engine, struct group *group, uint32_t series, uint32_t position, int64_t time, double x);

/* The same, and for sessions; a time out of range is counted. */
void take_other(struct engine *engine, struct group *group, uint32_t series, uint32_t position, int64_t time, double x,
                uint8_t quality, uint64_t *nonfinite);

/* Rows that are not counted as `counted`, and were not before. */
static inline uint64_t counts_refused(const struct row_counts *counts)
{
    return counts->late + counts->duplicate + counts->future + counts->bad + counts->nonfinite + counts->inexact +
           counts->overflow + counts->undeclared;
}

#endif
