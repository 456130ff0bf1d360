/* tests/fault/probe.c - what the fault campaign needs and a shell can't do: precise kills, power cuts, a thousand sockets, thousands of questions.
 *
 *   kill W SEED FROM_US TO_US VICTIM LOG -- COMMAND   start it, kill -9 VICTIM (self, worker) after a random time, say in which phase it was
 *   stages SOCKET STOP_FILE       ask /api/v1/stages until STOP_FILE exists; every answer must add up
 *   get SOCKET|PORT PATH          the body of an answer; exit 1 unless its status is 200
 *   slow SOCKET|PORT N SECONDS    N clients that send a byte now and then; meanwhile others ask /readyz: the longest wait, in ms
 *   garble http|control|feed SOCKET|PORT DIR N SEED   N damaged requests made from DIR's files; the server must go on answering
 *   token PORT N GOOD             N wrong tokens are refused, the good one is not
 *   change FILE N SEED STOP_FILE  change FILE in N ways, one after the other: append, truncate, rewrite, replace, write through a mapping
 *   clock FILE SECONDS            what shim_clock.c adds to the wall clock
 *   shuffle DIR N                 N renames of a file in DIR: twice as many events for who watches
 *   unrest DIR STOP_FILE          folders in DIR come and go until STOP_FILE exists
 *   catalog FILE                  PRAGMA integrity_check and foreign_key_check
 *   done FILE                     stage and key of all units that the catalog says are done
 *   leaks MARK                    processes of dpipe with MARK in their environment
 *   counts FILE POINT             calls and failures that shim_fail.c counted at POINT; all points with none
 *   cut DIR                       power cut: EXT4_IOC_SHUTDOWN without flushing the log
 *
 * Figures go to stdout as words "name=value"; exit 1 when a promise is broken, 2 when it can't be run. */
#include "base/buf.h"
#include "base/json.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define EXT4_SHUTDOWN _IOR('X', 125, uint32_t)
enum { NOLOGFLUSH = 2, ANSWER_MS = 20000, ANSWER_MAX = 8 << 20 };

static uint64_t state;
static uint32_t rnd(uint32_t n)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return n ? (uint32_t)((state >> 33) % n) : 0;
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void sleep_us(uint32_t us)
{
    nanosleep(&(struct timespec){us / 1000000, (long)(us % 1000000) * 1000}, NULL);
}

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "probe: %s: %s\n", what, strerror(errno));
    exit(2);
}

/* --- kill: who was killed, and in the middle of what --- */

struct file {
    ino_t ino;
    char name[48];
};
struct listing {
    struct file f[4096];
    size_t n;
};

static void list(const char *w, const char *folder, struct listing *l)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", w, folder);
    DIR *d = opendir(path);
    for (struct dirent *f; d && (f = readdir(d));) {
        if (f->d_name[0] == '.' || l->n == sizeof l->f / sizeof *l->f) continue;
        l->f[l->n].ino = f->d_ino;
        snprintf(l->f[l->n++].name, sizeof l->f[0].name, "%s", f->d_name);
    }
    if (d) closedir(d);
}

static bool has(const struct listing *l, const struct file *f)
{
    for (size_t i = 0; i < l->n; i++)
        if (l->f[i].ino == f->ino && strcmp(l->f[i].name, f->name) == 0) return true;
    return false;
}

