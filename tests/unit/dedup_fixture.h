/* What the dedup tests share: documents -> signature file -> dp_dedup_run -> keep file. */
#ifndef DP_TESTS_DEDUP_FIXTURE_H
#define DP_TESTS_DEDUP_FIXTURE_H

#include "base/fs.h"
#include "base/hash.h"
#include "dedup/dedup.h"
#include "dedup/keepfile.h"
#include "dedup/sigfile.h"
#include "tests/test.h"

#include <dirent.h>
#include <unistd.h>

struct fixture {
    char *dir, *tmp, *sig[8], *keep[8], *report;
    struct dp_sig_params params;
    struct dp_minhash mh;
    struct dp_minhash_scratch scratch;
    struct dp_out *out;
    struct dp_sigfile_writer *w;
    size_t files;
    size_t frozen; /* the first so many files were decided by an earlier run */
    struct dp_dedup_options o;
    struct dp_dedup_totals t;
};

__attribute__((unused)) static struct fixture *fixture_new(void)
{
    struct dp_err err = {0};
    struct fixture *f = calloc(1, sizeof *f);
    if (!f) abort();
    f->dir = strdup(dp_test_tmpdir());
    if (!f->dir) abort();
    f->tmp = dp_fs_join(f->dir, "tmp");
    f->report = dp_fs_join(f->dir, "report.jsonl");
    for (int i = 0; i < 8; i++) {
        char name[32];
        snprintf(name, sizeof name, "in%d.sig", i);
        f->sig[i] = dp_fs_join(f->dir, name);
        snprintf(name, sizeof name, "in%d.keep", i);
        f->keep[i] = dp_fs_join(f->dir, name);
    }
    f->params = (struct dp_sig_params){14, 8, 5, false, 1};
    if (dp_fs_mkdirs(f->tmp, &err) < 0 || dp_opt_defaults(dp_dedup_opts, &f->o, &err) < 0) abort();
    return f;
}

__attribute__((unused)) static void fixture_remove_outputs(struct fixture *f)
{
    for (size_t i = f->frozen; i < 8; i++) unlink(f->keep[i]);
    unlink(f->report);
}

__attribute__((unused)) static void fixture_free(struct fixture *f)
{
    f->frozen = 0;
    fixture_remove_outputs(f);
    for (int i = 0; i < 8; i++) {
        unlink(f->sig[i]);
        free(f->sig[i]);
        free(f->keep[i]);
    }
    CHECK_INT(rmdir(f->tmp), 0); /* so nothing was left there */
    CHECK_INT(rmdir(f->dir), 0);
    free(f->dir);
    free(f->tmp);
    free(f->report);
    free(f);
}

/* Begin the next signature file. */
__attribute__((unused)) static void fixture_begin(struct fixture *f)
{
    struct dp_err err = {0};
    unlink(f->sig[f->files]);
    CHECK_OK(dp_minhash_init(&f->mh, &f->params, &err));
    CHECK_OK(dp_out_open(&f->out, f->sig[f->files], false, &err));
    CHECK_OK(dp_sigfile_writer_open(&f->w, f->out, &f->params, &err));
}
__attribute__((unused)) static void fixture_record(struct fixture *f, const struct dp_sig_record *r)
{
    struct dp_err err = {0};
    CHECK_OK(dp_sigfile_writer_add(f->w, r, &err));
}
__attribute__((unused)) static void fixture_text(struct fixture *f, struct dp_span text, float score)
{
    uint32_t slots[DP_MINHASH_SLOTS_MAX];
    struct dp_sig_record r = {.hash = dp_hash128(text.ptr, text.len), .length = (uint32_t)text.len, .score = score};
    if (dp_minhash_text(&f->mh, &f->scratch, text, slots)) r.slots = slots;
    fixture_record(f, &r);
}
__attribute__((unused)) static void fixture_end(struct fixture *f)
{
    struct dp_err err = {0};
    CHECK_OK(dp_sigfile_writer_finish(f->w, &err));
    CHECK_OK(dp_out_finish(f->out, NULL, &err));
    dp_sigfile_writer_close(f->w);
    dp_out_close(f->out);
    f->files++;
}

__attribute__((unused)) static int fixture_run(struct fixture *f, int threads, struct dp_err *e)
{
    struct dp_pool *pool = NULL;
    fixture_remove_outputs(f);
    if (threads > 1 && dp_pool_open(&pool, threads, e) < 0) return -1;
    int rc = dp_dedup_append(&f->o, f->frozen, f->files, (const char *const *)f->sig, (const char *const *)f->keep, f->report, f->tmp, pool, &f->t, e);
    dp_pool_close(pool);
    return rc;
}

/* Record of a row of a keep file. */
__attribute__((unused)) static struct dp_keep_record fixture_get(struct fixture *f, size_t file, uint64_t row)
{
    struct dp_err err = {0};
    struct dp_keep_record r = {DP_KEEP_KEPT, -1, 0};
    struct dp_keepfile *k;
    int rc = dp_keepfile_open(&k, f->keep[file], &err);
    if (rc < 0) {
        DP_TEST_FAIL("%s", err.msg);
        return r;
    }
    CHECK_OK(dp_keepfile_get(k, row, &r, &err));
    dp_keepfile_close(k);
    return r;
}
/* All records of a file, malloc'ed. */
__attribute__((unused)) static struct dp_keep_record *fixture_all(struct fixture *f, size_t file, uint64_t *n)
{
    struct dp_err err = {0};
    struct dp_keepfile *k;
    *n = 0;
    if (dp_keepfile_open(&k, f->keep[file], &err) < 0) {
        DP_TEST_FAIL("%s", err.msg);
        return NULL;
    }
    *n = dp_keepfile_count(k);
    struct dp_keep_record *r = calloc(*n + 1, sizeof *r);
    if (!r) abort();
    for (uint64_t i = 0; i < *n; i++) CHECK_OK(dp_keepfile_get(k, i, &r[i], &err));
    dp_keepfile_close(k);
    return r;
}
/* The bytes of all keep files and the report, as one hash. */
__attribute__((unused)) static uint64_t fixture_digest(struct fixture *f)
{
    struct dp_err err = {0};
    struct dp_buf b;
    uint64_t h = 0;
    dp_buf_init(&b, 1 << 28);
    for (size_t i = 0; i <= f->files; i++) {
        CHECK_OK(dp_fs_read(i < f->files ? f->keep[i] : f->report, &b, &err));
        h = dp_hash64(b.ptr, b.len, h);
    }
    dp_buf_release(&b);
    return h;
}

#endif
