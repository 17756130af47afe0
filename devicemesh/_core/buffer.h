/* A growing run of bytes. All zero is an empty one. */
#ifndef DEVICEMESH_BUFFER_H
#define DEVICEMESH_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer {
    uint8_t *bytes;
    size_t length;
    size_t capacity;
};

/* Make room for `more` bytes after `length`. False without memory: the buffer is as it was. */
bool buffer_reserve(struct buffer *buffer, size_t more);

/* Append; false without memory. */
bool buffer_append(struct buffer *buffer, const void *bytes, size_t length);

/* Forget the content; give back the memory if it is more than `keep` bytes. */
void buffer_clear(struct buffer *buffer, size_t keep);

#endif
