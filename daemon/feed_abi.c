#include "daemon/feed_abi.h"

#include "daemon/feed_sources.h"

#include <stdio.h>
#include <stdlib.h>

_Static_assert(DP_FEED_ABI_STATE_BYTES == 176, "a state's layout is what checkpoints of others hold");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "states are little-endian");

struct dp_feed_abi {
    struct dp_options options;
    struct dp_road road;
    bool options_made, road_open;
    struct dp_feed_sources *sources;
    struct dp_feed *feed;
    const char *text; /* the caller's options, while it is opened */
    int32_t *row;     /* [batch][T + 1], made when dp_feed_abi_next_pair is first called */
};

int dp_abi_version(void)
{
    return DP_ABI_VERSION;
}

const char *dp_abi_release(void)
{
    return DP_VERSION;
}

static int tell(int rc, const struct dp_err *e, char *msg, size_t cap)
{
    if (rc < 0 && msg && cap) snprintf(msg, cap, "%s", e->code ? e->msg : dp_code_name(rc));
    return rc;
}

static int apply(void *ctx, struct dp_options *o, struct dp_err *e)
{
    const struct dp_feed_abi *h = ctx;
    for (const char *p = h->text; p && *p;) {
        struct dp_span line = dp_span(p, strcspn(p, "\n"));
        p += line.len + (p[line.len] == '\n');
        if (!line.len) continue;
        const char *eq = memchr(line.ptr, '=', line.len);
        struct dp_span name = dp_span(line.ptr, eq ? (size_t)(eq - line.ptr) : line.len);
        const struct dp_opt *row = dp_opt_find(dp_feed_opts, name);
        if (!row || !eq) DP_FAIL(e, USAGE, "feed: there is no option \"%.*s\"", DP_SPAN_FMT(name));
        DP_TRY(dp_opt_set(row, &o->feed, dp_span(eq + 1, line.len - name.len - 1), row->name, e));
    }
    return DP_OK;
}

static int open_workspace(struct dp_feed_abi *h, const char *dir, char **manifest, struct dp_err *e)
{
    DP_TRY(dp_road_open(&h->road, dir, &h->options, 1, 64 << 20, false, apply, h, e));
    h->road_open = true;
    int done = dp_road_survey(&h->road, e);
    if (done < 0) return done;
    if (done <= DP_STEP_SHARD) DP_FAIL(e, NOTFOUND, "%s: no manifest yet: make it with `dpipe run --until shard`", dir);
    *manifest = dp_road_path(&h->road, "shard", h->road.shard.hex, "manifest", 0, e);
    return *manifest ? DP_OK : DP_NOTFOUND;
}

static int open_feed(struct dp_feed_abi *h, const char *manifest, const char *workspace, struct dp_err *e)
{
    char *path = NULL;
    DP_TRY(dp_options_init(&h->options, e));
    h->options_made = true;
    if (manifest && workspace) DP_FAIL(e, USAGE, "feed: a manifest and a workspace are given: give one");
    int rc = workspace ? open_workspace(h, workspace, &path, e) : apply(h, &h->options, e);
    if (rc >= 0 && !workspace && !manifest && !h->options.feed.domains)
        rc = dp_err_set(e, DP_USAGE, 0, __FILE__, __LINE__, "feed: no manifest, workspace or domains are given");
    if (rc >= 0)
        rc = dp_feed_sources_open(&h->sources, &h->feed, h->road_open ? &h->road : NULL, path ? path : manifest, &h->options.feed, e);
    free(path);
    return rc;
}

int dp_feed_abi_open(struct dp_feed_abi **out, const char *manifest, const char *workspace, const char *options, char *msg, size_t msg_cap)
{
    struct dp_err e = {0};
    struct dp_feed_abi *h = calloc(1, sizeof *h);
    *out = NULL;
    if (!h) return tell(DP_NOMEM, &e, msg, msg_cap);
    h->text = options;
    int rc = open_feed(h, manifest, workspace, &e);
    h->text = NULL;
    if (rc < 0) dp_feed_abi_close(h);
    else *out = h;
    return tell(rc, &e, msg, msg_cap);
}

void dp_feed_abi_close(struct dp_feed_abi *h)
{
    if (!h) return;
    dp_feed_close(h->feed);
    dp_feed_sources_close(h->sources);
    if (h->road_open) dp_road_close(&h->road);
    if (h->options_made) dp_options_release(&h->options);
    free(h->row);
    free(h);
}

size_t dp_feed_abi_numbers(const struct dp_feed_abi *h, int64_t *number, size_t n)
{
    const struct dp_feed_options *o = &h->options.feed;
    const struct dp_feed *f = h->feed;
    struct dp_feed_state s;
    dp_feed_state(f, &s);
    const int64_t all[DP_FEED_ABI_NUMBERS] = {
        [DP_FEED_ABI_SEQ_LEN] = o->seq_len,
        [DP_FEED_ABI_BATCH] = o->batch,
        [DP_FEED_ABI_RANK] = o->rank,
        [DP_FEED_ABI_WORLD] = o->world,
        [DP_FEED_ABI_SAMPLES] = (int64_t)dp_feed_samples(f),
        [DP_FEED_ABI_TOKENS] = (int64_t)dp_feed_tokens(f),
        [DP_FEED_ABI_DOCUMENTS] = (int64_t)dp_feed_documents(f),
        [DP_FEED_ABI_VOCAB_SIZE] = dp_feed_vocab_size(f),
        [DP_FEED_ABI_EOT] = dp_feed_eot(f),
        [DP_FEED_ABI_PAD] = dp_feed_pad(f),
        [DP_FEED_ABI_DOMAINS] = (int64_t)dp_feed_domains(f),
        [DP_FEED_ABI_SAMPLE] = (int64_t)s.sample,
    };
    memcpy(number, all, (n < DP_FEED_ABI_NUMBERS ? n : DP_FEED_ABI_NUMBERS) * sizeof *number);
    return DP_FEED_ABI_NUMBERS;
}

