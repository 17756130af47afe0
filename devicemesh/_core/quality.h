/* Quality codes: one byte, its top two bits the OPC UA severity (Part 4, 7.39). The twin of mapper.Quality. */
#ifndef DEVICEMESH_QUALITY_H
#define DEVICEMESH_QUALITY_H

#include <stdbool.h>
#include <stdint.h>

enum {
    QUALITY_GOOD = 0x00,
    QUALITY_FROM_HISTORY = 0x01,
    QUALITY_UNCERTAIN = 0x40,
    QUALITY_UNCERTAIN_FROM_HISTORY = 0x42,
    QUALITY_BAD = 0x80,
    QUALITY_UNDECODABLE = 0x85,
    QUALITY_PENDING = 0x86,
};

/* Whether a row of this quality carries no value. */
static inline bool quality_is_bad(uint8_t quality)
{
    return quality >= QUALITY_BAD;
}

#endif
