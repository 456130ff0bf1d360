/* Training by several ranks, here threads of this process (dist_local.c): the figures of one rank within fp32's rounding, the same bits
 * from run to run, checkpoints that any number of ranks goes on from, and errors that all ranks survive. */
#include "base/fs.h"
#include "base/hash.h"
#include "tests/test.h"
#include "tests/unit/trainer_data.h"
#include "trainer/ckpt.h"
#include "trainer/parallel.h"

#include <pthread.h>

enum { ROWS = 6, MOST = 4 };

static struct dp_train_options options(int arch)
{
    struct dp_train_options o = small_run(arch);
    o.layers = 3;
    o.accum = ROWS / 2;
    o.warmup = 0;
    o.lr = 0.5;
    o.eps = 1; /* an update nearly linear in the gradient, so that rounding stays rounding */
    o.clip = 0.3;
    return o;
}

static void batch_of(int64_t step, int32_t *ids)
{
    small_batch(step, ROWS, ids);
    for (int i = 0; i < WIDTH; i++)
        if (ids[i] >= 0) ids[i] = ~ids[i]; /* no loss here: a rank whose slice is the first row counts no target */
}

/* The same with documents that begin here and there. */
static void rows_of(const struct dp_train_options *o, int64_t step, int32_t *ids)
{
    batch_of(step, ids);
    for (int i = 5; o->documents != DP_DOCUMENTS_JOINED && i < ROWS * WIDTH; i += 7) ids[i] = ids[i] < 0 ? ~(~ids[i] | DP_TRAIN_FIRST) : ids[i] | DP_TRAIN_FIRST;
}

/* --- ranks on threads --- */

struct ranks {
    struct dp_dist *d[MOST];
    pthread_t thread[MOST];
    int world, failed[MOST];
    struct dp_pool *pool[MOST];
};

static void *follow(void *ctx)
{
    struct dp_dist *d = ((void **)ctx)[0];
    struct dp_err err = {0};
    struct dp_pool *pool = ((void **)ctx)[1];
    int *failed = ((void **)ctx)[2];
    *failed = dp_trainer_follow(d, pool, &err);
    if (*failed < 0) fprintf(stderr, "rank %d: %s\n", d->rank, err.msg);
    return NULL;
}

static void *contexts[MOST][3];

/* Threads for ranks 1...; rank 0 is the caller. */
static bool start(struct ranks *r, int world, int threads, uint64_t bucket)
{
    struct dp_err err = {0};
    *r = (struct ranks){.world = world};
    if (dp_dist_local_open(r->d, world, &err) < 0) return false;
    for (int i = 0; i < world; i++) {
        r->d[i]->bucket = bucket;
        if (dp_pool_open(&r->pool[i], threads, &err) < 0) return false;
        contexts[i][0] = r->d[i], contexts[i][1] = r->pool[i], contexts[i][2] = &r->failed[i];
        if (i && pthread_create(&r->thread[i], NULL, follow, contexts[i])) return false;
    }
    return true;
}

static void finish(struct ranks *r)
{
    dp_trainer_dismiss(r->d[0]);
    for (int i = 0; i < r->world; i++) {
        if (i) pthread_join(r->thread[i], NULL);
        CHECK_INT(r->failed[i], 0);
        dp_dist_close(r->d[i]);
        dp_pool_close(r->pool[i]);
    }
}

/* --- runs --- */

struct run {
    double loss[8], norm[8], rows[ROWS], eval;
    int64_t counted;
    uint64_t hash; /* of the checkpoint */
    float *p, *m;  /* of it */
    uint64_t floats;
};

static uint64_t file_hash(const char *path)
{
    struct dp_err err = {0};
    struct dp_map map;
    if (dp_map_open(&map, path, &err) < 0) return 0;
    uint64_t h = dp_hash64(map.ptr, map.len, 0);
    dp_map_close(&map);
    return h;
}

