#include "cli/train_direct.h"

#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/recipe.h"
#include "daemon/loss_plot.h"
#include "tokenizer/tokenizer.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- what to train on --- */

static char *sibling(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash ? strndup(path, (size_t)(slash - path)) : strdup("."), *out = dir ? dp_fs_join(*dir ? dir : "/", name) : NULL;
    free(dir);
    return out;
}

/* A workspace: its manifest and tokenizer, and its recipe's options below those of --config. */
static int from_workspace(struct dp_direct *d, struct dp_err *e)
{
    free(d->c->global.workspace);
    if (!(d->c->global.workspace = strdup(d->a->data))) DP_FAIL(e, NOMEM, "%s", d->a->data);
    DP_TRY(dp_cli_manifest(d->c, NULL, &d->data, e));
    d->tokenizer = dp_road_path(&d->c->road, "train-bpe", d->c->road.bpe.hex, "tokenizer", 0, e);
    return d->tokenizer ? DP_OK : DP_NOTFOUND;
}

static int find_data(struct dp_direct *d, struct dp_err *e)
{
    const char *given = d->a->data;
    struct stat st;
    if (stat(given, &st) != 0) DP_FAIL_SYS(e, "%s", given);
    if (!S_ISDIR(st.st_mode)) {
        if (!(d->data = strdup(given))) DP_FAIL(e, NOMEM, "%s", given);
    } else {
        char *catalog = dp_fs_join(given, "catalog.db");
        d->data = dp_fs_join(given, "manifest.json");
        if (!catalog || !d->data) DP_FAIL(e, NOMEM, "%s", given);
        bool space = dp_fs_exists(catalog), shards = dp_fs_exists(d->data);
        free(catalog);
        if (!shards) {
            free(d->data);
            d->data = NULL;
            if (!space) DP_FAIL(e, NOTFOUND, "%s: no manifest.json in it, and no workspace: give a folder that `dpipe tokenize -o` made, a manifest, a workspace or a .u16 file", given);
            return from_workspace(d, e);
        }
    }
    if (dp_source_is_bare(d->data) && d->a->vocab == 0) DP_FAIL(e, USAGE, "%s: of bare ids nobody knows the vocabulary: give --vocab N", d->data);
    char *beside = sibling(d->data, "tokenizer.json");
    if (beside && dp_fs_exists(beside)) d->tokenizer = beside;
    else free(beside);
    return DP_OK;
}

/* --config: a recipe, or the keys of its train section alone. Then the environment and flags over it. */
static int read_config(struct dp_direct *d, struct dp_err *e)
{
    struct dp_options *o = &d->c->options;
    struct dp_section all[DP_SECTIONS_MAX + 1];
    struct dp_strings sources = {0};
    if (!d->a->config) return dp_cli_options(d->c, e);
    for (size_t i = 0; i < o->sections; i++) all[i] = o->section[i];
    all[o->sections] = *dp_options_section(o, "train");
    all[o->sections].name = "";
    int rc = dp_recipe_load(d->a->config, all, o->sections + 1, &sources, e);
    dp_strings_release(&sources);
    return rc < 0 ? rc : dp_cli_apply(d->c, o, e);
}

int dp_direct_open(struct dp_direct *d, struct dp_cli *c, const struct dp_train_args *a, struct dp_err *e)
{
    *d = (struct dp_direct){.c = c, .a = a};
    if (a->data) DP_TRY(find_data(d, e));
    DP_TRY(read_config(d, e));
    if (a->tokenizer) {
        free(d->tokenizer);
        if (!(d->tokenizer = strdup(a->tokenizer))) DP_FAIL(e, NOMEM, "%s", a->tokenizer);
    }
    DP_TRY(dp_pool_open(&d->pool, (int)c->global.threads, e));
    return DP_OK;
}

double dp_direct_peak(const struct dp_direct *d)
{
    double rank = d->a->peak > 0 ? d->a->peak * 1e9 : dp_loop_peak(dp_pool_threads(d->pool), d->c->options.train.dtype == DP_BF16);
    return d->c->ranks ? rank * d->c->ranks->world : rank;
}

