/* How the rows of some series are treated. */
#ifndef DEVICEMESH_WINDOWS_PROFILE_H
#define DEVICEMESH_WINDOWS_PROFILE_H

#include <float.h>
#include <stdbool.h>
#include <stdint.h>

enum { ALARMS_MAX = 8, QUANTILES_MAX = 16 };

struct alarm {
    double limit; /* raised beyond it */
    double clear; /* cleared beyond it, on the other side */
    int64_t delay_ns;
    bool above;
};

struct profile {
    uint64_t statistics; /* bits: see results.h */
    bool sloped;
    bool uncertain_as_bad;
    bool reports;    /* by exception */
    double deadband; /* absolute */
    double fraction; /* of the value reported last; the wider of the two counts */
    int64_t min_interval_ns;
    int64_t heartbeat_ns; /* 0: none */
    int64_t missing_ns;   /* 0: none */
    double percent_good, percent_bad;
    uint32_t alarms_count;
    struct alarm alarms[ALARMS_MAX];
    uint32_t quantiles_count;
    double quantiles[QUANTILES_MAX];
    double relative_error; /* of the quantiles */
    uint32_t max_bins;
    double calm[2]; /* a value of which -calm[0] <= value <= calm[1] raises no alarm: see profile_settle */
};

/* Whether its series need more than a line. */
static inline bool profile_has_timers(const struct profile *profile)
{
    bool delayed = false;
    for (uint32_t i = 0; i < profile->alarms_count; i++)
        delayed |= profile->alarms[i].delay_ns > 0;
    return delayed || (profile->reports && profile->min_interval_ns > 0);
}

/* Work out what follows from the rest. */
static inline void profile_settle(struct profile *profile)
{
    profile->calm[0] = profile->calm[1] = DBL_MAX;
    for (uint32_t i = 0; i < profile->alarms_count; i++) {
        bool above = profile->alarms[i].above;
        double limit = above ? profile->alarms[i].limit : -profile->alarms[i].limit;
        profile->calm[above] = limit < profile->calm[above] ? limit : profile->calm[above];
    }
}

#endif
