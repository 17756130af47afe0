/* Limits: what a value, or the clock, makes due. */
#ifndef DEVICEMESH_ALARMS_H
#define DEVICEMESH_ALARMS_H

#include "aggregator.h"

/* Queue an alarm event; false if there is no room. */
bool raise_event(struct aggregator *a, struct alarm_event event);

/* Raise and clear what a value makes due: the newest of its series. */
void watch_alarms(struct aggregator *a, uint32_t slot, struct series *series, int64_t time, double number);

/* Raise what the clock makes due. */
void raise_waiting(struct aggregator *a);

#endif
