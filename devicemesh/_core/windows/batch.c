/* Rows of the one group, a chunk at a time: what can be said of a row without its series is said of many at once. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-tree-loop-distribute-patterns") /* to copy a chunk's values takes less than a call for it */
#endif
#include "batch.h"

#include "gap.h"
#include "load.h"
#include "plain.h"

#ifndef DEVICEMESH_CHUNK /* the fuzzer's batches are small */
#define DEVICEMESH_CHUNK 32
#define DEVICEMESH_NEAR 4096
#endif

enum { CHUNK = DEVICEMESH_CHUNK, NEAR = DEVICEMESH_NEAR /* series, of which the caches hold everything */ };
enum { WORD = 8, SOON = 128 };
_Static_assert(CHUNK % WORD == 0 && 2 * CHUNK <= 64, "two bits a row in a word");

/* What the rows of a group need: constants, for each of which there are loops. */
enum kind { KIND_BARE, KIND_WATCHED, KIND_SKETCHED };

struct batch {
    struct engine *engine;
    struct group *group;
    struct rows_view rows;
    uint64_t *nonfinite;
};

/* Rows on their way: what can be said of them without their series is said of many at once. See struct plain. */
struct chunk {
    uint32_t series[2 * CHUNK]; /* and those of the next chunk */
    int64_t times[CHUNK];       /* not of a bare group: below zero where a row is not plain, or not finite */
    int64_t places[CHUNK];      /* of a bare group: NOT_PLAIN where a row is that, or not finite */
    double remaining[CHUNK];    /* not of a bare group */
    double values[CHUNK];
    int32_t keys[CHUNK]; /* sketch_signed_key of the values, if `measured` */
    bool measured;
};

/* Load series. False: one of them does not exist any more. */
static INLINED bool load_series(uint32_t *to, const struct rows_view *rows, size_t from, uint32_t series_count)
{
    const struct u32_at *series = (const struct u32_at *)rows->series + from;
    uint32_t beyond = 0;
    for (int i = 0; i < CHUNK; i++) {
        to[i] = series[i].value;
        beyond |= to[i] >= series_count;
    }
    return !beyond;
}

/* Judge the times from `from` on. Returns the newest in the view, or -1. A row that is found odd is loaded and judged
 * anew by take_odd; no time is an index here, so that a caller who changes one meanwhile spoils that row alone. */
static INLINED int64_t judge_times(struct chunk *chunk, const struct view *view, enum kind kind,
                                   const struct rows_view *rows, size_t from)
{
    const struct i64_at *times = (const struct i64_at *)rows->times + from;
    const double magic = 0x1p52; /* its lowest bit is 1: a small integer stands in the mantissa as it is */
    uint64_t magic_bits;
    int64_t newest = -1;
    memcpy(&magic_bits, &magic, sizeof magic_bits);
    for (int i = 0; i < CHUNK; i++) {
        int64_t time = times[i].value;
        uint64_t into = (uint64_t)time - (uint64_t)view->start, bits = into | magic_bits;
        double offset;
        memcpy(&offset, &bits, sizeof offset);
        int64_t odd = -(int64_t)(into >= view->span); /* all bits, or none: compilers find vectors for these */
        time = (time & ~odd) | (NOT_PLAIN & odd);
        newest = time > newest ? time : newest;
        chunk->places[i] = ((int64_t)cell_place(into) & ~odd) | (NOT_PLAIN & odd);
        if (kind != KIND_BARE) {
            chunk->times[i] = time;
            chunk->remaining[i] = view->length - (offset - magic);
        }
    }
    return newest;
}

/* Load values; mark those that are not finite. */
static INLINED void judge_values(struct chunk *chunk, const struct view *view, enum kind kind,
                                 const struct rows_view *rows, size_t from)
{
    const struct f64_at *values = (const struct f64_at *)rows->floats + from;
    int64_t *marks = kind == KIND_BARE ? chunk->places : chunk->times;
    for (int i = 0; i < CHUNK; i++) {
        chunk->values[i] = values[i].value;
        marks[i] |= NOT_PLAIN & -(int64_t)!(fabs(chunk->values[i]) <= DBL_MAX);
    }
    if (kind != KIND_SKETCHED)
        return;
    /* Unless the first row says that sketches hold few values yet. */
    chunk->measured = view->rule && view->sketches[chunk->series[0]].form != SKETCH_IS_RAW;
    for (int i = 0; chunk->measured && i < CHUNK; i++)
        chunk->keys[i] = (int32_t)sketch_signed_key(view->rule, chunk->values[i]);
}

/* Rows that are not Good are not plain. Most chunks have none. */
static INLINED void judge_qualities(int64_t *marks, const uint8_t *qualities)
{
    uint8_t loaded[CHUNK];
    uint64_t word, any = 0;
    memcpy(loaded, qualities, CHUNK);
    for (int at = 0; at < CHUNK; at += WORD) {
        memcpy(&word, loaded + at, WORD);
        any |= word;
    }
    for (int i = 0; UNLIKELY(any) && i < CHUNK; i++)
        marks[i] = loaded[i] ? NOT_PLAIN : marks[i];
}

