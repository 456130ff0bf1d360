#include "cli/count_state.h"

#include "base/fs.h"
#include "base/json.h"
#include "tokenizer/wordfile.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

enum { FAN = 8, STATE_BYTES_MAX = 1 << 30 };

static char *path_of(const struct dp_count_state *s, const char *name)
{
    return dp_fs_join(s->dir, name);
}

static char *counts_path(const struct dp_count_state *s, uint64_t number)
{
    char name[48];
    snprintf(name, sizeof name, "counts-%llu.words", (unsigned long long)number);
    return path_of(s, name);
}

/* All that decides what is counted. */
static char *say_options(const struct dp_count_options *o, struct dp_span split)
{
    struct dp_buf b;
    dp_buf_init(&b, 1 << 20);
    dp_buf_printf(&b, "split=%.*s specials=%s whole_file=%d jsonl=%d part=%u/%u word_bytes_max=%llu sample=%.17g sample_bytes=%llu seed=%llu", DP_SPAN_FMT(split), o->bpe->special_tokens ? o->bpe->special_tokens : "",
                  o->corpus.whole_file, o->corpus.jsonl, o->corpus.part, o->corpus.parts, (unsigned long long)o->word_bytes_max, o->sample,
                  (unsigned long long)o->sample_bytes, (unsigned long long)o->seed);
    dp_buf_printf(&b, " field=%s domain_field=%s mixture=%s", o->corpus.jsonl ? o->field : "", o->domain_field ? o->domain_field : "", o->mixture ? o->mixture : "");
    dp_buf_printf(&b, " learn_special_text=%d", o->bpe->learn_special_text);
    if (o->bpe->base) { /* its special tokens are cut out */
        char hex[33];
        dp_hash128_hex(dp_tokenizer_digest(o->bpe->base), hex);
        dp_buf_printf(&b, " extend=%s", hex);
    }
    if (!b.full) return b.ptr;
    dp_buf_release(&b);
    return NULL;
}

int dp_count_state_open(struct dp_count_state *s, const struct dp_count_options *o, struct dp_span split, struct dp_err *e)
{
    char name[48] = "resume";
    *s = (struct dp_count_state){.next = 1, .lock = -1};
    if (o->corpus.parts > 1) snprintf(name, sizeof name, "resume-%u-of-%u", o->corpus.part + 1, o->corpus.parts);
    s->dir = dp_fs_join(o->dir, name);
    s->options = say_options(o, split);
    if (!s->dir || !s->options) DP_FAIL(e, NOMEM, "the state of a count");
    if (o->corpus.parts > 1) return DP_OK;
    s->lock = open(o->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->lock < 0) DP_FAIL_SYS(e, "%s", o->dir);
    if (flock(s->lock, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) DP_FAIL(e, BUSY, "another process trains into %s: wait for it, or use another folder", o->dir);
    return DP_OK;
}

void dp_count_state_close(struct dp_count_state *s)
{
    if (s->lock >= 0) close(s->lock);
    free(s->dir);
    free(s->options);
    free(s->file);
    *s = (struct dp_count_state){.lock = -1};
}

static int add_file(struct dp_count_state *s, uint64_t number, int level, struct dp_err *e)
{
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 16;
        struct counts_file *v = realloc(s->file, cap * sizeof *v);
        if (!v) DP_FAIL(e, NOMEM, "the state of a count");
        s->file = v;
        s->cap = cap;
    }
    s->file[s->n++] = (struct counts_file){number, level};
    if (number >= s->next) s->next = number + 1;
    return DP_OK;
}

/* Files in the folder that the state doesn't name; with `all`, every one. */
static void sweep(const struct dp_count_state *s, bool all)
{
    DIR *d = opendir(s->dir);
    for (struct dirent *en; d && (en = readdir(d));) {
        unsigned long long number = 0;
        bool named = false;
        bool ours = sscanf(en->d_name, "counts-%llu.words", &number) == 1 || strncmp(en->d_name, "state.json", 10) == 0;
        for (size_t i = 0; i < s->n && !named; i++) named = s->file[i].number == number && !strstr(en->d_name, ".part");
        if (!ours || (!all && (named || strcmp(en->d_name, "state.json") == 0))) continue;
        char *path = path_of(s, en->d_name);
        if (path) unlink(path);
        free(path);
    }
    if (d) closedir(d);
}

void dp_count_state_remove(struct dp_count_state *s)
{
    s->n = 0;
    s->seconds = 0;
    s->words_cut = 0;
    sweep(s, true);
    rmdir(s->dir);
}

static int read_state(struct dp_count_state *s, const struct dp_json *root, struct dp_corpus *c, struct dp_domains *d, struct dp_err *e)
{
    const struct dp_json *files = dp_json_get(root, "counts");
    if (dp_json_int(dp_json_get(root, "version"), 0) != 1) DP_FAIL(e, CONFIG, "it is of another version of dpipe");
    struct dp_span was = dp_json_str(dp_json_get(root, "options"));
    if (!dp_span_is(was, s->options)) DP_FAIL(e, CONFIG, "it is of other options: %.*s", DP_SPAN_FMT(was));
    DP_TRY(dp_corpus_restore(c, dp_json_get(root, "files"), e));
    DP_TRY(dp_domains_restore(d, dp_json_get(root, "domains"), e));
    s->words_cut = (uint64_t)dp_json_int(dp_json_get(root, "words_cut"), 0);
    s->seconds = dp_json_real(dp_json_get(root, "seconds"), 0);
    for (size_t i = 0; i < dp_json_count(files); i++) {
        const struct dp_json *f = dp_json_at(files, i);
        DP_TRY(add_file(s, (uint64_t)dp_json_int(dp_json_get(f, "number"), 0), (int)dp_json_int(dp_json_get(f, "level"), 0), e));
    }
    return DP_OK;
}

