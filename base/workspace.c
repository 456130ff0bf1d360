#include "base/workspace.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/progress.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

int dp_workspace_init(const char *dir, struct dp_span recipe, struct dp_err *e)
{
    static const char *const folders[] = {"store", "tmp"};
    if (!dir[0]) DP_FAIL(e, USAGE, "the workspace's name is empty; give a folder");
    for (int i = 0; i < 2; i++) {
        char *p = dp_fs_join(dir, folders[i]);
        if (!p) DP_FAIL(e, NOMEM, "%s", dir);
        int rc = dp_fs_mkdirs(p, e);
        free(p);
        DP_TRY(rc);
    }
    char *p = dp_fs_join(dir, "recipe.yaml");
    if (!p) DP_FAIL(e, NOMEM, "%s", dir);
    int rc = dp_fs_exists(p) ? DP_EMPTY : dp_fs_write_atomic(p, recipe, e);
    free(p);
    return rc;
}

char *dp_workspace_store_path(const struct dp_workspace *w, const char *name)
{
    return dp_fs_join(w->store, name);
}

char *dp_workspace_tmp_path(const struct dp_workspace *w, const char *name)
{
    return dp_fs_join(w->tmp, name);
}

/* Remove everything in a folder, one level of folders included (dedup spills into one). */
static void empty_folder(const char *path, int depth)
{
    DIR *d = opendir(path);
    if (!d) return;
    for (struct dirent *f; (f = readdir(d));) {
        if (strcmp(f->d_name, ".") == 0 || strcmp(f->d_name, "..") == 0) continue;
        char *p = dp_fs_join(path, f->d_name);
        if (!p) break;
        struct stat st;
        if (lstat(p, &st) == 0 && S_ISDIR(st.st_mode) && depth < 2) {
            empty_folder(p, depth + 1);
            rmdir(p);
        } else unlink(p);
        free(p);
    }
    closedir(d);
}

struct names {
    const struct dp_workspace *w;
    char **v;
    size_t n, cap;
};

static int add_name(struct names *k, const char *name)
{
    if (k->n == k->cap) {
        size_t cap = k->cap ? k->cap * 2 : 64;
        char **v = realloc(k->v, cap * sizeof *v);
        if (!v) return DP_NOMEM;
        k->v = v;
        k->cap = cap;
    }
    k->v[k->n] = strdup(name);
    return k->v[k->n] ? (k->n++, DP_OK) : DP_NOMEM;
}

/* Names of artifacts whose file is gone or has another size. */
static int add_lost(void *ctx, const struct dp_artifact *a)
{
    struct names *k = ctx;
    struct stat st;
    char *path = dp_workspace_store_path(k->w, a->name);
    if (!path) return DP_NOMEM;
    dp_progress_tick();
    bool there = stat(path, &st) == 0;
    int sys = there ? 0 : errno;
    free(path);
    if (there ? S_ISREG(st.st_mode) && (int64_t)st.st_size == a->bytes : sys != ENOENT) return DP_OK;
    if (there) dp_log(WARN, "workspace", "store/%s has %lld bytes, not %lld: it is made again", a->name, (long long)st.st_size, (long long)a->bytes);
    else dp_log(WARN, "workspace", "store/%s is gone: it is made again", a->name);
    return add_name(k, a->name);
}

static void free_names(struct names *k)
{
    for (size_t i = 0; i < k->n; i++) free(k->v[i]);
    free(k->v);
}

/* What someone removed or cut short isn't done any more: forget its unit. The unit's other files go with the sweep. */
static int forget_lost(struct dp_workspace *w, struct dp_err *e)
{
    struct names gone = {.w = w};
    int rc = dp_catalog_all(w->catalog, add_lost, &gone, e);
    if (rc >= 0) rc = dp_progress_go_on(e);
    for (size_t i = 0; rc >= 0 && i < gone.n; i++) rc = dp_catalog_lost(w->catalog, gone.v[i], e);
    free_names(&gone);
    return rc;
}

