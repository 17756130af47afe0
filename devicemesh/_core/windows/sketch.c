#include "windows/sketch.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

enum { GROWTH = 16 }; /* bins are allocated in steps of so many */
#define MOST_COUNTED (UINT64_MAX / 4)

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
        return sketch_key(rule, bits, 0);
    magnitude *= 0x1p52;
    memcpy(&bits, &magnitude, sizeof bits);
    return sketch_key(rule, bits, 52);
}

/* The s of 0 <= s <= 1 where (6 s^3 - 21 s^2 + 50 s) / 35 is `part`, by Newton's method: from s = part, where it is off
 * by less than 0.1, five steps are enough for any. */
static double inverse(double part)
{
    double s = part;
    for (int i = 0; i < 5; i++) {
        double over = ((6.0 / 35 * s - 21.0 / 35) * s + 50.0 / 35) * s - part;
        s -= over / ((18.0 / 35 * s - 42.0 / 35) * s + 50.0 / 35);
    }
    return s;
}

/* The number that is within the relative error of all numbers that have the key. */
static double value_of(const struct sketch_rule *rule, int32_t key)
{
    double low_log = ((double)key - rule->offset) / rule->multiplier;
    double high_log = ((double)key - rule->offset + 1) / rule->multiplier;
    double low_exponent = floor(low_log), high_exponent = floor(high_log);
    double low = 1 + inverse(low_log - low_exponent);
    double high = ldexp(1 + inverse(high_log - high_exponent), (int)(high_exponent - low_exponent));
    double value = ldexp(2 * low / (1 + low / high), (int)low_exponent - 1023);
    return value > DBL_MAX ? DBL_MAX : value;
}

/* ---- bins ---- */

static uint64_t bins_at(const struct sketch_bins *bins, uint32_t at)
{
    return bins->wide ? ((const uint64_t *)bins->counts)[at] : ((const uint32_t *)bins->counts)[at];
}

/* Count `count` values more; the caller knows that the bin is there and holds them. */
static void bins_put(struct sketch_bins *bins, int32_t key, uint64_t count)
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

static size_t bins_bytes(const struct sketch_bins *bins)
{
    return bins->size * (bins->wide ? sizeof(uint64_t) : sizeof(uint32_t));
}

/* Where a sketch's values of one sign lie. */
struct tally {
    int32_t low, high; /* keys */
    uint64_t total;    /* 0: none, and no keys */
};

static void tally_put(struct tally *tally, int32_t key, uint64_t count)
{
    if (!count)
        return;
    if (!tally->total || key < tally->low)
        tally->low = key;
    if (!tally->total || key > tally->high)
        tally->high = key;
    tally->total += count;
}

static void tally_bins(struct tally *tally, const struct sketch_bins *bins)
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

/* Set `grown` to bins that hold what `bins` holds and have room for `more`: to `bins` itself where there is room. The
 * lowest keys share a bin where the span is more than `max_bins`. False without memory. */
static bool bins_grow(struct sketch_bins *grown, const struct sketch_bins *bins, uint32_t max_bins,
                      const struct tally *more)
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

/* Put `grown` in the place of `bins`; returns the bytes that came. */
static int64_t bins_replace(struct sketch_bins *bins, const struct sketch_bins *grown)
{
    int64_t bytes = (int64_t)bins_bytes(grown) - (int64_t)bins_bytes(bins);
    if (grown->counts != bins->counts)
        free(bins->counts);
    *bins = *grown;
    return bytes;
}

/* ---- forms ---- */

static void tally_value(const struct sketch_rule *rule, struct tally tallies[2], double value)
{
    if (value != 0)
        tally_put(&tallies[value < 0], key_of(rule, fabs(value)), 1);
}

/* Add what a sketch holds to `tallies`, by sign. */
static void survey(const struct sketch *sketch, const struct sketch_rule *rule, struct tally tallies[2])
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

