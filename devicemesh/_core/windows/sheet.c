#include "sheet.h"

#include <string.h>

enum { SHEET_FIRST = 64 };

static bool set_capacity(struct sheet *sheet, struct budget *budget, size_t capacity)
{
    void *grown[SHEET_COLUMNS_MAX] = {NULL};
    for (uint32_t i = 0; i < sheet->count; i++) {
        if ((grown[i] = budget_take_unclean(budget, capacity, sheet_width(sheet->types[i]))))
            continue;
        while (i-- > 0)
            budget_give(budget, grown[i]);
        return false;
    }
    for (uint32_t i = 0; i < sheet->count; i++) {
        if (sheet->rows)
            memcpy(grown[i], sheet->columns[i], sheet->rows * sheet_width(sheet->types[i]));
        budget_give(budget, sheet->columns[i]);
        sheet->columns[i] = grown[i];
    }
    sheet->capacity = capacity;
    return true;
}

bool sheet_reserve(struct sheet *sheet, struct budget *budget, size_t more)
{
    if (more <= sheet->capacity - sheet->rows)
        return true;
    if (more > SIZE_MAX / 4 - sheet->rows)
        return false;
    size_t needed = sheet->rows + more, roomy = sheet->capacity ? 2 * sheet->capacity : SHEET_FIRST;
    if (roomy < sheet->usual)
        roomy = sheet->usual;
    return (needed < roomy && set_capacity(sheet, budget, roomy)) || set_capacity(sheet, budget, needed);
}

void sheet_take(struct sheet *sheet, struct budget *budget, struct sheet *out)
{
    *out = *sheet;
    size_t most = sheet->rows + sheet->rows / 8; /* seldom is there much more */
    size_t before = sheet->usual - sheet->usual / 8;
    sheet->usual = most > before ? most : before;
    sheet->rows = sheet->capacity = 0;
    for (uint32_t i = 0; i < sheet->count; i++) {
        budget_release(budget, sheet->columns[i]);
        sheet->columns[i] = NULL;
    }
}

void sheet_free(struct sheet *sheet, struct budget *budget)
{
    struct sheet out;
    sheet_take(sheet, budget, &out);
    for (uint32_t i = 0; i < out.count; i++)
        memory_free(out.columns[i]);
}
