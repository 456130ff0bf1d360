/* train: the model of the recipe on the manifest's shards, with checkpoints that a kill can't tear.
 *
 * A checkpoint is an artifact of its own unit (train-ckpt, KEY-STEP): the trainer's state and the loss log up to that step. A run
 * goes on from the newest; older ones are forgotten behind it, the last when the model is published. What the feed gives at
 * step s is a pure function of s, so the checkpoint needs no position but the step. */
#include "daemon/loss_plot.h"
#include "daemon/road.h"

#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/progress.h"
#include "trainer/source.h"
#include "trainer/train.h"
#include "trainer/weights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { TRAIN_VERSION = 1 }; /* part of the key: raise it when the same options give other weights */

struct training {
    struct dp_road *road;
    struct dp_trainer *trainer;
    struct dp_source *rows, *val;
    int32_t *ids; /* of a batch */
    struct dp_buf log;
    int64_t step; /* steps done */
    double val_loss;
};

int dp_road_train_key(struct dp_road *r, struct dp_err *e)
{
    struct dp_keyer k;
    const struct dp_feed_options *f = &r->options->feed;
    const char *start = r->options->train.init_from;
    char text[96], digest[65];
    if (start) DP_TRY(dp_weights_digest(start, digest, e));
    dp_keyer_init(&k, "train", TRAIN_VERSION);
    dp_keyer_add(&k, "manifest", r->shard.hex);
    dp_keyer_options(&k, "train", dp_train_opts, &r->options->train);
    snprintf(text, sizeof text, "%lld %.17g %d", (long long)f->seed, f->val_fraction, f->shuffle);
    dp_keyer_add(&k, "feed", text);
    if (start) dp_keyer_add(&k, "init_from", digest);
    if (f->test_fraction > 0) { /* only then: keys of runs without it stay what they were */
        snprintf(text, sizeof text, "%.17g", f->test_fraction);
        dp_keyer_add(&k, "test", text);
    }
    return dp_keyer_finish(&k, &r->train, e);
}

static void ckpt_key(const struct dp_road *r, int64_t step, char out[64])
{
    snprintf(out, 64, "%s-%08lld", r->train.hex, (long long)step);
}

/* Steps of the published checkpoints of one run. */
struct checkpoints {
    const char *prefix;
    int64_t step[64], newest;
    size_t n;
};

static int checkpoint_row(void *ctx, const struct dp_unit_row *u)
{
    struct checkpoints *c = ctx;
    size_t len = strlen(c->prefix);
    if (strcmp(u->stage, "train-ckpt") != 0 || strcmp(u->state, "done") != 0 || strncmp(u->key, c->prefix, len) != 0 || u->key[len] != '-') return DP_OK;
    long long s = atoll(u->key + len + 1);
    if (s > c->newest) c->newest = s;
    if (c->n < sizeof c->step / sizeof *c->step) c->step[c->n++] = s;
    return DP_OK;
}

/* Forget every checkpoint but that of step `keep` (0: all). A kill may have left more than the one before, so all are looked for. */
static void forget_checkpoints(struct dp_road *r, int64_t keep)
{
    struct checkpoints c = {.prefix = r->train.hex};
    struct dp_err err = {0};
    int rc = dp_catalog_units(r->ws.catalog, checkpoint_row, &c, &err);
    for (size_t i = 0; rc >= 0 && i < c.n; i++) {
        char key[64];
        if (c.step[i] == keep) continue;
        ckpt_key(r, c.step[i], key);
        rc = dp_catalog_forget(r->ws.catalog, "train-ckpt", key, dp_workspace_unlink, &r->ws, &err);
    }
    if (rc < 0) dp_log(WARN, "train", "an old checkpoint stays: %s", err.msg);
}

