#include "watch.h"

#include "machine.h"

#include <float.h>
#include <math.h>

/* ---- what is said ---- */

static void put_u32(struct sheet *sheet, uint32_t column, uint32_t value)
{
    *(uint32_t *)sheet_end(sheet, column) = value;
}

static void put_i64(struct sheet *sheet, uint32_t column, int64_t value)
{
    *(int64_t *)sheet_end(sheet, column) = value;
}

static void put_f64(struct sheet *sheet, uint32_t column, double value)
{
    *(double *)sheet_end(sheet, column) = value;
}

static void put_u8(struct sheet *sheet, uint32_t column, uint8_t value)
{
    *(uint8_t *)sheet_end(sheet, column) = value;
}

void watch_columns(struct engine *engine)
{
    static const enum sheet_type reports[] = {SHEET_U32, SHEET_I64, SHEET_F64, SHEET_U8};
    static const enum sheet_type events[] = {SHEET_U32, SHEET_I64, SHEET_U8, SHEET_U8, SHEET_U8, SHEET_F64};
    memcpy(engine->outputs[OUTPUT_REPORTS].types, reports, sizeof reports);
    memcpy(engine->outputs[OUTPUT_EVENTS].types, events, sizeof events);
    engine->outputs[OUTPUT_REPORTS].count = REPORT_COLUMNS;
    engine->outputs[OUTPUT_EVENTS].count = EVENT_COLUMNS;
}

/* False without room: it must then be said later. */
static bool say_report(struct engine *engine, uint32_t series, int64_t time, double value, enum report_reason reason)
{
    struct sheet *sheet = &engine->outputs[OUTPUT_REPORTS];
    if (!sheet_reserve(sheet, &engine->budget, 1))
        return false;
    put_report(sheet, series, time, value, reason);
    return true;
}

struct event {
    int64_t time;
    enum event_kind kind;
    uint32_t alarm;
    bool active;
    double value;
};

static bool say_event(struct engine *engine, uint32_t series, struct event event)
{
    struct sheet *sheet = &engine->outputs[OUTPUT_EVENTS];
    if (!sheet_reserve(sheet, &engine->budget, 1))
        return false;
    put_u32(sheet, EVENT_SERIES, series);
    put_i64(sheet, EVENT_TIME, event.time);
    put_u8(sheet, EVENT_KIND, (uint8_t)event.kind);
    put_u8(sheet, EVENT_ALARM, (uint8_t)event.alarm);
    put_u8(sheet, EVENT_ACTIVE, event.active);
    put_f64(sheet, EVENT_VALUE, event.value);
    sheet->rows++;
    return true;
}

/* ---- edges ---- */

static void narrow(struct line *line, double low, double high)
{
    line->edges[0] = lesser(-low, line->edges[0]);
    line->edges[1] = lesser(high, line->edges[1]);
}

static void alarm_edges(struct line *line, const struct profile *profile, const struct timers *timers)
{
    for (uint32_t i = 0; i < profile->alarms_count; i++) {
        const struct alarm *alarm = &profile->alarms[i];
        bool active = line->active >> i & 1;
        if (timers && timers->pending >> i & 1)
            narrow(line, (double)INFINITY, (double)INFINITY);
        if (alarm->above)
            active ? narrow(line, alarm->clear, (double)INFINITY) : narrow(line, -(double)INFINITY, alarm->limit);
        else
            active ? narrow(line, -(double)INFINITY, alarm->clear) : narrow(line, alarm->limit, (double)INFINITY);
    }
}

static void report_edges(struct line *line, const struct profile *profile, const struct timers *timers)
{
    if (!(line->state & LINE_REPORTED)) {
        narrow(line, (double)INFINITY, (double)INFINITY);
        return;
    }
    if (!(line->state & LINE_HELD)) {
        double width = deadband(profile, line->reported);
        narrow(line, line->reported - width, line->reported + width);
    }
    if (!timers)
        return; /* `due` is that of the heartbeat, if any */
    line->due = profile->heartbeat_ns ? timers->reported_time + profile->heartbeat_ns : INT64_MAX;
    if (line->state & LINE_HELD && timers->reported_time + profile->min_interval_ns < line->due)
        line->due = timers->reported_time + profile->min_interval_ns;
}

/* When a row must be looked at again. */
static void set_edges(struct line *line, const struct profile *profile, const struct timers *timers, bool unsaid)
{
    line->edges[0] = line->edges[1] = DBL_MAX; /* an infinity is beyond */
    alarm_edges(line, profile, timers);
    if (profile->reports)
        report_edges(line, profile, timers);
    if (unsaid || (line->state & (LINE_MISSING | LINE_KNOWN)) != LINE_KNOWN)
        narrow(line, (double)INFINITY, (double)INFINITY);
}

