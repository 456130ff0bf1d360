#include "trainer_feed/feed_server.h"

#include "base/channel.h"
#include "base/log.h"
#include "tests/unit/feed_here.h"
#include "trainer_feed/feed_client.h"
#include "trainer_feed/feed_wire.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

/* --- a server in this process --- */

static int here_open(struct here *h, const struct data *d, int clients_max, uint64_t ring_bytes_max)
{
    snprintf(h->addr, sizeof h->addr, "%s/s", d->dir);
    struct dp_feed_server_options o = {.addr = h->addr, .manifest = d->path, .clients_max = clients_max, .ring_bytes_max = ring_bytes_max};
    dp_feed_options_init(&o.feed);
    o.feed.val_fraction = 0.1;
    DP_TRY(dp_feed_server_open(&h->s, &o, &err));
    return pthread_create(&h->thread, NULL, run_here, h->s) ? DP_NOMEM : DP_OK;
}
static void wants(char *out, size_t n, int rank, int world, int pack)
{
    snprintf(out, n, "seq_len=%d\nbatch=%d\nseed=7\nrank=%d\nworld=%d\npack=%s\n", T, B, rank, world, pack ? "bestfit" : "concat");
}
static int client(struct dp_feed_client **c, const char *path, int rank, int world, int pack, uint64_t start, double reconnect)
{
    char text[200];
    wants(text, sizeof text, rank, world, pack);
    struct dp_feed_client_options o = {.addr = path, .wants = text, .start = start, .slots = 4, .reconnect_seconds = reconnect};
    return dp_feed_client_open(c, &o, &err);
}

struct reader {
    const struct data *d;
    const char *path;
    int rank, pack, slow_us, bad;
};
static void *read_batches(void *arg)
{
    struct reader *r = arg;
    struct dp_feed *f = beside(r->d, r->rank, 4, r->pack, 24);
    struct dp_feed_client *c;
    struct dp_feed_batch b;
    struct dp_err e;
    char text[200];
    int32_t want[IDS];
    wants(text, sizeof text, r->rank, 4, r->pack);
    struct dp_feed_client_options o = {.addr = r->path, .wants = text, .start = 24, .slots = (uint64_t)r->rank};
    r->bad = dp_feed_client_open(&c, &o, &e) < 0;
    for (int k = 0; !r->bad && k < 300; k++) {
        r->bad = dp_feed_client_next(c, &b, &e) < 0 || dp_feed_next(f, want, &e) < 0 || memcmp(b.ids, want, sizeof want) != 0 ||
                 b.sample != 24 + (uint64_t)k * 12 || b.next != b.sample + 12;
        if (r->slow_us) nap(r->slow_us);
    }
    if (r->bad) fprintf(stderr, "rank %d: %s\n", r->rank, e.msg);
    dp_feed_client_close(c);
    dp_feed_close(f);
    return NULL;
}

TEST(several_clients_get_what_the_feed_gives)
{
    struct data d;
    struct here h;
    REQUIRE_OK(data_make(&d, 50257, 50256, 3, 60, 120, 71, &err));
    int before = descriptors();
    REQUIRE_OK(here_open(&h, &d, 0, 0));
    struct reader r[8];
    pthread_t t[8];
    for (int i = 0; i < 8; i++) {
        r[i] = (struct reader){&d, h.addr, i % 4, i / 4, i == 5 ? 500 : 0, 0};
        REQUIRE(pthread_create(&t[i], NULL, read_batches, &r[i]) == 0);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(t[i], NULL);
        CHECK_INT(r[i].bad, 0);
    }
    CHECK(all_gone(&h, 5000));
    here_close(&h);
    CHECK_INT(descriptors(), before);
    CHECK(access(h.addr, F_OK) != 0);
    data_release(&d);
}

