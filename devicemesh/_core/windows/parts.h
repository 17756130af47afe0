/* What the engine is made of: for its .c files only. */
#ifndef DEVICEMESH_WINDOWS_PARTS_H
#define DEVICEMESH_WINDOWS_PARTS_H

#include "engine.h"
#include "line.h"
#include "pane.h"
#include "results.h"

#define LIKELY(condition) __builtin_expect(!!(condition), 1)
#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)

/* Into loops that are made for constants; and what only touches memory, whose calls GCC drops as without effect. */
#define INLINED inline __attribute__((always_inline))

enum { QUALITY_UNCERTAIN_FROM = 0x40, QUALITY_BAD_FROM = 0x80 };

/* The series of one source: they share a watermark and a ring of panes. */
struct group {
    struct pane *pane; /* that the last row fell into; `start` and `end` are its, or empty */
    int64_t start, end;
    int64_t newest;    /* time of the newest row; -1 before the first */
    int64_t turn;      /* a row from this time on closes a window or is in the future */
    int64_t watermark; /* windows that end by it are closed; a row moves it only at `turn` */
    int64_t oldest;    /* number of the oldest window that is not closed */
    int64_t heard;     /* clock when its last row came, for idle_ns */
    int64_t known;     /* `newest` at the last advance */
    int64_t look;      /* a watermark from which on watch_group has something to look at */
    bool started;      /* watermark and oldest are set */
    bool watched;      /* some profile of it has missing data, delays or a rate limit */
    uint32_t members;  /* positions in use */
    uint32_t capacity; /* positions that panes have room for */
    uint32_t *ids;     /* position to series; NULL where they are equal */
    struct pane *ring;
    bool needs_extras;
    bool needs_sketches;
    bool bare; /* its profiles need nothing of lines: see plain.h */
};

/* What a column of the windows holds. */
struct asked {
    enum statistic statistic; /* or STAT_TOTAL_COUNT: a quantile */
    double quantile;
    char name[24]; /* of a quantile */
};

struct block; /* windows about to be written: see block.h */

struct place {
    uint32_t group;
    uint32_t position;
};

struct engine {
    struct budget budget;
    struct grid grid;
    int64_t panes_per_window;
    uint32_t ring_count;
    unsigned offset_shift;
    int64_t now; /* of the newest advance; -1 before the first */
    struct row_counts counts;
    uint64_t offered; /* rows of all batches, this one too */

    struct line *lines; /* by series */
    uint32_t series_count;
    uint32_t series_capacity;
    uint32_t defined; /* series_count without the holes */
    uint64_t *declared; /* a bit each */
    struct place *places; /* by series; NULL while there is one group */

    struct group **groups; /* by source; NULL where there is none */
    uint32_t groups_count;
    struct group *only; /* the one group, or NULL */

    struct profile *profiles;
    uint32_t profiles_count;
    uint32_t profiles_capacity;
    uint64_t asked_by_all; /* statistics of every profile */
    struct sketch_rule *rules; /* by profile; max_bins is 0 where it asks for no quantile */
    uint32_t rules_capacity;
    bool one_rule; /* every profile asks for quantiles, and all have the same keys */
    uint64_t unsketched; /* values that found no memory in their sketch */

    struct timers *timers; /* of the series that need them; [0] is nobody's */
    uint32_t timers_count;
    uint32_t timers_capacity;

    struct sheet outputs[OUTPUT_COUNT];
    struct asked asked[SHEET_COLUMNS_MAX]; /* of the window columns after WINDOW_FIXED */
    bool tells_last_times; /* one of them is STAT_LAST_TIME */
    struct block *block;
    struct sessions *sessions; /* NULL before the first */
};

enum window_column { WINDOW_SERIES, WINDOW_START, WINDOW_END, WINDOW_FIXED };

static inline int64_t floor_divide(int64_t value, int64_t by)
{
    int64_t quotient = value / by;
    return quotient - (value % by < 0);
}

static inline uint32_t group_id(const struct group *group, uint32_t position)
{
    return group->ids ? group->ids[position] : position;
}

/* Make room for the row of a time at or past `turn`: closes the windows that it ends. False: it is in the future. */
bool group_turn(struct engine *engine, struct group *group, int64_t time);

/* Move the watermark, never back, and close what ends by it. */
void group_close_until(struct engine *engine, struct group *group, int64_t watermark);

/* The pane of a number that is not closed, opened if it was not; NULL without room. */
struct pane *group_open(struct engine *engine, struct group *group, int64_t number);

/* Make an open pane the current one. */
static inline void group_enter(struct group *group, struct pane *pane)
{
    group->pane = pane;
    group->start = pane->start;
    group->end = pane->end;
}

/* Make the pane of a time the current one; false if it is closed or finds no memory (counted). */
bool group_select(struct engine *engine, struct group *group, int64_t time);

/* A value for the quantiles, if its profile asks for them. */
static inline void take_quantile(struct engine *engine, const struct line *line, struct sketch *sketch, double x)
{
    const struct sketch_rule *rule = &engine->rules[line->profile];
    if (rule->max_bins == 0 || sketch_add_soon(sketch, rule, x))
        return;
    bool room = budget_allows(&engine->budget, 1);
    int64_t grown = room ? sketch_add_slow(sketch, rule, x) : -1;
    if (grown < 0)
        engine->unsketched++;
    else
        engine->budget.used += (size_t)grown;
}

/* Bring the lines of a bare group, or the one line of a position, up to its cells. */
void group_settle(struct engine *engine, struct group *group);
void group_settle_one(struct engine *engine, struct group *group, uint32_t series, uint32_t position);

/* Where the pane of a number lies, whatever is there now. */
static inline struct pane *group_ring_at(const struct engine *engine, const struct group *group, int64_t number)
{
    int64_t count = engine->ring_count, at = number % count;
    return &group->ring[at < 0 ? at + count : at];
}

/* The open pane of a number, or of a time, or NULL. */
static inline struct pane *group_pane(const struct engine *engine, const struct group *group, int64_t number)
{
    struct pane *pane = group_ring_at(engine, group, number);
    return pane->open && pane->number == number ? pane : NULL;
}

struct pane *group_pane_of(const struct engine *engine, const struct group *group, int64_t time);

/* NULL is allowed. */
void group_free(struct engine *engine, struct group *group);

/* After the clock moved. */
void group_set_turn(const struct engine *engine, struct group *group);

/* Close every window that has rows. */
void group_flush(struct engine *engine, struct group *group);

/* Emit window `number` of a group. */
void emit_window(struct engine *engine, struct group *group, int64_t number);

/* A window that no pane has. */
struct window {
    uint32_t series;
    uint16_t profile;
    int64_t start, end;
    int64_t last_time;
    int64_t length_ns, known_ns; /* see struct closed */
};

/* Emit one: its content is copied, the sketch's heap moves. Then, at the end of several, emit_finish. */
void emit_closed(struct engine *engine, const struct window *window, const struct cell *cell,
                 const struct extra *extra, const struct sketch *sketch);
void emit_finish(struct engine *engine);

/* Before and after all emission. */
bool emit_start(struct engine *engine);
void emit_stop(struct engine *engine);

/* Add the window columns that a profile asks for; false without room, or with too many. */
bool emit_columns(struct engine *engine, const struct profile *profile);

#endif
