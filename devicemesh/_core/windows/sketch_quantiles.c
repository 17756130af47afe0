/* Quantiles of sketches: values in order, and back from keys to values. */
#include <float.h>
#include <math.h>

#include "windows/machine.h"
#include "windows/sketch_internal.h"

/* The s of 0 <= s <= 1 where (6 s^3 - 21 s^2 + 50 s) / 35 is `part`, by Newton's method: from the cubic that has the inverse's
 * values and slopes at both ends, which is off by less than 0.007, three steps are enough for any. */
static double inverse(double part)
{
    double s = ((0.046 * part + 0.254) * part + 0.7) * part;
    for (int i = 0; i < 3; i++) {
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

/* Put two in order in each of two lists, if the second is one of the `count`: all behind those is infinite, and in order
 * already. */
static inline void order(pair *v, int low, int high, int count)
{
    if (high >= count)
        return;
    pair a = v[low], b = v[high];
    v[low] = lesser_both(b, a);
    v[high] = greater_both(a, b);
}

/* v[from] to v[from + 7], by Batcher's odd-even merge sort (Knuth, The Art of Computer Programming 3, 5.3.4): no branch
 * depends on a value. */
static inline void sort_8(pair *v, int from, int count)
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
static inline void merge_8(pair *v, int count)
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

static inline void sort_16(pair *v, int count)
{
    sort_8(v, 0, count);
    sort_8(v, 8, count);
    merge_8(v, count);
}

/* The values of two raw sketches in order, each behind its own infinities. */
static void sort_two(const struct sketch *const two[2], pair v[SKETCH_RAW + 1])
{
    int first = two[0]->raw_count, second = two[1]->raw_count, count = first > second ? first : second;
    for (int i = 0; i < SKETCH_RAW; i++)
        v[i] = (pair){i < first ? two[0]->raw[i] : (double)INFINITY, i < second ? two[1]->raw[i] : (double)INFINITY};
    v[SKETCH_RAW] = (pair){(double)INFINITY, (double)INFINITY};
    /* Constants, so that the compiler leaves out what is not needed: none, 19, 42 or 63 steps. */
    if (count > 12)
        sort_16(v, 16);
    else if (count > 8)
        sort_16(v, 12);
    else if (count > 1)
        sort_8(v, 0, 8);
}

void sketch_sort_raw(const struct sketch *sketch, double sorted[SKETCH_RAW])
{
    const struct sketch *const two[2] = {sketch, sketch};
    pair v[SKETCH_RAW + 1];
    sort_two(two, v);
    for (int i = 0; i < sketch->raw_count; i++)
        sorted[i] = v[i][0];
}

static bool is_fraction(double q)
{
    return q >= 0 && q <= 1;
}

void sketch_quantiles_of_two(const struct sketch *const two[2], const double *q, size_t count, double *out)
{
    pair v[SKETCH_RAW + 1];
    sort_two(two, v);
    for (size_t i = 0; i < count; i++)
        for (int lane = 0; lane < 2; lane++) {
            int last = two[lane]->raw_count - 1;
            bool known = last >= 0 && is_fraction(q[i]);
            out[2 * i + lane] = known ? v[(int)(q[i] * last)][lane] : (double)NAN;
        }
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
    if (sketch->form == SKETCH_IS_RAW)
        sketch_sort_raw(sketch, sorted);
    for (size_t i = 0; i < count; i++) {
        out[i] = (double)NAN;
        if (!total || !is_fraction(q[i]))
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
