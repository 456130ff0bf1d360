/* Design. Sorted runs and a k-way merge rather than partitions by key prefix: a partition is bounded by memory only as long
 * as keys are spread, and here they need not be (a million documents in one bucket, edges keyed by text length). Runs
 * don't care. The price is a heap step a record when merging (~20 M records/s), paid only when the data exceeds
 * memory. All runs of a sorter stand in one file, unlinked at birth: nothing is left whatever kills the process. */
#include "dedup/extsort.h"

#include "base/fs.h"
#include "base/progress.h"

#include <stdlib.h>
#include <unistd.h>

enum { RUN_BUF = 1024 /* records: 16 KB */, FIRST_CAP = 512, INSERTION = 24, LOOK_EVERY = 1 << 16 };

struct run {
    uint64_t at, end; /* records in the file: the next to load, and past the last */
};
struct cursor {
    struct dp_rec *buf;
    size_t pos, fill;
    struct run left;
};

struct dp_extsort {
    const char *dir, *what;
    size_t cap_max; /* records in buf at most */
    size_t fan;     /* runs merged at once at most */
    struct dp_rec *buf;
    size_t fill, cap;
    uint64_t count;
    int fd;
    uint64_t written; /* records in the file */
    struct run *runs;
    size_t n_runs, runs_cap;
    size_t read_at; /* in buf, when all is in RAM */
    struct cursor *cur;
    struct dp_rec *cur_mem;
    size_t *heap, n_heap;
};

static inline int less(const struct dp_rec *a, const struct dp_rec *b)
{
    return a->key != b->key ? a->key < b->key : a->val < b->val;
}

static inline unsigned digit(const struct dp_rec *r, unsigned level)
{
    return level < 8 ? (unsigned)(r->key >> (56 - 8 * level)) & 255 : (unsigned)(r->val >> (120 - 8 * level)) & 255;
}

static void radix(struct dp_rec *a, struct dp_rec *aux, size_t n, unsigned level)
{
    size_t at[257];
    for (;; level++) { /* bytes that are all alike cost one count */
        if (n <= INSERTION) {
            for (size_t i = 1; i < n; i++) {
                struct dp_rec r = a[i];
                size_t j = i;
                for (; j && less(&r, &a[j - 1]); j--) a[j] = a[j - 1];
                a[j] = r;
            }
            return;
        }
        if (level == 16 || (n >= LOOK_EVERY && dp_progress_stopped())) return; /* stopped: sort_buf says so */
        memset(at, 0, sizeof at);
        for (size_t i = 0; i < n; i++) at[digit(&a[i], level) + 1]++;
        if (at[digit(&a[0], level) + 1] != n) break;
    }
    for (int d = 0; d < 256; d++) at[d + 1] += at[d];
    for (size_t i = 0; i < n; i++) aux[at[digit(&a[i], level)]++] = a[i];
    memcpy(a, aux, n * sizeof *a);
    for (size_t d = 0, from = 0; d < 256; from = at[d], d++) /* at[d] is now the end of digit d */
        if (at[d] - from > 1) radix(a + from, aux, at[d] - from, level + 1);
}

void dp_rec_sort(struct dp_rec *a, struct dp_rec *aux, size_t n)
{
    radix(a, aux, n, 0);
}

int dp_extsort_open(struct dp_extsort **out, const char *dir, const char *what, size_t bytes, struct dp_err *e)
{
    *out = NULL;
    struct dp_extsort *s = calloc(1, sizeof *s);
    if (!s) DP_FAIL(e, NOMEM, "sorter of %s", what);
    if (bytes < 64 * 1024) bytes = 64 * 1024;
    s->dir = dir;
    s->what = what;
    s->cap_max = bytes / (2 * sizeof(struct dp_rec));
    s->fan = bytes / (RUN_BUF * sizeof(struct dp_rec));
    s->fd = -1;
    *out = s;
    return DP_OK;
}

