/* An engine's state as bytes: what is known, open and not yet taken; its definitions are not in it.
 *
 * Only an engine of the same build and equal definitions can read it. Bytes that are damaged or made up are refused,
 * or give wrong numbers; never an access out of bounds. */
#ifndef DEVICEMESH_WINDOWS_STATE_H
#define DEVICEMESH_WINDOWS_STATE_H

#include "buffer.h"
#include "engine.h"
#include "wire.h"

/* Append the state; false without memory. */
bool engine_write(const struct engine *engine, struct buffer *out);

enum state_status { STATE_READ, STATE_FOREIGN, STATE_DAMAGED, STATE_NO_MEMORY };

/* Read it into an engine that was defined alike and has taken nothing. After another status than STATE_READ the engine
 * is good for nothing but engine_free. */
enum state_status engine_read(struct engine *engine, const void *bytes, size_t length);

#endif
