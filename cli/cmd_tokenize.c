/* tokenize and detokenize: texts to ids and back, for scripts; without --tokenizer, the workspace's step. */
#include "base/json.h"
#include "cli/cli.h"
#include "cli/text_input.h"
#include "tokenizer/encode.h"
#include "tokenizer/tokenizer.h"

#include <stdlib.h>

struct own {
    char *tokenizer, *split, *field, *b64_field;
    bool jsonl, whole_file, count;
    int special;
};
#define O(f) offsetof(struct own, f)
static const struct dp_opt rows[] = {
    {.name = "tokenizer", .letter = 't', .type = DP_OPT_STRING, .offset = O(tokenizer), .arg = "FILE", .help = "tokenizer.json or .tiktoken"},
    {.name = "split", .type = DP_OPT_STRING, .offset = O(split), .arg = "NAME", .help = "pre-tokenizer, over the file's: gpt2, cl100k, o200k ... or regex:PATTERN"},
    {.name = "jsonl", .type = DP_OPT_BOOL, .offset = O(jsonl), .help = "JSON lines in: one JSON line out for each"},
    {.name = "field", .type = DP_OPT_STRING, .offset = O(field), .preset = "text", .arg = "NAME", .help = "the JSON member with the text"},
    {.name = "b64_field", .type = DP_OPT_STRING, .offset = O(b64_field), .arg = "NAME", .help = "the JSON member with the text's bytes in base64"},
    {.name = "whole_file", .type = DP_OPT_BOOL, .offset = O(whole_file), .help = "a file is one text (otherwise a line is)"},
    {.name = "special", .type = DP_OPT_CHOICE, .offset = O(special), .preset = "none", .choices = "none|all", .help = "whether the text of special tokens becomes their ids"},
    {.name = "count", .type = DP_OPT_BOOL, .offset = O(count), .help = "only how many ids"},
    DP_OPT_END,
};

struct ctx {
    struct dp_tokenizer *tok;
    struct dp_encoder *enc;
    struct dp_ids ids;
    struct dp_buf out;
    bool count;
};

static int encode_one(void *v, struct dp_span text, struct dp_err *e)
{
    struct ctx *c = v;
    c->ids.len = 0;
    DP_TRY(dp_encode(c->enc, text, &c->ids, e));
    struct dp_buf *b = &c->out;
    if (c->count) dp_buf_printf(b, "{\"count\":%zu}\n", c->ids.len);
    else {
        dp_buf_add_str(b, "{\"ids\":[");
        for (size_t i = 0; i < c->ids.len; i++) {
            char t[12]; /* ids are below 2^21 */
            int n = 0;
            uint32_t id = c->ids.ptr[i];
            do t[11 - n++] = (char)('0' + id % 10);
            while (id /= 10);
            if (i) t[11 - n++] = ',';
            dp_buf_add(b, t + 12 - n, (size_t)n);
        }
        dp_buf_add_str(b, "]}\n");
    }
    int rc = dp_buf_check(b, "output", e);
    if (rc >= 0 && b->len > 1 << 18) {
        rc = dp_cli_print(b, e);
        dp_buf_clear(b);
    }
    return rc;
}

static int open_ctx(struct ctx *c, const struct own *o, struct dp_err *e)
{
    *c = (struct ctx){.count = o->count};
    dp_buf_init(&c->out, (size_t)4 << 30);
    DP_TRY(dp_tokenizer_load_file(&c->tok, o->tokenizer, o->split, e));
    return dp_encoder_open(&c->enc, c->tok, 0, o->special ? DP_SPECIAL_ALL : DP_SPECIAL_NONE, e);
}

static void close_ctx(struct ctx *c)
{
    dp_encoder_close(c->enc);
    dp_tokenizer_free(c->tok);
    dp_ids_release(&c->ids);
    dp_buf_release(&c->out);
}

