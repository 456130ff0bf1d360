#include "daemon/unit_worker.h"

#include "base/log.h"
#include "dedup/sigfile.h"
#include "dedup/signature.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    ZSTD_LEVEL = 3,
    BATCH_ROWS = 2048,
    EXCERPT_BYTES = 400, /* of a dropped document, in the drop log */
    DAMAGE_LOGGED = 20,  /* messages a unit */
    DAMAGE_BYTES = 8 << 20, /* of lines for the records file, about 40,000 damaged places a unit; the rest is a number */
};
/* A batch holds about 2 MiB of records; its arena must also hold what stages make of the largest document. */
#define BATCH_BYTES_MAX ((size_t)512 << 20)

/* A signature file being written onto a descriptor of its own. */
struct signatures {
    struct dp_out *out;
    struct dp_sigfile_writer *w;
};

static void signatures_close(struct signatures *s)
{
    dp_sigfile_writer_close(s->w);
    dp_out_close(s->out);
    *s = (struct signatures){NULL, NULL};
}

static int signatures_open(struct signatures *s, int fd, const struct dp_pipeline *clean, struct dp_err *e)
{
    struct dp_sig_params params = dp_stage_signature_params(clean->ctx[clean->count - 1]);
    int rc = dp_out_fd(&s->out, fd, "signatures", true, e);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    return dp_sigfile_writer_open(&s->w, s->out, &params, e);
}

static int signatures_add(struct signatures *s, const struct dp_batch *b, uint32_t i, struct dp_err *e)
{
    struct dp_sig_record r = {b->hash[i], b->text[i].len < UINT32_MAX ? (uint32_t)b->text[i].len : UINT32_MAX, b->score[i], b->sig[i]};
    return dp_sigfile_writer_add(s->w, &r, e);
}

static int signatures_finish(struct signatures *s, char hex[DP_HEX256], struct dp_err *e)
{
    DP_TRY(dp_sigfile_writer_finish(s->w, e));
    return dp_out_finish(s->out, hex, e);
}

struct work {
    const struct dp_unit_job *job;
    struct dp_unit_result *res;
    struct dp_reader *reader;
    size_t member; /* the one being read, or the next */
    uint64_t rows; /* that it gave */
    struct dp_lines *out[3];
    struct signatures sig;
    struct dp_buf damage; /* lines for the records file, written when no row is */
    uint64_t unlisted, unlisted_offset; /* damaged places past DAMAGE_BYTES; where the first of them is */
    char unlisted_path[1024];
    const char *name; /* of the member being read */
};

static void print_damage(struct work *w, const char *what, const char *path, uint64_t offset)
{
    struct dp_jsonw j;
    dp_jsonw_init(&j, &w->damage, 0);
    dp_jsonw_begin(&j, '{');
    dp_jsonw_key(&j, "damage");
    dp_jsonw_cstr(&j, what);
    dp_jsonw_key(&j, "path");
    dp_jsonw_cstr(&j, path);
    dp_jsonw_key(&j, "offset");
    dp_jsonw_uint(&j, offset);
    dp_jsonw_end(&j, '}');
    dp_buf_add_char(&w->damage, '\n');
}

static void on_damage(void *ctx, const struct dp_damage *d)
{
    struct work *w = ctx;
    if (w->res->damaged++ < DAMAGE_LOGGED)
        dp_log_at(WARN, "ingest", (&(struct dp_log_where){.path = d->path, .offset = (int64_t)d->offset}), "%s", d->msg);
    if (w->damage.len < DAMAGE_BYTES) {
        print_damage(w, d->msg, d->path, d->offset);
        return;
    }
    if (!w->unlisted++) {
        snprintf(w->unlisted_path, sizeof w->unlisted_path, "%s", d->path);
        w->unlisted_offset = d->offset;
    }
}

/* DP_EOF: nothing of this member is to be read. */
static int open_reader(struct work *w, struct dp_err *e)
{
    const struct dp_unit_job *job = w->job;
    const char *name, *prefix, *digest;
    uint32_t member = (uint32_t)w->member;
    int fd = job->open_member(job->ctx, w->member, &name, &prefix, &digest, e);
    if (fd < 0) return fd;
    w->name = name;
    w->rows = 0;
    if (dp_care_ends(job->care, member, 0)) {
        close(fd);
        return DP_EOF;
    }
    dp_watch_reading(job->watch, member, 0, dp_care_wanted(job->care, member, 0, UINT64_MAX, true));
    int rc = dp_reader_open(&w->reader, job->ingest, fd, name, prefix, digest, on_damage, w, e);
    close(fd);
    return rc;
}