static int resume(struct training *t, struct dp_err *e)
{
    struct checkpoints c = {.prefix = t->road->train.hex};
    char key[64];
    DP_TRY(dp_catalog_units(t->road->ws.catalog, checkpoint_row, &c, e));
    if (!c.newest) return DP_OK;
    ckpt_key(t->road, c.newest, key);
    char *state = dp_road_path(t->road, "train-ckpt", key, "checkpoint", 0, e), *log = state ? dp_road_path(t->road, "train-ckpt", key, "loss", 0, e) : NULL;
    int rc = state && log ? dp_trainer_load(t->trainer, state, e) : DP_NOTFOUND;
    if (rc >= 0) rc = dp_fs_read(log, &t->log, e);
    free(state);
    free(log);
    if (rc < 0) return rc;
    t->step = c.newest;
    dp_log(INFO, "train", "going on behind step %lld", (long long)c.newest);
    return DP_OK;
}

static int publish_state(struct training *t, struct dp_publish *p, const char *kind, const char *suffix, struct dp_err *e)
{
    char name[96], *path;
    size_t i;
    snprintf(name, sizeof name, "%s-%s%s.safetensors", kind, t->road->train.hex, suffix);
    DP_TRY(dp_publish_add(p, kind, name, &path, &i, e));
    int rc = dp_trainer_save(t->trainer, path, NULL, 0, e);
    if (rc >= 0) {
        struct dp_map m;
        rc = dp_map_open(&m, path, e);
        if (rc >= 0) {
            rc = dp_sha256_span(dp_span(m.ptr, m.len), p->digest[i], e);
            dp_map_close(&m);
        }
    }
    free(path);
    snprintf(name, sizeof name, "loss-%s%s.jsonl", t->road->train.hex, suffix);
    return rc < 0 ? rc : dp_publish_file(p, "loss", name, dp_buf_span(&t->log), e);
}

static int checkpoint(struct training *t, struct dp_err *e)
{
    struct dp_publish *p = calloc(1, sizeof *p);
    struct dp_key key;
    char full[64], suffix[24];
    if (!p) DP_FAIL(e, NOMEM, "checkpoint");
    ckpt_key(t->road, t->step, full);
    snprintf(suffix, sizeof suffix, "-%08lld", (long long)t->step);
    memcpy(key.hex, t->road->train.hex, sizeof key.hex);
    int rc = dp_catalog_claim(t->road->ws.catalog, "train-ckpt", full, "checkpoint", t->road->ws.owner, 3600, &p->unit, &p->epoch, e);
    if (rc == DP_OK) {
        p->road = t->road;
        p->stage = "train-ckpt";
        p->key = key;
        rc = publish_state(t, p, "checkpoint", suffix, e);
        if (rc >= 0) rc = dp_publish_commit(p, NULL, 0, NULL, 0, e);
        if (rc < 0) dp_publish_abort(p, e);
    }
    if (rc >= 0) forget_checkpoints(t->road, t->step);
    free(p);
    return rc < 0 ? rc : DP_OK;
}

static int validate(struct training *t, struct dp_err *e)
{
    const struct dp_train_options *o = &t->road->options->train;
    if (!t->val) return DP_OK;
    double loss = 0;
    int64_t count = 0;
    uint64_t n = dp_source_rows(t->val), rows = (uint64_t)(o->eval_batches * o->batch);
    if (rows > n) rows = n;
    for (uint64_t at = 0; at < rows; at += (uint64_t)o->batch) {
        int64_t k = 0;
        for (; k < o->batch && at + (uint64_t)k < rows; k++) DP_TRY(dp_source_row(t->val, at + (uint64_t)k, t->ids + k * (o->seq_len + 1), e));
        double part;
        int64_t targets;
        DP_TRY(dp_trainer_eval(t->trainer, t->ids, k, &part, &targets, e));
        loss += part;
        count += targets;
    }
    t->val_loss = count ? loss / (double)count : 0;
    return DP_OK;
}