/* Steps from `from`'s checkpoint (NULL: none) to `to`; world 0: a trainer without ranks. */
static bool train(struct run *out, const struct dp_train_options *o, int world, int threads, const char *from, int64_t to, const char *save)
{
    struct dp_err err = {0};
    struct ranks r;
    struct dp_trainer *t;
    struct dp_step_result s;
    int32_t ids[ROWS * WIDTH];
    int bad = dp_test_bad;
    *out = (struct run){0};
    if (world && !start(&r, world, threads, 3000)) return false;
    CHECK_OK(dp_trainer_open_ranks(&t, o, VOCAB, world ? r.pool[0] : NULL, world ? r.d[0] : NULL, &err));
    if (from) CHECK_OK(dp_trainer_load(t, from, &err));
    while (dp_test_bad == bad && dp_trainer_steps_done(t) < to) {
        int64_t step = dp_trainer_steps_done(t);
        rows_of(o, step, ids);
        CHECK_OK(dp_trainer_step(t, ids, &s, &err));
        out->loss[step] = s.loss;
        out->norm[step] = s.norm;
        memcpy(out->rows, dp_trainer_row_losses(t), sizeof out->rows);
    }
    rows_of(o, 99, ids);
    CHECK_OK(dp_trainer_eval(t, ids, 5, &out->eval, &out->counted, &err));
    CHECK_OK(dp_trainer_save(t, save, NULL, 0, &err));
    CHECK(dp_trainer_save(t, save, NULL, 0, &err) < 0); /* it is there: the others hear nothing of it, and go on */
    CHECK_OK(dp_trainer_eval(t, ids, 5, &out->eval, &out->counted, &err));
    out->floats = dp_trainer_model(t)->layout.floats;
    out->p = calloc(out->floats, sizeof *out->p);
    memcpy(out->p, dp_trainer_model(t)->p, out->floats * sizeof *out->p);
    dp_trainer_close(t);
    if (world) finish(&r);
    out->hash = file_hash(save);
    return dp_test_bad == bad;
}

static double farthest(const struct run *a, const struct run *b)
{
    double most = 0;
    for (uint64_t i = 0; i < a->floats; i++) most = fmax(most, fabs((double)a->p[i] - (double)b->p[i]));
    return most;
}

TEST(ranks_do_what_one_does)
{
    for (int kind = 0; kind < 4; kind++) {
        struct dp_train_options o = options(kind % 2 ? DP_ARCH_LLAMA : DP_ARCH_GPT2);
        double bound = kind == 2 ? 2e-5 : 2e-6; /* Muon makes all directions of a matrix equally long, the weak ones too */
        o.optimizer = kind == 2; /* enum dp_optimizer */
        if (kind == 3) { /* dropout's numbers are the sequences', whichever rank has them */
            o.documents = DP_DOCUMENTS_RESTARTED;
            o.dropout_embed = o.dropout_residual = 0.2;
            o.z_loss = 1e-3;
            o.qk_norm = true;
            o.mup_base_dim = 12;
            o.seed = 7;
        }
        struct run one, many, again;
        char *dir = dp_test_tmpdir(), *path = dp_fs_join(dir, "one");
        REQUIRE(train(&one, &o, 0, 1, NULL, 5, path));
        for (int world = 1; world <= MOST; world++) {
            char name[24];
            snprintf(name, sizeof name, "ranks%d", world);
            char *a = dp_fs_join(dir, name), *b = dp_fs_join(dir, "again");
            REQUIRE(train(&many, &o, world, 1, NULL, 5, a));
            for (int i = 0; i < 5; i++) {
                CHECK_NEAR(many.loss[i], one.loss[i], bound);
                CHECK_NEAR(many.norm[i], one.norm[i], bound);
            }
            for (int i = 1; i < ROWS; i++) CHECK_NEAR(many.rows[i], one.rows[i], bound);
            CHECK(isnan(many.rows[0]) && isnan(one.rows[0]));
            CHECK_NEAR(many.eval, one.eval, 80 * bound); /* a sum over 80 tokens */
            CHECK_INT(many.counted, one.counted);
            CHECK(farthest(&one, &many) < bound);
            if (world == 1) CHECK(many.hash == one.hash);
            REQUIRE(train(&again, &o, world, 2, NULL, 5, b)); /* the same bits, on more threads and in another rhythm */
            CHECK(again.hash == many.hash && many.hash);
            CHECK(again.loss[4] == many.loss[4] && again.norm[4] == many.norm[4] && again.eval == many.eval);
            remove(b);
            free(many.p), free(again.p), free(a), free(b);
        }
        free(one.p), free(path);
    }
}

