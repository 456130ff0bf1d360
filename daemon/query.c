#include "daemon/query.h"

#include "base/clock.h"
#include "base/fs.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

/* An answer that takes long and depends on the catalog and the plan only: kept until these change, and for ten times as long as it took. */
struct kept {
    struct dp_buf out;
    uint64_t stamp;
    double at, took;
    bool there;
};

struct dp_query {
    struct dp_workspace *ws;
    struct dp_strings roots, new_roots;
    struct kept languages, sources;
    struct dp_view *view;
    pthread_t thread;
    pthread_mutex_t mu;
    pthread_cond_t work;
    struct dp_ask *first, **last, *finished, **finished_last;
    size_t waiting; /* submitted and not delivered */
    struct plan {
        struct dp_view_key *key;
        size_t n;
        bool there;
    } plan, later; /* told and not taken yet; `later` is newer */
    bool quit, up;
    void (*ready)(void *ctx);
    void *ctx;
};

static void new_line(void *ctx)
{
    struct dp_jsonw *w = ctx;
    dp_buf_add_char(w->buf, '\n');
    w->comma = false;
}

static int print_list(struct dp_query *q, struct dp_ask *a, enum dp_view_list list, const char *name, struct dp_jsonw *w)
{
    if (a->lines) return dp_view_list(q->view, list, &a->page, w, new_line, w, &a->next, &a->err);
    dp_jsonw_begin(w, '{');
    dp_jsonw_key(w, name);
    dp_jsonw_begin(w, '[');
    int rc = dp_view_list(q->view, list, &a->page, w, NULL, NULL, &a->next, &a->err);
    dp_jsonw_end(w, ']');
    dp_jsonw_key(w, "next");
    if (a->next) dp_jsonw_int(w, a->next);
    else dp_jsonw_null(w);
    dp_jsonw_end(w, '}');
    return rc;
}

static int from_kept(struct dp_query *q, struct dp_ask *a, struct kept *k)
{
    uint64_t stamp;
    double t = dp_now();
    DP_TRY(dp_view_stamp(q->view, &stamp, &a->err));
    if (!k->there || (stamp != k->stamp && t - k->at >= 10 * k->took)) {
        struct dp_jsonw w;
        dp_jsonw_init(&w, &a->out, 0);
        DP_TRY(k == &q->languages ? dp_view_languages(q->view, &w, &a->err) : dp_view_roots(q->view, &q->roots, &w, &a->err));
        DP_TRY(dp_buf_check(&a->out, "answer", &a->err));
        dp_buf_release(&k->out);
        dp_buf_init(&k->out, DP_ANSWER_MAX);
        dp_buf_add_span(&k->out, dp_buf_span(&a->out));
        *k = (struct kept){k->out, stamp, dp_now(), dp_now() - t, !k->out.full};
    } else dp_buf_add_span(&a->out, dp_buf_span(&k->out));
    return DP_OK;
}

static void answer(struct dp_query *q, struct dp_ask *a)
{
    struct dp_jsonw w;
    dp_jsonw_init(&w, &a->out, 0);
    switch (a->kind) {
    case DP_QUERY_JOBS: a->rc = print_list(q, a, DP_VIEW_JOBS, "jobs", &w); break;
    case DP_QUERY_SOURCES: a->rc = print_list(q, a, DP_VIEW_SOURCES, "sources", &w); break;
    case DP_QUERY_ARTIFACTS: a->rc = print_list(q, a, DP_VIEW_ARTIFACTS, "artifacts", &w); break;
    case DP_QUERY_SAMPLES:
        dp_jsonw_begin(&w, '{');
        dp_jsonw_key(&w, "samples");
        a->rc = dp_view_samples(q->view, &a->page, &w, &a->err);
        dp_jsonw_end(&w, '}');
        break;
    case DP_QUERY_CALL: a->rc = a->call(a->arg, a); break;
    case DP_QUERY_LANGUAGES: a->rc = from_kept(q, a, &q->languages); break;
    case DP_QUERY_ROOTS: a->rc = from_kept(q, a, &q->sources); break;
    case DP_QUERY_SHARDS: a->rc = dp_view_shards(q->view, &a->page, &w, &a->err); break;
    case DP_QUERY_TRAINING: a->rc = dp_view_training(q->view, &w, &a->err); break;
    case DP_QUERY_QUARANTINE: a->rc = dp_view_quarantine(q->ws, &a->page, &w, &a->err); break;
    case DP_QUERY_TOTALS: a->rc = dp_view_totals(q->view, &a->totals, a->page.fresh, &a->err); break;
    }
    if (a->rc >= 0) a->rc = dp_buf_check(&a->out, "answer", &a->err);
}

/* Under the mutex, which is let go meanwhile. */
static void take_plans(struct dp_query *q)
{
    struct plan p[] = {q->plan, q->later};
    struct dp_err ignored;
    if (p[0].there) {
        dp_strings_release(&q->roots);
        q->roots = q->new_roots;
        q->new_roots = (struct dp_strings){0};
    }
    q->plan = q->later = (struct plan){0};
    pthread_mutex_unlock(&q->mu);
    for (int i = 0; i < 2; i++) {
        if (p[i].there) dp_view_plan(q->view, p[i].key, p[i].n, i == 1, &ignored);
        free(p[i].key);
    }
    pthread_mutex_lock(&q->mu);
}