TEST(a_client_that_does_not_read_stops_only_itself)
{
    struct data d;
    struct here h;
    struct dp_feed_client *slow, *fast;
    struct dp_feed_batch b;
    struct dp_feed_client_info info;
    int32_t want[IDS];
    REQUIRE_OK(data_make(&d, 300, 0, 1, 60, 100, 72, &err));
    REQUIRE_OK(here_open(&h, &d, 0, 0));
    REQUIRE_OK(client(&slow, h.addr, 0, 1, 0, 0, 0));
    REQUIRE_OK(dp_feed_client_next(slow, &b, &err));
    dp_feed_client_info(slow, &info);
    CHECK_INT(info.slots, 4);
    CHECK_INT(info.vocab_size, 300);
    int32_t first[IDS];
    memcpy(first, b.ids, sizeof first);
    REQUIRE_OK(client(&fast, h.addr, 0, 1, 0, 0, 0));
    struct dp_feed_batch g;
    for (int k = 0; k < 500; k++) REQUIRE_OK(dp_feed_client_next(fast, &g, &err));
    CHECK(memcmp(first, b.ids, sizeof first) == 0); /* its batch still lies there */
    struct dp_feed *f = beside(&d, 0, 1, 0, 3);
    for (int k = 1; k < 50; k++) {
        REQUIRE_OK(dp_feed_client_next(slow, &b, &err));
        REQUIRE_OK(dp_feed_next(f, want, &err));
        REQUIRE(b.sample == (uint64_t)k * B && memcmp(b.ids, want, sizeof want) == 0);
    }
    struct dp_feed_state s;
    dp_feed_client_state(slow, &s);
    dp_feed_client_close(slow);
    struct dp_feed_client_options o = {.addr = h.addr, .wants = "seq_len=16\nbatch=3\nseed=7", .state = &s, .start = 999};
    REQUIRE_OK(dp_feed_client_open(&slow, &o, &err));
    REQUIRE_OK(dp_feed_client_next(slow, &b, &err));
    REQUIRE_OK(dp_feed_next(f, want, &err));
    CHECK(b.sample == 50 * B && memcmp(b.ids, want, sizeof want) == 0);
    dp_feed_client_close(slow);
    s.manifest.lo++; /* a run over other data */
    CHECK_INT(dp_feed_client_open(&slow, &o, &err), DP_CONFIG);
    CHECK(strstr(err.msg, "manifest"));
    dp_feed_close(f);
    dp_feed_client_close(fast);
    CHECK(all_gone(&h, 5000));
    here_close(&h);
    data_release(&d);
}

/* --- a server in another process --- */

