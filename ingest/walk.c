/* Entries of a folder are read whole and sorted, folders as if their name ended with "/": visiting them in that order gives the
 * bytewise order of all relative paths without holding more than one folder a level. */
#include "ingest/reader.h"

#include "base/fs.h"

#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { DEPTH_MAX = 256 };

struct entry {
    char *key; /* name, with "/" behind folders */
    uint64_t size;
};

struct walk {
    int (*fn)(void *ctx, const char *path, const char *relative, uint64_t size);
    void (*skip)(void *ctx, const char *path, const char *why);
    void *ctx;
    char *root; /* real path, with "/" */
};

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->key, ((const struct entry *)b)->key);
}

static void skip(const struct walk *w, const char *path, const char *why)
{
    if (w->skip) w->skip(w->ctx, path, why);
}

/* Trouble of this entry. Everything else (EIO, ENOMEM, ESTALE) is the machine's: leaving the file out would be as if somebody had removed it. */
static bool of_the_entry(int sys)
{
    return sys == ENOENT || sys == EACCES || sys == EPERM || sys == ENAMETOOLONG || sys == ELOOP || sys == ENOTDIR;
}

/* A link counts when it leads to a regular file inside the root: 1, 0, or -1 with errno. */
static int link_counts(const struct walk *w, const char *path, struct stat *st)
{
    char *real = realpath(path, NULL);
    if (!real) return of_the_entry(errno) ? 0 : -1;
    bool inside = strncmp(real, w->root, strlen(w->root)) == 0;
    free(real);
    if (!inside) return 0;
    if (stat(path, st) != 0) return of_the_entry(errno) ? 0 : -1;
    return !S_ISDIR(st->st_mode);
}

/* What an entry is: *key stays NULL when it isn't wanted. */
static int look(const struct walk *w, const char *dir, const char *name, struct entry *en, struct dp_err *e)
{
    struct stat st;
    char *path = dp_fs_join(dir, name);
    en->key = NULL;
    if (!path) DP_FAIL(e, NOMEM, "%s: its entries", dir);
    int there = lstat(path, &st) == 0 ? 1 : of_the_entry(errno) ? 0 : -1;
    if (there == 0 && errno != ENOENT) skip(w, path, strerror(errno));
    if (there == 1 && S_ISLNK(st.st_mode)) there = link_counts(w, path, &st);
    if (there < 0) dp_err_set(e, dp_code_of_errno(errno), errno, __FILE__, __LINE__, "%s: cannot look at it", path);
    int sys = errno;
    free(path);
    if (there < 0) return dp_code_of_errno(sys);
    if (!there || (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))) return DP_OK;
    size_t n = strlen(name);
    if (!(en->key = malloc(n + 2))) DP_FAIL(e, NOMEM, "%s: its entries", dir);
    memcpy(en->key, name, n + 1);
    if (S_ISDIR(st.st_mode)) memcpy(en->key + n, "/", 2);
    en->size = (uint64_t)st.st_size;
    return DP_OK;
}

static int read_folder(const struct walk *w, const char *dir, struct entry **list, size_t *count, struct dp_err *e)
{
    size_t cap = 0;
    DIR *d = opendir(dir);
    if (!d) DP_FAIL_SYS(e, "%s: cannot list the folder", dir);
    int rc = DP_OK;
    for (;;) {
        errno = 0;
        struct dirent *de = readdir(d);
        if (!de) {
            if (errno) DP_GOTO_SYS(e, "%s: cannot list the folder", dir);
            break;
        }
        if (de->d_name[0] == '.') continue;
        if (*count == cap) {
            cap = cap ? cap * 2 : 64;
            struct entry *t = realloc(*list, cap * sizeof *t);
            if (!t) DP_GOTO(e, NOMEM, "%s: its entries", dir);
            *list = t;
        }
        DP_TRY_OUT(look(w, dir, de->d_name, &(*list)[*count], e));
        if ((*list)[*count].key) ++*count;
    }
    if (*count) qsort(*list, *count, sizeof **list, by_key);
out:
    closedir(d);
    return rc;
}

static int walk_folder(const struct walk *w, const char *dir, const char *relative, int depth, struct dp_err *e)
{
    struct entry *list = NULL;
    size_t count = 0;
    char *path = NULL, *below = NULL;
    if (depth > DEPTH_MAX) {
        skip(w, dir, "too many folders inside each other");
        return DP_OK;
    }
    int rc = read_folder(w, dir, &list, &count, e);
    if (rc < 0 && depth && e && (e->sys == EACCES || e->sys == EPERM || e->sys == ENOENT || e->sys == ENAMETOOLONG)) {
        skip(w, dir, strerror(e->sys));
        rc = DP_OK; /* what of it was listed, if anything, is read */
    }
    for (size_t i = 0; rc == DP_OK && i < count; i++) {
        size_t n = strlen(list[i].key);
        bool folder = list[i].key[n - 1] == '/';
        if (folder) list[i].key[n - 1] = 0;
        path = dp_fs_join(dir, list[i].key);
        below = relative[0] ? dp_fs_join(relative, list[i].key) : strdup(list[i].key);
        if (!path || !below) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s: its entries", dir);
        else if (folder) rc = walk_folder(w, path, below, depth + 1, e);
        else rc = w->fn(w->ctx, path, below, list[i].size);
        free(path);
        free(below);
    }
    for (size_t i = 0; i < count; i++) free(list[i].key);
    free(list);
    return rc;
}

int dp_walk(const char *path, int (*fn)(void *ctx, const char *path, const char *relative, uint64_t size),
            void (*skip_fn)(void *ctx, const char *path, const char *why), void *ctx, struct dp_err *e)
{
    struct stat st;
    if (stat(path, &st) != 0) DP_FAIL_SYS(e, "%s: cannot open", path);
    if (S_ISREG(st.st_mode)) return fn(ctx, path, "", (uint64_t)st.st_size);
    if (!S_ISDIR(st.st_mode)) DP_FAIL(e, USAGE, "%s is neither a file nor a folder", path);
    struct walk w = {fn, skip_fn, ctx, NULL};
    char *real = realpath(path, NULL);
    if (!real) DP_FAIL_SYS(e, "%s: cannot resolve", path);
    size_t n = strlen(real);
    w.root = malloc(n + 2);
    int rc;
    if (w.root) {
        memcpy(w.root, real, n + 1);
        if (real[n - 1] != '/') memcpy(w.root + n, "/", 2);
        rc = walk_folder(&w, path, "", 0, e);
    } else {
        rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s: its path", path);
    }
    free(w.root);
    free(real);
    return rc;
}
