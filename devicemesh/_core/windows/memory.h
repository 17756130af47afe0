/* Memory under a stated budget: every allocation of the window engine that grows with its use is counted. */
#ifndef DEVICEMESH_WINDOWS_MEMORY_H
#define DEVICEMESH_WINDOWS_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SPARES_MAX = 64 };

struct budget {
    size_t used;
    size_t limit;
    void *spares[SPARES_MAX]; /* blocks that came back, in `used`: fresh pages are dear */
    uint32_t spares_count;
};

/* Zeroed memory for `count` items, aligned to a cache line; NULL if the budget or the system has no room.
 * Untouched pages cost nothing. */
void *budget_take(struct budget *budget, size_t count, size_t size);

/* The same for a block that will be written before it is read: the smallest spare one that fits, if any. */
void *budget_take_unclean(struct budget *budget, size_t count, size_t size);

/* Keep memory that left the budget, if it fits, for budget_take_unclean; NULL is allowed. */
void budget_return(struct budget *budget, void *memory);

/* Free the spare blocks. */
void budget_trim(struct budget *budget);

/* Move `count` items into room for `wanted`, the new ones zero. NULL: nothing has changed. */
void *budget_grow(struct budget *budget, void *memory, size_t count, size_t wanted, size_t size);

/* Free it; NULL is allowed. */
void budget_give(struct budget *budget, void *memory);

/* Take it out of the budget without freeing it: whoever has it now ends it with memory_free, or budget_return. */
void *budget_release(struct budget *budget, void *memory);

/* Whether `bytes` more would fit. */
static inline bool budget_allows(const struct budget *budget, size_t bytes)
{
    return budget->used <= budget->limit && bytes <= budget->limit - budget->used;
}

/* Free memory that left its budget; NULL is allowed. */
void memory_free(void *memory);

#endif
