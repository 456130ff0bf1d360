/* tokenizer/bpe_seed.c - seed tokens: read, check, lay out, complete. The rule is in bpe_train.h.
 *
 * Why last and not first: a seed of n bytes put together before anything is learnt takes n - 1 tokens, most of which no text uses ("pho", "phot",
 * "photo" ...). After learning it takes one or two. */
#include "tokenizer/bpe_seed.h"

#include "base/base64.h"
#include "base/json.h"
#include "tokenizer/bpe_trainer.h"

#include <stdio.h>
#include <stdlib.h>

enum { SEED_BYTES_MAX = 4096 };

static int read_line(struct dp_span line, const char *name, struct dp_arena *mem, struct dp_span *out, struct dp_err *e)
{
    static const char code[] = "base64:";
    size_t n = sizeof code - 1;
    if (line.ptr[0] == '"') {
        struct dp_json *v;
        DP_TRY(dp_json_parse(&v, line, name, e));
        *out = dp_arena_dup(mem, dp_json_str(v));
        dp_json_free(v);
        if (!out->ptr) DP_FAIL(e, NOMEM, "%s: seed tokens", name);
        return DP_OK;
    }
    if (line.len < n || memcmp(line.ptr, code, n) != 0) DP_FAIL(e, CORRUPT, "a line is a JSON string or base64: and base64");
    size_t len;
    char *to = dp_arena_alloc(mem, line.len);
    if (!to) DP_FAIL(e, NOMEM, "%s: seed tokens", name);
    DP_TRY(dp_base64_decode(dp_span(line.ptr + n, line.len - n), to, &len, e));
    *out = dp_span(to, len);
    return DP_OK;
}

int dp_bpe_seeds_read(struct dp_span content, const char *name, struct dp_arena *mem, struct dp_span **seeds, size_t *count, struct dp_err *e)
{
    size_t most = 1, n = 0, number = 0;
    for (size_t i = 0; i < content.len; i++) most += content.ptr[i] == '\n';
    *count = 0;
    *seeds = dp_arena_alloc(mem, most * sizeof **seeds);
    if (!*seeds) DP_FAIL(e, NOMEM, "%s: seed tokens", name);
    for (size_t i = 0; i < content.len;) {
        const char *p = content.ptr + i, *end = memchr(p, '\n', content.len - i);
        struct dp_span line = dp_span(p, end ? (size_t)(end - p) : content.len - i);
        struct dp_err why;
        i += line.len + 1;
        number++;
        if (line.len && line.ptr[line.len - 1] == '\r') line.len--;
        if (!line.len) continue;
        int rc = read_line(line, name, mem, &(*seeds)[n], &why);
        if (rc == DP_NOMEM) return *e = why, rc;
        if (rc < 0) DP_FAIL(e, CORRUPT, "%s: line %zu: %s", name, number, why.msg);
        if (!(*seeds)[n].len) DP_FAIL(e, CORRUPT, "%s: line %zu: an empty token", name, number);
        n++;
    }
    *count = n;
    return DP_OK;
}

/* A seed as it stands in messages: escaped. */
static void show(struct dp_span seed, char *out, size_t size)
{
    struct dp_buf b;
    dp_buf_init(&b, 1 << 16);
    dp_json_escape(&b, seed);
    snprintf(out, size, "\"%.*s\"", b.len < 80 ? (int)b.len : 80, b.ptr ? b.ptr : "");
    dp_buf_release(&b);
}

/* Whether the split leaves it whole. */
static int is_whole(enum dp_split split, struct dp_splitter *s, struct dp_span text, bool *whole, struct dp_err *e)
{
    struct dp_cutter *c = NULL;
    size_t ends[2], pos = 0;
    if (s) DP_TRY(dp_cutter_open(&c, s, e));
    int n = s ? dp_cutter_run(c, text, &pos, ends, 2, e) : (int)dp_split_run(split, text, &pos, ends, 2);
    dp_cutter_close(c);
    *whole = n == 1;
    return n < 0 ? n : DP_OK;
}

