/* A pane: one step of the grid, with a cell for each series of a source group. */
#ifndef DEVICEMESH_WINDOWS_PANE_H
#define DEVICEMESH_WINDOWS_PANE_H

#include "extra.h"
#include "memory.h"
#include "sketch.h"

struct pane {
    int64_t number; /* its start is offset + number * hop */
    int64_t start, end;
    bool open;
    bool lately; /* a series became known in it, and its extra does not say so */
    uint32_t capacity;
    uint32_t cleared; /* words of `touched` before it are empty already */
    struct cell *cells;
    uint64_t *touched; /* a bit each: the cell or the extra holds something */
    struct extra *extras; /* NULL: nothing rare happened */
    uint64_t *marked;     /* a bit each: the extra holds something; with them, and them alone, come costs */
    struct sketch *sketches;
};

/* Give a pane room for `capacity` series (a multiple of 64), keeping what it has; false without room. */
bool pane_resize(struct pane *pane, struct budget *budget, uint32_t capacity);

/* Give it extras; false without room. */
bool pane_extend(struct pane *pane, struct budget *budget);

/* Give it sketches; false without room. */
bool pane_sketch(struct pane *pane, struct budget *budget);

/* Empty the positions of the words before `word` of `touched`, on the way to pane_clear. */
void pane_clear_to(struct pane *pane, struct budget *budget, uint32_t word);

/* Empty it: cells that were touched, nothing else, are written. */
void pane_clear(struct pane *pane, struct budget *budget);
void pane_free(struct pane *pane, struct budget *budget);

static inline void pane_touch(struct pane *pane, uint32_t position)
{
    pane->touched[position / 64] |= UINT64_C(1) << position % 64;
}

/* The extra of a position, to be written; NULL where the pane has none. */
static inline struct extra *pane_extra(struct pane *pane, uint32_t position)
{
    if (!pane->extras)
        return NULL;
    pane->marked[position / 64] |= UINT64_C(1) << position % 64;
    return &pane->extras[position];
}

/* The same to be read; NULL where it holds nothing. */
static inline const struct extra *pane_extra_read(const struct pane *pane, uint32_t position)
{
    return pane->extras && pane->marked[position / 64] >> position % 64 & 1 ? &pane->extras[position] : NULL;
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

/* An offset in a cell has 48 bits, exact to the nanosecond in panes up to 78 h: longer ones drop low bits. */
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