/* The next rows of the member at hand: those that `care` lets be read. */
static int read_rows(struct work *w, struct dp_batch *b, struct dp_err *e)
{
    const struct dp_unit_job *job = w->job;
    uint32_t member = (uint32_t)w->member, cap = b->cap;
    if (dp_care_ends(job->care, member, w->rows)) return DP_EOF;
    bool exact = dp_care_wanted(job->care, member, w->rows, UINT64_MAX - w->rows, true);
    dp_watch_reading(job->watch, member, w->rows, exact);
    if (exact) b->cap = 1;
    int rc = dp_reader_next(w->reader, b, e);
    b->cap = cap;
    if (rc == DP_OK) {
        b->member = member;
        b->first = w->rows;
        if (job->watch) dp_fault_check(b, 0);
        w->rows += b->count;
        dp_care_drop(job->care, b, 0);
    }
    if (rc >= 0) dp_watch_read_done(job->watch);
    return rc;
}

static void end_member(struct work *w)
{
    const struct dp_unit_job *job = w->job;
    struct dp_reader_stats s = {0};
    if (dp_care_ends(job->care, (uint32_t)w->member, w->rows)) {
        struct dp_damage d = {.path = w->name, .code = DP_LIMIT, .msg = "reading on crashes or outruns the worker: the rest is in quarantine"};
        on_damage(w, &d);
    }
    if (w->reader) dp_reader_stats(w->reader, &s);
    if (job->progress) job->progress(job->ctx, s.bytes_raw, 0);
    dp_reader_close(w->reader);
    w->reader = NULL;
    w->member++;
}

static int next_batch(void *ctx, struct dp_batch *b, struct dp_err *e)
{
    struct work *w = ctx;
    while (w->reader || w->member < w->job->members) {
        int rc = w->reader ? DP_OK : open_reader(w, e);
        if (rc == DP_OK) rc = read_rows(w, b, e);
        if (rc != DP_EOF) {
            if (rc == DP_OK && w->job->progress) w->job->progress(w->job->ctx, 0, b->count);
            return rc;
        }
        end_member(w);
    }
    return DP_EOF;
}

static const char *const formats[] = {"unknown", "text", "markdown", "html", "xml", "binary"};

/* Format and size are what the reader saw; the drop stands only if it was the reader's. */
static void print_record(const struct dp_batch *b, uint32_t i, struct dp_buf *out)
{
    struct dp_jsonw j;
    char hex[DP_HEX128];
    dp_hash128_hex(b->id[i], hex);
    dp_jsonw_init(&j, out, 0);
    dp_jsonw_begin(&j, '{');
    dp_jsonw_key(&j, "id");
    dp_jsonw_cstr(&j, hex);
    dp_jsonw_key(&j, "pos");
    dp_jsonw_str(&j, b->pos[i]);
    if (b->url[i].len) {
        dp_jsonw_key(&j, "url");
        dp_jsonw_str(&j, b->url[i]);
    }
    dp_jsonw_key(&j, "format");
    dp_jsonw_cstr(&j, b->format[i] < sizeof formats / sizeof *formats ? formats[b->format[i]] : "unknown");
    dp_jsonw_key(&j, "bytes");
    dp_jsonw_uint(&j, b->bytes_in[i]);
    dp_jsonw_end(&j, '}');
    dp_buf_add_char(out, '\n');
}

static int write_row(struct work *w, const struct dp_batch *b, uint32_t i, struct dp_err *e)
{
    if (w->out[DP_OUT_RECORDS]) {
        print_record(b, i, dp_lines_buf(w->out[DP_OUT_RECORDS]));
        DP_TRY(dp_lines_end(w->out[DP_OUT_RECORDS], e));
        w->res->out[DP_OUT_RECORDS].docs++;
        w->res->out[DP_OUT_RECORDS].payload += b->bytes_in[i];
    }
    int kind = b->drop[i] ? DP_OUT_DROPS : DP_OUT_DOCS;
    if (w->out[kind]) {
        if (b->drop[i]) dp_drops_print(b, i, EXCERPT_BYTES, dp_lines_buf(w->out[kind]));
        else dp_docs_print(b, i, dp_lines_buf(w->out[kind]));
        DP_TRY(dp_lines_end(w->out[kind], e));
        w->res->out[kind].docs++;
        w->res->out[kind].payload += b->text[i].len;
    }
    if (w->sig.w && !b->drop[i]) {
        DP_TRY(signatures_add(&w->sig, b, i, e));
        w->res->out[DP_OUT_SIG].docs++;
    }
    return DP_OK;
}

