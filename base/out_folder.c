/* The folder under construction stands beside its target, so that the rename stays on one file
 * system; its name follows from the target's, so that the next export finds what a killed one
 * left, and a lock on it keeps two exports into one target apart. A target that is an earlier
 * export is swapped (RENAME_EXCHANGE): at no moment is there none. */
#include "base/out_folder.h"

#include "base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char receipt_name[] = "dpipe-export.json";

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names in a folder, sorted; free each and the list. */
static int list_folder(const char *dir, char ***out, size_t *n, struct dp_err *e)
{
    DIR *d = opendir(dir);
    char **v = NULL;
    int rc = DP_OK;
    *n = 0;
    if (!d) DP_FAIL_SYS(e, "%s: cannot read folder", dir);
    for (struct dirent *f; rc >= 0 && (f = readdir(d));) {
        if (strcmp(f->d_name, ".") == 0 || strcmp(f->d_name, "..") == 0) continue;
        char **more = realloc(v, (*n + 1) * sizeof *v);
        if (more) v = more;
        if (!more || !(v[*n] = strdup(f->d_name)))
            rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", dir);
        else ++*n;
    }
    closedir(d);
    if (*n) qsort(v, *n, sizeof *v, by_name);
    *out = v;
    return rc;
}

static void free_names(char **v, size_t n)
{
    for (size_t i = 0; i < n; i++) free(v[i]);
    free(v);
}

/* Remove a folder's files, and the folder. */
static int remove_folder(const char *dir, bool itself, struct dp_err *e)
{
    char **v, *p;
    size_t n;
    int rc = list_folder(dir, &v, &n, e);
    for (size_t i = 0; rc >= 0 && i < n; i++) {
        p = dp_fs_join(dir, v[i]);
        if (!p) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", dir);
        else if (unlink(p) != 0)
            rc = dp_err_set(e, dp_code_of_errno(errno), errno, __FILE__, __LINE__, "%s: cannot remove", p);
        free(p);
    }
    free_names(v, n);
    if (rc >= 0 && itself && rmdir(dir) != 0) DP_FAIL_SYS(e, "%s: cannot remove", dir);
    return rc;
}

static bool listed(const struct dp_json *files, const char *name)
{
    if (strcmp(name, receipt_name) == 0) return true;
    for (size_t i = 0; i < dp_json_count(files); i++)
        if (dp_span_is(dp_json_str(dp_json_get(dp_json_at(files, i), "name")), name)) return true;
    return false;
}

/* An earlier export and nothing else may be replaced. */
static int look_at_target(struct dp_out_folder *d, struct dp_err *e)
{
    struct stat st;
    char **v = NULL, *receipt = NULL;
    struct dp_json *root = NULL;
    size_t n = 0;
    int rc = DP_OK;
    d->target = DP_FOLDER_ABSENT;
    if (stat(d->dir, &st) != 0) return errno == ENOENT ? DP_OK : dp_err_set(e, DP_IO, errno, __FILE__, __LINE__, "%s", d->dir);
    if (!S_ISDIR(st.st_mode)) DP_FAIL(e, CONFIG, "%s is a file; an export is a folder", d->dir);
    DP_TRY_OUT(list_folder(d->dir, &v, &n, e));
    d->target = n ? DP_FOLDER_OURS : DP_FOLDER_EMPTY;
    if (!n) goto out;
    receipt = dp_fs_join(d->dir, receipt_name);
    if (!receipt) DP_GOTO(e, NOMEM, "%s", d->dir);
    if (!dp_fs_exists(receipt))
        DP_GOTO(e, CONFIG, "%s isn't empty and no export of dpipe's; give a new folder", d->dir);
    DP_TRY_OUT(dp_json_parse_file(&root, receipt, 64 << 20, e));
    for (size_t i = 0; i < n; i++)
        if (!listed(dp_json_get(root, "files"), v[i]))
            DP_GOTO(e, CONFIG, "%s holds %s, which no export made; move it, or give a new folder", d->dir, v[i]);
out:
    dp_json_free(root);
    free(receipt);
    free_names(v, n);
    return rc;
}

