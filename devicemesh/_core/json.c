#include "json.h"

#include <math.h>
#include <string.h>

#include "quality.h"
#include "record.h"
#include "shortest.h"
#include "text.h"

struct writer {
    struct buffer *out;
    const struct text *names;
    size_t names_count;
    enum json_status status;
};

/* Room for `more` bytes: where to write them, or NULL with the status set. */
static char *room(struct writer *w, size_t more)
{
    if (!buffer_reserve(w->out, more)) {
        w->status = JSON_NO_MEMORY;
        return NULL;
    }
    return (char *)w->out->bytes + w->out->length;
}

static void wrote(struct writer *w, const char *end)
{
    w->out->length = (size_t)(end - (const char *)w->out->bytes);
}

static char *put(char *at, const char *literal)
{
    size_t length = strlen(literal);
    memcpy(at, literal, length);
    return at + length;
}

static void write_literal(struct writer *w, const char *literal)
{
    char *at = room(w, strlen(literal));
    if (at)
        wrote(w, put(at, literal));
}

static const struct text *name_of(struct writer *w, uint32_t property)
{
    if (property < w->names_count)
        return &w->names[property];
    w->status = JSON_UNNAMED;
    return NULL;
}

static char *put_float(char *at, double number, bool float32)
{
    if (!isfinite(number))
        return put(at, "null");
    return at + (float32 ? shortest_float((float)number, at) : shortest_double(number, at));
}

/* Bytes that a value may take as JSON. */
static size_t value_room(const struct value *value)
{
    switch (value->tag) {
    case VALUE_STRING:
        return 2 + value->text->length * ESCAPE_FACTOR;
    case VALUE_BYTES:
        return 2 + (value->text->length + 2) / 3 * 4;
    case VALUE_JSON:
        return value->text->length;
    default:
        return SHORTEST_MAX;
    }
}

static char *put_value(char *at, const struct value *value)
{
    switch (value->tag) {
    case VALUE_FLOAT:
        return put_float(at, value->number, false);
    case VALUE_FLOAT32:
        return put_float(at, value->number, true);
    case VALUE_INTEGER:
        return at + decimal_integer(value->integer, at);
    case VALUE_BOOLEAN:
        return put(at, value->integer ? "true" : "false");
    case VALUE_STRING:
        return put_string(at, value->text->bytes, value->text->length);
    case VALUE_BYTES:
        return put_base64(at, value->text->bytes, value->text->length);
    case VALUE_JSON:
        memcpy(at, value->text->bytes, value->text->length);
        return at + value->text->length;
    default:
        return put(at, "null");
    }
}

/* mapper.Quality.word; a code without a word is its severity and its number. */
static char *put_quality(char *at, uint8_t quality)
{
    static const char *const good[] = {"Good", "Good.FromHistory"};
    static const char *const uncertain[] = {"Uncertain", "Uncertain.UnknownCode", "Uncertain.FromHistory"};
    static const char *const bad[] = {"Bad",         "Bad.NoLink",     "Bad.NoAnswer",    "Bad.Refused",
                                      "Bad.BadAddress", "Bad.Undecodable", "Bad.Pending"};
    static const char *const severity[] = {"Good", "Uncertain", "Bad", "Bad"};
    *at++ = '"';
    if (quality <= QUALITY_FROM_HISTORY) {
        at = put(at, good[quality]);
    } else if (quality - QUALITY_UNCERTAIN < 3 && quality >= QUALITY_UNCERTAIN) {
        at = put(at, uncertain[quality - QUALITY_UNCERTAIN]);
    } else if (quality >= QUALITY_BAD && quality <= QUALITY_PENDING) {
        at = put(at, bad[quality - QUALITY_BAD]);
    } else {
        at = put(at, severity[quality >> 6]);
        at = put(at, ".0x");
        *at++ = "0123456789ABCDEF"[quality >> 4];
        *at++ = "0123456789ABCDEF"[quality & 15];
    }
    *at++ = '"';
    return at;
}

char *json_reading(char *out, const struct value *value, int64_t time_ns, uint8_t quality)
{
    int64_t within = time_ns % 1000000;
    out = put(out, "{\"value\":");
    out = put_value(out, value);
    out = put(out, ",\"time\":");
    out = put_time(out, time_ns - (within < 0 ? within + 1000000 : within)); /* to the millisecond */
    out = put(out, ",\"quality\":");
    out = put_quality(out, quality);
    *out++ = '}';
    return out;
}

