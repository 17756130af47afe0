/* The statistics of one window of one series: a unit of its own, one cache line, that knows nothing of the engine.
 *
 * Sums are of differences to a shift near the first value, which keeps the variance exact where values are large
 * and differ little (1e12 +- 0.1). The shift needs only be near it: its lowest 16 bits are given to the count. */
#ifndef DEVICEMESH_WINDOWS_CELL_H
#define DEVICEMESH_WINDOWS_CELL_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "machine.h"

#define CELL_COUNT_MAX 0x7FFFFFFFu
#define CELL_OFFSET_BITS 47

struct cell {
    uint64_t head; /* shift: the top 48 bits of a double; a bit for disordered; the high 15 bits of the count of values */
    uint64_t tail; /* a bit for shut; of the last value's time from the start, in the container's unit: 47 bits; the low
                    * 16 bits of the count */
    double range[2]; /* the minimum, negated, and the maximum */
    union {
        struct {
            double sum;     /* of (x - shift) */
            double squares; /* of (x - shift)^2 */
            double held;    /* integral of (x - shift) over the known time in ns, as if `last` stays until the end; NaN
                             * where all that came was out of order */
            double last;
        };
        struct {
            double sums[2], held_and_last[2];
        };
    };
};
_Static_assert(sizeof(struct cell) == 64, "one cache line");

/* Beyond double there is no result. */
static inline double cell_or_nan(double value)
{
    return isfinite(value) ? value : (double)NAN;
}

static inline uint32_t cell_count(const struct cell *cell)
{
    return (uint32_t)(cell->head & 0x7FFF) << 16 | (uint32_t)(cell->tail & 0xFFFF);
}

/* At most CELL_COUNT_MAX. */
static inline void cell_set_count(struct cell *cell, uint32_t count)
{
    cell->head = (cell->head & ~UINT64_C(0x7FFF)) | count >> 16;
    cell->tail = (cell->tail & ~UINT64_C(0xFFFF)) | (count & 0xFFFF);
}

/* Whether a row came out of order: it is in the sums, without weight in time. */
static inline bool cell_disordered(const struct cell *cell)
{
    return cell->head >> 15 & 1;
}

static inline void cell_disorder(struct cell *cell)
{
    cell->head |= UINT64_C(1) << 15;
}

static inline double cell_shift(const struct cell *cell)
{
    return upper_bits(&cell->head);
}

static inline double cell_min(const struct cell *cell)
{
    return -cell->range[0];
}

static inline double cell_max(const struct cell *cell)
{
    return cell->range[1];
}

static inline uint64_t cell_offset(const struct cell *cell)
{
    return cell->tail << 1 >> 17;
}

/* That a row without a value came after the last one: until the next, whoever looks at the tail alone finds it later than
 * any. */
static inline void cell_shut(struct cell *cell)
{
    cell->tail |= UINT64_C(1) << 63;
}

static inline bool cell_is_shut(const struct cell *cell)
{
    return cell->tail >> 63;
}

/* An offset as it stands in a tail. */
static inline uint64_t cell_place(uint64_t offset)
{
    return offset << 16;
}

/* Make `x` the newest value. */
static inline void cell_set_last(struct cell *cell, double x, uint64_t offset)
{
    cell->tail = cell_place(offset) | (cell->tail & 0xFFFF);
    cell->last = x;
}

/* An empty cell with a shift near `x`. */
static inline void cell_begin(struct cell *cell, double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    *cell = (struct cell){.head = bits & ~UINT64_C(0xFFFF), .range = {-(double)INFINITY, -(double)INFINITY}};
}

/* A cell without values; what else it holds means nothing. */
static inline void cell_empty(struct cell *cell)
{
    cell->head = cell->tail = 0;
}

/* A cell of one value: as cell_begin, cell_add and cell_set_last. */
static inline void cell_open(struct cell *cell, double x, uint64_t place)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    cell->head = bits & ~UINT64_C(0xFFFF);
    cell->tail = place | 1;
    double difference = x - cell_shift(cell);
    cell->sum = difference;
    cell->squares = difference * difference;
    cell->range[0] = -x;
    cell->range[1] = x;
    cell->last = x;
}

/* A value of a cell that has begun. It must be finite, and the count below CELL_COUNT_MAX. */
static inline void cell_add(struct cell *cell, double x)
{
    double difference = x - cell_shift(cell);
    cell->sum += difference;
    cell->squares += difference * difference;
    stretch(cell->range, mirrored(x));
    cell_set_count(cell, cell_count(cell) + 1);
}

/* The low bits of the count have come to their end. Not in line: the common way then loads the shift once, as a double. */
void cell_carry(struct cell *cell);

/* The same, of the newest value, but for `last`: as cell_add and cell_set_last. `both` is mirrored(x), `place` cell_place
 * of the offset. */
static inline void cell_append(struct cell *cell, double x, pair both, uint64_t place)
{
    double difference = x - cell_shift(cell);
    uint64_t low = (cell->tail & 0xFFFF) + 1;
    cell->tail = place | (low & 0xFFFF);
    if (__builtin_expect(low > 0xFFFF, 0))
        cell_carry(cell);
    stretch(cell->range, both);
    add_both(cell->sums, difference, difference * difference);
}

/* Hold more until the end, and the last value. */
static inline void cell_hold(struct cell *cell, double held, double x)
{
    add_and_set(cell->held_and_last, held, x);
}

/* The sums of many values at once, which are of differences to `shift`; `last` is the caller's to set. */
void cell_add_many(struct cell *cell, uint32_t count, double shift, double sum, double squares, double min, double max);

/* Add the values of a later cell; the known times are theirs alone. The offset is the caller's to set. Associative
 * but for rounding. The count stays at its maximum. */
void cell_merge(struct cell *cell, int64_t known_ns, const struct cell *later, int64_t later_known_ns);

/* Results. NaN where there is none: without values, for a sample variance of less than two, beyond double. */
double cell_sum(const struct cell *cell);
double cell_rms(const struct cell *cell);  /* sqrt(mean of squares about zero) */
double cell_peak(const struct cell *cell); /* largest magnitude */
double cell_total(const struct cell *cell, int64_t known_ns); /* integral over known time, value x seconds */

static inline double cell_mean(const struct cell *cell)
{
    uint32_t count = cell_count(cell);
    return count ? cell_or_nan(cell_shift(cell) + cell->sum / (double)count) : (double)NAN;
}

/* Over count - fewer: 1 is the sample's, 0 the population's. */
static inline double cell_variance(const struct cell *cell, uint32_t fewer)
{
    double count = (double)cell_count(cell), variance;
    if (cell_count(cell) <= fewer)
        return (double)NAN;
    variance = (cell->squares - cell->sum * cell->sum / count) / (count - (double)fewer);
    return variance < 0 ? 0.0 : cell_or_nan(variance);
}

static inline double cell_deviation(const struct cell *cell, uint32_t fewer)
{
    return sqrt(cell_variance(cell, fewer));
}

static inline double cell_time_average(const struct cell *cell, int64_t known_ns)
{
    return known_ns > 0 ? cell_or_nan(cell_shift(cell) + cell->held / (double)known_ns) : (double)NAN;
}

#endif
