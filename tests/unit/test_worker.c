/* Worker processes through their handle: the same artifacts as dp_unit_run on a thread, records one by one, records left out, and workers that lie. The
 * workers are the program in $DPIPE; the liars are this program, which the constructor below turns into one. */
#include "base/channel.h"
#include "base/log.h"
#include "daemon/worker_message.h"
#include "daemon/worker_process.h"
#include "tests/test.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static struct dp_err err;

/* --- liars: how is in LC_CTYPE, one of the few variables that a worker is given --- */

static void say(uint32_t kind, const void *p, size_t n)
{
    dp_channel_send(3, kind, p, n, NULL, 0, -1, NULL);
}

__attribute__((constructor)) static void maybe_lie(int argc, char **argv)
{
    static struct dp_message m;
    static struct dp_unit_result r;
    const char *how = getenv("LC_CTYPE");
    if (argc != 2 || strcmp(argv[1], DP_WORKER_COMMAND) != 0 || !how) return;
    struct dp_msg_ready ready = {.code = strcmp(how, "unwilling") == 0 ? DP_CONFIG : 0, .msg = "no wish"};
    if (strcmp(how, "gone") == 0) _exit(7);
    if (strcmp(how, "mumbles") == 0) say(DP_MSG_READY, "x", 1);
    say(DP_MSG_READY, &ready, sizeof ready);
    while (dp_channel_receive(3, &m, -1, NULL) == DP_OK && m.kind != DP_MSG_UNIT) dp_message_close(&m);
    struct dp_msg_ask ask = {UINT64_C(1) << 40};
    struct dp_msg_failed f = {.code = 5, .msg = "x"};
    memset(f.msg, 'y', sizeof f.msg); /* no NUL */
    if (strcmp(how, "digest") == 0) say(DP_MSG_DONE, &r, sizeof r);
    if (strcmp(how, "short") == 0) say(DP_MSG_DONE, &r, 12);
    if (strcmp(how, "member") == 0) say(DP_MSG_ASK, &ask, sizeof ask);
    if (strcmp(how, "code") == 0) say(DP_MSG_FAILED, &f, sizeof f);
    if (strcmp(how, "kind") == 0) say(999, NULL, 0);
    if (strcmp(how, "junk") == 0 && send(3, "junk", 4, 0) < 0) _exit(1);
    if (strcmp(how, "descriptor") == 0) dp_channel_send(3, DP_MSG_PROGRESS, &(struct dp_msg_progress){0, 0}, 16, (int[]){3}, 1, -1, NULL);
    static const char talk[] = "01234567\4\0\0\0\1\0\0\0module\0text\0unit\0path\0record"; /* struct dp_msg_log and its strings */
    for (int i = 0; strcmp(how, "floods") == 0 && i < 5000; i++) say(DP_MSG_LOG, talk, sizeof talk);
    if (strcmp(how, "floods") == 0) say(DP_MSG_LOG, talk, sizeof talk - 3); /* no end */
    if (strcmp(how, "closes") == 0) close(3);
    if (strcmp(how, "signal") == 0) raise(SIGILL);
    if (strcmp(how, "floods") != 0) pause();
    _exit(0);
}

/* --- a unit in memory --- */

enum { MEMBERS = 3 };
static char text[MEMBERS][1 << 19];
static const char *const names[MEMBERS] = {"a.jsonl", "b.jsonl", "c.html"};
static uint64_t told_docs;
static atomic_bool stop_now;

static void make_text(void)
{
    static const char *const words[] = {"water", "light", "house", "river", "the", "and", "of", "stone", "green", "walk", "garden", "winter"};
    uint64_t s = 5;
    for (int m = 0; m < 2; m++) {
        size_t n = 0;
        for (int d = 0; d < 300; d++) {
            n += (size_t)snprintf(text[m] + n, sizeof text[m] - n, "{\"text\":\"document %d ", d);
            for (int i = 0; i < 90; i++) n += (size_t)snprintf(text[m] + n, sizeof text[m] - n, "%s ", words[dp_splitmix64(&s) % 12]);
            n += (size_t)snprintf(text[m] + n, sizeof text[m] - n, "\"}\n");
        }
    }
    snprintf(text[2], sizeof text[2], "<html><body><p>%.2000s</p></body></html>", text[0]);
}

