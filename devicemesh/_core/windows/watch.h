/* What is said of a series while its windows are open: reports by exception, alarms, missing data.
 *
 * A line keeps two edges and a time: while its values stay between and its rows before, nothing is to be said. */
#ifndef DEVICEMESH_WINDOWS_WATCH_H
#define DEVICEMESH_WINDOWS_WATCH_H

#include "parts.h"
#include "machine.h"

#include <stddef.h>

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
    return greater(fabs(reported) * profile->fraction, profile->deadband);
}

/* Write a report behind the last one, where there is room for one. */
static inline void put_report(struct sheet *sheet, uint32_t series, int64_t time, double value, enum report_reason reason)
{
    size_t row = sheet->rows++;
    uint32_t *all_series = sheet->columns[REPORT_SERIES]; /* all of them loaded before anything is stored */
    int64_t *times = sheet->columns[REPORT_TIME];
    double *values = sheet->columns[REPORT_VALUE];
    uint8_t *reasons = sheet->columns[REPORT_REASON];
    all_series[row] = series;
    times[row] = time;
    values[row] = value;
    reasons[row] = (uint8_t)reason;
}

/* Whether there may be something to say of a value: {-x, x}. */
static inline bool watch_is_due(const struct line *line, int64_t time, pair both)
{
    return !is_within(line->edges, both) || time >= line->due;
}

/* Whether a series has been reported, has a value, and nothing else is to be remembered of it. */
static inline bool watch_is_usual(const struct line *line)
{
    struct {
        uint32_t timers;
        uint16_t profile;
        uint8_t state, active;
    } mask = {UINT32_MAX, 0, LINE_REPORTED | LINE_KNOWN | LINE_HELD | LINE_MISSING, UINT8_MAX},
      usual = {0, 0, LINE_REPORTED | LINE_KNOWN, 0};
    uint64_t bits, mask_bits, usual_bits;
    _Static_assert(sizeof mask == sizeof bits && offsetof(struct line, timers) + sizeof bits == sizeof *line, "one word");
    memcpy(&bits, (const uint8_t *)line + offsetof(struct line, timers), sizeof bits);
    memcpy(&mask_bits, &mask, sizeof mask);
    memcpy(&usual_bits, &usual, sizeof usual);
    return (bits & mask_bits) == usual_bits;
}

/* The edges of a usual series around the value that was reported last. */
static inline void set_usual_edges(struct line *line, const struct profile *profile, double reported, double width)
{
    *(pair *)line->edges = lesser_both(mirrored(reported) + width, *(const pair *)profile->calm);
}

/* A known value that is beyond the edges: what watch_row would do if it left the deadband and nothing else is to be said of
 * it. False: it is not that, or there is no room, and nothing has happened. */
static INLINED bool watch_change(struct engine *engine, struct line *line, uint32_t series, int64_t time, double x)
{
    struct sheet *sheet = &engine->outputs[OUTPUT_REPORTS];
    const struct profile *profile = &engine->profiles[line->profile];
    pair both = mirrored(x);
    bool outside = !is_within(line->edges, both) && -line->edges[0] <= line->edges[1]; /* as nothing has narrowed */
    bool usual = profile->reports && watch_is_usual(line) && is_within(profile->calm, both);
    if (!LIKELY(usual && outside) || UNLIKELY(sheet->rows == sheet->capacity))
        return false;
    put_report(sheet, series, time, x, REASON_CHANGE);
    line->reported = x;
    line->due = profile->heartbeat_ns ? time + profile->heartbeat_ns : INT64_MAX;
    set_usual_edges(line, profile, x, deadband(profile, x));
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
