#include "base/re.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>

enum { STEPS_MAX = 1000000, HEAP_KIB_MAX = 16 << 10, STACK_LEAST = 32 << 10, STACK_MOST = 1 << 20 };

/* pcre2_code is a type of the library's; the cast keeps it out of the header. */
static const pcre2_code *code_of(const struct dp_re *re)
{
    return (const pcre2_code *)(const void *)re;
}

struct dp_re_scratch {
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

bool dp_re_jit(void)
{
    int code;
    PCRE2_SIZE at;
    pcre2_code *c = pcre2_compile((PCRE2_SPTR) "a", PCRE2_ZERO_TERMINATED, 0, &code, &at, NULL);
    bool jit = c && pcre2_jit_compile(c, PCRE2_JIT_COMPLETE) == 0;
    pcre2_code_free(c);
    return jit;
}

int dp_re_unicode(void)
{
    char version[32] = "";
    if (pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, NULL) < (int)sizeof version) pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, version);
    return atoi(version);
}

int dp_re_open(struct dp_re **out, const char *pattern, bool ignore_case, const char *what, struct dp_err *e)
{
    int code;
    PCRE2_SIZE at;
    uint32_t flags = PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF | PCRE2_NEVER_BACKSLASH_C | PCRE2_MULTILINE | (ignore_case ? PCRE2_CASELESS : 0);
    *out = NULL;
    pcre2_code *c = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, flags, &code, &at, NULL);
    if (!c) {
        PCRE2_UCHAR text[200];
        pcre2_get_error_message(code, text, sizeof text);
        DP_FAIL(e, CONFIG, "%s: %s at character %zu of the pattern %s", what, (const char *)text, at, pattern);
    }
    pcre2_jit_compile(c, PCRE2_JIT_COMPLETE); /* where there is no JIT the interpreter gives the same matches */
    *out = (struct dp_re *)(void *)c;
    return DP_OK;
}

void dp_re_close(struct dp_re *re)
{
    pcre2_code_free((pcre2_code *)(void *)re);
}

/* The JIT of PCRE2 10.42 skips places where a lazy repeat in an atomic group would match: (?>.+?)re finds nothing in "x're". Not so without its
 * optimisations for the start. */
static bool lazy_in_group(struct dp_span p)
{
    bool group = false, lazy = false;
    for (size_t i = 0; i + 1 < p.len; i++) {
        group = group || (p.ptr[i] == '(' && p.ptr[i + 1] == '?');
        lazy = lazy || (strchr("*+?}", p.ptr[i]) && p.ptr[i + 1] == '?');
    }
    return group && lazy;
}

int dp_re_open_cut(struct dp_re **out, struct dp_span pattern, size_t *at, struct dp_err *e)
{
    int code;
    PCRE2_SIZE where;
    uint32_t flags = PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | PCRE2_MULTILINE | PCRE2_USE_OFFSET_LIMIT | (lazy_in_group(pattern) ? PCRE2_NO_START_OPTIMIZE : 0);
    *out = NULL;
    pcre2_code *c = pcre2_compile((PCRE2_SPTR)pattern.ptr, pattern.len, flags, &code, &where, NULL);
    if (!c) {
        PCRE2_UCHAR text[200];
        pcre2_get_error_message(code, text, sizeof text);
        *at = where;
        DP_FAIL(e, CONFIG, "%s", (const char *)text);
    }
    pcre2_jit_compile(c, PCRE2_JIT_COMPLETE);
    *out = (struct dp_re *)(void *)c;
    return DP_OK;
}

static int open_scratch(struct dp_re_scratch **out, size_t stack_max, size_t heap_kib_max, struct dp_err *e)
{
    struct dp_re_scratch *s = calloc(1, sizeof *s);
    *out = s;
    if (s) {
        s->match = pcre2_match_data_create(1, NULL);
        s->context = pcre2_match_context_create(NULL);
        s->stack = pcre2_jit_stack_create(STACK_LEAST, stack_max, NULL);
    }
    if (!s || !s->match || !s->context) {
        dp_re_scratch_close(s);
        *out = NULL;
        DP_FAIL(e, NOMEM, "memory for matching patterns");
    }
    pcre2_set_match_limit(s->context, STEPS_MAX);
    pcre2_set_heap_limit(s->context, (uint32_t)heap_kib_max);
    if (s->stack) pcre2_jit_stack_assign(s->context, NULL, s->stack);
    return DP_OK;
}

int dp_re_scratch_open(struct dp_re_scratch **out, struct dp_err *e)
{
    return open_scratch(out, STACK_MOST, HEAP_KIB_MAX, e);
}

int dp_re_scratch_open_deep(struct dp_re_scratch **out, size_t stack_bytes_max, struct dp_err *e)
{
    return open_scratch(out, stack_bytes_max, stack_bytes_max >> 10 << 3, e);
}

void dp_re_scratch_close(struct dp_re_scratch *s)
{
    if (!s) return;
    pcre2_match_data_free(s->match);
    pcre2_match_context_free(s->context);
    if (s->stack) pcre2_jit_stack_free(s->stack);
    free(s);
}

static enum dp_re_result search(const struct dp_re *re, struct dp_re_scratch *s, struct dp_span text, size_t from, uint32_t options, size_t *at, size_t *end)
{
    int rc = pcre2_match(code_of(re), (PCRE2_SPTR)(text.ptr ? text.ptr : ""), text.len, from, options, s->match, s->context);
    if (rc == PCRE2_ERROR_NOMATCH) return DP_RE_NO;
    if (rc < 0) return DP_RE_GAVE_UP;
    const PCRE2_SIZE *v = pcre2_get_ovector_pointer(s->match);
    *at = v[0];
    *end = v[1];
    return DP_RE_YES;
}

enum dp_re_result dp_re_search(const struct dp_re *re, struct dp_re_scratch *s, struct dp_span text, size_t from, size_t *at, size_t *end)
{
    return search(re, s, text, from, 0, at, end);
}

enum dp_re_result dp_re_search_cut(const struct dp_re *re, struct dp_re_scratch *s, struct dp_span text, size_t from, size_t last, uint32_t steps_max,
                                   size_t *at, size_t *end)
{
    pcre2_set_offset_limit(s->context, last);
    pcre2_set_match_limit(s->context, steps_max);
    return search(re, s, text, from, PCRE2_NO_UTF_CHECK, at, end);
}
