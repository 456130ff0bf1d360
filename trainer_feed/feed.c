/* The feed: sample -> domain and draw -> order -> row -> pieces of shards -> int32 row. Everything on that way (feed_row.c) is
 * arithmetic on immutable state; what moves is the cursor of dp_feed_next, and at reload and resume the layouts.
 *
 * Ids are range-checked while they are widened (the maximum costs nothing beside the loads), so a trainer can index its
 * embedding without asking again; checksums are `dpipe verify`'s work unless asked for, since a random row pays for a frame 32
 * times its size until every frame has been seen once. */
#include "trainer_feed/feed_internal.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* --- layouts --- */

static void layout_free(struct dp_feed_layout *l)
{
    if (!l) return;
    dp_feed_index_release(&l->ix);
    dp_feed_pack_release(&l->pack);
    dp_feed_docs_release(&l->docs);
    dp_manifest_free(l->m);
    free(l);
}

static uint64_t layout_tokens(const struct dp_feed_layout *l)
{
    return l->packed ? l->pack.tokens : l->ix.tokens;
}
static uint64_t layout_documents(const struct dp_feed_layout *l)
{
    return l->packed ? l->pack.documents : l->ix.documents;
}

static int layout_check(const struct dp_feed *f, const struct dp_feed_source *d, const struct dp_feed_layout *l, struct dp_err *e)
{
    uint64_t takes = l->packed ? 2 : (uint64_t)f->o.seq_len + 1;
    if (layout_tokens(l) >= takes) return DP_OK;
    DP_FAIL(e, CONFIG,
            "%s: the %s split has %" PRIu64 " ids in %" PRIu64 " of %" PRIu64 " documents, one row takes %" PRIu64
            "; lower seq_len, change val_fraction (%g) or add data",
            d->path, dp_feed_split_name(f->o.split), layout_tokens(l), layout_documents(l), l->docs.doc_start[l->docs.shards], takes,
            f->o.val_fraction);
}

/* The first `shards` shards of d's manifest (SIZE_MAX: all). */
static int layout_open(struct dp_feed_layout **out, const struct dp_feed *f, const struct dp_feed_source *d, size_t shards, struct dp_err *e)
{
    struct dp_feed_layout *l = calloc(1, sizeof *l);
    *out = NULL;
    if (!l) DP_FAIL(e, NOMEM, "feed");
    int rc = DP_OK;
    l->packed = f->o.pack == DP_FEED_BESTFIT;
    DP_TRY_OUT(dp_manifest_read(&l->m, d->path, e));
    if (shards == SIZE_MAX) shards = l->m->count;
    if (shards > l->m->count)
        DP_GOTO(e, CONFIG, "feed: the run was reading %zu shards of manifest %s, which now has %zu", shards, d->path, l->m->count);
    DP_TRY_OUT(dp_feed_docs_open(&l->docs, l->m, d->path, shards, &d->select, f->o.check, f->o.on_bad == DP_FEED_SKIP, e));
    if (l->packed) {
        DP_TRY_OUT(dp_feed_pack_open(&l->pack, &l->docs, (uint64_t)f->o.seq_len, 0, e));
        l->rows = l->pack.rows;
        DP_TRY_OUT(layout_check(f, d, l, e));
    } else {
        DP_TRY_OUT(dp_feed_index_open(&l->ix, &l->docs, DP_FEED_RUNS_MAX, e));
        DP_TRY_OUT(layout_check(f, d, l, e));
        l->rows = (l->ix.tokens - 1) / (uint64_t)f->o.seq_len;
    }
    *out = l;
    l = NULL;
out:
    if (rc < 0 && *d->name) dp_err_prefix(e, "domain %s", d->name);
    layout_free(l);
    return rc;
}

/* --- opening --- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct dp_feed_source *)a)->name, ((const struct dp_feed_source *)b)->name);
}

/* FNV-1a, mixed; 0 for no name. Simple, so that others can do it too. */
static uint64_t name_key(const char *name)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (const char *p = name; *p; p++) h = (h ^ (uint8_t)*p) * UINT64_C(0x100000001b3);
    return *name ? dp_mix64(h) : 0;
}

