#include "cli/count_corpus.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/thread.h"
#include "cli/count_state.h"

#include <stdlib.h>

enum { LINE_ARENA = 1 << 30, FIELDS = 2 };

struct worker {
    struct dp_bpe_counter *counter;
    struct dp_domains domains;
    struct dp_piece piece;
    struct dp_arena mem;
};

struct counting {
    const struct dp_count_options *o;
    struct dp_corpus *corpus;
    struct worker *w;
    int threads;
    bool sampling, measuring;
    double until; /* of the round */
    atomic_bool more; /* the round ended before the corpus did */
    struct dp_failure failure;
};

/* Whether the text is counted. */
static bool take(const struct counting *c, struct dp_domain *d, struct dp_span text, uint64_t number)
{
    d->bytes += text.len;
    d->texts++;
    if (c->measuring) {
        if (d->sizes) d->sizes[number >> 52] += text.len;
        return false;
    }
    if (d->limit != UINT64_MAX && number >= d->limit) return false;
    d->taken_bytes += text.len;
    d->taken_texts++;
    return true;
}

static int measured(const struct counting *c, struct dp_domain *d, struct dp_err *e)
{
    if (c->measuring && !d->sizes && !(d->sizes = calloc(DP_DOMAIN_BUCKETS, sizeof *d->sizes))) DP_FAIL(e, NOMEM, "sizes of domains");
    return DP_OK;
}

static int count_lines(struct counting *c, struct worker *w, struct dp_domain *d, struct dp_err *e)
{
    struct dp_span all = dp_span(w->piece.ptr, w->piece.len);
    if (!c->sampling) {
        uint64_t n = 0;
        d->bytes += all.len;
        d->taken_bytes += all.len;
        int rc = dp_bpe_counter_add_lines(w->counter, all, &n, e);
        d->texts += n;
        d->taken_texts += n;
        return rc;
    }
    for (size_t from = 0, to; from < all.len; from = to) {
        const char *nl = memchr(all.ptr + from, '\n', all.len - from);
        to = nl ? (size_t)(nl - all.ptr) + 1 : all.len;
        struct dp_span text = dp_span(all.ptr + from, to - from);
        if (take(c, d, text, dp_text_number(text, w->piece.offset + from, c->o->seed))) DP_TRY(dp_bpe_counter_add(w->counter, text, e));
    }
    return DP_OK;
}

static int count_whole(struct counting *c, struct worker *w, struct dp_domain *d, struct dp_err *e)
{
    struct dp_span text = dp_span(w->piece.ptr, w->piece.len);
    bool taken = take(c, d, text, dp_text_number(dp_span(&w->piece.text_hash, sizeof w->piece.text_hash), 0, c->o->seed));
    if (w->piece.offset) { /* not its first piece */
        d->texts--;
        d->taken_texts -= taken;
    }
    return taken ? dp_bpe_counter_add(w->counter, text, e) : DP_OK;
}

static int count_document(struct counting *c, struct worker *w, struct dp_domain *d, struct dp_span line, uint64_t offset, struct dp_err *e)
{
    struct dp_json_field f[FIELDS] = {{.key = c->o->field}, {.key = c->o->domain_field}};
    DP_TRY(dp_json_fields(line, f, c->o->domain_field ? 2 : 1, &w->mem, e));
    if (!f[0].str.ptr) DP_FAIL(e, CORRUPT, "no string \"%s\" (see --field)", c->o->field);
    if (c->o->domain_field) {
        DP_TRY(dp_domains_get(&w->domains, f[1].str.ptr ? f[1].str : f[1].raw.ptr ? f[1].raw : dp_span("", 0), &d, e));
        DP_TRY(measured(c, d, e));
    }
    if (take(c, d, f[0].str, c->sampling ? dp_text_number(f[0].str, offset, c->o->seed) : 0)) DP_TRY(dp_bpe_counter_add(w->counter, f[0].str, e));
    return DP_OK;
}

