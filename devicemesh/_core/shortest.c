/* Raffaello Giulietti, "The Schubfach way to render doubles" (2021). Names follow the paper: v = c * 2^q is
 * the number, the interval around it holds all reals that round to it, 10^k is the largest power of ten
 * that is no longer than the interval, so that one or two multiples of it lie inside. */
#include "shortest.h"

#include <stdbool.h>
#include <string.h>

#include "pow10.h"

struct decimal {
    uint64_t digits;
    int exponent; /* value = digits * 10^exponent */
};

static const char PAIRS[201] = "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
                               "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
                               "8081828384858687888990919293949596979899";

static void multiply(uint64_t a, uint64_t b, uint64_t *high, uint64_t *low)
{
#ifdef __SIZEOF_INT128__
    unsigned __int128 product = (unsigned __int128)a * b;
    *high = (uint64_t)(product >> 64);
    *low = (uint64_t)product;
#else
    uint64_t a0 = (uint32_t)a, a1 = a >> 32, b0 = (uint32_t)b, b1 = b >> 32;
    uint64_t low_low = a0 * b0, high_low = a1 * b0, low_high = a0 * b1;
    uint64_t middle = (low_low >> 32) + (uint32_t)high_low + (uint32_t)low_high;
    *high = a1 * b1 + (high_low >> 32) + (low_high >> 32) + (middle >> 32);
    *low = middle << 32 | (uint32_t)low_low;
#endif
}

/* Shifts of negative numbers are arithmetic in every compiler we build with. */
static int floor_log10_pow2(int e, bool three_quarters)
{
    return (e * 1262611 - (three_quarters ? 524031 : 0)) >> 22;
}

static int floor_log2_pow10(int e)
{
    return (e * 1741647) >> 19;
}

/* floor(g * c / 2^128), its last bit set if anything was cut off. */
static uint64_t round_to_odd_128(const uint64_t g[2], uint64_t c)
{
    uint64_t low_high, low_low, high_high, high_low;
    multiply(g[1], c, &low_high, &low_low);
    multiply(g[0], c, &high_high, &high_low);
    uint64_t rest = high_low + low_high;
    high_high += rest < high_low;
    return high_high | (rest > 1);
}

/* The same with 64 bits of the power, which is enough for a float32. */
static uint64_t round_to_odd_64(const uint64_t g[2], uint64_t c)
{
    uint64_t high, low;
    multiply(g[0] + (g[1] != 0), c, &high, &low);
    return high | ((low >> 32) > 1);
}

typedef uint64_t (*scale_function)(const uint64_t g[2], uint64_t c);

static inline struct decimal schubfach(uint64_t c, int q, bool lower_is_closer, scale_function scale)
{
    int k = floor_log10_pow2(q, lower_is_closer);
    int h = q + floor_log2_pow10(-k) + 1;
    const uint64_t *g = POW10[-k - POW10_SMALLEST];
    bool odd = c & 1; /* an even c owns the ends of its interval */
    uint64_t lower = scale(g, (4 * c - 2 + lower_is_closer) << h) + odd;
    uint64_t middle = scale(g, (4 * c) << h);
    uint64_t upper = scale(g, (4 * c + 2) << h) - odd;
    uint64_t s = middle / 4;
    if (s >= 10) {
        uint64_t tens = s / 10;
        bool down_inside = lower <= 40 * tens;
        bool up_inside = 40 * tens + 40 <= upper;
        if (down_inside != up_inside)
            return (struct decimal){tens + up_inside, k + 1};
    }
    bool down_inside = lower <= 4 * s;
    bool up_inside = 4 * s + 4 <= upper;
    if (down_inside != up_inside)
        return (struct decimal){s + up_inside, k};
    uint64_t half = 4 * s + 2;
    bool up = middle > half || (middle == half && (s & 1));
    return (struct decimal){s + up, k};
}

static unsigned count_digits(uint64_t value)
{
    unsigned count = 1;
    for (; value >= 10000; value /= 10000)
        count += 4;
    return count + (value >= 10) + (value >= 100) + (value >= 1000);
}

/* Write exactly `count` digits. */
static void put_digits(uint64_t value, unsigned count, char *out)
{
    for (; count >= 2; count -= 2, value /= 100)
        memcpy(out + count - 2, PAIRS + value % 100 * 2, 2);
    if (count)
        out[0] = (char)('0' + value % 10);
}

