/* Pre-tokenizers: frozen pieces of Hugging Face's regex engine (tests/parity/tokenizer_parity.py frozen), what bytes that are no
 * UTF-8 give, and linear time. */
#include "tests/test.h"

#include "base/fs.h"
#include "base/hash.h"
#include "tokenizer/split.h"
#include "tokenizer/split_int.h"
#include "tokenizer/splitter.h"
#include "tokenizer/text_cut.h"

#include <time.h>

static int hex(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

/* Compare all cases of a file `hex end,end,...`. */
static int run_file(enum dp_split split)
{
    char path[128];
    struct dp_buf b;
    struct dp_err err;
    int cases = 0;
    snprintf(path, sizeof path, "tests/data/tokenizer/split_%s.txt", dp_split_name(split));
    dp_buf_init(&b, 1 << 24);
    if (dp_fs_read(path, &b, &err) < 0) return DP_TEST_FAIL("%s", err.msg), 0;
    for (char *line = b.ptr, *nl; line < b.ptr + b.len; line = nl + 1, cases++) {
        nl = strchr(line, '\n');
        char *space = memchr(line, ' ', (size_t)(nl - line));
        size_t n = (size_t)(space - line) / 2, pos = 0, ends[4], k;
        char *text = malloc(n + 1);
        for (size_t i = 0; i < n; i++) text[i] = (char)(hex(line[2 * i]) << 4 | hex(line[2 * i + 1]));
        char *want = space + 1;
        while ((k = dp_split_run(split, dp_span(text, n), &pos, ends, 3)) > 0) {
            for (size_t i = 0; i < k; i++) {
                size_t w = strtoul(want, &want, 10);
                want++;
                if (ends[i] != w) DP_TEST_FAIL("%s:%d: a piece ends at %zu, not %zu", path, cases + 1, ends[i], w);
            }
        }
        CHECK_INT(pos, n);
        CHECK_INT(want - 1 - nl, n ? 0 : -1);
        free(text);
    }
    dp_buf_release(&b);
    return cases;
}

TEST(frozen_gpt2)
{
    CHECK(run_file(DP_SPLIT_GPT2) > 300);
}
TEST(frozen_cl100k)
{
    CHECK(run_file(DP_SPLIT_CL100K) > 300);
}
TEST(frozen_o200k)
{
    CHECK(run_file(DP_SPLIT_O200K) > 300);
}
TEST(frozen_qwen2)
{
    CHECK(run_file(DP_SPLIT_QWEN2) > 300);
}
TEST(frozen_qwen35)
{
    CHECK(run_file(DP_SPLIT_QWEN35) > 300);
}
TEST(frozen_tekken)
{
    CHECK(run_file(DP_SPLIT_TEKKEN) > 300);
}
TEST(frozen_deepseek3)
{
    CHECK(run_file(DP_SPLIT_DEEPSEEK3) > 300);
}
TEST(frozen_superbpe)
{
    CHECK(run_file(DP_SPLIT_SUPERBPE) > 300);
}

/* Pieces joined by '|'. */
static const char *cut(enum dp_split split, const char *s)
{
    static char out[512];
    size_t n = strlen(s), pos = 0, ends[64], at = 0, k = dp_split_run(split, dp_span(s, n), &pos, ends, 64);
    char *to = out;
    for (size_t i = 0; i < k; at = ends[i++]) {
        if (i) *to++ = '|';
        memcpy(to, s + at, ends[i] - at);
        to += ends[i] - at;
    }
    *to = 0;
    return out;
}

TEST(readable_cases)
{
    static const struct {
        enum dp_split split;
        const char *text, *pieces;
    } cases[] = {
        {DP_SPLIT_GPT2, "Hello world's  2 DON'T", "Hello| world|'s| | 2| DON|'|T"},
        {DP_SPLIT_CL100K, "DON'T 12345 x", "DON|'T| |123|45| x"},
        {DP_SPLIT_CL100K, "a'\xC5\xBFt", "a|'\xC5\xBF|t"},
        {DP_SPLIT_CL100K, "a\n  b", "a|\n| | b"},
        {DP_SPLIT_CL100K, "a \n \n  ", "a| \n \n|  "},
        {DP_SPLIT_CL100K, "!!\r\n\nx", "!!\r\n\n|x"},
        {DP_SPLIT_QWEN2, "123", "1|2|3"},
        {DP_SPLIT_O200K, "camelCase HTMLParser's", "camel|Case| HTMLParser's"},
        {DP_SPLIT_O200K, "a!\n/x", "a|!\n/|x"},
        {DP_SPLIT_O200K,
         "\xCC\x81"
         "A",
         "\xCC\x81|A"},
        {DP_SPLIT_SUPERBPE, "hi! there, camelCase\nMcDonald", "hi! there, camelCase\nMcDonald"},
        {DP_SPLIT_SUPERBPE, "a   b  !! 12345", "a|  | b| | !!| |123|45"},
        {DP_SPLIT_SUPERBPE, "ab!!cd !!//x ...\n\n/x", "ab|!!|cd| !!//|x| ...\n\n/|x"},
        {DP_SPLIT_SUPERBPE, "a \t b  ", "a| |\t b|  "},
        {DP_SPLIT_SUPERBPE, "e\xCC\x81 a\xCC\x81\xCC\x81z", "e\xCC\x81 a|\xCC\x81\xCC\x81|z"},
        {DP_SPLIT_GPT2, "\xE1\xA0\x8E x", "\xE1\xA0\x8E| x"}, /* U+180E is no space */
        {DP_SPLIT_QWEN35, "e\xCC\x81t\xCC\x81 !\xCC\x81 12", "e\xCC\x81t\xCC\x81| !|\xCC\x81| |1|2"},
        {DP_SPLIT_QWEN2, "e\xCC\x81t", "e|\xCC\x81t"},
        {DP_SPLIT_TEKKEN, "DON'T don't 12 a!/\n/x", "DON|'T| don|'t| |1|2| a|!/\n/|x"},
        {DP_SPLIT_DEEPSEEK3, "don't (x --y 12345  6", "don|'t| (|x| --|y| |123|45|  |6"},
        {DP_SPLIT_DEEPSEEK3, "a\xE4\xB8\xAD\xE6\x96\x87" "b\xE3\x82\xAB\xE3\x83\xBB\xE3\x82\xAB \xE4\xB8\xAD", "a|\xE4\xB8\xAD\xE6\x96\x87|b|\xE3\x82\xAB|\xE3\x83\xBB|\xE3\x82\xAB| |\xE4\xB8\xAD"},
        {DP_SPLIT_DEEPSEEK3, "(ab\xC3\xA9 \x01\x02x\x03", "(ab|\xC3\xA9| |\x01|\x02x|\x03"},
        {DP_SPLIT_DEEPSEEK3, "!!\r\n\nx  \n 1", "!!\r\n\n|x|  \n| |1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) CHECK_STR(cut(cases[i].split, cases[i].text), cases[i].pieces);
}

TEST(invalid_bytes_are_symbols)
{
    static const char *const bad[] = {"\x80",     "\xff",        "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
                                      "\xe2\x82", "\xf0\x9f\x98"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[32], want[40];
        snprintf(text, sizeof text, "a%s b", bad[i]);
        snprintf(want, sizeof want, "a|%s| b", bad[i]);
        CHECK_STR(cut(DP_SPLIT_GPT2, text), want);
    }
}

TEST(truncated_text_is_never_overread)
{
    static const char tail[] = "x\xf0\x9f\x98\x80";
    for (int s = 0; s < DP_SPLIT_COUNT; s++) {
        for (size_t n = 0; n < sizeof tail; n++) {
            char *p = malloc(n ? n : 1); /* AddressSanitizer sees the end */
            memcpy(p, tail, n);
            size_t pos = 0, ends[8];
            while (dp_split_run((enum dp_split)s, dp_span(p, n), &pos, ends, 8) > 0) continue;
            CHECK_INT(pos, n);
            free(p);
        }
    }
}

static double seconds(enum dp_split split, const char *unit, size_t n)
{
    size_t len = strlen(unit), pos = 0, ends[64];
    char *p = malloc(n * len);
    for (size_t i = 0; i < n; i++) memcpy(p + i * len, unit, len);
    clock_t t = clock();
    while (dp_split_run(split, dp_span(p, n * len), &pos, ends, 64) > 0) continue;
    t = clock() - t;
    free(p);
    return (double)t / CLOCKS_PER_SEC;
}

TEST(time_is_linear)
{
    static const char *const units[] = {" ", "a", "A", "\n", "\n ", "A\xE4\xB8\xAD", "\xE4\xB8\xAD", "\xE3\x83\xBB", "\xCC\x81", "'", "9", " \t", "A\xCC\x81", "\xff", "!\n", "\x01", "\xE3\x80\x80", "!a"};
    for (int s = 0; s < DP_SPLIT_COUNT; s++)
        for (size_t i = 0; i < sizeof units / sizeof *units; i++) /* quadratic would be minutes */
            CHECK(seconds((enum dp_split)s, units[i], 1 << 20) < 2.0);
}

TEST(names_and_patterns)
{
    struct dp_err err;
    enum dp_split s;
    for (int i = 0; i < DP_SPLIT_COUNT; i++) {
        CHECK_OK(dp_split_parse(dp_span_str(dp_split_name((enum dp_split)i)), &s, &err));
        CHECK_INT(s, i);
        const char *const *list;
        struct dp_span text[3];
        size_t n = dp_split_patterns((enum dp_split)i, &list);
        for (size_t k = 0; k < n; k++) text[k] = dp_span_str(list[k]);
        CHECK(dp_split_by_patterns(text, n, &s) && (int)s == i);
        CHECK(n > 1 || (dp_split_by_pattern(text[0], &s) && (int)s == i));
    }
    CHECK_OK(dp_split_parse(dp_span_str("llama3"), &s, &err));
    CHECK_INT(s, DP_SPLIT_CL100K);
    CHECK_INT(dp_split_parse(dp_span_str("gpt3"), &s, &err), DP_CONFIG);
    CHECK(strstr(err.msg, "o200k") != NULL);
    CHECK(!dp_split_by_pattern(dp_span_str("\\w+"), &s));
    /* CR and LF may stand for themselves, and tiktoken's possessive {1,3}+ is a repeat to Hugging Face. */
    CHECK(dp_split_by_pattern(dp_span_str("'(?i:[sdmt]|ll|ve|re)|[^\r\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\r\n]*|\\s*[\r\n]|\\s+(?!\\S)|\\s+"), &s));
    CHECK_INT(s, DP_SPLIT_QWEN2);
    static const char tiktoken[] = "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}++|\\p{N}{1,3}+| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*+|\\s++$|\\s*[\\r\\n]|\\s+(?!\\S)|\\s";
    CHECK(!dp_split_by_pattern(dp_span_str(tiktoken), &s));
    CHECK(dp_split_by_users_pattern(dp_span_str(tiktoken), &s) && s == DP_SPLIT_CL100K);
}

/* How many code points of each class Unicode 16 has, and of letters of each kind of script: another version's tables don't. */
TEST(table_is_unicode_16)
{
    size_t count[16] = {0}, letters = 0, latin = 0, han = 0;
    for (unsigned cp = 0; cp < 0x110000; cp++) {
        unsigned c = dp_split_blocks[dp_split_block_of[cp >> 8] * 128u + (cp & 255) / 2] >> (cp & 1) * 4 & 15, s = dp_split_script((int32_t)cp);
        count[c]++;
        CHECK(!s || c == CI_UPPER || c == CI_LOWER || c == CI_CASELESS);
        letters += s != 0;
        latin += s && strcmp(dp_split_script_names[s], "Latin") == 0;
        han += s && strcmp(dp_split_script_names[s], "Han") == 0;
    }
    static const size_t want[] = {959278, 1889, 2258, 136881, 2501, 1911, 23, 2, 9369}; /* by enum class_index */
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) CHECK_INT(count[i], want[i]);
    CHECK_INT(letters, 139989);
    CHECK_INT(latin, 1448);
    CHECK_INT(han, 98685);
    CHECK_INT(dp_split_script_count, 167);
    CHECK_INT(dp_split_script(0x10D4A) != 0, 1); /* Garay, new in 16 */
    CHECK_INT(dp_split_script(0x30FC), 0);       /* Common */
    CHECK_INT(dp_split_script(-1), 0);
}

/* All pieces' ends of text[from, to), as offsets into text. */
static size_t all_ends(enum dp_split split, const char *text, size_t from, size_t to, size_t *ends)
{
    size_t pos = 0, n = 0, k;
    while ((k = dp_split_run(split, dp_span(text + from, to - from), &pos, ends + n, 64)) > 0) n += k;
    for (size_t i = 0; i < n; i++) ends[i] += from;
    return n;
}

/* Wherever dp_split_restart says, the parts' pieces are the whole's. */
TEST(parts_cut_at_a_restart_split_as_the_whole)
{
    static const char *const atoms[] = {"a", "s", "Z", "'", "'s", "'LL", " ", "  ", "\n", "\r\n", "\t", "1", "23", "/", "!", ".", "\xe4\xb8\xad", "\xef\xbc\x8c",
        "\xe3\x80\x80", "\xcc\x81", "\xc2\xa0", "\xc2\x85", "\xd9\xa3", "\xf0\x9f\x98\x80", "\xff", "\xe4\xb8", "\x80", "\xc5\xbf", "\x01", "\xe2\x80\xa8"};
    uint64_t state = 5, cuts = 0;
    for (int round = 0; round < 20000; round++) {
        char text[80];
        size_t n = 0, whole[80], parts[80];
        for (uint64_t k = dp_splitmix64(&state) % 14; k; k--) {
            const char *a = atoms[dp_splitmix64(&state) % (sizeof atoms / sizeof *atoms)];
            memcpy(text + n, a, strlen(a));
            n += strlen(a);
        }
        enum dp_split s = (enum dp_split)(round % DP_SPLIT_COUNT);
        size_t count = all_ends(s, text, 0, n, whole);
        for (size_t at = dp_split_restart(s, dp_span(text, n), 0); at < n; at = dp_split_restart(s, dp_span(text, n), at + 1), cuts++) {
            CHECK(at > 0);
            size_t k = all_ends(s, text, 0, at, parts);
            k += all_ends(s, text, at, n, parts + k);
            if (k != count || memcmp(parts, whole, k * sizeof *parts) != 0)
                DP_TEST_FAIL("%s cut at %zu of %zu: %.*s", dp_split_name(s), at, n, (int)n, text);
        }
    }
    CHECK(cuts > 10000);
    CHECK_INT(dp_split_restart(DP_SPLIT_CL100K, dp_span_str("two words"), 1), 3);
    CHECK_INT(dp_split_restart(DP_SPLIT_CL100K, dp_span_str("  .\n \n  "), 0), 8);
    CHECK_INT(dp_split_restart(DP_SPLIT_GPT2, dp_span_str("x.\ny"), 2), 3);
    CHECK_INT(dp_split_restart(DP_SPLIT_O200K, dp_span_str("x.\n/y"), 2), 5);
    CHECK_INT(dp_split_restart(DP_SPLIT_O200K, dp_span_str(""), 0), 0);
}

/* However a text goes on, cut where dp_text_cut says of its beginning both sides have the pieces of the whole. */
TEST(a_part_is_cut_where_the_whole_is)
{
    static const char *const atoms[] = {" ", "  ", "\n", "\r\n", "\t", "a", "Word", "HTML", "12", "'s", "'", "!", "/", "?!", "\xe4\xb8\xad", "\xe3\x83\xbb", "\xcc\x81",
                                        "\xff", "\x01", "\xe3\x80\x80", "\xd9\xa3", "lowercase"};
    uint64_t state = 11, cuts = 0;
    for (int round = 0; round < 14000; round++) {
        char text[700];
        size_t n = 0, whole[700], parts[700], few = dp_splitmix64(&state) % 3 ? 22 : 5, base = dp_splitmix64(&state) % 22;
        for (uint64_t k = dp_splitmix64(&state) % 60; k; k--) {
            const char *a = atoms[(base + dp_splitmix64(&state) % few) % 22];
            memcpy(text + n, a, strlen(a));
            n += strlen(a);
        }
        if (!n) continue;
        enum dp_split s = (enum dp_split)(round % DP_SPLIT_COUNT);
        size_t at = dp_text_cut(s, dp_span(text, 1 + dp_splitmix64(&state) % n));
        if (!at) continue;
        cuts++;
        size_t count = all_ends(s, text, 0, n, whole), k = all_ends(s, text, 0, at, parts);
        k += all_ends(s, text, at, n, parts + k);
        if (k != count || memcmp(parts, whole, k * sizeof *parts) != 0) DP_TEST_FAIL("%s cut at %zu of %zu: %.*s", dp_split_name(s), at, n, (int)n, text);
    }
    CHECK(cuts > 5000);
    CHECK_INT(dp_text_cut(DP_SPLIT_CUSTOM, dp_span_str("one two three four five six seven")), 0);
}

/* Spot checks of the table against the Unicode 16 character database. */
TEST(classes)
{
    static const struct {
        unsigned cp, class;
    } cases[] = {{'a', CI_LOWER},     {'A', CI_UPPER},        {0x1C5, CI_UPPER},      {0x2B0, CI_CASELESS},   {0x4E2D, CI_CASELESS},
                 {0x301, CI_MARK},    {0x0903, CI_MARK},      {0x20DD, CI_MARK},      {0x663, CI_NUMBER},     {0xBD, CI_NUMBER},
                 {0x2167, CI_NUMBER}, {0xA0, CI_BLANK},       {0x85, CI_BLANK},       {0x180E, CI_REST},      {0x200B, CI_REST},
                 {0x2028, CI_BLANK},  {0x3000, CI_BLANK},     {0x31350, CI_CASELESS}, {0x2EBF0, CI_CASELESS}, {0x1C89, CI_UPPER},
                 {0x1C8A, CI_LOWER},  {0x1E4D0, CI_CASELESS}, {0x323B0, CI_REST},     {0x10FFFF, CI_REST},   {0xE0100, CI_MARK},
                 {0xD, CI_NEWLINE},   {0xB, CI_BLANK},        {0x1F600, CI_SYMBOL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned cp = cases[i].cp, pair = dp_split_blocks[dp_split_block_of[cp >> 8] * 128u + (cp & 255) / 2];
        if ((pair >> (cp & 1) * 4 & 15) != cases[i].class) DP_TEST_FAIL("U+%04X has class %u", cp, pair >> (cp & 1) * 4 & 15);
    }
}
