/* status: how far the road is, and what went where: documents in, dropped by reason, duplicates, bytes per token, loss. */
#include "base/fs.h"
#include "base/json.h"
#include "cli/cli.h"
#include "daemon/loss_plot.h"

#include <stdlib.h>

enum { STAGES_MAX = 32, LANGS_MAX = 128 };

struct lang {
    char name[8];
    uint64_t docs, bytes, tokens;
};

struct report {
    struct dp_road *road;
    struct dp_buf *out;
    struct {
        char name[32];
        struct dp_stage_counts c;
    } stage[STAGES_MAX];
    size_t stages;
    struct lang lang[LANGS_MAX];
    size_t langs;
    uint64_t units_failed;
    int done;
    struct dp_json *live; /* NULL: no service runs */
};

static int add_counts(void *ctx, const char *stage, const struct dp_stage_counts *n)
{
    struct report *r = ctx;
    size_t i = 0;
    while (i < r->stages && strcmp(r->stage[i].name, stage) != 0) i++;
    if (i == STAGES_MAX) return DP_OK;
    if (i == r->stages) snprintf(r->stage[r->stages++].name, sizeof r->stage[0].name, "%s", stage);
    struct dp_stage_counts *t = &r->stage[i].c;
    t->docs_in += n->docs_in;
    t->docs_out += n->docs_out;
    t->bytes_in += n->bytes_in;
    t->bytes_out += n->bytes_out;
    for (int d = 0; d < DP_DROP_COUNT; d++) {
        t->drop[d] += n->drop[d];
        t->drop_bytes[d] += n->drop_bytes[d];
    }
    return DP_OK;
}

static int unit_row(void *ctx, const struct dp_unit_row *u)
{
    struct report *r = ctx;
    r->units_failed += strcmp(u->state, "failed") == 0;
    return DP_OK;
}

static int add_langs(struct report *r, const char *path, struct dp_err *e)
{
    struct dp_json *v, *l;
    const char *name;
    DP_TRY(dp_json_parse_file(&v, path, 1 << 20, e));
    for (void *it = NULL; (it = dp_json_next(v, it, &name, &l));) {
        size_t i = 0;
        while (i < r->langs && strcmp(r->lang[i].name, name) != 0) i++;
        if (i == LANGS_MAX) continue;
        if (i == r->langs) snprintf(r->lang[r->langs++].name, sizeof r->lang[0].name, "%s", name);
        r->lang[i].docs += (uint64_t)dp_json_int(dp_json_get(l, "documents"), 0);
        r->lang[i].bytes += (uint64_t)dp_json_int(dp_json_get(l, "bytes"), 0);
        r->lang[i].tokens += (uint64_t)dp_json_int(dp_json_get(l, "tokens"), 0);
    }
    dp_json_free(v);
    return DP_OK;
}

static int more_first(const void *a, const void *b)
{
    const struct lang *x = a, *y = b;
    return x->tokens != y->tokens ? (x->tokens < y->tokens ? 1 : -1) : strcmp(x->name, y->name);
}

static int gather(struct report *r, struct dp_err *e)
{
    struct dp_road *road = r->road;
    struct dp_catalog *c = road->ws.catalog;
    for (size_t i = 0; i < road->units; i++) {
        DP_TRY(dp_catalog_counts(c, "ingest", road->unit[i].ingest.hex, add_counts, r, e));
        DP_TRY(dp_catalog_counts(c, "clean", road->unit[i].docs.hex, add_counts, r, e));
    }
    for (size_t i = 0; r->done > DP_STEP_DEDUP && i < road->gens; i++) DP_TRY(dp_catalog_counts(c, "dedup", road->gen[i].dedup.hex, add_counts, r, e));
    for (size_t i = 0; r->done > DP_STEP_TOKENIZE && i < road->groups; i++) {
        char *p = dp_road_path(road, "tokenize", road->group[i].key.hex, "tokens", 0, e);
        int rc = p ? add_langs(r, p, e) : DP_NOTFOUND;
        free(p);
        DP_TRY(rc);
    }
    qsort(r->lang, r->langs, sizeof *r->lang, more_first);
    return dp_catalog_units(c, unit_row, r, e);
}