static int sweep_store(struct dp_workspace *w, struct dp_err *e)
{
    int rc = DP_OK;
    DIR *d = opendir(w->store);
    if (!d) DP_FAIL_SYS(e, "%s: cannot read folder", w->store);
    for (struct dirent *f; rc >= 0 && (f = readdir(d));) {
        const char *name = f->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) continue;
        rc = dp_progress_go_on(e);
        if (rc >= 0) rc = dp_catalog_has_artifact(w->catalog, name, e);
        if (rc != 0) continue;
        dp_log(DEBUG, "workspace", "removing store/%s: the catalog doesn't know it", name);
        dp_workspace_unlink(w, name);
    }
    closedir(d);
    return rc < 0 ? rc : DP_OK;
}

/* Sweeping under an empty catalog would take everything: a store without its catalog is for its owner to decide about. */
static int store_without_catalog(const struct dp_workspace *w, const char *db, struct dp_err *e)
{
    struct stat st;
    if (stat(db, &st) == 0 && st.st_size > 0) return DP_OK;
    DIR *d = opendir(w->store);
    bool files = false;
    for (struct dirent *f; d && !files && (f = readdir(d));) files = strcmp(f->d_name, ".") != 0 && strcmp(f->d_name, "..") != 0;
    if (d) closedir(d);
    if (files)
        DP_FAIL(e, CONFIG, "%s is missing or empty, but %s holds artifacts: restore the catalog, or remove store/ to begin anew", db, w->store);
    return DP_OK;
}

int dp_workspace_note(struct dp_workspace *w, const char *text, struct dp_err *e)
{
    size_t n = strlen(text);
    if (ftruncate(w->lock_fd, 0) != 0 || pwrite(w->lock_fd, text, n, 0) != (ssize_t)n) DP_FAIL_SYS(e, "%s/lock: cannot write", w->dir);
    return DP_OK;
}

char *dp_workspace_noted(const char *dir, const char *name)
{
    char text[1024], *p = dp_fs_join(dir, "lock"), *value = NULL;
    int fd = p ? open(p, O_RDONLY | O_CLOEXEC) : -1;
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    text[n > 0 ? n : 0] = 0;
    if (fd >= 0) close(fd);
    free(p);
    size_t len = strlen(name);
    for (const char *line = text; *line && !value; line += strcspn(line, "\n"), line += *line == '\n')
        if (strncmp(line, name, len) == 0 && line[len] == '=') value = strndup(line + len + 1, strcspn(line + len + 1, "\n"));
    return value;
}

static int held(const struct dp_workspace *w, struct dp_err *e)
{
    char *pid = dp_workspace_noted(w->dir, "pid"), *sock = dp_workspace_noted(w->dir, "socket");
    if (sock)
        dp_err_set(e, DP_BUSY, 0, __FILE__, __LINE__, "%s: `dpipe serve` (process %s) has it; ask it: dpipe status, rescan, pause or stop -w %s", w->dir,
                   pid ? pid : "?", w->dir);
    else dp_err_set(e, DP_BUSY, 0, __FILE__, __LINE__, "%s: another dpipe is at work here; wait for it, or stop it", w->dir);
    free(pid);
    free(sock);
    return DP_BUSY;
}

/* A holder that was killed while it started a worker: the child has the lock's descriptor until it executes, a moment longer. */
static bool holder_is_dead(const struct dp_workspace *w)
{
    char *pid = dp_workspace_noted(w->dir, "pid");
    long n = pid ? strtol(pid, NULL, 10) : 0;
    free(pid);
    return n > 0 && kill((pid_t)n, 0) != 0 && errno == ESRCH;
}

static int take_lock(const struct dp_workspace *w)
{
    enum { TRIES = 200, PAUSE_US = 10000 };
    int rc = flock(w->lock_fd, LOCK_EX | LOCK_NB);
    for (int i = 0; rc != 0 && errno == EWOULDBLOCK && i < TRIES; i++) {
        if (!holder_is_dead(w)) {
            errno = EWOULDBLOCK;
            return -1;
        }
        usleep(PAUSE_US);
        rc = flock(w->lock_fd, LOCK_EX | LOCK_NB);
    }
    return rc;
}

