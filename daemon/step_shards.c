/* tokenize and shard: kept documents are read once, encoded and written as shards; the manifest then says which shards there are.
 *
 * Which documents go together is decided before a word is encoded, by the text's size in the catalog: a group is a unit of work
 * that stands alone, so threads, kills and CPU levels don't change a shard. */
#include "daemon/kept.h"
#include "daemon/lineage.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/progress.h"
#include "shards/manifest.h"
#include "shards/shard.h"
#include "tokenizer/encode.h"
#include "tokenizer/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>

enum { TOKENIZE_VERSION = 1, MANIFEST_VERSION = 1, LANGS = 128, SHARDS_A_GROUP = 24 };

int dp_road_groups(struct dp_road *r, struct dp_err *e)
{
    free(r->group);
    r->groups = 0;
    r->group = calloc(r->units + 1, sizeof *r->group);
    if (!r->group) DP_FAIL(e, NOMEM, "list of shards");
    for (size_t i = 0; i < r->units; i++) {
        struct dp_generation *gen = &r->gen[dp_lineage_generation_of(r, i)];
        struct dp_found f;
        int rc = dp_road_find(r, "clean", r->unit[i].docs.hex, "docs", 0, &f, e);
        uint64_t bytes = (uint64_t)f.payload;
        dp_found_release(&f);
        if (rc != DP_OK) return rc < 0 ? rc : dp_err_set(e, DP_NOTFOUND, 0, __FILE__, __LINE__, "unit %s is not cleaned yet", r->unit[i].what);
        struct dp_group *g = r->groups ? &r->group[r->groups - 1] : NULL;
        /* A group ends with its generation: what an earlier manifest has never changes. */
        if (!g || i == gen->first || g->bytes + bytes > r->options->shards.bytes_per_shard) {
            g = &r->group[r->groups++];
            g->first = i;
        }
        g->count++;
        g->bytes += bytes;
        gen->groups_end = r->groups;
    }
    for (size_t i = 0; i < r->groups; i++) {
        struct dp_group *g = &r->group[i];
        struct dp_keyer k;
        dp_keyer_init(&k, "tokenize", TOKENIZE_VERSION);
        dp_keyer_add(&k, "tokenizer", r->bpe.hex);
        /* A flat body adds nothing, so its keys are what they were before there was compression. */
        const struct dp_shards_options *so = &r->options->shards;
        char how[64];
        snprintf(how, sizeof how, "zstd %lld %lld", (long long)so->zstd_level, (long long)so->zstd_frame_ids);
        if (so->compression == DP_SHARDS_ZSTD) dp_keyer_add(&k, "compression", how);
        int rc = DP_OK;
        for (size_t u = g->first; rc >= 0 && u < g->first + g->count; u++) {
            /* The decisions' own digest: another corpus elsewhere that leaves these documents kept changes nothing here. */
            struct dp_found keep;
            rc = dp_road_keep(r, u, &keep, e);
            if (rc == DP_OK) {
                dp_keyer_add(&k, "docs", r->unit[u].docs.hex);
                dp_keyer_add(&k, "keep", keep.digest);
            } else if (rc == DP_EMPTY) rc = dp_err_set(e, DP_NOTFOUND, 0, __FILE__, __LINE__, "unit %s is not deduplicated yet", r->unit[u].what);
            dp_found_release(&keep);
        }
        if (rc < 0) {
            dp_buf_release(&k.text);
            return rc;
        }
        DP_TRY(dp_keyer_finish(&k, &g->key, e));
    }
    return DP_OK;
}

/* Bytes and tokens by language: for the report of bytes per token. */
struct lang_counts {
    char lang[8];
    uint64_t docs, bytes, tokens;
};

struct encoding {
    struct dp_road *road;
    const struct dp_tokenizer *tok;
    struct dp_encoder **encoder; /* one a worker */
    struct dp_failure failure;
    pthread_mutex_t mu; /* of the road's counts */
};

struct shard_job {
    struct dp_publish *p;
    struct dp_shard_writer *w;
    const struct dp_group *g;
    struct dp_shard_meta meta;
    size_t shards, bin, dpx;
    uint64_t tokens, docs;
    struct lang_counts lang[LANGS];
    size_t langs;
};