static int read_loss(struct report *r, struct dp_loss_log *l, struct dp_err *e)
{
    struct dp_buf b;
    char *p = dp_road_path(r->road, "train", r->road->train.hex, "loss", 0, e);
    dp_buf_init(&b, (size_t)1 << 30);
    int rc = p ? dp_fs_read(p, &b, e) : DP_NOTFOUND;
    if (rc >= 0) rc = dp_loss_log_parse(l, dp_buf_span(&b), p, e);
    dp_buf_release(&b);
    free(p);
    return rc;
}

static void print_text(struct report *r, const struct dp_loss_log *loss, uint64_t tokens, uint64_t shards_docs)
{
    struct dp_buf *o = r->out;
    dp_buf_printf(o, "stages up to date: %s\n", r->done == DP_STEPS ? "all" : r->done == 0 ? "none" : dp_step_name((enum dp_step)(r->done - 1)));
    if (r->units_failed) dp_buf_printf(o, "units that failed last: %llu (see `dpipe inspect --units`)\n", (unsigned long long)r->units_failed);
    dp_buf_printf(o, "\n%-22s %12s %12s %12s %14s\n", "stage", "documents in", "out", "dropped", "bytes out");
    for (size_t i = 0; i < r->stages; i++) {
        const struct dp_stage_counts *c = &r->stage[i].c;
        dp_buf_printf(o, "%-22s %12llu %12llu %12llu %14llu\n", r->stage[i].name, (unsigned long long)c->docs_in, (unsigned long long)c->docs_out,
                      (unsigned long long)(c->docs_in - c->docs_out), (unsigned long long)c->bytes_out);
        for (int d = 1; d < DP_DROP_COUNT; d++)
            if (c->drop[d]) dp_buf_printf(o, "    %-45s %12llu  %s\n", dp_drop_name((enum dp_drop)d), (unsigned long long)c->drop[d], dp_drop_help((enum dp_drop)d));
    }
    if (r->langs) {
        dp_buf_printf(o, "\n%-10s %10s %14s %14s %16s\n", "language", "documents", "bytes", "tokens", "bytes per token");
        for (size_t i = 0; i < r->langs && i < 16; i++)
            dp_buf_printf(o, "%-10s %10llu %14llu %14llu %16.3f\n", r->lang[i].name, (unsigned long long)r->lang[i].docs, (unsigned long long)r->lang[i].bytes,
                          (unsigned long long)r->lang[i].tokens, r->lang[i].tokens ? (double)r->lang[i].bytes / (double)r->lang[i].tokens : 0);
    }
    if (r->done > DP_STEP_SHARD) dp_buf_printf(o, "\nshards: %llu documents, %llu tokens\n", (unsigned long long)shards_docs, (unsigned long long)tokens);
    if (loss->n) {
        dp_buf_printf(o, "\nloss: %.4f at the first step, %.4f at the last", loss->loss[0], loss->loss[loss->n - 1]);
        if (loss->n_val) dp_buf_printf(o, "; validation %.4f to %.4f", loss->val_loss[0], loss->val_loss[loss->n_val - 1]);
        dp_buf_add_str(o, "\n\n");
        const char *lang = getenv("LC_ALL") && *getenv("LC_ALL") ? getenv("LC_ALL") : getenv("LANG");
        dp_loss_plot_text(loss, 72, 16, !(lang && (strstr(lang, "UTF-8") || strstr(lang, "utf8"))), o);
    }
}

