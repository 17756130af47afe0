/* Quantiles of sketches: values in order, and back from keys to values. */
#include <float.h>
#include <math.h>

#include "windows/machine.h"
#include "windows/sketch_internal.h"

/* The s of 0 <= s <= 1 where (6 s^3 - 21 s^2 + 50 s) / 35 is `part`, by Newton's method: from s = part, where it is off
 * by less than 0.1, five steps are enough for any. */
static double inverse(double part)
{
    double s = part;
    for (int i = 0; i < 5; i++) {
        double over = ((6.0 / 35 * s - 21.0 / 35) * s + 50.0 / 35) * s - part;
        s -= over / ((18.0 / 35 * s - 42.0 / 35) * s + 50.0 / 35);
    }
    return s;
}

/* The number that is within the relative error of all numbers that have the key. */
static double value_of(const struct sketch_rule *rule, int32_t key)
{
    double low_log = ((double)key - rule->offset) / rule->multiplier;
    double high_log = ((double)key - rule->offset + 1) / rule->multiplier;
    double low_exponent = floor(low_log), high_exponent = floor(high_log);
    double low = 1 + inverse(low_log - low_exponent);
    double high = ldexp(1 + inverse(high_log - high_exponent), (int)(high_exponent - low_exponent));
    double value = ldexp(2 * low / (1 + low / high), (int)low_exponent - 1023);
    return value > DBL_MAX ? DBL_MAX : value;
}

/* Put two in order, if the second is one of the `count`: all behind those is infinite, and in order already. */
static inline void order(double *v, int low, int high, int count)
{
    if (high >= count)
        return;
    double a = v[low], b = v[high];
    v[low] = lesser(b, a);
    v[high] = greater(a, b);
}

/* v[from] to v[from + 7], by Batcher's odd-even merge sort (Knuth, The Art of Computer Programming 3, 5.3.4): no branch
 * depends on a value. */
static inline void sort_8(double *v, int from, int count)
{
    for (int i = from; i < from + 8; i += 2)
        order(v, i, i + 1, count);
    for (int i = from; i < from + 8; i += 4) {
        order(v, i, i + 2, count);
        order(v, i + 1, i + 3, count);
        order(v, i + 1, i + 2, count);
    }
    for (int i = from; i < from + 4; i++)
        order(v, i, i + 4, count);
    order(v, from + 2, from + 4, count);
    order(v, from + 3, from + 5, count);
    for (int i = from + 1; i < from + 7; i += 2)
        order(v, i, i + 1, count);
}

/* Two sorted runs of 8 into one of 16. */
static inline void merge_8(double *v, int count)
{
    for (int i = 0; i < 8; i++)
        order(v, i, i + 8, count);
    for (int i = 4; i < 8; i++)
        order(v, i, i + 4, count);
    for (int i = 2; i < 14; i += 4) {
        order(v, i, i + 2, count);
        order(v, i + 1, i + 3, count);
    }
    for (int i = 1; i < 15; i += 2)
        order(v, i, i + 1, count);
}

static inline void sort_16(double *v, int count)
{
    sort_8(v, 0, count);
    sort_8(v, 8, count);
    merge_8(v, count);
}

void sketch_sort_raw(double values[SKETCH_RAW], int count)
{
    double v[SKETCH_RAW + 1];
    for (int i = 0; i <= SKETCH_RAW; i++)
        v[i] = i < count ? values[i] : (double)INFINITY;
    /* Constants, so that the compiler leaves out what is not needed: 19, 42 or 63 steps. */
    if (count <= 8)
        sort_8(v, 0, 8);
    else if (count <= 12)
        sort_16(v, 12);
    else
        sort_16(v, 16);
    memcpy(values, v, (size_t)count * sizeof *values);
}

static double value_of_rank(const struct sketch *sketch, const struct sketch_rule *rule, uint64_t rank)
{
    struct run below = run_of(sketch, 1), above = run_of(sketch, 0);
    for (uint32_t i = below.size; i-- > 0;) {
        uint64_t count = run_at(&below, i);
        if (rank < count)
            return -value_of(rule, below.low + (int32_t)i);
        rank -= count;
    }
    if (rank < sketch->zeros)
        return 0;
    rank -= sketch->zeros;
    for (uint32_t i = 0; i < above.size; i++) {
        uint64_t count = run_at(&above, i);
        if (rank < count)
            return value_of(rule, above.low + (int32_t)i);
        rank -= count;
    }
    return (double)NAN; /* not reached: there are more values than the rank */
}

void sketch_quantiles(const struct sketch *sketch, const struct sketch_rule *rule, const double *q, size_t count,
                      double *out)
{
    double sorted[SKETCH_RAW];
    uint64_t total = sketch_count(sketch);
    if (sketch->form == SKETCH_IS_RAW) {
        memcpy(sorted, sketch->raw, sizeof sorted);
        sketch_sort_raw(sorted, sketch->raw_count);
    }
    for (size_t i = 0; i < count; i++) {
        out[i] = (double)NAN;
        if (!total || !(q[i] >= 0 && q[i] <= 1))
            continue;
        uint64_t rank = (uint64_t)(q[i] * (double)(total - 1));
        if (rank > total - 1)
            rank = total - 1;
        out[i] = sketch->form == SKETCH_IS_RAW ? sorted[rank] : value_of_rank(sketch, rule, rank);
    }
}

double sketch_quantile(const struct sketch *sketch, const struct sketch_rule *rule, double q)
{
    double value;
    sketch_quantiles(sketch, rule, &q, 1, &value);
    return value;
}