static pid_t serve_there(const struct data *d, const char *path)
{
    pid_t p = fork();
    if (p) return p;
    struct dp_feed_server_options o = {.addr = path, .manifest = d->path};
    struct dp_feed_server *s;
    dp_log_init(DP_LOG_ERROR, DP_LOG_TEXT);
    dp_feed_options_init(&o.feed);
    o.feed.val_fraction = 0.1;
    if (dp_feed_server_open(&s, &o, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        _exit(1);
    }
    _exit(dp_feed_server_run(s, &err) < 0);
}
static void end(pid_t p)
{
    kill(p, SIGKILL);
    waitpid(p, NULL, 0);
}

/* Servers that live for a while each, every other one until the client says in `seen` that it is connected again; and a last one until `until`
 * ends; `last` gets a byte then. */
static void serve_and_kill(const struct data *d, const char *path, int kills, int seen, int last, int until)
{
    uint64_t x = 5;
    char c = 0;
    for (int i = 0; i < kills; i++) {
        pid_t p = serve_there(d, path);
        if (i % 2 && read(seen, &c, 1) != 1) _exit(1);
        nap((int)(dp_splitmix64(&x) % 5000));
        end(p);
    }
    pid_t p = serve_there(d, path);
    if (write(last, "L", 1) != 1 || read(until, &c, 1) != 0) abort();
    end(p);
    _exit(0);
}

/* The server is killed at random moments, and another one started; the client sees every batch once, in order. */
TEST(a_killed_server_costs_no_sample)
{
    enum { KILLS = 60, MORE = 200 };
    struct data d;
    char path[600];
    int seen[2], last[2], until[2];
    REQUIRE_OK(data_make(&d, 50257, 50256, 2, 60, 120, 73, &err));
    snprintf(path, sizeof path, "%s/s", d.dir);
    REQUIRE(pipe(seen) == 0 && pipe(last) == 0 && pipe(until) == 0);
    pid_t killer = fork();
    if (!killer) {
        close(until[1]);
        close(seen[1]);
        serve_and_kill(&d, path, KILLS, seen[0], last[1], until[0]);
    }
    dp_log_init(DP_LOG_ERROR, DP_LOG_TEXT);
    struct dp_feed_client *c = NULL;
    struct dp_feed_batch b;
    struct dp_feed_client_info info = {0};
    struct dp_feed *f = beside(&d, 1, 2, 1, 6);
    int32_t want[IDS];
    int rc = DP_NOTFOUND, k = 0;
    for (int i = 0; i < 5000 && rc == DP_NOTFOUND; i++, nap(1000)) rc = client(&c, path, 1, 2, 1, 6, 60);
    CHECK_OK(rc);
    struct pollfd p = {last[0], POLLIN, 0};
    for (int left = MORE; rc >= 0 && left; k++, left -= poll(&p, 1, 0) == 1) {
        rc = dp_feed_client_next(c, &b, &err);
        if (rc >= 0) rc = dp_feed_next(f, want, &err);
        if (rc >= 0 && (b.sample != 6 + (uint64_t)k * 2 * B || memcmp(b.ids, want, sizeof want) != 0)) break;
        uint64_t was = info.reconnects;
        dp_feed_client_info(c, &info);
        if ((!k || info.reconnects > was) && write(seen[1], "S", 1) != 1) abort();
    }
    if (rc < 0) DP_TEST_FAIL("batch %d: %s", k, err.msg);
    CHECK(poll(&p, 1, 0) == 1);
    if (c) dp_feed_client_info(c, &info);
    CHECK(info.reconnects >= KILLS / 2 - 1);
    for (int i = 0; c && i < 10000 && info.ready < 2; i++, nap(1000)) dp_feed_client_info(c, &info);
    CHECK(info.ready >= 2); /* of four slots one is ours, and one may lie free until two do */
    close(seen[1]);
    close(until[1]);
    waitpid(killer, NULL, 0);
    if (c) CHECK_INT(dp_feed_client_next(c, &b, &err), DP_OK); /* what lies in the ring outlives its server */
    dp_feed_client_close(c);
    CHECK_INT(client(&c, path, 0, 1, 0, 0, 0), DP_NOTFOUND);
    dp_feed_close(f);
    close(seen[0]);
    close(last[0]);
    close(last[1]);
    close(until[0]);
    dp_log_init(DP_LOG_INFO, DP_LOG_AUTO);
    data_release(&d);
}

static void read_until_killed(const struct data *d, const char *path, int i)
{
    struct dp_feed_client *c;
    struct dp_feed_batch b;
    struct dp_feed *f = beside(d, 0, 1, 0, 0);
    int32_t want[IDS];
    int rc = DP_NOTFOUND;
    while (rc == DP_NOTFOUND || rc == DP_BUSY) {
        rc = client(&c, path, 0, 1, 0, 0, 0);
        nap(300);
    }
    while (rc >= 0 && dp_feed_client_next(c, &b, &err) >= 0 && dp_feed_next(f, want, &err) >= 0 && memcmp(b.ids, want, sizeof want) == 0)
        if (i % 3 == 0) nap(100);
    fprintf(stderr, "client %d: %s\n", i, err.msg);
    _exit(1);
}

/* Clients are killed at random moments; each one's thread, descriptors and memory are free soon after. */
TEST(a_killed_client_leaves_nothing)
{
    enum { CLIENTS = 40 };
    struct data d;
    struct here h;
    char path[600];
    pid_t p[CLIENTS];
    uint64_t x = 6;
    int status;
    REQUIRE_OK(data_make(&d, 300, 0, 1, 60, 100, 74, &err));
    snprintf(path, sizeof path, "%s/s", d.dir);
    for (int i = 0; i < CLIENTS; i++)
        if (!(p[i] = fork())) read_until_killed(&d, path, i);
    dp_log_init(DP_LOG_ERROR, DP_LOG_TEXT);
    int before = descriptors();
    REQUIRE_OK(here_open(&h, &d, 8, 0)); /* fewer than want to be served: the others come when one is dead */
    for (int i = 0; i < CLIENTS; i++) {
        nap((int)(dp_splitmix64(&x) % 20000));
        kill(p[i], SIGKILL);
        REQUIRE(waitpid(p[i], &status, 0) == p[i]);
        CHECK(WIFSIGNALED(status)); /* else it had seen something wrong */
    }
    CHECK(all_gone(&h, 5000));
    here_close(&h);
    dp_log_init(DP_LOG_INFO, DP_LOG_AUTO);
    CHECK_INT(descriptors(), before);
    data_release(&d);
}

/* --- who doesn't keep to the rules --- */

static int dial(const char *path)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    memcpy(to.sun_path, path, strlen(path) + 1);
    if (connect(fd, (const struct sockaddr *)&to, sizeof to) != 0) abort();
    return fd;
}

