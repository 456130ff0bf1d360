/* cli/tokenize_files.h - files of text to a folder of token shards, without a workspace.
 *
 * Files are mapped, cut into pieces of whole documents (or, where a file is one document, where the pre-tokenizer starts afresh: dp_encode_restart), encoded by
 * several threads and written in order: the same bytes for any number of threads. The folder appears as a whole or not at all: it is made beside, as
 * FOLDER.partial, and renamed; what a killed run left there the next one removes.
 *
 * A document's id is the XXH3-128 of its content's hash, its place in the file and the file's number, which is also its source. Texts that are empty make no document.
 * Memory: some MiB a thread, or the longest document where that has no place to be cut, times five. */
#ifndef DP_CLI_TOKENIZE_FILES_H
#define DP_CLI_TOKENIZE_FILES_H

#include "cli/cli.h"
#include "tokenizer/encode.h"

struct dp_tokenize_files {
    const char *folder;            /* must not exist, or be empty */
    const char *field, *b64_field; /* of JSON lines */
    bool jsonl, whole_file;        /* else a line is a document */
    bool skip;                     /* lines of bad data are left out and counted */
    bool replace;                  /* bytes that are no UTF-8 are encoded as U+FFFD; content hashes are of the bytes */
    enum dp_special_policy special;
    int64_t eot; /* behind each document; -1: none */
};
/* Shards are cut and compressed as the section `shards` of c->options says. */
int dp_tokenize_files(struct dp_cli *c, const struct dp_tokenize_files *o, const struct dp_tokenizer *tok, const char *const *files, size_t n, struct dp_err *e);

#endif
