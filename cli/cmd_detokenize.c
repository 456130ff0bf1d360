/* detokenize: ids to texts, a line for a line. */
#include "base/base64.h"
#include "base/json.h"
#include "base/log.h"
#include "base/utf8.h"
#include "cli/cli.h"
#include "cli/line_filter.h"
#include "tokenizer/encode.h"
#include "tokenizer/ids_text.h"
#include "tokenizer/tokenizer.h"

#include <stdlib.h>

struct own {
    char *tokenizer, *split, *field, *b64_field;
    bool jsonl, b64;
    int on_error;
};
#define O(f) offsetof(struct own, f)
static const struct dp_opt rows[] = {
    {.name = "tokenizer", .letter = 't', .type = DP_OPT_STRING, .offset = O(tokenizer), .arg = "FILE", .help = "tokenizer.json or .tiktoken"},
    {.name = "split", .type = DP_OPT_STRING, .offset = O(split), .arg = "NAME", .help = "as for tokenize; decoding is the same with any"},
    {.name = "jsonl", .type = DP_OPT_BOOL, .offset = O(jsonl), .help = "lines are JSON, which they always are"},
    {.name = "field", .type = DP_OPT_STRING, .offset = O(field), .preset = "text", .arg = "NAME", .help = "the JSON member for the text"},
    {.name = "b64", .type = DP_OPT_BOOL, .offset = O(b64), .help = "the text's bytes in base64, as member \"b64\": exact where they are no UTF-8"},
    {.name = "b64_field", .type = DP_OPT_STRING, .offset = O(b64_field), .arg = "NAME", .help = "the same, as this member"},
    {.name = "on_error", .type = DP_OPT_CHOICE, .offset = O(on_error), .preset = "stop", .choices = "stop|skip", .help = "a line that is bad data ends it, or gives {\"error\":...,\"line\":N}"},
    DP_OPT_END,
};

/* Of one thread. */
struct worker {
    struct dp_ids ids;
    struct dp_buf text, sound;
    struct dp_arena mem;
};
struct ctx {
    struct dp_tokenizer *tok;
    const char *field, *b64_field;
    int threads;
    struct worker *worker;
};

static const char *skip_space(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n')) p++;
    return p;
}

/* The form that tokenize prints: what is read once needs no second look. */
static bool ids_of_own_line(struct worker *w, struct dp_span line)
{
    static const char head[] = "{\"ids\":";
    size_t n = sizeof head - 1;
    return line.len > n + 2 && memcmp(line.ptr, head, n) == 0 && line.ptr[line.len - 1] == '}' &&
           dp_ids_parse(dp_span(line.ptr + n, line.len - n - 1), &w->ids, NULL) >= 0;
}

static int ids_of_line(struct worker *w, struct dp_span line, struct dp_err *e)
{
    struct dp_json_field f = {.key = "ids"};
    const char *p = skip_space(line.ptr, line.ptr + line.len), *end = line.ptr + line.len;
    w->ids.len = 0;
    if (p == end || ids_of_own_line(w, line)) return DP_OK;
    if (*p == '[') return dp_ids_parse(line, &w->ids, e);
    DP_TRY(dp_json_fields(line, &f, 1, &w->mem, e));
    return dp_ids_parse(f.raw.ptr ? f.raw : dp_span("", 0), &w->ids, e);
}

/* As Python's "replace", and so tiktoken's decode, has it: one U+FFFD for the beginning of a character, not for each of its bytes. */
static struct dp_span replace_bad(struct dp_span s, struct dp_buf *to)
{
    if (dp_utf8_valid(s)) return s;
    dp_buf_clear(to);
    dp_utf8_repair(s, to);
    return dp_buf_span(to);
}

static int decode_line(void *ctx, int worker, struct dp_span line, struct dp_buf *out, struct dp_err *e)
{
    struct ctx *c = ctx;
    struct worker *w = &c->worker[worker];
    int rc = ids_of_line(w, line, e);
    dp_arena_reset(&w->mem);
    DP_TRY(rc);
    dp_buf_shrink(&w->text, 1 << 24);
    dp_buf_shrink(&w->sound, 1 << 24);
    DP_TRY(dp_decode(c->tok, w->ids.ptr, w->ids.len, &w->text, e));
    struct dp_jsonw j;
    dp_jsonw_init(&j, out, 0);
    dp_jsonw_begin(&j, '{');
    dp_jsonw_key(&j, c->b64_field ? c->b64_field : c->field);
    if (c->b64_field) {
        dp_buf_add_char(out, '"');
        dp_base64_encode(out, dp_buf_span(&w->text));
        dp_buf_add_char(out, '"');
    } else dp_jsonw_str(&j, replace_bad(dp_buf_span(&w->text), &w->sound));
    dp_buf_add_str(out, "}\n");
    return dp_buf_check(&w->sound, "a text", e);
}

static int open_ctx(struct ctx *c, const struct own *o, int threads, struct dp_err *e)
{
    *c = (struct ctx){.field = o->field, .b64_field = o->b64_field ? o->b64_field : o->b64 ? "b64" : NULL, .threads = threads};
    DP_TRY(dp_tokenizer_load_file(&c->tok, o->tokenizer, o->split, e));
    c->worker = calloc((size_t)threads, sizeof *c->worker);
    if (!c->worker) DP_FAIL(e, NOMEM, "decoders");
    for (int i = 0; i < threads; i++) {
        dp_arena_init(&c->worker[i].mem, (size_t)2 << 30);
        dp_buf_init(&c->worker[i].text, (size_t)16 << 30);
        dp_buf_init(&c->worker[i].sound, (size_t)48 << 30);
    }
    return DP_OK;
}

static void close_ctx(struct ctx *c)
{
    for (int i = 0; c->worker && i < c->threads; i++) {
        dp_ids_release(&c->worker[i].ids);
        dp_arena_release(&c->worker[i].mem);
        dp_buf_release(&c->worker[i].text);
        dp_buf_release(&c->worker[i].sound);
    }
    free(c->worker);
    dp_tokenizer_free(c->tok);
}

static int run(struct dp_cli *c, struct dp_err *e)
{
    const struct own *o = c->own;
    struct ctx x;
    if (!o->tokenizer) DP_FAIL(e, USAGE, "detokenize wants --tokenizer FILE");
    int rc = open_ctx(&x, o, (int)c->global.threads, e);
    struct dp_line_filter f = {.threads = x.threads, .skip = o->on_error, .ctx = &x, .line = decode_line};
    if (rc >= 0) rc = dp_line_filter_run(&f, c->args, c->nargs, e);
    if (rc >= 0 && f.skipped) dp_log(WARN, "detokenize", "%llu lines were bad data and have an error in place of a text", (unsigned long long)f.skipped);
    close_ctx(&x);
    return rc;
}

extern const struct dp_command dp_cmd_detokenize;
const struct dp_command dp_cmd_detokenize = {.name = "detokenize", .summary = "token ids to texts", .args = "[FILE...]", .rows = rows,
    .own_size = sizeof(struct own), .args_max = -1, .run = run,
    .about = "For each line {\"ids\":[...]} or [...] of the files or standard input one line {\"text\":\"...\"}, in order. Bytes that are no UTF-8 (ids may end inside of a\n"
             "character) become U+FFFD, as in Python's decode(errors=\"replace\"); with --b64 all bytes come back as they were. A line of bad JSON, or with an id that no token\n"
             "has, ends it with status 65. docs/tokenize.md has it all."};
