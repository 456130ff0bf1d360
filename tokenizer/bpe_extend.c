/* tokenizer/bpe_extend.c - begin with the vocabulary of another tokenizer instead of bytes.
 *
 * Its tokens keep their ids and its merges stay the first, so new ones only join what it gives. Of a vocabulary of ranks new ids are the highest
 * ranks; there a new token's text is put together from any two tokens, not only from the pair that was learnt. */
#include "tokenizer/bpe_trainer.h"

#include <stdlib.h>

int dp_bpe_trainer_adopt(struct dp_bpe_trainer *t, const struct dp_tokenizer *base, struct dp_err *e)
{
    for (uint32_t i = 0; i < base->size; i++) {
        if (!base->bytes[i].ptr || base->is_special[i]) continue;
        uint32_t id;
        t->size = i;
        DP_TRY(dp_bpe_trainer_token(t, base->bytes[i], &id, e));
        DP_ASSERT(id == i);
    }
    for (size_t i = 0; i < base->special_count; i++) { /* an ordinary token may have the same text */
        uint32_t id = base->specials[i].id;
        t->bytes[id] = base->specials[i].text;
        t->len[id] = (uint32_t)base->specials[i].text.len;
        t->special[id] = 1;
    }
    t->size = base->size;
    memcpy(t->byte_id, base->byte_id, sizeof t->byte_id);
    if (!base->ranks) {
        if (base->merge_count) memcpy(t->merges, base->merges, base->merge_count * sizeof *t->merges);
        t->merge_count = base->merge_count;
    }
    t->base = base;
    return DP_OK;
}

int dp_bpe_specials_of(struct dp_special_find **out, const struct dp_bpe_train_options *o, struct dp_err *e)
{
    *out = NULL;
    if (o->learn_special_text) return DP_OK;
    if (!o->base) return dp_special_find_open(out, o->special_tokens, e);
    struct dp_span *texts = malloc((o->base->special_count + 1) * sizeof *texts);
    if (!texts) DP_FAIL(e, NOMEM, "special tokens");
    for (size_t i = 0; i < o->base->special_count; i++) texts[i] = o->base->specials[i].text;
    int rc = dp_special_find_of(out, texts, o->base->special_count, e);
    free(texts);
    return rc;
}