TEST(malformed_requests_are_refused_and_say_why)
{
    static const struct {
        const char *text, *says;
        int code;
    } t[] = {
        {"seq_len=16", "version 1", DP_USAGE}, /* as clients of that version ask */
        {"seq_len=0", "seq_len", DP_USAGE},
        {"wire=2", "twice", DP_USAGE},
        {"seq_len=16\nmeta=cu_seqlens,masks", "masks", DP_USAGE},
        {"seq_len=16\ncompress=10", "compress", DP_USAGE},
        {"seq_len=16\nbatch=9999999", "batch", DP_USAGE},
        {"seq_len=16777216\nbatch=1024", "limit of a ring", DP_LIMIT},
        {"seq_len=16\nslots=1024\nbatch=4096", "limit of a ring", DP_LIMIT},
        {"slots=1025", "slots", DP_USAGE},
        {"rank=4\nworld=4", "rank 4 is outside", DP_CONFIG},
        {"rank=0\nrank=1", "twice", DP_USAGE},
        {"domains=x=/etc/passwd", "server's business", DP_USAGE},
        {"manifest=/etc/passwd", "doesn't know", DP_USAGE},
        {"start=-1", "start", DP_USAGE},
        {"start=4611686018427387904", "start", DP_USAGE},
        {"start=12x", "start", DP_USAGE},
        {"seq_len", "NAME=VALUE", DP_USAGE},
        {"mixture=web=1", "", DP_CONFIG},
        {"state=00", "state", DP_USAGE},
        {"val_fraction=nan", "val_fraction", DP_USAGE},
        {"seq_len=1048577\npack=bestfit\nbatch=1", "bestfit", DP_CONFIG},
    };
    struct data d;
    struct here h;
    static struct dp_message m;
    static char big[DP_CHANNEL_BYTES_MAX];
    REQUIRE_OK(data_make(&d, 300, 0, 1, 60, 100, 75, &err));
    REQUIRE_OK(here_open(&h, &d, 0, 1 << 20));
    dp_log_init(DP_LOG_ERROR, DP_LOG_TEXT);
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        int fd = dial(h.addr);
        char text[200];
        snprintf(text, sizeof text, "%s%s", i ? "wire=2\n" : "", t[i].text);
        REQUIRE_OK(dp_channel_send(fd, DP_FEED_ASK, text, strlen(text), NULL, 0, 1000, &err));
        REQUIRE(dp_channel_receive(fd, &m, 5000, &err) == DP_OK);
        CHECK_INT(m.kind, DP_FEED_REFUSE);
        int code = dp_feed_refuse_parse(dp_span(m.bytes, m.len), &err);
        if (code != t[i].code || !strstr(err.msg, t[i].says)) DP_TEST_FAIL("%s: %d: %s", t[i].text, code, err.msg);
        CHECK_INT(dp_channel_receive(fd, &m, 5000, &err), DP_EOF);
        close(fd);
    }
    int fd = dial(h.addr);
    memset(big, '\n', sizeof big);
    REQUIRE_OK(dp_channel_send(fd, DP_FEED_ASK, big, sizeof big, NULL, 0, 1000, &err));
    CHECK(dp_channel_receive(fd, &m, 5000, &err) == DP_OK && m.kind == DP_FEED_REFUSE);
    close(fd);
    fd = dial(h.addr); /* no message at all */
    CHECK(send(fd, big, 7, 0) == 7);
    CHECK(dp_channel_receive(fd, &m, 5000, &err) == DP_OK && m.kind == DP_FEED_REFUSE);
    close(fd);
    fd = dial(h.addr); /* and one with descriptors, of another kind */
    const int fds[2] = {fd, fd};
    REQUIRE_OK(dp_channel_send(fd, 77, "x", 1, fds, 2, 1000, &err));
    CHECK(dp_channel_receive(fd, &m, 5000, &err) == DP_OK && m.kind == DP_FEED_REFUSE);
    close(fd);
    close(dial(h.addr)); /* says nothing */
    CHECK(all_gone(&h, 5000));
    here_close(&h);
    dp_log_init(DP_LOG_INFO, DP_LOG_AUTO);
    data_release(&d);
}

