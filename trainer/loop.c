#include "trainer/loop.h"

#include "base/clock.h"
#include "base/cpu.h"
#include "base/json.h"
#include "base/log.h"
#include "base/progress.h"
#include "trainer/ckpt.h"
#include "trainer/eval.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORST_ROWS = 3, DOCUMENTS_A_ROW = 16, LINE_MAX_BYTES = 1 << 20 };

struct run {
    struct dp_loop *l;
    int32_t *ids;
    struct dp_buf line, documents;
};

void dp_loop_init(struct dp_loop *l)
{
    l->val_loss = l->bits_per_byte = l->best_val = l->loss = (double)NAN;
}

double dp_loop_peak(int threads, bool bf16)
{
    static double one[2];
    int cpus = dp_cpu_count();
    if (one[bf16] == 0) one[bf16] = dp_gemm_peak(dp_gemm_level(), bf16);
    return one[bf16] * (threads < cpus ? threads : cpus);
}

static uint64_t bytes_of(const struct dp_loop *l, const int32_t *ids, int64_t rows, int64_t width)
{
    int32_t marks = l->o->documents != DP_DOCUMENTS_JOINED ? DP_TRAIN_FIRST : 0;
    uint64_t bytes = 0;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 1; i < width; i++)
            if (ids[r * width + i] >= 0) bytes += l->token_bytes[ids[r * width + i] & ~marks];
    return bytes;
}

static int validate(struct dp_loop *l, int32_t *ids, struct dp_err *e)
{
    const struct dp_train_options *o = l->o;
    int64_t width = o->seq_len + 1;
    uint64_t rows = (uint64_t)(o->eval_batches * o->batch), have = dp_source_rows(l->val);
    struct dp_eval sums = {0};
    if (rows > have) rows = have;
    for (uint64_t at = 0; at < rows; at += (uint64_t)o->batch) {
        int64_t k = 0, targets;
        double loss;
        for (; k < o->batch && at + (uint64_t)k < rows; k++)
            DP_TRY(dp_source_row(l->val, at + (uint64_t)k, ids + k * width, e));
        DP_TRY(dp_trainer_eval(l->trainer, ids, k, &loss, &targets, e));
        dp_eval_add(&sums, loss, targets, l->token_bytes ? (int64_t)bytes_of(l, ids, k, width) : 0);
        dp_progress_tick();
    }
    struct dp_eval_figures f = dp_eval_figures(&sums);
    l->val_loss = f.loss;
    l->bits_per_byte = f.bits_per_byte;
    return DP_OK;
}

int dp_loop_validate(struct dp_loop *l, struct dp_err *e)
{
    if (!l->val) return DP_OK;
    int32_t *ids = malloc((size_t)(l->o->batch * (l->o->seq_len + 1)) * sizeof *ids);
    if (!ids) DP_FAIL(e, NOMEM, "validation");
    int rc = validate(l, ids, e);
    free(ids);
    return rc;
}

/* Row numbers of the step's rows with the largest losses, worst first. */
static size_t worst_rows(const struct dp_loop *l, int64_t out[WORST_ROWS])
{
    const double *loss = dp_trainer_row_losses(l->trainer);
    size_t n = 0;
    for (int64_t r = 0; r < l->o->batch * l->o->accum; r++) {
        if (isnan(loss[r])) continue;
        size_t at = n < WORST_ROWS ? n++ : n;
        for (; at > 0 && loss[out[at - 1]] < loss[r]; at--)
            if (at < WORST_ROWS) out[at] = out[at - 1];
        if (at < WORST_ROWS) out[at] = r;
    }
    return n;
}

