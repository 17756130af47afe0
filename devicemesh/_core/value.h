/* A value of a series, as it travels from a batch to a record. */
#ifndef DEVICEMESH_VALUE_H
#define DEVICEMESH_VALUE_H

#include <float.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How a series' values are printed: aggregate.Kind. */
enum kind { KIND_FLOAT, KIND_INTEGER, KIND_BOOLEAN, KIND_OBJECT, KIND_FLOAT32, KIND_COUNT };

enum value_tag {
    VALUE_NULL,
    VALUE_FLOAT,
    VALUE_FLOAT32, /* a float that came from a float32: printed as shortly as one */
    VALUE_INTEGER,
    VALUE_BOOLEAN,
    VALUE_STRING,
    VALUE_BYTES,
    VALUE_JSON,
};

struct text {
    const uint8_t *bytes;
    size_t length;
};

/* 16 bytes, so that it travels in registers. */
struct value {
    enum value_tag tag;
    union {
        double number;   /* VALUE_FLOAT, VALUE_FLOAT32 */
        int64_t integer; /* VALUE_INTEGER, VALUE_BOOLEAN (0 or 1) */
        const struct text *text; /* UTF-8, raw bytes or JSON; borrowed */
    };
};

/* A value as it is kept: its tag, and the bits of its number or integer. A text keeps itself: of it only the tag. */
static inline struct value value_of(uint8_t tag, int64_t bits)
{
    return (struct value){.tag = (enum value_tag)tag, .integer = bits};
}

static inline bool value_is_text(const struct value *value)
{
    return value->tag >= VALUE_STRING;
}

static inline int64_t value_bits(const struct value *value)
{
    return value_is_text(value) ? 0 : value->integer; /* either member of the union */
}

static inline bool value_is_float(const struct value *value)
{
    return value->tag == VALUE_FLOAT || value->tag == VALUE_FLOAT32;
}

/* A number or a boolean as a double; integers beyond 2^53 are rounded. */
static inline double value_number(const struct value *value)
{
    return value_is_float(value) ? value->number : (double)value->integer;
}

/* Whether a double is one that a float32 holds; a NaN is not. */
static inline bool is_float32(double number)
{
    return number >= -FLT_MAX && number <= FLT_MAX && (double)(float)number == number;
}

#endif
