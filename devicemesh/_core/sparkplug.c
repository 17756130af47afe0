#include "sparkplug.h"
#include "quality.h"
#include <math.h>

enum wire_type { WIRE_VARINT, WIRE_FIXED64, WIRE_BYTES, WIRE_FIXED32 = 5 };
enum { /* fields of a payload, and of a metric */
    PAYLOAD_TIMESTAMP = 1,
    PAYLOAD_METRICS = 2,
    METRIC_NAME = 1,
    METRIC_ALIAS = 2,
    METRIC_TIMESTAMP = 3,
    METRIC_DATATYPE = 4,
    METRIC_HISTORICAL = 5,
    METRIC_NULL = 7,
    METRIC_PROPERTIES = 9,
    METRIC_INT = 10,
    METRIC_LONG = 11,
    METRIC_FLOAT = 12,
    METRIC_DOUBLE = 13,
    METRIC_BOOLEAN = 14,
    METRIC_STRING = 15,
    METRIC_BYTES = 16,
};
/* The properties {"Quality": Int32} of what is bad (0) and of what is stale (500), as field METRIC_PROPERTIES. */
static const uint8_t BAD[] = {0x4A, 15, 0x0A, 7, 'Q', 'u', 'a', 'l', 'i', 't', 'y', 0x12, 4, 0x08, 3, 0x18, 0};
static const uint8_t STALE[] = {0x4A, 16, 0x0A, 7,    'Q',  'u', 'a', 'l',  'i',
                                't',  'y', 0x12, 5, 0x08, 3,   0x18, 0xF4, 3};
enum { METRIC_ROOM = 96 }; /* of all but a name and a text */

struct writer {
    struct buffer *out;
    const struct sparkplug_metrics *metrics;
    enum sparkplug_status status;
};

/* When something was measured, and how well. */
struct stamp {
    int64_t time_ms;
    uint8_t quality;
};

static uint8_t *put_number(uint8_t *at, unsigned field, uint64_t value)
{
    return put_varint(put_varint(at, field << 3 | WIRE_VARINT), value);
}

static int64_t milliseconds(int64_t time_ns)
{
    const int64_t ms = 1000000;
    return time_ns / ms - (time_ns % ms < 0);
}

static const struct text *name_of(const struct writer *w, uint32_t offset)
{
    static const struct text none = {(const uint8_t *)"", 0};
    return offset < w->metrics->names_count ? &w->metrics->names[offset] : &none;
}

/* Whether an integer can be of a type. */
static bool holds(uint32_t type, int64_t integer)
{
    switch (type) {
    case SPARKPLUG_INT32:
        return integer >= INT32_MIN && integer <= INT32_MAX;
    case SPARKPLUG_INT64:
        return true;
    case SPARKPLUG_UINT8:
        return integer >= 0 && integer <= UINT8_MAX;
    case SPARKPLUG_UINT16:
        return integer >= 0 && integer <= UINT16_MAX;
    case SPARKPLUG_UINT64:
        return integer >= 0;
    default:
        return false;
    }
}

/* Whether a value can be of a type as it is; a NULL of every one. */
static bool fits(uint32_t type, const struct value *value)
{
    switch (value->tag) {
    case VALUE_NULL:
        return true;
    case VALUE_FLOAT:
        return type == SPARKPLUG_DOUBLE || (type == SPARKPLUG_FLOAT && fabs(value->number) <= FLT_MAX);
    case VALUE_FLOAT32:
        return type == SPARKPLUG_FLOAT;
    case VALUE_INTEGER:
        return holds(type, value->integer);
    case VALUE_BOOLEAN:
        return type == SPARKPLUG_BOOLEAN;
    case VALUE_STRING:
        return type == SPARKPLUG_STRING;
    case VALUE_BYTES:
        return type == SPARKPLUG_BYTES;
    default:
        return false;
    }
}

static uint8_t *put_text(uint8_t *at, unsigned field, const struct text *text)
{
    at = put_varint(put_varint(at, field << 3 | WIRE_BYTES), text->length);
    memcpy(at, text->bytes, text->length);
    return at + text->length;
}