static void *query_main(void *v)
{
    struct dp_query *q = v;
    pthread_mutex_lock(&q->mu);
    for (;;) {
        while (!q->first && !q->plan.there && !q->later.there && !q->quit) pthread_cond_wait(&q->work, &q->mu);
        if (q->quit) break;
        if (q->plan.there || q->later.there) take_plans(q);
        struct dp_ask *a = q->first;
        if (!a) continue;
        if (!(q->first = a->link)) q->last = &q->first;
        pthread_mutex_unlock(&q->mu);
        answer(q, a);
        pthread_mutex_lock(&q->mu);
        a->link = NULL;
        *q->finished_last = a;
        q->finished_last = &a->link;
        q->ready(q->ctx);
    }
    pthread_mutex_unlock(&q->mu);
    return NULL;
}

int dp_query_open(struct dp_query **out, struct dp_workspace *ws, void (*ready)(void *ctx), void *ctx, struct dp_err *e)
{
    struct dp_query *q = calloc(1, sizeof *q);
    if (!q) DP_FAIL(e, NOMEM, "questions to the catalog");
    q->ws = ws;
    q->last = &q->first;
    q->finished_last = &q->finished;
    q->ready = ready;
    q->ctx = ctx;
    pthread_mutex_init(&q->mu, NULL);
    pthread_cond_init(&q->work, NULL);
    char *db = dp_fs_join(ws->dir, "catalog.db");
    int rc = db ? dp_view_open(&q->view, db, ws->store, e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", ws->dir);
    free(db);
    if (rc >= 0) {
        int sys = pthread_create(&q->thread, NULL, query_main, q);
        q->up = sys == 0;
        if (sys) rc = dp_err_set(e, DP_NOMEM, sys, __FILE__, __LINE__, "cannot start the thread for questions");
    }
    if (rc < 0) {
        dp_query_close(q);
        return rc;
    }
    *out = q;
    return DP_OK;
}

static void free_asks(struct dp_ask *a)
{
    for (struct dp_ask *next; a; a = next) {
        next = a->link;
        dp_buf_release(&a->out);
        if (a->release) a->release(a->arg);
        else free(a->arg);
        free(a);
    }
}

void dp_query_close(struct dp_query *q)
{
    if (!q) return;
    pthread_mutex_lock(&q->mu);
    q->quit = true;
    pthread_cond_signal(&q->work);
    pthread_mutex_unlock(&q->mu);
    if (q->up) pthread_join(q->thread, NULL);
    dp_view_close(q->view);
    free_asks(q->first);
    free_asks(q->finished);
    free(q->plan.key);
    free(q->later.key);
    dp_strings_release(&q->roots);
    dp_strings_release(&q->new_roots);
    dp_buf_release(&q->languages.out);
    dp_buf_release(&q->sources.out);
    pthread_mutex_destroy(&q->mu);
    pthread_cond_destroy(&q->work);
    free(q);
}

static struct dp_ask *submit(struct dp_query *q, const struct dp_ask *given)
{
    struct dp_ask *a = calloc(1, sizeof *a);
    if (!a) return NULL;
    *a = *given;
    dp_buf_init(&a->out, DP_ANSWER_MAX);
    pthread_mutex_lock(&q->mu);
    bool room = q->waiting < DP_QUERY_MAX;
    if (room) {
        q->waiting++;
        *q->last = a;
        q->last = &a->link;
        pthread_cond_signal(&q->work);
    }
    pthread_mutex_unlock(&q->mu);
    if (room) return a;
    free(a);
    return NULL;
}

struct dp_ask *dp_query_submit(struct dp_query *q, enum dp_query_kind kind, const struct dp_page *p, bool lines, void (*done)(void *ctx, struct dp_ask *a),
                               void *ctx)
{
    struct dp_ask a = {.kind = kind, .lines = lines, .done = done, .ctx = ctx};
    if (p) a.page = *p;
    return submit(q, &a);
}

struct dp_ask *dp_query_call(struct dp_query *q, int (*call)(void *arg, struct dp_ask *a), void *arg, void (*release)(void *arg),
                             void (*done)(void *ctx, struct dp_ask *a), void *ctx)
{
    struct dp_ask a = {.kind = DP_QUERY_CALL, .call = call, .arg = arg, .release = release ? release : free, .done = done, .ctx = ctx};
    struct dp_ask *put = submit(q, &a);
    if (!put) a.release(arg);
    return put;
}

void dp_ask_cancel(struct dp_ask *a)
{
    a->done = NULL; /* read by dp_query_deliver only, on the same thread */
}

void dp_query_deliver(struct dp_query *q)
{
    pthread_mutex_lock(&q->mu);
    struct dp_ask *a = q->finished;
    q->finished = NULL;
    q->finished_last = &q->finished;
    for (const struct dp_ask *k = a; k; k = k->link) q->waiting--;
    pthread_mutex_unlock(&q->mu);
    for (const struct dp_ask *k = a; k; k = k->link)
        if (k->done) k->done(k->ctx, (struct dp_ask *)(uintptr_t)k);
    free_asks(a);
}

void dp_query_plan(struct dp_query *q, struct dp_view_key *key, size_t n, struct dp_strings *roots)
{
    pthread_mutex_lock(&q->mu);
    free(q->later.key);
    q->later = (struct plan){0};
    if (roots) {
        dp_strings_release(&q->new_roots);
        q->new_roots = *roots;
        free(q->plan.key);
        q->plan = (struct plan){key, n, true};
    } else q->later = (struct plan){key, n, true};
    pthread_cond_signal(&q->work);
    pthread_mutex_unlock(&q->mu);
}