TEST(a_checkpoint_loads_on_another_number_of_ranks)
{
    struct dp_train_options o = options(DP_ARCH_GPT2);
    struct run whole, a, b, c;
    char *dir = dp_test_tmpdir(), *w = dp_fs_join(dir, "whole"), *two = dp_fs_join(dir, "two"), *one = dp_fs_join(dir, "alone"), *three = dp_fs_join(dir, "three"),
         *same = dp_fs_join(dir, "same"), *copy = dp_fs_join(dir, "copy");
    REQUIRE(train(&whole, &o, 2, 1, NULL, 6, w));
    REQUIRE(train(&a, &o, 2, 1, NULL, 2, two));
    REQUIRE(train(&b, &o, 0, 1, two, 4, one));
    REQUIRE(train(&c, &o, 3, 1, one, 6, three));
    for (int i = 0; i < 2; i++) CHECK_NEAR(c.loss[4 + i], whole.loss[4 + i], 4e-6);
    CHECK(farthest(&whole, &c) < 4e-6);
    free(a.p), free(b.p), free(c.p);
    REQUIRE(train(&a, &o, 2, 1, two, 6, same)); /* with as many ranks, the bits */
    CHECK(a.hash == whole.hash);
    CHECK(a.loss[5] == whole.loss[5]);
    REQUIRE(train(&b, &o, 3, 1, two, 2, copy)); /* moments went to their owners and came back */
    CHECK(b.hash == file_hash(two) && b.hash);
    free(a.p), free(b.p), free(whole.p);
    free(w), free(two), free(one), free(three), free(same), free(copy);
}

/* A rank that opens as it is told, and says what it was told. */
static void *hear(void *ctx)
{
    struct dp_dist *d = ((void **)ctx)[0];
    struct dp_train_options *o = ((void **)ctx)[1];
    struct dp_err err = {0};
    enum dp_parallel_order order = DP_PARALLEL_END;
    dp_parallel_order(d, &order);
    CHECK_INT(order, DP_PARALLEL_OPEN);
    CHECK_OK(dp_parallel_options(d, o, ((void **)ctx)[2], &err));
    dp_parallel_order(d, &order);
    CHECK_INT(order, DP_PARALLEL_CLOSE);
    return NULL;
}

TEST(weights_to_begin_with_are_rank_0s_alone)
{
    struct dp_train_options made = options(DP_ARCH_LLAMA), o = options(DP_ARCH_GPT2), told = {0};
    struct run first, one, two;
    char *dir = dp_test_tmpdir(), *from = dp_fs_join(dir, "from"), *a = dp_fs_join(dir, "a"), *b = dp_fs_join(dir, "b");
    made.head_dim = 8;
    made.qk_norm = true;
    REQUIRE(train(&first, &made, 0, 1, NULL, 1, from));
    o.init_from = from; /* the shape is there, not in o */
    REQUIRE(train(&one, &o, 0, 1, NULL, 3, a));
    REQUIRE(train(&two, &o, 2, 1, NULL, 3, b));
    for (int i = 0; i < 3; i++) CHECK_NEAR(two.loss[i], one.loss[i], 2e-6);
    CHECK(farthest(&one, &two) < 2e-6);
    struct dp_dist *d[2];
    struct dp_err err = {0};
    struct dp_trainer *t;
    pthread_t thread;
    int64_t vocab = 0;
    void *ctx[3] = {NULL, &told, &vocab};
    REQUIRE_OK(dp_dist_local_open(d, 2, &err));
    ctx[0] = d[1];
    REQUIRE(!pthread_create(&thread, NULL, hear, ctx));
    REQUIRE_OK(dp_trainer_open_ranks(&t, &o, VOCAB - 1, NULL, d[0], &err));
    struct dp_model_config said = dp_trainer_model(t)->c;
    dp_trainer_close(t);
    pthread_join(thread, NULL);
    CHECK(!told.init_from); /* its file need not be on other machines */
    CHECK_INT(vocab, VOCAB);
    struct dp_model_config c = dp_train_config(&told, vocab);
    CHECK(c.arch == said.arch && c.layers == said.layers && c.dim == said.dim && c.heads == said.heads && c.kv_heads == said.kv_heads && c.ffn == said.ffn);
    CHECK(c.tied == said.tied && c.qk_norm && c.head_dim == 8 && c.dtype == said.dtype && c.seq_len == said.seq_len);
    CHECK(dp_model_norm_eps(&c) == dp_model_norm_eps(&said) && dp_model_rope_theta(&c) == dp_model_rope_theta(&said));
    dp_opt_release(dp_train_opts, &told);
    dp_dist_close(d[0]), dp_dist_close(d[1]);
    free(first.p), free(one.p), free(two.p), free(from), free(a), free(b);
}

