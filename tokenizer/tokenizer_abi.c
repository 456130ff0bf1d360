#include "tokenizer/tokenizer_abi.h"

#include "tokenizer/decode_stream.h"
#include "tokenizer/encode.h"
#include "tokenizer/encode_stream.h"
#include "tokenizer/offsets.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/* A vocabulary and how many handles and decoders are on it. */
struct shared {
    struct dp_tokenizer *tokenizer;
    atomic_size_t owners;
};

struct dp_tokenizer_abi {
    struct shared *shared;
    struct dp_encoder *encoder;
    struct dp_ids ids;
    struct dp_offset *offsets;
    size_t offsets_cap;
    struct dp_buf text;
};

static int tell(int rc, const struct dp_err *e, char *msg, size_t cap)
{
    if (rc < 0 && msg && cap) snprintf(msg, cap, "%s", e->code ? e->msg : dp_code_name(rc));
    return rc;
}

int dp_tokenizer_abi_version(void)
{
    return DP_TOKENIZER_ABI_VERSION;
}

static void leave(struct shared *s)
{
    if (!s || atomic_fetch_sub(&s->owners, 1) > 1) return;
    dp_tokenizer_free(s->tokenizer);
    free(s);
}

/* A handle on s, which it then owns a share of, on failure too. beside: whose cache it shares, or NULL. */
static int open_on(struct dp_tokenizer_abi **out, struct shared *s, const struct dp_encoder *beside, int specials, size_t cache_bytes, struct dp_err *e)
{
    struct dp_tokenizer_abi *h = calloc(1, sizeof *h);
    if (!h) {
        leave(s);
        DP_FAIL(e, NOMEM, "a tokenizer's handle");
    }
    h->shared = s;
    dp_buf_init(&h->text, SIZE_MAX / 2);
    enum dp_special_policy special = specials ? DP_SPECIAL_ALL : DP_SPECIAL_NONE;
    int rc = beside ? dp_encoder_open_beside(&h->encoder, beside, special, e) : dp_encoder_open(&h->encoder, s->tokenizer, cache_bytes, special, e);
    if (rc < 0) dp_tokenizer_abi_close(h);
    else *out = h;
    return rc;
}

/* From a file, or with path NULL from its content. */
static int open_new(struct dp_tokenizer_abi **out, const char *path, struct dp_span content, const char *name, const char *split, int specials,
                    size_t cache_bytes, struct dp_err *e)
{
    struct shared *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s) DP_FAIL(e, NOMEM, "a tokenizer's handle");
    atomic_init(&s->owners, 1);
    int rc = path ? dp_tokenizer_load_file(&s->tokenizer, path, split, e) : dp_tokenizer_load(&s->tokenizer, content, name, split, e);
    if (rc >= 0) return open_on(out, s, NULL, specials, cache_bytes, e);
    leave(s);
    return rc;
}

int dp_tokenizer_abi_open(struct dp_tokenizer_abi **out, const char *path, const char *split, int specials, size_t cache_bytes, char *msg,
                          size_t msg_cap)
{
    struct dp_err e = {0};
    return tell(open_new(out, path, (struct dp_span){NULL, 0}, NULL, split, specials, cache_bytes, &e), &e, msg, msg_cap);
}

int dp_tokenizer_abi_open_memory(struct dp_tokenizer_abi **out, const char *content, size_t bytes, const char *name, const char *split, int specials,
                                 size_t cache_bytes, char *msg, size_t msg_cap)
{
    struct dp_err e = {0};
    return tell(open_new(out, NULL, dp_span(content, bytes), name, split, specials, cache_bytes, &e), &e, msg, msg_cap);
}

int dp_tokenizer_abi_clone(struct dp_tokenizer_abi **out, const struct dp_tokenizer_abi *h, int specials, size_t cache_bytes, char *msg, size_t msg_cap)
{
    struct dp_err e = {0};
    *out = NULL;
    atomic_fetch_add(&h->shared->owners, 1);
    return tell(open_on(out, h->shared, cache_bytes ? NULL : h->encoder, specials, cache_bytes, &e), &e, msg, msg_cap);
}

void dp_tokenizer_abi_close(struct dp_tokenizer_abi *h)
{
    if (!h) return;
    dp_encoder_close(h->encoder);
    leave(h->shared);
    dp_ids_release(&h->ids);
    free(h->offsets);
    dp_buf_release(&h->text);
    free(h);
}

/* Text k of a call. */
static int text_at(const char *text, const uint64_t *end, size_t k, struct dp_span *out, struct dp_err *e)
{
    uint64_t begin = k ? end[k - 1] : 0;
    if (end[k] < begin) DP_FAIL(e, USAGE, "text %zu ends before it begins", k);
    *out = dp_span(text + begin, (size_t)(end[k] - begin));
    return DP_OK;
}