static int add_source(struct dp_feed *f, const struct dp_feed_domain *from, struct dp_err *e)
{
    struct dp_feed_source *d = &f->domain[f->domains++];
    const char *name = from->name ? from->name : "";
    for (const char *p = name; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("_-.", *p))
            DP_FAIL(e, CONFIG, "feed: a domain's name has letters, digits, _ - and . only, not \"%s\"", name);
    d->name = strdup(name);
    d->path = strdup(from->manifest);
    if (!d->name || !d->path) DP_FAIL(e, NOMEM, "feed");
    d->select = (struct dp_feed_select){f->o.split, f->o.val_fraction, f->o.test_fraction, from->takes, from->ctx};
    /* A domain has an order of its own, and the same whatever else is mixed in; the one manifest has the plain seed's. */
    d->seed = (uint64_t)f->o.seed ^ name_key(name);
    return DP_OK;
}

static int add_sources(struct dp_feed *f, const struct dp_feed_domain *d, size_t n, struct dp_err *e)
{
    if (n < 1 || n > DP_FEED_DOMAINS_MAX) DP_FAIL(e, CONFIG, "feed: %zu domains; 1 to %d can be mixed", n, DP_FEED_DOMAINS_MAX);
    f->domain = calloc(n, sizeof *f->domain);
    f->epoch = calloc(n, sizeof *f->epoch);
    if (!f->domain || !f->epoch) DP_FAIL(e, NOMEM, "feed");
    for (size_t i = 0; i < n; i++) DP_TRY(add_source(f, &d[i], e));
    qsort(f->domain, n, sizeof *f->domain, by_name);
    for (size_t i = 0; n > 1 && i < n; i++) {
        if (!*f->domain[i].name) DP_FAIL(e, CONFIG, "feed: a domain without a name");
        if (i && strcmp(f->domain[i - 1].name, f->domain[i].name) == 0) DP_FAIL(e, CONFIG, "feed: two domains are named %s", f->domain[i].name);
    }
    return DP_OK;
}

static int same_kind(const struct dp_feed *f, size_t d, struct dp_err *e)
{
    const struct dp_shard_meta *a = &f->meta, *b = &f->domain[d].now->m->meta;
    if (a->vocab_size == b->vocab_size && a->eot == b->eot && dp_hash128_eq(a->tokenizer, b->tokenizer)) return DP_OK;
    DP_FAIL(e, CONFIG,
            "feed: domains %s and %s have different vocabularies or tokenizers (%" PRIu32 " ids, EOT %" PRId64 "; %" PRIu32 ", %" PRId64
            "); only shards of one tokenizer can be mixed",
            f->domain[0].name, f->domain[d].name, a->vocab_size, a->eot, b->vocab_size, b->eot);
}

/* The mixture over these layouts, one a domain. */
static int make_mix(const struct dp_feed *f, struct dp_feed_mix *mix, struct dp_feed_layout *const *now, struct dp_err *e)
{
    const char *names[DP_FEED_DOMAINS_MAX];
    uint64_t rows[DP_FEED_DOMAINS_MAX];
    for (size_t d = 0; d < f->domains; d++) {
        names[d] = f->domain[d].name;
        rows[d] = now[d]->rows;
    }
    return dp_feed_mix_open(mix, f->mixture, names, rows, f->domains, (uint64_t)f->o.seed, e);
}

int dp_feed_open_domains(struct dp_feed **out, const struct dp_feed_domain *d, size_t n, const struct dp_feed_options *o,
                         struct dp_err *e)
{
    struct dp_feed_layout *now[DP_FEED_DOMAINS_MAX];
    *out = NULL;
    DP_TRY(dp_feed_options_check(o, e));
    struct dp_feed *f = calloc(1, sizeof *f);
    if (!f) DP_FAIL(e, NOMEM, "feed");
    int rc = DP_OK;
    f->o = *o;
    f->o.domains = f->o.mixture = NULL;
    if (o->mixture && !(f->mixture = strdup(o->mixture))) DP_GOTO(e, NOMEM, "feed");
    dp_feed_widen_init(&f->widen);
    DP_TRY_OUT(add_sources(f, d, n, e));
    for (size_t i = 0; i < n; i++) {
        DP_TRY_OUT(layout_open(&f->domain[i].now, f, &f->domain[i], SIZE_MAX, e));
        now[i] = f->domain[i].now;
        if (i == 0) f->meta = now[0]->m->meta;
        DP_TRY_OUT(same_kind(f, i, e));
    }
    DP_TRY_OUT(make_mix(f, &f->mix, now, e));
    f->pad = f->meta.eot >= 0 ? (int32_t)f->meta.eot : 0;
    *out = f;
    f = NULL;
out:
    dp_feed_close(f);
    return rc;
}