static int write_damage(struct work *w, struct dp_err *e)
{
    if (!w->damage.len) return DP_OK;
    if (w->unlisted) {
        char what[96];
        snprintf(what, sizeof what, "%llu more damaged places from here on, not listed", (unsigned long long)w->unlisted);
        print_damage(w, what, w->unlisted_path, w->unlisted_offset);
    }
    DP_TRY(dp_buf_check(&w->damage, "list of damaged places", e));
    if (w->out[DP_OUT_RECORDS]) {
        dp_buf_add_span(dp_lines_buf(w->out[DP_OUT_RECORDS]), dp_buf_span(&w->damage));
        DP_TRY(dp_lines_end(w->out[DP_OUT_RECORDS], e));
    }
    dp_buf_clear(&w->damage);
    return DP_OK;
}

static bool careful(void *ctx, const struct dp_batch *b)
{
    const struct work *w = ctx;
    return dp_care_wanted(w->job->care, b->member, b->first, b->count, false);
}

/* Whether one record at a time is at hand, and its bytes may be shown to the broker: the memory for them is one. */
static bool alone(struct work *w, const struct dp_batch *b)
{
    return w->job->lanes == 1 && careful(w, b);
}

static int take_batch(void *ctx, struct dp_batch *b, struct dp_err *e)
{
    struct work *w = ctx;
    bool exact = alone(w, b);
    for (uint32_t i = 0; i < b->count; i++) {
        dp_watch_writing(w->job->watch, b, i, exact);
        DP_TRY(write_row(w, b, i, e));
    }
    dp_watch_write_done(w->job->watch);
    return DP_OK;
}

static void enter_stage(void *ctx, int lane, size_t stage, struct dp_batch *b)
{
    struct work *w = ctx;
    if (stage == w->job->stages) {
        dp_watch_stage_done(w->job->watch, lane);
        return;
    }
    dp_watch_stage(w->job->watch, lane, (uint32_t)stage, b, alone(w, b));
    dp_care_drop(w->job->care, b, (uint32_t)stage + 1);
    dp_fault_check(b, (uint32_t)stage + 1);
}

static bool asked_to_stop(void *ctx)
{
    const struct work *w = ctx;
    return w->job->stop && w->job->stop(w->job->ctx);
}

static int open_outputs(struct work *w, int fd[DP_OUTS], struct dp_err *e)
{
    static const char *const names[] = {"records", "documents", "dropped documents"};
    for (int i = 0; i < 3; i++) {
        if (fd[i] < 0) continue;
        int mine = fd[i];
        fd[i] = -1;
        DP_TRY(dp_lines_fd(&w->out[i], mine, names[i], ZSTD_LEVEL, e));
    }
    if (fd[DP_OUT_SIG] >= 0) {
        int mine = fd[DP_OUT_SIG];
        fd[DP_OUT_SIG] = -1;
        DP_TRY(signatures_open(&w->sig, mine, w->job->clean, e));
    }
    return DP_OK;
}

static int finish_outputs(struct work *w, struct dp_err *e)
{
    uint64_t bytes;
    for (int i = 0; i < 3; i++)
        if (w->out[i]) DP_TRY(dp_lines_finish(w->out[i], w->res->out[i].digest, &bytes, e));
    if (w->sig.w) DP_TRY(signatures_finish(&w->sig, w->res->out[DP_OUT_SIG].digest, e));
    return DP_OK;
}

static void close_all(struct work *w, int fd[DP_OUTS])
{
    dp_reader_close(w->reader);
    for (int i = 0; i < 3; i++) dp_lines_close(w->out[i]);
    signatures_close(&w->sig);
    dp_buf_release(&w->damage);
    for (int i = 0; i < DP_OUTS; i++)
        if (fd[i] >= 0) close(fd[i]);
}

