#include "windows/sketch.h"

#include <math.h>
#include <stdlib.h>

#include "windows/sketch_internal.h"

/* ---- keys ---- */

bool sketch_rule_init(struct sketch_rule *rule, double relative_error, uint32_t max_bins)
{
    if (!(relative_error >= 1e-4 && relative_error <= 0.5) || max_bins < SKETCH_MIN_BINS || max_bins > SKETCH_MAX_BINS)
        return false;
    double log_gamma = log((1 + relative_error) / (1 - relative_error));
    rule->multiplier = 0.7 / log_gamma * (1 + 0x1p-20);
    rule->offset = ceil(52 * rule->multiplier); /* the smallest subnormal is 52 halvings below the normal numbers */
    rule->max_bins = max_bins;
    rule->max_key = (uint32_t)(2047 * rule->multiplier + rule->offset);
    return true;
}

/* The key of a finite number above zero. */
static int32_t key_of(const struct sketch_rule *rule, double magnitude)
{
    uint64_t bits;
    memcpy(&bits, &magnitude, sizeof bits);
    if (sketch_is_normal(bits))
        return sketch_key(rule, sketch_log(magnitude));
    return sketch_key(rule, sketch_log(magnitude * 0x1p52) - 52);
}

/* ---- forms ---- */

static void tally_value(const struct sketch_rule *rule, struct tally tallies[2], double value)
{
    if (value != 0)
        tally_put(&tallies[value < 0], key_of(rule, fabs(value)), 1);
}

void sketch_survey(const struct sketch *sketch, const struct sketch_rule *rule, struct tally tallies[2])
{
    switch (sketch->form) {
    case SKETCH_IS_RAW:
        for (int i = 0; i < sketch->raw_count; i++)
            tally_value(rule, tallies, sketch->raw[i]);
        break;
    case SKETCH_IS_INLINE:
        for (int i = 0; i < SKETCH_INLINE; i++)
            tally_put(&tallies[sketch->negative], sketch->low + i, sketch->bins[i]);
        break;
    default:
        tally_bins(&tallies[0], &sketch->signs[0]);
        tally_bins(&tallies[1], &sketch->signs[1]);
    }
}

bool sketch_put(struct sketch *sketch, int sign, int32_t key, uint64_t count)
{
    if (sketch->form == SKETCH_IS_HEAP) {
        bins_put(&sketch->signs[sign], key, count);
        return true;
    }
    uint16_t *bin = &sketch->bins[key - sketch->low];
    if (count > (uint64_t)(UINT16_MAX - *bin))
        return false;
    *bin = (uint16_t)(*bin + count);
    return true;
}

int64_t sketch_reserve(struct sketch *heap, const struct sketch_rule *rule, const struct tally tallies[2])
{
    struct sketch_bins grown[2];
    if (!bins_grow(&grown[0], &heap->signs[0], rule->max_bins, &tallies[0]))
        return -1;
    if (!bins_grow(&grown[1], &heap->signs[1], rule->max_bins, &tallies[1])) {
        if (grown[0].counts != heap->signs[0].counts)
            free(grown[0].counts);
        return -1;
    }
    int64_t bytes = bins_replace(&heap->signs[0], &grown[0]);
    return bytes + bins_replace(&heap->signs[1], &grown[1]);
}

static void pour_bins(struct sketch *sketch, int sign, const struct sketch_bins *bins)
{
    struct sketch_bins *into = &sketch->signs[sign];
    for (uint32_t i = 0; i < bins->size; i++) {
        uint64_t count = bins_at(bins, i);
        if (count)
            bins_put(into, bins->low + (int32_t)i, count);
    }
    if (bins->collapsed && bins->low == into->low)
        into->collapsed += bins->collapsed;
}

/* Add all of `from` to a sketch in bins that has room for it; false as put. A heap goes into a heap only. */
static bool pour(struct sketch *sketch, const struct sketch_rule *rule, const struct sketch *from)
{
    bool fits = true;
    switch (from->form) {
    case SKETCH_IS_RAW:
        for (int i = 0; i < from->raw_count; i++) {
            double value = from->raw[i];
            if (value == 0)
                sketch->zeros++;
            else
                fits = sketch_put(sketch, value < 0, key_of(rule, fabs(value)), 1) && fits;
        }
        break;
    case SKETCH_IS_INLINE:
        sketch->zeros += from->zeros;
        for (int i = 0; i < SKETCH_INLINE; i++)
            if (from->bins[i])
                fits = sketch_put(sketch, from->negative, from->low + i, from->bins[i]) && fits;
        break;
    default:
        sketch->zeros += from->zeros;
        pour_bins(sketch, 0, &from->signs[0]);
        pour_bins(sketch, 1, &from->signs[1]);
    }
    return fits;
}

bool sketch_inline_for(struct sketch *out, const struct tally tallies[2])
{
    if (tallies[0].total && tallies[1].total)
        return false;
    bool negative = tallies[1].total != 0;
    const struct tally *tally = &tallies[negative];
    int32_t span = tally->high - tally->low + 1;
    if (span > SKETCH_INLINE)
        return false;
    *out = (struct sketch){.form = SKETCH_IS_INLINE, .negative = negative};
    out->low = tally->low - (SKETCH_INLINE - span) / 2;
    return true;
}

/* ---- adding ---- */

