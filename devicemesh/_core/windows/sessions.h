/* Session windows: rows of a series nearer than the gap to each other. Their container, beside that of the panes. */
#ifndef DEVICEMESH_WINDOWS_SESSIONS_H
#define DEVICEMESH_WINDOWS_SESSIONS_H

#include "parts.h"
#include "state.h"

/* Take one row of a series. */
void sessions_take(struct engine *engine, struct group *group, uint32_t series, int64_t time, double x,
                   uint8_t quality, uint64_t *nonfinite);

/* Emit the sessions that the watermarks end; or all. */
void sessions_close(struct engine *engine);
void sessions_flush(struct engine *engine);

/* Their part of the state. */
bool sessions_write(const struct engine *engine, struct buffer *out);
enum state_status sessions_read(struct engine *engine, struct cursor *cursor);

void sessions_free(struct engine *engine);

#endif
