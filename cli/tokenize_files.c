/* The caller's thread maps files and cuts pieces of about 1 MiB; threads encode them (base/ordered); whoever finishes the eldest writes it and those behind it. */
#include "cli/tokenize_files.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/ordered.h"
#include "base/progress.h"
#include "base/utf8.h"
#include "cli/shard_folder.h"
#include "cli/text_line.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PIECE = 1 << 20 };

/* A mapped file; the last piece closes it. */
struct source {
    struct dp_map map;
    const char *path;
    uint32_t number;
    atomic_int users;
};
struct doc {
    size_t ids_end; /* in the piece's ids */
    struct dp_hash128 content;
    uint64_t at, bytes; /* in the file, of text */
};
struct piece {
    struct source *src;
    size_t from, to;
    uint64_t first; /* number of its first line, from 1 */
    bool part;      /* of a document that is the whole file; `last` has its end */
    bool last;
    struct dp_ids ids;
    struct doc *docs;
    size_t count, cap;
    uint64_t skipped;
    int rc;
    struct dp_err err;
};
/* Of one thread. */
struct worker {
    struct dp_encoder *enc;
    struct dp_arena mem;
    struct dp_buf valid; /* a text with its bad bytes replaced */
};
struct run {
    const struct dp_tokenize_files *o;
    const struct dp_tokenizer *tok;
    struct dp_ordered *jobs;
    struct dp_shard_folder *folder;
    struct dp_hasher *hash; /* of a document in parts */
    bool begun;             /* it has begun */
    int threads;
    struct worker *worker;
    uint64_t bytes, skipped;
};

static void free_piece(void *job)
{
    struct piece *p = job;
    dp_ids_release(&p->ids);
    free(p->docs);
    free(p);
}

/* --- a piece's texts: any thread --- */

static int add_doc(struct piece *p, struct dp_span text, uint64_t at, struct dp_err *e)
{
    if (p->count == p->cap) {
        size_t cap = p->cap * 2 + 64;
        struct doc *d = realloc(p->docs, cap * sizeof *d);
        if (!d) DP_FAIL(e, NOMEM, "%zu documents", cap);
        p->docs = d;
        p->cap = cap;
    }
    p->docs[p->count++] = (struct doc){p->ids.len, dp_hash128(text.ptr, text.len), at, text.len};
    return DP_OK;
}

static int encode_text(struct run *r, struct worker *w, struct piece *p, struct dp_span text, struct dp_err *e)
{
    if (r->o->replace) DP_TRY(dp_utf8_replace(text, &w->valid, &text, e)); /* no cut is inside of a character */
    return dp_encode(w->enc, text, &p->ids, e);
}

static int encode_doc(struct run *r, struct worker *w, struct piece *p, struct dp_span line, uint64_t at, struct dp_err *e)
{
    struct dp_span text = line;
    if (r->o->jsonl) DP_TRY(dp_text_of_json(line, r->o->field, r->o->b64_field, &w->mem, &text, e));
    if (!text.len) return DP_OK;
    DP_TRY(encode_text(r, w, p, text, e));
    return add_doc(p, text, at, e);
}

static int encode_lines(struct run *r, struct worker *w, struct piece *p, struct dp_err *e)
{
    uint64_t number = p->first;
    const char *start = p->src->map.ptr, *end = start + p->to;
    for (const char *at = start + p->from, *nl; at < end; at = nl + 1, number++) {
        nl = memchr(at, '\n', (size_t)(end - at));
        if (!nl) nl = end;
        int rc = encode_doc(r, w, p, dp_span(at, (size_t)(nl - at)), (uint64_t)(at - start), e);
        if (w->mem.bytes_held > 1 << 24) dp_arena_release(&w->mem);
        else dp_arena_reset(&w->mem);
        if (rc >= 0) continue;
        if (!r->o->skip || rc == DP_NOMEM) {
            dp_err_prefix(e, "%s line %llu", p->src->path, (unsigned long long)number);
            return rc;
        }
        p->skipped++;
    }
    return DP_OK;
}

/* One system call maps a piece's pages, where a fault every 16 would. An old kernel doesn't know it. */
static void populate(const struct piece *p)
{
#ifdef MADV_POPULATE_READ
    size_t page = (size_t)sysconf(_SC_PAGESIZE), from = p->from / page * page;
    if (p->to > from) madvise((void *)(uintptr_t)(p->src->map.ptr + from), p->to - from, MADV_POPULATE_READ);
#else
    (void)p;
#endif
}

