/* Events and runs on disk: bounded, whole lines, put back. */
#include "base/fs.h"
#include "daemon/events.h"
#include "daemon/history.h"
#include "tests/test.h"

#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char dir[512]; /* of the test at hand */

static void fresh(void)
{
    snprintf(dir, sizeof dir, "%s", dp_test_tmpdir());
}

static int64_t file_bytes(const char *name)
{
    char path[600];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return stat(path, &st) == 0 ? (int64_t)st.st_size : -1;
}

static size_t good_lines(const char *name)
{
    char path[600];
    struct dp_buf b;
    struct dp_err err = {0};
    size_t n = 0;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    dp_buf_init(&b, 8 << 20);
    CHECK_OK(dp_fs_read(path, &b, &err));
    for (const char *p = b.len ? b.ptr : "", *end = p + b.len, *nl; p < end && (nl = memchr(p, '\n', (size_t)(end - p))); p = nl + 1) {
        struct dp_json *v = NULL;
        if (dp_json_parse(&v, dp_span(p, (size_t)(nl - p)), name, &err) < 0) DP_TEST_FAIL("%s: %s", name, err.msg);
        else n++;
        dp_json_free(v);
    }
    dp_buf_release(&b);
    return n;
}

/* Twelve processes' worth of events, more than both files hold. */
TEST(two_files_bound_it)
{
    struct dp_err err = {0};
    struct dp_event_row v;
    fresh();
    struct dp_run run = {.begun = 1, .ended = 2, .result = "done"};
    for (int round = 0; round < 12; round++) {
        struct dp_history *h = NULL;
        REQUIRE_OK(dp_history_open(&h, dir, &err));
        for (int i = 0; i < 1000; i++) dp_event(DP_LOG_DEBUG, "test", "round %d, event %d, \xff \n %0350d", round, i, 0);
        dp_runs_add(&run);
        dp_history_close(h);
        CHECK(file_bytes("history.jsonl") > 0 && file_bytes("history.jsonl") <= DP_HISTORY_BYTES);
    }
    CHECK(file_bytes("history.1.jsonl") > DP_HISTORY_BYTES / 2 && file_bytes("history.1.jsonl") <= DP_HISTORY_BYTES);
    CHECK(good_lines("history.jsonl") + good_lines("history.1.jsonl") > 4000);
    /* Each process began at a million of its own. */
    CHECK(dp_events_next(11 * (uint64_t)DP_EVENTS_EACH, &v));
    CHECK_INT(v.number, 11 * (uint64_t)DP_EVENTS_EACH + 1);
    CHECK(strncmp(v.text, "round 11, event 0, ", 19) == 0);
    CHECK_INT(run.number, 12);
}

static bool grows(int64_t from, double seconds)
{
    for (int i = 0; i < seconds * 100; i++) {
        const struct timespec t = {0, 10000000};
        if (file_bytes("history.jsonl") > from) return true;
        nanosleep(&t, NULL);
    }
    return false;
}

TEST(debug_events_wake_no_disk)
{
    struct dp_err err = {0};
    struct dp_history *h = NULL;
    fresh();
    REQUIRE_OK(dp_history_open(&h, dir, &err));
    int64_t from = file_bytes("history.jsonl");
    dp_event(DP_LOG_DEBUG, "test", "not worth it");
    CHECK(!grows(from, 1.5));
    dp_event(DP_LOG_INFO, "test", "worth it");
    CHECK(grows(from, 10));
    size_t n = good_lines("history.jsonl");
    CHECK_INT(n, 2); /* the debug event went along */
    dp_history_close(h);
}
