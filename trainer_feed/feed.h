/* trainer_feed/feed.h - token rows for a trainer: deterministic, resumable, the same for any number
 * of ranks.
 *
 * What a trainer gets is a pure function of (manifest, options, global sample number). There is no
 * shuffled list and no hidden state: a position is one integer, so resuming is exact and instant,
 * and several ranks need not talk to each other.
 *
 *   struct dp_feed_options o;
 *   dp_feed_options_init(&o);
 *   o.seq_len = 2048; o.batch = 8; o.rank = rank; o.world = world;
 *   struct dp_feed *f;
 *   if (dp_feed_open(&f, "data/manifest.json", &o, &err) < 0) ...
 *   int32_t *rows = malloc(8 * 2049 * sizeof *rows);
 *   for (;;) { dp_feed_next(f, rows, &err); train(rows); }
 *   // inputs are rows[b][0..T-1], targets rows[b][1..T]
 *
 * Split. Each document belongs to train or val by a hash of its content hash (SPLIT below), so it
 * is on the same side in every data set, shard order and seed, and so are its duplicates; raising
 * val_fraction only moves documents from train to val.
 *
 * Sample. The split's documents, in manifest order, each with its EOT, make one stream of `tokens`
 * ids. Sample s of an epoch is ids [s*T, s*T + T] of it, T = seq_len: T+1 ids, the last being also
 * the first of sample s+1, so that each id but the very first is a target exactly once. There are
 * (tokens - 1) / T samples; the rest at the end, fewer than T ids, is not used.
 *
 * Order. Global sample g is row p(g mod n) of epoch g / n, n = samples; p is a keyed permutation
 * (trainer_feed/feed_order.h) of (seed, epoch) when `shuffle` is on, else the identity. Batches run
 * on over the end of an epoch: no sample is dropped.
 *
 * Ranks. A step consumes batch*world consecutive global samples; rank r takes the batch of them
 * that starts at r*batch. So the global sequence depends on the product batch*world alone, and a
 * run may change world at any step.
 *
 * Memory: shards are mapped; beside that at most 2^21 index entries of 24 bytes and a table of 16
 * MiB, whatever the corpus (feed_index.h); usually a few hundred KiB. Opening reads the side files
 * once (44 bytes a document).
 * Thread-safety: dp_feed_get, dp_feed_locate and the size functions only read: any number of
 * threads may call them on one feed. dp_feed_next, dp_feed_state and dp_feed_resume use the cursor:
 * one thread.
 * Limits: seq_len to 2^24, batch and world to 2^20. Files must not be truncated while open
 * (SIGBUS); published ones never are. */
#ifndef DP_TRAINER_FEED_FEED_H
#define DP_TRAINER_FEED_FEED_H

#include "base/err.h"
#include "base/hash.h"
#include "base/opt.h"

#include <stdbool.h>
#include <stdint.h>

enum dp_feed_split { DP_FEED_TRAIN, DP_FEED_VAL };

struct dp_feed_options {
    int64_t seq_len; /* T; a row has T+1 ids */
    int64_t batch;   /* rows of a batch on one rank */
    int64_t seed;
    int split;           /* enum dp_feed_split */
    double val_fraction; /* share of documents (not of ids) on the val side, 0 to 1 */
    int64_t rank, world;
    bool shuffle;
};
/* Rows for flags and recipes; offsets are into struct dp_feed_options. */
extern const struct dp_opt dp_feed_opts[];
/* The defaults of dp_feed_opts: 1024 x 8, seed 0, train, 0.01, rank 0 of 1, shuffled. */
void dp_feed_options_init(struct dp_feed_options *o);

struct dp_feed;
/* DP_CONFIG for options out of range, or a split with fewer than seq_len+1 ids (the message has
 * both counts); DP_CORRUPT or DP_NOTFOUND for the manifest or a shard. */
int dp_feed_open(struct dp_feed **out, const char *manifest_path, const struct dp_feed_options *o,
                 struct dp_err *e);
void dp_feed_close(struct dp_feed *f); /* NULL is fine */

uint64_t dp_feed_samples(const struct dp_feed *f);   /* in one epoch; at least 1 */
uint64_t dp_feed_tokens(const struct dp_feed *f);    /* ids of the split */
uint64_t dp_feed_documents(const struct dp_feed *f); /* documents of the split */
uint32_t dp_feed_vocab_size(const struct dp_feed *f);
int64_t dp_feed_eot(const struct dp_feed *f); /* -1: documents have no end token */
struct dp_hash128 dp_feed_tokenizer(const struct dp_feed *f);

/* Row of one global sample: ids[0 .. seq_len], all below vocab_size. DP_CORRUPT names shard and
 * frame of an id that isn't. */
int dp_feed_get(const struct dp_feed *f, uint64_t global_sample, int32_t *ids, struct dp_err *e);
/* This rank's rows of the next global batch, ids[batch][seq_len+1]; then the cursor moves on by
 * batch*world samples. After a failure the cursor is where it was. */
int dp_feed_next(struct dp_feed *f, int32_t *ids, struct dp_err *e);

/* Where a run is, and what it was reading: plain data, to be kept in a checkpoint. The same on
 * every rank. */
struct dp_feed_state {
    uint64_t sample; /* first global sample of the next step */
    struct dp_hash128 manifest;
    int64_t seed, seq_len;
    double val_fraction;
    int32_t split, shuffle;
};
void dp_feed_state(const struct dp_feed *f, struct dp_feed_state *s);
/* Go on at s->sample. DP_CONFIG, naming the difference, when the manifest or an option that gives
 * sample numbers their meaning isn't the one of s; batch, rank and world may differ. */
int dp_feed_resume(struct dp_feed *f, const struct dp_feed_state *s, struct dp_err *e);

/* Where one id of a row came from. */
struct dp_feed_origin {
    const char *shard;       /* the body's name in the manifest; lives as long as the feed */
    uint64_t shard_number;   /* its place in the manifest */
    uint64_t document;       /* in the shard */
    uint64_t document_token; /* the id's place in its document */
    uint64_t shard_token;    /* the id's place in the shard */
    struct dp_hash128 id, content;
    uint32_t source;
};
/* Origin of ids[row_token] of dp_feed_get(global_sample); DP_USAGE when row_token > seq_len. */
int dp_feed_locate(const struct dp_feed *f, uint64_t global_sample, uint64_t row_token,
                   struct dp_feed_origin *out, struct dp_err *e);

/* SPLIT: which side a document is on (enum dp_feed_split). It is val when
 * mix64(content.lo ^ 0x9e3779b97f4a7c15) < val_fraction * 2^64, mix64 being splitmix64's output
 * function (base/hash.h). */
int dp_feed_split_of(struct dp_hash128 content, double val_fraction);

#endif
