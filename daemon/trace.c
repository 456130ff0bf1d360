#include "daemon/trace.h"

#include "base/docs.h"
#include "base/hash.h"

#include <stdio.h>
#include <stdlib.h>

static char *copy(struct dp_span s, bool *ok)
{
    char *p = malloc(s.len + 1);
    if (!p) return *ok = false, NULL;
    if (s.len) memcpy(p, s.ptr, s.len);
    p[s.len] = 0;
    return p;
}

/* The unit that a shard's document came from: "shard-KEY-NN.bin" names the group. */
static int unit_of(const struct dp_road *r, const struct dp_trace *t, size_t *unit, struct dp_err *e)
{
    static const char begin[] = "shard-";
    size_t n = sizeof begin - 1;
    if (strncmp(t->shard, begin, n) == 0 && strlen(t->shard) > n + DP_HEX128 - 1)
        for (size_t g = 0; g < r->groups; g++)
            if (memcmp(r->group[g].key.hex, t->shard + n, DP_HEX128 - 1) == 0 && t->source < r->group[g].count)
                return *unit = r->group[g].first + t->source, DP_OK;
    DP_FAIL(e, NOTFOUND, "shard %s, source %u: no unit of this recipe wrote it", t->shard, t->source);
}

/* The member that the record is in: its digest and the position give the id. */
static int find_member(struct dp_road *r, size_t unit, struct dp_trace *t, struct dp_err *e)
{
    struct dp_members m = {0};
    struct dp_buf b;
    bool ok = true, found = false;
    DP_TRY(dp_road_members(r, &r->unit[unit], &m, e));
    dp_buf_init(&b, 1 << 26);
    for (size_t i = 0; i < m.n && !found; i++) {
        dp_buf_clear(&b);
        dp_buf_printf(&b, "%s\n%s", m.v[i].digest, t->pos);
        if (dp_buf_check(&b, "position", e) < 0 || !dp_hash128_eq(dp_hash128(b.ptr, b.len), t->id)) continue;
        found = true;
        t->path = copy(dp_span_str(m.v[i].path), &ok);
        t->name = copy(dp_span_str(m.v[i].name), &ok);
        t->digest = copy(dp_span_str(m.v[i].digest), &ok);
    }
    dp_buf_release(&b);
    dp_members_release(&m);
    if (!ok) DP_FAIL(e, NOMEM, "trace");
    if (!found) DP_FAIL(e, BROKEN, "record %s of %s: no source file of the unit gives its id", t->pos, r->unit[unit].what);
    return DP_OK;
}

/* The requests of one unit, by id. */
struct wanted {
    struct dp_trace *t;
    size_t n;
    const size_t *unit; /* of each */
    size_t now;
};

static struct dp_trace *next_match(const struct wanted *w, size_t *at, struct dp_hash128 id)
{
    for (; *at < w->n; ++*at)
        if (w->unit[*at] == w->now && dp_hash128_eq(w->t[*at].id, id)) return &w->t[(*at)++];
    return NULL;
}

static int scan_docs(struct dp_road *r, struct wanted *w, size_t left, struct dp_err *e)
{
    struct dp_docs_reader *docs = NULL;
    struct dp_doc d;
    bool ok = true;
    char *path = dp_road_path(r, "clean", r->unit[w->now].docs.hex, "docs", 0, e);
    if (!path) return DP_NOTFOUND;
    int rc = dp_docs_open(&docs, path, e);
    while (rc >= 0 && left && (rc = dp_docs_next(docs, &d, e)) == DP_OK) {
        size_t at = 0;
        for (struct dp_trace *t; (t = next_match(w, &at, d.id)); left--) {
            t->pos = copy(d.pos, &ok);
            t->url = copy(d.url, &ok);
            t->lang = copy(d.lang, &ok);
            t->title = copy(d.title, &ok);
            if (t->want_text) {
                t->text = copy(d.text, &ok);
                t->text_len = d.text.len;
            }
        }
        if (!ok) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", path);
    }
    dp_docs_close(docs);
    free(path);
    return rc < 0 ? rc : DP_OK;
}

static int scan_records(struct dp_road *r, struct wanted *w, size_t left, struct dp_err *e)
{
    struct dp_docs_reader *docs = NULL;
    struct dp_span line;
    struct dp_arena mem;
    bool ok = true;
    char *path = dp_road_path(r, "ingest", r->unit[w->now].ingest.hex, "records", 0, e);
    if (!path) return DP_NOTFOUND;
    dp_arena_init(&mem, 64 << 20);
    int rc = dp_docs_open(&docs, path, e);
    while (rc >= 0 && left && (rc = dp_docs_next_line(docs, &line, e)) == DP_OK) {
        struct dp_json_field f[3] = {{.key = "id"}, {.key = "format"}, {.key = "bytes"}};
        struct dp_hash128 id;
        size_t at = 0;
        dp_arena_reset(&mem);
        rc = dp_json_fields(line, f, 3, &mem, e);
        if (rc < 0 || dp_hash128_parse(f[0].str, &id, NULL) < 0) continue; /* a line of damage has no id */
        for (struct dp_trace *t; (t = next_match(w, &at, id)); left--) {
            t->format = copy(f[1].str, &ok);
            for (size_t i = 0; i < f[2].raw.len && f[2].raw.ptr[i] >= '0' && f[2].raw.ptr[i] <= '9'; i++)
                t->bytes = t->bytes * 10 + (uint64_t)(f[2].raw.ptr[i] - '0');
        }
        if (!ok) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", path);
    }
    dp_docs_close(docs);
    dp_arena_release(&mem);
    free(path);
    return rc < 0 ? rc : DP_OK;
}

int dp_trace_find(struct dp_road *r, struct dp_trace *t, size_t n, struct dp_err *e)
{
    size_t *unit = calloc(n + 1, sizeof *unit);
    struct wanted w = {t, n, unit, 0};
    int rc = unit ? DP_OK : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "trace of %zu documents", n);
    for (size_t i = 0; rc >= 0 && i < n; i++) rc = unit_of(r, &t[i], &unit[i], e);
    for (size_t i = 0; rc >= 0 && i < n; i++) {
        if (t[i].pos) continue; /* with an earlier one of its unit */
        size_t left = 0;
        w.now = unit[i];
        for (size_t k = 0; k < n; k++) left += unit[k] == w.now;
        rc = scan_docs(r, &w, left, e);
        if (rc >= 0) rc = scan_records(r, &w, left, e);
        for (size_t k = i; rc >= 0 && k < n; k++) {
            char hex[DP_HEX128];
            if (unit[k] != w.now) continue;
            dp_hash128_hex(t[k].id, hex);
            if (!t[k].pos || !t[k].format)
                rc = dp_err_set(e, DP_NOTFOUND, 0, __FILE__, __LINE__, "document %s of shard %s isn't among those of %s", hex, t[k].shard, r->unit[w.now].what);
            else rc = find_member(r, w.now, &t[k], e);
        }
    }
    free(unit);
    return rc;
}

void dp_trace_release(struct dp_trace *t, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char *all[] = {t[i].path, t[i].name, t[i].digest, t[i].pos, t[i].url, t[i].lang, t[i].title, t[i].format, t[i].text};
        for (size_t k = 0; k < sizeof all / sizeof *all; k++) free(all[k]);
    }
}
