#include "state.h"

#include "parts.h"
#include "sessions.h"
#include "watch.h"

enum { STATE_VERSION = 4 };

/* Structures are written as they are in memory: this tells one build's from another's. */
static const uint32_t layout[] = {
    0x574D4444 /* DDMW, in the machine's byte order */,
    STATE_VERSION,
    sizeof(struct line),
    sizeof(struct cell),
    sizeof(struct extra),
    sizeof(struct timers),
    sizeof(struct row_counts),
    STAT_TOTAL_COUNT,
};

/* ---- writing ---- */

static bool put(struct buffer *out, const void *bytes, size_t length)
{
    return buffer_append(out, bytes, length);
}

#define PUT(out, value) put(out, &(value), sizeof(value))

static bool write_pane(const struct pane *pane, struct buffer *out)
{
    uint32_t count = pane_count(pane);
    uint8_t parts = (uint8_t)((pane->sketches != NULL) | pane->lately << 1);
    bool done = PUT(out, pane->number) && PUT(out, parts) && PUT(out, count);
    for (uint32_t at = pane_next(pane, 0); done && at < pane->capacity; at = pane_next(pane, at + 1)) {
        const struct extra *extra = pane_extra(pane, at);
        uint8_t has_extra = extra != NULL;
        done = PUT(out, at) && PUT(out, pane->cells[at]) && PUT(out, has_extra) && (!extra || PUT(out, *extra));
        done = done && (!pane->sketches || sketch_write(&pane->sketches[at], out));
    }
    return done;
}

static bool write_group(const struct engine *engine, const struct group *group, struct buffer *out)
{
    uint32_t open = 0;
    uint8_t started = group->started;
    for (uint32_t i = 0; i < engine->ring_count; i++)
        open += group->ring[i].open;
    bool done = PUT(out, started) && PUT(out, group->newest) && PUT(out, group->watermark) && PUT(out, group->oldest) &&
                PUT(out, group->heard) && PUT(out, group->known) && PUT(out, open);
    for (uint32_t i = 0; done && i < engine->ring_count; i++)
        if (group->ring[i].open)
            done = write_pane(&group->ring[i], out);
    return done;
}

static bool write_sheet(const struct sheet *sheet, struct buffer *out)
{
    uint64_t rows = sheet->rows;
    bool done = PUT(out, sheet->count) && PUT(out, rows);
    for (uint32_t i = 0; done && rows && i < sheet->count; i++)
        done = put(out, sheet->columns[i], sheet->rows * sheet_width(sheet->types[i]));
    return done;
}

bool engine_write(const struct engine *engine, struct buffer *out)
{
    bool done = PUT(out, layout) && PUT(out, engine->series_count) && PUT(out, engine->timers_count) &&
                PUT(out, engine->groups_count) && PUT(out, engine->now) && PUT(out, engine->counts) &&
                PUT(out, engine->unsketched) && put(out, engine->lines, engine->series_count * sizeof *engine->lines) &&
                put(out, engine->timers, engine->timers_count * sizeof *engine->timers);
    for (uint32_t i = 0; done && i < engine->groups_count; i++)
        if (engine->groups[i])
            done = write_group(engine, engine->groups[i], out);
    for (int i = 0; done && i < OUTPUT_COUNT; i++)
        done = write_sheet(&engine->outputs[i], out);
    return done && sessions_write(engine, out);
}

/* ---- reading ---- */

static bool get(struct cursor *cursor, void *into, size_t length)
{
    const uint8_t *bytes = get_bytes(cursor, length);
    if (bytes && length)
        memcpy(into, bytes, length);
    return bytes != NULL;
}

#define GET(cursor, value) get(cursor, &(value), sizeof(value))

static bool is_time(int64_t time)
{
    return time >= -1 && time < ENGINE_TIME_LIMIT;
}

/* A watermark may be before 1970 by the lateness. */
static bool is_mark(int64_t time)
{
    return time >= -ENGINE_TIME_LIMIT && time < ENGINE_TIME_LIMIT;
}

/* What is an index comes from the definitions, and not from the bytes. */
static bool read_lines(struct engine *engine, struct cursor *cursor)
{
    for (uint32_t i = 0; i < engine->series_count; i++) {
        struct line line;
        if (!GET(cursor, line) || !is_mark(line.time) || !is_mark(line.known_since))
            return false;
        line.profile = engine->lines[i].profile;
        line.timers = engine->lines[i].timers;
        if (!line.timers)
            line.state &= (uint8_t)~LINE_HELD; /* only what has timers holds anything back */
        engine->lines[i] = line;
    }
    for (uint32_t i = 0; i < engine->timers_count; i++) {
        struct timers timers;
        bool good = GET(cursor, timers) && is_mark(timers.reported_time);
        for (int alarm = 0; good && alarm < ALARMS_MAX; alarm++)
            good = is_mark(timers.since[alarm]);
        if (!good)
            return false;
        engine->timers[i] = timers;
    }
    return true;
}

/* Many of them add up without overflow. */
static bool is_duration(int64_t duration)
{
    return duration >= -ENGINE_TIME_LIMIT / 16 && duration <= ENGINE_TIME_LIMIT / 16;
}

static bool is_extra(const struct extra *extra)
{
    return is_duration(extra->unknown_ns) && is_duration(extra->nonzero_ns) && is_mark(extra->first_time) &&
           is_mark(extra->min_time) && is_mark(extra->max_time);
}

