#include "daemon/quarantine.h"

#include "base/fs.h"
#include "base/json.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_MAX = 64 << 10, FILE_MAX = (16 << 20) + HEAD_MAX, UNIT_PART = 16 };
static const char rounds_setting[] = "quarantine.rounds"; /* lines "KEY N" */

static char *path_of(const struct dp_workspace *w, const char *name)
{
    char *dir = dp_fs_join(w->dir, "quarantine"), *p = dir ? (name ? dp_fs_join(dir, name) : dir) : NULL;
    if (p != dir) free(dir);
    return p;
}

/* --- one file --- */

static void print_text(struct dp_jsonw *j, const char *key, const char *value)
{
    dp_jsonw_key(j, key);
    dp_jsonw_cstr(j, value ? value : "");
}

static void print_number(struct dp_jsonw *j, const char *key, int64_t value)
{
    dp_jsonw_key(j, key);
    dp_jsonw_int(j, value);
}

static void print_head(const struct dp_quarantined *q, struct dp_buf *out)
{
    struct dp_jsonw j;
    dp_jsonw_init(&j, out, 0);
    dp_jsonw_begin(&j, '{');
    print_text(&j, "unit", q->unit);
    print_text(&j, "path", q->path);
    print_text(&j, "position", q->position);
    print_text(&j, "url", q->url);
    print_text(&j, "id", q->id);
    print_text(&j, "stage", q->stage);
    print_text(&j, "reason", q->reason);
    print_text(&j, "what", q->what);
    print_text(&j, "state", q->state);
    print_number(&j, "rows", q->rows);
    print_number(&j, "attempts", q->attempts);
    print_number(&j, "time", q->time);
    print_number(&j, "bytes", q->bytes);
    dp_jsonw_end(&j, '}');
    dp_buf_add_char(out, '\n');
}

/* Call fn with what the head of file `name` says. */
static int with_entry(struct dp_workspace *w, const char *name, int (*fn)(void *, const struct dp_quarantined *, struct dp_err *), void *ctx, struct dp_err *e)
{
    char *p = path_of(w, name);
    FILE *f = p ? fopen(p, "rbe") : NULL;
    char *line = NULL;
    size_t cap = 0;
    struct dp_json *v = NULL;
    ssize_t n = f ? getline(&line, &cap, f) : -1;
    int rc = p ? DP_OK : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", name);
    if (p && !f) rc = dp_err_set(e, dp_code_of_errno(errno), errno, __FILE__, __LINE__, "%s: cannot open", p);
    else if (p && n < 0) rc = dp_err_set(e, DP_CORRUPT, 0, __FILE__, __LINE__, "%s: the file is empty", p);
    if (rc >= 0) rc = dp_json_parse(&v, dp_span(line, (size_t)n), p, e);
    if (rc >= 0) {
        struct dp_quarantined q = {.rows = dp_json_int(dp_json_get(v, "rows"), 0), .attempts = dp_json_int(dp_json_get(v, "attempts"), 0),
                                   .time = dp_json_int(dp_json_get(v, "time"), 0), .bytes = dp_json_int(dp_json_get(v, "bytes"), 0)};
        const struct {
            const char *key, **to;
        } text[] = {{"unit", &q.unit}, {"path", &q.path}, {"position", &q.position}, {"url", &q.url}, {"id", &q.id},
                    {"stage", &q.stage}, {"reason", &q.reason}, {"what", &q.what}, {"state", &q.state}};
        snprintf(q.name, sizeof q.name, "%s", name);
        for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
            struct dp_span s = dp_json_str(dp_json_get(v, text[i].key));
            *text[i].to = s.ptr ? s.ptr : "";
        }
        rc = fn(ctx, &q, e);
    }
    dp_json_free(v);
    free(line);
    if (f) fclose(f);
    free(p);
    return rc;
}

static int old_attempts(void *ctx, const struct dp_quarantined *q, struct dp_err *e)
{
    (void)e;
    *(int64_t *)ctx = q->attempts;
    return DP_OK;
}