static void print_live_json(struct dp_jsonw *w, const struct dp_json *live);
static void json_stage(struct dp_jsonw *w, const char *name, const struct dp_stage_counts *c)
{
    dp_jsonw_begin(w, '{');
    dp_jsonw_key(w, "stage");
    dp_jsonw_cstr(w, name);
    dp_jsonw_member_uint(w, "documents_in", c->docs_in);
    dp_jsonw_member_uint(w, "documents_out", c->docs_out);
    dp_jsonw_member_uint(w, "bytes_in", c->bytes_in);
    dp_jsonw_member_uint(w, "bytes_out", c->bytes_out);
    dp_jsonw_key(w, "dropped");
    dp_jsonw_begin(w, '{');
    for (int d = 1; d < DP_DROP_COUNT; d++)
        if (c->drop[d]) dp_jsonw_member_uint(w, dp_drop_name((enum dp_drop)d), c->drop[d]);
    dp_jsonw_end(w, '}');
    dp_jsonw_end(w, '}');
}

static void json_loss(struct dp_jsonw *w, const struct dp_loss_log *loss)
{
    dp_jsonw_key(w, "loss");
    dp_jsonw_begin(w, '{');
    dp_jsonw_member_uint(w, "steps", loss->n);
    dp_jsonw_key(w, "first");
    dp_jsonw_real(w, loss->loss[0]);
    dp_jsonw_key(w, "last");
    dp_jsonw_real(w, loss->loss[loss->n - 1]);
    if (loss->n_val) {
        dp_jsonw_key(w, "validation");
        dp_jsonw_real(w, loss->val_loss[loss->n_val - 1]);
    }
    dp_jsonw_end(w, '}');
}

static void print_json(struct report *r, const struct dp_loss_log *loss, uint64_t tokens, uint64_t shards_docs)
{
    struct dp_jsonw w;
    dp_jsonw_init(&w, r->out, 2);
    dp_jsonw_begin(&w, '{');
    dp_jsonw_key(&w, "complete");
    dp_jsonw_begin(&w, '[');
    for (int s = 0; s < r->done; s++) dp_jsonw_cstr(&w, dp_step_name((enum dp_step)s));
    dp_jsonw_end(&w, ']');
    print_live_json(&w, r->live);
    dp_jsonw_member_uint(&w, "units_failed", r->units_failed);
    dp_jsonw_key(&w, "stages");
    dp_jsonw_begin(&w, '[');
    for (size_t i = 0; i < r->stages; i++) json_stage(&w, r->stage[i].name, &r->stage[i].c);
    dp_jsonw_end(&w, ']');
    dp_jsonw_key(&w, "languages");
    dp_jsonw_begin(&w, '{');
    for (size_t i = 0; i < r->langs; i++) {
        dp_jsonw_key(&w, r->lang[i].name);
        dp_jsonw_begin(&w, '{');
        dp_jsonw_member_uint(&w, "documents", r->lang[i].docs);
        dp_jsonw_member_uint(&w, "bytes", r->lang[i].bytes);
        dp_jsonw_member_uint(&w, "tokens", r->lang[i].tokens);
        dp_jsonw_end(&w, '}');
    }
    dp_jsonw_end(&w, '}');
    dp_jsonw_key(&w, "shards");
    dp_jsonw_begin(&w, '{');
    dp_jsonw_member_uint(&w, "documents", shards_docs);
    dp_jsonw_member_uint(&w, "tokens", tokens);
    dp_jsonw_end(&w, '}');
    if (loss->n) json_loss(&w, loss);
    dp_jsonw_end(&w, '}');
    dp_buf_add_char(r->out, '\n');
}

static void print_served_text(const struct dp_json *v, struct dp_buf *b)
{
    const struct dp_json *f = dp_json_get(v, "feed"), *clients = f ? dp_json_get(f, "clients") : NULL;
    if (!f) return;
    struct dp_span addr = dp_json_str(dp_json_get(f, "address"));
    dp_buf_printf(b, "feed: %.*s, %zu trainers, %lld batches\n", DP_SPAN_FMT(addr), dp_json_count(clients), (long long)dp_json_int(dp_json_get(f, "batches"), 0));
    for (size_t i = 0; i < dp_json_count(clients); i++) {
        const struct dp_json *k = dp_json_at(clients, i);
        struct dp_span peer = dp_json_str(dp_json_get(k, "peer"));
        dp_buf_printf(b, "  rank %lld of %lld (%.*s): sample %lld, %.2f M ids/s\n", (long long)dp_json_int(dp_json_get(k, "rank"), 0),
                      (long long)dp_json_int(dp_json_get(k, "world"), 0), DP_SPAN_FMT(peer), (long long)dp_json_int(dp_json_get(k, "sample"), 0),
                      1e-6 * dp_json_real(dp_json_get(k, "ids_per_s"), 0));
    }
}

