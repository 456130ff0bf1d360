#include "daemon/quarantine.h"

#include "base/fs.h"
#include "base/json.h"
#include "base/progress.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_MAX = 64 << 10, FILE_MAX = (16 << 20) + HEAD_MAX, UNIT_PART = 16, NAME = UNIT_PART + 33 };
static const char rounds_setting[] = "quarantine.rounds"; /* lines "UNIT_PART N" */

/* name NULL: the folder; else where the entry lies, by the first two digits of its name; flat: where older versions put it. */
static char *path_of(const struct dp_workspace *w, const char *name, bool flat)
{
    char *p = NULL;
    if (!name) return dp_fs_join(w->dir, "quarantine");
    int n = flat ? asprintf(&p, "%s/quarantine/%s", w->dir, name) : asprintf(&p, "%s/quarantine/%.2s/%s", w->dir, name, name);
    return n < 0 ? NULL : p;
}

static FILE *open_entry(const struct dp_workspace *w, const char *name, char **path)
{
    FILE *f = NULL;
    for (int flat = 0; !f && flat < 2; flat++) {
        free(*path);
        *path = path_of(w, name, flat);
        f = *path ? fopen(*path, "rbe") : NULL;
        if (!f && errno != ENOENT) break;
    }
    return f;
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
    print_number(&j, "round", q->round);
    print_number(&j, "rows", q->rows);
    print_number(&j, "attempts", q->attempts);
    print_number(&j, "time", q->time);
    print_number(&j, "bytes", q->bytes);
    dp_jsonw_end(&j, '}');
    dp_buf_add_char(out, '\n');
}

/* Held, or asked to be tried again: the unit is a round further than the entry. Entries of older versions say it themselves. */
static const char *state_of(const struct dp_json *v, const struct dp_quarantined *q, const struct dp_rounds *rounds)
{
    const struct dp_json *round = dp_json_get(v, "round");
    bool retry = round ? dp_quarantine_round(rounds, q->unit) > q->round : dp_span_is(dp_json_str(dp_json_get(v, "state")), "retry");
    return retry ? "retry" : "held";
}

/* Call fn with what the head of file `name` says. */
static int with_entry(struct dp_workspace *w, const char *name, const struct dp_rounds *rounds, int (*fn)(void *, const struct dp_quarantined *, struct dp_err *),
                      void *ctx, struct dp_err *e)
{
    char *p = NULL, *line = NULL;
    FILE *f = open_entry(w, name, &p);
    size_t cap = 0;
    struct dp_json *v = NULL;
    ssize_t n = f ? getline(&line, &cap, f) : -1;
    int rc = p ? DP_OK : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", name);
    if (p && !f) rc = dp_err_set(e, dp_code_of_errno(errno), errno, __FILE__, __LINE__, "%s: cannot open", p);
    else if (p && n < 0) rc = dp_err_set(e, DP_CORRUPT, 0, __FILE__, __LINE__, "%s: the file is empty", p);
    if (rc >= 0) rc = dp_json_parse(&v, dp_span(line, (size_t)n), p, e);
    if (rc >= 0) {
        struct dp_quarantined q = {.rows = dp_json_int(dp_json_get(v, "rows"), 0), .attempts = dp_json_int(dp_json_get(v, "attempts"), 0),
                                   .round = dp_json_int(dp_json_get(v, "round"), 0), .time = dp_json_int(dp_json_get(v, "time"), 0),
                                   .bytes = dp_json_int(dp_json_get(v, "bytes"), 0)};
        const struct {
            const char *key, **to;
        } text[] = {{"unit", &q.unit}, {"path", &q.path}, {"position", &q.position}, {"url", &q.url}, {"id", &q.id},
                    {"stage", &q.stage}, {"reason", &q.reason}, {"what", &q.what}};
        snprintf(q.name, sizeof q.name, "%s", name);
        for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
            struct dp_span s = dp_json_str(dp_json_get(v, text[i].key));
            *text[i].to = s.ptr ? s.ptr : "";
        }
        q.state = state_of(v, &q, rounds);
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

/* The folder for entries whose names begin as `name` does. Folders that are made now are durable before anything is in them. */
static int make_folder(const struct dp_workspace *w, const char *name, struct dp_err *e)
{
    char *dir = path_of(w, NULL, false), *sub = NULL;
    int rc = dir && asprintf(&sub, "%s/%.2s", dir, name) > 0 ? DP_OK : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "quarantine");
    if (rc >= 0 && mkdir(dir, 0777) == 0) rc = dp_fs_fsync_dir(w->dir, e);
    if (rc >= 0 && mkdir(sub, 0777) == 0) rc = dp_fs_fsync_dir(dir, e);
    else if (rc >= 0 && errno != EEXIST) rc = dp_err_set(e, dp_code_of_errno(errno), errno, __FILE__, __LINE__, "%s: cannot make folder", sub);
    free(dir);
    free(sub);
    return rc;
}

