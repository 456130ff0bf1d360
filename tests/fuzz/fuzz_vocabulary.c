/* A byte of choices, a file of seed tokens up to a NUL, and a text to learn from. An error that says why, or a vocabulary in which each seed is one
 * token, no token is longer than was said or holds a special token, the text comes back, and pruning maps ids. */
#include "tokenizer/bpe_seed.h"
#include "tokenizer/bpe_train.h"
#include "tokenizer/encode.h"
#include "tokenizer/vocab_change.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t ids(struct dp_encoder *c, struct dp_span text, struct dp_ids *out)
{
    struct dp_err err;
    out->len = 0;
    if (dp_encode(c, text, out, &err) < 0) abort();
    return out->len;
}

static void pruned(const struct dp_tokenizer *t, struct dp_encoder *c, struct dp_span text, struct dp_ids *have)
{
    struct dp_err err;
    struct dp_tokenizer *small;
    struct dp_encoder *s;
    struct dp_ids got = {0};
    uint32_t size = dp_tokenizer_size(t);
    uint64_t *counts = calloc(size, sizeof *counts);
    int32_t *map = calloc(size, sizeof *map);
    if (!counts || !map) abort();
    ids(c, dp_span(text.ptr, text.len / 2), have);
    for (size_t i = 0; i < have->len; i++) counts[have->ptr[i]]++;
    if (dp_tokenizer_prune(&small, t, counts, 0, 1, map, &err) < 0 || dp_encoder_open(&s, small, 1 << 14, DP_SPECIAL_NONE, &err) < 0) abort();
    ids(c, dp_span(text.ptr, text.len / 2), have);
    ids(s, dp_span(text.ptr, text.len / 2), &got); /* it has all of its tokens */
    if (got.len != have->len) abort();
    for (size_t i = 0; i < got.len; i++)
        if (map[have->ptr[i]] != (int32_t)got.ptr[i]) abort();
    dp_encoder_close(s);
    dp_ids_release(&got);
    dp_tokenizer_free(small);
    free(counts);
    free(map);
}

static void check(const struct dp_tokenizer *t, const struct dp_bpe_train_options *o, struct dp_span text)
{
    struct dp_err err;
    struct dp_encoder *c;
    struct dp_ids have = {0};
    struct dp_buf back;
    dp_buf_init(&back, 1 << 24);
    if (dp_encoder_open(&c, t, 1 << 14, DP_SPECIAL_NONE, &err) < 0) abort();
    for (size_t i = 0; i < o->seed_count; i++)
        if (ids(c, o->seeds[i], &have) != 1) abort();
    for (uint32_t i = 0; i < dp_tokenizer_size(t); i++) {
        struct dp_span b = dp_tokenizer_bytes(t, i);
        bool special = dp_tokenizer_special(t, b) >= 0;
        if (!special && ((o->token_bytes_max && b.len > (uint64_t)o->token_bytes_max) || memmem(b.ptr, b.len, "<s>", 3))) abort();
    }
    ids(c, text, &have);
    if (dp_decode(t, have.ptr, have.len, &back, &err) < 0 || !dp_span_eq(dp_buf_span(&back), text)) abort();
    pruned(t, c, text, &have);
    dp_encoder_close(c);
    dp_ids_release(&have);
    dp_buf_release(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char specials[] = "<s>,xyz", veto[] = "colon,newline";
    struct dp_err err;
    struct dp_bpe_counter *c;
    struct dp_tokenizer *t;
    struct dp_arena mem;
    struct dp_span *seeds;
    if (!size || size > 4096) return 0;
    unsigned how = data[0];
    const uint8_t *nul = memchr(data + 1, 0, size - 1);
    size_t file = nul ? (size_t)(nul - data) - 1 : 0, from = nul ? file + 2 : 1;
    struct dp_span text = dp_span((const char *)data + from, size - from);
    struct dp_bpe_train_options o = {.vocab_size = 330, .tie = how & 1, .split = how >> 1 & 3, .super_from = how & 8 ? 280 : 0, .super_bytes_max = 1 << 16,
                                     .super_words_max = how & 16 ? 2 : 0, .super_veto = how & 32 ? veto : NULL, .token_bytes_max = how & 64 ? 6 : 0,
                                     .special_tokens = specials};
    dp_arena_init(&mem, 1 << 20);
    if (dp_bpe_seeds_read(dp_span((const char *)data + 1, file), "seeds", &mem, &seeds, &o.seed_count, &err) < 0) o.seed_count = 0;
    o.seeds = seeds;
    if (dp_bpe_counter_open_for(&c, &o, &err) < 0 || dp_bpe_counter_add(c, text, &err) < 0) abort();
    int rc = dp_bpe_train(&t, &o, c, NULL, NULL, &err);
    if (rc >= 0) check(t, &o, text);
    else if (rc != DP_CONFIG || !err.msg[0]) abort();
    dp_tokenizer_free(t);
    dp_bpe_counter_close(c);
    dp_arena_release(&mem);
    return 0;
}
