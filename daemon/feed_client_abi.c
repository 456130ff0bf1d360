#include "daemon/feed_client_abi.h"

#include "base/tcp.h"
#include "daemon/feed_abi.h"

#include <stdio.h>
#include <stdlib.h>

struct settings {
    int64_t start, slots, compress;
    double reconnect;
    char *meta, *token_file, *token, *tls_ca, *tls_cert, *tls_key, *tls_host;
    bool tls;
};
#define S(field) offsetof(struct settings, field)
static const struct dp_opt rows[] = {
    {.name = "start", .type = DP_OPT_INT, .offset = S(start), .preset = "0", .min = 0, .max = 4e18},
    {.name = "slots", .type = DP_OPT_INT, .offset = S(slots), .preset = "0", .min = 0, .max = 1024},
    {.name = "compress", .type = DP_OPT_INT, .offset = S(compress), .preset = "0", .min = 0, .max = 19},
    {.name = "reconnect", .type = DP_OPT_TIME, .offset = S(reconnect), .preset = "60s", .min = 0, .max = 1e9},
    {.name = "meta", .type = DP_OPT_STRING, .offset = S(meta)},
    {.name = "token_file", .type = DP_OPT_STRING, .offset = S(token_file)},
    {.name = "token", .type = DP_OPT_STRING, .offset = S(token)},
    {.name = "tls_ca", .type = DP_OPT_STRING, .offset = S(tls_ca)},
    {.name = "tls_cert", .type = DP_OPT_STRING, .offset = S(tls_cert)},
    {.name = "tls_key", .type = DP_OPT_STRING, .offset = S(tls_key)},
    {.name = "tls_host", .type = DP_OPT_STRING, .offset = S(tls_host)},
    {.name = "tls", .type = DP_OPT_BOOL, .offset = S(tls)},
    DP_OPT_END,
};

struct dp_feed_client_abi {
    struct dp_feed_client *client;
    atomic_bool stop;
};

static int tell(int rc, const struct dp_err *e, char *msg, size_t cap)
{
    if (rc < 0 && msg && cap) snprintf(msg, cap, "%s", e->code ? e->msg : dp_code_name(rc));
    return rc;
}

/* Lines of ours into *s, the others into `wants`. */
static int sort_options(const char *text, struct settings *s, struct dp_buf *wants, struct dp_err *e)
{
    for (const char *p = text; p && *p;) {
        struct dp_span line = dp_span(p, strcspn(p, "\n"));
        p += line.len + (p[line.len] == '\n');
        if (!line.len) continue;
        const char *eq = memchr(line.ptr, '=', line.len);
        struct dp_span name = dp_span(line.ptr, eq ? (size_t)(eq - line.ptr) : line.len);
        const struct dp_opt *own = dp_opt_find(rows, name), *row = dp_opt_find(dp_feed_opts, name);
        if (!eq || (!own && !row)) DP_FAIL(e, USAGE, "feed: there is no option \"%.*s\"", DP_SPAN_FMT(name));
        if (own) {
            DP_TRY(dp_opt_set(own, s, dp_span(eq + 1, line.len - name.len - 1), own->name, e));
            continue;
        }
        dp_buf_printf(wants, "%s=", row->name);
        dp_buf_add(wants, eq + 1, line.len - name.len - 1);
        dp_buf_add_char(wants, '\n');
    }
    return dp_buf_check(wants, "feed: options", e);
}

static int open_client(struct dp_feed_client_abi *h, const char *addr, const char *text, const struct dp_feed_state *state, struct dp_err *e)
{
    struct settings s = {0};
    struct dp_buf wants;
    char *token = NULL;
    unsigned meta = 0;
    dp_buf_init(&wants, 16 << 10);
    int rc = dp_opt_defaults(rows, &s, e);
    if (rc >= 0) rc = sort_options(text, &s, &wants, e);
    if (rc >= 0 && s.meta) rc = dp_feed_meta_parse(dp_span_str(s.meta), &meta, e);
    if (rc >= 0 && s.token_file) rc = dp_secret_read(&token, s.token_file, e);
    if (rc >= 0) {
        const struct dp_feed_client_options o = {.addr = addr, .wants = wants.ptr, .start = (uint64_t)s.start, .state = state, .slots = (uint64_t)s.slots,
            .meta = meta, .reconnect_seconds = s.reconnect, .stop = &h->stop, .compress = (int)s.compress, .token = token ? token : s.token,
            .tls = s.tls, .ca = s.tls_ca, .cert = s.tls_cert, .key = s.tls_key, .host = s.tls_host};
        rc = dp_feed_client_open(&h->client, &o, e);
    }
    dp_opt_release(rows, &s);
    dp_buf_release(&wants);
    free(token);
    return rc;
}

