/* ingest/reader.h - bytes of a source file in, batches of records out.
 *
 * Reads HTML, text, Markdown, source code, JSONL, WARC and ARC, plain or inside any nesting of archives (tar, zip, 7z, ar/.deb, cpio,
 * iso, cab, lha, rar, xar) and compressions (gzip, zstd, xz, bzip2, lz4). Nothing is extracted to disk and no path is opened.
 *
 * A record's position is: prefix and the names of the members around it, joined by "!", then for WARC and JSONL "@" and
 * an offset. JSONL: the line's byte offset in the uncompressed stream. WARC: the same; in a compressed WARC "@M" where M is the offset of
 * the compressed member (as in CDX), and "@M+N" when the record begins N bytes inside that member. In names, control bytes, invalid UTF-8,
 * '%', '!', and '@' or '#' before a digit are written %XX; the n-th member of one name in an archive gets "#n" (n >= 2). So positions are
 * unique within a file, and id = dp_hash128(digest "\n" position).
 *
 * Nothing is lost silently: what can't be read is reported as damage with its offset, and reading goes on behind it. A record cut short
 * by damage is reported and not returned.
 *
 * Memory of a reader, at most: 2 x (doc_bytes_max + 128 KiB) for the record at hand, 256 KiB to 4 MiB and the decoder's window (zstd
 * <= 128 MiB, xz <= 128 MiB, others < 1 MiB) for each compression layer, nested_bytes_max for nested archives that must be seekable, and
 * 16-48 bytes for each member of an open archive. The file itself is mapped: it must not shrink while it is read.
 * Thread-safety: a reader belongs to one thread; different readers are independent. Output doesn't depend on time, locale or thread count. */
#ifndef DP_INGEST_READER_H
#define DP_INGEST_READER_H

#include "base/batch.h"
#include "base/err.h"
#include "base/opt.h"

#include <stdbool.h>
#include <stdint.h>

enum { DP_INGEST_VERSION = 2 }; /* part of artifact keys: raise it when records, positions or their bytes change */

struct dp_ingest_options {
    uint64_t doc_bytes_max;    /* larger records become a row dropped TOO_LARGE, without bytes */
    uint64_t total_bytes_max;  /* bytes that come out of all layers of one source file */
    uint64_t nested_bytes_max; /* nested archives held in memory */
    double ratio_max;          /* bytes out / bytes in of a compressed member, once more than 16 MiB came out */
    int64_t depth_max;         /* containers and compressions inside each other */
    int64_t members_max;       /* members of one source file */
    char *jsonl_text;          /* JSONL: field with the text */
    char *jsonl_id;            /* field kept as "id" in meta */
    char *jsonl_url;           /* field with the URL */
    char *jsonl_format;        /* field that says "html", "markdown" or "text" */
    bool plain_text_html;      /* text/plain that begins like HTML is read as HTML */
};
extern const struct dp_opt dp_ingest_opts[];

/* A bad member, a truncated record, a refused bomb. The strings are valid during the call. */
struct dp_damage {
    const char *path; /* source name, members joined by "!" */
    uint64_t offset;  /* in the stream of `path` */
    enum dp_code code; /* CORRUPT: bad data; LIMIT: refused */
    const char *msg;
};
typedef void (*dp_damage_fn)(void *ctx, const struct dp_damage *d);

struct dp_reader_stats {
    uint64_t bytes_raw; /* of the file */
    uint64_t bytes_out; /* payloads of all records, dropped ones too */
    uint64_t members;   /* archive members and compressed members */
    uint64_t records;   /* rows returned */
    uint64_t skipped;   /* no documents: warcinfo, request, metadata, folders, links */
    uint64_t damaged;   /* damage reports */
};

struct dp_reader;

/* fd: a readable regular file (not owned; may be closed after the call). name: the source's name, for guessing and messages. prefix: ""
 * or the file's path in its folder source. digest: hex SHA-256 of the file. `o` must outlive the reader. damage may be NULL. */
int dp_reader_open(struct dp_reader **out, const struct dp_ingest_options *o, int fd, const char *name,
                   const char *prefix, const char *digest, dp_damage_fn damage, void *damage_ctx,
                   struct dp_err *e);
/* The same for bytes that outlive the reader. */
int dp_reader_open_span(struct dp_reader **out, const struct dp_ingest_options *o, struct dp_span bytes,
                        const char *name, const char *prefix, const char *digest, dp_damage_fn damage,
                        void *damage_ctx, struct dp_err *e);
/* Reset b and fill it with records: ~2 MiB of bytes, or all its rows, or its arena's maximum. DP_OK with b->count > 0, DP_EOF at the
 * end. b->seq counts 0, 1, 2...; columns are ID|BYTES. A record that an empty arena can't hold is dropped TOO_LARGE. */
int dp_reader_next(struct dp_reader *r, struct dp_batch *b, struct dp_err *e);
void dp_reader_stats(const struct dp_reader *r, struct dp_reader_stats *s);
void dp_reader_close(struct dp_reader *r);

/* Call fn for each regular file of `path`: the file itself (relative = ""), or all files below the folder, in bytewise order of their
 * relative paths. Hidden files and folders and special files are skipped; links are followed only to regular files inside the folder.
 * fn returns 0 to go on; anything else ends the walk and is returned. What below the folder can't be looked at (no permission, a path longer
 * than the system takes, more than 256 folders inside each other) goes to `skip`, which may be NULL, and the walk goes on. Trouble of the machine
 * (EIO, ENOMEM) ends it: a file that can't be looked at just now must not be taken for one that is gone. */
int dp_walk(const char *path, int (*fn)(void *ctx, const char *path, const char *relative, uint64_t size),
            void (*skip)(void *ctx, const char *path, const char *why), void *ctx, struct dp_err *e);

#endif
