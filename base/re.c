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

int dp_re_scratch_open(struct dp_re_scratch **out, struct dp_err *e)
{
    struct dp_re_scratch *s = calloc(1, sizeof *s);
    *out = s;
    if (s) {
        s->match = pcre2_match_data_create(1, NULL);
        s->context = pcre2_match_context_create(NULL);
        s->stack = pcre2_jit_stack_create(STACK_LEAST, STACK_MOST, NULL);
    }
    if (!s || !s->match || !s->context) {
        dp_re_scratch_close(s);
        *out = NULL;
        DP_FAIL(e, NOMEM, "memory for matching patterns");
    }
    pcre2_set_match_limit(s->context, STEPS_MAX);
    pcre2_set_heap_limit(s->context, HEAP_KIB_MAX);
    if (s->stack) pcre2_jit_stack_assign(s->context, NULL, s->stack);
    return DP_OK;
}

void dp_re_scratch_close(struct dp_re_scratch *s)
{
    if (!s) return;
    pcre2_match_data_free(s->match);
    pcre2_match_context_free(s->context);
    if (s->stack) pcre2_jit_stack_free(s->stack);
    free(s);
}

enum dp_re_result dp_re_search(const struct dp_re *re, struct dp_re_scratch *s, struct dp_span text, size_t from, size_t *at, size_t *end)
{
    int rc = pcre2_match(code_of(re), (PCRE2_SPTR)(text.ptr ? text.ptr : ""), text.len, from, 0, s->match, s->context);
    if (rc == PCRE2_ERROR_NOMATCH) return DP_RE_NO;
    if (rc < 0) return DP_RE_GAVE_UP;
    const PCRE2_SIZE *v = pcre2_get_ovector_pointer(s->match);
    *at = v[0];
    *end = v[1];
    return DP_RE_YES;
}
