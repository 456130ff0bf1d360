#include "daemon/serve_feed.h"

#include "base/clock.h"
#include "base/tcp.h"
#include "daemon/control.h"
#include "daemon/events.h"
#include "daemon/feed_sources.h"
#include "shards/manifest.h"
#include "trainer_feed/feed_server.h"

#include <grp.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { GRACE_S = 60, MANIFESTS_MAX = 64 /* of those that are kept, that a state is compared with */, CLIENTS_TOLD = 256 };

/* A manifest that is read, or was lately. */
struct held {
    char *name; /* in store/ */
    char **files; /* its own name, then its shards' */
    size_t n;
    int readers;
    bool left; /* by the last one, and not refreshed since */
    double left_at; /* monotonic, without readers */
    struct held *next;
};

struct dp_serve_feed {
    struct dp_serve_feed_config c;
    struct dp_feed_server *server;
    struct dp_feed_options feed; /* strings ours */
    char *addr, *group, *token, *cert, *key, *client_ca;
    pthread_t thread;
    bool thread_up;
    atomic_bool ended;
    double began;
    pthread_mutex_t mu; /* held */
    struct held *held;
};

/* --- what is held --- */

static void free_held(struct held *h)
{
    for (size_t i = 0; i < h->n; i++) free(h->files[i]);
    free(h->files);
    free(h->name);
    free(h);
}

static int list_files(struct held *h, const char *path, struct dp_err *e)
{
    struct dp_manifest *m;
    DP_TRY(dp_manifest_read(&m, path, e));
    h->files = calloc(m->count + 1, sizeof *h->files);
    bool good = h->files && (h->files[h->n++] = strdup(h->name));
    for (size_t i = 0; good && i < m->count; i++) good = (h->files[h->n++] = strdup(m->shards[i].name)) != NULL;
    dp_manifest_free(m);
    return good ? DP_OK : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", path);
}

