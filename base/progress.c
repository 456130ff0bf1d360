#include "base/clock.h"
#include "base/progress.h"

#include "base/log.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
    enum dp_progress_mode mode;
    bool tty, active, begun;
    _Atomic bool drawn;
    char label[48], unit[8], note[96];
    uint64_t total;
    _Atomic uint64_t done, docs, ticks;
    double t0, last;
    pthread_mutex_t mu;
} P = {.mu = PTHREAD_MUTEX_INITIALIZER};

/* Called by the log under its own lock, possibly while P.mu is held by a drawing thread: writes only. */
static void clear_line(void)
{
    if (P.tty && P.drawn && write(STDERR_FILENO, "\r\033[K", 4) < 0) return;
    P.drawn = false;
}

void dp_progress_init(enum dp_progress_mode mode)
{
    P.mode = mode;
    P.tty = isatty(STDERR_FILENO) && mode == DP_PROGRESS_AUTO;
    if (P.tty) dp_log_set_clear(clear_line);
}

bool dp_progress_color(void)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    return isatty(STDERR_FILENO) && !(no && *no) && !(term && strcmp(term, "dumb") == 0);
}

static void amount(char *out, size_t n, uint64_t v, const char *unit)
{
    if (strcmp(unit, "B") == 0) snprintf(out, n, "%.1f MB", (double)v / 1e6);
    else snprintf(out, n, "%llu %s", (unsigned long long)v, unit);
}

static void draw(bool last)
{
    uint64_t done = P.done, docs = P.docs;
    double t = dp_now(), s = t - P.t0, rate = s > 0 ? (double)done / s : 0;
    char a[48], r[48], tot[64] = "", eta[48] = "", line[400];
    amount(a, sizeof a, done, P.unit);
    amount(r, sizeof r, (uint64_t)rate, P.unit);
    if (P.total) {
        char b[48];
        amount(b, sizeof b, P.total, P.unit);
        snprintf(tot, sizeof tot, " of %s (%.0f%%)", b, 100.0 * (double)done / (double)P.total);
        if (!last && rate > 0 && done < P.total) {
            int left = (int)((double)(P.total - done) / rate);
            snprintf(eta, sizeof eta, ", %d:%02d left", left / 60, left % 60);
        }
    }
    if (P.mode == DP_PROGRESS_JSON) {
        snprintf(line, sizeof line, "{\"progress\":\"%s\",\"done\":%llu,\"total\":%llu,\"unit\":\"%s\",\"documents\":%llu,\"seconds\":%.3f,\"end\":%s}\n",
                 P.label, (unsigned long long)done, (unsigned long long)P.total, P.unit, (unsigned long long)docs, s, last ? "true" : "false");
    } else {
        char d[48] = "", fin[48] = "";
        if (docs) snprintf(d, sizeof d, ", %llu documents", (unsigned long long)docs);
        if (last) snprintf(fin, sizeof fin, " in %.1f s", s);
        snprintf(line, sizeof line, "%s%-10s %s%s%s, %s/s%s%s%s%s%s", P.tty ? "\r\033[K" : "", P.label, a, tot, d, r, eta, fin, P.note[0] ? "  " : "",
                 P.note, P.tty && !last ? "" : "\n");
    }
    if (write(STDERR_FILENO, line, strlen(line)) < 0) return;
    P.drawn = P.tty && !last;
    P.last = t;
}

void dp_progress_begin(const char *label, const char *unit, uint64_t total)
{
    pthread_mutex_lock(&P.mu);
    snprintf(P.label, sizeof P.label, "%s", label);
    snprintf(P.unit, sizeof P.unit, "%s", unit);
    P.note[0] = 0;
    P.total = total;
    P.done = 0;
    P.docs = 0;
    P.t0 = P.last = dp_now();
    P.active = P.mode != DP_PROGRESS_QUIET;
    P.begun = true;
    P.ticks++;
    pthread_mutex_unlock(&P.mu);
}

static void maybe_draw(void)
{
    if (pthread_mutex_trylock(&P.mu) != 0) return; /* somebody is drawing */
    if (P.active && dp_now() - P.last >= (P.tty ? 0.1 : 5.0)) draw(false);
    pthread_mutex_unlock(&P.mu);
}

void dp_progress_add(uint64_t done, uint64_t docs)
{
    atomic_fetch_add(&P.done, done);
    atomic_fetch_add(&P.docs, docs);
    atomic_fetch_add_explicit(&P.ticks, 1, memory_order_relaxed);
    maybe_draw();
}

void dp_progress_set(uint64_t done, const char *note)
{
    atomic_store(&P.done, done);
    P.ticks++;
    if (note) {
        pthread_mutex_lock(&P.mu);
        snprintf(P.note, sizeof P.note, "%s", note);
        pthread_mutex_unlock(&P.mu);
    }
    maybe_draw();
}

void dp_progress_end(void)
{
    pthread_mutex_lock(&P.mu);
    if (P.active) draw(true);
    P.active = P.begun = false;
    P.ticks++;
    pthread_mutex_unlock(&P.mu);
}

static const atomic_bool *_Atomic stop_flag;

void dp_progress_stop_by(const atomic_bool *stop)
{
    atomic_store(&stop_flag, stop);
}

bool dp_progress_stopped(void)
{
    const atomic_bool *stop = atomic_load_explicit(&stop_flag, memory_order_acquire);
    dp_progress_tick();
    return stop && atomic_load_explicit(stop, memory_order_relaxed);
}

int dp_progress_go_on(struct dp_err *e)
{
    if (!dp_progress_stopped()) return DP_OK;
    DP_FAIL(e, STOPPED, "stopped; what is published stays, run again to go on");
}

void dp_progress_tick(void)
{
    atomic_fetch_add_explicit(&P.ticks, 1, memory_order_relaxed);
}

uint64_t dp_progress_ticks(void)
{
    return atomic_load_explicit(&P.ticks, memory_order_relaxed);
}

void dp_progress_read(struct dp_progress_view *v)
{
    pthread_mutex_lock(&P.mu);
    *v = (struct dp_progress_view){.active = P.begun, .done = P.done, .docs = P.docs, .total = P.total, .seconds = P.begun ? dp_now() - P.t0 : 0};
    snprintf(v->label, sizeof v->label, "%s", P.label);
    snprintf(v->unit, sizeof v->unit, "%s", P.unit);
    pthread_mutex_unlock(&P.mu);
}
