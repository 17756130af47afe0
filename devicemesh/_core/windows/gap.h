/* Times without a known value: what begins and ends them. */
#ifndef DEVICEMESH_WINDOWS_GAP_H
#define DEVICEMESH_WINDOWS_GAP_H

#include "row.h"

/* The newest row had no value: from now on there is one. */
void become_known(struct engine *engine, struct row *row);

/* A row without a value, counted as `cause`. */
void take_bad(struct engine *engine, struct group *group, uint32_t series, uint32_t position, int64_t time,
              uint64_t *cause);

/* The common Bad row: the newest of its series, in the current pane, after a value there. The next value in that pane, finite
 * and Good, may then be put into its cell like all others: what `line->last` holds, the cell's shift, adds nothing. False: it
 * is not that, and nothing has happened. */
bool gap_begin(struct engine *engine, struct group *group, uint32_t series, uint32_t position, int64_t time);

/* The rest of what there is to do for that value. */
void gap_end(struct engine *engine, struct pane *pane, uint32_t series, uint32_t position, int64_t time, double x);

#endif
