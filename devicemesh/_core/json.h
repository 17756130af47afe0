/* A record's body as one JSON payload. */
#ifndef DEVICEMESH_JSON_H
#define DEVICEMESH_JSON_H

#include "buffer.h"
#include "value.h"

enum json_status { JSON_DONE, JSON_MALFORMED, JSON_UNNAMED, JSON_NO_MEMORY };

/* Append the payload of `body` to `out`. `names[i]`, valid UTF-8, is the property with index i.
 * Any bytes may come as a body: MALFORMED says that they are no record, UNNAMED that a name is missing. */
enum json_status json_encode(struct buffer *out, const uint8_t *body, size_t length, const struct text *names,
                             size_t names_count);

/* The most bytes that json_reading writes. */
enum { READING_ROOM = 160 };

/* Append one last value to `out`, which has room, and return the new end:
 * {"value":1.5,"time":"2026-11-21T04:28:05.123Z","quality":"Good"}. The value is no text; NULL tag is null. */
char *json_reading(char *out, const struct value *value, int64_t time_ns, uint8_t quality);

#endif
