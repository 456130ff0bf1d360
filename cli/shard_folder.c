#include "cli/shard_folder.h"

#include "base/fs.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct dp_shard_folder {
    char *final, *partial; /* paths */
    int lock;              /* descriptor of partial; -1: not ours */
    struct dp_shard_packing packing;
    bool packed, done, parts; /* parts: a document has begun */
    uint64_t shard_bytes, bytes; /* of text: limit, in this shard */
    struct dp_shard_writer *w;
    struct dp_manifest *m;
    unsigned shards;
};

/* --- the folder --- */

static bool ours(const char *name)
{
    return strncmp(name, "shard-", 6) == 0 || strncmp(name, "spill-", 6) == 0 || strncmp(name, "manifest.json", 13) == 0;
}

/* Number of entries; with `remove`, those of a broken run go first. */
static int look(const char *path, bool remove, size_t *left, struct dp_err *e)
{
    DIR *d = opendir(path);
    *left = 0;
    if (!d && errno == ENOENT) return DP_OK;
    if (!d) DP_FAIL_SYS(e, "%s: cannot open folder", path);
    for (struct dirent *i; (i = readdir(d));) {
        if (strcmp(i->d_name, ".") == 0 || strcmp(i->d_name, "..") == 0) continue;
        if (!remove || !ours(i->d_name) || unlinkat(dirfd(d), i->d_name, 0) != 0) ++*left;
    }
    closedir(d);
    return DP_OK;
}

static int claim(struct dp_shard_folder *f, struct dp_err *e)
{
    struct stat a, b;
    size_t left;
    DP_TRY(look(f->final, false, &left, e));
    if (left) DP_FAIL(e, CONFIG, "%s is there already and isn't empty: name another folder, or remove it", f->final);
    DP_TRY(dp_fs_mkdirs(f->partial, e));
    int fd = open(f->partial, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) DP_FAIL_SYS(e, "%s: cannot open folder", f->partial);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno != EWOULDBLOCK) {
        int sys = errno;
        close(fd);
        return dp_err_set(e, dp_code_of_errno(sys), sys, __FILE__, __LINE__, "%s: cannot lock", f->partial);
    }
    bool mine = flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &a) == 0 && stat(f->partial, &b) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
    if (!mine) {
        close(fd);
        DP_FAIL(e, BUSY, "%s: another process makes this folder at the moment", f->partial);
    }
    f->lock = fd;
    DP_TRY(look(f->partial, true, &left, e));
    if (left) DP_FAIL(e, CONFIG, "%s has files that aren't of a broken run: remove them, or name another folder", f->partial);
    return DP_OK;
}

int dp_shard_folder_open(struct dp_shard_folder **out, const char *folder, const struct dp_shard_meta *m, const struct dp_shard_packing *packing, uint64_t bytes,
                         struct dp_err *e)
{
    *out = NULL;
    struct dp_shard_folder *f = calloc(1, sizeof *f);
    size_t n = strlen(folder);
    if (!f) DP_FAIL(e, NOMEM, "%s", folder);
    *f = (struct dp_shard_folder){.lock = -1, .packed = packing != NULL, .shard_bytes = bytes};
    if (packing) f->packing = *packing;
    while (n > 1 && folder[n - 1] == '/') n--;
    f->final = strndup(folder, n);
    f->partial = malloc(n + sizeof ".partial");
    int rc = f->final && f->partial ? DP_OK : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", folder);
    if (rc >= 0) snprintf(f->partial, n + sizeof ".partial", "%s.partial", f->final);
    if (rc >= 0) rc = claim(f, e);
    if (rc >= 0) rc = dp_manifest_new(&f->m, m, e);
    if (rc < 0) {
        dp_shard_folder_close(f);
        return rc;
    }
    *out = f;
    return DP_OK;
}

void dp_shard_folder_close(struct dp_shard_folder *f)
{
    size_t left;
    if (!f) return;
    dp_shard_writer_close(f->w);
    if (f->lock >= 0 && !f->done && look(f->partial, true, &left, NULL) >= 0) rmdir(f->partial);
    if (f->lock >= 0) close(f->lock);
    dp_manifest_free(f->m);
    free(f->final);
    free(f->partial);
    free(f);
}

/* --- shards --- */

static char *path_of(const struct dp_shard_folder *f, const char *ending, char name[40])
{
    snprintf(name, 40, "shard-%05u.%s", f->shards, ending);
    return dp_fs_join(f->partial, name);
}

