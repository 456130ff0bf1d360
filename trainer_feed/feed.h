/* trainer_feed/feed.h - token rows for a trainer: deterministic, resumable, the same for any number of ranks.
 *
 * What a trainer gets is a pure function of (manifests, options, global sample number). There is no shuffled list and no
 * hidden state: a position is one integer, so resuming is exact and instant, and several ranks need not talk to each other.
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
 * docs/formats/feed_order.md is the exact function, for other implementations. In short:
 *
 * Split. Each document belongs to train, val or test by a hash of its content hash (SPLIT below), so it is on the same side in
 * every data set, shard order and seed, and so are its duplicates; raising val_fraction or test_fraction only moves documents
 * out of train.
 *
 * Rows. With pack concat, the split's documents, in manifest order, each with its EOT, make one stream of ids; row s is ids
 * [s*T, s*T + T] of it, T = seq_len: T+1 ids, the last being also the first of row s+1, so that each id but the very first is a
 * target exactly once. There are (tokens - 1) / T rows; the rest at the end, fewer than T ids, is not used. With pack bestfit,
 * documents stay whole where they fit into T+1 places, rows are filled with what fits best, and end in padding
 * (trainer_feed/feed_pack.h): every id of every document is used, and no document sees another's.
 *
 * Domains. One manifest, or several named ones mixed by weights that may change at given global samples
 * (trainer_feed/feed_mix.h). Each domain is drawn from in its own order, epoch after epoch.
 *
 * Order. Draw k of a domain is row p(k mod n) of epoch k / n, n = its rows; p is a keyed permutation (trainer_feed/feed_order.h)
 * of (seed, domain, epoch) when `shuffle` is on, else the identity. With one domain, draws are global samples. Batches run on
 * over the end of an epoch: no sample is dropped.
 *
 * Ranks. A step consumes batch*world consecutive global samples; rank r takes the batch of them that starts at r*batch. So the
 * global sequence depends on the product batch*world alone, and a run may change world at any step.
 *
 * Growth. A feed reads the manifests as they were when it was opened, or as a resumed state says. dp_feed_reload looks for
 * more shards behind those, and each domain takes them up when its next epoch begins. A manifest that grew under another name (`dpipe serve` writes
 * a new file) is named by dp_feed_follow first.
 *
 * Damage. on_bad stop: reading fails, naming shard and frame. on_bad skip: a row that touches a bad frame, or a shard whose body
 * is gone, is replaced by another row of the same epoch and domain, chosen by hash. A frame is bad by its bytes, not by who has
 * read it, so all ranks and restarts replace the same rows with the same rows.
 *
 * Memory: shards are mapped; beside that at most 2^21 index entries of 24 bytes and a table of 16 MiB, whatever the corpus
 * (feed_index.h); usually a few hundred KiB. bestfit: about 3 bytes a document, in a temporary file beyond 4 MiB (feed_pack.h).
 * Opening reads the side files once (44 bytes a document). Of compressed bodies each reading thread keeps 4 decoded frames
 * (shards/shard.h); a permuted row decodes one or two.
 * Thread-safety: dp_feed_get, dp_feed_get_meta, dp_feed_locate and the size functions only read: any number of threads may call
 * them on one feed. dp_feed_next, dp_feed_next_meta, dp_feed_state, dp_feed_resume, dp_feed_reload and dp_feed_follow use the
 * cursor: one thread, and during the last three no other.
 * Limits: seq_len to 2^24 (bestfit: 2^20), batch and world to 2^20, 64 domains. Files must not be truncated while open (SIGBUS);
 * published ones never are. */
#ifndef DP_TRAINER_FEED_FEED_H
#define DP_TRAINER_FEED_FEED_H

#include "base/err.h"
#include "base/hash.h"
#include "base/opt.h"

#include <stdbool.h>
#include <stdint.h>

enum dp_feed_split { DP_FEED_TRAIN, DP_FEED_VAL, DP_FEED_TEST };
enum dp_feed_packing { DP_FEED_CONCAT, DP_FEED_BESTFIT };
enum dp_feed_masking { DP_FEED_MASK_BOUNDARIES, DP_FEED_MASK_PADDING, DP_FEED_MASK_NOTHING };
enum dp_feed_on_bad { DP_FEED_STOP, DP_FEED_SKIP };

