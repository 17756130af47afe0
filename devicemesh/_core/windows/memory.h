/* Memory under a stated budget: every allocation of the window engine that grows with its use is counted. */
#ifndef DEVICEMESH_WINDOWS_MEMORY_H
#define DEVICEMESH_WINDOWS_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct budget {
    size_t used;
    size_t limit;
};

/* Zeroed memory for `count` items, aligned to a cache line; NULL if the budget or the system has no room.
 * Untouched pages cost nothing. */
void *budget_take(struct budget *budget, size_t count, size_t size);

/* Move `count` items into room for `wanted`, the new ones zero. NULL: nothing has changed. */
void *budget_grow(struct budget *budget, void *memory, size_t count, size_t wanted, size_t size);

/* Give back what was taken for `count` items; NULL is allowed. */
void budget_give(struct budget *budget, void *memory, size_t count, size_t size);

/* Take the memory out of the budget without freeing it: whoever has it now ends it with memory_free. */
void budget_release(struct budget *budget, size_t count, size_t size);

/* Whether `bytes` more would fit. */
bool budget_allows(const struct budget *budget, size_t bytes);

/* Free memory that left its budget; NULL is allowed. */
void memory_free(void *memory);

#endif