static int check(const struct dp_bpe_trainer *t, const struct dp_bpe_train_options *o, struct dp_span s, struct dp_err *e)
{
    char text[96];
    size_t at = 0, len;
    bool whole;
    show(s, text, sizeof text);
    if (s.len > SEED_BYTES_MAX) DP_FAIL(e, CONFIG, "the seed token %s has %zu bytes; at most %d", text, s.len, SEED_BYTES_MAX);
    if (o->token_bytes_max && s.len > (uint64_t)o->token_bytes_max)
        DP_FAIL(e, CONFIG, "the seed token %s has %zu bytes, more than token_bytes_max, %lld", text, s.len, (long long)o->token_bytes_max);
    if (o->token_chars_max && dp_bpe_chars(s) > o->token_chars_max)
        DP_FAIL(e, CONFIG, "the seed token %s has %lld characters, more than token_chars_max, %lld", text, (long long)dp_bpe_chars(s),
                (long long)o->token_chars_max);
    if (dp_special_find_next(t->veto.specials, s, &at, &len)) DP_FAIL(e, CONFIG, "the seed token %s holds a special token", text);
    DP_TRY(is_whole(t->split, t->splitter, s, &whole, e));
    if (!whole)
        DP_FAIL(e, CONFIG, "the seed token %s is cut by %.*s, so that no text would give it", text,
                DP_SPAN_FMT(dp_splitter_text(t->splitter, t->split)));
    return DP_OK;
}

int dp_bpe_trainer_choose(struct dp_bpe_trainer *t, const struct dp_bpe_train_options *o, const struct dp_bpe_counter *c, bool second,
                          struct dp_err *e)
{
    struct dp_span *chosen = dp_arena_alloc(&t->mem, (o->seed_count + 1) * sizeof *chosen);
    if (!chosen) DP_FAIL(e, NOMEM, "%zu seed tokens", o->seed_count);
    bool one_stage = o->base && o->super_from == (int64_t)dp_tokenizer_size(o->base); /* only the second one learns */
    t->seeds = chosen;
    t->seed_count = 0;
    for (size_t i = 0; i < o->seed_count; i++) {
        struct dp_span s = o->seeds[i];
        DP_TRY(check(t, o, s, e));
        bool whole;
        DP_TRY(is_whole(dp_bpe_counter_split(c), dp_bpe_counter_get_splitter(c), s, &whole, e));
        if (s.len > 1 && (whole && !one_stage) != second) chosen[t->seed_count++] = s; /* a byte is a token already */
    }
    return DP_OK;
}

/* The pair to merge next of the seed in the cells [at, end). */
static int best_pair(struct dp_bpe_trainer *t, uint32_t at, uint32_t end, uint32_t *best, struct dp_err *e)
{
    bool any = false;
    for (uint32_t next; (next = at + t->len[t->cells[at]]) < end; at = next) {
        uint32_t p;
        DP_TRY(dp_bpe_trainer_pair(t, t->cells[at], t->cells[next], &p, e));
        const struct dp_bpe_pair *x = &t->pairs[p], *y = &t->pairs[*best];
        if (any && (x->count < y->count || (x->count == y->count && x->key > y->key))) continue;
        *best = p;
        any = true;
    }
    return DP_OK;
}

int dp_bpe_trainer_plant(struct dp_bpe_trainer *t, uint32_t target, struct dp_err *e)
{
    size_t at = t->cell_count;
    for (size_t i = 0; i < t->seed_count; i++) at -= t->seeds[i].len + 1;
    for (size_t i = 0; i < t->seed_count; at += t->seeds[i++].len + 1) {
        size_t end = at + t->seeds[i].len;
        while (at + t->len[t->cells[at]] < end) {
            uint32_t pair = 0;
            char text[96];
            DP_TRY(best_pair(t, (uint32_t)at, (uint32_t)end, &pair, e));
            int rc = dp_bpe_trainer_take(t, pair, target, e);
            show(t->seeds[i], text, sizeof text);
            if (rc == DP_LIMIT)
                DP_FAIL(e, CONFIG, "the seed tokens don't fit: %s is still in parts, and up to %llu more tokens are needed; vocab_size (or super_from) is too small",
                        text, (unsigned long long)t->seed_left);
            DP_TRY(rc);
        }
    }
    return DP_OK;
}