static int count_jsonl(struct counting *c, struct worker *w, struct dp_domain *d, struct dp_err *e)
{
    const char *p = w->piece.ptr, *end = p + w->piece.len;
    while (p < end) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        struct dp_span line = dp_span(p, (size_t)((nl ? nl : end) - p));
        uint64_t offset = w->piece.offset + (uint64_t)(p - w->piece.ptr);
        if (line.len && line.ptr[line.len - 1] == '\r') line.len--;
        if (line.len && count_document(c, w, d, line, offset, e) < 0)
            return dp_err_prefix(e, "%s: the line at byte %llu", dp_corpus_path(c->corpus, w->piece.file), (unsigned long long)offset);
        dp_arena_reset(&w->mem);
        p = nl ? nl + 1 : end;
    }
    return DP_OK;
}

static int count_piece(struct counting *c, struct worker *w, struct dp_err *e)
{
    struct dp_domain *d = NULL;
    if (!c->o->domain_field) {
        DP_TRY(dp_domains_get(&w->domains, dp_corpus_domain(c->corpus, w->piece.file), &d, e));
        DP_TRY(measured(c, d, e));
    }
    if (c->o->corpus.whole_file) DP_TRY(count_whole(c, w, d, e));
    else if (c->o->corpus.jsonl) DP_TRY(count_jsonl(c, w, d, e));
    else DP_TRY(count_lines(c, w, d, e));
    dp_progress_add(dp_corpus_bytes(c->corpus) ? w->piece.raw : w->piece.len, 0);
    return DP_OK;
}

/* A thread's part of a round: pieces until there are none, the time is over, or somebody says stop. At least one, so that rounds end. */
static int count_round(struct counting *c, struct worker *w, struct dp_err *e)
{
    do {
        int rc = dp_corpus_next(c->corpus, &w->piece, e);
        if (rc != DP_OK) return rc < 0 ? rc : DP_OK;
        DP_TRY(count_piece(c, w, e));
        if (dp_progress_stopped()) break;
    } while (dp_now() < c->until && dp_failure_get(&c->failure, NULL) >= 0);
    atomic_store(&c->more, true);
    return DP_OK;
}

static void round_task(void *ctx, size_t i, int thread)
{
    struct counting *c = ctx;
    struct dp_err err = {0};
    (void)thread;
    dp_failure_note(&c->failure, count_round(c, &c->w[i], &err), &err);
}

/* *more: the corpus goes on. */
static int one_round(struct counting *c, struct dp_pool *pool, double seconds, bool *more, struct dp_err *e)
{
    c->until = dp_now() + seconds;
    atomic_store(&c->more, false);
    dp_pool_run(pool, (size_t)c->threads, round_task, c);
    *more = atomic_load(&c->more);
    return dp_failure_get(&c->failure, e);
}

static int open_counters(struct counting *c, struct dp_err *e)
{
    for (int i = 0; i < c->threads; i++) {
        DP_TRY(dp_bpe_counter_open_for(&c->w[i].counter, c->o->bpe, e));
        dp_bpe_counter_budget(c->w[i].counter, c->o->memory / (uint64_t)c->threads, c->o->dir);
        if (c->o->word_bytes_max) dp_bpe_counter_word_max(c->w[i].counter, c->o->word_bytes_max);
    }
    return DP_OK;
}

static void close_counters(struct counting *c)
{
    for (int i = 0; i < c->threads; i++) {
        dp_bpe_counter_close(c->w[i].counter);
        c->w[i].counter = NULL;
    }
}

/* The round's counters and domains as one: the first worker's. */
static int gather(struct counting *c, struct dp_domains *d, struct dp_err *e)
{
    dp_bpe_counter_budget(c->w[0].counter, c->o->memory, c->o->dir);
    for (int i = 0; i < c->threads; i++) {
        struct dp_domains *own = &c->w[i].domains;
        DP_TRY(dp_domains_add(d, own, e));
        for (size_t k = 0; k < own->n; k++) own->v[k].texts = own->v[k].bytes = own->v[k].taken_texts = own->v[k].taken_bytes = 0;
        if (i == 0) continue;
        DP_TRY(dp_bpe_counter_merge(c->w[0].counter, c->w[i].counter, e));
        dp_bpe_counter_close(c->w[i].counter);
        c->w[i].counter = NULL;
    }
    return DP_OK;
}

