/* tokenizer/split.c - pre-tokenizers as scanners; their patterns are in split_patterns.c.
 *
 * A backtracking engine isn't needed: every alternative of these patterns is decided by the classes of at most two
 * characters and then takes a maximal run, so that each function below is the pattern read from left to right, and
 * says where greedy matching gives back. Debian's PCRE2 would be the obvious tool, but knows Unicode 14 only, counts
 * U+180E as space and does 170 MB/s. Must agree with tiktoken 0.14 and Hugging Face tokenizers 0.23
 * (tests/parity/tokenizer_parity.py; frozen cases in tests/data/tokenizer).
 *
 * Cost: ASCII goes through one 256-entry table, other characters through decoding and two table loads. Characters
 * are read at most three times: a run of spaces gives its last one back, an o200k run of capitals all after its last
 * caseless letter, and both are taken whole by the next piece. */
#include "tokenizer/split.h"

#include "base/cpu.h"
#include "tokenizer/split_int.h"

#include <string.h>

const uint16_t dp_split_ascii[256] = {
    [0 ... 8] = C_REST,      [9] = C_BLANK,            [10] = C_NEWLINE,        [11 ... 12] = C_BLANK,     [13] = C_NEWLINE,
    [14 ... 31] = C_REST,    [32] = C_BLANK,           [33 ... 47] = C_SYMBOL,  ['0' ... '9'] = C_NUMBER,  [':' ... '@'] = C_SYMBOL,
    ['A' ... 'Z'] = C_UPPER, ['[' ... '`'] = C_SYMBOL, ['a' ... 'z'] = C_LOWER, ['{' ... '~'] = C_SYMBOL, [127] = C_REST,
};

typedef const uint8_t *ptr; /* file-local: these signatures are read more easily with it */

#define ascii dp_split_ascii
#define class_at dp_split_class_at
#define wide_class dp_split_wide_class
#define contraction dp_split_contraction

static inline ptr skip(ptr p, ptr end, unsigned set)
{
    for (;;) {
        while (p < end && (ascii[*p] & set)) p++;
        if (p >= end || *p < 0x80) return p;
        int len;
        if (!(wide_class(p, end, &len) & set)) return p;
        p += len;
    }
}

/* \s+(?!\S)|\s+ on a run of spaces [p, run): all at the end of text, else all but the last, else that one. */
static inline ptr blanks(ptr p, ptr run, ptr last, ptr end)
{
    return run == end || last == p ? run : last;
}

static inline ptr space_gpt2(ptr p, ptr end)
{
    ptr q = p, last = p;
    int len;
    while (class_at(q, end, &len) & C_SPACE) last = q, q += len;
    return blanks(p, q, last, end);
}

/* \s*[\r\n]+|\s+(?!\S)|\s+ : up to the last newline of the run when there is one. */
static inline ptr space_newline(ptr p, ptr end)
{
    ptr q = p, last = p, line = NULL;
    int len;
    for (unsigned c; (c = class_at(q, end, &len)) & C_SPACE;) {
        last = q;
        q += len;
        if (c & C_NEWLINE) line = q;
    }
    return line ? line : blanks(p, q, last, end);
}

static inline ptr next_gpt2(ptr p, ptr end)
{
    int len, len2;
    unsigned c = class_at(p, end, &len);
    ptr q = p + len;
    if (*p == '\'' && (q = contraction(p, end, false))) return q;
    q = p + len;
    if (*p == ' ') {
        unsigned d = class_at(q, end, &len2);
        if (!d || (d & C_SPACE)) return space_gpt2(p, end);
        c = d;
        q += len2;
    } else if (c & C_SPACE) return space_gpt2(p, end);
    if (c & C_LETTER) return skip(q, end, C_LETTER);
    if (c & C_NUMBER) return skip(q, end, C_NUMBER);
    return skip(q, end, C_OTHER | C_MARK);
}

static inline ptr numbers(ptr p, ptr end, int max)
{
    int len;
    for (int i = 0; i < max && (class_at(p, end, &len) & C_NUMBER); i++) p += len;
    return p;
}

