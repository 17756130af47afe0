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
    budget_give(budget, pane->marked);
    budget_give(budget, pane->sketches);
}

bool pane_resize(struct pane *pane, struct budget *budget, uint32_t capacity)
{
    struct pane wide = *pane;
    uint32_t old = pane->capacity;
    if (capacity <= old)
        return true;
    wide.capacity = capacity;
    wide.cells = widen(budget, pane->cells, old, capacity, sizeof *wide.cells);
    wide.touched = widen(budget, pane->touched, old / 64, capacity / 64, sizeof *wide.touched);
    wide.extras = pane->extras ? widen(budget, pane->extras, old, capacity, sizeof *wide.extras) : NULL;
    wide.marked = pane->extras ? widen(budget, pane->marked, old / 64, capacity / 64, sizeof *wide.marked) : NULL;
    wide.sketches = pane->sketches ? widen(budget, pane->sketches, old, capacity, sizeof *wide.sketches) : NULL;
    if (!wide.cells || !wide.touched || (pane->extras && (!wide.extras || !wide.marked)) ||
        (pane->sketches && !wide.sketches)) {
        give(budget, &wide);
        return false;
    }
    give(budget, pane); /* what the sketches have on the heap has moved with them */
    *pane = wide;
    return true;
}

bool pane_extend(struct pane *pane, struct budget *budget)
{
    if (pane->extras)
        return true;
    pane->marked = budget_take(budget, pane->capacity / 64, sizeof *pane->marked);
    if (pane->marked)
        pane->extras = budget_take(budget, pane->capacity, sizeof *pane->extras);
    if (!pane->extras) {
        budget_give(budget, pane->marked);
        pane->marked = NULL;
    }
    return pane->extras != NULL;
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
        for (uint64_t bits = pane->touched[pane->cleared]; bits; bits &= bits - 1) {
            uint32_t at = pane->cleared * 64 + (uint32_t)__builtin_ctzll(bits);
            pane->cells[at].marks = 0;
            if (pane->sketches) {
                budget->used -= sketch_bytes(&pane->sketches[at]);
                sketch_clear(&pane->sketches[at]);
            }
        }
        pane->touched[pane->cleared] = 0;
        for (uint64_t bits = pane->extras ? pane->marked[pane->cleared] : 0; bits; bits &= bits - 1)
            pane->extras[pane->cleared * 64 + (uint32_t)__builtin_ctzll(bits)] = (struct extra){0};
        if (pane->extras)
            pane->marked[pane->cleared] = 0;
    }
}

void pane_clear(struct pane *pane, struct budget *budget)
{
    pane_clear_to(pane, budget, pane->capacity / 64);
    pane->cleared = 0;
    pane->open = pane->lately = false;
}

void pane_free(struct pane *pane, struct budget *budget)
{
    pane_clear(pane, budget);
    give(budget, pane);
    *pane = (struct pane){0};
}
