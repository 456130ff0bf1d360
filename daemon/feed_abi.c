#include "daemon/feed_abi.h"

#include "daemon/feed_abi_source.h"
#include "daemon/feed_connect.h"
#include "trainer_feed/feed_pair.h"

#include <stdio.h>
#include <stdlib.h>

_Static_assert(DP_FEED_ABI_STATE_BYTES == 176, "a state's layout is what checkpoints of others hold");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "states are little-endian");

struct dp_feed_abi {
    struct dp_feed_abi_source *source; /* NULL with a client, as are its options and its feed */
    const struct dp_feed_options *o;
    struct dp_feed *feed;
    struct dp_feed_client *client; /* NULL with a feed */
    struct dp_feed_connect how;    /* the client's */
    unsigned comes;                /* DP_FEED_META_... that a server sends */
    atomic_bool stop;
    size_t batch, seq_len;
    dp_feed_pair_fn pair;
    int32_t *rows;        /* [batch][T + 1], made for the first pairs of a feed */
    struct dp_err failed; /* dp_feed_abi_message */
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

int dp_feed_abi_options(struct dp_feed_options *o, const char *text, struct dp_err *e)
{
    struct dp_span name, value;
    while (dp_feed_option_line(&text, &name, &value) == DP_OK) {
        const struct dp_opt *row = dp_opt_find(dp_feed_opts, name);
        if (!row || !value.ptr) DP_FAIL(e, USAGE, "feed: there is no option \"%.*s\"", DP_SPAN_FMT(name));
        DP_TRY(dp_opt_set(row, o, value, row->name, e));
    }
    return DP_OK;
}

int dp_feed_abi_open(struct dp_feed_abi **out, const char *manifest, const char *workspace, const char *options, char *msg, size_t msg_cap)
{
    struct dp_err e = {0};
    struct dp_feed_abi *h = calloc(1, sizeof *h);
    *out = NULL;
    if (!h) return tell(DP_NOMEM, &e, msg, msg_cap);
    h->pair = dp_feed_pair();
    int rc = manifest && workspace ? dp_err_set(&e, DP_USAGE, 0, __FILE__, __LINE__, "feed: a manifest and a workspace are given: give one")
                                   : dp_feed_abi_source_open(&h->source, &h->feed, &h->o, manifest, workspace, options, &e);
    if (rc < 0) {
        dp_feed_abi_close(h);
        return tell(rc, &e, msg, msg_cap);
    }
    h->batch = (size_t)h->o->batch;
    h->seq_len = (size_t)h->o->seq_len;
    *out = h;
    return rc;
}

/* --- a server's --- */

static int state_of(struct dp_feed_state *s, const void *state, size_t bytes, struct dp_err *e)
{
    if (bytes != sizeof *s) DP_FAIL(e, CORRUPT, "feed: a state of %zu bytes, not %zu", bytes, sizeof *s);
    memcpy(s, state, sizeof *s);
    return DP_OK;
}

/* A new connection in place of what there was, which stays when it fails. */
static int reopen(struct dp_feed_abi *h, uint64_t start, const struct dp_feed_state *state, bool grow, struct dp_err *e)
{
    struct dp_feed_client *c;
    struct dp_feed_client_options o = h->how.o;
    struct dp_feed_client_info info;
    o.start = start;
    o.state = state;
    o.grow = grow;
    DP_TRY(dp_feed_client_open(&c, &o, e));
    dp_feed_client_info(c, &info);
    dp_feed_client_close(h->client);
    h->client = c;
    h->batch = (size_t)info.batch;
    h->seq_len = (size_t)info.seq_len;
    h->comes = info.meta;
    return DP_OK;
}

static int grow_server(struct dp_feed_abi *h, struct dp_err *e)
{
    struct dp_feed_state was, is;
    dp_feed_client_state(h->client, &was);
    DP_TRY(reopen(h, was.sample, &was, true, e));
    dp_feed_client_state(h->client, &is);
    return memcmp(was.shards_next, is.shards_next, sizeof is.shards_next) ? DP_OK : DP_EMPTY;
}

int dp_feed_abi_connect(struct dp_feed_abi **out, const char *address, const char *options, uint64_t start, const void *state, size_t bytes, char *msg,
                        size_t msg_cap)
{
    struct dp_err e = {0};
    struct dp_feed_state s;
    *out = NULL;
    struct dp_feed_abi *h = calloc(1, sizeof *h);
    if (!h) return tell(DP_NOMEM, &e, msg, msg_cap);
    h->pair = dp_feed_pair();
    int rc = dp_feed_connect_parse(&h->how, address, options, &e);
    h->how.o.stop = &h->stop;
    if (rc >= 0 && bytes) rc = state_of(&s, state, bytes, &e);
    if (rc >= 0) rc = reopen(h, start, bytes ? &s : NULL, false, &e);
    if (rc < 0) dp_feed_abi_close(h);
    else *out = h;
    return tell(rc, &e, msg, msg_cap);
}

static int server_lacks(const char *what, char *msg, size_t msg_cap)
{
    struct dp_err e;
    return tell(dp_err_set(&e, DP_USAGE, 0, __FILE__, __LINE__, "feed: a server has no %s; open the manifest for that", what), &e, msg, msg_cap);
}

int64_t dp_feed_abi_ready(const struct dp_feed_abi *h)
{
    struct dp_feed_client_info info;
    if (!h->client) return 1;
    dp_feed_client_info(h->client, &info);
    return (int64_t)info.ready;
}

void dp_feed_abi_stop(struct dp_feed_abi *h, int stop)
{
    atomic_store(&h->stop, stop != 0);
}

/* --- all --- */

void dp_feed_abi_close(struct dp_feed_abi *h)
{
    if (!h) return;
    dp_feed_abi_source_close(h->source);
    dp_feed_client_close(h->client);
    dp_feed_connect_release(&h->how);
    free(h->rows);
    free(h);
}

static void client_numbers(const struct dp_feed_abi *h, int64_t all[DP_FEED_ABI_NUMBERS])
{
    struct dp_feed_client_info i;
    struct dp_feed_state s;
    dp_feed_client_info(h->client, &i);
    dp_feed_client_state(h->client, &s);
    all[DP_FEED_ABI_SEQ_LEN] = i.seq_len;
    all[DP_FEED_ABI_BATCH] = i.batch;
    all[DP_FEED_ABI_RANK] = i.rank;
    all[DP_FEED_ABI_WORLD] = i.world;
    all[DP_FEED_ABI_SAMPLES] = (int64_t)i.samples;
    all[DP_FEED_ABI_TOKENS] = (int64_t)i.tokens;
    all[DP_FEED_ABI_DOCUMENTS] = (int64_t)i.documents;
    all[DP_FEED_ABI_VOCAB_SIZE] = i.vocab_size;
    all[DP_FEED_ABI_EOT] = i.eot;
    all[DP_FEED_ABI_PAD] = i.pad;
    all[DP_FEED_ABI_DOMAINS] = s.domains;
    all[DP_FEED_ABI_SAMPLE] = (int64_t)s.sample;
}

static void feed_numbers(const struct dp_feed_abi *h, int64_t all[DP_FEED_ABI_NUMBERS])
{
    const struct dp_feed *f = h->feed;
    struct dp_feed_state s;
    dp_feed_state(f, &s);
    all[DP_FEED_ABI_SEQ_LEN] = h->o->seq_len;
    all[DP_FEED_ABI_BATCH] = h->o->batch;
    all[DP_FEED_ABI_RANK] = h->o->rank;
    all[DP_FEED_ABI_WORLD] = h->o->world;
    all[DP_FEED_ABI_SAMPLES] = (int64_t)dp_feed_samples(f);
    all[DP_FEED_ABI_TOKENS] = (int64_t)dp_feed_tokens(f);
    all[DP_FEED_ABI_DOCUMENTS] = (int64_t)dp_feed_documents(f);
    all[DP_FEED_ABI_VOCAB_SIZE] = dp_feed_vocab_size(f);
    all[DP_FEED_ABI_EOT] = dp_feed_eot(f);
    all[DP_FEED_ABI_PAD] = dp_feed_pad(f);
    all[DP_FEED_ABI_DOMAINS] = (int64_t)dp_feed_domains(f);
    all[DP_FEED_ABI_SAMPLE] = (int64_t)s.sample;
}

size_t dp_feed_abi_numbers(const struct dp_feed_abi *h, int64_t *number, size_t n)
{
    int64_t all[DP_FEED_ABI_NUMBERS];
    (h->client ? client_numbers : feed_numbers)(h, all);
    memcpy(number, all, (n < DP_FEED_ABI_NUMBERS ? n : DP_FEED_ABI_NUMBERS) * sizeof *number);
    return DP_FEED_ABI_NUMBERS;
}

const char *dp_feed_abi_domain(const struct dp_feed_abi *h, size_t d, int64_t *number, size_t n)
{
    if (h->client || d >= dp_feed_domains(h->feed)) return NULL;
    struct dp_feed_domain_info i;
    dp_feed_domain_info(h->feed, d, &i);
    const uint64_t all[] = {i.rows, i.tokens, i.documents, i.padding, i.cut, i.draws, i.shards, i.shards_absent, i.frames_bad};
    for (size_t k = 0; k < n && k < sizeof all / sizeof *all; k++) number[k] = (int64_t)all[k];
    return i.name;
}

/* --- batches --- */

static int copy_meta(const struct dp_feed_abi *h, const struct dp_feed_meta *to, const struct dp_feed_meta *from, struct dp_err *e)
{
    const size_t B = h->batch, T = h->seq_len;
    const struct {
        void *to;
        const void *from;
        size_t bytes;
    } array[] = {
        {to->cu_seqlens, from->cu_seqlens, B * (T + 1) * sizeof *to->cu_seqlens}, {to->segments, from->segments, B * sizeof *to->segments},
        {to->positions, from->positions, B * T * sizeof *to->positions},          {to->loss_mask, from->loss_mask, B * T},
        {to->domain, from->domain, B * sizeof *to->domain},                       {to->sample, from->sample, B * sizeof *to->sample},
    };
    for (size_t i = 0; i < sizeof array / sizeof *array; i++) {
        if (!array[i].to) continue;
        if (!array[i].from) DP_FAIL(e, USAGE, "feed: the server sends only the arrays that are asked for: connect with meta=all");
        memcpy(array[i].to, array[i].from, array[i].bytes);
    }
    return DP_OK;
}

static bool wanted(const struct dp_feed_meta *m)
{
    return m->cu_seqlens || m->segments || m->positions || m->loss_mask || m->domain || m->sample;
}

/* A server's batch, with the arrays that m wants (NULL: none). Asking for what doesn't come is found before a batch is taken. */
static int client_rows(struct dp_feed_abi *h, const int32_t **rows, const struct dp_feed_meta *m, struct dp_err *e)
{
    struct dp_feed_batch b;
    if (m && wanted(m) && !h->comes) DP_FAIL(e, USAGE, "feed: the server sends only the arrays that are asked for: connect with meta=all");
    DP_TRY(dp_feed_client_next(h->client, &b, e));
    *rows = b.ids;
    return m ? copy_meta(h, m, &b.meta, e) : DP_OK;
}

static int rows_into(struct dp_feed_abi *h, int32_t *ids, const struct dp_feed_meta *m, struct dp_err *e)
{
    const int32_t *rows;
    if (!h->client) return m ? dp_feed_next_meta(h->feed, ids, m, e) : dp_feed_next(h->feed, ids, e);
    DP_TRY(client_rows(h, &rows, m, e));
    if (ids) memcpy(ids, rows, h->batch * (h->seq_len + 1) * sizeof *rows);
    return DP_OK;
}

/* By way of rows: a batch of them lies in the second-level cache, where going by single rows would save a tenth. */
static int pairs_into(struct dp_feed_abi *h, int64_t *inputs, int64_t *targets, const struct dp_feed_meta *m, struct dp_err *e)
{
    size_t T = h->seq_len, B = h->batch;
    const int32_t *rows;
    if (h->client) {
        DP_TRY(client_rows(h, &rows, m, e));
    } else {
        if (!h->rows && !(h->rows = malloc(B * (T + 1) * sizeof *h->rows))) DP_FAIL(e, NOMEM, "feed: a batch of %zu rows of %zu ids", B, T + 1);
        DP_TRY(rows_into(h, h->rows, m, e));
        rows = h->rows;
    }
    for (size_t b = 0; b < B; b++) h->pair(inputs + b * T, targets + b * T, rows + b * (T + 1), T);
    return DP_OK;
}

int dp_feed_abi_next(struct dp_feed_abi *h, int32_t *ids, int32_t *cu_seqlens, int32_t *segments, int32_t *positions, uint8_t *loss_mask,
                     uint32_t *domain, uint64_t *sample, char *msg, size_t msg_cap)
{
    struct dp_err e = {0};
    const struct dp_feed_meta m = {cu_seqlens, segments, positions, loss_mask, domain, sample};
    return tell(rows_into(h, ids, wanted(&m) ? &m : NULL, &e), &e, msg, msg_cap);
}

int dp_feed_abi_next_pair(struct dp_feed_abi *h, int64_t *inputs, int64_t *targets, int32_t *cu_seqlens, int32_t *segments, int32_t *positions,
                          uint8_t *loss_mask, uint32_t *domain, uint64_t *sample, char *msg, size_t msg_cap)
{
    struct dp_err e = {0};
    const struct dp_feed_meta m = {cu_seqlens, segments, positions, loss_mask, domain, sample};
    return tell(pairs_into(h, inputs, targets, wanted(&m) ? &m : NULL, &e), &e, msg, msg_cap);
}

int dp_feed_abi_rows(struct dp_feed_abi *h, int32_t *ids)
{
    h->failed.msg[0] = 0;
    return rows_into(h, ids, NULL, &h->failed);
}

int dp_feed_abi_pairs(struct dp_feed_abi *h, int64_t *pairs)
{
    h->failed.msg[0] = 0;
    return pairs_into(h, pairs, pairs + h->batch * h->seq_len, NULL, &h->failed);
}

const char *dp_feed_abi_message(const struct dp_feed_abi *h)
{
    return h->failed.msg;
}

int dp_feed_abi_get(const struct dp_feed_abi *h, uint64_t sample, int32_t *ids, char *msg, size_t msg_cap)
{
    struct dp_err e = {0};
    if (h->client) return server_lacks("single rows", msg, msg_cap);
    return tell(dp_feed_get(h->feed, sample, ids, &e), &e, msg, msg_cap);
}

int dp_feed_abi_seek(struct dp_feed_abi *h, uint64_t sample, char *msg, size_t msg_cap)
{
    struct dp_err e = {0};
    struct dp_feed_state s;
    if (h->client) {
        dp_feed_client_state(h->client, &s);
        s.sample = sample;
        return tell(reopen(h, sample, &s, false, &e), &e, msg, msg_cap);
    }
    dp_feed_state(h->feed, &s);
    s.sample = sample;
    return tell(dp_feed_resume(h->feed, &s, &e), &e, msg, msg_cap);
}

void dp_feed_abi_state(const struct dp_feed_abi *h, void *state)
{
    struct dp_feed_state s;
    memset(&s, 0, sizeof s);
    if (h->client) dp_feed_client_state(h->client, &s);
    else dp_feed_state(h->feed, &s);
    memcpy(state, &s, sizeof s);
}

int dp_feed_abi_resume(struct dp_feed_abi *h, const void *state, size_t bytes, char *msg, size_t msg_cap)
{
    struct dp_err e = {0};
    struct dp_feed_state s;
    int rc = state_of(&s, state, bytes, &e);
    if (rc >= 0) rc = h->client ? reopen(h, s.sample, &s, false, &e) : dp_feed_resume(h->feed, &s, &e);
    if (rc == DP_CONFIG && h->feed) { /* it may have seen the workspace's manifest when that had grown further */
        struct dp_err second = {0};
        if (dp_feed_abi_source_renew(h->source, &second) >= 0) rc = dp_feed_resume(h->feed, &s, &e);
    }
    return tell(rc, &e, msg, msg_cap);
}

int dp_feed_abi_reload(struct dp_feed_abi *h, char *msg, size_t msg_cap)
{
    struct dp_err e = {0};
    if (h->client) return tell(grow_server(h, &e), &e, msg, msg_cap);
    int rc = dp_feed_abi_source_renew(h->source, &e);
    return tell(rc < 0 ? rc : dp_feed_reload(h->feed, &e), &e, msg, msg_cap);
}

int dp_feed_abi_locate(const struct dp_feed_abi *h, uint64_t sample, uint64_t row_token, const char **shard, const char **domain,
                       int64_t number[5], char *id_hex, char *content_hex, char *msg, size_t msg_cap)
{
    struct dp_err e = {0};
    struct dp_feed_origin o;
    if (h->client) return server_lacks("origins", msg, msg_cap);
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
