/* Planning: what is registered becomes units, and units generations.
 *
 * Files of a folder are small and many, so several make a unit. The cut depends on the files' own content (a boundary behind every
 * file whose hash says so), so that a new file changes one unit and not all behind it. What the lineage has (daemon/lineage.h) stays in the units
 * it was in; only the rest is cut. */
#include "daemon/lineage.h"
#include "daemon/quarantine.h"

#include "base/progress.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    GROUP_BYTES = 16 << 20, /* a unit of small files is cut here at the latest */
    GROUP_FILES = 2048,
    GROUP_EVERY = 256,      /* and behind one file in so many, chosen by its hash */
    ALONE_BYTES = 8 << 20,  /* files from this size on are units of their own */
};

void dp_members_release(struct dp_members *m)
{
    for (size_t i = 0; i < m->n; i++) {
        free(m->v[i].path);
        free(m->v[i].name);
        free(m->v[i].prefix);
        free(m->v[i].digest);
    }
    free(m->v);
    *m = (struct dp_members){0};
}

static int add_member(void *ctx, const struct dp_source *s)
{
    struct dp_members *m = ctx;
    if (m->n == m->cap) {
        size_t cap = m->cap ? m->cap * 2 : 16;
        struct dp_member *v = realloc(m->v, cap * sizeof *v);
        if (!v) return DP_NOMEM;
        m->v = v;
        m->cap = cap;
    }
    struct dp_member *k = &m->v[m->n];
    *k = (struct dp_member){strdup(s->path), strdup(s->name), strdup(s->prefix), strdup(s->digest), (uint64_t)s->bytes, s->mtime_ns};
    m->n++;
    return k->path && k->name && k->prefix && k->digest ? DP_OK : DP_NOMEM;
}

static int add_lineage_member(void *ctx, const struct dp_lineage_member *k)
{
    return add_member(ctx, &k->source);
}

/* A unit of the lineage keeps its files by content, whatever came to the catalog since; one of a plan without lineage, or of a new generation,
 * has those that follow its first. */
int dp_road_members(struct dp_road *r, const struct dp_unit *u, struct dp_members *m, struct dp_err *e)
{
    struct dp_catalog *c = r->ws.catalog;
    *m = (struct dp_members){0};
    int rc = u->lineage   ? dp_catalog_lineage_members(c, u->lineage - 1, 1, add_lineage_member, m, e)
             : r->lineage ? dp_catalog_sources_fresh(c, u->first, (int64_t)u->members, add_member, m, e)
                          : dp_catalog_sources(c, u->first, (int64_t)u->members, add_member, m, e);
    if (rc == DP_NOMEM) dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "unit %s: its files", u->what);
    if (rc >= 0 && m->n != u->members) rc = dp_err_set(e, DP_BROKEN, 0, __FILE__, __LINE__, "unit %s: its files are not in the catalog any more", u->what);
    if (rc < 0) dp_members_release(m);
    return rc;
}

/* Files come in order, one by one; those of the unit at hand wait here until it is known where it ends. */
struct planning {
    struct dp_road *road;
    struct dp_members m;
    int64_t first; /* the source id of m.v[0] */
    uint64_t bytes;
    uint32_t rank;
    size_t cap;    /* of road->unit */
    struct dp_err *e;
    /* Of the lineage's units: the number of the one at hand, from 1, and its signature key as it was. */
    int64_t number;
    char sig[DP_HEX128];
    bool must_be_there; /* its sources */
};

static bool cut_behind(const struct dp_member *m)
{
    return dp_hash64(m->digest, strlen(m->digest), dp_hash64(m->prefix, strlen(m->prefix), 0)) % GROUP_EVERY == 0;
}