/* How large the domains are, by reading everything once. */
static int measure(struct counting *c, struct dp_pool *pool, struct dp_domains *d, struct dp_err *e)
{
    bool more, mixture = c->o->mixture && *c->o->mixture;
    const char *scarce;
    if (dp_corpus_has_stdin(c->corpus)) DP_FAIL(e, USAGE, "a sample of so many bytes, or by a mixture, is read twice: give files, or a part with --sample");
    c->measuring = true;
    dp_progress_begin("measure", "B", dp_corpus_bytes(c->corpus));
    int rc = one_round(c, pool, 1e18, &more, e);
    dp_progress_end();
    DP_TRY(rc);
    if (more) return dp_progress_go_on(e);
    c->measuring = false;
    for (int i = 0; i < c->threads; i++) {
        DP_TRY(dp_domains_add(d, &c->w[i].domains, e));
        dp_domains_release(&c->w[i].domains);
    }
    DP_TRY(dp_domains_limit(d, c->o->sample_bytes, mixture, &scarce, e));
    if (scarce) dp_log(WARN, "train-bpe", "the mixture asks for more of \"%s\" than there is: it gives all it has", scarce);
    for (size_t i = 0; i < d->n; i++) d->v[i].texts = d->v[i].bytes = 0;
    return dp_corpus_rewind(c->corpus, e);
}

static int set_limits(struct counting *c, struct dp_pool *pool, struct dp_domains *d, bool resumed, struct dp_err *e)
{
    const struct dp_count_options *o = c->o;
    bool mixture = o->mixture && *o->mixture;
    c->sampling = mixture || o->sample_bytes || o->sample < 1;
    if (mixture && !resumed) DP_TRY(dp_domains_mixture(d, o->mixture, e));
    if (o->sample < 1) dp_domains_fraction(d, o->sample);
    else if ((mixture || o->sample_bytes) && !resumed) DP_TRY(measure(c, pool, d, e));
    for (int i = 0; i < c->threads; i++) DP_TRY(dp_domains_copy(&c->w[i].domains, d, e));
    return DP_OK;
}

/* Keep what is counted, whatever else was asked to stop. */
static int checkpoint(struct counting *c, struct dp_count_state *s, struct dp_domains *d, struct dp_err *e)
{
    dp_progress_stop_by(NULL);
    int rc = gather(c, d, e);
    if (rc >= 0) {
        s->words_cut += dp_bpe_counter_words_cut(c->w[0].counter);
        rc = dp_count_state_save(s, c->corpus, d, c->w[0].counter, e);
    }
    close_counters(c);
    if (rc >= 0) rc = open_counters(c, e);
    dp_progress_stop_by(c->o->stop);
    return rc;
}

static int count_all(struct counting *c, struct dp_pool *pool, struct dp_count_state *s, struct dp_domains *d, struct dp_err *e)
{
    bool more = true, files = !dp_corpus_has_stdin(c->corpus) && !c->o->bpe->super_from; /* a sample of texts isn't kept */
    while (more) {
        double begun = dp_now();
        DP_TRY(one_round(c, pool, files ? c->o->checkpoint_seconds : 1e18, &more, e));
        s->seconds += dp_now() - begun;
        bool stopped = more && dp_progress_stopped();
        if (files && (more || s->n)) DP_TRY(checkpoint(c, s, d, e)); /* once there is a state, the end of counting is one */
        if (stopped && files) DP_FAIL(e, STOPPED, "stopped; what is counted is kept in %s: the same command goes on from there", s->dir);
        if (stopped) return dp_progress_go_on(e);
    }
    return DP_OK;
}

