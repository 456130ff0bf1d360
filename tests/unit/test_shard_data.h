/* Data sets for the tests of shards, manifests, exports and the feed: made from a seed, kept in
 * memory for comparison. */
#ifndef DP_TESTS_UNIT_TEST_SHARD_DATA_H
#define DP_TESTS_UNIT_TEST_SHARD_DATA_H

#include "base/fs.h"
#include "shards/manifest.h"
#include "tests/test.h"

#include <sys/stat.h>
#include <unistd.h>

struct data_doc {
    struct dp_hash128 id, content;
    uint32_t source;
    uint64_t first, n; /* in all; EOT counted */
};
struct data {
    char *dir, *path; /* of the manifest */
    struct dp_shard_meta meta;
    uint32_t *all; /* the whole stream */
    uint64_t tokens;
    struct data_doc *doc;
    size_t docs;
};

/* When set, data_make compresses the bodies. */
__attribute__((unused)) static const struct dp_shard_packing *data_packing;
/* The tokenizer's digest, when several data sets are to have the same; 0: from the seed. */
__attribute__((unused)) static uint64_t data_tokenizer;

/* `shards` shards of `per_shard` documents of 0 to max_len ids. Every 7th document repeats the
 * content hash of the one before it. */
__attribute__((unused)) static int data_make(struct data *d, uint32_t vocab, int64_t eot,
                                             int shards, int per_shard, uint32_t max_len,
                                             uint64_t seed, struct dp_err *e)
{
    memset(d, 0, sizeof *d);
    d->dir = dp_test_tmpdir();
    d->path = dp_fs_join(d->dir, "manifest.json");
    d->meta = (struct dp_shard_meta){.vocab_size = vocab, .eot = eot, .tokenizer = {data_tokenizer ? data_tokenizer : seed, 77}};
    d->all = malloc(((size_t)shards * (size_t)per_shard * (max_len + 1) + 1) * sizeof *d->all);
    d->doc = malloc(((size_t)shards * (size_t)per_shard + 1) * sizeof *d->doc);
    struct dp_manifest *m;
    DP_TRY(dp_manifest_new(&m, &d->meta, e));
    for (int s = 0; s < shards; s++) {
        char bin[32], dpx[32];
        snprintf(bin, sizeof bin, "part-%03d.bin", s);
        snprintf(dpx, sizeof dpx, "part-%03d.dpx", s);
        char *bin_path = dp_fs_join(d->dir, bin), *dpx_path = dp_fs_join(d->dir, dpx);
        struct dp_shard_writer *w;
        DP_TRY(dp_shard_writer_open_packed(&w, bin_path, dpx_path, &d->meta, data_packing, e));
        for (int k = 0; k < per_shard; k++) {
            struct data_doc *doc = &d->doc[d->docs];
            uint64_t n = dp_splitmix64(&seed) % (max_len + 1u);
            *doc = (struct data_doc){{d->docs, 5},
                                     {dp_splitmix64(&seed), 9},
                                     (uint32_t)(s * 10 + k % 3),
                                     d->tokens,
                                     n + (eot >= 0)};
            if (d->docs % 7 == 6) doc->content = doc[-1].content;
            uint32_t *ids = d->all + d->tokens;
            for (uint64_t i = 0; i < n; i++) ids[i] = (uint32_t)(dp_splitmix64(&seed) % vocab);
            DP_TRY(dp_shard_writer_add(w, doc->id, doc->content, doc->source, ids, (size_t)n, e));
            if (eot >= 0) ids[n] = (uint32_t)eot;
            d->tokens += doc->n;
            d->docs++;
        }
        struct dp_manifest_shard row = {.name = bin,
                                        .index = dpx,
                                        .tokens = dp_shard_writer_tokens(w),
                                        .documents = (uint64_t)per_shard};
        row.bytes = row.tokens * (uint64_t)dp_shard_dtype_of(vocab);
        DP_TRY(dp_shard_writer_finish(w, row.sha256, row.index_sha256, e));
        struct stat st;
        if (stat(bin_path, &st) != 0) abort();
        row.bytes = (uint64_t)st.st_size;
        row.packed = data_packing != NULL;
        DP_TRY(dp_manifest_add(m, &row, e));
        dp_shard_writer_close(w);
        free(bin_path);
        free(dpx_path);
    }
    DP_TRY(dp_manifest_write(m, d->path, e));
    dp_manifest_free(m);
    return DP_OK;
}

__attribute__((unused)) static void data_release(struct data *d)
{
    free(d->all);
    free(d->doc);
    free(d->path);
}

/* Flip bit `bit` of the file dir/name. */
__attribute__((unused)) static void data_flip(const char *dir, const char *name, uint64_t bit)
{
    char *p = dp_fs_join(dir, name);
    FILE *f = fopen(p, "r+b");
    if (!f || fseek(f, (long)(bit / 8), SEEK_SET) != 0) abort();
    int c = fgetc(f);
    fseek(f, (long)(bit / 8), SEEK_SET);
    fputc(c ^ 1 << bit % 8, f);
    fclose(f);
    free(p);
}

/* All bytes of dir/name, in a block of that size. */
__attribute__((unused)) static struct dp_span data_file(const char *dir, const char *name)
{
    char *p = dp_fs_join(dir, name);
    struct dp_buf b;
    dp_buf_init(&b, 1 << 28);
    if (dp_fs_read(p, &b, NULL) < 0) {
        dp_buf_release(&b);
        free(p);
        return (struct dp_span){NULL, 0};
    }
    free(p);
    char *exact = malloc(b.len ? b.len : 1);
    memcpy(exact, b.ptr, b.len);
    struct dp_span s = {exact, b.len};
    dp_buf_release(&b);
    return s;
}
static inline void data_free(struct dp_span s) { free((void *)(uintptr_t)s.ptr); }

#endif
