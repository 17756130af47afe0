/* One row of the panes. */
#ifndef DEVICEMESH_WINDOWS_TAKE_H
#define DEVICEMESH_WINDOWS_TAKE_H

#include "engine_internal.h"

/* Take a row of a declared time, whatever it is; it is counted unless it is in `counted`. A value that is not finite
 * is counted as `nonfinite`. */
void take_row(struct engine *engine, struct group *group, uint32_t series, uint32_t position, int64_t time, double x,
              uint8_t quality, uint64_t *nonfinite);

#endif