/* A client that writes nonsense into the ring, or speaks while it is served, hurts itself alone. */
TEST(a_lying_client_is_let_go)
{
    struct data d;
    struct here h;
    static struct dp_message m;
    REQUIRE_OK(data_make(&d, 300, 0, 1, 60, 100, 76, &err));
    REQUIRE_OK(here_open(&h, &d, 0, 0));
    dp_log_init(DP_LOG_ERROR, DP_LOG_TEXT);
    int before = descriptors();
    for (int lie = 0; lie < 5; lie++) {
        int fd = dial(h.addr);
        uint64_t one = 1;
        REQUIRE_OK(dp_channel_send(fd, DP_FEED_ASK, "wire=2\nseq_len=16\nslots=2", 25, NULL, 0, 1000, &err));
        REQUIRE(dp_channel_receive(fd, &m, 5000, &err) == DP_OK && m.kind == DP_FEED_ACCEPT && m.fds == 3);
        CHECK(ftruncate(m.fd[0], 4096) != 0 && ftruncate(m.fd[0], 1 << 24) != 0); /* sealed */
        struct dp_feed_ring *r = mmap(NULL, DP_FEED_RING_HEAD, PROT_READ | PROT_WRITE, MAP_SHARED, m.fd[0], 0);
        REQUIRE(r != MAP_FAILED);
        while (atomic_load(&r->made) < 2 || !atomic_load(&r->crammed)) nap(100);
        if (lie == 0) atomic_store(&r->taken, UINT64_MAX);
        if (lie == 1) atomic_store(&r->taken, 3);
        if (lie == 2) REQUIRE_OK(dp_channel_send(fd, 5, NULL, 0, NULL, 0, 1000, &err));
        if (lie == 3) atomic_store(&r->made, 12345); /* not believed, and set right */
        if (lie == 4) r->slots = r->slot_bytes = 1 << 30;
        if (lie >= 3) atomic_store(&r->taken, 1);
        CHECK(write(m.fd[2], &one, sizeof one) == sizeof one);
        if (lie >= 3) {
            while (atomic_load(&r->made) != 3) nap(100);
            dp_message_close(&m);
            close(fd);
        } else {
            dp_message_close(&m);
            CHECK(dp_channel_receive(fd, &m, 5000, &err) == DP_OK && m.kind == DP_FEED_REFUSE);
            close(fd);
        }
        munmap(r, DP_FEED_RING_HEAD);
        CHECK(all_gone(&h, 5000));
    }
    struct dp_feed_client *c;
    struct dp_feed_batch b;
    REQUIRE_OK(client(&c, h.addr, 0, 1, 0, 0, 0));
    for (int k = 0; k < 100; k++) CHECK_OK(dp_feed_client_next(c, &b, &err));
    dp_feed_client_close(c);
    CHECK(all_gone(&h, 5000));
    here_close(&h);
    dp_log_init(DP_LOG_INFO, DP_LOG_AUTO);
    CHECK(descriptors() < before);
    data_release(&d);
}

