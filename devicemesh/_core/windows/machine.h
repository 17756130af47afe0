/* What is gained where the machine has more than every x86-64. Results are the same everywhere. */
#ifndef DEVICEMESH_WINDOWS_MACHINE_H
#define DEVICEMESH_WINDOWS_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* A function that is compiled for newer processors as well; which of them runs is settled when the library is loaded
 * (x86-64 psABI, "Micro-architecture levels"). Sanitizers can't be asked that early. */
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define FOR_MACHINES __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define FOR_MACHINES
#endif

/* a < b ? a : b, and a > b ? a : b: one instruction each, which compilers do not always find. */
static inline double lesser(double a, double b)
{
#ifdef __SSE2__
    return _mm_cvtsd_f64(_mm_min_sd(_mm_set_sd(a), _mm_set_sd(b)));
#else
    return a < b ? a : b;
#endif
}

static inline double greater(double a, double b)
{
#ifdef __SSE2__
    return _mm_cvtsd_f64(_mm_max_sd(_mm_set_sd(a), _mm_set_sd(b)));
#else
    return a > b ? a : b;
#endif
}

/* The number of low to high that is nearest to x; a NaN stays one. */
static inline double between(double x, double low, double high)
{
    return x < low ? low : x > high ? high : x;
}

/* Two doubles, of any address. */
typedef double pair __attribute__((vector_size(16), aligned(8), may_alias));

/* A value as {-x, x}: so the least and the greatest of many are both a maximum, and both edges of a range are above. */
static inline pair mirrored(double x)
{
#ifdef __SSE2__
    return _mm_xor_pd(_mm_set1_pd(x), _mm_set_pd(0.0, -0.0));
#else
    return (pair){-x, x};
#endif
}

/* A bit for each of -edges[0] <= x and x <= edges[1]. */
static inline unsigned inside(const double edges[2], pair x)
{
#ifdef __SSE2__
    return (unsigned)_mm_movemask_pd(_mm_cmple_pd(x, *(const pair *)edges));
#else
    return (unsigned)(x[0] <= edges[0]) | (unsigned)(x[1] <= edges[1]) << 1;
#endif
}

/* Both of them. */
static inline bool is_within(const double edges[2], pair x)
{
    return inside(edges, x) == 3;
}

/* The lesser of each. */
static inline pair lesser_both(pair a, pair b)
{
#ifdef __SSE2__
    return _mm_min_pd(a, b);
#else
    return (pair){a[0] < b[0] ? a[0] : b[0], a[1] < b[1] ? a[1] : b[1]};
#endif
}

/* The greater of each. */
static inline pair greater_both(pair a, pair b)
{
#ifdef __SSE2__
    return _mm_max_pd(a, b);
#else
    return (pair){a[0] > b[0] ? a[0] : b[0], a[1] > b[1] ? a[1] : b[1]};
#endif
}

/* Which of eight numbers are `wanted`: a bit each. */
static inline uint32_t equal_8(const uint32_t numbers[8], uint32_t wanted)
{
#ifdef __SSE2__
    const __m128i *in = (const __m128i *)(const void *)numbers;
    __m128i like = _mm_set1_epi32((int)wanted);
    __m128i first = _mm_cmpeq_epi32(_mm_loadu_si128(in), like), second = _mm_cmpeq_epi32(_mm_loadu_si128(in + 1), like);
    return (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(_mm_packs_epi32(first, second), _mm_setzero_si128()));
#else
    uint32_t bits = 0;
    for (int i = 0; i < 8; i++)
        bits |= (uint32_t)(numbers[i] == wanted) << i;
    return bits;
#endif
}

/* at[0] is the least, negated, and at[1] the greatest: of x, too. */
static inline void stretch(double at[2], pair x)
{
    pair *range = (pair *)at;
#ifdef __SSE2__
    *range = _mm_max_pd(x, *range);
#else
    *range = (pair){x[0] > at[0] ? x[0] : at[0], x[1] > at[1] ? x[1] : at[1]};
#endif
}

/* at[0] += a and at[1] += b. */
static inline void add_both(double at[2], double a, double b)
{
    pair *both = (pair *)at;
    *both += (pair){a, b};
}

/* at[0] += a and at[1] = b. */
static inline void add_and_set(double at[2], double a, double b)
{
    *(pair *)at = (pair){at[0] + a, b};
}

/* Two pairs as two columns. */
static inline void transpose(pair a, pair b, double first[2], double second[2])
{
#ifdef __SSE2__
    *(pair *)first = _mm_unpacklo_pd(a, b);
    *(pair *)second = _mm_unpackhi_pd(a, b);
#else
    *(pair *)first = (pair){a[0], b[0]};
    *(pair *)second = (pair){a[1], b[1]};
#endif
}

/* The double of the top 48 bits. */
static inline double upper_bits(const uint64_t *bits)
{
#ifdef __SSE2__
    __m128i whole = _mm_loadl_epi64((const __m128i *)(const void *)bits);
    return _mm_cvtsd_f64(_mm_castsi128_pd(_mm_and_si128(whole, _mm_set_epi64x(0, ~INT64_C(0xFFFF)))));
#else
    uint64_t upper = *bits & ~UINT64_C(0xFFFF);
    double x;
    memcpy(&x, &upper, sizeof x);
    return x;
#endif
}

/* Copy to memory that is not read soon, past the caches: its lines need not be fetched first. Then stream_end. */
static inline void stream_copy(void *to, const void *from, size_t bytes)
{
#ifdef __SSE2__
    enum { LINE = 64, PART = sizeof(__m128i) };
    size_t head = (size_t)(-(uintptr_t)to % LINE);
    if (bytes >= head + LINE) {
        uint8_t *out = to;
        const uint8_t *in = from;
        memcpy(out, in, head);
        for (out += head, in += head, bytes -= head; bytes >= LINE; out += LINE, in += LINE, bytes -= LINE)
            for (size_t at = 0; at < LINE; at += PART)
                _mm_stream_si128((__m128i *)(void *)(out + at), _mm_loadu_si128((const __m128i *)(const void *)(in + at)));
        to = out;
        from = in;
    }
#endif
    memcpy(to, from, bytes);
}

/* Others may read what was copied. */
static inline void stream_end(void)
{
#ifdef __SSE2__
    _mm_sfence();
#endif
}

#endif
