/* clean/words.c - spaCy's English tokenizer over bytes.
 *
 * Must agree with spaCy 3.8 Tokenizer (https://spacy.io/usage/linguistic-features#how-tokenizer-works) with
 * lang/en and lang/punctuation rules. Regular expressions are replaced by tests of character classes (generated tables), because
 * the alternations of some hundred symbols cost more than all the rest of the pipeline. Chunks of ASCII letters and digits, nine out
 * of ten, need one look at a special-case table and nothing else.
 *
 * Known differences: url_match is reduced to host names of ASCII or other letters with a last label of two letters or more, and to dotted quads. */
#include "clean/words.h"

#include "base/cpu.h"
#include "base/err.h"
#include "base/unicode.h"
#include "base/utf8.h"

#include <pthread.h>
#include <stdlib.h>

enum { SPECIAL_BYTES_MAX = 31, SLOTS = 4096, AFTER_BYTES_MAX = 12 };

static uint16_t slots[SLOTS]; /* index + 1 into dp_word_special */
static uint32_t first_len[256], last_len[256]; /* for every first and last byte, the lengths that occur */
static uint8_t plain[256];    /* ASCII letters and digits */
static int after_count[AFTER_BYTES_MAX + 2]; /* units of so many bytes or more: they stand first */
static uint8_t unit_end[256]; /* their last bytes */
static uint64_t filter[1 << 10]; /* of the special cases, by their first eight bytes */
static uint8_t suffix_one[128];  /* what goes off behind letters, whatever they are */
static uint8_t flags_one[128];   /* enum dp_word_flag of an ASCII character as a word */
static uint64_t key_mask[33][4]; /* the first n bytes of 32 */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static unsigned slot_of(const char *p, size_t n)
{
    uint64_t h = n * UINT64_C(0x9e3779b97f4a7c15);
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)p[i]) * UINT64_C(0x100000001b3);
    return (unsigned)(h >> 32 ^ h >> 52) & (SLOTS - 1);
}

static bool digit(char c)
{
    return c >= '0' && c <= '9';
}

static inline unsigned filter_slot(uint64_t first_eight)
{
    return (unsigned)(first_eight * UINT64_C(0x9e3779b97f4a7c15) >> 48);
}

/* Flags of a word whose characters have `any` and `all` of these. */
static unsigned flags_of(unsigned any, unsigned all, uint32_t chars)
{
    return (any & DP_UNI_ALPHA ? DP_WORD_ALPHA : 0u) | (all & DP_UNI_GOPHER ? DP_WORD_SYMBOL : 0u) |
           (all & DP_UNI_PUNCT ? DP_WORD_PUNCT : 0u) | (chars == 1 && all & DP_UNI_TERMINAL ? DP_WORD_TERMINAL : 0u);
}

static void tables_init(void)
{
    for (int c = 0; c < 128; c++) plain[c] = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
    for (unsigned i = 0; i < DP_WORD_SPECIALS; i++) {
        const struct dp_word_special *s = &dp_word_special[i];
        unsigned at = slot_of(s->text, s->len);
        while (slots[at]) at = (at + 1) & (SLOTS - 1);
        slots[at] = (uint16_t)(i + 1);
        first_len[(unsigned char)s->text[0]] |= UINT32_C(1) << s->len;
        last_len[(unsigned char)s->text[s->len - 1]] |= UINT32_C(1) << s->len;
        uint64_t v = 0;
        memcpy(&v, s->text, s->len < 8 ? s->len : 8);
        filter[filter_slot(v) / 64] |= UINT64_C(1) << filter_slot(v) % 64;
    }
    for (int i = 0; i < DP_WORD_AFTER_DIGIT; i++) {
        size_t n = strlen(dp_word_after_digit[i]);
        DP_ASSERT(n <= AFTER_BYTES_MAX && (i == 0 || n <= strlen(dp_word_after_digit[i - 1])));
        unit_end[(unsigned char)dp_word_after_digit[i][n - 1]] = 1;
        for (; n; n--) after_count[n]++;
    }
    for (uint32_t c = 0; c < 128; c++) {
        suffix_one[c] = dp_uni(c) & DP_UNI_SUFFIX && !plain[c] && c != '.' && c != '+' && c != '$';
        flags_one[c] = (uint8_t)flags_of(dp_uni(c), dp_uni(c), 1);
    }
    for (size_t n = 0; n <= 32; n++) memset(key_mask[n], 0xFF, n);
}

