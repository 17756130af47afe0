#define _DEFAULT_SOURCE /* madvise */
#include "memory.h"

#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

enum { LINE = 64, HUGE_FROM = 4 << 20 };

/* The kernel may back it with huge pages: random access then misses the TLB far less often. */
static void advise(void *memory, size_t bytes)
{
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    enum { PAGE = 4096 };
    uintptr_t from = ((uintptr_t)memory + PAGE - 1) / PAGE * PAGE, to = ((uintptr_t)memory + bytes) / PAGE * PAGE;
    if (bytes >= HUGE_FROM && to > from)
        (void)madvise((void *)from, to - from, MADV_HUGEPAGE);
#else
    (void)memory;
    (void)bytes;
#endif
}

bool budget_allows(const struct budget *budget, size_t bytes)
{
    return budget->used <= budget->limit && bytes <= budget->limit - budget->used;
}

/* calloc and not aligned_alloc: a large block is fresh from the kernel and need not be cleared. */
void *budget_take(struct budget *budget, size_t count, size_t size)
{
    if (size && count > (SIZE_MAX - 2 * LINE) / size)
        return NULL;
    size_t bytes = count * size;
    if (!budget_allows(budget, bytes))
        return NULL;
    void *raw = calloc(1, bytes + 2 * LINE);
    if (!raw)
        return NULL;
    uint8_t *aligned = (uint8_t *)(((uintptr_t)raw + 2 * LINE - 1) / LINE * LINE);
    memcpy(aligned - sizeof raw, &raw, sizeof raw);
    advise(aligned, bytes);
    budget->used += bytes;
    return aligned;
}

void *budget_grow(struct budget *budget, void *memory, size_t count, size_t wanted, size_t size)
{
    void *grown = budget_take(budget, wanted, size);
    if (!grown)
        return NULL;
    if (memory)
        memcpy(grown, memory, count * size);
    budget_give(budget, memory, count, size);
    return grown;
}

void budget_give(struct budget *budget, void *memory, size_t count, size_t size)
{
    if (memory)
        budget_release(budget, count, size);
    memory_free(memory);
}

void budget_release(struct budget *budget, size_t count, size_t size)
{
    budget->used -= count * size;
}

void memory_free(void *memory)
{
    void *raw = NULL;
    if (memory)
        memcpy(&raw, (uint8_t *)memory - sizeof raw, sizeof raw);
    free(raw);
}
