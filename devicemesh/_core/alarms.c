/* Alarms of the series: raised and cleared by values, and by the clock where they wait. */
#include <stdlib.h>

#include "alarms.h"

bool raise_event(struct aggregator *a, struct alarm_event event)
{
    if (a->events_count == MAX_EVENTS)
        return false;
    if (a->events_count == a->events_capacity) {
        uint32_t capacity = a->events_capacity ? a->events_capacity * 2 : 16;
        struct alarm_event *events = realloc(a->events, capacity * sizeof *events);
        if (!events)
            return false;
        a->events = events;
        a->events_capacity = capacity;
    }
    a->events[a->events_count++] = event;
    return true;
}

/* Raise a pending alarm whose delay is over at `time`; false if there is no room for that. */
static bool raise_delayed(struct aggregator *a, uint32_t slot, struct series *series, uint32_t limit, int64_t time)
{
    struct alarm_state *state = &series->alarms[limit];
    const struct limit *rule = &series->rules->limits[limit];
    if (!alarm_is_due(rule, state, time))
        return true;
    if (!raise_event(a, (struct alarm_event){slot, limit, true, alarm_due(rule, state), state->value}))
        return false;
    state->active = true;
    state->pending = false;
    return true;
}

void raise_waiting(struct aggregator *a)
{
    if (a->clock < a->next_alarm)
        return;
    a->next_alarm = INT64_MAX;
    for (uint32_t slot = 0; slot < a->series_count; slot++) {
        struct series *series = a->series[slot];
        for (uint32_t i = 0; series && i < series->rules->limits_count; i++) {
            int64_t clock = clock_of(a, stream_of(a, series));
            (void)raise_delayed(a, slot, series, i, clock);
            if (!series->alarms[i].pending)
                continue;
            int64_t due = alarm_due(&series->rules->limits[i], &series->alarms[i]), behind = a->clock - clock;
            due = due > INT64_MAX - behind ? INT64_MAX : due + behind;
            a->next_alarm = due < a->next_alarm ? due : a->next_alarm;
        }
    }
}

void watch_alarms(struct aggregator *a, uint32_t slot, struct series *series, int64_t time, double number)
{
    for (uint32_t i = 0; i < series->rules->limits_count; i++) {
        const struct limit *limit = &series->rules->limits[i];
        struct alarm_state *state = &series->alarms[i];
        if (!raise_delayed(a, slot, series, i, time))
            continue;
        bool active = limit_next(limit, state->active, number), waits = active && !state->active && limit->delay_ns;
        if (waits && !state->pending) {
            state->since = time;
            int64_t due = alarm_due(limit, state);
            a->next_alarm = due < a->next_alarm ? due : a->next_alarm;
        }
        state->pending = waits;
        state->value = number;
        /* Without room for the event the state stays, and the next value raises it. */
        if (active != state->active && !waits && raise_event(a, (struct alarm_event){slot, i, active, time, number}))
            state->active = active;
    }
}