int dp_feed_domains_parse(char *text, struct dp_feed_domain *d, size_t *n, struct dp_err *e)
{
    for (char *at = text; at;) {
        char *comma = strchr(at, ','), *equals = strchr(at, '=');
        if (comma) *comma = 0;
        if (!equals || (comma && equals > comma) || equals == at || !equals[1])
            DP_FAIL(e, CONFIG, "feed: \"%s\" in domains is no NAME=MANIFEST", at);
        if (*n == DP_FEED_DOMAINS_MAX) DP_FAIL(e, CONFIG, "feed: more than %d domains", DP_FEED_DOMAINS_MAX);
        *equals = 0;
        d[(*n)++] = (struct dp_feed_domain){.name = at, .manifest = equals + 1};
        at = comma ? comma + 1 : NULL;
    }
    return DP_OK;
}

int dp_feed_open(struct dp_feed **out, const char *manifest_path, const struct dp_feed_options *o, struct dp_err *e)
{
    struct dp_feed_domain d[DP_FEED_DOMAINS_MAX] = {{.name = "", .manifest = manifest_path}};
    size_t n = 1;
    *out = NULL;
    if (!o->domains) return dp_feed_open_domains(out, d, n, o, e);
    char *text = strdup(o->domains);
    if (!text) DP_FAIL(e, NOMEM, "feed");
    n = 0;
    int rc = dp_feed_domains_parse(text, d, &n, e);
    for (size_t i = 0; rc >= 0 && i < n; i++)
        if (strncmp(d[i].manifest, "source:", 7) == 0)
            rc = dp_err_set(e, DP_CONFIG, 0, __FILE__, __LINE__, "feed: domain %s is given by source files, whose names only a workspace knows",
                            d[i].name);
    if (rc >= 0) rc = dp_feed_open_domains(out, d, n, o, e);
    free(text);
    return rc;
}

void dp_feed_close(struct dp_feed *f)
{
    if (!f) return;
    for (size_t i = 0; i < f->domains; i++) {
        layout_free(f->domain[i].old);
        layout_free(f->domain[i].now);
        free(f->domain[i].name);
        free(f->domain[i].path);
    }
    dp_feed_mix_release(&f->mix);
    free(f->domain);
    free(f->epoch);
    free(f->mixture);
    free(f);
}

/* --- sizes --- */

uint64_t dp_feed_samples(const struct dp_feed *f)
{
    uint64_t rows = 0;
    if (f->domains > 1 && f->mix.pass) return f->mix.pass;
    for (size_t d = 0; d < f->domains; d++) rows += f->domain[d].now->rows;
    return rows;
}

uint64_t dp_feed_tokens(const struct dp_feed *f)
{
    uint64_t n = 0;
    for (size_t d = 0; d < f->domains; d++) n += layout_tokens(f->domain[d].now);
    return n;
}

uint64_t dp_feed_documents(const struct dp_feed *f)
{
    uint64_t n = 0;
    for (size_t d = 0; d < f->domains; d++) n += layout_documents(f->domain[d].now);
    return n;
}

uint32_t dp_feed_vocab_size(const struct dp_feed *f)
{
    return f->meta.vocab_size;
}
int64_t dp_feed_eot(const struct dp_feed *f)
{
    return f->meta.eot;
}
int32_t dp_feed_pad(const struct dp_feed *f)
{
    return f->pad;
}
struct dp_hash128 dp_feed_tokenizer(const struct dp_feed *f)
{
    return f->meta.tokenizer;
}
size_t dp_feed_domains(const struct dp_feed *f)
{
    return f->domains;
}

static uint64_t draws_of(const struct dp_feed *f, uint64_t sample, size_t d)
{
    return f->domains > 1 ? dp_feed_mix_draws(&f->mix, sample, d) : sample;
}

