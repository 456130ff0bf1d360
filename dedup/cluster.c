/* Design. Every sorted lane is a stream of buckets: documents with the same key, best first. A bucket of two is the rule, one of a
 * million happens; so a bucket is walked, never held, with at most 64 leaders (documents similar to no leader before) and the
 * 32 latest of the others. A document gives an edge to each leader that it is similar to; one that has none becomes a leader, and
 * gives edges to the similar ones of the latest others. All edges, sorted by the worse document's rank, are then walked
 * once, best document first: one with an edge to a kept document is dropped for the most similar such.
 *
 * The leader of many may be dropped itself, for something in another bucket that the many aren't similar to. So who has edges to dropped
 * documents only is compared with their representatives and heirs; when none is similar, it is kept, and becomes
 * an heir of them: the next of the many finds it. Not taken: all pairs of a bucket (quadratic); the first member only (loses
 * every family of a bucket but one); rounds over the buckets without the dropped (chains of drifting documents settle
 * only some links a round).
 *
 * Walking runs on all lanes in parallel and writes edges only; deciding is one sequential pass over the edges. */
#include "base/progress.h"
#include "dedup/dedup_impl.h"
#include "dedup/heirs.h"

#include <stdlib.h>

enum { LEADERS_FIRST = 32, LEADERS = 64, OTHERS = 32, HASHES_MAX = 8, HEIR_OF_MAX = 4 };

static uint32_t doc_of(uint64_t rank)
{
    return (uint32_t)rank;
}

/* ---- exact ---- */

/* Keys are 64 bits of the 128-bit hash: documents of one key are compared by all of it. The cap on different hashes of one key
 * is only ever reached by crafted input, and then keeps too much. */
static int exact_lane(struct dp_dedup_state *s, size_t lane, struct dp_err *e)
{
    struct dp_extsort *x = s->lane[lane].exact;
    struct {
        struct dp_hash128 hash;
        uint32_t doc;
    } first[HASHES_MAX];
    size_t n = 0;
    uint64_t key = 0;
    uint32_t held = UINT32_MAX; /* the bucket's first, whose hash is not yet needed */
    int rc = DP_OK;
    struct dp_rec r;
    void *buf = malloc(s->sketch_bytes);
    if (!buf) DP_FAIL(e, NOMEM, "dedup: sketch");
    DP_TRY_OUT(dp_extsort_finish(x, e));
    DP_TRY_OUT(dp_extsort_rewind(x, e));
    for (bool start = true; (rc = dp_extsort_next(x, &r, e)) == DP_OK; start = false) {
        uint32_t doc = doc_of(r.val);
        if (start || r.key != key) {
            key = r.key;
            n = 0;
            held = doc;
            continue;
        }
        const struct dp_sketch *k;
        if (n == 0) {
            if (!(k = dp_sketch_get(s, held, buf, e))) DP_TRY_OUT(e ? (int)e->code : DP_IO);
            first[n].hash = k->hash;
            first[n++].doc = held;
        }
        if (!(k = dp_sketch_get(s, doc, buf, e))) DP_TRY_OUT(e ? (int)e->code : DP_IO);
        size_t i = 0;
        while (i < n && !dp_hash128_eq(first[i].hash, k->hash)) i++;
        if (i < n && doc < s->frozen) continue; /* one near duplicate twice: decided */
        if (i < n) {
            s->state[doc] = DP_ST_EXACT;
            s->rep[doc] = first[i].doc;
            s->sim[doc] = 1;
        } else if (n < HASHES_MAX) {
            first[n].hash = k->hash;
            first[n++].doc = doc;
        }
    }
    if (rc == DP_EOF) rc = DP_OK;
out:
    dp_extsort_close(x);
    s->lane[lane].exact = NULL;
    free(buf);
    return rc;
}

int dp_cluster_exact(struct dp_dedup_state *s, struct dp_err *e)
{
    return dp_lanes_run(s, exact_lane, e);
}

/* ---- near: the buckets ---- */

struct bucket {
    struct dp_dedup_state *s;
    struct dp_dedup_lane *lane;
    uint64_t key, held; /* the first live document's rank: its sketch is needed only when a second comes */
    size_t live;
    size_t leaders; /* from LEADERS_FIRST on a ring of the latest */
    size_t others;  /* a ring */
    uint64_t leader_ring, other_ring;
    uint32_t doc[LEADERS + OTHERS];
    bool blank[LEADERS]; /* of a frozen document, whose sketch is read when the first new one comes */
    char *sketch; /* LEADERS + OTHERS + 1 of them; the last is the candidate's */
};

