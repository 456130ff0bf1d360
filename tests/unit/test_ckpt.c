/* Training through checkpoints: N steps equal k + resume bit for bit, and every kind of bad
 * checkpoint or batch is refused with the file's name and leaves the trainer as it was. */
#include "base/buf.h"
#include "base/fs.h"
#include "base/hash.h"
#include "tests/test.h"
#include "tests/unit/trainer_data.h"
#include "trainer/ckpt.h"
#include "trainer/optim.h"
#include "trainer/lr_schedule.h"
#include "trainer/train.h"

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

enum { ROWS = 4 };

static void batch_of(int64_t step, int32_t *ids)
{
    small_batch(step, ROWS, ids);
}

/* The same with documents, where the trainer wants to know. */
static void documents_of(int64_t step, int32_t *ids)
{
    batch_of(step, ids);
    for (int i = 0; i < ROWS * WIDTH; i++)
        if (i % 7 == 2) ids[i] = ids[i] < 0 ? ~(~ids[i] | DP_TRAIN_FIRST) : ids[i] | DP_TRAIN_FIRST;
}

static int train(struct dp_trainer *t, int64_t to, struct dp_step_result *r, struct dp_err *e)
{
    int32_t ids[ROWS * WIDTH];
    while (dp_trainer_steps_done(t) < to) {
        if (dp_trainer_model(t)->positions) documents_of(dp_trainer_steps_done(t), ids);
        else batch_of(dp_trainer_steps_done(t), ids);
        DP_TRY(dp_trainer_step(t, ids, r, e));
    }
    return DP_OK;
}

static uint64_t file_hash(const char *path)
{
    struct dp_err err = {0};
    struct dp_map map;
    if (dp_map_open(&map, path, &err) < 0) return 0;
    uint64_t h = dp_hash64(map.ptr, map.len, 0);
    dp_map_close(&map);
    return h;
}

TEST(steps_equal_steps_and_resume)
{
    for (int variant = 0; variant < 4; variant++) {
        struct dp_err err = {0};
        struct dp_train_options o = small_run(variant % 2);
        if (variant >= 2) {
            o.dropout_embed = 0.1, o.dropout_residual = 0.2, o.z_loss = 1e-3, o.qk_norm = true;
            o.documents = DP_DOCUMENTS_RESTARTED, o.mup_base_dim = 12, o.init = DP_INIT_NORMAL;
        }
        struct dp_step_result a = {0}, b = {0};
        struct dp_trainer *t;
        char *dir = dp_test_tmpdir(), *whole = dp_fs_join(dir, "whole"),
             *part = dp_fs_join(dir, "part"), *again = dp_fs_join(dir, "again");
        REQUIRE_OK(dp_trainer_open(&t, &o, VOCAB, NULL, &err));
        REQUIRE_OK(train(t, 9, &a, &err));
        REQUIRE_OK(dp_trainer_save(t, whole, NULL, 0, &err));
        dp_trainer_close(t);

        struct dp_pool *pool;
        REQUIRE_OK(dp_pool_open(&pool, 2, &err));
        REQUIRE_OK(dp_trainer_open(&t, &o, VOCAB, NULL, &err));
        REQUIRE_OK(train(t, 4, &b, &err));
        const struct dp_safetensors_kv extra[] = {{"feed_sample", "16"}, {"manifest", "abc"}};
        REQUIRE_OK(dp_trainer_save(t, part, extra, 2, &err));
        dp_trainer_close(t);
        o.seed = 77; /* the checkpoint's weights and seed replace it */
        REQUIRE_OK(dp_trainer_open(&t, &o, VOCAB, pool, &err));
        REQUIRE_OK(dp_trainer_load(t, part, &err));
        CHECK_INT(dp_trainer_steps_done(t), 4);
        REQUIRE_OK(train(t, 9, &b, &err));
        REQUIRE_OK(dp_trainer_save(t, again, NULL, 0, &err));
        dp_trainer_close(t);
        dp_pool_close(pool);
        CHECK(file_hash(whole) == file_hash(again) && file_hash(whole) != 0);
        CHECK(a.loss == b.loss && a.norm == b.norm && a.lr == b.lr);

        struct dp_ckpt *c;
        REQUIRE_OK(dp_ckpt_open(&c, part, &err));
        CHECK_SPAN(dp_ckpt_meta(c, "feed_sample"), "16");
        CHECK_INT(dp_ckpt_step(c), 4);
        CHECK_INT(dp_ckpt_seed(c), 1);
        dp_ckpt_close(c);
        free(whole), free(part), free(again);
    }
}

