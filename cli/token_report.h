/* cli/token_report.h - what a survey found, written: a table, JSON, SVG charts. The first tokenizer is the one that is reported on, the others are beside it.
 *
 * The same survey gives the same bytes. Names and tokens of others are escaped in each form. */
#ifndef DP_CLI_TOKEN_REPORT_H
#define DP_CLI_TOKEN_REPORT_H

#include "base/buf.h"
#include "base/json.h"
#include "cli/token_survey.h"

#include <stdbool.h>

/* The numbers of a group for one tokenizer; NAN where there is nothing to divide by. */
struct dp_token_rates {
    double bytes_per_token, chars_per_token;
    double fertility;   /* tokens a word: token_meter.h says what a word is */
    double whole_words; /* share of words that are one token */
    double byte_tokens, part_tokens; /* shares of tokens: of one byte, of no whole characters */
};
struct dp_token_rates dp_token_rates(const struct dp_survey_group *g, size_t tokenizer);

void dp_report_text(const struct dp_survey *s, bool list_unused, struct dp_buf *out);
void dp_report_json(const struct dp_survey *s, bool list_unused, struct dp_buf *out);
void dp_report_svg(const struct dp_survey *s, struct dp_buf *out);

/* A group of a report or a comparison as JSON members: its name, texts, bytes, chars, and "tokenizers" with each one's counts and rates. */
void dp_report_json_group(struct dp_jsonw *w, const struct dp_survey *s, const struct dp_survey_group *g);
/* Both kinds of groups as members "languages" and "domains", each a list. */
void dp_report_json_groups(struct dp_jsonw *w, const struct dp_survey *s);
/* The table of groups. */
void dp_report_text_groups(const struct dp_survey *s, struct dp_buf *out);

/* A token or text in quotes, as characters where it has any that can be shown, other bytes as \xNN; past `most` bytes cut with "...". Never a control character, nor
 * one that turns the line around. */
void dp_token_show(struct dp_span bytes, size_t most, struct dp_buf *out);
/* The same as a member of a JSON object, without the quotes. */
enum { DP_SHOWN_TOKEN = 1 << 16, DP_SHOWN_TEXT = 1 << 12 };
void dp_token_put_shown(struct dp_jsonw *w, const char *key, struct dp_span bytes, size_t most);

/* The name of its split, or what it is instead. */
const char *dp_report_split(const struct dp_tokenizer *t);
/* What a vocabulary has: the ids of the longest ordinary tokens, longest first, then by id; returns how many (at most n). */
size_t dp_report_longest(const struct dp_survey_tokenizer *t, uint32_t *ids, size_t n);
/* Ordinary tokens by their length in bytes, the last place for all longer ones. */
enum { DP_REPORT_LENGTHS = 16 };
struct dp_report_lengths {
    uint64_t tokens[DP_REPORT_LENGTHS], used[DP_REPORT_LENGTHS], count[DP_REPORT_LENGTHS]; /* in the vocabulary; of those used; how often */
};
void dp_report_by_length(const struct dp_survey_tokenizer *t, struct dp_report_lengths *out);

#endif
