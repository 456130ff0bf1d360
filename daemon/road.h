/* daemon/road.h - the road from sources to a model: what is there, what is missing, and making it.
 *
 * Every step's artifacts have a key: the hash of its inputs' digests, the options that matter to it, and its version. A step does
 * exactly what has no artifact under its key. Steps, in order, and their artifacts in store/:
 *
 *   ingest      records-K.jsonl.zst   what each source holds: ids, positions, sizes, damage
 *   clean       docs-K.jsonl.zst      documents;  drops-K.jsonl.zst: dropped ones with reason, value and limit
 *   (signature) sig-K.bin             MinHash signatures of docs-K
 *   dedup       keep-K-N.bin          decision for each document of docs N;  clusters-K.jsonl: the report, one a generation
 *   train-bpe   tokenizer-K.json, tokenizer-K.tiktoken
 *   tokenize    shard-K-P.bin/.dpx    token shards of a group of docs;  tokens-K.json: counts by language
 *   shard       manifest-K.json       the list of shards: the only truth of what exists
 *   train       model-K.safetensors, loss-K.jsonl, loss-K.svg;  checkpoint-K-STEP.safetensors while it runs
 *
 * One pass makes ingest, clean and signature artifacts of a unit together. Threads: units run side by side, a large unit
 * on several lanes; nothing of a result depends on it. This file is the broker: only it publishes. */
#ifndef DP_DAEMON_ROAD_H
#define DP_DAEMON_ROAD_H

#include "base/thread.h"
#include "base/workspace.h"
#include "daemon/options.h"

#include <stdatomic.h>
#include <sys/stat.h>

enum dp_step { DP_STEP_INGEST, DP_STEP_CLEAN, DP_STEP_DEDUP, DP_STEP_TRAIN_BPE, DP_STEP_TOKENIZE, DP_STEP_SHARD, DP_STEP_TRAIN, DP_STEPS };
const char *dp_step_name(enum dp_step s);
/* DP_STEPS when there is no such step. */
enum dp_step dp_step_parse(const char *name);

/* A hash as text: keys of units and names of artifacts. */
struct dp_key {
    char hex[DP_HEX128];
};

struct dp_member {
    char *path, *name, *prefix, *digest;
    uint64_t bytes;
    int64_t mtime_ns;
};

struct dp_members {
    struct dp_member *v;
    size_t n, cap;
};

/* A unit of reading: one source file, or some files of a folder. Its files stay in the catalog until it is worked on, so that memory goes
 * with the units (about 300 bytes each) and not with the files. */
struct dp_unit {
    int64_t first; /* the source id of its first file; the others follow in the order of dp_catalog_sources */
    size_t members;
    int64_t lineage; /* its number in the catalog's lineage, from 1; 0: not in it */
    uint64_t bytes;
    uint32_t rank; /* its place by policy.first: the least of its files' */
    char *what; /* for people */
    struct dp_key ingest, docs, sig;
    struct dp_key origin; /* its ingest key before any retry of quarantined documents */
};

/* Some docs files that go into the same shards. */
struct dp_group {
    size_t first, count; /* units */
    uint64_t bytes;
    struct dp_key key;
};

/* Units that were decided together: without growth all of them, else as daemon/lineage.h says. */
struct dp_generation {
    size_t first, units;
    size_t groups_end; /* groups of it and those before; by dp_road_groups */
    struct dp_key dedup;
    struct dp_key was_dedup, was_bpe, was_shard; /* as the catalog's lineage has them; "" when it doesn't have this one */
};

struct dp_road;
/* What failing units and sources mean. All zero, as for `dpipe run`: the first failure ends the run. */
struct dp_policy {
    bool go_on;          /* report a failing unit or source, leave it out, and go on with the rest; try it again later */
    int64_t tries;       /* after so many failures in a row a unit is left alone */
    struct dp_catalog_retry retry;
    const struct dp_strings *first; /* patterns of sources that go before the others, in order; may be NULL. No result depends on it */
    bool documents_only; /* leave the steps over all documents for later */
    atomic_bool *hold;   /* begin no further unit; those that run are finished. May be NULL */
    /* Whether a source file is complete and may be registered now; NULL: every one. From the thread that registers. */
    bool (*accept)(void *ctx, const char *path, const char *relative, const struct stat *st);
    void *accept_ctx;
    /* Told of every unit that failed; from any worker. May be NULL. */
    void (*failed)(void *ctx, const char *what, const struct dp_err *why);
    void *failed_ctx;
    /* Told behind every step of a run that its artifacts are there, on the thread that runs; may be NULL. */
    void (*step_done)(void *ctx, const struct dp_road *r);
    void *step_ctx;
};
/* What a run with go_on left aside. */
struct dp_left {
    uint64_t failed;    /* units that failed now */
    uint64_t waiting;   /* units that failed before and aren't due yet, the failed ones among them */
    uint64_t given_up;  /* units that failed as often as policy.tries */
    int64_t retry_at;   /* when the first of the waiting is due, Unix seconds; 0: none */
    bool changed;       /* a source changed, vanished or couldn't be read just now: register again */
};

