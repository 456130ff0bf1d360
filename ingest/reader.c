/* A stack of levels, one for each container around the record at hand: the file, a member of an archive in it, and so on. The top level gives
 * the next record or, if it is an archive, the next member, which becomes a new top. So records come in the file's order and
 * memory depends on the depth only.
 *
 * What a level is, is judged by its first 64 KiB after all compression around it was taken off; the name decides only where bytes can't
 * (.jsonl, .md). Compressions don't make levels of their own: their streams stand on each other.
 *
 * A record is copied into the batch once. One that doesn't fit any more waits (`pending`) for the next call: its reader keeps it until then.
 * Batch boundaries depend on record sizes only, never on the state of a recycled arena. */
#include "ingest/reader.h"

#include "base/buf.h"
#include "base/fs.h"
#include "ingest/archive_src.h"
#include "ingest/format_guess.h"
#include "ingest/inflate.h"
#include "ingest/jsonl_reader.h"
#include "ingest/warc.h"

#include <stdlib.h>

enum { BATCH_BYTES = 2 << 20, LEVELS_MAX = 33 };

const struct dp_opt dp_ingest_opts[] = {
#define AT(f) offsetof(struct dp_ingest_options, f)
    {.name = "doc_bytes_max", .type = DP_OPT_SIZE, .offset = AT(doc_bytes_max), .preset = "16M", .min = 1024, .max = 1073741824.0, .arg = "BYTES",
     .help = "Drop records larger than this, unread."},
    {.name = "total_bytes_max", .type = DP_OPT_SIZE, .offset = AT(total_bytes_max), .preset = "1T", .min = 1, .max = 9e18, .arg = "BYTES",
     .help = "Stop reading a source file after this many bytes came out of its archives and compressions."},
    {.name = "nested_bytes_max", .type = DP_OPT_SIZE, .offset = AT(nested_bytes_max), .preset = "256M", .min = 0, .max = 68719476736.0, .arg = "BYTES",
     .help = "Memory for archives inside archives that can't be streamed (zip, 7z, iso)."},
    {.name = "ratio_max", .type = DP_OPT_REAL, .offset = AT(ratio_max), .preset = "2000", .min = 1, .max = 1e12, .arg = "N",
     .help = "Refuse data that expands more than this many times, once 16 MiB came out of it."},
    {.name = "depth_max", .type = DP_OPT_INT, .offset = AT(depth_max), .preset = "6", .min = 0, .max = LEVELS_MAX - 1, .arg = "N",
     .help = "Archives and compressions inside each other."},
    {.name = "members_max", .type = DP_OPT_INT, .offset = AT(members_max), .preset = "10000000", .min = 1, .max = 4e9, .arg = "N",
     .help = "Members of one source file."},
    {.name = "jsonl_text", .type = DP_OPT_STRING, .offset = AT(jsonl_text), .preset = "text", .arg = "FIELD", .help = "JSONL field that holds the text."},
    {.name = "jsonl_id", .type = DP_OPT_STRING, .offset = AT(jsonl_id), .preset = "id", .arg = "FIELD", .help = "JSONL field kept as id in the metadata."},
    {.name = "jsonl_url", .type = DP_OPT_STRING, .offset = AT(jsonl_url), .preset = "url", .arg = "FIELD", .help = "JSONL field that holds the URL."},
    {.name = "jsonl_format", .type = DP_OPT_STRING, .offset = AT(jsonl_format), .preset = "format", .arg = "FIELD",
     .help = "JSONL field that says html, markdown or text."},
    {.name = "plain_text_html", .type = DP_OPT_BOOL, .offset = AT(plain_text_html), .preset = "false",
     .help = "Read web pages declared text/plain as HTML when they begin like it."},
    DP_OPT_END,
#undef AT
};

enum kind { WHOLE, ARCHIVE, WARC, JSONL };

struct level {
    enum kind kind;
    struct dp_stream *s;     /* after decompression; owns the streams it stands on */
    struct dp_stream *under; /* the stream whose window s looks into, when s is a nested archive in memory */
    int depth;               /* containers and compressions around its bytes */
    uint64_t declared;       /* size, 0 when unknown */
    bool done;               /* WHOLE: its record was taken */
    bool damaged;            /* nothing came before the first damage (reported) */
    char *name;              /* for guessing, compression suffixes taken off */
    struct dp_archive *archive;
    struct dp_warc *warc;
    struct dp_jsonl *jsonl;
};

struct dp_reader {
    struct dp_ingest_run run;
    struct dp_map map;
    char *name;
    struct dp_buf prefix, id_text;
    size_t digest_len;
    struct level stack[LEVELS_MAX];
    int levels;
    bool pending;
    struct dp_record rec;
    uint64_t seq;
};

/* --- levels --- */

