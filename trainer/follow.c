/* What ranks other than 0 do: open, step, evaluate and save as rank 0's trainers do. They look at no options, data or signals of their own. */
#include "trainer/parallel.h"

static int open_same(struct dp_trainer **t, struct dp_dist *d, struct dp_pool *pool, struct dp_err *e)
{
    struct dp_train_options o = {0};
    int64_t vocab = 0;
    int rc = dp_parallel_options(d, &o, &vocab, e);
    if (rc >= 0) rc = dp_trainer_open_ranks(t, &o, vocab, pool, d, e);
    dp_opt_release(dp_train_opts, &o);
    return rc;
}

int dp_trainer_follow(struct dp_dist *d, struct dp_pool *pool, struct dp_err *e)
{
    struct dp_trainer *t = NULL;
    for (int rc = DP_OK; rc >= 0;) {
        enum dp_parallel_order order = DP_PARALLEL_END;
        struct dp_step_result step;
        double loss;
        int64_t count;
        dp_parallel_order(d, &order);
        switch (order) {
            case DP_PARALLEL_OPEN: rc = open_same(&t, d, pool, e); break;
            case DP_PARALLEL_STEP: rc = dp_trainer_step(t, NULL, &step, e); break;
            case DP_PARALLEL_EVAL: rc = dp_trainer_eval(t, NULL, 0, &loss, &count, e); break;
            case DP_PARALLEL_SAVE: rc = dp_trainer_save(t, NULL, NULL, 0, e); break;
            case DP_PARALLEL_CLOSE:
                dp_trainer_close(t);
                t = NULL;
                break;
            case DP_PARALLEL_END: dp_trainer_close(t); return DP_OK;
        }
        if (rc == DP_CORRUPT) rc = DP_OK; /* a loss that isn't finite: rank 0 sees the same, and says what happens */
        if (rc < 0) {
            dp_trainer_close(t);
            return rc;
        }
    }
    return DP_OK;
}

void dp_trainer_dismiss(struct dp_dist *d)
{
    enum dp_parallel_order order = DP_PARALLEL_END;
    if (d && d->rank == 0) dp_parallel_order(d, &order);
}