static int add_offsets(struct dp_tokenizer_abi *h, struct dp_span text, size_t from, int chars, struct dp_err *e)
{
    if (h->ids.len > h->offsets_cap) {
        struct dp_offset *p = realloc(h->offsets, h->ids.cap * sizeof *p);
        if (!p) DP_FAIL(e, NOMEM, "%zu offsets", h->ids.cap);
        h->offsets = p;
        h->offsets_cap = h->ids.cap;
    }
    if (h->ids.len == from) return DP_OK;
    return dp_offsets(h->shared->tokenizer, text, h->ids.ptr + from, h->ids.len - from, chars ? DP_OFFSET_CHARS : DP_OFFSET_BYTES, h->offsets + from, e);
}

/* offsets: -1 none, else `chars`. */
static int encode(struct dp_tokenizer_abi *h, const char *text, const uint64_t *end, size_t n, int offsets, uint64_t *id_end, struct dp_err *e)
{
    h->ids.len = 0;
    for (size_t k = 0; k < n; k++) {
        struct dp_span s;
        size_t from = h->ids.len;
        DP_TRY(text_at(text, end, k, &s, e));
        DP_TRY(dp_encode(h->encoder, s, &h->ids, e));
        if (offsets >= 0) DP_TRY(add_offsets(h, s, from, offsets, e));
        id_end[k] = h->ids.len;
    }
    return DP_OK;
}

int dp_tokenizer_abi_encode(struct dp_tokenizer_abi *h, const char *text, const uint64_t *end, size_t n, const uint32_t **ids, uint64_t *id_end,
                            char *msg, size_t msg_cap)
{
    struct dp_err e = {0};
    int rc = encode(h, text, end, n, -1, id_end, &e);
    *ids = rc < 0 ? NULL : h->ids.ptr;
    return tell(rc, &e, msg, msg_cap);
}

int dp_tokenizer_abi_encode_offsets(struct dp_tokenizer_abi *h, const char *text, const uint64_t *end, size_t n, int chars, const uint32_t **ids,
                                    uint64_t *id_end, const uint64_t **offsets, char *msg, size_t msg_cap)
{
    _Static_assert(sizeof(struct dp_offset) == 2 * sizeof(uint64_t), "offsets are pairs of numbers");
    struct dp_err e = {0};
    int rc = encode(h, text, end, n, chars != 0, id_end, &e);
    *ids = rc < 0 ? NULL : h->ids.ptr;
    *offsets = rc < 0 ? NULL : (const uint64_t *)(const void *)h->offsets;
    return tell(rc, &e, msg, msg_cap);
}

int dp_tokenizer_abi_count(struct dp_tokenizer_abi *h, const char *text, const uint64_t *end, size_t n, uint64_t *count, char *msg, size_t msg_cap)
{
    struct dp_err e = {0};
    int rc = DP_OK;
    for (size_t k = 0; rc >= 0 && k < n; k++) {
        struct dp_span s;
        rc = text_at(text, end, k, &s, &e);
        if (rc >= 0) rc = dp_encode_count(h->encoder, s, &count[k], &e);
    }
    return tell(rc, &e, msg, msg_cap);
}

int dp_tokenizer_abi_decode(struct dp_tokenizer_abi *h, const uint32_t *ids, size_t n, const char **text, size_t *bytes, char *msg,
                            size_t msg_cap)
{
    struct dp_err e = {0};
    dp_buf_clear(&h->text);
    int rc = dp_decode(h->shared->tokenizer, ids, n, &h->text, &e);
    *text = (const char *)h->text.ptr;
    *bytes = h->text.len;
    return tell(rc, &e, msg, msg_cap);
}

uint32_t dp_tokenizer_abi_size(const struct dp_tokenizer_abi *h)
{
    return dp_tokenizer_size(h->shared->tokenizer);
}

int64_t dp_tokenizer_abi_eot(const struct dp_tokenizer_abi *h)
{
    return dp_tokenizer_eot(h->shared->tokenizer);
}

int64_t dp_tokenizer_abi_id(const struct dp_tokenizer_abi *h, const char *token, size_t bytes)
{
    int64_t id = dp_tokenizer_special(h->shared->tokenizer, dp_span(token, bytes));
    return id >= 0 ? id : dp_tokenizer_id(h->shared->tokenizer, dp_span(token, bytes));
}

int dp_tokenizer_abi_token(const struct dp_tokenizer_abi *h, uint32_t id, const char **token, size_t *bytes)
{
    struct dp_span b = dp_tokenizer_bytes(h->shared->tokenizer, id);
    if (!b.ptr) return 0;
    *token = b.ptr;
    *bytes = b.len;
    return dp_tokenizer_special(h->shared->tokenizer, b) == (int64_t)id ? 2 : 1;
}

