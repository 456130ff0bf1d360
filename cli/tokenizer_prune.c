/* tokenizer nest and prune: a smaller vocabulary out of a larger one. */
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/progress.h"
#include "cli/file_list.h"
#include "cli/text_input.h"
#include "cli/tokenizer_verbs.h"
#include "tokenizer/encode.h"
#include "tokenizer/vocab_change.h"

#include <stdlib.h>
#include <string.h>

static int save(const struct dp_tokenizer *t, bool tiktoken, const char *path, struct dp_err *e)
{
    struct dp_buf b;
    dp_buf_init(&b, (size_t)1 << 30);
    int rc = tiktoken ? dp_tokenizer_save_tiktoken(t, &b, e) : dp_tokenizer_save_hf(t, &b, e);
    if (rc >= 0) rc = dp_fs_write_atomic(path, dp_buf_span(&b), e);
    dp_buf_release(&b);
    return rc;
}

int dp_tokenizer_nest_file(struct dp_cli *c, const struct dp_tokenizer_args *o, const char **args, size_t n, struct dp_err *e)
{
    struct dp_tokenizer *t, *small = NULL;
    (void)c, (void)n;
    if (!o->output || !o->vocab_size) DP_FAIL(e, USAGE, "tokenizer nest: name --vocab-size N and -o FILE");
    DP_TRY(dp_tokenizer_load_file(&t, args[0], o->split, e));
    int rc = dp_tokenizer_nest(&small, t, (uint32_t)o->vocab_size, e);
    size_t len = strlen(o->output), tail = sizeof ".tiktoken" - 1;
    if (rc >= 0) rc = save(small, len > tail && strcmp(o->output + len - tail, ".tiktoken") == 0, o->output, e);
    if (rc >= 0) dp_log(INFO, "tokenizer", "%u of %u tokens, in %s", dp_tokenizer_tokens(small), dp_tokenizer_tokens(t), o->output);
    dp_tokenizer_free(small);
    dp_tokenizer_free(t);
    return rc;
}

/* Numbers of a file, whatever stands between them. */
struct numbers {
    const char *p, *end, *name;
};

static int next_number(struct numbers *f, uint64_t *v, struct dp_err *e)
{
    while (f->p < f->end && (*f->p < '0' || *f->p > '9')) {
        if (*f->p == '-' || *f->p == '.') DP_FAIL(e, CORRUPT, "%s: ids and counts have no sign and no fraction", f->name);
        f->p++;
    }
    if (f->p == f->end) return DP_EOF;
    for (*v = 0; f->p < f->end && *f->p >= '0' && *f->p <= '9'; f->p++) {
        if (*v > UINT64_MAX / 20) DP_FAIL(e, CORRUPT, "%s: a number of more than 18 digits", f->name);
        *v = *v * 10 + (uint64_t)(*f->p - '0');
    }
    return DP_OK;
}

/* Ids, each with a count behind it, or 1. */
static int read_numbers(const char *path, bool counted, uint64_t *counts, uint32_t size, struct dp_err *e)
{
    struct dp_buf b;
    uint64_t id, n = 1;
    dp_buf_init(&b, (size_t)1 << 30);
    int rc = dp_fs_read(path, &b, e);
    struct numbers f = {b.ptr, b.ptr + b.len, path};
    while (rc >= 0 && (rc = next_number(&f, &id, e)) == DP_OK) {
        if (id >= size) DP_GOTO(e, CORRUPT, "%s: the id %llu; the tokenizer's are below %u", path, (unsigned long long)id, size);
        if (counted) DP_TRY_OUT(next_number(&f, &n, e));
        if (rc == DP_EOF) DP_GOTO(e, CORRUPT, "%s: the last id, %llu, has no count", path, (unsigned long long)id);
        counts[id] += n;
    }
out:
    dp_buf_release(&b);
    return rc < 0 ? rc : DP_OK;
}

struct usage {
    struct dp_encoder *encoder;
    struct dp_ids ids;
    uint64_t *counts;
};

static int count_text(void *ctx, struct dp_span text, struct dp_err *e)
{
    struct usage *u = ctx;
    u->ids.len = 0;
    DP_TRY(dp_encode(u->encoder, text, &u->ids, e));
    for (size_t i = 0; i < u->ids.len; i++) u->counts[u->ids.ptr[i]]++;
    dp_progress_add(text.len, 0);
    return dp_progress_go_on(e);
}

static int count_files(const struct dp_tokenizer_args *o, const struct dp_tokenizer *t, const char **paths, size_t n, uint64_t *counts, struct dp_err *e)
{
    struct usage u = {.counts = counts};
    struct dp_text_input in = {.whole_file = o->whole_file, .jsonl = o->jsonl, .field = o->field, .keep_newline = !o->jsonl};
    struct dp_file_list l;
    DP_TRY(dp_file_list_open(&l, paths, n, e));
    int rc = dp_encoder_open(&u.encoder, t, 0, DP_SPECIAL_NONE, e);
    dp_progress_begin("count", "B", 0);
    for (size_t i = 0; rc >= 0 && i < l.n; i++) rc = dp_text_input_each(&in, l.path[i], count_text, &u, e);
    dp_progress_end();
    dp_file_list_close(&l);
    dp_ids_release(&u.ids);
    dp_encoder_close(u.encoder);
    return rc < 0 ? rc : DP_OK;
}