static int write_entry(struct dp_workspace *w, const struct dp_quarantined *q, struct dp_span bytes, struct dp_err *e)
{
    struct dp_buf b;
    char *p = path_of(w, q->name, false);
    dp_buf_init(&b, FILE_MAX);
    print_head(q, &b);
    int rc = b.len < HEAD_MAX ? DP_OK : dp_err_set(e, DP_LIMIT, 0, __FILE__, __LINE__, "quarantine: the names of %s are too long", q->path);
    dp_buf_add_span(&b, bytes);
    if (rc >= 0) rc = dp_buf_check(&b, "a document in quarantine", e);
    if (rc >= 0 && !p) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "quarantine");
    if (rc >= 0) rc = make_folder(w, q->name, e);
    if (rc >= 0) rc = dp_fs_write_atomic(p, dp_buf_span(&b), e);
    dp_buf_release(&b);
    free(p);
    return rc;
}

int dp_quarantine_put(struct dp_workspace *w, struct dp_quarantined *q, int64_t attempts, struct dp_span bytes, struct dp_err *e)
{
    int64_t before = 0;
    snprintf(q->name, sizeof q->name, "%.*s-%.32s", UNIT_PART, q->unit, q->id);
    with_entry(w, q->name, NULL, old_attempts, &before, NULL); /* an unreadable one is written anew */
    q->attempts = before + attempts;
    q->state = "held";
    q->time = (int64_t)time(NULL);
    return write_entry(w, q, bytes, e);
}

int dp_quarantine_bytes(struct dp_workspace *w, const char *name, struct dp_buf *out, struct dp_err *e)
{
    struct dp_buf b;
    char *p = NULL;
    FILE *f = open_entry(w, name, &p);
    if (!p) DP_FAIL(e, NOMEM, "%s", name);
    dp_buf_init(&b, FILE_MAX);
    int rc = f ? dp_fs_read_fd(fileno(f), p, &b, e) : dp_err_set(e, dp_code_of_errno(errno), errno, __FILE__, __LINE__, "%s: cannot open", p);
    const char *nl = rc >= 0 ? memchr(b.ptr, '\n', b.len) : NULL;
    if (rc >= 0 && !nl) rc = dp_err_set(e, DP_CORRUPT, 0, __FILE__, __LINE__, "%s: no line of JSON", p);
    if (rc >= 0) {
        dp_buf_add(out, nl + 1, b.len - (size_t)(nl + 1 - b.ptr));
        rc = dp_buf_check(out, "a document in quarantine", e);
    }
    dp_buf_release(&b);
    if (f) fclose(f);
    free(p);
    return rc;
}

/* --- many of them --- */

struct names {
    char (*v)[NAME + 1];
    size_t n, cap;
};

static bool is_name(const char *s)
{
    return strlen(s) == NAME && s[UNIT_PART] == '-' && strspn(s, "0123456789abcdef-") == NAME; /* not what write_atomic was at when it was killed */
}

static int add_name(struct names *l, const char *name, struct dp_err *e)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 256;
        void *v = realloc(l->v, cap * sizeof *l->v);
        if (!v) DP_FAIL(e, NOMEM, "quarantine: list of %zu names", cap);
        l->v = v;
        l->cap = cap;
    }
    memcpy(l->v[l->n++], name, NAME + 1);
    return DP_OK;
}

static int by_name(const void *a, const void *b)
{
    return memcmp(a, b, NAME);
}

/* The entries in a folder, which may be missing. */
static int scan(const char *dir, struct names *out, struct dp_err *e)
{
    DIR *d = opendir(dir);
    int rc = DP_OK;
    if (!d && errno == ENOENT) return DP_OK;
    if (!d) DP_FAIL_SYS(e, "%s: cannot read", dir);
    for (struct dirent *f; rc >= 0 && (f = readdir(d));)
        if (is_name(f->d_name)) rc = add_name(out, f->d_name, e);
    closedir(d);
    return rc;
}

