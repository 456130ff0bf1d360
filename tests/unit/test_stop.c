/* Stopping: long steps over all documents end soon after they are asked to, wherever they are, and show life all the while. */
#include "base/progress.h"
#include "tests/unit/dedup_fixture.h"
#include "tokenizer/bpe_train.h"
#include "tokenizer/tokenizer.h"

#include <pthread.h>
#include <time.h>

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__ /* twenty times slower */
enum { LIMIT_S = 10, LESS = 5 }; /* LESS: parts of the work that are left */
#else
enum { LIMIT_S = 1, LESS = 1 };
#endif

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Looks at the ticks every 5 ms; sets the flag when it is time. */
struct watcher {
    pthread_t thread;
    atomic_bool over, stop;
    double stop_at, stopped_at, gap_max; /* stop_at: monotonic; 0: never */
};

static void *watch(void *v)
{
    struct watcher *w = v;
    uint64_t ticks = dp_progress_ticks();
    double moved = now();
    while (!atomic_load(&w->over)) {
        struct timespec t = {0, 5000000};
        nanosleep(&t, NULL);
        double at = now();
        if (dp_progress_ticks() != ticks) {
            ticks = dp_progress_ticks();
            moved = at;
        }
        if (at - moved > w->gap_max) w->gap_max = at - moved;
        if (w->stop_at > 0 && at >= w->stop_at && !atomic_load(&w->stop)) {
            w->stopped_at = at;
            atomic_store(&w->stop, true);
        }
    }
    return NULL;
}

/* Runs fn whole, for its time and the longest silence, then stops it at parts of that time. The limits are those of a busy machine. */
static void try_stops(const char *what, int (*fn)(void *ctx, struct dp_err *e), void *ctx)
{
    enum { STOPS = 8 };
    double whole = 0, late_max = 0, gap_max = 0;
    int stopped = 0;
    for (int i = 0; i <= STOPS; i++) {
        struct dp_err err = {0};
        struct watcher w = {.stop_at = 0};
        double begun = now();
        if (i) w.stop_at = begun + whole * (i - 0.5) / STOPS;
        dp_progress_stop_by(&w.stop);
        REQUIRE(pthread_create(&w.thread, NULL, watch, &w) == 0);
        int rc = fn(ctx, &err);
        double end = now();
        atomic_store(&w.over, true);
        pthread_join(w.thread, NULL);
        dp_progress_stop_by(NULL);
        if (rc >= 0) whole = end - begun; /* also of one that was faster than the time it was to be stopped at */
        if (w.gap_max > gap_max) gap_max = w.gap_max;
        if (i && rc == DP_STOPPED) {
            stopped++;
            if (end - w.stopped_at > late_max) late_max = end - w.stopped_at;
        } else if (rc < 0) DP_TEST_FAIL("%s: %s", what, err.msg);
    }
    fprintf(stderr, "%s: %.2f s whole; %d of %d stopped, at most %.3f s late; silent for at most %.3f s\n", what, whole, stopped, STOPS, late_max, gap_max);
    CHECK(stopped >= STOPS / 4);
    CHECK(late_max < LIMIT_S);
    CHECK(gap_max < LIMIT_S);
}

/* --- dedup --- */

static int dedup(void *ctx, struct dp_err *e)
{
    return fixture_run(ctx, 2, e);
}

static void dedup_stops(const char *what, bool closure, uint64_t memory)
{
    enum { DOCS = 150000 / LESS, SLOTS = 16 };
    struct fixture *f = fixture_new();
    uint64_t rng = 5;
    uint32_t slots[SLOTS];
    f->params = (struct dp_sig_params){4, 4, 5, false, 1};
    f->o.closure = closure;
    f->o.memory_bytes = memory;
    fixture_begin(f);
    for (uint32_t d = 0; d < DOCS; d++) {
        /* Families of some documents; and one bucket that holds all documents. */
        uint64_t family = d % (DOCS / 5), own = dp_splitmix64(&rng);
        for (uint32_t s = 0; s < SLOTS; s++) slots[s] = (uint32_t)dp_mix64(s < 4 ? s : s < 14 ? family * 100 + s : own + s);
        struct dp_sig_record r = {.hash = {d % 7 ? own : family, family}, .length = 100 + (uint32_t)(own % 900), .slots = slots};
        fixture_record(f, &r);
    }
    fixture_end(f);
    try_stops(what, dedup, f);
    fixture_free(f);
}

TEST(dedup_in_memory_stops)
{
    dedup_stops("dedup in memory", false, 512 << 20);
}

TEST(dedup_on_disk_stops)
{
    dedup_stops("dedup on disk", false, 4 << 20);
}

TEST(dedup_by_closure_stops)
{
    dedup_stops("dedup by closure", true, 4 << 20);
}

/* --- training a tokenizer --- */

struct training {
    uint64_t memory;
    char *dir;
    size_t words;
};

static int train(void *ctx, struct dp_err *e)
{
    const struct training *t = ctx;
    struct dp_bpe_train_options o = {0};
    struct dp_bpe_counter *c = NULL, *d = NULL;
    struct dp_tokenizer *tok = NULL;
    uint64_t rng = 9;
    int rc = dp_opt_defaults(dp_bpe_train_opts, &o, e);
    if (rc >= 0) rc = dp_bpe_counter_open(&c, o.split, e);
    if (rc >= 0) rc = dp_bpe_counter_open(&d, o.split, e);
    if (rc >= 0 && t->memory) {
        dp_bpe_counter_budget(c, t->memory, t->dir);
        dp_bpe_counter_budget(d, t->memory, t->dir);
    }
    o.vocab_size = 4000;
    for (size_t i = 0; rc >= 0 && i < t->words; i++) {
        char w[24];
        size_t n = 2 + dp_splitmix64(&rng) % 18;
        for (size_t k = 0; k < n; k++) w[k] = (char)('a' + dp_splitmix64(&rng) % 20);
        rc = dp_bpe_counter_add_word(i % 2 ? c : d, dp_span(w, n), 1 + i % 5, e);
        if (rc >= 0 && i % 4096 == 0) rc = dp_progress_go_on(e); /* as the step does behind each document */
    }
    if (rc >= 0) rc = dp_bpe_counter_merge(c, d, e);
    if (rc >= 0) rc = dp_bpe_train(&tok, &o, c, NULL, NULL, e);
    dp_tokenizer_free(tok);
    dp_bpe_counter_close(c);
    dp_bpe_counter_close(d);
    dp_opt_release(dp_bpe_train_opts, &o);
    return rc;
}

TEST(training_bpe_in_memory_stops)
{
    struct training t = {0, NULL, 400000 / LESS};
    try_stops("training BPE in memory", train, &t);
}

TEST(training_bpe_on_disk_stops)
{
    struct training t = {1 << 20, strdup(dp_test_tmpdir()), 400000 / LESS};
    try_stops("training BPE on disk", train, &t);
    CHECK_INT(rmdir(t.dir), 0);
    free(t.dir);
}
