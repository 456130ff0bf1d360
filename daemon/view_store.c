#include "daemon/view_store.h"

#include "base/fs.h"
#include "base/hash.h"
#include "daemon/events.h"
#include "daemon/loss_plot.h"
#include "daemon/quarantine.h"
#include "shards/manifest.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static int read_file(struct dp_view *v, const char *name, size_t bytes_max, struct dp_buf *b, struct dp_err *e)
{
    char *path = dp_view_path(v, name);
    dp_buf_init(b, bytes_max);
    int rc = path ? dp_fs_read(path, b, e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", name);
    free(path);
    return rc;
}

static void key_next(struct dp_jsonw *w, int64_t next)
{
    dp_jsonw_key(w, "next");
    if (next) dp_jsonw_int(w, next);
    else dp_jsonw_null(w);
}

/* --- languages --- */

enum { LANGUAGES = 256, LANGUAGE_COUNTS = 3 };
static const char *const language_count[LANGUAGE_COUNTS] = {"documents", "bytes", "tokens"};

struct languages {
    struct dp_view *view;
    struct {
        char name[16];
        int64_t count[LANGUAGE_COUNTS];
    } v[LANGUAGES];
    size_t n;
};

static void add_language(struct languages *l, const char *name, const struct dp_json *counts)
{
    size_t i = 0;
    while (i < l->n && strcmp(l->v[i].name, name) != 0) i++;
    if (i == LANGUAGES) return;
    if (i == l->n) snprintf(l->v[l->n++].name, sizeof l->v->name, "%s", name);
    for (int k = 0; k < LANGUAGE_COUNTS; k++) l->v[i].count[k] += dp_json_int(dp_json_get(counts, language_count[k]), 0);
}

static int add_languages(void *ctx, const struct dp_view_artifact *a, struct dp_err *e)
{
    struct languages *l = ctx;
    struct dp_buf b;
    struct dp_json *root = NULL, *counts;
    const char *name;
    struct dp_err gone;
    (void)e;
    if (read_file(l->view, a->name, 1 << 20, &b, &gone) >= 0 && dp_json_parse(&root, dp_buf_span(&b), a->name, &gone) >= 0)
        for (void *it = dp_json_next(root, NULL, &name, &counts); it; it = dp_json_next(root, it, &name, &counts)) add_language(l, name, counts);
    dp_json_free(root);
    dp_buf_release(&b);
    return DP_OK;
}

int dp_view_languages(struct dp_view *v, struct dp_jsonw *w, struct dp_err *e)
{
    struct languages *l = calloc(1, sizeof *l);
    if (!l) DP_FAIL(e, NOMEM, "languages");
    l->view = v;
    int rc = dp_view_artifacts(v, "tokenize", "tokens", add_languages, l, e);
    dp_jsonw_begin(w, '{');
    dp_jsonw_key(w, "languages");
    dp_jsonw_begin(w, '[');
    for (size_t i = 0; i < l->n; i++) {
        dp_jsonw_begin(w, '{');
        dp_jsonw_member(w, "language", l->v[i].name);
        for (int k = 0; k < LANGUAGE_COUNTS; k++) dp_jsonw_member_int(w, language_count[k], l->v[i].count[k]);
        dp_jsonw_end(w, '}');
    }
    dp_jsonw_end(w, ']');
    dp_jsonw_end(w, '}');
    free(l);
    return rc;
}

/* --- sources by root --- */

struct came { /* of units that are done */
    int64_t units, documents, text_bytes, dropped;
};
struct root {
    const char *path;
    int64_t files, bytes, newest;
    int64_t pending, failed, pending_bytes, oldest_pending; /* files */
    struct came came;
};
struct roots {
    struct root *v; /* the first is the rest's */
    size_t n;
    struct came across;
    /* the unit at hand */
    int64_t left; /* files of it to come */
    bool done, failed;
    struct root *root; /* of its files so far; NULL: several */
    struct came unit;
};

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct root *)a)->path, ((const struct root *)b)->path);
}

