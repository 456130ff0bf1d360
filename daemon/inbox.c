#include "daemon/inbox.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

enum { WATCH_PENDING_MAX = 4096, DEPTH_MAX = 256, RESCAN_PATIENCE = 10 /* times the settling time */ };
/* A file that was created and never closed, but has been quiet for so long, is taken: its close was missed, or comes with the machine's end. */
static const double open_max_s = 600;

struct folder {
    int wd;
    char *path;
    size_t root; /* length of the root's path: what is behind it is the relative path */
    bool file;   /* a root that is a file itself */
    unsigned seen; /* generation of the last dp_inbox_roots that named it */
};

struct pending {
    char *path, *relative;
    double due; /* monotonic; for files that are open: when they are taken all the same */
    bool open;
};

struct dp_inbox {
    pthread_mutex_t mu;
    int fd;
    double settle_s;
    size_t watches_max, beyond;
    struct folder *folder; /* ascending wd: the kernel counts up */
    size_t folders, cap;
    struct pending *pending; /* no order; few of them */
    size_t n, pending_cap;
    double rescan_at; /* 0: none */
    double rescan_by; /* at the latest */
    unsigned generation;
};

int dp_inbox_open(struct dp_inbox **out, struct dp_err *e)
{
    struct dp_inbox *w = calloc(1, sizeof *w);
    if (!w) DP_FAIL(e, NOMEM, "inotify");
    pthread_mutex_init(&w->mu, NULL);
    w->settle_s = 2;
    w->watches_max = 8192;
    w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (w->fd < 0) dp_log(WARN, "watch", "no inotify (%s): sources are rescanned only", strerror(errno));
    *out = w;
    return DP_OK;
}

static void free_pending(struct pending *p)
{
    free(p->path);
    free(p->relative);
}

void dp_inbox_close(struct dp_inbox *w)
{
    if (!w) return;
    if (w->fd >= 0) close(w->fd);
    for (size_t i = 0; i < w->folders; i++) free(w->folder[i].path);
    for (size_t i = 0; i < w->n; i++) free_pending(&w->pending[i]);
    free(w->folder);
    free(w->pending);
    pthread_mutex_destroy(&w->mu);
    free(w);
}

void dp_inbox_set(struct dp_inbox *w, double settle_s, size_t watches_max)
{
    pthread_mutex_lock(&w->mu);
    w->settle_s = settle_s;
    w->watches_max = watches_max;
    pthread_mutex_unlock(&w->mu);
}

int dp_inbox_fd(const struct dp_inbox *w)
{
    return w->fd;
}

void dp_inbox_count(struct dp_inbox *w, size_t *folders, size_t *beyond)
{
    pthread_mutex_lock(&w->mu);
    *folders = w->folders;
    *beyond = w->beyond;
    pthread_mutex_unlock(&w->mu);
}

/* --- under the mutex --- */

/* Later again while things still move, but not for ever: a folder that never rests must not hide what came into it. */
static void rescan_in(struct dp_inbox *w, double s)
{
    double t = dp_now();
    if (w->rescan_at == 0) w->rescan_by = t + RESCAN_PATIENCE * (s > 0.1 ? s : 0.1);
    if (w->rescan_at == 0 || t + s > w->rescan_at) w->rescan_at = t + s;
    if (w->rescan_at > w->rescan_by) w->rescan_at = w->rescan_by;
}

static struct pending *find_pending(struct dp_inbox *w, const char *path)
{
    for (size_t i = 0; i < w->n; i++)
        if (strcmp(w->pending[i].path, path) == 0) return &w->pending[i];
    return NULL;
}

static void drop_pending(struct dp_inbox *w, struct pending *p)
{
    free_pending(p);
    *p = w->pending[--w->n];
}

/* Put a file off. Without room the rescan finds it. */
static void put_off(struct dp_inbox *w, const char *path, const char *relative, double s, bool is_open)
{
    struct pending *p = find_pending(w, path);
    if (p) {
        p->due = dp_now() + s;
        p->open = is_open;
        return;
    }
    if (w->n == w->pending_cap && w->n < WATCH_PENDING_MAX) {
        size_t cap = w->pending_cap ? w->pending_cap * 2 : 64;
        struct pending *v = realloc(w->pending, cap * sizeof *v);
        if (v) {
            w->pending = v;
            w->pending_cap = cap;
        }
    }
    struct pending k = {strdup(path), strdup(relative), dp_now() + s, is_open};
    if (w->n == w->pending_cap || !k.path || !k.relative) {
        free_pending(&k);
        rescan_in(w, w->settle_s);
        return;
    }
    w->pending[w->n++] = k;
}

static struct folder *find_folder(struct dp_inbox *w, int wd)
{
    size_t lo = 0, hi = w->folders;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (w->folder[mid].wd < wd) lo = mid + 1;
        else hi = mid;
    }
    return lo < w->folders && w->folder[lo].wd == wd ? &w->folder[lo] : NULL;
}

