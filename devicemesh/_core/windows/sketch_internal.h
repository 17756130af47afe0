/* What the sources of sketches share. */
#ifndef DEVICEMESH_WINDOWS_SKETCH_INTERNAL_H
#define DEVICEMESH_WINDOWS_SKETCH_INTERNAL_H

#include "windows/sketch.h"

/* ---- bins ---- */

static inline uint64_t bins_at(const struct sketch_bins *bins, uint32_t at)
{
    return bins->wide ? ((const uint64_t *)bins->counts)[at] : ((const uint32_t *)bins->counts)[at];
}

static inline size_t bins_bytes(const struct sketch_bins *bins)
{
    return bins->size * (bins->wide ? sizeof(uint64_t) : sizeof(uint32_t));
}

/* Count `count` values more; the caller knows that the bin is there and holds them. */
void bins_put(struct sketch_bins *bins, int32_t key, uint64_t count);

/* Where a sketch's values of one sign lie. */
struct tally {
    int32_t low, high; /* keys */
    uint64_t total;    /* 0: none, and no keys */
};

void tally_put(struct tally *tally, int32_t key, uint64_t count);
void tally_bins(struct tally *tally, const struct sketch_bins *bins);

/* Give a heap sketch room for what `tallies` say, by sign. Returns the bytes that came, -1 without memory: then it is as it
 * was. */
int64_t sketch_reserve(struct sketch *heap, const struct sketch_rule *rule, const struct tally tallies[2]);

/* ---- forms ---- */

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
