/* base/batch.h - the documents that move together through one worker, as columns.
 *
 * Rows are never moved or removed: a dropped row keeps its place with drop[i] != DP_DROP_KEEP, so that
 * `in = out + sum(drops)` can be counted at any point. Spans point into `mem` or into bytes that outlive the batch.
 * Ownership: the batch owns its columns and its arena; recycled with dp_batch_reset through a fixed pool.
 * Thread-safety: one worker at a time. */
#ifndef DP_BASE_BATCH_H
#define DP_BASE_BATCH_H

#include "base/arena.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/span.h"

#include <stdint.h>

/* Why a document was dropped: enum suffix, name in files and metrics, what the value is, text for people. */
#define DP_DROPS(X)                                                                                    \
    X(KEEP, "kept", "", "kept")                                                                        \
    X(EMPTY, "empty", "bytes", "no text was left")                                                     \
    X(TOO_LARGE, "too_large", "bytes", "larger than the document limit")                               \
    X(BINARY, "binary", "share", "bytes that are no text in any charset")                              \
    X(CHARSET, "charset", "bytes", "the charset is unknown or the bytes don't fit it")                 \
    X(FORMAT, "format", "", "a format that no reader knows")                                           \
    X(HTML_LIMIT, "html_limit", "count", "HTML past the limits of depth, attributes or time")          \
    X(HTTP_STATUS, "http_status", "status", "an HTTP answer other than 200")                           \
    X(LANGUAGE, "language", "probability", "not one of the languages asked for")                       \
    X(PATTERN_URL, "pattern_url", "offset", "its URL matches clean.patterns.url_drop")                 \
    X(PATTERN_TEXT, "pattern_text", "offset", "its text matches clean.patterns.text_drop")             \
    X(PATTERN_MISSING, "pattern_missing", "", "its text doesn't match clean.patterns.text_keep")       \
    X(PATTERN_COST, "pattern_cost", "bytes", "a pattern takes too many steps on it")                   \
    X(GOPHER_SHORT, "gopher_short_doc", "words", "Gopher: too few words")                              \
    X(GOPHER_LONG, "gopher_long_doc", "words", "Gopher: too many words")                               \
    X(GOPHER_WORD_SHORT, "gopher_below_avg_threshold", "characters", "Gopher: mean word length too low") \
    X(GOPHER_WORD_LONG, "gopher_above_avg_threshold", "characters", "Gopher: mean word length too high") \
    X(GOPHER_HASHES, "gopher_too_many_hashes", "ratio", "Gopher: too many # for its words")            \
    X(GOPHER_ELLIPSES, "gopher_too_many_ellipsis", "ratio", "Gopher: too many ellipses for its words") \
    X(GOPHER_BULLETS, "gopher_too_many_bullets", "ratio", "Gopher: too many lines start with a bullet") \
    X(GOPHER_END_ELLIPSES, "gopher_too_many_end_ellipsis", "ratio", "Gopher: too many lines end with an ellipsis") \
    X(GOPHER_ALPHA, "gopher_below_alpha_threshold", "ratio", "Gopher: too few words with a letter")    \
    X(GOPHER_STOP, "gopher_enough_stop_words", "count", "Gopher: too few stop words")                  \
    X(GOPHER_DUP_PARA, "gopher_dup_para_frac", "ratio", "Gopher: repeated paragraphs")                 \
    X(GOPHER_DUP_PARA_CHARS, "gopher_dup_para_char_frac", "ratio", "Gopher: characters in repeated paragraphs") \
    X(GOPHER_DUP_LINE, "gopher_dup_line_frac", "ratio", "Gopher: repeated lines")                      \
    X(GOPHER_DUP_LINE_CHARS, "gopher_dup_line_char_frac", "ratio", "Gopher: characters in repeated lines") \
    X(GOPHER_TOP_2, "gopher_top_2_gram", "ratio", "Gopher: the most frequent 2-gram")                  \
    X(GOPHER_TOP_3, "gopher_top_3_gram", "ratio", "Gopher: the most frequent 3-gram")                  \
    X(GOPHER_TOP_4, "gopher_top_4_gram", "ratio", "Gopher: the most frequent 4-gram")                  \
    X(GOPHER_DUP_5, "gopher_duplicated_5_n_grams", "ratio", "Gopher: characters in repeated 5-grams")  \
    X(GOPHER_DUP_6, "gopher_duplicated_6_n_grams", "ratio", "Gopher: characters in repeated 6-grams")  \
    X(GOPHER_DUP_7, "gopher_duplicated_7_n_grams", "ratio", "Gopher: characters in repeated 7-grams")  \
    X(GOPHER_DUP_8, "gopher_duplicated_8_n_grams", "ratio", "Gopher: characters in repeated 8-grams")  \
    X(GOPHER_DUP_9, "gopher_duplicated_9_n_grams", "ratio", "Gopher: characters in repeated 9-grams")  \
    X(GOPHER_DUP_10, "gopher_duplicated_10_n_grams", "ratio", "Gopher: characters in repeated 10-grams") \
    X(C4_LOREM, "c4_lorem_ipsum", "", "C4: lorem ipsum")                                               \
    X(C4_BRACE, "c4_curly_bracket", "", "C4: a curly bracket")                                         \
    X(C4_SENTENCES, "c4_too_few_sentences", "sentences", "C4: too few sentences")                      \
    X(FINEWEB_PUNCT, "fineweb_line_punct_ratio", "ratio", "FineWeb: too few lines end like a sentence") \
    X(FINEWEB_SHORT, "fineweb_short_line_ratio", "ratio", "FineWeb: too many short lines")             \
    X(FINEWEB_DUP, "fineweb_char_dup_ratio", "ratio", "FineWeb: characters in repeated lines")         \
    X(FINEWEB_LIST, "fineweb_list_ratio", "ratio", "FineWeb: too many newlines for its words")         \
    X(QUARANTINED, "quarantined", "", "it crashed or outran its worker; `dpipe quarantine list` has it")  \
    X(DUP_EXACT, "duplicate_exact", "", "the same text as a kept document")                            \
    X(DUP_NEAR, "duplicate_near", "similarity", "nearly the same text as a kept document")

