/* shards/manifest.h - the list of shards that make up one data set, the only truth of what exists.
 *
 * A JSON file {"format": "dpipe-manifest", "version": 1, "dtype", "vocab_size", "eot", "tokenizer",
 * "tokens", "documents", "shards": [{"name", "index", "tokens", "documents", "bytes", "sha256",
 * "index_sha256", "compression"}...]}; docs/formats/shard.md describes it. Names are relative to the manifest's
 * folder and stay inside it. The order of shards is the order of the data.
 *
 * Invariants after a read: totals are the sums of the shards, sizes fit the type, names are unique
 * and safe. Equal lists give equal bytes. Unknown members are ignored; a changed meaning changes
 * the version.
 * Memory: about 400 bytes a shard; files up to 256 MiB and 2^20 shards. Thread-safety: read-only
 * after reading. */
#ifndef DP_SHARDS_MANIFEST_H
#define DP_SHARDS_MANIFEST_H

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "shards/shard.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DP_MANIFEST_BYTES_MAX ((size_t)256 << 20)
#define DP_MANIFEST_SHARDS_MAX ((size_t)1 << 20)

struct dp_manifest_shard {
    const char *name, *index; /* body and side file; a manifest owns those in its list */
    uint64_t tokens, documents, bytes;
    char sha256[DP_HEX256], index_sha256[DP_HEX256];
    bool packed; /* "compression": "zstd"; the member is absent for a flat body */
};

struct dp_manifest {
    struct dp_shard_meta meta;
    uint64_t tokens, documents; /* sums */
    size_t count, cap;
    struct dp_manifest_shard *shards;
    struct dp_hash128 hash; /* dp_manifest_hash of the bytes read or rendered last */
};

/* An empty list for shards of this kind. Free with dp_manifest_free. */
int dp_manifest_new(struct dp_manifest **out, const struct dp_shard_meta *meta, struct dp_err *e);
/* Append a shard; strings are copied. DP_CONFIG for numbers or names that a reader would refuse,
 * duplicates excepted (render finds them). */
int dp_manifest_add(struct dp_manifest *m, const struct dp_manifest_shard *s, struct dp_err *e);
void dp_manifest_free(struct dp_manifest *m);

/* The file's bytes, appended to out. Sets m->hash. */
int dp_manifest_render(struct dp_manifest *m, struct dp_buf *out, struct dp_err *e);
/* Render and write atomically. */
int dp_manifest_write(struct dp_manifest *m, const char *path, struct dp_err *e);

/* Append shards to the manifest at path: the file is replaced by one with n more rows at its end, fsynced, so a
 * reader has the old list or the new one, and the old is its beginning. Both files of a shard must be there with
 * their sizes and durable (the writer's finish, then dp_fs_publish): DP_CONFIG otherwise, and when a name is in
 * the list already. Appenders of one folder wait for each other; a crash appends all n or none. */
int dp_manifest_append(const char *path, const struct dp_manifest_shard *rows, size_t n, struct dp_err *e);

int dp_manifest_parse(struct dp_manifest **out, struct dp_span text, const char *name,
                      struct dp_err *e);
int dp_manifest_read(struct dp_manifest **out, const char *path, struct dp_err *e);
/* XXH3-128 of a manifest's bytes: what a feed's state names. */
struct dp_hash128 dp_manifest_hash(struct dp_span text);

/* Whether a manifest may name a file so: relative, inside the folder, printable. */
bool dp_manifest_name_ok(const char *name);
/* The path of a file that the manifest at manifest_path names; malloc'ed, NULL when out of
 * memory. */
char *dp_manifest_path(const char *manifest_path, const char *name);
/* Open shard i and check that it is the one the manifest means (type, counts, tokenizer; not
 * digests). */
int dp_manifest_open_shard(const struct dp_manifest *m, const char *manifest_path, size_t i,
                           struct dp_shard **out, struct dp_err *e);

#endif
