#include "pane.h"

/* Room for `capacity` items in place of the pane's `count`, which keep their content. */
static void *widen(struct budget *budget, const void *old, size_t count, size_t capacity, size_t size)
{
    void *wide = budget_take(budget, capacity, size);
    if (wide && old)
        memcpy(wide, old, count * size);
    return wide;
}

static void give(struct budget *budget, const struct pane *pane)
{
    budget_give(budget, pane->cells);
    budget_give(budget, pane->touched);
    budget_give(budget, pane->extras);
    budget_give(budget, pane->places);
    budget_give(budget, pane->marked);
    budget_give(budget, pane->sketches);
}

bool pane_resize(struct pane *pane, struct budget *budget, uint32_t capacity)
{
    struct pane wide = *pane;
    uint32_t old = pane->capacity, room = pane->extras_room ? pane->extras_room + (capacity - old) : 0;
    if (capacity <= old)
        return true;
    wide.capacity = capacity;
    wide.cells = widen(budget, pane->cells, old, capacity, sizeof *wide.cells);
    wide.touched = widen(budget, pane->touched, old / 64, capacity / 64, sizeof *wide.touched);
    wide.marked = pane->marked ? widen(budget, pane->marked, old / 64, capacity / 64, sizeof *wide.marked) : NULL;
    wide.places = pane->marked ? widen(budget, pane->places, old, capacity, sizeof *wide.places) : NULL;
    wide.extras = room ? widen(budget, pane->extras, pane->extras_count, room, sizeof *wide.extras) : NULL;
    wide.extras_room = room;
    wide.sketches = pane->sketches ? widen(budget, pane->sketches, old, capacity, sizeof *wide.sketches) : NULL;
    if (!wide.cells || !wide.touched || (pane->marked && (!wide.marked || !wide.places)) || (room && !wide.extras) ||
        (pane->sketches && !wide.sketches)) {
        give(budget, &wide);
        return false;
    }
    give(budget, pane); /* what the sketches have on the heap has moved with them */
    *pane = wide;
    return true;
}

static bool make_marks(struct pane *pane, struct budget *budget)
{
    if (pane->marked)
        return true;
    uint64_t *marked = budget_take(budget, pane->capacity / 64, sizeof *marked);
    uint32_t *places = marked ? budget_take(budget, pane->capacity, sizeof *places) : NULL;
    if (!places) {
        budget_give(budget, marked);
        return false;
    }
    pane->marked = marked;
    pane->places = places;
    return true;
}

static bool make_extras(struct pane *pane, struct budget *budget, uint32_t room)
{
    if (room <= pane->extras_room)
        return true;
    struct extra *extras = budget_grow(budget, pane->extras, pane->extras_count, room, sizeof *extras);
    if (!extras)
        return false;
    pane->extras = extras;
    pane->extras_room = room;
    return true;
}

bool pane_extend(struct pane *pane, struct budget *budget)
{
    return make_marks(pane, budget) && make_extras(pane, budget, pane->capacity);
}

struct extra *pane_mark(struct pane *pane, struct budget *budget, uint32_t position)
{
    enum { FEW = 16 };
    struct extra *extra = pane_extra(pane, position);
    if (extra)
        return extra;
    uint32_t count = pane->extras_count, more = count < FEW ? FEW : count;
    if (more > pane->capacity - count)
        more = pane->capacity - count; /* never more of them than positions */
    if (!make_marks(pane, budget) || (count == pane->extras_room && !make_extras(pane, budget, count + more)))
        return NULL;
    pane->marked[position / 64] |= UINT64_C(1) << position % 64;
    pane->places[position] = pane->extras_count++;
    extra = &pane->extras[pane->places[position]];
    *extra = (struct extra){0};
    return extra;
}

bool pane_sketch(struct pane *pane, struct budget *budget)
{
    if (!pane->sketches)
        pane->sketches = budget_take(budget, pane->capacity, sizeof *pane->sketches);
    return pane->sketches != NULL;
}

void pane_clear_to(struct pane *pane, struct budget *budget, uint32_t word)
{
    for (; pane->cleared < word; pane->cleared++) {
        for (uint64_t bits = pane->sketches ? pane->touched[pane->cleared] : 0; bits; bits &= bits - 1) {
            uint32_t at = pane->cleared * 64 + (uint32_t)__builtin_ctzll(bits);
            budget->used -= sketch_bytes(&pane->sketches[at]);
            sketch_clear(&pane->sketches[at]);
        }
        pane->touched[pane->cleared] = 0;
        if (pane->marked)
            pane->marked[pane->cleared] = 0;
    }
}

void pane_clear(struct pane *pane, struct budget *budget)
{
    pane_clear_to(pane, budget, pane->capacity / 64);
    pane->cleared = pane->extras_count = 0;
    pane->open = pane->lately = false;
}

void pane_free(struct pane *pane, struct budget *budget)
{
    pane_clear(pane, budget);
    give(budget, pane);
    *pane = (struct pane){0};
}
