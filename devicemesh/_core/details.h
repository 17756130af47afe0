/* What few windows of a device's series are asked for: weights by time, steps from value to value, quantiles.
 *
 * A value holds until the next row of its series, also across windows, and until the end of its window while there is no
 * next one. After a row without a value nothing is known until the next value (OPC UA Part 13, stepped). A row that is
 * older than the newest of its series has no weight in time and is no step. */
#ifndef DEVICEMESH_DETAILS_H
#define DEVICEMESH_DETAILS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "windows/extra.h"
#include "windows/sketch.h"

/* The newest row of a series. All zero: none yet. */
struct steps {
    int64_t time;
    int64_t until; /* up to here its value has its weight in the windows */
    double last; /* the newest value, if `valued` */
    bool seen;
    bool valued;
    bool known; /* the newest row has that value */
};

struct details {
    struct sketch sketch;
    bool unsketched;    /* for a value there was no memory: no quantile is known */
    struct extra extra; /* of which nonzero_ns, increase, transitions and resets are used */
    int64_t known_ns;
    double base; /* the value that was known first */
    double held; /* integral of (value - base) over the known time, in ns */
};

/* NULL without memory. */
struct details *details_new(void);
void details_free(struct details *details); /* or NULL */

/* Bytes that it takes, its sketch's heap among them. */
size_t details_bytes(const struct details *details);

/* Nothing new came from `from` until `until`. */
void details_hold(struct details *details, const struct steps *steps, int64_t from, int64_t until);

/* A row that is no older than the newest came: its value, or NaN. */
void details_step(struct details *details, struct steps *steps, int64_t time, double number);

/* A value for the quantiles. Returns the bytes newly allocated. */
size_t details_sketch(struct details *details, const struct sketch_rule *rule, double number);

/* Results; NaN where there is none. Quantiles are in thousandths of a percent. */
double details_time_average(const struct details *details);
void details_quantiles(const struct details *details, const struct sketch_rule *rule, const uint32_t *quantiles,
                       uint32_t count, double *values);

/* What all quantiles have in common: a relative error of 1 %, of values from 1e-9 to 1e9 and back to -1e-9 to -1e9. */
void details_rule(struct sketch_rule *rule);

#endif
