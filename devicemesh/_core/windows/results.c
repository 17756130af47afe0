#include "results.h"

#include "machine.h"

#include <math.h>
#include <string.h>

static const struct {
    const char *name;
    enum sheet_type type;
} statistics[STAT_TOTAL_COUNT] = {
    [STAT_COUNT] = {"count", SHEET_I64},
    [STAT_SUM] = {"sum", SHEET_F64},
    [STAT_MEAN] = {"mean", SHEET_F64},
    [STAT_MIN] = {"min", SHEET_F64},
    [STAT_MAX] = {"max", SHEET_F64},
    [STAT_RANGE] = {"range", SHEET_F64},
    [STAT_LAST] = {"last", SHEET_F64},
    [STAT_LAST_TIME] = {"last_time", SHEET_I64},
    [STAT_VARIANCE] = {"variance", SHEET_F64},
    [STAT_STD] = {"std", SHEET_F64},
    [STAT_VARIANCE_POPULATION] = {"variance_population", SHEET_F64},
    [STAT_STD_POPULATION] = {"std_population", SHEET_F64},
    [STAT_RMS] = {"rms", SHEET_F64},
    [STAT_PEAK] = {"peak", SHEET_F64},
    [STAT_CREST] = {"crest", SHEET_F64},
    [STAT_TIME_AVERAGE] = {"time_average", SHEET_F64},
    [STAT_TOTAL] = {"total", SHEET_F64},
    [STAT_DURATION_GOOD] = {"duration_good", SHEET_I64},
    [STAT_DURATION_BAD] = {"duration_bad", SHEET_I64},
    [STAT_PERCENT_GOOD] = {"percent_good", SHEET_F64},
    [STAT_PERCENT_BAD] = {"percent_bad", SHEET_F64},
    [STAT_BAD] = {"bad", SHEET_I64},
    [STAT_UNCERTAIN] = {"uncertain", SHEET_I64},
    [STAT_DISORDERED] = {"disordered", SHEET_U8},
    [STAT_STATUS] = {"status", SHEET_U8},
    [STAT_TIME_STATUS] = {"time_status", SHEET_U8},
    [STAT_FIRST] = {"first", SHEET_F64},
    [STAT_FIRST_TIME] = {"first_time", SHEET_I64},
    [STAT_MIN_TIME] = {"min_time", SHEET_I64},
    [STAT_MAX_TIME] = {"max_time", SHEET_I64},
    [STAT_DELTA] = {"delta", SHEET_F64},
    [STAT_DURATION_NONZERO] = {"duration_nonzero", SHEET_I64},
    [STAT_DURATION_ZERO] = {"duration_zero", SHEET_I64},
    [STAT_TRANSITIONS] = {"transitions", SHEET_I64},
    [STAT_INCREASE] = {"increase", SHEET_F64},
    [STAT_RATE] = {"rate", SHEET_F64},
    [STAT_RESETS] = {"resets", SHEET_I64},
};

const char *statistic_name(enum statistic statistic)
{
    return statistics[statistic].name;
}

enum sheet_type statistic_type(enum statistic statistic)
{
    return statistics[statistic].type;
}

static const struct extra no_extra;

static const struct extra *extra_of(const struct closed *closed, uint32_t i)
{
    return closed->marked >> i & 1 ? closed->extras[i] : &no_extra;
}

/* OPC UA Part 13, 5.4.3.1: Bad at or above percent_bad, Good at or above percent_good, else Uncertain. */
static uint8_t status(const struct profile *profile, double good, double bad, double whole)
{
    enum { GOOD = 0x00, UNCERTAIN = 0x40, BAD = 0x80 };
    if (!(whole > 0))
        return BAD;
    double percent_bad = bad == 0 ? 0 : 100 * bad / whole; /* nearly all windows need no division */
    double percent_good = good == whole ? 100 : 100 * good / whole;
    if (percent_bad >= profile->percent_bad)
        return BAD;
    return percent_good >= profile->percent_good ? GOOD : UNCERTAIN;
}

static uint8_t status_by_count(const struct closed *closed, uint32_t i, const struct profile *profile)
{
    const struct extra *extra = extra_of(closed, i);
    double values = (double)cell_count(closed->cells[i]);
    return status(profile, values - (double)extra->uncertain, (double)extra->bad, values + (double)extra->bad);
}

static uint8_t status_by_time(const struct closed *closed, uint32_t i, const struct profile *profile)
{
    double length = (double)closed->lengths[i], known = (double)closed->known[i];
    uint8_t judged = status(profile, known, length - known, length);
    return judged == 0 && cell_disordered(closed->cells[i]) ? 0x40 : judged;
}

static double percent(double part, double whole)
{
    return whole > 0 ? 100 * part / whole : (double)NAN;
}

static double crest(const struct cell *cell)
{
    double rms = cell_rms(cell);
    return rms > 0 ? cell_peak(cell) / rms : (double)NAN;
}

