/* clean/words.c - spaCy's English tokenizer over bytes.
 *
 * Must agree with spaCy 3.8 Tokenizer (https://spacy.io/usage/linguistic-features#how-tokenizer-works) with
 * lang/en and lang/punctuation rules. Regular expressions are replaced by tests of character classes (generated tables), because
 * the alternations of some hundred symbols cost more than all the rest of the pipeline. Chunks of ASCII letters and digits, nine out
 * of ten, need one look at a special-case table and nothing else.
 *
 * Known differences: special cases inside a longer chunk that neither prefixes nor suffixes lay bare (spaCy re-merges emoticons there);
 * url_match is reduced to host names of ASCII or other letters with a last label of two letters or more, and to dotted quads. */
#include "clean/words.h"

#include "base/err.h"
#include "clean/unicode.h"
#include "clean/utf8.h"

#include <pthread.h>
#include <stdlib.h>

enum { SPECIAL_BYTES_MAX = 31, SLOTS = 4096 };

static uint16_t slots[SLOTS]; /* index + 1 into dp_word_special */
static uint64_t first_len[256]; /* for every first byte, the lengths that occur */
static uint8_t plain[256];    /* ASCII letters and digits */
static uint8_t after_len[DP_WORD_AFTER_DIGIT];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static unsigned slot_of(const char *p, size_t n)
{
    uint64_t h = n * UINT64_C(0x9e3779b97f4a7c15);
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)p[i]) * UINT64_C(0x100000001b3);
    return (unsigned)(h >> 32 ^ h >> 52) & (SLOTS - 1);
}

static void tables_init(void)
{
    for (unsigned i = 0; i < DP_WORD_SPECIALS; i++) {
        const struct dp_word_special *s = &dp_word_special[i];
        unsigned at = slot_of(s->text, s->len);
        while (slots[at]) at = (at + 1) & (SLOTS - 1);
        slots[at] = (uint16_t)(i + 1);
        first_len[(unsigned char)s->text[0]] |= UINT64_C(1) << s->len;
    }
    for (int i = 0; i < DP_WORD_AFTER_DIGIT; i++) after_len[i] = (uint8_t)strlen(dp_word_after_digit[i]);
    for (int c = 0; c < 128; c++) plain[c] = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
}

static const struct dp_word_special *special(const char *p, size_t n)
{
    if (n - 1 >= SPECIAL_BYTES_MAX || !(first_len[(unsigned char)*p] >> n & 1)) return NULL;
    for (unsigned at = slot_of(p, n); slots[at]; at = (at + 1) & (SLOTS - 1)) {
        const struct dp_word_special *s = &dp_word_special[slots[at] - 1];
        if (s->len == n && memcmp(s->text, p, n) == 0) return s;
    }
    return NULL;
}

static bool digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Flags of the character before p, 0 at `from`. */
static unsigned before(const char *from, const char *p)
{
    return p > from ? dp_uni(dp_utf8_prev(&p)) : 0;
}

/* Bytes of the prefix of [p, e), or 0. */
static size_t find_prefix(const char *p, const char *e)
{
    const char *q = p;
    uint32_t c = dp_utf8_next(&q);
    if (c == '+') return q < e && digit(*q) ? 0 : 1;
    if (c == '.') {
        while (q < e && *q == '.') q++;
        return q - p >= 2 ? (size_t)(q - p) : 0;
    }
    if ((c == 'U' || c == 'C' || c == 'A')) {
        if (c == 'U' && q < e && *q == 'S') q++;
        else if (c == 'U') return 0;
        return q < e && *q == '$' ? (size_t)(q + 1 - p) : 0;
    }
    return dp_uni(c) & DP_UNI_PREFIX ? (size_t)(q - p) : 0;
}

static size_t suffix_after_digit(const char *p, const char *e)
{
    for (int i = 0; i < DP_WORD_AFTER_DIGIT; i++) {
        size_t n = after_len[i];
        if (dp_word_after_digit[i][n - 1] != e[-1] || (size_t)(e - p) <= n || !digit(e[-(ptrdiff_t)n - 1])) continue;
        if (memcmp(e - n, dp_word_after_digit[i], n) == 0) return n;
    }
    return 0;
}

