/* The aggregator: all series of one runtime, and the rows that became records, losses or windows still open.
 *
 * Every row pushed is counted once as read, and at any moment is exactly one of taken, dropped (under one
 * policy) or pending (in an open window or in a record not yet taken).
 */
#ifndef DEVICEMESH_AGGREGATE_H
#define DEVICEMESH_AGGREGATE_H

#include "series.h"
#include "stream.h"

enum policy {
    DROP_DEADBAND,  /* change: unchanged */
    DROP_NONE,      /* none: the twin only */
    DROP_BAD,       /* no value: in a window, or the same quality as reported last */
    DROP_LATE,      /* its window is closed */
    DROP_FUTURE,    /* window: more than an hour ahead of our clock */
    DROP_NONFINITE, /* as bad, for NaN and infinities */
    DROP_INEXACT,   /* window: an integer beyond 2^53, or a text */
    DROP_OVERFLOW,  /* max_pending_bytes, or no memory */
    DROP_UNDEFINED, /* no such series */
    DROP_RATE,      /* change: too soon after another; the newest is reported later */
    DROP_COUNT,
};

/* Rows as columns. A column that is NULL is the same for all rows: `time`, `quality`. */
struct columns {
    size_t count;
    const uint8_t *slots; /* uint32, of any alignment, as all columns */
    const uint8_t *times; /* int64 */
    int64_t time;
    const uint8_t *floats;   /* double, or */
    const uint8_t *integers; /* int64 */
    const uint8_t *qualities;
    uint8_t quality;
};

struct counts {
    uint64_t read;
    uint64_t taken;
    uint64_t pending;
    uint64_t dropped[DROP_COUNT];
    uint64_t qualities[256]; /* rows pushed, by quality */
};

struct aggregator;

/* A new aggregator; NULL without memory. Beyond `max_pending_bytes` of records and open windows rows are
 * dropped as overflow until the records are taken. */
struct aggregator *aggregator_new(uint32_t epoch, size_t max_pending_bytes);
void aggregator_free(struct aggregator *aggregator);

/* Streams that come from now on have this epoch; those that exist keep theirs. */
void aggregator_begin(struct aggregator *aggregator, uint32_t epoch);

enum define_status { DEFINE_DONE, DEFINE_INVALID, DEFINE_NO_MEMORY };

/* Define a slot, or change its place or rules: its open windows close first. `carry[i]` is the index of the old
 * limit that limit i goes on from, or -1; an active alarm that nothing carries on is cleared. */
enum define_status aggregator_define(struct aggregator *aggregator, uint32_t slot, struct place place,
                                     const struct rules *rules, const int32_t *carry);

/* The slot that has the place (or one of them), MAX_IDS if none has. */
uint32_t aggregator_slot_at(const struct aggregator *aggregator, struct place place);

/* Close a slot's windows and forget it; false if there is none. Its active alarms are cleared. */
bool aggregator_remove(struct aggregator *aggregator, uint32_t slot);

/* Take a batch. Its rows are placed first, then the windows close that its newest times end: rows of one batch
 * never make each other late. */
void aggregator_push(struct aggregator *aggregator, const struct columns *columns);

/* Take one row of a batch; `number` is the value for alarms, NaN if it has none. Call `aggregator_settle` after
 * the batch's last. Returns whether it is the slot's latest now. */
bool aggregator_row(struct aggregator *aggregator, uint32_t slot, int64_t time, uint8_t quality,
                    const struct value *value, double number);
void aggregator_settle(struct aggregator *aggregator);

/* Tell the time: closes the windows of silent streams. A stream whose values come with an own clock that is
 * behind ours (by more than a second) is judged by that clock.
 * Earlier than before by more than a second: our clock was set back. Open windows close as they are, those
 * published stay closed, and the next value is the latest, whatever its time. */
void aggregator_advance(struct aggregator *aggregator, int64_t now);

/* Close every open window. */
void aggregator_flush(struct aggregator *aggregator);

/* The streams that have records, in the order they became ready; see stream_record. */
uint32_t aggregator_ready(const struct aggregator *aggregator, const uint32_t **streams);
const struct stream *aggregator_stream(const struct aggregator *aggregator, uint32_t stream);

/* Count all waiting records as taken and forget them. */
void aggregator_taken(struct aggregator *aggregator);

/* Rows ever pushed for a slot; 0 for an undefined one. */
uint64_t aggregator_rows(const struct aggregator *aggregator, uint32_t slot);

/* The latest row of a slot; false for an undefined one. */
bool aggregator_latest(const struct aggregator *aggregator, uint32_t slot, struct latest *latest);

/* Alarm events since the last `aggregator_events_taken`. */
uint32_t aggregator_events(const struct aggregator *aggregator, const struct alarm_event **events);
void aggregator_events_taken(struct aggregator *aggregator);

const struct counts *aggregator_counts(const struct aggregator *aggregator);
size_t aggregator_pending_bytes(const struct aggregator *aggregator);

#endif
