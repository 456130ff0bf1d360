#include "cli/text_input.h"

#include "base/fs.h"
#include "cli/text_line.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int text_of_line(const struct dp_text_input *in, struct dp_span line, struct dp_arena *mem, struct dp_span *text, struct dp_err *e)
{
    if (!in->jsonl) {
        *text = line;
        return DP_OK;
    }
    return dp_text_of_json(line, in->field, in->b64_field, mem, text, e);
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
