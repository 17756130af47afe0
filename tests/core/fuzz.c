/* Drives the core with random and damaged input, for the sanitizers: fuzz [rounds] [seed].
 * Without Python, so that a sanitizer sees every byte. Aborts where an invariant does not hold. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aggregate.h"
#include "decode.h"
#include "json.h"
#include "text.h"

#define CHECK(condition)                                                                                            \
    do {                                                                                                            \
        if (!(condition)) {                                                                                         \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                         \
            abort();                                                                                                \
        }                                                                                                           \
    } while (0)

enum { SLOTS = 12, STREAMS = 3, NAMES = 8 };
static const int64_t NOW = INT64_C(1795235285000000000), SECOND = 1000000000;
static uint64_t state;

static uint64_t random_bits(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static uint32_t below(uint32_t limit)
{
    return (uint32_t)(random_bits() >> 33) % limit;
}

static void fill(uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)random_bits();
}

/* A copy with not one byte to spare: a sanitizer sees every step outside. */
static uint8_t *exactly(const void *bytes, size_t length)
{
    uint8_t *copy = malloc(length ? length : 1);
    CHECK(copy);
    if (length)
        memcpy(copy, bytes, length);
    return copy;
}

static int64_t random_time(void)
{
    switch (below(6)) {
    case 0:
        return (int64_t)random_bits();
    case 1:
        return (int64_t)(below(1000)) - 500;
    case 2:
        return (below(2) ? TIME_LIMIT : -TIME_LIMIT) + below(5) - 2;
    default:
        return NOW + ((int64_t)below(4000) - 2000) * (SECOND / 100);
    }
}