static int spill(struct dp_extsort *s, const void *p, size_t n, struct dp_err *e)
{
    if (s->fd < 0) DP_TRY(dp_fs_unlinked(s->dir, s->what, &s->fd, e));
    if (dp_fs_write_all(s->fd, p, n * sizeof(struct dp_rec), s->what, e) < 0)
        return dp_err_prefix(e, "temporary file of dedup in %s (give it more space, or another folder)", s->dir);
    s->written += n;
    return DP_OK;
}

static int add_run(struct dp_extsort *s, uint64_t from, struct dp_err *e)
{
    if (s->n_runs == s->runs_cap) {
        size_t cap = s->runs_cap ? 2 * s->runs_cap : 64;
        struct run *r = realloc(s->runs, cap * sizeof *r);
        if (!r) DP_FAIL(e, NOMEM, "sorter of %s: %zu runs", s->what, cap);
        s->runs = r;
        s->runs_cap = cap;
    }
    s->runs[s->n_runs++] = (struct run){from, s->written};
    return DP_OK;
}

static int sort_buf(struct dp_extsort *s, struct dp_err *e)
{
    if (s->fill < 2) return DP_OK;
    struct dp_rec *aux = malloc(s->fill * sizeof *aux);
    if (!aux) DP_FAIL(e, NOMEM, "sorter of %s: %zu records", s->what, s->fill);
    dp_rec_sort(s->buf, aux, s->fill);
    free(aux);
    return dp_progress_go_on(e);
}

static int spill_buf(struct dp_extsort *s, struct dp_err *e)
{
    uint64_t from = s->written;
    if (!s->fill) return DP_OK;
    DP_TRY(sort_buf(s, e));
    DP_TRY(spill(s, s->buf, s->fill, e));
    s->fill = 0;
    return add_run(s, from, e);
}

static int grow(struct dp_extsort *s, struct dp_err *e)
{
    if (s->cap == s->cap_max) return spill_buf(s, e);
    size_t cap = s->cap ? 2 * s->cap : FIRST_CAP;
    if (cap > s->cap_max) cap = s->cap_max;
    struct dp_rec *b = realloc(s->buf, cap * sizeof *b);
    if (!b) DP_FAIL(e, NOMEM, "sorter of %s: %zu records", s->what, cap);
    s->buf = b;
    s->cap = cap;
    return DP_OK;
}

int dp_extsort_add(struct dp_extsort *s, uint64_t key, uint64_t val, struct dp_err *e)
{
    if (s->fill == s->cap) DP_TRY(grow(s, e));
    s->buf[s->fill++] = (struct dp_rec){key, val};
    s->count++;
    return DP_OK;
}

static int load(struct dp_extsort *s, struct cursor *c, struct dp_err *e)
{
    uint64_t n = c->left.end - c->left.at;
    if (n > RUN_BUF) n = RUN_BUF;
    c->pos = 0;
    c->fill = (size_t)n;
    if (!n) return DP_OK;
    size_t got, want = (size_t)n * sizeof *c->buf;
    DP_TRY(dp_fs_pread_all(s->fd, c->buf, want, c->left.at * sizeof *c->buf, &got, s->what, e));
    if (got != want) DP_FAIL(e, IO, "temporary file of %s in %s lost its end", s->what, s->dir);
    c->left.at += n;
    return dp_progress_go_on(e);
}

static inline const struct dp_rec *top_of(const struct dp_extsort *s, size_t heap_at)
{
    const struct cursor *c = &s->cur[s->heap[heap_at]];
    return &c->buf[c->pos];
}

static void sift(struct dp_extsort *s, size_t i)
{
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= s->n_heap) return;
        if (child + 1 < s->n_heap && less(top_of(s, child + 1), top_of(s, child))) child++;
        if (!less(top_of(s, child), top_of(s, i))) return;
        size_t t = s->heap[i];
        s->heap[i] = s->heap[child];
        s->heap[child] = t;
        i = child;
    }
}

static void merge_end(struct dp_extsort *s)
{
    free(s->cur);
    free(s->cur_mem);
    free(s->heap);
    s->cur = NULL;
    s->cur_mem = NULL;
    s->heap = NULL;
    s->n_heap = 0;
}