static void print_live_text(const struct dp_json *v, struct dp_buf *b)
{
    const struct dp_json *p = dp_json_get(v, "progress");
    struct dp_span state = dp_json_str(dp_json_get(v, "state")), error = dp_json_str(dp_json_get(v, "error"));
    dp_buf_printf(b, "service: %.*s (process %lld, up %lld s), %lld units", DP_SPAN_FMT(state), (long long)dp_json_int(dp_json_get(v, "pid"), 0),
                  (long long)dp_json_int(dp_json_get(v, "uptime_s"), 0), (long long)dp_json_int(dp_json_get(v, "units"), 0));
    int64_t generation = dp_json_int(dp_json_get(v, "generation"), 0), gathering = dp_json_int(dp_json_get(v, "units_gathering"), 0);
    if (generation) dp_buf_printf(b, " in %lld generation%s", (long long)generation, generation == 1 ? "" : "s");
    if (gathering) dp_buf_printf(b, ", %lld gather for the next one", (long long)gathering);
    int64_t waiting = dp_json_int(dp_json_get(v, "units_waiting"), 0), given_up = dp_json_int(dp_json_get(v, "units_given_up"), 0);
    if (waiting) dp_buf_printf(b, ", %lld wait for a retry", (long long)waiting);
    if (given_up) dp_buf_printf(b, ", %lld given up (`dpipe job list --state failed`, `dpipe job retry`)", (long long)given_up);
    dp_buf_add_char(b, '\n');
    if (p) {
        struct dp_span step = dp_json_str(dp_json_get(p, "step")), unit = dp_json_str(dp_json_get(p, "unit"));
        dp_buf_printf(b, "now: %.*s, %lld", DP_SPAN_FMT(step), (long long)dp_json_int(dp_json_get(p, "done"), 0));
        if (dp_json_int(dp_json_get(p, "total"), 0)) dp_buf_printf(b, " of %lld", (long long)dp_json_int(dp_json_get(p, "total"), 0));
        dp_buf_printf(b, " %.*s\n", DP_SPAN_FMT(unit));
    }
    if (error.len) dp_buf_printf(b, "last error: %.*s\n", DP_SPAN_FMT(error));
    print_served_text(v, b);
    dp_buf_add_char(b, '\n');
}

/* What the service says of itself, when there is one: a line or two above the report. */
static struct dp_json *ask_live(struct dp_cli *c)
{
    struct dp_err ignored;
    struct dp_json *v = NULL;
    return dp_ask_service(c->global.workspace, dp_span_str("{\"op\":\"status\"}"), NULL, NULL, &v, &ignored) >= 0 ? v : NULL;
}

