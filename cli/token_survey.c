/* cli/token_survey.c - rounds: the caller reads a few batches, threads find languages, the caller gives groups their numbers in the order of texts, threads encode and
 * count, the caller adds up. */
#include "cli/token_survey.h"

#include "base/docs.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/progress.h"
#include "base/thread.h"
#include "clean/stages.h"
#include "cli/file_list.h"
#include "base/utf8.h"

#include <stdio.h>
#include <stdlib.h>

enum { BATCH_BYTES = 1 << 20, BATCH_TEXTS = 4096, BATCHES_A_THREAD = 4, NO_GROUP = 0xffff };

struct item {
    struct dp_span text;
    char lang[8];            /* as it was found */
    bool goes_on;            /* a later part of the text before */
    uint16_t group[DP_SURVEY_KINDS];
};
struct batch {
    struct dp_arena mem;
    struct dp_map map; /* of a whole file whose end is in the batch */
    struct item *item;
    size_t n, bytes;
    int rc;
    struct dp_err err;
};

/* What one thread has. counts[] is for each group of each kind, behind those of all. */
struct worker {
    struct dp_encoder *encoder[DP_SURVEY_TOKENIZERS_MAX];
    struct dp_ids ids[DP_SURVEY_TOKENIZERS_MAX];
    uint64_t *used[DP_SURVEY_TOKENIZERS_MAX];
    struct dp_text_words words;
    struct dp_survey_group *count;
    size_t count_cap;
    void *language;
    struct dp_batch row;
    struct dp_buf repaired;
};

struct reader {
    const char *const *files, *const *given; /* given: the argument that stands for it */
    size_t n, at; /* files; the one that is open */
    bool domains; /* several arguments */
    bool open;
    FILE *f;
    struct dp_docs_reader *docs;
    char *line;
    size_t cap;
    uint64_t lines;
    struct dp_map map; /* of a whole file, read up to map_at */
    size_t map_at;
    bool parts; /* large texts may be cut */
};

struct run {
    struct dp_survey *s;
    const struct dp_survey_options *o;
    const struct dp_survey_watch *watch;
    struct dp_pool *pool;
    struct worker *worker;
    int threads;
    struct batch *batch;
    size_t batches, full; /* room for; read in this round */
    struct reader in;
    size_t cap[DP_SURVEY_KINDS];
    size_t *sorted[DP_SURVEY_KINDS]; /* groups in order of name */
    void *language;                  /* options of the identifier */
};

/* --- tokenizers --- */

void dp_survey_release(struct dp_survey *s)
{
    for (size_t i = 0; i < s->tokenizers; i++) {
        struct dp_survey_tokenizer *t = &s->tokenizer[i];
        dp_token_meter_close(t->meter);
        dp_tokenizer_free(t->t);
        free(t->used);
        free(t->name);
        free(t->path);
    }
    for (int k = 0; k < DP_SURVEY_KINDS; k++) {
        for (size_t i = 0; i < s->by[k].n; i++) free((void *)s->by[k].group[i].name.ptr);
        free(s->by[k].group);
    }
    *s = (struct dp_survey){0};
}

/* A file's name without folders and what follows its last dot; a tokenizer.json is called after its folder. */
static char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path, *dot = strrchr(base, '.'), *end = dot && dot > base ? dot : base + strlen(base);
    if (slash && slash > path && dp_span_is(dp_span(base, (size_t)(end - base)), "tokenizer")) {
        end = base = slash;
        while (base > path && base[-1] != '/') base--;
    }
    return strndup(base, (size_t)(end - base));
}

int dp_survey_add(struct dp_survey *s, const char *name, const char *path, const char *split, struct dp_err *e)
{
    if (s->tokenizers == DP_SURVEY_TOKENIZERS_MAX) DP_FAIL(e, USAGE, "%s: at most %d tokenizers at once", path, DP_SURVEY_TOKENIZERS_MAX);
    struct dp_survey_tokenizer *t = &s->tokenizer[s->tokenizers++];
    t->name = name ? strdup(name) : name_of(path);
    t->path = strdup(path);
    if (!t->name || !t->path) DP_FAIL(e, NOMEM, "%s", path);
    DP_TRY(dp_tokenizer_load_file(&t->t, path, split, e));
    DP_TRY(dp_token_meter_open(&t->meter, t->t, e));
    t->used = calloc((size_t)dp_tokenizer_size(t->t) + 1, sizeof *t->used);
    if (!t->used) DP_FAIL(e, NOMEM, "%s: counts of %u tokens", path, dp_tokenizer_size(t->t));
    return DP_OK;
}