static int open_member(void *ctx, size_t i, const char **name, const char **prefix, const char **digest, struct dp_err *e)
{
    (void)ctx;
    int fd = memfd_create("member", MFD_CLOEXEC);
    if (fd < 0 || write(fd, text[i], strlen(text[i])) < 0) DP_FAIL_SYS(e, "memfd");
    *name = names[i];
    *prefix = "p";
    *digest = "0123";
    return fd;
}
static int no_member(void *ctx, size_t i, const char **name, const char **prefix, const char **digest, struct dp_err *e)
{
    (void)ctx, (void)i, (void)name, (void)prefix, (void)digest;
    DP_FAIL(e, BUSY, "the source changed");
}
static int endless_name(void *ctx, size_t i, const char **name, const char **prefix, const char **digest, struct dp_err *e)
{
    static char endless[DP_CHANNEL_BYTES_MAX + 1];
    memset(endless, 'n', sizeof endless - 1);
    int fd = open_member(ctx, i, name, prefix, digest, e);
    *name = endless;
    return fd;
}
static void on_progress(void *ctx, uint64_t bytes, uint64_t docs)
{
    (void)ctx, (void)bytes;
    told_docs += docs;
}
static bool stop_wanted(void *ctx)
{
    (void)ctx;
    return atomic_load(&stop_now);
}

static struct dp_options options;
static bool set_up(void)
{
    static bool done;
    if (done) return true;
    make_text();
    setenv("TSAN_OPTIONS", "halt_on_error=1", 0); /* workers end with _exit: nobody would see a race otherwise */
    dp_log_init(DP_LOG_ERROR, DP_LOG_TEXT);
    if (dp_options_init(&options, &err) < 0) return false;
    static const char *const set[][3] = {{"clean.c4", "enabled", "false"}, {"clean.gopher_repetition", "enabled", "false"},
                                         {"clean.patterns", "text_drop", "river\\W+(stone)\\W+green\\W+walk"}};
    for (size_t i = 0; i < sizeof set / sizeof *set; i++) { /* a worker must be told */
        const struct dp_section *s = dp_options_section(&options, set[i][0]);
        if (dp_opt_set(dp_opt_find(s->rows, dp_span_str(set[i][1])), s->base, dp_span_str(set[i][2]), set[i][1], &err) < 0) return false;
    }
    done = dp_options_open(&options, &err) >= 0;
    return done;
}

static void outputs(int out[DP_OUTS])
{
    for (int i = 0; i < DP_OUTS; i++) out[i] = memfd_create("out", MFD_CLOEXEC);
}
static void close_outputs(int out[DP_OUTS])
{
    for (int i = 0; i < DP_OUTS; i++) close(out[i]);
}
static struct dp_unit_job job_of(int lanes)
{
    struct dp_unit_job j = {.ingest = &options.ingest, .clean = &options.clean, .stages = options.clean.count, .lanes = lanes, .members = MEMBERS,
                            .open_member = open_member, .progress = on_progress, .stop = stop_wanted};
    outputs(j.out);
    return j;
}
static bool same_result(const struct dp_unit_result *a, const struct dp_unit_result *b)
{
    bool same = a->damaged == b->damaged;
    for (int i = 0; i < DP_OUTS; i++) same = same && strcmp(a->out[i].digest, b->out[i].digest) == 0 && a->out[i].docs == b->out[i].docs;
    for (size_t s = 0; s <= options.clean.count; s++) {
        same = same && a->counts[s].docs_in == b->counts[s].docs_in && a->counts[s].docs_out == b->counts[s].docs_out && a->counts[s].bytes_out == b->counts[s].bytes_out;
        same = same && memcmp(a->counts[s].drop, b->counts[s].drop, sizeof a->counts[s].drop) == 0;
    }
    return same;
}
static int descriptors(void)
{
    int n = 0;
    for (int i = 0; i < 256; i++) n += fcntl(i, F_GETFD) >= 0;
    return n;
}

