#include "windows/rows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "shortest.h"
#include "text.h"

const uint8_t column_sizes[COLUMN_TYPES] = {
    [COLUMN_U8] = 1,  [COLUMN_U32] = 4,  [COLUMN_I64] = 8,  [COLUMN_U64] = 8,
    [COLUMN_F64] = 8, [COLUMN_TIME] = 8, [COLUMN_TEXT] = sizeof(struct text),
};

enum { VALUE_ROOM = 40 }; /* SHORTEST_MAX, TIME_MAX, INTEGER_MAX_DIGITS, and a suffix */

/* A column and what stands before each of its values. */
struct field {
    const struct column *column;
    size_t prefix_at; /* in the plan's prefixes */
    size_t prefix_length;
    /* The time written last: rows of one window have it in common. */
    int64_t time;
    size_t time_length; /* 0: none */
    char time_text[TIME_MAX];
};

/* What all rows have in common, so that a row is little more than copies and numbers. */
struct plan {
    struct field *fields;
    size_t count;
    struct buffer prefixes;
    size_t room; /* bytes that a row needs at most, its texts not counted */
};

static void plan_clear(struct plan *plan)
{
    free(plan->fields);
    buffer_clear(&plan->prefixes, 0);
}

static bool plan_open(struct plan *plan, const struct table *table)
{
    *plan = (struct plan){.room = VALUE_ROOM};
    plan->fields = calloc(table->columns_count + 1, sizeof *plan->fields);
    return plan->fields != NULL;
}

/* Add a column; what stands before its values is what was appended to the prefixes since `start`. */
static void plan_field(struct plan *plan, const struct column *column, size_t start)
{
    size_t length = plan->prefixes.length - start;
    plan->fields[plan->count++] = (struct field){.column = column, .prefix_at = start, .prefix_length = length};
    plan->room += length + VALUE_ROOM;
}

static char *put(char *at, const void *bytes, size_t length)
{
    memcpy(at, bytes, length);
    return at + length;
}

static char *put_prefix(char *at, const struct plan *plan, const struct field *field)
{
    return put(at, plan->prefixes.bytes + field->prefix_at, field->prefix_length);
}

/* ---- values ---- */

static uint64_t load_u64(const struct column *column, size_t row)
{
    uint64_t value;
    memcpy(&value, column->values + row * sizeof value, sizeof value);
    return value;
}

static int64_t load_i64(const struct column *column, size_t row)
{
    int64_t value;
    memcpy(&value, column->values + row * sizeof value, sizeof value);
    return value;
}

static double load_f64(const struct column *column, size_t row)
{
    double value;
    memcpy(&value, column->values + row * sizeof value, sizeof value);
    return value;
}

static struct text load_text(const struct column *column, size_t row)
{
    struct text value;
    memcpy(&value, column->values + row * sizeof value, sizeof value);
    return value;
}

/* An integer of whichever type. */
static char *put_integer(char *at, const struct column *column, size_t row)
{
    uint32_t narrow;
    switch (column->type) {
    case COLUMN_U8:
        return at + decimal_unsigned(column->values[row], at);
    case COLUMN_U32:
        memcpy(&narrow, column->values + row * sizeof narrow, sizeof narrow);
        return at + decimal_unsigned(narrow, at);
    case COLUMN_U64:
        return at + decimal_unsigned(load_u64(column, row), at);
    default:
        return at + decimal_integer(load_i64(column, row), at);
    }
}

/* Make room for `more` bytes after `at`, which points into `out`; returns where `at` is now, or NULL without memory. */
static char *room(struct buffer *out, const char *at, size_t more)
{
    out->length = (size_t)(at - (const char *)out->bytes);
    return buffer_reserve(out, more) ? (char *)out->bytes + out->length : NULL;
}

/* ---- JSON ---- */

static bool append_string(struct buffer *out, struct text text)
{
    if (!buffer_reserve(out, 2 + text.length * ESCAPE_FACTOR))
        return false;
    char *at = (char *)out->bytes + out->length;
    out->length += (size_t)(put_string(at, text.bytes, text.length) - at);
    return true;
}

static char *put_field_time(char *at, struct field *field, int64_t time)
{
    if (time < 0)
        return put(at, "null", 4);
    if (!field->time_length || field->time != time) {
        field->time = time;
        field->time_length = (size_t)(put_time(field->time_text, time) - field->time_text);
    }
    return put(at, field->time_text, field->time_length);
}