static int open_shard(struct dp_shard_folder *f, struct dp_err *e)
{
    char a[40], b[40], *bin = path_of(f, f->packed ? "zbin" : "bin", a), *dpx = path_of(f, "dpx", b);
    int rc = bin && dpx ? dp_shard_writer_open_packed(&f->w, bin, dpx, &f->m->meta, f->packed ? &f->packing : NULL, e)
                        : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", f->partial);
    free(bin);
    free(dpx);
    f->bytes = 0;
    return rc;
}

static int finish_shard(struct dp_shard_folder *f, struct dp_err *e)
{
    char bin[40], dpx[40], *path = path_of(f, f->packed ? "zbin" : "bin", bin);
    struct dp_manifest_shard row = {.name = bin, .index = dpx, .tokens = dp_shard_writer_tokens(f->w), .documents = dp_shard_writer_documents(f->w), .packed = f->packed};
    struct stat st = {0};
    free(path_of(f, "dpx", dpx));
    int rc = dp_shard_writer_finish(f->w, row.sha256, row.index_sha256, e);
    if (rc >= 0 && (!path || stat(path, &st) != 0)) rc = dp_err_set(e, DP_IO, errno, __FILE__, __LINE__, "%s: its size", f->partial);
    row.bytes = (uint64_t)st.st_size;
    if (rc >= 0) rc = dp_manifest_add(f->m, &row, e);
    free(path);
    if (rc < 0) return rc;
    dp_shard_writer_close(f->w);
    f->w = NULL;
    f->shards++;
    return DP_OK;
}

/* For a document of `bytes` of text and at most `ids` ids. */
static int room(struct dp_shard_folder *f, uint64_t bytes, size_t ids, bool large, struct dp_err *e)
{
    bool full = f->w && (f->bytes >= f->shard_bytes || !dp_shard_writer_fits(f->w, ids) || (large && f->bytes + bytes > f->shard_bytes));
    if (full && dp_shard_writer_documents(f->w)) DP_TRY(finish_shard(f, e));
    return f->w ? DP_OK : open_shard(f, e);
}

int dp_shard_folder_begin(struct dp_shard_folder *f, uint64_t bytes, struct dp_err *e)
{
    DP_TRY(room(f, bytes, bytes < DP_SHARD_TOKENS_MAX ? (size_t)bytes : DP_SHARD_TOKENS_MAX, true, e));
    f->parts = true;
    return DP_OK;
}

int dp_shard_folder_part(struct dp_shard_folder *f, const uint32_t *ids, size_t n, struct dp_err *e)
{
    return dp_shard_writer_part(f->w, ids, n, e);
}

int dp_shard_folder_add(struct dp_shard_folder *f, struct dp_hash128 id, struct dp_hash128 content, uint32_t source, const uint32_t *ids, size_t n, uint64_t bytes,
                        struct dp_err *e)
{
    if (!f->parts) DP_TRY(room(f, bytes, n, false, e));
    f->parts = false;
    DP_TRY(dp_shard_writer_add(f->w, id, content, source, ids, n, e));
    f->bytes += bytes;
    return DP_OK;
}

/* The folder's entry is durable when its own folder is. */
static int rename_folder(struct dp_shard_folder *f, struct dp_err *e)
{
    DP_TRY(dp_fs_fsync(f->lock, f->partial, e));
    if (rename(f->partial, f->final) != 0) DP_FAIL_SYS(e, "%s: cannot rename to %s", f->partial, f->final);
    f->done = true;
    char *slash = strrchr(f->final, '/');
    char *dir = !slash ? strdup(".") : strndup(f->final, slash == f->final ? 1 : (size_t)(slash - f->final));
    if (!dir) DP_FAIL(e, NOMEM, "%s", f->final);
    int rc = dp_fs_fsync_dir(dir, e);
    free(dir);
    return rc;
}

int dp_shard_folder_finish(struct dp_shard_folder *f, struct dp_manifest *m, struct dp_err *e)
{
    if (f->w && dp_shard_writer_documents(f->w)) DP_TRY(finish_shard(f, e));
    if (!f->shards) DP_FAIL(e, CORRUPT, "the files hold no text to tokenize");
    char *path = dp_fs_join(f->partial, "manifest.json");
    int rc = path ? dp_manifest_write(f->m, path, e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", f->partial);
    free(path);
    DP_TRY(rc);
    *m = *f->m;
    m->shards = NULL;
    return rename_folder(f, e);
}