/* Of the names with the first two digits `digits`: those behind `after` that begin with `prefix`, to fn. *left: how many more it may get. */
static int each_of_folder(const struct dp_workspace *w, const struct names *flat, const char *digits, const struct dp_quarantine_page *p, size_t *left,
                          int (*fn)(void *, const char *, struct dp_err *), void *ctx, struct dp_err *e)
{
    struct names l = {0};
    char *dir = NULL;
    if (asprintf(&dir, "%s/quarantine/%s", w->dir, digits) < 0) DP_FAIL(e, NOMEM, "quarantine");
    int rc = scan(dir, &l, e);
    for (size_t i = 0; rc >= 0 && i < flat->n; i++)
        if (memcmp(flat->v[i], digits, 2) == 0) rc = add_name(&l, flat->v[i], e);
    if (l.n) qsort(l.v, l.n, sizeof *l.v, by_name);
    for (size_t i = 0; rc >= 0 && *left && i < l.n; i++) {
        if (i && by_name(l.v[i - 1], l.v[i]) == 0) continue;
        if ((p->after && strcmp(l.v[i], p->after) <= 0) || (p->prefix && strncmp(l.v[i], p->prefix, strlen(p->prefix)) != 0)) continue;
        rc = fn(ctx, l.v[i], e);
        --*left;
    }
    free(l.v);
    free(dir);
    return rc;
}

/* Names in order. A page reads the folders that it needs: two of 256 for a hundred of 100,000 names. */
static int each_name(const struct dp_workspace *w, const struct dp_quarantine_page *page, int (*fn)(void *, const char *, struct dp_err *), void *ctx, struct dp_err *e)
{
    struct names flat = {0};
    struct dp_quarantine_page p = page ? *page : (struct dp_quarantine_page){0};
    size_t left = p.limit ? p.limit : SIZE_MAX;
    char *top = path_of(w, NULL, false);
    int rc = top ? scan(top, &flat, e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "quarantine");
    for (unsigned i = 0; rc >= 0 && left && i < 256; i++) {
        char digits[3];
        snprintf(digits, sizeof digits, "%02x", i);
        size_t n = p.prefix ? strlen(p.prefix) : 0;
        if ((p.after && strncmp(digits, p.after, 2) < 0) || strncmp(digits, n ? p.prefix : "", n < 2 ? n : 2) != 0) continue;
        rc = each_of_folder(w, &flat, digits, &p, &left, fn, ctx, e);
    }
    free(flat.v);
    free(top);
    return rc < 0 ? rc : DP_OK;
}

struct each {
    struct dp_workspace *w;
    struct dp_rounds *rounds;
    int (*fn)(void *, const struct dp_quarantined *, struct dp_err *);
    void *ctx;
};

static int each_entry(void *ctx, const char *name, struct dp_err *e)
{
    struct each *k = ctx;
    struct dp_err err = {0};
    int rc = with_entry(k->w, name, k->rounds, k->fn, k->ctx, &err);
    if (rc == DP_NOTFOUND && err.sys == ENOENT) return DP_OK; /* dropped meanwhile */
    if (rc < 0 && e) *e = err;
    return rc;
}

int dp_quarantine_each(struct dp_workspace *w, const struct dp_quarantine_page *page, int (*fn)(void *ctx, const struct dp_quarantined *q, struct dp_err *e), void *ctx,
                       struct dp_err *e)
{
    struct each k = {w, dp_quarantine_rounds(w), fn, ctx};
    int rc = each_name(w, page, each_entry, &k, e);
    free(k.rounds);
    return rc;
}

int dp_quarantine_one(struct dp_workspace *w, const char *name, int (*fn)(void *ctx, const struct dp_quarantined *q, struct dp_err *e), void *ctx,
                      struct dp_err *e)
{
    struct dp_rounds *rounds = dp_quarantine_rounds(w);
    int rc = with_entry(w, name, rounds, fn, ctx, e);
    free(rounds);
    return rc;
}

static int keep_name(void *ctx, const char *name, struct dp_err *e)
{
    return add_name(ctx, name, e);
}

static int count_name(void *ctx, const char *name, struct dp_err *e)
{
    (void)name;
    (void)e;
    ++*(size_t *)ctx;
    return DP_OK;
}

int dp_quarantine_count(const struct dp_workspace *w, size_t *n, struct dp_err *e)
{
    *n = 0;
    return each_name(w, NULL, count_name, n, e);
}