static int log_step(struct training *t, const struct dp_step_result *s, bool with_val, struct dp_err *e)
{
    struct dp_jsonw w;
    dp_jsonw_init(&w, &t->log, 0);
    dp_jsonw_begin(&w, '{');
    dp_jsonw_key(&w, "step");
    dp_jsonw_int(&w, t->step);
    if (s) {
        dp_jsonw_key(&w, "loss");
        dp_jsonw_real(&w, s->loss);
        dp_jsonw_key(&w, "norm");
        dp_jsonw_real(&w, s->norm);
        dp_jsonw_key(&w, "lr");
        dp_jsonw_real(&w, s->lr);
    }
    if (with_val && t->val) {
        dp_jsonw_key(&w, "val_loss");
        dp_jsonw_real(&w, t->val_loss);
    }
    dp_jsonw_end(&w, '}');
    dp_buf_add_char(&t->log, '\n');
    return dp_buf_check(&t->log, "loss log", e);
}

/* The log says nothing of spikes: without spike_skip a run that goes on doesn't know the losses before, and would find others. */
static void report_spike(const struct training *t, const struct dp_step_result *s)
{
    const struct dp_train_options *o = &t->road->options->train;
    const double *loss = dp_trainer_row_losses(t->trainer);
    int64_t worst = 0;
    for (int64_t i = 1; i < o->batch * o->accum; i++)
        if (!(loss[i] <= loss[worst])) worst = i;
    dp_log(WARN, "train", "step %lld: loss %.4f is %.1f deviations above the running median %.4f%s; its worst row has %.4f: `dpipe trace --step %lld --row %lld` names the documents",
           (long long)s->step, s->loss, (s->loss - s->spike.median) / s->spike.deviation, s->spike.median, s->skipped ? ", its update is left out" : "", loss[worst],
           (long long)s->step, (long long)worst);
}

