#include "windows/dense.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* Two doubles as one: gcc and clang turn these into the vector instructions of whatever they build for. Compilers do
 * not find them by themselves in loops that add floating-point numbers. */
typedef double pair __attribute__((vector_size(16)));
typedef int64_t pair_mask __attribute__((vector_size(16)));

#ifdef __SSE2__
#include <immintrin.h>
#define pair_lesser(a, b) ((pair)_mm_min_pd((__m128d)(a), (__m128d)(b)))
#define pair_greater(a, b) ((pair)_mm_max_pd((__m128d)(a), (__m128d)(b)))
#else
static inline pair pair_select(pair_mask mask, pair a, pair b)
{
    return (pair)((mask & (pair_mask)a) | (~mask & (pair_mask)b));
}
#define pair_lesser(a, b) pair_select((a) < (b), (a), (b))
#define pair_greater(a, b) pair_select((a) > (b), (a), (b))
#endif

/* Partial results of a block, the sums of differences to its own first value. */
struct lanes {
    double sum[DENSE_LANES];
    double squares[DENSE_LANES];
    double min[DENSE_LANES];
    double max[DENSE_LANES];
};

/* What one pair of the lanes has seen. Two pairs under way hide the latency of the additions. */
struct half {
    pair sum, squares, min, max;
};

static inline void fold_pair(struct half *half, pair shift, const double *x)
{
    pair value;
    memcpy(&value, x, sizeof value);
    pair difference = value - shift;
    half->sum += difference;
    half->squares += difference * difference;
    half->min = pair_lesser(value, half->min);
    half->max = pair_greater(value, half->max);
}

static void store(struct lanes *lanes, int at, const struct half *half)
{
    memcpy(&lanes->sum[at], &half->sum, sizeof(pair));
    memcpy(&lanes->squares[at], &half->squares, sizeof(pair));
    memcpy(&lanes->min[at], &half->min, sizeof(pair));
    memcpy(&lanes->max[at], &half->max, sizeof(pair));
}

/* `count` is a multiple of DENSE_LANES, and not 0. */
static void fold_pairs(struct lanes *lanes, const double *x, size_t count)
{
    pair shift = {x[0], x[0]}, zero = {0, 0};
    struct half a = {zero, zero, shift, shift}, b = a;
    for (size_t i = 0; i < count; i += DENSE_LANES) {
        fold_pair(&a, shift, x + i);
        fold_pair(&b, shift, x + i + 2);
    }
    store(lanes, 0, &a);
    store(lanes, 2, &b);
}

#if defined(__x86_64__) && defined(__GNUC__)
/* The same, all lanes at once. */
__attribute__((target("avx"))) static void fold_quads(struct lanes *lanes, const double *x, size_t count)
{
    __m256d shift = _mm256_set1_pd(x[0]), sum = _mm256_setzero_pd(), squares = sum, min = shift, max = shift;
    for (size_t i = 0; i < count; i += DENSE_LANES) {
        __m256d value = _mm256_loadu_pd(x + i), difference = _mm256_sub_pd(value, shift);
        sum = _mm256_add_pd(sum, difference);
        squares = _mm256_add_pd(squares, _mm256_mul_pd(difference, difference));
        min = _mm256_min_pd(value, min);
        max = _mm256_max_pd(value, max);
    }
    _mm256_storeu_pd(lanes->sum, sum);
    _mm256_storeu_pd(lanes->squares, squares);
    _mm256_storeu_pd(lanes->min, min);
    _mm256_storeu_pd(lanes->max, max);
}
#endif

static void fold_lanes(struct lanes *lanes, const double *x, size_t count)
{
#if defined(__x86_64__) && defined(__GNUC__)
    if (__builtin_cpu_supports("avx")) {
        fold_quads(lanes, x, count);
        return;
    }
#endif
    fold_pairs(lanes, x, count);
}

static double sum_of(const double lanes[DENSE_LANES])
{
    return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
}

static void start(struct dense *dense, double value, size_t place)
{
    dense->shift = dense->first = dense->min = dense->max = value;
    dense->first_at = dense->min_at = dense->max_at = place;
}

static void fold_value(struct dense *dense, double value, size_t place)
{
    if (!isfinite(value)) {
        dense->nonfinite++;
        return;
    }
    double difference = value - dense->shift;
    dense->count++;
    dense->sum += difference;
    dense->squares += difference * difference;
    dense->power += value * value;
    if (value < dense->min) {
        dense->min = value;
        dense->min_at = place;
    }
    if (value > dense->max) {
        dense->max = value;
        dense->max_at = place;
    }
    dense->last = value;
    dense->last_at = place;
}

/* Take the lanes of the `count` values that start with `first` at `place`; false, and nothing taken, if one of them is not
 * finite, or the squares are beyond double. With the block's own first value as shift, what cancels in the sums is never
 * more than `count` times the sum itself: they are right to 1e-13. Of a new extreme only the block is kept: where in it,
 * `locate` finds out once, at the end. */
