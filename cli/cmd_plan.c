/* plan: what training would take, before it begins. */
#include "base/json.h"
#include "cli/cli.h"
#include "cli/train_direct.h"
#include "trainer/run_plan.h"

#include <math.h>
#include <stdlib.h>

struct own {
    struct dp_train_args in;
    bool measure;
};
#define O(f) offsetof(struct own, f)
static const struct dp_opt rows[] = {
    {.name = "data", .type = DP_OPT_STRING, .offset = O(in.data), .arg = "PATH", .help = "what dpipe train --data takes: for the vocabulary, and how often it is gone through"},
    {.name = "config", .type = DP_OPT_STRING, .offset = O(in.config), .arg = "FILE", .help = "a recipe, or a YAML file with the keys of its train section"},
    {.name = "vocab", .type = DP_OPT_INT, .offset = O(in.vocab), .preset = "0", .min = 0, .max = 1 << 22, .arg = "N", .help = "size of the vocabulary, where there is no --data"},
    {.name = "measure", .type = DP_OPT_BOOL, .offset = O(measure), .preset = "true", .help = "run some steps on random tokens; --no-measure: assume half the peak"},
    DP_OPT_END,
};
#undef O

enum { ADVICE_MAX = 8, WORDS_MAX = 320 };
struct advice {
    char text[ADVICE_MAX][WORDS_MAX];
    size_t n;
};

