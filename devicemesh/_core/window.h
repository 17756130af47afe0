/* Tumbling windows of one series: [start, start + length), aligned to multiples of the length since the epoch. */
#ifndef DEVICEMESH_WINDOW_H
#define DEVICEMESH_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "details.h"

/* The state of an open window. Sums are of differences to the first value that arrived, which keeps the
 * variance exact where values are large and differ little (1e12 +- 0.1). The hot part is one cache line. */
struct window {
    int64_t start;
    uint64_t count;
    double shift;
    double sum;     /* of (x - shift) */
    double squares; /* of (x - shift)^2 */
    double min;
    double max;
    int64_t last_time;

    double last;
    double first;
    int64_t first_time;
    uint64_t bad; /* rows without a usable value */

    struct details *details; /* its own, or NULL: its rules ask for none */
};

/* Open windows by start, ascending. All zero is none. */
struct windows {
    struct window *items;
    uint32_t count;
    uint32_t capacity;
};

/* Start of the window that holds `time`, also before the epoch. */
int64_t window_start(int64_t time, int64_t length_ns);

/* Take a finite value. `first` and `last` go by time, not by arrival; of equal times the later arrival is last. */
void window_add(struct window *window, int64_t time, double number);

/* Statistics, NaN where there is none: without values, for a deviation of less than two, or beyond double. */
double window_mean(const struct window *window);
double window_stddev(const struct window *window);
double window_sum(const struct window *window);
double window_rms(const struct window *window); /* sqrt(mean of squares about zero) */

/* Bytes that it takes. */
size_t window_bytes(const struct window *window);

/* The open window that starts at `start`, or NULL. */
struct window *windows_find(const struct windows *windows, int64_t start);

/* Open a window that is not open yet; NULL without memory. Other pointers into `windows` become invalid. */
struct window *windows_open(struct windows *windows, int64_t start);

/* Forget the `count` earliest. */
void windows_drop(struct windows *windows, uint32_t count);
void windows_free(struct windows *windows);

#endif
