#include "record.h"

#include <math.h>

#include "text.h"

enum { OP_ROW = 0x01, OP_WINDOW = 0x02, OP_READING = 0x10, WITH_QUALITY = 0x80 };
enum tag { TAG_NULL, TAG_FLOAT, TAG_FLOAT32, TAG_WHOLE, TAG_INTEGER, TAG_FALSE, TAG_TRUE, TAG_STRING, TAG_BYTES,
           TAG_JSON, TAG_COUNT };

/* Up to here a whole number is written as a varint, for float32 too: each such number is a float32. */
static const double WHOLE_MAX = 16777216.0;

bool record_begin(struct buffer *out, struct record_header header)
{
    if (!buffer_reserve(out, RECORD_HEADER))
        return false;
    uint8_t *at = out->bytes + out->length;
    *at++ = RECORD_VERSION;
    at = put_fixed(at, header.epoch, 4);
    put_fixed(at, header.seq, 8);
    out->length += RECORD_HEADER;
    return true;
}

bool record_row(struct buffer *out, int64_t time)
{
    if (!buffer_reserve(out, RECORD_ROW_MAX))
        return false;
    uint8_t *at = out->bytes + out->length;
    *at++ = OP_ROW;
    put_fixed(at, (uint64_t)time, 8);
    out->length += RECORD_ROW_MAX;
    return true;
}

static bool is_whole(double number)
{
    return fabs(number) <= WHOLE_MAX && number == (double)(int64_t)number && !(number == 0 && signbit(number));
}

static enum tag tag_of(const struct value *value)
{
    switch (value->tag) {
    case VALUE_FLOAT:
        return is_whole(value->number) ? TAG_WHOLE : TAG_FLOAT;
    case VALUE_FLOAT32:
        return is_whole(value->number) ? TAG_WHOLE : TAG_FLOAT32;
    case VALUE_INTEGER:
        return TAG_INTEGER;
    case VALUE_BOOLEAN:
        return value->integer ? TAG_TRUE : TAG_FALSE;
    case VALUE_STRING:
        return TAG_STRING;
    case VALUE_BYTES:
        return TAG_BYTES;
    case VALUE_JSON:
        return TAG_JSON;
    default:
        return TAG_NULL;
    }
}

static uint8_t *put_float(uint8_t *at, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return put_fixed(at, bits, 4);
}

static uint8_t *put_payload(uint8_t *at, enum tag tag, const struct value *value)
{
    switch (tag) {
    case TAG_FLOAT:
        return put_double(at, value->number);
    case TAG_FLOAT32:
        return put_float(at, (float)value->number);
    case TAG_WHOLE:
        return put_varint(at, zigzag((int64_t)value->number));
    case TAG_INTEGER:
        return put_varint(at, zigzag(value->integer));
    case TAG_STRING:
    case TAG_BYTES:
    case TAG_JSON:
        at = put_varint(at, value->text->length);
        if (value->text->length)
            memcpy(at, value->text->bytes, value->text->length);
        return at + value->text->length;
    default:
        return at;
    }
}

bool record_reading(struct buffer *out, uint32_t property, uint8_t quality, const struct value *value)
{
    if (!buffer_reserve(out, RECORD_READING_MAX + (value_is_text(value) ? value->text->length : 0)))
        return false;
    enum tag tag = tag_of(value);
    uint8_t *at = out->bytes + out->length;
    *at++ = (uint8_t)(OP_READING + tag) | (quality ? WITH_QUALITY : 0);
    at = put_varint(at, property);
    if (quality)
        *at++ = quality;
    at = put_payload(at, tag, value);
    out->length = (size_t)(at - out->bytes);
    return true;
}

bool record_window(struct buffer *out, const struct record_window *window)
{
    if (!buffer_reserve(out, RECORD_WINDOW_MAX))
        return false;
    uint8_t *at = out->bytes + out->length;
    *at++ = OP_WINDOW;
    at = put_varint(at, window->property);
    *at++ = window->kind;
    at = put_varint(at, window->mask);
    at = put_fixed(at, (uint64_t)window->start, 8);
    at = put_varint(at, window->length_ns);
    at = put_varint(at, window->count);
    at = put_varint(at, window->bad);
    for (unsigned bit = 0; bit < STATISTIC_COUNT; bit++)
        if (window->mask >> bit & 1)
            at = put_double(at, window->statistics[bit]);
    if (window->mask >> STATISTIC_QUANTILES & 1)
        at = put_varint(at, window->quantiles_count);
    for (uint32_t i = 0; i < window->quantiles_count; i++) {
        at = put_varint(at, window->quantiles[i]);
        at = put_double(at, window->quantile_values[i]);
    }
    out->length = (size_t)(at - out->bytes);
    return true;
}

