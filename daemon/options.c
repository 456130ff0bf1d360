#include "daemon/options.h"

#include "clean/stages.h"
#include "dedup/signature.h"

#include <stdio.h>

/* The order is the road's: language before the rules that depend on it, C4 behind those that judge the text as it was, FineWeb's rules
 * on what C4 left of it. */
static const struct {
    const char *section;
    const struct dp_stage_type *type;
} stages[] = {
    {"clean.extract", &dp_stage_extract},
    {"clean.normalise", &dp_stage_normalise},
    {"clean.language", &dp_stage_language},
    {"clean.patterns", &dp_stage_patterns},
    {"clean.gopher_repetition", &dp_stage_gopher_repetition},
    {"clean.gopher_quality", &dp_stage_gopher_quality},
    {"clean.c4", &dp_stage_c4},
    {"clean.fineweb", &dp_stage_fineweb},
    {"dedup.signature", &dp_stage_signature},
};
enum { STAGES = sizeof stages / sizeof *stages };

static const struct dp_opt tokenizer_opts[] = {
    {.name = "file", .type = DP_OPT_STRING, .flags = DP_OPT_PATH, .offset = offsetof(struct dp_tokenizer_options, file), .arg = "FILE",
     .help = "use this tokenizer.json, .tiktoken or sentencepiece .model instead of training one"},
    DP_OPT_END,
};
static const struct dp_opt shards_opts[] = {
    {.name = "bytes_per_shard", .type = DP_OPT_SIZE, .offset = offsetof(struct dp_shards_options, bytes_per_shard), .preset = "64M", .min = 1 << 16,
     .max = 2147483648.0, .arg = "SIZE", .help = "text that goes into one shard; larger for larger corpora"},
    {.name = "compression", .type = DP_OPT_CHOICE, .offset = offsetof(struct dp_shards_options, compression), .preset = "none", .choices = "none|zstd",
     .arg = "HOW", .help = "zstd: bodies of independent frames, for cold and remote storage; a third of the bytes"},
    {.name = "zstd_level", .type = DP_OPT_INT, .offset = offsetof(struct dp_shards_options, zstd_level), .preset = "3", .min = 1, .max = 19, .arg = "N",
     .help = "level of compression"},
    {.name = "zstd_frame_ids", .type = DP_OPT_INT, .offset = offsetof(struct dp_shards_options, zstd_frame_ids), .preset = "65536", .min = 4096,
     .max = 1048576, .arg = "N", .help = "ids of a zstd frame, a multiple of 65536 or 4096, 8192, 16384, 32768; larger: smaller files, dearer random rows"},
    {.name = "encoder_cache", .type = DP_OPT_SIZE, .offset = offsetof(struct dp_shards_options, encoder_cache), .preset = "0", .max = (double)((uint64_t)4 << 30), .arg = "SIZE",
     .flags = DP_OPT_NOKEY, .help = "pretokens that the encoding threads remember together; never changes ids; 0: 96M"},
    {.name = "growth", .type = DP_OPT_CHOICE, .offset = offsetof(struct dp_shards_options, growth), .preset = "auto", .choices = "auto|append|rebuild",
     .flags = DP_OPT_NOKEY, .help = "new documents: append shards behind those there are, or make all anew; auto: `dpipe serve` appends, other commands rebuild"},
    DP_OPT_END,
};