static int larger_first(const void *a, const void *b)
{
    const struct root *x = a, *y = b;
    return x->bytes != y->bytes ? (x->bytes < y->bytes ? 1 : -1) : strcmp(x->path, y->path);
}

/* The nearest root above a path (or itself), looked for from below: as many searches as it has folders, however many roots there are. */
static struct root *root_of(const struct roots *r, const char *path)
{
    char text[4096];
    snprintf(text, sizeof text, "%s", path);
    for (char *slash = text + strlen(text); slash; slash = strrchr(text, '/')) {
        const struct root key = {.path = *text ? (*slash = 0, text) : text};
        struct root *found = r->n > 1 && *text ? bsearch(&key, r->v + 1, r->n - 1, sizeof *r->v, by_path) : NULL;
        if (found) return found;
    }
    return &r->v[0];
}

static void add_came(struct came *to, const struct came *c)
{
    to->units += c->units;
    to->documents += c->documents;
    to->text_bytes += c->text_bytes;
    to->dropped += c->dropped;
}

static int add_file(void *ctx, const struct dp_view_file *f, struct dp_err *e)
{
    struct roots *r = ctx;
    struct root *root = root_of(r, f->path);
    (void)e;
    root->files++;
    root->bytes += f->bytes;
    if (f->modified > root->newest) root->newest = f->modified;
    if (f->again) return DP_OK;
    if (f->files > 0) {
        r->left = f->files;
        r->done = strcmp(f->state, "done") == 0;
        r->failed = strcmp(f->state, "failed") == 0;
        r->unit = (struct came){r->done, f->documents, f->text_bytes, f->dropped};
        r->root = root;
    }
    bool planned = r->left > 0;
    if (root != r->root) r->root = NULL;
    if (!planned || !r->done) {
        root->pending++;
        root->failed += planned && r->failed;
        root->pending_bytes += f->bytes;
        if (!root->oldest_pending || f->modified < root->oldest_pending) root->oldest_pending = f->modified;
    }
    if (planned && --r->left == 0 && r->done) add_came(r->root ? &r->root->came : &r->across, &r->unit);
    return DP_OK;
}

static void print_came(const struct came *c, struct dp_jsonw *w)
{
    dp_jsonw_member_int(w, "units", c->units);
    dp_jsonw_member_int(w, "documents", c->documents);
    dp_jsonw_member_int(w, "text_bytes", c->text_bytes);
    dp_jsonw_member_int(w, "dropped", c->dropped);
}

static void print_root(const struct root *r, struct dp_jsonw *w)
{
    const struct {
        const char *key;
        int64_t v;
    } n[] = {{"files", r->files}, {"bytes", r->bytes}, {"newest", r->newest}, {"pending", r->pending}, {"failed", r->failed}, {"pending_bytes", r->pending_bytes},
             {"oldest_pending", r->oldest_pending}};
    dp_jsonw_begin(w, '{');
    dp_jsonw_member(w, "root", r->path);
    for (size_t i = 0; i < sizeof n / sizeof *n; i++) dp_jsonw_member_int(w, n[i].key, n[i].v);
    print_came(&r->came, w);
    dp_jsonw_end(w, '}');
}

int dp_view_roots(struct dp_view *v, const struct dp_strings *roots, struct dp_jsonw *w, struct dp_err *e)
{
    struct roots r = {.v = calloc(roots->n + 1, sizeof *r.v), .n = 1};
    if (!r.v) DP_FAIL(e, NOMEM, "list of sources");
    r.v[0].path = "";
    for (size_t i = 0; i < roots->n; i++) r.v[r.n++].path = roots->v[i];
    qsort(r.v + 1, r.n - 1, sizeof *r.v, by_path);
    int rc = dp_view_files(v, add_file, &r, e);
    qsort(r.v, r.n, sizeof *r.v, larger_first);
    dp_jsonw_begin(w, '{');
    dp_jsonw_key(w, "roots");
    dp_jsonw_begin(w, '[');
    for (size_t i = 0; i < r.n && i < DP_VIEW_ROOTS; i++)
        if (*r.v[i].path || r.v[i].files) print_root(&r.v[i], w);
    dp_jsonw_end(w, ']');
    dp_jsonw_key(w, "across");
    dp_jsonw_begin(w, '{');
    print_came(&r.across, w);
    dp_jsonw_end(w, '}');
    dp_jsonw_end(w, '}');
    free(r.v);
    return rc;
}

