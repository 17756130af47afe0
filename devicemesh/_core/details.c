#include "details.h"

#include <math.h>
#include <stdlib.h>

#include "record.h"

static const double RELATIVE_ERROR = 0.01;
enum { MAX_BINS = 2048 }; /* of each sign */

struct details *details_new(void)
{
    return calloc(1, sizeof(struct details));
}

void details_free(struct details *details)
{
    if (details)
        sketch_clear(&details->sketch);
    free(details);
}

size_t details_bytes(const struct details *details)
{
    return sizeof *details + sketch_bytes(&details->sketch);
}

void details_hold(struct details *details, const struct steps *steps, int64_t from, int64_t until)
{
    if (!steps->known || from >= until)
        return;
    int64_t held = until - from;
    if (!details->known_ns)
        details->base = steps->last;
    details->known_ns += held;
    details->held += (steps->last - details->base) * (double)held;
    details->extra.nonzero_ns += steps->last != 0 ? held : 0;
}

void details_step(struct details *details, struct steps *steps, int64_t time, double number)
{
    steps->seen = true;
    steps->time = steps->until = time;
    steps->known = !isnan(number);
    if (!steps->known)
        return;
    if (steps->valued)
        extra_step(&details->extra, steps->last, number);
    steps->valued = true;
    steps->last = number;
}

void details_rule(struct sketch_rule *rule)
{
    (void)sketch_rule_init(rule, RELATIVE_ERROR, MAX_BINS); /* they are within its bounds */
}

size_t details_sketch(struct details *details, const struct sketch_rule *rule, double number)
{
    int64_t grown = sketch_add(&details->sketch, rule, number);
    details->unsketched |= grown < 0;
    return grown > 0 ? (size_t)grown : 0;
}

double details_time_average(const struct details *details)
{
    double average = details->base + details->held / (double)details->known_ns;
    return details->known_ns && isfinite(average) ? average : (double)NAN;
}

void details_quantiles(const struct details *details, const struct sketch_rule *rule, const uint32_t *quantiles,
                       uint32_t count, double *values)
{
    double asked[QUANTILES_MOST];
    for (uint32_t i = 0; i < count; i++) {
        asked[i] = (double)quantiles[i] / QUANTILE_WHOLE;
        values[i] = (double)NAN;
    }
    if (!details->unsketched)
        sketch_quantiles(&details->sketch, rule, asked, count, values);
}