static double number(enum statistic statistic, const struct closed *closed, uint32_t i)
{
    const struct cell *cell = closed->cells[i];
    const struct extra *extra = extra_of(closed, i);
    double length = (double)closed->lengths[i], known = (double)closed->known[i];
    if (statistic == STAT_PERCENT_GOOD)
        return percent(known, length);
    if (statistic == STAT_PERCENT_BAD)
        return percent(length - known, length);
    if (statistic == STAT_TOTAL)
        return cell_total(cell, closed->known[i]);
    if (!cell_count(cell))
        return (double)NAN;
    switch ((int)statistic) {
    case STAT_SUM:
        return cell_sum(cell);
    case STAT_RANGE:
        return cell_max(cell) - cell_min(cell);
    case STAT_VARIANCE:
        return cell_variance(cell, 1);
    case STAT_VARIANCE_POPULATION:
        return cell_variance(cell, 0);
    case STAT_STD_POPULATION:
        return cell_deviation(cell, 0);
    case STAT_RMS:
        return cell_rms(cell);
    case STAT_PEAK:
        return cell_peak(cell);
    case STAT_CREST:
        return crest(cell);
    case STAT_FIRST:
        return extra->first;
    case STAT_DELTA:
        return cell->last - extra->first;
    case STAT_INCREASE:
        return extra->increase;
    case STAT_RATE:
        return length > 0 ? extra->increase / (length / 1e9) : (double)NAN;
    default:
        return (double)NAN;
    }
}

static int64_t whole(enum statistic statistic, const struct closed *closed, uint32_t i)
{
    const struct extra *extra = extra_of(closed, i);
    bool valued = cell_count(closed->cells[i]) > 0;
    switch ((int)statistic) {
    case STAT_LAST_TIME:
        return valued ? closed->last_times[i] : -1;
    case STAT_DURATION_GOOD:
        return closed->known[i];
    case STAT_DURATION_BAD:
        return closed->lengths[i] - closed->known[i];
    case STAT_BAD:
        return extra->bad;
    case STAT_UNCERTAIN:
        return extra->uncertain;
    case STAT_FIRST_TIME:
        return valued ? extra->first_time : -1;
    case STAT_MIN_TIME:
        return valued ? extra->min_time : -1;
    case STAT_MAX_TIME:
        return valued ? extra->max_time : -1;
    case STAT_DURATION_NONZERO:
        return extra->nonzero_ns;
    case STAT_DURATION_ZERO:
        return closed->known[i] - extra->nonzero_ns;
    case STAT_TRANSITIONS:
        return extra->transitions;
    case STAT_RESETS:
        return extra->resets;
    default:
        return -1;
    }
}

/* The cells, turned into columns two at a time. */
static void turn(const struct closed *closed, double heads[], double tails[], struct fields *fields)
{
    for (uint32_t i = 0; i < closed->count; i += 2) {
        const struct cell *a = closed->cells[i], *b = i + 1 < closed->count ? closed->cells[i + 1] : a;
        transpose(*(const pair *)(const void *)&a->head, *(const pair *)(const void *)&b->head, &heads[i], &tails[i]);
        transpose(*(const pair *)a->range, *(const pair *)b->range, &fields->min[i], &fields->max[i]);
        transpose(*(const pair *)a->sums, *(const pair *)b->sums, &fields->sum[i], &fields->squares[i]);
        transpose(*(const pair *)a->held_and_last, *(const pair *)b->held_and_last, &fields->held[i], &fields->last[i]);
    }
}

