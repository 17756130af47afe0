/* A batch of rows of one group. */
#ifndef DEVICEMESH_WINDOWS_BATCH_H
#define DEVICEMESH_WINDOWS_BATCH_H

#include "take.h"

/* Take rows of doubles; they are counted unless they are in `counted`. */
void take_batch(struct engine *engine, struct group *group, const struct rows_view *rows, uint64_t *nonfinite);

#endif