/* What rounds before left on disk and what the last one has in memory. */
static int finish(struct counting *c, struct dp_count_state *s, struct dp_count_result *r, struct dp_err *e)
{
    DP_TRY(gather(c, &r->domains, e));
    DP_TRY(dp_count_state_read(s, c->w[0].counter, e));
    r->counter = c->w[0].counter;
    c->w[0].counter = NULL;
    r->words_cut = s->words_cut + dp_bpe_counter_words_cut(r->counter);
    dp_domains_sort(&r->domains);
    for (size_t i = 0; i < r->domains.n; i++) {
        r->texts += r->domains.v[i].taken_texts;
        r->bytes += r->domains.v[i].taken_bytes;
    }
    return DP_OK;
}

static int count_with(struct counting *c, struct dp_pool *pool, struct dp_count_state *s, struct dp_count_result *r, struct dp_err *e)
{
    int there = c->o->resume && !dp_corpus_has_stdin(c->corpus) ? dp_count_state_load(s, c->corpus, &r->domains, e) : DP_EMPTY;
    if (there < 0) {
        if (there != DP_CONFIG) return there;
        dp_log(WARN, "train-bpe", "%s: everything is counted anew", e->msg);
        dp_domains_release(&r->domains);
        DP_TRY(dp_corpus_rewind(c->corpus, e));
    }
    if (there != DP_OK) dp_count_state_remove(s);
    r->resumed_seconds = s->seconds;
    if (there == DP_OK) dp_log(INFO, "train-bpe", "going on from %s (%.0f s of counting)", s->dir, s->seconds);
    DP_TRY(set_limits(c, pool, &r->domains, there == DP_OK, e));
    dp_progress_begin("count", "B", dp_corpus_bytes(c->corpus));
    int rc = count_all(c, pool, s, &r->domains, e);
    dp_progress_end();
    DP_TRY(rc);
    return finish(c, s, r, e);
}

int dp_count_corpus(struct dp_count_result *r, const struct dp_count_options *o, const char *const *paths, size_t n, struct dp_err *e)
{
    struct counting c = {.o = o, .threads = o->threads > 0 ? o->threads : 1, .failure = DP_FAILURE_NONE};
    struct dp_count_state s = {.lock = -1};
    struct dp_corpus_options corpus = o->corpus;
    struct dp_pool *pool = NULL;
    int rc = DP_OK;
    *r = (struct dp_count_result){0};
    c.w = calloc((size_t)c.threads, sizeof *c.w);
    if (!c.w) DP_FAIL(e, NOMEM, "counting");
    for (int i = 0; i < c.threads; i++) dp_arena_init(&c.w[i].mem, LINE_ARENA);
    DP_TRY_OUT(open_counters(&c, e));
    corpus.split = dp_bpe_counter_split(c.w[0].counter);
    corpus.specials = dp_bpe_counter_specials(c.w[0].counter);
    DP_TRY_OUT(dp_corpus_open(&c.corpus, &corpus, paths, n, e));
    r->files = dp_corpus_files(c.corpus);
    DP_TRY_OUT(dp_count_state_open(&s, o, dp_bpe_counter_split_text(c.w[0].counter), e));
    DP_TRY_OUT(dp_pool_open(&pool, c.threads, e));
    rc = count_with(&c, pool, &s, r, e);
out:
    dp_pool_close(pool);
    close_counters(&c);
    for (int i = 0; i < c.threads; i++) {
        dp_domains_release(&c.w[i].domains);
        dp_piece_release(&c.w[i].piece);
        dp_arena_release(&c.w[i].mem);
    }
    free(c.w);
    dp_corpus_close(c.corpus);
    dp_count_state_close(&s);
    return rc;
}

void dp_count_result_release(struct dp_count_result *r)
{
    dp_bpe_counter_close(r->counter);
    dp_domains_release(&r->domains);
    *r = (struct dp_count_result){0};
}

void dp_count_forget(const struct dp_count_options *o)
{
    struct dp_count_state s;
    struct dp_err err;
    if (dp_count_state_open(&s, o, dp_span("", 0), &err) >= 0) dp_count_state_remove(&s);
    dp_count_state_close(&s);
}
