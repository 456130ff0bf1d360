/* clean/lines.c - see the header. Keys are 64-bit hashes: among a document's 10^7 pieces at most the chance of one false
 * repeat is 3e-6, which changes one character count. */
#include "clean/lines.h"

#include "base/err.h"
#include "base/hash.h"
#include "base/unicode.h"
#include "base/utf8.h"

#include <stdlib.h>

/* The first byte from q on that can begin the end of a line, or e: below 0x1F, or 0x80 and more; eight at once. */
static const char *candidate(const char *q, const char *e)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    for (uint64_t w; e - q >= 8; q += 8) {
        memcpy(&w, q, 8);
        uint64_t m = (((w - ones * 0x1F) & ~w) | w) & ones << 7;
        if (m) return q + __builtin_ctzll(m) / 8;
    }
    while (q < e && (unsigned char)*q >= 0x1F && (unsigned char)*q < 0x80) q++;
    return q;
}

bool dp_line_next(struct dp_span *rest, struct dp_span *line)
{
    if (rest->len == 0) return false;
    const char *p = rest->ptr, *e = p + rest->len, *q = p, *after = e;
    for (;; q++) {
        q = candidate(q, e);
        if (q == e) break;
        unsigned char c = (unsigned char)*q;
        if (c == '\r') after = q + (q + 1 < e && q[1] == '\n' ? 2 : 1);
        else if (c == '\n' || c == 0x0B || c == 0x0C || (c >= 0x1C && c <= 0x1E)) after = q + 1;
        else if (c == 0xC2 && (unsigned char)q[1] == 0x85) after = q + 2;
        else if (c == 0xE2 && (unsigned char)q[1] == 0x80 && ((unsigned char)q[2] | 1) == 0xA9) after = q + 3;
        else continue;
        break;
    }
    *line = dp_span(p, (size_t)(q - p));
    *rest = dp_span(after, (size_t)(e - after));
    return true;
}

/* ASCII, and no white space. */
static bool printing(char c)
{
    return (unsigned char)c > ' ' && (unsigned char)c < 0x80;
}

struct dp_span dp_trim_left(struct dp_span s)
{
    const char *p = s.ptr, *e = p + s.len;
    while (p < e && !printing(*p)) {
        const char *q = p;
        if (!(dp_uni(dp_utf8_next(&q)) & DP_UNI_SPACE)) break;
        p = q;
    }
    return dp_span(p, (size_t)(e - p));
}

struct dp_span dp_trim_right(struct dp_span s)
{
    const char *e = s.ptr + s.len;
    while (e > s.ptr && !printing(e[-1])) {
        const char *q = e;
        if (!(dp_uni(dp_utf8_prev(&q)) & DP_UNI_SPACE)) break;
        e = q;
    }
    return dp_span(s.ptr, (size_t)(e - s.ptr));
}

struct dp_span dp_trim(struct dp_span s)
{
    return dp_trim_right(dp_trim_left(s));
}

int dp_counts_start(struct dp_counts *c, size_t keys)
{
    enum { LARGE = 1 << 17 }; /* of which memory counts for more than look-ups: up to seven eighths full */
    size_t cap = 1024;
    while (keys <= LARGE ? cap < keys * 2 : cap / 8 * 7 < keys) cap *= 2;
    if (cap > c->cap) {
        dp_counts_release(c);
        c->slot = calloc(cap, sizeof *c->slot);
        if (!c->slot) return DP_NOMEM;
        c->cap = cap;
    }
    c->used = cap;
    if (++c->gen == 0) {
        memset(c->slot, 0, c->cap * sizeof *c->slot);
        c->gen = 1;
    }
    return DP_OK;
}

static struct dp_count *slot_of(const struct dp_counts *c, uint64_t key)
{
    size_t at = dp_mix64(key) & (c->used - 1);
    while (c->slot[at].gen == c->gen && c->slot[at].key != key) at = (at + 1) & (c->used - 1);
    return &c->slot[at];
}

uint32_t dp_counts_add(struct dp_counts *c, uint64_t key)
{
    struct dp_count *s = slot_of(c, key);
    if (s->gen != c->gen) *s = (struct dp_count){key, c->gen, 0};
    return ++s->n;
}

uint32_t dp_counts_get(const struct dp_counts *c, uint64_t key)
{
    const struct dp_count *s = slot_of(c, key);
    return s->gen == c->gen ? s->n : 0;
}

void dp_counts_release(struct dp_counts *c)
{
    free(c->slot);
    memset(c, 0, sizeof *c);
}

size_t dp_byte_count(struct dp_span s, char what)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), low = ones * 0x7F;
    size_t n = 0, i = 0;
    for (uint64_t w; i + 8 <= s.len; i += 8) {
        memcpy(&w, s.ptr + i, 8);
        w ^= ones * (unsigned char)what;
        n += (~(((w & low) + low) | w | low) >> 7) * ones >> 56;
    }
    for (; i < s.len; i++) n += s.ptr[i] == what;
    return n;
}

bool dp_lang_listed(const char *list, const char *lang)
{
    if (!list || !*list) return true;
    for (size_t n = strlen(lang); *list;) {
        size_t k = strcspn(list, ",");
        if (k == n && memcmp(list, lang, n) == 0) return true;
        list += k + (list[k] == ',');
    }
    return false;
}
