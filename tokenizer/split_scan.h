/* tokenizer/split_scan.h - pieces found 64 bytes at a time, by algebra on masks of classes.
 *
 * Included by split_avx2.c and split_avx512.c, which give struct window classify(p) and emit(). A window begins where a piece begins, and what
 * the patterns match at such a place depends on nothing before it: so no state goes from window to window. Of a window's 64 bytes all
 * starts of pieces are found that its bytes decide; the last of them is where the next window begins. In the masks all bytes of a
 * character have its class, so that a run of characters is a run of bits. The method is simdjson's (Langdale and Lemire, "Parsing gigabytes of
 * JSON per second", 2019), for other rules.
 *
 * What a few rare neighbourhoods would need (marks and cases mixed, digits outside ASCII) is left to the scalar functions, piece by piece:
 * `bad` has the first byte from which starts are not to be trusted. Must give exactly the pieces of split.c (tests/unit/test_split.c,
 * tests/check/check_split.c). */
#include "tokenizer/split_int.h"

#include <string.h>

#define INLINE static inline __attribute__((always_inline)) /* masks stay in registers, and `split` and `high` are constants */

struct window {
    uint64_t upper, lower, number, blank, newline, space, quote, slash, high; /* ASCII's classes; high: bytes from 0x80 */
    uint64_t printable;                                                       /* ASCII from 33 to 126 */
    uint64_t caseless, mark, start;                                           /* start: a character begins */
    uint64_t known;                                                           /* bytes whose class is known: all before a cut character */
};

/* A level's own: the masks of the 64 bytes at p; those of them in from .. from + n - 1; and base + each place of a bit of `starts` to ends (with
 * room for 64). */
static inline struct window classify(const uint8_t *p);
static inline uint64_t bytes_in(const uint8_t *p, unsigned from, unsigned n);
static inline void emit(uint64_t starts, size_t base, size_t *ends);

static inline uint64_t below(unsigned bit)
{
    return bit < 64 ? (UINT64_C(1) << bit) - 1 : UINT64_MAX;
}

/* The bits of characters of two or three bytes that begin at those of `leads`. */
static inline uint64_t both(uint64_t leads)
{
    return leads | leads << 1;
}
static inline uint64_t all_three(uint64_t leads)
{
    return leads | leads << 1 | leads << 2;
}

/* The most frequent characters outside ASCII, all of a window at once: their blocks have one class nearly throughout. Returns their bits. */
static inline uint64_t classify_frequent(struct window *w, const uint8_t *p)
{
    const uint64_t second = bytes_in(p, 0x80, 64) >> 1, third = second >> 1; /* by the first byte: whether more follow */
#define SECOND(from, to) (bytes_in(p, from, (to) - (from) + 1) >> 1)
#define THIRD(from, to) (bytes_in(p, from, (to) - (from) + 1) >> 2)
    uint64_t c2 = bytes_in(p, 0xC2, 1), c3 = bytes_in(p, 0xC3, 1), d0 = bytes_in(p, 0xD0, 1), d1 = bytes_in(p, 0xD1, 1);
    uint64_t upper = (c3 & SECOND(0x80, 0x9E) & ~SECOND(0x97, 0x97)) | (d0 & SECOND(0x80, 0xAF));   /* À-Þ without ×, Ѐ-Я */
    uint64_t lower = (c3 & SECOND(0x9F, 0xBF) & ~SECOND(0xB7, 0xB7)) | (d0 & SECOND(0xB0, 0xBF)) | (d1 & SECOND(0x80, 0x9F)); /* ß-ÿ without ÷, а-џ */
    uint64_t arabic = (bytes_in(p, 0xD8, 1) & SECOND(0xA0, 0xBF)) | (bytes_in(p, 0xD9, 1) & SECOND(0x80, 0x8A)); /* U+0620-U+064A */
    uint64_t blank = c2 & SECOND(0xA0, 0xA0), sign = c2 & (SECOND(0xA1, 0xA9) | SECOND(0xAB, 0xB1));           /* U+00A0; U+00A1-U+00A9, U+00AB-U+00B1 */
    uint64_t e3 = bytes_in(p, 0xE3, 1), e2 = bytes_in(p, 0xE2, 1);
    uint64_t han = (bytes_in(p, 0xE5, 5) & second & third) | (bytes_in(p, 0xE4, 1) & SECOND(0xB8, 0xBF) & third); /* U+4E00-U+9FFF */
    uint64_t kana = e3 & ((SECOND(0x81, 0x81) & THIRD(0x81, 0xBF)) | (SECOND(0x82, 0x82) & (THIRD(0x80, 0x96) | THIRD(0xA1, 0xBF))) |
                          (SECOND(0x83, 0x83) & THIRD(0x80, 0xBA))); /* U+3041-U+3096, U+30A1-U+30FA */
    uint64_t dash = e2 & SECOND(0x80, 0x80) & THIRD(0x8B, 0xA7);     /* U+200B-U+2027: quotation marks, dashes */
#undef SECOND
#undef THIRD
    w->upper |= both(upper);
    w->lower |= both(lower);
    w->blank |= both(blank);
    w->caseless |= both(arabic) | all_three(han | kana);
    uint64_t two = upper | lower | arabic | blank | sign, three = han | kana | dash;
    w->start &= ~(two << 1 | three << 1 | three << 2);
    return both(two) | all_three(three);
}

