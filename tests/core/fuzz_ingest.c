/* libFuzzer target: an input is a small program for a window engine. Holds: no row is lost or counted twice, every (series,
 * window) leaves once, an engine that reads another's state goes on as that would, and a damaged state does no harm. */
#include "fuzz_input.h"
#include "windows/engine.h"
#include "windows/results.h"
#include "windows/state.h"

enum { SERIES = 6, SOURCES = 3, ROWS = 32, /* some chunks, as fuzz.sh makes them */ FEW = 12, SEEN = 512, DEFINITIONS = 32, ROOM = 1 << 24 };

/* A profile and the series that were defined with it. */
struct definition {
    struct profile profile;
    uint32_t first, count, source;
};

struct run {
    struct engine *engine;
    struct grid grid;
    int64_t now; /* around which times lie */
    uint64_t pushed;
    uint64_t emitted; /* rows, by the windows' counts */
    struct {
        uint32_t series;
        int64_t start;
    } seen[SEEN];
    size_t seen_count;
    struct definition definitions[DEFINITIONS];
    size_t definitions_count;
    bool small; /* its memory is little: another engine might find room where this found none */
};

static int64_t take_span(struct input *input)
{
    static const int64_t chosen[] = {0, 1, 5, 10, 100, 1000, 1000000000, INT64_C(1) << 60};
    return chosen[take_below(input, 8)];
}

static struct grid take_grid(struct input *input)
{
    struct grid grid = {.kind = take_below(input, 4) ? GRID_PANES : GRID_SESSIONS};
    grid.hop = 1 + take_below(input, 12);
    grid.length = grid.hop * (1 + take_below(input, 3));
    grid.offset = take_below(input, (uint32_t)grid.hop);
    grid.gap = 1 + take_below(input, 12);
    grid.lateness_ns = take_below(input, 30);
    grid.max_future_ns = take_below(input, 2) ? -1 : (int64_t)take_below(input, 60);
    grid.idle_ns = take_below(input, 30);
    return grid;
}

static struct profile take_profile(struct input *input)
{
    struct profile profile = {
        .statistics = take_number(input, 5) | UINT64_C(1) << STAT_COUNT,
        .sloped = take_below(input, 2),
        .uncertain_as_bad = take_below(input, 2),
        .reports = take_below(input, 2),
        .deadband = take_below(input, 4),
        .fraction = take_below(input, 4) / 4.0,
        .min_interval_ns = take_span(input),
        .heartbeat_ns = take_span(input),
        .missing_ns = take_span(input),
        .percent_good = take_below(input, 101),
        .percent_bad = take_below(input, 101),
        .alarms_count = take_below(input, 4),
        .quantiles_count = take_below(input, 3),
        .quantiles = {0.5, 0.99},
        .relative_error = 0.01,
        .max_bins = 64,
    };
    profile.statistics &= (UINT64_C(1) << STAT_TOTAL_COUNT) - 1;
    if (profile.percent_good > 80) /* nothing but cells */
        profile = (struct profile){.statistics = profile.statistics & ((UINT64_C(1) << STAT_TIME_AVERAGE) - 1)};
    for (uint32_t i = 0; i < profile.alarms_count; i++) {
        bool above = take_below(input, 2);
        double limit = (int8_t)take_number(input, 1);
        profile.alarms[i] = (struct alarm){limit, limit + (above ? -1 : 1) * (double)take_below(input, 3),
                                           take_span(input), above};
    }
    return profile;
}

/* Near the present nearly always, so that windows meet; else anywhere. */
static int64_t take_time(struct run *run, struct input *input)
{
    uint8_t how = (uint8_t)take_number(input, 1);
    if (how >= 250)
        return (int64_t)(take_number(input, 8) >> (2 + how % 40));
    int64_t time = run->now + how % 64 - 24;
    if (how >= 200)
        run->now += 8;
    return time < 0 ? 0 : time;
}

/* Its comparisons say nothing of the engine: they are not worth the fuzzer's attention. */
__attribute__((no_sanitize("coverage"))) static void see(struct run *run, uint32_t series, int64_t start)
{
    for (size_t i = 0; i < run->seen_count; i++)
        CHECK(run->seen[i].series != series || run->seen[i].start != start);
    if (run->seen_count < SEEN) {
        run->seen[run->seen_count].series = series;
        run->seen[run->seen_count++].start = start;
    }
}