/* Bytes of the longest suffix of [p, e), or 0: a regex search finds the leftmost start. */
static size_t find_suffix(const char *p, const char *e)
{
    const char *q = e;
    uint32_t c = dp_utf8_prev(&q);
    unsigned f = dp_uni(c);
    size_t one = (size_t)(e - q);
    if (c == '.') {
        while (q > p && q[-1] == '.') q--;
        if (e - q >= 2) return (size_t)(e - q);
        unsigned b = before(p, q);
        if (b & DP_UNI_W_BEFORE_DOT) return 1;
        const char *r = q;
        if (!(b & DP_UNI_W_CAP)) {
            if (r > p && strchr("FfCcKk", r[-1]) && r - p >= 3 && memcmp(r - 3, "\xC2\xB0", 2) == 0) return 1;
            return 0;
        }
        dp_utf8_prev(&r);
        return before(p, r) & DP_UNI_W_CAP ? 1 : r - p >= 2 && memcmp(r - 2, "\xC2\xB0", 2) == 0 && strchr("FfCcKk", *r) ? 1 : 0;
    }
    if (c == 's' || c == 'S') {
        if (q > p && q[-1] == '\'') return 2;
        if (q - p >= 3 && memcmp(q - 3, "\xE2\x80\x99", 3) == 0) return 4;
        return 0;
    }
    if (c == '+') return q > p && digit(q[-1]) ? 1 : 0;
    size_t n = 0;
    if ((f & (DP_UNI_ALPHA | DP_UNI_SUFFIX)) || c == '%' || c == 0xB2 || c == 0xB3) {
        /* A unit is at most four letters from its digit; don't look when no digit is near. */
        for (int k = 1; k <= 12 && e - k > p && !n; k++)
            if (digit(e[-k - 1])) n = suffix_after_digit(p, e);
    }
    if (n) return n;
    return f & DP_UNI_SUFFIX ? one : 0;
}

static int push(struct dp_words *w, const char *p, size_t n, uint32_t at)
{
    if (w->count == w->cap) {
        size_t cap = w->cap ? w->cap * 2 : 4096;
        struct dp_word *v = realloc(w->word, cap * sizeof *v);
        if (!v) return DP_NOMEM;
        w->word = v;
        w->cap = cap;
    }
    struct dp_word *d = &w->word[w->count++];
    unsigned any = 0, all = ~0u;
    uint32_t chars = 0;
    for (const char *q = p; q < p + n; chars++) {
        unsigned f = dp_uni(dp_utf8_next(&q));
        any |= f;
        all &= f;
    }
    *d = (struct dp_word){at, (uint32_t)n, chars,
        (any & DP_UNI_ALPHA ? DP_WORD_ALPHA : 0u) | (all & DP_UNI_GOPHER ? DP_WORD_SYMBOL : 0u) |
            (all & DP_UNI_PUNCT ? DP_WORD_PUNCT : 0u) | (chars == 1 && all & DP_UNI_TERMINAL ? DP_WORD_TERMINAL : 0u)};
    return DP_OK;
}

static int push_plain(struct dp_words *w, const char *p, size_t n, uint32_t at)
{
    int rc = DP_OK;
    if (w->count == w->cap) rc = push(w, p, n, at);
    else {
        w->word[w->count++] = (struct dp_word){at, (uint32_t)n, (uint32_t)n, DP_WORD_ALPHA};
    }
    return rc;
}

static int push_special(struct dp_words *w, const struct dp_word_special *s, const char *p, uint32_t at)
{
    int rc = DP_OK;
    for (int i = 0; i < 4 && s->part[i] && rc == DP_OK; i++) {
        rc = push(w, p, s->part[i], at);
        p += s->part[i];
        at += s->part[i];
    }
    return rc;
}

static bool quad(const char *p, const char *e, const char **end)
{
    int v[4];
    for (int i = 0; i < 4; i++) {
        int n = 0, d = 0;
        while (p < e && digit(*p) && d < 3) n = n * 10 + (*p++ - '0'), d++;
        if (!d || n > 255) return false;
        v[i] = n;
        if (i < 3 && (p == e || *p++ != '.')) return false;
    }
    *end = p;
    return v[0] > 0 && v[0] < 224 && v[0] != 10 && v[0] != 127 && !(v[0] == 169 && v[1] == 254) &&
           !(v[0] == 192 && v[1] == 168) && !(v[0] == 172 && v[1] >= 16 && v[1] <= 31) && v[3] > 0 && v[3] < 255;
}