struct dp_isolate; /* daemon/isolate.h */
struct dp_rounds;  /* daemon/quarantine.h */
struct dp_dist;    /* trainer/dist.h */

struct dp_road {
    struct dp_workspace ws;
    struct dp_options *options;
    struct dp_pool *pool;
    struct dp_isolate *isolate; /* worker processes, made when they are first needed */
    struct dp_rounds *rounds;   /* daemon/quarantine.h: units to be tried again; NULL: none */
    int threads;
    uint64_t memory;
    atomic_bool *stop; /* set by a signal; may be NULL */
    struct dp_dist *ranks; /* that train together (trainer/dist.h); NULL: this process alone */

    bool append; /* new sources are a new generation of the catalog's lineage (daemon/lineage.h); else the plan is all of them as one */

    struct dp_unit *unit; /* in the order of (generation, prefix, name, digest) */
    size_t units;
    struct dp_generation *gen;
    size_t gens, lineage; /* the first so many are in the catalog's lineage */
    char ended[400];      /* why the catalog's lineage is not in the plan though there is one; "" */
    bool disowned;        /* it ended while a plan with it was run: the next plan is without it, and r->ended stands */
    struct dp_key bpe, shard, train;
    struct dp_group *group;
    size_t groups;
    uint64_t made, found; /* units of any step made now, and found done */
    struct dp_policy policy;
    struct dp_left left;  /* by the latest dp_road_run */
};

/* Open a workspace and its recipe. `flags` are applied after the recipe: name=value rows of sections, by the command line. */
typedef int (*dp_apply_fn)(void *ctx, struct dp_options *o, struct dp_err *e);
int dp_road_open(struct dp_road *r, const char *dir, struct dp_options *o, int threads, uint64_t memory, bool write, dp_apply_fn apply,
                 void *ctx, struct dp_err *e);
void dp_road_close(struct dp_road *r);
/* The same as a writer; sweeping is left to dp_workspace_sweep. */
int dp_road_open_unswept(struct dp_road *r, const char *dir, struct dp_options *o, int threads, uint64_t memory, dp_apply_fn apply, void *ctx,
                         struct dp_err *e);

/* What a look through sources found. */
struct dp_road_sources {
    uint64_t files, bytes, fresh, skipped, gone; /* fresh: new or changed; skipped: unreadable; gone: no longer named or there */
};
/* Register files and folders (digests are computed; unchanged files aren't read again) as roots that later runs look into again.
 * Of a folder what can't be read is reported and left out. The workspace's own files are never sources. */
int dp_road_register(struct dp_road *r, const char *const *paths, size_t n, struct dp_road_sources *found, struct dp_err *e);
/* Take roots off again: DP_USAGE when one isn't registered. */
int dp_road_forget(struct dp_road *r, const char *const *paths, size_t n, struct dp_err *e);
/* Plan the units. With rescan: look again into the recipe's sources and the registered roots first; files that are no longer there
 * stop being sources. */
int dp_road_plan(struct dp_road *r, bool rescan, struct dp_err *e);
/* Only what the catalog's lineage has, whether its sources are still there or not; no units when there is none (or r->ended). */
int dp_road_plan_lineage(struct dp_road *r, struct dp_err *e);
/* Take what isn't in the lineage out of a plan that has one. */
void dp_road_drop_fresh(struct dp_road *r);
void dp_road_plan_release(struct dp_road *r);
/* The first half of a plan with rescan. */
int dp_road_rescan(struct dp_road *r, struct dp_err *e);
/* The files of a unit; free with dp_members_release. */
int dp_road_members(struct dp_road *r, const struct dp_unit *u, struct dp_members *m, struct dp_err *e);
void dp_members_release(struct dp_members *m);
/* One file of a folder that is a root, as a look through the roots would: `relative` is its path below the root, "" for a root itself. */
int dp_road_register_file(struct dp_road *r, const char *path, const char *relative, struct dp_err *e);
/* The recipe's sources (patterns resolved) and the registered roots, as paths; the spool first when there is one. */
int dp_road_roots(struct dp_road *r, struct dp_strings *roots, struct dp_err *e);
/* Whether the path, or a part of it from some / on to its end, matches (fnmatch, * crosses /). */
bool dp_path_matches(const char *pattern, const char *path);
void dp_road_unit_release(struct dp_unit *u);
/* Make everything up to and including `until`. */
int dp_road_run(struct dp_road *r, enum dp_step until, struct dp_err *e);
bool dp_road_stopped(const struct dp_road *r);
bool dp_road_held(const struct dp_road *r);
/* Whether trouble with one source or unit is no reason to stop under the policy; full disks, memory and the catalog always are. */
bool dp_road_tolerates(const struct dp_road *r, int code);