static const struct dp_word_special *special(const char *p, size_t n)
{
    if (n - 1 >= SPECIAL_BYTES_MAX || !(first_len[(unsigned char)*p] & last_len[(unsigned char)p[n - 1]] & UINT32_C(1) << n)) return NULL;
    for (unsigned at = slot_of(p, n); slots[at]; at = (at + 1) & (SLOTS - 1)) {
        const struct dp_word_special *s = &dp_word_special[slots[at] - 1];
        if (s->len == n && memcmp(s->text, p, n) == 0) return s;
    }
    return NULL;
}

/* Is c one of these ASCII characters? */
static bool among(uint32_t c, const char *set)
{
    return c && c < 128 && strchr(set, (int)c);
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

/* Bytes of the longest unit that ends [p, e) and stands behind a digit, or 0. */
static size_t suffix_after_digit(const char *p, const char *e)
{
    size_t n = (size_t)(e - p) - 1;
    for (n = n < AFTER_BYTES_MAX ? n : AFTER_BYTES_MAX; n; n--) {
        if (!digit(e[-(ptrdiff_t)n - 1])) continue;
        for (int i = after_count[n + 1]; i < after_count[n]; i++)
            if (dp_word_after_digit[i][n - 1] == e[-1] && memcmp(e - n, dp_word_after_digit[i], n) == 0) return n;
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
            if (r > p && among((unsigned char)r[-1], "FfCcKk") && r - p >= 3 && memcmp(r - 3, "\xC2\xB0", 2) == 0) return 1;
            return 0;
        }
        dp_utf8_prev(&r);
        return before(p, r) & DP_UNI_W_CAP ? 1 : r - p >= 2 && memcmp(r - 2, "\xC2\xB0", 2) == 0 && among((unsigned char)*r, "FfCcKk") ? 1 : 0;
    }
    if (c == 's' || c == 'S') {
        if (q > p && q[-1] == '\'') return 2;
        if (q - p >= 3 && memcmp(q - 3, "\xE2\x80\x99", 3) == 0) return 4;
        return 0;
    }
    if (c == '+') return q > p && digit(q[-1]) ? 1 : 0;
    if (c == 0x2026 && q - p >= 3 && memcmp(q - 3, q, 3) == 0) return 6; /* two of them are a sign of their own */
    if (unit_end[(unsigned char)e[-1]] && q > p) {
        size_t n = suffix_after_digit(p, e);
        if (n) return n;
    }
    return f & DP_UNI_SUFFIX ? one : 0;
}

/* Room for n more words. */
static int room(struct dp_words *w, size_t n)
{
    if (w->cap - w->count >= n) return DP_OK;
    size_t cap = w->cap * 2 > w->count + n ? w->cap * 2 : w->count + n + 4096;
    struct dp_word *v = realloc(w->word, cap * sizeof *v);
    if (!v) return DP_NOMEM;
    w->word = v;
    w->cap = cap;
    return DP_OK;
}

