/* Keys, look-ups and publishing, shared by the steps. The order of publishing is base/catalog.h's rule 2. */
#include "daemon/road.h"

#include "base/fs.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LEASE_S = 3600 };

void dp_keyer_init(struct dp_keyer *k, const char *step, uint32_t version)
{
    dp_buf_init(&k->text, (size_t)1 << 30);
    dp_buf_printf(&k->text, "dpipe %s %u\n", step, version);
}

void dp_keyer_add(struct dp_keyer *k, const char *name, const char *value)
{
    dp_buf_printf(&k->text, "%s %zu ", name, strlen(value)); /* lengths: no two lists of values spell the same text */
    dp_buf_add_str(&k->text, value);
    dp_buf_add_char(&k->text, '\n');
}

void dp_keyer_options(struct dp_keyer *k, const char *section, const struct dp_opt *rows, const void *base)
{
    dp_buf_printf(&k->text, "[%s]\n", section);
    dp_opt_canonical(rows, base, &k->text);
}

int dp_keyer_finish(struct dp_keyer *k, struct dp_key *key, struct dp_err *e)
{
    int rc = dp_buf_check(&k->text, "artifact key", e);
    if (rc >= 0) dp_hash128_hex(dp_hash128(k->text.ptr, k->text.len), key->hex);
    dp_buf_release(&k->text);
    return rc;
}

struct find {
    const char *kind;
    size_t skip;
    struct dp_found *f;
};

static int find_row(void *ctx, const struct dp_artifact *a)
{
    struct find *k = ctx;
    if (k->f->name || (k->kind && strcmp(a->kind, k->kind) != 0) || k->skip-- > 0) return DP_OK;
    *k->f = (struct dp_found){strdup(a->name), strdup(a->digest), a->bytes, a->docs, a->payload};
    return k->f->name && k->f->digest ? DP_OK : DP_NOMEM;
}

int dp_road_find(struct dp_road *r, const char *stage, const char *key, const char *kind, size_t k, struct dp_found *f, struct dp_err *e)
{
    struct find ctx = {kind, k, f};
    *f = (struct dp_found){0};
    DP_TRY(dp_catalog_artifacts(r->ws.catalog, stage, key, find_row, &ctx, e));
    return f->name ? DP_OK : DP_EMPTY;
}

void dp_found_release(struct dp_found *f)
{
    free(f->name);
    free(f->digest);
    *f = (struct dp_found){0};
}

char *dp_road_path(struct dp_road *r, const char *stage, const char *key, const char *kind, size_t k, struct dp_err *e)
{
    struct dp_found f;
    int rc = dp_road_find(r, stage, key, kind, k, &f, e);
    char *p = rc == DP_OK ? dp_workspace_store_path(&r->ws, f.name) : NULL;
    if (rc == DP_EMPTY) dp_err_set(e, DP_NOTFOUND, 0, __FILE__, __LINE__, "no %s of step %s yet: make it with `dpipe run --until %s`", kind, stage, stage);
    else if (rc == DP_OK && !p) dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", kind);
    dp_found_release(&f);
    return p;
}

int dp_publish_claim(struct dp_publish *p, struct dp_road *r, const char *stage, const struct dp_key *key, const char *what, struct dp_err *e)
{
    p->road = r;
    p->stage = stage;
    p->key = *key;
    p->n = 0;
    p->unit = p->epoch = 0;
    p->lineage = NULL;
    return dp_catalog_claim(r->ws.catalog, stage, key->hex, what, r->ws.owner, LEASE_S, &p->unit, &p->epoch, e);
}

int dp_publish_add(struct dp_publish *p, const char *kind, const char *name, char **path, size_t *i, struct dp_err *e)
{
    if (p->n == sizeof p->a / sizeof *p->a) DP_FAIL(e, LIMIT, "more than %zu artifacts in one unit", p->n);
    *path = dp_workspace_tmp_path(&p->road->ws, name);
    if (!*path) DP_FAIL(e, NOMEM, "%s", name);
    unlink(*path); /* of an attempt that failed in this run */
    *i = p->n++;
    snprintf(p->name[*i], sizeof p->name[*i], "%s", name);
    p->a[*i] = (struct dp_artifact){.kind = kind, .name = p->name[*i], .digest = p->digest[*i]};
    return DP_OK;
}

int dp_publish_file(struct dp_publish *p, const char *kind, const char *name, struct dp_span content, struct dp_err *e)
{
    char *path;
    size_t i;
    struct dp_out *o = NULL;
    DP_TRY(dp_publish_add(p, kind, name, &path, &i, e));
    int rc = dp_out_open(&o, path, true, e);
    if (rc >= 0) rc = dp_out_add(o, content.ptr, content.len, e);
    if (rc >= 0) rc = dp_out_finish(o, p->digest[i], e);
    p->a[i].bytes = (int64_t)content.len;
    dp_out_close(o);
    free(path);
    return rc;
}

int dp_publish_commit(struct dp_publish *p, const char *const *parents, size_t nparents, const struct dp_unit_count *counts, size_t ncounts,
                      struct dp_err *e)
{
    const char *names[64];
    for (size_t i = 0; i < p->n; i++) {
        names[i] = p->name[i];
        char *path = dp_workspace_tmp_path(&p->road->ws, p->name[i]);
        struct stat st;
        if (!path) DP_FAIL(e, NOMEM, "%s", p->name[i]);
        if (stat(path, &st) == 0) p->a[i].bytes = (int64_t)st.st_size;
        free(path);
    }
    DP_TRY(dp_workspace_publish(&p->road->ws, names, p->n, e));
    return dp_catalog_done_lineage(p->road->ws.catalog, p->unit, p->epoch, p->key.hex, p->a, p->n, parents, nparents, counts, ncounts, p->lineage, e);
}

void dp_publish_abort(struct dp_publish *p, const struct dp_err *why)
{
    for (size_t i = 0; i < p->n; i++) {
        char *path = dp_workspace_tmp_path(&p->road->ws, p->name[i]);
        if (path) unlink(path);
        free(path);
    }
    p->n = 0;
    if (!p->unit) return;
    struct dp_catalog *c = p->road->ws.catalog;
    struct dp_catalog_retry retry = p->road->policy.retry;
    bool changed = why->code == DP_BUSY && p->road->policy.go_on; /* a source went or changed: no failure of the unit */
    if (why->code == DP_STOPPED || why->code == DP_NOSPACE || changed) dp_catalog_give_back(c, p->unit, p->epoch, NULL);
    else if (p->road->policy.go_on) {
        retry.jitter = (double)(dp_hash128(&p->epoch, sizeof p->epoch).lo ^ dp_hash128(p->key.hex, strlen(p->key.hex)).lo) / 18446744073709551616.0;
        dp_catalog_failed_for(c, p->unit, p->epoch, why->msg, &retry, NULL);
    } else dp_catalog_failed(c, p->unit, p->epoch, why->msg, NULL);
}
