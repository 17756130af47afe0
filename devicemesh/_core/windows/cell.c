#include "cell.h"

__attribute__((noinline, cold)) void cell_carry(struct cell *cell)
{
    cell->head++;
}

void cell_merge(struct cell *cell, int64_t known_ns, const struct cell *later, int64_t later_known_ns)
{
    double count = (double)cell_count(later), apart = cell_shift(later) - cell_shift(cell);
    uint64_t total = (uint64_t)cell_count(cell) + cell_count(later);
    bool disordered = cell_disordered(cell) || cell_disordered(later);
    if (cell_count(cell) == 0) { /* a shift near values, not near nothing */
        double held = cell->held - apart * (double)known_ns;
        *cell = *later;
        cell->held += held;
    } else {
        cell->squares += later->squares + 2 * apart * later->sum + count * apart * apart;
        cell->sum += later->sum + count * apart;
        cell->range[0] = greater(cell->range[0], later->range[0]);
        cell->range[1] = greater(cell->range[1], later->range[1]);
        cell->held += later->held + apart * (double)later_known_ns;
        if (count > 0)
            cell->last = later->last;
    }
    cell_set_count(cell, total > CELL_COUNT_MAX ? CELL_COUNT_MAX : (uint32_t)total);
    if (disordered)
        cell_disorder(cell);
}

void cell_add_many(struct cell *cell, uint32_t count, double shift, double sum, double squares, double min, double max)
{
    double apart = shift - cell_shift(cell), n = (double)count;
    cell_set_count(cell, cell_count(cell) + count);
    cell->squares += squares + 2 * apart * sum + n * apart * apart;
    cell->sum += sum + n * apart;
    cell->range[0] = greater(cell->range[0], -min);
    cell->range[1] = greater(cell->range[1], max);
}

double cell_sum(const struct cell *cell)
{
    return cell_or_nan(cell_shift(cell) * (double)cell_count(cell) + cell->sum);
}

double cell_rms(const struct cell *cell)
{
    double count = (double)cell_count(cell), shift = cell_shift(cell);
    double squares = cell->squares + 2 * shift * cell->sum + count * shift * shift;
    return count > 0 ? cell_or_nan(sqrt(squares > 0 ? squares / count : 0.0)) : (double)NAN;
}

double cell_peak(const struct cell *cell)
{
    double low = fabs(cell_min(cell)), high = fabs(cell_max(cell));
    return cell_count(cell) ? (low > high ? low : high) : (double)NAN;
}

double cell_total(const struct cell *cell, int64_t known_ns)
{
    double seconds = (double)known_ns / 1e9;
    return known_ns > 0 ? cell_or_nan(cell_shift(cell) * seconds + cell->held / 1e9) : (double)NAN;
}