#define WORKERS(f) offsetof(struct dp_workers_options, f)
static const struct dp_opt workers_opts[] = {
    {.name = "isolate", .type = DP_OPT_CHOICE, .offset = WORKERS(isolate), .preset = "thread", .choices = "thread|process", .flags = DP_OPT_NOKEY,
     .help = "read and clean on threads, or in sandboxed processes that a hostile document can kill without harm"},
    {.name = "worker_memory", .type = DP_OPT_SIZE, .offset = WORKERS(memory_bytes), .preset = "2G", .min = 256 << 20, .max = 1e15, .arg = "SIZE",
     .flags = DP_OPT_NOKEY, .help = "memory of a worker process, for each lane"},
    {.name = "doc_seconds", .type = DP_OPT_INT, .offset = WORKERS(doc_seconds), .preset = "20", .min = 1, .max = 86400, .arg = "S", .flags = DP_OPT_NOKEY,
     .help = "CPU time that a worker process may take for one stage of one document; ten times that of wall-clock time"},
    {.name = "worker_units", .type = DP_OPT_INT, .offset = WORKERS(units_max), .preset = "256", .min = 1, .max = 1e9, .arg = "N", .flags = DP_OPT_NOKEY,
     .help = "units after which a worker process is replaced by a new one"},
    {.name = "quarantine_max", .type = DP_OPT_INT, .offset = WORKERS(quarantine_max), .preset = "64", .min = 0, .max = 1024, .arg = "N", .flags = DP_OPT_NOKEY,
     .help = "documents of one unit that may kill their worker before the unit fails"},
    {.name = "sandbox", .type = DP_OPT_CHOICE, .offset = WORKERS(sandbox), .preset = "required", .choices = "required|optional", .flags = DP_OPT_NOKEY,
     .help = "whether worker processes may run where the kernel has no seccomp"},
    DP_OPT_END,
};

static void add(struct dp_options *o, const char *name, const char *summary, const struct dp_opt *rows, void *base)
{
    DP_ASSERT(o->sections < DP_SECTIONS_MAX);
    o->section[o->sections++] = (struct dp_section){name, summary, rows, base};
}

int dp_options_init(struct dp_options *o, struct dp_err *e)
{
    const struct dp_stage_type *types[STAGES];
    memset(o, 0, sizeof *o);
    for (int i = 0; i < STAGES; i++) types[i] = stages[i].type;
    DP_TRY(dp_pipeline_init(&o->clean, types, STAGES, DP_COL_ID | DP_COL_BYTES, e));
    add(o, "ingest", "reading sources; limits against bombs", dp_ingest_opts, &o->ingest);
    for (int i = 0; i < STAGES - 1; i++) add(o, stages[i].section, types[i]->summary, types[i]->opts, o->clean.ctx[i]);
    add(o, "dedup", "exact and near duplicates", dp_dedup_opts, &o->dedup);
    add(o, stages[STAGES - 1].section, types[STAGES - 1]->summary, types[STAGES - 1]->opts, o->clean.ctx[STAGES - 1]);
    add(o, "tokenizer", "a finished tokenizer, if there is one", tokenizer_opts, &o->tokenizer);
    add(o, "train-bpe", "training the tokenizer", dp_bpe_train_opts, &o->bpe);
    add(o, "shards", "token shards", shards_opts, &o->shards);
    add(o, "feed", "how batches are drawn from the shards", dp_feed_opts, &o->feed);
    add(o, "train", "the model and its training", dp_train_opts, &o->train);
    add(o, "workers", "threads or sandboxed processes; changes no result", workers_opts, &o->workers);
    add(o, "serve", "the long-running service (dpipe serve)", dp_serve_opts, &o->serve);
    for (size_t i = 0; i < o->sections; i++) {
        const struct dp_section *s = &o->section[i];
        int rc = dp_opt_defaults(s->rows, s->base, e);
        if (rc < 0) {
            dp_options_release(o);
            return rc;
        }
    }
    return DP_OK;
}

void dp_options_release(struct dp_options *o)
{
    for (size_t i = 0; i < o->sections; i++) {
        const char *name = o->section[i].name;
        if (strncmp(name, "clean.", 6) != 0 && strcmp(name, "dedup.signature") != 0) dp_opt_release(o->section[i].rows, o->section[i].base);
    }
    dp_pipeline_release(&o->clean);
    dp_strings_release(&o->sources);
    o->sections = 0;
}

const struct dp_section *dp_options_section(const struct dp_options *o, const char *name)
{
    for (size_t i = 0; i < o->sections; i++)
        if (strcmp(o->section[i].name, name) == 0) return &o->section[i];
    return NULL;
}

int dp_options_open(struct dp_options *o, struct dp_err *e)
{
    return dp_pipeline_open(&o->clean, e);
}

size_t dp_options_signature_stage(const struct dp_options *o)
{
    return o->clean.count - 1;
}
