#include "cli/corpus.h"

#include "base/fs.h"
#include "base/json.h"
#include "cli/corpus_file.h"
#include "cli/file_list.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { PART_MIN = 1 << 20 }; /* a smaller file isn't cut for several processes */

struct entry {
    struct dp_corpus_file f;
    pthread_mutex_t mu; /* of f's reading */
};

struct dp_corpus {
    struct dp_corpus_options o;
    struct entry **file;
    size_t n, cap;
    size_t seen; /* files found, of all parts */
    uint64_t bytes;
    bool has_stdin;
    pthread_mutex_t mu; /* of what follows, and of done and open of all files */
    size_t low, next;   /* all files before `low` are done; `next`: the first that nobody has begun */
};

static struct dp_span domain_of(const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    size_t from = n;
    while (from && path[from - 1] != '/') from--;
    const char *dot = n - from > 1 ? memchr(path + from + 1, '.', n - from - 1) : NULL;
    return dp_span(path + from, (dot ? (size_t)(dot - path) : n) - from);
}

static int add_file(void *ctx, const char *path, const char *given, struct dp_err *e)
{
    struct dp_corpus *c = ctx;
    struct stat st = {0};
    bool std = strcmp(path, "-") == 0;
    if (!std && stat(path, &st) != 0) DP_FAIL_SYS(e, "%s", path);
    uint64_t size = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0, parts = c->o.parts ? c->o.parts : 1;
    bool ranges = parts > 1 && !c->o.whole_file && size >= PART_MIN * parts;
    if (!ranges && c->seen++ % parts != c->o.part) return DP_OK;
    if (c->n == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 64;
        struct entry **v = realloc(c->file, cap * sizeof *v);
        if (!v) DP_FAIL(e, NOMEM, "a list of files");
        c->file = v;
        c->cap = cap;
    }
    struct entry *f = calloc(1, sizeof *f);
    if (!f || !(f->f.path = strdup(path))) {
        free(f);
        DP_FAIL(e, NOMEM, "a list of files");
    }
    pthread_mutex_init(&f->mu, NULL);
    c->file[c->n++] = f;
    f->f.domain = std ? dp_span_str("stdin") : domain_of(given);
    f->f.bytes = size;
    f->f.stamp = (uint64_t)st.st_mtim.tv_sec * 1000000000 + (uint64_t)st.st_mtim.tv_nsec;
    if (ranges) {
        f->f.begin = size / parts * c->o.part;
        f->f.end = c->o.part + 1 == parts ? 0 : size / parts * (c->o.part + 1);
    }
    c->bytes += ranges ? (f->f.end ? f->f.end : size) - f->f.begin : size;
    c->has_stdin |= std;
    return DP_OK;
}

int dp_corpus_open(struct dp_corpus **out, const struct dp_corpus_options *o, const char *const *paths, size_t n, struct dp_err *e)
{
    struct dp_corpus *c = *out = calloc(1, sizeof *c);
    if (!c) DP_FAIL(e, NOMEM, "a corpus");
    c->o = *o;
    pthread_mutex_init(&c->mu, NULL);
    int rc = dp_each_file(paths, n, add_file, c, e);
    if (rc >= 0) return DP_OK;
    dp_corpus_close(c);
    *out = NULL;
    return rc;
}

void dp_corpus_close(struct dp_corpus *c)
{
    if (!c) return;
    for (size_t i = 0; i < c->n; i++) {
        dp_corpus_file_close(&c->file[i]->f);
        pthread_mutex_destroy(&c->file[i]->mu);
        free(c->file[i]->f.path);
        free(c->file[i]);
    }
    pthread_mutex_destroy(&c->mu);
    free(c->file);
    free(c);
}

/* The file to read from: the one before, as long as it lasts; then one that nobody reads; then one that others read. */
static struct entry *pick(struct dp_corpus *c, struct dp_piece *p)
{
    struct entry *f = NULL;
    pthread_mutex_lock(&c->mu);
    size_t i = p->home;
    if (i >= c->n || i >= c->next || c->file[i]->f.done) {
        while (c->next < c->n && c->file[c->next]->f.done) c->next++;
        if (c->next < c->n) i = c->next++;
        else {
            while (c->low < c->n && c->file[c->low]->f.done) c->low++;
            i = c->low;
        }
    }
    if (i < c->n) {
        f = c->file[i];
        p->file = p->home = i;
    }
    pthread_mutex_unlock(&c->mu);
    return f;
}