void dp_feed_domain_info(const struct dp_feed *f, size_t d, struct dp_feed_domain_info *out)
{
    DP_ASSERT(d < f->domains);
    const struct dp_feed_layout *l = f->domain[d].now;
    *out = (struct dp_feed_domain_info){.name = f->domain[d].name,
                                        .rows = l->rows,
                                        .tokens = layout_tokens(l),
                                        .documents = layout_documents(l),
                                        .padding = l->pack.padding,
                                        .cut = l->pack.cut,
                                        .draws = draws_of(f, f->cursor, d),
                                        .shards = l->docs.shards,
                                        .shards_absent = l->docs.absent,
                                        .frames_bad = dp_feed_docs_bad_frames(&l->docs)};
}

/* --- state --- */

static struct dp_hash128 data_hash(const struct dp_feed *f, struct dp_feed_layout *const *now)
{
    struct {
        struct dp_hash128 before, docs;
        uint64_t name;
    } x = {0};
    if (f->domains == 1 && !*f->domain[0].name) return now[0]->docs.hash;
    for (size_t d = 0; d < f->domains; d++) {
        x.docs = now[d]->docs.hash;
        x.name = dp_hash64(f->domain[d].name, strlen(f->domain[d].name), 0);
        x.before = dp_hash128(&x, sizeof x);
    }
    return x.before;
}

_Static_assert(sizeof(struct dp_feed_state) == 176, "a state is kept in checkpoints, and under 200 bytes");

void dp_feed_state(const struct dp_feed *f, struct dp_feed_state *s)
{
    struct dp_feed_layout *now[DP_FEED_DOMAINS_MAX];
    memset(s, 0, sizeof *s);
    for (size_t d = 0; d < f->domains; d++) now[d] = f->domain[d].now;
    s->sample = f->cursor;
    s->manifest = data_hash(f, now);
    s->seed = f->o.seed;
    s->seq_len = f->o.seq_len;
    s->val_fraction = f->o.val_fraction;
    s->test_fraction = f->o.test_fraction;
    s->mixture = f->domains > 1 ? dp_feed_mix_hash(&f->mix) : 0;
    s->floor = f->floor;
    s->split = (uint8_t)f->o.split;
    s->shuffle = f->o.shuffle;
    s->pack = (uint8_t)f->o.pack;
    s->domains = (uint8_t)f->domains;
    for (size_t d = 0; f->domains <= DP_FEED_STATE_DOMAINS && d < f->domains; d++) {
        const struct dp_feed_source *x = &f->domain[d];
        s->turn_draw[d] = x->turn_draw;
        s->turn_epoch[d] = (uint32_t)x->turn_epoch;
        s->shards[d] = x->old ? (uint32_t)x->old->docs.shards : 0;
        s->shards_next[d] = (uint32_t)x->now->docs.shards;
    }
}

static int check_state(const struct dp_feed *f, const struct dp_feed_state *s, struct dp_err *e)
{
    if (s->seed != f->o.seed) DP_FAIL(e, CONFIG, "feed: the run had seed %" PRId64 ", not %" PRId64, s->seed, f->o.seed);
    if (s->seq_len != f->o.seq_len) DP_FAIL(e, CONFIG, "feed: the run had seq_len %" PRId64 ", not %" PRId64, s->seq_len, f->o.seq_len);
    if (s->split != f->o.split)
        DP_FAIL(e, CONFIG, "feed: the run was reading the %s split, not %s", dp_feed_split_name(s->split), dp_feed_split_name(f->o.split));
    if (s->val_fraction != f->o.val_fraction)
        DP_FAIL(e, CONFIG, "feed: the run had val_fraction %.17g, not %.17g", s->val_fraction, f->o.val_fraction);
    if (s->test_fraction != f->o.test_fraction)
        DP_FAIL(e, CONFIG, "feed: the run had test_fraction %.17g, not %.17g", s->test_fraction, f->o.test_fraction);
    if ((s->shuffle != 0) != f->o.shuffle) DP_FAIL(e, CONFIG, "feed: the run was %sshuffled", s->shuffle ? "" : "not ");
    if (s->pack != f->o.pack) DP_FAIL(e, CONFIG, "feed: the run was packed by %s", s->pack == DP_FEED_BESTFIT ? "bestfit" : "concat");
    if (s->domains != f->domains) DP_FAIL(e, CONFIG, "feed: the run was reading %d domains, not %zu", s->domains, f->domains);
    if (s->sample >= DP_FEED_SAMPLE_MAX)
        DP_FAIL(e, CONFIG, "feed: sample %" PRIu64 " is past 2^62; the state is damaged", s->sample);
    return DP_OK;
}

