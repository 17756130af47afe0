#include "window.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int64_t window_start(int64_t time, int64_t length_ns)
{
    int64_t into = time % length_ns;
    return time - into - (into < 0 ? length_ns : 0);
}

void window_add(struct window *window, int64_t time, double number)
{
    if (window->count++ == 0) {
        window->shift = window->min = window->max = window->first = window->last = number;
        window->first_time = window->last_time = time;
        return;
    }
    double difference = number - window->shift;
    window->sum += difference;
    window->squares += difference * difference;
    if (number < window->min)
        window->min = number;
    if (number > window->max)
        window->max = number;
    if (time >= window->last_time) {
        window->last = number;
        window->last_time = time;
    }
    if (time < window->first_time) {
        window->first = number;
        window->first_time = time;
    }
}

double window_mean(const struct window *window)
{
    if (window->count == 0 || !isfinite(window->sum))
        return (double)NAN;
    return window->shift + window->sum / (double)window->count;
}

double window_stddev(const struct window *window)
{
    double count = (double)window->count;
    if (window->count < 2)
        return (double)NAN;
    double variance = (window->squares - window->sum * window->sum / count) / (count - 1);
    if (!isfinite(variance))
        return (double)NAN;
    return variance > 0 ? sqrt(variance) : 0.0;
}

double window_sum(const struct window *window)
{
    double sum = window->shift * (double)window->count + window->sum;
    return window->count && isfinite(sum) ? sum : (double)NAN;
}

double window_rms(const struct window *window)
{
    double count = (double)window->count, shift = window->shift;
    double squares = window->squares + 2 * shift * window->sum + count * shift * shift;
    if (window->count == 0 || !isfinite(squares))
        return (double)NAN;
    return squares > 0 ? sqrt(squares / count) : 0.0;
}

size_t window_bytes(const struct window *window)
{
    return sizeof *window + (window->details ? details_bytes(window->details) : 0);
}

/* How many windows start before `start`: looked up from the newest, where nearly all rows go. */
static uint32_t position(const struct windows *windows, int64_t start)
{
    uint32_t low = 0, high = windows->count;
    if (high && windows->items[high - 1].start < start)
        return high;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (windows->items[middle].start < start)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct window *windows_find(const struct windows *windows, int64_t start)
{
    if (windows->count && windows->items[windows->count - 1].start == start)
        return &windows->items[windows->count - 1];
    uint32_t at = position(windows, start);
    return at < windows->count && windows->items[at].start == start ? &windows->items[at] : NULL;
}

struct window *windows_open(struct windows *windows, int64_t start)
{
    if (windows->count == windows->capacity) {
        uint32_t capacity = windows->capacity ? windows->capacity * 2 : 2;
        struct window *items = NULL;
        if (windows->capacity < UINT32_MAX / 2)
            items = realloc(windows->items, capacity * sizeof *items);
        if (!items)
            return NULL;
        windows->items = items;
        windows->capacity = capacity;
    }
    uint32_t at = position(windows, start);
    struct window *window = &windows->items[at];
    memmove(window + 1, window, (windows->count - at) * sizeof *window);
    *window = (struct window){.start = start};
    windows->count++;
    return window;
}

void windows_drop(struct windows *windows, uint32_t count)
{
    if (!count)
        return;
    for (uint32_t i = 0; i < count; i++)
        details_free(windows->items[i].details);
    windows->count -= count;
    memmove(windows->items, windows->items + count, windows->count * sizeof *windows->items);
    if (windows->count == 0 && windows->capacity > 16) {
        free(windows->items);
        *windows = (struct windows){0};
    }
}

void windows_free(struct windows *windows)
{
    windows_drop(windows, windows->count);
    free(windows->items);
    *windows = (struct windows){0};
}
