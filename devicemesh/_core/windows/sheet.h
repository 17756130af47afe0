/* A table that grows: equal-length columns, lent to nobody; they leave it whole. */
#ifndef DEVICEMESH_WINDOWS_SHEET_H
#define DEVICEMESH_WINDOWS_SHEET_H

#include "memory.h"

enum sheet_type { SHEET_U8, SHEET_U32, SHEET_I64, SHEET_F64 };

enum { SHEET_COLUMNS_MAX = 64 };

struct sheet {
    size_t rows;
    size_t capacity;
    size_t usual; /* rows that it had when it was taken, of late: it will have as many again */
    uint32_t count;
    enum sheet_type types[SHEET_COLUMNS_MAX];
    void *columns[SHEET_COLUMNS_MAX];
};

static inline size_t sheet_width(enum sheet_type type)
{
    return type == SHEET_U8 ? 1 : type == SHEET_U32 ? 4 : 8;
}

/* Make room for `more` rows; false without room: the sheet is as it was. */
bool sheet_reserve(struct sheet *sheet, struct budget *budget, size_t more);

/* Where row `sheet->rows` of a column goes. */
static inline void *sheet_end(const struct sheet *sheet, uint32_t column)
{
    return (uint8_t *)sheet->columns[column] + sheet->rows * sheet_width(sheet->types[column]);
}

/* Move the content to `out`, whose columns are then memory_free'd by their owner; the sheet is empty. */
void sheet_take(struct sheet *sheet, struct budget *budget, struct sheet *out);

void sheet_free(struct sheet *sheet, struct budget *budget);

#endif
