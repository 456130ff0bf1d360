#include "daemon/unit_watch.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { READING, WRITING, LANES };

int dp_watch_map(int fd, struct dp_watch **w, struct dp_err *e)
{
    void *p = mmap(NULL, sizeof **w, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    *w = NULL;
    if (p == MAP_FAILED) DP_FAIL_SYS(e, "memory shared with a worker");
    *w = p;
    return DP_OK;
}

int dp_watch_create(int *fd, struct dp_watch **w, struct dp_err *e)
{
    *w = NULL;
    *fd = memfd_create("dpipe-watch", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (*fd < 0) DP_FAIL_SYS(e, "memory shared with a worker");
    int rc = DP_OK;
    if (ftruncate(*fd, sizeof **w) != 0 || fcntl(*fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
        rc = dp_err_set(e, dp_code_of_errno(errno), errno, __FILE__, __LINE__, "memory shared with a worker");
    if (rc >= 0) rc = dp_watch_map(*fd, w, e);
    if (rc < 0) {
        close(*fd);
        *fd = -1;
    }
    return rc;
}

void dp_watch_unmap(struct dp_watch *w)
{
    if (w) munmap(w, sizeof *w);
}

/* --- worker --- */

static struct dp_watch_slot *begin(struct dp_watch_slot *s)
{
    atomic_fetch_add_explicit(&s->turn, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    return s;
}

static void end(struct dp_watch_slot *s, enum dp_watch_phase phase)
{
    s->phase = phase;
    atomic_fetch_add_explicit(&s->turn, 1, memory_order_release);
}

static void idle(struct dp_watch *w, int i)
{
    if (w) end(begin(&w->slot[i]), DP_WATCH_IDLE);
}

void dp_watch_read_done(struct dp_watch *w)
{
    idle(w, READING);
}
void dp_watch_stage_done(struct dp_watch *w, int lane)
{
    idle(w, LANES + lane);
}
void dp_watch_write_done(struct dp_watch *w)
{
    idle(w, WRITING);
}

static void copy_text(char *to, size_t cap, struct dp_span s)
{
    size_t n = s.len < cap - 1 ? s.len : cap - 1;
    if (n) memcpy(to, s.ptr, n);
    to[n] = 0;
}

static void name_record(struct dp_watch_slot *s, const struct dp_batch *b, uint32_t i)
{
    s->member = b->member;
    s->first = b->first + i;
    s->count = 1;
    s->id = b->id[i];
    copy_text(s->pos, sizeof s->pos, b->pos[i]);
    copy_text(s->url, sizeof s->url, b->url[i]);
}

static void keep_text(struct dp_watch *w, struct dp_watch_slot *s, struct dp_span text)
{
    s->bytes = text.len;
    if (text.len) memcpy(w->text, text.ptr, text.len < DP_WATCH_TEXT_MAX ? text.len : DP_WATCH_TEXT_MAX);
}

void dp_watch_reading(struct dp_watch *w, uint32_t member, uint64_t rows, bool exact)
{
    if (!w) return;
    struct dp_watch_slot *s = begin(&w->slot[READING]);
    s->member = member;
    s->first = rows;
    s->count = 0;
    s->exact = exact;
    s->bytes = 0;
    s->id = (struct dp_hash128){0, 0};
    s->pos[0] = s->url[0] = 0;
    end(s, DP_WATCH_READ);
}

void dp_watch_stage(struct dp_watch *w, int lane, uint32_t stage, const struct dp_batch *b, bool exact)
{
    if (!w) return;
    DP_ASSERT(lane < DP_WATCH_LANES_MAX);
    struct dp_watch_slot *s = begin(&w->slot[LANES + lane]);
    s->member = b->member;
    s->stage = stage;
    s->first = b->first;
    s->count = b->count;
    s->exact = exact;
    if (exact) {
        name_record(s, b, 0);
        if (stage == 0) keep_text(w, s, b->text[0]); /* later stages keep what was read */
    }
    end(s, DP_WATCH_STAGE);
}

void dp_watch_writing(struct dp_watch *w, const struct dp_batch *b, uint32_t i, bool exact)
{
    if (!w) return;
    struct dp_watch_slot *s = begin(&w->slot[WRITING]);
    s->member = b->member;
    s->first = b->first + i;
    s->count = 1;
    s->exact = exact;
    if (exact) {
        name_record(s, b, i);
        keep_text(w, s, b->text[i]);
    }
    end(s, DP_WATCH_WRITE);
}

void dp_care_drop(const struct dp_unit_care *c, struct dp_batch *b, uint32_t stage)
{
    for (size_t k = 0; c && k < c->skips; k++) {
        const struct dp_skip *s = &c->skip[k];
        if (s->member != b->member || s->stage != stage || s->row < b->first || s->row - b->first >= b->count) continue;
        uint32_t i = (uint32_t)(s->row - b->first);
        if (!b->drop[i]) dp_batch_drop(b, i, DP_DROP_QUARANTINED, 0, 0);
    }
}

bool dp_care_ends(const struct dp_unit_care *c, uint32_t member, uint64_t rows)
{
    for (size_t k = 0; c && k < c->skips; k++)
        if (c->skip[k].stage == DP_SKIP_REST && c->skip[k].member == member && rows >= c->skip[k].row) return true;
    return false;
}

bool dp_care_wanted(const struct dp_unit_care *c, uint32_t member, uint64_t first, uint64_t count, bool reading)
{
    for (size_t k = 0; c && k < c->carefuls; k++) {
        const struct dp_careful *p = &c->careful[k];
        if (p->member == member && (p->reading != 0) == reading && first < p->end && first + count > p->first) return true;
    }
    /* What is left out counts for the stage where it is: so its batch goes from stage to stage. */
    for (size_t k = 0; c && !reading && k < c->skips; k++) {
        const struct dp_skip *s = &c->skip[k];
        if (s->member == member && s->stage != DP_SKIP_REST && s->row >= first && s->row - first < count) return true;
    }
    return false;
}

/* --- faults for tests --- */

static const char *fault_word;

void dp_fault_init(void)
{
    const char *w = getenv("DPIPE_TEST_FAULT");
    fault_word = w && *w ? w : NULL;
}

static volatile unsigned fault_sink;
static unsigned deeper(unsigned n)
{
    volatile char frame[4096];
    frame[n % sizeof frame] = (char)n;
    return n == UINT32_MAX ? n : deeper(n + 1) + (unsigned)frame[1];
}

static void fail_as(struct dp_span kind)
{
    if (dp_span_is(kind, "segv")) raise(SIGSEGV);
    if (dp_span_is(kind, "abort")) abort();
    if (dp_span_is(kind, "stack")) fault_sink = deeper(0);
    if (dp_span_is(kind, "open")) syscall(SYS_execve, NULL, NULL, NULL);
    while (dp_span_is(kind, "spin")) fault_sink++;
    while (dp_span_is(kind, "sleep")) sleep(1);
    while (dp_span_is(kind, "eat")) {
        char *p = malloc(16 << 20);
        if (!p) abort(); /* as a C++ library does */
        memset(p, 1, 16 << 20);
        fault_sink += (unsigned)p[fault_sink % 4096]; /* kept, that is the fault */
    }
}

void dp_fault_check(const struct dp_batch *b, uint32_t stage)
{
    size_t n = fault_word ? strlen(fault_word) : 0;
    for (uint32_t i = 0; n && i < b->count; i++) {
        if (b->drop[i] || !b->text[i].len) continue;
        const char *at = memmem(b->text[i].ptr, b->text[i].len, fault_word, n), *stop = b->text[i].ptr + b->text[i].len;
        if (!at || stop - at < (ptrdiff_t)n + 1 || at[n] != '-') continue;
        const char *kind = at + n + 1, *dash = memchr(kind, '-', (size_t)(stop - kind));
        if (dash && dash + 1 < stop && dash[1] == (char)('0' + stage)) fail_as(dp_span(kind, (size_t)(dash - kind)));
    }
}

/* --- broker --- */

bool dp_watch_read(const struct dp_watch *w, int i, struct dp_watch_slot *out)
{
    const struct dp_watch_slot *s = &w->slot[i];
    uint64_t turn = atomic_load_explicit(&s->turn, memory_order_acquire);
    memcpy(out, s, sizeof *out);
    out->pos[sizeof out->pos - 1] = out->url[sizeof out->url - 1] = 0;
    atomic_thread_fence(memory_order_acquire);
    return !(turn & 1) && atomic_load_explicit(&s->turn, memory_order_relaxed) == turn && out->phase >= DP_WATCH_READ && out->phase <= DP_WATCH_WRITE;
}
