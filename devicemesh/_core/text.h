/* Text of JSON: strings, base64, times, and a check that bytes are one JSON value. */
#ifndef DEVICEMESH_TEXT_H
#define DEVICEMESH_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The longest outcome of the writers below, for making room. */
enum { ESCAPE_FACTOR = 6, TIME_MAX = 32, JSON_MAX_DEPTH = 512 };

/* Whether the bytes are well-formed UTF-8 (no surrogates, no overlong forms). */
bool utf8_valid(const uint8_t *bytes, size_t length);

/* Whether the bytes are exactly one JSON value (RFC 8259), nested at most JSON_MAX_DEPTH deep. */
bool json_valid(const uint8_t *bytes, size_t length);

/* The writers append to `out`, which has room, and return the new end. */

/* A JSON string of valid UTF-8, quotes included: at most 2 + ESCAPE_FACTOR * length bytes. */
char *put_string(char *out, const uint8_t *bytes, size_t length);

/* Base64 (RFC 4648) in quotes: 2 + (length + 2) / 3 * 4 bytes. */
char *put_base64(char *out, const uint8_t *bytes, size_t length);

/* RFC 3339 in UTC, quotes included, the fraction without trailing zeros. Any int64 of nanoseconds. */
char *put_time(char *out, int64_t time_ns);

#endif