static uint8_t *put_real(uint8_t *at, uint32_t type, double number)
{
    if (type == SPARKPLUG_DOUBLE)
        return put_double(put_varint(at, METRIC_DOUBLE << 3 | WIRE_FIXED64), number);
    float narrow = (float)number;
    uint32_t bits;
    memcpy(&bits, &narrow, sizeof bits);
    return put_fixed(put_varint(at, METRIC_FLOAT << 3 | WIRE_FIXED32), bits, 4);
}

static uint8_t *put_value(uint8_t *at, uint32_t type, const struct value *value)
{
    switch (value->tag) {
    case VALUE_FLOAT:
    case VALUE_FLOAT32:
        return put_real(at, type, value->number);
    case VALUE_BOOLEAN:
        return put_number(at, METRIC_BOOLEAN, (uint64_t)value->integer);
    case VALUE_STRING:
        return put_text(at, METRIC_STRING, value->text);
    case VALUE_BYTES:
        return put_text(at, METRIC_BYTES, value->text);
    default:
        if (type == SPARKPLUG_INT64 || type == SPARKPLUG_UINT64)
            return put_number(at, METRIC_LONG, (uint64_t)value->integer);
        return put_number(at, METRIC_INT, (uint32_t)value->integer);
    }
}

/* All of a metric. Its length, which comes before it, is known afterwards: one byte nearly always does. */
static uint8_t *put_metric(const struct writer *w, uint8_t *at, struct sparkplug_metric metric,
                           const struct value *value, struct stamp stamp)
{
    if (w->metrics->names)
        at = put_text(at, METRIC_NAME, name_of(w, metric.offset));
    else
        at = put_number(at, METRIC_ALIAS, w->metrics->first_alias + metric.offset);
    at = put_number(at, METRIC_TIMESTAMP, (uint64_t)stamp.time_ms);
    at = put_number(at, METRIC_DATATYPE, metric.type);
    if (w->metrics->late || stamp.quality == QUALITY_FROM_HISTORY || stamp.quality == QUALITY_UNCERTAIN_FROM_HISTORY)
        at = put_number(at, METRIC_HISTORICAL, 1);
    if (value->tag == VALUE_NULL)
        at = put_number(at, METRIC_NULL, 1);
    if (stamp.quality >= QUALITY_UNCERTAIN) {
        bool bad = stamp.quality >= QUALITY_BAD;
        size_t size = bad ? sizeof BAD : sizeof STALE;
        memcpy(at, bad ? BAD : STALE, size);
        at += size;
    }
    return value->tag == VALUE_NULL ? at : put_value(at, metric.type, value);
}

static void write_metric(struct writer *w, struct sparkplug_metric metric, struct value value, struct stamp stamp)
{
    if (value_is_float(&value) && !isfinite(value.number))
        value.tag = VALUE_NULL; /* as in JSON */
    if (metric.offset == SPARKPLUG_NONE || !fits(metric.type, &value)) {
        w->status = SPARKPLUG_ELSE;
        return;
    }
    size_t name = w->metrics->names ? name_of(w, metric.offset)->length : 0;
    size_t room = METRIC_ROOM + name + (value_is_text(&value) ? value.text->length : 0);
    if (!buffer_reserve(w->out, room)) {
        w->status = SPARKPLUG_NO_MEMORY;
        return;
    }
    uint8_t *start = w->out->bytes + w->out->length;
    uint8_t *inside = put_varint(start, PAYLOAD_METRICS << 3 | WIRE_BYTES) + 1;
    size_t length = (size_t)(put_metric(w, inside, metric, &value, stamp) - inside);
    uint8_t head[VARINT_MAX];
    size_t head_length = (size_t)(put_varint(head, length) - head);
    if (head_length > 1)
        memmove(inside + head_length - 1, inside, length);
    memcpy(inside - 1, head, head_length);
    w->out->length += 1 + head_length + length;
}

