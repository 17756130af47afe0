/* Windows that open and close. */
#ifndef DEVICEMESH_WINDOWING_H
#define DEVICEMESH_WINDOWING_H

#include "aggregator.h"

/* The open window of a series that starts at `start`, new if it has to be; NULL without room. */
struct window *window_for(struct aggregator *a, struct series *series, int64_t start);

/* The newest value of a series holds until `until`, in the window that ends there or later. */
static inline void hold_in(const struct window *window, struct steps *steps, int64_t until)
{
    details_hold(window->details, steps, steps->until > window->start ? steps->until : window->start, until);
    steps->until = until > steps->until ? until : steps->until;
}

/* A row of the window that starts at `start` is about to come, in order: until there the value before it held. */
void catch_up(struct aggregator *a, struct series *series, int64_t start);

/* While its value is known, a series that weighs by time has a window in every span: the one that starts at `start`, or the
 * next after those that were published before the watermark was turned back. */
void open_known(struct aggregator *a, struct series *series, int64_t start);

/* Close the windows of a series that end by `until`, and refuse rows for them from now on. */
void close_windows(struct aggregator *a, struct series *series, int64_t until);

/* Move a stream's watermark and close what ended. */
void close_due(struct aggregator *a, struct stream *stream, int64_t watermark);

#endif