struct dp_feed_options {
    int64_t seq_len; /* T; a row has T+1 ids */
    int64_t batch;   /* rows of a batch on one rank */
    int64_t seed;
    int split;           /* enum dp_feed_split */
    double val_fraction; /* share of documents (not of ids) on the val side, 0 to 1 */
    double test_fraction;
    int64_t rank, world;
    bool shuffle;
    int pack;      /* enum dp_feed_packing */
    int loss_mask; /* enum dp_feed_masking; for dp_feed_meta alone */
    int on_bad;    /* enum dp_feed_on_bad */
    bool check;    /* test each frame's checksum when it is first read; skip does it anyway */
    char *domains; /* "NAME=MANIFEST,..."; NULL: the one manifest */
    char *mixture; /* trainer_feed/feed_mix.h; NULL: one epoch of each domain */
};
/* Rows for flags and recipes; offsets are into struct dp_feed_options. */
extern const struct dp_opt dp_feed_opts[];
/* The defaults of dp_feed_opts: 1024 x 8, seed 0, train, 0.01 and 0, rank 0 of 1, shuffled, concat, stop. */
void dp_feed_options_init(struct dp_feed_options *o);

struct dp_feed;
/* DP_CONFIG for options out of range, or a domain with too few ids for one row (the message has the counts); DP_CORRUPT or
 * DP_NOTFOUND for a manifest or a shard. o's strings are not kept. With o->domains the manifest_path is not read. */
int dp_feed_open(struct dp_feed **out, const char *manifest_path, const struct dp_feed_options *o, struct dp_err *e);
void dp_feed_close(struct dp_feed *f); /* NULL is fine */

/* Whether documents of this source number are taken from the shard (its body's name in the manifest). Pure; asked at every
 * change of source, from any thread, for as long as the feed is open. */
typedef bool (*dp_feed_takes_fn)(void *ctx, const char *shard, uint32_t source);
/* A set of documents with a name: those of a manifest, or some sources of one. Shards know no languages. */
struct dp_feed_domain {
    const char *name; /* letters, digits, _ - . */
    const char *manifest;
    dp_feed_takes_fn takes; /* NULL: all */
    void *ctx;
};
/* The same over domains given one by one (o->domains is not read). All must have one vocabulary, EOT and tokenizer. Their order
 * doesn't matter. Names and paths are copied. */
int dp_feed_open_domains(struct dp_feed **out, const struct dp_feed_domain *d, size_t n, const struct dp_feed_options *o,
                         struct dp_err *e);

/* Cut "NAME=FROM,..." in place into *n more domains, FROM standing in `manifest`; d has room for 64. DP_CONFIG. */
int dp_feed_domains_parse(char *text, struct dp_feed_domain *d, size_t *n, struct dp_err *e);

/* In one epoch, at least 1. Of several domains: samples until the mixture's epochs are done when it is given in epochs, else
 * the sum of the domains' rows. */
uint64_t dp_feed_samples(const struct dp_feed *f);
uint64_t dp_feed_tokens(const struct dp_feed *f);    /* ids of the split */
uint64_t dp_feed_documents(const struct dp_feed *f); /* documents of the split */
uint32_t dp_feed_vocab_size(const struct dp_feed *f);
int64_t dp_feed_eot(const struct dp_feed *f); /* -1: documents have no end token */
int32_t dp_feed_pad(const struct dp_feed *f); /* what fills rows of bestfit: the EOT, else 0 */
struct dp_hash128 dp_feed_tokenizer(const struct dp_feed *f);

struct dp_feed_domain_info {
    const char *name; /* "" for the one manifest; lives as long as the feed */
    uint64_t rows, tokens, documents;
    uint64_t padding, cut; /* bestfit: places without an id in an epoch's rows; documents over more than one row */
    uint64_t draws;        /* before the cursor */
    uint64_t shards, shards_absent, frames_bad; /* absent: without a side file */
};
size_t dp_feed_domains(const struct dp_feed *f);
/* Domain d < dp_feed_domains(), in order of names; of the newest manifest taken up. */
void dp_feed_domain_info(const struct dp_feed *f, size_t d, struct dp_feed_domain_info *out);

/* Row of one global sample: ids[0 .. seq_len], all below vocab_size. DP_CORRUPT names shard and frame of an id that isn't. */
int dp_feed_get(const struct dp_feed *f, uint64_t global_sample, int32_t *ids, struct dp_err *e);
/* This rank's rows of the next global batch, ids[batch][seq_len+1]; then the cursor moves on by batch*world samples. After a
 * failure the cursor is where it was. */
int dp_feed_next(struct dp_feed *f, int32_t *ids, struct dp_err *e);

/* What masks are made of, row after row; arrays that are NULL are not filled. Segments are stretches of a row's T inputs
 * that belong to one document (or, last, to padding): attention should stay within one. A document that begins before the row
 * counts positions from the row's start. */
