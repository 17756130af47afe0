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

/* Before every block: where it was allocated, and how large it is. */
struct origin {
    void *raw;
    size_t bytes;
};

static struct origin origin_of(const void *memory)
{
    struct origin origin;
    memcpy(&origin, (const uint8_t *)memory - sizeof origin, sizeof origin);
    return origin;
}

/* A block of `bytes` within `raw`, which has two lines more; NULL is allowed. */
static void *enter(struct budget *budget, void *raw, size_t bytes)
{
    struct origin origin = {raw, bytes};
    if (!raw)
        return NULL;
    budget->used += bytes;
    uint8_t *aligned = (uint8_t *)(((uintptr_t)origin.raw + 2 * LINE - 1) / LINE * LINE);
    memcpy(aligned - sizeof origin, &origin, sizeof origin);
    advise(aligned, bytes);
    return aligned;
}

/* Whether there is room for `count` items, if need be where spare blocks were. */
static bool make_room(struct budget *budget, size_t count, size_t size)
{
    if (size && count > (SIZE_MAX - 2 * LINE) / size)
        return false;
    if (!budget_allows(budget, count * size))
        budget_trim(budget);
    return budget_allows(budget, count * size);
}

/* calloc and not aligned_alloc: a large block is fresh from the kernel and need not be cleared. */
void *budget_take(struct budget *budget, size_t count, size_t size)
{
    return make_room(budget, count, size) ? enter(budget, calloc(1, count * size + 2 * LINE), count * size) : NULL;
}

void *budget_take_unclean(struct budget *budget, size_t count, size_t size)
{
    uint32_t best = budget->spares_count;
    size_t best_bytes = SIZE_MAX;
    for (uint32_t i = 0; i < budget->spares_count; i++) {
        size_t bytes = origin_of(budget->spares[i]).bytes;
        if (bytes / size >= count && bytes / size / 2 <= count && bytes < best_bytes) {
            best = i;
            best_bytes = bytes;
        }
    }
    if (best == budget->spares_count)
        return make_room(budget, count, size) ? enter(budget, malloc(count * size + 2 * LINE), count * size) : NULL;
    void *spare = budget->spares[best];
    budget->spares[best] = budget->spares[--budget->spares_count];
    return spare;
}

void budget_return(struct budget *budget, void *memory)
{
    enum { WORTH_KEEPING = 1 << 16 };
    size_t bytes = memory ? origin_of(memory).bytes : 0;
    if (bytes < WORTH_KEEPING || !budget_allows(budget, bytes)) {
        memory_free(memory);
        return;
    }
    if (budget->spares_count == SPARES_MAX) { /* the oldest makes room: what is asked for now is like the newest */
        budget->used -= origin_of(budget->spares[0]).bytes;
        memory_free(budget->spares[0]);
        budget->spares[0] = budget->spares[--budget->spares_count];
    }
    budget->spares[budget->spares_count++] = memory;
    budget->used += bytes;
}

void budget_trim(struct budget *budget)
{
    while (budget->spares_count) {
        void *spare = budget->spares[--budget->spares_count];
        budget->used -= origin_of(spare).bytes;
        memory_free(spare);
    }
}

void *budget_grow(struct budget *budget, void *memory, size_t count, size_t wanted, size_t size)
{
    void *grown = budget_take(budget, wanted, size);
    if (!grown)
        return NULL;
    if (memory)
        memcpy(grown, memory, count * size);
    budget_give(budget, memory);
    return grown;
}

void budget_give(struct budget *budget, void *memory)
{
    if (memory)
        budget->used -= origin_of(memory).bytes;
    memory_free(memory);
}

void *budget_release(struct budget *budget, void *memory)
{
    if (memory)
        budget->used -= origin_of(memory).bytes;
    return memory;
}

void memory_free(void *memory)
{
    free(memory ? origin_of(memory).raw : NULL);
}
