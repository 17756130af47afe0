/* One pass over an array of samples of one series: what a window wants to know of a waveform. */
#ifndef DEVICEMESH_WINDOWS_DENSE_H
#define DEVICEMESH_WINDOWS_DENSE_H

#include <stddef.h>
#include <stdint.h>

/* All of the finite values; places are indices of the array. With `count` 0 the rest means nothing. */
struct dense {
    uint64_t count;
    uint64_t nonfinite; /* NaN and infinities: skipped */
    double shift;       /* the first finite value */
    double sum;         /* of (x - shift) */
    double squares;     /* of (x - shift)^2 */
    double power;       /* of x^2: the root of its mean is the RMS */
    double min;
    double max;
    double first;
    double last;
    size_t min_at; /* where it comes first */
    size_t max_at;
    size_t first_at;
    size_t last_at;
};

/* Fold `count` values that start at `values`, of any alignment. The order of the additions is fixed (DENSE_LANES
 * partial sums a block of DENSE_BLOCK values), so that every build gives the same bits. */
enum { DENSE_LANES = 4, DENSE_BLOCK = 512 };
void dense_fold_double(struct dense *dense, const void *values, size_t count);
void dense_fold_float(struct dense *dense, const void *values, size_t count);
void dense_fold_int16(struct dense *dense, const void *values, size_t count);

#endif