/* A layout of n shards of domain d: one that is there already, or a new one; *fresh tells which. */
static int layout_of(const struct dp_feed *f, size_t d, size_t n, struct dp_feed_layout **out, bool *fresh, struct dp_err *e)
{
    const struct dp_feed_source *x = &f->domain[d];
    *fresh = false;
    *out = x->now->docs.shards == n ? x->now : x->old && x->old->docs.shards == n ? x->old : NULL;
    if (*out) return DP_OK;
    *fresh = true;
    return layout_open(out, f, x, n, e);
}

struct change { /* of all domains, until it is sure */
    struct dp_feed_layout *old[DP_FEED_DOMAINS_MAX], *now[DP_FEED_DOMAINS_MAX];
    bool old_fresh[DP_FEED_DOMAINS_MAX], now_fresh[DP_FEED_DOMAINS_MAX];
};

static void change_undo(struct change *c, size_t domains)
{
    for (size_t d = 0; d < domains; d++) {
        if (c->old_fresh[d]) layout_free(c->old[d]);
        if (c->now_fresh[d]) layout_free(c->now[d]);
    }
}

static void change_commit(struct dp_feed *f, struct change *c)
{
    for (size_t d = 0; d < f->domains; d++) {
        struct dp_feed_source *x = &f->domain[d];
        if (x->old != c->old[d] && x->old != c->now[d]) layout_free(x->old);
        if (x->now != c->old[d] && x->now != c->now[d]) layout_free(x->now);
        x->old = c->old[d];
        x->now = c->now[d];
        f->epoch[d].layout = NULL; /* a new layout may stand where the old one stood */
    }
}

static int change_to_state(const struct dp_feed *f, const struct dp_feed_state *s, struct change *c, struct dp_err *e)
{
    for (size_t d = 0; d < f->domains; d++) {
        c->old[d] = f->domain[d].old;
        c->now[d] = f->domain[d].now;
        if (f->domains > DP_FEED_STATE_DOMAINS) continue;
        c->old[d] = NULL;
        DP_TRY(layout_of(f, d, s->shards_next[d], &c->now[d], &c->now_fresh[d], e));
        if (s->shards[d] >= s->shards_next[d] || (s->turn_draw[d] && !s->shards[d]))
            DP_FAIL(e, CONFIG, "feed: the state is damaged: %u shards before %u", s->shards[d], s->shards_next[d]);
        if (s->shards[d]) DP_TRY(layout_of(f, d, s->shards[d], &c->old[d], &c->old_fresh[d], e));
    }
    struct dp_hash128 hash = data_hash(f, c->now);
    if (dp_hash128_eq(s->manifest, hash)) return DP_OK;
    char was[DP_HEX128], is[DP_HEX128];
    dp_hash128_hex(s->manifest, was);
    dp_hash128_hex(hash, is);
    DP_FAIL(e, CONFIG, "feed: the run was reading data %s, %s is %s; resume with the same manifest%s, or start a new run", was,
            f->domains > 1 ? "this mixture" : f->domain[0].path, is, f->domains > 1 ? "s, names and sources" : "");
}

int dp_feed_resume(struct dp_feed *f, const struct dp_feed_state *s, struct dp_err *e)
{
    struct change c = {0};
    struct dp_feed_mix mix = {0};
    DP_TRY(check_state(f, s, e));
    int rc = change_to_state(f, s, &c, e);
    if (rc >= 0) rc = make_mix(f, &mix, c.now, e);
    if (rc >= 0 && s->mixture != (f->domains > 1 ? dp_feed_mix_hash(&mix) : 0))
        rc = dp_err_set(e, DP_CONFIG, 0, __FILE__, __LINE__, "feed: the run had another mixture: other weights, or stages that begin elsewhere");
    if (rc < 0) {
        change_undo(&c, f->domains);
        dp_feed_mix_release(&mix);
        return rc;
    }
    change_commit(f, &c);
    dp_feed_mix_release(&f->mix);
    f->mix = mix;
    for (size_t d = 0; f->domains <= DP_FEED_STATE_DOMAINS && d < f->domains; d++) {
        f->domain[d].turn_draw = s->turn_draw[d];
        f->domain[d].turn_epoch = s->turn_epoch[d];
    }
    f->cursor = s->sample;
    f->floor = s->floor;
    return DP_OK;
}