enum dp_drop {
#define X(name, text, unit, help) DP_DROP_##name,
    DP_DROPS(X)
#undef X
    DP_DROP_COUNT
};
const char *dp_drop_name(enum dp_drop d);
const char *dp_drop_unit(enum dp_drop d);
const char *dp_drop_help(enum dp_drop d);
/* DP_DROP_COUNT when no reason has that name. */
enum dp_drop dp_drop_parse(struct dp_span name);

/* What a record's bytes are, as its reader knows or guesses. */
enum dp_format { DP_FORMAT_UNKNOWN, DP_FORMAT_TEXT, DP_FORMAT_MARKDOWN, DP_FORMAT_HTML, DP_FORMAT_XML, DP_FORMAT_BINARY };

/* Columns that a stage needs or fills. */
enum dp_column {
    DP_COL_ID = 1 << 0,    /* id, pos */
    DP_COL_BYTES = 1 << 1, /* text holds the record's raw bytes; format, mime, charset, url */
    DP_COL_TEXT = 1 << 2,  /* text is valid UTF-8, the document's text */
    DP_COL_LANG = 1 << 3,
    DP_COL_SCORE = 1 << 4,
    DP_COL_HASH = 1 << 5,  /* content hash of text */
    DP_COL_SIG = 1 << 6,   /* MinHash signature */
};

struct dp_batch {
    uint32_t count, cap;
    uint64_t seq;     /* number of the batch in its unit, from 0 */
    uint32_t member;  /* which member of its unit the rows come from, and the number of the first row in it: */
    uint64_t first;   /* where a row is, whatever batch it is in */
    uint32_t columns; /* enum dp_column: which are filled */
    struct dp_hash128 *id;   /* H(source digest, record position): stable for ever */
    struct dp_span *pos;     /* record position: "member!member" or "@offset", see ingest/reader.h */
    struct dp_span *text;    /* raw bytes, later UTF-8 */
    struct dp_span *url;     /* may be empty */
    struct dp_span *mime;    /* declared, lower case, no parameters; may be empty */
    struct dp_span *charset; /* declared, e.g. by HTTP; may be empty */
    struct dp_span *meta;    /* more members as JSON text without braces ("\"k\":1,\"l\":2"); may be empty */
    struct dp_span *title;   /* UTF-8, may be empty */
    uint8_t *format;         /* enum dp_format */
    uint32_t *bytes_in;      /* size of the record's payload as read */
    uint16_t *drop;          /* enum dp_drop */
    double *value;           /* the number that decided the drop */
    double *limit;           /* the threshold it broke */
    char (*lang)[8];         /* ISO 639-1 (or -3) code, "und" when unknown */
    float *lang_score;       /* 0..1 */
    float *score;            /* quality, larger is better; 0 when no stage sets it */
    struct dp_hash128 *hash; /* of the normalised text */
    uint32_t **sig;          /* MinHash slots, in mem */
    struct dp_arena mem;
};

/* `rows` at most; `bytes_max` caps the arena. */
int dp_batch_init(struct dp_batch *b, uint32_t rows, size_t bytes_max, struct dp_err *e);
void dp_batch_release(struct dp_batch *b);
void dp_batch_reset(struct dp_batch *b);
/* A new row, all columns zero or empty; its index, or -1 when the batch has `cap` rows. */
int64_t dp_batch_add(struct dp_batch *b);
/* Row i as a batch of its own, over the same columns and memory; what it allocated belongs to b once its `mem` is copied back. */
struct dp_batch dp_batch_row(const struct dp_batch *b, uint32_t i);
static inline void dp_batch_drop(struct dp_batch *b, uint32_t i, enum dp_drop why, double value, double limit)
{
    b->drop[i] = (uint16_t)why;
    b->value[i] = value;
    b->limit[i] = limit;
}

#endif
