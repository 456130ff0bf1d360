/* Any text, repaired, through every rule stage: what a stage says is the same whether it shares the row's words or splits them itself,
 * and in a batch beside other rows; words lie in the text, in order, and are not empty; an n-gram rule fires just below the value that
 * it reports and not at it, whatever was bounded before it was counted. */
#include "base/utf8.h"
#include "clean/stages.h"
#include "clean/words.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { RULES = 4, GRAMS = 9 };
static const struct dp_stage_type *const types[RULES] = {&dp_stage_gopher_repetition, &dp_stage_gopher_quality, &dp_stage_c4, &dp_stage_fineweb};
static const char *const grams[GRAMS] = {"top_2_gram_max", "top_3_gram_max", "top_4_gram_max", "dup_5_gram_max", "dup_6_gram_max",
                                         "dup_7_gram_max", "dup_8_gram_max", "dup_9_gram_max", "dup_10_gram_max"};

#define MUST(cond) ((cond) ? (void)0 : (fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond), abort()))

static void set(const struct dp_stage_type *t, void *ctx, const char *name, const char *value)
{
    struct dp_err e;
    MUST(dp_opt_set(dp_opt_find(t->opts, dp_span_str(name)), ctx, dp_span_str(value), name, &e) >= 0);
}

static void *context(const struct dp_stage_type *t)
{
    struct dp_err e;
    void *ctx = calloc(1, t->ctx_size);
    MUST(ctx && dp_opt_defaults(t->opts, ctx, &e) >= 0);
    set(t, ctx, "enabled", "true");
    return ctx;
}

static void start(struct dp_batch *b, struct dp_span text, uint32_t rows)
{
    dp_batch_reset(b);
    for (uint32_t i = 0; i < rows; i++) {
        dp_batch_add(b);
        b->text[i] = text;
    }
}

static void check_words(struct dp_span text)
{
    struct dp_words w = {0};
    size_t at = 0, chars = 0;
    MUST(dp_words_split(&w, text) >= 0);
    for (size_t i = 0; i < w.count; i++) {
        const struct dp_word *d = &w.word[i];
        MUST(d->len && d->at >= at && d->at + d->len <= text.len && d->chars == dp_utf8_count(text.ptr + d->at, d->len));
        at = d->at + d->len;
        chars += d->chars;
    }
    MUST(chars <= dp_utf8_count(text.ptr, text.len) && dp_words_sentences(&w, 0, w.count) <= w.count);
    dp_words_release(&w);
}

/* Row 1 of three with shared words against a batch of one without. */
static void check_sharing(struct dp_span text, struct dp_batch *a, struct dp_batch *b)
{
    struct dp_err e;
    void *ctx[RULES], *shared[RULES];
    for (int k = 0; k < RULES; k++) ctx[k] = context(types[k]);
    MUST(dp_stage_workers_open(types, ctx, RULES, shared, &e) >= 0);
    start(a, text, 3);
    start(b, text, 1);
    a->text[0] = dp_span_str("Another text. It has sentences, and words.");
    for (int k = 0; k < RULES && b->drop[0] == DP_DROP_KEEP; k++) {
        void *own;
        MUST(dp_stage_workers_open(&types[k], &ctx[k], 1, &own, &e) >= 0 && dp_stage_run(types[k], ctx[k], own, b, &e) >= 0);
        dp_stage_workers_close(&types[k], &ctx[k], 1, &own);
    }
    for (uint32_t i = 0; i < a->count; i++) {
        dp_stage_next_row(types[0], shared[0]);
        for (int k = 0; k < RULES && a->drop[i] == DP_DROP_KEEP; k++) MUST(dp_stage_row(types[k], ctx[k], shared[k], a, i, &e) >= 0);
    }
    for (uint32_t i = 1; i < 3; i++)
        MUST(a->drop[i] == b->drop[0] && memcmp(&a->value[i], &b->value[0], sizeof(double)) == 0 && dp_span_eq(a->text[i], b->text[0]) && dp_utf8_valid(a->text[i]));
    dp_stage_workers_close(types, ctx, RULES, shared);
    for (int k = 0; k < RULES; k++) {
        dp_opt_release(types[k]->opts, ctx[k]);
        free(ctx[k]);
    }
}

/* The value of one n-gram rule at a limit; -1 when it doesn't fire. */
static double gram_value(void *ctx, void *worker, struct dp_batch *b, struct dp_span text, int rule, double limit)
{
    struct dp_err e;
    char number[40];
    snprintf(number, sizeof number, "%.17g", limit);
    for (int k = 0; k < GRAMS; k++) set(types[0], ctx, grams[k], k == rule ? number : "0");
    start(b, text, 1);
    MUST(dp_stage_run(types[0], ctx, worker, b, &e) >= 0);
    return b->drop[0] == DP_DROP_GOPHER_TOP_2 + rule ? b->value[0] : -1;
}

static void check_bounds(struct dp_span text, struct dp_batch *b)
{
    static const char *const others[] = {"dup_para_max", "dup_para_chars_max", "dup_line_max", "dup_line_chars_max"};
    struct dp_err e;
    void *ctx = context(types[0]), *worker;
    for (int k = 0; k < 4; k++) set(types[0], ctx, others[k], "0");
    MUST(dp_stage_workers_open(types, &ctx, 1, &worker, &e) >= 0);
    for (int k = 0; k < GRAMS; k++) {
        double v = gram_value(ctx, worker, b, text, k, 1e-12);
        if (v < 0 || v > 1) continue;
        MUST(gram_value(ctx, worker, b, text, k, v) < 0);
        MUST(fabs(gram_value(ctx, worker, b, text, k, nextafter(v, 0)) - v) <= 0);
    }
    dp_stage_workers_close(types, &ctx, 1, &worker);
    dp_opt_release(types[0]->opts, ctx);
    free(ctx);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dp_err e;
    struct dp_batch a, b;
    struct dp_buf s;
    dp_buf_init(&s, 1 << 26);
    dp_utf8_repair(dp_span(data, size), &s);
    MUST(!s.full && dp_batch_init(&a, 3, 1 << 28, &e) >= 0 && dp_batch_init(&b, 1, 1 << 28, &e) >= 0);
    /* In a block of its own size, so that a byte read past the end is seen. */
    char *exact = malloc(s.len ? s.len : 1);
    MUST(exact);
    if (s.len) memcpy(exact, s.ptr, s.len);
    struct dp_span text = dp_span(exact, s.len);
    check_words(text);
    check_sharing(text, &a, &b);
    check_bounds(text, &b);
    free(exact);
    dp_batch_release(&a);
    dp_batch_release(&b);
    dp_buf_release(&s);
    return 0;
}