enum { QUALITY_ROOM = 32 };

/* `"name":value` or `"name":"quality"`, a comma before all but the first. */
static void write_reading(struct writer *w, const struct record_entry *entry, bool first, bool quality)
{
    const struct text *name = name_of(w, entry->property);
    char *at = name ? room(w, 4 + name->length * ESCAPE_FACTOR + QUALITY_ROOM + value_room(&entry->value)) : NULL;
    if (!at)
        return;
    if (!first)
        *at++ = ',';
    at = put_string(at, name->bytes, name->length);
    *at++ = ':';
    wrote(w, quality ? put_quality(at, entry->quality) : put_value(at, &entry->value));
}

/* Write the readings of one row, or (`quality`) only the qualities of those that are not Good.
 * The cursor stops before what is no reading. Returns how many of the readings are not Good. */
static size_t write_readings(struct writer *w, struct cursor *cursor, bool quality)
{
    struct record_entry entry;
    size_t written = 0, doubtful = 0;
    while (w->status == JSON_DONE) {
        struct cursor next = *cursor;
        enum record_item item = record_next(&next, &entry);
        if (item == ITEM_MALFORMED)
            w->status = JSON_MALFORMED;
        if (item != ITEM_READING)
            break;
        *cursor = next;
        doubtful += entry.quality != QUALITY_GOOD;
        if (!quality || entry.quality != QUALITY_GOOD)
            write_reading(w, &entry, written++ == 0, quality);
    }
    if (!written && !quality)
        w->status = w->status ? w->status : JSON_MALFORMED; /* a row has readings */
    return doubtful;
}

static void write_row(struct writer *w, struct cursor *cursor, int64_t time, bool first)
{
    struct cursor again = *cursor;
    char *at = room(w, TIME_MAX + 32);
    if (!at)
        return;
    at = put(at, first ? ",\"rows\":[{\"time\":" : ",{\"time\":");
    at = put_time(at, time);
    wrote(w, put(at, ",\"values\":{"));
    if (write_readings(w, cursor, false)) {
        write_literal(w, "},\"quality\":{");
        write_readings(w, &again, true);
    }
    write_literal(w, "}}");
}

/* All rows; counts the windows on the way. */
static size_t write_rows(struct writer *w, struct cursor cursor)
{
    struct record_entry entry;
    size_t rows = 0, windows = 0;
    while (w->status == JSON_DONE) {
        enum record_item item = record_next(&cursor, &entry);
        if (item == ITEM_END)
            break;
        if (item == ITEM_ROW)
            write_row(w, &cursor, entry.time, rows++ == 0);
        else if (item == ITEM_WINDOW)
            windows++;
        else
            w->status = JSON_MALFORMED;
    }
    if (rows)
        write_literal(w, "]");
    return windows;
}

/* A value of a window's own kind: an integer's minimum is an integer. */
static char *put_of_kind(char *at, double number, uint8_t kind)
{
    const double exact = 9007199254740992.0; /* 2^53 */
    bool whole = fabs(number) <= exact && number == (double)(int64_t)number;
    if (kind == KIND_INTEGER && whole)
        return at + decimal_integer((int64_t)number, at);
    if (kind == KIND_BOOLEAN && isfinite(number))
        return put(at, number != 0 ? "true" : "false");
    return put_float(at, number, kind == KIND_FLOAT32 && is_float32(number));
}

/* How a statistic is printed: as a float; as a value of the series; as a sum of such, of which booleans count; as a number of
 * times. */
enum print { PRINT_FLOAT, PRINT_VALUE, PRINT_SUM, PRINT_TIMES };

static const struct {
    const char *key;
    enum print print;
} members[STATISTIC_COUNT] = {
    [STATISTIC_MEAN] = {",\"mean\":", PRINT_FLOAT},
    [STATISTIC_MIN] = {",\"min\":", PRINT_VALUE},
    [STATISTIC_MAX] = {",\"max\":", PRINT_VALUE},
    [STATISTIC_FIRST] = {",\"first\":", PRINT_VALUE},
    [STATISTIC_LAST] = {",\"last\":", PRINT_VALUE},
    [STATISTIC_STDDEV] = {",\"stddev\":", PRINT_FLOAT},
    [STATISTIC_SUM] = {",\"sum\":", PRINT_SUM},
    [STATISTIC_RANGE] = {",\"range\":", PRINT_SUM},
    [STATISTIC_DELTA] = {",\"delta\":", PRINT_SUM},
    [STATISTIC_RMS] = {",\"rms\":", PRINT_FLOAT},
    [STATISTIC_TIME_AVERAGE] = {",\"timeAverage\":", PRINT_FLOAT},
    [STATISTIC_PERCENT_GOOD] = {",\"percentGood\":", PRINT_FLOAT},
    [STATISTIC_DURATION_NONZERO] = {",\"durationNonzero\":", PRINT_FLOAT},
    [STATISTIC_TRANSITIONS] = {",\"transitions\":", PRINT_TIMES},
    [STATISTIC_INCREASE] = {",\"increase\":", PRINT_SUM},
    [STATISTIC_RATE] = {",\"rate\":", PRINT_FLOAT},
    [STATISTIC_RESETS] = {",\"resets\":", PRINT_TIMES},
};

