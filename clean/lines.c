/* clean/lines.c - see the header. Keys are 64-bit hashes: among a document's 10^7 pieces at most the chance of one false
 * repeat is 3e-6, which changes one character count. */
#include "clean/lines.h"

#include "base/err.h"
#include "base/hash.h"
#include "clean/unicode.h"
#include "clean/utf8.h"

#include <stdlib.h>

bool dp_line_next(struct dp_span *rest, struct dp_span *line)
{
    if (rest->len == 0) return false;
    const char *p = rest->ptr, *e = p + rest->len, *q = p, *after = e;
    for (; q < e; q++) {
        unsigned char c = (unsigned char)*q;
        if (c > 0x1E && c != 0xC2 && c != 0xE2) continue;
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

struct dp_span dp_trim_left(struct dp_span s)
{
    const char *p = s.ptr, *e = p + s.len;
    while (p < e) {
        const char *q = p;
        if (!(dp_uni(dp_utf8_next(&q)) & DP_UNI_SPACE)) break;
        p = q;
    }
    return dp_span(p, (size_t)(e - p));
}

struct dp_span dp_trim_right(struct dp_span s)
{
    const char *e = s.ptr + s.len;
    while (e > s.ptr) {
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
    size_t cap = 1024;
    while (cap < keys * 2) cap *= 2;
    if (cap > c->cap) {
        struct dp_count *s = calloc(cap, sizeof *s);
        if (!s) return DP_NOMEM;
        free(c->slot);
        c->slot = s;
        c->cap = cap;
        c->gen = 0;
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