static inline double of_bits(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint64_t bits_of(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* (double)x, which has no vector of its own before AVX-512: each half of the bits stands in a mantissa as it is. */
static inline double rounded(int64_t x)
{
    uint64_t high = ((uint64_t)x >> 32) ^ UINT64_C(0x4530000080000000), low = (uint64_t)x & UINT32_MAX;
    return of_bits(high) - (0x1p84 + 0x1p63 + 0x1p52) + of_bits(low | UINT64_C(0x4330000000000000));
}

FOR_MACHINES void results_gather(struct closed *closed, struct fields *fields)
{
    double heads[CLOSED_BLOCK], tails[CLOSED_BLOCK]; /* what is in them is no number */
    uint64_t most = 0, empty = 0, undone = 0; /* as wide as all else, so that compilers find vectors */
    uint32_t windows = closed->count;
    turn(closed, heads, tails, fields);
    for (uint32_t i = 0; i < windows; i++) {
        uint64_t count = (bits_of(heads[i]) & 0x7FFF) << 16 | (bits_of(tails[i]) & 0xFFFF);
        most |= count;
        empty |= count - 1;
        fields->rows[i] = (int64_t)count;
        fields->count[i] = rounded((int64_t)count);
        fields->shift[i] = of_bits(bits_of(heads[i]) & ~UINT64_C(0xFFFF));
    }
    for (uint32_t i = 0; i < windows; i++) {
        fields->min[i] = -fields->min[i];
        undone |= -(uint64_t)(fields->held[i] != fields->held[i]);
    }
    for (uint32_t i = 0; undone && i < windows; i++)
        closed->known[i] = isnan(fields->held[i]) ? 0 : closed->known[i];
    for (uint32_t i = 0; i < windows; i++)
        fields->known[i] = rounded(closed->known[i]);
    for (uint32_t i = 0; empty >> 63 && i < windows; i++)
        if (!fields->rows[i])
            fields->min[i] = fields->max[i] = fields->last[i] = (double)NAN;
    fields->most = (int64_t)most;
}

/* As cell_or_nan, without a branch. */
static inline double finite_or_nan(double value)
{
    return value - value == 0 ? value : (double)NAN;
}

/* As cell_mean, cell_deviation and cell_time_average. */
FOR_MACHINES static void write_means(const struct fields *of, uint32_t count, double *out)
{
    for (uint32_t i = 0; i < count; i++)
        out[i] = finite_or_nan(of->shift[i] + of->sum[i] / of->count[i]); /* 0 / 0 is NaN */
}

FOR_MACHINES static void write_deviations(const struct fields *of, uint32_t count, double *out)
{
    if (of->most < 2) { /* slow series: no division, no root */
        for (uint32_t i = 0; i < count; i++)
            out[i] = (double)NAN;
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        double n = of->count[i];
        double variance = (of->squares[i] - of->sum[i] * of->sum[i] / n) / (n - 1);
        variance = variance < 0 ? 0.0 : finite_or_nan(variance);
        out[i] = sqrt(n > 1 ? variance : (double)NAN);
    }
}

FOR_MACHINES static void write_time_averages(const struct fields *of, uint32_t count, double *out)
{
    for (uint32_t i = 0; i < count; i++) {
        double average = finite_or_nan(of->shift[i] + of->held[i] / of->known[i]);
        out[i] = of->known[i] > 0 ? average : (double)NAN;
    }
}

static const double *numbers(enum statistic statistic, const struct closed *closed, const struct fields *fields,
                             double *room)
{
    switch ((int)statistic) {
    case STAT_MIN:
        return fields->min;
    case STAT_MAX:
        return fields->max;
    case STAT_LAST:
        return fields->last;
    case STAT_MEAN:
        write_means(fields, closed->count, room);
        return room;
    case STAT_STD:
        write_deviations(fields, closed->count, room);
        return room;
    case STAT_TIME_AVERAGE:
        write_time_averages(fields, closed->count, room);
        return room;
    default:
        for (uint32_t i = 0; i < closed->count; i++)
            room[i] = number(statistic, closed, i);
        return room;
    }
}

static const int64_t *wholes(enum statistic statistic, const struct closed *closed, const struct fields *fields,
                             int64_t *room)
{
    if (statistic == STAT_COUNT)
        return fields->rows;
    for (uint32_t i = 0; i < closed->count; i++)
        room[i] = whole(statistic, closed, i);
    return room;
}

/* Of nearly all windows it is that of a window of Good values alone. */
static void write_statuses(const struct closed *closed, const struct profile *profiles, uint8_t *out)
{
    for (uint32_t i = 0; i < closed->count; i++)
        out[i] = status(&profiles[closed->profiles[i]], 1, 0, 1);
    for (uint64_t bits = closed->marked; bits; bits &= bits - 1) { /* as is every window without a value */
        uint32_t i = (uint32_t)__builtin_ctzll(bits);
        out[i] = status_by_count(closed, i, &profiles[closed->profiles[i]]);
    }
}

static void write_time_statuses(const struct closed *closed, const struct profile *profiles, uint8_t *out)
{
    for (uint32_t i = 0; i < closed->count; i++)
        out[i] = status_by_time(closed, i, &profiles[closed->profiles[i]]);
}

static void write_disordered(const struct closed *closed, uint8_t *out)
{
    for (uint32_t i = 0; i < closed->count; i++)
        out[i] = cell_disordered(closed->cells[i]);
}

static const uint8_t *bytes(enum statistic statistic, const struct closed *closed, const struct profile *profiles,
                            uint8_t *room)
{
    if (statistic == STAT_STATUS)
        write_statuses(closed, profiles, room);
    else if (statistic == STAT_TIME_STATUS)
        write_time_statuses(closed, profiles, room);
    else
        write_disordered(closed, room);
    return room;
}

const void *results_column(enum statistic statistic, const struct closed *closed, const struct fields *fields,
                           const struct profile *profiles, void *room)
{
    enum sheet_type type = statistics[statistic].type;
    if (type == SHEET_U8)
        return bytes(statistic, closed, profiles, room);
    if (type == SHEET_F64)
        return numbers(statistic, closed, fields, room);
    return wholes(statistic, closed, fields, room);
}

void results_forget(enum statistic statistic, const struct closed *closed, const struct profile *profiles, void *column)
{
    enum sheet_type type = statistics[statistic].type;
    for (uint32_t i = 0; i < closed->count; i++) {
        if (profiles[closed->profiles[i]].statistics >> statistic & 1)
            continue;
        if (type == SHEET_F64)
            ((double *)column)[i] = (double)NAN;
        else if (type == SHEET_I64)
            ((int64_t *)column)[i] = -1;
        else
            ((uint8_t *)column)[i] = UINT8_MAX;
    }
}