static void take_windows(struct run *run)
{
    struct sheet sheet;
    engine_take(run->engine, OUTPUT_WINDOWS, &sheet);
    for (uint32_t column = 0; column < sheet.count; column++) {
        const char *name = engine_column_name(run->engine, OUTPUT_WINDOWS, column);
        if (strcmp(name, "count") == 0)
            for (size_t row = 0; row < sheet.rows; row++)
                run->emitted += sheet_width(sheet.types[column]) == 4 ? ((uint32_t *)sheet.columns[column])[row]
                                                                       : ((uint64_t *)sheet.columns[column])[row];
    }
    for (size_t row = 0; row < sheet.rows; row++) {
        int64_t start = ((int64_t *)sheet.columns[1])[row], end = ((int64_t *)sheet.columns[2])[row];
        CHECK(start < end || (run->grid.kind == GRID_SESSIONS && start <= end));
        see(run, ((uint32_t *)sheet.columns[0])[row], start);
    }
    for (uint32_t column = 0; column < sheet.count; column++)
        engine_return(run->engine, sheet.columns[column]);
}

static void forget(struct run *run, enum engine_output output)
{
    struct sheet sheet;
    engine_take(run->engine, output, &sheet);
    for (uint32_t column = 0; column < sheet.count; column++)
        engine_return(run->engine, sheet.columns[column]);
}

static void ingest(struct run *run, struct input *input)
{
    uint32_t series[ROWS];
    int64_t times[ROWS], integers[ROWS];
    double floats[ROWS];
    uint8_t qualities[ROWS];
    size_t count = take_number(input, 1), fault;
    count = count < 192 ? count % (FEW + 1) : FEW + 1 + count % (ROWS - FEW);
    bool whole = take_below(input, 4) == 0, good = take_below(input, 3) == 0;
    for (size_t i = 0; i < count; i++) {
        series[i] = take_below(input, SERIES + (take_below(input, 16) == 0));
        times[i] = take_time(run, input);
        floats[i] = take_double(input);
        integers[i] = (int64_t)take_number(input, take_below(input, 9));
        qualities[i] = take_below(input, 3) ? 0 : (uint8_t)take_number(input, 1);
    }
    uint8_t *exact_series = exactly(series, count * sizeof *series), *exact_times = exactly(times, count * sizeof *times);
    double *exact_floats = (double *)(void *)exactly(floats, count * sizeof *floats);
    int64_t *exact_integers = (int64_t *)(void *)exactly(integers, count * sizeof *integers);
    struct rows_view rows = {count, exact_series, exact_times, whole ? NULL : exact_floats, whole ? exact_integers : NULL,
                             good ? NULL : qualities};
    if (engine_check(run->engine, &rows, &fault) == ENGINE_DONE) {
        engine_ingest(run->engine, &rows);
        run->pushed += count;
    } else {
        CHECK(fault < count);
    }
    free(exact_series);
    free(exact_times);
    free(exact_floats);
    free(exact_integers);
}

static void ingest_array(struct run *run, struct input *input)
{
    static const size_t sizes[] = {sizeof(double), sizeof(float), sizeof(int16_t)};
    struct samples samples = {.series = take_below(input, SERIES + 1), .start = take_time(run, input)};
    samples.step = 1 + take_below(input, 4);
    samples.count = take_below(input, 40);
    samples.type = (enum samples_type)take_below(input, 3);
    size_t length = samples.count * sizes[samples.type], left = (size_t)(input->end - input->at);
    uint8_t *values = calloc(1, length + 1);
    CHECK(values);
    memcpy(values, input->at, length < left ? length : left);
    input->at += length < left ? length : left;
    uint8_t *exact = exactly(values, length);
    samples.values = exact;
    if (engine_ingest_array(run->engine, &samples) == ENGINE_DONE)
        run->pushed += samples.count;
    free(exact);
    free(values);
}

static void define(struct engine *engine, const struct definition *definition)
{
    uint32_t number;
    if (engine_profile(engine, &definition->profile, &number) == ENGINE_DONE)
        engine_define(engine, definition->first, definition->count, number, definition->source);
}

static void take_definition(struct run *run, struct input *input)
{
    if (run->definitions_count == DEFINITIONS)
        return;
    struct definition *next = &run->definitions[run->definitions_count++];
    *next = (struct definition){.profile = take_profile(input), .first = take_below(input, SERIES),
                                .count = 1 + take_below(input, 2), .source = take_below(input, SOURCES)};
    define(run->engine, next);
}

