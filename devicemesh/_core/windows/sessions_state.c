/* The sessions' part of the state. */
#include "sessions_internal.h"

static bool put(struct buffer *out, const void *bytes, size_t length)
{
    return buffer_append(out, bytes, length);
}

bool sessions_write(const struct engine *engine, struct buffer *out)
{
    const struct sessions *all = engine->sessions;
    uint32_t heads = all ? (all->heads_capacity < engine->series_count ? all->heads_capacity : engine->series_count) : 0;
    bool done = put(out, &heads, sizeof heads);
    for (uint32_t series = 0; done && series < heads; series++) {
        const struct head *head = &all->heads[series];
        uint32_t count = 0;
        for (uint32_t at = head->first; at != NOBODY; at = all->items[at].next)
            count++;
        done = put(out, &head->closed_until, sizeof head->closed_until) && put(out, &count, sizeof count);
        for (uint32_t at = head->first; done && at != NOBODY; at = all->items[at].next) {
            struct session session = all->items[at];
            session.sketch = (struct sketch){0};
            done = put(out, &session, sizeof session) && sketch_write(&all->items[at].sketch, out);
        }
    }
    return done;
}

static bool read_bytes(struct cursor *cursor, void *into, size_t length)
{
    const uint8_t *bytes = get_bytes(cursor, length);
    if (bytes)
        memcpy(into, bytes, length);
    return bytes != NULL;
}

static bool is_time(int64_t time)
{
    return time >= 0 && time < ENGINE_TIME_LIMIT;
}

/* Many of them add up without overflow. */
static bool is_duration(int64_t duration)
{
    return duration >= 0 && duration <= ENGINE_TIME_LIMIT / 16;
}

/* In time, and after the session before. */
static bool is_session(const struct session *session, int64_t after)
{
    return is_time(session->start) && is_time(session->last) && session->start <= session->last &&
           session->start >= after && is_time(session->value_time) && is_time(session->ordered_from) &&
           is_time(session->ordered_until) && is_duration(session->known_ns) &&
           is_duration(session->extra.nonzero_ns);
}

static enum state_status read_session(struct engine *engine, uint32_t series, int64_t *after, struct cursor *cursor)
{
    struct session session;
    uint16_t profile = engine->lines[series].profile;
    if (profile == NO_PROFILE || !read_bytes(cursor, &session, sizeof session) || !is_session(&session, *after))
        return STATE_DAMAGED;
    uint32_t place = sessions_open(engine, series, session.start);
    if (place == NOBODY)
        return STATE_NO_MEMORY;
    struct session *opened = &engine->sessions->items[place];
    *after = session.last + 1;
    session.series = series;
    session.next = opened->next;
    session.sketch = (struct sketch){0};
    *opened = session;
    struct sketch_rule rule = engine->rules[profile];
    if (!rule.max_bins && !sketch_rule_init(&rule, 0.01, SKETCH_MIN_BINS)) /* what is there must be empty */
        return STATE_DAMAGED;
    int64_t grown = sketch_read(&opened->sketch, &rule, cursor);
    if (grown < 0)
        return STATE_NO_MEMORY;
    engine->budget.used += (size_t)grown;
    if (!engine->rules[profile].max_bins && sketch_count(&opened->sketch))
        return STATE_DAMAGED;
    return cursor->failed ? STATE_DAMAGED : STATE_READ;
}

enum state_status sessions_read(struct engine *engine, struct cursor *cursor)
{
    uint32_t heads;
    if (!read_bytes(cursor, &heads, sizeof heads) || heads > engine->series_count ||
        (heads && engine->grid.kind != GRID_SESSIONS))
        return STATE_DAMAGED;
    if (heads && !sessions_start(engine))
        return STATE_NO_MEMORY;
    enum state_status status = STATE_READ;
    for (uint32_t series = 0; status == STATE_READ && series < heads; series++) {
        struct head *head = &engine->sessions->heads[series];
        uint32_t count;
        int64_t after = 0;
        if (!read_bytes(cursor, &head->closed_until, sizeof head->closed_until) ||
            !read_bytes(cursor, &count, sizeof count) || head->closed_until < 0)
            return STATE_DAMAGED;
        while (count-- && status == STATE_READ)
            status = read_session(engine, series, &after, cursor);
    }
    return status;
}
