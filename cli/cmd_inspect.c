/* inspect: documents kept and dropped, with the rule and the number. */
#include "cli/cli.h"
#include "daemon/kept.h"

#include <stdlib.h>

struct own {
    bool kept, dropped, duplicates, damage, units, records;
    char *reason, *lang, *id;
    int64_t limit;
};
#define O(f) offsetof(struct own, f)
static const struct dp_opt rows[] = {
    {.name = "kept", .type = DP_OPT_BOOL, .offset = O(kept), .help = "documents that were kept"},
    {.name = "dropped", .type = DP_OPT_BOOL, .offset = O(dropped), .help = "documents that a rule dropped, with reason, value and limit (the default)"},
    {.name = "duplicates", .type = DP_OPT_BOOL, .offset = O(duplicates), .help = "documents that dedup dropped, with similarity and representative"},
    {.name = "damage", .type = DP_OPT_BOOL, .offset = O(damage), .help = "places in sources that couldn't be read"},
    {.name = "records", .type = DP_OPT_BOOL, .offset = O(records), .help = "every record read: id, position, format, bytes"},
    {.name = "units", .type = DP_OPT_BOOL, .offset = O(units), .help = "units of work, with state and last error"},
    {.name = "reason", .type = DP_OPT_STRING, .offset = O(reason), .arg = "NAME", .help = "only this drop reason"},
    {.name = "lang", .type = DP_OPT_STRING, .offset = O(lang), .arg = "CODE", .help = "only this language"},
    {.name = "id", .type = DP_OPT_STRING, .offset = O(id), .arg = "ID", .help = "only the document with this id (or a beginning of it)"},
    {.name = "limit", .letter = 'n', .type = DP_OPT_INT, .offset = O(limit), .preset = "20", .min = 0, .max = 1e15, .arg = "N", .help = "at most so many; 0: all"},
    DP_OPT_END,
};

struct look {
    struct dp_cli *c;
    const struct own *o;
    struct dp_buf out;
    uint64_t shown;
};

static bool enough(const struct look *l)
{
    return l->o->limit > 0 && l->shown >= (uint64_t)l->o->limit;
}

static int flush(struct look *l, struct dp_err *e)
{
    int rc = dp_cli_print(&l->out, e);
    dp_buf_clear(&l->out);
    return rc;
}

static struct dp_span shorten(struct dp_span s, size_t n)
{
    if (s.len <= n) return s;
    while (n && ((unsigned char)s.ptr[n] & 0xc0) == 0x80) n--;
    return dp_span(s.ptr, n);
}

static bool wanted(const struct look *l, struct dp_span id, struct dp_span lang)
{
    if (l->o->id && (id.len < strlen(l->o->id) || memcmp(id.ptr, l->o->id, strlen(l->o->id)) != 0)) return false;
    return !l->o->lang || dp_span_is(lang, l->o->lang);
}

/* Lines of records and drop logs: as they are for --json, else one readable line and the text's beginning. */
static int show_line(struct look *l, struct dp_span line, struct dp_err *e)
{
    enum { ID, REASON, VALUE, LIMIT, POS, LANG, TEXT, DAMAGE, PATH, OFFSET, FORMAT, BYTES, N };
    struct dp_json_field f[N] = {{.key = "id"}, {.key = "reason"}, {.key = "value"}, {.key = "limit"}, {.key = "pos"}, {.key = "lang"},
                                 {.key = "text"}, {.key = "damage"}, {.key = "path"}, {.key = "offset"}, {.key = "format"}, {.key = "bytes"}};
    struct dp_arena mem;
    dp_arena_init(&mem, 256 << 20);
    int rc = dp_json_fields(line, f, N, &mem, e);
    bool damage = f[DAMAGE].raw.len > 0;
    bool take = rc >= 0 && (damage ? l->o->damage : !l->o->damage && wanted(l, f[ID].str, f[LANG].str));
    if (take && l->o->reason && !dp_span_is(f[REASON].str, l->o->reason)) take = false;
    if (take) {
        l->shown++;
        struct dp_buf *b = &l->out;
        if (l->c->global.json) {
            dp_buf_add_span(b, line);
            dp_buf_add_char(b, '\n');
        } else if (damage) dp_buf_printf(b, "%.*s at byte %.*s: %.*s\n", DP_SPAN_FMT(f[PATH].str), DP_SPAN_FMT(f[OFFSET].raw), DP_SPAN_FMT(f[DAMAGE].str));
        else if (f[REASON].str.ptr) {
            struct dp_span t = shorten(f[TEXT].str, 160);
            dp_buf_printf(b, "%.*s  %.*s  value %.*s, limit %.*s  %.*s\n    ", DP_SPAN_FMT(f[ID].str), DP_SPAN_FMT(f[REASON].str), DP_SPAN_FMT(f[VALUE].raw),
                          DP_SPAN_FMT(f[LIMIT].raw), DP_SPAN_FMT(f[POS].str));
            for (size_t i = 0; i < t.len; i++) dp_buf_add_char(b, (unsigned char)t.ptr[i] < 0x20 ? ' ' : t.ptr[i]);
            dp_buf_add_char(b, '\n');
        } else dp_buf_printf(b, "%.*s  %-8.*s %10.*s  %.*s\n", DP_SPAN_FMT(f[ID].str), DP_SPAN_FMT(f[FORMAT].str), DP_SPAN_FMT(f[BYTES].raw), DP_SPAN_FMT(f[POS].str));
    }
    dp_arena_release(&mem);
    return rc < 0 ? rc : l->out.len > 1 << 16 ? flush(l, e) : DP_OK;
}

