#include "base/json.h"
#include "cli/cli.h"

struct own {
    char *verify;
};
static const struct dp_opt rows[] = {
    {.name = "verify", .type = DP_OPT_STRING, .offset = offsetof(struct own, verify), .arg = "FILE", .help = "replay a vector file and print the largest differences as JSON"},
    DP_OPT_END,
};

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

static int run(struct dp_cli *c, struct dp_err *e)
{
    const struct own *o = c->own;
    return o->verify ? verify(c, o->verify, e) : dp_cli_train(c, e);
}

extern const struct dp_command dp_cmd_train;
const struct dp_command dp_cmd_train = {.name = "train", .summary = "train a small transformer on the shards", .args = "", .rows = rows,
    .own_size = sizeof(struct own), .sections = "train feed", .run = run,
    .about = "Stopped or killed, it goes on from its last checkpoint, bit for bit. --verify checks the arithmetic against vectors made with PyTorch."};
