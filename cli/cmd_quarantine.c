/* quarantine: documents that killed their worker process. */
#include "base/json.h"
#include "cli/cli.h"
#include "daemon/quarantine.h"

#include <stdlib.h>
#include <time.h>

struct own {
    bool all, bytes;
    int64_t limit;
    char *after;
};
static const struct dp_opt rows[] = {
    {.name = "all", .type = DP_OPT_BOOL, .offset = offsetof(struct own, all), .help = "retry, drop: every document in quarantine"},
    {.name = "bytes", .type = DP_OPT_BOOL, .offset = offsetof(struct own, bytes), .help = "show: the document as it was read, instead of what is known of it"},
    {.name = "limit", .type = DP_OPT_INT, .offset = offsetof(struct own, limit), .preset = "-1", .min = -1, .max = 1e12, .arg = "N",
     .help = "list: at most so many; 0: all. Without it 100, or all with --json"},
    {.name = "after", .type = DP_OPT_STRING, .offset = offsetof(struct own, after), .arg = "NAME", .help = "list: from behind this one on"},
    DP_OPT_END,
};

enum { FLUSH = 1 << 20 };

struct print {
    struct dp_buf *out;
    bool json;
    size_t n;
    char last[DP_QUARANTINE_NAME];
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

static void print_entry_text(struct dp_buf *out, const struct dp_quarantined *q)
{
    char when[32] = "";
    time_t t = (time_t)q->time;
    struct tm tm;
    if (gmtime_r(&t, &tm)) strftime(when, sizeof when, "%Y-%m-%d %H:%M:%SZ", &tm);
    dp_buf_printf(out, "%s  %s  %s in stage %s (%s), %lld attempts%s\n    ", q->name, when, q->reason, q->stage, q->what, (long long)q->attempts,
                  strcmp(q->state, "retry") == 0 ? ", to be tried again" : "");
    print_plain(out, q->path);
    if (*q->position) {
        dp_buf_add_str(out, ", record ");
        print_plain(out, q->position);
        dp_buf_printf(out, ", %lld bytes", (long long)q->bytes);
    } else dp_buf_printf(out, ", all behind record %lld", (long long)q->rows);
    if (*q->url) {
        dp_buf_add_str(out, "\n    ");
        print_plain(out, q->url);
    }
    dp_buf_add_char(out, '\n');
}

static int print_entry(void *ctx, const struct dp_quarantined *q, struct dp_err *e)
{
    struct print *p = ctx;
    p->n++;
    memcpy(p->last, q->name, sizeof p->last);
    if (p->json) print_json(q, p->out);
    else print_entry_text(p->out, q);
    if (p->out->len < FLUSH) return DP_OK;
    int rc = dp_cli_print(p->out, e);
    dp_buf_clear(p->out);
    return rc;
}

static int list(struct dp_cli *c, struct dp_buf *out, struct dp_err *e)
{
    const struct own *o = c->own;
    struct print p = {.out = out, .json = c->global.json};
    struct dp_quarantine_page page = {.after = o->after, .limit = o->limit >= 0 ? (size_t)o->limit : c->global.json ? 0 : 100};
    size_t all = 0;
    DP_TRY(dp_quarantine_each(&c->road.ws, &page, print_entry, &p, e));
    DP_TRY(dp_cli_print(out, e));
    dp_buf_clear(out);
    if (c->global.json) return DP_OK;
    if (p.n && p.n == page.limit) DP_TRY(dp_quarantine_count(&c->road.ws, &all, e));
    if (!p.n) dp_buf_add_str(out, o->after ? "nothing more is in quarantine\n" : "nothing is in quarantine\n");
    else if (all > p.n) dp_buf_printf(out, "%zu of %zu in quarantine; more: --after %s, or --limit 0\n", p.n, all, p.last);
    return DP_OK;
}

static int show(struct dp_cli *c, struct dp_buf *out, struct dp_err *e)
{
    const struct own *o = c->own;
    struct print p = {.out = out, .json = c->global.json};
    char name[DP_QUARANTINE_NAME];
    if (c->nargs < 2) DP_FAIL(e, USAGE, "dpipe quarantine show wants a NAME, as `dpipe quarantine list` prints it");
    for (size_t i = 1; i < c->nargs; i++) {
        DP_TRY(dp_quarantine_find(&c->road.ws, c->args[i], name, e));
        DP_TRY(o->bytes ? dp_quarantine_bytes(&c->road.ws, name, out, e) : dp_quarantine_one(&c->road.ws, name, print_entry, &p, e));
    }
    return DP_OK;
}

/* The workspace is a service's: it does what is asked, one name a request. `done` counts. */
static int ask(struct dp_cli *c, const char *verb, const char *name, size_t *done, struct dp_err *e)
{
    struct dp_buf b;
    struct dp_jsonw w;
    struct dp_json *end;
    char op[32];
    snprintf(op, sizeof op, "quarantine.%s", verb);
    dp_buf_init(&b, 65536);
    dp_jsonw_init(&w, &b, 0);
    dp_jsonw_begin(&w, '{');
    dp_jsonw_key(&w, "op");
    dp_jsonw_cstr(&w, op);
    dp_jsonw_key(&w, name ? "name" : "all");
    if (name) dp_jsonw_cstr(&w, name);
    else dp_jsonw_bool(&w, true);
    dp_jsonw_end(&w, '}');
    int rc = dp_ask_service(c->global.workspace, dp_buf_span(&b), NULL, NULL, &end, e);
    dp_buf_release(&b);
    DP_TRY(rc);
    *done += (size_t)dp_json_int(dp_json_get(end, "documents"), 0);
    dp_json_free(end);
    return DP_OK;
}

static int act_on(struct dp_workspace *w, bool drop, const char *begin, size_t *done, struct dp_err *e)
{
    char name[DP_QUARANTINE_NAME];
    const char *const names[] = {name};
    size_t n = 0;
    if (begin) DP_TRY(dp_quarantine_find(w, begin, name, e));
    int rc = drop ? dp_quarantine_drop(w, begin ? names : NULL, 1, &n, e) : dp_quarantine_retry(w, begin ? names : NULL, 1, &n, e);
    *done += n;
    return rc;
}

static int act(struct dp_cli *c, const char *verb, struct dp_buf *out, struct dp_err *e)
{
    const struct own *o = c->own;
    bool drop = strcmp(verb, "drop") == 0;
    size_t done = 0;
    if (c->nargs < 2 && !o->all) DP_FAIL(e, USAGE, "dpipe quarantine %s wants a NAME, as `dpipe quarantine list` prints it, or --all", verb);
    bool served = dp_service_runs(c->global.workspace);
    if (!served) DP_TRY(dp_cli_road(c, true, e));
    for (size_t i = o->all ? 0 : 1; i < (o->all ? 1 : c->nargs); i++) {
        const char *begin = o->all ? NULL : c->args[i];
        DP_TRY(served ? ask(c, verb, begin, &done, e) : act_on(&c->road.ws, drop, begin, &done, e));
    }
    if (c->global.json) dp_buf_printf(out, "{\"%s\":%zu}\n", verb, done);
    else dp_buf_printf(out, "%zu documents %s\n", done, drop ? "dropped" : served ? "to be tried again" : "to be tried again by the next run");
    return DP_OK;
}

static int run(struct dp_cli *c, struct dp_err *e)
{
    const char *verb = c->nargs ? c->args[0] : "list";
    bool write = strcmp(verb, "retry") == 0 || strcmp(verb, "drop") == 0, lists = strcmp(verb, "list") == 0;
    if (!write && !lists && strcmp(verb, "show") != 0)
        DP_FAIL(e, USAGE, "dpipe quarantine: there is no \"%s\"; it knows list, show, retry and drop", verb);
    struct dp_buf out;
    dp_buf_init(&out, (size_t)1 << 30);
    int rc = write ? act(c, verb, &out, e) : dp_cli_road(c, false, e);
    if (rc >= 0 && !write) rc = lists ? list(c, &out, e) : show(c, &out, e);
    if (rc >= 0) rc = dp_cli_print(&out, e);
    dp_buf_release(&out);
    return rc;
}

extern const struct dp_command dp_cmd_quarantine;
const struct dp_command dp_cmd_quarantine = {.name = "quarantine", .summary = "documents that killed their worker process: list, show, retry, drop",
    .args = "[list | show NAME | retry NAME... | drop NAME...]", .rows = rows, .own_size = sizeof(struct own), .args_min = 0, .args_max = -1, .run = run,
    .about = "A document that crashes its worker process, or takes too much time or memory (see the recipe's section workers), is left out of its\n"
             "unit, counted as dropped for `quarantined`, and kept here with its bytes. `show --bytes` prints them; `retry` makes its unit, and all that\n"
             "depends on it, anew with the next run; `drop` forgets the bytes: the document stays left out. Where reading itself died there are no\n"
             "bytes, and the rest of the file is left out. NAME may be cut short where it stays clear.\n"
             "Beside a service at work list and show read the files, retry and drop ask the service, which tries again at once."};