/* The alternatives after the letters, shared by cl100k, qwen2 and o200k; c is the class at p, d that at q behind it, `other` what punctuation is. */
static inline ptr next_rest(ptr p, ptr end, unsigned c, ptr q, unsigned d, unsigned other, int digits, bool slash)
{
    if (c & C_NUMBER) return numbers(p, end, digits);
    if ((c & other) || (*p == ' ' && (d & other))) {
        q = skip(q, end, other);
        while (q < end && (*q == '\r' || *q == '\n' || (slash && *q == '/'))) q++;
        return q;
    }
    return space_newline(p, end);
}

/* `word`: C_LETTER, or marks too. */
static inline ptr next_cl100k(ptr p, ptr end, unsigned word, int digits)
{
    ptr q;
    if (*p == '\'' && (q = contraction(p, end, true))) return q;
    int len, len2;
    unsigned c = class_at(p, end, &len);
    q = p + len;
    if (c & word) return skip(q, end, word);
    unsigned d = 0;
    if (!(c & (C_NUMBER | C_NEWLINE))) {
        d = class_at(q, end, &len2);
        if (d & word) return skip(q + len2, end, word);
    }
    return next_rest(p, end, c, q, d, (C_OTHER | C_MARK) & ~word, digits, false);
}

enum { O_UPPER = C_UPPER | C_CASELESS | C_MARK, O_LOWER = C_LOWER | C_CASELESS | C_MARK };

/* [UPPER]*[LOWER]+ at p, greedy: NULL when it can't match. The capitals' run takes caseless letters and marks too;
 * if no lower case follows it gives back as far as its last caseless one, which then is the [LOWER]+.
 * *run is the end of the [UPPER]* run (p when empty), for the second alternative. */
static inline ptr o200k_word(ptr p, ptr end, ptr *run)
{
    ptr q = p, both = NULL;
    int len;
    unsigned c;
    while ((c = class_at(q, end, &len)) & O_UPPER) {
        q += len;
        if (c & O_LOWER) both = q;
    }
    *run = q;
    if (c & C_LOWER) return skip(q + len, end, O_LOWER);
    return both;
}

/* With o200k's contractions, or without as tekken. */
static inline ptr next_o200k(ptr p, ptr end, bool contractions, int digits)
{
    int len, len2;
    unsigned c = class_at(p, end, &len), d = 0;
    ptr q = p + len, word = NULL, run = p;
    if (c & C_LETTER) {
        word = o200k_word(p, end, &run);
        if (!word) word = run;
    } else if (!(c & (C_NUMBER | C_NEWLINE))) {
        d = class_at(q, end, &len2);
        if (d & (C_LETTER | C_MARK)) {
            word = o200k_word(q, end, &run);
            /* A mark alone is a word of the first alternative, which comes before the second with the mark as prefix. */
            if (!word) word = c & C_MARK ? q : run;
        } else if (c & C_MARK) word = q;
    }
    if (!word) return next_rest(p, end, c, q, d, C_OTHER | C_MARK, digits, true);
    ptr suffix = contractions ? contraction(word, end, true) : NULL;
    return suffix ? suffix : word;
}

/* DeepSeek-V3's three patterns at once. Numbers are cut out first, then runs of kana and common Han (cjk); the third pattern sees what is between as texts
 * of their own, and a run of cjk as one. So to a scanner a number ends the text, and where it began says whether cjk or what isn't does. */
static inline unsigned part_class(ptr p, ptr end, bool cjk, int *len)
{
    unsigned c = class_at(p, end, len);
    return (c & C_NUMBER) || dp_split_is_cjk(p, *len) != cjk ? 0 : c;
}

static inline ptr part_skip(ptr p, ptr end, bool cjk, unsigned set)
{
    for (int len;; p += len)
        if (!(part_class(p, end, cjk, &len) & set)) return p;
}

/* Characters of no class that matches, up to where a word begins with one of them. */
static inline ptr part_gap(ptr p, ptr end, bool cjk)
{
    int len, len2;
    while (part_class(p, end, cjk, &len) & C_REST) {
        if (part_class(p + len, end, cjk, &len2) & (C_LETTER | C_MARK)) break;
        p += len;
    }
    return p;
}

