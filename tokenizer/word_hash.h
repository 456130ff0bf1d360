/* tokenizer/word_hash.h - the hash of a pretoken inside tables in memory; never written to files.
 *
 * Short words (nearly all) in two loads and one multiplication. Not against an adversary. */
#ifndef DP_TOKENIZER_WORD_HASH_H
#define DP_TOKENIZER_WORD_HASH_H

#include "base/hash.h"

#include <stdint.h>
#include <string.h>

static inline uint64_t dp_word_mix(uint64_t a, uint64_t b)
{
    unsigned __int128 m = (unsigned __int128)(a ^ UINT64_C(0x9e3779b97f4a7c15)) * (b ^ UINT64_C(0xe7037ed1a0b428db));
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

/* Reads exactly n bytes. */
static inline uint64_t dp_word_hash(const void *p, size_t n)
{
    const unsigned char *s = p;
    uint64_t a = 0, b = 0;
    if (n > 16) return dp_hash64(p, n, 0);
    if (n >= 8) {
        memcpy(&a, s, 8);
        memcpy(&b, s + n - 8, 8);
    } else if (n >= 4) {
        uint32_t x, y;
        memcpy(&x, s, 4);
        memcpy(&y, s + n - 4, 4);
        a = x;
        b = y;
    } else if (n) a = s[0] | (uint64_t)s[n / 2] << 8 | (uint64_t)s[n - 1] << 16;
    return dp_word_mix(a ^ n << 56, b);
}

#endif