static struct dp_sketch *slot(struct bucket *b, size_t i)
{
    return (struct dp_sketch *)(void *)(b->sketch + i * b->s->sketch_bytes);
}

static void remember(struct bucket *b, uint32_t doc, const struct dp_sketch *k, bool leader)
{
    size_t at;
    if (!leader) {
        at = LEADERS + b->other_ring++ % OTHERS;
        if (b->others < OTHERS) b->others++;
    } else if (b->leaders < LEADERS) at = b->leaders++;
    else at = LEADERS_FIRST + b->leader_ring++ % (LEADERS - LEADERS_FIRST);
    b->doc[at] = doc;
    if (leader) b->blank[at] = !k;
    if (k) memcpy(slot(b, at), k, b->s->sketch_bytes);
}

static int fill_blanks(struct bucket *b, struct dp_err *e)
{
    for (size_t i = 0; i < b->leaders; i++) {
        if (!b->blank[i]) continue;
        const struct dp_sketch *k = dp_sketch_get(b->s, b->doc[i], slot(b, i), e);
        if (!k) return e ? (int)e->code : DP_IO;
        if (k != slot(b, i)) memcpy(slot(b, i), k, b->s->sketch_bytes);
        b->blank[i] = false;
    }
    return DP_OK;
}

/* The worse is keyed by its rank, so that edges come back in the order of decisions. */
static int edge(struct bucket *b, uint32_t from, uint32_t to, uint32_t agree, struct dp_err *e)
{
    return dp_extsort_add(b->lane->edges, dp_rank(b->s, from), (uint64_t)to << 32 | agree, e);
}

/* Edges from doc to the similar ones of [from, end); *any: there was one. */
static int edges_to(struct bucket *b, uint32_t doc, const struct dp_sketch *k, size_t from, size_t end, bool *any, struct dp_err *e)
{
    const struct dp_dedup_state *s = b->s;
    for (size_t i = from; i < end; i++) {
        uint32_t agree = s->dsp.agree(k->slots, slot(b, i)->slots, s->slots);
        if (agree < s->agree_min) continue;
        *any = true;
        DP_TRY(edge(b, doc, b->doc[i], agree, e));
    }
    return DP_OK;
}

/* Frozen ones come first: all of them kept, so all are leaders, and nothing is asked of them. */
static int compare(struct bucket *b, uint32_t doc, struct dp_err *e)
{
    if (doc < b->s->frozen) {
        remember(b, doc, NULL, true);
        return DP_OK;
    }
    DP_TRY(fill_blanks(b, e));
    const struct dp_sketch *k = dp_sketch_get(b->s, doc, slot(b, LEADERS + OTHERS), e);
    bool follows = false, any = false;
    if (!k) return e ? (int)e->code : DP_IO;
    DP_TRY(edges_to(b, doc, k, 0, b->leaders, &follows, e));
    if (!follows) DP_TRY(edges_to(b, doc, k, LEADERS, LEADERS + b->others, &any, e));
    remember(b, doc, k, !follows);
    return DP_OK;
}

static int member(struct bucket *b, const struct dp_rec *r, struct dp_err *e)
{
    struct dp_dedup_state *s = b->s;
    uint32_t doc = doc_of(r->val);
    if (s->state[doc] == DP_ST_EXACT) return DP_OK;
    if (!b->live || r->key != b->key) {
        b->key = r->key;
        b->held = r->val;
        b->live = 1;
        b->leaders = b->others = 0;
        b->leader_ring = b->other_ring = 0;
        return DP_OK;
    }
    if (r->val == b->held) return DP_OK; /* two equal keys of one document: a 64-bit accident */
    b->live++;
    if (s->o->closure) return doc < s->frozen ? DP_OK : edge(b, doc, doc_of(b->held), 0, e);
    if (b->live == 2) DP_TRY(compare(b, doc_of(b->held), e));
    return compare(b, doc, e);
}

static int walk(struct dp_dedup_state *s, size_t lane, struct dp_err *e)
{
    struct dp_dedup_lane *l = &s->lane[lane];
    struct bucket b = {.s = s, .lane = l};
    struct dp_rec r;
    int rc = DP_OK;
    b.sketch = malloc((size_t)(LEADERS + OTHERS + 1) * s->sketch_bytes);
    if (!b.sketch) DP_FAIL(e, NOMEM, "dedup: %d sketches", LEADERS + OTHERS + 1);
    DP_TRY_OUT(dp_extsort_open(&l->edges, s->tmp_dir, "similar pairs", s->o->memory_bytes / 8 / DP_LANES, e));
    DP_TRY_OUT(dp_extsort_finish(l->bands, e));
    DP_TRY_OUT(dp_extsort_rewind(l->bands, e));
    while ((rc = dp_extsort_next(l->bands, &r, e)) == DP_OK) DP_TRY_OUT(member(&b, &r, e));
    if (rc < 0) goto out;
    dp_extsort_close(l->bands);
    l->bands = NULL;
    DP_TRY_OUT(dp_extsort_finish(l->edges, e));
    DP_TRY_OUT(dp_extsort_rewind(l->edges, e));
out:
    free(b.sketch);
    return rc;
}

