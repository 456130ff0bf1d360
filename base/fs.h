/* base/fs.h - files: whole reads, maps, durable writes, publishing.
 *
 * Publishing is always: write to tmp/ -> fsync -> rename -> fsync the folder. A name in the target folder is
 * therefore either absent or complete. All calls retry EINTR and short transfers. */
#ifndef DP_BASE_FS_H
#define DP_BASE_FS_H

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Read all of `path` into buf (cleared first); DP_LIMIT past buf->bytes_max. */
int dp_fs_read(const char *path, struct dp_buf *buf, struct dp_err *e);
int dp_fs_read_fd(int fd, const char *name, struct dp_buf *buf, struct dp_err *e);
int dp_fs_write_all(int fd, const void *p, size_t n, const char *name, struct dp_err *e);
/* Up to n bytes at `off`; returns bytes read (fewer only at the end) in *got. */
int dp_fs_pread_all(int fd, void *p, size_t n, uint64_t off, size_t *got, const char *name, struct dp_err *e);
int dp_fs_fsync(int fd, const char *name, struct dp_err *e);
int dp_fs_fsync_dir(const char *dir, struct dp_err *e);
/* mkdir -p; existing folders are fine. */
int dp_fs_mkdirs(const char *path, struct dp_err *e);
bool dp_fs_exists(const char *path);
bool dp_fs_is_folder(const char *path); /* a link to one too */
/* Write `content` to path: a temporary file beside it, fsync, rename, fsync of the folder. */
int dp_fs_write_atomic(const char *path, struct dp_span content, struct dp_err *e);
/* fsync fd, rename tmp_path to path, fsync path's folder. Doesn't close fd. */
int dp_fs_publish(int fd, const char *tmp_path, const char *path, struct dp_err *e);
/* dir + "/" + name, malloc'ed; NULL when out of memory. */
char *dp_fs_join(const char *dir, const char *name);
/* Free bytes for unprivileged users on the file system of path; 0 when unknown. */
uint64_t dp_fs_free_bytes(const char *path);

/* SHA-256 of a whole file, read by blocks; what a map would hold of it counts as memory. */
int dp_fs_sha256(const char *path, char hex[65], struct dp_err *e);
/* A temporary file in dir, unlinked at birth: nothing is left whatever ends the process. `what` is for messages. */
int dp_fs_unlinked(const char *dir, const char *what, int *fd, struct dp_err *e);

/* A read-only map of a whole file. Empty files give a valid empty span. */
struct dp_map {
    const char *ptr;
    size_t len;
};
int dp_map_open(struct dp_map *m, const char *path, struct dp_err *e);
int dp_map_fd(struct dp_map *m, int fd, const char *name, struct dp_err *e);
void dp_map_close(struct dp_map *m);
/* Pages of a map that were looked at count as our memory until they are given back: who walks over much of one calls this now and then, about
 * every DP_MAP_TRIM bytes. The content stays; a page that is needed again comes from the page cache. */
enum { DP_MAP_TRIM = 4 << 20 };
void dp_map_trim(const struct dp_map *m);

/* A buffered writer that can hash what it writes. Errors are sticky: check at finish. */
struct dp_out;
/* Opens (O_CREAT|O_EXCL) path. With `hash`, finish gives the SHA-256 of all bytes. */
int dp_out_open(struct dp_out **out, const char *path, bool hash, struct dp_err *e);
int dp_out_fd(struct dp_out **out, int fd, const char *name, bool hash, struct dp_err *e);
int dp_out_add(struct dp_out *o, const void *p, size_t n, struct dp_err *e);
uint64_t dp_out_bytes(const struct dp_out *o);
/* Flush and fsync; hex may be NULL. Doesn't close. */
int dp_out_finish(struct dp_out *o, char hex[65], struct dp_err *e);
int dp_out_descriptor(const struct dp_out *o);
/* Close and free; the file stays. Not finished means not durable. */
void dp_out_close(struct dp_out *o);

#endif
