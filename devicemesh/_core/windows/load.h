/* Values in a caller's buffer, of any alignment. Whatever it does to the buffer, each call loads once: what was checked is
 * what is used. */
#ifndef DEVICEMESH_WINDOWS_LOAD_H
#define DEVICEMESH_WINDOWS_LOAD_H

#include "engine.h"

#include <stddef.h>

struct u32_at {
    uint32_t value;
} __attribute__((packed));
struct i64_at {
    int64_t value;
} __attribute__((packed));
struct f64_at {
    double value;
} __attribute__((packed));
struct f32_at {
    float value;
} __attribute__((packed));
struct i16_at {
    int16_t value;
} __attribute__((packed));

static inline uint32_t load_u32(const void *column, size_t row)
{
    return ((const volatile struct u32_at *)column)[row].value;
}

static inline int64_t load_i64(const void *column, size_t row)
{
    return ((const volatile struct i64_at *)column)[row].value;
}

static inline double load_f64(const void *column, size_t row)
{
    return ((const volatile struct f64_at *)column)[row].value;
}

static inline float load_f32(const void *column, size_t row)
{
    return ((const volatile struct f32_at *)column)[row].value;
}

static inline int16_t load_i16(const void *column, size_t row)
{
    return ((const volatile struct i16_at *)column)[row].value;
}

static inline uint8_t load_quality(const struct rows_view *rows, size_t row)
{
    return rows->qualities ? ((const volatile uint8_t *)rows->qualities)[row] : 0;
}

#endif