int dp_feed_client_abi_open(struct dp_feed_client_abi **out, const char *addr, const char *options, const void *state, size_t state_bytes, char *msg,
                            size_t msg_cap)
{
    struct dp_err e = {0};
    struct dp_feed_state s;
    struct dp_feed_client_abi *h = calloc(1, sizeof *h);
    int rc = DP_OK;
    *out = NULL;
    if (!h) return tell(DP_NOMEM, &e, msg, msg_cap);
    if (state && state_bytes != sizeof s)
        rc = dp_err_set(&e, DP_USAGE, 0, __FILE__, __LINE__, "feed: a state of %zu bytes, not %zu", state_bytes, sizeof s);
    else if (state) memcpy(&s, state, sizeof s);
    if (rc >= 0) rc = open_client(h, addr, options, state ? &s : NULL, &e);
    if (rc < 0) free(h);
    else *out = h;
    return tell(rc, &e, msg, msg_cap);
}

void dp_feed_client_abi_close(struct dp_feed_client_abi *h)
{
    if (!h) return;
    dp_feed_client_close(h->client);
    free(h);
}

size_t dp_feed_client_abi_numbers(const struct dp_feed_client_abi *h, int64_t *number, size_t n)
{
    struct dp_feed_client_info i;
    struct dp_feed_state s;
    dp_feed_client_info(h->client, &i);
    dp_feed_client_state(h->client, &s);
    const int64_t all[DP_FEED_CLIENT_ABI_NUMBERS] = {
        [DP_FEED_CLIENT_ABI_SEQ_LEN] = i.seq_len,
        [DP_FEED_CLIENT_ABI_BATCH] = i.batch,
        [DP_FEED_CLIENT_ABI_RANK] = i.rank,
        [DP_FEED_CLIENT_ABI_WORLD] = i.world,
        [DP_FEED_CLIENT_ABI_SAMPLES] = (int64_t)i.samples,
        [DP_FEED_CLIENT_ABI_TOKENS] = (int64_t)i.tokens,
        [DP_FEED_CLIENT_ABI_DOCUMENTS] = (int64_t)i.documents,
        [DP_FEED_CLIENT_ABI_VOCAB_SIZE] = i.vocab_size,
        [DP_FEED_CLIENT_ABI_EOT] = i.eot,
        [DP_FEED_CLIENT_ABI_PAD] = i.pad,
        [DP_FEED_CLIENT_ABI_META] = i.meta,
        [DP_FEED_CLIENT_ABI_SLOTS] = (int64_t)i.slots,
        [DP_FEED_CLIENT_ABI_READY] = (int64_t)i.ready,
        [DP_FEED_CLIENT_ABI_RECONNECTS] = (int64_t)i.reconnects,
        [DP_FEED_CLIENT_ABI_SAMPLE] = (int64_t)s.sample,
    };
    memcpy(number, all, (n < DP_FEED_CLIENT_ABI_NUMBERS ? n : DP_FEED_CLIENT_ABI_NUMBERS) * sizeof *number);
    return DP_FEED_CLIENT_ABI_NUMBERS;
}

int dp_feed_client_abi_next(struct dp_feed_client_abi *h, const int32_t **ids, const void **array, uint64_t *first, uint64_t *next, char *msg,
                            size_t msg_cap)
{
    struct dp_err e = {0};
    struct dp_feed_batch b;
    int rc = dp_feed_client_next(h->client, &b, &e);
    if (rc < 0) return tell(rc, &e, msg, msg_cap);
    const void *const all[6] = {b.meta.cu_seqlens, b.meta.segments, b.meta.positions, b.meta.loss_mask, b.meta.domain, b.meta.sample};
    *ids = b.ids;
    if (array) memcpy(array, all, sizeof all);
    if (first) *first = b.sample;
    if (next) *next = b.next;
    return DP_OK;
}

static void widen(int64_t *restrict to, const int32_t *restrict from, size_t n)
{
    for (size_t i = 0; i < n; i++) to[i] = (int64_t)(uint32_t)from[i];
}

int dp_feed_client_abi_next_pair(struct dp_feed_client_abi *h, int64_t *inputs, int64_t *targets, const void **array, uint64_t *first, uint64_t *next,
                                 char *msg, size_t msg_cap)
{
    struct dp_feed_client_info i;
    const int32_t *ids;
    int rc = dp_feed_client_abi_next(h, &ids, array, first, next, msg, msg_cap);
    if (rc < 0) return rc;
    dp_feed_client_info(h->client, &i);
    size_t t = (size_t)i.seq_len;
    for (size_t b = 0; b < (size_t)i.batch; b++) {
        if (inputs) widen(inputs + b * t, ids + b * (t + 1), t);
        if (targets) widen(targets + b * t, ids + b * (t + 1) + 1, t);
    }
    return DP_OK;
}

void dp_feed_client_abi_state(const struct dp_feed_client_abi *h, void *state)
{
    struct dp_feed_state s;
    dp_feed_client_state(h->client, &s);
    memcpy(state, &s, sizeof s);
}

void dp_feed_client_abi_stop(struct dp_feed_client_abi *h)
{
    atomic_store(&h->stop, true);
}
