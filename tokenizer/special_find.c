#include "tokenizer/special_find.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct dp_special_find {
    size_t n;
    int first; /* the byte that all begin with; -1: there are several */
    uint64_t heads[1024]; /* a bit for each pair of bytes that one begins with */
    char *copy;
    struct dp_span texts[]; /* by their first two bytes, the longest first */
};

static unsigned head(const char *p)
{
    return (unsigned)(uint8_t)p[0] << 8 | (uint8_t)p[1];
}

static int compare(const void *a, const void *b)
{
    const struct dp_span *x = a, *y = b;
    unsigned i = head(x->ptr), k = head(y->ptr);
    if (i != k) return i < k ? -1 : 1;
    return (x->len < y->len) - (x->len > y->len);
}

int dp_special_find_of(struct dp_special_find **out, const struct dp_span *texts, size_t n, struct dp_err *e)
{
    size_t bytes = 0;
    *out = NULL;
    for (size_t i = 0; i < n; i++) bytes += texts[i].len;
    struct dp_special_find *f = calloc(1, sizeof *f + n * sizeof *f->texts);
    if (f) f->copy = malloc(bytes + 1);
    if (!f || !f->copy) {
        free(f);
        DP_FAIL(e, NOMEM, "special tokens");
    }
    char *to = f->copy;
    f->first = -1;
    for (size_t i = 0; i < n; i++) {
        if (texts[i].len < 2) continue;
        f->texts[f->n] = dp_span(memcpy(to, texts[i].ptr, texts[i].len), texts[i].len);
        to += texts[i].len;
        f->first = f->n == 0 || f->first == (uint8_t)*texts[i].ptr ? (uint8_t)*texts[i].ptr : -1;
        unsigned h = head(texts[i].ptr);
        f->heads[h >> 6] |= UINT64_C(1) << (h & 63);
        f->n++;
    }
    if (!f->n) {
        dp_special_find_close(f);
        return DP_OK;
    }
    qsort(f->texts, f->n, sizeof *f->texts, compare);
    *out = f;
    return DP_OK;
}

int dp_special_find_open(struct dp_special_find **out, const char *list, struct dp_err *e)
{
    size_t n = 0;
    *out = NULL;
    if (!list || !*list) return DP_OK;
    struct dp_span *texts = malloc((strlen(list) / 2 + 1) * sizeof *texts);
    if (!texts) DP_FAIL(e, NOMEM, "special tokens");
    for (const char *p = list; *p;) {
        size_t len = strcspn(p, ",");
        if (len) texts[n++] = dp_span(p, len);
        p += len + (p[len] == ',');
    }
    int rc = dp_special_find_of(out, texts, n, e);
    free(texts);
    return rc;
}

void dp_special_find_close(struct dp_special_find *f)
{
    if (!f) return;
    free(f->copy);
    free(f);
}

/* The length of the longest that begins at p; 0: none. There are two bytes at least. */
static size_t longest_at(const struct dp_special_find *f, const char *p, size_t room)
{
    unsigned h = head(p);
    if (!(f->heads[h >> 6] >> (h & 63) & 1)) return 0;
    size_t lo = 0, hi = f->n;
    while (lo < hi) {
        size_t m = lo + (hi - lo) / 2;
        if (head(f->texts[m].ptr) < h) lo = m + 1;
        else hi = m;
    }
    for (; lo < f->n && head(f->texts[lo].ptr) == h; lo++)
        if (f->texts[lo].len <= room && memcmp(f->texts[lo].ptr, p, f->texts[lo].len) == 0) return f->texts[lo].len;
    return 0;
}

bool dp_special_find_next(const struct dp_special_find *f, struct dp_span text, size_t *at, size_t *len)
{
    if (!f) return false;
    for (size_t i = *at; i + 1 < text.len; i++) {
        if (f->first >= 0) {
            const char *p = memchr(text.ptr + i, f->first, text.len - i - 1);
            if (!p) return false;
            i = (size_t)(p - text.ptr);
        }
        *len = longest_at(f, text.ptr + i, text.len - i);
        if (*len) return *at = i, true;
    }
    return false;
}

size_t dp_special_find_cut(const struct dp_special_find *f, struct dp_span text, size_t cut)
{
    size_t longest = 0;
    for (size_t i = 0; f && i < f->n; i++)
        if (f->texts[i].len > longest) longest = f->texts[i].len;
    for (size_t at = cut > longest ? cut - longest : 0; at < cut; at++)
        for (size_t i = 0; f && i < f->n; i++) {
            struct dp_span s = f->texts[i];
            size_t n = s.len < text.len - at ? s.len : text.len - at;
            if (at + s.len > cut && memcmp(text.ptr + at, s.ptr, n) == 0) return dp_special_find_cut(f, text, at);
        }
    return cut;
}