static struct timers *timers_of(const struct engine *engine, const struct line *line)
{
    return line->timers ? &engine->timers[line->timers] : NULL;
}

void watch_begin(const struct engine *engine, struct line *line)
{
    line->due = INT64_MAX;
    set_edges(line, &engine->profiles[line->profile], timers_of(engine, line), false);
}

static void look_by(struct engine *engine, uint32_t series, int64_t time)
{
    struct group *group = engine->only ? engine->only : engine->groups[engine->places[series].group];
    group->look = time < group->look ? time : group->look;
}

/* ---- alarms ---- */

static bool set_alarm(struct engine *engine, uint32_t series, struct event event)
{
    struct line *line = &engine->lines[series];
    if (!say_event(engine, series, event))
        return false;
    line->active = (uint8_t)(event.active ? line->active | 1u << event.alarm : line->active & ~(1u << event.alarm));
    return true;
}

/* Raise what was beyond its limit for its delay by `time`; false if something remains unsaid. */
static bool raise_due(struct engine *engine, uint32_t series, int64_t time)
{
    const struct line *line = &engine->lines[series];
    const struct profile *profile = &engine->profiles[line->profile];
    struct timers *timers = timers_of(engine, line);
    bool said = true;
    for (uint32_t i = 0; timers && i < profile->alarms_count; i++) {
        int64_t due = timers->since[i] + profile->alarms[i].delay_ns;
        if (!(timers->pending >> i & 1) || due > time)
            continue;
        if (set_alarm(engine, series, (struct event){due, EVENT_IS_ALARM, i, true, timers->value}))
            timers->pending &= (uint8_t)~(1u << i);
        else
            said = false;
    }
    return said;
}

static bool judge_alarm(struct engine *engine, uint32_t series, uint32_t i, int64_t time, double x)
{
    const struct line *line = &engine->lines[series];
    const struct alarm *alarm = &engine->profiles[line->profile].alarms[i];
    struct timers *timers = timers_of(engine, line);
    bool beyond = alarm->above ? x > alarm->limit : x < alarm->limit;
    bool cleared = alarm->above ? x < alarm->clear : x > alarm->clear;
    uint8_t bit = (uint8_t)(1u << i);
    if (line->active & bit)
        return !cleared || set_alarm(engine, series, (struct event){time, EVENT_IS_ALARM, i, false, x});
    if (!alarm->delay_ns)
        return !beyond || set_alarm(engine, series, (struct event){time, EVENT_IS_ALARM, i, true, x});
    if (!beyond) {
        timers->pending &= (uint8_t)~bit;
    } else if (!(timers->pending & bit)) {
        timers->pending |= bit;
        timers->since[i] = time;
        look_by(engine, series, time + alarm->delay_ns);
    }
    return true;
}

static bool judge_alarms(struct engine *engine, uint32_t series, int64_t time, double x)
{
    const struct line *line = &engine->lines[series];
    const struct profile *profile = &engine->profiles[line->profile];
    bool said = raise_due(engine, series, time);
    for (uint32_t i = 0; said && i < profile->alarms_count; i++)
        said = judge_alarm(engine, series, i, time, x);
    struct timers *timers = timers_of(engine, line);
    if (timers)
        timers->value = x;
    return said;
}

/* ---- reports ---- */

static bool changed(const struct line *line, const struct profile *profile, double x)
{
    double width = deadband(profile, line->reported);
    return x < line->reported - width || x > line->reported + width;
}

static bool report(struct engine *engine, uint32_t series, int64_t time, double x, enum report_reason reason)
{
    struct line *line = &engine->lines[series];
    const struct profile *profile = &engine->profiles[line->profile];
    struct timers *timers = timers_of(engine, line);
    if (!say_report(engine, series, time, x, reason))
        return false;
    line->reported = x;
    line->state = (uint8_t)((line->state | LINE_REPORTED) & ~LINE_HELD);
    line->due = profile->heartbeat_ns ? time + profile->heartbeat_ns : INT64_MAX;
    if (timers)
        timers->reported_time = time;
    return true;
}