/* The characters outside ASCII; what isn't frequent, one by one. */
static inline void classify_high(struct window *w, const uint8_t *p, const uint8_t *end)
{
    uint64_t by_class[CI_COUNT] = {0};
    for (uint64_t h = w->high & ~classify_frequent(w, p); h;) {
        unsigned i = (unsigned)__builtin_ctzll(h);
        int len;
        unsigned c = dp_split_wide_class(p + i, end, &len);
        if (i + (unsigned)len > 64) {
            w->known = below(i);
            break;
        }
        uint64_t bits = below((unsigned)len) << i;
        h &= ~bits;
        w->start &= ~(bits & (bits - 1));
        by_class[__builtin_ctz(c)] |= bits;
    }
    w->upper |= by_class[CI_UPPER];
    w->lower |= by_class[CI_LOWER];
    w->caseless |= by_class[CI_CASELESS];
    w->mark |= by_class[CI_MARK];
    w->number |= by_class[CI_NUMBER];
    w->blank |= by_class[CI_BLANK];
}

/* Starts of the characters whose last bytes are `last`; characters of `last` have 3 bytes at most. */
INLINE uint64_t to_start(uint64_t last, uint64_t start)
{
    uint64_t s = last & start, rest = (last & ~start) >> 1;
    s |= rest & start;
    return s | ((rest & ~start) >> 1);
}

/* Places behind a run of one character that begins at `from` (a run's start), where another run begins. */
INLINE uint64_t behind_one(uint64_t from, uint64_t start, bool high)
{
    uint64_t s = from << 1;
    if (high) { /* continuation bytes between */
        uint64_t c = ~start << 1;
        s |= from << 2 & c;
        s |= from << 3 & c & c << 1;
        s |= from << 4 & c & c << 1 & c << 2;
    }
    return s;
}

/* What the rules of one window give: starts of pieces, bit 0 left open; the first byte not to be trusted; the last start to be trusted. */
struct found {
    uint64_t starts, bad;
    unsigned limit;
};

static inline void contractions_gpt2(struct found *f, uint64_t quotes, const uint8_t *p, const uint8_t *end)
{
    for (; quotes; quotes &= quotes - 1) {
        unsigned q = (unsigned)__builtin_ctzll(quotes);
        const uint8_t *e = dp_split_contraction(p + q, end, false);
        if (!e) continue;
        unsigned to = (unsigned)(e - p);
        f->starts &= ~(below(to) & ~below(q + 1));
        if (to < 64) f->starts |= UINT64_C(1) << to;
    }
}

INLINE struct found rules_gpt2(const struct window *w, const uint8_t *p, const uint8_t *end, bool high)
{
    uint64_t letter = w->upper | w->lower | w->caseless, number = w->number, white = w->blank | w->newline;
    uint64_t other = ~(letter | number | white) & w->known, after_space = w->space << 1;
    uint64_t os = other & ~(other << 1) & ~after_space;
    struct found f = {.limit = 63};
    f.starts = (letter & ~(letter << 1) & ~after_space) | (number & ~(number << 1) & ~after_space) | os | (white & ~(white << 1));
    uint64_t last = white & ~(white >> 1) & w->known >> 1;
    f.starts |= high ? to_start(last, w->start) : last;
    if (w->quote & os) contractions_gpt2(&f, w->quote & os, p, end);
    return f;
}

/* Blank runs behind a newline are pieces of their own, up to their last character, unless another newline ends them. `begin` has
 * those that begin in any case. */
