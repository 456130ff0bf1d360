#include "daemon/retire.h"

#include "base/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int by_name(const void *a, const void *b)
{
    const struct dp_unit_name *x = a, *y = b;
    int c = strcmp(x->stage, y->stage);
    return c ? c : strcmp(x->key, y->key);
}

void dp_retire_release(struct dp_retire *t)
{
    free(t->present);
    *t = (struct dp_retire){0};
}

struct list {
    struct dp_unit_name *v;
    size_t n, cap;
};

static int add(void *ctx, const struct dp_unit_name *u)
{
    struct list *l = ctx;
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 256;
        struct dp_unit_name *v = realloc(l->v, cap * sizeof *v);
        if (!v) return DP_NOMEM;
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = *u;
    return DP_OK;
}

static int add_key(struct list *l, const char *stage, const struct dp_key *key)
{
    struct dp_unit_name u = {"", ""};
    snprintf(u.stage, sizeof u.stage, "%s", stage);
    snprintf(u.key, sizeof u.key, "%s", key->hex);
    return key->hex[0] ? add(l, &u) : DP_OK;
}

static int list_state(struct list *l, const struct dp_road *r, enum dp_step until)
{
    int rc = DP_OK;
    for (size_t i = 0; rc >= 0 && i < r->units; i++) {
        struct dp_key keep;
        dp_keep_key(r, i, &keep);
        rc = add_key(l, "ingest", &r->unit[i].ingest);
        if (rc >= 0 && until >= DP_STEP_CLEAN) rc = add_key(l, "clean", &r->unit[i].docs);
        if (rc >= 0 && until >= DP_STEP_DEDUP) rc = add_key(l, "signature", &r->unit[i].sig);
        if (rc >= 0 && until >= DP_STEP_DEDUP) rc = add_key(l, "keep", &keep);
    }
    for (size_t i = 0; rc >= 0 && until >= DP_STEP_DEDUP && i < r->gens; i++) rc = add_key(l, "dedup", &r->gen[i].dedup);
    if (rc >= 0 && until >= DP_STEP_TRAIN_BPE) rc = add_key(l, "train-bpe", &r->bpe);
    for (size_t i = 0; rc >= 0 && until >= DP_STEP_TOKENIZE && i < r->groups; i++) rc = add_key(l, "tokenize", &r->group[i].key);
    if (rc >= 0 && until >= DP_STEP_SHARD) rc = add_key(l, "shard", &r->shard);
    if (rc >= 0 && until >= DP_STEP_TRAIN) rc = add_key(l, "train", &r->train);
    return rc;
}

/* What is in a and not in b, both sorted. */
static int difference(struct list *out, const struct dp_unit_name *a, size_t n, const struct dp_unit_name *b, size_t m)
{
    int rc = DP_OK;
    for (size_t i = 0, k = 0; rc >= 0 && i < n; i++) {
        while (k < m && by_name(&b[k], &a[i]) < 0) k++;
        if (k == m || by_name(&b[k], &a[i]) != 0) rc = add(out, &a[i]);
    }
    return rc;
}

static int load(struct dp_retire *t, const struct dp_road *r, struct dp_err *e)
{
    struct list l = {0};
    int rc = dp_catalog_present(r->ws.catalog, add, &l, e);
    if (rc < 0) {
        free(l.v);
        return rc;
    }
    if (l.n) qsort(l.v, l.n, sizeof *l.v, by_name);
    *t = (struct dp_retire){.present = l.v, .n = l.n, .loaded = true};
    return DP_OK;
}

int dp_retire_note(struct dp_retire *t, const struct dp_road *r, enum dp_step until, struct dp_err *e)
{
    struct list now = {0}, gone = {0}, came = {0};
    if (!t->loaded) DP_TRY(load(t, r, e));
    int rc = list_state(&now, r, until);
    if (rc >= 0 && now.n) qsort(now.v, now.n, sizeof *now.v, by_name);
    if (rc >= 0) rc = difference(&gone, t->present, t->n, now.v, now.n);
    if (rc >= 0) rc = difference(&came, now.v, now.n, t->present, t->n);
    if (rc < 0) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "list of what is up to date");
    if (rc >= 0) rc = dp_catalog_supersede(r->ws.catalog, gone.v, gone.n, came.v, came.n, (int64_t)time(NULL), e);
    if (rc >= 0 && !t->swept) {
        rc = dp_catalog_supersede_rest(r->ws.catalog, (int64_t)time(NULL), e);
        t->swept = rc >= 0;
    }
    if (rc >= 0) {
        free(t->present);
        t->present = now.v;
        t->n = now.n;
        now.v = NULL;
    }
    free(now.v);
    free(gone.v);
    free(came.v);
    return rc < 0 ? rc : DP_OK;
}

int dp_retire_remove(struct dp_road *r, double keep_s, size_t max, size_t *removed, struct dp_err *e)
{
    struct list l = {0};
    *removed = 0;
    if (keep_s <= 0) return DP_OK;
    int rc = dp_catalog_superseded(r->ws.catalog, (int64_t)time(NULL) - (int64_t)keep_s, (int64_t)max, add, &l, e);
    for (size_t i = 0; rc >= 0 && i < l.n && !dp_road_held(r); i++) {
        rc = dp_catalog_forget(r->ws.catalog, l.v[i].stage, l.v[i].key, dp_workspace_unlink, &r->ws, e);
        *removed += rc >= 0;
        dp_progress_tick();
    }
    free(l.v);
    return rc < 0 ? rc : DP_OK;
}
