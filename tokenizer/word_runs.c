#include "tokenizer/word_runs.h"

#include "base/buf.h"
#include "base/fs.h"
#include "base/progress.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { BLOCK = 64 * 1024, FAN = 64, VARINT_MAX = 10 };

struct run {
    int fd;
    uint64_t at, end; /* bytes in the file */
    int level;        /* merges behind it */
};

/* A run being read. */
struct cursor {
    struct run left; /* not loaded yet */
    char *buf;
    size_t pos, fill, cap;
    struct dp_span word; /* the one at hand, in buf */
    uint64_t head, count;
};

struct dp_word_runs {
    const char *dir;
    int *fd; /* own and taken; the last is written to */
    size_t fds;
    uint64_t written, begin; /* end of that file with `out`; begin of the run being written */
    struct dp_buf out;
    struct run *run;
    size_t n, cap;
    struct cursor seq; /* over the one run that is left */
};

static const char what[] = "temporary file of counted words";

int dp_word_runs_open(struct dp_word_runs **out, const char *dir, struct dp_err *e)
{
    struct dp_word_runs *r = calloc(1, sizeof *r);
    *out = r;
    if (!r) DP_FAIL(e, NOMEM, "%s", what);
    r->dir = dir;
    dp_buf_init(&r->out, (size_t)UINT32_MAX);
    return DP_OK;
}

void dp_word_runs_close(struct dp_word_runs *r)
{
    if (!r) return;
    for (size_t i = 0; i < r->fds; i++) close(r->fd[i]);
    free(r->fd);
    free(r->run);
    free(r->seq.buf);
    dp_buf_release(&r->out);
    free(r);
}

static int add_fd(struct dp_word_runs *r, int fd, struct dp_err *e)
{
    int *v = realloc(r->fd, (r->fds + 1) * sizeof *v);
    if (!v) DP_FAIL(e, NOMEM, "%s", what);
    r->fd = v;
    r->fd[r->fds++] = fd;
    return DP_OK;
}

static int flush(struct dp_word_runs *r, struct dp_err *e)
{
    DP_TRY(dp_buf_check(&r->out, what, e));
    if (!r->fds) {
        int fd;
        DP_TRY(dp_fs_unlinked(r->dir, "counted words", &fd, e));
        int rc = add_fd(r, fd, e);
        if (rc < 0) {
            close(fd);
            return rc;
        }
    }
    if (dp_fs_write_all(r->fd[r->fds - 1], r->out.ptr, r->out.len, what, e) < 0)
        return dp_err_prefix(e, "counting words in %s (give it more space, or counting more memory)", r->dir);
    dp_buf_clear(&r->out);
    return DP_OK;
}

int dp_word_runs_add(struct dp_word_runs *r, struct dp_span word, uint64_t count, struct dp_err *e)
{
    size_t had = r->out.len;
    dp_buf_add_varint(&r->out, word.len);
    dp_buf_add_varint(&r->out, count);
    dp_buf_add_span(&r->out, word);
    r->written += r->out.len - had;
    return r->out.len >= BLOCK || r->out.full ? flush(r, e) : DP_OK;
}

static int add_run(struct dp_word_runs *r, struct run run, struct dp_err *e)
{
    if (r->n == r->cap) {
        size_t cap = r->cap ? 2 * r->cap : FAN;
        struct run *v = realloc(r->run, cap * sizeof *v);
        if (!v) DP_FAIL(e, NOMEM, "%s", what);
        r->run = v;
        r->cap = cap;
    }
    r->run[r->n++] = run;
    return DP_OK;
}

static int end_run(struct dp_word_runs *r, int level, struct dp_err *e)
{
    if (r->written == r->begin) return DP_OK;
    DP_TRY(flush(r, e));
    DP_TRY(add_run(r, (struct run){r->fd[r->fds - 1], r->begin, r->written, level}, e));
    r->begin = r->written;
    return DP_OK;
}

/* --- reading --- */

/* n bytes from pos on, or all that are left. */
static int ensure(struct cursor *c, size_t n, struct dp_err *e)
{
    if (c->fill - c->pos >= n || c->left.at == c->left.end) return DP_OK;
    size_t have = c->fill - c->pos, want = n > BLOCK ? n : BLOCK, got;
    if (have) memmove(c->buf, c->buf + c->pos, have);
    if (want > c->cap) {
        char *b = realloc(c->buf, want);
        if (!b) DP_FAIL(e, NOMEM, "%s: a word of %zu bytes", what, n);
        c->buf = b;
        c->cap = want;
    }
    c->pos = 0;
    c->fill = have;
    want = c->cap - have;
    if (want > c->left.end - c->left.at) want = (size_t)(c->left.end - c->left.at);
    DP_TRY(dp_fs_pread_all(c->left.fd, c->buf + have, want, c->left.at, &got, what, e));
    if (got != want) DP_FAIL(e, IO, "%s lost its end", what);
    c->fill += got;
    c->left.at += got;
    return dp_progress_go_on(e);
}

static int get_varint(struct cursor *c, uint64_t *v, struct dp_err *e)
{
    *v = 0;
    for (unsigned shift = 0; c->pos < c->fill && shift < 64; shift += 7) {
        unsigned char b = (unsigned char)c->buf[c->pos++];
        *v |= (uint64_t)(b & 127) << shift;
        if (b < 128) return DP_OK;
    }
    DP_FAIL(e, IO, "%s: damaged before byte %llu", what, (unsigned long long)c->left.at);
}

