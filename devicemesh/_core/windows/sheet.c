#include "sheet.h"

#include <string.h>

enum { SHEET_FIRST = 64 };

size_t sheet_width(enum sheet_type type)
{
    return type == SHEET_U8 ? 1 : type == SHEET_U32 ? 4 : 8;
}

static size_t row_width(const struct sheet *sheet)
{
    size_t width = 0;
    for (uint32_t i = 0; i < sheet->count; i++)
        width += sheet_width(sheet->types[i]);
    return width;
}

bool sheet_reserve(struct sheet *sheet, struct budget *budget, size_t more)
{
    void *grown[SHEET_COLUMNS_MAX] = {NULL};
    size_t capacity = sheet->capacity ? sheet->capacity : SHEET_FIRST;
    if (more <= sheet->capacity - sheet->rows)
        return true;
    while (capacity - sheet->rows < more) {
        if (capacity > SIZE_MAX / 4)
            return false;
        capacity *= 2;
    }
    for (uint32_t i = 0; i < sheet->count; i++) {
        size_t width = sheet_width(sheet->types[i]);
        if (!(grown[i] = budget_take(budget, capacity, width))) {
            while (i-- > 0)
                budget_give(budget, grown[i], capacity, sheet_width(sheet->types[i]));
            return false;
        }
    }
    for (uint32_t i = 0; i < sheet->count; i++) {
        size_t width = sheet_width(sheet->types[i]);
        if (sheet->rows)
            memcpy(grown[i], sheet->columns[i], sheet->rows * width);
        budget_give(budget, sheet->columns[i], sheet->capacity, width);
        sheet->columns[i] = grown[i];
    }
    sheet->capacity = capacity;
    return true;
}

void sheet_take(struct sheet *sheet, struct budget *budget, struct sheet *out)
{
    *out = *sheet;
    budget_release(budget, sheet->capacity, row_width(sheet));
    sheet->rows = sheet->capacity = 0;
    for (uint32_t i = 0; i < sheet->count; i++)
        sheet->columns[i] = NULL;
}

void sheet_free(struct sheet *sheet, struct budget *budget)
{
    struct sheet out;
    sheet_take(sheet, budget, &out);
    for (uint32_t i = 0; i < out.count; i++)
        memory_free(out.columns[i]);
}
