/* tokenizer/bpe_super.c - the second stage of SuperBPE.
 *
 * What the published trainer does with `merges.txt` given: pieces of the wider split, all merges applied to them in order, then the most frequent
 * pair as ever. Applying them is encoding, so words are laid out as the tokens that the first stage's tokenizer gives. A piece may be a whole slice of
 * text, and is nearly always the only one of its kind: so what bounds memory is the size of the sample, not a choice of words. */
#include "base/progress.h"
#include "tokenizer/bpe_trainer.h"
#include "tokenizer/text_sample.h"

static int count_slice(void *ctx, struct dp_span text, struct dp_err *e)
{
    DP_TRY(dp_progress_go_on(e));
    return dp_bpe_counter_add(ctx, text, e);
}

int dp_bpe_trainer_list(struct dp_bpe_trainer *t, struct dp_err *e)
{
    size_t word = 0;
    for (size_t at = 1, next; at < t->cell_count; at = next) {
        uint32_t left = t->cells[at];
        if (word % 4096 == 0) DP_TRY(dp_progress_go_on(e));
        next = at + 1;
        if (left == DP_CELL_WALL) {
            word++;
            continue;
        }
        next = at + t->len[left];
        if (t->cells[next] != DP_CELL_WALL) DP_TRY(dp_bpe_trainer_occurs(t, left, t->cells[next], (uint32_t)at, t->freq[word], e));
    }
    return dp_bpe_trainer_settle(t, e);
}

static int go_on(struct dp_bpe_trainer *t, struct dp_bpe_counter *pieces, const struct dp_bpe_train_options *o, const struct dp_bpe_counter *c,
                 const struct dp_tokenizer *first, uint32_t target, struct dp_err *e)
{
    DP_TRY(dp_bpe_counter_finish(pieces, 0, e));
    dp_bpe_trainer_forget(t);
    DP_TRY(dp_bpe_trainer_choose(t, o, c, true, e));
    DP_TRY(dp_bpe_trainer_lay_out(t, pieces, first, e));
    dp_bpe_counter_drop_words(pieces);
    DP_TRY(dp_bpe_trainer_list(t, e));
    DP_TRY(dp_bpe_trainer_learn(t, target, e));
    DP_TRY(dp_bpe_trainer_plant(t, target, e));
    return dp_bpe_trainer_learn(t, target, e);
}

int dp_bpe_trainer_super(struct dp_bpe_trainer *t, const struct dp_bpe_train_options *o, struct dp_bpe_counter *c, uint32_t target,
                         struct dp_err *e)
{
    struct dp_text_sample *sample = dp_bpe_counter_sample(c);
    struct dp_bpe_counter *pieces = NULL;
    struct dp_tokenizer *first = NULL;
    int rc;
    t->veto.super = true;
    t->veto.words_max = o->super_words_max;
    DP_TRY_OUT(dp_bpe_veto_rules(o->super_veto, &t->veto.rules, e));
    DP_TRY_OUT(dp_bpe_trainer_tokenizer(&first, t, e));
    DP_TRY_OUT(dp_bpe_counter_open(&pieces, t->split, e));
    DP_TRY_OUT(dp_bpe_counter_splitter(pieces, t->splitter, e));
    DP_TRY_OUT(dp_text_sample_each(sample, count_slice, pieces, e));
    dp_text_sample_clear(sample);
    DP_TRY_OUT(go_on(t, pieces, o, c, first, target, e));
out:
    dp_bpe_counter_close(pieces);
    dp_tokenizer_free(first);
    return rc;
}
