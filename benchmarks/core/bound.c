/* The machine's own bound: a loop that reads the whole input and writes two cache lines of a sample's series. */
#include <stddef.h>
#include <stdint.h>

enum { AHEAD = 16 };

struct lines {
    uint64_t count;
    double value;
    int64_t time;
    uint64_t rest[5];
    double second[8]; /* the other line */
};

void touch2(struct lines *lines, const uint32_t *series, const int64_t *times, const double *values,
            const uint8_t *qualities, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (i + AHEAD < count) {
            __builtin_prefetch(&lines[series[i + AHEAD]], 1);
            __builtin_prefetch(lines[series[i + AHEAD]].second, 1);
        }
        struct lines *at = &lines[series[i]];
        at->count += 1 + qualities[i];
        at->value = values[i];
        at->time = times[i];
        at->second[0] = values[i];
    }
}