static char *put_statistic(char *at, double number, uint8_t kind, enum print print)
{
    bool counted = print == PRINT_TIMES || (print == PRINT_SUM && kind == KIND_BOOLEAN);
    if (print == PRINT_VALUE || (print == PRINT_SUM && kind == KIND_INTEGER))
        return put_of_kind(at, number, kind);
    return counted ? put_of_kind(at, number, KIND_INTEGER) : put_float(at, number, false);
}

/* p95, p99.9 */
static char *put_quantile(char *at, uint32_t quantile, double value, uint8_t kind)
{
    const uint32_t percent = QUANTILE_WHOLE / 100;
    at = put(at, ",\"p");
    at += decimal_unsigned(quantile / percent, at);
    uint32_t rest = quantile % percent;
    if (rest)
        *at++ = '.';
    for (uint32_t unit = percent / 10; rest; unit /= 10) {
        *at++ = (char)('0' + rest / unit);
        rest %= unit;
    }
    at = put(at, "\":");
    return put_of_kind(at, value, kind);
}

static void write_window(struct writer *w, const struct record_window *window, bool first)
{
    const struct text *name = name_of(w, window->property);
    enum { MEMBER_ROOM = 24 + SHORTEST_MAX, MEMBERS = 2 + STATISTIC_COUNT + QUANTILES_MOST };
    char *at = name ? room(w, 64 + name->length * ESCAPE_FACTOR + 2 * TIME_MAX + MEMBERS * MEMBER_ROOM) : NULL;
    if (!at)
        return;
    at = put(at, first ? ",\"windows\":[{\"name\":" : ",{\"name\":");
    at = put_string(at, name->bytes, name->length);
    at = put(at, ",\"start\":");
    at = put_time(at, window->start);
    at = put(at, ",\"end\":");
    at = put_time(at, window->start + (int64_t)window->length_ns);
    at = put(at, ",\"count\":");
    at += decimal_unsigned(window->count, at);
    at = put(at, ",\"bad\":");
    at += decimal_unsigned(window->bad, at);
    for (unsigned bit = 0; bit < STATISTIC_COUNT; bit++)
        if (window->mask >> bit & 1)
            at = put_statistic(put(at, members[bit].key), window->statistics[bit], window->kind, members[bit].print);
    for (uint32_t i = 0; i < window->quantiles_count; i++)
        at = put_quantile(at, window->quantiles[i], window->quantile_values[i], window->kind);
    wrote(w, put(at, "}"));
}

/* All windows of a body whose items are known to be well-formed. */
static void write_windows(struct writer *w, struct cursor cursor)
{
    struct record_entry entry;
    bool first = true;
    for (;;) {
        enum record_item item = record_next(&cursor, &entry);
        if (item == ITEM_END || item == ITEM_MALFORMED || w->status != JSON_DONE)
            break;
        if (item != ITEM_WINDOW)
            continue;
        write_window(w, &entry.window, first);
        first = false;
    }
    write_literal(w, "]");
}

enum json_status json_encode(struct buffer *out, const uint8_t *body, size_t length, const struct text *names,
                             size_t names_count)
{
    struct writer w = {out, names, names_count, JSON_DONE};
    struct record_header header;
    struct cursor cursor;
    if (!record_open(&cursor, body, length, &header))
        return JSON_MALFORMED;
    char *at = room(&w, 64);
    if (!at)
        return w.status;
    at = put(at, "{\"epoch\":");
    at += decimal_unsigned(header.epoch, at);
    at = put(at, ",\"seq\":");
    at += decimal_unsigned(header.seq, at);
    wrote(&w, at);
    if (write_rows(&w, cursor))
        write_windows(&w, cursor);
    write_literal(&w, "}");
    return w.status;
}
