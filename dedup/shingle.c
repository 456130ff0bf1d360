/* Design. The tokeniser is the limit of the signature stage, so ASCII is taken in spans of up to 4 KB: a kernel gives one bit a
 * byte (word or not) and the folded bytes, the edges between ones and zeros are the words, and a word of up to 8 bytes is one load and one mask:
 * no branch depends on where words end. What the kernel doesn't take (bytes >= 0x80, the last 63 bytes) goes byte by byte through a
 * table, and from there code points through the Unicode table. All three carry one `struct word` on, so that "naïve"
 * and "NAÏVE" agree wherever the paths change.
 *
 * Word hash: 8-byte chunks of the folded UTF-8, each h = f(h ^ chunk) with f bijective, then the length. Two words of one
 * chunk can't collide before the last mix. Not against an adversary: who crafts collisions only makes his own pages duplicates. */
#include "dedup/shingle.h"

#include "base/hash.h"
#include "dedup/word_mask.h"
#include "dedup/word_table.h"

#include <string.h>

static const uint64_t mult = UINT64_C(0x9FB21C651E98DF25); /* odd, from the PractRand-tested rrmxmx family */
static const uint64_t poly = UINT64_C(0xD6E8FEB86659FD93); /* odd */

enum { SEP = 0, NOT_ASCII = 0xFF };

/* Folded byte, SEP, or NOT_ASCII for what the code point path must see. */
struct ascii {
    uint8_t to[256];
};
#define SAME16(v) v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v
#define HIGH SAME16(0xFF), SAME16(0xFF), SAME16(0xFF), SAME16(0xFF), SAME16(0xFF), SAME16(0xFF), SAME16(0xFF), SAME16(0xFF)
#define LETTERS                                                                                    \
    0, 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', \
        'z', 0, 0, 0, 0, 0
static const struct ascii plain = {
    {SAME16(0), SAME16(0), SAME16(0), '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 0, 0, 0, 0, 0, 0, LETTERS, LETTERS, HIGH}};
static const struct ascii digits_slow = {
    {SAME16(0), SAME16(0), SAME16(0), 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, LETTERS, LETTERS, HIGH}};

struct word {
    uint64_t h, acc;
    unsigned shift; /* bits in acc */
    uint64_t len;   /* bytes, 0: no word is open */
    bool digit;     /* the last byte stands for a run of digits */
};

static inline uint64_t absorb(uint64_t h, uint64_t v)
{
    h = (h ^ v) * mult;
    return h ^ h >> 32;
}

static inline void word_byte(struct word *w, uint8_t c)
{
    w->acc |= (uint64_t)c << w->shift;
    w->shift += 8;
    w->len++;
    if (w->shift == 64) {
        w->h = absorb(w->h, w->acc);
        w->acc = 0;
        w->shift = 0;
    }
}

/* Hash `fill` words into shingles and keep the last size - 1 of them. */
static void flush(struct dp_shingler *s)
{
    const uint32_t size = s->size;
    if (s->fill < size) return;
    const uint64_t *w = s->words;
    size_t n = s->fill - size + 1;
    uint64_t g = 0;
    for (uint32_t i = 0; i < size; i++) g = g * poly + w[i];
    s->out[0] = dp_mix64(g);
    for (size_t i = 1; i < n; i++) {
        g = g * poly + w[i + size - 1] - w[i - 1] * s->drop;
        s->out[i] = dp_mix64(g);
    }
    s->fn(s->ctx, s->out, n);
    for (uint32_t i = 0; i + 1 < size; i++) s->words[i] = w[n + i];
    s->fill = size - 1;
}

static inline void put(struct dp_shingler *s, uint64_t hash)
{
    s->words[s->fill++] = hash;
    s->total++;
    if (s->fill == s->size - 1 + (size_t)DP_SHINGLE_BLOCK) flush(s);
}

static inline void word_end(struct dp_shingler *s, struct word *w)
{
    if (!w->len) return;
    put(s, absorb(w->shift ? absorb(w->h, w->acc) : w->h, w->len));
    *w = (struct word){0};
}

/* One code point at p; its length in *n. A bad byte gives U+0000 (a separator) and length 1. */
static uint32_t decode(const uint8_t *p, size_t left, size_t *n)
{
    uint32_t c = p[0];
    *n = 1;
    if (c < 0x80) return c;
    size_t len = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : 2;
    if (c < 0xC2 || c > 0xF4 || len > left) return 0;
    uint32_t cp = c & (0x7Fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xC0) != 0x80) return 0;
        cp = cp << 6 | (p[i] & 0x3F);
    }
    if (cp > 0x10FFFF || (len == 3 && cp < 0x800) || (len == 4 && cp < 0x10000)) return 0;
    *n = len;
    return cp;
}

static void word_code_point(struct word *w, uint32_t cp)
{
    if (cp < 0x80) word_byte(w, (uint8_t)cp);
    else if (cp < 0x800) {
        word_byte(w, (uint8_t)(0xC0 | cp >> 6));
        word_byte(w, (uint8_t)(0x80 | (cp & 63)));
    } else {
        if (cp < 0x10000) word_byte(w, (uint8_t)(0xE0 | cp >> 12));
        else {
            word_byte(w, (uint8_t)(0xF0 | cp >> 18));
            word_byte(w, (uint8_t)(0x80 | (cp >> 12 & 63)));
        }
        word_byte(w, (uint8_t)(0x80 | (cp >> 6 & 63)));
        word_byte(w, (uint8_t)(0x80 | (cp & 63)));
    }
}