static int write_entry(struct dp_workspace *w, const struct dp_quarantined *q, struct dp_span bytes, struct dp_err *e)
{
    struct dp_buf b;
    char *dir = path_of(w, NULL), *p = path_of(w, q->name);
    dp_buf_init(&b, FILE_MAX);
    print_head(q, &b);
    int rc = b.len < HEAD_MAX ? DP_OK : dp_err_set(e, DP_LIMIT, 0, __FILE__, __LINE__, "quarantine: the names of %s are too long", q->path);
    dp_buf_add_span(&b, bytes);
    if (rc >= 0) rc = dp_buf_check(&b, "a document in quarantine", e);
    if (rc >= 0 && (!dir || !p)) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "quarantine");
    if (rc >= 0) rc = dp_fs_mkdirs(dir, e);
    if (rc >= 0) rc = dp_fs_write_atomic(p, dp_buf_span(&b), e);
    dp_buf_release(&b);
    free(dir);
    free(p);
    return rc;
}

int dp_quarantine_put(struct dp_workspace *w, struct dp_quarantined *q, int64_t attempts, struct dp_span bytes, struct dp_err *e)
{
    int64_t before = 0;
    snprintf(q->name, sizeof q->name, "%.*s-%.32s", UNIT_PART, q->unit, q->id);
    with_entry(w, q->name, old_attempts, &before, NULL); /* an unreadable one is written anew */
    q->attempts = before + attempts;
    q->state = "held";
    q->time = (int64_t)time(NULL);
    return write_entry(w, q, bytes, e);
}

int dp_quarantine_bytes(struct dp_workspace *w, const char *name, struct dp_buf *out, struct dp_err *e)
{
    struct dp_buf b;
    char *p = path_of(w, name);
    if (!p) DP_FAIL(e, NOMEM, "%s", name);
    dp_buf_init(&b, FILE_MAX);
    int rc = dp_fs_read(p, &b, e);
    const char *nl = rc >= 0 ? memchr(b.ptr, '\n', b.len) : NULL;
    if (rc >= 0 && !nl) rc = dp_err_set(e, DP_CORRUPT, 0, __FILE__, __LINE__, "%s: no line of JSON", p);
    if (rc >= 0) {
        dp_buf_add(out, nl + 1, b.len - (size_t)(nl + 1 - b.ptr));
        rc = dp_buf_check(out, "a document in quarantine", e);
    }
    dp_buf_release(&b);
    free(p);
    return rc;
}

int dp_quarantine_remove(struct dp_workspace *w, const char *name, struct dp_err *e)
{
    char *p = path_of(w, name), *dir = path_of(w, NULL);
    int rc = p && dir ? DP_OK : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", name);
    if (rc >= 0 && unlink(p) != 0 && errno != ENOENT) rc = dp_err_set(e, DP_IO, errno, __FILE__, __LINE__, "%s: cannot remove", p);
    if (rc >= 0) rc = dp_fs_fsync_dir(dir, e);
    free(p);
    free(dir);
    return rc;
}

/* --- all of them --- */

static int entry_file(const struct dirent *d)
{
    size_t n = strlen(d->d_name); /* not what write_atomic was at when it was killed */
    return n == UNIT_PART + 33 && d->d_name[UNIT_PART] == '-' && strspn(d->d_name, "0123456789abcdef-") == n;
}

/* Of one unit, or all with unit NULL. */
static int walk(struct dp_workspace *w, const char *unit, int (*fn)(void *, const struct dp_quarantined *, struct dp_err *), void *ctx, struct dp_err *e)
{
    char *dir = path_of(w, NULL);
    struct dirent **list = NULL;
    if (!dir) DP_FAIL(e, NOMEM, "quarantine");
    int n = scandir(dir, &list, entry_file, alphasort), rc = DP_OK;
    if (n < 0 && errno != ENOENT) rc = dp_err_set(e, dp_code_of_errno(errno), errno, __FILE__, __LINE__, "%s: cannot read", dir);
    for (int i = 0; i < n; i++) {
        if (rc >= 0 && (!unit || strncmp(list[i]->d_name, unit, UNIT_PART) == 0)) rc = with_entry(w, list[i]->d_name, fn, ctx, e);
        free(list[i]);
    }
    free(list);
    free(dir);
    return rc;
}

int dp_quarantine_each(struct dp_workspace *w, int (*fn)(void *ctx, const struct dp_quarantined *q, struct dp_err *e), void *ctx, struct dp_err *e)
{
    return walk(w, NULL, fn, ctx, e);
}