static int hold(struct dp_serve_feed *f, const char *name, const char *path, struct held **out, struct dp_err *e)
{
    int rc = DP_OK;
    pthread_mutex_lock(&f->mu);
    struct held *h = f->held;
    while (h && strcmp(h->name, name) != 0) h = h->next;
    if (!h) {
        h = calloc(1, sizeof *h);
        if (h) h->name = strdup(name);
        rc = h && h->name ? list_files(h, path, e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", path);
        if (rc >= 0) {
            h->next = f->held;
            f->held = h;
        } else if (h) free_held(h);
    }
    if (rc >= 0) h->readers++;
    pthread_mutex_unlock(&f->mu);
    *out = rc >= 0 ? h : NULL;
    return rc;
}

static void let_go(struct dp_serve_feed *f, struct held *h)
{
    if (!h) return;
    pthread_mutex_lock(&f->mu);
    h->left = --h->readers == 0;
    h->left_at = dp_now();
    pthread_mutex_unlock(&f->mu);
}

/* One held manifest after the other, so that the lock isn't kept over a write; held ones are freed only here. */
bool dp_serve_feed_refresh(struct dp_serve_feed *f, double keep_s)
{
    if (!f || keep_s <= 0) return true;
    pthread_mutex_lock(&f->mu);
    for (struct held **link = &f->held; *link;) {
        struct held *h = *link;
        if (!h->readers && dp_now() - h->left_at > keep_s) {
            *link = h->next;
            free_held(h);
            continue;
        }
        struct dp_err err = {0};
        bool read = h->readers > 0 || h->left;
        h->left = false;
        pthread_mutex_unlock(&f->mu);
        if (read && dp_catalog_refresh(f->c.ws->catalog, (const char *const *)h->files, h->n, (int64_t)time(NULL), &err) < 0)
            dp_event(DP_LOG_WARN, "feed", "%s: keeping what is read: %s", h->name, err.msg);
        pthread_mutex_lock(&f->mu);
        link = &h->next;
    }
    pthread_mutex_unlock(&f->mu);
    return dp_now() - f->began > (keep_s < GRACE_S ? keep_s : GRACE_S);
}

/* --- opening a feed --- */

struct reading {
    struct dp_options *options; /* for domains by source files: the workspace as it is now */
    struct dp_road road;
    bool road_open;
    struct dp_feed_sources *sources;
    struct held *held;
};

static void close_reading(void *ctx, void *own)
{
    struct reading *r = own;
    if (!r) return;
    dp_feed_sources_close(r->sources);
    if (r->road_open) dp_road_close(&r->road);
    if (r->options) dp_options_release(r->options);
    free(r->options);
    let_go(ctx, r->held);
    free(r);
}

static int open_road(struct dp_serve_feed *f, struct reading *r, const struct dp_feed_options *o, struct dp_err *e)
{
    if (o->domains ? !strstr(o->domains, "source:") : !o->mixture) return DP_OK;
    r->options = calloc(1, sizeof *r->options);
    if (!r->options) DP_FAIL(e, NOMEM, "feed");
    int rc = dp_options_init(r->options, e);
    if (rc < 0) {
        free(r->options);
        r->options = NULL;
        return rc;
    }
    DP_TRY(dp_road_open(&r->road, f->c.ws->dir, r->options, 1, 64 << 20, false, f->c.apply, f->c.ctx, e));
    r->road_open = true;
    DP_TRY(rc = dp_road_survey(&r->road, e));
    if (rc <= DP_STEP_SHARD) DP_FAIL(e, BUSY, "feed: domains by source files wait until the present state is complete; try again");
    return DP_OK;
}

struct names {
    struct dp_unit_name v[MANIFESTS_MAX];
    size_t n;
};
static int add_name(void *ctx, const struct dp_unit_name *u)
{
    struct names *k = ctx;
    k->v[k->n++] = *u;
    return DP_OK;
}
static int take_name(void *ctx, const struct dp_artifact *a)
{
    char **name = ctx;
    if (*name || strcmp(a->kind, "manifest") != 0) return DP_OK;
    *name = strdup(a->name);
    return *name ? DP_OK : DP_NOMEM;
}

/* One manifest: open, and fit for the state. */
static int open_one(struct dp_serve_feed *f, struct reading *r, const struct dp_unit_name *u, struct dp_feed **feed, const struct dp_feed_options *o,
                    const struct dp_feed_state *state, struct dp_err *e)
{
    char *name = NULL, *path = NULL;
    int rc = dp_catalog_artifacts(f->c.ws->catalog, u->stage, u->key, take_name, &name, e);
    if (rc >= 0 && !name) rc = dp_err_set(e, DP_NOTFOUND, 0, __FILE__, __LINE__, "feed: a manifest was removed just now; try again");
    if (rc >= 0 && !(path = dp_workspace_store_path(f->c.ws, name))) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "feed");
    if (rc >= 0) rc = dp_feed_sources_open(&r->sources, feed, r->road_open ? &r->road : NULL, path, o, e);
    if (rc >= 0 && state) rc = dp_feed_resume(*feed, state, e);
    if (rc >= 0) rc = hold(f, name, path, &r->held, e);
    free(name);
    free(path);
    if (rc >= 0) return rc;
    dp_feed_close(*feed);
    dp_feed_sources_close(r->sources);
    *feed = NULL;
    r->sources = NULL;
    return rc;
}

/* The first of them that opens, and goes with the state. What is said is about the newest, unless another is worse than of other data. */
static int open_first(struct dp_serve_feed *f, struct reading *r, const struct names *k, struct dp_feed **feed, const struct dp_feed_options *o,
                      const struct dp_feed_state *state, struct dp_err *e)
{
    struct dp_err other;
    int rc, first = dp_err_set(e, DP_BUSY, 0, __FILE__, __LINE__, "feed: %s has no complete manifest yet; try again", f->c.ws->dir);
    for (size_t i = 0; i < k->n; i++) {
        rc = open_one(f, r, &k->v[i], feed, o, state, i ? &other : e);
        if (rc >= 0) return rc;
        if (!i) first = rc;
        if (rc == DP_NOTFOUND || (state && rc == DP_CONFIG)) continue; /* removed while it was being opened; other data */
        if (i) *e = other;
        return rc;
    }
    return first;
}