static void encode_piece(void *ctx, void *job, int worker)
{
    struct run *r = ctx;
    struct piece *p = job;
    struct worker *w = &r->worker[worker];
    populate(p);
    if (!w->enc) p->rc = dp_encoder_open_beside(&w->enc, r->worker[0].enc, r->o->special, &p->err);
    if (p->rc >= 0) p->rc = dp_ids_reserve(&p->ids, (p->to - p->from) / 3 + 1024, &p->err);
    if (p->rc < 0) return;
    if (p->part) p->rc = encode_text(r, w, p, dp_span(p->src->map.ptr + p->from, p->to - p->from), &p->err);
    else p->rc = encode_lines(r, w, p, &p->err);
}

/* --- in order --- */

static struct dp_hash128 id_of(const struct source *s, struct dp_hash128 content, uint64_t at)
{
    const uint64_t v[4] = {content.lo, content.hi, at, s->number};
    return dp_hash128(v, sizeof v);
}

static int write_part(struct run *r, struct piece *p, struct dp_err *e)
{
    uint64_t all = p->src->map.len;
    if (!r->begun) DP_TRY(dp_shard_folder_begin(r->folder, all, e));
    r->begun = !p->last;
    dp_hasher_add(r->hash, p->src->map.ptr + p->from, p->to - p->from);
    if (!p->last) return dp_shard_folder_part(r->folder, p->ids.ptr, p->ids.len, e);
    struct dp_hash128 content = dp_hasher_finish(r->hash);
    return dp_shard_folder_add(r->folder, id_of(p->src, content, 0), content, p->src->number, p->ids.ptr, p->ids.len, all, e);
}

static int write_docs(struct run *r, struct piece *p, struct dp_err *e)
{
    size_t from = 0;
    for (size_t i = 0; i < p->count; from = p->docs[i++].ids_end) {
        const struct doc *d = &p->docs[i];
        DP_TRY(dp_shard_folder_add(r->folder, id_of(p->src, d->content, d->at), d->content, p->src->number, p->ids.ptr + from, d->ids_end - from, d->bytes, e));
    }
    return DP_OK;
}

/* The piece's pages count as our memory no more. Those at its ends may be another's. */
static void give_back(const struct piece *p)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), from = (p->from + page - 1) / page * page, to = p->to / page * page;
    if (to > from) madvise((void *)(uintptr_t)(p->src->map.ptr + from), to - from, MADV_DONTNEED);
}

static int write_piece(void *ctx, void *job, struct dp_err *e)
{
    struct run *r = ctx;
    struct piece *p = job;
    if (p->rc < 0) return *e = p->err, p->rc;
    DP_TRY(dp_progress_go_on(e));
    int rc = p->part ? write_part(r, p, e) : write_docs(r, p, e);
    if (rc < 0) return dp_err_prefix(e, "%s", p->src->path);
    give_back(p);
    r->bytes += p->to - p->from;
    r->skipped += p->skipped;
    dp_progress_add(p->to - p->from, p->part ? p->last : p->count);
    return DP_OK;
}

static void leave(struct source *s)
{
    if (atomic_fetch_sub(&s->users, 1) > 1) return;
    dp_map_close(&s->map);
    free(s);
}

static bool drop_piece(void *ctx, void *job)
{
    struct piece *p = job;
    (void)ctx;
    leave(p->src);
    return p->ids.cap <= 4 * PIECE && p->cap <= PIECE;
}

/* --- cutting --- */

static size_t cut(const struct run *r, struct dp_span all, size_t from)
{
    if (all.len - from <= PIECE) return all.len;
    if (r->o->whole_file) return dp_encode_restart(r->tok, r->o->special, all, from + PIECE);
    const char *nl = memchr(all.ptr + from + PIECE, '\n', all.len - from - PIECE);
    return nl ? (size_t)(nl - all.ptr) + 1 : all.len;
}

static uint64_t count_lines(const char *p, size_t n)
{
    uint64_t lines = 0;
    for (const char *end = p + n, *nl; p < end && (nl = memchr(p, '\n', (size_t)(end - p))); p = nl + 1) lines++;
    return lines;
}

static int add_pieces(struct run *r, struct source *s, struct dp_err *e)
{
    struct dp_span all = dp_span(s->map.ptr, s->map.len);
    uint64_t line = 1;
    for (size_t from = 0, to; from < all.len; from = to) {
        DP_TRY(dp_progress_go_on(e));
        struct piece *p = dp_ordered_spare(r->jobs);
        if (!p) p = calloc(1, sizeof *p);
        if (!p) DP_FAIL(e, NOMEM, "a piece of %s", s->path);
        to = cut(r, all, from);
        *p = (struct piece){.src = s, .from = from, .to = to, .first = line, .part = r->o->whole_file, .last = to == all.len, .ids = {p->ids.ptr, 0, p->ids.cap},
                            .docs = p->docs, .cap = p->cap};
        if (r->o->jsonl && to < all.len) line += count_lines(all.ptr + from, to - from);
        atomic_fetch_add(&s->users, 1);
        DP_TRY(dp_ordered_add(r->jobs, p, to - from, e));
    }
    return DP_OK;
}