/* A row that is not plain. Returns whether the group's current pane, or its turn, is another one now. */
static __attribute__((noinline)) bool take_odd(const struct batch *batch, size_t row, uint32_t series, double x)
{
    struct engine *engine = batch->engine;
    struct group *group = batch->group;
    struct pane *pane = group->pane;
    int64_t time = load_i64(batch->rows.times, row), start = group->start, turn = group->turn;
    uint8_t quality = load_quality(&batch->rows, row);
    if (quality >= QUALITY_BAD_FROM && gap_begin(engine, group, series, series, time))
        return false;
    if (quality == 0 && fabs(x) <= DBL_MAX && take_older(engine, group, series, series, time, x))
        return false;
    take_other(engine, group, series, series, time, x, quality, batch->nonfinite);
    if (pane && time < start && pane->open && pane->start == start)
        group_enter(group, pane); /* a late row was somewhere else: the next ones are here */
    return group->pane != pane || group->start != start || group->turn != turn;
}

/* Rows one by one. */
static __attribute__((noinline)) void take_singly(const struct batch *batch, size_t from)
{
    struct engine *engine = batch->engine;
    struct view view = view_of(engine, batch->group, batch->rows.count);
    for (size_t row = from; row < batch->rows.count; row++) {
        uint32_t series = load_u32(batch->rows.series, row);
        double x = load_f64(batch->rows.floats, row);
        if (UNLIKELY(series >= view.series_count))
            engine->counts.undeclared++;
        else if (!take_good(engine, batch->group, &view, series, series, load_i64(batch->rows.times, row), x,
                            load_quality(&batch->rows, row)) &&
                 take_odd(batch, row, series, x))
            view = view_of(engine, batch->group, batch->rows.count);
    }
}

/* Touch the lines of a row that comes soon. The address may be anything: it is not read. */
static INLINED void fetch(const struct view *view, enum kind kind, uintptr_t at)
{
    __builtin_prefetch((const void *)((uintptr_t)view->cells + at * sizeof *view->cells), 1);
    if (kind != KIND_BARE)
        __builtin_prefetch((const void *)((uintptr_t)view->lines + at * sizeof *view->lines), 1);
    if (kind == KIND_SKETCHED) {
        uintptr_t sketch = (uintptr_t)view->sketches + at * sizeof *view->sketches;
        __builtin_prefetch((const void *)sketch, 1);
        __builtin_prefetch((const void *)(sketch + sizeof *view->sketches / 2), 1);
    }
}

/* Touch a chunk of input that comes soon: processors do not look ahead past the end of a page. */
static INLINED void fetch_input(const struct rows_view *rows, size_t from)
{
    const uint8_t *values = (const uint8_t *)rows->floats + from * sizeof(double);
    for (int i = 0; i < CHUNK * (int)sizeof(double); i += 64)
        __builtin_prefetch(values + i);
    if (rows->qualities)
        __builtin_prefetch(rows->qualities + from);
}

/* Which rows of a chunk are of a series: a bit each. */
static inline uint64_t alike(const struct chunk *chunk, uint32_t series)
{
    uint64_t rows = 0;
    for (int i = 0; i < CHUNK; i += WORD)
        rows |= (uint64_t)equal_8(chunk->series + i, series) << i;
    return rows;
}

/* Whether a chunk's series ascend, to the next chunk's first, and so are of one row each. */
static inline bool ascends(const struct chunk *chunk)
{
    int back = 0;
    for (int i = 0; i < CHUNK; i++)
        back |= (int32_t)chunk->series[i] >= (int32_t)chunk->series[i + 1];
    return !back;
}

/* Say what is to be said of the rows of a chunk before `end`, which are all taken: two bits each are in `quiet`, the lowest of
 * the last one. A row was judged by the edges that it found: what is said of one may change that of later ones of its series. */
static __attribute__((noinline)) void say_loud(const struct batch *batch, const struct chunk *chunk, uint64_t quiet, int end)
{
    struct engine *engine = batch->engine;
    uint64_t loud = ~quiet;
    bool alone = ascends(chunk);
    while (loud) {
        int back = (63 ^ __builtin_clzll(loud)) >> 1, row = end - 1 - back;
        uint32_t series = chunk->series[row];
        struct line *line = &engine->lines[series];
        double x = chunk->values[row];
        loud &= (UINT64_C(1) << 2 * back) - 1;
        if (!watch_is_due(line, chunk->times[row], mirrored(x)))
            continue;
        if (line->state & LINE_GAP)
            gap_end(engine, batch->group->pane, series, series, chunk->times[row], x);
        else if (!watch_change(engine, line, series, chunk->times[row], x))
            watch_row(engine, series, chunk->times[row], x);
        if (alone)
            continue;
        for (uint64_t same = alike(chunk, series) >> row >> 1; same; same &= same - 1) {
            int behind = back - 1 - __builtin_ctzll(same);
            loud |= behind >= 0 ? UINT64_C(1) << 2 * behind : 0;
        }
    }
}