struct dp_feed_meta {
    int32_t *cu_seqlens; /* [rows][T + 1]: 0, then the end of each segment; the last is T; entries behind it are T */
    int32_t *segments;   /* [rows]: so cu_seqlens[segments] is T */
    int32_t *positions;  /* [rows][T]: of each input in its segment */
    uint8_t *loss_mask;  /* [rows][T]: 0 where target t, the id t + 1, teaches nothing: padding, and with boundaries the first
                            id of a document or of the rest of a cut one; else 1 */
    uint32_t *domain;    /* [rows]: as dp_feed_domain_info counts */
    uint64_t *sample;    /* [rows]: global sample number */
};
/* Its members, as a set: what a served consumer asks for (trainer_feed/feed_client.h). */
enum {
    DP_FEED_META_CU_SEQLENS = 1,
    DP_FEED_META_SEGMENTS = 2,
    DP_FEED_META_POSITIONS = 4,
    DP_FEED_META_LOSS_MASK = 8,
    DP_FEED_META_DOMAIN = 16,
    DP_FEED_META_SAMPLE = 32,
    DP_FEED_META_ALL = 63,
};
/* As dp_feed_get and dp_feed_next, with the rows' meta; ids may be NULL. */
int dp_feed_get_meta(const struct dp_feed *f, uint64_t global_sample, int32_t *ids, const struct dp_feed_meta *m, struct dp_err *e);
int dp_feed_next_meta(struct dp_feed *f, int32_t *ids, const struct dp_feed_meta *m, struct dp_err *e);

/* Where a run is, and what it was reading: plain data, to be kept in a checkpoint. The same on every rank. */
enum { DP_FEED_STATE_DOMAINS = 5 };
struct dp_feed_state {
    uint64_t sample;            /* first global sample of the next step */
    struct dp_hash128 manifest; /* of the shards' contents, in order, and of all domains' names and sources */
    int64_t seed, seq_len;
    double val_fraction, test_fraction;
    uint64_t mixture; /* hash of stages and weights */
    uint64_t floor;   /* samples before it can't be asked for any more: the data had grown twice since */
    /* Live growth. Of a domain's manifest the first shards[d] count in the epochs before turn_epoch[d], which begins at draw
     * turn_draw[d], and the first shards_next[d] from then on; shards[d] 0: always the latter. */
    uint64_t turn_draw[DP_FEED_STATE_DOMAINS];
    uint32_t turn_epoch[DP_FEED_STATE_DOMAINS], shards[DP_FEED_STATE_DOMAINS], shards_next[DP_FEED_STATE_DOMAINS];
    uint8_t split, shuffle, pack, domains;
};
void dp_feed_state(const struct dp_feed *f, struct dp_feed_state *s);
/* Go on at s->sample. DP_CONFIG, naming the difference, when a manifest or an option that gives sample numbers their meaning isn't
 * the one of s; batch, rank and world may differ. A manifest that has grown since is read as far as s knows it (with at most
 * DP_FEED_STATE_DOMAINS domains). After a failure the feed is as it was. */
int dp_feed_resume(struct dp_feed *f, const struct dp_feed_state *s, struct dp_err *e);
/* Read the manifests again. A domain whose manifest has more shards, behind the same ones, takes them up in the first of its epochs
 * that begins at the cursor or later; until then nothing changes. DP_OK: something has grown; DP_EMPTY: nothing. Ranks must call it
 * at the same sample and see the same manifests; the simplest way is that one does, and the others resume from its state. DP_CONFIG
 * when a manifest isn't a continuation, or the mixture is in epochs (whose weights would change under the run); DP_LIMIT for more
 * domains than a state has room for. */
int dp_feed_reload(struct dp_feed *f, struct dp_err *e);

/* Read the domain of this name ("": the one manifest) from another file from now on: dp_feed_reload and dp_feed_resume look there. It must begin
 * with the shards that the feed reads, by content: DP_CONFIG. Nothing else changes. As for threads, as dp_feed_reload. */
int dp_feed_follow(struct dp_feed *f, const char *domain, const char *manifest, struct dp_err *e);

/* Where one id of a row came from. */
struct dp_feed_origin {
    const char *shard;       /* the body's name in the manifest; lives until the next reload, resume or close */
    uint64_t shard_number;   /* its place in the manifest */
    uint64_t document;       /* in the shard */
    uint64_t document_token; /* the id's place in its document */
    uint64_t shard_token;    /* the id's place in the shard */
    struct dp_hash128 id, content;
    uint32_t source; /* as the shard's writer numbers them; dpipe's own shards: the unit's place in its group */
    const char *domain;
};
/* Origin of ids[row_token] of dp_feed_get(global_sample); DP_EMPTY for padding; DP_USAGE when row_token > seq_len. */
int dp_feed_locate(const struct dp_feed *f, uint64_t global_sample, uint64_t row_token, struct dp_feed_origin *out, struct dp_err *e);

/* SPLIT: which side a document is on (enum dp_feed_split). With h = mix64(content.lo ^ 0x9e3779b97f4a7c15), mix64 being
 * splitmix64's output function (base/hash.h): val when h < val_fraction * 2^64, else test when 2^64 - 1 - h < test_fraction * 2^64,
 * else train. */
int dp_feed_split_of(struct dp_hash128 content, double val_fraction, double test_fraction);

#endif
