#include "sessions_internal.h"

#include "watch.h"

#include <float.h>

enum { FIRST_CAPACITY = 64 };

/* ---- the container ---- */

bool sessions_start(struct engine *engine)
{
    if (!engine->sessions)
        engine->sessions = budget_take(&engine->budget, 1, sizeof *engine->sessions);
    struct sessions *all = engine->sessions;
    if (!all)
        return false;
    if (all->heads_capacity < engine->series_capacity) {
        struct head *heads =
            budget_grow(&engine->budget, all->heads, all->heads_capacity, engine->series_capacity, sizeof *heads);
        if (!heads)
            return false;
        all->heads = heads;
        all->heads_capacity = engine->series_capacity;
    }
    return true;
}

/* A free place; 0 without room. */
static uint32_t take_place(struct engine *engine)
{
    struct sessions *all = engine->sessions;
    if (all->free != NOBODY) {
        uint32_t place = all->free;
        all->free = all->items[place].next;
        return place;
    }
    if (all->count + 1 >= all->capacity) {
        uint32_t capacity = all->capacity ? all->capacity * 2 : FIRST_CAPACITY;
        if (all->capacity > UINT32_MAX / 2)
            return NOBODY;
        struct session *items =
            budget_grow(&engine->budget, all->items, all->capacity, capacity, sizeof *items);
        if (!items)
            return NOBODY;
        all->items = items;
        all->capacity = capacity;
    }
    return ++all->count;
}

static void leave_place(struct engine *engine, uint32_t place)
{
    struct sessions *all = engine->sessions;
    struct session *session = &all->items[place];
    engine->budget.used -= sketch_bytes(&session->sketch);
    sketch_clear(&session->sketch);
    *session = (struct session){.next = all->free};
    all->free = place;
}

void sessions_free(struct engine *engine)
{
    struct sessions *all = engine->sessions;
    if (!all)
        return;
    for (uint32_t i = 1; i <= all->count; i++)
        sketch_clear(&all->items[i].sketch);
    budget_give(&engine->budget, all->items);
    budget_give(&engine->budget, all->heads);
    budget_give(&engine->budget, all);
    engine->sessions = NULL;
}

/* ---- emission ---- */

static void emit_session(struct engine *engine, uint32_t place)
{
    struct session *session = &engine->sessions->items[place];
    struct window window = {.start = session->start,
                            .end = session->last + engine->grid.gap,
                            .length_ns = session->last - session->start,
                            .last_time = session->value_time,
                            .known_ns = session->known_ns,
                            .series = session->series,
                            .profile = engine->lines[session->series].profile};
    engine->sessions->heads[session->series].closed_until = window.end;
    engine->budget.used -= sketch_bytes(&session->sketch);
    emit_closed(engine, &window, &session->cell, &session->extra, &session->sketch);
    session->sketch = (struct sketch){0}; /* it has moved */
    leave_place(engine, place);
}

/* Emit the sessions of a series that end by the watermark: its earliest. */
static void close_series(struct engine *engine, uint32_t series, int64_t watermark)
{
    uint32_t *head = &engine->sessions->heads[series].first;
    while (*head != NOBODY && engine->sessions->items[*head].last + engine->grid.gap <= watermark) {
        uint32_t place = *head;
        *head = engine->sessions->items[place].next;
        emit_session(engine, place);
    }
}

static void close_all(struct engine *engine, bool (*ends)(const struct group *, int64_t end))
{
    struct sessions *all = engine->sessions;
    for (uint32_t series = 0; all && series < all->heads_capacity && series < engine->series_count; series++) {
        const struct group *group = engine->only ? engine->only : engine->groups[engine->places[series].group];
        while (all->heads[series].first != NOBODY) {
            uint32_t place = all->heads[series].first;
            if (!ends(group, all->items[place].last + engine->grid.gap))
                break;
            all->heads[series].first = all->items[place].next;
            emit_session(engine, place);
        }
    }
    emit_finish(engine);
}

static bool by_watermark(const struct group *group, int64_t end)
{
    return end <= group->watermark;
}

static bool anyway(const struct group *group, int64_t end)
{
    (void)group;
    (void)end;
    return true;
}

