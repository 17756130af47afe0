/* Definitions: profiles, and series with their lines, places and groups. */
#include "parts.h"
#include "watch.h"

enum { PROFILES_MAX = 1 << 15, SOURCES_MAX = 1 << 20, POSITIONS_STEP = 64, BARE_RING_MAX = 8 };

/* Room for `wanted` items in an array of `*capacity`; false without. */
static bool make_room(struct budget *budget, void **items, uint32_t *capacity, uint64_t wanted, size_t size)
{
    uint64_t larger = *capacity ? *capacity : POSITIONS_STEP;
    if (wanted <= *capacity)
        return true;
    while (larger < wanted)
        larger *= 2;
    if (larger > UINT32_MAX)
        return false;
    void *grown = budget_grow(budget, *items, *capacity, larger, size);
    if (!grown)
        return false;
    *items = grown;
    *capacity = (uint32_t)larger;
    return true;
}

enum engine_status engine_profile(struct engine *engine, const struct profile *profile, uint32_t *number)
{
    uint32_t count = engine->profiles_count;
    if (count == PROFILES_MAX)
        return ENGINE_TOO_MANY;
    if (!make_room(&engine->budget, (void **)&engine->profiles, &engine->profiles_capacity, (uint64_t)count + 1,
                   sizeof *engine->profiles) ||
        !make_room(&engine->budget, (void **)&engine->rules, &engine->rules_capacity, (uint64_t)count + 1,
                   sizeof *engine->rules) ||
        !emit_columns(engine, profile))
        return ENGINE_NO_MEMORY;
    struct sketch_rule rule = {0};
    if (profile->quantiles_count && !sketch_rule_init(&rule, profile->relative_error, profile->max_bins))
        return ENGINE_RELATIVE_ERROR;
    engine->rules[count] = rule;
    bool alike = !count || (engine->one_rule && rule.multiplier == engine->rules->multiplier);
    engine->one_rule = rule.max_bins && alike;
    engine->profiles[count] = *profile;
    profile_settle(&engine->profiles[count]);
    engine->asked_by_all = count ? engine->asked_by_all & profile->statistics : profile->statistics;
    engine->profiles_count++;
    *number = count;
    return ENGINE_DONE;
}

/* The group of a source, made if there is none; NULL without room. */
static struct group *make_group(struct engine *engine, uint32_t source)
{
    if (source < engine->groups_count && engine->groups[source])
        return engine->groups[source];
    if (source >= engine->groups_count) {
        struct group **grown = budget_grow(&engine->budget, engine->groups, engine->groups_count, (size_t)source + 1,
                                           sizeof *engine->groups);
        if (!grown)
            return NULL;
        engine->groups = grown;
        engine->groups_count = source + 1;
    }
    struct group *group = budget_take(&engine->budget, 1, sizeof *group);
    if (!group)
        return NULL;
    group->ring = budget_take(&engine->budget, engine->ring_count, sizeof *group->ring);
    if (!group->ring) {
        group_free(engine, group);
        return NULL;
    }
    group->newest = group->known = -1;
    group->bare = true;
    group->turn = group->look = INT64_MIN;
    engine->groups[source] = group;
    return group;
}

/* The one group becomes one of several: its positions were its series' numbers, and stay so. */
static bool make_places(struct engine *engine)
{
    struct group *group = engine->only;
    struct place *places = budget_take(&engine->budget, engine->series_capacity, sizeof *places);
    uint32_t *ids = budget_take(&engine->budget, group->capacity, sizeof *ids);
    if (!places || !ids) {
        budget_give(&engine->budget, places);
        budget_give(&engine->budget, ids);
        return false;
    }
    uint32_t source = 0;
    while (engine->groups[source] != group)
        source++;
    for (uint32_t i = 0; i < group->members; i++) {
        ids[i] = i;
        places[i] = (struct place){source, i};
    }
    group->ids = ids;
    engine->places = places;
    engine->only = NULL;
    return true;
}

/* A capacity for `wanted` positions: a multiple of POSITIONS_STEP. Who defines many at once gets what he asked for. */
static uint64_t wider(uint64_t capacity, uint64_t wanted)
{
    uint64_t roomy = capacity + capacity / 2;
    return ((roomy > wanted ? roomy : wanted) + POSITIONS_STEP - 1) / POSITIONS_STEP * POSITIONS_STEP;
}

/* Room for `members` positions in a group and its panes. */
static bool widen_group(struct engine *engine, struct group *group, uint64_t members)
{
    uint64_t capacity = wider(group->capacity, members);
    if (members <= group->capacity)
        return true;
    if (capacity > UINT32_MAX)
        return false;
    for (uint32_t i = 0; i < engine->ring_count; i++)
        if (group->ring[i].capacity && !pane_resize(&group->ring[i], &engine->budget, (uint32_t)capacity))
            return false; /* wider panes than needed do no harm */
    if (group->ids) {
        uint32_t *ids = budget_grow(&engine->budget, group->ids, group->capacity, capacity, sizeof *ids);
        if (!ids)
            return false;
        group->ids = ids;
    }
    group->capacity = (uint32_t)capacity;
    return true;
}