INLINE void lines(struct found *f, const struct window *w, uint64_t begin)
{
    uint64_t bs = w->blank & w->newline << 1 & ~begin;
    f->starts |= bs;
    /* Without branches that can't be guessed: where the last run begins, if it goes on behind the window and is one of bs. */
    uint64_t top = w->known & ~(w->known >> 1) & w->blank, before = (~w->blank & (top - 1)) | 1;
    unsigned r = 64 - (unsigned)__builtin_clzll(before);
    bool cut = (top != 0) & (bs >> (r & 63)) & 1;
    f->limit = cut ? r - 1 : f->limit;
    if ((bs + w->blank) & ~w->blank & w->newline)
        for (uint64_t k = bs; k; k &= k - 1) {
            uint64_t one = k & -k, behind = (one + w->blank) & ~w->blank;
            if (behind & w->newline) f->starts &= ~one;
        }
}

/* White space of the patterns with newlines: its starts. */
INLINE void white_space(struct found *f, const struct window *w, uint64_t other, bool slash, bool high)
{
    uint64_t white = w->blank | w->newline;
    uint64_t taken = w->newline & other << 1; /* by the piece of punctuation before */
    uint64_t behind = (taken + w->newline) & ~w->newline;
    f->starts |= (white & ~(white << 1) & ~taken) | (behind & w->blank);
    if (slash) f->bad |= behind & w->slash;
    lines(f, w, behind);
    uint64_t last = w->blank & ~(white >> 1) & w->known >> 1;
    f->starts |= high ? to_start(last, w->start) : last;
}

/* Every third digit, or every one. */
INLINE void numbers(struct found *f, const struct window *w, bool three, bool high)
{
    uint64_t n = w->number;
    if (high) f->bad |= n & w->high;
    if (!three) {
        f->starts |= n;
        return;
    }
    uint64_t s = n & ~(n << 1), four = n & n << 1 & n << 2 & n << 3, seven = four & four << 3; /* ends of as many in a row */
    s |= s << 3 & four;
    s |= s << 6 & seven;
    f->starts |= s;
    while (__builtin_expect((s = s << 3 & four & ~f->starts) != 0, 0)) f->starts |= s; /* more than 12 */
}

/* marks: marks are letters. */
INLINE struct found rules_cl100k(const struct window *w, const uint8_t *p, const uint8_t *end, bool marks, bool three, bool high)
{
    uint64_t letter = w->upper | w->lower | w->caseless | (marks ? w->mark : 0), white = w->blank | w->newline;
    uint64_t other = ~(letter | w->number | white) & w->known;
    uint64_t os = other & ~(other << 1) & ~(w->space << 1);
    struct found f = {.limit = 63};
    f.starts = os | (letter & ~(letter << 1) & ~(w->blank << 1) & ~behind_one(os, w->start, high));
    white_space(&f, w, other, false, high);
    numbers(&f, w, three, high);
    for (uint64_t k = w->quote & os; k; k &= k - 1) {
        unsigned q = (unsigned)__builtin_ctzll(k);
        const uint8_t *e = dp_split_contraction(p + q, end, true);
        if (e && e - p < 64) f.starts |= UINT64_C(1) << (e - p);
    }
    return f;
}

INLINE struct found rules_o200k(const struct window *w, const uint8_t *p, const uint8_t *end, bool contractions, bool three, bool high)
{
    uint64_t letter = w->upper | w->lower | w->caseless, word = letter | w->mark, white = w->blank | w->newline;
    uint64_t other = ~(word | w->number | white) & w->known;
    uint64_t os = other & ~(other << 1) & ~(w->space << 1);
    struct found f = {.limit = 63};
    f.starts = os | (word & ~(word << 1) & ~(w->blank << 1) & ~behind_one(os, w->start, high)) | (w->upper & w->lower << 1);
    if (high) f.bad = (w->mark & ~(word << 1)) | (w->upper & (w->caseless | w->mark) << 1);
    white_space(&f, w, other, true, high);
    numbers(&f, w, three, high);
    if (!contractions) return f;
    unsigned contracted = 64; /* where the latest contraction ended: it has no second one */
    for (uint64_t k = w->quote & os & word << 1; k; k &= k - 1) {
        unsigned q = (unsigned)__builtin_ctzll(k);
        const uint8_t *e = q == contracted ? NULL : dp_split_contraction(p + q, end, true);
        if (!e) continue;
        contracted = (unsigned)(e - p);
        f.starts &= ~(below(contracted) & ~below(q));
        if (contracted < 64) f.starts |= UINT64_C(1) << contracted;
    }
    return f;
}

