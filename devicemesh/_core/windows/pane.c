#include "pane.h"

bool pane_resize(struct pane *pane, struct budget *budget, uint32_t capacity)
{
    struct pane grown = *pane;
    if (capacity <= pane->capacity)
        return true;
    grown.cells = budget_take(budget, capacity, sizeof *grown.cells);
    grown.touched = budget_take(budget, capacity / 64, sizeof *grown.touched);
    if (pane->extras)
        grown.extras = budget_take(budget, capacity, sizeof *grown.extras);
    if (!grown.cells || !grown.touched || (pane->extras && !grown.extras)) {
        budget_give(budget, grown.cells, capacity, sizeof *grown.cells);
        budget_give(budget, grown.touched, capacity / 64, sizeof *grown.touched);
        if (pane->extras)
            budget_give(budget, grown.extras, capacity, sizeof *grown.extras);
        return false;
    }
    if (pane->capacity) {
        memcpy(grown.cells, pane->cells, pane->capacity * sizeof *grown.cells);
        memcpy(grown.touched, pane->touched, pane->capacity / 64 * sizeof *grown.touched);
        if (pane->extras)
            memcpy(grown.extras, pane->extras, pane->capacity * sizeof *grown.extras);
    }
    pane_free(pane, budget);
    grown.capacity = capacity;
    *pane = grown;
    return true;
}

bool pane_extend(struct pane *pane, struct budget *budget)
{
    if (!pane->extras)
        pane->extras = budget_take(budget, pane->capacity, sizeof *pane->extras);
    return pane->extras != NULL;
}

void pane_clear(struct pane *pane)
{
    for (uint32_t at = pane_next(pane, 0); at < pane->capacity; at = pane_next(pane, at + 1)) {
        pane->cells[at].marks = 0;
        if (pane->extras)
            pane->extras[at] = (struct extra){0};
    }
    if (pane->capacity)
        memset(pane->touched, 0, pane->capacity / 64 * sizeof *pane->touched);
    pane->open = pane->lately = false;
}

void pane_free(struct pane *pane, struct budget *budget)
{
    budget_give(budget, pane->cells, pane->capacity, sizeof *pane->cells);
    budget_give(budget, pane->touched, pane->capacity / 64, sizeof *pane->touched);
    budget_give(budget, pane->extras, pane->capacity, sizeof *pane->extras);
    *pane = (struct pane){0};
}