static void level_close(struct dp_reader *r, struct level *l)
{
    dp_warc_close(l->warc);
    dp_jsonl_close(l->jsonl);
    dp_archive_close(l->archive);
    dp_stream_close(l->s);
    if (l->under) r->run.buffered -= l->under->len;
    dp_stream_close(l->under);
    free(l->name);
    memset(l, 0, sizeof *l);
}

static bool too_deep(struct dp_reader *r, const struct level *l)
{
    if (l->depth < r->run.o->depth_max) return false;
    dp_run_damage(&r->run, l->s->where, l->s->offset, DP_LIMIT, "more than %lld archives and compressions inside each other (limit depth_max); not opened",
                  (long long)r->run.o->depth_max);
    return true;
}

/* Take off all compression. DP_EMPTY: refused (reported). */
static int decompress(struct dp_reader *r, struct level *l, struct dp_err *e)
{
    for (;;) {
        DP_TRY(dp_stream_need(l->s, DP_PEEK_BYTES, e));
        if (!l->s->len && l->s->broken && !l->s->eof) {
            l->damaged = true;
            dp_stream_resume(l->s);
            continue;
        }
        enum dp_codec codec = dp_codec_sniff(dp_span(l->s->ptr, l->s->len));
        if (!codec) return DP_OK;
        if (too_deep(r, l)) return DP_EMPTY;
        size_t stem;
        bool tar;
        if (dp_codec_suffix(codec, dp_span_str(l->name), &stem, &tar)) l->name[stem] = 0;
        struct dp_stream *s;
        DP_TRY(dp_inflate_open(&s, codec, l->s, e));
        l->s = s;
        l->depth++;
        l->declared = 0;
    }
}

/* An archive that must seek, in a stream that can't: hold it in memory. DP_EMPTY: too large (reported). */
static int hold(struct dp_reader *r, struct level *l, struct dp_err *e)
{
    uint64_t left = r->run.o->nested_bytes_max > r->run.buffered ? r->run.o->nested_bytes_max - r->run.buffered : 0;
    DP_TRY(dp_stream_need(l->s, (size_t)left + 1, e));
    if (l->s->len > left) {
        dp_run_damage(&r->run, l->s->where, 0, DP_LIMIT, "the nested archive needs more than %llu bytes of memory (limit nested_bytes_max); not opened",
                      (unsigned long long)r->run.o->nested_bytes_max);
        return DP_EMPTY;
    }
    struct dp_stream *m = dp_stream_memory(&r->run, l->s->ptr, l->s->len, l->s->where);
    if (!m) DP_FAIL(e, NOMEM, "%s: a nested archive", r->name);
    l->under = l->s;
    l->s = m;
    r->run.buffered += m->len;
    return DP_OK;
}

static bool has_suffix(const char *name)
{
    const char *slash = strrchr(name, '/'), *dot = strrchr(name, '.');
    return dot && (!slash || dot > slash + 1);
}

static int recognise(struct dp_reader *r, struct level *l, struct dp_err *e)
{
    struct dp_span first = dp_span(l->s->ptr, l->s->len), name = dp_span_str(l->name);
    enum dp_archive_kind archive = dp_archive_sniff(first, l->s->whole);
    if (dp_warc_sniff(first) || dp_name_ends(name, ".warc")) {
        l->kind = WARC;
        return dp_warc_open(&l->warc, l->s, e);
    }
    if (archive) {
        if (too_deep(r, l)) return DP_EMPTY;
        l->depth++;
        l->kind = ARCHIVE;
        if (archive == DP_ARCHIVE_SEEKING && !l->s->whole) {
            int rc = hold(r, l, e);
            if (rc != DP_OK) return rc;
        }
        return dp_archive_open(&l->archive, l->s, e);
    }
    bool named = dp_name_ends(name, ".jsonl") || dp_name_ends(name, ".ndjson");
    bool maybe = dp_name_ends(name, ".json") || !has_suffix(l->name);
    if ((named && !dp_looks_binary(first)) || (maybe && dp_jsonl_sniff(first))) {
        l->kind = JSONL;
        return dp_jsonl_open(&l->jsonl, l->s, e);
    }
    l->kind = WHOLE;
    return DP_OK;
}

/* A new top level over `s`, which it owns from now on, whatever happens. */
static int push(struct dp_reader *r, struct dp_stream *s, struct dp_span name, int depth, uint64_t declared, struct dp_err *e)
{
    DP_ASSERT(r->levels < LEVELS_MAX);
    struct level *l = &r->stack[r->levels++];
    memset(l, 0, sizeof *l);
    l->s = s;
    l->depth = depth;
    l->declared = declared;
    l->name = strndup(name.len ? name.ptr : "", name.len);
    if (!l->name) DP_FAIL(e, NOMEM, "%s: a member's name", r->name);
    int rc = decompress(r, l, e);
    if (rc == DP_OK) rc = recognise(r, l, e);
    if (rc == DP_EMPTY) {
        level_close(r, l);
        r->levels--;
    }
    return rc < 0 ? rc : DP_OK;
}

