#include "stream.h"

#include <stdlib.h>

/* Complete the record under construction if it is large enough. False without memory. */
static bool cut_if_large(struct stream *stream)
{
    if (stream->body.length - stream->record_start < RECORD_SOFT_MAX)
        return true;
    if (stream->cuts_count == stream->cuts_capacity) {
        uint32_t capacity = stream->cuts_capacity ? stream->cuts_capacity * 2 : 8;
        struct cut *cuts = realloc(stream->cuts, capacity * sizeof *cuts);
        if (!cuts)
            return false;
        stream->cuts = cuts;
        stream->cuts_capacity = capacity;
    }
    stream->cuts[stream->cuts_count++] = (struct cut){stream->body.length, stream->samples};
    stream->record_start = stream->body.length;
    stream->samples = 0;
    stream->row_open = false;
    return true;
}

/* Make room for an item of `size` bytes behind a header and a row, and open a record. After it nothing fails. */
static bool prepare(struct stream *stream, uint32_t epoch, size_t size)
{
    if (!cut_if_large(stream) || !buffer_reserve(&stream->body, RECORD_HEADER + RECORD_ROW_MAX + size))
        return false;
    if (stream->body.length == stream->record_start)
        return record_begin(&stream->body, (struct record_header){epoch, stream->seq++});
    return true;
}

bool stream_reading(struct stream *stream, uint32_t epoch, uint32_t *row_seen, int64_t time, uint32_t property,
                    uint8_t quality, const struct value *value)
{
    if (!prepare(stream, epoch, RECORD_READING_MAX + (value_is_text(value) ? value->text->length : 0)))
        return false;
    if (!stream->row_open || stream->row_time != time || *row_seen == stream->row_number) {
        record_row(&stream->body, time);
        stream->row_open = true;
        stream->row_time = time;
        stream->row_number++;
    }
    *row_seen = stream->row_number;
    stream->samples++;
    return record_reading(&stream->body, property, quality, value);
}

bool stream_window(struct stream *stream, uint32_t epoch, const struct record_window *window)
{
    if (!prepare(stream, epoch, RECORD_WINDOW_MAX))
        return false;
    stream->row_open = false;
    stream->samples += window->count;
    return record_window(&stream->body, window);
}

uint32_t stream_records(const struct stream *stream)
{
    return stream->cuts_count + (stream->body.length > stream->record_start);
}

void stream_record(const struct stream *stream, uint32_t index, const uint8_t **body, size_t *length,
                   uint64_t *seq, uint64_t *samples)
{
    size_t start = index ? stream->cuts[index - 1].end : 0;
    bool complete = index < stream->cuts_count;
    *body = stream->body.bytes + start;
    *length = (complete ? stream->cuts[index].end : stream->body.length) - start;
    *samples = complete ? stream->cuts[index].samples : stream->samples;
    *seq = stream->seq - stream_records(stream) + index;
}

void stream_taken(struct stream *stream)
{
    enum { SMALL = 512, KEEP = 2 * RECORD_SOFT_MAX };
    buffer_clear(&stream->body, stream->body.capacity <= SMALL ? 0 : KEEP); /* a small one is soon had again */
    stream->record_start = 0;
    stream->samples = 0;
    stream->cuts_count = 0;
    stream->row_open = false;
    stream->ready = false;
}

bool stream_join(struct stream *stream, uint32_t slot)
{
    if (stream->members_count == stream->members_capacity) {
        uint32_t capacity = stream->members_capacity ? stream->members_capacity * 2 : 8;
        uint32_t *members = realloc(stream->members, capacity * sizeof *members);
        if (!members)
            return false;
        stream->members = members;
        stream->members_capacity = capacity;
    }
    stream->members[stream->members_count++] = slot;
    return true;
}

void stream_leave(struct stream *stream, uint32_t slot)
{
    for (uint32_t i = 0; i < stream->members_count; i++) {
        if (stream->members[i] != slot)
            continue;
        for (uint32_t j = i + 1; j < stream->members_count; j++) /* the order of windows stays as defined */
            stream->members[j - 1] = stream->members[j];
        stream->members_count--;
        return;
    }
}

bool stream_closed_room(struct stream *stream, uint32_t property)
{
    if (property < stream->closed_count)
        return true;
    struct closed *closed = realloc(stream->closed, ((size_t)property + 1) * sizeof *closed);
    if (!closed)
        return false;
    stream->closed = closed;
    while (stream->closed_count <= property)
        stream->closed[stream->closed_count++] = (struct closed){.until = -TIME_LIMIT};
    return true;
}

void stream_turn_back(struct stream *stream)
{
    stream->watermark = -TIME_LIMIT;
    for (uint32_t i = 0; i < stream->closed_count; i++)
        stream->closed[i].until = -TIME_LIMIT;
}

void stream_free(struct stream *stream)
{
    buffer_clear(&stream->body, 0);
    free(stream->cuts);
    free(stream->members);
    free(stream->closed);
    free(stream);
}
