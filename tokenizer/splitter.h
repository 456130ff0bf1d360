/* tokenizer/splitter.h - where BPE may not merge across, as a user says it: a known split (tokenizer/split.h), or a regular expression, or
 * several steps one after the other as in Hugging Face's Sequence, with digits and scripts cut apart.
 *
 * A splitter is a list of steps. The first cuts the text, each other cuts every piece of the one before as if it were a text of its own
 * (what stands around a piece isn't seen). Nothing is ever dropped: pieces add up to the text.
 *
 * Regular expressions are those that mean the same to PCRE2, which runs them here, and to Oniguruma, which runs them in Hugging Face's
 * tokenizers, because tokenizer.json carries them: docs/splits.md. Matches are pieces and what is between two matches is one
 * (`Isolated`); an empty match cuts. The pattern sees each longest stretch of well-formed UTF-8 as a text; a run of bytes that are none is a
 * piece. General categories, scripts, \w and \d have Unicode 16's characters as known splits do, whatever PCRE2 knows (10.42: Unicode 14); other
 * properties, and letters' other cases, are PCRE2's.
 * A pattern that takes more than a million steps (and four for each byte of the text) at one place, 64 MiB of stack, or more than half a second
 * and 1 us for each byte, is given up with DP_LIMIT, which names the place.
 *
 * Thread-safety: a splitter is immutable and shared, counted by reference; a cutter belongs to one thread. */
#ifndef DP_TOKENIZER_SPLITTER_H
#define DP_TOKENIZER_SPLITTER_H

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"
#include "tokenizer/split.h"

#include <stdbool.h>
#include <stddef.h>

enum dp_split_kind {
    DP_CUT_KNOWN,   /* one of enum dp_split */
    DP_CUT_REGEX,   /* `text` */
    DP_CUT_LITERAL, /* every occurrence of `text` */
    DP_CUT_DIGITS,  /* characters of class N: `digits` together at most, from the left; 0: the whole run */
    DP_CUT_SCRIPTS, /* before a letter of another script than the last letter's: dp_cut_scripts */
};
/* Matches of a regular expression are pieces, or become part of one (Hugging Face's MergedWithPrevious, MergedWithNext, Contiguous). */
enum dp_split_join { DP_JOIN_NOTHING, DP_JOIN_BEFORE, DP_JOIN_BEHIND, DP_JOIN_EACH_OTHER };
struct dp_split_step {
    enum dp_split_kind kind;
    enum dp_split split;
    struct dp_span text;
    int digits;
    enum dp_split_join join;
    bool portable; /* regex: refuse what Oniguruma and PCRE2 understand differently; else `text` is Oniguruma's */
};
enum { DP_SPLIT_STEPS_MAX = 16, DP_SPLIT_PATTERN_BYTES_MAX = 1 << 16, DP_SPLIT_DIGITS_MAX = 3 };

struct dp_splitter;
/* DP_CONFIG for a pattern that doesn't compile or isn't portable, with the place in it. */
int dp_splitter_open(struct dp_splitter **out, const struct dp_split_step *steps, size_t n, struct dp_err *e);
/* What options say: `pattern` (NULL or "": *split), digits (0: as the split has it), scripts. The order is digits, pattern, scripts.
 * *out is NULL where that is a known split alone, then in *split. */
int dp_splitter_choose(struct dp_splitter **out, enum dp_split *split, const char *pattern, int digits, bool scripts, struct dp_err *e);
/* By name (then *out is NULL and *split is set), or "regex:PATTERN". */
int dp_splitter_parse(struct dp_splitter **out, enum dp_split *split, struct dp_span text, struct dp_err *e);
/* One that is a known split alone is closed, *s becomes NULL and *split that. */
bool dp_splitter_simplify(struct dp_splitter **s, enum dp_split *split);
struct dp_splitter *dp_splitter_ref(struct dp_splitter *s); /* one owner more; of NULL too */
void dp_splitter_close(struct dp_splitter *s);              /* one owner less */
const struct dp_split_step *dp_splitter_steps(const struct dp_splitter *s, size_t *n);
/* "split cl100k", "regex PATTERN", "digits 1", "scripts": a line for each step; it is what digests and messages have. Of NULL: the name of `split`. */
struct dp_span dp_splitter_text(const struct dp_splitter *s, enum dp_split split);

struct dp_span dp_splitter_step_text(const struct dp_splitter *s, size_t i); /* the line of step i */

struct dp_cutter;
int dp_cutter_open(struct dp_cutter **out, struct dp_splitter *s, struct dp_err *e);
void dp_cutter_close(struct dp_cutter *c);
/* As dp_split_run, but it may fail, and goes on only where its last call ended: *pos 0 begins a text. Returns how many ends; 0: the text is
 * done. */
int dp_cutter_run(struct dp_cutter *c, struct dp_span text, size_t *pos, size_t *ends, size_t max, struct dp_err *e);

/* The pattern in PCRE2's words, appended to out. With `portable`, DP_CONFIG for what the two engines understand differently; with `newer`, categories and
 * scripts have what Unicode 16 has and 14 hadn't (which costs, so it is for texts with such characters). */
int dp_split_regex_translate(struct dp_span pattern, bool portable, bool newer, struct dp_buf *out, struct dp_err *e);
/* Whether a well-formed text has a character that Unicode 14 hadn't. */
bool dp_split_has_newer(struct dp_span text);
/* The regular expression that cuts as DP_CUT_SCRIPTS does, for tokenizer.json. */
void dp_split_scripts_regex(struct dp_buf *out);
/* The script (0: none that cuts) of the letter cp. */
unsigned dp_split_script(int32_t cp);

#endif