static int train_steps(struct training *t, struct dp_err *e)
{
    const struct dp_train_options *o = &t->road->options->train;
    uint64_t rows = (uint64_t)(o->batch * o->accum);
    if (t->step == 0) {
        DP_TRY(validate(t, e));
        DP_TRY(log_step(t, NULL, true, e));
    }
    while (t->step < o->steps) {
        struct dp_step_result s;
        struct timespec a, b;
        clock_gettime(CLOCK_MONOTONIC, &a);
        for (uint64_t i = 0; i < rows; i++)
            DP_TRY(dp_source_row(t->rows, (uint64_t)t->step * rows + i, t->ids + i * (uint64_t)(o->seq_len + 1), e));
        DP_TRY(dp_trainer_step(t->trainer, t->ids, &s, e));
        t->step++;
        if (s.spike.spike) report_spike(t, &s);
        bool last = t->step == o->steps, with_val = last || (o->eval_every && t->step % o->eval_every == 0);
        clock_gettime(CLOCK_MONOTONIC, &b);
        double dt = (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
        if (with_val) DP_TRY(validate(t, e));
        DP_TRY(log_step(t, &s, with_val, e));
        char note[96];
        snprintf(note, sizeof note, "loss %.3f  norm %.2f  lr %.1e  %.0f tokens/s", s.loss, s.norm, s.lr, dt > 0 ? (double)s.tokens / dt : 0);
        dp_progress_set((uint64_t)t->step, note);
        bool stop = dp_road_stopped(t->road);
        if (!last && (stop || (o->ckpt_every && t->step % o->ckpt_every == 0))) DP_TRY(checkpoint(t, e));
        if (!last && stop) DP_FAIL(e, STOPPED, "training stopped behind step %lld; its checkpoint is published, run again to go on", (long long)t->step);
    }
    return DP_OK;
}

static int publish_model(struct training *t, struct dp_publish *p, struct dp_err *e)
{
    struct dp_loss_log l;
    struct dp_buf svg;
    char name[96];
    DP_TRY(publish_state(t, p, "model", "", e));
    DP_TRY(dp_loss_log_parse(&l, dp_buf_span(&t->log), "loss log", e));
    dp_buf_init(&svg, 16 << 20);
    dp_loss_plot_svg(&l, "dpipe train: loss by step", &svg);
    dp_loss_log_release(&l);
    snprintf(name, sizeof name, "loss-%s.svg", t->road->train.hex);
    int rc = dp_buf_check(&svg, name, e);
    if (rc >= 0) rc = dp_publish_file(p, "plot", name, dp_buf_span(&svg), e);
    dp_buf_release(&svg);
    if (rc >= 0) rc = dp_publish_commit(p, NULL, 0, NULL, 0, e);
    return rc;
}

static int open_training(struct training *t, struct dp_err *e)
{
    struct dp_road *r = t->road;
    struct dp_train_options *o = &r->options->train;
    struct dp_feed_options f = r->options->feed;
    if (f.domains || f.mixture) DP_FAIL(e, CONFIG, "train: feed.domains and feed.mixture are for `dpipe feed`; the trainer reads this workspace's manifest");
    f.on_bad = DP_FEED_STOP; /* weights must not depend on damage */
    char *manifest = dp_road_path(r, "shard", r->shard.hex, "manifest", 0, e);
    if (!manifest) return DP_NOTFOUND;
    f.seq_len = o->seq_len;
    f.batch = o->batch;
    f.rank = 0;
    f.world = 1;
    f.split = DP_FEED_TRAIN;
    const bool documents = o->documents != DP_DOCUMENTS_JOINED;
    int rc = dp_source_open_feed(&t->rows, manifest, &f, documents, e);
    if (rc >= 0 && f.val_fraction > 0) {
        struct dp_err no_val = {0};
        f.split = DP_FEED_VAL;
        rc = dp_source_open_feed(&t->val, manifest, &f, documents, &no_val);
        if (rc == DP_CONFIG) {
            dp_log(WARN, "train", "no validation: %s", no_val.msg);
            rc = DP_OK;
        } else if (rc < 0) *e = no_val;
    }
    free(manifest);
    size_t rows = (size_t)(o->batch * o->accum);
    if (rc >= 0 && !(t->ids = calloc(rows, (size_t)(o->seq_len + 1) * sizeof *t->ids))) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "batch of %zu rows", rows);
    if (rc >= 0) rc = dp_trainer_open_ranks(&t->trainer, o, dp_source_vocab(t->rows), r->pool, r->ranks, e);
    if (rc >= 0) rc = resume(t, e);
    return rc;
}

int dp_road_train(struct dp_road *r, struct dp_err *e)
{
    DP_TRY(dp_road_train_key(r, e));
    struct dp_publish *p = calloc(1, sizeof *p);
    struct training t = {.road = r};
    if (!p) DP_FAIL(e, NOMEM, "train");
    dp_buf_init(&t.log, (size_t)1 << 30);
    int rc = dp_publish_claim(p, r, "train", &r->train, "model", e);
    bool claimed = rc == DP_OK;
    if (rc == DP_EMPTY) {
        r->found++;
        forget_checkpoints(r, 0); /* of a run that was killed right behind its last commit */
    }
    if (claimed) {
        rc = open_training(&t, e);
        if (rc >= 0) {
            dp_progress_begin("train", "steps", (uint64_t)r->options->train.steps);
            rc = train_steps(&t, e);
            dp_progress_end();
        }
        if (rc >= 0) rc = publish_model(&t, p, e);
        if (rc < 0) dp_publish_abort(p, e);
        else {
            r->made++;
            forget_checkpoints(r, 0);
        }
    }
    dp_trainer_close(t.trainer);
    dp_source_close(t.rows);
    dp_source_close(t.val);
    free(t.ids);
    dp_buf_release(&t.log);
    free(p);
    return rc < 0 ? rc : DP_OK;
}
