/* What the fuzz targets share: numbers taken from an input, and checks that abort. */
#ifndef DEVICEMESH_FUZZ_INPUT_H
#define DEVICEMESH_FUZZ_INPUT_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                            \
    do {                                                                                                            \
        if (!(condition)) {                                                                                         \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                         \
            abort();                                                                                                \
        }                                                                                                           \
    } while (0)

/* An input is read from its front; past its end there are zeros. */
struct input {
    const uint8_t *at;
    const uint8_t *end;
};

static inline uint64_t take_number(struct input *input, unsigned size)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < size && input->at < input->end; i++)
        value |= (uint64_t)*input->at++ << 8 * i;
    return value;
}

static inline uint32_t take_below(struct input *input, uint32_t limit)
{
    return (uint32_t)take_number(input, 1) % limit;
}

/* Values that meet often, and now and then any at all. */
static inline double take_double(struct input *input)
{
    static const double chosen[] = {0, -0.0, 1, -1, 2.5, 1e12, 1e12 + 0.1, 5e-324, 1.7976931348623157e308, NAN, INFINITY};
    uint32_t which = take_below(input, 24);
    double value;
    if (which < sizeof chosen / sizeof *chosen)
        return chosen[which];
    if (which < 22)
        return (double)(int16_t)take_number(input, 2) / 16;
    uint64_t bits = take_number(input, 8);
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* A copy with not one byte to spare: a sanitizer sees every step outside. */
static inline uint8_t *exactly(const void *bytes, size_t length)
{
    uint8_t *copy = malloc(length ? length : 1);
    CHECK(copy);
    if (length)
        memcpy(copy, bytes, length);
    return copy;
}

#endif