/* The step a file belongs to, as docs/ARCHITECTURE.md names them. */
static const char *step_of(const char *name)
{
    static const char *const steps[][2] = {{"records", "documents"}, {"docs", "documents"}, {"drops", "documents"}, {"sig", "documents"},
        {"keep", "dedup"}, {"clusters", "dedup"}, {"dedup", "dedup"}, {"tokenizer", "train-bpe"}, {"words", "train-bpe"}, {"shard", "shards"}, {"tokens", "shards"},
        {"manifest", "manifest"}, {"model", "train"}, {"loss", "train"}, {"checkpoint", "train"}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        if (strncmp(name, steps[i][0], strlen(steps[i][0])) == 0) return steps[i][1];
    return "spill";
}

/* What is on disk, against what was there before: it stays as it is, the process being dead. */
static const char *phase(const char *w, const struct listing *tmp, const struct listing *store, char *buf, size_t n)
{
    static struct listing t, s;
    const char *fresh = NULL;
    t.n = s.n = 0;
    list(w, "tmp", &t);
    list(w, "store", &s);
    for (size_t i = 0; i < t.n; i++)
        if (!has(tmp, &t.f[i])) return snprintf(buf, n, "writing-%s", step_of(t.f[i].name)), buf;
    for (size_t i = 0; i < s.n; i++)
        if (!has(store, &s.f[i]) && (!fresh || strcmp(s.f[i].name, "manifest") > 0)) fresh = step_of(s.f[i].name);
    for (size_t i = 0; i < s.n; i++)
        if (!has(store, &s.f[i]) && strncmp(s.f[i].name, "manifest", 8) == 0) fresh = "manifest";
    return fresh ? (snprintf(buf, n, "behind-%s", fresh), buf) : "start";
}

static pid_t a_worker(pid_t of)
{
    char path[64], text[4096];
    pid_t found[256];
    uint32_t n = 0;
    snprintf(path, sizeof path, "/proc/%d/task", (int)of);
    DIR *d = opendir(path);
    for (struct dirent *f; d && (f = readdir(d));) {
        if (f->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "/proc/%d/task/%.20s/children", (int)of, f->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t got = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
        if (fd >= 0) close(fd);
        text[got > 0 ? got : 0] = 0;
        for (char *p = text, *end; n < 256; p = end) {
            long v = strtol(p, &end, 10);
            if (end == p) break;
            found[n++] = (pid_t)v;
        }
    }
    if (d) closedir(d);
    return n ? found[rnd(n)] : 0;
}

/* Sandboxed is at work; before that it starts. */
static const char *worker_phase(pid_t pid)
{
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    if (fd >= 0) close(fd);
    text[got > 0 ? got : 0] = 0;
    return strstr(text, "Seccomp:\t2") ? "worker-at-work" : got > 0 ? "worker-starting" : "missed";
}

static pid_t start(char **argv, const char *log)
{
    pid_t pid = fork();
    if (pid < 0) die("fork");
    if (pid) return pid;
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (fd >= 0) dup2(fd, 2), dup2(fd, 1);
    execvp(argv[0], argv);
    _exit(127);
}

static int cmd_kill(int n, char **a)
{
    static struct listing tmp, store;
    char buf[64];
    if (n < 8 || strcmp(a[6], "--") != 0) return 2;
    state = strtoull(a[1], NULL, 10) * 2654435761u;
    rnd(1), rnd(1);
    uint32_t from = (uint32_t)atoi(a[2]), span = (uint32_t)atoi(a[3]) - from;
    bool worker = strcmp(a[4], "worker") == 0;
    list(a[0], "tmp", &tmp);
    list(a[0], "store", &store);
    pid_t pid = start(a + 7, a[5]), got;
    int status = 0, starting = 0, kills = 0; /* of one unit a broker takes 20, then it asks whether the machine is short of memory */
    for (;;) {
        sleep_us(from + rnd(span));
        pid_t victim = worker ? a_worker(pid) : pid;
        if (worker && victim && kills++ < 15) {
            const char *what = worker_phase(victim);
            bool young = strcmp(what, "worker-starting") == 0; /* of ten that never come up in a row, a broker gives up too */
            if (!(young && ++starting > 5) && kill(victim, SIGKILL) == 0) puts(what);
        } else if (!worker) kill(pid, SIGKILL);
        if ((got = waitpid(pid, &status, worker ? WNOHANG : 0)) != 0) break;
    }
    if (got < 0) die("wait");
    if (worker) return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : (printf("status=%d\n", status), 1);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) puts(phase(a[0], &tmp, &store, buf, sizeof buf));
    else printf("missed %d\n", status);
    return 0;
}

/* --- sockets --- */

static int dial_as(const char *to, int type)
{
    struct sockaddr_un u = {.sun_family = AF_UNIX};
    struct sockaddr_in t = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    bool port = strspn(to, "0123456789") == strlen(to);
    int fd = socket(port ? AF_INET : AF_UNIX, type | SOCK_CLOEXEC, 0);
    snprintf(u.sun_path, sizeof u.sun_path, "%s", to);
    t.sin_port = htons((uint16_t)atoi(to));
    const struct timeval limit = {ANSWER_MS / 1000, 0};
    if (fd >= 0) setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (fd >= 0 && (port ? connect(fd, (void *)&t, sizeof t) : connect(fd, (void *)&u, sizeof u)) != 0) close(fd), fd = -1;
    return fd;
}

static int dial(const char *to)
{
    return dial_as(to, SOCK_STREAM);
}

static bool say(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t w = send(fd, p, n, MSG_NOSIGNAL);
        if (w <= 0) return false;
        p += w;
        n -= (size_t)w;
    }
    return true;
}

