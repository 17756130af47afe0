/* Records out: readings and windows into the records of their stream. */
#ifndef DEVICEMESH_PUBLISH_H
#define DEVICEMESH_PUBLISH_H

#include "aggregator.h"

/* Whether `more` bytes may still become pending. */
bool has_room(const struct aggregator *a, size_t more);

/* Append to the records of the series' stream, or drop the row as overflow. Returns whether it is in. */
bool publish_reading(struct aggregator *a, struct series *series, int64_t time, uint8_t quality,
                     const struct value *value);

/* The same of a closed window; without memory its rows are dropped as overflow. */
void publish_window(struct aggregator *a, const struct series *series, const struct window *window);

#endif