/* --- records --- */

/* The whole stream as one document. DP_EOF when it was damaged (reported) or taken before. */
static int take_whole(struct dp_reader *r, struct level *l, struct dp_record *rec, struct dp_err *e)
{
    uint64_t max = r->run.o->doc_bytes_max;
    if (l->done) return DP_EOF;
    l->done = true;
    DP_TRY(dp_stream_need(l->s, (size_t)max + 1, e));
    bool large = l->s->len > max;
    if (!large && (l->s->broken || (r->run.refused && !l->s->whole))) return DP_EOF;
    if (!l->s->len && l->damaged) return DP_EOF; /* not an empty document, but none */
    memset(rec, 0, sizeof *rec);
    rec->text = dp_span(l->s->ptr, l->s->len);
    rec->bytes_in = l->declared > l->s->len ? l->declared : l->s->len;
    rec->format = dp_format_of_file(dp_span_str(l->name), rec->text);
    if (large) {
        rec->drop = DP_DROP_TOO_LARGE;
        rec->value = (double)rec->bytes_in;
        rec->limit = (double)max;
    } else if (!rec->text.len) {
        rec->drop = DP_DROP_EMPTY;
        rec->limit = 1;
    } else if (rec->format == DP_FORMAT_BINARY) {
        rec->drop = DP_DROP_FORMAT;
    }
    return DP_OK;
}

/* The next record of the source into r->rec, or DP_EOF. */
static int next_record(struct dp_reader *r, struct dp_err *e)
{
    while (r->levels) {
        struct level *l = &r->stack[r->levels - 1];
        struct dp_stream *member;
        struct dp_span name;
        uint64_t size = 0;
        int rc = DP_EOF;
        switch (l->kind) {
        case WHOLE: rc = take_whole(r, l, &r->rec, e); break;
        case WARC: rc = dp_warc_next(l->warc, &r->rec, e); break;
        case JSONL: rc = dp_jsonl_next(l->jsonl, &r->rec, e); break;
        case ARCHIVE:
            rc = dp_archive_next(l->archive, &member, &name, &size, e);
            if (rc == DP_OK) {
                DP_TRY(push(r, member, name, l->depth, size, e));
                continue;
            }
            break;
        }
        if (rc == DP_OK || rc < 0) return rc;
        level_close(r, l);
        r->levels--;
    }
    return DP_EOF;
}

static int record_id(struct dp_reader *r, const char *where, struct dp_span *pos, struct dp_err *e)
{
    struct dp_buf *t = &r->id_text;
    t->len = r->digest_len;
    t->full = false;
    dp_buf_add_span(t, dp_buf_span(&r->prefix));
    if (r->prefix.len && where[0]) dp_buf_add_char(t, '!');
    dp_buf_add_str(t, where);
    dp_buf_add_str(t, r->rec.at);
    *pos = dp_span(t->ptr + r->digest_len, t->len - r->digest_len);
    return dp_buf_check(t, "a record's position", e);
}

/* Copy r->rec into b: DP_OK, or DP_EMPTY when it has to wait for an empty batch. */
static int add_row(struct dp_reader *r, struct dp_batch *b, size_t *bytes, struct dp_err *e)
{
    struct dp_record *rec = &r->rec;
    struct dp_span pos;
    DP_TRY(record_id(r, r->stack[r->levels - 1].s->where, &pos, e));
    if (rec->drop) rec->text = dp_span("", 0);
    size_t n = rec->text.len + rec->url.len + rec->mime.len + rec->charset.len + rec->meta.len + pos.len;
    if (b->count && *bytes + n > BATCH_BYTES) return DP_EMPTY;
    int64_t at = dp_batch_add(b);
    if (at < 0) return DP_EMPTY;
    uint32_t i = (uint32_t)at;
    struct dp_span *const to[] = {&b->text[i], &b->pos[i], &b->url[i], &b->mime[i], &b->charset[i], &b->meta[i]};
    const struct dp_span from[] = {rec->text, pos, rec->url, rec->mime, rec->charset, rec->meta};
    for (int k = 0; k < 6; k++) {
        *to[k] = dp_arena_dup(&b->mem, from[k]);
        if (to[k]->ptr) continue;
        b->count--;
        if (b->mem.bytes_max - b->mem.bytes_held > n + 4096) DP_FAIL(e, NOMEM, "%s: a record of %zu bytes", r->name, n);
        if (b->count) return DP_EMPTY;
        if (rec->drop) DP_FAIL(e, LIMIT, "%s: the batch has no room for a record's metadata; give it more memory", r->name);
        rec->drop = DP_DROP_TOO_LARGE;
        rec->value = (double)rec->bytes_in;
        rec->limit = (double)b->mem.bytes_max;
        return add_row(r, b, bytes, e);
    }
    b->id[i] = dp_hash128(r->id_text.ptr, r->id_text.len);
    b->format[i] = (uint8_t)rec->format;
    b->bytes_in[i] = rec->bytes_in < UINT32_MAX ? (uint32_t)rec->bytes_in : UINT32_MAX;
    if (rec->drop) dp_batch_drop(b, i, rec->drop, rec->value, rec->limit);
    *bytes += n;
    r->run.stats.records++;
    r->run.stats.bytes_out += rec->bytes_in;
    return DP_OK;
}

