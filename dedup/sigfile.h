/* dedup/sigfile.h - signature files: one fixed record for each kept document of one document file, in its order.
 *
 * Byte table: docs/formats/signature.md. Header (parameters), records, footer (count, checksums). The footer is written
 * last, so a file without it is a file that was not finished; a reader refuses it.
 * Memory: writer and reader O(1). Thread-safety: one owner a handle; dp_sigfile_read on one reader from many threads is safe.
 * Limits: 2^32 - 2 records a file. */
#ifndef DP_DEDUP_SIGFILE_H
#define DP_DEDUP_SIGFILE_H

#include "base/fs.h"
#include "base/hash.h"
#include "dedup/minhash.h"

enum { DP_SIGFILE_VERSION = 1, DP_SIGFILE_HEADER = 64, DP_SIGFILE_FOOTER = 32, DP_SIGFILE_FIXED = 32 };

struct dp_sig_record {
    struct dp_hash128 hash; /* of the text */
    uint32_t length;        /* bytes of the text, for keep=longest; larger ones count as UINT32_MAX */
    float score;            /* for keep=best */
    const uint32_t *slots;  /* NULL: no signature */
};

struct dp_sigfile_writer;
/* Writes into `out`, which stays the caller's: finish and close it after dp_sigfile_writer_finish. */
int dp_sigfile_writer_open(struct dp_sigfile_writer **w, struct dp_out *out, const struct dp_sig_params *p, struct dp_err *e);
int dp_sigfile_writer_add(struct dp_sigfile_writer *w, const struct dp_sig_record *r, struct dp_err *e);
int dp_sigfile_writer_finish(struct dp_sigfile_writer *w, struct dp_err *e); /* the footer */
void dp_sigfile_writer_close(struct dp_sigfile_writer *w);

struct dp_sigfile;
/* Checks header, footer and size, not yet the records (dp_sigfile_verify, or the caller with dp_crc32c over all records).
 * DP_CORRUPT names the offset; DP_CONFIG a version or normaliser that this build doesn't have. */
int dp_sigfile_open(struct dp_sigfile **s, const char *path, struct dp_err *e);
int dp_sigfile_open_fd(struct dp_sigfile **s, int fd, const char *name, struct dp_err *e); /* takes fd, on failure too */
void dp_sigfile_close(struct dp_sigfile *s);
const struct dp_sig_params *dp_sigfile_params(const struct dp_sigfile *s);
uint64_t dp_sigfile_count(const struct dp_sigfile *s);
uint32_t dp_sigfile_record_bytes(const struct dp_sigfile *s);
uint32_t dp_sigfile_crc(const struct dp_sigfile *s); /* CRC-32C that the records must have */
/* Raw records [first, first + n) into buf (n * record bytes). */
int dp_sigfile_read(const struct dp_sigfile *s, uint64_t first, size_t n, void *buf, struct dp_err *e);
/* View one raw record; slots point into it (4-byte aligned when raw is). */
void dp_sigfile_decode(const struct dp_sigfile *s, const void *raw, struct dp_sig_record *r);
/* Read everything and compare the checksum. */
int dp_sigfile_verify(const struct dp_sigfile *s, struct dp_err *e);

#endif