/* One answer of a connection that stays: its body in buf; the status, 0 when the server is gone, -1 when it was silent too long. */
static int hear(int fd, char *buf, size_t max, char **body)
{
    size_t n = 0, want = 0;
    for (;;) {
        ssize_t k = recv(fd, buf + n, max - 1 - n, 0);
        if (k < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return -1;
        if (k <= 0) return 0;
        n += (size_t)k;
        buf[n] = 0;
        char *end = strstr(buf, "\r\n\r\n"), *length = strstr(buf, "Content-Length: ");
        if (end && length) {
            *body = end + 4;
            want = (size_t)(*body - buf) + strtoull(length + 16, NULL, 10);
            if (n >= want) return atoi(buf + 9);
        }
    }
}

static int get(const char *to, const char *path, const char *more, char *buf, size_t max, char **body)
{
    char head[1024];
    int fd = dial(to);
    if (fd < 0) return 0;
    int n = snprintf(head, sizeof head, "GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", path, more);
    int status = say(fd, head, (size_t)n) ? hear(fd, buf, max, body) : 0;
    close(fd);
    return status;
}

static int cmd_get(int n, char **a)
{
    char *buf = malloc(ANSWER_MAX), *body = NULL;
    int status = n < 2 || !buf ? 0 : get(a[0], a[1], "", buf, ANSWER_MAX, &body);
    if (status > 0) printf("%s", body);
    free(buf);
    return status == 200 ? 0 : 1;
}

/* --- stages: in = out + everything dropped --- */

static bool adds_up(const char *body, uint64_t *docs)
{
    struct dp_json *v = NULL;
    struct dp_err e = {0};
    bool ok = dp_json_parse(&v, dp_span_str(body), "answer", &e) >= 0;
    const struct dp_json *stages = ok ? dp_json_get(v, "stages") : NULL;
    for (size_t i = 0; ok && i < dp_json_count(stages); i++) {
        const struct dp_json *s = dp_json_at(stages, i), *drops = dp_json_get(s, "dropped");
        int64_t in = dp_json_int(dp_json_get(s, "documents_in"), -1), out = dp_json_int(dp_json_get(s, "documents_out"), -1), dropped = 0;
        const char *key;
        struct dp_json *n;
        for (void *it = NULL; (it = dp_json_next(drops, it, &key, &n));) dropped += dp_json_int(n, -1);
        ok = in >= 0 && out >= 0 && in == out + dropped;
        *docs += (uint64_t)in;
        if (!ok) fprintf(stderr, "probe: %s\n", body);
    }
    dp_json_free(v);
    return ok;
}

static int cmd_stages(int n, char **a)
{
    static const char ask[] = "GET /api/v1/stages HTTP/1.1\r\nHost: localhost\r\n\r\n";
    char *buf = malloc(ANSWER_MAX), *body = NULL;
    uint64_t answers = 0, full = 0, changes = 0, before = 0, bad = 0, busy = 0, gone = 0;
    if (n < 2 || !buf) return 2;
    for (int fd = -1; access(a[1], F_OK) != 0;) {
        if (fd < 0 && (fd = dial(a[0])) < 0) {
            sleep_us(1000);
            continue;
        }
        int status = say(fd, ask, sizeof ask - 1) ? hear(fd, buf, ANSWER_MAX, &body) : 0;
        uint64_t docs = 0;
        if (status == 200) {
            answers++;
            bad += !adds_up(body, &docs);
            full += docs > 0;
            changes += docs != before;
            before = docs;
        } else if (status == 503) busy++;
        else if (status < 0) bad++;
        else close(fd), fd = -1, gone++;
    }
    printf("answers=%llu full=%llu changes=%llu busy=%llu gone=%llu bad=%llu\n", (unsigned long long)answers, (unsigned long long)full, (unsigned long long)changes,
           (unsigned long long)busy, (unsigned long long)gone, (unsigned long long)bad);
    free(buf);
    return bad ? 1 : 0;
}

/* --- slow clients --- */

static int cmd_slow(int n, char **a)
{
    static const char drip[] = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Slow: 0123456789012345678901234567890123456789012345678901234567890123456789";
    struct rlimit r;
    char buf[65536], *body;
    if (n < 3) return 2;
    int clients = atoi(a[1]), open_now = 0, refused = 0, asked = 0, failed = 0;
    getrlimit(RLIMIT_NOFILE, &r);
    r.rlim_cur = r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
    int *fd = calloc((size_t)clients, sizeof *fd);
    if (!fd) return 2;
    double worst = 0, end = now_s() + atof(a[2]);
    for (int i = 0; i < clients; i++) {
        fd[i] = dial(a[0]);
        open_now += fd[i] >= 0;
        refused += fd[i] < 0;
    }
    for (size_t k = 0; now_s() < end; k++) {
        for (int i = 0; i < clients; i++)
            if (fd[i] >= 0) send(fd[i], drip + k % (sizeof drip - 1), 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        for (int i = 0; i < 5; i++) {
            double t = now_s();
            int status = get(a[0], "/readyz", "", buf, sizeof buf, &body);
            double took = now_s() - t;
            asked++;
            failed += status != 200 && status != 503;
            if (took > worst) worst = took;
        }
        sleep_us(50000);
    }
    int held = 0;
    for (int i = 0; i < clients; i++) {
        if (fd[i] < 0) continue;
        held += recv(fd[i], buf, 1, MSG_DONTWAIT | MSG_PEEK) < 0 && errno == EAGAIN;
        close(fd[i]);
    }
    printf("clients=%d refused=%d held=%d asked=%d failed=%d worst_ms=%d\n", open_now, refused, held, asked, failed, (int)(worst * 1000));
    free(fd);
    return failed ? 1 : 0;
}

/* --- damaged requests --- */

struct seeds {
    char *p[256];
    size_t len[256], n;
};

static void load(const char *dir, struct seeds *s)
{
    char path[4096];
    DIR *d = opendir(dir);
    if (!d) die(dir);
    for (struct dirent *f; (f = readdir(d)) && s->n < 256;) {
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", dir, f->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > 1 << 20) {
            if (fd >= 0) close(fd);
            continue;
        }
        char *p = malloc((size_t)st.st_size + 1);
        ssize_t got = p ? read(fd, p, (size_t)st.st_size) : -1;
        close(fd);
        if (got < 0) die(path);
        s->p[s->n] = p;
        s->len[s->n++] = (size_t)got;
    }
    closedir(d);
    if (!s->n) die("no seeds");
}

/* Bits, bytes, pieces repeated, cut or spliced; one in eight as it is. */
static size_t garble(const struct seeds *s, char *to, size_t max)
{
    size_t k = rnd((uint32_t)s->n), n = s->len[k] < max ? s->len[k] : max;
    memcpy(to, s->p[k], n);
    for (uint32_t i = rnd(8); i > 0; i--) {
        uint32_t at = rnd((uint32_t)n + 1), len = rnd(40);
        size_t o = rnd((uint32_t)s->n);
        switch (rnd(6)) {
        case 0: if (n) to[at % n] ^= (char)(1 << rnd(8)); break;
        case 1: if (n) to[at % n] = (char)rnd(256); break;
        case 2: n = at; break;
        case 3:
            if (at + len <= n && n + len <= max) memmove(to + at + len, to + at, n - at), n += len;
            break;
        case 4:
            if (at + len <= n) memmove(to + at, to + at + len, n - at - len), n -= len;
            break;
        default:
            if (at + s->len[o] <= max) memcpy(to + at, s->p[o], s->len[o]), n = at + s->len[o];
        }
    }
    return n;
}

/* Sent, half-closed, read to its end: within the time, or it hangs. */
static bool exchange(const char *to, const char *p, size_t n, bool packets)
{
    char buf[65536];
    int fd = dial_as(to, packets ? SOCK_SEQPACKET : SOCK_STREAM);
    if (fd < 0) return false;
    if (packets) send(fd, p, n, MSG_NOSIGNAL);
    else say(fd, p, n);
    shutdown(fd, SHUT_WR);
    ssize_t k;
    while ((k = recv(fd, buf, sizeof buf, 0)) > 0) continue;
    bool ended = k == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
    close(fd);
    return ended;
}

static int cmd_garble(int n, char **a)
{
    static struct seeds s;
    static char buf[1 << 17];
    int hung = 0;
    if (n < 5) return 2;
    load(a[2], &s);
    state = strtoull(a[4], NULL, 10) + 77;
    int many = atoi(a[3]);
    for (int i = 0; i < many && hung < 3; i++) {
        size_t len = garble(&s, buf, sizeof buf - 2);
        if (strcmp(a[0], "control") == 0) buf[len++] = '\n';
        hung += !exchange(a[1], buf, len, strcmp(a[0], "feed") == 0);
    }
    printf("sent=%d hung=%d\n", many, hung);
    return hung ? 1 : 0;
}

static int cmd_token(int n, char **a)
{
    char buf[65536], head[512], *body;
    int bad = 0;
    if (n < 3) return 2;
    int many = atoi(a[1]);
    for (int i = 0; i < many; i++) {
        char token[128];
        snprintf(token, sizeof token, "%s", a[2]);
        size_t len = strlen(token);
        if (i % 3 == 0) token[rnd((uint32_t)len)] ^= 1;
        else if (i % 3 == 1) token[rnd((uint32_t)len)] = 0;
        else snprintf(token + len, sizeof token - len, "%u", rnd(1000));
        snprintf(head, sizeof head, "Authorization: Bearer %s\r\n", token);
        bad += get(a[0], "/metrics", head, buf, sizeof buf, &body) != 401;
    }
    snprintf(head, sizeof head, "Authorization: Bearer %s\r\n", a[2]);
    bad += get(a[0], "/metrics", head, buf, sizeof buf, &body) != 200;
    printf("refused=%d bad=%d\n", many, bad);
    return bad ? 1 : 0;
}

/* --- a file that doesn't hold still --- */

static void change_once(const char *path, uint32_t how, int i)
{
    char line[200], other[4096];
    int len = snprintf(line, sizeof line, "Line %d of the house by the river, with bread and green water and people that walk in the morning of winter.\n", i);
    struct stat st;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | (how == 0 ? O_APPEND : 0), 0666);
    if (fd < 0 || fstat(fd, &st) != 0) die(path);
    if (how == 1 && st.st_size > 200 && ftruncate(fd, st.st_size - 150) != 0) die(path);
    if (how == 0 || how == 2) {
        if (write(fd, line, (size_t)len) != len) die(path);
    }
    if (how == 3) {
        snprintf(other, sizeof other, "%s.new", path);
        int to = open(other, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        for (uint32_t k = 1 + rnd(60); k > 0; k--)
            if (to < 0 || write(to, line, (size_t)len) != len) die(other);
        close(to);
        if (rename(other, path) != 0) die(other);
    }
    if (how == 4 && st.st_size > len) {
        char *p = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) die(path);
        memcpy(p, line, (size_t)len);
        msync(p, (size_t)st.st_size, MS_SYNC);
        munmap(p, (size_t)st.st_size);
    }
    if (how == 5 && ftruncate(fd, 0) != 0) die(path);
    close(fd);
}