/* --- groups --- */

static int compare_names(struct dp_span a, struct dp_span b)
{
    int c = memcmp(a.ptr, b.ptr, a.len < b.len ? a.len : b.len);
    return c ? c : (a.len > b.len) - (a.len < b.len);
}

/* The number of a name's group, a new one where there is none yet. */
static int group_of(struct run *r, int kind, struct dp_span name, uint16_t *out, struct dp_err *e)
{
    struct dp_survey_groups *g = &r->s->by[kind];
    if (!name.len) name = dp_span_str("(none)");
    for (int again = 0; again < 2; again++) {
        size_t lo = 0, hi = g->n;
        while (lo < hi) {
            size_t m = lo + (hi - lo) / 2;
            int c = compare_names(g->group[r->sorted[kind][m]].name, name);
            if (c == 0) return *out = (uint16_t)r->sorted[kind][m], DP_OK;
            if (c < 0) lo = m + 1;
            else hi = m;
        }
        if (g->n >= DP_SURVEY_GROUPS_MAX && !again && !dp_span_is(name, "(other)")) {
            name = dp_span_str("(other)");
            continue;
        }
        if (g->n == r->cap[kind]) {
            size_t cap = r->cap[kind] * 2 + 16;
            struct dp_survey_group *p = realloc(g->group, cap * sizeof *p);
            if (p) g->group = p;
            size_t *q = realloc(r->sorted[kind], cap * sizeof *q);
            if (q) r->sorted[kind] = q;
            if (!p || !q) DP_FAIL(e, NOMEM, "%zu groups", cap);
            r->cap[kind] = cap;
        }
        char *copy = malloc(name.len);
        if (!copy) DP_FAIL(e, NOMEM, "the name of a group");
        memcpy(copy, name.ptr, name.len);
        g->group[g->n] = (struct dp_survey_group){.name = dp_span(copy, name.len)};
        memmove(r->sorted[kind] + lo + 1, r->sorted[kind] + lo, (g->n - lo) * sizeof(size_t));
        r->sorted[kind][lo] = g->n;
        *out = (uint16_t)g->n++;
        return DP_OK;
    }
    DP_ASSERT(!"a group");
}

static int most_bytes_first(const void *a, const void *b)
{
    const struct dp_survey_group *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return compare_names(x->name, y->name);
}

/* --- reading --- */

static const char *file_name(const struct reader *in)
{
    return in->n ? in->files[in->at] : "standard input";
}

static bool ends_in(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n > k && strcmp(s + n - k, end) == 0;
}

static int open_file(struct reader *in, struct dp_err *e)
{
    const char *path = in->n ? in->files[in->at] : "-";
    in->lines = 0;
    if (strcmp(path, "-") == 0) in->f = stdin;
    else if (ends_in(path, ".zst")) DP_TRY(dp_docs_open(&in->docs, path, e));
    else if (!(in->f = fopen(path, "rbe"))) DP_FAIL_SYS(e, "%s: cannot open", path);
    in->open = true;
    return DP_OK;
}

static void close_file(struct reader *in)
{
    if (in->f && in->f != stdin) fclose(in->f);
    dp_docs_close(in->docs);
    in->f = NULL;
    in->docs = NULL;
    in->open = false;
}

/* The next line of the open file, without its newline. */
static int next_line(struct reader *in, struct dp_span *line, struct dp_err *e)
{
    in->lines++;
    if (in->docs) return dp_docs_next_line(in->docs, line, e);
    ssize_t n = getline(&in->line, &in->cap, in->f);
    if (n < 0 && ferror(in->f)) DP_FAIL_SYS(e, "%s: read", file_name(in));
    if (n < 0) return DP_EOF;
    *line = dp_span(in->line, (size_t)n);
    if (line->len && line->ptr[line->len - 1] == '\n') line->len--;
    return DP_OK;
}

