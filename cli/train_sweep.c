/* --sweep "NAME=V,V... NAME=V,V...": every combination, one run after the other, and a table with the best first. Each is a run like any other, in its own
 * folder below --out: a sweep that was stopped goes on where it was. */
#include "cli/train_direct.h"

#include "base/json.h"
#include "base/progress.h"

#include <math.h>
#include <stdlib.h>

enum { AXES_MAX = 8, RUNS_MAX = 1000 };

struct axis {
    const struct dp_opt *row;
    char **value;
    size_t n;
};
struct grid {
    char *text;
    struct axis axis[AXES_MAX];
    size_t axes, runs;
};
struct entry {
    size_t number;
    char what[200];
    bool diverged;
    struct dp_direct_result r;
};

static void grid_release(struct grid *g)
{
    for (size_t i = 0; i < g->axes; i++) free(g->axis[i].value);
    free(g->text);
}

static int add_axis(struct grid *g, char *word, struct dp_err *e)
{
    static const char *const others[][2] = {{"width", "dim"}, {"depth", "layers"}};
    char *eq = strchr(word, '='), *save = NULL;
    if (!eq || eq == word || !eq[1]) DP_FAIL(e, USAGE, "--sweep: \"%s\" is no NAME=VALUE,VALUE", word);
    if (g->axes == AXES_MAX) DP_FAIL(e, USAGE, "--sweep: at most %d options", AXES_MAX);
    *eq = 0;
    const char *name = word;
    for (size_t i = 0; i < 2; i++)
        if (strcmp(name, others[i][0]) == 0) name = others[i][1];
    struct axis *x = &g->axis[g->axes++];
    const char *words[128];
    size_t n = 0;
    for (const struct dp_opt *r = dp_train_opts; r->name && n < 128; r++) words[n++] = r->name;
    if (!(x->row = dp_opt_find(dp_train_opts, dp_span_str(name)))) {
        const char *near = dp_opt_nearest(dp_span_str(name), words, n);
        DP_FAIL(e, USAGE, "--sweep: train has no option \"%s\"%s%s", name, near ? "; did you mean " : "; see `dpipe train --help`", near ? near : "");
    }
    if (!(x->value = calloc(strlen(eq + 1) + 1, sizeof *x->value))) DP_FAIL(e, NOMEM, "sweep");
    for (char *v = strtok_r(eq + 1, ",", &save); v; v = strtok_r(NULL, ",", &save)) x->value[x->n++] = v;
    g->runs *= x->n;
    if (!x->n || g->runs > RUNS_MAX) DP_FAIL(e, USAGE, "--sweep: from 1 to %d runs", RUNS_MAX);
    return DP_OK;
}

static int parse_grid(struct grid *g, const char *text, struct dp_err *e)
{
    *g = (struct grid){.runs = 1, .text = strdup(text)};
    char *save = NULL;
    if (!g->text) DP_FAIL(e, NOMEM, "sweep");
    for (char *w = strtok_r(g->text, " ;", &save); w; w = strtok_r(NULL, " ;", &save)) DP_TRY(add_axis(g, w, e));
    if (!g->axes) DP_FAIL(e, USAGE, "--sweep wants \"NAME=VALUE,VALUE ...\"");
    return DP_OK;
}

/* Options of run k; the last axis turns fastest. */
static int choose(const struct grid *g, size_t k, struct dp_train_options *o, char *what, size_t room, struct dp_err *e)
{
    size_t per = g->runs, len = 0;
    what[0] = 0;
    for (size_t i = 0; i < g->axes; i++) {
        const struct axis *x = &g->axis[i];
        per /= x->n;
        const char *v = x->value[k / per % x->n];
        DP_TRY(dp_opt_set(x->row, o, dp_span_str(v), "--sweep", e));
        int n = snprintf(what + len, room - len, "%s%s=%s", i ? " " : "", x->row->name, v);
        len += n > 0 && (size_t)n < room - len ? (size_t)n : 0;
    }
    return DP_OK;
}

/* PATH with the run's number before its ending; NULL for NULL. */
static char *numbered(const char *path, size_t number)
{
    char *out = NULL;
    const char *dot = path ? strrchr(path, '.') : NULL;
    if (dot && strchr(dot, '/')) dot = NULL;
    size_t stem = dot ? (size_t)(dot - path) : path ? strlen(path) : 0;
    if (path && asprintf(&out, "%.*s-%zu%s", (int)stem, path, number, dot ? dot : "") < 0) out = NULL;
    return out;
}