static int cmd_change(int n, char **a)
{
    if (n < 4) return 2;
    int many = atoi(a[1]), done = 0;
    state = strtoull(a[2], NULL, 10) + 5;
    for (; done < many && access(a[3], F_OK) != 0; done++) {
        change_once(a[0], rnd(12) == 0 ? 5 : rnd(5), done);
        sleep_us(rnd(4000));
    }
    printf("changes=%d\n", done);
    return 0;
}

static int cmd_clock(int n, char **a)
{
    int64_t off = n < 2 ? 0 : strtoll(a[1], NULL, 10);
    int fd = n < 2 ? -1 : open(a[0], O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    return fd >= 0 && pwrite(fd, &off, sizeof off, 0) == sizeof off ? 0 : 2;
}

static int cmd_shuffle(int n, char **a)
{
    char p[2][4096];
    if (n < 2) return 2;
    for (int i = 0; i < 2; i++) snprintf(p[i], sizeof p[i], "%s/shuffled%d.txt", a[0], i);
    int fd = open(p[0], O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) die(p[0]);
    close(fd);
    for (int i = 0; i < atoi(a[1]); i++)
        if (rename(p[i & 1], p[!(i & 1)]) != 0) die(p[0]);
    unlink(p[0]);
    unlink(p[1]);
    return 0;
}

static int cmd_unrest(int n, char **a)
{
    char p[4096];
    if (n < 2) return 2;
    for (int i = 0; access(a[1], F_OK) != 0; i++) {
        snprintf(p, sizeof p, "%s/unrest%d", a[0], i);
        if (mkdir(p, 0777) != 0) die(p);
        sleep_us(1000);
        rmdir(p);
    }
    return 0;
}

static int bad_row(void *bad, int n, char **value, char **name)
{
    (void)name;
    if (n == 1 && strcmp(value[0], "ok") == 0) return 0;
    fprintf(stderr, "probe: catalog: %s\n", value[0] ? value[0] : "NULL");
    ++*(int *)bad;
    return 0;
}

static int cmd_catalog(int n, char **a)
{
    sqlite3 *db;
    int bad = 0;
    if (n < 1 || sqlite3_open_v2(a[0], &db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK) return 2;
    if (sqlite3_exec(db, "PRAGMA integrity_check; PRAGMA foreign_key_check", bad_row, &bad, NULL) != SQLITE_OK) bad++;
    sqlite3_close(db);
    puts(bad ? "bad" : "ok");
    return bad ? 1 : 0;
}

static int print_row(void *ctx, int n, char **value, char **name)
{
    (void)ctx, (void)n, (void)name;
    printf("%s %s\n", value[0], value[1]);
    return 0;
}

static int cmd_done(int n, char **a)
{
    sqlite3 *db;
    if (n < 1 || sqlite3_open_v2(a[0], &db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK) return 2;
    sqlite3_busy_timeout(db, 5000);
    int rc = sqlite3_exec(db, "SELECT stage, key FROM unit WHERE state='done' AND stage<>'train-ckpt' ORDER BY stage, key", print_row, NULL, NULL);
    sqlite3_close(db);
    return rc == SQLITE_OK ? 0 : 1;
}

static int cmd_leaks(int n, char **a)
{
    static char text[1 << 17];
    char path[300];
    int found = 0;
    DIR *d = opendir("/proc");
    if (n < 1 || !d) return 2;
    for (struct dirent *f; (f = readdir(d));) {
        if (f->d_name[0] < '0' || f->d_name[0] > '9') continue;
        const char *const files[] = {"comm", "environ"};
        bool ours = true;
        for (int i = 0; ours && i < 2; i++) {
            snprintf(path, sizeof path, "/proc/%s/%s", f->d_name, files[i]);
            int fd = open(path, O_RDONLY | O_CLOEXEC);
            ssize_t got = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
            if (fd >= 0) close(fd);
            ours = got > 0 && (i == 0 ? strncmp(text, "dpipe", 5) == 0 : memmem(text, (size_t)got, a[0], strlen(a[0])) != NULL);
        }
        if (ours) found++, fprintf(stderr, "probe: process %s is left\n", f->d_name);
    }
    closedir(d);
    printf("%d\n", found);
    return found ? 1 : 0;
}

static int cmd_counts(int n, char **a)
{
    /* As in shim_fail.c. */
    static const char *const points[] = {"write", "read", "fsync", "rename", "unlink", "open", "truncate", "mmap", "malloc", "send", "recv", "writev", "readv",
                                         "socket", "accept", "spawn", "thread", "memfd", "epoll", "eventfd", "inotify", "opendir", "stat"};
    enum { POINTS = sizeof points / sizeof *points };
    long k[2][POINTS] = {{0}};
    int fd = n < 1 ? -1 : open(a[0], O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 2;
    ssize_t got = read(fd, k, sizeof k);
    close(fd);
    for (int i = 0; i < POINTS && got == (ssize_t)sizeof k; i++)
        if (n < 2) printf("%s %ld %ld\n", points[i], k[0][i], k[1][i]);
        else if (strcmp(points[i], a[1]) == 0) printf("%ld %ld\n", k[0][i], k[1][i]);
    return 0;
}

static int cmd_cut(int n, char **a)
{
    uint32_t how = NOLOGFLUSH;
    if (n < 1) return 2;
    int fd = open(a[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, EXT4_SHUTDOWN, &how) != 0) die(a[0]);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*fn)(int, char **);
    } all[] = {{"kill", cmd_kill}, {"stages", cmd_stages}, {"get", cmd_get}, {"slow", cmd_slow}, {"garble", cmd_garble}, {"token", cmd_token}, {"change", cmd_change}, {"clock", cmd_clock}, {"shuffle", cmd_shuffle}, {"unrest", cmd_unrest}, {"catalog", cmd_catalog},
             {"done", cmd_done}, {"leaks", cmd_leaks}, {"counts", cmd_counts}, {"cut", cmd_cut}};
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; argc > 1 && i < sizeof all / sizeof *all; i++)
        if (strcmp(argv[1], all[i].name) == 0) return all[i].fn(argc - 2, argv + 2);
    fputs("probe: which test? see its first comment\n", stderr);
    return 2;
}
