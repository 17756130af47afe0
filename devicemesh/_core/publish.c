#include <math.h>

#include "publish.h"
#include "windows/machine.h"

bool has_room(const struct aggregator *a, size_t more)
{
    return more <= a->max_pending_bytes && a->pending_bytes <= a->max_pending_bytes - more;
}

/* Account for what was appended to a stream's records since `before`. */
static void appended(struct aggregator *a, uint32_t id, size_t before)
{
    struct stream *stream = a->streams[id];
    a->pending_bytes += stream_bytes(stream) - before;
    if (!stream->ready) {
        stream->ready = true;
        a->ready[a->ready_count++] = id;
    }
}

bool publish_reading(struct aggregator *a, struct series *series, int64_t time, uint8_t quality,
                     const struct value *value)
{
    struct stream *stream = stream_of(a, series);
    size_t before = stream_bytes(stream);
    size_t text = value_is_text(value) ? value->text->length : 0;
    if (!has_room(a, RECORD_HEADER + RECORD_ROW_MAX + RECORD_READING_MAX + text) ||
        !stream_reading(stream, &series->reported.row, time, series->place.property, quality, value)) {
        drop(a, DROP_OVERFLOW);
        return false;
    }
    appended(a, series->place.stream, before);
    a->counts.pending++;
    return true;
}

static double or_nan(double number)
{
    return isfinite(number) ? number : (double)NAN;
}

/* What needs no more than the window itself. */
static void fill_statistics(const struct window *window, double statistics[STATISTIC_COUNT])
{
    statistics[STATISTIC_MEAN] = window_mean(window);
    statistics[STATISTIC_STDDEV] = window_stddev(window);
    statistics[STATISTIC_SUM] = window_sum(window);
    statistics[STATISTIC_RMS] = window_rms(window);
    if (!window->count)
        return;
    statistics[STATISTIC_MIN] = window->min;
    statistics[STATISTIC_MAX] = window->max;
    statistics[STATISTIC_FIRST] = window->first;
    statistics[STATISTIC_LAST] = window->last;
    statistics[STATISTIC_RANGE] = or_nan(window->max - window->min);
    statistics[STATISTIC_DELTA] = or_nan(window->last - window->first);
}

static void fill_details(const struct aggregator *a, const struct window *window, const struct rules *rules,
                         struct record_window *record)
{
    const struct details *details = window->details;
    double *statistics = record->statistics, seconds = (double)rules->window_ns / 1e9;
    statistics[STATISTIC_TIME_AVERAGE] = details_time_average(details);
    statistics[STATISTIC_PERCENT_GOOD] = 100 * (double)details->known_ns / (double)rules->window_ns;
    statistics[STATISTIC_DURATION_NONZERO] = (double)details->extra.nonzero_ns / 1e9;
    statistics[STATISTIC_TRANSITIONS] = details->extra.transitions;
    statistics[STATISTIC_RESETS] = details->extra.resets;
    if (window->count) {
        statistics[STATISTIC_INCREASE] = or_nan(details->extra.increase);
        statistics[STATISTIC_RATE] = or_nan(details->extra.increase / seconds);
    }
    record->quantiles_count = rules->quantiles_count;
    for (uint32_t i = 0; i < rules->quantiles_count; i++)
        record->quantiles[i] = rules->quantiles[i];
    double *quantiles = record->quantile_values;
    details_quantiles(details, &a->sketch_rule, rules->quantiles, rules->quantiles_count, quantiles);
    for (uint32_t i = 0; i < rules->quantiles_count; i++) /* no p99 above the maximum */
        quantiles[i] = between(quantiles[i], window->min, window->max);
}

void publish_window(struct aggregator *a, const struct series *series, const struct window *window)
{
    struct stream *stream = stream_of(a, series);
    const struct rules *rules = series->rules;
    struct record_window record = {
        .property = series->place.property,
        .kind = rules->kind,
        .mask = rules->mask,
        .start = window->start,
        .length_ns = (uint64_t)rules->window_ns,
        .count = window->count,
        .bad = window->bad,
    };
    for (unsigned bit = 0; bit < STATISTIC_COUNT; bit++)
        record.statistics[bit] = (double)NAN;
    fill_statistics(window, record.statistics);
    if (window->details)
        fill_details(a, window, rules, &record);
    size_t before = stream_bytes(stream);
    if (stream_window(stream, &record)) {
        appended(a, series->place.stream, before);
    } else { /* there was room for it, so this is the machine's memory */
        a->counts.pending -= window->count;
        a->counts.dropped[DROP_OVERFLOW] += window->count;
    }
}