/* --- shards --- */

struct present_manifest {
    struct dp_view *view;
    const struct dp_page *page;
    struct dp_jsonw *w;
    bool found;
    int64_t next;
};

static void print_shard(const struct dp_manifest_shard *s, struct dp_jsonw *w)
{
    dp_jsonw_begin(w, '{');
    dp_jsonw_member(w, "name", s->name);
    dp_jsonw_member_int(w, "tokens", (int64_t)s->tokens);
    dp_jsonw_member_int(w, "documents", (int64_t)s->documents);
    dp_jsonw_member_int(w, "bytes", (int64_t)s->bytes);
    dp_jsonw_member(w, "compression", s->packed ? "zstd" : "none");
    dp_jsonw_member(w, "sha256", s->sha256);
    dp_jsonw_end(w, '}');
}

static void print_manifest(struct present_manifest *p, const struct dp_view_artifact *a, const struct dp_manifest *m)
{
    char hash[DP_HEX128];
    struct dp_jsonw *w = p->w;
    int64_t bytes = 0;
    dp_hash128_hex(m->hash, hash);
    for (size_t i = 0; i < m->count; i++) bytes += (int64_t)m->shards[i].bytes;
    dp_jsonw_key(w, "manifest");
    dp_jsonw_begin(w, '{');
    dp_jsonw_member(w, "name", a->name);
    dp_jsonw_member(w, "hash", hash);
    dp_jsonw_member(w, "sha256", a->digest);
    dp_jsonw_member_int(w, "shards", (int64_t)m->count);
    dp_jsonw_member_int(w, "tokens", (int64_t)m->tokens);
    dp_jsonw_member_int(w, "documents", (int64_t)m->documents);
    dp_jsonw_member_int(w, "bytes", bytes);
    dp_jsonw_member_int(w, "vocab_size", (int64_t)m->meta.vocab_size);
    dp_jsonw_end(w, '}');
    dp_jsonw_key(w, "shards");
    dp_jsonw_begin(w, '[');
    size_t first = p->page->after < (int64_t)m->count ? (size_t)p->page->after : m->count, end = first + (size_t)p->page->limit;
    for (size_t i = first; i < m->count && i < end; i++) print_shard(&m->shards[i], w);
    dp_jsonw_end(w, ']');
    p->next = end < m->count ? (int64_t)end : 0;
}

static int take_manifest(void *ctx, const struct dp_view_artifact *a, struct dp_err *e)
{
    struct present_manifest *p = ctx;
    struct dp_manifest *m = NULL;
    struct dp_err gone;
    if (p->found) return DP_OK;
    char *path = dp_view_path(p->view, a->name);
    if (!path) DP_FAIL(e, NOMEM, "%s", a->name);
    if (dp_manifest_read(&m, path, &gone) >= 0) {
        p->found = true;
        print_manifest(p, a, m);
    }
    dp_manifest_free(m);
    free(path);
    return DP_OK;
}

int dp_view_shards(struct dp_view *v, const struct dp_page *page, struct dp_jsonw *w, struct dp_err *e)
{
    struct present_manifest p = {.view = v, .page = page, .w = w};
    dp_jsonw_begin(w, '{');
    int rc = dp_view_artifacts(v, "shard", "manifest", take_manifest, &p, e);
    if (!p.found) {
        dp_jsonw_key(w, "manifest");
        dp_jsonw_null(w);
        dp_jsonw_key(w, "shards");
        dp_jsonw_begin(w, '[');
        dp_jsonw_end(w, ']');
    }
    key_next(w, p.next);
    dp_jsonw_end(w, '}');
    return rc;
}

/* --- training --- */

