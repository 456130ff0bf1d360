#include "shards/shard_quarantine.h"

#include "base/fs.h"
#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char folder[] = "quarantine/";
static const char list_name[] = "list.json";
enum { LIST_BYTES_MAX = 256 << 20 };

char *dp_quarantine_path(const char *manifest_path, const char *name)
{
    size_t n = sizeof folder + strlen(name);
    char *inner = malloc(n), *p = NULL;
    if (inner) {
        snprintf(inner, n, "%s%s", folder, name);
        p = dp_manifest_path(manifest_path, inner);
    }
    free(inner);
    return p;
}

/* DP_EMPTY when there is no list. */
static int read_list(const char *manifest_path, struct dp_json **out, struct dp_err *e)
{
    char *p = dp_quarantine_path(manifest_path, list_name);
    *out = NULL;
    if (!p) DP_FAIL(e, NOMEM, "%s", manifest_path);
    int rc = dp_fs_exists(p) ? dp_json_parse_file(out, p, LIST_BYTES_MAX, e) : DP_EMPTY;
    if (rc == DP_OK && !dp_span_is(dp_json_str(dp_json_get(*out, "format")), "dpipe-quarantine")) {
        dp_json_free(*out);
        *out = NULL;
        rc = dp_err_set(e, DP_CORRUPT, 0, __FILE__, __LINE__, "%s: no list of a quarantine; move it away", p);
    }
    free(p);
    return rc;
}

static void put_entry(struct dp_jsonw *w, struct dp_span name, struct dp_span problem)
{
    dp_jsonw_begin(w, '{');
    dp_jsonw_key(w, "name");
    dp_jsonw_str(w, name);
    dp_jsonw_key(w, "problem");
    dp_jsonw_str(w, problem);
    dp_jsonw_end(w, '}');
}