static bool merge_raw(struct sketch *sketch, const struct sketch *from)
{
    if (sketch->form != SKETCH_IS_RAW || from->form != SKETCH_IS_RAW || sketch->raw_count + from->raw_count > SKETCH_RAW)
        return false;
    memcpy(sketch->raw + sketch->raw_count, from->raw, from->raw_count * sizeof *from->raw);
    sketch->raw_count = (uint8_t)(sketch->raw_count + from->raw_count);
    return true;
}

int64_t sketch_merge(struct sketch *sketch, const struct sketch_rule *rule, const struct sketch *from)
{
    if (merge_raw(sketch, from))
        return 0;
    struct tally tallies[2] = {{0}};
    struct sketch merged;
    sketch_survey(from, rule, tallies);
    if (sketch->form == SKETCH_IS_HEAP) {
        int64_t bytes = sketch_reserve(sketch, rule, tallies);
        if (bytes >= 0)
            pour(sketch, rule, from);
        return bytes;
    }
    sketch_survey(sketch, rule, tallies);
    if (from->form != SKETCH_IS_HEAP && sketch_inline_for(&merged, tallies) && pour(&merged, rule, sketch) &&
        pour(&merged, rule, from)) {
        *sketch = merged;
        return 0;
    }
    merged = (struct sketch){.form = SKETCH_IS_HEAP};
    int64_t bytes = sketch_reserve(&merged, rule, tallies);
    if (bytes >= 0) {
        pour(&merged, rule, sketch);
        pour(&merged, rule, from);
        *sketch = merged;
    }
    return bytes;
}

/* Count one value in a bin that is there; false if none is. */
static bool bins_count(struct sketch_bins *bins, uint32_t max_bins, int32_t key)
{
    uint32_t at = (uint32_t)(key - bins->low);
    if (at >= bins->size) {
        /* Below all bins, and they can't be moved down: their highest is in use. */
        if (bins->size != max_bins || key > bins->low || !bins_at(bins, bins->size - 1))
            return false;
        at = 0;
    }
    if (!bins->wide && ((uint32_t *)bins->counts)[at] == UINT32_MAX)
        return false;
    bins_put(bins, key, 1);
    return true;
}

/* Count a full raw sketch's values, and one more, by key inline; false if they do not fit, and nothing has happened: as
 * sketch_merge would, of normal numbers, but each key is worked out once. */
static bool spread(struct sketch *sketch, const struct sketch_rule *rule, double value)
{
    int32_t keys[SKETCH_RAW + 1], lowest = INT32_MAX, highest = INT32_MIN;
    for (int i = 0; i <= SKETCH_RAW; i++)
        keys[i] = (int32_t)sketch_signed_key(rule, i < SKETCH_RAW ? sketch->raw[i] : value);
    for (int i = 0; i <= SKETCH_RAW; i++) {
        lowest = keys[i] < lowest ? keys[i] : lowest;
        highest = keys[i] > highest ? keys[i] : highest;
    }
    if (lowest == INT32_MIN || (lowest < 0 && highest > 0))
        return false;
    bool negative = lowest < 0;
    struct tally tallies[2] = {{0}};
    tallies[negative] = (struct tally){negative ? -highest : lowest, negative ? -lowest : highest, SKETCH_RAW + 1};
    if (!sketch_inline_for(sketch, tallies))
        return false;
    for (int i = 0; i <= SKETCH_RAW; i++)
        sketch->bins[abs(keys[i]) - sketch->low]++;
    return true;
}

int64_t sketch_add_slow(struct sketch *sketch, const struct sketch_rule *rule, double value)
{
    if (sketch->form != SKETCH_IS_RAW && value == 0) {
        sketch->zeros++;
        return 0;
    }
    if (sketch->form == SKETCH_IS_HEAP &&
        bins_count(&sketch->signs[value < 0], rule->max_bins, key_of(rule, fabs(value))))
        return 0;
    if (sketch->form == SKETCH_IS_RAW && sketch->raw_count == SKETCH_RAW && spread(sketch, rule, value))
        return 0;
    struct sketch one = {.raw_count = 1};
    one.raw[0] = value + 0.0;
    return sketch_merge(sketch, rule, &one);
}

/* ---- looking ---- */

uint64_t sketch_count(const struct sketch *sketch)
{
    if (sketch->form == SKETCH_IS_RAW)
        return sketch->raw_count;
    uint64_t count = sketch->zeros;
    if (sketch->form == SKETCH_IS_INLINE) {
        for (int i = 0; i < SKETCH_INLINE; i++)
            count += sketch->bins[i];
        return count;
    }
    for (int sign = 0; sign < 2; sign++)
        for (uint32_t i = 0; i < sketch->signs[sign].size; i++)
            count += bins_at(&sketch->signs[sign], i);
    return count;
}

uint64_t sketch_collapsed(const struct sketch *sketch)
{
    return sketch->form == SKETCH_IS_HEAP ? sketch->signs[0].collapsed + sketch->signs[1].collapsed : 0;
}

size_t sketch_bytes(const struct sketch *sketch)
{
    return sketch->form == SKETCH_IS_HEAP ? bins_bytes(&sketch->signs[0]) + bins_bytes(&sketch->signs[1]) : 0;
}

void sketch_clear(struct sketch *sketch)
{
    if (sketch->form == SKETCH_IS_HEAP) {
        free(sketch->signs[0].counts);
        free(sketch->signs[1].counts);
    }
    sketch->form = SKETCH_IS_RAW;
    sketch->raw_count = 0; /* what it held stays, and means nothing */
}