static int run_one(struct dp_direct *d, struct entry *t, struct dp_err *e)
{
    const struct dp_train_args *a = d->a;
    char *out = NULL, *log = numbered(a->log, t->number), *plot = numbered(a->plot, t->number);
    if (a->out && asprintf(&out, "%s/%03zu %s", a->out, t->number, t->what) < 0) DP_FAIL(e, NOMEM, "sweep");
    for (char *p = out ? out + strlen(a->out) + 1 : NULL; p && *p; p++)
        if (*p == ' ' || *p == '/') *p = '_';
    if (out && !log && asprintf(&log, "%s/log.jsonl", out) < 0) log = NULL;
    if (out && !plot && asprintf(&plot, "%s/loss.svg", out) < 0) plot = NULL;
    int rc = dp_direct_run(d, out, log, plot, &t->r, NULL, e);
    if (rc == DP_CORRUPT && strstr(e->msg, "diverged")) {
        t->diverged = true;
        rc = DP_OK;
    }
    if (rc < 0) dp_err_prefix(e, "run %zu (%s)", t->number, t->what);
    free(out);
    free(log);
    free(plot);
    return rc;
}

/* The measure of the table: validation loss, or where there is none the loss. */
static double score(const struct entry *t)
{
    double v = isnan(t->r.loop.val_loss) ? t->r.loop.loss : t->r.loop.val_loss;
    return t->diverged || isnan(v) ? (double)INFINITY : v;
}

static int better(const void *x, const void *y)
{
    const struct entry *a = x, *b = y;
    double s = score(a), t = score(b);
    return s < t ? -1 : s > t ? 1 : (a->number > b->number) - (a->number < b->number);
}

static void table_json(const struct entry *v, size_t n, struct dp_buf *b)
{
    struct dp_jsonw w;
    dp_jsonw_init(&w, b, 0);
    dp_jsonw_begin(&w, '[');
    for (size_t i = 0; i < n; i++) {
        const struct dp_loop *l = &v[i].r.loop;
        dp_jsonw_begin(&w, '{');
        dp_jsonw_member_uint(&w, "run", v[i].number);
        dp_jsonw_member(&w, "options", v[i].what);
        dp_jsonw_member_uint(&w, "parameters", v[i].r.params);
        dp_jsonw_member_int(&w, "steps", v[i].r.steps);
        dp_jsonw_member_real(&w, "loss", l->loss); /* NaN is null */
        dp_jsonw_member_real(&w, "val_loss", l->val_loss);
        dp_jsonw_member_real(&w, "bits_per_byte", l->bits_per_byte);
        dp_jsonw_member_real(&w, "tokens_per_s", l->rate);
        dp_jsonw_member_real(&w, "mfu", l->mfu);
        dp_jsonw_member_real(&w, "seconds", l->seconds);
        dp_jsonw_member_bool(&w, "diverged", v[i].diverged);
        dp_jsonw_end(&w, '}');
    }
    dp_jsonw_end(&w, ']');
    dp_buf_add_char(b, '\n');
}

static void figure(struct dp_buf *b, double v)
{
    if (isfinite(v)) dp_buf_printf(b, "%10.4f", v);
    else dp_buf_printf(b, "%10s", "-");
}

static void table_text(const struct entry *v, size_t n, struct dp_buf *b)
{
    int width = 8;
    for (size_t i = 0; i < n; i++)
        if ((int)strlen(v[i].what) > width) width = (int)strlen(v[i].what);
    dp_buf_printf(b, "run  %-*s  parameters    val loss      loss  bits/byte  tokens/s  MFU\n", width, "options");
    for (size_t i = 0; i < n; i++) {
        const struct dp_loop *l = &v[i].r.loop;
        dp_buf_printf(b, "%3zu  %-*s  %10llu  ", v[i].number, width, v[i].what, (unsigned long long)v[i].r.params);
        figure(b, l->val_loss);
        figure(b, l->loss);
        dp_buf_add_char(b, ' ');
        figure(b, l->bits_per_byte);
        dp_buf_printf(b, "%10.0f %3.0f%%%s\n", l->rate, 100 * l->mfu, v[i].diverged ? "  diverged" : "");
    }
}

int dp_train_sweep(struct dp_direct *d, struct dp_err *e)
{
    struct grid g;
    struct entry *v = NULL;
    struct dp_buf b;
    size_t done = 0;
    dp_buf_init(&b, 16 << 20);
    int rc = parse_grid(&g, d->a->sweep, e);
    if (rc >= 0 && !(v = calloc(g.runs, sizeof *v))) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "sweep");
    for (size_t k = 0; rc >= 0 && k < g.runs; k++) { /* values that are none are known before the first run */
        v[k].number = k + 1;
        rc = choose(&g, k, &d->c->options.train, v[k].what, sizeof v[k].what, e);
    }
    for (; rc >= 0 && done < g.runs; done++) {
        rc = choose(&g, done, &d->c->options.train, v[done].what, sizeof v[done].what, e);
        if (rc >= 0) rc = run_one(d, &v[done], e);
        if (rc < 0) break;
    }
    if (rc >= 0 || rc == DP_STOPPED) {
        qsort(v, done, sizeof *v, better);
        if (d->c->global.json) table_json(v, done, &b);
        else table_text(v, done, &b);
        struct dp_err other = {0};
        int printed = dp_cli_print(&b, &other);
        if (rc >= 0 && printed < 0) {
            rc = printed;
            *e = other;
        }
    }
    dp_buf_release(&b);
    free(v);
    grid_release(&g);
    return rc;
}