/* The code point path: takes the one at p, and all that follow up to the next ASCII byte that the fast path may have. */
static const uint8_t *slow(struct dp_shingler *s, struct word *w, const uint8_t *p, const uint8_t *end, const struct ascii *t, bool fold)
{
    while (p < end && t->to[*p] == NOT_ASCII) {
        size_t n;
        uint32_t cp = decode(p, (size_t)(end - p), &n);
        struct dp_word_prop pr = dp_word_lookup(cp);
        p += n;
        cp = (uint32_t)((int32_t)cp + pr.delta);
        switch (pr.klass & 3) {
        case DP_WORD_IGNORE: break;
        case DP_WORD_SEP: word_end(s, w); break;
        default: {
            bool digit = fold && (pr.klass & DP_WORD_DIGIT);
            if (digit && w->digit) break;
            if ((pr.klass & 3) == DP_WORD_SOLO && !digit) {
                word_end(s, w);
                word_code_point(w, cp);
                word_end(s, w);
                break;
            }
            word_code_point(w, digit ? '0' : cp);
            w->digit = digit;
        }
        }
    }
    return p;
}

/* [p, stop) byte by byte, and on to the end of a word or of the text; returns where it stands. */
static const uint8_t *table_words(struct dp_shingler *s, struct word *w, const uint8_t *p, const uint8_t *stop, const uint8_t *end,
                                  const struct ascii *t, bool fold)
{
    while (p < stop || (w->len && p < end)) {
        uint8_t c = t->to[*p];
        if (c == SEP) {
            word_end(s, w);
            p++;
        } else if (c == NOT_ASCII) p = slow(s, w, p, end, t, fold);
        else {
            w->digit = false;
            word_byte(w, c);
            p++;
        }
    }
    return p;
}

enum { SPAN = 4096 };
struct span_words {
    uint8_t fold[SPAN + 8]; /* words are loaded 8 bytes at once */
    uint64_t mask[SPAN / 64];
    uint16_t edge[SPAN + 8]; /* where a word begins, ends, the next begins...; written 4 at once */
};

/* The places where mask changes, in order; a word that is open at the end gets no end. */
static size_t edges(struct span_words *x, size_t n)
{
    size_t count = 0;
    uint64_t before = 0;
    for (size_t i = 0; i < n / 64; i++) {
        uint64_t m = x->mask[i], change = m ^ (m << 1 | before);
        size_t k = count;
        before = m >> 63;
        count += (size_t)__builtin_popcountll(change);
        for (; change; change &= change - 1) x->edge[k++] = (uint16_t)(64 * i + (size_t)__builtin_ctzll(change));
    }
    return count;
}

static inline uint64_t load8(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

/* n ASCII bytes whose masks are in x, no word open before; leaves the last one open when it touches the end. */
static void span_words(struct dp_shingler *s, struct word *w, struct span_words *x, size_t n)
{
    size_t count = edges(x, n), i = 0;
    for (; i + 1 < count; i += 2) {
        const uint8_t *p = x->fold + x->edge[i];
        size_t len = (size_t)(x->edge[i + 1] - x->edge[i]), left = len;
        uint64_t h = 0;
        for (; left > 8; left -= 8, p += 8) h = absorb(h, load8(p));
        put(s, absorb(absorb(h, load8(p) & UINT64_MAX >> (64 - 8 * left)), len));
    }
    if (i < count)
        for (size_t k = x->edge[i]; k < n; k++) word_byte(w, x->fold[k]);
}

static void words(struct dp_shingler *s, const uint8_t *p, const uint8_t *end, const struct ascii *t, bool fold)
{
    struct span_words x;
    struct word w = {0};
    dp_word_mask_fn mask = dp_word_mask();
    memset(x.fold + SPAN, 0, 8);
    while (p < end) {
        size_t left = (size_t)(end - p), n = 0;
        if (!fold && !w.len) n = mask(p, left < SPAN ? left : SPAN, x.fold, x.mask);
        if (n) span_words(s, &w, &x, n);
        p += n;
        left -= n;
        if (n < SPAN || w.len) p = table_words(s, &w, p, left > 64 ? p + 64 : end, end, t, fold);
    }
    word_end(s, &w);
}

uint64_t dp_shingle(struct dp_shingler *s, struct dp_span text, uint32_t size, bool fold_digits, dp_shingle_fn fn, void *ctx)
{
    s->fill = 0;
    s->total = 0;
    s->size = size;
    s->fn = fn;
    s->ctx = ctx;
    s->drop = 1;
    for (uint32_t i = 0; i < size; i++) s->drop *= poly;
    const uint8_t *p = (const uint8_t *)text.ptr;
    if (text.len) words(s, p, p + text.len, fold_digits ? &digits_slow : &plain, fold_digits);
    if (s->total && s->total < size) {
        /* Fewer words than a shingle has: one shingle of all, with their number, so that it is no longer text's prefix. */
        uint64_t g = s->total;
        for (size_t i = 0; i < s->fill; i++) g = g * poly + s->words[i];
        s->out[0] = dp_mix64(g);
        fn(ctx, s->out, 1);
    } else flush(s);
    return s->total;
}