/* --- signatures alone --- */

struct signing {
    struct dp_docs_reader *docs;
    struct signatures sig;
    struct dp_unit_result *res;
};

static int next_docs(void *ctx, struct dp_batch *b, struct dp_err *e)
{
    struct signing *s = ctx;
    size_t bytes = 0;
    struct dp_doc d;
    int rc = DP_OK;
    while (b->count < b->cap && bytes < 2 << 20 && (rc = dp_docs_next(s->docs, &d, e)) == DP_OK) {
        uint32_t i = (uint32_t)dp_batch_add(b);
        b->id[i] = d.id;
        b->text[i] = dp_arena_dup(&b->mem, d.text);
        if (!b->text[i].ptr) DP_FAIL(e, NOMEM, "batch of documents");
        b->score[i] = (float)d.score;
        b->bytes_in[i] = (uint32_t)d.text.len;
        bytes += d.text.len;
    }
    return rc < 0 ? rc : b->count ? DP_OK : DP_EOF;
}

static int take_signatures(void *ctx, struct dp_batch *b, struct dp_err *e)
{
    struct signing *s = ctx;
    for (uint32_t i = 0; i < b->count; i++) DP_TRY(signatures_add(&s->sig, b, i, e));
    s->res->out[DP_OUT_SIG].docs += b->count;
    return DP_OK;
}

static int sign(const struct dp_unit_job *job, struct dp_unit_result *res, struct dp_err *e)
{
    struct signing s = {.res = res};
    const struct dp_pipeline *clean = job->clean;
    const char *name, *prefix, *digest;
    size_t last = clean->count - 1;
    memset(res, 0, sizeof *res);
    struct dp_pipeline part = {.count = 1, .type = {clean->type[last]}, .ctx = {clean->ctx[last]}, .opened = true};
    for (int i = 0; i < DP_OUT_SIG; i++)
        if (job->out[i] >= 0) close(job->out[i]); /* nothing else is made */
    int rc = signatures_open(&s.sig, job->out[DP_OUT_SIG], clean, e);
    if (rc >= 0) rc = job->open_member(job->ctx, 0, &name, &prefix, &digest, e);
    if (rc >= 0) rc = dp_docs_open_fd(&s.docs, rc, name, e);
    if (rc >= 0) {
        struct dp_pipeline_io io = {&s, next_docs, take_signatures, NULL, NULL, NULL};
        rc = dp_pipeline_run(&part, &io, 1, BATCH_ROWS, BATCH_BYTES_MAX, res->counts, e);
    }
    if (rc >= 0) rc = signatures_finish(&s.sig, res->out[DP_OUT_SIG].digest, e);
    dp_docs_close(s.docs);
    signatures_close(&s.sig);
    return rc;
}

/* --- a unit --- */

int dp_unit_run(const struct dp_unit_job *job, struct dp_unit_result *res, struct dp_err *e)
{
    if (job->sign) return sign(job, res, e);
    struct work w = {.job = job, .res = res};
    int fd[DP_OUTS];
    memcpy(fd, job->out, sizeof fd);
    memset(res, 0, sizeof *res);
    dp_buf_init(&w.damage, 2 * DAMAGE_BYTES);
    int rc = open_outputs(&w, fd, e);
    if (rc >= 0) {
        struct dp_pipeline part = *job->clean; /* the first stages of it; contexts are shared */
        part.count = job->stages;
        struct dp_pipeline_io io = {&w, next_batch, take_batch, asked_to_stop, NULL, NULL};
        if (job->watch) { /* a thread has nobody to tell, and nothing is known to avoid */
            io.enter = enter_stage;
            io.one_by_one = careful;
        }
        rc = dp_pipeline_run(&part, &io, job->lanes, BATCH_ROWS, BATCH_BYTES_MAX, res->counts, e);
    }
    /* Damage lines stand behind the records: where a lane is doesn't matter to them. */
    if (rc >= 0) rc = write_damage(&w, e);
    if (rc >= 0) rc = finish_outputs(&w, e);
    if (rc >= 0 && res->damaged > DAMAGE_LOGGED)
        dp_log(WARN, "ingest", "%llu more damaged places; `dpipe inspect --damage` lists them", (unsigned long long)(res->damaged - DAMAGE_LOGGED));
    close_all(&w, fd);
    return rc;
}
