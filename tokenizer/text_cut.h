/* tokenizer/text_cut.h - where a text that comes in parts may be cut without changing its pieces.
 *
 * Beside dp_split_restart (tokenizer/split.h), which looks forward in a text that is there as a whole: here the text goes on behind what is
 * there, and any pretoken's begin will do, since the next part is split from there on. Thread-safety: pure. */
#ifndef DP_TOKENIZER_TEXT_CUT_H
#define DP_TOKENIZER_TEXT_CUT_H

#include "tokenizer/split.h"

/* Whether the split is one of those whose patterns allow what this file and dp_bpe_counter_add_lines do: never one that a user gave. */
bool dp_text_can_cut(enum dp_split split);
/* `text` is a part of a longer text that begins where a pretoken does and goes on behind. A place as far back as may be where it can be cut so
 * that both sides have the pretokens of the whole; 0: there is none, it ends within its only pretoken, or the split isn't known well enough. */
size_t dp_text_cut(enum dp_split split, struct dp_span text);

#endif