/* Count values in a sketch that has room for them; false if an inline bin would overflow. */
static bool put(struct sketch *sketch, int sign, int32_t key, uint64_t count)
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
                fits = put(sketch, value < 0, key_of(rule, fabs(value)), 1) && fits;
        }
        break;
    case SKETCH_IS_INLINE:
        sketch->zeros += from->zeros;
        for (int i = 0; i < SKETCH_INLINE; i++)
            if (from->bins[i])
                fits = put(sketch, from->negative, from->low + i, from->bins[i]) && fits;
        break;
    default:
        sketch->zeros += from->zeros;
        pour_bins(sketch, 0, &from->signs[0]);
        pour_bins(sketch, 1, &from->signs[1]);
    }
    return fits;
}

/* Set `out` to an empty inline sketch for these keys; false if they are of both signs or too far apart. */
static bool inline_for(struct sketch *out, const struct tally tallies[2])
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

/* Give a heap sketch room for what `tallies` say. Returns the bytes that came, -1 without memory: then it is as it was. */
static int64_t reserve(struct sketch *heap, const struct sketch_rule *rule, const struct tally tallies[2])
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
    survey(from, rule, tallies);
    if (sketch->form == SKETCH_IS_HEAP) {
        int64_t bytes = reserve(sketch, rule, tallies);
        if (bytes >= 0)
            pour(sketch, rule, from);
        return bytes;
    }
    survey(sketch, rule, tallies);
    if (from->form != SKETCH_IS_HEAP && inline_for(&merged, tallies) && pour(&merged, rule, sketch) &&
        pour(&merged, rule, from)) {
        *sketch = merged;
        return 0;
    }
    merged = (struct sketch){.form = SKETCH_IS_HEAP};
    int64_t bytes = reserve(&merged, rule, tallies);
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

int64_t sketch_add_slow(struct sketch *sketch, const struct sketch_rule *rule, double value)
{
    if (sketch->form != SKETCH_IS_RAW && value == 0) {
        sketch->zeros++;
        return 0;
    }
    if (sketch->form == SKETCH_IS_HEAP &&
        bins_count(&sketch->signs[value < 0], rule->max_bins, key_of(rule, fabs(value))))
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
    *sketch = (struct sketch){0};
}

/* Counts of one sign as a run of bins, whatever the form. */
struct run {
    const struct sketch_bins *bins; /* NULL: inline */
    const uint16_t *inline_bins;
    int32_t low;
    uint32_t size;
};

static struct run run_of(const struct sketch *sketch, int sign)
{
    if (sketch->form == SKETCH_IS_HEAP)
        return (struct run){&sketch->signs[sign], NULL, sketch->signs[sign].low, sketch->signs[sign].size};
    return (struct run){NULL, sketch->bins, sketch->low, sketch->negative == sign ? SKETCH_INLINE : 0};
}

static uint64_t run_at(const struct run *run, uint32_t at)
{
    return run->bins ? bins_at(run->bins, at) : run->inline_bins[at];
}

/* ---- quantiles ---- */

/* Put two in order, if the second is one of the `count`: all behind those is infinite, and in order already. */
static inline void order(double *v, int low, int high, int count)
{
    if (high >= count)
        return;
    double a = v[low], b = v[high];
    v[low] = b < a ? b : a;
    v[high] = b < a ? a : b;
}

/* v[from] to v[from + 7], by Batcher's odd-even merge sort (Knuth, The Art of Computer Programming 3, 5.3.4): no branch
 * depends on a value. */
static inline void sort_8(double *v, int from, int count)
{
    for (int i = from; i < from + 8; i += 2)
        order(v, i, i + 1, count);
    for (int i = from; i < from + 8; i += 4) {
        order(v, i, i + 2, count);
        order(v, i + 1, i + 3, count);
        order(v, i + 1, i + 2, count);
    }
    for (int i = from; i < from + 4; i++)
        order(v, i, i + 4, count);
    order(v, from + 2, from + 4, count);
    order(v, from + 3, from + 5, count);
    for (int i = from + 1; i < from + 7; i += 2)
        order(v, i, i + 1, count);
}

/* Two sorted runs of 8 into one of 16. */
static inline void merge_8(double *v, int count)
{
    for (int i = 0; i < 8; i++)
        order(v, i, i + 8, count);
    for (int i = 4; i < 8; i++)
        order(v, i, i + 4, count);
    for (int i = 2; i < 14; i += 4) {
        order(v, i, i + 2, count);
        order(v, i + 1, i + 3, count);
    }
    for (int i = 1; i < 15; i += 2)
        order(v, i, i + 1, count);
}

