/* quarantine: documents that killed their worker process. */
#include "base/json.h"
#include "cli/cli.h"
#include "daemon/quarantine.h"

#include <stdlib.h>
#include <time.h>

struct own {
    bool all, bytes;
};
static const struct dp_opt rows[] = {
    {.name = "all", .type = DP_OPT_BOOL, .offset = offsetof(struct own, all), .help = "retry, drop: every document in quarantine"},
    {.name = "bytes", .type = DP_OPT_BOOL, .offset = offsetof(struct own, bytes), .help = "show: the document as it was read, instead of what is known of it"},
    DP_OPT_END,
};

/* Names are copied first: an action changes the folder that is being walked. */
struct names {
    const char *want; /* a name or its beginning; NULL: all */
    struct dp_strings found;
};

static int add_name(void *ctx, const struct dp_quarantined *q, struct dp_err *e)
{
    struct names *n = ctx;
    return !n->want || strncmp(q->name, n->want, strlen(n->want)) == 0 ? dp_strings_add(&n->found, q->name, e) : DP_OK;
}

struct print {
    struct dp_buf *out;
    bool json;
    uint64_t n;
};

static void print_json(const struct dp_quarantined *q, struct dp_buf *out)
{
    struct dp_jsonw w;
    const struct {
        const char *key, *value;
    } text[] = {{"name", q->name}, {"path", q->path}, {"position", q->position}, {"url", q->url}, {"id", q->id}, {"unit", q->unit},
                {"stage", q->stage}, {"reason", q->reason}, {"what", q->what}, {"state", q->state}};
    const struct {
        const char *key;
        int64_t value;
    } number[] = {{"records_before", q->rows}, {"attempts", q->attempts}, {"time", q->time}, {"bytes", q->bytes}};
    dp_jsonw_init(&w, out, 0);
    dp_jsonw_begin(&w, '{');
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        dp_jsonw_key(&w, text[i].key);
        dp_jsonw_cstr(&w, text[i].value);
    }
    for (size_t i = 0; i < sizeof number / sizeof *number; i++) {
        dp_jsonw_key(&w, number[i].key);
        dp_jsonw_int(&w, number[i].value);
    }
    dp_jsonw_end(&w, '}');
    dp_buf_add_char(out, '\n');
}

/* Bytes of a hostile document's names don't reach the terminal. */
static void print_plain(struct dp_buf *out, const char *s)
{
    for (; *s; s++) dp_buf_add_char(out, (unsigned char)*s < 0x20 || *s == 0x7f ? '?' : *s);
}

static int print_entry(void *ctx, const struct dp_quarantined *q, struct dp_err *e)
{
    struct print *p = ctx;
    (void)e;
    p->n++;
    if (p->json) {
        print_json(q, p->out);
        return DP_OK;
    }
    char when[32] = "";
    time_t t = (time_t)q->time;
    struct tm tm;
    if (gmtime_r(&t, &tm)) strftime(when, sizeof when, "%Y-%m-%d %H:%M:%SZ", &tm);
    dp_buf_printf(p->out, "%s  %s  %s in stage %s (%s), %lld attempts%s\n    ", q->name, when, q->reason, q->stage, q->what, (long long)q->attempts,
                  strcmp(q->state, "retry") == 0 ? ", to be tried again" : "");
    print_plain(p->out, q->path);
    if (*q->position) {
        dp_buf_add_str(p->out, ", record ");
        print_plain(p->out, q->position);
        dp_buf_printf(p->out, ", %lld bytes", (long long)q->bytes);
    } else dp_buf_printf(p->out, ", all behind record %lld", (long long)q->rows);
    if (*q->url) {
        dp_buf_add_str(p->out, "\n    ");
        print_plain(p->out, q->url);
    }
    dp_buf_add_char(p->out, '\n');
    return DP_OK;
}

static int list(struct dp_cli *c, struct dp_buf *out, struct dp_err *e)
{
    struct print p = {out, c->global.json, 0};
    DP_TRY(dp_quarantine_each(&c->road.ws, print_entry, &p, e));
    if (!p.n && !c->global.json) dp_buf_add_str(out, "nothing is in quarantine\n");
    return DP_OK;
}

