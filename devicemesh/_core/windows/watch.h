/* What is said of a series while its windows are open: reports by exception, alarms, missing data.
 *
 * A line keeps two edges and a time: while its values stay between and its rows before, nothing is to be said. */
#ifndef DEVICEMESH_WINDOWS_WATCH_H
#define DEVICEMESH_WINDOWS_WATCH_H

#include "engine_internal.h"

/* Times that a rate limit or a delayed alarm needs. */
struct timers {
    int64_t reported_time;
    int64_t since[ALARMS_MAX]; /* the value is beyond the limit, where pending */
    double value;              /* newest, while something is pending */
    uint8_t pending;           /* alarms, a bit each */
};

enum report_column { REPORT_SERIES, REPORT_TIME, REPORT_VALUE, REPORT_REASON, REPORT_COLUMNS };
enum report_reason { REASON_FIRST, REASON_CHANGE, REASON_HEARTBEAT, REASON_HELD };
enum event_column { EVENT_SERIES, EVENT_TIME, EVENT_KIND, EVENT_ALARM, EVENT_ACTIVE, EVENT_VALUE, EVENT_COLUMNS };
enum event_kind { EVENT_IS_ALARM, EVENT_IS_MISSING };

/* Half the width of the band around the value reported last. */
static inline double deadband(const struct profile *profile, double reported)
{
    double relative = fabs(reported) * profile->fraction;
    return relative > profile->deadband ? relative : profile->deadband;
}

/* Write behind the last report, where there is room for one. */
static inline void put_report(const struct sheet *sheet, uint32_t series, int64_t time, double value,
                              enum report_reason reason)
{
    ((uint32_t *)sheet->columns[REPORT_SERIES])[sheet->rows] = series;
    ((int64_t *)sheet->columns[REPORT_TIME])[sheet->rows] = time;
    ((double *)sheet->columns[REPORT_VALUE])[sheet->rows] = value;
    ((uint8_t *)sheet->columns[REPORT_REASON])[sheet->rows] = (uint8_t)reason;
}

/* A known value that is beyond the edges: what watch_row would do if it left the deadband and nothing else is to be said of
 * it. False: it is not that, or there is no room, and nothing has happened. */
static INLINED bool watch_change(struct engine *engine, struct line *line, uint32_t series, int64_t time, double x)
{
    struct sheet *sheet = &engine->outputs[OUTPUT_REPORTS];
    const struct profile *profile = &engine->profiles[line->profile];
    unsigned state = line->state & (LINE_REPORTED | LINE_KNOWN | LINE_HELD | LINE_MISSING);
    bool usual = !(line->timers | line->active | (state ^ (LINE_REPORTED | LINE_KNOWN)));
    bool outside = !is_within(line->edges, mirrored(x)) && -line->edges[0] <= line->edges[1]; /* as nothing has narrowed */
    bool calm = x >= profile->calm_low && x <= profile->calm_high;
    if (!LIKELY(usual & outside & calm & profile->reports) || UNLIKELY(sheet->rows == sheet->capacity))
        return false;
    put_report(sheet, series, time, x, REASON_CHANGE);
    sheet->rows++;
    double width = deadband(profile, x);
    line->reported = x;
    line->due = profile->heartbeat_ns ? time + profile->heartbeat_ns : INT64_MAX;
    line->edges[0] = lesser(width - x, -profile->calm_low);
    line->edges[1] = lesser(x + width, profile->calm_high);
    return true;
}

/* The newest value of a series left its edges, or its time has come. */
void watch_row(struct engine *engine, uint32_t series, int64_t time, double x);

/* A value came after a time without one. False: there may be something to say, for watch_row. */
bool watch_resume(struct engine *engine, struct line *line, int64_t time, double x);

/* A row came where data was missing. */
void watch_heard(struct engine *engine, uint32_t series, int64_t time);

/* Say what the watermark of a group makes certain. */
void watch_group(struct engine *engine, struct group *group);

/* The edges of a series that was just defined. */
void watch_begin(const struct engine *engine, struct line *line);

/* Types of the reports' and events' columns. */
void watch_columns(struct engine *engine);

#endif