static int next_of(struct dp_corpus *c, struct entry *f, struct dp_piece *p, struct dp_err *e)
{
    int rc = DP_OK;
    pthread_mutex_lock(&f->mu);
    if (f->f.done) rc = DP_EOF;
    if (rc == DP_OK && !f->f.open) rc = dp_corpus_file_open(&f->f, e);
    if (rc == DP_OK) rc = dp_corpus_file_next(&f->f, &c->o, p, e);
    if (rc == DP_EOF) {
        dp_corpus_file_close(&f->f);
        pthread_mutex_lock(&c->mu);
        f->f.done = true;
        pthread_mutex_unlock(&c->mu);
    }
    pthread_mutex_unlock(&f->mu);
    return rc;
}

int dp_corpus_next(struct dp_corpus *c, struct dp_piece *p, struct dp_err *e)
{
    for (;;) {
        struct entry *f = pick(c, p);
        if (!f) return DP_EOF;
        int rc = next_of(c, f, p, e);
        if (rc != DP_EOF) return rc;
    }
}

void dp_piece_release(struct dp_piece *p)
{
    free(p->ptr);
    *p = (struct dp_piece){0};
}

size_t dp_corpus_files(const struct dp_corpus *c)
{
    return c->n;
}
const char *dp_corpus_path(const struct dp_corpus *c, size_t file)
{
    return c->file[file]->f.path;
}
struct dp_span dp_corpus_domain(const struct dp_corpus *c, size_t file)
{
    return c->file[file]->f.domain;
}
uint64_t dp_corpus_bytes(const struct dp_corpus *c)
{
    return c->has_stdin ? 0 : c->bytes;
}
bool dp_corpus_has_stdin(const struct dp_corpus *c)
{
    return c->has_stdin;
}

int dp_corpus_rewind(struct dp_corpus *c, struct dp_err *e)
{
    if (c->has_stdin) DP_FAIL(e, USAGE, "standard input can't be read twice: give files");
    for (size_t i = 0; i < c->n; i++) {
        dp_corpus_file_close(&c->file[i]->f);
        c->file[i]->f.offset = 0;
        c->file[i]->f.done = false;
    }
    c->low = c->next = 0;
    return DP_OK;
}

/* --- how far it is --- */

void dp_corpus_save(const struct dp_corpus *c, struct dp_jsonw *w)
{
    dp_jsonw_begin(w, '[');
    for (size_t i = 0; i < c->n; i++) {
        const struct dp_corpus_file *f = &c->file[i]->f;
        dp_jsonw_begin(w, '{');
        dp_jsonw_member(w, "path", f->path);
        dp_jsonw_member_uint(w, "bytes", f->bytes);
        dp_jsonw_member_uint(w, "changed_ns", f->stamp);
        dp_jsonw_member_uint(w, "offset", f->offset);
        dp_jsonw_member_bool(w, "done", f->done);
        dp_jsonw_end(w, '}');
    }
    dp_jsonw_end(w, ']');
}

int dp_corpus_restore(struct dp_corpus *c, const struct dp_json *state, struct dp_err *e)
{
    if (dp_json_count(state) != c->n) DP_FAIL(e, CONFIG, "it was of %zu files, not of %zu", dp_json_count(state), c->n);
    for (size_t i = 0; i < c->n; i++) {
        struct dp_corpus_file *f = &c->file[i]->f;
        const struct dp_json *v = dp_json_at(state, i);
        if (!dp_span_is(dp_json_str(dp_json_get(v, "path")), f->path)) DP_FAIL(e, CONFIG, "file %zu was another one than %s", i + 1, f->path);
        if ((uint64_t)dp_json_int(dp_json_get(v, "bytes"), -1) != f->bytes || (uint64_t)dp_json_int(dp_json_get(v, "changed_ns"), -1) != f->stamp)
            DP_FAIL(e, CONFIG, "%s has changed since", f->path);
        f->offset = (uint64_t)dp_json_int(dp_json_get(v, "offset"), 0);
        f->done = dp_json_bool(dp_json_get(v, "done"), false);
    }
    return DP_OK;
}
