#include "report.h"

#include <math.h>
#include <string.h>

/* The distance of two times. A clock that was set back must not keep a series silent: it counts both ways. */
static bool silence_over(const struct reported *last, const struct deadband *deadband, int64_t time)
{
    uint64_t distance = time > last->time ? (uint64_t)time - (uint64_t)last->time
                                          : (uint64_t)last->time - (uint64_t)time;
    return deadband->silence_ns > 0 && distance >= (uint64_t)deadband->silence_ns;
}

/* |a - b|, exact for integers but for the final rounding. */
static double difference(const struct value *a, const struct value *b)
{
    if (value_is_float(a) || value_is_float(b))
        return fabs(value_number(a) - value_number(b));
    uint64_t low = (uint64_t)(a->integer < b->integer ? a->integer : b->integer);
    uint64_t high = (uint64_t)(a->integer < b->integer ? b->integer : a->integer);
    return (double)(high - low);
}

static bool text_differs(struct text text, const struct buffer *last)
{
    return text.length != last->length || (text.length && memcmp(text.bytes, last->bytes, text.length) != 0);
}

static bool differs(const struct reported *last, const struct deadband *deadband, const struct value *value)
{
    if (value_is_text(value) || value_is_text(&last->value))
        return value->tag != last->value.tag || text_differs(*value->text, &last->text);
    if (value->tag == VALUE_BOOLEAN)
        return value_number(value) != value_number(&last->value);
    double relative = fabs(value_number(&last->value)) * deadband->fraction;
    return difference(value, &last->value) > fmax(deadband->absolute, relative);
}

bool report_change(const struct reported *last, const struct deadband *deadband, int64_t time, uint8_t quality,
                   const struct value *value)
{
    return !last->any || last->quality != quality || silence_over(last, deadband, time) ||
           differs(last, deadband, value);
}

bool report_bad(const struct reported *last, const struct deadband *deadband, int64_t time, uint8_t quality)
{
    return !last->any || last->quality != quality || (deadband && silence_over(last, deadband, time));
}

void report_remember(struct reported *last, int64_t time, uint8_t quality, const struct value *value)
{
    last->any = true;
    last->quality = quality;
    last->time = time;
    last->value = *value;
    last->text.length = 0;
    if (value_is_text(value)) {
        last->value.text = NULL;
        last->any = buffer_append(&last->text, value->text->bytes, value->text->length);
    }
}

void report_reset(struct reported *last)
{
    buffer_clear(&last->text, 0);
    *last = (struct reported){0};
}
