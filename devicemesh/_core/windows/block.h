/* Closed windows on their way to the output sheet: shared by what fills and what writes them. */
#ifndef DEVICEMESH_WINDOWS_BLOCK_H
#define DEVICEMESH_WINDOWS_BLOCK_H

#include "parts.h"

/* Positions of a pane whose windows leave next. */
struct queue {
    uint32_t count, fetched;
    bool whole; /* all positions of one word of `touched` */
    uint32_t positions[CLOSED_BLOCK];
};

/* A block of windows that are about to be written. */
struct block {
    struct closed closed;
    struct fields fields;
    const struct pane *pane; /* whose windows they are; NULL: their content is the block's own */
    struct queue queue;      /* of the pane: what leaves next */
    bool streams;            /* so many windows leave that the caches would not hold them */
    uint64_t room[CLOSED_BLOCK]; /* for a column on its way */
    /* Of windows of several panes, and of sessions. */
    uint64_t rows; /* that are lost with them if they find no room */
    struct cell cells[CLOSED_BLOCK];
    struct extra extras[CLOSED_BLOCK];
    struct sketch sketches[CLOSED_BLOCK];
};

/* Append the windows of a block to the sheet; it is empty then. */
void emit_block(struct engine *engine, struct block *block);

/* Add a window whose content is in its place in the block. */
void emit_own(struct engine *engine, struct block *block, const struct window *window, bool sketched);

/* Windows of several panes that end with one. */
void emit_merged(struct engine *engine, const struct group *group, int64_t number, struct block *block);

/* Time of a pane in which the series has a known value, if not all that came was out of order. */
static inline int64_t known_time(const struct engine *engine, const struct pane *pane, const struct extra *extra,
                                 uint32_t series)
{
    int64_t known = pane->end - pane->start;
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
