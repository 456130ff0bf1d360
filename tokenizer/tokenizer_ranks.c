/* tokenizer/tokenizer_ranks.c - .tiktoken files: a line `base64(token) SP rank LF` for each token; rank is id and priority.
 *
 * The file says nothing of the pre-tokenizer and the special tokens. For the published encodings both follow from the number of
 * tokens, so that `cl100k_base.tiktoken` works as it is; any other file must be given its split. Ranks may come in any order and with
 * gaps (p50k has them). Base64 is RFC 4648 with padding, as tiktoken writes it; anything else is refused. */
#include "tokenizer/tokenizer_int.h"

#include "base/arena.h"
#include "base/base64.h"

#include <stdlib.h>

static const struct {
    enum dp_split split;
    uint32_t tokens;
    struct dp_special specials[5];
} known[] = {
#define S(s, i)                                                                                                                            \
    {                                                                                                                                      \
        {s, sizeof s - 1}, i, DP_ADDED_SPECIAL                                                                                    \
    }
    {DP_SPLIT_GPT2, 50256, {S("<|endoftext|>", 50256)}},
    {DP_SPLIT_CL100K,
     100256,
     {S("<|endoftext|>", 100257), S("<|fim_prefix|>", 100258), S("<|fim_middle|>", 100259), S("<|fim_suffix|>", 100260),
      S("<|endofprompt|>", 100276)}},
    {DP_SPLIT_O200K, 199998, {S("<|endoftext|>", 199999), S("<|endofprompt|>", 200018)}},
#undef S
};

/* One line without its end into tokens[]; *size grows to the highest rank + 1. */
static int read_line(struct dp_span line, size_t number, struct dp_span *tokens, uint32_t *size, struct dp_arena *mem, const char *name,
                     struct dp_err *e)
{
    const char *space = memchr(line.ptr, ' ', line.len);
    if (!space) DP_FAIL(e, CORRUPT, "%s: line %zu isn't 'base64 rank'", name, number);
    struct dp_span code = dp_span(line.ptr, (size_t)(space - line.ptr));
    struct dp_span digits = dp_span(space + 1, line.len - code.len - 1);
    uint64_t rank = 0;
    if (!digits.len || digits.len > 10) DP_FAIL(e, CORRUPT, "%s: line %zu has no rank of up to 10 digits", name, number);
    for (size_t i = 0; i < digits.len; i++) {
        if (digits.ptr[i] < '0' || digits.ptr[i] > '9') DP_FAIL(e, CORRUPT, "%s: line %zu: the rank is no number", name, number);
        rank = rank * 10 + (uint64_t)(digits.ptr[i] - '0');
    }
    if (rank >= DP_TOKENIZER_IDS_MAX)
        DP_FAIL(e, CORRUPT, "%s: line %zu: rank %llu; ranks are below 2097152", name, number, (unsigned long long)rank);
    char *to = dp_arena_alloc(mem, code.len / 4 * 3 + 3);
    if (!to) DP_FAIL(e, NOMEM, "%s: line %zu", name, number);
    size_t n = 0;
    struct dp_err why;
    if (!code.len || code.len % 4 || dp_base64_decode(code, to, &n, &why) < 0 || !n) DP_FAIL(e, CORRUPT, "%s: line %zu: the token isn't base64", name, number);
    if (tokens[rank].ptr) DP_FAIL(e, CORRUPT, "%s: line %zu: rank %llu again", name, number, (unsigned long long)rank);
    tokens[rank] = dp_span(to, n);
    if (rank >= *size) *size = (uint32_t)rank + 1;
    return DP_OK;
}

int dp_tokenizer_load_tiktoken(struct dp_tokenizer **out, struct dp_span content, const char *name, const char *split, struct dp_err *e)
{
    struct dp_tokenizer_parts parts = {.ranks = true};
    struct dp_arena mem;
    uint32_t tokens_count = 0;
    int rc;
    dp_arena_init(&mem, SIZE_MAX / 2);
    struct dp_span *tokens = calloc(DP_TOKENIZER_IDS_MAX, sizeof *tokens);
    if (!tokens) DP_GOTO(e, NOMEM, "%s: tokens", name);
    size_t number = 0;
    for (size_t i = 0; i < content.len;) {
        const char *end = memchr(content.ptr + i, '\n', content.len - i);
        size_t n = end ? (size_t)(end - content.ptr) - i : content.len - i;
        struct dp_span line = dp_span(content.ptr + i, n);
        i += n + 1;
        number++;
        if (line.len && line.ptr[line.len - 1] == '\r') line.len--;
        if (!line.len) continue;
        DP_TRY_OUT(read_line(line, number, tokens, &parts.size, &mem, name, e));
        tokens_count++;
    }
    parts.bytes = tokens;
    bool found = false;
    if (split) {
        DP_TRY_OUT(dp_splitter_parse(&parts.splitter, &parts.split, dp_span_str(split), e));
        found = true;
    }
    for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
        if (tokens_count != known[k].tokens || (split && parts.split != known[k].split)) continue;
        parts.split = known[k].split;
        parts.specials = known[k].specials;
        while (parts.special_count < 5 && known[k].specials[parts.special_count].text.ptr) parts.special_count++;
        found = true;
    }
    if (!found)
        DP_GOTO(e, CONFIG, "%s: a .tiktoken file of %u tokens doesn't say its pre-tokenizer: name one (gpt2, cl100k, o200k, qwen2)", name,
                tokens_count);
    rc = dp_tokenizer_build(out, &parts, name, e);
out:
    dp_splitter_close(parts.splitter);
    free(tokens);
    dp_arena_release(&mem);
    return rc;
}

/* Ranks can say what merges do if ids rise with the order of merges and every longer token has one. */
static int check_ranks(const struct dp_tokenizer *t, struct dp_err *e)
{
    uint8_t *made = calloc(t->size, 1);
    if (!made) DP_FAIL(e, NOMEM, "writing .tiktoken");
    int rc = DP_OK;
    uint32_t last = 0;
    for (uint32_t i = 0; i < t->merge_count; i++) {
        uint32_t id = t->merges[i].id;
        if (id < last || t->is_special[id])
            DP_GOTO(e, CONFIG,
                    "the merges aren't in the order of ids (merge %u makes id %u): .tiktoken can't hold this vocabulary; "
                    "write tokenizer.json",
                    i, id);
        last = id;
        made[id] = 1;
    }
    for (uint32_t i = 0; i < t->size; i++)
        if (t->bytes[i].ptr && !t->is_special[i] && t->bytes[i].len > 1 && !made[i])
            DP_GOTO(e, CONFIG, "no merge makes the token %u: .tiktoken can't hold this vocabulary; write tokenizer.json", i);
out:
    free(made);
    return rc;
}

int dp_tokenizer_save_tiktoken(const struct dp_tokenizer *t, struct dp_buf *out, struct dp_err *e)
{
    if (t->sp) DP_FAIL(e, CONFIG, "a sentencepiece model can't be written as .tiktoken: write .model or GGUF");
    if (!t->ranks) DP_TRY(check_ranks(t, e));
    for (uint32_t i = 0; i < t->size; i++) {
        if (!t->bytes[i].ptr || t->is_special[i]) continue;
        dp_base64_encode(out, t->bytes[i]);
        dp_buf_add_char(out, ' ');
        dp_buf_add_uint(out, i);
        dp_buf_add_char(out, '\n');
    }
    return dp_buf_check(out, "a .tiktoken file", e);
}
