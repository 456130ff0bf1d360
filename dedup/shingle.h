/* dedup/shingle.h - a text's words, and the hashes of its word shingles.
 *
 * Words (the "normaliser", DP_SHINGLE_NORMALISER is its number in signature files; Unicode 16):
 *  - letters, marks and numbers make words; white space, punctuation, symbols and controls separate them;
 *  - each character of Han, Kana, Bopomofo, Yi, Thai, Lao, Khmer, Myanmar, Tai, Javanese, Balinese, Tangut, Nushu, Khitan,
 *    hieroglyphs and cuneiform is a word by itself: these scripts don't space their words, and a run of them as one word
 *    makes one changed character lose every shingle around it;
 *  - format characters (soft hyphen, joiners, variation selectors, BOM) are skipped; U+200B separates;
 *  - simple case folding, one code point to one; full-width ASCII is ASCII. No other normalisation: clean/ gives NFC;
 *  - with fold_digits, a run of decimal digits is one "0".
 * So copies that differ in case, white space or punctuation only have equal shingles.
 *
 * A shingle is `shingle` consecutive words; a text with fewer words has one shingle, of all of them; without words none.
 * Its hash is the polynomial sum of w[i] * P^(n-1-i) mod 2^64 over 64-bit word hashes, mixed: O(1) a word for any length.
 *
 * Input should be UTF-8; a bad byte counts as a separator. Time is linear and memory constant, whatever the text.
 * Thread-safety: a struct dp_shingler belongs to one worker. */
#ifndef DP_DEDUP_SHINGLE_H
#define DP_DEDUP_SHINGLE_H

#include "base/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DP_SHINGLE_MAX = 64, DP_SHINGLE_BLOCK = 1024 };
#define DP_SHINGLE_NORMALISER UINT64_C(0x0001001000000001) /* words 1, Unicode 16.0, shingle hash 1 */

/* Gets n <= DP_SHINGLE_BLOCK shingle hashes, in text order. */
typedef void (*dp_shingle_fn)(void *ctx, const uint64_t *hashes, size_t n);

struct dp_shingler {
    uint64_t words[DP_SHINGLE_MAX + DP_SHINGLE_BLOCK]; /* carried words, then new ones */
    uint64_t out[DP_SHINGLE_BLOCK];
    size_t fill;    /* in words */
    uint64_t total; /* words of this text */
    uint32_t size;  /* words of a shingle */
    uint64_t drop;  /* P^size */
    dp_shingle_fn fn;
    void *ctx;
};

/* Calls fn for all shingles of text; returns the number of words. 1 <= size <= DP_SHINGLE_MAX. */
uint64_t dp_shingle(struct dp_shingler *s, struct dp_span text, uint32_t size, bool fold_digits, dp_shingle_fn fn, void *ctx);

#endif
