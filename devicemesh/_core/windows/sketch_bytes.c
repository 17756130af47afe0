/* Sketches as bytes:
 *   0, count, the values in order                                    raw
 *   1, zeros, then for above and below zero:                         bins
 *      size, and if it is not 0: the lowest key, collapsed, size counts; the first and the last are not 0
 * All but the values are varints. */
#include <math.h>

#include "windows/sketch_internal.h"

#define MOST_COUNTED (UINT64_MAX / 4)

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
    sketch_sort_raw(sketch, sorted);
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
    sketch_survey(sketch, rule, tallies);
    if (sketch_collapsed(sketch) || !sketch_inline_for(&small, tallies))
        return bytes;
    int negative = small.negative;
    for (int32_t key = tallies[negative].low; tallies[negative].total && key <= tallies[negative].high; key++)
        if (!sketch_put(&small, negative, key, bins_at(&sketch->signs[negative], (uint32_t)(key - sketch->signs[negative].low))))
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
    int64_t bytes = sketch_reserve(&read, rule, tallies);
    if (bytes < 0)
        return -1;
    fill(&read.signs[0], &runs[0]);
    fill(&read.signs[1], &runs[1]);
    *sketch = read;
    return settle(sketch, rule, bytes);
}