int dp_count_state_load(struct dp_count_state *s, struct dp_corpus *c, struct dp_domains *d, struct dp_err *e)
{
    struct dp_json *root = NULL;
    char *path = path_of(s, "state.json");
    if (!path) DP_FAIL(e, NOMEM, "the state of a count");
    int rc = dp_fs_exists(path) ? dp_json_parse_file(&root, path, STATE_BYTES_MAX, e) : DP_EMPTY;
    if (rc == DP_OK) rc = read_state(s, root, c, d, e);
    if (rc < 0) dp_err_prefix(e, "%s: can't go on from it", path);
    if (rc == DP_OK) sweep(s, false);
    dp_json_free(root);
    free(path);
    return rc;
}

static int write_state(struct dp_count_state *s, const struct dp_corpus *c, const struct dp_domains *d, struct dp_err *e)
{
    struct dp_buf b;
    struct dp_jsonw w;
    char *path = path_of(s, "state.json");
    dp_buf_init(&b, STATE_BYTES_MAX);
    dp_jsonw_init(&w, &b, 0);
    dp_jsonw_begin(&w, '{');
    dp_jsonw_key(&w, "version");
    dp_jsonw_uint(&w, 1);
    dp_jsonw_key(&w, "options");
    dp_jsonw_cstr(&w, s->options);
    dp_jsonw_key(&w, "seconds");
    dp_jsonw_real(&w, s->seconds);
    dp_jsonw_key(&w, "words_cut");
    dp_jsonw_uint(&w, s->words_cut);
    dp_jsonw_key(&w, "counts");
    dp_jsonw_begin(&w, '[');
    for (size_t i = 0; i < s->n; i++) {
        dp_jsonw_begin(&w, '{');
        dp_jsonw_key(&w, "number");
        dp_jsonw_uint(&w, s->file[i].number);
        dp_jsonw_key(&w, "level");
        dp_jsonw_int(&w, s->file[i].level);
        dp_jsonw_end(&w, '}');
    }
    dp_jsonw_end(&w, ']');
    dp_jsonw_key(&w, "domains");
    dp_domains_json(d, true, &w);
    dp_jsonw_key(&w, "files");
    dp_corpus_save(c, &w);
    dp_jsonw_end(&w, '}');
    dp_buf_add_char(&b, '\n');
    int rc = path ? dp_buf_check(&b, "the state of a count", e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "the state of a count");
    if (rc >= 0) rc = dp_fs_write_atomic(path, dp_buf_span(&b), e);
    dp_buf_release(&b);
    free(path);
    return rc;
}

/* The last k counts files become one. */
static int merge_last(struct dp_count_state *s, size_t k, struct dp_err *e)
{
    char *from[FAN] = {NULL}, *to = counts_path(s, s->next);
    int rc = DP_OK, level = s->file[s->n - 1].level + 1;
    for (size_t i = 0; i < k; i++)
        if (!(from[i] = counts_path(s, s->file[s->n - k + i].number))) rc = DP_NOMEM;
    if (rc < 0 || !to) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "the state of a count");
    else rc = dp_wordfile_merge((const char *const *)from, k, to, e);
    if (rc >= 0) {
        s->n -= k;
        rc = add_file(s, s->next, level, e);
    }
    for (size_t i = 0; i < k; i++) free(from[i]);
    free(to);
    return rc;
}

int dp_count_state_save(struct dp_count_state *s, const struct dp_corpus *c, const struct dp_domains *d, struct dp_bpe_counter *counter, struct dp_err *e)
{
    DP_TRY(dp_fs_mkdirs(s->dir, e));
    char *path = counts_path(s, s->next);
    if (!path) DP_FAIL(e, NOMEM, "the state of a count");
    int rc = dp_wordfile_save(counter, path, false, e);
    free(path);
    DP_TRY(rc);
    DP_TRY(add_file(s, s->next, 0, e));
    while (s->n >= FAN && s->file[s->n - FAN].level == s->file[s->n - 1].level) DP_TRY(merge_last(s, FAN, e));
    DP_TRY(write_state(s, c, d, e));
    sweep(s, false);
    return DP_OK;
}

int dp_count_state_read(const struct dp_count_state *s, struct dp_bpe_counter *counter, struct dp_err *e)
{
    for (size_t i = 0; i < s->n; i++) {
        char *path = counts_path(s, s->file[i].number);
        if (!path) DP_FAIL(e, NOMEM, "the state of a count");
        int rc = dp_wordfile_count(counter, path, e);
        free(path);
        DP_TRY(rc);
    }
    return DP_OK;
}
