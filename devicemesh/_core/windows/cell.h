/* The statistics of one window of one series: a unit of its own, one cache line, that knows nothing of the engine.
 *
 * Sums are of differences to a shift near the first value, which keeps the variance exact where values are large
 * and differ little (1e12 +- 0.1). The shift needs only be near it: its lowest 16 bits are given to the offset. */
#ifndef DEVICEMESH_WINDOWS_CELL_H
#define DEVICEMESH_WINDOWS_CELL_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "machine.h"

#define CELL_DISORDERED 0x80000000u /* a row came out of order: it is in the sums, without weight in time */
#define CELL_COUNT_MAX 0x7FFFFFFFu
#define CELL_OFFSET_BITS 48

struct cell {
    uint64_t head;        /* shift: the top 48 bits of a double; below them the low 16 bits of `offset` */
    uint32_t marks;       /* count of values; CELL_DISORDERED */
    uint32_t offset_high; /* of the last value's time from the start, in the container's unit */
    union {
        struct {
            double sum;     /* of (x - shift) */
            double squares; /* of (x - shift)^2 */
        };
        double sums[2];
    };
    union {
        struct {
            double min;
            double max;
        };
        double range[2];
    };
    double last;
    double held; /* integral of (x - shift) over the known time in ns, as if `last` stays until the end; NaN where
                  * all that came was out of order */
};
_Static_assert(sizeof(struct cell) == 64, "one cache line");

/* Beyond double there is no result. */
static inline double cell_or_nan(double value)
{
    return isfinite(value) ? value : (double)NAN;
}

static inline uint32_t cell_count(const struct cell *cell)
{
    return cell->marks & CELL_COUNT_MAX;
}

static inline double cell_shift(const struct cell *cell)
{
    uint64_t bits = cell->head & ~UINT64_C(0xFFFF);
    double shift;
    memcpy(&shift, &bits, sizeof shift);
    return shift;
}

static inline uint64_t cell_offset(const struct cell *cell)
{
    return (uint64_t)cell->offset_high << 16 | (cell->head & 0xFFFF);
}

/* Make `x` the newest value. */
static inline void cell_set_last(struct cell *cell, double x, uint64_t offset)
{
    cell->head = (cell->head & ~UINT64_C(0xFFFF)) | (offset & 0xFFFF);
    cell->offset_high = (uint32_t)(offset >> 16);
    cell->last = x;
}

/* An empty cell with a shift near `x`. */
static inline void cell_begin(struct cell *cell, double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    *cell = (struct cell){.head = bits & ~UINT64_C(0xFFFF), .min = (double)INFINITY, .max = -(double)INFINITY};
}

/* A cell of one value: as cell_begin, cell_add and cell_set_last. */
static inline void cell_open(struct cell *cell, double x, uint64_t offset)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    cell->head = bits;
    cell->marks = 1;
    cell_set_last(cell, x, offset);
    double difference = x - cell_shift(cell);
    cell->sum = difference;
    cell->squares = difference * difference;
    cell->min = cell->max = x;
}

/* A value of a cell that has begun. It must be finite, and the count below CELL_COUNT_MAX. */
static inline void cell_add(struct cell *cell, double x)
{
    double difference = x - cell_shift(cell);
    cell->marks++;
    add_both(cell->sums, difference, difference * difference);
    stretch(cell->range, x);
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
