#include "cli/file_list.h"

#include "base/fs.h"
#include "ingest/reader.h"

#include <stdlib.h>
#include <string.h>

struct folder {
    int (*fn)(void *ctx, const char *path, const char *given, struct dp_err *e);
    void *ctx;
    const char *given;
    struct dp_err *e;
};

static int walked(void *ctx, const char *path, const char *relative, uint64_t size)
{
    struct folder *f = ctx;
    (void)relative;
    return size ? f->fn(f->ctx, path, f->given, f->e) : DP_OK;
}

int dp_each_file(const char *const *args, size_t n, int (*fn)(void *ctx, const char *path, const char *given, struct dp_err *e), void *ctx, struct dp_err *e)
{
    for (size_t i = 0; i < n; i++) {
        struct folder f = {fn, ctx, args[i], e};
        bool folder = strcmp(args[i], "-") != 0 && dp_fs_is_folder(args[i]);
        DP_TRY(folder ? dp_walk(args[i], walked, NULL, &f, e) : fn(ctx, args[i], args[i], e));
    }
    return DP_OK;
}

static int add(void *ctx, const char *path, const char *given, struct dp_err *e)
{
    struct dp_file_list *l = ctx;
    if (l->n == l->cap) {
        size_t cap = l->cap * 2 + 64;
        char **p = realloc(l->path, cap * sizeof *p);
        if (p) l->path = p;
        const char **g = realloc(l->given, cap * sizeof *g);
        if (g) l->given = g;
        if (!p || !g) DP_FAIL(e, NOMEM, "a list of %zu files", cap);
        l->cap = cap;
    }
    l->given[l->n] = given;
    l->path[l->n] = strdup(path);
    if (!l->path[l->n]) DP_FAIL(e, NOMEM, "a list of files");
    l->n++;
    return DP_OK;
}

int dp_file_list_open(struct dp_file_list *l, const char *const *args, size_t n, struct dp_err *e)
{
    *l = (struct dp_file_list){.n = 0};
    int rc = dp_each_file(args, n, add, l, e);
    if (rc >= 0 && n && !l->n) rc = dp_err_set(e, DP_NOTFOUND, 0, __FILE__, __LINE__, "%s: a folder without files, but for empty or hidden ones", args[0]);
    if (rc < 0) dp_file_list_close(l);
    return rc;
}

void dp_file_list_close(struct dp_file_list *l)
{
    for (size_t i = 0; i < l->n; i++) free(l->path[i]);
    free(l->path);
    free(l->given);
    *l = (struct dp_file_list){.n = 0};
}