static inline void sort_16(double *v, int count)
{
    sort_8(v, 0, count);
    sort_8(v, 8, count);
    merge_8(v, count);
}

static void sort_raw(double values[SKETCH_RAW], int count)
{
    double v[SKETCH_RAW + 1];
    for (int i = 0; i <= SKETCH_RAW; i++)
        v[i] = i < count ? values[i] : (double)INFINITY;
    /* Constants, so that the compiler leaves out what is not needed: 19, 42 or 63 steps. */
    if (count <= 8)
        sort_8(v, 0, 8);
    else if (count <= 12)
        sort_16(v, 12);
    else
        sort_16(v, 16);
    memcpy(values, v, (size_t)count * sizeof *values);
}

static double value_of_rank(const struct sketch *sketch, const struct sketch_rule *rule, uint64_t rank)
{
    struct run below = run_of(sketch, 1), above = run_of(sketch, 0);
    for (uint32_t i = below.size; i-- > 0;) {
        uint64_t count = run_at(&below, i);
        if (rank < count)
            return -value_of(rule, below.low + (int32_t)i);
        rank -= count;
    }
    if (rank < sketch->zeros)
        return 0;
    rank -= sketch->zeros;
    for (uint32_t i = 0; i < above.size; i++) {
        uint64_t count = run_at(&above, i);
        if (rank < count)
            return value_of(rule, above.low + (int32_t)i);
        rank -= count;
    }
    return (double)NAN; /* not reached: there are more values than the rank */
}

void sketch_quantiles(const struct sketch *sketch, const struct sketch_rule *rule, const double *q, size_t count,
                      double *out)
{
    double sorted[SKETCH_RAW];
    uint64_t total = sketch_count(sketch);
    if (sketch->form == SKETCH_IS_RAW) {
        memcpy(sorted, sketch->raw, sizeof sorted);
        sort_raw(sorted, sketch->raw_count);
    }
    for (size_t i = 0; i < count; i++) {
        out[i] = (double)NAN;
        if (!total || !(q[i] >= 0 && q[i] <= 1))
            continue;
        uint64_t rank = (uint64_t)(q[i] * (double)(total - 1));
        if (rank > total - 1)
            rank = total - 1;
        out[i] = sketch->form == SKETCH_IS_RAW ? sorted[rank] : value_of_rank(sketch, rule, rank);
    }
}

double sketch_quantile(const struct sketch *sketch, const struct sketch_rule *rule, double q)
{
    double value;
    sketch_quantiles(sketch, rule, &q, 1, &value);
    return value;
}

/* ---- bytes ----
 *   0, count, the values in order                                    raw
 *   1, zeros, then for above and below zero:                         bins
 *      size, and if it is not 0: the lowest key, collapsed, size counts; the first and the last are not 0
 * All but the values are varints. */

static bool put_number(struct buffer *out, uint64_t number)
{
    if (!buffer_reserve(out, VARINT_MAX))
        return false;
    out->length = (size_t)(put_varint(out->bytes + out->length, number) - out->bytes);
    return true;
}

static bool write_raw(const struct sketch *sketch, struct buffer *out)
{
    double sorted[SKETCH_RAW];
    memcpy(sorted, sketch->raw, sizeof sorted);
    sort_raw(sorted, sketch->raw_count);
    if (!put_number(out, 0) || !put_number(out, sketch->raw_count) || !buffer_reserve(out, sizeof sorted))
        return false;
    for (int i = 0; i < sketch->raw_count; i++) {
        put_double(out->bytes + out->length, sorted[i]);
        out->length += sizeof(double);
    }
    return true;
}

static bool write_run(const struct run *run, struct buffer *out)
{
    uint32_t first = 0, size = run->size;
    while (size && !run_at(run, size - 1))
        size--;
    while (first < size && !run_at(run, first))
        first++;
    if (!put_number(out, size - first))
        return false;
    if (size == first)
        return true;
    bool written = put_number(out, (uint32_t)run->low + first) &&
                   put_number(out, run->bins ? run->bins->collapsed : 0);
    for (uint32_t i = first; i < size && written; i++)
        written = put_number(out, run_at(run, i));
    return written;
}