static int lock(struct dp_workspace *w, struct dp_err *e)
{
    char *p = dp_fs_join(w->dir, "lock");
    if (!p) DP_FAIL(e, NOMEM, "%s", w->dir);
    w->lock_fd = open(p, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    int rc = DP_OK;
    if (w->lock_fd < 0) rc = dp_err_set(e, DP_IO, errno, __FILE__, __LINE__, "%s: cannot open", p);
    else if (take_lock(w) != 0) rc = errno == EWOULDBLOCK ? held(w, e) : dp_err_set(e, DP_IO, errno, __FILE__, __LINE__, "%s: lock", p);
    else if (ftruncate(w->lock_fd, 0) != 0) rc = dp_err_set(e, DP_IO, errno, __FILE__, __LINE__, "%s: cannot empty", p);
    free(p);
    return rc;
}

static int open_workspace(struct dp_workspace *w, const char *dir, bool write, struct dp_err *e)
{
    *w = (struct dp_workspace){.lock_fd = -1};
    int rc = DP_OK;
    char *db = NULL;
    w->dir = strdup(dir);
    w->recipe = dp_fs_join(dir, "recipe.yaml");
    w->store = dp_fs_join(dir, "store");
    w->tmp = dp_fs_join(dir, "tmp");
    db = dp_fs_join(dir, "catalog.db");
    if (!w->dir || !w->recipe || !w->store || !w->tmp || !db) DP_GOTO(e, NOMEM, "%s", dir);
    if (!dir[0]) DP_GOTO(e, USAGE, "the workspace's name is empty; -w takes a folder");
    if (!dp_fs_exists(w->recipe)) DP_GOTO(e, CONFIG, "%s is no workspace (no recipe.yaml in it): make one with `dpipe init %s`", dir, dir);
    char host[40] = "";
    gethostname(host, sizeof host - 1);
    snprintf(w->owner, sizeof w->owner, "%s:%d", host, (int)getpid());
    if (write) {
        DP_TRY_OUT(dp_fs_mkdirs(w->store, e));
        DP_TRY_OUT(dp_fs_mkdirs(w->tmp, e));
        DP_TRY_OUT(lock(w, e));
    }
    DP_TRY_OUT(store_without_catalog(w, db, e));
    DP_TRY_OUT(write ? dp_catalog_open(&w->catalog, db, e) : dp_catalog_open_read(&w->catalog, db, e));
    if (write) DP_TRY_OUT(dp_catalog_reclaim(w->catalog, e));
out:
    free(db);
    if (rc < 0) dp_workspace_close(w);
    return rc;
}

int dp_workspace_sweep(struct dp_workspace *w, struct dp_err *e)
{
    w->leftover = false;
    empty_folder(w->tmp, 0);
    DP_TRY(forget_lost(w, e));
    return sweep_store(w, e);
}

int dp_workspace_open(struct dp_workspace *w, const char *dir, bool write, struct dp_err *e)
{
    int rc = open_workspace(w, dir, write, e);
    if (rc >= 0 && write) rc = dp_workspace_sweep(w, e);
    if (rc < 0) dp_workspace_close(w);
    return rc;
}

int dp_workspace_open_unswept(struct dp_workspace *w, const char *dir, struct dp_err *e)
{
    return open_workspace(w, dir, true, e);
}

void dp_workspace_close(struct dp_workspace *w)
{
    if (w->lock_fd >= 0 && w->catalog) empty_folder(w->tmp, 0);
    dp_catalog_close(w->catalog);
    if (w->lock_fd >= 0) close(w->lock_fd);
    free(w->dir);
    free(w->recipe);
    free(w->store);
    free(w->tmp);
    *w = (struct dp_workspace){.lock_fd = -1};
}

int dp_workspace_publish(struct dp_workspace *w, const char *const *names, size_t n, struct dp_err *e)
{
    for (size_t i = 0; i < n; i++) {
        char *from = dp_workspace_tmp_path(w, names[i]), *to = dp_workspace_store_path(w, names[i]);
        int rc = from && to ? DP_OK : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", names[i]);
        if (rc >= 0 && rename(from, to) != 0)
            rc = dp_err_set(e, dp_code_of_errno(errno), errno, __FILE__, __LINE__, "%s: cannot rename to %s", from, to);
        free(from);
        free(to);
        DP_TRY(rc);
    }
    return dp_fs_fsync_dir(w->store, e);
}

void dp_workspace_unlink(void *workspace, const char *name)
{
    struct dp_workspace *w = workspace;
    char *p = dp_workspace_store_path(w, name);
    if (!p || (unlink(p) != 0 && errno != ENOENT)) {
        dp_log(WARN, "workspace", "store/%s isn't needed any more, but can't be removed: %s", name, strerror(errno));
        w->leftover = true;
    }
    free(p);
}