static int run_tokenize(struct dp_cli *c, struct dp_err *e)
{
    const struct own *o = c->own;
    struct dp_text_input in = {.whole_file = o->whole_file, .jsonl = o->jsonl, .field = o->field, .b64_field = o->b64_field};
    struct ctx x;
    if (!o->tokenizer) {
        if (c->nargs) DP_FAIL(e, USAGE, "files are given, but no tokenizer: add --tokenizer FILE");
        return dp_cli_run_until(c, DP_STEP_TOKENIZE, e);
    }
    int rc = open_ctx(&x, o, e);
    if (rc >= 0 && !c->nargs) rc = dp_text_input_each(&in, "-", encode_one, &x, e);
    for (size_t i = 0; rc >= 0 && i < c->nargs; i++) rc = dp_text_input_each(&in, c->args[i], encode_one, &x, e);
    if (rc >= 0) rc = dp_cli_print(&x.out, e);
    close_ctx(&x);
    return rc;
}

static int decode_one(void *v, struct dp_span line, struct dp_err *e)
{
    struct ctx *c = v;
    struct dp_json *j;
    struct dp_buf text;
    dp_buf_init(&text, (size_t)1 << 30);
    DP_TRY(dp_json_parse(&j, line, "ids", e));
    const struct dp_json *list = dp_json_kind(j) == DP_JSON_ARRAY ? j : dp_json_get(j, "ids");
    size_t n = dp_json_count(list);
    uint32_t *ids = malloc((n + 1) * sizeof *ids);
    int rc = ids ? DP_OK : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%zu ids", n);
    if (rc >= 0 && dp_json_kind(list) != DP_JSON_ARRAY) rc = dp_err_set(e, DP_CORRUPT, 0, __FILE__, __LINE__, "no list \"ids\"");
    for (size_t i = 0; rc >= 0 && i < n; i++) {
        int64_t id = dp_json_int(dp_json_at(list, i), -1);
        if (id < 0 || id > INT32_MAX) rc = dp_err_set(e, DP_CORRUPT, 0, __FILE__, __LINE__, "ids[%zu] is no token id", i);
        else ids[i] = (uint32_t)id;
    }
    if (rc >= 0) rc = dp_decode(c->tok, ids, n, &text, e);
    if (rc >= 0) {
        struct dp_jsonw w;
        dp_jsonw_init(&w, &c->out, 0);
        dp_jsonw_begin(&w, '{');
        dp_jsonw_key(&w, "text");
        dp_jsonw_str(&w, dp_buf_span(&text));
        dp_jsonw_end(&w, '}');
        dp_buf_add_char(&c->out, '\n');
        rc = dp_cli_print(&c->out, e);
        dp_buf_clear(&c->out);
    }
    dp_buf_release(&text);
    dp_json_free(j);
    free(ids);
    return rc;
}

static int run_detokenize(struct dp_cli *c, struct dp_err *e)
{
    const struct own *o = c->own;
    struct dp_text_input in = {.whole_file = false};
    struct ctx x;
    if (!o->tokenizer) DP_FAIL(e, USAGE, "detokenize wants --tokenizer FILE");
    int rc = open_ctx(&x, o, e);
    if (rc >= 0 && !c->nargs) rc = dp_text_input_each(&in, "-", decode_one, &x, e);
    for (size_t i = 0; rc >= 0 && i < c->nargs; i++) rc = dp_text_input_each(&in, c->args[i], decode_one, &x, e);
    close_ctx(&x);
    return rc;
}

extern const struct dp_command dp_cmd_tokenize, dp_cmd_detokenize;
const struct dp_command dp_cmd_tokenize = {.name = "tokenize", .summary = "texts to token ids", .args = "[FILE...]", .rows = rows, .own_size = sizeof(struct own),
    .sections = "shards", .args_max = -1, .run = run_tokenize,
    .about = "With --tokenizer: for each line (or JSON line) of the files or standard input one JSON line {\"ids\":[...]}, in order.\n"
             "Without: tokenizes the workspace's kept documents into shards, like `dpipe run --until tokenize`."};
const struct dp_command dp_cmd_detokenize = {.name = "detokenize", .summary = "token ids to texts", .args = "[FILE...]", .rows = rows,
    .own_size = sizeof(struct own), .args_max = -1, .run = run_detokenize, .about = "Lines {\"ids\":[...]} or [...] in, {\"text\":...} out."};
