/* libFuzzer target: bytes from elsewhere. An input's first byte says as what it is read: a record for JSON, a sketch, a
 * device's answer under a decode plan, a text. */
#include "decode.h"
#include "fuzz_input.h"
#include "json.h"
#include "text.h"
#include "windows/sketch.h"

static void read_record(const uint8_t *bytes, size_t length)
{
    static const struct text names[] = {{(const uint8_t *)"speed", 5}, {(const uint8_t *)"\"\\\n", 3}};
    struct buffer out = {0};
    if (json_encode(&out, bytes, length, names, 2) == JSON_DONE)
        CHECK(json_valid(out.bytes, out.length));
    buffer_clear(&out, 0);
}

static void read_sketch(const uint8_t *bytes, size_t length)
{
    struct sketch_rule rule;
    struct sketch sketch = {0}, again = {0};
    struct cursor cursor = {bytes, bytes + length, false};
    struct buffer out = {0}, twice = {0};
    CHECK(sketch_rule_init(&rule, 0.01, 256));
    int64_t allocated = sketch_read(&sketch, &rule, &cursor);
    CHECK(allocated == (int64_t)sketch_bytes(&sketch));
    if (cursor.failed) {
        CHECK(sketch_count(&sketch) == 0);
        return;
    }
    CHECK(sketch_write(&sketch, &out));
    struct cursor written = {out.bytes, out.bytes + out.length, false};
    sketch_read(&again, &rule, &written);
    CHECK(!written.failed && written.at == written.end && sketch_write(&again, &twice));
    CHECK(out.length == twice.length && memcmp(out.bytes, twice.bytes, out.length) == 0);
    CHECK(sketch_count(&sketch) == 0 || isfinite(sketch_quantile(&sketch, &rule, 0.5)));
    CHECK(sketch_add(&sketch, &rule, 1e300) >= 0 && sketch_merge(&sketch, &rule, &again) >= 0);
    sketch_clear(&sketch);
    sketch_clear(&again);
    buffer_clear(&out, 0);
    buffer_clear(&twice, 0);
}

static void read_answer(struct input *input)
{
    enum { OPS = 6 };
    struct decode_plan *plan = calloc(1, sizeof *plan + OPS * sizeof plan->ops[0]);
    double doubles[OPS];
    int64_t integers[OPS];
    uint8_t state[OPS] = {0};
    bool whole = take_below(input, 2);
    CHECK(plan);
    for (uint32_t i = take_below(input, OPS + 1); i; i--) {
        struct decode_op op = {.offset = take_below(input, 64), .size = (uint8_t)take_number(input, 1),
                               .type = (uint8_t)take_below(input, 6), .order = (uint8_t)take_below(input, 6),
                               .shift = (uint8_t)take_number(input, 1), .width = (uint8_t)take_number(input, 1),
                               .scaled = take_below(input, 2), .scale = take_double(input), .add = take_double(input),
                               .has_null = take_below(input, 2), .null = take_number(input, 2)};
        if (whole && op.type == DECODE_FLOAT)
            op.type = DECODE_SIGNED;
        if (!decode_op_error(&op))
            decode_plan_add(plan, &op);
    }
    size_t length = (size_t)(input->end - input->at);
    uint8_t *record = exactly(input->at, length);
    size_t missing = whole ? decode_integers(plan, record, length, integers, state)
                           : decode_doubles(plan, record, length, doubles, state);
    for (size_t i = 0; i < plan->count; i++)
        missing -= state[i] != DECODE_FOUND;
    CHECK(missing == 0);
    free(record);
    free(plan);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, data + size};
    uint32_t what = take_below(&input, 4);
    size_t length = (size_t)(input.end - input.at);
    uint8_t *copy = exactly(input.at, length);
    if (what == 0)
        read_record(copy, length);
    else if (what == 1)
        read_sketch(copy, length);
    else if (what == 2)
        read_answer(&input);
    else if (json_valid(copy, length))
        CHECK(utf8_valid(copy, length));
    free(copy);
    return 0;
}
