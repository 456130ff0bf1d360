/* clean/lines.h - what the rule stages share: lines, trimming, and a set of hashes.
 *
 * Lines are Python's str.splitlines(), white space is Python's str.isspace(). Text must be valid UTF-8.
 * Linear; the set keeps its memory between documents. One owner at a time. */
#ifndef DP_CLEAN_LINES_H
#define DP_CLEAN_LINES_H

#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>

/* The next line of *rest, without its end; false when nothing is left. "a\n" is one line, "\n" one empty line. */
bool dp_line_next(struct dp_span *rest, struct dp_span *line);
struct dp_span dp_trim(struct dp_span s);
struct dp_span dp_trim_left(struct dp_span s);
struct dp_span dp_trim_right(struct dp_span s);

/* How often a byte stands in s. */
size_t dp_byte_count(struct dp_span s, char what);

/* Counts per 64-bit key: open addressing, emptied in constant time by a generation number. */
struct dp_counts {
    struct dp_count {
        uint64_t key;
        uint32_t gen, n;
    } *slot;
    size_t cap, used; /* powers of two: slots held, and slots in play: a small document stays in cache after a large one */
    uint32_t gen;
};
/* Empty it, with room for `keys`. DP_OK or DP_NOMEM. */
int dp_counts_start(struct dp_counts *c, size_t keys);
/* The count of key after adding one. */
uint32_t dp_counts_add(struct dp_counts *c, uint64_t key);
/* The count of key. */
uint32_t dp_counts_get(const struct dp_counts *c, uint64_t key);
void dp_counts_release(struct dp_counts *c);

/* Is `lang` ("en") one of the comma-separated `list`? A NULL or empty list has every language. */
bool dp_lang_listed(const char *list, const char *lang);

#endif