static void forget_folder(struct dp_inbox *w, int wd)
{
    struct folder *f = find_folder(w, wd);
    if (!f) return;
    free(f->path);
    w->folders--;
    memmove(f, f + 1, (size_t)(w->folder + w->folders - f) * sizeof *f);
}

/* Watch one folder or root file; not being able to is no error, rescans come anyway. */
static void add_watch(struct dp_inbox *w, const char *path, size_t root, bool file)
{
    uint32_t mask = IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ATTRIB;
    if (w->fd < 0) return;
    if (w->folders >= w->watches_max) {
        w->beyond++;
        return;
    }
    int wd = inotify_add_watch(w->fd, path, file ? IN_CLOSE_WRITE | IN_MOVE_SELF | IN_DELETE_SELF | IN_ATTRIB : mask | IN_ONLYDIR);
    if (wd < 0) {
        w->beyond += errno == ENOSPC;
        return;
    }
    struct folder *f = find_folder(w, wd);
    if (f) {
        if (strcmp(f->path, path) != 0) { /* moved within what is watched */
            char *copy = strdup(path);
            if (copy) {
                free(f->path);
                f->path = copy;
                f->root = root;
            }
        }
        /* Of roots inside each other the outer one names the files, as for a look through all of them (daemon/register.c). */
        if (f->seen != w->generation || root < f->root) f->root = root;
        f->seen = w->generation;
        return;
    }
    if (w->folders == w->cap) {
        size_t cap = w->cap ? w->cap * 2 : 64;
        struct folder *v = realloc(w->folder, cap * sizeof *v);
        if (!v) return;
        w->folder = v;
        w->cap = cap;
    }
    struct folder k = {wd, strdup(path), root, file, w->generation};
    if (!k.path) return;
    size_t at = w->folders++;
    while (at > 0 && w->folder[at - 1].wd > wd) {
        w->folder[at] = w->folder[at - 1];
        at--;
    }
    w->folder[at] = k;
}

/* A folder and those below it. The mutex is held a folder at a time, so that the event loop isn't kept waiting by a large tree. */
static void add_tree(struct dp_inbox *w, const char *path, size_t root, int depth)
{
    pthread_mutex_lock(&w->mu);
    add_watch(w, path, root, false);
    pthread_mutex_unlock(&w->mu);
    DIR *d = depth < DEPTH_MAX ? opendir(path) : NULL;
    if (!d) return;
    for (struct dirent *f; (f = readdir(d));) {
        struct stat st;
        if (f->d_name[0] == '.' || (f->d_type != DT_DIR && f->d_type != DT_UNKNOWN)) continue;
        char *below = dp_fs_join(path, f->d_name);
        if (below && lstat(below, &st) == 0 && S_ISDIR(st.st_mode)) add_tree(w, below, root, depth + 1);
        free(below);
    }
    closedir(d);
}

int dp_inbox_roots(struct dp_inbox *w, const struct dp_strings *roots, struct dp_err *e)
{
    (void)e;
    pthread_mutex_lock(&w->mu);
    unsigned gen = ++w->generation;
    w->beyond = 0;
    pthread_mutex_unlock(&w->mu);
    for (size_t i = 0; i < roots->n; i++) {
        struct stat st;
        if (stat(roots->v[i], &st) != 0) continue;
        if (S_ISDIR(st.st_mode)) add_tree(w, roots->v[i], strlen(roots->v[i]), 0);
        else {
            pthread_mutex_lock(&w->mu);
            add_watch(w, roots->v[i], strlen(roots->v[i]), true);
            pthread_mutex_unlock(&w->mu);
        }
    }
    pthread_mutex_lock(&w->mu);
    for (size_t i = w->folders; i-- > 0;)
        if (w->folder[i].seen != gen) {
            int wd = w->folder[i].wd;
            inotify_rm_watch(w->fd, wd);
            forget_folder(w, wd);
        }
    pthread_mutex_unlock(&w->mu);
    return DP_OK;
}

static void on_file(struct dp_inbox *w, const struct folder *f, const struct inotify_event *v, const char *path)
{
    const char *relative = path + f->root;
    if (f->file) { /* its folder may be below a root, too: the look through all of them knows */
        rescan_in(w, w->settle_s);
        return;
    }
    while (*relative == '/') relative++;
    struct pending *p = find_pending(w, path);
    if (v->mask & (IN_MOVED_FROM | IN_DELETE)) {
        if (p) drop_pending(w, p);
        return;
    }
    struct stat st;
    if (lstat(path, &st) != 0 || S_ISDIR(st.st_mode)) return;
    if (S_ISLNK(st.st_mode)) { /* dp_walk knows which links count */
        rescan_in(w, w->settle_s);
        return;
    }
    if (!S_ISREG(st.st_mode)) return;
    if (v->mask & IN_CREATE) {
        bool whole = st.st_nlink > 1; /* a second name of a file comes with no close */
        put_off(w, path, relative, whole ? w->settle_s : open_max_s, !whole);
    } else if (v->mask & (IN_CLOSE_WRITE | IN_MOVED_TO)) put_off(w, path, relative, w->settle_s, false);
    else if (v->mask & IN_ATTRIB && !(p && p->open)) put_off(w, path, relative, w->settle_s, false);
}