static int show_file(struct look *l, const char *stage, const char *key, const char *kind, struct dp_err *e)
{
    struct dp_docs_reader *r = NULL;
    struct dp_span line;
    char *path = dp_road_path(&l->c->road, stage, key, kind, 0, e);
    if (!path) return DP_OK; /* not made yet: nothing to show */
    int rc = dp_docs_open(&r, path, e);
    while (rc >= 0 && !enough(l) && (rc = dp_docs_next_line(r, &line, e)) == DP_OK) rc = show_line(l, line, e);
    dp_docs_close(r);
    free(path);
    return rc < 0 ? rc : DP_OK;
}

static void show_doc(struct look *l, const struct dp_doc *d, const struct dp_keep_record *k)
{
    struct dp_buf *b = &l->out;
    char id[DP_HEX128];
    dp_hash128_hex(d->id, id);
    l->shown++;
    if (l->c->global.json) {
        struct dp_jsonw w;
        dp_jsonw_init(&w, b, 0);
        dp_jsonw_begin(&w, '{');
        dp_jsonw_key(&w, "id");
        dp_jsonw_cstr(&w, id);
        if (k->decision != DP_KEEP_KEPT) {
            dp_jsonw_key(&w, "reason");
            dp_jsonw_cstr(&w, dp_drop_name(k->decision == DP_KEEP_EXACT ? DP_DROP_DUP_EXACT : DP_DROP_DUP_NEAR));
            dp_jsonw_key(&w, "value");
            dp_jsonw_real(&w, (double)k->similarity);
            dp_jsonw_key(&w, "representative");
            dp_jsonw_uint(&w, k->representative);
        }
        dp_jsonw_key(&w, "lang");
        dp_jsonw_str(&w, d->lang);
        dp_jsonw_key(&w, "url");
        dp_jsonw_str(&w, d->url);
        dp_jsonw_key(&w, "pos");
        dp_jsonw_str(&w, d->pos);
        dp_jsonw_key(&w, "text");
        dp_jsonw_str(&w, d->text);
        dp_jsonw_end(&w, '}');
        dp_buf_add_char(b, '\n');
        return;
    }
    dp_buf_printf(b, "%s  %.*s  %zu bytes  %.*s\n", id, DP_SPAN_FMT(d->lang), d->text.len, DP_SPAN_FMT(d->pos));
    if (k->decision != DP_KEEP_KEPT)
        dp_buf_printf(b, "    %s, similarity %.3f to document number %llu\n", k->decision == DP_KEEP_EXACT ? "an exact duplicate" : "a near duplicate",
                      (double)k->similarity, (unsigned long long)k->representative);
    struct dp_span t = shorten(d->text, l->o->id ? d->text.len : 160);
    dp_buf_add_str(b, "    ");
    for (size_t i = 0; i < t.len; i++) dp_buf_add_char(b, (unsigned char)t.ptr[i] < 0x20 && !l->o->id ? ' ' : t.ptr[i]);
    dp_buf_add_char(b, '\n');
}