/* ASCII alone is decided here: what is outside ends what is known, and the character before it too, which may go with it. */
INLINE struct found rules_deepseek(struct window *w)
{
    if (w->high) w->known = below((unsigned)__builtin_ctzll(w->high));
    uint64_t letter = w->upper | w->lower, white = w->blank | w->newline, symbol = w->printable & ~letter & ~w->number;
    uint64_t rest = ~(w->printable | white | w->high);
    uint64_t os = symbol & ~(symbol << 1) & ~(w->space << 1), alone = os & ~(symbol >> 1);
    struct found f = {.limit = 63, .bad = w->high | w->high >> 1};
    f.starts = os | (rest & (~(rest << 1) | letter >> 1)) | (letter & ~(letter << 1) & ~((w->blank | rest | alone) << 1));
    white_space(&f, w, symbol, false, false);
    f.starts &= ~(w->blank & white << 1 & w->number >> 1 & ~(w->newline << 1)); /* a number ends the text */
    numbers(&f, w, true, false);
    return f;
}

INLINE struct found rules(enum dp_split split, struct window *w, const uint8_t *p, const uint8_t *end, bool high)
{
    switch (split) {
    case DP_SPLIT_GPT2: return rules_gpt2(w, p, end, high);
    case DP_SPLIT_CL100K: return rules_cl100k(w, p, end, false, true, high);
    case DP_SPLIT_QWEN2: return rules_cl100k(w, p, end, false, false, high);
    case DP_SPLIT_QWEN35: return rules_cl100k(w, p, end, true, false, high);
    case DP_SPLIT_TEKKEN: return rules_o200k(w, p, end, false, false, high);
    case DP_SPLIT_DEEPSEEK3: return rules_deepseek(w);
    default: return rules_o200k(w, p, end, true, true, high);
    }
}

/* `split` is a constant where this is inlined. */
INLINE size_t scan(enum dp_split split, const uint8_t *base, const uint8_t *end, size_t *pos, size_t *ends, size_t max)
{
    const uint8_t *p = base + *pos;
    size_t n = 0;
    while (end - p >= DP_SPLIT_WINDOW && max - n >= DP_SPLIT_WINDOW) {
        struct window w = classify(p);
        struct found f;
        if (__builtin_expect(w.high != 0, 0) && split != DP_SPLIT_DEEPSEEK3) {
            classify_high(&w, p, end);
            f = rules(split, &w, p, end, true);
        } else f = rules(split, &w, p, end, false);
        uint64_t s = f.starts & w.known & below(f.limit + 1) & ~UINT64_C(1);
        if (f.bad) s &= (f.bad & -f.bad) - 1;
        size_t at = (size_t)(p - base);
        if (s) {
            emit(s, at, ends + n);
            n += (size_t)__builtin_popcountll(s);
            p += 63 - __builtin_clzll(s);
        }
        const uint8_t *odd = f.bad ? base + at + __builtin_ctzll(f.bad) : p;
        if (s && !f.bad) continue;
        do { /* a long piece, or one that the rules don't decide */
            p = dp_split_next(split, p, end);
            ends[n++] = (size_t)(p - base);
        } while (p <= odd && p < end && n < max);
    }
    *pos = (size_t)(p - base);
    return n;
}

#define SCAN_CASE(split)                                                                                                                   \
    case DP_SPLIT_##split: return scan(DP_SPLIT_##split, base, end, pos, ends, max);
#define SCAN_FUNCTION(name)                                                                                                                \
    size_t name(enum dp_split split, const uint8_t *base, const uint8_t *end, size_t *pos, size_t *ends, size_t max)                       \
    {                                                                                                                                      \
        switch (split) {                                                                                                                   \
            SCAN_CASE(GPT2)                                                                                                                \
            SCAN_CASE(CL100K)                                                                                                              \
            SCAN_CASE(QWEN2)                                                                                                               \
            SCAN_CASE(QWEN35)                                                                                                              \
            SCAN_CASE(TEKKEN)                                                                                                              \
            SCAN_CASE(DEEPSEEK3)                                                                                                           \
        default: return scan(DP_SPLIT_O200K, base, end, pos, ends, max);                                                                   \
        }                                                                                                                                  \
    }
