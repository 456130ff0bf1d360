#include "cli/text_input.h"

#include "base/fs.h"
#include "base/json.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int base64(struct dp_span in, struct dp_arena *mem, struct dp_span *out, struct dp_err *e)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *to = dp_arena_alloc(mem, in.len * 3 / 4 + 3);
    uint32_t acc = 0;
    int bits = 0;
    size_t n = 0;
    if (!to) DP_FAIL(e, LIMIT, "a base64 text of %zu bytes", in.len);
    while (in.len && in.ptr[in.len - 1] == '=') in.len--;
    for (size_t i = 0; i < in.len; i++) {
        const char *d = in.ptr[i] ? strchr(digits, in.ptr[i]) : NULL;
        if (!d) DP_FAIL(e, CORRUPT, "byte %zu is no base64", i);
        acc = acc << 6 | (uint32_t)(d - digits);
        bits += 6;
        if (bits >= 8) to[n++] = (char)(acc >> (bits -= 8));
    }
    *out = dp_span(to, n);
    return DP_OK;
}

static int text_of_line(const struct dp_text_input *in, struct dp_span line, struct dp_arena *mem, struct dp_span *text, struct dp_err *e)
{
    if (!in->jsonl) {
        *text = line;
        return DP_OK;
    }
    if (line.len && line.ptr[line.len - 1] == '\n') line.len--;
    struct dp_json_field f = {.key = in->b64_field ? in->b64_field : in->field};
    DP_TRY(dp_json_fields(line, &f, 1, mem, e));
    if (!f.str.ptr) DP_FAIL(e, CORRUPT, "no string \"%s\"", f.key);
    if (in->b64_field) return base64(f.str, mem, text, e);
    *text = f.str;
    return DP_OK;
}

/* getline is the only stdio reader that takes lines of any length; the limit is checked behind it. */
static int each_line(const struct dp_text_input *in, FILE *f, const char *path, int (*fn)(void *, struct dp_span, struct dp_err *), void *ctx,
                     struct dp_err *e)
{
    struct dp_arena mem;
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    int rc = DP_OK;
    dp_arena_init(&mem, (size_t)1 << 30);
    for (uint64_t k = 1; rc >= 0 && (n = getline(&line, &cap, f)) >= 0; k++) {
        struct dp_span s = dp_span(line, (size_t)n), text;
        if (!in->keep_newline && s.len && s.ptr[s.len - 1] == '\n') s.len--;
        if (in->jsonl && !s.len) continue;
        rc = text_of_line(in, s, &mem, &text, e);
        if (rc < 0) dp_err_prefix(e, "%s line %llu", path, (unsigned long long)k);
        else rc = fn(ctx, text, e);
        dp_arena_reset(&mem);
    }
    if (rc >= 0 && ferror(f)) rc = dp_err_set(e, DP_IO, errno, __FILE__, __LINE__, "%s: read", path);
    free(line);
    dp_arena_release(&mem);
    return rc;
}

int dp_text_input_each(const struct dp_text_input *in, const char *path, int (*fn)(void *ctx, struct dp_span text, struct dp_err *e), void *ctx,
                       struct dp_err *e)
{
    bool std = strcmp(path, "-") == 0;
    if (in->whole_file && !std) {
        struct dp_map m;
        DP_TRY(dp_map_open(&m, path, e));
        int rc = fn(ctx, dp_span(m.ptr, m.len), e);
        dp_map_close(&m);
        return rc;
    }
    if (in->whole_file) {
        struct dp_buf b;
        dp_buf_init(&b, (size_t)4 << 30);
        int rc = dp_fs_read_fd(STDIN_FILENO, "standard input", &b, e);
        if (rc >= 0) rc = fn(ctx, dp_buf_span(&b), e);
        dp_buf_release(&b);
        return rc;
    }
    FILE *f = std ? stdin : fopen(path, "rbe");
    if (!f) DP_FAIL_SYS(e, "%s: cannot open", path);
    int rc = each_line(in, f, std ? "standard input" : path, fn, ctx, e);
    if (!std) fclose(f);
    return rc;
}