/* The value of a row that is taken, for the quantiles. */
static INLINED void put_quantile(struct engine *engine, const struct view *view, const struct chunk *chunk, int row)
{
    size_t series = chunk->series[row];
    struct sketch *sketch = &view->sketches[series];
    if (!chunk->measured || !sketch_count_key(sketch, chunk->keys[row]))
        take_quantile(engine, &view->lines[series], sketch, chunk->values[row]);
}

/* Take a chunk whose series are loaded, or so much of it that the view is another one then. Returns how many rows. */
static INLINED int take_chunk(const struct batch *batch, struct view *view, struct chunk *chunk, size_t from,
                              enum kind kind, bool far)
{
    struct engine *engine = batch->engine;
    struct group *group = batch->group;
    int64_t newest = judge_times(chunk, view, kind, &batch->rows, from);
    group->newest = newest > group->newest ? newest : group->newest;
    judge_values(chunk, view, kind, &batch->rows, from);
    if (batch->rows.qualities)
        judge_qualities(kind == KIND_BARE ? chunk->places : chunk->times, batch->rows.qualities + from);
    fetch_input(&batch->rows, from + SOON);
    uint64_t quiet = UINT64_MAX;
    for (int i = 0; i < CHUNK; i++) {
        size_t series = chunk->series[i];
        double x = chunk->values[i];
        bool taken;
        if (far)
            fetch(view, kind, chunk->series[i + CHUNK]);
        if (kind == KIND_BARE) {
            taken = take_bare(view, series, chunk->places[i], x);
        } else {
            struct plain row = {chunk->times[i], (uint64_t)chunk->places[i], chunk->remaining[i], x};
            taken = far ? take_unsaid(view, series, series, row, &quiet) : take_plain(engine, view, series, series, row);
            if (kind == KIND_SKETCHED && LIKELY(taken))
                put_quantile(engine, view, chunk, i);
        }
        if (LIKELY(taken))
            continue;
        if (~quiet)
            say_loud(batch, chunk, quiet, i);
        quiet = UINT64_MAX;
        if (take_odd(batch, from + (size_t)i, (uint32_t)series, x)) {
            *view = view_of(engine, group, batch->rows.count);
            return i + 1;
        }
    }
    if (~quiet)
        say_loud(batch, chunk, quiet, CHUNK);
    return CHUNK;
}

static INLINED void take_chunks(const struct batch *batch, enum kind kind, bool far)
{
    const struct batch here = *batch; /* no store to a cell can change it */
    struct view view = view_of(here.engine, here.group, here.rows.count);
    struct chunk chunk;
    size_t from = 0;
    while (from + (far ? 2 : 1) * CHUNK <= here.rows.count) {
        if (UNLIKELY(!load_series(chunk.series, &here.rows, from, view.series_count)))
            break;
        if (UNLIKELY(!view.cells)) { /* no pane: the row opens one */
            (void)take_odd(&here, from, chunk.series[0], load_f64(here.rows.floats, from));
            view = view_of(here.engine, here.group, here.rows.count);
            from++;
            continue;
        }
        if (far)
            (void)load_series(chunk.series + CHUNK, &here.rows, from + CHUNK, 0);
        from += (size_t)take_chunk(&here, &view, &chunk, from, kind, far);
    }
    take_singly(batch, from);
}

static INLINED void take_rows(const struct batch *batch, enum kind kind)
{
    if (batch->engine->series_count > NEAR)
        take_chunks(batch, kind, true);
    else
        take_chunks(batch, kind, false);
}

/* One function for each kind, so that each has the registers for itself. */
FOR_MACHINES static void take_bare_rows(const struct batch *batch)
{
    take_rows(batch, KIND_BARE);
}

FOR_MACHINES static void take_watched_rows(const struct batch *batch)
{
    take_rows(batch, KIND_WATCHED);
}

FOR_MACHINES static void take_sketched_rows(const struct batch *batch)
{
    take_rows(batch, KIND_SKETCHED);
}

void take_batch(struct engine *engine, struct group *group, const struct rows_view *rows, uint64_t *nonfinite)
{
    struct batch batch = {.engine = engine, .group = group, .rows = *rows};
    batch.nonfinite = nonfinite;
    if (rows->count < CHUNK)
        take_singly(&batch, 0);
    else if (group->bare)
        take_bare_rows(&batch);
    else if (group->needs_sketches)
        take_sketched_rows(&batch);
    else
        take_watched_rows(&batch);
}