const char *dp_feed_abi_domain(const struct dp_feed_abi *h, size_t d, int64_t *number, size_t n)
{
    if (d >= dp_feed_domains(h->feed)) return NULL;
    struct dp_feed_domain_info i;
    dp_feed_domain_info(h->feed, d, &i);
    const uint64_t all[] = {i.rows, i.tokens, i.documents, i.padding, i.cut, i.draws, i.shards, i.shards_absent, i.frames_bad};
    for (size_t k = 0; k < n && k < sizeof all / sizeof *all; k++) number[k] = (int64_t)all[k];
    return i.name;
}

int dp_feed_abi_next(struct dp_feed_abi *h, int32_t *ids, int32_t *cu_seqlens, int32_t *segments, int32_t *positions, uint8_t *loss_mask,
                     uint32_t *domain, uint64_t *sample, char *msg, size_t msg_cap)
{
    struct dp_err e = {0};
    const struct dp_feed_meta m = {cu_seqlens, segments, positions, loss_mask, domain, sample};
    bool meta = cu_seqlens || segments || positions || loss_mask || domain || sample;
    return tell(meta ? dp_feed_next_meta(h->feed, ids, &m, &e) : dp_feed_next(h->feed, ids, &e), &e, msg, msg_cap);
}

/* Ids are below 2^21, so that widening is by zeros, for which every x86-64 has an instruction. */
static void widen(int64_t *restrict to, const int32_t *restrict from, size_t n)
{
    for (size_t i = 0; i < n; i++) to[i] = (int64_t)(uint32_t)from[i];
}

int dp_feed_abi_next_pair(struct dp_feed_abi *h, int64_t *inputs, int64_t *targets, int32_t *cu_seqlens, int32_t *segments, int32_t *positions,
                          uint8_t *loss_mask, uint32_t *domain, uint64_t *sample, char *msg, size_t msg_cap)
{
    size_t T = (size_t)h->options.feed.seq_len, B = (size_t)h->options.feed.batch;
    if (!h->row && !(h->row = malloc(B * (T + 1) * sizeof *h->row))) {
        struct dp_err e = {0};
        return tell(dp_err_set(&e, DP_NOMEM, 0, __FILE__, __LINE__, "feed: a batch of %zu rows of %zu ids", B, T + 1), &e, msg, msg_cap);
    }
    DP_TRY(dp_feed_abi_next(h, h->row, cu_seqlens, segments, positions, loss_mask, domain, sample, msg, msg_cap));
    for (size_t b = 0; b < B; b++) {
        const int32_t *row = h->row + b * (T + 1);
        widen(inputs + b * T, row, T);
        widen(targets + b * T, row + 1, T);
    }
    return DP_OK;
}

int dp_feed_abi_get(const struct dp_feed_abi *h, uint64_t sample, int32_t *ids, char *msg, size_t msg_cap)
{
    struct dp_err e = {0};
    return tell(dp_feed_get(h->feed, sample, ids, &e), &e, msg, msg_cap);
}

int dp_feed_abi_seek(struct dp_feed_abi *h, uint64_t sample, char *msg, size_t msg_cap)
{
    struct dp_err e = {0};
    struct dp_feed_state s;
    dp_feed_state(h->feed, &s);
    s.sample = sample;
    return tell(dp_feed_resume(h->feed, &s, &e), &e, msg, msg_cap);
}

void dp_feed_abi_state(const struct dp_feed_abi *h, void *state)
{
    struct dp_feed_state s;
    memset(&s, 0, sizeof s);
    dp_feed_state(h->feed, &s);
    memcpy(state, &s, sizeof s);
}

int dp_feed_abi_resume(struct dp_feed_abi *h, const void *state, size_t bytes, char *msg, size_t msg_cap)
{
    struct dp_err e = {0};
    struct dp_feed_state s;
    if (bytes != sizeof s)
        return tell(dp_err_set(&e, DP_CORRUPT, 0, __FILE__, __LINE__, "feed: a state of %zu bytes, not %zu", bytes, sizeof s), &e, msg, msg_cap);
    memcpy(&s, state, sizeof s);
    return tell(dp_feed_resume(h->feed, &s, &e), &e, msg, msg_cap);
}

int dp_feed_abi_reload(struct dp_feed_abi *h, char *msg, size_t msg_cap)
{
    struct dp_err e = {0};
    return tell(dp_feed_reload(h->feed, &e), &e, msg, msg_cap);
}

int dp_feed_abi_locate(const struct dp_feed_abi *h, uint64_t sample, uint64_t row_token, const char **shard, const char **domain,
                       int64_t number[5], char *id_hex, char *content_hex, char *msg, size_t msg_cap)
{
    struct dp_err e = {0};
    struct dp_feed_origin o;
    int rc = dp_feed_locate(h->feed, sample, row_token, &o, &e);
    if (rc != DP_OK) return tell(rc, &e, msg, msg_cap);
    *shard = o.shard;
    *domain = o.domain;
    const uint64_t all[] = {o.shard_number, o.document, o.document_token, o.shard_token, o.source};
    for (size_t k = 0; k < 5; k++) number[k] = (int64_t)all[k];
    dp_hash128_hex(o.id, id_hex);
    dp_hash128_hex(o.content, content_hex);
    return DP_OK;
}