static int push(struct dp_words *w, const char *p, size_t n, uint32_t at)
{
    if (room(w, 1) < 0) return DP_NOMEM;
    struct dp_word *d = &w->word[w->count++];
    unsigned any = 0, all = ~0u;
    uint32_t chars = 0;
    for (const char *q = p; q < p + n; chars++) {
        unsigned f = dp_uni(dp_utf8_next(&q));
        any |= f;
        all &= f;
    }
    *d = (struct dp_word){at, (uint32_t)n, chars, flags_of(any, all, chars)};
    return DP_OK;
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

/* A host with at least one dot: labels of letters, digits, - and _ inside, 64 characters at most; last label lower case, two or more. */
static bool host(const char *p, const char *e, const char **end)
{
    const char *label = p, *good = NULL;
    bool dotted = false, lower = true;
    size_t chars = 0;
    for (const char *q = p;;) {
        const char *at = q;
        uint32_t c = q < e ? dp_utf8_next(&q) : 0;
        unsigned f = c ? dp_uni(c) : 0;
        bool inside = c && (c >= 0xA1 ? c <= 0xFFFF || (f & DP_UNI_W_LOWER) : c < 128 && (plain[c] || c == '-' || c == '_'));
        if (inside) {
            lower = lower && f & DP_UNI_W_LOWER && f & DP_UNI_W_ALPHA;
            chars++;
            continue;
        }
        if (chars == 0 || chars > 64 || *label == '-' || *label == '_') break;
        if (dotted && lower && chars >= 2 && chars < 64) good = at;
        if (c != '.' || at[-1] == '-' || at[-1] == '_') break;
        dotted = true;
        lower = true;
        label = q;
        chars = 0;
    }
    *end = good;
    return good != NULL;
}

/* Does what follows a host let it be a URL? A port, then the end or a path. */
static bool url_tail(const char *p, const char *e)
{
    if (p < e && *p == ':') {
        const char *d = p + 1;
        while (d < e && digit(*d)) d++;
        if (d - p >= 3 && d - p <= 6) p = d;
    }
    return p == e || *p == '/' || *p == '?' || *p == '#';
}

static bool is_url(const char *p, const char *e)
{
    const char *s = p, *q = p, *end;
    if (!memchr(p, '.', (size_t)(e - p))) return false;
    while (q < e && q - p < 64) {
        const char *r = q;
        uint32_t c = dp_utf8_next(&r);
        if (c < 128 ? !plain[c] && !among(c, "+-._") : !(dp_uni(c) & DP_UNI_ALPHA)) break;
        q = r;
    }
    if (e - q >= 3 && q - p >= 2 && memcmp(q, "://", 3) == 0) s = q + 3;
    /* After the last @, then as it stands. */
    const char *at = memrchr(s, '@', (size_t)(e - s));
    if (at && at > s && ((quad(at + 1, e, &end) && url_tail(end, e)) || (host(at + 1, e, &end) && url_tail(end, e)))) return true;
    return (quad(s, e, &end) && url_tail(end, e)) || (host(s, e, &end) && url_tail(end, e));
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
    bool dash = c == '-' || c == '~' || c == 0x2013 || c == 0x2014;
    if (q == p || r == e || !(dash || among(c, "+*^.,:<>=/"))) return 0;
    const char *t = r, *b = q;
    uint32_t bc = dp_utf8_prev(&b), nc = dp_utf8_next(&t);
    unsigned bf = dp_uni(bc), nf = dp_uni(nc);
    if (bc >= '0' && bc <= '9' && among(c, "+-*^") && ((nc >= '0' && nc <= '9') || nc == '-')) return 1;
    if (c == '.') return (bf & DP_UNI_W_LOWER || among(bc, "'\"`,")) && (nf & DP_UNI_W_UPPER || among(nc, "'\"`,"));
    if (c == ',') return bf & DP_UNI_W_ALPHA && nf & DP_UNI_W_ALPHA;
    if (!(bf & DP_UNI_W_ALPHA) && !(bc >= '0' && bc <= '9')) return 0;
    if (dash) {
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
    return among(c, ":<>=/") && nf & DP_UNI_W_ALPHA;
}

/* What is left between the affixes. */
static int middle(struct dp_words *w, const char *p, const char *e, uint32_t at, bool cases)
{
    if (p == e) return DP_OK;
    const struct dp_word_special *s = cases ? special(p, (size_t)(e - p)) : NULL;
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
        if (q > p) { /* one at the start stays with what follows */
            if (q > start) rc = push(w, start, (size_t)(q - start), at + (uint32_t)(start - p));
            if (rc == DP_OK) rc = push(w, q, n, at + (uint32_t)(q - p));
            start = q + n;
        }
        q += n;
    }
    if (rc == DP_OK && start < e) rc = push(w, start, (size_t)(e - start), at + (uint32_t)(start - p));
    return rc;
}

/* Affixes, and special cases between them if `cases`. */
static int cut_affixes(struct dp_words *w, const char *p, const char *e, uint32_t at, bool cases)
{
    const char *from = p, *end = e;
    int rc = DP_OK;
    while (p < e && !(cases && special(p, (size_t)(e - p)))) {
        size_t pre = find_prefix(p, e);
        if (cases && pre && p + pre < e && special(p + pre, (size_t)(e - p) - pre)) {
            rc = push(w, p, pre, at + (uint32_t)(p - from));
            p += pre;
            break;
        }
        size_t suf = p + pre < e ? find_suffix(p + pre, e) : 0;
        if (cases && suf && e - suf > p && special(p, (size_t)(e - p) - suf)) {
            e -= suf;
            break;
        }
        if (!pre && !suf) break;
        if (pre) rc = push(w, p, pre, at + (uint32_t)(p - from));
        if (rc < 0) return rc;
        p += pre;
        e -= suf;
    }
    if (rc == DP_OK) rc = middle(w, p, e, at + (uint32_t)(p - from), cases);
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

/* --- special cases that affixes tore apart ---
 *
 * spaCy looks once more at the words of a chunk: where consecutive ones are those that a special case falls into by affixes alone, they
 * are replaced by what the case says. Of overlapping places the one of more words goes first, then the earlier; a word of any place that
 * was looked at is taken, also when that place lost. */

static uint32_t torn[DP_WORD_SPECIALS]; /* bit k: without special cases a word of this one ends before byte k; 0: it has no affix */
static uint32_t torn_len[256];          /* for every first byte of those, the lengths that occur */

static int torn_init(void)
{
    struct dp_words w = {0};
    for (unsigned i = 0; i < DP_WORD_SPECIALS; i++) {
        const struct dp_word_special *s = &dp_word_special[i];
        const char *p = s->text, *e = p + s->len;
        bool affix = find_prefix(p, e) || find_suffix(p, e);
        for (const char *q = p; q < e && !affix; q += dp_utf8_size((unsigned char)*q)) affix = find_infix(p, q, e);
        w.count = 0;
        if (!affix) continue;
        if (cut_affixes(&w, p, e, 0, false) < 0) return DP_NOMEM;
        for (size_t k = 0; k < w.count; k++) torn[i] |= UINT32_C(1) << (w.word[k].at + w.word[k].len);
        torn_len[(unsigned char)*p] |= UINT32_C(1) << s->len;
    }
    dp_words_release(&w);
    return DP_OK;
}

/* A bit for every number of words that from d on, at p, are a torn special case. */
static uint32_t torn_at(const struct dp_word *d, size_t n, const char *p)
{
    uint32_t found = 0, ends = 0, lens = torn_len[(unsigned char)*p];
    for (size_t k = 0; k < n && k < 31; k++) {
        size_t len = d[k].at + d[k].len - d->at;
        if (len > SPECIAL_BYTES_MAX || !(lens >> len)) break;
        ends |= UINT32_C(1) << len;
        const struct dp_word_special *s = lens >> len & 1 ? special(p, len) : NULL;
        if (s && torn[s - dp_word_special] == ends) found |= UINT32_C(2) << k;
    }
    return found;
}

/* Words [first, w->count) of the chunk at p, whose place is `at`. */
static int mend(struct dp_words *w, size_t first, const char *p, uint32_t at)
{
    size_t n = w->count - first;
    uint32_t any = 0, *found = NULL;
    for (size_t i = 0; i < n; i++) any |= torn_at(w->word + first + i, n - i, p + (w->word[first + i].at - at));
    if (!any) return DP_OK;
    uint8_t *size = calloc(n, sizeof *found + 2); /* words that the case at a word replaces; words taken; `found` */
    if (!size) return DP_NOMEM;
    found = (uint32_t *)(void *)size;
    size = (uint8_t *)(found + n);
    uint8_t *taken = size + n;
    for (size_t i = 0; i < n; i++) found[i] = torn_at(w->word + first + i, n - i, p + (w->word[first + i].at - at));
    for (unsigned k = 31; k; k--) {
        for (size_t i = 0; i < n && any >> k & 1; i++) {
            if (!(found[i] >> k & 1)) continue;
            if (!taken[i] && !taken[i + k - 1]) size[i] = (uint8_t)k;
            memset(taken + i, 1, k);
        }
    }
    int rc = DP_OK;
    for (size_t i = 0; i < n && rc == DP_OK; i += size[i] ? size[i] : 1) {
        struct dp_word d = w->word[first + i], last = w->word[first + i + (size[i] ? size[i] - 1u : 0)];
        const char *q = p + (d.at - at);
        if (size[i]) rc = push_special(w, special(q, last.at + last.len - d.at), q, d.at);
        else if ((rc = room(w, 1)) == DP_OK) w->word[w->count++] = d;
    }
    free(found);
    if (rc < 0) return rc;
    w->count -= n;
    memmove(w->word + first, w->word + first + n, (w->count - first) * sizeof *w->word);
    return DP_OK;
}

static bool init_failed;
static void init(void)
{
    tables_init();
    init_failed = torn_init() < 0;
}

static int chunk(struct dp_words *w, const char *p, const char *e, uint32_t at)
{
    size_t first = w->count;
    int rc = cut_affixes(w, p, e, at, true);
    return rc == DP_OK && w->count > first ? mend(w, first, p, at) : rc;
}

/* --- chunks seen before ---
 *
 * Three chunks of ten have a digit or a sign, and affixes are slow to find; but they repeat. A direct-mapped table remembers the
 * cuts of short ones. It holds what chunk() said, so that what is in it changes no result. */
enum { SEEN = 4096, SEEN_BYTES_MAX = 32, SEEN_WORDS_MAX = 7 };
struct dp_word_chunk {
    uint64_t key[4]; /* the chunk, zeros behind */
    uint8_t len, words, spare[2];
    struct {
        uint8_t at, len, chars, flags;
    } word[SEEN_WORDS_MAX];
};
_Static_assert(sizeof(struct dp_word_chunk) == 64, "one line of cache");

/* The first n <= 32 bytes at p; `end` is where the text ends. */
static inline void load_key(const char *p, size_t n, const char *end, uint64_t key[4])
{
    if (end - p < SEEN_BYTES_MAX) {
        memset(key, 0, 32);
        memcpy(key, p, n);
        return;
    }
    memcpy(key, p, 32);
    for (int i = 0; i < 4; i++) key[i] &= key_mask[n][i];
}

static struct dp_word_chunk *seen_slot(struct dp_words *w, const uint64_t key[4], size_t n)
{
    uint64_t h = key[0] * UINT64_C(0x9e3779b97f4a7c15) + key[1] * UINT64_C(0xc2b2ae3d27d4eb4f) + key[2] * UINT64_C(0x165667b19e3779f9) +
                 key[3] * UINT64_C(0x85ebca77c2b2ae63) + n;
    h ^= h >> 29;
    return &w->seen[h * UINT64_C(0xbf58476d1ce4e5b9) >> 52];
}

static void remember(struct dp_word_chunk *c, const uint64_t key[4], size_t n, const struct dp_word *word, size_t words, uint32_t at)
{
    if (words > SEEN_WORDS_MAX) return;
    memcpy(c->key, key, sizeof c->key);
    c->len = (uint8_t)n;
    c->words = (uint8_t)words;
    for (size_t i = 0; i < words; i++) {
        c->word[i].at = (uint8_t)(word[i].at - at);
        c->word[i].len = (uint8_t)word[i].len;
        c->word[i].chars = (uint8_t)word[i].chars;
        c->word[i].flags = (uint8_t)word[i].flags;
    }
}

/* A chunk with anything but letters, or a special case; `at` is its place, `end` the end of the text. */
static int any_chunk(struct dp_words *w, const char *p, size_t n, uint32_t at, const char *end)
{
    struct dp_word_chunk *slot = NULL;
    uint64_t key[4];
    if (n <= SEEN_BYTES_MAX) {
        load_key(p, n, end, key);
        slot = seen_slot(w, key, n);
        if (slot->len == n && memcmp(slot->key, key, sizeof key) == 0) {
            int rc = room(w, SEEN_WORDS_MAX);
            struct dp_word *d = w->word + w->count;
            for (size_t i = 0; rc == DP_OK && i < slot->words; i++)
                d[i] = (struct dp_word){at + slot->word[i].at, slot->word[i].len, slot->word[i].chars, slot->word[i].flags};
            w->count += rc == DP_OK ? slot->words : 0;
            return rc;
        }
    }
    size_t first = w->count;
    int rc = chunk(w, p, p + n, at);
    if (rc < 0) return rc;
    if (slot) remember(slot, key, n, w->word + first, w->count - first, at);
    return DP_OK;
}

/* --- the text --- */

void dp_word_masks_scalar(const char *p, size_t blocks, uint64_t *space, uint64_t *letter, uint64_t *lead)
{
    for (size_t i = 0; i < blocks; i++, p += 64) {
        uint64_t s = 0, l = 0, x = 0;
        for (unsigned k = 0; k < 64; k++) {
            unsigned char c = (unsigned char)p[k];
            s |= (uint64_t)(c - 9u < 5 || c - 0x1Cu < 5) << k;
            l |= (uint64_t)((c | 32u) - 'a' < 26) << k;
            x |= (uint64_t)(c == 0xC2 || c - 0xE1u < 3) << k;
        }
        space[i] = s;
        letter[i] = l;
        lead[i] = x;
    }
}

void dp_word_masks(const char *p, size_t blocks, uint64_t *space, uint64_t *letter, uint64_t *lead)
{
#if defined(__x86_64__)
    if (dp_cpu() >= DP_CPU_AVX2) {
        dp_word_masks_avx2(p, blocks, space, letter, lead);
        return;
    }
#endif
    dp_word_masks_scalar(p, blocks, space, letter, lead);
}

/* Fills w->mask: white space (a bit past the end too) and letters, n / 64 + 1 words each, then what the kernel says of leads. */
static int text_masks(struct dp_words *w, struct dp_span text)
{
    size_t n = text.len / 64 + 1;
    if (w->mask_cap < n * 3) {
        free(w->mask);
        w->mask_cap = 0;
        w->mask = malloc((n + n / 2) * 3 * sizeof *w->mask);
        if (!w->mask) return DP_NOMEM;
        w->mask_cap = (n + n / 2) * 3;
    }
    uint64_t *space = w->mask, *letter = space + n, *lead = letter + n;
    char tail[64];
    memset(tail, ' ', sizeof tail);
    if (text.len % 64) memcpy(tail, text.ptr + (n - 1) * 64, text.len % 64);
    dp_word_masks(text.ptr, n - 1, space, letter, lead);
    dp_word_masks(tail, 1, space + n - 1, letter + n - 1, lead + n - 1);
    for (size_t i = 0; i < n; i++) {
        for (uint64_t m = lead[i]; m; m &= m - 1) {
            size_t at = i * 64 + (size_t)__builtin_ctzll(m);
            const char *p = text.ptr + at, *q = p;
            if (!(dp_uni(dp_utf8_next(&q)) & DP_UNI_SPACE)) continue;
            for (; p < q; p++, at++) space[at / 64] |= UINT64_C(1) << at % 64;
        }
    }
    return DP_OK;
}

/* The first place from i on with its bit set; there is one. */
static inline size_t next_set(const uint64_t *m, size_t i)
{
    uint64_t v = m[i / 64] >> i % 64;
    if (v) return i + (size_t)__builtin_ctzll(v);
    for (i = i / 64 + 1; !m[i]; i++) {}
    return i * 64 + (size_t)__builtin_ctzll(m[i]);
}
/* The same for a bit that is clear, or n. */
static inline size_t next_clear(const uint64_t *m, size_t i, size_t n)
{
    uint64_t v = ~m[i / 64] >> i % 64;
    if (v) {
        i += (size_t)__builtin_ctzll(v);
        return i < n ? i : n;
    }
    for (i = i / 64 + 1; i * 64 < n && !~m[i]; i++) {}
    if (i * 64 >= n) return n;
    i = i * 64 + (size_t)__builtin_ctzll(~m[i]);
    return i < n ? i : n;
}

/* May these bytes be a special case? */
static inline bool maybe_special(const char *p, size_t n, const char *end)
{
    uint64_t v = 0;
    if (end - p >= 8) {
        memcpy(&v, p, 8);
        if (n < 8) v &= (UINT64_C(1) << 8 * n) - 1;
    } else memcpy(&v, p, n);
    unsigned k = filter_slot(v);
    return filter[k / 64] >> k % 64 & 1;
}

/* Does the character behind n letters at p go off as a suffix, and nothing else? Then these are two words. */
static inline bool letters_and_one(const char *p, size_t n)
{
    unsigned char c = (unsigned char)p[n];
    return c < 128 && (suffix_one[c] || (c == '.' && dp_uni((unsigned char)p[n - 1]) & DP_UNI_W_BEFORE_DOT));
}

int dp_words_split(struct dp_words *w, struct dp_span text)
{
    pthread_once(&once, init);
    if (init_failed) return DP_NOMEM;
    if (!w->seen && !(w->seen = calloc(SEEN, sizeof *w->seen))) return DP_NOMEM;
    int rc = text_masks(w, text);
    const uint64_t *space = w->mask, *letter = space + text.len / 64 + 1;
    const char *end = text.ptr + text.len;
    for (size_t i = 0, before = 0; rc == DP_OK && (i = next_clear(space, i, text.len)) < text.len; before = i) {
        size_t from = i, n = next_clear(letter, from, text.len) - from, first = w->count;
        i = next_set(space, i);
        const char *p = text.ptr + from;
        uint32_t at = (uint32_t)from;
        unsigned flags = DP_WORD_FIRST | (before && !(from - before == 1 && p[-1] == ' ') ? DP_WORD_GAP : 0u);
        bool one = from + n + 1 == i && n;
        if ((from + n < i && !(one && letters_and_one(p, n) && !maybe_special(p, n + 1, end))) || maybe_special(p, n, end)) {
            rc = any_chunk(w, p, i - from, at, end);
            if (w->count > first) w->word[first].flags |= flags;
            continue;
        }
        /* Letters alone have no affix: only digits can be followed by a unit. */
        rc = room(w, 2);
        if (rc < 0) break;
        struct dp_word *d = w->word + w->count;
        d[0] = (struct dp_word){at, (uint32_t)n, (uint32_t)n, DP_WORD_ALPHA | flags};
        if (one) d[1] = (struct dp_word){at + (uint32_t)n, 1, 1, flags_one[(unsigned char)p[n]]};
        w->count += 1 + one;
    }
    return rc;
}

void dp_words_release(struct dp_words *w)
{
    free(w->word);
    free(w->mask);
    free(w->seen);
    memset(w, 0, sizeof *w);
}

/* --- shared by the stages of a worker --- */

const struct dp_words *dp_row_words(struct dp_row_words *r, const struct dp_batch *b, uint32_t i)
{
    struct dp_span t = b->text[i];
    if (r->of.ptr && r->of.ptr == t.ptr && r->of.len == t.len) return &r->words;
    r->of = dp_span(NULL, 0);
    r->words.count = 0;
    if (dp_words_split(&r->words, t) < 0) return NULL;
    r->of = t;
    return &r->words;
}

static void row_words_row(void *scratch)
{
    enum { KEEP_WORDS = 1 << 18 }; /* one giant document isn't a reason to hold on to its memory */
    struct dp_row_words *r = scratch;
    r->of = dp_span(NULL, 0);
    if (r->words.cap > KEEP_WORDS) dp_words_release(&r->words);
}

static void row_words_close(void *scratch)
{
    dp_words_release(&((struct dp_row_words *)scratch)->words);
}

const struct dp_stage_shared dp_row_words_shared = {sizeof(struct dp_row_words), row_words_row, row_words_close};

size_t dp_words_sentences(const struct dp_words *w, size_t from, size_t to)
{
    if (from >= to) return 0;
    size_t n = 1;
    bool seen = false;
    for (size_t i = from; i < to; i++) {
        unsigned f = w->word[i].flags;
        if (seen && i > from && f & DP_WORD_GAP) {
            n++;
            seen = false;
        }
        if (f & DP_WORD_TERMINAL) seen = true;
        else if (seen && !(f & DP_WORD_PUNCT)) {
            n++;
            seen = false;
        }
    }
    return n;
}
