/* shards/export.h - write a data set in the formats of other trainers.
 *
 *   format     files for the prefix P             read by
 *   megatron   P.bin, P.idx                       Megatron-LM, NeMo (IndexedDataset version 1)
 *   llmc       P_000000.bin, P_000001.bin...      llm.c (magic 20240520: u16; 20240801: u32)
 *   nanogpt    P.bin                              nanoGPT (u16; vocabularies to 65,536 only)
 *   datatrove  P.ds, P.ds.index, P.ds.metadata    datatrove, nanotron
 *   olmo       P.npy, P.csv.gz                    OLMo-core (no header in spite of its suffix)
 *   mds        index.json, shard.NNNNN.mds        StreamingDataset (folders only)
 *
 * Ids are the shards' in manifest order, EOTs included. Each file is written beside its place and
 * renamed, the one that a reader opens first last; so a name is absent or complete. Every frame's
 * checksum is tested before its ids are written.
 * Memory: one frame and the maps. Thread-safety: one caller per output. Byte layouts:
 * docs/formats/shard.md. */
#ifndef DP_SHARDS_EXPORT_H
#define DP_SHARDS_EXPORT_H

#include "base/err.h"
#include "base/opt.h"

#include <stdbool.h>
#include <stdint.h>

enum dp_export_format {
    DP_EXPORT_MEGATRON,
    DP_EXPORT_LLMC,
    DP_EXPORT_NANOGPT,
    DP_EXPORT_DATATROVE,
    DP_EXPORT_OLMO,
    DP_EXPORT_MDS
};

struct dp_export_options {
    int64_t
        file_tokens; /* llmc: ids of one file at most; lowered to what its readers can address */
};
extern const struct dp_opt dp_export_opts[];

/* `out` is the prefix P; its folder must exist. Existing files are replaced. NULL options are the
 * defaults. */
int dp_export(enum dp_export_format format, const char *manifest_path, const char *out,
              const struct dp_export_options *o, struct dp_err *e);
/* ---- whole folders ----
 *
 * The folder appears at once, complete, or not at all: files are made in a folder beside it
 * (.NAME.dpipe-export), which is then renamed; a killed export's is removed by the next one. A
 * folder that is there already is replaced when it is empty or an export of ours (it has
 * dpipe-export.json), else DP_CONFIG. Equal shards and options give equal files.
 *
 * A data set of one shard has the names tokens.*, one of several tokens_NNNNN.*, a set of files for
 * each shard (nanogpt: always one, train.bin), unless `merge`. A body whose bytes are a flat
 * shard's is then a hard link to it where the file system allows: no bytes are written, but
 * whoever writes into such a file changes the shard. `link` off, or another file system: a copy. */
struct dp_export_folder_options {
    bool link, merge;
    int64_t file_tokens; /* llmc: as above */
    uint64_t mds_bytes;  /* mds: size of a shard at most, unless one document is larger */
    bool mds_zstd;       /* mds: shards are compressed with zstd */
};
struct dp_export_report {
    uint64_t tokens, documents, files, linked, bytes; /* bytes: of all files, linked ones included */
};
/* NULL options: link, 100,000,000 ids, 64 MiB, uncompressed. */
int dp_export_folder(enum dp_export_format format, const char *manifest_path, const char *dir,
                     const struct dp_export_folder_options *o, struct dp_export_report *report,
                     struct dp_err *e);
/* Format of a name ("megatron"...); DP_USAGE lists them. */
int dp_export_format_parse(const char *name, enum dp_export_format *out, struct dp_err *e);

#endif
