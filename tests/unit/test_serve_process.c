/* dpipe serve as a service manager sees it: the program itself is started with a notify socket, a watchdog, passed sockets and signals.
 * DPIPE names the program (tests/run.sh sets it), so this runs under each sanitizer as well. */
#include "base/catalog.h"
#include "base/fs.h"
#include "daemon/control.h"
#include "tests/test.h"
#include "trainer_feed/feed_client.h"

#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1, JOBS = 20000 };
#else
enum { SANITIZED = 0, JOBS = 1000000 };
#endif

struct service {
    char dir[512];
    pid_t pid;
    int notify;
    char said[65536]; /* every notify message so far, each ended by \n\n */
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void sleep_ms(long ms)
{
    const struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

static const char *program(void)
{
    const char *p = getenv("DPIPE");
    return p ? p : "build/release/dpipe";
}

static const char recipe[] = "clean:\n  c4: {enabled: false}\ntrain-bpe: {vocab_size: 300}\nserve: {settle: 100ms, rescan: 1h, min_free: 0, drain_timeout: 2s}\n";

static void make_workspace(struct service *s)
{
    struct dp_err err = {0};
    memset(s, 0, sizeof *s);
    s->notify = -1;
    snprintf(s->dir, sizeof s->dir, "%s/w", dp_test_tmpdir());
    if (dp_fs_mkdirs(s->dir, &err) < 0) abort();
    dp_test_write(s->dir, "recipe.yaml", recipe);
}

/* Start it. `passed`: a listening socket to be found as descriptor 3 under the name `control`, or `feed` when it takes packets, or -1. */
static void start(struct service *s, const char *watchdog_usec, int passed)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    char path[600], fds[4096];
    snprintf(path, sizeof path, "%s/../n%d", s->dir, (int)getpid());
    unlink(path);
    snprintf(a.sun_path, sizeof a.sun_path, "%.107s", path);
    if (s->notify >= 0) close(s->notify);
    s->notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (bind(s->notify, (const struct sockaddr *)&a, sizeof a) != 0) abort();
    s->said[0] = 0;
    s->pid = fork();
    if (s->pid != 0) return;
    setenv("NOTIFY_SOCKET", path, 1);
    if (watchdog_usec) setenv("WATCHDOG_USEC", watchdog_usec, 1);
    if (passed >= 0) {
        if (passed != 3) dup2(passed, 3);
        fcntl(3, F_SETFD, 0);
        snprintf(fds, sizeof fds, "%ld", (long)getpid());
        setenv("LISTEN_PID", fds, 1);
        setenv("LISTEN_FDS", "1", 1);
        int type = 0;
        socklen_t k = sizeof type;
        getsockopt(3, SOL_SOCKET, SO_TYPE, &type, &k);
        setenv("LISTEN_FDNAMES", type == SOCK_SEQPACKET ? "feed" : "control", 1);
    }
    snprintf(fds, sizeof fds, "%s/../log", s->dir);
    int log = open(fds, O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(log, 2);
    dup2(log, 1);
    execl(program(), program(), "serve", "-w", s->dir, "--log-level", "debug", (char *)NULL);
    _exit(127);
}

static void listen_notify(struct service *s)
{
    size_t n = strlen(s->said);
    for (;;) {
        if (n > sizeof s->said - 2048) n = 0; /* enough was said */
        ssize_t k = recv(s->notify, s->said + n, 1024, 0);
        if (k <= 0) return;
        n += (size_t)k;
        memcpy(s->said + n, "\n\n", 3);
        n += 2;
    }
}

/* Until it said `text` (behind what it said when `text` was looked for last, if `fresh`), for s seconds. */
static bool says(struct service *s, const char *text, double seconds)
{
    for (double end = now() + seconds; now() < end; sleep_ms(5)) {
        listen_notify(s);
        if (strstr(s->said, text)) return true;
    }
    return false;
}

static int count(const struct service *s, const char *text)
{
    int n = 0;
    for (const char *p = s->said; (p = strstr(p, text)); p++) n++;
    return n;
}

/* One request; the last line of the answer. */
static bool ask(const char *path, const char *request, char *answer, size_t cap)
{
    struct dp_err err = {0};
    int fd = dp_unix_connect(path, &err);
    size_t n = 0;
    const struct timeval wait = {20, 0};
    if (fd < 0) return false;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    if (send(fd, request, strlen(request), MSG_NOSIGNAL) < 0 || send(fd, "\n", 1, MSG_NOSIGNAL) < 0) {
        close(fd);
        return false;
    }
    answer[0] = 0;
    while (n < cap - 1) {
        ssize_t k = recv(fd, answer + n, cap - 1 - n, 0);
        if (k <= 0) break;
        n += (size_t)k;
        answer[n] = 0;
        const char *last = n > 1 ? memrchr(answer, '\n', n - 1) : NULL;
        if (answer[n - 1] == '\n' && strncmp(last ? last + 1 : answer, "{\"ok\":", 6) == 0) break;
    }
    close(fd);
    return n > 0;
}

static char *control_path(const struct service *s)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/control.sock", s->dir);
    return path;
}

static bool state_is(struct service *s, const char *want, double seconds)
{
    char answer[8192], text[64];
    snprintf(text, sizeof text, "\"state\":\"%s\"", want);
    for (double end = now() + seconds; now() < end; sleep_ms(20))
        if (ask(control_path(s), "{\"op\":\"status\"}", answer, sizeof answer) && strstr(answer, text)) return true;
    return false;
}

/* Exit status within s seconds, -1 when it had to be killed, 1000 + signal when it died. */
static int end_of(struct service *s, double seconds)
{
    int status = -1;
    for (double end = now() + seconds; now() < end; sleep_ms(5)) {
        listen_notify(s);
        if (waitpid(s->pid, &status, WNOHANG) == s->pid) {
            listen_notify(s);
            return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
        }
    }
    kill(s->pid, SIGKILL);
    waitpid(s->pid, &status, 0);
    return -1;
}

static void finish(struct service *s)
{
    if (s->notify >= 0) close(s->notify);
}

TEST(ready_reload_and_stop_are_told)
{
    struct service s;
    char answer[8192];
    make_workspace(&s);
    start(&s, NULL, -1);
    REQUIRE(says(&s, "READY=1", 20));
    CHECK(state_is(&s, "idle", 20));
    CHECK(!ask("/nowhere/at/all", "{}", answer, sizeof answer));
    /* A good recipe, by signal; a bad one, by signal and by request. */
    s.said[0] = 0;
    kill(s.pid, SIGHUP);
    CHECK(says(&s, "RELOADING=1\nMONOTONIC_USEC=", 5));
    CHECK(says(&s, "READY=1", 5));
    dp_test_write(s.dir, "recipe.yaml", "train-bpe: {vocab_size: many}\n");
    s.said[0] = 0;
    kill(s.pid, SIGHUP);
    CHECK(says(&s, "READY=1", 5));
    REQUIRE(ask(control_path(&s), "{\"op\":\"reload\"}", answer, sizeof answer));
    CHECK(strstr(answer, "\"ok\":false") && strstr(answer, "recipe.yaml:1"));
    REQUIRE(ask(control_path(&s), "{\"op\":\"status\"}", answer, sizeof answer));
    CHECK(strstr(answer, "\"reloads\":1,\"reloads_refused\":2"));
    CHECK(state_is(&s, "idle", 5));
    kill(s.pid, SIGTERM);
    CHECK_INT(end_of(&s, 10), 0);
    CHECK(strstr(s.said, "STOPPING=1") != NULL);
    CHECK(access(control_path(&s), F_OK) != 0);
    finish(&s);
}

/* Garbage, slow and dead clients; the service answers others all the while. */
TEST(clients_cannot_hold_it_up)
{
    struct service s;
    struct dp_err err = {0};
    char answer[65536], *big = malloc(100000);
    int idle[40];
    make_workspace(&s);
    start(&s, NULL, -1);
    REQUIRE(big && says(&s, "READY=1", 20));
    for (int i = 0; i < 40; i++) {
        idle[i] = dp_unix_connect(control_path(&s), &err);
        CHECK(idle[i] >= 0);
        if (i % 2) CHECK(send(idle[i], "{\"op\":", 6, MSG_NOSIGNAL) == 6);
    }
    for (int i = 20; i < 40; i++) close(idle[i]);
    memset(big, 'x', 99999);
    big[99999] = 0;
    if (ask(control_path(&s), big, answer, sizeof answer)) CHECK(strstr(answer, "too long") != NULL);
    REQUIRE(ask(control_path(&s), "nonsense", answer, sizeof answer));
    CHECK(strstr(answer, "not a JSON object") != NULL);
    /* Asks for much, reads nothing. */
    int deaf = dp_unix_connect(control_path(&s), &err);
    for (int i = 0; i < 200; i++)
        if (send(deaf, "{\"op\":\"status\"}\n", 16, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) break;
    double t = now();
    REQUIRE(ask(control_path(&s), "{\"op\":\"jobs\"}", answer, sizeof answer));
    CHECK(strstr(answer, "\"next\":null") != NULL);
    CHECK(now() - t < (SANITIZED ? 10 : 2));
    close(deaf);
    for (int i = 0; i < 20; i++) close(idle[i]);
    REQUIRE(ask(control_path(&s), "{\"op\":\"stop\"}", answer, sizeof answer));
    CHECK_INT(end_of(&s, 10), 0);
    free(big);
    finish(&s);
}

/* One GET on a connected descriptor: the status, 0 when there is none. */
static int get(int fd, const char *request)
{
    char answer[512] = "";
    const struct timeval wait = {20, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    if (send(fd, request, strlen(request), MSG_NOSIGNAL) < 0) return 0;
    ssize_t n = recv(fd, answer, sizeof answer - 1, 0);
    return n > 12 && strncmp(answer, "HTTP/1.1 ", 9) == 0 ? atoi(answer + 9) : 0;
}

TEST(slow_http_clients_stop_each_other_only)
{
    enum { SLOW = 1000 };
    static int slow[SLOW];
    struct service s;
    struct dp_err err = {0};
    char path[600];
    int open_now = 0;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    make_workspace(&s);
    start(&s, NULL, -1);
    REQUIRE(says(&s, "READY=1", 20));
    snprintf(path, sizeof path, "%s/http.sock", s.dir);
    for (int i = 0; i < SLOW; i++) {
        slow[i] = dp_unix_connect(path, &err);
        if (slow[i] >= 0 && send(slow[i], "GET / HT", 8, MSG_NOSIGNAL) == 8) open_now++;
        if (i % 100 != 99) continue;
        int fd = dp_unix_connect(path, &err);
        double t = now();
        CHECK_INT(get(fd, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"), 200);
        CHECK_INT(get(fd, "GET /api/v1/jobs HTTP/1.1\r\nHost: x\r\n\r\n"), 200); /* the same connection again */
        CHECK(now() - t < (SANITIZED ? 10 : 1));
        close(fd);
    }
    CHECK(open_now > SLOW / 2);
    for (int i = 0; i < SLOW; i++)
        if (slow[i] >= 0) close(slow[i]);
    int fd = dp_unix_connect(path, &err);
    CHECK_INT(get(fd, "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n"), 413);
    close(fd);
    fd = dp_unix_connect(path, &err);
    CHECK_INT(get(fd, "nonsense\r\n\r\n"), 400);
    close(fd);
    kill(s.pid, SIGTERM);
    CHECK_INT(end_of(&s, 10), 0);
    finish(&s);
}

TEST(an_idle_service_feeds_its_watchdog)
{
    struct service s;
    make_workspace(&s);
    start(&s, SANITIZED ? "2000000" : "400000", -1);
    REQUIRE(says(&s, "READY=1", 20));
    CHECK(says(&s, "WATCHDOG=1", 10));
    s.said[0] = 0;
    sleep_ms(SANITIZED ? 3000 : 1200);
    listen_notify(&s);
    CHECK(count(&s, "WATCHDOG=1") >= 3);
    kill(s.pid, SIGINT);
    CHECK_INT(end_of(&s, 10), 0);
    finish(&s);
}

/* A source that hangs: a FIFO behind a name that was a file when it was looked at. */
TEST(a_stuck_pipeline_is_not_fed)
{
    struct service s;
    char path[700], answer[8192];
    make_workspace(&s);
    /* Reading a FIFO blocks the work thread for good: tokenizer.file is read as a whole when its key is made. It comes behind the start, which would
     * refuse it. */
    snprintf(answer, sizeof answer, "sources: [in]\ntokenizer: {file: %s/fifo}\nserve: {settle: 0, rescan: 1h, min_free: 0, drain_timeout: 500ms}\n", s.dir);
    dp_test_write(s.dir, "recipe.yaml", answer);
    snprintf(path, sizeof path, "%s/in", s.dir);
    struct dp_err err = {0};
    REQUIRE_OK(dp_fs_mkdirs(path, &err));
    dp_test_write(path, "a.txt", "the house by the river and the light of the morning. ");
    start(&s, SANITIZED ? "2000000" : "600000", -1);
    REQUIRE(says(&s, "READY=1", 20));
    snprintf(path, sizeof path, "%s/fifo", s.dir);
    if (mkfifo(path, 0600) != 0) abort();
    REQUIRE(ask(control_path(&s), "{\"op\":\"rescan\"}", answer, sizeof answer));
    sleep_ms(SANITIZED ? 4000 : 1500);
    listen_notify(&s);
    s.said[0] = 0;
    sleep_ms(SANITIZED ? 3000 : 1200);
    listen_notify(&s);
    CHECK_INT(count(&s, "WATCHDOG=1"), 0);
    REQUIRE(ask(control_path(&s), "{\"op\":\"status\"}", answer, sizeof answer));
    CHECK(strstr(answer, "\"ready\":false") != NULL);
    double t = now();
    kill(s.pid, SIGTERM); /* and it goes all the same */
    CHECK_INT(end_of(&s, 10), 0);
    CHECK(now() - t < 9);
    CHECK(count(&s, "EXTEND_TIMEOUT_USEC=") >= 1);
    finish(&s);
}

TEST(a_passed_socket_is_used)
{
    struct service s;
    struct dp_err err = {0};
    char path[600], answer[8192];
    make_workspace(&s);
    snprintf(path, sizeof path, "%s/../passed.sock", s.dir);
    int fd = dp_unix_listen(path, NULL, &err);
    REQUIRE(fd >= 0);
    start(&s, NULL, fd);
    /* Asked before it is up: the kernel keeps the connection. */
    REQUIRE(ask(path, "{\"op\":\"status\"}", answer, sizeof answer));
    CHECK(strstr(answer, "\"ok\":true") != NULL);
    CHECK(access(control_path(&s), F_OK) != 0);
    kill(s.pid, SIGTERM);
    CHECK_INT(end_of(&s, 10), 0);
    CHECK(access(path, F_OK) == 0); /* it is the manager's */
    close(fd);
    finish(&s);
}

TEST(a_passed_socket_feeds)
{
    struct service s;
    struct dp_err err = {0};
    struct dp_feed_client *c;
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    char path[600];
    make_workspace(&s);
    snprintf(path, sizeof path, "%s/../feed.sock", s.dir);
    snprintf(a.sun_path, sizeof a.sun_path, "%.107s", path);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    REQUIRE(fd >= 0 && bind(fd, (const struct sockaddr *)&a, sizeof a) == 0 && listen(fd, 8) == 0);
    start(&s, NULL, fd);
    const struct dp_feed_client_options o = {.addr = path}; /* asked before it is up */
    CHECK_INT(dp_feed_client_open(&c, &o, &err), DP_BUSY);
    CHECK(strstr(err.msg, "no complete manifest yet") != NULL);
    CHECK(access(control_path(&s), F_OK) == 0);
    kill(s.pid, SIGTERM);
    CHECK_INT(end_of(&s, 10), 0);
    CHECK(access(path, F_OK) == 0); /* it is the manager's */
    close(fd);
    finish(&s);
}

/* A million finished jobs with an artifact each: READY within a second, a page of jobs at once. */
TEST(many_jobs_delay_nothing)
{
    struct service s;
    struct dp_err err = {0};
    struct dp_catalog *c;
    sqlite3 *db;
    char path[600], sql[1200], answer[65536];
    make_workspace(&s);
    snprintf(path, sizeof path, "%s/catalog.db", s.dir);
    REQUIRE_OK(dp_catalog_open(&c, path, &err));
    dp_catalog_close(c);
    snprintf(sql, sizeof sql,
             "PRAGMA synchronous=OFF; BEGIN;"
             "INSERT INTO unit(stage,key,what,state,attempts) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<%d)"
             " SELECT 'clean', printf('%%08x0123456789abcdef01234567',i), 'unit '||i, CASE i%%1000 WHEN 7 THEN 'ready' WHEN 8 THEN 'running' ELSE 'done' END, 1 FROM n;"
             "INSERT INTO artifact(unit,kind,name,digest,bytes,docs,payload) SELECT id,'docs','docs-'||key,'d',1,1,1 FROM unit; COMMIT", JOBS);
    REQUIRE(sqlite3_open(path, &db) == SQLITE_OK);
    int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    if (rc != SQLITE_OK) DP_TEST_FAIL("%s", sqlite3_errmsg(db));
    sqlite3_close(db);
    double t = now();
    start(&s, NULL, -1);
    REQUIRE(says(&s, "READY=1", 30));
    t = now() - t;
    fprintf(stderr, "READY with %d jobs: %.3f s\n", JOBS, t);
    CHECK(t < 1 || SANITIZED);
    t = now();
    REQUIRE(ask(control_path(&s), "{\"op\":\"jobs\",\"state\":\"ready\",\"limit\":2}", answer, sizeof answer));
    fprintf(stderr, "a page of jobs: %.3f s\n", now() - t);
    CHECK(strstr(answer, "\"what\":\"unit 7\"") && strstr(answer, "\"what\":\"unit 8\"")); /* whoever had 8 is dead */
    CHECK(now() - t < 2);
    kill(s.pid, SIGTERM);
    CHECK_INT(end_of(&s, 20), 0);
    finish(&s);
}