bool record_open(struct cursor *cursor, const uint8_t *body, size_t length, struct record_header *header)
{
    *cursor = (struct cursor){body, body + length, false};
    uint8_t version = (uint8_t)get_fixed(cursor, 1);
    header->epoch = (uint32_t)get_fixed(cursor, 4);
    header->seq = get_fixed(cursor, 8);
    return !cursor->failed && version == RECORD_VERSION;
}

static uint32_t get_property(struct cursor *cursor)
{
    uint64_t property = get_varint(cursor);
    if (property > UINT32_MAX)
        cursor->failed = true;
    return (uint32_t)property;
}

static void get_text(struct cursor *cursor, struct value *value, struct text *text)
{
    uint64_t length = get_varint(cursor);
    const uint8_t *bytes = get_bytes(cursor, length);
    if (!bytes || length > RECORD_TEXT_MAX || (value->tag == VALUE_STRING && !utf8_valid(bytes, length)) ||
        (value->tag == VALUE_JSON && !json_valid(bytes, length))) {
        cursor->failed = true;
        return;
    }
    *text = (struct text){bytes, (size_t)length};
    value->text = text;
}

static void get_value(struct cursor *cursor, enum tag tag, struct value *value, struct text *text)
{
    static const enum value_tag tags[TAG_COUNT] = {
        [TAG_NULL] = VALUE_NULL,       [TAG_FLOAT] = VALUE_FLOAT,     [TAG_FLOAT32] = VALUE_FLOAT32,
        [TAG_WHOLE] = VALUE_FLOAT,     [TAG_INTEGER] = VALUE_INTEGER, [TAG_FALSE] = VALUE_BOOLEAN,
        [TAG_TRUE] = VALUE_BOOLEAN,    [TAG_STRING] = VALUE_STRING,   [TAG_BYTES] = VALUE_BYTES,
        [TAG_JSON] = VALUE_JSON,
    };
    value->tag = tags[tag];
    switch (tag) {
    case TAG_FLOAT:
        value->number = get_double(cursor);
        break;
    case TAG_FLOAT32:
        value->number = (double)get_float(cursor);
        break;
    case TAG_WHOLE:
        value->number = (double)unzigzag(get_varint(cursor));
        break;
    case TAG_INTEGER:
        value->integer = unzigzag(get_varint(cursor));
        break;
    case TAG_STRING:
    case TAG_BYTES:
    case TAG_JSON:
        get_text(cursor, value, text);
        break;
    default:
        value->integer = tag == TAG_TRUE;
    }
}

static void get_quantiles(struct cursor *cursor, struct record_window *window)
{
    uint64_t count = get_varint(cursor);
    if (count == 0 || count > QUANTILES_MOST) {
        cursor->failed = true;
        return;
    }
    window->quantiles_count = (uint32_t)count;
    for (uint32_t i = 0; i < window->quantiles_count; i++) {
        uint64_t quantile = get_varint(cursor);
        cursor->failed |= quantile > QUANTILE_WHOLE;
        window->quantiles[i] = (uint32_t)quantile;
        window->quantile_values[i] = get_double(cursor);
    }
}

static void get_window(struct cursor *cursor, struct record_window *window)
{
    window->property = get_property(cursor);
    window->kind = (uint8_t)get_fixed(cursor, 1);
    uint64_t mask = get_varint(cursor);
    window->mask = (uint32_t)mask;
    window->start = get_time(cursor);
    window->length_ns = get_varint(cursor);
    window->count = get_varint(cursor);
    window->bad = get_varint(cursor);
    int64_t end;
    if (window->kind >= KIND_COUNT || mask >> (STATISTIC_QUANTILES + 1) || window->length_ns > INT64_MAX ||
        __builtin_add_overflow(window->start, (int64_t)window->length_ns, &end))
        cursor->failed = true;
    for (unsigned bit = 0; bit < STATISTIC_COUNT; bit++)
        window->statistics[bit] = window->mask >> bit & 1 ? get_double(cursor) : (double)NAN;
    window->quantiles_count = 0;
    if (window->mask >> STATISTIC_QUANTILES & 1)
        get_quantiles(cursor, window);
}

enum record_item record_next(struct cursor *cursor, struct record_entry *entry)
{
    enum record_item item;
    if (cursor->at == cursor->end)
        return ITEM_END;
    uint8_t op = *cursor->at++;
    unsigned tag = (op & ~(unsigned)WITH_QUALITY) - OP_READING;
    if (op == OP_ROW) {
        entry->time = get_time(cursor);
        item = ITEM_ROW;
    } else if (op == OP_WINDOW) {
        get_window(cursor, &entry->window);
        item = ITEM_WINDOW;
    } else if (tag < TAG_COUNT) {
        entry->property = get_property(cursor);
        entry->quality = op & WITH_QUALITY ? (uint8_t)get_fixed(cursor, 1) : 0;
        get_value(cursor, (enum tag)tag, &entry->value, &entry->text);
        item = ITEM_READING;
    } else {
        return ITEM_MALFORMED;
    }
    return cursor->failed ? ITEM_MALFORMED : item;
}