static int open_shard(struct shard_job *j, struct dp_err *e)
{
    char name[96], *bin = NULL, *dpx = NULL;
    if (j->shards == SHARDS_A_GROUP) DP_FAIL(e, LIMIT, "one unit fills more than %d shards; lower shards.bytes_per_shard", SHARDS_A_GROUP);
    const struct dp_shards_options *so = &j->p->road->options->shards;
    bool packed = so->compression == DP_SHARDS_ZSTD;
    struct dp_shard_packing how = {(int)so->zstd_level, (uint32_t)so->zstd_frame_ids};
    snprintf(name, sizeof name, "shard-%s-%02zu.%s", j->g->key.hex, j->shards, packed ? "zbin" : "bin");
    int rc = dp_publish_add(j->p, "shard", name, &bin, &j->bin, e);
    snprintf(name, sizeof name, "shard-%s-%02zu.dpx", j->g->key.hex, j->shards);
    if (rc >= 0) rc = dp_publish_add(j->p, "index", name, &dpx, &j->dpx, e);
    if (rc >= 0) rc = dp_shard_writer_open_packed(&j->w, bin, dpx, &j->meta, packed ? &how : NULL, e);
    free(bin);
    free(dpx);
    j->shards += rc >= 0;
    return rc;
}

static int finish_shard(struct shard_job *j, struct dp_err *e)
{
    DP_TRY(dp_shard_writer_finish(j->w, j->p->digest[j->bin], j->p->digest[j->dpx], e));
    j->p->a[j->bin].docs = j->p->a[j->dpx].docs = (int64_t)dp_shard_writer_documents(j->w);
    j->p->a[j->bin].payload = (int64_t)dp_shard_writer_tokens(j->w);
    j->tokens += dp_shard_writer_tokens(j->w);
    dp_shard_writer_close(j->w);
    j->w = NULL;
    return DP_OK;
}

static void count_lang(struct shard_job *j, const struct dp_doc *d, uint64_t tokens)
{
    struct dp_span l = d->lang.len && d->lang.len < 8 ? d->lang : dp_span_str("und");
    size_t i = 0;
    while (i < j->langs && !dp_span_is(l, j->lang[i].lang)) i++;
    if (i == j->langs) {
        if (i == LANGS) return;
        j->langs++;
        memcpy(j->lang[i].lang, l.ptr, l.len);
    }
    j->lang[i].docs++;
    j->lang[i].bytes += d->text.len;
    j->lang[i].tokens += tokens;
}

static int by_lang(const void *a, const void *b)
{
    return strcmp(((const struct lang_counts *)a)->lang, ((const struct lang_counts *)b)->lang);
}

static int publish_counts(struct shard_job *j, struct dp_err *e)
{
    struct dp_buf b;
    struct dp_jsonw w;
    char name[96];
    dp_buf_init(&b, 1 << 20);
    dp_jsonw_init(&w, &b, 0);
    qsort(j->lang, j->langs, sizeof *j->lang, by_lang);
    dp_jsonw_begin(&w, '{');
    for (size_t i = 0; i < j->langs; i++) {
        dp_jsonw_key(&w, j->lang[i].lang);
        dp_jsonw_begin(&w, '{');
        dp_jsonw_key(&w, "documents");
        dp_jsonw_uint(&w, j->lang[i].docs);
        dp_jsonw_key(&w, "bytes");
        dp_jsonw_uint(&w, j->lang[i].bytes);
        dp_jsonw_key(&w, "tokens");
        dp_jsonw_uint(&w, j->lang[i].tokens);
        dp_jsonw_end(&w, '}');
    }
    dp_jsonw_end(&w, '}');
    dp_buf_add_char(&b, '\n');
    snprintf(name, sizeof name, "tokens-%s.json", j->g->key.hex);
    int rc = dp_publish_file(j->p, "tokens", name, dp_buf_span(&b), e);
    dp_buf_release(&b);
    return rc;
}

static int encode_unit(struct encoding *c, struct shard_job *j, size_t u, struct dp_encoder *enc, struct dp_ids *ids, struct dp_err *e)
{
    struct dp_kept k;
    struct dp_doc d;
    int rc = dp_kept_open(&k, c->road, u, e);
    while (rc >= 0 && (rc = dp_kept_next(&k, false, &d, e)) == DP_OK) {
        ids->len = 0;
        rc = dp_encode(enc, d.text, ids, e);
        if (rc >= 0 && !dp_shard_writer_fits(j->w, ids->len)) {
            rc = finish_shard(j, e);
            if (rc >= 0) rc = open_shard(j, e);
        }
        if (rc >= 0) rc = dp_shard_writer_add(j->w, d.id, dp_hash128(d.text.ptr, d.text.len), (uint32_t)(u - j->g->first), ids->ptr, ids->len, e);
        if (rc < 0) {
            char hex[DP_HEX128];
            dp_hash128_hex(d.id, hex);
            dp_err_prefix(e, "document %s of %s", hex, c->road->unit[u].what);
            break;
        }
        count_lang(j, &d, ids->len);
        j->docs++;
        dp_progress_add(d.text.len, 1);
        if (dp_road_stopped(c->road)) rc = dp_err_set(e, DP_STOPPED, 0, __FILE__, __LINE__, "stopped while tokenizing; run again to go on");
    }
    dp_kept_close(&k);
    return rc < 0 ? rc : DP_OK;
}

