#include "rules.h"

#include <stdlib.h>

#include "stream.h"

bool rules_valid(const struct rules *rules)
{
    const struct deadband *deadband = &rules->deadband;
    bool asks = rules->mask >> STATISTIC_QUANTILES & 1;
    if (rules->kind >= KIND_COUNT || rules->report >= REPORT_COUNT || rules->mask >> (STATISTIC_QUANTILES + 1) ||
        rules->limits_count > MAX_LIMITS || rules->quantiles_count > QUANTILES_MOST || asks != (rules->quantiles_count > 0))
        return false;
    for (uint32_t i = 0; i < rules->quantiles_count; i++)
        if (rules->quantiles[i] > QUANTILE_WHOLE)
            return false;
    for (uint32_t i = 0; i < rules->limits_count; i++)
        if (rules->limits[i].delay_ns < 0 || rules->limits[i].delay_ns > MAX_SPAN_NS)
            return false;
    if (!(deadband->absolute >= 0) || !(deadband->fraction >= 0) || deadband->silence_ns < 0 ||
        deadband->pause_ns < 0)
        return false;
    if (rules->lateness_ns < 0 || rules->lateness_ns > MAX_SPAN_NS)
        return false;
    return rules->report != REPORT_WINDOW || (rules->window_ns > 0 && rules->window_ns <= MAX_SPAN_NS);
}

struct shared_rules {
    struct rules rules; /* first: its address is this one's */
    struct shared_rules *next;
    uint32_t hash;
    uint32_t users;
    struct limit limits[];
};

/* FNV-1a */
static uint32_t mix(uint32_t hash, const void *bytes, size_t length)
{
    const uint8_t *at = bytes;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ at[i]) * 16777619;
    return hash;
}

static uint32_t hash_of(const struct rules *rules)
{
    const uint8_t small[] = {rules->kind, rules->report};
    uint32_t hash = mix(2166136261, &rules->deadband, sizeof rules->deadband);
    hash = mix(hash, &rules->window_ns, sizeof rules->window_ns);
    hash = mix(hash, &rules->lateness_ns, sizeof rules->lateness_ns);
    hash = mix(hash, &rules->mask, sizeof rules->mask);
    hash = mix(hash, rules->quantiles, rules->quantiles_count * sizeof rules->quantiles[0]);
    hash = mix(hash, small, sizeof small);
    for (uint32_t i = 0; i < rules->limits_count; i++) {
        hash = mix(hash, &rules->limits[i].limit, sizeof rules->limits[i].limit);
        hash = mix(hash, &rules->limits[i].clear, sizeof rules->limits[i].clear);
        hash = mix(hash, &rules->limits[i].delay_ns, sizeof rules->limits[i].delay_ns);
    }
    return hash;
}

static bool deadbands_same(const struct deadband *a, const struct deadband *b)
{
    return a->absolute == b->absolute && a->fraction == b->fraction && a->silence_ns == b->silence_ns &&
           a->pause_ns == b->pause_ns;
}

static bool limits_same(const struct limit *a, const struct limit *b)
{
    return a->limit == b->limit && a->clear == b->clear && a->delay_ns == b->delay_ns && a->above == b->above;
}

/* Where it misses what is the same (a NaN, -0 by its hash), there are two of them, and no harm. */
static bool rules_same(const struct rules *a, const struct rules *b)
{
    if (!deadbands_same(&a->deadband, &b->deadband) || a->window_ns != b->window_ns ||
        a->lateness_ns != b->lateness_ns || a->kind != b->kind || a->report != b->report || a->mask != b->mask ||
        a->limits_count != b->limits_count || a->quantiles_count != b->quantiles_count)
        return false;
    for (uint32_t i = 0; i < a->quantiles_count; i++)
        if (a->quantiles[i] != b->quantiles[i])
            return false;
    for (uint32_t i = 0; i < a->limits_count; i++)
        if (!limits_same(&a->limits[i], &b->limits[i]))
            return false;
    return true;
}

static struct shared_rules **chain_of(const struct rulebook *book, uint32_t hash)
{
    return &book->chains[hash & (book->chains_count - 1)];
}

/* Keep the chains short. False without memory: the book is as it was. */
static bool grow(struct rulebook *book)
{
    struct rulebook grown = {.chains_count = book->chains_count ? book->chains_count * 2 : 16, .count = book->count};
    grown.chains = calloc(grown.chains_count, sizeof(struct shared_rules *));
    if (!grown.chains)
        return false;
    for (uint32_t i = 0; i < book->chains_count; i++) {
        for (struct shared_rules *next, *at = book->chains[i]; at; at = next) {
            struct shared_rules **chain = chain_of(&grown, at->hash);
            next = at->next;
            at->next = *chain;
            *chain = at;
        }
    }
    free(book->chains);
    *book = grown;
    return true;
}

const struct rules *rulebook_share(struct rulebook *book, const struct rules *rules)
{
    if (book->count == book->chains_count && !grow(book))
        return NULL;
    uint32_t hash = hash_of(rules);
    struct shared_rules **chain = chain_of(book, hash), *found = *chain;
    while (found && (found->hash != hash || !rules_same(&found->rules, rules)))
        found = found->next;
    if (!found) {
        found = malloc(sizeof *found + rules->limits_count * sizeof found->limits[0]);
        if (!found)
            return NULL;
        *found = (struct shared_rules){.rules = *rules, .next = *chain, .hash = hash};
        found->rules.limits = found->limits;
        for (uint32_t i = 0; i < rules->limits_count; i++)
            found->limits[i] = rules->limits[i];
        *chain = found;
        book->count++;
    }
    found->users++;
    return &found->rules;
}

void rulebook_release(struct rulebook *book, const struct rules *rules)
{
    struct shared_rules *shared = (struct shared_rules *)rules;
    if (--shared->users)
        return;
    struct shared_rules **at = chain_of(book, shared->hash);
    while (*at != shared)
        at = &(*at)->next;
    *at = shared->next;
    book->count--;
    free(shared);
}

void rulebook_free(struct rulebook *book)
{
    free(book->chains);
    *book = (struct rulebook){0};
}
