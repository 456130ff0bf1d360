#include "base/log.h"
#include "cli/cli.h"

#include <stdlib.h>

struct own {
    char *manifest, *dump;
    int64_t steps, start;
};
static const struct dp_opt rows[] = {
    {.name = "manifest", .type = DP_OPT_STRING, .offset = offsetof(struct own, manifest), .arg = "FILE", .help = "a manifest outside the workspace"},
    {.name = "dump", .type = DP_OPT_STRING, .offset = offsetof(struct own, dump), .arg = "FILE", .help = "write the batches' ids as little-endian int32 (- is stdout)"},
    {.name = "steps", .type = DP_OPT_INT, .offset = offsetof(struct own, steps), .preset = "1", .min = 0, .max = 1e15, .arg = "K", .help = "batches to draw"},
    {.name = "start", .type = DP_OPT_INT, .offset = offsetof(struct own, start), .preset = "0", .min = 0, .max = 1e18, .arg = "SAMPLE", .help = "the first global sample"},
    DP_OPT_END,
};

static int draw(struct dp_cli *c, struct dp_feed *f, struct dp_err *e)
{
    const struct own *o = c->own;
    const struct dp_feed_options *fo = &c->options.feed;
    size_t n = (size_t)fo->batch * ((size_t)fo->seq_len + 1);
    struct dp_feed_state s;
    dp_feed_state(f, &s);
    s.sample = (uint64_t)o->start;
    DP_TRY(dp_feed_resume(f, &s, e));
    int32_t *ids = malloc(n * sizeof *ids);
    FILE *out = !o->dump ? NULL : strcmp(o->dump, "-") == 0 ? stdout : fopen(o->dump, "wbe");
    int rc = ids ? DP_OK : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "batch");
    if (o->dump && !out) rc = dp_err_set(e, DP_IO, errno, __FILE__, __LINE__, "%s: cannot create", o->dump);
    for (int64_t k = 0; rc >= 0 && k < o->steps; k++) {
        rc = dp_feed_next(f, ids, e);
        if (rc >= 0 && out && fwrite(ids, sizeof *ids, n, out) != n) rc = dp_err_set(e, DP_IO, errno, __FILE__, __LINE__, "%s: write", o->dump);
    }
    if (out && out != stdout && fclose(out) != 0 && rc >= 0) rc = dp_err_set(e, DP_IO, errno, __FILE__, __LINE__, "%s: write", o->dump);
    free(ids);
    return rc;
}

static int run(struct dp_cli *c, struct dp_err *e)
{
    const struct own *o = c->own;
    struct dp_feed *f = NULL;
    char *manifest = NULL;
    int rc;
    if (o->manifest) {
        DP_TRY(dp_cli_options(c, e));
        manifest = strdup(o->manifest);
    } else DP_TRY(dp_cli_manifest(c, &manifest, e));
    rc = manifest ? dp_feed_open(&f, manifest, &c->options.feed, e) : DP_NOMEM;
    if (rc >= 0) rc = draw(c, f, e);
    if (rc >= 0 && !(o->dump && strcmp(o->dump, "-") == 0)) {
        struct dp_buf b;
        dp_buf_init(&b, 4096);
        dp_buf_printf(&b, "{\"samples\":%llu,\"tokens\":%llu,\"documents\":%llu,\"vocab_size\":%u,\"next_sample\":%llu}\n", (unsigned long long)dp_feed_samples(f),
                      (unsigned long long)dp_feed_tokens(f), (unsigned long long)dp_feed_documents(f), dp_feed_vocab_size(f),
                      (unsigned long long)(o->start + o->steps * c->options.feed.batch * c->options.feed.world));
        rc = dp_cli_print(&b, e);
        dp_buf_release(&b);
    }
    dp_feed_close(f);
    free(manifest);
    return rc;
}

extern const struct dp_command dp_cmd_feed;
const struct dp_command dp_cmd_feed = {.name = "feed", .summary = "draw batches from the shards, as a trainer would", .args = "", .rows = rows,
    .own_size = sizeof(struct own), .sections = "feed", .run = run};
