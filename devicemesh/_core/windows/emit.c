/* Windows that close: where their content comes from. */
#include "block.h"
#include "machine.h"

/* What all windows of a pane have in common. */
static void begin_pane(const struct pane *pane, struct block *block)
{
    struct closed *closed = &block->closed;
    for (uint32_t i = 0; i < CLOSED_BLOCK; i++) {
        closed->starts[i] = pane->start;
        closed->ends[i] = pane->end;
        closed->lengths[i] = pane->end - pane->start;
        closed->sketches[i] = NULL;
        closed->profiles[i] = 0;
    }
}

static void note_profiles(const struct engine *engine, struct closed *closed)
{
    for (uint32_t i = 0; i < closed->count; i++)
        closed->profiles[i] = engine->lines[closed->series[i]].profile;
}

static void note_sketches(const struct engine *engine, const struct pane *pane, const uint32_t *positions,
                          struct closed *closed)
{
    for (uint32_t i = 0; i < closed->count; i++)
        closed->sketches[i] = engine->rules[closed->profiles[i]].max_bins ? &pane->sketches[positions[i]] : NULL;
}

/* Which positions of a queue have an extra: a bit each. */
static uint64_t marks_of(const struct pane *pane, const struct queue *queue)
{
    uint64_t marks = 0;
    if (queue->whole)
        return pane->marked[queue->positions[0] / 64];
    for (uint32_t i = 0; i < queue->count; i++)
        marks |= (pane->marked[queue->positions[i] / 64] >> queue->positions[i] % 64 & 1) << i;
    return marks;
}

static void note_extras(const struct pane *pane, const struct queue *queue, struct closed *closed)
{
    closed->marked = marks_of(pane, queue);
    for (uint64_t bits = closed->marked; bits; bits &= bits - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(bits);
        closed->extras[i] = &pane->extras[pane->places[queue->positions[i]]];
        __builtin_prefetch(&closed->extras[i]->unknown_ns);
        __builtin_prefetch(&closed->extras[i]->bad);
    }
}

/* For how long series are known, where that is not all the time. */
static void note_known(const struct engine *engine, const struct pane *pane, struct closed *closed)
{
    uint64_t some = pane->lately ? UINT64_MAX >> (CLOSED_BLOCK - closed->count) : closed->marked;
    for (; some; some &= some - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(some);
        const struct extra *extra = closed->marked >> i & 1 ? closed->extras[i] : NULL;
        closed->known[i] = known_time(engine, pane, extra, closed->series[i]);
    }
}

static void note_last_times(const struct engine *engine, const struct pane *pane, struct closed *closed)
{
    for (uint32_t i = 0; i < closed->count; i++)
        closed->last_times[i] = last_time(engine, pane, closed->cells[i]);
}

/* The windows of a queue as a block. */
static void close_cells(const struct engine *engine, const struct group *group, const struct pane *pane,
                        struct block *block)
{
    const struct queue *queue = &block->queue;
    struct closed *closed = &block->closed;
    closed->count = queue->count;
    if (pane->extras_count)
        note_extras(pane, queue, closed);
    for (uint32_t i = 0; i < queue->count; i++) {
        closed->series[i] = group_id(group, queue->positions[i]);
        closed->cells[i] = &pane->cells[queue->positions[i]];
        closed->known[i] = closed->lengths[i];
    }
    if (engine->profiles_count > 1)
        note_profiles(engine, closed);
    if (pane->sketches)
        note_sketches(engine, pane, queue->positions, closed);
    if (engine->tells_last_times)
        note_last_times(engine, pane, closed);
    if (pane->extras_count || pane->lately)
        note_known(engine, pane, closed);
}

static void queue_word(struct queue *queue, uint32_t word)
{
    _Static_assert(CLOSED_BLOCK == 64, "a word of `touched` is a block");
    for (uint32_t i = 0; i < CLOSED_BLOCK; i++)
        queue->positions[i] = word * 64 + i;
    queue->count = CLOSED_BLOCK;
    queue->whole = true;
}

/* Queue touched positions from `from` on, until there is a block of them. Returns where it ended. */
static uint32_t queue_up(const struct pane *pane, struct queue *queue, uint32_t from)
{
    queue->count = queue->fetched = 0;
    queue->whole = false;
    for (uint32_t word = from / 64; word < pane->capacity / 64; word++) {
        uint64_t bits = pane->touched[word];
        if (word == from / 64)
            bits &= UINT64_MAX << from % 64;
        if (bits == UINT64_MAX && !queue->count) { /* most are, where all series have rows */
            queue_word(queue, word);
            return word * 64 + 64;
        }
        for (; bits; bits &= bits - 1) {
            if (queue->count == CLOSED_BLOCK)
                return word * 64 + (uint32_t)__builtin_ctzll(bits);
            queue->positions[queue->count++] = word * 64 + (uint32_t)__builtin_ctzll(bits);
        }
    }
    return pane->capacity;
}

static void emit_pane(struct engine *engine, const struct group *group, struct pane *pane, struct block *block)
{
    enum { STREAMS_FROM = 1 << 15 }; /* windows: some MB of columns */
    uint32_t count = pane_count(pane);
    (void)sheet_reserve(&engine->outputs[OUTPUT_WINDOWS], &engine->budget, count); /* at once, if it can */
    begin_pane(pane, block);
    block->pane = pane;
    block->streams = count >= STREAMS_FROM;
    uint32_t next = queue_up(pane, &block->queue, 0);
    while (block->queue.count) {
        uint32_t done = next;
        close_cells(engine, group, pane, block);
        next = queue_up(pane, &block->queue, next);
        emit_block(engine, block);
        pane_clear_to(pane, &engine->budget, done / 64); /* while its cells are near */
    }
    pane_clear_to(pane, &engine->budget, pane->capacity / 64);
    if (block->streams)
        stream_end();
    block->streams = false;
    block->pane = NULL;
}

void emit_window(struct engine *engine, struct group *group, int64_t number)
{
    struct block *block = engine->block;
    struct pane *pane = group_pane(engine, group, number);
    if (engine->panes_per_window > 1)
        emit_merged(engine, group, number, block);
    else if (pane)
        emit_pane(engine, group, pane, block);
}
