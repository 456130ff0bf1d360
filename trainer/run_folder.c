#include "trainer/run_folder.h"

#include "base/fs.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum { STEPS_MAX = 4096 };

struct dp_run_folder {
    char *dir;
    int fd;
    char newest[600]; /* path */
};

static char *path_of(const struct dp_run_folder *f, const char *name)
{
    return dp_fs_join(f->dir, name);
}

static void checkpoint_name(int64_t step, char out[64])
{
    snprintf(out, 64, "checkpoint-%010lld.safetensors", (long long)step);
}

/* Steps of the checkpoints, ascending; of more than STEPS_MAX some. With `sweep`, half-written files go. */
static int list(const struct dp_run_folder *f, bool sweep, int64_t *steps, size_t *n, struct dp_err *e)
{
    DIR *d = opendir(f->dir);
    *n = 0;
    if (!d) DP_FAIL_SYS(e, "%s: cannot open folder", f->dir);
    for (struct dirent *i; (i = readdir(d));) {
        long long step;
        char name[64];
        if (sweep && strncmp(i->d_name, ".partial", 8) == 0) unlinkat(dirfd(d), i->d_name, 0);
        if (sscanf(i->d_name, "checkpoint-%lld.safetensors", &step) != 1 || step < 0) continue;
        checkpoint_name(step, name);
        if (strcmp(name, i->d_name) != 0 || *n == STEPS_MAX) continue;
        size_t at = (*n)++;
        for (; at > 0 && steps[at - 1] > step; at--) steps[at] = steps[at - 1];
        steps[at] = step;
    }
    closedir(d);
    return DP_OK;
}

static int claim(struct dp_run_folder *f, const char *dir, struct dp_err *e)
{
    int64_t steps[STEPS_MAX];
    size_t n;
    if (!(f->dir = strdup(dir))) DP_FAIL(e, NOMEM, "%s", dir);
    DP_TRY(dp_fs_mkdirs(dir, e));
    f->fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f->fd < 0) DP_FAIL_SYS(e, "%s: cannot open folder", dir);
    if (flock(f->fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK)
            DP_FAIL(e, BUSY, "%s: another process trains in this folder; give another --out", dir);
        DP_FAIL_SYS(e, "%s: cannot lock", dir);
    }
    return list(f, true, steps, &n, e);
}

int dp_run_folder_open(struct dp_run_folder **out, const char *dir, struct dp_err *e)
{
    *out = NULL;
    struct dp_run_folder *f = calloc(1, sizeof *f);
    if (!f) DP_FAIL(e, NOMEM, "%s", dir);
    f->fd = -1;
    int rc = claim(f, dir, e);
    if (rc < 0) dp_run_folder_close(f);
    else *out = f;
    return rc;
}

void dp_run_folder_close(struct dp_run_folder *f)
{
    if (!f) return;
    if (f->fd >= 0) close(f->fd);
    free(f->dir);
    free(f);
}

const char *dp_run_folder_path(const struct dp_run_folder *f)
{
    return f->dir;
}

const char *dp_run_folder_newest(struct dp_run_folder *f, int64_t *step, struct dp_err *e)
{
    int64_t steps[STEPS_MAX];
    size_t n;
    char name[64];
    if (list(f, false, steps, &n, e) < 0 || n == 0) return NULL;
    *step = steps[n - 1];
    checkpoint_name(*step, name);
    snprintf(f->newest, sizeof f->newest, "%s/%s", f->dir, name);
    return f->newest;
}

/* Why a save failed, and what to do now. */
static void advise_save(struct dp_run_folder *f, int rc, struct dp_trainer *t, struct dp_err *e)
{
    struct dp_err why = *e;
    int64_t step = 0;
    const char *last = dp_run_folder_newest(f, &step, NULL);
    char left[700] = "no checkpoint was there before", room[96] = "";
    if (last) snprintf(left, sizeof left, "%s (update %lld) is whole", last, (long long)step);
    if (rc == DP_NOSPACE || why.sys == EFBIG)
        snprintf(room, sizeof room, "free %llu MiB on its disk, or raise the limit of file sizes, and ",
                 (unsigned long long)(dp_trainer_params(t) * 12 >> 20) + 1);
    dp_err_set(e, why.code, 0, __FILE__, __LINE__, "%.240s; %.120s: %srun again%s", why.msg, left, room,
               last ? " to go on from there" : "");
    e->sys = why.sys;
}

static int write_partial(struct dp_run_folder *f, struct dp_trainer *t, const char *partial,
                         const struct dp_safetensors_kv *extra, size_t extras, struct dp_err *e)
{
    unlink(partial);
    int rc = dp_trainer_save(t, partial, extra, extras, e);
    if (rc < 0) advise_save(f, rc, t, e);
    return rc;
}

static int settle(struct dp_run_folder *f, const char *partial, const char *path, struct dp_err *e)
{
    if (rename(partial, path) != 0) DP_FAIL_SYS(e, "%s: cannot rename to %s", partial, path);
    return dp_fs_fsync_dir(f->dir, e);
}

int dp_run_folder_save(struct dp_run_folder *f, struct dp_trainer *t, const struct dp_safetensors_kv *extra,
                       size_t extras, int64_t keep, struct dp_err *e)
{
    char name[64];
    int64_t steps[STEPS_MAX];
    size_t n;
    checkpoint_name(dp_trainer_steps_done(t), name);
    char *path = path_of(f, name), *partial = path_of(f, ".partial");
    int rc = path && partial ? write_partial(f, t, partial, extra, extras, e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", name);
    if (rc >= 0) rc = settle(f, partial, path, e);
    if (rc >= 0) rc = list(f, false, steps, &n, e);
    for (size_t i = 0; rc >= 0 && i + (size_t)keep < n; i++) {
        checkpoint_name(steps[i], name);
        unlinkat(f->fd, name, 0);
    }
    free(path);
    free(partial);
    return rc;
}

int dp_run_folder_name(struct dp_run_folder *f, struct dp_trainer *t, const char *name,
                       const struct dp_safetensors_kv *extra, size_t extras, struct dp_err *e)
{
    char full[64], of[64];
    snprintf(full, sizeof full, "%s.safetensors", name);
    checkpoint_name(dp_trainer_steps_done(t), of);
    char *path = path_of(f, full), *partial = path_of(f, ".partial-name");
    int rc = path && partial ? DP_OK : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", full);
    if (rc >= 0) {
        unlink(partial);
        if (linkat(f->fd, of, f->fd, ".partial-name", 0) != 0) /* not there, or a file system without links */
            rc = write_partial(f, t, partial, extra, extras, e);
    }
    if (rc >= 0) rc = settle(f, partial, path, e);
    if (rc >= 0 && partial) unlink(partial); /* renaming onto another name of the same file does nothing */
    free(path);
    free(partial);
    return rc;
}

void dp_run_folder_advise(struct dp_run_folder *f, const char *path, struct dp_err *e)
{
    int64_t steps[STEPS_MAX];
    size_t n;
    struct dp_err why = *e;
    char other[160] = "to begin anew";
    if (why.code != DP_CORRUPT || list(f, false, steps, &n, NULL) < 0) return;
    if (n > 1) snprintf(other, sizeof other, "to go on from the one of update %lld", (long long)steps[n - 2]);
    dp_err_set(e, why.code, 0, __FILE__, __LINE__, "%.300s; remove %.100s %s", why.msg, path, other);
    e->sys = why.sys;
}