/* What trained a model: dropout's numbers go by the checkpoint's seed and step, whatever the batch. */
TEST(dropout_is_of_the_seed_and_the_sequence)
{
    struct dp_err err = {0};
    struct dp_step_result r[3] = {0};
    for (int i = 0; i < 3; i++) {
        struct dp_train_options o = small_run(DP_ARCH_GPT2);
        struct dp_trainer *t;
        int32_t ids[ROWS * WIDTH];
        o.dropout_residual = 0.3;
        if (i) o.batch = ROWS, o.accum = 1; /* the same rows in one pass */
        REQUIRE_OK(dp_trainer_open(&t, &o, VOCAB, NULL, &err));
        if (i == 2) dp_trainer_model(t)->regime.seed++;
        batch_of(0, ids);
        REQUIRE_OK(dp_trainer_step(t, ids, &r[i], &err));
        dp_trainer_close(t);
    }
    CHECK_NEAR(r[0].loss, r[1].loss, 1e-9);
    CHECK(fabs(r[0].loss - r[2].loss) > 1e-6);
}

TEST(rows_with_documents)
{
    struct dp_err err = {0};
    struct dp_train_options o = small_run(DP_ARCH_LLAMA);
    struct dp_trainer *t;
    int32_t ids[WIDTH], positions[WIDTH - 1];
    uint8_t mask[WIDTH - 1];
    double a, b;
    int64_t count;
    for (int i = 0; i < WIDTH; i++) ids[i] = i == 3 ? ~7 : 10 + i;
    for (int i = 0; i < WIDTH - 1; i++) positions[i] = i < 5 ? i : i - 5, mask[i] = i != 4 && i != 9;
    dp_train_mark(ids, WIDTH - 1, positions, mask);
    for (int i = 0; i < WIDTH; i++) {
        int32_t token = i == 3 ? 7 : 10 + i;
        if (i == 5) token |= DP_TRAIN_FIRST;
        CHECK_INT(ids[i], i == 3 || i == 5 || i == 10 ? ~token : token);
    }
    REQUIRE_OK(dp_trainer_open(&t, &o, VOCAB, NULL, &err));
    CHECK_INT(dp_trainer_eval(t, ids, 1, &a, &count, &err), DP_CORRUPT); /* joined: no such token */
    dp_trainer_close(t);
    o.documents = DP_DOCUMENTS_MASKED;
    REQUIRE_OK(dp_trainer_open(&t, &o, VOCAB, NULL, &err));
    for (int i = 1; i < 5; i++) ids[i] = ids[i] < 0 ? ids[i] : ~ids[i]; /* the second document's loss alone */
    REQUIRE_OK(dp_trainer_eval(t, ids, 1, &a, &count, &err));
    CHECK_INT(count, WIDTH - 1 - 6);
    ids[2] = ~1;
    REQUIRE_OK(dp_trainer_eval(t, ids, 1, &b, &count, &err));
    CHECK(a == b);
    ids[6] ^= 1;
    REQUIRE_OK(dp_trainer_eval(t, ids, 1, &b, &count, &err));
    CHECK(a != b);
    ids[7] = VOCAB | DP_TRAIN_FIRST;
    CHECK_INT(dp_trainer_eval(t, ids, 1, &b, &count, &err), DP_CORRUPT);
    CHECK(strstr(err.msg, "position 7") != NULL);
    dp_trainer_close(t);
}

TEST(training_learns)
{
    struct dp_err err = {0};
    struct dp_train_options o = small_run(DP_ARCH_GPT2);
    struct dp_trainer *t;
    struct dp_step_result r;
    int32_t ids[ROWS * WIDTH];
    double first = 0, sum;
    int64_t count;
    o.steps = 60;
    o.lr = 1e-2;
    REQUIRE_OK(dp_trainer_open(&t, &o, VOCAB, NULL, &err));
    batch_of(0, ids);
    for (int i = 0; i < 60; i++) {
        REQUIRE_OK(dp_trainer_step(t, ids, &r, &err));
        if (i == 0) first = r.loss;
    }
    CHECK_NEAR(first, log(VOCAB), 0.1);
    CHECK(r.loss < 0.5);
    CHECK_INT(r.step, 60);
    REQUIRE_OK(dp_trainer_eval(t, ids, 3, &sum, &count, &err)); /* not a multiple of the batch */
    CHECK(sum / (double)count < 0.5);
    int64_t want = 0;
    for (int i = 0; i < 3 * WIDTH; i++) want += i % WIDTH && ids[i] >= 0;
    CHECK_INT(count, want);
    dp_trainer_close(t);
}