/* The name of what was given, a file or a folder, without folders above. */
static struct dp_span domain_of_file(const struct reader *in)
{
    const char *s = in->given[in->at];
    size_t n = strlen(s), from;
    while (n > 1 && s[n - 1] == '/') n--;
    for (from = n; from && s[from - 1] != '/'; from--) {}
    return dp_span(s + from, n - from);
}

/* `fields`: text, language, domain. */
static int add_item(struct run *r, struct batch *b, struct dp_span text, struct dp_span language, struct dp_span domain, struct dp_err *e)
{
    struct item *it = &b->item[b->n];
    *it = (struct item){.text = text, .group = {NO_GROUP, NO_GROUP}};
    if (r->o->language_field) DP_TRY(group_of(r, DP_SURVEY_LANGUAGES, language, &it->group[DP_SURVEY_LANGUAGES], e));
    if (r->o->domain_field || r->in.domains)
        DP_TRY(group_of(r, DP_SURVEY_DOMAINS, r->o->domain_field ? domain : domain_of_file(&r->in), &it->group[DP_SURVEY_DOMAINS], e));
    b->n++;
    b->bytes += text.len;
    return DP_OK;
}

static int add_line(struct run *r, struct batch *b, struct dp_span line, struct dp_err *e)
{
    struct dp_span copy = dp_arena_dup(&b->mem, line), none = {NULL, 0};
    if (!copy.ptr) DP_FAIL(e, NOMEM, "a line of %zu bytes", line.len);
    if (!r->o->jsonl) return add_item(r, b, copy, none, none, e);
    if (!copy.len) return DP_OK;
    struct dp_json_field f[3] = {{.key = r->o->field}};
    size_t n = 1, language = r->o->language_field ? n++ : 0, domain = r->o->domain_field ? n++ : 0;
    if (language) f[language].key = r->o->language_field;
    if (domain) f[domain].key = r->o->domain_field;
    DP_TRY(dp_json_fields(copy, f, n, &b->mem, e));
    if (!f[0].str.ptr) DP_FAIL(e, CORRUPT, "no string \"%s\"", f[0].key);
    return add_item(r, b, f[0].str, language ? f[language].str : none, domain ? f[domain].str : none, e);
}

static int whole_stdin(struct run *r, struct batch *b, struct dp_err *e)
{
    struct dp_span none = {NULL, 0};
    struct dp_buf all;
    dp_buf_init(&all, (size_t)1 << 30);
    int rc = dp_fs_read_fd(0, "standard input", &all, e);
    struct dp_span copy = rc < 0 ? none : dp_arena_dup(&b->mem, dp_buf_span(&all));
    dp_buf_release(&all);
    DP_TRY(rc);
    if (!copy.ptr) DP_FAIL(e, NOMEM, "standard input");
    rc = add_item(r, b, copy, none, none, e);
    r->in.at++;
    return rc;
}

/* Where a text's first part ends: the first place from `from` on where all tokenizers can begin anew. */
static size_t part_end(const struct dp_survey *s, struct dp_span text, size_t from)
{
    size_t p = from;
    for (size_t t = 0, same = 0; same < s->tokenizers && p < text.len; t = (t + 1) % s->tokenizers) {
        size_t q = dp_encode_restart(s->tokenizer[t].t, DP_SPECIAL_NONE, text, p);
        same = q == p ? same + 1 : 1;
        p = q;
    }
    return p;
}

/* A file, or the next part of a large one: parts have the ids and words of the whole, so that memory doesn't grow with the text and threads share it. */
static int whole_file(struct run *r, struct batch *b, struct dp_err *e)
{
    struct reader *in = &r->in;
    struct dp_span none = {NULL, 0};
    const char *path = in->n ? in->files[in->at] : "-";
    if (strcmp(path, "-") == 0) return whole_stdin(r, b, e);
    if (!in->map.ptr) {
        DP_TRY(dp_map_open(&in->map, path, e));
        in->map_at = 0;
    }
    struct dp_span rest = dp_span(in->map.ptr + in->map_at, in->map.len - in->map_at);
    if (in->parts && rest.len > BATCH_BYTES) rest.len = part_end(r->s, rest, BATCH_BYTES);
    DP_TRY(add_item(r, b, rest, none, none, e));
    b->item[b->n - 1].goes_on = in->map_at > 0;
    in->map_at += rest.len;
    if (in->map_at < in->map.len) return DP_OK;
    b->map = in->map; /* the parts before are done with when the batch is */
    in->map = (struct dp_map){0};
    in->at++;
    return DP_OK;
}

