/* base/opt.h - one table row an option; everything else follows from it.
 *
 * Flags (--vocab-size N), recipe keys (vocab_size under the section's name), environment names (DPIPE_<SECTION>_<KEY>, in capitals),
 * --help, man pages and completions all come from the rows. Precedence: flag, environment, recipe, default.
 * Values go straight into the struct that the row's offset names. */
#ifndef DP_BASE_OPT_H
#define DP_BASE_OPT_H

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum dp_opt_type {
    DP_OPT_BOOL,   /* bool; --name, --no-name */
    DP_OPT_INT,    /* int64_t */
    DP_OPT_SIZE,   /* uint64_t bytes; "64M", "1.5G" (powers of 1024) */
    DP_OPT_REAL,   /* double */
    DP_OPT_TIME,   /* double, seconds; "500ms", "10s", "5m", "2h", "1d", a bare number is seconds */
    DP_OPT_STRING, /* char *, malloc'ed; NULL when unset */
    DP_OPT_CHOICE, /* int: index in choices */
    DP_OPT_LIST,   /* char *, malloc'ed: comma-separated words; a recipe may give a sequence */
};

enum {
    DP_OPT_NOKEY = 1, /* doesn't change what is computed (threads, progress): left out of artifact keys */
    DP_OPT_PATH = 2,  /* a path: relative to the recipe's folder where a recipe gives it */
    DP_OPT_LATER = 4, /* a row that came to a table later: left out of keys while it is at its default, so that keys from before stay */
};

struct dp_opt {
    const char *name; /* recipe spelling, "vocab_size"; the flag has - for _ */
    enum dp_opt_type type;
    size_t offset;
    const char *preset;  /* default as text; NULL: zero, or unset */
    double min, max;     /* for numbers; both 0: no range */
    const char *choices; /* "hf|bytes" */
    const char *arg;     /* placeholder in --help: "N", "DIR" */
    const char *help;    /* one sentence */
    char letter;         /* short flag or 0 */
    unsigned flags;
};
#define DP_OPT_END {.name = NULL}

/* Set every option of `rows` in `base` to its default. */
int dp_opt_defaults(const struct dp_opt *rows, void *base, struct dp_err *e);
/* Set one from text; `from` ("--vocab-size", "recipe.yaml:12 vocab_size") begins the message of a failure (DP_USAGE). */
int dp_opt_set(const struct dp_opt *row, void *base, struct dp_span text, const char *from, struct dp_err *e);
const struct dp_opt *dp_opt_find(const struct dp_opt *rows, struct dp_span name); /* - and _ are the same */
/* Read DPIPE_<SECTION>_<NAME> for every row. */
int dp_opt_environ(const struct dp_opt *rows, void *base, const char *section, struct dp_err *e);
/* The value as text that dp_opt_set reads back. */
void dp_opt_print(const struct dp_opt *row, const void *base, struct dp_buf *out);
/* "name=value\n" for every row that matters to results, in table order: what an artifact's key hashes. */
void dp_opt_canonical(const struct dp_opt *rows, const void *base, struct dp_buf *out);
/* Free strings. */
void dp_opt_release(const struct dp_opt *rows, void *base);
/* The nearest of n words by edit distance, NULL when none is near enough to suggest. */
const char *dp_opt_nearest(struct dp_span word, const char *const *words, size_t n);

#endif