/* Room for series up to `wanted`: in all arrays, or in none. */
static bool widen_series(struct engine *engine, uint64_t wanted)
{
    uint32_t old = engine->series_capacity;
    struct budget *budget = &engine->budget;
    uint64_t capacity = wider(old, wanted);
    if (wanted <= old)
        return true;
    if (capacity > UINT32_MAX)
        return false;
    struct line *lines = budget_take(budget, capacity, sizeof *lines);
    uint64_t *declared = budget_take(budget, capacity / 64, sizeof *declared);
    struct place *places = engine->places ? budget_take(budget, capacity, sizeof *places) : NULL;
    if (!lines || !declared || (engine->places && !places)) {
        budget_give(budget, lines);
        budget_give(budget, declared);
        budget_give(budget, places);
        return false;
    }
    if (old) {
        memcpy(lines, engine->lines, old * sizeof *lines);
        memcpy(declared, engine->declared, old / 64 * sizeof *declared);
    }
    if (places && engine->places)
        memcpy(places, engine->places, old * sizeof *places);
    budget_give(budget, engine->lines);
    budget_give(budget, engine->declared);
    budget_give(budget, engine->places);
    for (uint64_t i = old; i < capacity; i++)
        lines[i].profile = NO_PROFILE;
    engine->lines = lines;
    engine->declared = declared;
    engine->places = places;
    engine->series_capacity = (uint32_t)capacity;
    return true;
}

static bool any_declared(const struct engine *engine, uint32_t first, uint32_t count)
{
    for (uint64_t i = first; i < (uint64_t)first + count && i < engine->series_count; i++)
        if (engine->declared[i / 64] >> i % 64 & 1)
            return true;
    return false;
}

static bool make_timers(struct engine *engine, const struct profile *profile, uint32_t count)
{
    if (!profile_has_timers(profile))
        return true;
    uint32_t first = engine->timers_count ? engine->timers_count : 1; /* index 0 means none */
    if (!make_room(&engine->budget, (void **)&engine->timers, &engine->timers_capacity, (uint64_t)first + count,
                   sizeof *engine->timers))
        return false;
    engine->timers_count = first;
    return true;
}

/* From now on lines are kept. */
static void keep_lines(struct engine *engine, struct group *group)
{
    group_settle(engine, group);
    group->bare = false;
}

/* Whether what a profile asks for comes of cells alone. */
static bool is_bare(const struct engine *engine, const struct group *group, const struct profile *profile)
{
    const uint64_t ordered = STATS_TIMED | UINT64_C(1) << STAT_DISORDERED;
    bool watches = profile->reports || profile->alarms_count || profile->missing_ns;
    return !group->needs_extras && !group->needs_sketches && !watches && !(profile->statistics & ordered) &&
           engine->grid.kind == GRID_PANES && engine->offset_shift == 0 && engine->ring_count <= BARE_RING_MAX;
}

static bool extend_group(struct engine *engine, struct group *group, const struct profile *profile)
{
    bool timed = engine->panes_per_window > 1 && profile->statistics & STATS_TIMED;
    bool extras = profile->statistics >> STAT_EXTRA || profile->sloped || timed, sketches = profile->quantiles_count > 0;
    for (uint32_t i = 0; i < engine->ring_count; i++) {
        struct pane *pane = &group->ring[i];
        if (pane->capacity && ((extras && !pane_extend(pane, &engine->budget)) ||
                               (sketches && !pane_sketch(pane, &engine->budget))))
            return false;
    }
    group->needs_extras |= extras;
    group->needs_sketches |= sketches;
    if (!is_bare(engine, group, profile))
        keep_lines(engine, group);
    return true;
}

static void begin_line(struct engine *engine, struct group *group, uint32_t series, uint32_t source, uint32_t profile)
{
    struct line *line = &engine->lines[series];
    *line = (struct line){.profile = (uint16_t)profile, .last = (double)NAN, .time = -1};
    if (profile_has_timers(&engine->profiles[profile])) {
        engine->timers[engine->timers_count] = (struct timers){0};
        line->timers = engine->timers_count++;
    }
    watch_begin(engine, line);
    engine->declared[series / 64] |= UINT64_C(1) << series % 64;
    if (engine->places) {
        engine->places[series] = (struct place){source, group->members};
        group->ids[group->members++] = series;
    }
}

enum engine_status engine_define(struct engine *engine, uint32_t first, uint32_t count, uint32_t profile,
                                 uint32_t source)
{
    uint64_t end = (uint64_t)first + count;
    if (profile >= engine->profiles_count)
        return ENGINE_NO_PROFILE;
    if (source >= SOURCES_MAX)
        return ENGINE_TOO_MANY;
    if (any_declared(engine, first, count))
        return ENGINE_DEFINED_ALREADY;
    if (!count)
        return ENGINE_DONE;
    struct group *group = make_group(engine, source);
    if (!group)
        return ENGINE_NO_MEMORY;
    if (!engine->defined)
        engine->only = group;
    if (engine->only && engine->only != group && !make_places(engine))
        return ENGINE_NO_MEMORY;
    const struct profile *rules = &engine->profiles[profile];
    uint64_t members = engine->only ? (end > group->members ? end : group->members) : (uint64_t)group->members + count;
    if (!widen_series(engine, end) || !widen_group(engine, group, members) || !make_timers(engine, rules, count) ||
        !extend_group(engine, group, rules))
        return ENGINE_NO_MEMORY;
    if (engine->places && !group->ids &&
        !(group->ids = budget_take(&engine->budget, group->capacity, sizeof *group->ids)))
        return ENGINE_NO_MEMORY;
    for (uint32_t i = 0; i < count; i++)
        begin_line(engine, group, first + i, source, profile);
    if (end > engine->series_count)
        engine->series_count = (uint32_t)end;
    if (engine->only)
        group->members = (uint32_t)members;
    engine->defined += count;
    group->watched |= rules->missing_ns > 0 || profile_has_timers(rules);
    group->look = INT64_MIN;
    if (engine->only && engine->defined != engine->series_count)
        keep_lines(engine, group); /* cells do not say which series are defined */
    return ENGINE_DONE;
}
