/* A pane: one step of the grid, with a cell for each series of a source group. */
#ifndef DEVICEMESH_WINDOWS_PANE_H
#define DEVICEMESH_WINDOWS_PANE_H

#include "extra.h"
#include "memory.h"
#include "sketch.h"

struct pane {
    int64_t number; /* its start is offset + number * hop */
    int64_t start, end;
    uint64_t begun; /* engine->offered when it was opened: no cell can have more rows than came since */
    bool open;
    bool lately; /* a series became known in it, and its extra does not say so */
    uint32_t capacity;
    uint32_t cleared; /* words of `touched` before it are empty already */
    struct cell *cells;
    uint64_t *touched; /* a bit each: the cell or the extra holds something */
    /* Extras lie together, in the order in which they came to be, since few series have one. */
    uint64_t *marked; /* a bit each: it has an extra; NULL: none has */
    uint32_t *places; /* of the extra of each that is marked */
    struct extra *extras;
    uint32_t extras_count, extras_room;
    struct sketch *sketches;
};

/* Give a pane room for `capacity` series (a multiple of 64), keeping what it has; false without room. */
bool pane_resize(struct pane *pane, struct budget *budget, uint32_t capacity);

/* Room for an extra of every series; false without. */
bool pane_extend(struct pane *pane, struct budget *budget);

/* The extra of a position, which is given one; NULL without room. */
struct extra *pane_mark(struct pane *pane, struct budget *budget, uint32_t position);

/* Give it sketches; false without room. */
bool pane_sketch(struct pane *pane, struct budget *budget);

/* Empty the positions of the words before `word` of `touched`, on the way to pane_clear. */
void pane_clear_to(struct pane *pane, struct budget *budget, uint32_t word);

/* Empty it. What cells hold stays, and means nothing while they are not touched. */
void pane_clear(struct pane *pane, struct budget *budget);
void pane_free(struct pane *pane, struct budget *budget);

static inline void pane_touch(struct pane *pane, uint32_t position)
{
    pane->touched[position / 64] |= UINT64_C(1) << position % 64;
}

static inline bool pane_has_extra(const struct pane *pane, uint32_t position)
{
    return pane->marked && pane->marked[position / 64] >> position % 64 & 1;
}

/* The extra of a position, or NULL. */
static inline struct extra *pane_extra(const struct pane *pane, uint32_t position)
{
    return pane_has_extra(pane, position) ? &pane->extras[pane->places[position]] : NULL;
}

/* Positions that were touched. */
static inline uint32_t pane_count(const struct pane *pane)
{
    uint32_t count = 0;
    for (uint32_t word = 0; word < pane->capacity / 64; word++)
        count += (uint32_t)__builtin_popcountll(pane->touched[word]);
    return count;
}

static inline bool pane_touched(const struct pane *pane, uint32_t position)
{
    return pane->touched[position / 64] >> position % 64 & 1;
}

/* An offset in a cell has 47 bits, exact to the nanosecond in panes up to 39 h: longer ones drop low bits. */
static inline unsigned pane_shift(int64_t length)
{
    unsigned shift = 0;
    while (length >> shift >= INT64_C(1) << CELL_OFFSET_BITS)
        shift++;
    return shift;
}

/* Next touched position at or after `from`, or `capacity`. */
static inline uint32_t pane_next(const struct pane *pane, uint32_t from)
{
    for (uint32_t word = from / 64; word < pane->capacity / 64; word++) {
        uint64_t bits = pane->touched[word];
        if (word == from / 64)
            bits &= UINT64_MAX << from % 64;
        if (bits)
            return word * 64 + (uint32_t)__builtin_ctzll(bits);
    }
    return pane->capacity;
}

#endif