static int encode_group(struct encoding *c, const struct dp_group *g, struct dp_encoder *enc, struct dp_err *e)
{
    struct dp_road *r = c->road;
    struct shard_job *j = calloc(1, sizeof *j);
    struct dp_publish *p = calloc(1, sizeof *p);
    struct dp_ids ids = {0};
    char what[64];
    snprintf(what, sizeof what, "units %zu to %zu", g->first, g->first + g->count - 1);
    int rc = j && p ? DP_OK : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "shard of %s", what);
    if (rc >= 0) rc = dp_publish_claim(p, r, "tokenize", &g->key, what, e);
    bool claimed = rc == DP_OK;
    if (claimed) {
        *j = (struct shard_job){.p = p, .g = g};
        j->meta = (struct dp_shard_meta){.vocab_size = dp_tokenizer_size(c->tok), .eot = dp_tokenizer_eot(c->tok),
                                         .tokenizer = dp_tokenizer_digest(c->tok)};
        rc = open_shard(j, e);
        for (size_t u = g->first; rc >= 0 && u < g->first + g->count; u++) rc = encode_unit(c, j, u, enc, &ids, e);
        if (rc >= 0) rc = finish_shard(j, e);
        if (rc >= 0) rc = publish_counts(j, e);
        const char *parents[2] = {r->bpe.hex, r->gen[dp_lineage_generation_of(r, g->first)].dedup.hex};
        struct dp_stage_counts n = {.docs_in = j->docs, .docs_out = j->docs, .bytes_out = j->tokens};
        struct dp_unit_count count = {"tokenize", &n};
        if (rc >= 0) rc = dp_publish_commit(p, parents, 2, &count, 1, e);
    }
    if (j) dp_shard_writer_close(j->w);
    if (rc < 0 && claimed) dp_publish_abort(p, e);
    dp_ids_release(&ids);
    free(j);
    free(p);
    return rc;
}

static void encode_task(void *ctx, size_t i, int worker)
{
    struct encoding *c = ctx;
    struct dp_err err = {0};
    if (dp_failure_get(&c->failure, NULL) < 0) return;
    int rc = dp_failure_note(&c->failure, encode_group(c, &c->road->group[i], c->encoder[worker], &err), &err);
    pthread_mutex_lock(&c->mu);
    c->road->made += rc == DP_OK;
    c->road->found += rc == DP_EMPTY;
    pthread_mutex_unlock(&c->mu);
}

static int encode_all(struct dp_road *r, struct dp_err *e)
{
    int n = dp_pool_threads(r->pool);
    struct encoding c = {.road = r, .failure = DP_FAILURE_NONE, .mu = PTHREAD_MUTEX_INITIALIZER};
    struct dp_tokenizer *tok = NULL;
    char *path = dp_road_path(r, "train-bpe", r->bpe.hex, "tokenizer", 0, e);
    int rc = path ? dp_tokenizer_load_file(&tok, path, NULL, e) : DP_NOTFOUND;
    c.tok = tok;
    c.encoder = calloc((size_t)n, sizeof *c.encoder);
    if (rc >= 0 && !c.encoder) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "encoders");
    if (rc >= 0) rc = dp_encoder_open(&c.encoder[0], tok, (size_t)r->options->shards.encoder_cache, DP_SPECIAL_NONE, e);
    for (int i = 1; rc >= 0 && i < n; i++) rc = dp_encoder_open_beside(&c.encoder[i], c.encoder[0], DP_SPECIAL_NONE, e);
    if (rc >= 0) {
        dp_progress_begin("tokenize", "B", 0);
        dp_pool_run(r->pool, r->groups, encode_task, &c);
        dp_progress_end();
        rc = dp_failure_get(&c.failure, e);
    }
    for (int i = 0; c.encoder && i < n; i++) dp_encoder_close(c.encoder[i]);
    free(c.encoder);
    dp_tokenizer_free(tok);
    free(path);
    return rc;
}

int dp_road_tokenize(struct dp_road *r, struct dp_err *e)
{
    DP_TRY(dp_road_groups(r, e));
    DP_TRY(dp_lineage_check_shards(r, e));
    bool all = true;
    for (size_t i = 0; i < r->groups; i++) all = all && dp_catalog_is_done(r->ws.catalog, "tokenize", r->group[i].key.hex);
    if (!all) return encode_all(r, e);
    r->found += r->groups;
    return DP_OK;
}

