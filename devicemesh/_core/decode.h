/* Decode plans: where the values of a record lie, compiled once, run on every answer. */
#ifndef DEVICEMESH_DECODE_H
#define DEVICEMESH_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum decode_type { DECODE_UNSIGNED, DECODE_SIGNED, DECODE_FLOAT, DECODE_BOOL };

/* How the 16-bit words of a value lie on the wire; the letters are its bytes, A the most significant.
 * Bit 0: the words come last to first. Bit 1: the bytes inside a word are swapped against that. */
enum decode_order { ORDER_ABCD = 0, ORDER_DCBA = 1, ORDER_BADC = 2, ORDER_CDAB = 3 };

/* One value of the record. `width` bits from bit `shift` of the ordered integer; width 0: all of it. */
struct decode_op {
    size_t offset; /* bytes from the start of the record */
    uint8_t size;  /* 1, 2, 4 or 8 bytes */
    uint8_t type;  /* enum decode_type */
    uint8_t order; /* enum decode_order */
    uint8_t shift;
    uint8_t width;
    bool scaled; /* value = raw * scale + add */
    bool has_null;
    uint64_t null; /* the raw bits that say: there is no value */
    double scale;
    double add;
};

/* What became of a value; the twin of layout.decoding. */
enum decode_state { DECODE_FOUND, DECODE_SHORT, DECODE_NULL };

struct decode_plan {
    size_t count;
    size_t reach; /* a record of at least so many bytes holds every value */
    bool nulls;   /* some op has a null */
    struct decode_op ops[];
};

/* Say what is wrong with an op, or NULL. Only checked ops may enter a plan. */
const char *decode_op_error(const struct decode_op *op);

/* Add a checked op; the plan must have been allocated for `count + 1` of them. */
void decode_plan_add(struct decode_plan *plan, const struct decode_op *op);

/* Whether `state` is needed: else every value is found. */
static inline bool decode_may_miss(const struct decode_plan *plan, size_t length)
{
    return length < plan->reach || plan->nulls;
}

/* Decode into `out[plan->count]`. Never reads past `length`: a value that reaches beyond it, or that is null,
 * becomes NaN (or 0), and `state[i]` says which. `state` is touched only if decode_may_miss. Returns how many
 * are not found. */
size_t decode_doubles(const struct decode_plan *plan, const uint8_t *record, size_t length, double *out,
                      uint8_t *state);

/* The same for integers (no float ops); a uint64 keeps its bit pattern. */
size_t decode_integers(const struct decode_plan *plan, const uint8_t *record, size_t length, int64_t *out,
                       uint8_t *state);

#endif