static struct engine *defined_alike(const struct run *run)
{
    struct engine *engine = engine_new(&run->grid, ROOM);
    CHECK(engine);
    for (size_t i = 0; i < run->definitions_count; i++)
        define(engine, &run->definitions[i]);
    return engine;
}

/* Let another engine go on in place of this one. */
static void restart(struct run *run)
{
    struct buffer state = {0};
    if (run->small)
        return;
    CHECK(engine_write(run->engine, &state));
    uint8_t *bytes = exactly(state.bytes, state.length);
    struct engine *engine = defined_alike(run);
    CHECK(engine_read(engine, bytes, state.length) == STATE_READ);
    engine_free(run->engine);
    run->engine = engine;
    free(bytes);
    buffer_clear(&state, 0);
}

/* An engine with a damaged state may count wrongly: only the sanitizers have a say. */
static void damage(struct run *run, struct input *input)
{
    struct buffer state = {0};
    struct engine *engine = defined_alike(run);
    CHECK(engine_write(run->engine, &state));
    for (uint32_t i = 1 + take_below(input, 3); i && state.length; i--)
        state.bytes[take_number(input, 2) % state.length] ^= (uint8_t)take_number(input, 1);
    size_t length = take_below(input, 8) ? state.length : take_number(input, 2) % (state.length + 1);
    uint8_t *bytes = exactly(state.bytes, length);
    if (engine_read(engine, bytes, length) == STATE_READ) {
        struct run other = {.engine = engine, .grid = run->grid, .now = run->now};
        for (uint32_t i = 0; i < SERIES; i++)
            engine_add(engine, i, take_time(&other, input), take_double(input), 0);
        engine_advance(engine, take_time(&other, input));
        engine_flush(engine);
        for (int output = 0; output < OUTPUT_COUNT; output++)
            forget(&other, (enum engine_output)output);
    }
    engine_free(engine);
    free(bytes);
    buffer_clear(&state, 0);
}

static void step(struct run *run, struct input *input)
{
    uint32_t number;
    switch (take_below(input, 16)) {
    case 0:
        take_definition(run, input);
        break;
    case 1:
        take_windows(run);
        break;
    case 2:
        forget(run, OUTPUT_REPORTS);
        forget(run, OUTPUT_EVENTS);
        break;
    case 3:
        engine_flush(run->engine);
        break;
    case 4:
    case 5:
        engine_advance(run->engine, take_time(run, input));
        break;
    case 6:
        ingest_array(run, input);
        break;
    case 7:
        number = take_below(input, SERIES + 1);
        if (engine_add(run->engine, number, take_time(run, input), take_double(input),
                       take_below(input, 4) ? 0 : (uint8_t)take_number(input, 1)) == ENGINE_DONE)
            run->pushed++;
        break;
    case 8:
        number = take_below(input, 8); /* these are slow */
        if (number == 0)
            restart(run);
        else if (number == 1)
            damage(run, input);
        break;
    default:
        ingest(run, input);
    }
}

static uint64_t all(const struct row_counts *counts)
{
    return counts->counted + counts->late + counts->duplicate + counts->future + counts->bad + counts->nonfinite +
           counts->inexact + counts->overflow + counts->evicted + counts->undeclared;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t budgets[] = {ROOM, ROOM, ROOM, 20000, 60000};
    struct input input = {data, data + size};
    struct run run = {.now = 1000};
    run.grid = take_grid(&input);
    if (engine_grid_fault(&run.grid))
        return 0;
    size_t budget = budgets[take_below(&input, 5)];
    run.small = budget != ROOM;
    run.engine = engine_new(&run.grid, budget);
    if (!run.engine)
        return 0;
    for (int i = 0; i < 3; i++)
        take_definition(&run, &input);
    while (input.at < input.end) {
        step(&run, &input);
        CHECK(all(engine_counts(run.engine)) == run.pushed);
    }
    engine_flush(run.engine);
    take_windows(&run);
    CHECK(all(engine_counts(run.engine)) == run.pushed);
    if (run.grid.kind == GRID_SESSIONS || run.grid.hop == run.grid.length)
        CHECK(run.emitted == engine_counts(run.engine)->counted);
    engine_free(run.engine);
    return 0;
}