/* Muon, and updates left out because of spikes: their state is in the checkpoint. */
TEST(resume_with_muon_and_skipped_spikes)
{
    struct dp_err err = {0};
    struct dp_train_options o = small_run(DP_ARCH_GPT2);
    struct dp_step_result r = {0};
    struct dp_trainer *t;
    char *dir = dp_test_tmpdir(), *whole = dp_fs_join(dir, "mwhole"), *part = dp_fs_join(dir, "mpart"), *again = dp_fs_join(dir, "magain");
    o.optimizer = DP_MUON;
    o.schedule = DP_SCHEDULE_WSD;
    o.spike = 0.5; /* about every third batch of noise */
    o.spike_window = 16;
    o.spike_skip = true;
    o.steps = 40;
    int skipped = 0;
    REQUIRE_OK(dp_trainer_open(&t, &o, VOCAB, NULL, &err));
    while (dp_trainer_steps_done(t) < 40) {
        float before = dp_trainer_model(t)->p[5];
        REQUIRE_OK(train(t, dp_trainer_steps_done(t) + 1, &r, &err));
        CHECK((dp_trainer_model(t)->p[5] == before) == r.skipped);
        skipped += r.skipped;
        CHECK(isfinite(dp_trainer_row_losses(t)[ROWS - 1]));
        if (r.step == 25) REQUIRE_OK(dp_trainer_save(t, part, NULL, 0, &err));
    }
    CHECK(skipped > 1 && skipped < 24);
    REQUIRE_OK(dp_trainer_save(t, whole, NULL, 0, &err));
    dp_trainer_close(t);
    REQUIRE_OK(dp_trainer_open(&t, &o, VOCAB, NULL, &err));
    REQUIRE_OK(dp_trainer_load(t, part, &err));
    REQUIRE_OK(train(t, 40, &r, &err));
    REQUIRE_OK(dp_trainer_save(t, again, NULL, 0, &err));
    CHECK(file_hash(whole) == file_hash(again) && file_hash(whole) != 0);
    dp_trainer_close(t);
    free(whole), free(part), free(again);
}

TEST(bad_batches)
{
    struct dp_err err = {0};
    struct dp_train_options o = small_run(DP_ARCH_LLAMA);
    struct dp_trainer *t;
    struct dp_step_result r;
    int32_t ids[ROWS * WIDTH];
    REQUIRE_OK(dp_trainer_open(&t, &o, VOCAB, NULL, &err));
    batch_of(0, ids);
    ids[WIDTH + 3] = VOCAB;
    CHECK_INT(dp_trainer_step(t, ids, &r, &err), DP_CORRUPT);
    CHECK(strstr(err.msg, "row 1, position 3") != NULL);
    ids[WIDTH + 3] = INT32_MIN;
    CHECK_INT(dp_trainer_step(t, ids, &r, &err), DP_CORRUPT);
    for (int i = 0; i < ROWS * WIDTH; i++) ids[i] = ~1;
    CHECK_INT(dp_trainer_step(t, ids, &r, &err), DP_CORRUPT);
    batch_of(0, ids);
    struct dp_model *m = dp_trainer_model(t);
    float keep = m->p[m->layout.head], other = m->p[m->layout.head + 1];
    m->p[m->layout.head] = NAN;
    CHECK_INT(dp_trainer_step(t, ids, &r, &err), DP_CORRUPT);
    CHECK(strstr(err.msg, "diverged") != NULL);
    CHECK(m->p[m->layout.head + 1] == other);
    CHECK_INT(dp_trainer_steps_done(t), 0);
    m->p[m->layout.head] = keep;
    CHECK_OK(dp_trainer_step(t, ids, &r, &err));
    dp_trainer_close(t);
}

