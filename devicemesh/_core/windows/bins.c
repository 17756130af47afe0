/* The bins of sketches on the heap. */
#include <stdlib.h>

#include "windows/bins.h"

enum { GROWTH = 16 }; /* bins are allocated in steps of so many */

void bins_put(struct sketch_bins *bins, int32_t key, uint64_t count)
{
    uint32_t at = 0;
    if (key < bins->low)
        bins->collapsed += count;
    else
        at = (uint32_t)(key - bins->low);
    if (bins->wide)
        ((uint64_t *)bins->counts)[at] += count;
    else
        ((uint32_t *)bins->counts)[at] += (uint32_t)count;
}

void tally_put(struct tally *tally, int32_t key, uint64_t count)
{
    if (!count)
        return;
    if (!tally->total || key < tally->low)
        tally->low = key;
    if (!tally->total || key > tally->high)
        tally->high = key;
    tally->total += count;
}

void tally_bins(struct tally *tally, const struct sketch_bins *bins)
{
    for (uint32_t i = 0; i < bins->size; i++)
        tally_put(tally, bins->low + (int32_t)i, bins_at(bins, i));
}

/* Allocate bins in place of `bins` that have room for the keys `lo` to `hi` and for `total` values in one of them. Extra
 * room goes to the side on which they grew. */
static bool bins_allocate(struct sketch_bins *grown, const struct sketch_bins *bins, int32_t lo, int32_t hi,
                          uint32_t max_bins, uint64_t total)
{
    uint32_t span = (uint32_t)(hi - lo) + 1;
    bool below = bins->size && lo < bins->low, above = bins->size && hi >= bins->low + (int32_t)bins->size;
    uint32_t size = below || above ? bins->size + bins->size / 2 : bins->size;
    size = ((size > span ? size : span) + GROWTH - 1) / GROWTH * GROWTH;
    size = size > max_bins ? max_bins : size;
    uint32_t extra = size - span;
    uint32_t extra_below = below && !above ? extra : above && !below ? 0 : extra / 2;
    *grown = (struct sketch_bins){.low = lo - (int32_t)extra_below, .size = size,
                                  .wide = bins->wide || total > UINT32_MAX};
    grown->counts = calloc(1, bins_bytes(grown));
    return grown->counts != NULL;
}

bool bins_grow(struct sketch_bins *grown, const struct sketch_bins *bins, uint32_t max_bins, const struct tally *more)
{
    *grown = *bins;
    if (!more->total)
        return true;
    struct tally all = *more;
    tally_bins(&all, bins);
    int32_t floor_key = all.high - (int32_t)max_bins + 1;
    int32_t low = all.low > floor_key ? all.low : floor_key;
    bool spacious = bins->wide || all.total <= UINT32_MAX;
    if (bins->size && spacious && low >= bins->low && all.high < bins->low + (int32_t)bins->size)
        return true;
    if (!bins_allocate(grown, bins, low, all.high, max_bins, all.total))
        return false;
    for (uint32_t i = 0; i < bins->size; i++) {
        uint64_t count = bins_at(bins, i);
        if (count)
            bins_put(grown, bins->low + (int32_t)i, count);
    }
    if (bins->low == grown->low)
        grown->collapsed = bins->collapsed;
    return true;
}

int64_t bins_replace(struct sketch_bins *bins, const struct sketch_bins *grown)
{
    int64_t bytes = (int64_t)bins_bytes(grown) - (int64_t)bins_bytes(bins);
    if (grown->counts != bins->counts)
        free(bins->counts);
    *bins = *grown;
    return bytes;
}
