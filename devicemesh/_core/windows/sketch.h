/* Quantiles of a window with a stated relative error: DDSketch (Masson, Rim, Lee, "DDSketch: a fast and fully-mergeable
 * quantile sketch with relative-error guarantees", VLDB 2019).
 *
 * A sketch holds its first RAW values as they are, so that small windows are exact. Past those it holds counts by key:
 * inline while they are of one sign and their keys lie near each other (factor 3 at 1 %), else on the heap. The heap
 * grows by need up to `max_bins` for each sign; past that the keys nearest zero share the lowest bin, and only what
 * lies there loses the guarantee. What a sketch answers depends on the values alone: not on their order, nor on how
 * they were split among sketches that were merged.
 *
 * The key of |x| = 2^e (1 + s), 0 <= s < 1, is floor(multiplier * l(x)) with l(x) = e + (6 s^3 - 21 s^2 + 50 s) / 35,
 * which is continuous and increasing. dl / d ln x = (18 s^3 - 24 s^2 + 8 s + 50) / 35 is least at s = 0 and s = 2/3,
 * where it is 10/7. A bin's values therefore lie within the factor g = (1 + a) / (1 - a) of each other when the
 * multiplier is at least 0.7 / ln g, and 2 lo hi / (lo + hi) is within the relative error `a` of all of them. The
 * multiplier is larger by 2^-20: l is off by less than 1e-12 after rounding, and that margin is wider for all `a`
 * allowed here. */
#ifndef DEVICEMESH_WINDOWS_SKETCH_H
#define DEVICEMESH_WINDOWS_SKETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "buffer.h"
#include "windows/bins.h"
#include "wire.h"

enum { SKETCH_RAW = 15, SKETCH_INLINE = 56, SKETCH_MIN_BINS = 64, SKETCH_MAX_BINS = 1 << 20 };

/* What all sketches of a profile share. */
struct sketch_rule {
    double multiplier; /* keys to one doubling */
    double offset;     /* makes every key positive, the smallest subnormal's too */
    uint32_t max_bins; /* of each sign */
    uint32_t max_key;
};

enum sketch_form { SKETCH_IS_RAW, SKETCH_IS_INLINE, SKETCH_IS_HEAP };

/* All zero is an empty one. Two cache lines. */
struct sketch {
    uint8_t form;
    uint8_t raw_count;
    uint8_t negative; /* inline: all values but the zeros are below zero */
    int32_t low;      /* inline: the key of bins[0] */
    union {
        double raw[SKETCH_RAW];
        struct {
            uint64_t zeros;
            union {
                uint16_t bins[SKETCH_INLINE];
                struct sketch_bins signs[2]; /* heap: above zero, below zero */
            };
        };
    };
};
_Static_assert(sizeof(struct sketch) == 128, "a sketch is two cache lines");

/* `relative_error` from 1e-4 to 0.5, `max_bins` from SKETCH_MIN_BINS to SKETCH_MAX_BINS; false for others. */
bool sketch_rule_init(struct sketch_rule *rule, double relative_error, uint32_t max_bins);

/* The bits of a normal number above zero. */
static inline bool sketch_is_normal(uint64_t bits)
{
    return bits - (UINT64_C(1) << 52) < (UINT64_C(2047) << 52) - (UINT64_C(1) << 52);
}

/* l(|x|) of a normal number, with e as it is stored; of others anything. Without a branch, and without a conversion of
 * 64-bit integers, so that compilers can take many at once. */
static inline double sketch_log(double x)
{
    const double magic = 0x1p52; /* its lowest bit is 1: added to it, a small integer stands in the mantissa as it is */
    uint64_t bits, fraction_bits, exponent_bits, magic_bits;
    double s, exponent;
    memcpy(&bits, &x, sizeof bits);
    memcpy(&magic_bits, &magic, sizeof magic_bits);
    fraction_bits = (bits & ((UINT64_C(1) << 52) - 1)) | UINT64_C(1023) << 52;
    exponent_bits = (bits >> 52 & 2047) | magic_bits;
    memcpy(&s, &fraction_bits, sizeof s);
    memcpy(&exponent, &exponent_bits, sizeof exponent);
    s -= 1;
    return ((6.0 / 35 * s - 21.0 / 35) * s + 50.0 / 35) * s + (exponent - magic);
}

