/* What is gained where the machine has more than every x86-64. Results are the same everywhere. */
#ifndef DEVICEMESH_WINDOWS_MACHINE_H
#define DEVICEMESH_WINDOWS_MACHINE_H

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

/* at[0] += a and at[1] += b. */
static inline void add_both(double at[2], double a, double b)
{
#ifdef __SSE2__
    _mm_storeu_pd(at, _mm_add_pd(_mm_loadu_pd(at), _mm_set_pd(b, a)));
#else
    at[0] += a;
    at[1] += b;
#endif
}

/* at[0] is the least, at[1] the greatest: of x, too. */
static inline void stretch(double at[2], double x)
{
#ifdef __SSE2__
    __m128d both = _mm_set1_pd(x), before = _mm_loadu_pd(at);
    _mm_storeu_pd(at, _mm_move_sd(_mm_max_pd(both, before), _mm_min_pd(both, before)));
#else
    at[0] = x < at[0] ? x : at[0];
    at[1] = x > at[1] ? x : at[1];
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