TEST(a_process_gives_what_a_thread_gives)
{
    static struct dp_unit_result want, got;
    const char *program = getenv("DPIPE");
    struct dp_worker *w;
    if (!program) SKIP("DPIPE names no program");
    REQUIRE(set_up());
    int before = descriptors();
    struct dp_unit_job job = job_of(1);
    int leak[2]; /* as a shell or systemd may leave open */
    REQUIRE(pipe(leak) == 0);
    REQUIRE_OK(dp_unit_run(&job, &want, &err)); /* closes its outputs */
    uint64_t matched = 0;
    for (size_t s = 0; s <= options.clean.count; s++) matched += want.counts[s].drop[DP_DROP_PATTERN_TEXT];
    CHECK(matched > 0 && want.out[DP_OUT_DOCS].docs > 100 && want.out[DP_OUT_SIG].docs == want.out[DP_OUT_DOCS].docs);
    REQUIRE_OK(dp_worker_open(&w, &options, program, &err));
    CHECK_INT(dp_worker_pid(w), 0);
    int pid = 0;
    for (int lanes = 1; lanes <= 3; lanes += 2) {
        for (int i = 0; i < 2; i++) { /* the second by the same process */
            job = job_of(lanes);
            told_docs = 0;
            CHECK_INT(dp_worker_run(w, &job, &got, &err), DP_OK);
            CHECK(same_result(&got, &want));
            CHECK_INT(told_docs, want.counts[0].docs_in);
            close_outputs(job.out);
            if (i) CHECK_INT(dp_worker_pid(w), pid);
            pid = dp_worker_pid(w);
        }
    }
    close(leak[1]);
    CHECK(poll(&(struct pollfd){leak[0], POLLIN, 0}, 1, 0) == 1); /* hung up: the worker has it no more */
    close(leak[0]);
    CHECK(dp_worker_sandbox(w)->seccomp && dp_worker_sandbox(w)->no_new_privs && dp_worker_sandbox(w)->rlimits);
    /* Everything one by one: reading, stages, writing. */
    struct dp_careful all[2 * MEMBERS];
    for (uint32_t m = 0; m < MEMBERS; m++) {
        all[2 * m] = (struct dp_careful){m, 0, 0, UINT64_MAX};
        all[2 * m + 1] = (struct dp_careful){m, 1, 0, UINT64_MAX};
    }
    struct dp_unit_care care = {NULL, 0, all, 2 * MEMBERS};
    job = job_of(1);
    job.care = &care;
    CHECK_INT(dp_worker_run(w, &job, &got, &err), DP_OK);
    CHECK(same_result(&got, &want));
    close_outputs(job.out);
    dp_worker_close(w);
    CHECK_INT(descriptors(), before);
}

TEST(records_are_left_out_at_their_stage)
{
    static struct dp_unit_result want, got;
    const char *program = getenv("DPIPE");
    struct dp_worker *w;
    if (!program) SKIP("DPIPE names no program");
    REQUIRE(set_up());
    struct dp_unit_job job = job_of(1);
    REQUIRE_OK(dp_unit_run(&job, &want, &err));
    REQUIRE_OK(dp_worker_open(&w, &options, program, &err));
    const struct dp_skip skip[] = {{0, 1, 17}, {1, 3, 250}, {1, 0, 3}, {2, DP_SKIP_REST, 0}};
    struct dp_unit_care care = {skip, 4, NULL, 0};
    char digest[2][DP_HEX256];
    for (int i = 0; i < 2; i++) { /* whatever the lanes */
        job = job_of(1 + 2 * i);
        job.care = &care;
        CHECK_INT(dp_worker_run(w, &job, &got, &err), DP_OK);
        snprintf(digest[i], DP_HEX256, "%s", got.out[DP_OUT_DOCS].digest);
        close_outputs(job.out);
    }
    CHECK_STR(digest[1], digest[0]);
    CHECK_INT(got.counts[0].docs_in, want.counts[0].docs_in - 1); /* c.html isn't read */
    CHECK_INT(got.counts[0].drop[DP_DROP_QUARANTINED], 1);
    CHECK_INT(got.counts[1].drop[DP_DROP_QUARANTINED], 1);
    CHECK_INT(got.counts[2].drop[DP_DROP_QUARANTINED], 0);
    CHECK_INT(got.counts[3].drop[DP_DROP_QUARANTINED], 1);
    CHECK_INT(got.damaged, want.damaged + 1);
    dp_worker_close(w);
}

