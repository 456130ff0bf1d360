/* The window is a plain buffer that is compacted when less than half of it is in use and doubled otherwise, so that
 * a byte is moved O(1) times on average. A ring would save the moves, but every parser above wants its
 * record in one piece, and libdeflate wants its output in one piece. */
#include "ingest/stream.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { CAP_MIN = 256 * 1024, ROOM_MIN = 32 * 1024, REFUSALS_MAX = 64 };

void dp_run_damage(struct dp_ingest_run *run, const char *where, uint64_t offset, enum dp_code code,
                   const char *fmt, ...)
{
    run->stats.damaged++;
    if (!run->damage) return;
    char path[1024], msg[512];
    snprintf(path, sizeof path, "%s%s%s", run->name, where && where[0] ? "!" : "", where ? where : "");
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    struct dp_damage d = {path, offset, code, msg};
    run->damage(run->damage_ctx, &d);
}

bool dp_run_produced(struct dp_ingest_run *run, const char *where, uint64_t offset, size_t n)
{
    if (run->refused) return false;
    run->produced += n;
    if (run->produced > run->o->total_bytes_max) {
        run->refused = true;
        dp_run_damage(run, where, offset, DP_LIMIT,
                      "%s: more than %llu bytes come out of it (limit total_bytes_max); the rest is not read, "
                      "raise the limit if you trust the source",
                      run->name, (unsigned long long)run->o->total_bytes_max);
        return false;
    }
    uint64_t counted = run->produced - run->forgiven;
    /* Later than the refusal of a single member, so that a bomb costs its own member and not the source. */
    if (counted > 4 * (uint64_t)DP_RATIO_FREE_BYTES
        && (double)counted > run->o->ratio_max * (double)(run->file_bytes ? run->file_bytes : 1)) {
        run->refused = true;
        dp_run_damage(run, where, offset, DP_LIMIT,
                      "%s: expands more than %.0f times (limit ratio_max); the rest is not read, "
                      "raise the limit if you trust the source",
                      run->name, run->o->ratio_max);
        return false;
    }
    return true;
}

void dp_run_forgive(struct dp_ingest_run *run, uint64_t n)
{
    if (++run->refusals > REFUSALS_MAX) return;
    run->forgiven = n < run->produced - run->forgiven ? run->forgiven + n : run->produced;
}

bool dp_run_member(struct dp_ingest_run *run, const char *where, uint64_t offset)
{
    if (run->refused) return false;
    if (run->stats.members >= (uint64_t)run->o->members_max) {
        run->refused = true;
        dp_run_damage(run, where, offset, DP_LIMIT,
                      "%s: more than %lld members (limit members_max); the rest is not read, raise the limit "
                      "if you trust the source",
                      run->name, (long long)run->o->members_max);
        return false;
    }
    run->stats.members++;
    return true;
}

struct dp_stream *dp_stream_memory(struct dp_ingest_run *run, const void *p, size_t n, const char *where)
{
    struct dp_stream *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->run = run;
    s->where = where;
    s->ptr = s->base = p;
    s->len = s->base_len = n;
    s->eof = s->whole = true;
    return s;
}

/* Room for at least `room` bytes behind the window. */
static int make_room(struct dp_stream *s, size_t room, struct dp_err *e)
{
    size_t start = s->buf && s->len ? (size_t)(s->ptr - s->buf) : 0;
    if (s->buf && s->cap - start - s->len >= room) {
        if (!s->len) s->ptr = s->buf;
        return DP_OK;
    }
    size_t cap = s->cap ? s->cap : CAP_MIN;
    while (cap - s->len < room || s->len > cap / 2) cap *= 2;
    if (cap == s->cap) {
        memmove(s->buf, s->ptr, s->len);
    } else {
        char *buf = malloc(cap);
        if (!buf) DP_FAIL(e, NOMEM, "%s: a buffer of %zu bytes", s->run->name, cap);
        if (s->len) memcpy(buf, s->ptr, s->len);
        free(s->buf);
        s->buf = buf;
        s->cap = cap;
    }
    s->ptr = s->buf;
    return DP_OK;
}

