/* The tokenizer and the decoding of references against html5lib's tests (tests/data/html5lib, MIT): every case's tokens, from every initial
 * state. Cases with lone surrogates are left out: they can't stand in UTF-8. DP_HTML5LIB=DIR takes another folder of tests. */
#include "base/fs.h"
#include "base/json.h"
#include "base/utf8.h"
#include "clean/html_refs.h"
#include "clean/html_tokenizer.h"
#include "tests/test.h"

#include <dirent.h>

static void add_decoded(struct dp_buf *b, struct dp_span raw, unsigned how)
{
    char *o = dp_buf_reserve(b, raw.len * 3 + 1);
    if (!o) abort();
    b->len += dp_html_decode(raw, how, o);
}

static void add_string(struct dp_buf *out, struct dp_span raw, unsigned how)
{
    struct dp_buf s;
    dp_buf_init(&s, 1 << 24);
    add_decoded(&s, raw, how);
    dp_buf_add_char(out, '"');
    dp_json_escape(out, dp_buf_span(&s));
    dp_buf_add_char(out, '"');
    dp_buf_release(&s);
}

/* \uHHHH once more; false for a surrogate. */
static bool unescape(struct dp_span s, struct dp_buf *out)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.len - i < 6 || s.ptr[i] != '\\' || s.ptr[i + 1] != 'u') {
            dp_buf_add_char(out, s.ptr[i]);
            continue;
        }
        char hex[5] = {0}, utf8[4];
        memcpy(hex, s.ptr + i + 2, 4);
        uint32_t c = (uint32_t)strtoul(hex, NULL, 16);
        if (c >= 0xD800 && c <= 0xDFFF) return false;
        dp_buf_add(out, utf8, dp_utf8_put(c, utf8));
        i += 5;
    }
    return true;
}

/* A JSON string of the test file as our writer has it. */
static bool add_expected(struct dp_buf *out, const struct dp_json *v, bool twice)
{
    if (dp_json_kind(v) != DP_JSON_STRING) {
        dp_buf_add_str(out, dp_json_kind(v) == DP_JSON_BOOL ? dp_json_bool(v, false) ? "true" : "false" : "null");
        return true;
    }
    struct dp_buf s;
    dp_buf_init(&s, 1 << 24);
    bool good = true;
    if (twice) good = unescape(dp_json_str(v), &s);
    else dp_buf_add_span(&s, dp_json_str(v));
    dp_buf_add_char(out, '"');
    dp_json_escape(out, dp_buf_span(&s));
    dp_buf_add_char(out, '"');
    dp_buf_release(&s);
    return good;
}

static bool expected(struct dp_buf *out, const struct dp_json *tokens, bool twice)
{
    bool good = true;
    for (size_t i = 0; i < dp_json_count(tokens); i++) {
        const struct dp_json *t = dp_json_at(tokens, i);
        for (size_t k = 0; k < dp_json_count(t); k++) {
            const struct dp_json *v = dp_json_at(t, k);
            if (dp_json_kind(v) == DP_JSON_OBJECT) {
                const char *key;
                struct dp_json *value;
                for (void *it = NULL; (it = dp_json_next(v, it, &key, &value)) != NULL;) {
                    struct dp_buf name;
                    dp_buf_init(&name, 1 << 16);
                    dp_buf_add_char(out, ' ');
                    if (twice) good = unescape(dp_span_str(key), &name) && good;
                    else dp_buf_add_str(&name, key);
                    dp_buf_add_span(out, dp_buf_span(&name));
                    dp_buf_add_char(out, '=');
                    dp_buf_release(&name);
                    good = add_expected(out, value, twice) && good;
                }
            } else good = add_expected(out, v, twice) && good;
            dp_buf_add_char(out, ' ');
        }
        dp_buf_add_char(out, '\n');
    }
    return good;
}

static bool same_name(struct dp_html_attr *a, struct dp_html_attr *b)
{
    return a->name.len == b->name.len && strncasecmp(a->name.ptr, b->name.ptr, a->name.len) == 0;
}

