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

/* A complete record inside the stream's buffer. */
struct cut {
    size_t end;
    uint64_t samples;
};

/* Windows of a property that are published, and can't be again. */
struct closed {
    int64_t until; /* all that end by it, */
    int64_t from;  /* and those inside [from, to): published before the first contact */
    int64_t to;
};

struct stream {
    /* event time */
    int64_t newest;     /* time of the newest value that is not from the future */
    int64_t watermark;  /* what ended by it (plus its lateness) is closed; never goes back */
    int64_t next_close; /* no open window closes before the watermark gets here */
    int64_t lag;        /* how far the source's own clock is behind ours */
    bool own_clock;     /* it is behind by more than a pause between two calls of advance */
    bool pushed;        /* since the last advance */
    bool contact;       /* a value came: before, windows of bad rows go by our clock alone */
    bool touched;       /* since the last settle; then `next_touched` is the rest of that list */
    uint32_t next_touched;

    /* records */
    uint64_t seq; /* of the next record */
    struct buffer body;
    size_t record_start;
    uint64_t samples; /* of the record under construction */
    struct cut *cuts;
    uint32_t cuts_count;
    uint32_t cuts_capacity;
    bool ready;     /* is on the list of streams to take from */
    bool row_open;  /* the record's last item belongs to the row of `row_time` */
    int64_t row_time;
    uint32_t row_number; /* changes with each row: a property comes at most once in a row */

    /* its windowed series, and by property what is closed for good */
    uint32_t *members;
    uint32_t members_count;
    uint32_t members_capacity;
    struct closed *closed;
    uint32_t closed_count;
    uint32_t epoch; /* of its records */
};

/* Append a reading, opening a record and a row as needed. `*row_seen` is the series' mark of the row that it is
 * in. False without memory: nothing was appended. */
bool stream_reading(struct stream *stream, uint32_t epoch, uint32_t *row_seen, int64_t time, uint32_t property,
                    uint8_t quality, const struct value *value);

/* Append a closed window. False without memory: nothing was appended. */
bool stream_window(struct stream *stream, uint32_t epoch, const struct record_window *window);

/* The records that wait: their number, and one of them. */
uint32_t stream_records(const struct stream *stream);
void stream_record(const struct stream *stream, uint32_t index, const uint8_t **body, size_t *length,
                   uint64_t *seq, uint64_t *samples);

/* Forget the records: they were taken. Sequence numbers go on. */
void stream_taken(struct stream *stream);

/* Note a windowed series; false without memory. */
bool stream_join(struct stream *stream, uint32_t slot);
void stream_leave(struct stream *stream, uint32_t slot);

/* Make room to remember what of a property is closed; false without memory. */
bool stream_closed_room(struct stream *stream, uint32_t property);

/* Turn the watermark back at the first contact with a source whose clock is behind: only windows that were
 * published before stay closed. */
void stream_turn_back(struct stream *stream);

void stream_free(struct stream *stream);

#endif
