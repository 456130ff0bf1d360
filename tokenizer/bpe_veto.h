/* tokenizer/bpe_veto.h - what a BPE trainer must not learn.
 *
 * A pair whose text is refused is never merged, however frequent; what it would have led to isn't learnt either. Counts of other pairs
 * are not changed by it. Refused are
 *   texts of more than chars_max characters (0: no limit): UTF-8 characters that begin in it, and the rest of one that it begins within;
 *   texts that hold the text of a special token;
 *   in the second stage of SuperBPE, by super_rules:
 *     more than words_max words (0: no limit): runs of something other than white space;
 *     colon: a colon, and white space other than its first character ("Answer: the": prompts end with a colon);
 *     newline: a line's end with something other than white space behind it;
 *     sentence: one of . ! ? with white space and then something else behind it, or one of the full-width ones with anything but white space. */
#ifndef DP_TOKENIZER_BPE_VETO_H
#define DP_TOKENIZER_BPE_VETO_H

#include "base/err.h"
#include "base/span.h"
#include "tokenizer/special_find.h"

#include <stdbool.h>
#include <stdint.h>

enum { DP_VETO_COLON = 1, DP_VETO_NEWLINE = 2, DP_VETO_SENTENCE = 4 };

struct dp_bpe_veto {
    int64_t chars_max;
    const struct dp_special_find *specials;
    bool super;
    int64_t words_max;
    unsigned rules;
};

/* "colon,newline,sentence" or some of them, NULL none; DP_CONFIG names another word. */
int dp_bpe_veto_rules(const char *list, unsigned *rules, struct dp_err *e);
bool dp_bpe_vetoed(const struct dp_bpe_veto *v, struct dp_span text);
/* Characters that begin in it, and one that it begins within. */
int64_t dp_bpe_chars(struct dp_span text);

#endif