void dp_direct_close(struct dp_direct *d)
{
    dp_pool_close(d->pool);
    free(d->data);
    free(d->tokenizer);
}

/* --- one run --- */

struct one {
    struct dp_direct *d;
    const char *log_path;
    int log_fd; /* -1: none */
    struct dp_buf log;
    struct dp_source *train, *val;
    struct dp_trainer *trainer;
    uint32_t *token_bytes;
    struct dp_loop loop;
    struct dp_run_folder *folder;
    struct dp_loop_folder kept;
};

static int open_source(const struct dp_direct *d, const char *path, int split, struct dp_source **out, struct dp_err *e)
{
    const struct dp_train_options *o = &d->c->options.train;
    struct dp_feed_options f = d->c->options.feed;
    if (dp_source_is_bare(path)) return dp_source_open_bare(out, path, (uint32_t)d->a->vocab, o->seq_len, split == DP_FEED_TRAIN ? d->a->draw : DP_DRAW_ORDER, e);
    f.seq_len = o->seq_len;
    f.batch = o->batch;
    f.rank = 0;
    f.world = 1;
    f.split = split;
    if (split == DP_FEED_VAL) f.mixture = NULL;
    return dp_source_open_feed(out, path, &f, o->documents != DP_DOCUMENTS_JOINED, e);
}

static int open_data(struct one *r, struct dp_err *e)
{
    const struct dp_direct *d = r->d;
    const struct dp_feed_options *f = &d->c->options.feed;
    DP_TRY(open_source(d, d->data, DP_FEED_TRAIN, &r->train, e));
    if (d->a->val_data) {
        char *inside = dp_fs_join(d->a->val_data, "manifest.json");
        bool folder = inside && dp_fs_exists(inside);
        struct dp_feed_options keep = *f;
        d->c->options.feed.val_fraction = 1; /* all of it */
        d->c->options.feed.test_fraction = 0;
        int rc = open_source(d, folder ? inside : d->a->val_data, DP_FEED_VAL, &r->val, e);
        d->c->options.feed = keep;
        free(inside);
        DP_TRY(rc);
        if (dp_source_vocab(r->val) != dp_source_vocab(r->train))
            DP_FAIL(e, CONFIG, "%s has a vocabulary of %u, %s one of %u: both must be made with one tokenizer", d->a->val_data, dp_source_vocab(r->val), d->data,
                    dp_source_vocab(r->train));
    } else if (dp_source_feed(r->train) && f->val_fraction > 0) {
        struct dp_err none = {0};
        int rc = open_source(d, d->data, DP_FEED_VAL, &r->val, &none);
        if (rc == DP_CONFIG) dp_log(WARN, "train", "no validation: %s", none.msg);
        else if (rc < 0) {
            *e = none;
            return rc;
        }
    }
    return DP_OK;
}

static int count_bytes(struct one *r, struct dp_err *e)
{
    struct dp_tokenizer *t;
    uint32_t vocab = dp_source_vocab(r->train);
    const struct dp_feed *f = dp_source_feed(r->train);
    if (!r->d->tokenizer) return DP_OK;
    DP_TRY(dp_tokenizer_load_file(&t, r->d->tokenizer, NULL, e));
    bool same = dp_tokenizer_size(t) <= vocab;
    if (same && f) {
        struct dp_hash128 a = dp_tokenizer_digest(t), b = dp_feed_tokenizer(f);
        same = a.lo == b.lo && a.hi == b.hi;
    }
    int rc = DP_OK;
    if (!same && r->d->a->tokenizer) rc = dp_err_set(e, DP_CONFIG, 0, __FILE__, __LINE__, "%s isn't the tokenizer that made %s", r->d->tokenizer, r->d->data);
    if (same && !(r->token_bytes = calloc(vocab, sizeof *r->token_bytes))) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "bytes of tokens");
    for (uint32_t i = 0; same && rc >= 0 && i < dp_tokenizer_size(t); i++) r->token_bytes[i] = (uint32_t)dp_tokenizer_bytes(t, i).len;
    if (same && rc >= 0 && dp_tokenizer_eot(t) >= 0) r->token_bytes[dp_tokenizer_eot(t)] = 0; /* stands for no text */
    dp_tokenizer_free(t);
    return rc;
}