/* ---- near: deciding ---- */

/* The lanes' sorted edges as one sorted stream. */
struct edges {
    struct dp_dedup_state *s;
    struct dp_rec head[DP_LANES];
    bool has[DP_LANES];
};

static int edges_pull(struct edges *m, size_t lane, struct dp_err *e)
{
    int rc = dp_extsort_next(m->s->lane[lane].edges, &m->head[lane], e);
    m->has[lane] = rc == DP_OK;
    return rc;
}

static int edges_open(struct edges *m, struct dp_dedup_state *s, struct dp_err *e)
{
    m->s = s;
    for (size_t i = 0; i < DP_LANES; i++) DP_TRY(edges_pull(m, i, e));
    return DP_OK;
}

static int edges_next(struct edges *m, struct dp_rec *r, struct dp_err *e)
{
    size_t best = DP_LANES;
    for (size_t i = 0; i < DP_LANES; i++) {
        if (!m->has[i]) continue;
        const struct dp_rec *a = &m->head[i], *b = best < DP_LANES ? &m->head[best] : NULL;
        if (!b || a->key < b->key || (a->key == b->key && a->val < b->val)) best = i;
    }
    if (best == DP_LANES) return DP_EOF;
    *r = m->head[best];
    DP_TRY(edges_pull(m, best, e));
    return DP_OK;
}

/* One document's edges, gathered and judged when the next one's begin. */
struct judge {
    struct dp_dedup_state *s;
    struct dp_heirs heirs;
    uint32_t doc, best, agree;
    bool any_doc, any_kept;
    uint32_t fallen[HEIR_OF_MAX]; /* dropped documents that doc is similar to: the first few */
    size_t n_fallen;
    char *sketch; /* two */
};

static void consider(struct judge *j, uint32_t to, uint32_t agree)
{
    const struct dp_dedup_state *s = j->s;
    if (j->any_kept && (agree < j->agree || (agree == j->agree && dp_rank(s, to) >= dp_rank(s, j->best)))) return;
    j->any_kept = true;
    j->best = to;
    j->agree = agree;
}

static void take_edge(struct judge *j, uint64_t val)
{
    uint32_t to = (uint32_t)(val >> 32);
    if (j->s->state[to] != DP_ST_NEAR) { /* better ones are judged already */
        consider(j, to, (uint32_t)val);
        return;
    }
    for (size_t i = 0; i < j->n_fallen; i++)
        if (j->fallen[i] == to) return;
    if (j->n_fallen < HEIR_OF_MAX) j->fallen[j->n_fallen++] = to;
}

/* Compare with what stands in for the fallen. */
static int ask_heirs(struct judge *j, struct dp_err *e)
{
    struct dp_dedup_state *s = j->s;
    const struct dp_sketch *own = dp_sketch_get(s, j->doc, j->sketch, e);
    if (!own) return e ? (int)e->code : DP_IO;
    for (size_t i = 0; i < j->n_fallen; i++) {
        uint32_t who[DP_HEIRS_MAX + 1];
        size_t n = dp_heirs_get(&j->heirs, j->fallen[i], who);
        who[n++] = s->rep[j->fallen[i]];
        for (size_t k = 0; k < n; k++) {
            const struct dp_sketch *other = dp_sketch_get(s, who[k], j->sketch + s->sketch_bytes, e);
            if (!other) return e ? (int)e->code : DP_IO;
            uint32_t agree = s->dsp.agree(own->slots, other->slots, s->slots);
            if (agree >= s->agree_min) consider(j, who[k], agree);
        }
    }
    return DP_OK;
}

/* All edges of j->doc were taken. */
static int settle(struct judge *j, struct dp_err *e)
{
    struct dp_dedup_state *s = j->s;
    if (!j->any_kept && j->n_fallen) DP_TRY(ask_heirs(j, e));
    if (j->any_kept) {
        s->state[j->doc] = DP_ST_NEAR;
        s->rep[j->doc] = j->best;
        s->sim[j->doc] = (float)j->agree / (float)s->slots;
    } else
        for (size_t i = 0; i < j->n_fallen; i++) DP_TRY(dp_heirs_add(&j->heirs, j->fallen[i], j->doc, e));
    return DP_OK;
}

