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