/* A statistic is a number; what it is told as is its metric's. */
static void write_statistic(struct writer *w, struct sparkplug_metric metric, double number, struct stamp stamp)
{
    struct value value = {.tag = VALUE_FLOAT, .number = number};
    const double exact = 9007199254740992.0; /* 2^53 */
    if (metric.type == SPARKPLUG_INT64 && fabs(number) <= exact && number == (double)(int64_t)number)
        value = (struct value){.tag = VALUE_INTEGER, .integer = (int64_t)number};
    else if (metric.type == SPARKPLUG_BOOLEAN && isfinite(number))
        value = (struct value){.tag = VALUE_BOOLEAN, .integer = number != 0};
    write_metric(w, metric, value, stamp);
}

static struct sparkplug_metric quantile_of(const struct sparkplug_property *property, uint32_t which)
{
    for (unsigned i = 0; i < QUANTILES_MOST; i++)
        if (property->quantiles[i].which == which)
            return property->quantiles[i].metric;
    return (struct sparkplug_metric){SPARKPLUG_NONE, 0};
}

static void write_window(struct writer *w, const struct record_window *window, const struct sparkplug_property *property)
{
    struct stamp stamp = {milliseconds(window->start + (int64_t)window->length_ns), QUALITY_GOOD};
    if (window->kind != property->kind || window->count > INT64_MAX || window->bad > INT64_MAX) {
        w->status = SPARKPLUG_ELSE;
        return;
    }
    write_metric(w, property->count, (struct value){.tag = VALUE_INTEGER, .integer = (int64_t)window->count}, stamp);
    write_metric(w, property->bad, (struct value){.tag = VALUE_INTEGER, .integer = (int64_t)window->bad}, stamp);
    for (unsigned bit = 0; bit < STATISTIC_COUNT; bit++)
        if (window->mask >> bit & 1)
            write_statistic(w, property->statistics[bit], window->statistics[bit], stamp);
    for (uint32_t i = 0; i < window->quantiles_count; i++)
        write_statistic(w, quantile_of(property, window->quantiles[i]), window->quantile_values[i], stamp);
}

/* Where a row stands: there is none, or readings must follow, or may. */
enum row { ROW_NONE, ROW_EMPTY, ROW_FILLED };

static void write_item(struct writer *w, const struct record_entry *entry, bool window, int64_t time_ms)
{
    uint32_t index = window ? entry->window.property : entry->property;
    if (index >= w->metrics->properties_count)
        w->status = SPARKPLUG_ELSE;
    else if (window)
        write_window(w, &entry->window, &w->metrics->properties[index]);
    else
        write_metric(w, w->metrics->properties[index].reading, entry->value, (struct stamp){time_ms, entry->quality});
}

/* Everything of one kind: readings, or windows. */
static void write_items(struct writer *w, struct cursor cursor, bool windows)
{
    struct record_entry entry;
    enum row row = ROW_NONE;
    int64_t time_ms = 0;
    while (w->status == SPARKPLUG_DONE) {
        enum record_item item = record_next(&cursor, &entry);
        bool lost = item == ITEM_READING ? row == ROW_NONE : row == ROW_EMPTY;
        if (lost || item == ITEM_MALFORMED)
            w->status = SPARKPLUG_ELSE;
        if (item == ITEM_END || w->status != SPARKPLUG_DONE)
            return;
        row = item == ITEM_ROW ? ROW_EMPTY : item == ITEM_READING ? ROW_FILLED : ROW_NONE;
        if (item == ITEM_ROW)
            time_ms = milliseconds(entry.time);
        else if ((item == ITEM_WINDOW) == windows)
            write_item(w, &entry, windows, time_ms);
    }
}

enum sparkplug_status sparkplug_encode(struct buffer *out, const uint8_t *body, size_t length,
                                       const struct sparkplug_metrics *metrics, int64_t now_ms)
{
    struct writer w = {out, metrics, SPARKPLUG_DONE};
    struct record_header header;
    struct cursor cursor;
    if (!record_open(&cursor, body, length, &header))
        return SPARKPLUG_ELSE;
    if (!buffer_reserve(out, METRIC_ROOM))
        return SPARKPLUG_NO_MEMORY;
    uint8_t *start = out->bytes + out->length;
    out->length += (size_t)(put_number(start, PAYLOAD_TIMESTAMP, (uint64_t)now_ms) - start);
    write_items(&w, cursor, false);
    write_items(&w, cursor, true);
    return w.status;
}
