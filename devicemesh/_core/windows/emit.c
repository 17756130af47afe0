/* Windows that close: where their content comes from. */
#include "emit_internal.h"
#include "machine.h"

static inline void close_cell(struct engine *engine, const struct group *group, const struct pane *pane, uint32_t at,
                              struct block *block)
{
    uint32_t series = group_id(group, at);
    const struct cell *cell = &pane->cells[at];
    uint16_t profile = engine->profiles_count > 1 ? engine->lines[series].profile : 0;
    block->rows += cell_count(cell);
    block->closed[block->count++] = (struct closed){
        .cell = cell,
        .extra = pane_extra(pane, at),
        .sketch = pane->sketches && engine->rules[profile].max_bins ? &pane->sketches[at] : NULL,
        .start = pane->start,
        .end = pane->end,
        .last_time = last_time(engine, pane, cell),
        .known_ns = known_time(engine, pane, at, series),
        .length_ns = pane->end - pane->start,
        .series = series,
        .profile = profile,
    };
}

/* Touch what a word that comes soon holds. */
static INLINED void fetch_cells(const struct pane *pane, uint32_t word)
{
    for (uint64_t bits = word < pane->capacity / 64 ? pane->touched[word] : 0; bits; bits &= bits - 1) {
        uint32_t at = word * 64 + (uint32_t)__builtin_ctzll(bits);
        __builtin_prefetch(&pane->cells[at]);
        if (pane->sketches) {
            __builtin_prefetch(&pane->sketches[at]);
            __builtin_prefetch((const uint8_t *)&pane->sketches[at] + sizeof *pane->sketches / 2);
        }
    }
}

static void emit_pane(struct engine *engine, const struct group *group, struct pane *pane, struct block *block)
{
    enum { STREAMS_FROM = 1 << 15 }; /* windows: some MB of columns */
    uint32_t count = pane_count(pane);
    (void)sheet_reserve(&engine->outputs[OUTPUT_WINDOWS], &engine->budget, count); /* at once, if it can */
    block->streams = count >= STREAMS_FROM;
    for (uint32_t word = 0; word < pane->capacity / 64; word++) {
        fetch_cells(pane, word + 2);
        for (uint64_t bits = pane->touched[word]; bits; bits &= bits - 1)
            close_cell(engine, group, pane, word * 64 + (uint32_t)__builtin_ctzll(bits), block);
        if (block->count > CLOSED_BLOCK - 64) {
            emit_block(engine, block);
            pane_clear_to(pane, &engine->budget, word + 1); /* while its cells are near */
        }
    }
    if (block->count)
        emit_block(engine, block);
    pane_clear_to(pane, &engine->budget, pane->capacity / 64);
    if (block->streams)
        stream_end();
    block->streams = false;
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

void emit_closed(struct engine *engine, const struct closed *closed, const struct cell *cell,
                 const struct extra *extra, const struct sketch *sketch)
{
    struct block *block = engine->block;
    uint32_t at = block->count++;
    block->rows += cell_count(cell);
    block->cells[at] = *cell;
    block->extras[at] = *extra;
    block->sketches[at] = *sketch;
    block->closed[at] = *closed;
    block->closed[at].cell = &block->cells[at];
    block->closed[at].extra = &block->extras[at];
    block->closed[at].sketch = engine->rules[closed->profile].max_bins ? &block->sketches[at] : NULL;
    if (block->count == CLOSED_BLOCK)
        emit_own_block(engine, block);
}

void emit_finish(struct engine *engine)
{
    emit_own_block(engine, engine->block);
}
