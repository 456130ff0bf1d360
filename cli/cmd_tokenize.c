/* tokenize and detokenize: texts to ids and back, for scripts; without --tokenizer, the workspace's step. */
#include "base/json.h"
#include "base/utf8.h"
#include "cli/cli.h"
#include "cli/text_input.h"
#include "tokenizer/encode.h"
#include "tokenizer/offsets.h"
#include "tokenizer/tokenizer.h"

#include <stdlib.h>

enum { OFFSETS_NONE, OFFSETS_BYTES, OFFSETS_CHARS };

struct own {
    char *tokenizer, *split, *field, *b64_field;
    bool jsonl, whole_file, count, total;
    int special, offsets, utf8;
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
    {.name = "utf8", .type = DP_OPT_CHOICE, .offset = O(utf8), .preset = "keep", .choices = "keep|replace", .help = "bytes that are no UTF-8: as they are, or as U+FFFD as tiktoken has them (offsets are then of that text)"},
    {.name = "count", .type = DP_OPT_BOOL, .offset = O(count), .help = "only how many ids"},
    {.name = "total", .type = DP_OPT_BOOL, .offset = O(total), .help = "with --count: a line for each file and one for all, with texts and bytes, not one for each text"},
    {.name = "offsets", .type = DP_OPT_CHOICE, .offset = O(offsets), .preset = "none", .choices = "none|bytes|chars", .help = "where each id stands in its text: \"offsets\":[[begin,end],...]"},
    DP_OPT_END,
};

struct counts {
    uint64_t texts, bytes, ids;
};

struct ctx {
    const struct own *o;
    struct dp_tokenizer *tok;
    struct dp_encoder *enc;
    struct dp_ids ids;
    struct dp_offset *offsets;
    size_t offsets_cap;
    struct dp_buf out, valid; /* valid: a text with its bad bytes replaced */
    struct counts file, all;
};

/* Shorter than 20 digits: ids, and places in a text. */
static void print_number(struct dp_buf *b, uint64_t v)
{
    char t[20];
    int n = 0;
    do t[19 - n++] = (char)('0' + v % 10);
    while (v /= 10);
    dp_buf_add(b, t + 20 - n, (size_t)n);
}

static int print_offsets(struct ctx *c, struct dp_span text, struct dp_err *e)
{
    if (c->ids.len > c->offsets_cap) {
        struct dp_offset *p = realloc(c->offsets, c->ids.cap * sizeof *p);
        if (!p) DP_FAIL(e, NOMEM, "%zu offsets", c->ids.cap);
        c->offsets = p;
        c->offsets_cap = c->ids.cap;
    }
    DP_TRY(dp_offsets(c->tok, text, c->ids.ptr, c->ids.len, c->o->offsets == OFFSETS_CHARS ? DP_OFFSET_CHARS : DP_OFFSET_BYTES, c->offsets, e));
    dp_buf_add_str(&c->out, ",\"offsets\":[");
    for (size_t i = 0; i < c->ids.len; i++) {
        dp_buf_add_str(&c->out, i ? ",[" : "[");
        print_number(&c->out, c->offsets[i].begin);
        dp_buf_add_char(&c->out, ',');
        print_number(&c->out, c->offsets[i].end);
        dp_buf_add_char(&c->out, ']');
    }
    dp_buf_add_char(&c->out, ']');
    return DP_OK;
}

static int count_one(struct ctx *c, struct dp_span text, struct dp_err *e)
{
    uint64_t n;
    DP_TRY(dp_encode_count(c->enc, text, &n, e));
    c->file.texts++;
    c->file.bytes += text.len;
    c->file.ids += n;
    if (!c->o->total) dp_buf_printf(&c->out, "{\"count\":%llu}\n", (unsigned long long)n);
    return DP_OK;
}

