/* dp_json_fields validates the line and finds our fields in one pass. The members that go into meta are found by a second, trusting walk, which
 * jumps over the text by its known span, so that it costs only the short members. */
#include "ingest/jsonl_reader.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>

enum { META_MAX = 64 * 1024, SNIFF_MAX = 16 << 20, F_TEXT = 0, F_ID, F_URL, F_FORMAT, F_COUNT };

struct dp_jsonl {
    struct dp_stream *s;
    struct dp_ingest_run *run;
    size_t drop;        /* the line delivered last */
    bool dropping;      /* inside a line too long to hold */
    bool begun;
    struct dp_arena mem;
    struct dp_buf meta;
};

bool dp_jsonl_sniff(struct dp_span f)
{
    if (f.len >= 3 && memcmp(f.ptr, "\xef\xbb\xbf", 3) == 0) f = dp_span(f.ptr + 3, f.len - 3);
    if (f.len < 2 || f.ptr[0] != '{') return false;
    if (f.len > SNIFF_MAX) f.len = SNIFF_MAX; /* a mapped file is at hand whole */
    const char *nl = memchr(f.ptr, '\n', f.len);
    size_t n = nl ? (size_t)(nl - f.ptr) : f.len;
    while (n && (f.ptr[n - 1] == '\r' || f.ptr[n - 1] == ' ')) n--;
    if (n < 2) return false;
    if (!nl && f.len >= DP_PEEK_BYTES) return true;
    if (f.ptr[n - 1] != '}') return false;
    struct dp_arena mem;
    dp_arena_init(&mem, 1 << 20);
    int rc = dp_json_fields(dp_span(f.ptr, n), NULL, 0, &mem, NULL);
    dp_arena_release(&mem);
    return rc == DP_OK;
}

int dp_jsonl_open(struct dp_jsonl **out, struct dp_stream *source, struct dp_err *e)
{
    struct dp_jsonl *j = calloc(1, sizeof *j);
    *out = NULL;
    if (!j) DP_FAIL(e, NOMEM, "%s: a JSONL reader", source->run->name);
    j->s = source;
    j->run = source->run;
    dp_arena_init(&j->mem, 2 * (size_t)source->run->o->doc_bytes_max + (1 << 20));
    dp_buf_init(&j->meta, META_MAX);
    *out = j;
    return DP_OK;
}

void dp_jsonl_close(struct dp_jsonl *j)
{
    if (!j) return;
    dp_arena_release(&j->mem);
    dp_buf_release(&j->meta);
    free(j);
}

/* --- meta: a walk over an object that is known to be well-formed --- */