void sessions_close(struct engine *engine)
{
    close_all(engine, by_watermark);
}

void sessions_flush(struct engine *engine)
{
    close_all(engine, anyway);
}

/* ---- finding the session of a row ---- */

/* Add a later session, which a row between them joins to this one. */
static void join(struct engine *engine, struct session *session, struct session *later)
{
    int64_t between = later->ordered_from - session->ordered_until;
    extra_merge(&session->extra, &session->cell, &later->extra, &later->cell);
    cell_merge(&session->cell, session->known_ns, &later->cell, later->known_ns);
    session->known_ns += later->known_ns;
    if (session->ordered && later->ordered && later->extra.entered) {
        session->cell.held += (later->extra.entry - cell_shift(&session->cell)) * (double)between;
        session->known_ns += between;
        session->extra.nonzero_ns += later->extra.entry != 0 ? between : 0;
    }
    if (!session->ordered) {
        session->ordered_from = later->ordered_from;
        session->extra.entered = later->extra.entered;
        session->extra.entry = later->extra.entry;
    }
    if (later->ordered)
        session->ordered_until = later->ordered_until;
    session->ordered |= later->ordered;
    session->last = later->last;
    if (cell_count(&later->cell))
        session->value_time = later->value_time;
    int64_t grown = sketch_merge(&session->sketch, &engine->rules[engine->lines[session->series].profile],
                                 &later->sketch);
    if (grown < 0)
        engine->unsketched += sketch_count(&later->sketch);
    else
        engine->budget.used += (size_t)grown;
}

uint32_t sessions_open(struct engine *engine, uint32_t series, int64_t time)
{
    uint32_t place = take_place(engine);
    if (place == NOBODY)
        return NOBODY;
    struct session *session = &engine->sessions->items[place];
    uint32_t before = NOBODY, at = engine->sessions->heads[series].first;
    while (at != NOBODY && engine->sessions->items[at].start < time) {
        before = at;
        at = engine->sessions->items[at].next;
    }
    *session = (struct session){.start = time, .last = time, .series = series, .next = at};
    cell_begin(&session->cell, 0);
    if (before == NOBODY)
        engine->sessions->heads[series].first = place;
    else
        engine->sessions->items[before].next = place;
    return place;
}

/* The session that a row belongs to, widened or made for it; NULL if it is late or there is no room (counted). */
static struct session *find_session(struct engine *engine, const struct group *group, uint32_t series, int64_t time)
{
    int64_t gap = engine->grid.gap;
    struct session *found = NULL;
    if (!sessions_start(engine)) {
        engine->counts.overflow++;
        return NULL;
    }
    close_series(engine, series, group->watermark);
    emit_finish(engine);
    if (time < engine->sessions->heads[series].closed_until) {
        engine->counts.late++;
        return NULL;
    }
    for (uint32_t at = engine->sessions->heads[series].first; at != NOBODY;) {
        struct session *session = &engine->sessions->items[at];
        uint32_t next = session->next;
        if (time > session->start - gap && time < session->last + gap) {
            if (found) {
                join(engine, found, session);
                found->next = next;
                leave_place(engine, at);
                break;
            }
            found = session;
        }
        at = next;
    }
    if (!found) {
        if (time + gap <= group->watermark) {
            engine->counts.late++;
            return NULL;
        }
        uint32_t place = sessions_open(engine, series, time);
        if (place == NOBODY) {
            engine->counts.overflow++;
            return NULL;
        }
        return &engine->sessions->items[place];
    }
    found->start = time < found->start ? time : found->start;
    found->last = time > found->last ? time : found->last;
    return found;
}

/* ---- rows ---- */

/* What was known since the session's last row in order has its weight now. */
static void weigh(struct session *session, const struct line *line, int64_t time)
{
    if (!session->ordered) {
        session->ordered_from = time;
        session->extra.entered = (line->state & LINE_KNOWN) != 0;
        session->extra.entry = line->last;
    } else if (line->state & LINE_KNOWN) {
        int64_t held = time - line->time;
        session->cell.held += (line->last - cell_shift(&session->cell)) * (double)held;
        session->known_ns += held;
        session->extra.nonzero_ns += line->last != 0 ? held : 0;
    }
    session->ordered = 1;
    session->ordered_until = time;
}