int dp_tokenizer_abi_special(const struct dp_tokenizer_abi *h, size_t k, const char **text, size_t *bytes, uint32_t *id)
{
    size_t n;
    const struct dp_special *s = dp_tokenizer_specials(h->shared->tokenizer, &n);
    if (k >= n) return 0;
    *text = s[k].text.ptr;
    *bytes = s[k].text.len;
    *id = s[k].id;
    return 1;
}

void dp_tokenizer_abi_digest(const struct dp_tokenizer_abi *h, char hex[33])
{
    dp_hash128_hex(dp_tokenizer_digest(h->shared->tokenizer), hex);
}

/* --- ids that come one by one --- */

struct dp_tokenizer_abi_decoder {
    struct shared *shared;
    struct dp_decode_stream stream;
    struct dp_buf text;
};

int dp_tokenizer_abi_decoder_open(struct dp_tokenizer_abi_decoder **out, const struct dp_tokenizer_abi *h, int keep_bad, int skip_specials, char *msg,
                                  size_t msg_cap)
{
    struct dp_err e = {0};
    struct dp_tokenizer_abi_decoder *d = *out = calloc(1, sizeof *d);
    if (!d) return tell(dp_err_set(&e, DP_NOMEM, 0, __FILE__, __LINE__, "a decoder"), &e, msg, msg_cap);
    atomic_fetch_add(&h->shared->owners, 1);
    d->shared = h->shared;
    dp_decode_stream_init(&d->stream, h->shared->tokenizer, keep_bad ? DP_BAD_KEEP : DP_BAD_REPLACE, skip_specials != 0);
    dp_buf_init(&d->text, SIZE_MAX / 2);
    return DP_OK;
}

void dp_tokenizer_abi_decoder_close(struct dp_tokenizer_abi_decoder *d)
{
    if (!d) return;
    leave(d->shared);
    dp_buf_release(&d->text);
    free(d);
}

int dp_tokenizer_abi_decoder_push(struct dp_tokenizer_abi_decoder *d, const uint32_t *ids, size_t n, const char **text, size_t *bytes, char *msg,
                                  size_t msg_cap)
{
    struct dp_err e = {0};
    dp_buf_clear(&d->text);
    int rc = dp_decode_stream_push(&d->stream, ids, n, &d->text, &e);
    *text = d->text.ptr;
    *bytes = d->text.len;
    return tell(rc, &e, msg, msg_cap);
}

int dp_tokenizer_abi_decoder_finish(struct dp_tokenizer_abi_decoder *d, const char **text, size_t *bytes, char *msg, size_t msg_cap)
{
    struct dp_err e = {0};
    dp_buf_clear(&d->text);
    int rc = dp_decode_stream_finish(&d->stream, &d->text, &e);
    *text = d->text.ptr;
    *bytes = d->text.len;
    return tell(rc, &e, msg, msg_cap);
}

/* --- text that comes in pieces --- */

struct dp_tokenizer_abi_stream {
    struct dp_encode_stream *stream;
    struct dp_ids ids;
};

int dp_tokenizer_abi_stream_open(struct dp_tokenizer_abi_stream **out, struct dp_tokenizer_abi *h, size_t bytes_max, char *msg, size_t msg_cap)
{
    struct dp_err e = {0};
    struct dp_tokenizer_abi_stream *s = calloc(1, sizeof *s);
    int rc = s ? dp_encode_stream_open(&s->stream, h->encoder, bytes_max, &e) : dp_err_set(&e, DP_NOMEM, 0, __FILE__, __LINE__, "a stream of text");
    *out = rc < 0 ? NULL : s;
    if (rc < 0) free(s);
    return tell(rc, &e, msg, msg_cap);
}

void dp_tokenizer_abi_stream_close(struct dp_tokenizer_abi_stream *s)
{
    if (!s) return;
    dp_encode_stream_close(s->stream);
    dp_ids_release(&s->ids);
    free(s);
}

int dp_tokenizer_abi_stream_push(struct dp_tokenizer_abi_stream *s, const char *text, size_t bytes, const uint32_t **ids, size_t *n, char *msg,
                                 size_t msg_cap)
{
    struct dp_err e = {0};
    s->ids.len = 0;
    int rc = dp_encode_stream_push(s->stream, dp_span(text, bytes), &s->ids, &e);
    *ids = s->ids.ptr;
    *n = s->ids.len;
    return tell(rc, &e, msg, msg_cap);
}

int dp_tokenizer_abi_stream_finish(struct dp_tokenizer_abi_stream *s, const uint32_t **ids, size_t *n, char *msg, size_t msg_cap)
{
    struct dp_err e = {0};
    s->ids.len = 0;
    int rc = dp_encode_stream_finish(s->stream, &s->ids, &e);
    *ids = s->ids.ptr;
    *n = s->ids.len;
    return tell(rc, &e, msg, msg_cap);
}