static char *put_json_value(char *at, struct field *field, size_t row)
{
    const struct column *column = field->column;
    if (column->type == COLUMN_F64) {
        double number = load_f64(column, row);
        return isfinite(number) ? at + shortest_double(number, at) : put(at, "null", 4);
    }
    if (column->type == COLUMN_TIME)
        return put_field_time(at, field, load_i64(column, row));
    return put_integer(at, column, row);
}

/* One row: each value after what stands before it, then `end`. */
static bool write_json_row(struct buffer *out, const struct plan *plan, size_t row, const char end[2])
{
    if (!buffer_reserve(out, plan->room))
        return false;
    char *at = (char *)out->bytes + out->length;
    for (size_t i = 0; i < plan->count; i++) {
        const struct column *column = plan->fields[i].column;
        at = put_prefix(at, plan, &plan->fields[i]);
        if (column->type != COLUMN_TEXT) {
            at = put_json_value(at, &plan->fields[i], row);
            continue;
        }
        struct text text = load_text(column, row);
        if (!(at = room(out, at, 2 + text.length * ESCAPE_FACTOR + plan->room)))
            return false;
        at = put_string(at, text.bytes, text.length);
    }
    at = put(at, end, 2);
    out->length = (size_t)(at - (char *)out->bytes);
    return true;
}

static bool write_json_rows(const struct table *table, const struct plan *plan, struct buffer *out, const char end[2])
{
    bool written = true;
    for (size_t row = 0; plan->count && row < table->rows && written; row++)
        written = write_json_row(out, plan, row, end);
    return written;
}

static enum rows_status finish(struct plan *plan, struct buffer *out, size_t length, bool written)
{
    plan_clear(plan);
    if (written)
        return ROWS_DONE;
    out->length = length;
    return ROWS_NO_MEMORY;
}

enum rows_status rows_json_objects(const struct table *table, struct buffer *out)
{
    struct plan plan;
    size_t length = out->length;
    bool written = plan_open(&plan, table);
    for (size_t i = 0; i < table->columns_count && written; i++) {
        size_t start = plan.prefixes.length;
        written = buffer_append(&plan.prefixes, i ? "," : "{", 1) &&
                  append_string(&plan.prefixes, table->columns[i].name) && buffer_append(&plan.prefixes, ":", 1);
        plan_field(&plan, &table->columns[i], start);
    }
    written = written && write_json_rows(table, &plan, out, "}\n");
    return finish(&plan, out, length, written);
}

enum rows_status rows_json_arrays(const struct table *table, struct buffer *out)
{
    struct plan plan;
    size_t length = out->length;
    bool written = plan_open(&plan, table) && buffer_append(out, "{\"columns\":[", 12);
    for (size_t i = 0; i < table->columns_count && written; i++) {
        size_t start = plan.prefixes.length;
        written = buffer_append(&plan.prefixes, i ? "," : "[", 1) && buffer_append(out, ",", i != 0) &&
                  append_string(out, table->columns[i].name);
        plan_field(&plan, &table->columns[i], start);
    }
    written = written && buffer_append(out, "],\"rows\":[", 10) && write_json_rows(table, &plan, out, "],");
    if (written && table->rows && plan.count)
        out->length--; /* the last comma */
    written = written && buffer_append(out, "]}", 2);
    return finish(&plan, out, length, written);
}

/* ---- line protocol ---- */

/* Whether line protocol can say it: it has no escape for control characters, and a backslash would escape what follows. */
static bool sayable(struct text text)
{
    for (size_t i = 0; i < text.length; i++)
        if (text.bytes[i] < 0x20 || text.bytes[i] == 0x7F)
            return false;
    return text.length && text.bytes[text.length - 1] != '\\';
}

/* Tags and fields end at these; a measurement does not end at an equal sign. */
static const bool SPECIAL[256] = {[','] = true, [' '] = true, ['='] = true};
static const bool SPECIAL_IN_MEASUREMENT[256] = {[','] = true, [' '] = true};

/* At most twice the length. */
static char *put_escaped(char *at, struct text text, const bool special[256])
{
    for (size_t i = 0; i < text.length; i++) {
        if (special[text.bytes[i]])
            *at++ = '\\';
        *at++ = (char)text.bytes[i];
    }
    return at;
}

static enum rows_status append_escaped(struct buffer *out, struct text text, const bool special[256])
{
    if (!sayable(text))
        return ROWS_UNSAYABLE;
    if (!buffer_reserve(out, 2 * text.length))
        return ROWS_NO_MEMORY;
    char *at = (char *)out->bytes + out->length;
    out->length += (size_t)(put_escaped(at, text, special) - at);
    return ROWS_DONE;
}

