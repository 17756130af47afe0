/* libFuzzer target: what goes out. An input is a table, written as JSON and as line protocol, or values for a sketch (held
 * against the same values added in two halves) and for a dense fold, or a record as a Sparkplug payload. */
#include "fuzz_input.h"
#include "sparkplug.h"
#include "text.h"
#include "windows/dense.h"
#include "windows/rows.h"
#include "windows/sketch.h"

enum { COLUMNS = 5, TEXT_ROWS = 4 };

/* ---- tables ---- */

static struct text take_text(struct input *input)
{
    size_t length = take_below(input, 9), left = (size_t)(input->end - input->at);
    if (length > left)
        length = left;
    struct text text = {input->at, length};
    if (!utf8_valid(text.bytes, text.length))
        text.length = 0;
    input->at += length;
    return text;
}

static uint8_t *take_values(struct input *input, enum column_type type, size_t rows)
{
    size_t size = column_sizes[type];
    uint8_t *values = calloc(rows + 1, size);
    CHECK(values);
    for (size_t i = 0; i < rows; i++) {
        double number = take_double(input);
        uint64_t bits = take_number(input, 8);
        struct text text = take_text(input);
        if (type == COLUMN_TEXT)
            memcpy(values + i * size, &text, size);
        else if (type == COLUMN_F64)
            memcpy(values + i * size, &number, size);
        else
            memcpy(values + i * size, &bits, size);
    }
    uint8_t *exact = exactly(values, rows * size);
    free(values);
    return exact;
}

static bool lines_are_json(const struct buffer *out, size_t rows)
{
    size_t start = 0, lines = 0;
    for (size_t i = 0; i < out->length; i++) {
        if (out->bytes[i] != '\n')
            continue;
        if (!json_valid(out->bytes + start, i - start))
            return false;
        start = i + 1;
        lines++;
    }
    return start == out->length && lines == rows;
}

static void write_table(struct input *input)
{
    struct column columns[COLUMNS];
    size_t count = take_below(input, COLUMNS + 1), rows = take_below(input, TEXT_ROWS + 1), stamp = count;
    struct buffer objects = {0}, arrays = {0}, lines = {0};
    for (size_t i = 0; i < count; i++) {
        enum column_type type = (enum column_type)take_below(input, COLUMN_TYPES);
        columns[i] = (struct column){take_text(input), type, take_values(input, type, rows)};
        if (type == COLUMN_TIME)
            stamp = i;
    }
    struct table table = {columns, count, rows};
    CHECK(rows_json_objects(&table, &objects) == ROWS_DONE && lines_are_json(&objects, count ? rows : 0));
    CHECK(rows_json_arrays(&table, &arrays) == ROWS_DONE && json_valid(arrays.bytes, arrays.length));
    if (stamp < count) {
        enum rows_status status = rows_line(&table, take_text(input), stamp, &lines);
        CHECK(status == ROWS_DONE ? !lines.length || lines.bytes[lines.length - 1] == '\n' : !lines.length);
    }
    for (size_t i = 0; i < count; i++)
        free((void *)(uintptr_t)columns[i].values);
    buffer_clear(&objects, 0);
    buffer_clear(&arrays, 0);
    buffer_clear(&lines, 0);
}

/* ---- sketches ---- */

static void add(struct sketch *sketch, const struct sketch_rule *rule, double value, int64_t *bytes)
{
    int64_t more = sketch_add(sketch, rule, value);
    CHECK(more >= 0);
    *bytes += more;
}