/* A copy of `from` with `flip` >= 0 changed, cut to `size` when not 0. */
static void damage(const char *from, const char *to, int64_t flip, size_t size)
{
    struct dp_err err = {0};
    struct dp_buf b;
    dp_buf_init(&b, 64 << 20);
    if (dp_fs_read(from, &b, &err) < 0) abort();
    if (flip >= 0) b.ptr[flip] ^= 4;
    if (dp_fs_write_atomic(to, dp_span(b.ptr, size ? size : b.len), &err) < 0) abort();
    dp_buf_release(&b);
}

TEST(bad_checkpoints)
{
    struct dp_err err = {0};
    struct dp_train_options o = small_run(DP_ARCH_GPT2);
    struct dp_trainer *t, *other;
    struct dp_step_result r;
    char *dir = dp_test_tmpdir(), *good = dp_fs_join(dir, "good"), *bad = dp_fs_join(dir, "bad"),
         *before = dp_fs_join(dir, "before"), *after = dp_fs_join(dir, "after");
    REQUIRE_OK(dp_trainer_open(&t, &o, VOCAB, NULL, &err));
    REQUIRE_OK(train(t, 2, &r, &err));
    REQUIRE_OK(dp_trainer_save(t, good, NULL, 0, &err));
    REQUIRE_OK(train(t, 3, &r, &err));
    REQUIRE_OK(dp_trainer_save(t, before, NULL, 0, &err));
    struct dp_map map;
    REQUIRE_OK(dp_map_open(&map, good, &err));
    size_t size = map.len;
    dp_map_close(&map);
    for (size_t cut = 1; cut < size; cut += size / 23) {
        damage(good, bad, -1, cut);
        CHECK_INT(dp_trainer_load(t, bad, &err), DP_CORRUPT);
        CHECK(strstr(err.msg, bad) != NULL);
    }
    damage(good, bad, (int64_t)size - 5, 0);
    CHECK_INT(dp_trainer_load(t, bad, &err), DP_CORRUPT);
    CHECK(strstr(err.msg, "earlier") != NULL);
    CHECK(dp_trainer_load(t, "/nonexistent/ckpt", &err) < 0);
    CHECK_INT(dp_trainer_load(t, "tests/data/trainer/gpt2.safetensors", &err), DP_CORRUPT);
    CHECK_INT(dp_trainer_steps_done(t), 3);
    REQUIRE_OK(dp_trainer_save(t, after, NULL, 0, &err)); /* nothing changed */
    CHECK(file_hash(before) == file_hash(after));
    o.dim = 32;
    REQUIRE_OK(dp_trainer_open(&other, &o, VOCAB, NULL, &err));
    CHECK_INT(dp_trainer_load(other, good, &err), DP_CONFIG);
    CHECK(strstr(err.msg, "dim") != NULL && strstr(err.msg, good) != NULL);
    dp_trainer_close(other);
    dp_trainer_close(t);
    free(good), free(bad), free(before), free(after);
}

TEST(what_the_model_is_stands_in_the_checkpoint)
{
    struct dp_err err = {0};
    struct dp_train_options plain = small_run(DP_ARCH_LLAMA), o = plain;
    struct dp_trainer *t, *other;
    struct dp_ckpt *c;
    char *dir = dp_test_tmpdir(), *path = dp_fs_join(dir, "qk"), *usual = dp_fs_join(dir, "usual");
    o.qk_norm = true, o.head_dim = 10, o.norm_eps = 3e-6, o.rope_theta = 123456.5;
    REQUIRE_OK(dp_trainer_open(&t, &o, VOCAB, NULL, &err));
    REQUIRE_OK(dp_trainer_save(t, path, NULL, 0, &err));
    REQUIRE_OK(dp_ckpt_open(&c, path, &err));
    const struct dp_model_config *m = dp_ckpt_config(c);
    CHECK(m->qk_norm && m->head_dim == 10 && m->norm_eps == 3e-6 && m->rope_theta == 123456.5);
    dp_ckpt_close(c);
    REQUIRE_OK(dp_trainer_open(&other, &o, VOCAB, NULL, &err));
    CHECK_OK(dp_trainer_load(other, path, &err));
    dp_trainer_close(other);
    for (int i = 0; i < 4; i++) {
        static const char *const names[] = {"qk_norm", "head_dim", "norm_eps", "rope_theta"};
        struct dp_train_options differs = o;
        if (i == 0) differs.qk_norm = false;
        if (i == 1) differs.head_dim = 8;
        if (i == 2) differs.norm_eps = 1e-5;
        if (i == 3) differs.rope_theta = 10000;
        REQUIRE_OK(dp_trainer_open(&other, &differs, VOCAB, NULL, &err));
        CHECK_INT(dp_trainer_load(other, path, &err), DP_CONFIG);
        CHECK(strstr(err.msg, names[i]) != NULL);
        dp_trainer_close(other);
    }
    dp_trainer_close(t);
    REQUIRE_OK(dp_trainer_open(&t, &plain, VOCAB, NULL, &err));
    REQUIRE_OK(dp_trainer_save(t, usual, NULL, 0, &err));
    REQUIRE_OK(dp_ckpt_open(&c, usual, &err));
    CHECK(!dp_ckpt_meta(c, "qk_norm").ptr && !dp_ckpt_meta(c, "norm_eps").ptr); /* as older versions wrote it */
    CHECK(dp_ckpt_config(c)->norm_eps == 1e-5 && dp_ckpt_config(c)->rope_theta == 10000);
    dp_ckpt_close(c);
    dp_trainer_close(t);
    free(path), free(usual);
}

