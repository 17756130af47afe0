/* Closed windows on their way to the output sheet: what emit*.c share. */
#ifndef DEVICEMESH_WINDOWS_EMIT_INTERNAL_H
#define DEVICEMESH_WINDOWS_EMIT_INTERNAL_H

#include "engine_internal.h"

/* A block of windows that are about to be written; the cells, extras and sketches are of windows of several panes. */
struct block {
    uint32_t count;
    uint64_t rows; /* that are lost with it if it finds no room */
    bool streams;  /* so many windows leave that the caches would not hold them */
    double column[CLOSED_BLOCK]; /* then: a column on its way */
    struct closed closed[CLOSED_BLOCK];
    struct cell cells[CLOSED_BLOCK];
    struct extra extras[CLOSED_BLOCK];
    struct sketch sketches[CLOSED_BLOCK];
};

/* Append the windows of a block to the sheet; it is empty then. */
void emit_block(struct engine *engine, struct block *block);

/* The same, where the cells, extras and sketches are the block's own. */
void emit_own_block(struct engine *engine, struct block *block);

/* Windows of several panes that end with one. */
void emit_merged(struct engine *engine, const struct group *group, int64_t number, struct block *block);

/* Time of a pane in which the series has a known value. */
static inline int64_t known_time(const struct engine *engine, const struct pane *pane, uint32_t position, uint32_t series)
{
    int64_t known = pane->end - pane->start;
    if (isnan(pane->cells[position].held))
        return 0;
    const struct extra *extra = pane_extra(pane, position);
    if (extra)
        known -= extra->unknown_ns;
    if (pane->lately) {
        const struct line *line = &engine->lines[series];
        if (line->state & LINE_LATELY && line->known_since >= pane->start && line->known_since < pane->end)
            known -= line->known_since - pane->start;
    }
    return known;
}

static inline int64_t last_time(const struct engine *engine, const struct pane *pane, const struct cell *cell)
{
    return pane->start + (int64_t)(cell_offset(cell) << engine->offset_shift);
}

#endif