/* [[step, loss], ...], each the mean of the points that fall into one of DP_VIEW_POINTS shares of the steps. */
static void print_points(struct dp_jsonw *w, const char *key, const double *step, const double *loss, size_t n)
{
    size_t each = (n + DP_VIEW_POINTS - 1) / DP_VIEW_POINTS;
    dp_jsonw_key(w, key);
    dp_jsonw_begin(w, '[');
    for (size_t i = 0; i < n; i += each) {
        double sum = 0;
        size_t k = 0;
        for (; k < each && i + k < n; k++) sum += loss[i + k];
        dp_jsonw_begin(w, '[');
        dp_jsonw_real(w, step[i + k - 1]);
        dp_jsonw_real(w, sum / (double)k);
        dp_jsonw_end(w, ']');
    }
    dp_jsonw_end(w, ']');
}

int dp_view_training(struct dp_view *v, struct dp_jsonw *w, struct dp_err *e)
{
    char name[96] = "", key[64] = "";
    bool finished = false;
    struct dp_loss_log l = {0};
    struct dp_buf b;
    dp_buf_init(&b, 0);
    int rc = dp_view_loss(v, name, key, &finished, e);
    bool found = rc == DP_OK;
    if (found) {
        struct dp_err gone;
        if (read_file(v, name, (size_t)256 << 20, &b, &gone) < 0 || dp_loss_log_parse(&l, dp_buf_span(&b), name, &gone) < 0) found = false;
    }
    dp_jsonw_begin(w, '{');
    dp_jsonw_key(w, "run");
    if (found) dp_jsonw_str(w, dp_span(key, strnlen(key, DP_HEX128 - 1)));
    else dp_jsonw_null(w);
    dp_jsonw_key(w, "finished");
    dp_jsonw_bool(w, found && finished);
    dp_jsonw_member_int(w, "steps", l.n ? (int64_t)l.step[l.n - 1] : 0);
    print_points(w, "loss", l.step, l.loss, l.n);
    print_points(w, "val_loss", l.val_step, l.val_loss, l.n_val);
    dp_jsonw_end(w, '}');
    dp_loss_log_release(&l);
    dp_buf_release(&b);
    return rc < 0 ? rc : DP_OK;
}

/* --- quarantine --- */

struct quarantine_page {
    const struct dp_page *page;
    struct dp_jsonw *w;
    int64_t printed;
    char last[DP_QUARANTINE_NAME];
    bool more;
};

static int print_entry(void *ctx, const struct dp_quarantined *q, struct dp_err *e)
{
    struct quarantine_page *p = ctx;
    struct dp_jsonw *w = p->w;
    (void)e;
    if (p->printed == p->page->limit) {
        p->more = true;
        return DP_OK;
    }
    p->printed++;
    memcpy(p->last, q->name, sizeof p->last);
    const struct {
        const char *key, *text;
    } t[] = {{"name", q->name}, {"unit", q->unit}, {"path", q->path}, {"position", q->position}, {"url", q->url}, {"id", q->id}, {"stage", q->stage},
             {"reason", q->reason}, {"what", q->what}, {"state", q->state}};
    dp_jsonw_begin(w, '{');
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) dp_jsonw_member(w, t[i].key, t[i].text);
    dp_jsonw_member_int(w, "attempts", q->attempts);
    dp_jsonw_member_int(w, "time", q->time);
    dp_jsonw_member_int(w, "bytes", q->bytes);
    dp_jsonw_end(w, '}');
    return DP_OK;
}

int dp_view_quarantine(struct dp_workspace *ws, const struct dp_page *page, struct dp_jsonw *w, struct dp_err *e)
{
    const struct dp_quarantine_page names = {.after = *page->after_name ? page->after_name : NULL, .limit = (size_t)page->limit + 1};
    struct quarantine_page p = {.page = page, .w = w};
    dp_jsonw_begin(w, '{');
    dp_jsonw_key(w, "quarantine");
    dp_jsonw_begin(w, '[');
    int rc = dp_quarantine_each(ws, &names, print_entry, &p, e);
    dp_jsonw_end(w, ']');
    dp_jsonw_key(w, "next");
    if (p.more) dp_jsonw_cstr(w, p.last);
    else dp_jsonw_null(w);
    dp_jsonw_end(w, '}');
    return rc;
}