static void on_event(struct dp_inbox *w, const struct inotify_event *v)
{
    if (v->mask & IN_Q_OVERFLOW) {
        rescan_in(w, w->settle_s);
        return;
    }
    struct folder *f = find_folder(w, v->wd);
    if (v->mask & IN_IGNORED) {
        forget_folder(w, v->wd);
        return;
    }
    if (!f) return;
    if (v->mask & (IN_DELETE_SELF | IN_MOVE_SELF)) {
        rescan_in(w, w->settle_s);
        return;
    }
    if (v->len && v->name[0] == '.') return; /* as dp_walk: hidden files are nobody's documents */
    if (v->mask & IN_ISDIR) {
        if (v->mask & (IN_CREATE | IN_MOVED_TO)) { /* the rescan finds what came in before the watch did, and watches below */
            char *path = dp_fs_join(f->path, v->name);
            if (path) add_watch(w, path, f->root, false);
            free(path);
            rescan_in(w, w->settle_s);
        }
        return;
    }
    char *path = f->file ? strdup(f->path) : v->len ? dp_fs_join(f->path, v->name) : NULL;
    if (path) on_file(w, f, v, path);
    free(path);
}

bool dp_inbox_read(struct dp_inbox *w)
{
    _Alignas(struct inotify_event) char buf[16384];
    pthread_mutex_lock(&w->mu);
    for (int round = 0; round < 64; round++) { /* not for ever: the loop has more to do */
        ssize_t n = read(w->fd, buf, sizeof buf);
        if (n <= 0) break;
        for (char *p = buf; p < buf + n;) {
            const struct inotify_event *v = (const struct inotify_event *)(const void *)p;
            on_event(w, v);
            p += sizeof *v + v->len;
        }
    }
    bool any = w->n > 0 || w->rescan_at > 0;
    pthread_mutex_unlock(&w->mu);
    return any;
}

bool dp_inbox_accept(void *ctx, const char *path, const char *relative, const struct stat *st)
{
    struct dp_inbox *w = ctx;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    double age = (double)(t.tv_sec - st->st_ctim.tv_sec) + 1e-9 * (double)(t.tv_nsec - st->st_ctim.tv_nsec);
    pthread_mutex_lock(&w->mu);
    struct pending *p = find_pending(w, path);
    bool is_open = p && p->open && dp_now() < p->due;
    /* A ctime in the future (another machine's clock, or ours went back) would never be old enough, so it doesn't count. A file that
     * is still written then is seen as changed by a later look, and read again. */
    bool ok = !is_open && S_ISREG(st->st_mode) && (age >= w->settle_s || age < -1);
    if (ok && p) drop_pending(w, p);
    else if (!ok && !is_open && S_ISREG(st->st_mode)) put_off(w, path, relative, age >= 0 && age < w->settle_s ? w->settle_s - age + 0.01 : w->settle_s, false);
    pthread_mutex_unlock(&w->mu);
    return ok;
}

double dp_inbox_wait(struct dp_inbox *w)
{
    double first = -1, t = dp_now();
    pthread_mutex_lock(&w->mu);
    for (size_t i = 0; i < w->n; i++) {
        double s = w->pending[i].due > t ? w->pending[i].due - t : 0;
        if (first < 0 || s < first) first = s;
    }
    if (w->rescan_at > 0) {
        double s = w->rescan_at > t ? w->rescan_at - t : 0;
        if (first < 0 || s < first) first = s;
    }
    pthread_mutex_unlock(&w->mu);
    return first;
}

bool dp_inbox_due(struct dp_inbox *w, char **path, char **relative)
{
    double t = dp_now();
    bool found = false;
    pthread_mutex_lock(&w->mu);
    for (size_t i = 0; i < w->n && !found; i++) {
        if (w->pending[i].due > t) continue;
        *path = w->pending[i].path;
        *relative = w->pending[i].relative;
        w->pending[i] = w->pending[--w->n];
        found = true;
    }
    pthread_mutex_unlock(&w->mu);
    return found;
}

bool dp_inbox_rescan(struct dp_inbox *w)
{
    pthread_mutex_lock(&w->mu);
    bool due = w->rescan_at > 0 && dp_now() >= w->rescan_at;
    if (due) w->rescan_at = 0;
    pthread_mutex_unlock(&w->mu);
    return due;
}