size_t decimal_unsigned(uint64_t value, char *out)
{
    unsigned count = count_digits(value);
    put_digits(value, count, out);
    return count;
}

size_t decimal_integer(int64_t value, char *out)
{
    if (value >= 0)
        return decimal_unsigned((uint64_t)value, out);
    out[0] = '-';
    return 1 + decimal_unsigned(-(uint64_t)value, out + 1);
}

static struct decimal without_trailing_zeros(struct decimal d)
{
    static const struct {
        uint64_t divisor;
        int zeros;
    } steps[] = {{100000000, 8}, {10000, 4}, {100, 2}, {10, 1}};
    for (int i = 0; i < 4; i++) {
        while (d.digits % steps[i].divisor == 0) {
            d.digits /= steps[i].divisor;
            d.exponent += steps[i].zeros;
        }
    }
    return d;
}

static size_t put_exponent(int exponent, char *out)
{
    size_t at = 0;
    out[at++] = 'e';
    out[at++] = exponent < 0 ? '-' : '+';
    unsigned magnitude = (unsigned)(exponent < 0 ? -exponent : exponent);
    unsigned count = magnitude >= 100 ? 3 : 2;
    put_digits(magnitude, count, out + at);
    return at + count;
}

/* Lay out digits > 0 as repr does: fixed for 1e-4 <= value < 1e16, else with an exponent. */
static size_t put_decimal(struct decimal d, char *out)
{
    d = without_trailing_zeros(d);
    unsigned count = count_digits(d.digits);
    int point = (int)count + d.exponent; /* digits before the point */
    if (point <= -4 || point > 16) {
        put_digits(d.digits, count, out + 1);
        out[0] = out[1];
        size_t length = 1;
        if (count > 1) {
            out[1] = '.';
            length = count + 1;
        }
        return length + put_exponent(point - 1, out + length);
    }
    if (point <= 0) {
        memcpy(out, "0.0000", 6);
        put_digits(d.digits, count, out + 2 - point);
        return 2 + (size_t)-point + count;
    }
    size_t before = (size_t)point;
    if (count > before) {
        put_digits(d.digits, count, out + 1);
        memmove(out, out + 1, before);
        out[before] = '.';
        return count + 1;
    }
    put_digits(d.digits, count, out);
    memset(out + count, '0', before - count);
    memcpy(out + before, ".0", 2);
    return before + 2;
}

static size_t put_whole(uint64_t value, char *out)
{
    size_t length = decimal_unsigned(value, out);
    memcpy(out + length, ".0", 2);
    return length + 2;
}

size_t shortest_double(double value, char *out)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    size_t sign = bits >> 63;
    out[0] = '-';
    out += sign;
    uint64_t fraction = bits & (((uint64_t)1 << 52) - 1);
    int biased = (int)(bits >> 52 & 2047);
    double magnitude = sign ? -value : value;
    if (magnitude < 9007199254740992.0) { /* 2^53: below, a whole number is its own shortest form */
        uint64_t whole = (uint64_t)magnitude;
        if ((double)whole == magnitude)
            return sign + put_whole(whole, out);
    }
    uint64_t c = biased ? fraction | (uint64_t)1 << 52 : fraction;
    int q = (biased ? biased : 1) - 1075;
    return sign + put_decimal(schubfach(c, q, fraction == 0 && biased > 1, round_to_odd_128), out);
}

size_t shortest_float(float value, char *out)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    size_t sign = bits >> 31;
    out[0] = '-';
    out += sign;
    uint32_t fraction = bits & 0x7FFFFF;
    int biased = (int)(bits >> 23 & 255);
    float magnitude = sign ? -value : value;
    if (magnitude < 16777216.0f) { /* 2^24 */
        uint64_t whole = (uint64_t)magnitude;
        if ((float)whole == magnitude)
            return sign + put_whole(whole, out);
    }
    uint64_t c = biased ? fraction | 0x800000 : fraction;
    int q = (biased ? biased : 1) - 150;
    return sign + put_decimal(schubfach(c, q, fraction == 0 && biased > 1, round_to_odd_64), out);
}
