/* tokenizer/word_hash.h - the key and the hash of a pretoken inside tables in memory; never written to files.
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

/* A word of at most DP_WORD_KEY_MAX bytes as two numbers that no other word has: the bytes, and their number in the top byte of hi. 16 bytes can be read
 * at p. */
enum { DP_WORD_KEY_MAX = 15, DP_WORD_KEY_READ = 16 };
static inline void dp_word_key(const char *p, size_t n, uint64_t *lo, uint64_t *hi)
{
#define M(k) (k) >= 8 ? UINT64_MAX : (UINT64_C(1) << ((k) & 7) * 8) - 1
#define ROW(n) {M(n), (n) > 8 ? M((n) - 8) : 0, (uint64_t)(n) << 56}
    static const uint64_t masks[DP_WORD_KEY_MAX + 1][3] = {ROW(0), ROW(1), ROW(2),  ROW(3),  ROW(4),  ROW(5),  ROW(6),  ROW(7),
                                                           ROW(8), ROW(9), ROW(10), ROW(11), ROW(12), ROW(13), ROW(14), ROW(15)};
#undef ROW
#undef M
    memcpy(lo, p, 8);
    memcpy(hi, p + 8, 8);
    *lo &= masks[n][0];
    *hi = (*hi & masks[n][1]) | masks[n][2];
}

/* The same where only n bytes can be read. */
static inline void dp_word_key_exact(const char *p, size_t n, uint64_t *lo, uint64_t *hi)
{
    char copy[DP_WORD_KEY_READ] = {0};
    memcpy(copy, p, n);
    dp_word_key(copy, n, lo, hi);
}

#endif
