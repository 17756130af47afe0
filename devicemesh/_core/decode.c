#include "decode.h"

#include <math.h>
#include <string.h>

static uint64_t load_big(const uint8_t *at, unsigned size)
{
    switch (size) {
    case 1:
        return at[0];
    case 2:
        return (uint64_t)at[0] << 8 | at[1];
    case 4:
        return (uint64_t)at[0] << 24 | (uint64_t)at[1] << 16 | (uint64_t)at[2] << 8 | at[3];
    default:
        return load_big(at, 4) << 32 | load_big(at + 4, 4);
    }
}

static uint64_t load_little(const uint8_t *at, unsigned size)
{
    switch (size) {
    case 1:
        return at[0];
    case 2:
        return (uint64_t)at[1] << 8 | at[0];
    case 4:
        return (uint64_t)at[3] << 24 | (uint64_t)at[2] << 16 | (uint64_t)at[1] << 8 | at[0];
    default:
        return load_little(at + 4, 4) << 32 | load_little(at, 4);
    }
}

static uint64_t swap_bytes_in_words(uint64_t raw)
{
    const uint64_t low = 0x00FF00FF00FF00FFu;
    return (raw & low) << 8 | (raw >> 8 & low);
}

/* The ordered integer of op->size bytes, its bit field cut out. */
static uint64_t load(const uint8_t *record, const struct decode_op *op)
{
    const uint8_t *at = record + op->offset;
    uint64_t raw = op->order & 1 ? load_little(at, op->size) : load_big(at, op->size);
    if (op->order & 2 && op->size > 1)
        raw = swap_bytes_in_words(raw);
    if (op->width)
        raw = raw >> op->shift & (UINT64_MAX >> (64 - op->width));
    return raw;
}

static int64_t sign_extend(uint64_t raw, unsigned bits)
{
    uint64_t sign = (uint64_t)1 << (bits - 1); /* NOLINT(clang-analyzer-core.UndefinedBinaryOperatorResult): 1 to 64 */
    uint64_t extended = (raw ^ sign) - sign;
    int64_t value;
    memcpy(&value, &extended, sizeof value);
    return value;
}

static unsigned op_bits(const struct decode_op *op)
{
    return op->width ? op->width : op->size * 8u;
}

/* The bits that an op's raw value can have. */
static uint64_t op_mask(const struct decode_op *op)
{
    return UINT64_MAX >> (64 - op_bits(op)); /* NOLINT(clang-analyzer-core.UndefinedBinaryOperatorResult): 1 to 64 */
}

/* IEEE 754 binary16: every one of them is a double. */
static double half(uint64_t raw)
{
    int exponent = (int)(raw >> 10 & 31);
    double fraction = (double)(raw & 1023);
    double magnitude;
    if (exponent == 31)
        magnitude = fraction != 0 ? (double)NAN : (double)INFINITY;
    else if (exponent == 0)
        magnitude = ldexp(fraction, -24);
    else
        magnitude = ldexp(fraction + 1024, exponent - 25);
    return raw & 0x8000 ? -magnitude : magnitude;
}

static double to_float(uint64_t raw, unsigned size)
{
    if (size == 8) {
        double value;
        memcpy(&value, &raw, sizeof value);
        return value;
    }
    if (size == 4) {
        uint32_t bits = (uint32_t)raw;
        float value;
        memcpy(&value, &bits, sizeof value);
        return (double)value;
    }
    return half(raw);
}

static double decode_double(const uint8_t *record, const struct decode_op *op)
{
    uint64_t raw = load(record, op);
    double value;
    switch (op->type) {
    case DECODE_UNSIGNED:
        value = (double)raw;
        break;
    case DECODE_SIGNED:
        value = (double)sign_extend(raw, op_bits(op));
        break;
    case DECODE_FLOAT:
        value = to_float(raw, op->size);
        break;
    default:
        value = raw != 0;
    }
    return op->scaled ? value * op->scale + op->add : value;
}

static int64_t decode_integer(const uint8_t *record, const struct decode_op *op)
{
    uint64_t raw = load(record, op);
    if (op->type == DECODE_BOOL)
        return raw != 0;
    return sign_extend(raw, op->type == DECODE_SIGNED ? op_bits(op) : 64);
}

const char *decode_op_error(const struct decode_op *op)
{
    if (op->size != 1 && op->size != 2 && op->size != 4 && op->size != 8)
        return "the size must be 1, 2, 4 or 8 bytes";
    if (op->offset > SIZE_MAX - 8)
        return "the offset is too large";
    if (op->type > DECODE_BOOL)
        return "unknown type";
    if (op->order > ORDER_CDAB)
        return "unknown order";
    if (op->type == DECODE_FLOAT && (op->size == 1 || op->width))
        return "a float has 2, 4 or 8 bytes and no bit field";
    if (op->width > 64 || op->shift + op->width > op->size * 8 || (op->shift && !op->width))
        return "the bit field reaches out of its integer";
    return NULL;
}

void decode_plan_add(struct decode_plan *plan, const struct decode_op *op)
{
    plan->ops[plan->count++] = *op;
    plan->nulls |= op->has_null;
    if (op->offset + op->size > plan->reach)
        plan->reach = op->offset + op->size;
}

static bool fits(const struct decode_op *op, size_t length)
{
    return op->offset <= length && op->size <= length - op->offset;
}

/* Whether an op can be read, and has something to say. */
static enum decode_state look(const uint8_t *record, size_t length, const struct decode_op *op)
{
    if (!fits(op, length))
        return DECODE_SHORT;
    return op->has_null && load(record, op) == (op->null & op_mask(op)) ? DECODE_NULL : DECODE_FOUND;
}

size_t decode_doubles(const struct decode_plan *plan, const uint8_t *record, size_t length, double *out,
                      uint8_t *state)
{
    size_t missing = 0;
    if (!decode_may_miss(plan, length)) {
        for (size_t i = 0; i < plan->count; i++)
            out[i] = decode_double(record, &plan->ops[i]);
        return 0;
    }
    for (size_t i = 0; i < plan->count; i++) {
        state[i] = (uint8_t)look(record, length, &plan->ops[i]);
        out[i] = state[i] == DECODE_FOUND ? decode_double(record, &plan->ops[i]) : (double)NAN;
        missing += state[i] != DECODE_FOUND;
    }
    return missing;
}

size_t decode_integers(const struct decode_plan *plan, const uint8_t *record, size_t length, int64_t *out,
                       uint8_t *state)
{
    size_t missing = 0;
    if (!decode_may_miss(plan, length)) {
        for (size_t i = 0; i < plan->count; i++)
            out[i] = decode_integer(record, &plan->ops[i]);
        return 0;
    }
    for (size_t i = 0; i < plan->count; i++) {
        state[i] = (uint8_t)look(record, length, &plan->ops[i]);
        out[i] = state[i] == DECODE_FOUND ? decode_integer(record, &plan->ops[i]) : 0;
        missing += state[i] != DECODE_FOUND;
    }
    return missing;
}