static void advise(struct advice *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void advise(struct advice *a, const char *fmt, ...)
{
    va_list ap;
    if (a->n == ADVICE_MAX) return;
    va_start(ap, fmt);
    vsnprintf(a->text[a->n++], WORDS_MAX, fmt, ap);
    va_end(ap);
}

/* 1234567 -> "1.23M" */
static const char *brief(double v, char out[16])
{
    static const struct {
        double unit;
        const char *name;
    } units[] = {{1e15, "P"}, {1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (v >= units[i].unit) {
            snprintf(out, 16, "%.3g%s", v / units[i].unit, units[i].name);
            return out;
        }
    snprintf(out, 16, "%.3g", v);
    return out;
}

static const char *duration(double s, char out[32])
{
    if (s < 120) snprintf(out, 32, "%.3g s", s);
    else if (s < 7200) snprintf(out, 32, "%.0f min", s / 60);
    else if (s < 172800) snprintf(out, 32, "%.1f h", s / 3600);
    else snprintf(out, 32, "%.1f days", s / 86400);
    return out;
}

static void think(struct advice *a, const struct dp_plan *p, const struct dp_train_options *o, double epochs)
{
    double ratio = p->tokens / (double)p->params;
    char x[16], y[16];
    if (p->memory_free && p->memory > p->memory_free / 10 * 9)
        advise(a, "it wants %s bytes and %s are free: lower batch and raise accum by as much (the same update), or lower dim, layers or seq_len", brief((double)p->memory, x),
               brief((double)p->memory_free, y));
    if (ratio < 10)
        advise(a, "%.1f tokens a parameter are few: about 20 are the best use of the time (Hoffmann et al. 2022): %.0f steps, or a model of %s parameters", ratio, p->chinchilla_steps,
               brief(p->chinchilla_params, x));
    else if (ratio > 40)
        advise(a, "%.0f tokens a parameter are many: for the lowest loss at these operations train %s parameters on %s tokens; a small model trained long is cheaper to run", ratio,
               brief(p->optimal_params, x), brief(p->optimal_tokens, y));
    else advise(a, "%.0f tokens a parameter: near the 20 that are the best use of the time (Hoffmann et al. 2022)", ratio);
    if (epochs > 4) advise(a, "the data are gone through %.1f times: beyond 4 epochs repeats teach little (Muennighoff et al. 2023): more data, or a smaller model", epochs);
    if (p->params_embedding * 2 > p->params)
        advise(a, "embeddings are %.0f %% of the parameters: a smaller vocabulary or a larger dim uses them better", 100 * (double)p->params_embedding / (double)p->params);
    if (o->optimizer == 1 && p->tokens_step < 4096) advise(a, "Muon costs as much as 1,000 to 2,000 tokens an update, and an update has %.0f: raise batch or accum", p->tokens_step);
    if (p->by != DP_PLAN_MEASURED)
        advise(a, "%s", p->by == DP_PLAN_SMALLER ? "the rate is that of a smaller model of the same widths" : "nothing was measured: half the peak is assumed");
}

static void say_json(const struct dp_plan *p, const struct advice *a, double data, double epochs, struct dp_buf *b)
{
    static const char *const by[] = {"measured", "smaller model", "assumed"};
    const struct {
        const char *key;
        double v;
    } f[] = {{"parameters", (double)p->params}, {"parameters_embedding", (double)p->params_embedding}, {"flops_per_token", p->flops_token}, {"flops_per_step", p->flops_step},
             {"flops", p->flops}, {"tokens_per_step", p->tokens_step}, {"tokens", p->tokens}, {"tokens_per_parameter", p->tokens / (double)p->params}, {"data_tokens", data},
             {"epochs", epochs}, {"peak_gflops", p->peak / 1e9}, {"mfu", p->mfu}, {"tokens_per_s", p->tokens_per_s}, {"seconds_per_step", p->step_seconds}, {"seconds", p->seconds},
             {"checkpoint_bytes", (double)p->checkpoint}};
    const struct {
        const char *key;
        uint64_t v;
    } m[] = {{"weights", p->weights}, {"gradients", p->gradients}, {"moments", p->moments}, {"activations", p->activations}, {"buffers", p->buffers}, {"total", p->memory},
             {"free", p->memory_free}};
    struct dp_jsonw w;
    dp_jsonw_init(&w, b, 2);
    dp_jsonw_begin(&w, '{');
    for (size_t i = 0; i < sizeof f / sizeof *f; i++) dp_jsonw_member_real(&w, f[i].key, f[i].v); /* NaN is null */
    dp_jsonw_member(&w, "rate_from", by[p->by]);
    dp_jsonw_key(&w, "memory_bytes");
    dp_jsonw_begin(&w, '{');
    for (size_t i = 0; i < sizeof m / sizeof *m; i++) dp_jsonw_member_uint(&w, m[i].key, m[i].v);
    dp_jsonw_end(&w, '}');
    dp_jsonw_key(&w, "chinchilla");
    dp_jsonw_begin(&w, '{');
    dp_jsonw_member_real(&w, "tokens", p->chinchilla_tokens);
    dp_jsonw_member_real(&w, "steps", p->chinchilla_steps);
    dp_jsonw_member_real(&w, "parameters_for_tokens", p->chinchilla_params);
    dp_jsonw_member_real(&w, "parameters_for_flops", p->optimal_params);
    dp_jsonw_member_real(&w, "tokens_for_flops", p->optimal_tokens);
    dp_jsonw_end(&w, '}');
    dp_jsonw_key(&w, "advice");
    dp_jsonw_begin(&w, '[');
    for (size_t i = 0; i < a->n; i++) dp_jsonw_cstr(&w, a->text[i]);
    dp_jsonw_end(&w, ']');
    dp_jsonw_end(&w, '}');
    dp_buf_add_char(b, '\n');
}

static void say_text(const struct dp_plan *p, const struct advice *a, const struct dp_train_options *o, double data, double epochs, int threads, struct dp_buf *b)
{
    const struct dp_model_config *c = &p->config;
    double mib = 1 << 20;
    char x[16], y[16], t[32], u[32];
    dp_buf_printf(b, "model       %s, %lld layers of %lld, %lld heads, ffn %lld, %lld tokens of context, vocabulary %lld\n", dp_arch_name(c->arch), (long long)c->layers,
                  (long long)c->dim, (long long)c->heads, (long long)c->ffn, (long long)c->seq_len, (long long)c->vocab);
    dp_buf_printf(b, "parameters  %llu, %llu of them embeddings and head\n", (unsigned long long)p->params, (unsigned long long)p->params_embedding);
    dp_buf_printf(b, "tokens      %s: %lld updates of %.0f (%lld x %lld sequences)", brief(p->tokens, x), (long long)o->steps, p->tokens_step, (long long)o->accum, (long long)o->batch);
    if (!isnan(data)) dp_buf_printf(b, "; %.2f times the %s of the data", epochs, brief(data, y));
    dp_buf_printf(b, "\noperations  %s FLOP, %s a token\n", brief(p->flops, x), brief(p->flops_token, y));
    dp_buf_printf(b, "memory      %.0f MiB: weights %.0f, gradients %.0f, moments %.0f, activations %.0f, buffers %.0f; %.0f MiB are free\n", (double)p->memory / mib,
                  (double)p->weights / mib, (double)p->gradients / mib, (double)p->moments / mib, (double)p->activations / mib, (double)p->buffers / mib,
                  (double)p->memory_free / mib);
    dp_buf_printf(b, "disk        %.0f MiB a checkpoint\n", (double)p->checkpoint / mib);
    dp_buf_printf(b, "time        %s: %s an update, %.0f tokens/s, MFU %.0f%% of %.0f GFLOP/s (%d threads)\n", duration(p->seconds, t), duration(p->step_seconds, u), p->tokens_per_s,
                  100 * p->mfu, p->peak / 1e9, threads);
    for (size_t i = 0; i < a->n; i++) dp_buf_printf(b, "%s %s\n", i ? "           " : "advice     ", a->text[i]);
}

/* Tokens of the training split and the vocabulary. */
static int look_at_data(struct dp_cli *c, const struct dp_direct *d, int64_t *vocab, double *tokens, struct dp_err *e)
{
    struct dp_source *s;
    struct dp_feed_options f = c->options.feed;
    f.seq_len = c->options.train.seq_len;
    f.batch = c->options.train.batch;
    f.rank = 0;
    f.world = 1;
    f.split = DP_FEED_TRAIN;
    if (dp_source_is_bare(d->data)) DP_TRY(dp_source_open_bare(&s, d->data, (uint32_t)d->a->vocab, f.seq_len, DP_DRAW_ORDER, e));
    else DP_TRY(dp_source_open_feed(&s, d->data, &f, false, e));
    *vocab = dp_source_vocab(s);
    *tokens = (double)dp_source_tokens(s);
    dp_source_close(s);
    return DP_OK;
}

static int run(struct dp_cli *c, struct dp_err *e)
{
    const struct own *o = c->own;
    struct dp_direct d;
    struct dp_plan p;
    struct advice a = {.n = 0};
    struct dp_buf b;
    int64_t vocab = o->in.vocab;
    double data = (double)NAN;
    if (!o->in.data && !vocab) DP_FAIL(e, USAGE, "plan: give --data, or the vocabulary with --vocab N");
    dp_buf_init(&b, 1 << 20);
    int rc = dp_direct_open(&d, c, &o->in, e);
    if (rc >= 0 && o->in.data) rc = look_at_data(c, &d, &vocab, &data, e);
    if (rc >= 0) rc = dp_plan_make(&p, &c->options.train, vocab, d.pool, dp_direct_peak(&d), o->measure, e);
    if (rc >= 0) {
        double epochs = p.tokens / data;
        think(&a, &p, &c->options.train, epochs);
        if (c->global.json) say_json(&p, &a, data, epochs, &b);
        else say_text(&p, &a, &c->options.train, data, epochs, dp_pool_threads(d.pool), &b);
        rc = dp_cli_print(&b, e);
    }
    dp_buf_release(&b);
    dp_direct_close(&d);
    return rc;
}

extern const struct dp_command dp_cmd_plan;
const struct dp_command dp_cmd_plan = {.name = "plan", .summary = "what training would take: parameters, operations, memory, time, and advice", .args = "", .rows = rows,
    .own_size = sizeof(struct own), .sections = "train feed", .first = "train", .run = run,
    .about = "Says before a run what it is: parameters, operations, memory, tokens and epochs, checkpoints, and the time on this machine, for which some steps are run on random\n"
             "tokens. Takes the options of dpipe train.\n\n"
             "  dpipe plan --data shards/ --layers 12 --dim 768 --steps 20000"};
