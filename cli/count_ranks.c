#include "cli/count_ranks.h"

#include "base/fs.h"
#include "tokenizer/wordfile.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { TABLE_BYTES_MAX = 16 << 20 };

static int send_counts(struct dp_count_result *r, const struct dp_ranks *k, int to, const char *path, struct dp_err *e)
{
    struct dp_buf b;
    struct dp_jsonw w;
    dp_buf_init(&b, TABLE_BYTES_MAX);
    dp_jsonw_init(&w, &b, 0);
    dp_jsonw_begin(&w, '{');
    dp_jsonw_key(&w, "files");
    dp_jsonw_uint(&w, r->files);
    dp_jsonw_key(&w, "words_cut");
    dp_jsonw_uint(&w, r->words_cut);
    dp_jsonw_key(&w, "domains");
    dp_domains_json(&r->domains, true, &w);
    dp_jsonw_end(&w, '}');
    int rc = dp_buf_check(&b, "a table of domains", e);
    if (rc >= 0) rc = dp_ranks_send(k, to, dp_buf_span(&b), e);
    dp_buf_release(&b);
    if (rc >= 0) rc = dp_wordfile_save(r->counter, path, false, e);
    if (rc >= 0) rc = dp_ranks_send_file(k, to, path, e);
    dp_bpe_counter_close(r->counter);
    r->counter = NULL;
    return rc;
}

static int add_table(struct dp_count_result *r, struct dp_span text, struct dp_err *e)
{
    struct dp_json *root;
    struct dp_domains d = {0};
    DP_TRY(dp_json_parse(&root, text, "another rank's domains", e));
    int rc = dp_domains_restore(&d, dp_json_get(root, "domains"), e);
    if (rc >= 0) rc = dp_domains_add(&r->domains, &d, e);
    for (size_t i = 0; rc >= 0 && i < d.n; i++) {
        r->texts += d.v[i].taken_texts;
        r->bytes += d.v[i].taken_bytes;
    }
    r->words_cut += (uint64_t)dp_json_int(dp_json_get(root, "words_cut"), 0);
    r->files += (size_t)dp_json_int(dp_json_get(root, "files"), 0);
    dp_domains_release(&d);
    dp_json_free(root);
    return rc;
}

static int receive_counts(struct dp_count_result *r, const struct dp_ranks *k, int from, const char *path, struct dp_err *e)
{
    struct dp_buf b;
    dp_buf_init(&b, TABLE_BYTES_MAX);
    int rc = dp_ranks_receive(k, from, &b, e);
    if (rc >= 0) rc = add_table(r, dp_buf_span(&b), e);
    dp_buf_release(&b);
    if (rc >= 0) rc = dp_ranks_receive_file(k, from, path, e);
    return rc >= 0 ? dp_wordfile_count(r->counter, path, e) : rc;
}

int dp_count_reduce(struct dp_count_result *r, const struct dp_count_options *o, const struct dp_ranks *k, int rc, struct dp_err *e)
{
    char name[48];
    DP_TRY(dp_ranks_agree(k, rc, e));
    if (k->size == 1) return rc;
    snprintf(name, sizeof name, "reduce-%d.words", k->rank);
    char *path = dp_fs_join(o->dir, name);
    if (!path) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "counts of other ranks");
    for (int step = 1; rc >= 0 && step < k->size; step *= 2) {
        if (k->rank & step) {
            rc = send_counts(r, k, k->rank - step, path, e);
            break;
        }
        if (k->rank + step < k->size) rc = receive_counts(r, k, k->rank + step, path, e);
    }
    if (path) unlink(path);
    free(path);
    if (rc < 0) dp_ranks_abort(k, e, dp_code_exit(rc));
    dp_domains_sort(&r->domains);
    return rc;
}