TEST(sockets_of_others_are_left_alone)
{
    struct data d;
    struct here h;
    struct dp_feed_server *s;
    REQUIRE_OK(data_make(&d, 300, 0, 1, 60, 100, 77, &err));
    REQUIRE_OK(here_open(&h, &d, 0, 0));
    struct dp_feed_server_options o = {.addr = h.addr, .manifest = d.path};
    dp_feed_options_init(&o.feed);
    CHECK_INT(dp_feed_server_open(&s, &o, &err), DP_BUSY);
    o.addr = d.path;
    CHECK_INT(dp_feed_server_open(&s, &o, &err), DP_CONFIG);
    CHECK(access(d.path, F_OK) == 0);
    char long_path[200];
    memset(long_path, 'x', sizeof long_path - 1);
    long_path[sizeof long_path - 1] = 0;
    o.addr = long_path;
    CHECK_INT(dp_feed_server_open(&s, &o, &err), DP_CONFIG);
    struct stat st;
    CHECK(stat(h.addr, &st) == 0 && (st.st_mode & 0777) == 0600);
    here_close(&h);
    data_release(&d);
}

/* A shard that fails under a client: every batch before the bad one, then what and where. */
TEST(a_bad_frame_is_told_after_the_good_batches)
{
    struct data d;
    struct here h;
    struct dp_feed_client *c;
    struct dp_feed_batch b;
    struct dp_feed_options o;
    struct dp_feed *f;
    REQUIRE_OK(data_make(&d, 200019, 0, 1, 400, 400, 95, &err));
    data_flip(d.dir, "part-000.bin", (65536ull + 600) * 32 + 31);
    dp_feed_options_init(&o);
    o.seq_len = 500;
    o.batch = 1;
    o.val_fraction = 0;
    o.shuffle = false;
    REQUIRE_OK(dp_feed_open(&f, d.path, &o, &err));
    int32_t row[501];
    REQUIRE_OK(here_open(&h, &d, 0, 0));
    dp_log_init(DP_LOG_ERROR, DP_LOG_TEXT);
    struct dp_feed_client_options co = {.addr = h.addr, .wants = "seq_len=500\nbatch=1\nval_fraction=0\nshuffle=false\n", .reconnect_seconds = 5};
    REQUIRE_OK(dp_feed_client_open(&c, &co, &err));
    int rc = DP_OK, n = 0;
    for (; rc >= 0 && n < 1000; n++) {
        int want = dp_feed_next(f, row, &err);
        rc = dp_feed_client_next(c, &b, &err);
        if (rc != want || (rc >= 0 && memcmp(row, b.ids, sizeof row) != 0)) DP_TEST_FAIL("batch %d: %d, not %d", n, rc, want);
    }
    CHECK(rc == DP_CORRUPT && n > 100 && strstr(err.msg, "part-000.bin: frame 1"));
    dp_feed_client_close(c);
    dp_feed_close(f);
    here_close(&h);
    dp_log_init(DP_LOG_INFO, DP_LOG_AUTO);
    data_release(&d);
}
