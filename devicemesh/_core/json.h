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

#endif
