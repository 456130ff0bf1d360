#include "base/json.h"
#include "base/progress.h"
#include "cli/cli.h"
#include "cli/model_input.h"

#include <math.h>
#include <stdlib.h>

struct own {
    struct dp_model_input in;
    int64_t rows;
};
static const struct dp_opt rows[] = {
    {.name = "model", .type = DP_OPT_STRING, .offset = offsetof(struct own, in.model), .arg = "FILE", .help = "a checkpoint; default: the workspace's model"},
    {.name = "rows", .letter = 'n', .type = DP_OPT_INT, .offset = offsetof(struct own, rows), .preset = "256", .min = 0, .max = 1e12, .arg = "N",
     .help = "rows of the validation split; 0: all"},
    DP_OPT_END,
};

struct sums {
    double loss;
    int64_t targets;
    uint64_t bytes;
};

static int evaluate(struct dp_cli *c, struct dp_loaded_model *m, struct dp_feed *f, struct sums *s, struct dp_err *e)
{
    const struct own *o = c->own;
    int64_t t = c->options.train.seq_len, batch = c->options.train.batch;
    uint64_t n = dp_feed_samples(f);
    if (o->rows && (uint64_t)o->rows < n) n = (uint64_t)o->rows;
    int32_t *ids = malloc((size_t)(batch * (t + 1)) * sizeof *ids);
    int rc = ids ? DP_OK : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "batch");
    dp_progress_begin("eval", "rows", n);
    for (uint64_t at = 0; rc >= 0 && at < n; at += (uint64_t)batch) {
        int64_t k = 0, targets = 0;
        double loss = 0;
        for (; rc >= 0 && k < batch && at + (uint64_t)k < n; k++) {
            rc = dp_feed_get(f, at + (uint64_t)k, ids + k * (t + 1), e);
            for (int64_t i = 1; rc >= 0 && i <= t; i++) s->bytes += dp_tokenizer_bytes(m->tokenizer, (uint32_t)ids[k * (t + 1) + i]).len;
        }
        if (rc >= 0) rc = dp_trainer_eval(m->trainer, ids, k, &loss, &targets, e);
        s->loss += loss;
        s->targets += targets;
        dp_progress_add((uint64_t)k, 0);
    }
    dp_progress_end();
    free(ids);
    return rc;
}

static int run(struct dp_cli *c, struct dp_err *e)
{
    struct own *o = c->own;
    struct dp_loaded_model m;
    struct dp_feed *f = NULL;
    struct sums s = {0};
    DP_TRY(dp_model_input_open(&m, c, &o->in, e));
    struct dp_feed_options fo = c->options.feed;
    fo.seq_len = c->options.train.seq_len;
    fo.batch = c->options.train.batch;
    fo.split = DP_FEED_VAL;
    fo.shuffle = false;
    fo.pack = DP_FEED_CONCAT;
    fo.on_bad = DP_FEED_STOP;
    fo.domains = fo.mixture = NULL;
    char *manifest = dp_road_path(&c->road, "shard", c->road.shard.hex, "manifest", 0, e);
    int rc = manifest ? dp_feed_open(&f, manifest, &fo, e) : DP_NOTFOUND;
    if (rc >= 0) rc = evaluate(c, &m, f, &s, e);
    if (rc >= 0) {
        double mean = s.targets ? s.loss / (double)s.targets : 0;
        struct dp_buf b;
        dp_buf_init(&b, 4096);
        dp_buf_printf(&b, c->global.json ? "{\"loss\":%.6f,\"perplexity\":%.4f,\"bits_per_byte\":%.5f,\"tokens\":%lld,\"bytes\":%llu}\n"
                                         : "validation loss %.6f, perplexity %.4f, bits per byte %.5f (%lld tokens, %llu bytes)\n",
                      mean, exp(mean), s.bytes ? s.loss / log(2) / (double)s.bytes : 0, (long long)s.targets, (unsigned long long)s.bytes);
        rc = dp_cli_print(&b, e);
        dp_buf_release(&b);
    }
    free(manifest);
    dp_feed_close(f);
    dp_model_input_close(&m);
    return rc;
}

extern const struct dp_command dp_cmd_eval;
const struct dp_command dp_cmd_eval = {.name = "eval", .summary = "loss, perplexity and bits per byte on the validation split", .args = "", .rows = rows,
    .own_size = sizeof(struct own), .run = run};