/* --- growth --- */

/* How many shards the manifest has; DP_CONFIG when it doesn't begin with those that x reads. */
static int continuation(const struct dp_feed_source *x, const char *path, size_t *has, struct dp_err *e)
{
    struct dp_manifest *m;
    size_t had = x->now->docs.shards;
    DP_TRY(dp_manifest_read(&m, path, e));
    *has = m->count;
    bool same = *has >= had && dp_hash128_eq(dp_feed_docs_prefix(m, had), dp_feed_docs_prefix(x->now->m, had));
    dp_manifest_free(m);
    if (!same)
        DP_FAIL(e, CONFIG, "%s: no longer begins with the %zu shards that the run was reading; a manifest grows at its end only", path, had);
    return DP_OK;
}

int dp_feed_follow(struct dp_feed *f, const char *domain, const char *manifest, struct dp_err *e)
{
    struct dp_feed_source *x = NULL;
    size_t has;
    for (size_t d = 0; d < f->domains; d++)
        if (strcmp(f->domain[d].name, domain) == 0) x = &f->domain[d];
    if (!x) DP_FAIL(e, CONFIG, "feed: there is no domain \"%s\"", domain);
    if (strcmp(x->path, manifest) == 0) return DP_OK;
    DP_TRY(continuation(x, manifest, &has, e));
    char *path = strdup(manifest);
    if (!path) DP_FAIL(e, NOMEM, "feed");
    free(x->path);
    x->path = path;
    return DP_OK;
}

static int look_again(const struct dp_feed *f, size_t d, struct change *c, struct dp_err *e)
{
    const struct dp_feed_source *x = &f->domain[d];
    const struct dp_feed_layout *now = x->now;
    size_t had = now->docs.shards, has;
    c->old[d] = x->old;
    c->now[d] = x->now;
    DP_TRY(continuation(x, x->path, &has, e));
    if (has == had) return DP_EMPTY;
    if (f->domains > DP_FEED_STATE_DOMAINS)
        DP_FAIL(e, LIMIT, "feed: %zu domains; data can grow under a run of at most %d", f->domains, DP_FEED_STATE_DOMAINS);
    if (f->domains > 1 && f->mix.by_epochs)
        DP_FAIL(e, CONFIG, "feed: %s has grown, but the mixture is given in epochs, so its shares would change under the run; give weights", x->path);
    uint64_t at = draws_of(f, f->cursor, d);
    if (at > x->turn_draw && (at - x->turn_draw) / now->rows >= UINT32_MAX - 1 - x->turn_epoch)
        DP_FAIL(e, LIMIT, "feed: %s grows behind epoch 2^32; start a new run", x->path);
    c->now_fresh[d] = true;
    c->now[d] = NULL;
    DP_TRY(layout_open(&c->now[d], f, x, has, e));
    return DP_OK;
}

/* Domain d goes over to c->now[d] where its next epoch begins. */
static void turn(struct dp_feed *f, size_t d, struct change *c)
{
    struct dp_feed_source *x = &f->domain[d];
    uint64_t at = draws_of(f, f->cursor, d);
    if (at < x->turn_draw) return; /* the last growth is still ahead: this one takes its place */
    uint64_t n = x->now->rows, done = (at - x->turn_draw + n - 1) / n;
    if (!done) return; /* nothing was drawn of the last growth either */
    if (x->old) f->floor = f->cursor;
    x->turn_draw += done * n;
    x->turn_epoch += done;
    c->old[d] = x->now;
}

int dp_feed_reload(struct dp_feed *f, struct dp_err *e)
{
    struct change c = {0};
    bool grown = false;
    for (size_t d = 0; d < f->domains; d++) {
        int rc = look_again(f, d, &c, e);
        if (rc < 0) {
            change_undo(&c, d + 1);
            return rc;
        }
        grown = grown || rc == DP_OK;
    }
    for (size_t d = 0; d < f->domains; d++)
        if (c.now_fresh[d]) turn(f, d, &c);
    change_commit(f, &c);
    return grown ? DP_OK : DP_EMPTY;
}
