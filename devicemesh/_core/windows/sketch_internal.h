/* What the sources of sketches share. */
#ifndef DEVICEMESH_WINDOWS_SKETCH_INTERNAL_H
#define DEVICEMESH_WINDOWS_SKETCH_INTERNAL_H

#include "windows/sketch.h"

/* Give a heap sketch room for what `tallies` say, by sign. Returns the bytes that came, -1 without memory: then it is as it
 * was. */
int64_t sketch_reserve(struct sketch *heap, const struct sketch_rule *rule, const struct tally tallies[2]);

/* Add what a sketch holds to `tallies`, by sign. */
void sketch_survey(const struct sketch *sketch, const struct sketch_rule *rule, struct tally tallies[2]);

/* Set `out` to an empty inline sketch for these keys; false if they are of both signs or too far apart. */
bool sketch_inline_for(struct sketch *out, const struct tally tallies[2]);

/* Count values in a sketch that has room for them; false if an inline bin would overflow. */
bool sketch_put(struct sketch *sketch, int sign, int32_t key, uint64_t count);

/* Counts of one sign as a run of bins, whatever the form. */
struct run {
    const struct sketch_bins *bins; /* NULL: inline */
    const uint16_t *inline_bins;
    int32_t low;
    uint32_t size;
};

static inline struct run run_of(const struct sketch *sketch, int sign)
{
    if (sketch->form == SKETCH_IS_HEAP)
        return (struct run){&sketch->signs[sign], NULL, sketch->signs[sign].low, sketch->signs[sign].size};
    return (struct run){NULL, sketch->bins, sketch->low, sketch->negative == sign ? SKETCH_INLINE : 0};
}

static inline uint64_t run_at(const struct run *run, uint32_t at)
{
    return run->bins ? bins_at(run->bins, at) : run->inline_bins[at];
}

/* The values of a raw sketch in order. */
void sketch_sort_raw(const struct sketch *sketch, double sorted[SKETCH_RAW]);

#endif