int dp_reader_next(struct dp_reader *r, struct dp_batch *b, struct dp_err *e)
{
    size_t bytes = 0;
    dp_batch_reset(b);
    b->columns = DP_COL_ID | DP_COL_BYTES;
    while (b->count < b->cap && bytes < BATCH_BYTES) {
        if (!r->pending) {
            int rc = next_record(r, e);
            if (rc < 0) return rc;
            if (rc == DP_EOF) break;
            r->pending = true;
        }
        int rc = add_row(r, b, &bytes, e);
        if (rc < 0) return rc;
        if (rc == DP_EMPTY) break;
        r->pending = false;
    }
    if (!b->count) return DP_EOF;
    b->seq = r->seq++;
    return DP_OK;
}

/* --- opening --- */

static int open_bytes(struct dp_reader **out, const struct dp_ingest_options *o, struct dp_span bytes, bool mapped, const char *name,
                      const char *prefix, const char *digest, dp_damage_fn damage, void *damage_ctx, struct dp_err *e)
{
    struct dp_reader *r = calloc(1, sizeof *r);
    int rc = DP_OK;
    *out = NULL;
    if (!r) DP_FAIL(e, NOMEM, "%s: a reader", name);
    r->run = (struct dp_ingest_run){.o = o, .file_bytes = bytes.len, .damage = damage, .damage_ctx = damage_ctx};
    r->run.stats.bytes_raw = bytes.len;
    dp_buf_init(&r->prefix, 1 << 20);
    dp_buf_init(&r->id_text, 8 << 20);
    r->name = strdup(name);
    struct dp_stream *s = dp_stream_memory(&r->run, bytes.len ? bytes.ptr : "", bytes.len, "");
    if (!r->name || !s) {
        dp_stream_close(s);
        DP_GOTO(e, NOMEM, "%s: a reader", name);
    }
    s->mapped = mapped;
    r->run.name = r->name;
    dp_clean_name(&r->prefix, dp_span_str(prefix));
    dp_buf_add_str(&r->id_text, digest);
    dp_buf_add_char(&r->id_text, '\n');
    r->digest_len = r->id_text.len;
    rc = dp_buf_check(&r->prefix, "a file's relative path", e);
    if (rc >= 0) rc = dp_buf_check(&r->id_text, "a digest", e);
    if (rc < 0) dp_stream_close(s);
    else rc = push(r, s, dp_span_str(name), 0, 0, e);
out:
    if (rc < 0) {
        dp_reader_close(r);
        return rc;
    }
    *out = r;
    return DP_OK;
}

int dp_reader_open_span(struct dp_reader **out, const struct dp_ingest_options *o, struct dp_span bytes, const char *name, const char *prefix,
                        const char *digest, dp_damage_fn damage, void *damage_ctx, struct dp_err *e)
{
    return open_bytes(out, o, bytes, false, name, prefix, digest, damage, damage_ctx, e);
}

int dp_reader_open(struct dp_reader **out, const struct dp_ingest_options *o, int fd, const char *name, const char *prefix, const char *digest,
                   dp_damage_fn damage, void *damage_ctx, struct dp_err *e)
{
    struct dp_map map;
    *out = NULL;
    DP_TRY(dp_map_fd(&map, fd, name, e));
    int rc = open_bytes(out, o, dp_span(map.ptr, map.len), map.len > 0, name, prefix, digest, damage, damage_ctx, e);
    if (rc < 0) dp_map_close(&map);
    else (*out)->map = map;
    return rc;
}

void dp_reader_stats(const struct dp_reader *r, struct dp_reader_stats *s)
{
    *s = r->run.stats;
}

void dp_reader_close(struct dp_reader *r)
{
    if (!r) return;
    while (r->levels) level_close(r, &r->stack[--r->levels]);
    dp_map_close(&r->map);
    dp_buf_release(&r->prefix);
    dp_buf_release(&r->id_text);
    free(r->name);
    free(r);
}
