/* One device's way out: its clock, and the records that wait to be taken. */
#ifndef DEVICEMESH_STREAM_H
#define DEVICEMESH_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"
#include "record.h"
#include "value.h"

/* Times beyond are in no window and move no clock: 1827 to 2112. Sums of two of them and two spans fit. */
#define TIME_LIMIT INT64_C(4500000000000000000)

enum { RECORD_SOFT_MAX = 8192 }; /* a record that reaches so many bytes is complete: some 60 kB of JSON */

/* A complete record inside the outbox. */
struct cut {
    size_t end;
    uint64_t samples;
};

/* Records that wait to be taken: those complete, and behind them the one under construction. */
struct outbox {
    struct buffer body;
    uint64_t samples; /* of the record under construction */
    int64_t row_time;
    struct cut *cuts;
    uint32_t cuts_count;
    uint32_t cuts_capacity;
    bool row_open; /* the record's last item belongs to the row of `row_time` */
};

/* Windows of a property that are published, and can't be again. */
struct closed {
    int64_t until; /* all that end by it, */
    int64_t from;  /* and those inside [from, to): published before the watermark was turned back */
    int64_t to;
    int64_t first; /* the start of the first that was published since then; INT64_MAX: none was */
    int64_t last;  /* the end of the last */
};

/* What a stream has once one of its series is windowed. */
struct windowed {
    int64_t next_close; /* no open window closes before the watermark gets here */
    uint32_t *members;  /* slots of the windowed series */
    uint32_t members_count;
    uint32_t members_capacity;
    struct closed *closed; /* by property: what is closed for good */
    uint32_t closed_count;
};

/* There is one for each device: what not every one needs at every moment is elsewhere. */
struct stream {
    /* event time */
    int64_t newest;    /* time of the newest value that is not from the future */
    int64_t watermark; /* what ended by it (plus its lateness) is closed; never goes back */
    int64_t lag;       /* how far the source's own clock is behind ours */
    bool own_clock;    /* it is behind by more than a pause between two calls of advance */
    bool pushed;       /* since the last advance */
    bool contact;      /* a value came: before, windows of bad rows go by our clock alone */
    bool touched;      /* since the last settle; then `next_touched` is the rest of that list */
    uint32_t next_touched;

    /* records */
    uint64_t seq;          /* of the next record */
    struct outbox *outbox; /* or NULL: nothing waits */
    uint32_t epoch;        /* of its records */
    uint32_t row_number;   /* changes with each row: a property comes at most once in a row */
    bool ready;            /* is on the list of streams to take from */

    uint32_t first_series; /* slot of one of its series, which leads to the next */
    struct windowed *windowed; /* or NULL: no series ever was */
};

_Static_assert(sizeof(void *) > 8 || sizeof(struct stream) <= 72, "there are many devices");

/* Append a reading, opening a record and a row as needed. `*row` is the series' mark of the row that it is in.
 * False without memory: nothing was appended. */
bool stream_reading(struct stream *stream, uint32_t *row, int64_t time, uint32_t property,
                    uint8_t quality, const struct value *value);

/* Append a closed window. False without memory: nothing was appended. */
bool stream_window(struct stream *stream, const struct record_window *window);

/* The next reading begins a row. */
void stream_end_row(struct stream *stream);

/* Bytes of the records that wait. */
static inline size_t stream_bytes(const struct stream *stream)
{
    return stream->outbox ? stream->outbox->body.length : 0;
}

/* The records that wait: their number, one of them, and the samples of all. */
uint32_t stream_records(const struct stream *stream);
void stream_record(const struct stream *stream, uint32_t index, const uint8_t **body, size_t *length,
                   uint64_t *seq, uint64_t *samples);

uint64_t stream_samples(const struct stream *stream);

/* Forget the records: they were taken. Sequence numbers go on. */
void stream_taken(struct stream *stream);

/* Note a windowed series, with room to remember what of its property is closed; false without memory. */
bool stream_join(struct stream *stream, uint32_t slot, uint32_t property);
void stream_leave(struct stream *stream, uint32_t slot);

/* Turn the watermark back, at the first contact with a source whose clock is behind or because ours was set
 * back: only windows that were published before stay closed. */
void stream_turn_back(struct stream *stream);

void stream_free(struct stream *stream);

#endif
