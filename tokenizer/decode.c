/* tokenizer/decode.c - ids to text. */
#include "tokenizer/encode.h"

#include "tokenizer/sp.h"
#include "tokenizer/tokenizer_int.h"

enum { GROUP = 256, STEP = 4 };

/* The first id of ids[0..n), which stands at `from` of all, that no token has. */
static int no_token(const struct dp_tokenizer *t, const uint32_t *ids, size_t n, size_t from, struct dp_err *e)
{
    size_t i = 0;
    while (i + 1 < n && ids[i] < t->size && t->bytes[ids[i]].ptr) i++;
    DP_FAIL(e, CORRUPT, "id %u at position %zu is no token of this tokenizer (%u ids): was the text encoded with another?", ids[i], from + i, t->size);
}

/* Append n ids one by one. */
static int decode_slow(const struct dp_tokenizer *t, const uint32_t *ids, size_t n, size_t from, struct dp_buf *out, struct dp_err *e)
{
    for (size_t i = 0; i < n; i++) {
        struct dp_span b = dp_tokenizer_bytes(t, ids[i]);
        if (!b.ptr) return no_token(t, ids, n, from, e);
        if (b.len > out->bytes_max || out->len > out->bytes_max - b.len) DP_FAIL(e, LIMIT, "ids are more than %zu bytes of text", out->bytes_max);
        char *to = dp_buf_reserve(out, b.len);
        if (!to) DP_FAIL(e, NOMEM, "%zu bytes of decoded text", out->len + b.len);
        memcpy(to, b.ptr, b.len);
        out->len += b.len;
    }
    return DP_OK;
}

/* The short tokens of ids[0..n) up to the first four with one that is long, or none, or past the vocabulary: how many they are, and where their bytes
 * end in *to, which has room for GROUP of them. A token is a copy of 16 bytes, of which the next one overwrites what is too much. Entries are read
 * four at a time before their bytes are written, since the processor takes writes for possible causes of later reads. */
static size_t decode_short(const struct dp_tokenizer *t, const uint32_t *ids, size_t n, char **to)
{
    const struct dp_short_bytes *table = t->short_bytes;
    const uint32_t size = t->size;
    char *p = *to;
    size_t i = 0;
    for (; i + STEP <= n; i += STEP) {
        uint32_t a = ids[i], b = ids[i + 1], c = ids[i + 2], d = ids[i + 3];
        if ((a >= size) | (b >= size) | (c >= size) | (d >= size)) break;
        struct dp_short_bytes w = table[a], x = table[b], y = table[c], z = table[d];
        unsigned odd = (w.len - 1u) | (x.len - 1u) | (y.len - 1u) | (z.len - 1u);
        if (odd > DP_SHORT_BYTES) break; /* lengths of 1 to 15 give at most 15 */
        char *px = p + w.len, *py = px + x.len, *pz = py + y.len;
        memcpy(p, &w, sizeof w);
        memcpy(px, &x, sizeof x);
        memcpy(py, &y, sizeof y);
        memcpy(pz, &z, sizeof z);
        p = pz + z.len;
    }
    *to = p;
    return i;
}

static int decode_sp(const struct dp_tokenizer *t, const uint32_t *ids, size_t n, struct dp_buf *out, struct dp_err *e)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] >= t->size) return no_token(t, ids, n, 0, e);
    dp_sp_decode(t->sp, ids, n, out);
    return dp_buf_check(out, "decoded text", e);
}

int dp_decode(const struct dp_tokenizer *t, const uint32_t *ids, size_t n, struct dp_buf *out, struct dp_err *e)
{
    const size_t len = out->len, room = GROUP * sizeof *t->short_bytes;
    int rc = dp_buf_reserve(out, 0) ? DP_OK : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "decoded text");
    if (rc >= 0 && t->sp) rc = decode_sp(t, ids, n, out, e);
    for (size_t i = 0; rc >= 0 && !t->sp && i < n;) {
        size_t part = n - i < GROUP ? n - i : GROUP;
        if (room <= out->bytes_max && out->len <= out->bytes_max - room) {
            char *to = dp_buf_reserve(out, room);
            if (!to) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%zu bytes of decoded text", out->len + room);
            if (rc < 0) break;
            size_t done = decode_short(t, ids + i, part, &to);
            out->len = (size_t)(to - out->ptr);
            i += done;
            part = part - done < STEP ? part - done : STEP;
        }
        rc = decode_slow(t, ids + i, part, i, out, e);
        i += part;
    }
    if (rc < 0) out->len = len;
    if (out->ptr) out->ptr[out->len] = 0;
    return rc;
}