/* Plan the texts (or all others but the stamp): their names and equal signs, each after a comma. */
static enum rows_status plan_line(struct plan *plan, const struct table *table, size_t stamp, bool texts)
{
    for (size_t i = 0; i < table->columns_count; i++) {
        const struct column *column = &table->columns[i];
        if (i == stamp || (column->type == COLUMN_TEXT) != texts)
            continue;
        size_t start = plan->prefixes.length;
        if (!buffer_append(&plan->prefixes, ",", 1))
            return ROWS_NO_MEMORY;
        enum rows_status status = append_escaped(&plan->prefixes, column->name, SPECIAL);
        if (status != ROWS_DONE)
            return status;
        if (!buffer_append(&plan->prefixes, "=", 1))
            return ROWS_NO_MEMORY;
        plan_field(plan, column, start);
    }
    return ROWS_DONE;
}

/* The fields of one row; returns `at` if none of them has a value. */
static char *put_fields(char *at, const struct plan *plan, size_t row)
{
    char *start = at;
    for (size_t i = 0; i < plan->count; i++) {
        const struct column *column = plan->fields[i].column;
        if (column->type == COLUMN_TEXT)
            continue;
        bool floating = column->type == COLUMN_F64;
        double number = floating ? load_f64(column, row) : 0;
        if (!isfinite(number) || (column->type == COLUMN_TIME && load_i64(column, row) < 0))
            continue;
        char *before = at;
        at = put_prefix(at, plan, &plan->fields[i]);
        if (before == start)
            *before = ' '; /* in place of the comma */
        if (floating) {
            at += shortest_double(number, at);
            continue;
        }
        at = put_integer(at, column, row);
        *at++ = column->type == COLUMN_U64 ? 'u' : 'i';
    }
    return at;
}

/* One row. `head` is the measurement as it is written. */
static enum rows_status write_line(struct buffer *out, const struct plan *plan, const struct buffer *head,
                                   const struct column *stamp, size_t row)
{
    if (!buffer_reserve(out, head->length + plan->room))
        return ROWS_NO_MEMORY;
    size_t start = out->length;
    char *at = put((char *)out->bytes + start, head->bytes, head->length);
    for (size_t i = 0; i < plan->count && plan->fields[i].column->type == COLUMN_TEXT; i++) {
        struct text text = load_text(plan->fields[i].column, row);
        if (!sayable(text))
            return ROWS_UNSAYABLE;
        at = put_prefix(at, plan, &plan->fields[i]);
        if (!(at = room(out, at, 2 * text.length + plan->room)))
            return ROWS_NO_MEMORY;
        at = put_escaped(at, text, SPECIAL);
    }
    char *end = put_fields(at, plan, row);
    if (end == at) {
        out->length = start;
        return ROWS_DONE;
    }
    *end++ = ' ';
    end += decimal_integer(load_i64(stamp, row), end);
    *end++ = '\n';
    out->length = (size_t)(end - (char *)out->bytes);
    return ROWS_DONE;
}

/* As rows_line, but leaves rows that it wrote before it failed. */
static enum rows_status write_lines(const struct table *table, struct plan *plan, struct buffer *head, size_t stamp,
                                    struct buffer *out)
{
    enum rows_status status = plan_line(plan, table, stamp, true);
    if (status == ROWS_DONE)
        status = plan_line(plan, table, stamp, false);
    for (size_t row = 0; row < table->rows && status == ROWS_DONE; row++)
        status = write_line(out, plan, head, &table->columns[stamp], row);
    return status;
}

enum rows_status rows_line(const struct table *table, struct text measurement, size_t stamp, struct buffer *out)
{
    struct plan plan;
    struct buffer head = {0};
    size_t length = out->length;
    enum rows_status status = append_escaped(&head, measurement, SPECIAL_IN_MEASUREMENT);
    if (status == ROWS_DONE && head.bytes[0] == '#')
        status = ROWS_UNSAYABLE; /* it would be a comment */
    if (!plan_open(&plan, table))
        status = ROWS_NO_MEMORY;
    if (status == ROWS_DONE)
        status = write_lines(table, &plan, &head, stamp, out);
    plan_clear(&plan);
    buffer_clear(&head, 0);
    if (status != ROWS_DONE)
        out->length = length;
    return status;
}