static void empty_batch(struct batch *b)
{
    if (b->map.ptr) dp_map_close(&b->map);
    b->map = (struct dp_map){0};
    dp_arena_reset(&b->mem);
    b->n = b->bytes = 0;
    b->rc = DP_OK;
}

/* DP_EOF when there is nothing more; the batch has what there was. */
static int read_batch(struct run *r, struct batch *b, struct dp_err *e)
{
    struct reader *in = &r->in;
    size_t files = in->n ? in->n : 1;
    empty_batch(b);
    while (b->n < BATCH_TEXTS && b->bytes < BATCH_BYTES) {
        if (in->at == files) return DP_EOF;
        if (r->o->whole_file) {
            DP_TRY(whole_file(r, b, e));
            return DP_OK; /* a batch has one map */
        }
        if (!in->open) DP_TRY(open_file(in, e));
        struct dp_span line;
        int rc = next_line(in, &line, e);
        if (rc == DP_OK) rc = add_line(r, b, line, e);
        if (rc < 0) return dp_err_prefix(e, "%s line %llu", file_name(in), (unsigned long long)in->lines);
        if (rc == DP_EOF) {
            close_file(in);
            in->at++;
        }
    }
    return DP_OK;
}

/* --- threads --- */

static int detect(struct run *r, struct worker *w, struct item *it, struct dp_err *e)
{
    struct dp_batch *b = &w->row;
    dp_batch_reset(b);
    if (dp_batch_add(b) < 0) DP_FAIL(e, NOMEM, "a row");
    b->text[0] = it->text;
    if (!dp_utf8_valid(it->text)) {
        dp_buf_clear(&w->repaired);
        dp_utf8_repair(it->text, &w->repaired);
        DP_TRY(dp_buf_check(&w->repaired, "a text", e));
        b->text[0] = dp_buf_span(&w->repaired);
    }
    DP_TRY(dp_stage_row(&dp_stage_language, r->language, w->language, b, 0, e));
    memcpy(it->lang, b->lang[0][0] ? b->lang[0] : "und", sizeof it->lang);
    return DP_OK;
}

static void detect_task(void *ctx, size_t i, int worker)
{
    struct run *r = ctx;
    struct batch *b = &r->batch[i];
    for (size_t k = 0; b->rc >= 0 && k < b->n; k++) b->rc = detect(r, &r->worker[worker], &b->item[k], &b->err);
}

static void add_count(struct dp_survey_group *to, const struct item *it, size_t chars)
{
    to->texts += !it->goes_on;
    to->bytes += it->text.len;
    to->chars += chars;
}

static int count_text(struct run *r, struct worker *w, size_t slot, const struct item *it, struct dp_err *e)
{
    struct dp_survey *s = r->s;
    struct dp_survey_group *to[1 + DP_SURVEY_KINDS] = {&w->count[0]};
    size_t n = 1, base = 1;
    for (int k = 0; k < DP_SURVEY_KINDS; base += s->by[k++].n)
        if (it->group[k] != NO_GROUP) to[n++] = &w->count[base + it->group[k]];
    DP_TRY(dp_text_words(&w->words, it->text, e));
    for (size_t g = 0; g < n; g++) add_count(to[g], it, w->words.chars);
    for (size_t t = 0; t < s->tokenizers; t++) {
        struct dp_token_count count = {0};
        w->ids[t].len = 0;
        DP_TRY(dp_encode(w->encoder[t], it->text, &w->ids[t], e));
        dp_token_meter_add(s->tokenizer[t].meter, &w->words, w->ids[t].ptr, w->ids[t].len, &count, w->used[t]);
        for (size_t g = 0; g < n; g++) dp_token_count_add(&to[g]->count[t], &count);
    }
    return r->watch ? r->watch->text(r->watch->ctx, slot, it->text, w->ids, e) : DP_OK;
}

static void count_task(void *ctx, size_t i, int worker)
{
    struct run *r = ctx;
    struct batch *b = &r->batch[i];
    for (size_t k = 0; b->rc >= 0 && k < b->n; k++) {
        b->rc = count_text(r, &r->worker[worker], i, &b->item[k], &b->err);
        if (dp_progress_stopped()) return;
    }
}