static int open_reading(void *ctx, struct dp_feed **feed, void **own, const struct dp_feed_options *o, const struct dp_feed_state *state, struct dp_err *e)
{
    struct dp_serve_feed *f = ctx;
    struct names k = {.n = 0};
    struct reading *r = calloc(1, sizeof *r);
    *feed = NULL;
    *own = NULL;
    if (!r) DP_FAIL(e, NOMEM, "feed");
    int rc = open_road(f, r, o, e);
    if (rc >= 0) rc = dp_catalog_newest_shards(f->c.ws->catalog, state ? MANIFESTS_MAX : 2, add_name, &k, e);
    if (rc >= 0) rc = open_first(f, r, &k, feed, o, state, e);
    if (rc < 0) close_reading(f, r);
    else *own = r;
    return rc;
}

/* --- the server --- */

static bool admit(void *ctx, int sock)
{
    const struct dp_serve_feed *f = ctx;
    uid_t uid;
    return dp_unix_peer_allowed(sock, f->group, &uid);
}

static void *feed_main(void *arg)
{
    struct dp_serve_feed *f = arg;
    struct dp_err err = {0};
    if (dp_feed_server_run(f->server, &err) < 0) dp_event(DP_LOG_ERROR, "feed", "the feed's server ended: %s", err.msg);
    atomic_store(&f->ended, true);
    return NULL;
}

static char *copy(const char *s, bool *good)
{
    char *p = s ? strdup(s) : NULL;
    if (s && !p) *good = false;
    return p;
}

static int copy_strings(struct dp_serve_feed *f, struct dp_err *e)
{
    const struct dp_options *o = f->c.options;
    bool good = true;
    f->feed = o->feed;
    f->feed.domains = copy(o->feed.domains, &good);
    f->feed.mixture = copy(o->feed.mixture, &good);
    f->addr = copy(f->c.addr, &good);
    f->group = copy(o->serve.group && *o->serve.group ? o->serve.group : NULL, &good);
    f->cert = copy(f->c.cert, &good);
    f->key = copy(f->c.key, &good);
    f->client_ca = copy(f->c.client_ca, &good);
    return good ? DP_OK : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "feed");
}

static int open_to_group(const struct dp_serve_feed *f, struct dp_err *e)
{
    if (!f->group || f->c.listener > 0 || !dp_feed_addr_is_path(f->addr)) return DP_OK;
    const struct group *g = getgrnam(f->group);
    if (!g) DP_FAIL(e, CONFIG, "serve.group: there is no group \"%s\"", f->group);
    if (chown(f->addr, (uid_t)-1, g->gr_gid) != 0 || chmod(f->addr, 0660) != 0) DP_FAIL_SYS(e, "%s: cannot give it to group %s", f->addr, f->group);
    return DP_OK;
}

static int open_server(struct dp_serve_feed *f, struct dp_err *e)
{
    DP_TRY(copy_strings(f, e));
    if (f->c.token_file) DP_TRY(dp_secret_read(&f->token, f->c.token_file, e));
    struct dp_feed_server_options so = {.addr = f->addr, .feed = f->feed, .clients_max = (int)f->c.options->serve.feed_clients_max, .token = f->token,
        .cert = f->cert, .key = f->key, .client_ca = f->client_ca, .listener = f->c.listener, .admit = admit, .open = open_reading, .close = close_reading, .ctx = f};
    DP_TRY(dp_feed_server_open(&f->server, &so, e));
    DP_TRY(open_to_group(f, e));
    int sys = pthread_create(&f->thread, NULL, feed_main, f);
    f->thread_up = sys == 0;
    return sys ? dp_err_set(e, DP_NOMEM, sys, __FILE__, __LINE__, "cannot start the feed's thread") : DP_OK;
}