static bool take_lanes(struct dense *dense, const struct lanes *lanes, size_t count, double first, size_t place)
{
    double sum = sum_of(lanes->sum), squares = sum_of(lanes->squares), apart = first - dense->shift;
    double square = squares + apart * (2 * sum + (double)count * apart);
    double power = squares + first * (2 * sum + (double)count * first);
    /* Squares are never below zero: their sum is finite only if no value is NaN or infinite. */
    if (!isfinite(squares) || !isfinite(square) || !isfinite(power))
        return false;
    dense->count += count;
    dense->sum += sum + (double)count * apart;
    dense->squares += square;
    dense->power += power;
    for (int i = 0; i < DENSE_LANES; i++) {
        if (lanes->min[i] < dense->min) {
            dense->min = lanes->min[i];
            dense->min_at = place;
        }
        if (lanes->max[i] > dense->max) {
            dense->max = lanes->max[i];
            dense->max_at = place;
        }
    }
    dense->last_at = place + count - 1;
    return true;
}

/* `place` is that of x[0]. */
static void fold_block(struct dense *dense, const double *x, size_t count, size_t place)
{
    size_t at = 0, whole = count - count % DENSE_LANES;
    if (!dense->count) {
        while (at < count && !isfinite(x[at]))
            at++;
        if (at < count)
            start(dense, x[at], place + at);
        at = 0;
    }
    if (whole) {
        struct lanes lanes;
        fold_lanes(&lanes, x, whole);
        if (take_lanes(dense, &lanes, whole, x[0], place)) {
            dense->last = x[whole - 1];
            at = whole;
        }
    }
    for (; at < count; at++)
        fold_value(dense, x[at], place + at);
}

/* ---- the types ---- */

/* The `count` values from `first` on as doubles: in `block`, or where they are. */
typedef const double *(*load_function)(const uint8_t *values, size_t first, size_t count, double *block);

static const double *load_double(const uint8_t *values, size_t first, size_t count, double *block)
{
    const uint8_t *at = values + first * sizeof *block;
    if ((uintptr_t)at % sizeof *block == 0)
        return (const double *)(const void *)at;
    memcpy(block, at, count * sizeof *block);
    return block;
}

static const double *load_float(const uint8_t *values, size_t first, size_t count, double *block)
{
    float narrow[DENSE_BLOCK];
    memcpy(narrow, values + first * sizeof *narrow, count * sizeof *narrow);
    for (size_t i = 0; i < count; i++)
        block[i] = narrow[i];
    return block;
}

static const double *load_int16(const uint8_t *values, size_t first, size_t count, double *block)
{
    int16_t narrow[DENSE_BLOCK];
    memcpy(narrow, values + first * sizeof *narrow, count * sizeof *narrow);
    for (size_t i = 0; i < count; i++)
        block[i] = narrow[i];
    return block;
}

static size_t block_at(size_t first, size_t count)
{
    return count - first < DENSE_BLOCK ? count - first : DENSE_BLOCK;
}

/* Set `place`, that of a block, to where in it `value` comes first; and `value` to what is there (-0.0 equals 0.0). */
static inline void locate(load_function load, const uint8_t *values, size_t count, size_t *place, double *value)
{
    enum { STRIDE = 16 };
    double block[DENSE_BLOCK];
    size_t at = 0, size = block_at(*place, count);
    const double *x = load(values, *place, size, block);
    pair wanted = {*value, *value};
    while (at + STRIDE <= size) {
        pair_mask found = {0, 0};
        for (size_t i = 0; i < STRIDE; i += 2) {
            pair two;
            memcpy(&two, x + at + i, sizeof two);
            found |= two == wanted;
        }
        if (found[0] | found[1])
            break;
        at += STRIDE;
    }
    while (at < size && x[at] != *value)
        at++;
    if (at == size)
        return; /* somebody changed the array meanwhile */
    *place += at;
    *value = x[at];
}

static inline void fold(struct dense *dense, const void *values, size_t count, load_function load)
{
    double block[DENSE_BLOCK];
    *dense = (struct dense){0};
    for (size_t first = 0; first < count; first += DENSE_BLOCK) {
        size_t size = block_at(first, count);
        fold_block(dense, load(values, first, size, block), size, first);
    }
    if (!dense->count)
        return;
    locate(load, values, count, &dense->min_at, &dense->min);
    locate(load, values, count, &dense->max_at, &dense->max);
}

void dense_fold_double(struct dense *dense, const void *values, size_t count)
{
    fold(dense, values, count, load_double);
}

void dense_fold_float(struct dense *dense, const void *values, size_t count)
{
    fold(dense, values, count, load_float);
}

void dense_fold_int16(struct dense *dense, const void *values, size_t count)
{
    fold(dense, values, count, load_int16);
}
