/* clean/iconv_decode.c - glibc's converters. Opening one loads a table, so that the last few stay open. */
#include "clean/iconv_decode.h"

#include <iconv.h>

static int converter(struct dp_iconv *c, const char *name, iconv_t *out, struct dp_err *e)
{
    for (unsigned i = 0; i < DP_ICONV_OPEN_MAX; i++)
        if (c->slot[i].name && strcmp(c->slot[i].name, name) == 0) return *out = c->slot[i].cd, DP_OK;
    iconv_t cd = iconv_open("UTF-8", name);
    if (cd == (iconv_t)-1) {
        if (errno == ENOMEM) DP_FAIL(e, NOMEM, "iconv converter for %s", name);
        DP_FAIL(e, CONFIG, "this system's iconv has no charset %s: install the C library's gconv modules", name);
    }
    struct dp_iconv_slot *s = &c->slot[c->next++ % DP_ICONV_OPEN_MAX];
    if (s->name) iconv_close(s->cd);
    *s = (struct dp_iconv_slot){name, cd};
    *out = cd;
    return DP_OK;
}

int dp_iconv_decode(struct dp_iconv *c, const char *name, struct dp_span s, struct dp_buf *out, size_t *bad, struct dp_err *e)
{
    iconv_t cd = NULL;
    *bad = 0;
    DP_TRY(converter(c, name, &cd, e));
    iconv(cd, NULL, NULL, NULL, NULL);
    char *in = (char *)(uintptr_t)s.ptr;
    size_t left = s.len;
    while (left) {
        size_t want = left + left / 2 + 64;
        char *to = dp_buf_reserve(out, want);
        if (!to) return dp_buf_check(out, "text after decoding", e);
        size_t room = want;
        char *at = to;
        size_t rc = iconv(cd, &in, &left, &at, &room);
        out->len += want - room;
        if (rc != (size_t)-1 || errno == E2BIG) continue;
        /* EILSEQ, or EINVAL for a sequence that the end cuts. */
        dp_buf_add(out, "\xEF\xBF\xBD", 3);
        ++*bad;
        in++;
        left--;
    }
    if (out->ptr) out->ptr[out->len] = 0;
    return dp_buf_check(out, "text after decoding", e);
}

void dp_iconv_preload(const char *name)
{
    iconv_open("UTF-8", name); /* kept open: glibc unloads what nobody uses. One that fails is reported by who needs it. */
}

void dp_iconv_release(struct dp_iconv *c)
{
    for (unsigned i = 0; i < DP_ICONV_OPEN_MAX; i++)
        if (c->slot[i].name) iconv_close(c->slot[i].cd);
    memset(c, 0, sizeof *c);
}