/* The entries of `old` for which keep[i] is true (NULL: all), and one more (name NULL: none). Without entries, no list. */
static int write_list(const char *manifest_path, const struct dp_json *old, const bool *keep, const char *name, const char *problem,
                      struct dp_err *e)
{
    const struct dp_json *files = dp_json_get(old, "files");
    struct dp_buf b;
    struct dp_jsonw w;
    size_t n = 0;
    char *p = dp_quarantine_path(manifest_path, list_name);
    dp_buf_init(&b, LIST_BYTES_MAX);
    dp_jsonw_init(&w, &b, 1);
    dp_jsonw_begin(&w, '{');
    dp_jsonw_key(&w, "format");
    dp_jsonw_cstr(&w, "dpipe-quarantine");
    dp_jsonw_key(&w, "version");
    dp_jsonw_uint(&w, 1);
    dp_jsonw_key(&w, "files");
    dp_jsonw_begin(&w, '[');
    for (size_t i = 0; i < dp_json_count(files); i++) {
        struct dp_span was = dp_json_str(dp_json_get(dp_json_at(files, i), "name"));
        if (!was.ptr || (keep && !keep[i]) || (name && dp_span_is(was, name))) continue;
        put_entry(&w, was, dp_json_str(dp_json_get(dp_json_at(files, i), "problem")));
        n++;
    }
    if (name) put_entry(&w, dp_span_str(name), dp_span_str(problem));
    dp_jsonw_end(&w, ']');
    dp_jsonw_end(&w, '}');
    dp_buf_add_char(&b, '\n');
    int rc = p ? dp_buf_check(&b, "quarantine's list", e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", manifest_path);
    if (rc >= 0 && (n || name)) rc = dp_fs_write_atomic(p, dp_buf_span(&b), e);
    else if (rc >= 0 && unlink(p) != 0 && errno != ENOENT) rc = dp_err_set(e, DP_IO, errno, __FILE__, __LINE__, "%s: cannot remove", p);
    dp_buf_release(&b);
    free(p);
    return rc;
}

static int sync_dir_of(const char *path, struct dp_err *e)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    int rc = dir ? dp_fs_fsync_dir(dir, e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", path);
    free(dir);
    return rc;
}

/* Both folders are fsynced: after a crash the file is in one of them. */
static int move(const char *from, const char *to, struct dp_err *e)
{
    const char *slash = strrchr(to, '/');
    char *dir = slash ? strndup(to, (size_t)(slash - to)) : strdup(".");
    int rc = dir ? dp_fs_mkdirs(dir, e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", to);
    free(dir);
    if (rc < 0) return rc;
    if (rename(from, to) != 0) DP_FAIL_SYS(e, "%s: cannot rename to %s", from, to);
    DP_TRY(sync_dir_of(to, e));
    return sync_dir_of(from, e);
}

int dp_quarantine_file(const char *manifest_path, const char *name, const char *problem, struct dp_err *e)
{
    char *from = dp_manifest_path(manifest_path, name), *to = dp_quarantine_path(manifest_path, name), *dir = dp_quarantine_path(manifest_path, "");
    struct dp_json *list = NULL;
    int rc = DP_OK;
    if (!from || !to || !dir) DP_GOTO(e, NOMEM, "%s", name);
    DP_TRY_OUT(dp_fs_mkdirs(dir, e));
    DP_TRY_OUT(read_list(manifest_path, &list, e));
    DP_TRY_OUT(write_list(manifest_path, list, NULL, name, problem, e));
    rc = move(from, to, e);
out:
    dp_json_free(list);
    free(from);
    free(to);
    free(dir);
    return rc;
}

int dp_quarantine_shard(const struct dp_manifest *m, const char *manifest_path, size_t i, const char *problem, dp_quarantine_fn fn,
                        void *ctx, struct dp_err *e)
{
    const struct dp_manifest_shard *s = &m->shards[i];
    const char *names[2] = {s->name, s->index}, *want[2] = {s->sha256, s->index_sha256};
    for (int k = 0; k < 2; k++) {
        char hex[DP_HEX256], *p = dp_manifest_path(manifest_path, names[k]);
        if (!p) DP_FAIL(e, NOMEM, "%s", names[k]);
        bool there = dp_fs_exists(p);
        int rc = there ? dp_fs_sha256(p, hex, e) : DP_OK;
        free(p);
        /* What can't be read to the end is damaged too. */
        if (rc == DP_NOMEM) return rc;
        if (!there || (rc >= 0 && strcmp(hex, want[k]) == 0)) continue;
        DP_TRY(dp_quarantine_file(manifest_path, names[k], problem, e));
        if (fn) fn(ctx, names[k], problem, true);
    }
    return DP_OK;
}

int dp_quarantine_restore(const char *manifest_path, dp_quarantine_fn fn, void *ctx, struct dp_err *e)
{
    struct dp_json *list;
    int rc = read_list(manifest_path, &list, e);
    if (rc != DP_OK) return rc < 0 ? rc : DP_OK;
    const struct dp_json *files = dp_json_get(list, "files");
    size_t n = dp_json_count(files);
    bool *keep = calloc(n + 1, sizeof *keep);
    if (!keep) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", manifest_path);
    for (size_t i = 0; rc >= 0 && i < n; i++) {
        struct dp_span name = dp_json_str(dp_json_get(dp_json_at(files, i), "name")), why = dp_json_str(dp_json_get(dp_json_at(files, i), "problem"));
        char *text = strndup(name.ptr ? name.ptr : "", name.len), *problem = strndup(why.ptr ? why.ptr : "", why.len);
        char *from = text ? dp_quarantine_path(manifest_path, text) : NULL, *to = text ? dp_manifest_path(manifest_path, text) : NULL;
        if (!from || !to || !problem) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", manifest_path);
        else if (!dp_manifest_name_ok(text)) rc = dp_err_set(e, DP_CORRUPT, 0, __FILE__, __LINE__, "%s: \"%.200s\" is no name inside the folder", manifest_path, text);
        else if (dp_fs_exists(from)) { /* else a crash came before it moved, or after it moved back */
            keep[i] = dp_fs_exists(to);
            if (!keep[i]) rc = move(from, to, e);
            if (rc >= 0 && fn) fn(ctx, text, problem, !keep[i]);
        }
        free(text);
        free(problem);
        free(from);
        free(to);
    }
    if (rc >= 0) rc = write_list(manifest_path, list, keep, NULL, NULL, e);
    free(keep);
    dp_json_free(list);
    return rc;
}