/* Into the sums. */
static void put_value(struct engine *engine, struct session *session, int64_t time, double x)
{
    struct cell *cell = &session->cell;
    extra_value(&session->extra, cell, time, x);
    if (!cell_count(cell)) {
        bool disordered = cell_disordered(cell);
        cell_begin(cell, x); /* nothing is held yet: no value was known in it */
        if (disordered)
            cell_disorder(cell);
        session->value_time = time;
    }
    cell_add(cell, x);
    if (time >= session->value_time) {
        cell->last = x;
        session->value_time = time;
    }
    take_quantile(engine, &engine->lines[session->series], &session->sketch, x);
}

/* Returns whether it is now the newest of its series. */
static bool take_value(struct engine *engine, struct session *session, int64_t time, double x, bool uncertain)
{
    struct line *line = &engine->lines[session->series];
    struct cell *cell = &session->cell;
    if (line->state & LINE_SEEN && time < line->time) {
        cell_disorder(cell);
        if (cell_count(cell) && time == session->value_time) {
            engine->counts.duplicate++;
            cell->last = x;
            return false;
        }
        session->extra.uncertain += uncertain;
        put_value(engine, session, time, x);
        return false;
    }
    if (line->state & LINE_KNOWN && time == line->time) {
        engine->counts.duplicate++;
        cell->last = x;
        session->extra.increase += x - line->last;
        line->last = x;
        return true;
    }
    session->extra.uncertain += uncertain;
    put_value(engine, session, time, x);
    weigh(session, line, time);
    if (!isnan(line->last))
        extra_step(&session->extra, line->last, x);
    line->state |= LINE_SEEN | LINE_KNOWN;
    line->last = x;
    line->time = time;
    return true;
}

static void take_bad(struct engine *engine, struct session *session, int64_t time)
{
    struct line *line = &engine->lines[session->series];
    session->extra.bad++;
    if (line->state & LINE_SEEN && time < line->time) {
        cell_disorder(&session->cell);
        return;
    }
    weigh(session, line, time);
    line->state = (uint8_t)((line->state & ~LINE_KNOWN) | LINE_SEEN);
    line->time = time;
    if (line->state & LINE_MISSING)
        watch_heard(engine, session->series, time);
}

/* Whether the row's time is not in the future; it moves the watermark. */
static bool move_clock(struct engine *engine, struct group *group, int64_t time)
{
    if (time <= group->newest)
        return true;
    if (engine->now >= 0 && engine->grid.max_future_ns >= 0 && time - engine->now > engine->grid.max_future_ns)
        return false;
    group->newest = time;
    group_close_until(engine, group, time - engine->grid.lateness_ns);
    return true;
}

void sessions_take(struct engine *engine, struct group *group, uint32_t series, int64_t time, double x,
                   uint8_t quality, uint64_t *nonfinite)
{
    struct line *line = &engine->lines[series];
    struct row_counts *counts = &engine->counts;
    if (line->profile == NO_PROFILE) {
        counts->undeclared++;
        return;
    }
    if (!move_clock(engine, group, time)) {
        counts->future++;
        return;
    }
    struct session *session = find_session(engine, group, series, time);
    if (!session)
        return;
    if (!(line->state & LINE_SEEN))
        group->look = INT64_MIN;
    bool uncertain = quality >= QUALITY_UNCERTAIN_FROM && quality < QUALITY_BAD_FROM;
    if (quality >= QUALITY_BAD_FROM || (uncertain && engine->profiles[line->profile].uncertain_as_bad)) {
        counts->bad++;
        take_bad(engine, session, time);
    } else if (!(fabs(x) <= DBL_MAX)) {
        ++*nonfinite;
        take_bad(engine, session, time);
    } else if (cell_count(&session->cell) == CELL_COUNT_MAX) {
        counts->overflow++;
    } else if (take_value(engine, session, time, x, uncertain) &&
               (time >= line->due || !is_within(line->edges, mirrored(x)))) {
        watch_row(engine, series, time, x);
    }
}