int dp_stream_need(struct dp_stream *s, size_t n, struct dp_err *e)
{
    while (s->len < n && !s->eof && !s->broken) {
        if (s->run->refused) {
            s->eof = true;
            break;
        }
        DP_TRY(make_room(s, s->room_min > ROOM_MIN ? s->room_min : ROOM_MIN, e));
        s->room_min = 0;
        size_t at = (size_t)(s->ptr - s->buf) + s->len, got = 0;
        DP_TRY(s->produce(s, s->buf + at, s->cap - at, &got, e));
        DP_ASSERT(got <= s->cap - at);
        s->len += got;
    }
    return DP_OK;
}

/* n more bytes were looked at. A page given back that is needed again comes from the page cache; bytes stay where they are. */
static void looked_at(struct dp_stream *s, size_t n)
{
    s->since_trim += n;
    if (!s->mapped || s->since_trim < DP_STREAM_TRIM) return;
    s->since_trim = 0;
    madvise((void *)(uintptr_t)s->base, s->base_len, MADV_DONTNEED);
}

const char *dp_stream_find(struct dp_stream *s, size_t from, size_t end, const char *what, size_t n)
{
    DP_ASSERT(n && end <= s->len);
    while (from < end && end - from >= n) {
        size_t k = end - from < DP_STREAM_TRIM ? end - from : DP_STREAM_TRIM;
        const char *p = s->ptr + from, *hit = n == 1 ? memchr(p, *what, k) : memmem(p, k, what, n);
        looked_at(s, hit ? (size_t)(hit - p) : k);
        if (hit) return hit;
        if (k == end - from) break;
        from += k - n + 1; /* one that lies across the steps */
    }
    return NULL;
}

void dp_stream_skip(struct dp_stream *s, size_t n)
{
    DP_ASSERT(n <= s->len);
    if (n) s->ptr += n;
    s->len -= n;
    s->offset += n;
    looked_at(s, n);
}

int dp_stream_drop(struct dp_stream *s, uint64_t n, uint64_t *short_by, struct dp_err *e)
{
    while (n) {
        if (!s->len) DP_TRY(dp_stream_need(s, 1, e));
        if (!s->len) break;
        size_t k = n < s->len ? (size_t)n : s->len;
        dp_stream_skip(s, k);
        n -= k;
    }
    *short_by = n;
    return DP_OK;
}

void dp_stream_seek(struct dp_stream *s, uint64_t offset)
{
    DP_ASSERT(s->whole && offset <= s->base_len);
    s->ptr = s->base + offset;
    s->len = s->base_len - (size_t)offset;
    s->offset = offset;
}

void dp_stream_add_mark(struct dp_stream *s, uint64_t out, uint64_t in)
{
    int keep = 0; /* the first mark still needed: the last one at or before the window */
    while (keep + 1 < s->marks && s->mark[keep + 1].out <= s->offset) keep++;
    if (keep) {
        memmove(s->mark, s->mark + keep, (size_t)(s->marks - keep) * sizeof *s->mark);
        s->marks -= keep;
    }
    /* An empty member leaves its place to the next one. */
    if (s->marks && s->mark[s->marks - 1].out == out) s->marks--;
    /* Past 256 members in one window, positions count from the last one noted: still unique. */
    if (s->marks < DP_STREAM_MARKS) s->mark[s->marks++] = (struct dp_mark){out, in};
}

bool dp_stream_member_at(const struct dp_stream *s, uint64_t offset, struct dp_mark *m)
{
    bool found = false;
    for (int i = 0; i < s->marks && s->mark[i].out <= offset; i++) {
        *m = s->mark[i];
        found = true;
    }
    return found;
}

void dp_stream_release_buffer(struct dp_stream *s)
{
    free(s->buf);
    s->buf = NULL;
    s->cap = s->len = 0;
    s->ptr = "";
}

void dp_stream_close(struct dp_stream *s)
{
    if (!s) return;
    dp_stream_release_buffer(s);
    if (s->close) s->close(s);
    else free(s);
}