static void add_tag(struct dp_buf *out, struct dp_html_tokens *t, bool end)
{
    dp_buf_add_str(out, end ? "\"EndTag\" " : "\"StartTag\" ");
    add_string(out, t->text, DP_HTML_DECODE_LOWER | DP_HTML_DECODE_NUL);
    dp_buf_add_char(out, ' ');
    for (uint32_t i = 0; !end && i < t->attrs; i++) {
        bool twice = false;
        for (uint32_t k = 0; k < i; k++) twice = twice || same_name(&t->attr[k], &t->attr[i]);
        if (twice) continue;
        dp_buf_add_char(out, ' ');
        add_decoded(out, t->attr[i].name, DP_HTML_DECODE_LOWER | DP_HTML_DECODE_NUL);
        dp_buf_add_char(out, '=');
        add_string(out, t->attr[i].value, DP_HTML_DECODE_REFS | DP_HTML_DECODE_ATTRIBUTE | DP_HTML_DECODE_NUL | DP_HTML_DECODE_LINES);
    }
    if (!end) dp_buf_add_str(out, t->self_closing ? " true " : " ");
}

static void add_doctype(struct dp_buf *out, struct dp_html_tokens *t)
{
    struct dp_span part[3] = {t->text, t->public_id, t->system_id};
    dp_buf_add_str(out, "\"DOCTYPE\" ");
    for (int i = 0; i < 3; i++) {
        if (i ? !part[i].ptr : !part[i].len) dp_buf_add_str(out, "null");
        else add_string(out, part[i], DP_HTML_DECODE_NUL | DP_HTML_DECODE_LINES | (i ? 0u : (unsigned)DP_HTML_DECODE_LOWER));
        dp_buf_add_char(out, ' ');
    }
    dp_buf_add_str(out, t->force_quirks ? "false " : "true ");
}

static void tokens_of(struct dp_buf *out, struct dp_html_tokens *t)
{
    enum dp_html_token k;
    struct dp_buf text;
    dp_buf_init(&text, 1 << 24);
    do {
        k = dp_html_token_next(t);
        if (k == DP_HTML_CHARACTERS) {
            bool refs = t->text_mode == DP_HTML_DATA || t->text_mode == DP_HTML_RCDATA, nul = t->text_mode != DP_HTML_DATA && t->text_mode != DP_HTML_CDATA;
            add_decoded(&text, t->text, DP_HTML_DECODE_LINES | (refs ? DP_HTML_DECODE_REFS : 0u) | (nul ? DP_HTML_DECODE_NUL : 0u));
            continue;
        }
        if (text.len) {
            dp_buf_add_str(out, "\"Character\" \"");
            dp_json_escape(out, dp_buf_span(&text));
            dp_buf_add_str(out, "\" \n");
            dp_buf_clear(&text);
        }
        if (k == DP_HTML_END_OF_FILE) break;
        if (k == DP_HTML_COMMENT) {
            dp_buf_add_str(out, "\"Comment\" ");
            add_string(out, t->text, DP_HTML_DECODE_NUL | DP_HTML_DECODE_LINES);
            dp_buf_add_char(out, ' ');
        } else if (k == DP_HTML_DOCTYPE) add_doctype(out, t);
        else add_tag(out, t, k == DP_HTML_END_TAG);
        dp_buf_add_char(out, '\n');
    } while (k != DP_HTML_END_OF_FILE);
    dp_buf_release(&text);
}

static enum dp_html_mode mode_of(struct dp_span s)
{
    static const char *const names[] = {"Data state", "RCDATA state", "RAWTEXT state", "Script data state", "PLAINTEXT state", "CDATA section state"};
    int i = 0;
    while (i < 6 && !dp_span_is(s, names[i])) i++;
    if (i == 6) abort();
    return (enum dp_html_mode)i;
}