static int unit_keys(struct dp_road *r, struct dp_unit *u, const struct dp_members *m, struct dp_err *e)
{
    const struct dp_options *o = r->options;
    struct dp_keyer k;
    dp_keyer_init(&k, "ingest", DP_INGEST_VERSION);
    dp_keyer_options(&k, "ingest", dp_ingest_opts, &o->ingest);
    for (size_t i = 0; i < m->n; i++) {
        /* The name is a hint for the format, so it counts. */
        dp_keyer_add(&k, "name", m->v[i].name);
        dp_keyer_add(&k, "prefix", m->v[i].prefix);
        dp_keyer_add(&k, "digest", m->v[i].digest);
    }
    DP_TRY(dp_keyer_finish(&k, &u->ingest, e));
    u->origin = u->ingest;
    int64_t round = dp_quarantine_round(r->rounds, u->origin.hex);
    if (round) {
        char text[24];
        snprintf(text, sizeof text, "%lld", (long long)round);
        dp_keyer_init(&k, "ingest again", DP_INGEST_VERSION);
        dp_keyer_add(&k, "ingest", u->origin.hex);
        dp_keyer_add(&k, "round", text);
        DP_TRY(dp_keyer_finish(&k, &u->ingest, e));
    }
    size_t sig = dp_options_signature_stage(o);
    dp_keyer_init(&k, "clean", 1);
    dp_keyer_add(&k, "ingest", u->ingest.hex);
    for (size_t i = 0; i < sig; i++) {
        char version[16];
        snprintf(version, sizeof version, "%u", o->clean.type[i]->version);
        dp_keyer_add(&k, o->clean.type[i]->name, version);
        dp_keyer_options(&k, o->clean.type[i]->name, o->clean.type[i]->opts, o->clean.ctx[i]);
    }
    DP_TRY(dp_keyer_finish(&k, &u->docs, e));
    dp_keyer_init(&k, "signature", o->clean.type[sig]->version);
    dp_keyer_add(&k, "docs", u->docs.hex);
    dp_keyer_options(&k, "signature", o->clean.type[sig]->opts, o->clean.ctx[sig]);
    return dp_keyer_finish(&k, &u->sig, e);
}

/* The files at hand become the next unit. */
static int end_unit(struct planning *p)
{
    struct dp_road *r = p->road;
    struct dp_members *m = &p->m;
    char what[512];
    if (!m->n) return DP_OK;
    if (r->units == p->cap) {
        size_t cap = p->cap ? p->cap + p->cap / 2 : 64;
        struct dp_unit *v = realloc(r->unit, cap * sizeof *v);
        if (!v) DP_FAIL(p->e, NOMEM, "list of %zu units", cap);
        r->unit = v;
        p->cap = cap;
    }
    struct dp_unit *u = &r->unit[r->units];
    *u = (struct dp_unit){.first = p->first, .members = m->n, .bytes = p->bytes, .rank = p->rank, .lineage = p->number};
    if (m->n == 1) snprintf(what, sizeof what, "%s", m->v[0].name);
    else snprintf(what, sizeof what, "%.200s ... %.200s (%zu files)", m->v[0].name, m->v[m->n - 1].name, m->n);
    u->what = strdup(what);
    if (!u->what) DP_FAIL(p->e, NOMEM, "unit of %zu files", m->n);
    r->units++; /* dp_road_close frees it, even when its keys fail */
    int rc = unit_keys(r, u, m, p->e);
    dp_members_release(m);
    return rc;
}

static uint32_t rank_of(const struct dp_strings *first, const char *path)
{
    for (size_t i = 0; first && i < first->n; i++)
        if (dp_path_matches(first->v[i], path)) return (uint32_t)i;
    return UINT32_MAX;
}

static int plan_source(void *ctx, const struct dp_source *s)
{
    struct planning *p = ctx;
    DP_TRY(dp_progress_go_on(p->e));
    bool alone = !s->prefix[0] || s->bytes >= ALONE_BYTES;
    if (alone || p->m.n == GROUP_FILES || p->bytes >= GROUP_BYTES) DP_TRY(end_unit(p));
    if (!p->m.n) {
        p->first = s->id;
        p->bytes = 0;
        p->rank = UINT32_MAX;
    }
    uint32_t rank = rank_of(p->road->policy.first, s->path);
    if (rank < p->rank) p->rank = rank;
    p->bytes += (uint64_t)s->bytes;
    if (add_member(&p->m, s) < 0) DP_FAIL(p->e, NOMEM, "list of sources");
    return alone || cut_behind(&p->m.v[p->m.n - 1]) ? end_unit(p) : DP_OK;
}

/* --- what the lineage has --- */

/* The unit at hand is complete: is it the one that was? */
static int end_lineage_unit(struct planning *p)
{
    struct dp_road *r = p->road;
    if (!p->m.n || r->ended[0]) return DP_OK;
    DP_TRY(end_unit(p));
    const struct dp_unit *u = &r->unit[r->units - 1];
    if (strcmp(u->sig.hex, p->sig) == 0) return DP_OK;
    if (dp_quarantine_round(r->rounds, u->origin.hex)) dp_lineage_ends(r, "quarantined documents of %.200s are tried again", u->what);
    else dp_lineage_ends(r, "options of reading, cleaning or signatures changed");
    return DP_OK;
}

