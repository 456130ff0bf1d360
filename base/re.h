/* base/re.h - regular expressions (PCRE2 with JIT, the only file that sees it).
 *
 * Patterns are Unicode (\w, \b and case by property); texts may hold invalid UTF-8, which no character of a pattern matches. A match that would
 * take more than a million steps, or too much memory, is given up: hostile text costs milliseconds, never minutes.
 * Thread-safety: a compiled pattern is read-only and shared; a scratch belongs to one thread. */
#ifndef DP_BASE_RE_H
#define DP_BASE_RE_H

#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>

struct dp_re;
struct dp_re_scratch;

/* Whether patterns are compiled to machine code here: not so where memory may not be made executable. The matches are the same, slower. */
bool dp_re_jit(void);

/* The Unicode version that patterns know, 14 for PCRE2 10.42. */
int dp_re_unicode(void);

/* `what` (an option's name) begins the message for a pattern that doesn't compile, DP_CONFIG with the place in it. */
int dp_re_open(struct dp_re **out, const char *pattern, bool ignore_case, const char *what, struct dp_err *e);
void dp_re_close(struct dp_re *re);
int dp_re_scratch_open(struct dp_re_scratch **out, struct dp_err *e);
void dp_re_scratch_close(struct dp_re_scratch *s);

enum dp_re_result { DP_RE_NO, DP_RE_YES, DP_RE_GAVE_UP };
/* Search text from byte `from` on; *at and *end bound the leftmost match. `from` must be a character's first byte. */
enum dp_re_result dp_re_search(const struct dp_re *re, struct dp_re_scratch *s, struct dp_span text, size_t from, size_t *at, size_t *end);

/* For cutting a text into pieces: the pattern as Hugging Face's engine would read it as far as options go (^ and $ at lines), `at` where it is
 * wrong (DP_CONFIG, with the reason alone). Texts must be well-formed UTF-8. */
int dp_re_open_cut(struct dp_re **out, struct dp_span pattern, size_t *at, struct dp_err *e);
/* A scratch for such patterns, whose matches may be as long as a text: up to stack_bytes_max; where there is no JIT eight times as much, as its steps are larger. */
int dp_re_scratch_open_deep(struct dp_re_scratch **out, size_t stack_bytes_max, struct dp_err *e);
/* As dp_re_search, for matches that begin at `last` at the latest, and with a limit of steps of one's own. */
enum dp_re_result dp_re_search_cut(const struct dp_re *re, struct dp_re_scratch *s, struct dp_span text, size_t from, size_t last, uint32_t steps_max,
                                   size_t *at, size_t *end);

#endif