TEST(full_disk_and_wrong_keys)
{
    struct dp_err err = {0};
    struct dp_train_options o = small_run(DP_ARCH_GPT2);
    struct dp_trainer *t;
    char *dir = dp_test_tmpdir(), *path = dp_fs_join(dir, "full");
    REQUIRE_OK(dp_trainer_open(&t, &o, VOCAB, NULL, &err));
    struct rlimit old, small;
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 20000;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    int rc = dp_trainer_save(t, path, NULL, 0, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    CHECK(rc < 0);
    CHECK(strstr(err.msg, "not saved") != NULL);
    CHECK(!dp_fs_exists(path));
    CHECK_INT(dp_trainer_save(t, path, &(struct dp_safetensors_kv){"step", "1"}, 1, &err),
              DP_USAGE);
    CHECK(!dp_fs_exists(path));
    CHECK_OK(dp_trainer_save(t, path, NULL, 0, &err));
    CHECK(dp_trainer_save(t, path, NULL, 0, &err) < 0); /* never over another */
    dp_trainer_close(t);
    free(path);
}

TEST(bad_options)
{
    struct dp_err err = {0};
    struct dp_trainer *t;
    struct dp_train_options o = small_run(DP_ARCH_GPT2), good = o;
    o.warmup = 21;
    CHECK_INT(dp_trainer_open(&t, &o, VOCAB, NULL, &err), DP_CONFIG);
    o = good, o.min_lr = 1;
    CHECK_INT(dp_trainer_open(&t, &o, VOCAB, NULL, &err), DP_CONFIG);
    o = good, o.heads = 7;
    CHECK_INT(dp_trainer_open(&t, &o, VOCAB, NULL, &err), DP_CONFIG);
    o = good, o.tied = o.untied = true;
    CHECK_INT(dp_trainer_open(&t, &o, VOCAB, NULL, &err), DP_CONFIG);
    o = good, o.dropout_embed = 1;
    CHECK_INT(dp_trainer_open(&t, &o, VOCAB, NULL, &err), DP_CONFIG);
    o = good, o.mup_base_head_dim = 3;
    CHECK_INT(dp_trainer_open(&t, &o, VOCAB, NULL, &err), DP_CONFIG);
    o = good, o.head_dim = -1;
    CHECK_INT(dp_trainer_open(&t, &o, VOCAB, NULL, &err), DP_CONFIG);
    o = good, o.decay_steps = 21;
    CHECK_INT(dp_trainer_open(&t, &o, VOCAB, NULL, &err), DP_CONFIG);
    o = good, o.lr_scale = (char[]){"nothing=1"};
    CHECK_INT(dp_trainer_open(&t, &o, VOCAB, NULL, &err), DP_CONFIG);
    o = good, o.beta2 = 1;
    CHECK_INT(dp_trainer_open(&t, &o, VOCAB, NULL, &err), DP_CONFIG);
    CHECK_INT(dp_trainer_open(&t, &good, 0, NULL, &err), DP_CONFIG);
}
