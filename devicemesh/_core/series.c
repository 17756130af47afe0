#include "series.h"

#include <math.h>
#include <stdlib.h>

#include "record.h"
#include "text.h"

#define MAX_EXACT INT64_C(9007199254740992) /* 2^53 */

struct series *series_new(const struct rules *rules, struct place place)
{
    size_t tail = rules->limits_count * sizeof(struct alarm_state) + rules_paced(rules) * sizeof(int64_t);
    struct series *series = calloc(1, sizeof *series + tail);
    if (!series)
        return NULL;
    series->rules = rules;
    series->place = place;
    if (rules_detailed(rules) && !(series->steps = calloc(1, sizeof *series->steps))) {
        free(series);
        return NULL;
    }
    return series;
}

static inline int64_t earlier(int64_t time, int64_t now)
{
    return time < now ? time : now;
}

void series_set_back(struct series *series, int64_t now)
{
    series->latest_time = earlier(series->latest_time, now); /* or it would stay the latest until then */
    for (uint32_t i = 0; i < series->rules->limits_count; i++)
        series->alarms[i].since = earlier(series->alarms[i].since, now);
    if (rules_paced(series->rules))
        *series_said(series) = earlier(*series_said(series), now);
    if (rules_detailed(series->rules)) {
        series->steps->time = earlier(series->steps->time, now);
        series->steps->until = earlier(series->steps->until, now);
    }
}

struct value value_of_kind(uint8_t kind, const struct value *value)
{
    struct value as = *value;
    if (value_is_text(value) || kind == KIND_OBJECT)
        return as;
    double number = value_number(value);
    if (kind == KIND_BOOLEAN) {
        as.tag = VALUE_BOOLEAN;
        as.integer = number != 0;
    } else if (kind != KIND_INTEGER) {
        as.number = number;
        as.tag = kind == KIND_FLOAT32 && is_float32(number) ? VALUE_FLOAT32 : VALUE_FLOAT;
    } else if (!value_is_float(value)) {
        as.tag = VALUE_INTEGER;
    } else if (fabs(number) <= (double)MAX_EXACT && number == (double)(int64_t)number) {
        as.tag = VALUE_INTEGER; /* other floats stay what they are: nothing is cut off */
        as.integer = (int64_t)number;
    }
    return as;
}

bool value_is_exact(const struct value *value)
{
    if (value_is_text(value))
        return false;
    return value->tag != VALUE_INTEGER || (value->integer <= MAX_EXACT && value->integer >= -MAX_EXACT);
}

bool value_text_valid(const struct value *value)
{
    if (value->text->length > RECORD_TEXT_MAX)
        return false;
    if (value->tag == VALUE_STRING)
        return utf8_valid(value->text->bytes, value->text->length);
    return value->tag == VALUE_BYTES || json_valid(value->text->bytes, value->text->length);
}

void series_free(struct series *series)
{
    if (series->rules->report == REPORT_WINDOW) {
        windows_free(&series->windows);
        free(series->steps);
    } else {
        report_reset(&series->reported);
    }
    free(series);
}
