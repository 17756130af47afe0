/* Heartbeats and pauses: what is said again though it rests, and what waits though it changed. */
#ifndef DEVICEMESH_PACE_H
#define DEVICEMESH_PACE_H

#include "aggregator.h"

/* Whether a row of this time, of a series whose rules pace, is to be reported, changed or not: by its own time (the clock is
 * told now and then only), or by our clock (the times of rows may stand still). */
bool heartbeat_due(const struct aggregator *a, const struct series *series, int64_t time);

/* Whether a change comes too soon after the last report; it is then held, and reported by the clock. */
bool hold_change(struct aggregator *a, struct series *series, int64_t time, const struct value *value);

/* A row of this time was reported of such a series. */
void note_said(struct aggregator *a, struct series *series, int64_t time);

/* Publish once more what was silent for its heartbeat. */
void repeat_resting(struct aggregator *a);

#endif
