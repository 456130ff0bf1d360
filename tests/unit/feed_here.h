/* For tests of the feed's server: one in this process, and the feed whose batches it must give. */
#ifndef DP_TESTS_FEED_HERE_H
#define DP_TESTS_FEED_HERE_H

#include "tests/unit/test_shard_data.h"
#include "trainer_feed/feed_server.h"

#include <dirent.h>
#include <pthread.h>
#include <time.h>

static struct dp_err err;

static int descriptors(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d)) n++;
    if (d) closedir(d);
    return n;
}

static void nap(int us)
{
    struct timespec t = {us / 1000000, us % 1000000 * 1000L};
    nanosleep(&t, NULL);
}

/* --- a server in this process --- */

struct here {
    struct dp_feed_server *s;
    pthread_t thread;
    char addr[600];
};
static void *run_here(void *arg)
{
    struct dp_err e;
    return (void *)(intptr_t)dp_feed_server_run(arg, &e);
}
static void here_close(struct here *h)
{
    dp_feed_server_stop(h->s);
    pthread_join(h->thread, NULL);
    dp_feed_server_close(h->s);
}
/* Within so long no client is left. */
static bool all_gone(const struct here *h, int ms)
{
    for (int i = 0; i < ms && dp_feed_server_clients(h->s); i++) nap(1000);
    return dp_feed_server_clients(h->s) == 0;
}

/* --- the feed beside it --- */

enum { T = 16, B = 3, IDS = B *(T + 1) };
static struct dp_feed *beside(const struct data *d, int rank, int world, int pack, uint64_t start)
{
    struct dp_feed_options o;
    struct dp_feed_state s;
    struct dp_feed *f;
    dp_feed_options_init(&o);
    o.seq_len = T;
    o.batch = B;
    o.seed = 7;
    o.val_fraction = 0.1;
    o.rank = rank;
    o.world = world;
    o.pack = pack;
    if (dp_feed_open(&f, d->path, &o, &err) < 0) abort();
    dp_feed_state(f, &s);
    s.sample = start;
    if (dp_feed_resume(f, &s, &err) < 0) abort();
    return f;
}

#endif