/* Counts of groups that are new are zero. */
static int room_for_groups(struct run *r, struct dp_err *e)
{
    size_t n = 1 + r->s->by[0].n + r->s->by[1].n;
    for (int i = 0; i < r->threads; i++) {
        struct worker *w = &r->worker[i];
        if (n > w->count_cap) {
            struct dp_survey_group *p = realloc(w->count, (n + n / 2) * sizeof *p);
            if (!p) DP_FAIL(e, NOMEM, "%zu groups", n);
            w->count = p;
            w->count_cap = n + n / 2;
        }
        memset(w->count, 0, n * sizeof *w->count);
    }
    return DP_OK;
}

static void add_group(struct dp_survey_group *to, const struct dp_survey_group *more, size_t tokenizers)
{
    to->texts += more->texts;
    to->bytes += more->bytes;
    to->chars += more->chars;
    for (size_t t = 0; t < tokenizers; t++) dp_token_count_add(&to->count[t], &more->count[t]);
}

static int failed(const struct run *r, struct dp_err *e)
{
    for (size_t i = 0; i < r->full; i++)
        if (r->batch[i].rc < 0) {
            *e = r->batch[i].err;
            return r->batch[i].rc;
        }
    return DP_OK;
}

static int do_round(struct run *r, struct dp_err *e)
{
    struct dp_survey *s = r->s;
    uint64_t bytes = 0, texts = 0;
    if (r->o->detect_language && !r->o->language_field) {
        dp_pool_run(r->pool, r->full, detect_task, r);
        DP_TRY(failed(r, e));
        for (size_t i = 0; i < r->full; i++)
            for (size_t k = 0; k < r->batch[i].n; k++)
                DP_TRY(group_of(r, DP_SURVEY_LANGUAGES, dp_span_str(r->batch[i].item[k].lang), &r->batch[i].item[k].group[DP_SURVEY_LANGUAGES], e));
    }
    DP_TRY(room_for_groups(r, e));
    dp_pool_run(r->pool, r->full, count_task, r);
    DP_TRY(failed(r, e));
    for (int i = 0; i < r->threads; i++) {
        size_t at = 0;
        add_group(&s->all, &r->worker[i].count[at++], s->tokenizers);
        for (int k = 0; k < DP_SURVEY_KINDS; k++)
            for (size_t g = 0; g < s->by[k].n; g++) add_group(&s->by[k].group[g], &r->worker[i].count[at++], s->tokenizers);
    }
    for (size_t i = 0; i < r->full; i++) {
        if (r->watch) DP_TRY(r->watch->merge(r->watch->ctx, i, e));
        bytes += r->batch[i].bytes;
        texts += r->batch[i].n;
    }
    if (r->in.map.ptr) dp_map_trim(&r->in.map);
    dp_progress_add(bytes, texts);
    return dp_progress_go_on(e);
}

/* --- all of it --- */

/* The first thread's caches are everybody's. */
static int open_worker(struct run *r, struct worker *w, struct dp_err *e)
{
    const struct dp_stage_type *type = &dp_stage_language;
    dp_buf_init(&w->repaired, (size_t)4 << 30);
    for (size_t t = 0; t < r->s->tokenizers; t++) {
        size_t size = (size_t)dp_tokenizer_size(r->s->tokenizer[t].t) + 1;
        if (w != r->worker) DP_TRY(dp_encoder_open_beside(&w->encoder[t], r->worker[0].encoder[t], r->o->specials ? DP_SPECIAL_ALL : DP_SPECIAL_NONE, e));
        else DP_TRY(dp_encoder_open(&w->encoder[t], r->s->tokenizer[t].t, r->o->cache_bytes, r->o->specials ? DP_SPECIAL_ALL : DP_SPECIAL_NONE, e));
        w->used[t] = calloc(size, sizeof *w->used[t]);
        if (!w->used[t]) DP_FAIL(e, NOMEM, "counts of %zu tokens", size);
    }
    if (!r->o->detect_language) return DP_OK;
    DP_TRY(dp_batch_init(&w->row, 1, 1 << 20, e));
    return dp_stage_workers_open(&type, &r->language, 1, &w->language, e);
}