int dp_quarantine_one(struct dp_workspace *w, const char *name, int (*fn)(void *ctx, const struct dp_quarantined *q, struct dp_err *e), void *ctx,
                      struct dp_err *e)
{
    return with_entry(w, name, fn, ctx, e);
}

static int drop_if_retried(void *ctx, const struct dp_quarantined *q, struct dp_err *e)
{
    return strcmp(q->state, "retry") == 0 ? dp_quarantine_remove(ctx, q->name, e) : DP_OK;
}

int dp_quarantine_settle(struct dp_workspace *w, const char *unit, struct dp_err *e)
{
    return walk(w, unit, drop_if_retried, w, e);
}

/* --- rounds --- */

char *dp_quarantine_rounds(struct dp_workspace *w)
{
    return dp_catalog_get(w->catalog, rounds_setting);
}

int64_t dp_quarantine_round(const char *rounds, const char *unit)
{
    size_t n = strlen(unit);
    for (const char *line = rounds; line && *line;) {
        if (strncmp(line, unit, n) == 0 && line[n] == ' ') return strtoll(line + n + 1, NULL, 10);
        line = strchr(line, '\n');
        line += line != NULL;
    }
    return 0;
}

struct retry {
    struct dp_workspace *w;
    char (*unit)[DP_HEX128];
    size_t units;
};

static int note_unit(void *ctx, const struct dp_quarantined *q, struct dp_err *e)
{
    struct retry *r = ctx;
    (void)e;
    snprintf(r->unit[r->units++], DP_HEX128, "%s", q->unit);
    return DP_OK;
}

static int mark_entry(void *ctx, const struct dp_quarantined *q, struct dp_err *e)
{
    struct retry *r = ctx;
    struct dp_quarantined again = *q;
    struct dp_buf bytes;
    again.state = "retry";
    dp_buf_init(&bytes, FILE_MAX);
    int rc = dp_quarantine_bytes(r->w, q->name, &bytes, e);
    if (rc >= 0) rc = write_entry(r->w, &again, dp_buf_span(&bytes), e);
    dp_buf_release(&bytes);
    return rc;
}

static int by_key(const void *a, const void *b)
{
    return memcmp(a, b, DP_HEX128);
}

/* The old lines, each with its number raised where the unit is one of r's, and new lines behind them. */
static int raise_rounds(struct retry *r, struct dp_err *e)
{
    struct dp_buf text;
    char *rounds = dp_quarantine_rounds(r->w);
    dp_buf_init(&text, 64 << 20);
    qsort(r->unit, r->units, sizeof *r->unit, by_key);
    for (const char *line = rounds; line && *line;) {
        char key[DP_HEX128] = "";
        const char *nl = strchr(line, '\n');
        size_t n = nl ? (size_t)(nl - line) + 1 : strlen(line);
        memcpy(key, line, n < sizeof key - 1 ? n : sizeof key - 1);
        if (!bsearch(key, r->unit, r->units, sizeof *r->unit, by_key)) dp_buf_add(&text, line, n);
        line += n;
    }
    for (size_t i = 0; i < r->units; i++)
        if (!i || by_key(r->unit[i - 1], r->unit[i]) != 0)
            dp_buf_printf(&text, "%s %" PRId64 "\n", r->unit[i], dp_quarantine_round(rounds, r->unit[i]) + 1);
    int rc = dp_buf_check(&text, "list of units to retry", e);
    if (rc >= 0 && text.len) rc = dp_catalog_set(r->w->catalog, rounds_setting, text.ptr, e);
    free(rounds);
    dp_buf_release(&text);
    return rc;
}

/* The units first: killed between the two, they are made anew all the same. */
int dp_quarantine_retry(struct dp_workspace *w, const char *const *names, size_t n, struct dp_err *e)
{
    struct retry r = {w, calloc(n + 1, DP_HEX128), 0};
    int rc = r.unit ? DP_OK : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "list of units to retry");
    for (size_t i = 0; i < n && rc >= 0; i++) rc = with_entry(w, names[i], note_unit, &r, e);
    if (rc >= 0) rc = raise_rounds(&r, e);
    for (size_t i = 0; i < n && rc >= 0; i++) rc = with_entry(w, names[i], mark_entry, &r, e);
    free(r.unit);
    return rc;
}