static int merge_begin(struct dp_extsort *s, const struct run *runs, size_t n, struct dp_err *e)
{
    merge_end(s);
    if (!n) return DP_OK;
    s->cur = calloc(n, sizeof *s->cur);
    s->cur_mem = malloc(n * RUN_BUF * sizeof *s->cur_mem);
    s->heap = malloc(n * sizeof *s->heap);
    if (!s->cur || !s->cur_mem || !s->heap) {
        merge_end(s);
        DP_FAIL(e, NOMEM, "sorter of %s: merge of %zu runs", s->what, n);
    }
    for (size_t i = 0; i < n; i++) {
        s->cur[i].buf = s->cur_mem + i * RUN_BUF;
        s->cur[i].left = runs[i];
        DP_TRY(load(s, &s->cur[i], e));
        if (s->cur[i].fill) s->heap[s->n_heap++] = i;
    }
    for (size_t i = s->n_heap / 2; i-- > 0;) sift(s, i);
    return DP_OK;
}

static int merge_next(struct dp_extsort *s, struct dp_rec *r, struct dp_err *e)
{
    if (!s->n_heap) return DP_EOF;
    struct cursor *c = &s->cur[s->heap[0]];
    *r = c->buf[c->pos++];
    if (c->pos == c->fill) {
        DP_TRY(load(s, c, e));
        if (!c->fill) s->heap[0] = s->heap[--s->n_heap];
    }
    sift(s, 0);
    return DP_OK;
}

/* One pass: groups of `fan` runs become one run each, at the end of the file. */
static int merge_pass(struct dp_extsort *s, struct dp_err *e)
{
    size_t n = s->n_runs, made = 0;
    struct dp_rec *out = malloc(RUN_BUF * sizeof *out);
    if (!out) DP_FAIL(e, NOMEM, "sorter of %s", s->what);
    int rc = DP_OK;
    for (size_t i = 0; i < n; i += s->fan) {
        uint64_t from = s->written;
        size_t fill = 0;
        DP_TRY_OUT(merge_begin(s, s->runs + i, n - i < s->fan ? n - i : s->fan, e));
        for (;;) {
            DP_TRY_OUT(merge_next(s, &out[fill], e));
            if (rc == DP_OK) fill++;
            if (fill == RUN_BUF || (rc == DP_EOF && fill)) {
                int wrote = spill(s, out, fill, e);
                fill = 0;
                if (wrote < 0) rc = wrote;
                if (wrote < 0) goto out;
            }
            if (rc == DP_EOF) break;
        }
        s->runs[made++] = (struct run){from, s->written}; /* made <= i: this slot is done with */
    }
    s->n_runs = made;
    rc = DP_OK;
out:
    free(out);
    merge_end(s);
    return rc;
}

int dp_extsort_finish(struct dp_extsort *s, struct dp_err *e)
{
    if (s->n_runs) {
        DP_TRY(spill_buf(s, e));
        free(s->buf);
        s->buf = NULL;
        s->cap = 0;
        while (s->n_runs > s->fan) DP_TRY(merge_pass(s, e));
    } else DP_TRY(sort_buf(s, e));
    return DP_OK;
}

int dp_extsort_rewind(struct dp_extsort *s, struct dp_err *e)
{
    s->read_at = 0;
    return s->n_runs ? merge_begin(s, s->runs, s->n_runs, e) : DP_OK;
}

int dp_extsort_next(struct dp_extsort *s, struct dp_rec *r, struct dp_err *e)
{
    if (s->n_runs) return merge_next(s, r, e);
    if (s->read_at == s->fill) return DP_EOF;
    if ((s->read_at & (LOOK_EVERY - 1)) == 0) DP_TRY(dp_progress_go_on(e));
    *r = s->buf[s->read_at++];
    return DP_OK;
}

uint64_t dp_extsort_count(const struct dp_extsort *s)
{
    return s->count;
}

void dp_extsort_close(struct dp_extsort *s)
{
    if (!s) return;
    merge_end(s);
    if (s->fd >= 0) close(s->fd);
    free(s->buf);
    free(s->runs);
    free(s);
}
