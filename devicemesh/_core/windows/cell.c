#include "cell.h"

#include <math.h>

static double finite(double value)
{
    return isfinite(value) ? value : (double)NAN;
}

void cell_merge(struct cell *cell, const struct cell *from, int64_t known_ns)
{
    double count = (double)cell_count(from), apart = cell_shift(from) - cell_shift(cell);
    uint64_t total = (uint64_t)cell_count(cell) + cell_count(from);
    uint32_t marks = (cell->marks | from->marks) & CELL_DISORDERED;
    cell->marks = marks | (total > CELL_COUNT_MAX ? CELL_COUNT_MAX : (uint32_t)total);
    cell->squares += from->squares + 2 * apart * from->sum + count * apart * apart;
    cell->sum += from->sum + count * apart;
    cell->min = from->min < cell->min ? from->min : cell->min;
    cell->max = from->max > cell->max ? from->max : cell->max;
    cell->held += from->held + apart * (double)known_ns;
}

double cell_sum(const struct cell *cell)
{
    return finite(cell_shift(cell) * (double)cell_count(cell) + cell->sum);
}

double cell_mean(const struct cell *cell)
{
    uint32_t count = cell_count(cell);
    return count ? finite(cell_shift(cell) + cell->sum / (double)count) : (double)NAN;
}

double cell_variance(const struct cell *cell, uint32_t fewer)
{
    double count = (double)cell_count(cell), variance;
    if (cell_count(cell) <= fewer)
        return (double)NAN;
    variance = (cell->squares - cell->sum * cell->sum / count) / (count - (double)fewer);
    return variance < 0 ? 0.0 : finite(variance);
}

double cell_deviation(const struct cell *cell, uint32_t fewer)
{
    return sqrt(cell_variance(cell, fewer));
}

double cell_rms(const struct cell *cell)
{
    double count = (double)cell_count(cell), shift = cell_shift(cell);
    double squares = cell->squares + 2 * shift * cell->sum + count * shift * shift;
    return count > 0 ? finite(sqrt(squares > 0 ? squares / count : 0.0)) : (double)NAN;
}

double cell_peak(const struct cell *cell)
{
    double low = fabs(cell->min), high = fabs(cell->max);
    return cell_count(cell) ? (low > high ? low : high) : (double)NAN;
}

double cell_time_average(const struct cell *cell, int64_t known_ns)
{
    return known_ns > 0 ? finite(cell_shift(cell) + cell->held / (double)known_ns) : (double)NAN;
}

double cell_total(const struct cell *cell, int64_t known_ns)
{
    double seconds = (double)known_ns / 1e9;
    return known_ns > 0 ? finite(cell_shift(cell) * seconds + cell->held / 1e9) : (double)NAN;
}
