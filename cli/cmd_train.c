#include "base/json.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/train_direct.h"

#define O(f) offsetof(struct dp_train_args, f)
static const struct dp_opt rows[] = {
    {.name = "data", .type = DP_OPT_STRING, .offset = O(data), .arg = "PATH",
     .help = "train on this, without a workspace's road: a folder of shards, a manifest, a workspace, or bare ids (.u16, .bin, .u32)"},
    {.name = "config", .type = DP_OPT_STRING, .offset = O(config), .arg = "FILE", .help = "with --data: options from a recipe, or from a YAML file with the keys of its train section"},
    {.name = "out", .letter = 'o', .type = DP_OPT_STRING, .offset = O(out), .arg = "DIR", .help = "with --data: the folder of checkpoints, model, log and plot; a run that is there goes on"},
    {.name = "log", .type = DP_OPT_STRING, .offset = O(log), .arg = "FILE", .help = "with --data: a line of JSON an update; -: stdout [DIR/log.jsonl]"},
    {.name = "plot", .type = DP_OPT_STRING, .offset = O(plot), .arg = "FILE", .help = "with --data: the loss as SVG [DIR/loss.svg]"},
    {.name = "val_data", .type = DP_OPT_STRING, .offset = O(val_data), .arg = "PATH", .help = "with --data: validate on this instead of feed.val_fraction of the data"},
    {.name = "tokenizer", .type = DP_OPT_STRING, .offset = O(tokenizer), .arg = "FILE", .help = "with --data: for bits per byte [tokenizer.json beside the data]"},
    {.name = "vocab", .type = DP_OPT_INT, .offset = O(vocab), .preset = "0", .min = 0, .max = 1 << 22, .arg = "N", .help = "of bare ids: size of the vocabulary"},
    {.name = "draw", .type = DP_OPT_CHOICE, .offset = O(draw), .preset = "order", .choices = "order|rows|hash", .help = "of bare ids: rows that share one id with the next, rows of seq_len + 1 ids, or rows at hashed places"},
    {.name = "stop_at", .type = DP_OPT_INT, .offset = O(stop_at), .preset = "0", .min = 0, .max = 1e12, .arg = "N", .help = "with --data: stop behind update N with a checkpoint; the schedule is that of --steps"},
    {.name = "peak", .type = DP_OPT_REAL, .offset = O(peak), .preset = "0", .min = 0, .max = 1e12, .arg = "GFLOPS", .help = "with --data: what MFU is a share of, all threads together; 0: measured for 0.2 s"},
    {.name = "sweep", .type = DP_OPT_STRING, .offset = O(sweep), .arg = "GRID", .help = "with --data: a run for each combination of \"NAME=V,V NAME=V,V\", and a table of results"},
    {.name = "verify", .type = DP_OPT_STRING, .offset = O(verify), .arg = "FILE", .help = "replay a vector file and print the largest differences as JSON"},
    DP_OPT_END,
};
#undef O

static int verify(struct dp_cli *c, const char *path, struct dp_err *e)
{
    struct dp_verify_result r;
    struct dp_pool *pool;
    struct dp_buf b;
    struct dp_jsonw w;
    DP_TRY(dp_pool_open(&pool, (int)c->global.threads, e));
    int rc = dp_trainer_verify(path, pool, &r, e);
    dp_pool_close(pool);
    DP_TRY(rc);
    const struct {
        const char *name;
        double v;
    } f[] = {{"logits", r.logits}, {"losses", r.losses}, {"grad", r.grad}, {"grad_norms", r.grad_norms}, {"after3", r.after3}, {"m3", r.m3}, {"v3", r.v3},
             {"key_bias_grad", r.key_bias_grad}};
    dp_buf_init(&b, 1 << 16);
    dp_jsonw_init(&w, &b, 0);
    dp_jsonw_begin(&w, '{');
    for (size_t i = 0; i < sizeof f / sizeof *f; i++) {
        dp_jsonw_key(&w, f[i].name);
        dp_jsonw_real(&w, f[i].v);
    }
    dp_jsonw_key(&w, "tensors");
    dp_jsonw_int(&w, r.tensors);
    dp_jsonw_key(&w, "worst");
    dp_jsonw_cstr(&w, r.worst);
    dp_jsonw_key(&w, "ok");
    dp_jsonw_bool(&w, r.ok);
    dp_jsonw_end(&w, '}');
    dp_buf_add_char(&b, '\n');
    rc = dp_cli_print(&b, e);
    dp_buf_release(&b);
    if (rc >= 0 && !r.ok) DP_FAIL(e, CORRUPT, "%s: the differences are larger than fp32 explains; worst is %s", path, r.worst);
    return rc;
}

static int follow(struct dp_cli *c, struct dp_err *e)
{
    struct dp_pool *pool;
    DP_TRY(dp_pool_open(&pool, (int)c->global.threads, e));
    int rc = dp_trainer_follow(c->ranks, pool, e);
    dp_pool_close(pool);
    return rc;
}

static int lead(struct dp_cli *c, struct dp_err *e)
{
    const struct dp_train_args *a = c->own;
    return a->data ? dp_train_direct(c, a, e) : dp_cli_train(c, e);
}

/* Under mpirun, rank 0 is `dpipe train`; the others do what it tells them, and know nothing of workspace, logs and checkpoints. */
static int train(struct dp_cli *c, struct dp_err *e)
{
    DP_TRY(dp_dist_open(&c->ranks, e));
    if (!c->ranks) return lead(c, e);
    int threads = dp_dist_threads(c->ranks), rc;
    if (!c->global.threads_given) c->global.threads = threads;
    c->ranks->stop = c->stop;
    if (c->ranks->rank) rc = follow(c, e);
    else {
        dp_log(INFO, "train", "%d ranks, %lld threads each", c->ranks->world, (long long)c->global.threads);
        rc = lead(c, e);
        dp_trainer_dismiss(c->ranks);
    }
    if (rc < 0 && c->ranks->rank) dp_dist_abort(c->ranks, e, dp_code_exit(rc));
    c->road.ranks = NULL;
    dp_dist_close(c->ranks);
    return rc;
}

static int run(struct dp_cli *c, struct dp_err *e)
{
    const struct dp_train_args *a = c->own;
    if (a->verify) return verify(c, a->verify, e);
    if (!a->data && (a->config || a->out || a->log || a->plot || a->val_data || a->sweep || a->stop_at))
        DP_FAIL(e, USAGE, "train: --config, --out, --log, --plot, --val-data, --stop-at and --sweep are for --data; a workspace has its recipe and its store");
    return train(c, e);
}

extern const struct dp_command dp_cmd_train;
const struct dp_command dp_cmd_train = {.name = "train", .summary = "train a small transformer on the shards", .args = "", .rows = rows,
    .own_size = sizeof(struct dp_train_args), .sections = "train feed", .first = "train", .run = run,
    .about = "In a workspace: the model of its recipe. With --data: on any shards, without a workspace.\n\n"
             "Stopped (SIGTERM, Ctrl-C) or killed, it goes on from its last checkpoint, bit for bit, when it is started again as before. --verify checks the arithmetic\n"
             "against vectors made with PyTorch. docs/train.md has the log's members, what is in the folder, and examples. Built with\n"
             "`make MPI=1`, `mpirun -n N dpipe train ...` (or srun) trains with N ranks, to the result of one within rounding: docs/train-mpi.md.\n\n"
             "  dpipe train --data shards/ --layers 6 --dim 384 --steps 2000 --out run1\n"
             "  dpipe train --data shards/ --steps 300 --sweep \"lr=1e-3,3e-4 dim=256,384\""};