static enum state_status read_position(struct engine *engine, const struct group *group, struct pane *pane,
                                       struct cursor *cursor)
{
    uint32_t at;
    uint8_t has_extra;
    if (!GET(cursor, at) || at >= group->members || pane_touched(pane, at) || !GET(cursor, pane->cells[at]) ||
        !GET(cursor, has_extra))
        return STATE_DAMAGED;
    pane_touch(pane, at);
    if (cell_count(&pane->cells[at]) > engine->offered - pane->begun)
        pane->begun = engine->offered - cell_count(&pane->cells[at]);
    struct extra *extra = has_extra ? pane_mark(pane, &engine->budget, at) : NULL;
    if (has_extra && !extra)
        return STATE_NO_MEMORY;
    if (has_extra && (!GET(cursor, *extra) || !is_extra(extra)))
        return STATE_DAMAGED;
    uint16_t profile = engine->lines[group_id(group, at)].profile;
    if (profile == NO_PROFILE)
        return STATE_DAMAGED;
    if (pane->sketches) {
        struct sketch_rule rule = engine->rules[profile];
        if (!rule.max_bins && !sketch_rule_init(&rule, 0.01, SKETCH_MIN_BINS)) /* what is there must be empty */
            return STATE_DAMAGED;
        int64_t grown = sketch_read(&pane->sketches[at], &rule, cursor);
        if (grown < 0)
            return STATE_NO_MEMORY;
        engine->budget.used += (size_t)grown;
        if (!engine->rules[profile].max_bins && sketch_count(&pane->sketches[at]))
            return STATE_DAMAGED;
    }
    return cursor->failed ? STATE_DAMAGED : STATE_READ;
}

static enum state_status read_pane(struct engine *engine, struct group *group, struct cursor *cursor)
{
    int64_t number;
    uint8_t parts;
    uint32_t count;
    if (!GET(cursor, number) || !GET(cursor, parts) || !GET(cursor, count) || count > group->members ||
        number < group->oldest || number - group->oldest >= engine->ring_count)
        return STATE_DAMAGED;
    struct pane *pane = group_open(engine, group, number);
    if (!pane || (parts & 1 && !pane_sketch(pane, &engine->budget)))
        return STATE_NO_MEMORY;
    if ((parts & 1) != (pane->sketches != NULL) || pane_count(pane))
        return STATE_DAMAGED;
    pane->lately = parts >> 1 & 1;
    enum state_status status = STATE_READ;
    while (count-- && status == STATE_READ)
        status = read_position(engine, group, pane, cursor);
    return status;
}

static enum state_status read_group(struct engine *engine, struct group *group, struct cursor *cursor)
{
    uint8_t started;
    uint32_t open;
    if (!GET(cursor, started) || !GET(cursor, group->newest) || !GET(cursor, group->watermark) ||
        !GET(cursor, group->oldest) || !GET(cursor, group->heard) || !GET(cursor, group->known) || !GET(cursor, open))
        return STATE_DAMAGED;
    group->started = started;
    if (!is_time(group->newest) || !is_mark(group->watermark) || !is_time(group->heard) || !is_time(group->known) ||
        open > engine->ring_count)
        return STATE_DAMAGED;
    int64_t furthest = engine->grid.kind == GRID_PANES ? ENGINE_TIME_LIMIT / engine->grid.hop : 0;
    if (group->oldest < -furthest || group->oldest > furthest)
        return STATE_DAMAGED;
    enum state_status status = STATE_READ;
    while (open-- && status == STATE_READ)
        status = read_pane(engine, group, cursor);
    if (engine->grid.kind == GRID_PANES)
        group_set_turn(engine, group);
    return status;
}

static enum state_status read_sheet(struct engine *engine, struct sheet *sheet, struct cursor *cursor)
{
    uint32_t count;
    uint64_t rows;
    if (!GET(cursor, count) || !GET(cursor, rows) || count != sheet->count ||
        rows > (uint64_t)(cursor->end - cursor->at))
        return STATE_DAMAGED;
    if (rows && !sheet_reserve(sheet, &engine->budget, (size_t)rows))
        return STATE_NO_MEMORY;
    for (uint32_t i = 0; rows && i < count; i++)
        if (!get(cursor, sheet->columns[i], (size_t)rows * sheet_width(sheet->types[i])))
            return STATE_DAMAGED;
    sheet->rows = (size_t)rows;
    return STATE_READ;
}

enum state_status engine_read(struct engine *engine, const void *bytes, size_t length)
{
    struct cursor cursor = {.at = bytes, .end = (const uint8_t *)bytes + length};
    uint32_t found[sizeof layout / sizeof *layout], series, timers, groups;
    enum state_status status = STATE_READ;
    if (!GET(&cursor, found) || memcmp(found, layout, sizeof layout) != 0)
        return STATE_FOREIGN;
    if (!GET(&cursor, series) || !GET(&cursor, timers) || !GET(&cursor, groups) || series != engine->series_count ||
        timers != engine->timers_count || groups != engine->groups_count)
        return STATE_FOREIGN;
    if (!GET(&cursor, engine->now) || !is_time(engine->now) || !GET(&cursor, engine->counts) ||
        !GET(&cursor, engine->unsketched) || !read_lines(engine, &cursor))
        return STATE_DAMAGED;
    for (uint32_t i = 0; status == STATE_READ && i < groups; i++)
        if (engine->groups[i])
            status = read_group(engine, engine->groups[i], &cursor);
    for (int i = 0; status == STATE_READ && i < OUTPUT_COUNT; i++)
        status = read_sheet(engine, &engine->outputs[i], &cursor);
    if (status == STATE_READ)
        status = sessions_read(engine, &cursor);
    return status == STATE_READ && (cursor.failed || cursor.at != cursor.end) ? STATE_DAMAGED : status;
}
