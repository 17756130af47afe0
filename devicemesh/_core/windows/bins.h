/* The bins of sketches on the heap: counts by key, and where they lie. */
#ifndef DEVICEMESH_WINDOWS_BINS_H
#define DEVICEMESH_WINDOWS_BINS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Counts by key: bins[i] counts the key `low + i`. Keys below `low` are in bins[0] once `collapsed` is not 0. */
struct sketch_bins {
    void *counts; /* uint32_t, or uint64_t if `wide` */
    int32_t low;
    uint32_t size : 31;
    uint32_t wide : 1;
    uint64_t collapsed; /* values whose own key is below `low` */
};

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

/* Set `grown` to bins that hold what `bins` holds and have room for `more`: to `bins` itself where there is room. The
 * lowest keys share a bin where the span is more than `max_bins`. False without memory. */
bool bins_grow(struct sketch_bins *grown, const struct sketch_bins *bins, uint32_t max_bins, const struct tally *more);

/* Put `grown` in the place of `bins`; returns the bytes that came. */
int64_t bins_replace(struct sketch_bins *bins, const struct sketch_bins *grown);

#endif