TEST(what_goes_wrong_goes_wrong_everywhere)
{
    struct dp_train_options o = options(DP_ARCH_LLAMA);
    struct dp_err err = {0};
    struct ranks r;
    struct dp_trainer *t;
    struct dp_step_result s;
    int32_t ids[ROWS * WIDTH];
    REQUIRE(start(&r, 3, 1, 0));
    o.accum = 1;
    CHECK_INT(dp_trainer_open_ranks(&t, &o, VOCAB, NULL, r.d[0], &err), DP_CONFIG); /* two rows for three ranks */
    CHECK(strstr(err.msg, "ranks"));
    o = options(DP_ARCH_LLAMA);
    REQUIRE_OK(dp_trainer_open_ranks(&t, &o, VOCAB, NULL, r.d[0], &err));
    batch_of(0, ids);
    ids[40] = VOCAB;
    CHECK_INT(dp_trainer_step(t, ids, &s, &err), DP_CORRUPT);
    batch_of(0, ids);
    float keep = dp_trainer_model(t)->p[5];
    dp_trainer_model(t)->p[5] = NAN; /* comes to the others before the step */
    CHECK_INT(dp_trainer_step(t, ids, &s, &err), DP_CORRUPT);
    CHECK(strstr(err.msg, "diverged"));
    CHECK_INT(dp_trainer_steps_done(t), 0);
    dp_trainer_close(t);
    REQUIRE_OK(dp_trainer_open_ranks(&t, &o, VOCAB, NULL, r.d[0], &err)); /* and once more, as a sweep does */
    CHECK(dp_trainer_model(t)->p[5] == keep);
    CHECK_OK(dp_trainer_step(t, ids, &s, &err));
    dp_trainer_close(t);
    finish(&r);
}

TEST(moments_of_others_take_no_memory)
{
    struct dp_err err = {0};
    struct dp_dist *d[2];
    struct dp_model *m;
    struct dp_optim optim;
    struct dp_parallel *p;
    int64_t step = 0;
    uint64_t seed = 1, mine = 0, others = 0;
    struct dp_model_config c = {.arch = DP_ARCH_GPT2, .layers = 2, .dim = 256, .heads = 4, .kv_heads = 4, .ffn = 1024, .seq_len = 8, .vocab = 512, .tied = true};
    REQUIRE_OK(dp_dist_local_open(d, 2, &err));
    REQUIRE_OK(dp_model_open(&m, &c, 1, true, NULL, &err));
    REQUIRE_OK(dp_optim_open(&optim, &m->layout, &err));
    for (uint64_t i = 0; i < m->layout.floats; i++) optim.m[i] = 1;
    REQUIRE_OK(dp_parallel_open(&p, d[1], m, &optim, &step, &seed, &err));
    for (size_t i = 0; i < optim.count; i++) *(optim.tiles[i].other ? &others : &mine) += (uint64_t)optim.tiles[i].n;
    CHECK(mine * 10 > others * 8 && others * 10 > mine * 8); /* halves, about */
    uint64_t gone = 0;
    for (size_t i = 0; i < optim.count; i++)
        for (int64_t k = 0; k < optim.tiles[i].n; k++) {
            float x = optim.m[optim.tiles[i].offset + (uint64_t)k];
            gone += x == 0;
            if (!optim.tiles[i].other) CHECK(x == 1);
        }
    CHECK(gone > others * 9 / 10);
    dp_parallel_close(p);
    dp_optim_close(&optim);
    dp_model_close(m);
    dp_dist_close(d[0]), dp_dist_close(d[1]);
}