static void print_served_json(struct dp_jsonw *w, const struct dp_json *feed)
{
    static const char *const totals[] = {"port", "accepted", "refused", "batches", "ids"};
    static const char *const numbers[] = {"rank", "world", "batch", "seq_len", "sample", "batches"};
    const struct dp_json *clients = dp_json_get(feed, "clients");
    dp_jsonw_key(w, "feed");
    dp_jsonw_begin(w, '{');
    dp_jsonw_key(w, "address");
    dp_jsonw_str(w, dp_json_str(dp_json_get(feed, "address")));
    for (size_t i = 0; i < sizeof totals / sizeof *totals; i++) {
        dp_jsonw_key(w, totals[i]);
        dp_jsonw_int(w, dp_json_int(dp_json_get(feed, totals[i]), 0));
    }
    dp_jsonw_key(w, "clients");
    dp_jsonw_begin(w, '[');
    for (size_t i = 0; i < dp_json_count(clients); i++) {
        const struct dp_json *k = dp_json_at(clients, i);
        dp_jsonw_begin(w, '{');
        dp_jsonw_key(w, "peer");
        dp_jsonw_str(w, dp_json_str(dp_json_get(k, "peer")));
        for (size_t n = 0; n < sizeof numbers / sizeof *numbers; n++) {
            dp_jsonw_key(w, numbers[n]);
            dp_jsonw_int(w, dp_json_int(dp_json_get(k, numbers[n]), 0));
        }
        dp_jsonw_key(w, "ids_per_s");
        dp_jsonw_real(w, dp_json_real(dp_json_get(k, "ids_per_s"), 0));
        dp_jsonw_end(w, '}');
    }
    dp_jsonw_end(w, ']');
    dp_jsonw_end(w, '}');
}

static void print_live_json(struct dp_jsonw *w, const struct dp_json *live)
{
    static const char *const numbers[] = {"pid", "uptime_s", "generation", "units", "units_gathering", "units_waiting", "units_given_up", "passes", "behind_since", "retry_at", "disk_free", "disk_low_mark"};
    dp_jsonw_key(w, "service");
    if (!live) {
        dp_jsonw_null(w);
        return;
    }
    dp_jsonw_begin(w, '{');
    dp_jsonw_key(w, "state");
    dp_jsonw_str(w, dp_json_str(dp_json_get(live, "state")));
    dp_jsonw_key(w, "ready");
    dp_jsonw_bool(w, dp_json_bool(dp_json_get(live, "ready"), false));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        dp_jsonw_key(w, numbers[i]);
        dp_jsonw_int(w, dp_json_int(dp_json_get(live, numbers[i]), 0));
    }
    struct dp_span error = dp_json_str(dp_json_get(live, "error"));
    if (error.len) {
        dp_jsonw_key(w, "error");
        dp_jsonw_str(w, error);
    }
    if (dp_json_get(live, "feed")) print_served_json(w, dp_json_get(live, "feed"));
    dp_jsonw_end(w, '}');
}

static int run(struct dp_cli *c, struct dp_err *e)
{
    struct report *r = calloc(1, sizeof *r);
    struct dp_buf b;
    struct dp_loss_log loss = {0};
    struct dp_found m = {0};
    if (!r) DP_FAIL(e, NOMEM, "status");
    dp_buf_init(&b, 16 << 20);
    int rc = dp_cli_road(c, false, e);
    if (rc >= 0) rc = dp_road_survey(&c->road, e);
    if (rc >= 0) {
        *r = (struct report){.road = &c->road, .out = &b, .done = rc, .live = ask_live(c)};
        if (r->live && !c->global.json) print_live_text(r->live, &b);
        rc = gather(r, e);
    }
    if (rc >= 0 && r->done > DP_STEP_SHARD) rc = dp_road_find(&c->road, "shard", c->road.shard.hex, "manifest", 0, &m, e);
    if (rc >= 0 && r->done == DP_STEPS) rc = read_loss(r, &loss, e);
    if (rc >= 0) {
        (c->global.json ? print_json : print_text)(r, &loss, (uint64_t)m.payload, (uint64_t)m.docs);
        rc = dp_cli_print(&b, e);
    }
    dp_found_release(&m);
    dp_loss_log_release(&loss);
    dp_buf_release(&b);
    dp_json_free(r->live);
    free(r);
    return rc < 0 ? rc : DP_OK;
}

extern const struct dp_command dp_cmd_status;
const struct dp_command dp_cmd_status = {.name = "status", .summary = "how far the road is, and what went where", .args = "", .run = run,
    .about = "With a service at work (dpipe serve) its live state first. Documents in and out of every stage, dropped ones by reason, duplicates, bytes per token by language, tokens, and the loss curve."};