TEST(errors_and_stops_come_back)
{
    static struct dp_unit_result got;
    const char *program = getenv("DPIPE");
    struct dp_worker *w;
    if (!program) SKIP("DPIPE names no program");
    REQUIRE(set_up());
    REQUIRE_OK(dp_worker_open(&w, &options, program, &err));
    struct dp_unit_job job = job_of(1);
    job.open_member = no_member;
    CHECK_INT(dp_worker_run(w, &job, &got, &err), DP_BUSY);
    CHECK(strstr(err.msg, "the source changed"));
    job.open_member = open_member;
    int pid = dp_worker_pid(w);
    atomic_store(&stop_now, true);
    CHECK_INT(dp_worker_run(w, &job, &got, &err), DP_STOPPED);
    atomic_store(&stop_now, false);
    CHECK_INT(dp_worker_pid(w), pid); /* it goes on living */
    kill(pid, SIGKILL);
    usleep(50000);
    CHECK_INT(dp_worker_run(w, &job, &got, &err), DP_OK); /* by another */
    /* The broker's own trouble in the middle of a unit: the next unit gets none of what the worker still says about this one. */
    uint64_t documents = got.counts[0].docs_in;
    job.open_member = endless_name;
    CHECK_INT(dp_worker_run(w, &job, &got, &err), DP_LIMIT);
    job.open_member = open_member;
    close_outputs(job.out);
    outputs(job.out);
    CHECK_INT(dp_worker_run(w, &job, &got, &err), DP_OK);
    CHECK_INT(got.counts[0].docs_in, documents);
    close_outputs(job.out);
    dp_worker_close(w);
    REQUIRE_OK(dp_worker_open(&w, &options, "/nowhere/dpipe", &err));
    job = job_of(1);
    CHECK_INT(dp_worker_run(w, &job, &got, &err), DP_CONFIG);
    close_outputs(job.out);
    dp_worker_close(w);
}

TEST(liars_are_put_down)
{
    static struct dp_unit_result got;
    static const struct {
        const char *how;
        int rc;
        enum dp_death_reason reason;
    } liars[] = {
        {"gone", DP_CONFIG, 0}, {"mumbles", DP_CONFIG, 0}, {"unwilling", DP_CONFIG, 0}, {"digest", DP_EMPTY, DP_DEATH_LIED}, {"short", DP_EMPTY, DP_DEATH_LIED},
        {"member", DP_EMPTY, DP_DEATH_LIED}, {"code", DP_EMPTY, DP_DEATH_LIED}, {"kind", DP_EMPTY, DP_DEATH_LIED}, {"junk", DP_EMPTY, DP_DEATH_LIED},
        {"descriptor", DP_EMPTY, DP_DEATH_LIED}, {"floods", DP_EMPTY, DP_DEATH_CRASH}, {"closes", DP_EMPTY, DP_DEATH_LIED}, {"signal", DP_EMPTY, DP_DEATH_CRASH},
    };
    REQUIRE(set_up());
    int before = descriptors();
    for (size_t i = 0; i < sizeof liars / sizeof *liars; i++) {
        struct dp_worker *w;
        setenv("LC_CTYPE", liars[i].how, 1);
        REQUIRE_OK(dp_worker_open(&w, &options, NULL, &err)); /* this program */
        struct dp_unit_job job = job_of(1);
        int rc = dp_worker_run(w, &job, &got, &err);
        if (rc != liars[i].rc || (rc == DP_EMPTY && dp_worker_death(w)->reason != liars[i].reason))
            DP_TEST_FAIL("%s: %d, %s: %s", liars[i].how, rc, dp_death_name(dp_worker_death(w)->reason), rc < 0 ? err.msg : dp_worker_death(w)->what);
        close_outputs(job.out);
        dp_worker_close(w);
        CHECK_INT(descriptors(), before);
    }
    unsetenv("LC_CTYPE");
}
