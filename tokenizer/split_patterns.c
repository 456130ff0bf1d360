/* tokenizer/split_patterns.c - the published regular expressions that have a scanner, in the spellings that occur.
 *
 * The first spelling of a split is the one that is written. Which others mean the same was seen from the patterns, and is tested against Hugging
 * Face's engine and tiktoken (tests/parity/tokenizer_parity.py). `rust` marks those that do so only to tiktoken's engine: X{n,m}+ is possessive
 * there and a repeat to Oniguruma, so in a tokenizer.json they are other patterns. A CR or LF in a pattern may stand for itself. */
#include "tokenizer/split.h"

#include <string.h>

#define SUFFIX "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define TAIL "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define CL_REST "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" TAIL
#define CL_WORD SUFFIX "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define HF_CL(digits) "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|" digits "| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"
#define O_UP "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define O_LOW "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define O200K(suffix, digits)                                                                                                              \
    "[^\\r\\n\\p{L}\\p{N}]?" O_UP "*" O_LOW "+" suffix "|[^\\r\\n\\p{L}\\p{N}]?" O_UP "+" O_LOW "*" suffix "|" digits                      \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" TAIL

static const struct {
    enum dp_split split;
    const char *text;
    bool rust;
} patterns[] = {
    {DP_SPLIT_GPT2, "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", false},
    {DP_SPLIT_CL100K, CL_WORD "|\\p{N}{1,3}" CL_REST, false},
    {DP_SPLIT_O200K, O200K(SUFFIX "?", "\\p{N}{1,3}"), false},
    {DP_SPLIT_QWEN2, CL_WORD "|\\p{N}" CL_REST, false},
    {DP_SPLIT_QWEN35, SUFFIX "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" TAIL, false},
    {DP_SPLIT_TEKKEN, O200K("", "\\p{N}"), false},
    {DP_SPLIT_SUPERBPE, "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]{2,}[\\r\\n/]*| +(?!\\S)", false},
    /* other spellings */
    {DP_SPLIT_GPT2, "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", false},
    {DP_SPLIT_GPT2, "'s|'t|'re|'ve|'m|'ll|'d| ?[\\p{L}]+| ?[\\p{N}]+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", false},
    {DP_SPLIT_GPT2, "'(?:[sdmt]|ll|ve|re)| ?\\p{L}++| ?\\p{N}++| ?[^\\s\\p{L}\\p{N}]++|\\s++$|\\s+(?!\\S)|\\s", false},
    {DP_SPLIT_CL100K, HF_CL("\\p{N}{1,3}"), false},
    {DP_SPLIT_QWEN2, HF_CL("\\p{N}"), false},
    {DP_SPLIT_CL100K,
     "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}++|\\p{N}{1,3}+| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*+|\\s++$|\\s*[\\r\\n]|\\s+(?!\\S)|\\s", true},
};

/* Cut one after the other. */
#define CJK "[\xE4\xB8\x80-\xE9\xBE\xA5\xE3\x81\x80-\xE3\x82\x9F\xE3\x82\xA0-\xE3\x83\xBF]+"
#define DEEPSEEK_WORDS "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*" TAIL
static const char *const deepseek3[] = {"\\p{N}{1,3}", CJK, DEEPSEEK_WORDS};

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

int dp_split_parse(struct dp_span name, enum dp_split *out, struct dp_err *e)
{
    static const struct {
        const char *name;
        enum dp_split split;
    } more[] = {{"r50k_base", DP_SPLIT_GPT2},    {"p50k_base", DP_SPLIT_GPT2},   {"cl100k_base", DP_SPLIT_CL100K}, {"llama3", DP_SPLIT_CL100K},
                {"o200k_base", DP_SPLIT_O200K}, {"o200k_harmony", DP_SPLIT_O200K}, {"gpt4o", DP_SPLIT_O200K}, {"llama4", DP_SPLIT_O200K},
                {"qwen2.5", DP_SPLIT_QWEN2},    {"qwen3", DP_SPLIT_QWEN2},       {"deepseek", DP_SPLIT_DEEPSEEK3}};
    for (int i = 0; i < DP_SPLIT_COUNT; i++)
        if (dp_span_is(name, dp_split_name((enum dp_split)i))) return *out = (enum dp_split)i, DP_OK;
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        if (dp_span_is(name, more[i].name)) return *out = more[i].split, DP_OK;
#define X(name, text) text ", "
    DP_FAIL(e, CONFIG, "no split is called '%.*s'; there are " DP_SPLITS(X) "regex:PATTERN, and llama3 is cl100k, llama4 o200k, qwen2.5 and qwen3 qwen2",
            (int)(name.len < 40 ? name.len : 40), name.ptr);
#undef X
}

size_t dp_split_patterns(enum dp_split split, const char *const **out)
{
    DP_ASSERT(split < DP_SPLIT_COUNT);
    if (split == DP_SPLIT_DEEPSEEK3) {
        *out = deepseek3;
        return sizeof deepseek3 / sizeof *deepseek3;
    }
    *out = &patterns[split].text;
    return 1;
}

const char *dp_split_pattern(enum dp_split split)
{
    const char *const *p;
    dp_split_patterns(split, &p);
    return *p;
}

/* Equal but for CR and LF that stand for themselves. */
static bool is_pattern(struct dp_span s, const char *pattern)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (c == '\r' || c == '\n') {
            if (*pattern++ != '\\') return false;
            c = c == '\r' ? 'r' : 'n';
        }
        if (!*pattern || *pattern++ != c) return false;
    }
    return !*pattern;
}

static bool find(struct dp_span pattern, bool rust, enum dp_split *out)
{
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
        if ((rust || !patterns[i].rust) && is_pattern(pattern, patterns[i].text)) return *out = patterns[i].split, true;
    return false;
}

bool dp_split_by_pattern(struct dp_span pattern, enum dp_split *out)
{
    return find(pattern, false, out);
}

bool dp_split_by_users_pattern(struct dp_span pattern, enum dp_split *out)
{
    return find(pattern, true, out);
}

bool dp_split_by_patterns(const struct dp_span *list, size_t n, enum dp_split *out)
{
    if (n == 1) return find(*list, false, out);
    if (n != sizeof deepseek3 / sizeof *deepseek3) return false;
    for (size_t i = 0; i < n; i++)
        if (!is_pattern(list[i], deepseek3[i])) return false;
    *out = DP_SPLIT_DEEPSEEK3;
    return true;
}
