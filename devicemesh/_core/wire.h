/* Little-endian numbers and varints, written to and read from bytes. */
#ifndef DEVICEMESH_WIRE_H
#define DEVICEMESH_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { VARINT_MAX = 10 };

static inline uint8_t *put_fixed(uint8_t *at, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        at[i] = (uint8_t)(value >> 8 * i);
    return at + size;
}

static inline uint8_t *put_double(uint8_t *at, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return put_fixed(at, bits, 8);
}

/* Seven bits a byte, the lowest first; the top bit says that more follow. */
static inline uint8_t *put_varint(uint8_t *at, uint64_t value)
{
    while (value >= 0x80) {
        *at++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *at++ = (uint8_t)value;
    return at;
}

/* Small magnitudes become small varints: 0, -1, 1, -2 -> 0, 1, 2, 3. */
static inline uint64_t zigzag(int64_t value)
{
    return (uint64_t)value << 1 ^ (value < 0 ? UINT64_MAX : 0);
}

static inline int64_t unzigzag(uint64_t raw)
{
    uint64_t bits = raw >> 1 ^ (raw & 1 ? UINT64_MAX : 0);
    int64_t value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Reads bytes it does not trust: past the end it reads zeros and remembers that it failed. */
struct cursor {
    const uint8_t *at;
    const uint8_t *end;
    bool failed;
};

static inline uint64_t get_fixed(struct cursor *cursor, unsigned size)
{
    uint64_t value = 0;
    if ((size_t)(cursor->end - cursor->at) < size) {
        cursor->failed = true;
        cursor->at = cursor->end;
        return 0;
    }
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)cursor->at[i] << 8 * i;
    cursor->at += size;
    return value;
}

static inline int64_t get_time(struct cursor *cursor)
{
    uint64_t bits = get_fixed(cursor, 8);
    int64_t value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline double get_double(struct cursor *cursor)
{
    uint64_t bits = get_fixed(cursor, 8);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float get_float(struct cursor *cursor)
{
    uint32_t bits = (uint32_t)get_fixed(cursor, 4);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint64_t get_varint(struct cursor *cursor)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte = (uint8_t)get_fixed(cursor, 1);
        if (shift == 63 && byte > 1)
            break;
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (!(byte & 0x80))
            return value;
    }
    cursor->failed = true;
    return 0;
}

/* Step over `length` bytes and return their start; NULL if there are not so many. */
static inline const uint8_t *get_bytes(struct cursor *cursor, uint64_t length)
{
    const uint8_t *start = cursor->at;
    if (length > (uint64_t)(cursor->end - cursor->at)) {
        cursor->failed = true;
        cursor->at = cursor->end;
        return NULL;
    }
    cursor->at += length;
    return start;
}

#endif