int dp_quarantine_find(const struct dp_workspace *w, const char *begin, char name[DP_QUARANTINE_NAME], struct dp_err *e)
{
    struct names l = {0};
    struct dp_quarantine_page p = {.prefix = begin, .limit = 2};
    int rc = each_name(w, &p, keep_name, &l, e);
    if (rc >= 0 && !l.n) rc = dp_err_set(e, DP_NOTFOUND, 0, __FILE__, __LINE__, "%s is not in quarantine; `dpipe quarantine list` says what is", begin);
    else if (rc >= 0 && l.n > 1) rc = dp_err_set(e, DP_USAGE, 0, __FILE__, __LINE__, "%s is the beginning of several names: say more of it", begin);
    else if (rc >= 0) memcpy(name, l.v[0], NAME + 1);
    free(l.v);
    return rc;
}

/* Unlink names, which are in order, then make the folders' changes durable: one journal takes them all. */
static int unlink_all(const struct dp_workspace *w, const struct names *l, struct dp_err *e)
{
    char *top = path_of(w, NULL, false);
    bool was_flat = false;
    int rc = top ? DP_OK : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "quarantine");
    for (size_t i = 0; rc >= 0 && i < 2 * l->n; i++) {
        bool flat = i % 2;
        char *p = path_of(w, l->v[i / 2], flat);
        if (!p) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "quarantine");
        else if (unlink(p) == 0) was_flat = was_flat || flat;
        else if (errno != ENOENT) rc = dp_err_set(e, dp_code_of_errno(errno), errno, __FILE__, __LINE__, "%s: cannot remove", p);
        free(p);
        dp_progress_tick();
    }
    for (size_t i = 0; rc >= 0 && i < l->n; i++) {
        char *dir = NULL;
        if (i + 1 < l->n && memcmp(l->v[i], l->v[i + 1], 2) == 0) continue;
        rc = asprintf(&dir, "%s/%.2s", top, l->v[i]) > 0 ? DP_OK : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "quarantine");
        if (rc >= 0 && dp_fs_exists(dir)) rc = dp_fs_fsync_dir(dir, e);
        free(dir);
    }
    if (rc >= 0 && was_flat) rc = dp_fs_fsync_dir(top, e);
    free(top);
    return rc;
}

/* The entries that are named, or all, in order. */
static int named(const struct dp_workspace *w, const char *const *names, size_t n, struct names *l, struct dp_err *e)
{
    int rc = names ? DP_OK : each_name(w, NULL, keep_name, l, e);
    for (size_t i = 0; rc >= 0 && names && i < n; i++) {
        if (!is_name(names[i])) DP_FAIL(e, NOTFOUND, "%s is not in quarantine", names[i]);
        rc = add_name(l, names[i], e);
    }
    if (l->n) qsort(l->v, l->n, sizeof *l->v, by_name);
    return rc;
}

int dp_quarantine_drop(struct dp_workspace *w, const char *const *names, size_t n, size_t *dropped, struct dp_err *e)
{
    struct names l = {0};
    int rc = named(w, names, n, &l, e);
    if (rc >= 0) rc = unlink_all(w, &l, e);
    *dropped = l.n;
    free(l.v);
    return rc;
}

struct settling {
    int64_t round;
    struct names gone;
};

static int note_settled(void *ctx, const struct dp_quarantined *q, struct dp_err *e)
{
    struct settling *s = ctx;
    return q->round < s->round && strcmp(q->state, "retry") == 0 ? add_name(&s->gone, q->name, e) : DP_OK;
}

int dp_quarantine_settle(struct dp_workspace *w, const char *unit, const struct dp_rounds *rounds, struct dp_err *e)
{
    char prefix[UNIT_PART + 1];
    struct settling s = {.round = dp_quarantine_round(rounds, unit)};
    struct each k = {w, (struct dp_rounds *)(uintptr_t)rounds, note_settled, &s};
    snprintf(prefix, sizeof prefix, "%s", unit);
    int rc = each_name(w, &(struct dp_quarantine_page){.prefix = prefix}, each_entry, &k, e);
    if (rc >= 0) rc = unlink_all(w, &s.gone, e);
    free(s.gone.v);
    return rc;
}