int dp_out_folder_open(struct dp_out_folder *d, const char *dir, struct dp_err *e)
{
    size_t n = strlen(dir);
    int rc = DP_OK;
    *d = (struct dp_out_folder){.lock = -1};
    while (n > 1 && dir[n - 1] == '/') n--;
    if (!n) DP_FAIL(e, USAGE, "export: the folder's name is empty");
    d->dir = realpath(dir, NULL);
    if (!d->dir) d->dir = strndup(dir, n);
    if (!d->dir) DP_GOTO(e, NOMEM, "%s", dir);
    const char *slash = strrchr(d->dir, '/'), *name = slash ? slash + 1 : d->dir;
    if (!*name) DP_GOTO(e, USAGE, "export: %s can't be replaced", dir);
    d->parent = slash ? strndup(d->dir, slash == d->dir ? 1 : (size_t)(slash - d->dir)) : strdup(".");
    size_t k = strlen(d->dir) + 32;
    d->tmp = malloc(k);
    if (!d->parent || !d->tmp) DP_GOTO(e, NOMEM, "%s", dir);
    snprintf(d->tmp, k, "%s/.%s.dpipe-export", d->parent, name);
    DP_TRY_OUT(look_at_target(d, e));
    DP_TRY_OUT(dp_fs_mkdirs(d->tmp, e));
    d->lock = open(d->tmp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d->lock < 0) DP_GOTO_SYS(e, "%s", d->tmp);
    if (flock(d->lock, LOCK_EX | LOCK_NB) != 0) {
        close(d->lock); /* not ours to empty */
        d->lock = -1;
        DP_GOTO(e, BUSY, "%s: another export writes there", d->dir);
    }
    rc = remove_folder(d->tmp, false, e);
out:
    return rc;
}

/* No reader of any format looks at it. */
int dp_out_folder_receipt(struct dp_out_folder *d, void (*facts)(struct dp_jsonw *w, const void *ctx), const void *ctx, struct dp_err *e)
{
    char **v = NULL, *path = dp_fs_join(d->tmp, receipt_name);
    struct dp_buf b;
    struct dp_jsonw w;
    size_t n = 0;
    dp_buf_init(&b, 64 << 20);
    dp_jsonw_init(&w, &b, 1);
    int rc = path ? list_folder(d->tmp, &v, &n, e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", d->tmp);
    dp_jsonw_begin(&w, '{');
    facts(&w, ctx);
    dp_jsonw_key(&w, "files");
    dp_jsonw_begin(&w, '[');
    for (size_t i = 0; rc >= 0 && i < n; i++) {
        struct stat st = {0};
        char *p = dp_fs_join(d->tmp, v[i]);
        if (!p || stat(p, &st) != 0) rc = dp_err_set(e, DP_IO, errno, __FILE__, __LINE__, "%s/%s", d->tmp, v[i]);
        free(p);
        dp_jsonw_begin(&w, '{');
        dp_jsonw_member(&w, "name", v[i]);
        dp_jsonw_member_uint(&w, "bytes", (uint64_t)st.st_size);
        dp_jsonw_end(&w, '}');
        d->files++;
        d->bytes += (uint64_t)st.st_size;
    }
    dp_jsonw_end(&w, ']');
    dp_jsonw_end(&w, '}');
    dp_buf_add_char(&b, '\n');
    if (rc >= 0) rc = dp_buf_check(&b, receipt_name, e);
    if (rc >= 0) rc = dp_fs_write_atomic(path, dp_buf_span(&b), e);
    free_names(v, n);
    dp_buf_release(&b);
    free(path);
    return rc;
}

int dp_out_folder_publish(struct dp_out_folder *d, struct dp_err *e)
{
    DP_TRY(dp_fs_fsync_dir(d->tmp, e));
    if (d->target == DP_FOLDER_OURS) {
        if (renameat2(AT_FDCWD, d->tmp, AT_FDCWD, d->dir, RENAME_EXCHANGE) != 0) {
            if (errno != EINVAL && errno != ENOSYS) DP_FAIL_SYS(e, "%s: cannot replace", d->dir);
            /* A file system that can't swap: for a moment there is none. */
            DP_TRY(remove_folder(d->dir, true, e));
            if (rename(d->tmp, d->dir) != 0) DP_FAIL_SYS(e, "%s: cannot rename to %s", d->tmp, d->dir);
            return dp_fs_fsync_dir(d->parent, e);
        }
        DP_TRY(dp_fs_fsync_dir(d->parent, e));
        return remove_folder(d->tmp, true, e);
    }
    if (rename(d->tmp, d->dir) != 0) DP_FAIL_SYS(e, "%s: cannot rename to %s", d->tmp, d->dir);
    return dp_fs_fsync_dir(d->parent, e);
}

void dp_out_folder_close(struct dp_out_folder *d, bool failed)
{
    if (failed && d->lock >= 0) remove_folder(d->tmp, true, NULL);
    if (d->lock >= 0) close(d->lock);
    free(d->dir);
    free(d->parent);
    free(d->tmp);
}