/* Steps, called in order by dp_road_run; each sets its keys in r even when there is nothing to do. */
int dp_road_documents(struct dp_road *r, enum dp_step until, struct dp_err *e);
int dp_road_dedup(struct dp_road *r, struct dp_err *e);
int dp_road_train_bpe(struct dp_road *r, struct dp_err *e);
int dp_road_tokenize(struct dp_road *r, struct dp_err *e);
int dp_road_shard(struct dp_road *r, struct dp_err *e);
int dp_road_train(struct dp_road *r, struct dp_err *e);
/* A step's key (or groups, with theirs), from the options and the keys before it. */
int dp_road_dedup_key(struct dp_road *r, struct dp_err *e);
/* Whether the report and every unit's keep file of a generation are there. */
bool dp_road_dedup_done(struct dp_road *r, size_t generation);
int dp_road_train_bpe_key(struct dp_road *r, struct dp_err *e);
int dp_road_groups(struct dp_road *r, struct dp_err *e);
int dp_road_shard_key(struct dp_road *r, struct dp_err *e);
/* Of a manifest of the first so many groups. */
int dp_road_manifest_key(const struct dp_road *r, size_t groups, struct dp_key *key, struct dp_err *e);
int dp_road_train_key(struct dp_road *r, struct dp_err *e);
/* Plan, and set the keys of every step whose inputs exist, without making anything. Returns the number of complete steps. The plan is the
 * catalog's lineage when there is one, it is complete, and these options made it: what came since isn't in it. */
int dp_road_survey(struct dp_road *r, struct dp_err *e);
/* Survey, and the path of the present manifest, malloc'ed. DP_EMPTY, without a message, when there is none yet. */
int dp_road_manifest(struct dp_road *r, char **path, struct dp_err *e);

/* --- for the steps --- */
/* Hash of everything added. */
struct dp_keyer {
    struct dp_buf text;
};
void dp_keyer_init(struct dp_keyer *k, const char *step, uint32_t version);
void dp_keyer_add(struct dp_keyer *k, const char *name, const char *value);
void dp_keyer_options(struct dp_keyer *k, const char *section, const struct dp_opt *rows, const void *base);
int dp_keyer_finish(struct dp_keyer *k, struct dp_key *key, struct dp_err *e);

/* One artifact of a done unit: found by kind, its k-th. Strings are malloc'ed: release with dp_found_release. */
struct dp_found {
    char *name, *digest;
    int64_t bytes, docs, payload;
};
int dp_road_find(struct dp_road *r, const char *stage, const char *key, const char *kind, size_t k, struct dp_found *f, struct dp_err *e);
void dp_found_release(struct dp_found *f);
/* Path in store/ of the same; malloc'ed, NULL when there is none (error filled). */
char *dp_road_path(struct dp_road *r, const char *stage, const char *key, const char *kind, size_t k, struct dp_err *e);
/* The keep file of a unit under its generation's dedup: its name, and its artifact (DP_EMPTY before the step). */
void dp_keep_name(const struct dp_road *r, size_t unit, char out[80]);
/* The catalog's key of that file: its unit is ("keep", key). */
void dp_keep_key(const struct dp_road *r, size_t unit, struct dp_key *key);
int dp_road_keep(struct dp_road *r, size_t unit, struct dp_found *f, struct dp_err *e);

/* Publishing one unit: artifacts written to tmp/ under their final names, then all at once. */
struct dp_publish {
    struct dp_road *road;
    int64_t unit, epoch;
    const char *stage;
    struct dp_key key;
    struct dp_artifact a[64];
    char name[64][96], digest[64][DP_HEX256];
    size_t n;
    const struct dp_lineage_change *lineage; /* in the same transaction; NULL: none. Set behind the claim */
};
/* DP_EMPTY when it is done already. */
int dp_publish_claim(struct dp_publish *p, struct dp_road *r, const char *stage, const struct dp_key *key, const char *what, struct dp_err *e);
/* Reserve the next artifact: its final name; *path is its place in tmp/, malloc'ed. The digest is filled by the caller into p->digest[i]. */
int dp_publish_add(struct dp_publish *p, const char *kind, const char *name, char **path, size_t *i, struct dp_err *e);
/* A whole small file. */
int dp_publish_file(struct dp_publish *p, const char *kind, const char *name, struct dp_span content, struct dp_err *e);
int dp_publish_commit(struct dp_publish *p, const char *const *parents, size_t nparents, const struct dp_unit_count *counts, size_t ncounts,
                      struct dp_err *e);
/* Remove what was written to tmp/ and give the unit back with the reason. */
void dp_publish_abort(struct dp_publish *p, const struct dp_err *why);

#endif
