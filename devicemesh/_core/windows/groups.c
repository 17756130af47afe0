/* Source groups: watermarks, and the ring of panes. */
#include "parts.h"

static int64_t window_end(const struct engine *engine, int64_t number)
{
    return (number + engine->panes_per_window) * engine->grid.hop + engine->grid.offset;
}

/* The oldest window that a watermark leaves open: the first that ends after it. */
static int64_t oldest_after(const struct engine *engine, int64_t watermark)
{
    int64_t hops = floor_divide(watermark - engine->grid.offset, engine->grid.hop);
    return hops - engine->panes_per_window + 1;
}

struct pane *group_pane_of(const struct engine *engine, const struct group *group, int64_t time)
{
    return group_pane(engine, group, floor_divide(time - engine->grid.offset, engine->grid.hop));
}

void group_set_turn(const struct engine *engine, struct group *group)
{
    int64_t turn = INT64_MIN;
    if (group->started) {
        turn = window_end(engine, group->oldest) + engine->grid.lateness_ns;
        if (engine->now >= 0 && engine->grid.max_future_ns >= 0 && engine->now + engine->grid.max_future_ns < turn)
            turn = engine->now + engine->grid.max_future_ns + 1;
    }
    group->turn = turn;
}

static void leave_pane(struct group *group)
{
    group->pane = NULL;
    group->start = group->end = 0;
}

/* Number of the oldest open pane, or INT64_MAX. */
static int64_t oldest_open(const struct engine *engine, const struct group *group)
{
    int64_t oldest = INT64_MAX;
    for (uint32_t i = 0; i < engine->ring_count; i++)
        if (group->ring[i].open && group->ring[i].number < oldest)
            oldest = group->ring[i].number;
    return oldest;
}

static void close_before(struct engine *engine, struct group *group, int64_t target)
{
    while (group->oldest < target) {
        int64_t filled = oldest_open(engine, group); /* windows before those with data are skipped, not walked */
        int64_t next = filled == INT64_MAX ? target : filled - engine->panes_per_window + 1;
        if (next > group->oldest) {
            group->oldest = next < target ? next : target;
            continue;
        }
        emit_window(engine, group, group->oldest);
        struct pane *pane = group_pane(engine, group, group->oldest);
        if (pane) {
            if (pane == group->pane)
                leave_pane(group);
            pane_clear(pane, &engine->budget);
        }
        group->oldest++;
    }
}

static void start_at(const struct engine *engine, struct group *group, int64_t watermark)
{
    group->started = true;
    group->watermark = watermark;
    if (engine->grid.kind == GRID_PANES)
        group->oldest = oldest_after(engine, watermark);
}

void group_close_until(struct engine *engine, struct group *group, int64_t watermark)
{
    if (!group->started)
        start_at(engine, group, watermark);
    if (watermark > group->watermark) {
        group->watermark = watermark;
        if (engine->grid.kind == GRID_PANES)
            close_before(engine, group, oldest_after(engine, watermark));
    }
    group_set_turn(engine, group);
}

bool group_turn(struct engine *engine, struct group *group, int64_t time)
{
    if (engine->now >= 0 && engine->grid.max_future_ns >= 0 && time - engine->now > engine->grid.max_future_ns)
        return false;
    group_close_until(engine, group, time - engine->grid.lateness_ns);
    return true;
}

void group_flush(struct engine *engine, struct group *group)
{
    if (!group->started)
        return;
    int64_t newest = group->oldest - 1;
    for (uint32_t i = 0; i < engine->ring_count; i++)
        if (group->ring[i].open && group->ring[i].number > newest)
            newest = group->ring[i].number;
    close_before(engine, group, newest + 1);
    if (newest >= group->oldest - 1 && window_end(engine, newest) > group->watermark)
        group->watermark = window_end(engine, newest);
    group_set_turn(engine, group);
}

void group_settle_one(struct engine *engine, struct group *group, uint32_t series, uint32_t position)
{
    struct line *line = &engine->lines[series];
    for (uint32_t i = 0; i < engine->ring_count; i++) {
        const struct pane *pane = &group->ring[i];
        if (!pane->open || !pane_touched(pane, position) || !cell_count(&pane->cells[position]))
            continue;
        int64_t time = pane->start + (int64_t)cell_offset(&pane->cells[position]);
        if (line->state & LINE_SEEN && time <= line->time)
            continue;
        line->state |= LINE_SEEN | LINE_KNOWN;
        line->time = time;
        line->last = pane->cells[position].last;
    }
}

void group_settle(struct engine *engine, struct group *group)
{
    for (uint32_t position = 0; group->bare && position < group->members; position++)
        group_settle_one(engine, group, group_id(group, position), position);
}

struct pane *group_open(struct engine *engine, struct group *group, int64_t number)
{
    struct pane *pane = group_ring_at(engine, group, number);
    if (pane->open)
        return pane->number == number ? pane : NULL;
    if (!pane_resize(pane, &engine->budget, group->capacity) ||
        (group->needs_extras && !pane_extend(pane, &engine->budget)) ||
        (group->needs_sketches && !pane_sketch(pane, &engine->budget)))
        return NULL;
    pane->open = true;
    pane->begun = engine->offered;
    pane->number = number;
    pane->start = number * engine->grid.hop + engine->grid.offset;
    pane->end = pane->start + engine->grid.hop;
    return pane;
}

bool group_select(struct engine *engine, struct group *group, int64_t time)
{
    int64_t number = floor_divide(time - engine->grid.offset, engine->grid.hop);
    if (number < group->oldest) {
        engine->counts.late++;
        return false;
    }
    struct pane *pane = group_open(engine, group, number);
    if (!pane) {
        engine->counts.overflow++;
        return false;
    }
    group_enter(group, pane);
    return true;
}