/* One case from one state. The input is copied to a block of its own size, so that a read past its end is seen. */
static bool one(const struct dp_json *test, enum dp_html_mode mode, const char *want, struct dp_span input)
{
    static struct dp_html_tokens t;
    struct dp_buf got;
    char *copy = malloc(input.len ? input.len : 1);
    if (!copy) abort();
    memcpy(copy, input.ptr, input.len);
    dp_buf_init(&got, 1 << 24);
    dp_html_tokens_init(&t, dp_span(copy, input.len));
    t.mode = mode;
    t.last_start = dp_json_str(dp_json_get(test, "lastStartTag"));
    tokens_of(&got, &t);
    bool same = strcmp(got.ptr ? got.ptr : "", want) == 0;
    if (!same)
        DP_TEST_FAIL("%.*s, input %.*s, state %d: got\n%swant\n%s", DP_SPAN_FMT(dp_json_str(dp_json_get(test, "description"))), DP_SPAN_FMT(input), (int)mode,
                     got.ptr ? got.ptr : "", want);
    dp_buf_release(&got);
    free(copy);
    return same;
}

static void run_file(const char *path, int *cases)
{
    struct dp_err err;
    struct dp_json *root;
    REQUIRE_OK(dp_json_parse_file(&root, path, 64 << 20, &err));
    const struct dp_json *tests = dp_json_get(root, "tests");
    for (size_t i = 0; i < dp_json_count(tests); i++) {
        const struct dp_json *test = dp_json_at(tests, i), *states = dp_json_get(test, "initialStates");
        bool twice = dp_json_bool(dp_json_get(test, "doubleEscaped"), false);
        struct dp_buf want, input;
        dp_buf_init(&want, 1 << 24);
        dp_buf_init(&input, 1 << 24);
        bool good = true;
        if (twice) good = unescape(dp_json_str(dp_json_get(test, "input")), &input);
        else dp_buf_add_span(&input, dp_json_str(dp_json_get(test, "input")));
        good = expected(&want, dp_json_get(test, "output"), twice) && good;
        for (size_t k = 0; good && k < (states ? dp_json_count(states) : 1); k++) {
            one(test, states ? mode_of(dp_json_str(dp_json_at(states, k))) : DP_HTML_DATA, want.ptr ? want.ptr : "", dp_buf_span(&input));
            ++*cases;
        }
        dp_buf_release(&want);
        dp_buf_release(&input);
    }
    dp_json_free(root);
}

TEST(html5lib_tokenizer_tests)
{
    const char *dir = getenv("DP_HTML5LIB") ? getenv("DP_HTML5LIB") : "tests/data/html5lib";
    DIR *d = opendir(dir);
    int cases = 0;
    REQUIRE(d);
    for (const struct dirent *f; (f = readdir(d)) != NULL;) {
        char path[4096];
        size_t n = strlen(f->d_name);
        if (n < 5 || strcmp(f->d_name + n - 5, ".test") != 0 || strcmp(f->d_name, "xmlViolation.test") == 0) continue;
        snprintf(path, sizeof path, "%s/%s", dir, f->d_name);
        run_file(path, &cases);
    }
    closedir(d);
    CHECK(cases > 2000);
}

TEST(references_at_the_end_and_without_semicolon)
{
    static const char *const cases[][3] = {
        /* raw, as text, as attribute */
        {"a&amp", "a&", "a&"}, {"&copy2", "\u00a92", "&copy2"}, {"&copy;2", "\u00a92", "\u00a92"}, {"&notit;", "\u00acit;", "&notit;"}, {"&notin;", "\u2209", "\u2209"},
        {"&x;", "&x;", "&x;"}, {"&", "&", "&"}, {"&#", "&#", "&#"}, {"&#x", "&#x", "&#x"}, {"&#xg", "&#xg", "&#xg"}, {"&#65x", "Ax", "Ax"}, {"&#x80;", "\u20ac", "\u20ac"},
        {"&#xD800;", "\uFFFD", "\uFFFD"}, {"&#99999999999999999999;", "\uFFFD", "\uFFFD"}, {"&nGt;", "\u226B\u20D2", "\u226B\u20D2"}, {"&lt=", "<=", "&lt="}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[128];
        struct dp_span raw = dp_span_str(cases[i][0]);
        CHECK_SPAN(dp_span(out, dp_html_decode(raw, DP_HTML_DECODE_REFS, out)), cases[i][1]);
        CHECK_SPAN(dp_span(out, dp_html_decode(raw, DP_HTML_DECODE_REFS | DP_HTML_DECODE_ATTRIBUTE, out)), cases[i][2]);
    }
}