/* The key of a normal number. */
static inline int32_t sketch_key(const struct sketch_rule *rule, double log)
{
    return (int32_t)(log * rule->multiplier + rule->offset);
}

/* The key of |x| with the sign of x, or INT32_MIN where x is not a normal number; as a double, as sketch_log. */
static inline double sketch_signed_key(const struct sketch_rule *rule, double x)
{
    const double none = INT32_MIN;
    const uint64_t sign = UINT64_C(1) << 63;
    double key = sketch_log(x) * rule->multiplier + rule->offset;
    uint64_t bits, key_bits, none_bits, normal;
    memcpy(&bits, &x, sizeof bits);
    memcpy(&key_bits, &key, sizeof key_bits);
    memcpy(&none_bits, &none, sizeof none_bits);
    normal = -(uint64_t)sketch_is_normal(bits & ~sign);
    key_bits = ((key_bits | (bits & sign)) & normal) | (none_bits & ~normal);
    memcpy(&key, &key_bits, sizeof key);
    return key;
}

/* As sketch_add, for what sketch_add_soon does not do. */
int64_t sketch_add_slow(struct sketch *sketch, const struct sketch_rule *rule, double value);

/* Count a sketch_signed_key inline, if there is a bin for it; false: nothing has happened. */
static inline bool sketch_count_key(struct sketch *sketch, int32_t key)
{
    uint32_t flip = -(uint32_t)sketch->negative;
    uint32_t at = (((uint32_t)key ^ flip) - flip) - (uint32_t)sketch->low;
    if (sketch->form != SKETCH_IS_INLINE || at >= SKETCH_INLINE || sketch->bins[at] == UINT16_MAX)
        return false;
    sketch->bins[at]++;
    return true;
}

/* Take a finite value for which there is a place; false: nothing has happened. */
static inline bool sketch_add_soon(struct sketch *sketch, const struct sketch_rule *rule, double value)
{
    if (sketch->form == SKETCH_IS_RAW && sketch->raw_count < SKETCH_RAW) {
        sketch->raw[sketch->raw_count++] = value + 0.0; /* -0.0 is 0.0 */
        return true;
    }
    return sketch->form == SKETCH_IS_INLINE && sketch_count_key(sketch, (int32_t)sketch_signed_key(rule, value));
}

/* Take a finite value. Returns the bytes newly allocated; -1 without memory: then the value is not in. */
static inline int64_t sketch_add(struct sketch *sketch, const struct sketch_rule *rule, double value)
{
    return sketch_add_soon(sketch, rule, value) ? 0 : sketch_add_slow(sketch, rule, value);
}

/* Take all that `from`, of the same rule, holds. Returns as sketch_add; -1: `sketch` is as it was. Not into itself. */
int64_t sketch_merge(struct sketch *sketch, const struct sketch_rule *rule, const struct sketch *from);

/* out[i] is the value of rank floor(q[i] * (count - 1)), counted from 0, of the values in order: exact up to SKETCH_RAW
 * values, else within the rule's relative error (a step of the subnormals, where that is coarser). NaN if empty, or
 * where q is not in [0, 1]. */
void sketch_quantiles(const struct sketch *sketch, const struct sketch_rule *rule, const double *q, size_t count,
                      double *out);
/* The same of two raw ones at once: out[2 * i] and out[2 * i + 1] are theirs of q[i]. */
void sketch_quantiles_of_two(const struct sketch *const two[2], const double *q, size_t count, double *out);
double sketch_quantile(const struct sketch *sketch, const struct sketch_rule *rule, double q);

/* Values held; and of them those that share the lowest bin though they belong lower: these alone have no guarantee. */
uint64_t sketch_count(const struct sketch *sketch);
uint64_t sketch_collapsed(const struct sketch *sketch);

/* Bytes on the heap. */
size_t sketch_bytes(const struct sketch *sketch);

/* Make it empty; gives back the heap. */
void sketch_clear(struct sketch *sketch);

/* Append what it holds: equal bytes for equal content. False without memory. */
bool sketch_write(const struct sketch *sketch, struct buffer *out);

/* Read into an empty sketch what was written under the same rule. Returns as sketch_add; bytes that are no sketch set
 * cursor->failed, and it stays empty. */
int64_t sketch_read(struct sketch *sketch, const struct sketch_rule *rule, struct cursor *cursor);

#endif