static const char *blank(const char *p)
{
    while (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n') p++;
    return p;
}

static const char *string_end(const char *p) /* p at the opening quote; behind the closing one */
{
    for (p++; *p != '"'; p++)
        if (*p == '\\') p++;
    return p + 1;
}

static const char *value_end(const char *p)
{
    if (*p == '"') return string_end(p);
    if (*p != '{' && *p != '[') {
        while (*p != ',' && *p != '}' && *p != ']' && *p != ' ' && *p != '\t' && *p != '\r' && *p != '\n') p++;
        return p;
    }
    int depth = 0;
    do {
        if (*p == '"') {
            p = string_end(p);
            continue;
        }
        depth += (*p == '{' || *p == '[') - (*p == '}' || *p == ']');
        p++;
    } while (depth);
    return p;
}

/* Append a member unless it would make meta too large: small members are worth more than one huge one. */
static void add_member(struct dp_buf *m, struct dp_span key_quoted, struct dp_span value)
{
    if (m->len + key_quoted.len + value.len + 2 > META_MAX) return;
    if (m->len) dp_buf_add_char(m, ',');
    dp_buf_add_span(m, key_quoted);
    if (key_quoted.len) dp_buf_add_char(m, ':');
    dp_buf_add_span(m, value);
}

static void collect_meta(struct dp_jsonl *j, struct dp_span line, const struct dp_json_field f[F_COUNT])
{
    dp_buf_clear(&j->meta);
    if (f[F_ID].raw.ptr && f[F_ID].raw.ptr[0] != '{' && f[F_ID].raw.ptr[0] != '[') add_member(&j->meta, dp_span_str("\"id\""), f[F_ID].raw);
    const char *p = blank(blank(line.ptr) + 1);
    while (*p != '}') {
        const char *key = p, *key_end = string_end(p);
        struct dp_span name = dp_span(key + 1, (size_t)(key_end - key) - 2);
        p = blank(blank(key_end) + 1);
        bool ours = false;
        for (int i = 0; i < F_COUNT; i++) ours = ours || dp_span_is(name, f[i].key);
        const char *end = p == f[F_TEXT].raw.ptr ? p + f[F_TEXT].raw.len : value_end(p);
        if (!ours && *p != '{' && *p != '[') {
            if (!dp_span_is(name, "id")) add_member(&j->meta, dp_span(key, (size_t)(key_end - key)), dp_span(p, (size_t)(end - p)));
        } else if (*p == '{' && (dp_span_is(name, "meta") || dp_span_is(name, "metadata"))) {
            const char *from = blank(p + 1), *to = end - 1;
            while (to > from && (to[-1] == ' ' || to[-1] == '\t' || to[-1] == '\r' || to[-1] == '\n')) to--;
            if (to > from) add_member(&j->meta, dp_span("", 0), dp_span(from, (size_t)(to - from)));
        }
        p = blank(end);
        if (*p == ',') p = blank(p + 1);
    }
}

/* --- lines --- */

/* The next line at hand, without its newline: DP_OK, DP_EOF, or DP_EMPTY after trouble that was dealt with. *n is its length, *whole what to
 * skip. A line longer than doc_bytes_max: *n = SIZE_MAX. */
static int next_line(struct dp_jsonl *j, size_t *n, size_t *whole, struct dp_err *e)
{
    struct dp_stream *s = j->s;
    size_t seen = 0, max = (size_t)j->run->o->doc_bytes_max;
    for (;;) {
        const char *nl = dp_stream_find(s, seen, s->len, "\n", 1);
        *n = nl ? (size_t)(nl - s->ptr) : s->len;
        *whole = nl ? *n + 1 : *n;
        if (*n > max) {
            *n = SIZE_MAX;
            return DP_OK;
        }
        if (nl) return DP_OK;
        seen = s->len;
        DP_TRY(dp_stream_need(s, s->len + 1, e));
        if (s->len > seen) continue;
        if (s->broken) {
            if (seen) dp_run_damage(j->run, s->where, s->offset, DP_CORRUPT, "the line at offset %llu is cut short; left out", (unsigned long long)s->offset);
            dp_stream_skip(s, seen);
            dp_stream_resume(s);
            /* What follows begins anywhere inside a line; it is judged like any other line. */
            return DP_EMPTY;
        }
        return seen ? DP_OK : DP_EOF;
    }
}

static int drop_line(struct dp_jsonl *j, struct dp_err *e)
{
    struct dp_stream *s = j->s;
    while (j->dropping) {
        const char *nl = dp_stream_find(s, 0, s->len, "\n", 1);
        dp_stream_skip(s, nl ? (size_t)(nl + 1 - s->ptr) : s->len);
        if (nl) break;
        DP_TRY(dp_stream_need(s, 1, e));
        if (!s->len) break;
    }
    j->dropping = false;
    return DP_OK;
}

/* DP_EMPTY: reported, no record. */
static int take_line(struct dp_jsonl *j, struct dp_span line, struct dp_record *rec, struct dp_err *e)
{
    const struct dp_ingest_options *o = j->run->o;
    struct dp_json_field f[F_COUNT] = {{.key = o->jsonl_text ? o->jsonl_text : "text"}, {.key = o->jsonl_id ? o->jsonl_id : "id"},
                                       {.key = o->jsonl_url ? o->jsonl_url : "url"}, {.key = o->jsonl_format ? o->jsonl_format : "format"}};
    unsigned long long at = j->s->offset;
    struct dp_err bad;
    dp_err_clear(&bad);
    dp_arena_reset(&j->mem);
    int rc = dp_json_fields(line, f, F_COUNT, &j->mem, &bad);
    if (rc == DP_NOMEM || rc == DP_LIMIT) /* the arena is larger than any line: only memory can lack */
        DP_FAIL(e, NOMEM, "%s: the line at offset %llu", j->run->name, at);
    if (rc < 0) {
        dp_run_damage(j->run, j->s->where, at, DP_CORRUPT, "the line at offset %llu is not JSON: %s; left out", at, bad.msg);
        return DP_EMPTY;
    }
    if (!f[F_TEXT].str.ptr && !dp_span_is(f[F_TEXT].raw, "null")) {
        dp_run_damage(j->run, j->s->where, at, DP_CORRUPT, "the line at offset %llu has no string \"%s\" (option jsonl_text); left out", at, f[F_TEXT].key);
        return DP_EMPTY;
    }
    rec->text = f[F_TEXT].str;
    rec->bytes_in = rec->text.len;
    rec->url = f[F_URL].str;
    rec->charset = dp_span_str("utf-8");
    rec->format = dp_span_is(f[F_FORMAT].str, "html") ? DP_FORMAT_HTML : dp_span_is(f[F_FORMAT].str, "markdown") ? DP_FORMAT_MARKDOWN : DP_FORMAT_TEXT;
    if (!rec->text.len) {
        rec->drop = DP_DROP_EMPTY;
        rec->limit = 1;
    }
    collect_meta(j, line, f);
    rec->meta = dp_buf_span(&j->meta);
    return dp_buf_check(&j->meta, "a line's metadata", e);
}

int dp_jsonl_next(struct dp_jsonl *j, struct dp_record *rec, struct dp_err *e)
{
    struct dp_stream *s = j->s;
    dp_stream_skip(s, j->drop);
    j->drop = 0;
    for (;;) {
        if (j->dropping) DP_TRY(drop_line(j, e));
        if (!j->begun) {
            j->begun = true;
            DP_TRY(dp_stream_need(s, 3, e));
            if (s->len >= 3 && memcmp(s->ptr, "\xef\xbb\xbf", 3) == 0) dp_stream_skip(s, 3);
        }
        size_t n, whole;
        int rc = next_line(j, &n, &whole, e);
        if (rc < 0 || rc == DP_EOF) return rc;
        if (rc == DP_EMPTY) continue;
        memset(rec, 0, sizeof *rec);
        snprintf(rec->at, sizeof rec->at, "@%llu", (unsigned long long)s->offset);
        if (n == SIZE_MAX) {
            rec->drop = DP_DROP_TOO_LARGE;
            rec->value = (double)whole;
            rec->limit = (double)j->run->o->doc_bytes_max;
            rec->bytes_in = whole;
            j->dropping = true;
            return DP_OK;
        }
        size_t text = n;
        while (text && (s->ptr[text - 1] == '\r' || s->ptr[text - 1] == ' ' || s->ptr[text - 1] == '\t')) text--;
        rc = text ? take_line(j, dp_span(s->ptr, text), rec, e) : DP_EMPTY;
        if (rc < 0) return rc;
        if (rc == DP_OK) {
            j->drop = whole;
            return DP_OK;
        }
        dp_stream_skip(s, whole);
    }
}