/* What the arguments name; a beginning of a name will do where it is the only one. */
static int find(struct dp_cli *c, struct names *n, struct dp_err *e)
{
    const struct own *o = c->own;
    if (o->all) return dp_quarantine_each(&c->road.ws, add_name, n, e);
    if (c->nargs < 2) DP_FAIL(e, USAGE, "dpipe quarantine %s wants a NAME, as `dpipe quarantine list` prints it", c->args[0]);
    for (size_t i = 1; i < c->nargs; i++) {
        size_t before = n->found.n;
        n->want = c->args[i];
        DP_TRY(dp_quarantine_each(&c->road.ws, add_name, n, e));
        if (n->found.n == before) DP_FAIL(e, NOTFOUND, "%s is not in quarantine; `dpipe quarantine list` says what is", c->args[i]);
        if (n->found.n > before + 1) DP_FAIL(e, USAGE, "%s is the beginning of %zu names: say more of it", c->args[i], n->found.n - before);
    }
    return DP_OK;
}

static int act(struct dp_cli *c, const char *verb, struct names *n, struct dp_buf *out, struct dp_err *e)
{
    const struct own *o = c->own;
    struct dp_workspace *w = &c->road.ws;
    struct print p = {out, c->global.json, 0};
    bool show = strcmp(verb, "show") == 0, drop = strcmp(verb, "drop") == 0;
    if (!show && !drop) DP_TRY(dp_quarantine_retry(w, (const char *const *)n->found.v, n->found.n, e));
    for (size_t i = 0; i < n->found.n; i++) {
        const char *name = n->found.v[i];
        if (show && o->bytes) DP_TRY(dp_quarantine_bytes(w, name, out, e));
        else if (show) DP_TRY(dp_quarantine_one(w, name, print_entry, &p, e));
        else if (drop) DP_TRY(dp_quarantine_remove(w, name, e));
    }
    if (show) return DP_OK;
    const char *done = drop ? "dropped" : "to be tried again by the next run";
    if (c->global.json) dp_buf_printf(out, "{\"%s\":%zu}\n", verb, n->found.n);
    else dp_buf_printf(out, "%zu documents %s\n", n->found.n, done);
    return DP_OK;
}

static int run(struct dp_cli *c, struct dp_err *e)
{
    const char *verb = c->nargs ? c->args[0] : "list";
    bool write = strcmp(verb, "retry") == 0 || strcmp(verb, "drop") == 0;
    if (!write && strcmp(verb, "list") != 0 && strcmp(verb, "show") != 0)
        DP_FAIL(e, USAGE, "dpipe quarantine: there is no \"%s\"; it knows list, show, retry and drop", verb);
    struct names n = {NULL, {NULL, 0}};
    struct dp_buf out;
    dp_buf_init(&out, (size_t)1 << 30);
    int rc = dp_cli_road(c, write, e);
    if (rc >= 0) rc = strcmp(verb, "list") == 0 ? list(c, &out, e) : find(c, &n, e);
    if (rc >= 0 && strcmp(verb, "list") != 0) rc = act(c, verb, &n, &out, e);
    if (rc >= 0) rc = dp_cli_print(&out, e);
    dp_strings_release(&n.found);
    dp_buf_release(&out);
    return rc;
}

extern const struct dp_command dp_cmd_quarantine;
const struct dp_command dp_cmd_quarantine = {.name = "quarantine", .summary = "documents that killed their worker process: list, show, retry, drop",
    .args = "[list | show NAME | retry NAME... | drop NAME...]", .rows = rows, .own_size = sizeof(struct own), .args_min = 0, .args_max = -1, .run = run,
    .about = "A document that crashes its worker process, or takes too much time or memory (see the recipe's section workers), is left out of its\n"
             "unit, counted as dropped for `quarantined`, and kept here with its bytes. `show --bytes` prints them; `retry` makes its unit, and all that\n"
             "depends on it, anew with the next run; `drop` forgets the bytes: the document stays left out. Where reading itself died there are no\n"
             "bytes, and the rest of the file is left out. NAME may be cut short where it stays clear."};
