#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* |a - b|, exact for integers but for the final rounding. */
static double difference(const struct value *a, const struct value *b)
{
    if (value_is_float(a) || value_is_float(b))
        return fabs(value_number(a) - value_number(b));
    uint64_t low = (uint64_t)(a->integer < b->integer ? a->integer : b->integer);
    uint64_t high = (uint64_t)(a->integer < b->integer ? b->integer : a->integer);
    return (double)(high - low);
}

static bool text_differs(const struct text *text, const struct reported_text *last)
{
    return text->length != last->length || (text->length && memcmp(text->bytes, last->bytes, text->length) != 0);
}

bool report_differs(const struct reported *last, const struct deadband *deadband, const struct value *value)
{
    struct value before = value_of(last->tag, last->bits);
    if (value_is_text(value) || value_is_text(&before))
        return value->tag != before.tag || text_differs(value->text, last->text);
    if (value->tag == VALUE_BOOLEAN)
        return value_number(value) != value_number(&before);
    double relative = fabs(value_number(&before)) * deadband->fraction;
    return difference(value, &before) > fmax(deadband->absolute, relative);
}

/* Keep a text in place of the one before, if it was one. False without memory: then nothing is kept. */
static bool keep_text(struct reported *last, enum value_tag tag, const struct text *text)
{
    struct reported_text *before = last->tag >= VALUE_STRING ? last->text : NULL;
    struct reported_text *kept = realloc(before, sizeof *kept + text->length);
    if (!kept) {
        report_reset(last);
        return false;
    }
    kept->length = text->length;
    if (text->length)
        memcpy(kept->bytes, text->bytes, text->length);
    last->tag = (uint8_t)tag;
    last->text = kept;
    return true;
}

void report_remember(struct reported *last, int64_t time, uint8_t quality, const struct value *value)
{
    last->quality = quality;
    last->time = time;
    if (value_is_text(value)) {
        last->any = keep_text(last, value->tag, value->text);
        return;
    }
    report_reset(last);
    last->any = true;
    last->tag = (uint8_t)value->tag;
    last->bits = value_bits(value);
}

void report_reset(struct reported *last)
{
    if (last->tag >= VALUE_STRING)
        free(last->text);
    last->tag = VALUE_NULL;
    last->bits = 0;
    last->any = false;
}