static bool judge_report(struct engine *engine, uint32_t series, int64_t time, double x)
{
    struct line *line = &engine->lines[series];
    const struct profile *profile = &engine->profiles[line->profile];
    const struct timers *timers = timers_of(engine, line);
    if (!(line->state & LINE_REPORTED))
        return report(engine, series, time, x, REASON_FIRST);
    if (changed(line, profile, x)) {
        if (!timers || time - timers->reported_time >= profile->min_interval_ns)
            return report(engine, series, time, x, line->state & LINE_HELD ? REASON_HELD : REASON_CHANGE);
        if (!(line->state & LINE_HELD))
            look_by(engine, series, timers->reported_time + profile->min_interval_ns);
        line->state |= LINE_HELD;
        return true;
    }
    if (line->state & LINE_HELD && time - timers->reported_time >= profile->min_interval_ns)
        line->state &= (uint8_t)~LINE_HELD; /* it came back in time */
    int64_t beat = timers ? timers->reported_time + profile->heartbeat_ns : line->due;
    if (profile->heartbeat_ns && time >= beat)
        return report(engine, series, time, x, REASON_HEARTBEAT);
    return true;
}

bool watch_resume(struct engine *engine, struct line *line, int64_t time, double x)
{
    const struct profile *profile = &engine->profiles[line->profile];
    bool held = line->state & (LINE_HELD | LINE_MISSING) || line->timers || line->active;
    if (held || (profile->reports && !(line->state & LINE_REPORTED)))
        return false;
    double width = profile->reports ? deadband(profile, line->reported) : (double)INFINITY;
    set_usual_edges(line, profile, line->reported, width);
    return time < line->due && is_within(line->edges, mirrored(x));
}

__attribute__((noinline)) void watch_row(struct engine *engine, uint32_t series, int64_t time, double x)
{
    struct line *line = &engine->lines[series];
    const struct profile *profile = &engine->profiles[line->profile];
    bool said = true;
    if (watch_change(engine, line, series, time, x))
        return;
    if (line->state & LINE_MISSING)
        watch_heard(engine, series, time);
    if (profile->alarms_count)
        said = judge_alarms(engine, series, time, x);
    if (profile->reports)
        said &= judge_report(engine, series, time, x);
    set_edges(line, profile, timers_of(engine, line), !said);
}

/* ---- the clock ---- */

void watch_heard(struct engine *engine, uint32_t series, int64_t time)
{
    struct line *line = &engine->lines[series];
    if (!say_event(engine, series, (struct event){time, EVENT_IS_MISSING, 0, false, (double)NAN}))
        return;
    line->state &= (uint8_t)~LINE_MISSING;
    look_by(engine, series, time + engine->profiles[line->profile].missing_ns);
}

static int64_t judge_missing(struct engine *engine, const struct group *group, uint32_t series, int64_t missing_ns)
{
    struct line *line = &engine->lines[series];
    if (!(line->state & (LINE_SEEN | LINE_AWAITED))) {
        line->time = group->watermark; /* it counts from the first time that the clock was told */
        line->state |= LINE_AWAITED;
    }
    int64_t due = line->time + missing_ns;
    if (line->state & LINE_MISSING)
        return INT64_MAX;
    if (due > group->watermark)
        return due;
    if (!say_event(engine, series, (struct event){due, EVENT_IS_MISSING, 0, true, (double)NAN}))
        return group->watermark;
    line->state |= LINE_MISSING;
    return INT64_MAX;
}

/* Look at one series; returns when to look again. */
static int64_t watch_series(struct engine *engine, const struct group *group, uint32_t series)
{
    struct line *line = &engine->lines[series];
    const struct profile *profile = &engine->profiles[line->profile];
    struct timers *timers = timers_of(engine, line);
    int64_t again = INT64_MAX, held;
    if (profile->missing_ns)
        again = judge_missing(engine, group, series, profile->missing_ns);
    if (timers) {
        bool said = raise_due(engine, series, group->watermark);
        for (uint32_t i = 0; i < profile->alarms_count; i++)
            if (timers->pending >> i & 1 && timers->since[i] + profile->alarms[i].delay_ns < again)
                again = timers->since[i] + profile->alarms[i].delay_ns;
        held = timers->reported_time + profile->min_interval_ns;
        if (line->state & LINE_HELD && held <= group->watermark) {
            if (!changed(line, profile, line->last))
                line->state &= (uint8_t)~LINE_HELD;
            else if (report(engine, series, line->time, line->last, REASON_HELD))
                timers->reported_time = held; /* the next may come an interval after this was said */
        }
        if (line->state & LINE_HELD && held < again)
            again = held;
        set_edges(line, profile, timers, !said);
    } else if (line->state & LINE_MISSING) {
        line->edges[0] = -(double)INFINITY;
    }
    return again;
}

void watch_group(struct engine *engine, struct group *group)
{
    if (!group->watched || group->watermark < group->look)
        return;
    int64_t again = INT64_MAX;
    for (uint32_t position = 0; position < group->members; position++) {
        uint32_t series = group_id(group, position);
        if (engine->lines[series].profile == NO_PROFILE)
            continue;
        int64_t next = watch_series(engine, group, series);
        again = next < again ? next : again;
    }
    group->look = again;
}