int dp_serve_feed_open(struct dp_serve_feed **out, const struct dp_serve_feed_config *c, struct dp_err *e)
{
    *out = NULL;
    struct dp_serve_feed *f = calloc(1, sizeof *f);
    if (!f) DP_FAIL(e, NOMEM, "feed");
    f->c = *c;
    f->began = dp_now();
    pthread_mutex_init(&f->mu, NULL);
    int rc = open_server(f, e);
    if (rc < 0) dp_serve_feed_close(f);
    else *out = f;
    return rc;
}

void dp_serve_feed_stop(struct dp_serve_feed *f)
{
    if (f && f->thread_up) dp_feed_server_stop(f->server);
}

bool dp_serve_feed_ended(struct dp_serve_feed *f)
{
    return !f || !f->thread_up || atomic_load(&f->ended);
}

void dp_serve_feed_close(struct dp_serve_feed *f)
{
    if (!f) return;
    dp_serve_feed_stop(f);
    if (f->thread_up) pthread_join(f->thread, NULL);
    dp_feed_server_close(f->server);
    for (struct held *h = f->held, *next; h; h = next) {
        next = h->next;
        free_held(h);
    }
    pthread_mutex_destroy(&f->mu);
    free(f->feed.domains);
    free(f->feed.mixture);
    free(f->addr);
    free(f->group);
    free(f->token);
    free(f->cert);
    free(f->key);
    free(f->client_ca);
    free(f);
}

/* --- telling --- */

static void print_client(struct dp_jsonw *w, const struct dp_feed_server_client *c)
{
    dp_jsonw_begin(w, '{');
    dp_jsonw_member(w, "peer", c->peer);
    dp_jsonw_member_int(w, "rank", c->rank);
    dp_jsonw_member_int(w, "world", c->world);
    dp_jsonw_member_int(w, "batch", c->batch);
    dp_jsonw_member_int(w, "seq_len", c->seq_len);
    dp_jsonw_member_int(w, "sample", (int64_t)c->sample);
    dp_jsonw_member_int(w, "batches", (int64_t)c->batches);
    dp_jsonw_key(w, "seconds");
    dp_jsonw_real(w, c->seconds);
    dp_jsonw_key(w, "ids_per_s");
    dp_jsonw_real(w, c->ids_per_s);
    dp_jsonw_end(w, '}');
}

void dp_serve_feed_print(struct dp_serve_feed *f, struct dp_jsonw *w)
{
    struct dp_feed_server_totals t;
    struct dp_feed_server_client *c = f ? calloc(CLIENTS_TOLD, sizeof *c) : NULL;
    if (!c) return;
    size_t n = dp_feed_server_list(f->server, c, CLIENTS_TOLD);
    dp_feed_server_totals(f->server, &t);
    dp_jsonw_key(w, "feed");
    dp_jsonw_begin(w, '{');
    dp_jsonw_member(w, "address", f->addr);
    if (dp_feed_server_port(f->server)) dp_jsonw_member_int(w, "port", dp_feed_server_port(f->server));
    dp_jsonw_member_int(w, "accepted", (int64_t)t.accepted);
    dp_jsonw_member_int(w, "refused", (int64_t)t.refused);
    dp_jsonw_member_int(w, "batches", (int64_t)t.batches);
    dp_jsonw_member_int(w, "ids", (int64_t)t.ids);
    dp_jsonw_key(w, "clients");
    dp_jsonw_begin(w, '[');
    for (size_t i = 0; i < n && i < CLIENTS_TOLD; i++) print_client(w, &c[i]);
    dp_jsonw_end(w, ']');
    dp_jsonw_end(w, '}');
    free(c);
}

void dp_serve_feed_totals(struct dp_serve_feed *f, struct dp_feed_server_totals *out)
{
    *out = (struct dp_feed_server_totals){0};
    if (f) dp_feed_server_totals(f->server, out);
}