static int encode_one(void *v, struct dp_span text, struct dp_err *e)
{
    struct ctx *c = v;
    if (c->o->utf8) DP_TRY(dp_utf8_replace(text, &c->valid, &text, e));
    struct dp_buf *b = &c->out;
    if (c->o->count) DP_TRY(count_one(c, text, e));
    else {
        c->ids.len = 0;
        DP_TRY(dp_encode(c->enc, text, &c->ids, e));
        dp_buf_add_str(b, "{\"ids\":[");
        for (size_t i = 0; i < c->ids.len; i++) {
            if (i) dp_buf_add_char(b, ',');
            print_number(b, c->ids.ptr[i]);
        }
        dp_buf_add_char(b, ']');
        if (c->o->offsets) DP_TRY(print_offsets(c, text, e));
        dp_buf_add_str(b, "}\n");
    }
    int rc = dp_buf_check(b, "output", e);
    if (rc >= 0 && b->len > 1 << 18) {
        rc = dp_cli_print(b, e);
        dp_buf_clear(b);
    }
    return rc;
}

/* What --total says: of a file, or of all (path NULL). */
static void print_counts(struct dp_buf *b, const char *path, size_t files, const struct counts *n)
{
    struct dp_jsonw w;
    dp_jsonw_init(&w, b, 0);
    dp_jsonw_begin(&w, '{');
    dp_jsonw_key(&w, path ? "file" : "files");
    if (path) dp_jsonw_cstr(&w, path);
    else dp_jsonw_uint(&w, files);
    dp_jsonw_key(&w, "texts");
    dp_jsonw_uint(&w, n->texts);
    dp_jsonw_key(&w, "bytes");
    dp_jsonw_uint(&w, n->bytes);
    dp_jsonw_key(&w, "count");
    dp_jsonw_uint(&w, n->ids);
    dp_jsonw_end(&w, '}');
    dp_buf_add_char(b, '\n');
}

static int encode_file(struct ctx *c, const struct dp_text_input *in, const char *path, struct dp_err *e)
{
    DP_TRY(dp_text_input_each(in, path, encode_one, c, e));
    if (c->o->total) print_counts(&c->out, path, 1, &c->file);
    c->all.texts += c->file.texts;
    c->all.bytes += c->file.bytes;
    c->all.ids += c->file.ids;
    c->file = (struct counts){0};
    return DP_OK;
}

static int open_ctx(struct ctx *c, const struct own *o, uint64_t cache, struct dp_err *e)
{
    *c = (struct ctx){.o = o};
    dp_buf_init(&c->out, (size_t)4 << 30);
    dp_buf_init(&c->valid, (size_t)4 << 30);
    DP_TRY(dp_tokenizer_load_file(&c->tok, o->tokenizer, o->split, e));
    return dp_encoder_open(&c->enc, c->tok, (size_t)cache, o->special ? DP_SPECIAL_ALL : DP_SPECIAL_NONE, e);
}

static void close_ctx(struct ctx *c)
{
    dp_encoder_close(c->enc);
    dp_tokenizer_free(c->tok);
    dp_ids_release(&c->ids);
    free(c->offsets);
    dp_buf_release(&c->out);
    dp_buf_release(&c->valid);
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
    if (o->total && !o->count) DP_FAIL(e, USAGE, "--total is for --count");
    if (o->count && o->offsets) DP_FAIL(e, USAGE, "--count gives no ids: --offsets has nothing to say");
    DP_TRY(dp_cli_options(c, e));
    int rc = open_ctx(&x, o, c->options.shards.encoder_cache, e);
    if (rc >= 0 && !c->nargs) rc = encode_file(&x, &in, "-", e);
    for (size_t i = 0; rc >= 0 && i < c->nargs; i++) rc = encode_file(&x, &in, c->args[i], e);
    if (rc >= 0 && o->total) print_counts(&x.out, NULL, c->nargs ? c->nargs : 1, &x.all);
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
    int rc = open_ctx(&x, o, 4096, e); /* nothing is encoded */
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