static void sketch_values(struct input *input)
{
    struct sketch_rule rule;
    struct sketch whole = {0}, halves[2] = {{0}};
    struct buffer left = {0}, right = {0};
    int64_t bytes = 0, other = 0;
    CHECK(sketch_rule_init(&rule, take_below(input, 2) ? 0.01 : 0.3, 64));
    while (input->at < input->end) {
        double value = take_double(input);
        if (!isfinite(value))
            continue;
        add(&whole, &rule, value, &bytes);
        add(&halves[input->at < input->end ? *input->at & 1 : 0], &rule, value, &other);
    }
    CHECK(bytes == (int64_t)sketch_bytes(&whole));
    other += sketch_merge(&halves[0], &rule, &halves[1]);
    CHECK(other == (int64_t)(sketch_bytes(&halves[0]) + sketch_bytes(&halves[1])));
    CHECK(sketch_write(&whole, &left) && sketch_write(&halves[0], &right));
    CHECK(left.length == right.length && memcmp(left.bytes, right.bytes, left.length) == 0);
    CHECK(sketch_bytes(&whole) <= 2 * 64 * sizeof(uint64_t));
    sketch_clear(&whole);
    sketch_clear(&halves[0]);
    sketch_clear(&halves[1]);
    buffer_clear(&left, 0);
    buffer_clear(&right, 0);
}

static void fold_values(struct input *input)
{
    struct dense dense;
    size_t length = (size_t)(input->end - input->at), count = length / sizeof(double);
    uint8_t *values = exactly(input->at, length);
    dense_fold_double(&dense, values, count);
    CHECK(dense.count + dense.nonfinite == count);
    CHECK(!dense.count || (dense.min <= dense.max && dense.min_at < count && dense.max_at < count));
    dense_fold_float(&dense, values, length / sizeof(float));
    CHECK(dense.count + dense.nonfinite == length / sizeof(float));
    dense_fold_int16(&dense, values, length / sizeof(int16_t));
    CHECK(dense.count == length / sizeof(int16_t));
    free(values);
}

/* ---- records ---- */

/* Whether bytes are a protocol buffer: fields, one after the other, that end where the bytes do. */
static bool is_message(const uint8_t *bytes, size_t length)
{
    struct cursor cursor = {bytes, bytes + length, false};
    while (cursor.at < cursor.end && !cursor.failed) {
        unsigned wire = (unsigned)(get_varint(&cursor) & 7);
        if (wire == 0)
            get_varint(&cursor);
        else if (wire == 2)
            get_bytes(&cursor, get_varint(&cursor));
        else
            get_fixed(&cursor, wire == 1 ? 8 : 4);
    }
    return !cursor.failed;
}

static void write_record(struct input *input)
{
    enum { PROPERTIES = 3, NUMBERS = sizeof(struct sparkplug_property) / sizeof(uint32_t) };
    struct sparkplug_property properties[PROPERTIES];
    static const uint32_t types[] = {3, 4, 5, 6, 8, 9, 10, 11, 12, 17};
    uint32_t numbers[PROPERTIES * NUMBERS];
    for (size_t i = 0; i < PROPERTIES * NUMBERS; i++)
        numbers[i] = i % 2 ? (uint32_t)take_below(input, 4) : types[take_below(input, sizeof types / sizeof *types)];
    memcpy(properties, numbers, sizeof properties);
    const struct text names[] = {take_text(input), take_text(input)};
    bool named = take_below(input, 2);
    struct sparkplug_metrics metrics = {properties, take_below(input, PROPERTIES + 1), take_number(input, 8),
                                        named ? names : NULL, named ? 2 : 0, take_below(input, 2)};
    size_t length = (size_t)(input->end - input->at);
    uint8_t *body = exactly(input->at, length);
    struct buffer out = {0};
    if (sparkplug_encode(&out, body, length, &metrics, (int64_t)length) == SPARKPLUG_DONE)
        CHECK(is_message(out.bytes, out.length));
    buffer_clear(&out, 0);
    free(body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, data + size};
    switch (take_below(&input, 4)) {
    case 0:
        write_table(&input);
        break;
    case 1:
        sketch_values(&input);
        break;
    case 2:
        fold_values(&input);
        break;
    default:
        write_record(&input);
    }
    return 0;
}
