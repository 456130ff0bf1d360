/* Jobs done by several threads: all taken, in order, within their budget, whatever the number of threads; failures end it; nothing leaks. */
#include "tests/test.h"

#include "base/ordered.h"

#include <stdatomic.h>
#include <time.h>

struct job {
    uint64_t number, result;
    size_t cost;
};
struct state {
    uint64_t next, fail_at; /* number that comes next; the one that fails (0: none) */
    atomic_int live, working, most;
    atomic_size_t cost, cost_most;
    atomic_int worker_busy[8];
    int clashes, again;
};

static void work(void *v, void *j, int worker)
{
    struct state *s = v;
    struct job *job = j;
    if (atomic_fetch_add(&s->worker_busy[worker], 1)) s->clashes++;
    int now = atomic_fetch_add(&s->working, 1) + 1, most = atomic_load(&s->most);
    while (now > most && !atomic_compare_exchange_weak(&s->most, &most, now)) continue;
    if (job->number % 7 == 3) nanosleep(&(struct timespec){0, 200000}, NULL); /* some are late */
    job->result = job->number * job->number;
    atomic_fetch_sub(&s->working, 1);
    atomic_fetch_sub(&s->worker_busy[worker], 1);
}

static int take(void *v, void *j, struct dp_err *e)
{
    struct state *s = v;
    struct job *job = j;
    if (s->fail_at && job->number == s->fail_at) DP_FAIL(e, CORRUPT, "number %llu", (unsigned long long)job->number);
    CHECK_INT(job->number, s->next);
    CHECK_INT(job->result, job->number * job->number);
    s->next++;
    return DP_OK;
}

static bool drop(void *v, void *j)
{
    struct state *s = v;
    struct job *job = j;
    atomic_fetch_sub(&s->cost, job->cost);
    atomic_fetch_sub(&s->live, 1);
    return job->number % 2;
}

static int add(struct dp_ordered *o, struct state *s, uint64_t number, size_t cost, struct dp_err *e)
{
    struct job *job = dp_ordered_spare(o);
    if (job) {
        CHECK(job->number % 2);
        s->again++;
    } else job = malloc(sizeof *job);
    *job = (struct job){number, 0, cost};
    atomic_fetch_add(&s->live, 1);
    size_t now = atomic_fetch_add(&s->cost, cost) + cost, most = atomic_load(&s->cost_most);
    if (now > most) atomic_store(&s->cost_most, now);
    return dp_ordered_add(o, job, cost, e);
}

static const struct dp_ordered_type type = {work, take, drop, free};

TEST(all_jobs_come_in_order)
{
    struct dp_err err;
    for (int threads = 1; threads <= 4; threads++) {
        struct state s = {.next = 0};
        struct dp_ordered *o;
        REQUIRE_OK(dp_ordered_open(&o, threads, 1 << 20, &type, &s, &err));
        for (uint64_t i = 0; i < 600; i++) CHECK_OK(add(o, &s, i, i % 5 ? 100000 : 10, &err));
        CHECK_OK(dp_ordered_finish(o, &err));
        CHECK_INT(s.next, 600);
        CHECK_OK(add(o, &s, 600, 300000, &err)); /* and on it goes */
        CHECK_OK(dp_ordered_finish(o, &err));
        CHECK_INT(s.next, 601);
        CHECK_INT(s.live, 0);
        CHECK_INT(s.clashes, 0);
        CHECK(s.again > 100 && s.again <= 300); /* every second one was kept, all but the last few were there again */
        CHECK(s.most <= threads);
        CHECK(s.cost_most <= (1 << 20) + 100000); /* the one that waits has its memory already */
        dp_ordered_close(o);
    }
}

TEST(a_failure_ends_it)
{
    struct dp_err err;
    for (int threads = 1; threads <= 3; threads++) {
        struct state s = {.fail_at = 50};
        struct dp_ordered *o;
        int rc = DP_OK, finished;
        REQUIRE_OK(dp_ordered_open(&o, threads, 1 << 20, &type, &s, &err));
        for (uint64_t i = 0; i < 2000 && rc >= 0; i++) rc = add(o, &s, i, 9000, &err);
        CHECK_INT(rc, DP_CORRUPT);
        finished = dp_ordered_finish(o, &err);
        CHECK_INT(finished, DP_CORRUPT);
        CHECK_STR(err.msg, "number 50");
        CHECK_INT(s.next, 50);
        dp_ordered_close(o);
        CHECK_INT(s.live, 0);
    }
}

TEST(closing_drops_what_is_left)
{
    struct dp_err err;
    struct state s = {.next = 0};
    struct dp_ordered *o;
    REQUIRE_OK(dp_ordered_open(&o, 2, 1 << 30, &type, &s, &err));
    for (uint64_t i = 0; i < 8; i++) CHECK_OK(add(o, &s, i, 9000, &err));
    dp_ordered_close(o);
    CHECK_INT(s.live, 0);
    dp_ordered_close(NULL);
}

TEST(a_job_dearer_than_the_budget_goes_alone)
{
    struct dp_err err;
    struct state s = {.next = 0};
    struct dp_ordered *o;
    REQUIRE_OK(dp_ordered_open(&o, 3, 1000, &type, &s, &err));
    for (uint64_t i = 0; i < 20; i++) CHECK_OK(add(o, &s, i, 50000, &err));
    CHECK_OK(dp_ordered_finish(o, &err));
    CHECK_INT(s.next, 20);
    CHECK_INT(s.most, 1);
    dp_ordered_close(o);
}