static int spike_json(struct run *r, struct dp_jsonw *w, const struct dp_step_result *s, uint64_t first, struct dp_err *e)
{
    struct dp_loop *l = r->l;
    int64_t worst[WORST_ROWS];
    size_t n = worst_rows(l, worst);
    dp_jsonw_key(w, "spike");
    dp_jsonw_begin(w, '{');
    dp_jsonw_member_real(w, "median", s->spike.median);
    dp_jsonw_member_real(w, "deviation", s->spike.deviation);
    dp_jsonw_member_bool(w, "skipped", s->skipped);
    dp_jsonw_key(w, "rows");
    dp_jsonw_begin(w, '[');
    for (size_t i = 0; i < n; i++) {
        dp_buf_clear(&r->documents);
        DP_TRY(dp_source_documents(l->train, first + (uint64_t)worst[i], DOCUMENTS_A_ROW, &r->documents, e));
        DP_TRY(dp_buf_check(&r->documents, "documents of a spike", e));
        dp_jsonw_begin(w, '{');
        dp_jsonw_member_uint(w, "sample", first + (uint64_t)worst[i]);
        dp_jsonw_member_real(w, "loss", dp_trainer_row_losses(l->trainer)[worst[i]]);
        dp_jsonw_key(w, "documents");
        dp_jsonw_raw(w, dp_buf_span(&r->documents));
        dp_jsonw_end(w, '}');
        if (i == 0)
            dp_log(WARN, "train", "step %lld: loss %.4f is %.1f deviations above the running median %.4f%s; worst row: sample %llu, loss %.4f, documents %.300s",
                   (long long)s->step, s->loss, (s->loss - s->spike.median) / s->spike.deviation, s->spike.median, s->skipped ? ", its update is left out" : "",
                   (unsigned long long)(first + (uint64_t)worst[0]), dp_trainer_row_losses(l->trainer)[worst[0]], r->documents.ptr ? r->documents.ptr : "");
    }
    dp_jsonw_end(w, ']');
    dp_jsonw_end(w, '}');
    return DP_OK;
}

/* s NULL: validation alone. `first`: number of the step's first row. */
static int write_line(struct run *r, const struct dp_step_result *s, bool with_val, double dt, uint64_t first, struct dp_err *e)
{
    struct dp_loop *l = r->l;
    struct dp_jsonw w;
    dp_buf_clear(&r->line);
    dp_jsonw_init(&w, &r->line, 0);
    dp_jsonw_begin(&w, '{');
    dp_jsonw_member_int(&w, "step", dp_trainer_steps_done(l->trainer));
    if (s) {
        dp_jsonw_member_real(&w, "loss", s->loss);
        dp_jsonw_member_real(&w, "norm", s->norm);
        dp_jsonw_member_real(&w, "lr", s->lr);
    }
    if (s && l->timed) {
        dp_jsonw_member_real(&w, "tokens_per_s", round((double)s->tokens / dt * 10) / 10);
        if (l->peak > 0) dp_jsonw_member_real(&w, "mfu", round(dp_trainer_flops(l->trainer) / dt / l->peak * 1e5) / 1e5);
    }
    if (with_val && l->val) {
        dp_jsonw_member_real(&w, "val_loss", l->val_loss);
        if (!isnan(l->bits_per_byte)) dp_jsonw_member_real(&w, "bits_per_byte", l->bits_per_byte);
    }
    /* Without spike_skip the window isn't kept over restarts everywhere: then the log says nothing. */
    if (s && s->spike.spike && (l->timed || l->o->spike_skip)) DP_TRY(spike_json(r, &w, s, first, e));
    dp_jsonw_end(&w, '}');
    dp_buf_add_char(&r->line, '\n');
    DP_TRY(dp_buf_check(&r->line, "line of the log", e));
    return l->hooks.line ? l->hooks.line(l->hooks.ctx, dp_buf_span(&r->line), e) : DP_OK;
}

static void show(const struct dp_loop *l, const struct dp_step_result *s, double dt)
{
    char note[128], mfu[24] = "";
    if (l->peak > 0) snprintf(mfu, sizeof mfu, "  MFU %.0f%%", 100 * dp_trainer_flops(l->trainer) / dt / l->peak);
    snprintf(note, sizeof note, "loss %.3f  norm %.2f  lr %.1e  %.0f tokens/s%s", s->loss, s->norm, s->lr, (double)s->tokens / dt, mfu);
    dp_progress_set((uint64_t)s->step, note);
}