bool sketch_write(const struct sketch *sketch, struct buffer *out)
{
    if (sketch->form == SKETCH_IS_RAW)
        return write_raw(sketch, out);
    struct run above = run_of(sketch, 0), below = run_of(sketch, 1);
    return put_number(out, 1) && put_number(out, sketch->zeros) && write_run(&above, out) && write_run(&below, out);
}

static void read_raw(struct sketch *sketch, struct cursor *cursor)
{
    uint64_t count = get_varint(cursor);
    cursor->failed = cursor->failed || count > SKETCH_RAW;
    struct sketch read = {0};
    for (uint64_t i = 0; i < count && !cursor->failed; i++) {
        double value = get_double(cursor);
        if (!isfinite(value) || (i && value < read.raw[i - 1]))
            cursor->failed = true;
        read.raw[read.raw_count++] = value + 0.0;
    }
    if (!cursor->failed)
        *sketch = read;
}

/* One sign's run: its bins' keys and total, the cursor past it; `counts` is where its counts start. */
struct written_run {
    struct tally tally;
    uint64_t collapsed;
    struct cursor counts;
};

static struct written_run read_run(const struct sketch_rule *rule, struct cursor *cursor)
{
    struct written_run run = {0};
    uint64_t size = get_varint(cursor);
    if (!size || cursor->failed)
        return run;
    uint64_t low = get_varint(cursor), first = 0, last = 0;
    run.collapsed = get_varint(cursor);
    run.counts = *cursor;
    if (size > rule->max_bins || low > rule->max_key || size - 1 > rule->max_key - low)
        cursor->failed = true;
    for (uint64_t i = 0; i < size && !cursor->failed; i++) {
        last = get_varint(cursor);
        first = i ? first : last;
        if (last > MOST_COUNTED - run.tally.total)
            cursor->failed = true;
        else
            run.tally.total += last;
    }
    if (!first || !last || (run.collapsed && (size != rule->max_bins || run.collapsed > first)))
        cursor->failed = true;
    run.tally.low = (int32_t)low;
    run.tally.high = (int32_t)(low + size - 1);
    return run;
}

static void fill(struct sketch_bins *bins, struct written_run *run)
{
    for (int32_t key = run->tally.low; run->tally.total && key <= run->tally.high; key++)
        bins_put(bins, key, get_varint(&run->counts));
    bins->collapsed = run->collapsed;
}

/* Give up the heap if there is no need for it. */
static int64_t settle(struct sketch *sketch, const struct sketch_rule *rule, int64_t bytes)
{
    struct tally tallies[2] = {{0}};
    struct sketch small;
    survey(sketch, rule, tallies);
    if (sketch_collapsed(sketch) || !inline_for(&small, tallies))
        return bytes;
    int negative = small.negative;
    for (int32_t key = tallies[negative].low; tallies[negative].total && key <= tallies[negative].high; key++)
        if (!put(&small, negative, key, bins_at(&sketch->signs[negative], (uint32_t)(key - sketch->signs[negative].low))))
            return bytes;
    small.zeros = sketch->zeros;
    sketch_clear(sketch);
    *sketch = small;
    return 0;
}

int64_t sketch_read(struct sketch *sketch, const struct sketch_rule *rule, struct cursor *cursor)
{
    uint64_t form = get_varint(cursor);
    if (form == 0) {
        read_raw(sketch, cursor);
        return 0;
    }
    uint64_t zeros = get_varint(cursor);
    struct written_run runs[2];
    runs[0] = read_run(rule, cursor);
    runs[1] = read_run(rule, cursor);
    if (form != 1 || zeros > MOST_COUNTED || zeros + runs[0].tally.total + runs[1].tally.total <= SKETCH_RAW)
        cursor->failed = true;
    if (cursor->failed)
        return 0;
    struct tally tallies[2] = {runs[0].tally, runs[1].tally};
    struct sketch read = {.form = SKETCH_IS_HEAP, .zeros = zeros};
    int64_t bytes = reserve(&read, rule, tallies);
    if (bytes < 0)
        return -1;
    fill(&read.signs[0], &runs[0]);
    fill(&read.signs[1], &runs[1]);
    *sketch = read;
    return settle(sketch, rule, bytes);
}