/* The log as far as the checkpoint: lines of later steps are written again. */
static int keep_log(struct one *r, int64_t step, struct dp_err *e)
{
    struct dp_buf old;
    struct dp_arena mem;
    int rc = DP_OK;
    if (!dp_fs_exists(r->log_path)) return DP_OK;
    dp_buf_init(&old, (size_t)1 << 30);
    dp_arena_init(&mem, 1 << 20);
    rc = dp_fs_read(r->log_path, &old, e);
    for (size_t at = 0; rc >= 0 && at < old.len;) {
        const char *nl = memchr(old.ptr + at, '\n', old.len - at);
        struct dp_json_field f[1] = {{.key = "step"}};
        struct dp_err bad;
        if (!nl) break; /* torn */
        struct dp_span line = dp_span(old.ptr + at, (size_t)(nl - old.ptr) - at);
        if (dp_json_fields(line, f, 1, &mem, &bad) < 0 || !f[0].raw.len || strtoll(f[0].raw.ptr, NULL, 10) > step) break;
        dp_buf_add(&r->log, line.ptr, line.len + 1);
        dp_arena_reset(&mem);
        at += line.len + 1;
    }
    dp_arena_release(&mem);
    dp_buf_release(&old);
    return rc;
}

static int open_log(struct one *r, int64_t step, struct dp_err *e)
{
    if (!r->log_path) return DP_OK;
    if (strcmp(r->log_path, "-") == 0) {
        r->log_fd = dup(1);
        return r->log_fd < 0 ? dp_err_set(e, DP_IO, errno, __FILE__, __LINE__, "stdout") : DP_OK;
    }
    struct stat st;
    bool plain = stat(r->log_path, &st) != 0 || S_ISREG(st.st_mode);
    if (plain) {
        if (step > 0) DP_TRY(keep_log(r, step, e));
        DP_TRY(dp_fs_write_atomic(r->log_path, dp_buf_span(&r->log), e));
    }
    r->log_fd = open(r->log_path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (r->log_fd < 0) DP_FAIL_SYS(e, "%s", r->log_path);
    return DP_OK;
}

static int on_line(void *ctx, struct dp_span json, struct dp_err *e)
{
    struct one *r = ctx;
    dp_buf_add(&r->log, json.ptr, json.len);
    if (r->log_fd < 0) return DP_OK;
    int rc = dp_fs_write_all(r->log_fd, json.ptr, json.len, r->log_path, e);
    if (rc < 0) dp_err_prefix(e, "log");
    return rc;
}

static int on_save(void *ctx, bool best, struct dp_err *e)
{
    struct one *r = ctx;
    return dp_loop_folder_save(&r->kept, best, e);
}

static bool on_stop(void *ctx)
{
    (void)ctx;
    return dp_progress_stopped();
}

static int open_run(struct one *r, const char *out, struct dp_err *e)
{
    struct dp_cli *c = r->d->c;
    DP_TRY(open_data(r, e));
    DP_TRY(count_bytes(r, e));
    DP_TRY(dp_trainer_open_ranks(&r->trainer, &c->options.train, dp_source_vocab(r->train), r->d->pool, c->ranks, e));
    r->loop = (struct dp_loop){.o = &c->options.train, .trainer = r->trainer, .train = r->train, .val = r->val, .timed = true, .save_last = true, .peak = dp_direct_peak(r->d),
                               .token_bytes = r->token_bytes, .stop_at = r->d->a->stop_at, .hooks = {r, on_line, out ? on_save : NULL, on_stop}};
    dp_loop_init(&r->loop);
    dp_trainer_keep_losses(r->trainer);
    if (!out) return open_log(r, 0, e);
    struct dp_buf changed;
    DP_TRY(dp_run_folder_open(&r->folder, out, e));
    r->kept = (struct dp_loop_folder){&r->loop, r->folder};
    dp_buf_init(&changed, 1 << 16);
    int rc = dp_loop_folder_resume(&r->kept, r->train, &changed, e);
    if (rc == DP_OK) dp_log(INFO, "train", "%s: going on behind update %lld", out, (long long)dp_trainer_steps_done(r->trainer));
    if (rc == DP_OK && changed.len) dp_log(WARN, "train", "options are others than before, so the run is another: %.*s", (int)changed.len, changed.ptr);
    dp_buf_release(&changed);
    return rc < 0 ? rc : open_log(r, dp_trainer_steps_done(r->trainer), e);
}

static int draw_plot(struct one *r, const char *path, struct dp_buf *text, struct dp_err *e)
{
    struct dp_loss_log l;
    struct dp_buf svg;
    int rc = dp_loss_log_parse(&l, dp_buf_span(&r->log), r->log_path ? r->log_path : "loss log", e);
    if (rc < 0) return rc;
    dp_buf_init(&svg, 16 << 20);
    if (path) {
        dp_loss_plot_svg(&l, "dpipe train: loss by step", &svg);
        rc = dp_buf_check(&svg, path, e);
        if (rc >= 0) rc = dp_fs_write_atomic(path, dp_buf_span(&svg), e);
    }
    const char *lang = getenv("LC_ALL") ? getenv("LC_ALL") : getenv("LC_CTYPE") ? getenv("LC_CTYPE") : getenv("LANG");
    bool utf8 = lang && (strstr(lang, "UTF-8") || strstr(lang, "utf8"));
    if (text && l.n > 1) dp_loss_plot_text(&l, 64, 12, !utf8, text);
    dp_buf_release(&svg);
    dp_loss_log_release(&l);
    return rc;
}

/* What stands, behind a run that failed. */
static void advise(struct one *r, struct dp_err *e)
{
    struct dp_err why = *e;
    int64_t step;
    const char *last = r->folder && dp_trainer_steps_done(r->trainer) > 0 ? dp_run_folder_newest(r->folder, &step, NULL) : NULL;
    if (why.code != DP_CORRUPT || !last) return;
    dp_err_set(e, why.code, 0, __FILE__, __LINE__, "%.300s; %.120s (update %lld) is whole", why.msg, last, (long long)step);
}

static void close_run(struct one *r)
{
    if (r->log_fd >= 0) close(r->log_fd);
    dp_run_folder_close(r->folder);
    dp_trainer_close(r->trainer);
    dp_source_close(r->train);
    dp_source_close(r->val);
    dp_buf_release(&r->log);
    free(r->token_bytes);
}

int dp_direct_run(struct dp_direct *d, const char *out, const char *log, const char *plot, struct dp_direct_result *result, struct dp_buf *text, struct dp_err *e)
{
    struct one *r = calloc(1, sizeof *r);
    if (!r) DP_FAIL(e, NOMEM, "run");
    r->d = d;
    r->log_fd = -1;
    r->log_path = log;
    dp_buf_init(&r->log, (size_t)1 << 30);
    int rc = open_run(r, out, e);
    bool open = rc >= 0;
    if (open) {
        dp_progress_begin("train", "steps", (uint64_t)d->c->options.train.steps);
        rc = dp_loop_run(&r->loop, e);
        dp_progress_end();
        if (rc < 0) advise(r, e);
    }
    if (rc >= 0 && r->folder && dp_trainer_steps_done(r->trainer) >= d->c->options.train.steps) rc = dp_loop_folder_finish(&r->kept, e);
    struct dp_err other = {0};
    if (open) { /* of a run that failed too */
        int drawn = draw_plot(r, plot, text, &other);
        if (rc >= 0 && drawn < 0) {
            rc = drawn;
            *e = other;
        }
        *result = (struct dp_direct_result){dp_trainer_params(r->trainer), dp_trainer_steps_done(r->trainer), r->loop};
    }
    close_run(r);
    free(r);
    return rc;
}

/* --- the command --- */

static void member(struct dp_jsonw *w, const char *key, double v)
{
    if (!isnan(v)) dp_jsonw_member_real(w, key, v);
}

static void say_json(const struct dp_direct_result *r, const char *out, struct dp_buf *b)
{
    struct dp_jsonw w;
    dp_jsonw_init(&w, b, 0);
    dp_jsonw_begin(&w, '{');
    dp_jsonw_member_uint(&w, "parameters", r->params);
    dp_jsonw_member_int(&w, "steps", r->steps);
    dp_jsonw_member_int(&w, "updates", r->loop.updates);
    member(&w, "loss", r->loop.loss);
    member(&w, "val_loss", r->loop.val_loss);
    member(&w, "bits_per_byte", r->loop.bits_per_byte);
    member(&w, "best_val_loss", r->loop.best_val);
    dp_jsonw_member_real(&w, "tokens_per_s", r->loop.rate);
    dp_jsonw_member_real(&w, "mfu", r->loop.mfu);
    dp_jsonw_member_real(&w, "peak_gflops", r->loop.peak / 1e9);
    dp_jsonw_member_real(&w, "seconds", r->loop.seconds);
    dp_jsonw_member_int(&w, "spikes", r->loop.spikes);
    dp_jsonw_member_int(&w, "skipped", r->loop.skipped);
    if (out) dp_jsonw_member(&w, "out", out);
    dp_jsonw_end(&w, '}');
    dp_buf_add_char(b, '\n');
}

static void say_text(const struct dp_direct_result *r, const char *out, struct dp_buf *b)
{
    dp_buf_printf(b, "%llu parameters, %lld updates", (unsigned long long)r->params, (long long)r->steps);
    if (!isnan(r->loop.loss)) dp_buf_printf(b, ", loss %.4f", r->loop.loss);
    if (!isnan(r->loop.val_loss)) dp_buf_printf(b, ", validation loss %.4f", r->loop.val_loss);
    if (!isnan(r->loop.bits_per_byte)) dp_buf_printf(b, ", bits per byte %.4f", r->loop.bits_per_byte);
    if (r->loop.updates) dp_buf_printf(b, "; %.0f tokens/s, MFU %.1f%% of %.0f GFLOP/s", r->loop.rate, 100 * r->loop.mfu, r->loop.peak / 1e9);
    if (r->loop.spikes) dp_buf_printf(b, "; %lld spikes, %lld updates left out", (long long)r->loop.spikes, (long long)r->loop.skipped);
    if (out) dp_buf_printf(b, "; in %s", out);
    dp_buf_add_char(b, '\n');
}

static int train_once(struct dp_direct *d, struct dp_err *e)
{
    const struct dp_train_args *a = d->a;
    struct dp_direct_result r;
    struct dp_buf text;
    char *log = a->log ? strdup(a->log) : a->out ? dp_fs_join(a->out, "log.jsonl") : NULL, *plot = a->plot ? strdup(a->plot) : a->out ? dp_fs_join(a->out, "loss.svg") : NULL;
    bool json = d->c->global.json, data = a->log && strcmp(a->log, "-") == 0; /* stdout is taken */
    dp_buf_init(&text, 1 << 20);
    if (!a->out) dp_log(WARN, "train", "without --out no checkpoint and no model is kept");
    int rc = dp_direct_run(d, a->out, log, plot, &r, json || data ? NULL : &text, e);
    if (rc >= 0 && json) say_json(&r, a->out, &text);
    else if (rc >= 0 && !data) say_text(&r, a->out, &text);
    if (rc >= 0 && text.len && !(d->c->global.quiet && !json)) rc = dp_cli_print(&text, e);
    dp_buf_release(&text);
    free(log);
    free(plot);
    return rc;
}

int dp_train_direct(struct dp_cli *c, const struct dp_train_args *a, struct dp_err *e)
{
    struct dp_direct d;
    int rc = dp_direct_open(&d, c, a, e);
    if (rc >= 0) rc = a->sweep ? dp_train_sweep(&d, e) : train_once(&d, e);
    dp_direct_close(&d);
    return rc;
}