static inline ptr part_space(ptr p, ptr end, bool cjk)
{
    ptr q = p, last = p, line = NULL;
    int len;
    unsigned c;
    for (; (c = part_class(q, end, cjk, &len)) & C_SPACE; q += len) {
        last = q;
        if (c & C_NEWLINE) line = q + len;
    }
    return line ? line : c == 0 || last == p ? q : last;
}

static inline bool ascii_letter(ptr p, ptr end)
{
    return p < end && (*p | 0x20u) - 'a' < 26;
}

static inline ptr next_deepseek(ptr p, ptr end)
{
    int len, len2;
    unsigned c = class_at(p, end, &len), d;
    if (c & C_NUMBER) return numbers(p, end, 3);
    bool cjk = dp_split_is_cjk(p, len);
    ptr q = p + len;
    if ((c & C_SYMBOL) && *p < 0x80 && ascii_letter(q, end)) {
        while (ascii_letter(q, end)) q++;
        return q;
    }
    if (c & (C_LETTER | C_MARK)) return part_skip(q, end, cjk, C_LETTER | C_MARK);
    d = part_class(q, end, cjk, &len2);
    if ((c & (C_REST | C_BLANK)) && (d & (C_LETTER | C_MARK))) return part_skip(q, end, cjk, C_LETTER | C_MARK);
    if ((c & C_SYMBOL) || (*p == ' ' && (d & C_SYMBOL))) {
        q = part_skip(q, end, cjk, C_SYMBOL);
        return cjk ? q : part_skip(q, end, cjk, C_NEWLINE);
    }
    return c & C_REST ? part_gap(q, end, cjk) : part_space(p, end, cjk);
}

/* `split` is a constant where speed counts. */
static inline ptr next(enum dp_split split, ptr p, ptr end)
{
    switch (split) {
    case DP_SPLIT_GPT2: return next_gpt2(p, end);
    case DP_SPLIT_CL100K: return next_cl100k(p, end, C_LETTER, 3);
    case DP_SPLIT_QWEN2: return next_cl100k(p, end, C_LETTER, 1);
    case DP_SPLIT_QWEN35: return next_cl100k(p, end, C_LETTER | C_MARK, 1);
    case DP_SPLIT_O200K: return next_o200k(p, end, true, 3);
    case DP_SPLIT_TEKKEN: return next_o200k(p, end, false, 1);
    case DP_SPLIT_DEEPSEEK3: return next_deepseek(p, end);
    case DP_SPLIT_SUPERBPE: return dp_split_next_super(p, end);
    default: DP_ASSERT(!"a split that exists");
    }
}

const uint8_t *dp_split_next(enum dp_split split, const uint8_t *p, const uint8_t *end)
{
    return next(split, p, end);
}

static size_t run_scalar(enum dp_split split, ptr base, ptr end, size_t *pos, size_t *ends, size_t max)
{
    ptr p = base + *pos;
    size_t n = 0;
    switch (split) {
#define X(name, text)                                                                                                                      \
    case DP_SPLIT_##name:                                                                                                                  \
        for (; p < end && n < max; ends[n++] = (size_t)(p - base)) p = next(DP_SPLIT_##name, p, end);                                      \
        break;
        DP_SPLITS(X)
#undef X
    default: DP_ASSERT(!"a split that exists");
    }
    *pos = (size_t)(p - base);
    return n;
}

size_t dp_split_run(enum dp_split split, struct dp_span text, size_t *pos, size_t *ends, size_t max)
{
    ptr base = (ptr)text.ptr, end = base + text.len;
    size_t n = 0;
    if (text.len == 0) return 0;
    enum dp_cpu_level level = dp_cpu();
    dp_split_scan_fn scan = level >= DP_CPU_AVX512 ? dp_split_scan_avx512 : level >= DP_CPU_AVX2 ? dp_split_scan_avx2 : NULL;
    if (!scan || split == DP_SPLIT_SUPERBPE) return run_scalar(split, base, end, pos, ends, max);
    while (text.len - *pos >= DP_SPLIT_WINDOW && max - n >= DP_SPLIT_WINDOW) n += scan(split, base, end, pos, ends + n, max - n);
    if (n && text.len - *pos >= DP_SPLIT_WINDOW) return n; /* full */
    return n + run_scalar(split, base, end, pos, ends + n, max - n);
}
