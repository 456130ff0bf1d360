/* train-bpe: pretokens of every kept document (of the first generation, when there are more) are counted on all threads, counters are merged, one thread trains. Counters have a
 * quarter of the memory together, and tmp/ for what is more. */
#include "daemon/kept.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/progress.h"
#include "tokenizer/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>

enum { BPE_VERSION = 2 }; /* 2: special tokens' texts are cut out */

int dp_road_train_bpe_key(struct dp_road *r, struct dp_err *e)
{
    struct dp_keyer k;
    const char *file = r->options->tokenizer.file;
    dp_keyer_init(&k, "train-bpe", BPE_VERSION);
    if (file && *file) {
        struct dp_buf b;
        char hex[DP_HEX256];
        dp_buf_init(&b, 256 << 20);
        int rc = dp_fs_read(file, &b, e);
        if (rc >= 0) rc = dp_sha256_span(dp_buf_span(&b), hex, e);
        dp_buf_release(&b);
        if (rc >= 0) {
            dp_keyer_add(&k, "file", hex);
            return dp_keyer_finish(&k, &r->bpe, e);
        }
        dp_buf_release(&k.text);
        return rc;
    }
    dp_keyer_options(&k, "train-bpe", dp_bpe_train_opts, &r->options->bpe);
    dp_keyer_add(&k, "dedup", r->gen[0].dedup.hex);
    return dp_keyer_finish(&k, &r->bpe, e);
}

struct counting {
    struct dp_road *road;
    struct dp_bpe_counter **counter; /* one a worker */
    struct dp_failure failure;
};

static int count_unit(struct counting *c, size_t u, struct dp_bpe_counter *counter, struct dp_err *e)
{
    struct dp_kept k;
    struct dp_doc d;
    int rc = dp_kept_open(&k, c->road, u, e);
    while (rc >= 0 && (rc = dp_kept_next(&k, false, &d, e)) == DP_OK) {
        rc = dp_bpe_counter_add(counter, d.text, e);
        dp_progress_add(d.text.len, 1);
        if (rc >= 0 && dp_road_stopped(c->road)) rc = dp_err_set(e, DP_STOPPED, 0, __FILE__, __LINE__, "stopped while counting words; run again");
    }
    dp_kept_close(&k);
    return rc < 0 ? rc : DP_OK;
}

static void count_task(void *ctx, size_t u, int worker)
{
    struct counting *c = ctx;
    struct dp_err err = {0};
    if (dp_failure_get(&c->failure, NULL) >= 0) dp_failure_note(&c->failure, count_unit(c, u, c->counter[worker], &err), &err);
}

static void merges_done(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx;
    (void)total;
    dp_progress_set(done, NULL);
}

static int train(struct dp_road *r, struct dp_tokenizer **t, struct dp_err *e)
{
    int n = dp_pool_threads(r->pool);
    struct counting c = {.road = r, .failure = DP_FAILURE_NONE, .counter = calloc((size_t)n, sizeof *c.counter)};
    int rc = c.counter ? DP_OK : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "word counters");
    for (int i = 0; rc >= 0 && i < n; i++) {
        rc = dp_bpe_counter_open_for(&c.counter[i], &r->options->bpe, e);
        if (rc >= 0) dp_bpe_counter_budget(c.counter[i], r->memory / 4 / (uint64_t)n, r->ws.tmp);
    }
    if (rc >= 0) {
        dp_progress_begin("count", "B", 0);
        dp_pool_run(r->pool, r->gen[0].units, count_task, &c);
        dp_progress_end();
        rc = dp_failure_get(&c.failure, e);
    }
    if (rc >= 0) dp_bpe_counter_budget(c.counter[0], r->memory / 4, r->ws.tmp);
    for (int i = 1; rc >= 0 && i < n; i++) {
        rc = dp_bpe_counter_merge(c.counter[0], c.counter[i], e);
        dp_bpe_counter_close(c.counter[i]);
        c.counter[i] = NULL;
    }
    if (rc >= 0) {
        dp_progress_begin("train-bpe", "tokens", (uint64_t)r->options->bpe.vocab_size);
        rc = dp_bpe_train(t, &r->options->bpe, c.counter[0], merges_done, NULL, e);
        dp_progress_end();
        uint64_t left_out = dp_bpe_counter_left_out(c.counter[0]);
        if (rc >= 0 && left_out)
            dp_log(INFO, "train-bpe", "learnt from the %llu most frequent words; %llu rarer ones are past words_bytes_max",
                   (unsigned long long)dp_bpe_counter_taken(c.counter[0]), (unsigned long long)left_out);
    }
    for (int i = 0; c.counter && i < n; i++) dp_bpe_counter_close(c.counter[i]);
    free(c.counter);
    return rc;
}

static int publish(struct dp_publish *p, const struct dp_tokenizer *t, const struct dp_key *key, struct dp_err *e)
{
    struct dp_buf b;
    char name[96];
    dp_buf_init(&b, 512 << 20);
    snprintf(name, sizeof name, "tokenizer-%s.json", key->hex);
    int rc = dp_tokenizer_save(t, &b, e); /* a sentencepiece model is kept as it is; what reads it goes by the content */
    if (rc >= 0) rc = dp_publish_file(p, "tokenizer", name, dp_buf_span(&b), e);
    dp_buf_clear(&b);
    snprintf(name, sizeof name, "tokenizer-%s.tiktoken", key->hex);
    if (rc >= 0) {
        rc = dp_tokenizer_save_tiktoken(t, &b, e);
        if (rc >= 0) rc = dp_publish_file(p, "tiktoken", name, dp_buf_span(&b), e);
        else if (rc == DP_CONFIG) { /* a vocabulary that ranks alone can't express; tokenizer.json has it */
            dp_log(WARN, "train-bpe", "no .tiktoken file: %s", e->msg);
            rc = DP_OK;
        }
    }
    dp_buf_release(&b);
    if (rc >= 0) rc = dp_publish_commit(p, NULL, 0, NULL, 0, e);
    return rc;
}

int dp_road_train_bpe(struct dp_road *r, struct dp_err *e)
{
    DP_TRY(dp_road_train_bpe_key(r, e));
    struct dp_publish *p = calloc(1, sizeof *p);
    struct dp_tokenizer *t = NULL;
    if (!p) DP_FAIL(e, NOMEM, "train-bpe");
    int rc = dp_publish_claim(p, r, "train-bpe", &r->bpe, "tokenizer", e);
    if (rc == DP_EMPTY) r->found++;
    else if (rc == DP_OK) {
        const char *file = r->options->tokenizer.file;
        rc = file && *file ? dp_tokenizer_load_alone(&t, file, e) : train(r, &t, e);
        if (rc >= 0) rc = publish(p, t, &r->bpe, e);
        if (rc < 0) dp_publish_abort(p, e);
        else r->made++;
    }
    dp_tokenizer_free(t);
    free(p);
    return rc < 0 ? rc : DP_OK;
}
