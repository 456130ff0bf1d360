#include "tokenizer/tokenizer_abi.h"

#include "tokenizer/encode.h"

#include <stdio.h>
#include <stdlib.h>

struct dp_tokenizer_abi {
    struct dp_tokenizer *tokenizer;
    struct dp_encoder *encoder;
    struct dp_ids ids;
    struct dp_buf text;
};

static int tell(int rc, const struct dp_err *e, char *msg, size_t cap)
{
    if (rc < 0 && msg && cap) snprintf(msg, cap, "%s", e->code ? e->msg : dp_code_name(rc));
    return rc;
}

int dp_tokenizer_abi_open(struct dp_tokenizer_abi **out, const char *path, const char *split, int specials, size_t cache_bytes, char *msg,
                          size_t msg_cap)
{
    struct dp_err e = {0};
    struct dp_tokenizer_abi *h = calloc(1, sizeof *h);
    *out = NULL;
    if (!h) return tell(DP_NOMEM, &e, msg, msg_cap);
    dp_buf_init(&h->text, SIZE_MAX / 2);
    int rc = dp_tokenizer_load_file(&h->tokenizer, path, split, &e);
    if (rc >= 0) rc = dp_encoder_open(&h->encoder, h->tokenizer, cache_bytes, specials ? DP_SPECIAL_ALL : DP_SPECIAL_NONE, &e);
    if (rc < 0) dp_tokenizer_abi_close(h);
    else *out = h;
    return tell(rc, &e, msg, msg_cap);
}

void dp_tokenizer_abi_close(struct dp_tokenizer_abi *h)
{
    if (!h) return;
    dp_encoder_close(h->encoder);
    dp_tokenizer_free(h->tokenizer);
    dp_ids_release(&h->ids);
    dp_buf_release(&h->text);
    free(h);
}

int dp_tokenizer_abi_encode(struct dp_tokenizer_abi *h, const char *text, const uint64_t *end, size_t n, const uint32_t **ids, uint64_t *id_end,
                            char *msg, size_t msg_cap)
{
    struct dp_err e = {0};
    h->ids.len = 0;
    *ids = NULL;
    for (size_t k = 0; k < n; k++) {
        uint64_t begin = k ? end[k - 1] : 0;
        if (end[k] < begin) return tell(dp_err_set(&e, DP_USAGE, 0, __FILE__, __LINE__, "text %zu ends before it begins", k), &e, msg, msg_cap);
        int rc = dp_encode(h->encoder, dp_span(text + begin, (size_t)(end[k] - begin)), &h->ids, &e);
        if (rc < 0) return tell(rc, &e, msg, msg_cap);
        id_end[k] = h->ids.len;
    }
    *ids = h->ids.ptr;
    return DP_OK;
}

int dp_tokenizer_abi_decode(struct dp_tokenizer_abi *h, const uint32_t *ids, size_t n, const char **text, size_t *bytes, char *msg,
                            size_t msg_cap)
{
    struct dp_err e = {0};
    dp_buf_clear(&h->text);
    int rc = dp_decode(h->tokenizer, ids, n, &h->text, &e);
    *text = (const char *)h->text.ptr;
    *bytes = h->text.len;
    return tell(rc, &e, msg, msg_cap);
}

uint32_t dp_tokenizer_abi_size(const struct dp_tokenizer_abi *h)
{
    return dp_tokenizer_size(h->tokenizer);
}

int64_t dp_tokenizer_abi_eot(const struct dp_tokenizer_abi *h)
{
    return dp_tokenizer_eot(h->tokenizer);
}

int64_t dp_tokenizer_abi_id(const struct dp_tokenizer_abi *h, const char *token, size_t bytes)
{
    int64_t id = dp_tokenizer_special(h->tokenizer, dp_span(token, bytes));
    return id >= 0 ? id : dp_tokenizer_id(h->tokenizer, dp_span(token, bytes));
}

int dp_tokenizer_abi_special(const struct dp_tokenizer_abi *h, size_t k, const char **text, size_t *bytes, uint32_t *id)
{
    size_t n;
    const struct dp_special *s = dp_tokenizer_specials(h->tokenizer, &n);
    if (k >= n) return 0;
    *text = s[k].text.ptr;
    *bytes = s[k].text.len;
    *id = s[k].id;
    return 1;
}

void dp_tokenizer_abi_digest(const struct dp_tokenizer_abi *h, char hex[33])
{
    dp_hash128_hex(dp_tokenizer_digest(h->tokenizer), hex);
}
