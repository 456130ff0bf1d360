/* Any bytes: at every CPU level and with every cache the ids are those of the definition (pieces one by one, the least rank merged first),
 * they decode to the text, and counting agrees. */
#include "base/cpu.h"
#include "tokenizer/bpe_train.h"
#include "tokenizer/encode.h"
#include "tokenizer/split_int.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { VOCAB = 400, TEXT_MAX = 1 << 13 };

static uint16_t rank_of[VOCAB][VOCAB]; /* rank + 1; 0: no merge */
/* Text that a pretoken can be is only for hf, where a merge may spell it. */
static char specials[2][64] = {"<|endoftext|>,<|x|>,<|end,' x,aa,e\xCC", "<|endoftext|>,<|x|>,<|end,' x"};

#define need(ok)                                                                                                                           \
    do {                                                                                                                                   \
        if (!(ok)) fprintf(stderr, "line %d: %s\n", __LINE__, #ok), abort();                                                              \
    } while (0)

/* The definition: all pairs looked at for each merge. */
static size_t merge_plainly(const struct dp_tokenizer *t, const uint8_t *p, size_t n, uint32_t *ids)
{
    for (size_t i = 0; i < n; i++) ids[i] = (uint32_t)dp_tokenizer_id(t, dp_span((const char *)p + i, 1));
    for (;;) {
        unsigned best = UINT16_MAX;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            unsigned r = rank_of[ids[i]][ids[i + 1]];
            if (r && r < best) best = r, at = i;
        }
        if (best == UINT16_MAX) return n;
        uint32_t left, right;
        dp_tokenizer_merge(t, best - 1, &left, &right, &ids[at]);
        memmove(ids + at + 1, ids + at + 2, (--n - at - 1) * sizeof *ids);
    }
}

static size_t encode_plainly(const struct dp_tokenizer *t, const uint8_t *p, const uint8_t *end, enum dp_special_policy special, uint32_t *ids)
{
    size_t n = 0, count = 0;
    const struct dp_special *s = dp_tokenizer_specials(t, &count);
    if (special == DP_SPECIAL_NONE) count = 0;
    while (p < end) {
        const uint8_t *stop = end;
        const struct dp_special *found = NULL;
        for (const uint8_t *q = p; q < end && !found; q++) /* the first place where one begins, the longest there */
            for (size_t i = 0; i < count; i++)
                if (s[i].text.len <= (size_t)(end - q) && memcmp(q, s[i].text.ptr, s[i].text.len) == 0 && (!found || s[i].text.len > found->text.len))
                    found = &s[i], stop = q;
        while (p < stop) {
            const uint8_t *next = dp_split_next(dp_tokenizer_split(t), p, stop);
            need(next > p && next <= stop);
            n += merge_plainly(t, p, (size_t)(next - p), ids + n);
            p = next;
        }
        if (found) ids[n++] = found->id, p += found->text.len;
    }
    return n;
}

static void check(struct dp_encoder *c, const struct dp_tokenizer *t, struct dp_span text, const uint32_t *want, size_t n)
{
    struct dp_err e;
    struct dp_ids ids = {0};
    struct dp_buf back;
    uint64_t count;
    need(dp_encode(c, text, &ids, &e) >= 0);
    need(ids.len == n && (!n || memcmp(ids.ptr, want, n * sizeof *want) == 0));
    need(dp_encode_count(c, text, &count, &e) >= 0 && count == n);
    dp_buf_init(&back, 1 << 20);
    need(dp_decode(t, ids.ptr, n, &back, &e) >= 0 && dp_span_eq(dp_buf_span(&back), text));
    dp_buf_release(&back);
    dp_ids_release(&ids);
}

/* Every level with every cache, which is full of other texts, of what other levels put there, or of the text itself. */
static void check_all(const struct dp_tokenizer *t, struct dp_span text, enum dp_special_policy special, const uint32_t *want, size_t n)
{
    static const size_t bytes[] = {1, 1 << 16, 1 << 18};
    struct dp_err e;
    struct dp_ids before = {0};
    for (size_t k = 0; k < sizeof bytes / sizeof *bytes; k++) {
        struct dp_encoder *c, *beside;
        need(dp_encoder_open(&c, t, bytes[k], special, &e) >= 0);
        need(dp_encoder_open_beside(&beside, c, special, &e) >= 0);
        for (int level = DP_CPU_SCALAR; level <= (int)dp_cpu_detected() && level <= DP_CPU_AVX512; level++) {
            need(dp_cpu_force(dp_cpu_name((enum dp_cpu_level)level), &e) >= 0);
            size_t from = k < 2 ? text.len * (size_t)(level + 1) / 4 : text.len;
            need(dp_encode(c, dp_span(text.ptr + from, text.len - from), &before, &e) >= 0);
            for (int i = 0; i < 3; i++) check(i == 1 ? beside : c, t, text, want, n);
        }
        dp_encoder_close(c);
        dp_encoder_close(beside);
    }
    dp_ids_release(&before);
}

/* Trained on the input's own first half, so that merges happen; the first byte chooses split and tie. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dp_err e;
    struct dp_bpe_counter *c;
    struct dp_tokenizer *t;
    if (!size || size > TEXT_MAX) return 0;
    enum dp_split split = (enum dp_split)((data[0] & 127) % DP_SPLIT_COUNT);
    struct dp_bpe_train_options o = {.vocab_size = VOCAB, .split = split, .tie = data[0] >> 7, .special_tokens = specials[data[0] >> 7]};
    struct dp_span text = dp_span(data + 1, size - 1);
    need(dp_bpe_counter_open(&c, split, &e) >= 0 && dp_bpe_counter_add(c, dp_span(text.ptr, text.len / 2), &e) >= 0);
    need(dp_bpe_train(&t, &o, c, NULL, NULL, &e) >= 0);
    memset(rank_of, 0, sizeof rank_of);
    for (uint32_t i = 0, l, r, id; i < dp_tokenizer_merges(t); i++) {
        dp_tokenizer_merge(t, i, &l, &r, &id);
        rank_of[l][r] = (uint16_t)(i + 1);
    }
    uint32_t *want = malloc((text.len + 1) * sizeof *want);
    need(want != NULL);
    for (int special = DP_SPECIAL_NONE; special <= DP_SPECIAL_ALL; special++) {
        const uint8_t *p = data + 1;
        size_t n = encode_plainly(t, p, p + text.len, (enum dp_special_policy)special, want);
        check_all(t, text, (enum dp_special_policy)special, want, n);
    }
    free(want);
    dp_tokenizer_free(t);
    dp_bpe_counter_close(c);
    return 0;
}