static int write_buf(const char *dir, const char *name, struct dp_span content, struct dp_err *e)
{
    char *p = dp_fs_join(dir, name);
    if (!p) DP_FAIL(e, NOMEM, "%s", name);
    int rc = dp_fs_write_atomic(p, content, e);
    free(p);
    return rc;
}

/* id_map.json: {"old": ids of the old vocabulary, "new": of the new one, "map": [new id or -1 by old id]}; id_map.bin: the map, int32, little-endian. */
static int write_map(const char *dir, const struct dp_tokenizer *t, const struct dp_tokenizer *small, const int32_t *map, struct dp_err *e)
{
    struct dp_buf b, bin;
    struct dp_jsonw w;
    dp_buf_init(&b, (size_t)1 << 30);
    dp_buf_init(&bin, (size_t)1 << 30);
    dp_jsonw_init(&w, &b, 0);
    dp_jsonw_begin(&w, '{');
    dp_jsonw_key(&w, "old");
    dp_jsonw_uint(&w, dp_tokenizer_size(t));
    dp_jsonw_key(&w, "new");
    dp_jsonw_uint(&w, dp_tokenizer_size(small));
    dp_jsonw_key(&w, "map");
    dp_jsonw_begin(&w, '[');
    for (uint32_t i = 0; i < dp_tokenizer_size(t); i++) {
        uint32_t v = (uint32_t)map[i];
        char le[4] = {(char)v, (char)(v >> 8), (char)(v >> 16), (char)(v >> 24)};
        dp_jsonw_int(&w, map[i]);
        dp_buf_add(&bin, le, 4);
    }
    dp_jsonw_end(&w, ']');
    dp_jsonw_end(&w, '}');
    dp_buf_add_char(&b, '\n');
    int rc = dp_buf_check(&b, "id_map.json", e);
    if (rc >= 0) rc = dp_buf_check(&bin, "id_map.bin", e);
    if (rc >= 0) rc = write_buf(dir, "id_map.json", dp_buf_span(&b), e);
    if (rc >= 0) rc = write_buf(dir, "id_map.bin", dp_buf_span(&bin), e);
    dp_buf_release(&b);
    dp_buf_release(&bin);
    return rc;
}

static int prune(const struct dp_tokenizer_args *o, const struct dp_tokenizer *t, uint64_t *counts, const char **texts, size_t n, int32_t *map,
                 struct dp_tokenizer **small, struct dp_err *e)
{
    if (o->keep) {
        uint32_t size = dp_tokenizer_size(t);
        DP_TRY(read_numbers(o->keep, false, counts, size, e));
        uint8_t *keep = malloc((size_t)size + 1);
        if (!keep) DP_FAIL(e, NOMEM, "%u tokens to keep", size);
        for (uint32_t i = 0; i < size; i++) keep[i] = counts[i] > 0;
        int rc = dp_tokenizer_keep(small, t, keep, map, e);
        free(keep);
        return rc;
    }
    if (o->counts) DP_TRY(read_numbers(o->counts, true, counts, dp_tokenizer_size(t), e));
    else DP_TRY(count_files(o, t, texts, n, counts, e));
    return dp_tokenizer_prune(small, t, counts, (uint32_t)o->vocab_size, o->min_count ? (uint64_t)o->min_count : UINT64_MAX, map, e);
}

int dp_tokenizer_prune_file(struct dp_cli *c, const struct dp_tokenizer_args *o, const char **args, size_t n, struct dp_err *e)
{
    struct dp_tokenizer *t, *small = NULL;
    (void)c;
    if (!o->output) DP_FAIL(e, USAGE, "tokenizer prune: where to? add -o DIR");
    if ((o->keep != NULL) + (o->counts != NULL) + (n > 1) != 1)
        DP_FAIL(e, USAGE, "tokenizer prune: give one of --keep IDS, --counts FILE, and files of text to count in");
    if (!o->keep && !o->vocab_size && !o->min_count) DP_FAIL(e, USAGE, "tokenizer prune: how far? --vocab-size N or --min-count N");
    DP_TRY(dp_tokenizer_load_file(&t, args[0], o->split, e));
    size_t ids = (size_t)dp_tokenizer_size(t) + 1;
    uint64_t *counts = calloc(ids, sizeof *counts);
    int32_t *map = malloc(ids * sizeof *map);
    int rc = counts && map ? dp_fs_mkdirs(o->output, e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%zu ids", ids);
    if (rc >= 0) rc = prune(o, t, counts, args + 1, n - 1, map, &small, e);
    char *path = rc >= 0 ? dp_fs_join(o->output, "tokenizer.json") : NULL;
    if (rc >= 0) rc = path ? save(small, false, path, e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "tokenizer.json");
    if (rc >= 0) rc = write_map(o->output, t, small, map, e);
    if (rc >= 0) dp_log(INFO, "tokenizer", "%u of %u tokens, in %s", dp_tokenizer_tokens(small), dp_tokenizer_tokens(t), o->output);
    free(path);
    free(counts);
    free(map);
    dp_tokenizer_free(small);
    dp_tokenizer_free(t);
    return rc;
}