static double random_double(void)
{
    static const double chosen[] = {0, -0.0, 1, 5e-324, 1.7976931348623157e308, 9007199254740993.0, 0.1, NAN, INFINITY};
    double value;
    uint64_t bits = random_bits();
    if (below(2))
        return chosen[below(9)];
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ---- decode ---- */

static void fuzz_decode(void)
{
    enum { OPS = 24 };
    struct decode_plan *plan = calloc(1, sizeof *plan + OPS * sizeof plan->ops[0]);
    CHECK(plan);
    for (int i = 0; i < OPS; i++) {
        struct decode_op op = {.offset = below(64), .size = (uint8_t)(1u << below(4)), .type = (uint8_t)below(4),
                               .order = (uint8_t)below(4), .shift = (uint8_t)below(64), .width = (uint8_t)below(66),
                               .scaled = below(2), .scale = random_double(), .add = random_double()};
        if (below(2))
            op.shift = op.width = 0;
        if (!decode_op_error(&op))
            decode_plan_add(plan, &op);
    }
    uint8_t random[72], bad[OPS];
    double doubles[OPS];
    int64_t integers[OPS];
    fill(random, sizeof random);
    for (size_t length = 0; length <= sizeof random; length += 1 + below(8)) {
        uint8_t *record = exactly(random, length);
        memset(bad, 0, sizeof bad);
        size_t missing = decode_doubles(plan, record, length, doubles, bad);
        for (size_t i = 0; i < plan->count; i++) {
            CHECK(bad[i] == (plan->ops[i].offset + plan->ops[i].size > length));
            missing -= bad[i];
        }
        CHECK(missing == 0);
        for (size_t i = 0; i < plan->count; i++)
            if (plan->ops[i].type == DECODE_FLOAT)
                plan->ops[i].type = DECODE_SIGNED;
        decode_integers(plan, record, length, integers, bad);
        free(record);
    }
    free(plan);
}

/* ---- payloads ---- */

static void encode(const uint8_t *body, size_t length, bool whole)
{
    static const char *const plain[NAMES] = {"speed", "a\"b\\", "\n\x1f", "\xc2\xb5", "", "x", "y", "z"};
    struct text names[NAMES];
    for (int i = 0; i < NAMES; i++)
        names[i] = (struct text){(const uint8_t *)plain[i], strlen(plain[i])};
    struct buffer out = {0};
    uint8_t *copy = exactly(body, length);
    enum json_status status = json_encode(&out, copy, length, names, NAMES);
    CHECK(!whole || status == JSON_DONE);
    if (status == JSON_DONE)
        CHECK(json_valid(out.bytes, out.length));
    buffer_clear(&out, 0);
    free(copy);
}

static void fuzz_garbage(void)
{
    uint8_t body[256];
    size_t length = below(sizeof body);
    fill(body, length);
    if (length >= RECORD_HEADER)
        body[0] = RECORD_VERSION;
    for (size_t i = RECORD_HEADER; i < length; i++)
        if (below(3))
            body[i] = "\x01\x02\x10\x13\x14\x17\x18\x19\x91\x00\x01\x02\x03\"[{"[below(16)];
    encode(body, length, false);
    utf8_valid(body, length);
    json_valid(body, length);
}

static void damage(const uint8_t *body, size_t length)
{
    uint8_t *copy = exactly(body, length);
    for (uint32_t i = 0; i < 1 + below(4); i++)
        copy[below((uint32_t)length)] = (uint8_t)random_bits();
    encode(copy, below(2) ? length : below((uint32_t)length + 1), false);
    free(copy);
}

/* ---- aggregate ---- */

static void fuzz_define(struct aggregator *core)
{
    static const int64_t spans[] = {0, 1, 1000000, 1000000000, 10000000000, MAX_SPAN_NS, MAX_SPAN_NS + 1, -1};
    struct limit limits[3];
    int32_t carry[3];
    uint32_t slot = below(SLOTS);
    for (int i = 0; i < 3; i++) {
        limits[i] = (struct limit){below(10), below(10), spans[below(8)], below(2)};
        carry[i] = (int32_t)below(6) - 2;
    }
    struct place place = {below(STREAMS), slot % NAMES};
    struct rules rules = {
        .kind = (uint8_t)below(KIND_COUNT + 1),
        .report = (uint8_t)below(REPORT_COUNT + 1), .mask = below(1 << STATISTIC_QUANTILES),
        .deadband = {below(3), below(2), spans[below(5)], spans[below(5)]}, .window_ns = spans[below(8)],
        .lateness_ns = spans[below(8)], .limits = limits, .limits_count = below(4),
        .quantiles_count = below(3) ? 0 : below(QUANTILES_MOST + 1),
    };
    for (int i = 0; i < QUANTILES_MOST; i++)
        rules.quantiles[i] = below(100) ? below(QUANTILE_WHOLE + 1) : QUANTILE_WHOLE + 1;
    rules.mask |= (uint32_t)(rules.quantiles_count > 0) << STATISTIC_QUANTILES;
    if (aggregator_define(core, slot, place, &rules, carry) == DEFINE_DONE)
        CHECK(aggregator_slot_at(core, place) < SLOTS);
}

static void fuzz_push(struct aggregator *core)
{
    enum { ROWS = 40 };
    uint8_t slots[4 * ROWS + 1], times[8 * ROWS + 1], values[8 * ROWS + 1], qualities[ROWS];
    size_t rows = below(ROWS + 1);
    fill(qualities, sizeof qualities);
    for (size_t i = 0; i < rows; i++) {
        uint32_t slot = below(20) ? below(SLOTS + 2) : (uint32_t)random_bits();
        int64_t time = random_time();
        double value = random_double();
        memcpy(slots + 1 + 4 * i, &slot, 4); /* unaligned on purpose */
        memcpy(times + 1 + 8 * i, &time, 8);
        memcpy(values + 1 + 8 * i, &value, 8);
        if (below(4))
            qualities[i] = 0;
    }
    bool floats = below(2), one_time = below(2), one_quality = below(2);
    struct columns columns = {
        .count = rows, .slots = slots + 1, .times = one_time ? NULL : times + 1, .time = random_time(),
        .floats = floats ? values + 1 : NULL, .integers = floats ? NULL : values + 1,
        .qualities = one_quality ? NULL : qualities, .quality = below(3) ? 0 : (uint8_t)random_bits(),
    };
    aggregator_push(core, &columns);
}

static void fuzz_text(struct aggregator *core)
{
    static const char *const texts[] = {"", "on", "\xc2\xb5", "\xff", "{\"a\":[1,{}]}", "[", "1e5", "\"\\u00e9\""};
    const char *chosen = texts[below(8)];
    size_t length = strlen(chosen);
    uint8_t *copy = exactly(chosen, length);
    struct text text = {copy, length};
    struct value value = {.tag = VALUE_STRING + below(3), .text = &text};
    aggregator_row(core, below(SLOTS), random_time(), below(4) ? 0 : (uint8_t)random_bits(), &value, random_double());
    aggregator_settle(core);
    free(copy);
}

static void fuzz_take(struct aggregator *core)
{
    const uint32_t *streams;
    uint32_t ready = aggregator_ready(core, &streams);
    for (uint32_t i = 0; i < ready; i++) {
        const struct stream *stream = aggregator_stream(core, streams[i]);
        for (uint32_t j = 0; j < stream_records(stream); j++) {
            const uint8_t *body;
            size_t length;
            uint64_t seq, samples;
            stream_record(stream, j, &body, &length, &seq, &samples);
            encode(body, length, true);
            damage(body, length);
        }
    }
    aggregator_taken(core);
}

static void fuzz_latest(const struct aggregator *core)
{
    for (uint32_t slot = 0; slot < SLOTS + 2; slot++) {
        struct latest row;
        if (!aggregator_latest(core, slot, &row) || !row.any || value_is_text(&row.value))
            continue;
        char *out = malloc(READING_ROOM);
        CHECK(out);
        char *end = json_reading(out, &row.value, row.time, row.quality);
        CHECK(json_valid((const uint8_t *)out, (size_t)(end - out)));
        free(out);
    }
}

static void check(const struct aggregator *core)
{
    const struct counts *counts = aggregator_counts(core);
    uint64_t sum = counts->taken + counts->pending;
    for (int i = 0; i < DROP_COUNT; i++)
        sum += counts->dropped[i];
    CHECK(sum == counts->read);
}

static void fuzz_aggregate(void)
{
    struct aggregator *core = aggregator_new((uint32_t)random_bits(), below(2) ? 2000 : 1 << 24);
    const struct alarm_event *events;
    CHECK(core);
    for (uint32_t steps = below(200); steps; steps--) {
        uint32_t what = below(20);
        if (what < 4)
            fuzz_define(core);
        else if (what < 12)
            fuzz_push(core);
        else if (what < 15)
            fuzz_text(core);
        else if (what == 15)
            aggregator_advance(core, random_time());
        else if (what == 16)
            aggregator_remove(core, below(SLOTS + 2));
        else if (what == 17)
            aggregator_flush(core);
        else if (what == 18)
            fuzz_take(core);
        else if (aggregator_events(core, &events))
            aggregator_events_taken(core);
        check(core);
    }
    fuzz_latest(core);
    aggregator_flush(core);
    fuzz_take(core);
    check(core);
    CHECK(aggregator_counts(core)->pending == 0 && aggregator_pending_bytes(core) == 0);
    aggregator_free(core);
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 2000;
    state = argc > 2 ? strtoull(argv[2], NULL, 10) : 88172645463325252u;
    CHECK(state);
    for (long i = 0; i < rounds; i++) {
        fuzz_decode();
        fuzz_garbage();
        fuzz_aggregate();
    }
    printf("%ld rounds: all well\n", rounds);
    return 0;
}