static int decide(struct dp_dedup_state *s, struct dp_err *e)
{
    struct judge j = {.s = s};
    struct edges m;
    struct dp_rec r;
    int rc = DP_OK, more;
    j.sketch = malloc(2 * (size_t)s->sketch_bytes);
    if (!j.sketch) DP_FAIL(e, NOMEM, "dedup: sketches");
    DP_TRY_OUT(edges_open(&m, s, e));
    do {
        DP_TRY_OUT(more = edges_next(&m, &r, e));
        if (j.any_doc && (more == DP_EOF || doc_of(r.key) != j.doc)) DP_TRY_OUT(settle(&j, e));
        if (more == DP_EOF) break;
        if (!j.any_doc || doc_of(r.key) != j.doc) {
            j.any_doc = true;
            j.doc = doc_of(r.key);
            j.any_kept = false;
            j.n_fallen = 0;
        }
        take_edge(&j, r.val);
    } while (true);
    rc = DP_OK;
out:
    dp_heirs_release(&j.heirs);
    free(j.sketch);
    return rc;
}

/* ---- closure ---- */

static uint32_t root_of(uint32_t *parent, uint32_t d)
{
    while (parent[d] != d) {
        parent[d] = parent[parent[d]];
        d = parent[d];
    }
    return d;
}

enum { SIMILARITY_TASK = 4096 };
/* Lane i takes every 16th block of documents. */
static int similarity_lane(struct dp_dedup_state *s, size_t lane, struct dp_err *e)
{
    int rc = DP_OK;
    char *buf = malloc(2 * (size_t)s->sketch_bytes);
    if (!buf) DP_FAIL(e, NOMEM, "dedup: sketches");
    for (uint64_t from = lane * SIMILARITY_TASK; from < s->docs; from += (uint64_t)DP_LANES * SIMILARITY_TASK)
        for (uint64_t d = from; d < s->docs && d < from + SIMILARITY_TASK; d++) {
            if (d == from) DP_TRY_OUT(dp_progress_go_on(e));
            if (s->state[d] != DP_ST_NEAR || d < s->frozen) continue;
            const struct dp_sketch *p = dp_sketch_get(s, (uint32_t)d, buf, e);
            const struct dp_sketch *q = p ? dp_sketch_get(s, s->rep[d], buf + s->sketch_bytes, e) : NULL;
            if (!q) DP_TRY_OUT(e ? (int)e->code : DP_IO);
            s->sim[d] = (float)s->dsp.agree(p->slots, q->slots, s->slots) / (float)s->slots;
        }
out:
    free(buf);
    return rc;
}

/* Union-find with the better document as root. The rep of an exact duplicate holds its representative and stays out:
 * exact duplicates have no edges. */
static int closure(struct dp_dedup_state *s, struct dp_err *e)
{
    DP_TRY(dp_lanes_run(s, walk, e));
    for (uint32_t d = 0; d < s->docs; d++)
        if (s->state[d] == DP_ST_KEPT) s->rep[d] = d;
    for (size_t i = 0; i < DP_LANES; i++) {
        struct dp_rec r;
        int rc;
        while ((rc = dp_extsort_next(s->lane[i].edges, &r, e)) == DP_OK) {
            uint32_t a = root_of(s->rep, doc_of(r.key)), b = root_of(s->rep, (uint32_t)(r.val >> 32));
            if (a == b || (a < s->frozen && b < s->frozen)) continue; /* two that were decided stay two */
            if (dp_rank(s, a) < dp_rank(s, b)) s->rep[b] = a;
            else s->rep[a] = b;
        }
        DP_TRY(rc);
    }
    for (uint32_t d = 0; d < s->docs; d++) {
        if (d % DP_LOOK_DOCS == 0) DP_TRY(dp_progress_go_on(e));
        if (s->state[d] != DP_ST_KEPT) continue;
        uint32_t root = root_of(s->rep, d);
        s->rep[d] = root;
        if (root != d) s->state[d] = DP_ST_NEAR;
    }
    return dp_lanes_run(s, similarity_lane, e);
}

int dp_cluster_near(struct dp_dedup_state *s, struct dp_err *e)
{
    if (s->o->closure) return closure(s, e);
    DP_TRY(dp_lanes_run(s, walk, e));
    return decide(s, e);
}