static int plan_lineage_member(void *ctx, const struct dp_lineage_member *k)
{
    struct planning *p = ctx;
    DP_TRY(dp_progress_go_on(p->e));
    if (p->road->ended[0]) return DP_OK;
    if (p->number != k->unit + 1) {
        DP_TRY(end_lineage_unit(p));
        p->number = k->unit + 1;
        p->first = k->source.id;
        p->bytes = 0;
        p->rank = UINT32_MAX;
        snprintf(p->sig, sizeof p->sig, "%s", k->sig);
    }
    if (p->must_be_there && !*k->source.path) dp_lineage_ends(p->road, "the source %.300s is gone, or was changed", k->source.name);
    uint32_t rank = rank_of(p->road->policy.first, k->source.path);
    if (rank < p->rank) p->rank = rank;
    p->bytes += (uint64_t)k->source.bytes;
    if (add_member(&p->m, &k->source) < 0) DP_FAIL(p->e, NOMEM, "list of sources");
    return DP_OK;
}

/* --- plans --- */

void dp_road_unit_release(struct dp_unit *u)
{
    free(u->what);
}

void dp_road_plan_release(struct dp_road *r)
{
    for (size_t i = 0; i < r->units; i++) dp_road_unit_release(&r->unit[i]);
    free(r->unit);
    free(r->gen);
    r->unit = NULL;
    r->gen = NULL;
    r->units = r->gens = r->lineage = 0;
}

/* Begins anew with the catalog's lineage; without when there is none, or when it isn't what it was (r->ended says why). */
static int plan_lineage(struct planning *p)
{
    struct dp_road *r = p->road;
    int64_t units = 0;
    DP_TRY(dp_lineage_load(r, &units, p->e));
    if (!r->gens) return DP_OK;
    int rc = dp_catalog_lineage_members(r->ws.catalog, 0, units, plan_lineage_member, p, p->e);
    if (rc >= 0) rc = end_lineage_unit(p);
    dp_members_release(&p->m);
    p->number = 0;
    DP_TRY(rc);
    if (!r->ended[0] && r->units != (size_t)units) dp_lineage_ends(r, "the catalog has %zu of its %lld units", r->units, (long long)units);
    if (!r->ended[0]) DP_TRY(dp_lineage_check_keys(r, p->e));
    if (!r->ended[0]) return DP_OK;
    dp_road_plan_release(r);
    p->cap = 0;
    return DP_OK;
}

static int plan_rest(struct planning *p)
{
    struct dp_road *r = p->road;
    size_t had = r->units;
    DP_TRY((r->lineage ? dp_catalog_sources_fresh : dp_catalog_sources)(r->ws.catalog, 0, -1, plan_source, p, p->e));
    DP_TRY(end_unit(p));
    if (r->units > had) DP_TRY(dp_lineage_add(r, had, p->e));
    return dp_road_dedup_key(r, p->e); /* so that who asks meanwhile finds what is done already */
}

static int plan_as(struct dp_road *r, bool lineage, bool rest, struct dp_err *e)
{
    struct planning p = {.road = r, .e = e, .must_be_there = rest};
    dp_road_plan_release(r);
    free(r->rounds);
    r->rounds = dp_quarantine_rounds(&r->ws);
    if (!r->disowned) r->ended[0] = 0;
    int rc = lineage && !r->disowned ? plan_lineage(&p) : DP_OK;
    if (rc >= 0 && rest) rc = plan_rest(&p);
    dp_members_release(&p.m);
    return rc;
}

int dp_road_plan(struct dp_road *r, bool rescan, struct dp_err *e)
{
    if (rescan) DP_TRY(dp_road_rescan(r, e));
    return plan_as(r, r->append, true, e);
}

int dp_road_plan_lineage(struct dp_road *r, struct dp_err *e)
{
    return plan_as(r, true, false, e);
}

void dp_road_drop_fresh(struct dp_road *r)
{
    if (!r->lineage) return;
    r->gens = r->lineage;
    size_t n = r->gen[r->gens - 1].first + r->gen[r->gens - 1].units;
    while (r->units > n) dp_road_unit_release(&r->unit[--r->units]);
}