static int one_update(struct run *r, struct dp_step_result *s, double *dt, struct dp_err *e)
{
    struct dp_loop *l = r->l;
    int64_t rows = l->o->batch * l->o->accum, width = l->o->seq_len + 1;
    double began = dp_now();
    for (int64_t i = 0; i < rows; i++) DP_TRY(dp_source_row(l->train, l->next_row + (uint64_t)i, r->ids + i * width, e));
    DP_TRY(dp_trainer_step(l->trainer, r->ids, s, e));
    *dt = fmax(dp_now() - began, 1e-9);
    l->next_row += (uint64_t)rows;
    l->loss = s->loss;
    l->seconds += *dt;
    l->updates++;
    l->spikes += s->spike.spike;
    l->skipped += s->skipped;
    l->rate = (double)l->updates * (double)(rows * (width - 1)) / l->seconds;
    l->mfu = l->peak > 0 ? dp_trainer_flops(l->trainer) * (double)l->updates / l->seconds / l->peak : 0;
    return DP_OK;
}

/* Behind an update: validation, the line, checkpoints. */
static int conclude(struct run *r, const struct dp_step_result *s, double dt, bool halt, struct dp_err *e)
{
    struct dp_loop *l = r->l;
    const struct dp_train_options *o = l->o;
    bool last = s->step >= o->steps, with_val = last || (o->eval_every && s->step % o->eval_every == 0);
    if (with_val && l->val) DP_TRY(validate(l, r->ids, e));
    bool best = with_val && l->val && (isnan(l->best_val) || l->val_loss < l->best_val);
    if (best) l->best_val = l->val_loss;
    DP_TRY(write_line(r, s, with_val, dt, l->next_row - (uint64_t)(o->batch * o->accum), e));
    show(l, s, dt);
    if (!l->hooks.save) return DP_OK;
    if (halt || (last ? l->save_last : o->ckpt_every && s->step % o->ckpt_every == 0)) DP_TRY(l->hooks.save(l->hooks.ctx, false, e));
    return best ? l->hooks.save(l->hooks.ctx, true, e) : DP_OK;
}

static int run_steps(struct run *r, struct dp_err *e)
{
    struct dp_loop *l = r->l;
    if (dp_trainer_steps_done(l->trainer) == 0 && l->val) {
        DP_TRY(validate(l, r->ids, e));
        DP_TRY(write_line(r, NULL, true, 1, 0, e));
    }
    while (dp_trainer_steps_done(l->trainer) < l->o->steps) {
        struct dp_step_result s;
        double dt;
        DP_TRY(one_update(r, &s, &dt, e));
        bool last = s.step >= l->o->steps, asked = !last && l->hooks.stopped && l->hooks.stopped(l->hooks.ctx), there = l->stop_at && s.step >= l->stop_at;
        DP_TRY(conclude(r, &s, dt, asked || there, e));
        if (asked && !there)
            DP_FAIL(e, STOPPED, "training stopped behind step %lld; %s", (long long)s.step,
                    l->hooks.save ? "its checkpoint is there, run again to go on" : "nothing of it is kept");
        if (there) return DP_OK;
    }
    return DP_OK;
}

int dp_loop_run(struct dp_loop *l, struct dp_err *e)
{
    struct run r = {.l = l};
    int64_t rows = l->o->batch * l->o->accum;
    dp_buf_init(&r.line, LINE_MAX_BYTES);
    dp_buf_init(&r.documents, LINE_MAX_BYTES);
    r.ids = malloc((size_t)(rows * (l->o->seq_len + 1)) * sizeof *r.ids);
    int rc = r.ids ? run_steps(&r, e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "batch of %lld rows", (long long)rows);
    free(r.ids);
    dp_buf_release(&r.line);
    dp_buf_release(&r.documents);
    return rc;
}