/* --- manifest --- */

int dp_road_manifest_key(const struct dp_road *r, size_t groups, struct dp_key *key, struct dp_err *e)
{
    struct dp_keyer k;
    dp_keyer_init(&k, "shard", MANIFEST_VERSION);
    for (size_t i = 0; i < groups; i++) dp_keyer_add(&k, "tokens", r->group[i].key.hex);
    return dp_keyer_finish(&k, key, e);
}

int dp_road_shard_key(struct dp_road *r, struct dp_err *e)
{
    return dp_road_manifest_key(r, r->groups, &r->shard, e);
}

static int add_group(struct dp_road *r, const struct dp_group *g, struct dp_manifest *m, struct dp_err *e)
{
    for (size_t s = 0;; s++) {
        struct dp_found bin, dpx;
        int rc = dp_road_find(r, "tokenize", g->key.hex, "shard", s, &bin, e);
        if (rc != DP_OK) return rc < 0 ? rc : DP_OK;
        rc = dp_road_find(r, "tokenize", g->key.hex, "index", s, &dpx, e);
        if (rc == DP_OK && bin.docs > 0) { /* a unit that kept no document leaves an empty shard, which no one needs to see */
            struct dp_manifest_shard sh = {.name = bin.name, .index = dpx.name, .tokens = (uint64_t)bin.payload, .documents = (uint64_t)bin.docs,
                                           .bytes = (uint64_t)bin.bytes, .packed = r->options->shards.compression == DP_SHARDS_ZSTD};
            memcpy(sh.sha256, bin.digest, DP_HEX256);
            memcpy(sh.index_sha256, dpx.digest, DP_HEX256);
            rc = dp_manifest_add(m, &sh, e);
        }
        dp_found_release(&bin);
        dp_found_release(&dpx);
        if (rc < 0) return rc;
    }
}

static int write_manifest(struct dp_road *r, struct dp_publish *p, struct dp_err *e)
{
    struct dp_tokenizer *tok = NULL;
    struct dp_manifest *m = NULL;
    struct dp_buf b;
    char name[96];
    dp_buf_init(&b, DP_MANIFEST_BYTES_MAX);
    char *path = dp_road_path(r, "train-bpe", r->bpe.hex, "tokenizer", 0, e);
    int rc = path ? dp_tokenizer_load_file(&tok, path, NULL, e) : DP_NOTFOUND;
    if (rc >= 0) {
        struct dp_shard_meta meta = {.vocab_size = dp_tokenizer_size(tok), .eot = dp_tokenizer_eot(tok), .tokenizer = dp_tokenizer_digest(tok)};
        rc = dp_manifest_new(&m, &meta, e);
    }
    for (size_t i = 0; rc >= 0 && i < r->groups; i++) rc = add_group(r, &r->group[i], m, e);
    if (rc >= 0) rc = dp_manifest_render(m, &b, e);
    snprintf(name, sizeof name, "manifest-%s.json", r->shard.hex);
    if (rc >= 0) rc = dp_publish_file(p, "manifest", name, dp_buf_span(&b), e);
    if (rc >= 0) {
        p->a[0].docs = (int64_t)m->documents;
        p->a[0].payload = (int64_t)m->tokens;
        struct dp_lineage_change k;
        bool grows = dp_lineage_change(r, &k);
        if (grows) p->lineage = &k;
        rc = dp_publish_commit(p, NULL, 0, NULL, 0, e);
        if (rc >= 0 && grows) dp_lineage_changed(r);
    }
    if (rc >= 0) dp_log(INFO, "shard", "%zu shards, %llu documents, %llu tokens", m->count, (unsigned long long)m->documents, (unsigned long long)m->tokens);
    dp_manifest_free(m);
    dp_tokenizer_free(tok);
    dp_buf_release(&b);
    free(path);
    return rc;
}

int dp_road_shard(struct dp_road *r, struct dp_err *e)
{
    DP_TRY(dp_road_shard_key(r, e));
    struct dp_publish *p = calloc(1, sizeof *p);
    if (!p) DP_FAIL(e, NOMEM, "manifest");
    int rc = dp_publish_claim(p, r, "shard", &r->shard, "manifest", e);
    if (rc == DP_EMPTY) r->found++;
    else if (rc == DP_OK) {
        rc = write_manifest(r, p, e);
        if (rc < 0) dp_publish_abort(p, e);
        else r->made++;
    }
    free(p);
    return rc < 0 ? rc : DP_OK;
}