static int add_file(struct run *r, const char *path, uint32_t number, struct dp_err *e)
{
    struct source *s = calloc(1, sizeof *s);
    if (!s) DP_FAIL(e, NOMEM, "%s", path);
    s->path = path;
    s->number = number;
    atomic_init(&s->users, 1);
    int rc = dp_map_open(&s->map, path, e);
    if (rc >= 0 && s->map.len) madvise((void *)(uintptr_t)s->map.ptr, s->map.len, MADV_SEQUENTIAL); /* reads ahead further, where it comes from a disk */
    if (rc >= 0) rc = add_pieces(r, s, e);
    leave(s);
    return rc;
}

/* --- */

static int open_run(struct run *r, struct dp_cli *c, struct dp_err *e)
{
    static const struct dp_ordered_type type = {encode_piece, write_piece, drop_piece, free_piece};
    const struct dp_shards_options *so = &c->options.shards;
    const struct dp_shard_packing how = {(int)so->zstd_level, (uint32_t)so->zstd_frame_ids};
    const struct dp_shard_meta meta = {.vocab_size = dp_tokenizer_size(r->tok), .eot = r->o->eot, .tokenizer = dp_tokenizer_digest(r->tok)};
    r->worker = calloc((size_t)r->threads, sizeof *r->worker);
    if (!r->worker) DP_FAIL(e, NOMEM, "encoders");
    for (int i = 0; i < r->threads; i++) {
        dp_arena_init(&r->worker[i].mem, (size_t)2 << 30);
        dp_buf_init(&r->worker[i].valid, (size_t)4 << 30);
    }
    DP_TRY(dp_encoder_open(&r->worker[0].enc, r->tok, (size_t)so->encoder_cache, r->o->special, e));
    DP_TRY(dp_hasher_open(&r->hash, e));
    DP_TRY(dp_shard_folder_open(&r->folder, r->o->folder, &meta, so->compression == DP_SHARDS_ZSTD ? &how : NULL, so->bytes_per_shard, e));
    return dp_ordered_open(&r->jobs, r->threads, (size_t)r->threads * 4 * PIECE, &type, r, e);
}

static void close_run(struct run *r)
{
    dp_ordered_close(r->jobs);
    dp_shard_folder_close(r->folder);
    dp_hasher_close(r->hash);
    for (int i = 0; r->worker && i < r->threads; i++) {
        dp_encoder_close(r->worker[i].enc);
        dp_arena_release(&r->worker[i].mem);
        dp_buf_release(&r->worker[i].valid);
    }
    free(r->worker);
}

static int say(struct dp_cli *c, const struct run *r, const struct dp_manifest *m, size_t shards, struct dp_err *e)
{
    if (r->skipped) dp_log(WARN, "tokenize", "%llu lines were bad data and are left out", (unsigned long long)r->skipped);
    dp_log(INFO, "tokenize", "%s: %llu documents, %llu tokens in %zu shards", r->o->folder, (unsigned long long)m->documents, (unsigned long long)m->tokens, shards);
    return DP_SAY(c, e, {"folder", r->o->folder, 0}, {"shards", NULL, shards}, {"documents", NULL, m->documents}, {"tokens", NULL, m->tokens},
                  {"bytes", NULL, r->bytes}, {"lines_left_out", NULL, r->skipped});
}

int dp_tokenize_files(struct dp_cli *c, const struct dp_tokenize_files *o, const struct dp_tokenizer *tok, const char *const *files, size_t n, struct dp_err *e)
{
    struct run r = {.o = o, .tok = tok, .threads = (int)c->global.threads};
    struct dp_manifest m;
    int rc = open_run(&r, c, e);
    dp_progress_begin("tokenize", "B", 0);
    for (size_t i = 0; rc >= 0 && i < n; i++) rc = add_file(&r, files[i], (uint32_t)i, e);
    if (rc >= 0) rc = dp_ordered_finish(r.jobs, e);
    dp_progress_end();
    if (rc >= 0) rc = dp_shard_folder_finish(r.folder, &m, e);
    if (rc >= 0) rc = say(c, &r, &m, m.count, e);
    close_run(&r);
    return rc;
}