/* A host with at least one dot: labels of letters, digits, - and _ inside; last label lower case, two characters or more. */
static bool host(const char *p, const char *e, const char **end)
{
    const char *label = p, *good = NULL;
    bool dotted = false, lower = true;
    for (const char *q = p;;) {
        const char *at = q;
        uint32_t c = q < e ? dp_utf8_next(&q) : 0;
        unsigned f = c ? dp_uni(c) : 0;
        bool inside = c && (c >= 0xA1 ? c <= 0xFFFF || (f & DP_UNI_W_LOWER) : c < 128 && (plain[c] || c == '-' || c == '_'));
        if (inside) {
            lower = lower && f & DP_UNI_W_LOWER;
            continue;
        }
        size_t n = (size_t)(at - label);
        if (n == 0 || *label == '-' || *label == '_') break;
        if (dotted && lower && n >= 2) good = at;
        if (c != '.' || at[-1] == '-' || at[-1] == '_') break;
        dotted = true;
        lower = true;
        label = q;
    }
    *end = good;
    return good != NULL;
}

static bool is_url(const char *p, const char *e)
{
    const char *s = p, *dot = memchr(p, '.', (size_t)(e - p));
    if (!dot) return false;
    for (const char *q = p; q + 3 <= e && q - p < 64; q++) {
        if (memcmp(q, "://", 3) == 0) {
            if (q - p >= 2) s = q + 3;
            break;
        }
        if (!plain[(unsigned char)*q] && !strchr("+-._", *q) && (unsigned char)*q < 128) break;
    }
    for (int pass = 0; pass < 2; pass++) {
        /* After the last @ first, then as it stands. */
        const char *from = s, *at = pass ? NULL : memrchr(s, '@', (size_t)(e - s)), *end;
        if (!pass && !at) continue;
        if (at) from = at + 1;
        if ((at && at == s) || !(quad(from, e, &end) || host(from, e, &end))) continue;
        if (end < e && *end == ':') {
            const char *d = end + 1;
            while (d < e && digit(*d)) d++;
            if (d - end >= 3 && d - end <= 6) end = d;
        }
        if (end == e || *end == '/' || *end == '?' || *end == '#') return true;
    }
    return false;
}

/* Bytes of the infix at q inside [p, e), or 0. */
static size_t find_infix(const char *p, const char *q, const char *e)
{
    const char *r = q;
    uint32_t c = dp_utf8_next(&r);
    if (c == '.' && r < e && *r == '.') {
        while (r < e && *r == '.') r++;
        return (size_t)(r - q);
    }
    unsigned f = dp_uni(c);
    if (c == 0x2026 || f & DP_UNI_ICON) return (size_t)(r - q);
    if (q == p || r == e || (c >= 128 && c != 0x2013 && c != 0x2014)) return 0;
    if (c < 128 && (plain[c] || !strchr("+-*^.,:<>=/~", (int)c))) return 0;
    const char *t = r, *b = q;
    uint32_t bc = dp_utf8_prev(&b), nc = dp_utf8_next(&t);
    unsigned bf = dp_uni(bc), nf = dp_uni(nc);
    if (bc >= '0' && bc <= '9' && strchr("+-*^", (int)(c < 128 ? c : 1)) && ((nc >= '0' && nc <= '9') || nc == '-')) return 1;
    if (c == '.' || c == ',') {
        if (c == '.') return (bf & DP_UNI_W_LOWER || strchr("'\"`,", (int)(bc < 128 ? bc : 1))) &&
                             (nf & DP_UNI_W_UPPER || strchr("'\"`,", (int)(nc < 128 ? nc : 1)));
        return bf & DP_UNI_W_ALPHA && nf & DP_UNI_W_ALPHA;
    }
    if (!(bf & DP_UNI_W_ALPHA) && !(bc >= '0' && bc <= '9')) return 0;
    if (c == '-' || c == '~' || c == 0x2013 || c == 0x2014) {
        size_t n = (size_t)(r - q);
        if (nf & DP_UNI_W_ALPHA) return n;
        /* Only --, --- and two em dashes are longer. */
        if ((c == '-' || c == 0x2014) && nc == c) {
            n += (size_t)(t - r);
            if (c == '-' && t < e && *t == '-') n++, t++;
            if (t < e && dp_uni(dp_utf8_next(&t)) & DP_UNI_W_ALPHA) return n;
        }
        return 0;
    }
    return strchr(":<>=/", (int)(c < 128 ? c : 1)) && nf & DP_UNI_W_ALPHA;
}

