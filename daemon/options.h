/* daemon/options.h - every option of the road, in one struct, and the sections of recipe.yaml that fill it. */
#ifndef DP_DAEMON_OPTIONS_H
#define DP_DAEMON_OPTIONS_H

#include "base/err.h"
#include "base/pipeline.h"
#include "base/recipe.h"
#include "daemon/serve_options.h"
#include "dedup/dedup.h"
#include "ingest/reader.h"
#include "tokenizer/bpe_train.h"
#include "trainer/train.h"
#include "trainer_feed/feed.h"

struct dp_shards_options {
    uint64_t bytes_per_shard; /* of text that goes into one shard's unit */
    int compression;          /* enum dp_shards_compression */
    int64_t zstd_level, zstd_frame_ids;
    uint64_t encoder_cache; /* bytes of the cache that the encoders share; 0: the encoder says */
    int growth; /* enum dp_growth */
};
enum dp_growth { DP_GROWTH_AUTO, DP_GROWTH_APPEND, DP_GROWTH_REBUILD };
enum dp_shards_compression { DP_SHARDS_FLAT, DP_SHARDS_ZSTD };

struct dp_tokenizer_options {
    char *file; /* a finished tokenizer instead of training one */
};

/* How units are run; nothing of a result depends on it. */
struct dp_workers_options {
    int isolate; /* enum dp_isolation */
    uint64_t memory_bytes;
    int64_t doc_seconds, units_max, quarantine_max;
    int sandbox; /* enum dp_sandbox_need */
};
enum dp_isolation { DP_ISOLATE_THREAD, DP_ISOLATE_PROCESS };
enum dp_sandbox_need { DP_SANDBOX_REQUIRED, DP_SANDBOX_OPTIONAL };

enum { DP_SECTIONS_MAX = 24 };

struct dp_options {
    struct dp_ingest_options ingest;
    struct dp_pipeline clean; /* the stages from extraction to signatures, with their options */
    struct dp_dedup_options dedup;
    struct dp_tokenizer_options tokenizer;
    struct dp_bpe_train_options bpe;
    struct dp_shards_options shards;
    struct dp_feed_options feed;
    struct dp_train_options train;
    struct dp_workers_options workers;
    struct dp_serve_options serve;
    struct dp_section section[DP_SECTIONS_MAX];
    size_t sections;
    struct dp_strings sources; /* as the recipe lists them */
};

/* Defaults. The struct must stay where it is: sections point into it. */
int dp_options_init(struct dp_options *o, struct dp_err *e);
void dp_options_release(struct dp_options *o);
const struct dp_section *dp_options_section(const struct dp_options *o, const char *name);
/* After recipe and flags: opens the stages, which then are fixed. */
int dp_options_open(struct dp_options *o, struct dp_err *e);
/* Where the stages that make a document end and the signature stage begins, in o->clean. */
size_t dp_options_signature_stage(const struct dp_options *o);

#endif