static int open_run(struct run *r, struct dp_err *e)
{
    DP_TRY(dp_pool_open(&r->pool, r->o->threads > 0 ? r->o->threads : 1, e));
    r->threads = dp_pool_threads(r->pool);
    r->worker = calloc((size_t)r->threads, sizeof *r->worker);
    r->batch = calloc(r->batches, sizeof *r->batch);
    if (!r->worker || !r->batch) DP_FAIL(e, NOMEM, "threads");
    if (r->o->detect_language) {
        r->language = calloc(1, dp_stage_language.ctx_size);
        if (!r->language) DP_FAIL(e, NOMEM, "the language identifier");
        DP_TRY(dp_opt_defaults(dp_stage_language.opts, r->language, e));
    }
    for (int i = 0; i < r->threads; i++) DP_TRY(open_worker(r, &r->worker[i], e));
    for (size_t i = 0; i < r->batches; i++) {
        dp_arena_init(&r->batch[i].mem, (size_t)4 << 30);
        r->batch[i].item = malloc(BATCH_TEXTS * sizeof *r->batch[i].item);
        if (!r->batch[i].item) DP_FAIL(e, NOMEM, "a batch of texts");
    }
    return DP_OK;
}

static void close_worker(struct run *r, struct worker *w)
{
    const struct dp_stage_type *type = &dp_stage_language;
    for (size_t t = 0; t < r->s->tokenizers; t++) {
        for (size_t i = 0; w->used[t] && i < dp_tokenizer_size(r->s->tokenizer[t].t); i++) r->s->tokenizer[t].used[i] += w->used[t][i];
        dp_encoder_close(w->encoder[t]);
        dp_ids_release(&w->ids[t]);
        free(w->used[t]);
    }
    if (w->language) dp_stage_workers_close(&type, &r->language, 1, &w->language);
    if (w->row.cap) dp_batch_release(&w->row);
    dp_buf_release(&w->repaired);
    free(w->words.word);
    free(w->count);
}

static void close_run(struct run *r)
{
    close_file(&r->in);
    if (r->in.map.ptr) dp_map_close(&r->in.map);
    free(r->in.line);
    for (int i = 0; r->worker && i < r->threads; i++) close_worker(r, &r->worker[i]);
    for (size_t i = 0; r->batch && i < r->batches; i++) {
        if (r->batch[i].map.ptr) dp_map_close(&r->batch[i].map);
        dp_arena_release(&r->batch[i].mem);
        free(r->batch[i].item);
    }
    for (int k = 0; k < DP_SURVEY_KINDS; k++) free(r->sorted[k]);
    if (r->language) dp_opt_release(dp_stage_language.opts, r->language);
    free(r->language);
    free(r->worker);
    free(r->batch);
    dp_pool_close(r->pool);
}

size_t dp_survey_slots(const struct dp_survey_options *o)
{
    return (size_t)(o->threads > 0 ? o->threads : 1) * BATCHES_A_THREAD;
}

int dp_survey_run(struct dp_survey *s, const struct dp_survey_options *o, const char *const *files, size_t n, const struct dp_survey_watch *watch, struct dp_err *e)
{
    struct dp_file_list l;
    DP_TRY(dp_file_list_open(&l, files, n, e));
    struct run r = {.s = s, .o = o, .watch = watch, .batches = dp_survey_slots(o),
                    .in = {.files = (const char *const *)l.path, .given = l.given, .n = l.n, .domains = n > 1, .parts = !watch && !o->specials && !o->detect_language}};
    int rc = open_run(&r, e), end = DP_OK;
    dp_progress_begin("texts", "B", 0);
    while (rc >= 0 && end != DP_EOF) {
        for (r.full = 0; r.full < r.batches && end == DP_OK; r.full += end >= 0) {
            end = read_batch(&r, &r.batch[r.full], e);
            if (end < 0) rc = end;
        }
        if (rc >= 0 && r.full) rc = do_round(&r, e);
    }
    dp_progress_end();
    close_run(&r);
    dp_file_list_close(&l);
    for (int k = 0; k < DP_SURVEY_KINDS; k++)
        if (s->by[k].n) qsort(s->by[k].group, s->by[k].n, sizeof *s->by[k].group, most_bytes_first);
    return rc;
}
