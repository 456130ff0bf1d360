/* tokenizer/split.c - pre-tokenizers as scanners.
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

#define GPT2 "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define SUFFIX "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define CL_TAIL "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define CL100K SUFFIX "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}" CL_TAIL
#define QWEN2 SUFFIX "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" CL_TAIL
#define O_UP "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define O_LOW "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define O200K                                                                                                                              \
    "[^\\r\\n\\p{L}\\p{N}]?" O_UP "*" O_LOW "+" SUFFIX "?|[^\\r\\n\\p{L}\\p{N}]?" O_UP "+" O_LOW "*" SUFFIX                                \
    "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const struct {
    enum dp_split split;
    const char *text;
} patterns[] = {
    /* the first of a kind is the one that is written */
    {DP_SPLIT_GPT2, GPT2},
    {DP_SPLIT_CL100K, CL100K},
    {DP_SPLIT_O200K, O200K},
    {DP_SPLIT_QWEN2, QWEN2},
    {DP_SPLIT_GPT2, "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"},
    {DP_SPLIT_CL100K, "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]++"
                      "[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"},
};

const char *dp_split_name(enum dp_split split)
{
    static const char *const names[] = {
#define X(name, text) text,
        DP_SPLITS(X)
#undef X
        "custom",
    };
    DP_ASSERT(split <= DP_SPLIT_COUNT);
    return names[split];
}

#define X(name, text) text ", "
#define NAMES DP_SPLITS(X)
int dp_split_parse(struct dp_span name, enum dp_split *out, struct dp_err *e)
{
    static const struct {
        const char *name;
        enum dp_split split;
    } more[] = {
        {"llama3", DP_SPLIT_CL100K}, {"cl100k_base", DP_SPLIT_CL100K}, {"o200k_base", DP_SPLIT_O200K}, {"r50k_base", DP_SPLIT_GPT2}};
    for (int i = 0; i < DP_SPLIT_COUNT; i++)
        if (dp_span_is(name, dp_split_name((enum dp_split)i))) return *out = (enum dp_split)i, DP_OK;
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        if (dp_span_is(name, more[i].name)) return *out = more[i].split, DP_OK;
    DP_FAIL(e, CONFIG, "no split is called '%.*s'; there are " NAMES "regex:PATTERN, and llama3 = cl100k_base = cl100k, o200k_base, r50k_base = gpt2", DP_SPAN_FMT(name));
}
#undef X
#undef NAMES

const char *dp_split_pattern(enum dp_split split)
{
    DP_ASSERT(split < DP_SPLIT_COUNT);
    return patterns[split].text;
}

bool dp_split_by_pattern(struct dp_span pattern, enum dp_split *out)
{
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
        if (dp_span_is(pattern, patterns[i].text)) return *out = patterns[i].split, true;
    return false;
}

const uint8_t dp_split_ascii[256] = {
    [0 ... 8] = C_OTHER,     [9] = C_BLANK,           [10] = C_NEWLINE,        [11 ... 12] = C_BLANK,    [13] = C_NEWLINE,
    [14 ... 31] = C_OTHER,   [32] = C_BLANK,          [33 ... 47] = C_OTHER,   ['0' ... '9'] = C_NUMBER, [':' ... '@'] = C_OTHER,
    ['A' ... 'Z'] = C_UPPER, ['[' ... '`'] = C_OTHER, ['a' ... 'z'] = C_LOWER, ['{' ... 127] = C_OTHER,
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

/* The alternatives after the letters, shared by cl100k, qwen2 and o200k; c is the class at p, d that at q behind it. */
static inline ptr next_rest(ptr p, ptr end, unsigned c, ptr q, unsigned d, int digits, bool slash)
{
    if (c & C_NUMBER) return numbers(p, end, digits);
    if ((c & (C_OTHER | C_MARK)) || (*p == ' ' && (d & (C_OTHER | C_MARK)))) {
        q = skip(q, end, C_OTHER | C_MARK);
        while (q < end && (*q == '\r' || *q == '\n' || (slash && *q == '/'))) q++;
        return q;
    }
    return space_newline(p, end);
}

static inline ptr next_cl100k(ptr p, ptr end, int digits)
{
    ptr q;
    if (*p == '\'' && (q = contraction(p, end, true))) return q;
    int len, len2;
    unsigned c = class_at(p, end, &len);
    q = p + len;
    if (c & C_LETTER) return skip(q, end, C_LETTER);
    unsigned d = 0;
    if (!(c & (C_NUMBER | C_NEWLINE))) {
        d = class_at(q, end, &len2);
        if (d & C_LETTER) return skip(q + len2, end, C_LETTER);
    }
    return next_rest(p, end, c, q, d, digits, false);
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

static inline ptr next_o200k(ptr p, ptr end)
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
    if (!word) return next_rest(p, end, c, q, d, 3, true);
    ptr suffix = contraction(word, end, true);
    return suffix ? suffix : word;
}

/* `split` is a constant where speed counts. */
static inline ptr next(enum dp_split split, ptr p, ptr end)
{
    switch (split) {
    case DP_SPLIT_GPT2: return next_gpt2(p, end);
    case DP_SPLIT_CL100K: return next_cl100k(p, end, 3);
    case DP_SPLIT_QWEN2: return next_cl100k(p, end, 1);
    case DP_SPLIT_O200K: return next_o200k(p, end);
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
    if (!scan) return run_scalar(split, base, end, pos, ends, max);
    while (text.len - *pos >= DP_SPLIT_WINDOW && max - n >= DP_SPLIT_WINDOW) n += scan(split, base, end, pos, ends + n, max - n);
    if (n && text.len - *pos >= DP_SPLIT_WINDOW) return n; /* full */
    return n + run_scalar(split, base, end, pos, ends + n, max - n);
}