static int advance(struct cursor *c, struct dp_err *e)
{
    uint64_t len;
    DP_TRY(ensure(c, 2 * VARINT_MAX, e));
    if (c->pos == c->fill) return DP_EOF;
    DP_TRY(get_varint(c, &len, e));
    DP_TRY(get_varint(c, &c->count, e));
    DP_TRY(ensure(c, (size_t)len, e));
    if (c->fill - c->pos < len) DP_FAIL(e, IO, "%s lost its end", what);
    c->word = dp_span(c->buf + c->pos, (size_t)len);
    c->head = dp_word_head(c->word);
    c->pos += (size_t)len;
    return DP_OK;
}

/* --- merging --- */

struct merge {
    struct cursor cur[FAN];
    struct cursor *heap[FAN]; /* the least word first */
    size_t n;
    struct dp_buf word; /* the word whose counts are being summed */
    uint64_t count;
};

static bool less(const struct cursor *a, const struct cursor *b)
{
    return a->head != b->head ? a->head < b->head : dp_word_order(a->word, b->word) < 0;
}

static void sift(struct merge *m, size_t i)
{
    struct cursor *x = m->heap[i];
    for (size_t k; (k = 2 * i + 1) < m->n; i = k) {
        if (k + 1 < m->n && less(m->heap[k + 1], m->heap[k])) k++;
        if (!less(m->heap[k], x)) break;
        m->heap[i] = m->heap[k];
    }
    m->heap[i] = x;
}

static int merge_words(struct dp_word_runs *r, struct merge *m, struct dp_err *e)
{
    while (m->n) {
        struct cursor *c = m->heap[0];
        if (m->count && dp_span_eq(c->word, dp_buf_span(&m->word))) m->count += c->count;
        else {
            if (m->count) DP_TRY(dp_word_runs_add(r, dp_buf_span(&m->word), m->count, e));
            dp_buf_clear(&m->word);
            dp_buf_add_span(&m->word, c->word);
            DP_TRY(dp_buf_check(&m->word, "a word", e));
            m->count = c->count;
        }
        int rc = advance(c, e);
        if (rc < 0) return rc;
        if (rc == DP_EOF) m->heap[0] = m->heap[--m->n];
        if (m->n) sift(m, 0);
    }
    return m->count ? dp_word_runs_add(r, dp_buf_span(&m->word), m->count, e) : DP_OK;
}

/* The last k runs become one. */
static int merge_last(struct dp_word_runs *r, size_t k, struct dp_err *e)
{
    struct merge *m = calloc(1, sizeof *m);
    int rc = DP_OK, level = 0;
    const struct run *from = r->run + r->n - k;
    if (!m) DP_FAIL(e, NOMEM, "%s: merge of %zu runs", what, k);
    dp_buf_init(&m->word, UINT32_MAX);
    for (size_t i = 0; i < k; i++) {
        m->cur[i].left = from[i];
        if (from[i].level > level) level = from[i].level;
        DP_TRY_OUT(advance(&m->cur[i], e));
        if (rc == DP_OK) m->heap[m->n++] = &m->cur[i];
    }
    for (size_t i = m->n / 2; i-- > 0;) sift(m, i);
    DP_TRY_OUT(merge_words(r, m, e));
    /* Their disk space back, where the file system can: it is only a saving. */
    for (size_t i = 0; i < k; i++)
        if (fallocate(from[i].fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from[i].at, (off_t)(from[i].end - from[i].at)) != 0) break;
    r->n -= k;
    DP_TRY_OUT(end_run(r, level + 1, e));
out:
    for (size_t i = 0; i < k; i++) free(m->cur[i].buf);
    dp_buf_release(&m->word);
    free(m);
    return rc < 0 ? rc : DP_OK;
}

int dp_word_runs_end(struct dp_word_runs *r, struct dp_err *e)
{
    DP_TRY(end_run(r, 0, e));
    while (r->n >= FAN && r->run[r->n - FAN].level == r->run[r->n - 1].level) DP_TRY(merge_last(r, FAN, e));
    return DP_OK;
}

int dp_word_runs_take(struct dp_word_runs *into, struct dp_word_runs *from, struct dp_err *e)
{
    /* Files first, in front: the last of `into` is the one it writes to. */
    if (!into->fds && from->fds) DP_TRY(flush(into, e));
    for (; from->fds; from->fds--) {
        DP_TRY(add_fd(into, into->fd[into->fds - 1], e));
        into->fd[into->fds - 2] = from->fd[from->fds - 1];
    }
    for (size_t i = 0; i < from->n; i++) DP_TRY(add_run(into, from->run[i], e));
    from->n = 0;
    from->written = from->begin = 0;
    return DP_OK;
}

int dp_word_runs_finish(struct dp_word_runs *r, struct dp_err *e)
{
    DP_TRY(dp_word_runs_end(r, e));
    while (r->n > 1) DP_TRY(merge_last(r, r->n < FAN ? r->n : FAN, e));
    dp_buf_release(&r->out);
    dp_word_runs_rewind(r);
    return DP_OK;
}

void dp_word_runs_rewind(struct dp_word_runs *r)
{
    r->seq.pos = r->seq.fill = 0;
    r->seq.left = r->n ? r->run[0] : (struct run){.fd = -1};
}

int dp_word_runs_next(struct dp_word_runs *r, struct dp_span *word, uint64_t *count, struct dp_err *e)
{
    int rc = advance(&r->seq, e);
    *word = r->seq.word;
    *count = r->seq.count;
    return rc;
}