/* With dedup done: kept ones or duplicates; before it, every document counts as kept. */
static int show_unit(struct look *l, size_t u, int done, struct dp_err *e)
{
    struct dp_road *r = &l->c->road;
    struct dp_doc d;
    int rc;
    if (done > DP_STEP_DEDUP) {
        struct dp_kept k;
        rc = dp_kept_open(&k, r, u, e);
        while (rc >= 0 && !enough(l) && (rc = dp_kept_next(&k, l->o->duplicates, &d, e)) == DP_OK) {
            char id[DP_HEX128];
            dp_hash128_hex(d.id, id);
            if (l->o->duplicates && k.decision.decision == DP_KEEP_KEPT) continue;
            if (!wanted(l, dp_span_str(id), d.lang)) continue;
            show_doc(l, &d, &k.decision);
            if (l->out.len > 1 << 16) rc = flush(l, e);
        }
        dp_kept_close(&k);
        return rc < 0 ? rc : DP_OK;
    }
    struct dp_docs_reader *docs = NULL;
    struct dp_keep_record kept = {.decision = DP_KEEP_KEPT};
    char *path = l->o->duplicates ? NULL : dp_road_path(r, "clean", r->unit[u].docs.hex, "docs", 0, e);
    if (!path) return DP_OK;
    rc = dp_docs_open(&docs, path, e);
    while (rc >= 0 && !enough(l) && (rc = dp_docs_next(docs, &d, e)) == DP_OK) {
        char id[DP_HEX128];
        dp_hash128_hex(d.id, id);
        if (wanted(l, dp_span_str(id), d.lang)) show_doc(l, &d, &kept);
        if (l->out.len > 1 << 16) rc = flush(l, e);
    }
    dp_docs_close(docs);
    free(path);
    return rc < 0 ? rc : DP_OK;
}

static int unit_row(void *ctx, const struct dp_unit_row *u)
{
    struct look *l = ctx;
    if (enough(l)) return DP_OK;
    l->shown++;
    if (l->c->global.json) {
        const char *const keys[] = {"state", "stage", "key", "what", "error"}, *const values[] = {u->state, u->stage, u->key, u->what, u->error};
        struct dp_jsonw w;
        dp_jsonw_init(&w, &l->out, 0);
        dp_jsonw_begin(&w, '{');
        for (int i = 0; i < 5; i++) {
            dp_jsonw_key(&w, keys[i]);
            dp_jsonw_cstr(&w, values[i]);
        }
        dp_jsonw_key(&w, "attempts");
        dp_jsonw_int(&w, u->attempts);
        dp_jsonw_end(&w, '}');
        dp_buf_add_char(&l->out, '\n');
        return DP_OK;
    }
    dp_buf_printf(&l->out, "%-8s %-11s %s  %s%s%s\n", u->state, u->stage, u->key, u->what, *u->error ? ": " : "", u->error);
    return DP_OK;
}

static int run(struct dp_cli *c, struct dp_err *e)
{
    const struct own *o = c->own;
    struct look l = {.c = c, .o = o};
    if (o->reason && dp_drop_parse(dp_span_str(o->reason)) == DP_DROP_COUNT) DP_FAIL(e, USAGE, "--reason: there is no drop reason \"%s\"", o->reason);
    DP_TRY(dp_cli_road(c, false, e));
    int done = dp_road_survey(&c->road, e);
    if (done < 0) return done;
    dp_buf_init(&l.out, (size_t)1 << 30);
    int rc = DP_OK;
    if (o->units) rc = dp_catalog_units(c->road.ws.catalog, unit_row, &l, e);
    for (size_t i = 0; rc >= 0 && !o->units && i < c->road.units && !enough(&l); i++) {
        const struct dp_unit *u = &c->road.unit[i];
        if (o->records || o->damage) rc = show_file(&l, "ingest", u->ingest.hex, "records", e);
        else if (o->kept || o->duplicates) rc = show_unit(&l, i, done, e);
        else rc = show_file(&l, "clean", u->docs.hex, "drops", e);
        /* An id may be on either side. */
        if (rc >= 0 && o->id && !o->kept && !o->dropped && !o->duplicates && !o->records && !o->damage) rc = show_unit(&l, i, done, e);
    }
    if (rc >= 0) rc = flush(&l, e);
    dp_buf_release(&l.out);
    return rc;
}

extern const struct dp_command dp_cmd_inspect;
const struct dp_command dp_cmd_inspect = {.name = "inspect", .summary = "look at kept and dropped documents, with rule and value", .args = "", .rows = rows,
    .own_size = sizeof(struct own), .run = run};