/* What is left between the affixes. */
static int middle(struct dp_words *w, const char *p, const char *e, uint32_t at)
{
    if (p == e) return DP_OK;
    const struct dp_word_special *s = special(p, (size_t)(e - p));
    if (s) return push_special(w, s, p, at);
    const char *q = p;
    while (q < e && plain[(unsigned char)*q]) q++;
    if (q == e || is_url(p, e)) return push(w, p, (size_t)(e - p), at);
    const char *start = p;
    int rc = DP_OK;
    while (q < e && rc == DP_OK) {
        size_t n = find_infix(p, q, e);
        if (!n) {
            q += dp_utf8_size((unsigned char)*q);
            continue;
        }
        if (q > start) {
            rc = push(w, start, (size_t)(q - start), at + (uint32_t)(start - p));
            if (rc == DP_OK) rc = push(w, q, n, at + (uint32_t)(q - p));
            start = q + n;
        }
        q += n;
    }
    if (rc == DP_OK && start < e) rc = push(w, start, (size_t)(e - start), at + (uint32_t)(start - p));
    return rc;
}

static int chunk(struct dp_words *w, const char *p, const char *e, uint32_t at)
{
    const char *from = p, *end = e;
    int rc = DP_OK;
    while (p < e && !special(p, (size_t)(e - p))) {
        size_t pre = find_prefix(p, e);
        if (pre && p + pre < e && special(p + pre, (size_t)(e - p) - pre)) {
            rc = push(w, p, pre, at + (uint32_t)(p - from));
            p += pre;
            break;
        }
        size_t suf = p + pre < e ? find_suffix(p + pre, e) : 0;
        if (suf && e - suf > p && special(p, (size_t)(e - p) - suf)) {
            e -= suf;
            break;
        }
        if (!pre && !suf) break;
        if (pre) rc = push(w, p, pre, at + (uint32_t)(p - from));
        if (rc < 0) return rc;
        p += pre;
        e -= suf;
    }
    if (rc == DP_OK) rc = middle(w, p, e, at + (uint32_t)(p - from));
    /* The suffixes again, from left to right: each was found from the end of the piece before it, and so they are cut alike
     * from the right; collect their bounds backwards in place, then reverse. */
    size_t first = w->count;
    while (rc == DP_OK && e < end) {
        const char *s = end;
        size_t n = 0;
        /* The longest suffix within [e, end), with the text before it in view. */
        n = find_suffix(p < e ? p : e, s);
        if (n == 0 || n > (size_t)(s - e)) n = (size_t)(s - e);
        rc = push(w, s - n, n, at + (uint32_t)(s - n - from));
        end = s - n;
    }
    for (size_t i = first, j = w->count; i + 1 < j; i++) {
        struct dp_word t = w->word[i];
        j--;
        w->word[i] = w->word[j];
        w->word[j] = t;
    }
    return rc;
}

int dp_words_split(struct dp_words *w, struct dp_span text, uint32_t base)
{
    pthread_once(&once, tables_init);
    const char *p = text.ptr, *e = text.ptr + text.len;
    int rc = DP_OK;
    while (p < e && rc == DP_OK) {
        const char *s = p;
        while (p < e && plain[(unsigned char)*p] && *p > '9') p++;
        bool fast = true;
        const char *q = p;
        while (q < e) {
            if ((unsigned char)*q <= ' ') {
                if (dp_uni((unsigned char)*q) & DP_UNI_SPACE) break;
                q++;
            } else if ((unsigned char)*q < 128) {
                q++;
            } else {
                const char *r = q;
                if (dp_uni(dp_utf8_next(&r)) & DP_UNI_SPACE) break;
                q = r;
            }
            fast = false;
        }
        size_t n = (size_t)(q - s);
        uint32_t at = base + (uint32_t)(s - text.ptr);
        if (n) {
            /* Letters alone have no affix: only digits can be followed by a unit. */
            rc = fast && !special(s, n) ? push_plain(w, s, n, at) : chunk(w, s, q, at);
        }
        p = q;
        if (p < e) p += dp_utf8_size((unsigned char)*p);
    }
    return rc;
}

void dp_words_release(struct dp_words *w)
{
    free(w->word);
    memset(w, 0, sizeof *w);
}

size_t dp_words_sentences(const struct dp_words *w, size_t from)
{
    if (from >= w->count) return 0;
    size_t n = 1;
    bool seen = false;
    for (size_t i = from; i < w->count; i++) {
        unsigned f = w->word[i].flags;
        if (f & DP_WORD_TERMINAL) seen = true;
        else if (seen && !(f & DP_WORD_PUNCT)) {
            n++;
            seen = false;
        }
    }
    return n;
}