int dp_quarantine_migrate(struct dp_workspace *w, struct dp_err *e)
{
    struct names flat = {0};
    char *top = path_of(w, NULL, false);
    int rc = top ? scan(top, &flat, e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "quarantine");
    if (flat.n) qsort(flat.v, flat.n, sizeof *flat.v, by_name);
    for (size_t i = 0; rc >= 0 && i < flat.n; i++) {
        char *from = path_of(w, flat.v[i], true), *to = path_of(w, flat.v[i], false);
        bool last = i + 1 == flat.n || memcmp(flat.v[i], flat.v[i + 1], 2) != 0;
        rc = from && to ? make_folder(w, flat.v[i], e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "quarantine");
        if (rc >= 0 && rename(from, to) != 0 && errno != ENOENT)
            rc = dp_err_set(e, dp_code_of_errno(errno), errno, __FILE__, __LINE__, "%s: cannot rename to %s", from, to);
        if (rc >= 0 && last) {
            *strrchr(to, '/') = 0;
            rc = dp_fs_fsync_dir(to, e);
        }
        free(from);
        free(to);
        dp_progress_tick();
    }
    if (rc >= 0 && flat.n) rc = dp_fs_fsync_dir(top, e);
    free(flat.v);
    free(top);
    return rc;
}

/* --- rounds --- */

struct dp_rounds {
    size_t n;
    struct round {
        uint64_t unit; /* the part of its key that is in the names of its entries */
        int64_t round;
    } v[];
};

static uint64_t part_of(const char *unit)
{
    char part[UNIT_PART + 1];
    snprintf(part, sizeof part, "%s", unit);
    return strtoull(part, NULL, 16);
}

static int by_unit(const void *a, const void *b)
{
    const struct round *x = a, *y = b;
    return x->unit < y->unit ? -1 : x->unit > y->unit;
}

struct dp_rounds *dp_quarantine_rounds(struct dp_workspace *w)
{
    char *text = dp_catalog_get(w->catalog, rounds_setting);
    size_t lines = 0;
    for (const char *c = text; c && *c; c++) lines += *c == '\n';
    struct dp_rounds *r = lines ? calloc(1, sizeof *r + lines * sizeof *r->v) : NULL;
    for (const char *line = text; r && *line && r->n < lines; line += strcspn(line, "\n") + 1) {
        size_t key = strcspn(line, " \n");
        if (line[key] == ' ') r->v[r->n++] = (struct round){part_of(line), strtoll(line + key + 1, NULL, 10)};
    }
    if (r) qsort(r->v, r->n, sizeof *r->v, by_unit);
    free(text);
    return r;
}

int64_t dp_quarantine_round(const struct dp_rounds *rounds, const char *unit)
{
    struct round key = {part_of(unit), 0}, *found = rounds ? bsearch(&key, rounds->v, rounds->n, sizeof *rounds->v, by_unit) : NULL;
    return found ? found->round : 0;
}

/* Both lists in order: the units of `names` are a round further. */
static int raise_rounds(struct dp_workspace *w, const struct names *l, struct dp_err *e)
{
    struct dp_buf text;
    struct dp_rounds *r = dp_quarantine_rounds(w);
    size_t k = 0;
    dp_buf_init(&text, 64 << 20);
    for (size_t i = 0; i < l->n; i++) {
        uint64_t unit = part_of(l->v[i]);
        int64_t round = 0;
        if (i && part_of(l->v[i - 1]) == unit) continue;
        for (; r && k < r->n && r->v[k].unit < unit; k++) dp_buf_printf(&text, "%016" PRIx64 " %" PRId64 "\n", r->v[k].unit, r->v[k].round);
        for (; r && k < r->n && r->v[k].unit == unit; k++) round = r->v[k].round;
        dp_buf_printf(&text, "%016" PRIx64 " %" PRId64 "\n", unit, round + 1);
    }
    for (; r && k < r->n; k++) dp_buf_printf(&text, "%016" PRIx64 " %" PRId64 "\n", r->v[k].unit, r->v[k].round);
    int rc = dp_buf_check(&text, "list of units to retry", e);
    if (rc >= 0 && l->n) rc = dp_catalog_set(w->catalog, rounds_setting, text.ptr, e);
    free(r);
    dp_buf_release(&text);
    return rc;
}

/* One transaction, and no file is touched: which entries are to be tried again follows from their rounds. */
int dp_quarantine_retry(struct dp_workspace *w, const char *const *names, size_t n, size_t *marked, struct dp_err *e)
{
    struct names l = {0};
    int rc = named(w, names, n, &l, e);
    if (rc >= 0) rc = raise_rounds(w, &l, e);
    *marked = l.n;
    free(l.v);
    return rc;
}
