/* A user's program: only the installed headers, linked with the installed library. usage: install_feed MANIFEST [ADDR]
 * Writes the first two batches of 4 rows of 17 ids to standard output: of a feed of its own, or, with ADDR, of a server in another process, with masks that it
 * looks at. */
#include "trainer_feed/feed.h"
#include "trainer_feed/feed_client.h"
#include "trainer_feed/feed_server.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int fail(const struct dp_err *err)
{
    fprintf(stderr, "%s\n", err->msg);
    return 1;
}

static int own(const char *manifest)
{
    struct dp_feed_options o;
    struct dp_feed *f;
    struct dp_err err;
    int32_t rows[4][17];
    dp_feed_options_init(&o);
    o.seq_len = 16;
    o.batch = 4;
    if (dp_feed_open(&f, manifest, &o, &err) < 0) return fail(&err);
    for (int step = 0; step < 2; step++)
        if (dp_feed_next(f, rows[0], &err) < 0 || fwrite(rows, sizeof rows, 1, stdout) != 1) return 1;
    dp_feed_close(f);
    return 0;
}

static int serve(const char *manifest, const char *addr)
{
    struct dp_feed_server_options o = {.addr = addr, .manifest = manifest};
    struct dp_feed_server *s;
    struct dp_err err;
    dp_feed_options_init(&o.feed);
    if (dp_feed_server_open(&s, &o, &err) < 0) return fail(&err);
    return dp_feed_server_run(s, &err) < 0 ? fail(&err) : 0;
}

static int served(const char *addr)
{
    struct dp_feed_client_options o = {.addr = addr, .wants = "seq_len=16\nbatch=4\n", .meta = DP_FEED_META_CU_SEQLENS | DP_FEED_META_SAMPLE};
    struct dp_feed_client *c;
    struct dp_feed_batch b;
    struct dp_err err;
    int rc = DP_NOTFOUND;
    for (int i = 0; i < 500 && rc == DP_NOTFOUND; i++) { /* until the server is up */
        struct timespec t = {0, 10000000};
        rc = dp_feed_client_open(&c, &o, &err);
        if (rc < 0) nanosleep(&t, NULL);
    }
    if (rc < 0) return fail(&err);
    for (int step = 0; step < 2; step++) {
        if (dp_feed_client_next(c, &b, &err) < 0) return fail(&err);
        if (b.meta.cu_seqlens[16] != 16 || b.meta.sample[3] != b.sample + 3 || fwrite(b.ids, 4 * 17 * 4, 1, stdout) != 1) return 1;
    }
    dp_feed_client_close(c);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 2 && argc != 3) return 64;
    if (argc == 2) return own(argv[1]);
    pid_t p = fork();
    if (p == 0) _exit(serve(argv[1], argv[2]));
    int rc = served(argv[2]);
    kill(p, SIGKILL);
    waitpid(p, NULL, 0);
    return rc;
}
