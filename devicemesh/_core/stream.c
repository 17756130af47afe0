#include "stream.h"

#include <stdlib.h>

/* Where the record under construction begins. */
static size_t record_start(const struct outbox *outbox)
{
    return outbox->cuts_count ? outbox->cuts[outbox->cuts_count - 1].end : 0;
}

/* Complete the record under construction if it is large enough. False without memory. */
static bool cut_if_large(struct outbox *outbox)
{
    if (outbox->body.length - record_start(outbox) < RECORD_SOFT_MAX)
        return true;
    if (outbox->cuts_count == outbox->cuts_capacity) {
        uint32_t capacity = outbox->cuts_capacity ? outbox->cuts_capacity * 2 : 8;
        struct cut *cuts = realloc(outbox->cuts, capacity * sizeof *cuts);
        if (!cuts)
            return false;
        outbox->cuts = cuts;
        outbox->cuts_capacity = capacity;
    }
    outbox->cuts[outbox->cuts_count++] = (struct cut){outbox->body.length, outbox->samples};
    outbox->samples = 0;
    outbox->row_open = false;
    return true;
}

/* A new outbox; NULL without memory. There may be one for each device at once, of a few readings each. */
static struct outbox *outbox_new(void)
{
    enum { FIRST = 120 };
    struct outbox *outbox = malloc(sizeof *outbox);
    if (!outbox)
        return NULL;
    *outbox = (struct outbox){.body.capacity = FIRST};
    outbox->body.bytes = malloc(FIRST);
    if (outbox->body.bytes)
        return outbox;
    free(outbox);
    return NULL;
}

/* The outbox with room for an item of `size` bytes behind a header and a row, and a record open. After it nothing
 * fails. NULL without memory. */
static struct outbox *prepare(struct stream *stream, size_t size)
{
    if (!stream->outbox)
        stream->outbox = outbox_new();
    struct outbox *outbox = stream->outbox;
    if (!outbox || !cut_if_large(outbox) || !buffer_reserve(&outbox->body, RECORD_HEADER + RECORD_ROW_MAX + size))
        return NULL;
    if (outbox->body.length == record_start(outbox))
        record_begin(&outbox->body, (struct record_header){stream->epoch, stream->seq++});
    return outbox;
}

bool stream_reading(struct stream *stream, uint32_t *row, int64_t time, uint32_t property, uint8_t quality,
                    const struct value *value)
{
    struct outbox *outbox = prepare(stream, RECORD_READING_MAX + (value_is_text(value) ? value->text->length : 0));
    if (!outbox)
        return false;
    if (!outbox->row_open || outbox->row_time != time || *row == stream->row_number) {
        record_row(&outbox->body, time);
        outbox->row_open = true;
        outbox->row_time = time;
        stream->row_number++;
    }
    *row = stream->row_number;
    outbox->samples++;
    return record_reading(&outbox->body, property, quality, value);
}

bool stream_window(struct stream *stream, const struct record_window *window)
{
    struct outbox *outbox = prepare(stream, RECORD_WINDOW_MAX);
    if (!outbox)
        return false;
    outbox->row_open = false;
    outbox->samples += window->count;
    return record_window(&outbox->body, window);
}

void stream_end_row(struct stream *stream)
{
    if (stream->outbox)
        stream->outbox->row_open = false;
}

uint32_t stream_records(const struct stream *stream)
{
    const struct outbox *outbox = stream->outbox;
    return outbox ? outbox->cuts_count + (outbox->body.length > record_start(outbox)) : 0;
}

void stream_record(const struct stream *stream, uint32_t index, const uint8_t **body, size_t *length,
                   uint64_t *seq, uint64_t *samples)
{
    const struct outbox *outbox = stream->outbox;
    size_t start = index ? outbox->cuts[index - 1].end : 0;
    bool complete = index < outbox->cuts_count;
    *body = outbox->body.bytes + start;
    *length = (complete ? outbox->cuts[index].end : outbox->body.length) - start;
    *samples = complete ? outbox->cuts[index].samples : outbox->samples;
    *seq = stream->seq - stream_records(stream) + index;
}

uint64_t stream_samples(const struct stream *stream)
{
    const struct outbox *outbox = stream->outbox;
    uint64_t samples = outbox ? outbox->samples : 0;
    for (uint32_t i = 0; outbox && i < outbox->cuts_count; i++)
        samples += outbox->cuts[i].samples;
    return samples;
}

void stream_taken(struct stream *stream)
{
    if (stream->outbox) {
        buffer_clear(&stream->outbox->body, 0);
        free(stream->outbox->cuts);
        free(stream->outbox);
    }
    stream->outbox = NULL;
    stream->ready = false;
}

static bool closed_room(struct windowed *windowed, uint32_t property)
{
    if (property < windowed->closed_count)
        return true;
    struct closed *closed = realloc(windowed->closed, ((size_t)property + 1) * sizeof *closed);
    if (!closed)
        return false;
    windowed->closed = closed;
    while (windowed->closed_count <= property)
        windowed->closed[windowed->closed_count++] = (struct closed){.until = -TIME_LIMIT, .first = INT64_MAX};
    return true;
}

bool stream_join(struct stream *stream, uint32_t slot, uint32_t property)
{
    if (!stream->windowed && (stream->windowed = calloc(1, sizeof *stream->windowed)))
        stream->windowed->next_close = INT64_MAX;
    struct windowed *windowed = stream->windowed;
    if (!windowed || !closed_room(windowed, property))
        return false;
    if (windowed->members_count == windowed->members_capacity) {
        uint32_t capacity = windowed->members_capacity ? windowed->members_capacity * 2 : 8;
        uint32_t *members = realloc(windowed->members, capacity * sizeof *members);
        if (!members)
            return false;
        windowed->members = members;
        windowed->members_capacity = capacity;
    }
    windowed->members[windowed->members_count++] = slot;
    return true;
}

void stream_leave(struct stream *stream, uint32_t slot)
{
    struct windowed *windowed = stream->windowed;
    for (uint32_t i = 0; i < windowed->members_count; i++) {
        if (windowed->members[i] != slot)
            continue;
        for (uint32_t j = i + 1; j < windowed->members_count; j++) /* the order of windows stays as defined */
            windowed->members[j - 1] = windowed->members[j];
        windowed->members_count--;
        return;
    }
}

/* One stretch is remembered: two that do not touch would be the work of a clock that was set twice. */
static void closed_turn_back(struct closed *closed)
{
    if (closed->first < closed->last) {
        bool touch = closed->from < closed->to && closed->first <= closed->to && closed->last >= closed->from;
        closed->from = touch && closed->from < closed->first ? closed->from : closed->first;
        closed->to = touch && closed->to > closed->last ? closed->to : closed->last;
    }
    closed->first = INT64_MAX;
    closed->until = -TIME_LIMIT;
}

void stream_turn_back(struct stream *stream)
{
    stream->watermark = -TIME_LIMIT;
    for (uint32_t i = 0; stream->windowed && i < stream->windowed->closed_count; i++)
        closed_turn_back(&stream->windowed->closed[i]);
}

void stream_free(struct stream *stream)
{
    stream_taken(stream);
    if (stream->windowed) {
        free(stream->windowed->members);
        free(stream->windowed->closed);
        free(stream->windowed);
    }
    free(stream);
}
