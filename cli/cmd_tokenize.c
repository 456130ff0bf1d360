/* tokenize: texts to ids, a line for a line, for scripts; without --tokenizer, the workspace's step. */
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/utf8.h"
#include "cli/cli.h"
#include "cli/file_list.h"
#include "cli/line_filter.h"
#include "cli/text_input.h"
#include "cli/text_line.h"
#include "cli/tokenize_files.h"
#include "tokenizer/encode.h"
#include "tokenizer/ids_text.h"
#include "tokenizer/offsets.h"
#include "tokenizer/tokenizer.h"

#include <stdatomic.h>
#include <stdlib.h>

enum { OFFSETS_NONE, OFFSETS_BYTES, OFFSETS_CHARS };

struct own {
    char *tokenizer, *split, *field, *b64_field, *output, *eot;
    bool jsonl, whole_file, count, total;
    int special, on_error, offsets, utf8;
};
#define O(f) offsetof(struct own, f)
static const struct dp_opt rows[] = {
    {.name = "tokenizer", .letter = 't', .type = DP_OPT_STRING, .offset = O(tokenizer), .arg = "FILE", .help = "tokenizer file, or a folder with one"},
    {.name = "split", .type = DP_OPT_STRING, .offset = O(split), .arg = "NAME", .help = "pre-tokenizer, over the file's: gpt2, cl100k, o200k ... or regex:PATTERN"},
    {.name = "jsonl", .type = DP_OPT_BOOL, .offset = O(jsonl), .help = "lines are JSON objects (otherwise a line is a text)"},
    {.name = "field", .type = DP_OPT_STRING, .offset = O(field), .preset = "text", .arg = "NAME", .help = "the JSON member with the text"},
    {.name = "b64_field", .type = DP_OPT_STRING, .offset = O(b64_field), .arg = "NAME", .help = "the JSON member with the text's bytes in base64"},
    {.name = "whole_file", .type = DP_OPT_BOOL, .offset = O(whole_file), .help = "a file is one text (otherwise a line is)"},
    {.name = "special", .type = DP_OPT_CHOICE, .offset = O(special), .preset = "none", .choices = "none|all|added", .help = "whether the texts of added tokens become their ids: all, or those that aren't special"},
    {.name = "utf8", .type = DP_OPT_CHOICE, .offset = O(utf8), .preset = "keep", .choices = "keep|replace", .help = "bytes that are no UTF-8: as they are, or as U+FFFD as tiktoken has them (offsets are then of that text)"},
    {.name = "count", .type = DP_OPT_BOOL, .offset = O(count), .help = "only how many ids"},
    {.name = "total", .type = DP_OPT_BOOL, .offset = O(total), .help = "with --count: a line for each file and one for all, with texts and bytes, not one for each text"},
    {.name = "offsets", .type = DP_OPT_CHOICE, .offset = O(offsets), .preset = "none", .choices = "none|bytes|chars", .help = "where each id stands in its text: \"offsets\":[[begin,end],...]"},
    {.name = "output", .letter = 'o', .type = DP_OPT_STRING, .offset = O(output), .arg = "DIR", .help = "write token shards of the files into this new folder"},
    {.name = "eot", .type = DP_OPT_STRING, .offset = O(eot), .preset = "auto", .arg = "TOKEN", .help = "with -o, what ends each document: a special token, auto (<|endoftext|> if there is one) or none"},
    {.name = "on_error", .type = DP_OPT_CHOICE, .offset = O(on_error), .preset = "stop", .choices = "stop|skip", .help = "a line that is bad data ends it, or gives {\"error\":...,\"line\":N} (with -o: is left out)"},
    DP_OPT_END,
};

/* Of one thread. */
struct worker {
    struct dp_encoder *enc;
    struct dp_ids ids;
    struct dp_offset *offsets;
    size_t offsets_cap;
    struct dp_buf valid; /* a text with its bad bytes replaced */
    struct dp_arena mem;
};
struct counts {
    atomic_ullong texts, bytes, ids;
};
struct ctx {
    const struct own *o;
    struct dp_tokenizer *tok;
    int threads;
    struct worker *worker;
    struct dp_ids_printer printer;
    struct counts file; /* with --total, so far */
};

/* Of places in a text. */
static void print_number(struct dp_buf *b, uint64_t v)
{
    char t[20];
    int n = 0;
    do t[19 - n++] = (char)('0' + v % 10);
    while (v /= 10);
    dp_buf_add(b, t + 20 - n, (size_t)n);
}

static int print_offsets(struct ctx *c, struct worker *w, struct dp_span text, struct dp_buf *out, struct dp_err *e)
{
    if (w->ids.len > w->offsets_cap) {
        struct dp_offset *p = realloc(w->offsets, w->ids.cap * sizeof *p);
        if (!p) DP_FAIL(e, NOMEM, "%zu offsets", w->ids.cap);
        w->offsets = p;
        w->offsets_cap = w->ids.cap;
    }
    DP_TRY(dp_offsets(c->tok, text, w->ids.ptr, w->ids.len, c->o->offsets == OFFSETS_CHARS ? DP_OFFSET_CHARS : DP_OFFSET_BYTES, w->offsets, e));
    dp_buf_add_str(out, ",\"offsets\":[");
    for (size_t i = 0; i < w->ids.len; i++) {
        dp_buf_add_str(out, i ? ",[" : "[");
        print_number(out, w->offsets[i].begin);
        dp_buf_add_char(out, ',');
        print_number(out, w->offsets[i].end);
        dp_buf_add_char(out, ']');
    }
    dp_buf_add_char(out, ']');
    return DP_OK;
}

static int count_text(struct ctx *c, struct worker *w, struct dp_span text, struct dp_buf *out, struct dp_err *e)
{
    uint64_t n;
    DP_TRY(dp_encode_count(w->enc, text, &n, e));
    if (!c->o->total) dp_buf_printf(out, "{\"count\":%llu}\n", (unsigned long long)n);
    else {
        atomic_fetch_add(&c->file.texts, 1);
        atomic_fetch_add(&c->file.bytes, text.len);
        atomic_fetch_add(&c->file.ids, n);
    }
    return DP_OK;
}

/* `out` gets the line of one text. */
static int encode_text(struct ctx *c, struct worker *w, struct dp_span text, struct dp_buf *out, struct dp_err *e)
{
    if (!w->enc) DP_TRY(dp_encoder_open_beside(&w->enc, c->worker[0].enc, (enum dp_special_policy)c->o->special, e));
    if (c->o->utf8) DP_TRY(dp_utf8_replace(text, &w->valid, &text, e));
    if (c->o->count) return count_text(c, w, text, out, e);
    w->ids.len = 0;
    DP_TRY(dp_encode(w->enc, text, &w->ids, e));
    dp_buf_add_str(out, "{\"ids\":[");
    dp_ids_print(&c->printer, w->ids.ptr, w->ids.len, out);
    dp_buf_add_char(out, ']');
    if (c->o->offsets) DP_TRY(print_offsets(c, w, text, out, e));
    dp_buf_add_str(out, "}\n");
    if (w->ids.cap > 1 << 24) dp_ids_release(&w->ids);
    return DP_OK;
}

static int encode_line(void *ctx, int worker, struct dp_span line, struct dp_buf *out, struct dp_err *e)
{
    struct ctx *c = ctx;
    struct worker *w = &c->worker[worker];
    struct dp_span text = line;
    if (c->o->jsonl) DP_TRY(dp_text_of_json(line, c->o->field, c->o->b64_field, &w->mem, &text, e));
    int rc = encode_text(c, w, text, out, e);
    if (w->mem.bytes_held > 1 << 24) dp_arena_release(&w->mem);
    else dp_arena_reset(&w->mem);
    return rc;
}

/* A file is a text. */
static int encode_whole(void *ctx, struct dp_span text, struct dp_err *e)
{
    struct ctx *c = ctx;
    struct dp_buf out;
    dp_buf_init(&out, SIZE_MAX / 4);
    int rc = encode_text(c, &c->worker[0], text, &out, e);
    if (rc >= 0) rc = dp_buf_check(&out, "output", e);
    if (rc >= 0) rc = dp_fs_write_all(1, out.ptr, out.len, "standard output", e);
    dp_buf_release(&out);
    return rc;
}

static int open_ctx(struct ctx *c, const struct own *o, int threads, uint64_t cache, struct dp_err *e)
{
    *c = (struct ctx){.o = o, .threads = threads};
    DP_TRY(dp_tokenizer_load_file(&c->tok, o->tokenizer, o->split, e));
    c->worker = calloc((size_t)threads, sizeof *c->worker);
    if (!c->worker) DP_FAIL(e, NOMEM, "encoders");
    for (int i = 0; i < threads; i++) {
        dp_arena_init(&c->worker[i].mem, (size_t)2 << 30);
        dp_buf_init(&c->worker[i].valid, (size_t)4 << 30);
    }
    DP_TRY(dp_ids_printer_open(&c->printer, dp_tokenizer_size(c->tok), e));
    return dp_encoder_open(&c->worker[0].enc, c->tok, (size_t)cache, (enum dp_special_policy)o->special, e); /* tells now when it can't be done */
}

static void close_ctx(struct ctx *c)
{
    for (int i = 0; c->worker && i < c->threads; i++) {
        dp_encoder_close(c->worker[i].enc);
        dp_ids_release(&c->worker[i].ids);
        free(c->worker[i].offsets);
        dp_buf_release(&c->worker[i].valid);
        dp_arena_release(&c->worker[i].mem);
    }
    free(c->worker);
    dp_ids_printer_close(&c->printer);
    dp_tokenizer_free(c->tok);
}

/* What --total says: of a file, or of all (path NULL). */
static int print_counts(const char *path, size_t files, const uint64_t n[3], struct dp_err *e)
{
    struct dp_buf b;
    struct dp_jsonw w;
    dp_buf_init(&b, 1 << 20);
    dp_jsonw_init(&w, &b, 0);
    dp_jsonw_begin(&w, '{');
    dp_jsonw_key(&w, path ? "file" : "files");
    if (path) dp_jsonw_cstr(&w, path);
    else dp_jsonw_uint(&w, files);
    static const char *const keys[] = {"texts", "bytes", "count"};
    for (int i = 0; i < 3; i++) {
        dp_jsonw_key(&w, keys[i]);
        dp_jsonw_uint(&w, n[i]);
    }
    dp_jsonw_end(&w, '}');
    dp_buf_add_char(&b, '\n');
    int rc = dp_cli_print(&b, e);
    dp_buf_release(&b);
    return rc;
}

static int encode_files(struct ctx *c, const char *const *files, size_t n, uint64_t *skipped, struct dp_err *e)
{
    const struct dp_text_input whole = {.whole_file = true};
    struct dp_line_filter f = {.threads = c->threads, .skip = c->o->on_error, .ctx = c, .line = encode_line};
    int rc = DP_OK;
    if (!c->o->whole_file) rc = dp_line_filter_run(&f, files, n, e);
    for (size_t i = 0; rc >= 0 && c->o->whole_file && i < n; i++) rc = dp_text_input_each(&whole, files[i], encode_whole, c, e);
    *skipped += f.skipped;
    return rc;
}

static int encode_all(struct ctx *c, const char *const *files, size_t n, struct dp_err *e)
{
    uint64_t skipped = 0, all[3] = {0};
    if (!c->o->total) DP_TRY(encode_files(c, files, n, &skipped, e));
    for (size_t i = 0; c->o->total && i < n; i++) {
        c->file = (struct counts){0};
        DP_TRY(encode_files(c, files + i, 1, &skipped, e));
        const uint64_t now[3] = {c->file.texts, c->file.bytes, c->file.ids};
        DP_TRY(print_counts(files[i], 1, now, e));
        for (int k = 0; k < 3; k++) all[k] += now[k];
    }
    if (c->o->total) DP_TRY(print_counts(NULL, n, all, e));
    if (skipped) dp_log(WARN, "tokenize", "%llu lines were bad data and have an error in place of ids", (unsigned long long)skipped);
    return DP_OK;
}

static int to_shards(struct dp_cli *c, const struct own *o, const struct dp_file_list *files, struct dp_err *e)
{
    struct dp_tokenizer *tok;
    struct dp_tokenize_files t = {.folder = o->output, .field = o->field, .b64_field = o->b64_field, .jsonl = o->jsonl, .whole_file = o->whole_file, .skip = o->on_error, .replace = o->utf8,
                                  .special = (enum dp_special_policy)o->special, .eot = -1};
    if (!files->n) DP_FAIL(e, USAGE, "-o makes shards of files: which?");
    if (o->count || o->offsets) DP_FAIL(e, USAGE, "--count and --offsets print; -o writes shards, and says how many ids they have");
    DP_TRY(dp_tokenizer_load_file(&tok, o->tokenizer, o->split, e));
    int rc = DP_OK;
    if (strcmp(o->eot, "auto") == 0) t.eot = dp_tokenizer_eot(tok);
    else if (strcmp(o->eot, "none") != 0) {
        t.eot = dp_tokenizer_special(tok, dp_span_str(o->eot));
        if (t.eot < 0) rc = dp_err_set(e, DP_CONFIG, 0, __FILE__, __LINE__, "--eot %s: the tokenizer has no such special token", o->eot);
    }
    if (rc >= 0) rc = dp_tokenize_files(c, &t, tok, (const char *const *)files->path, files->n, e);
    dp_tokenizer_free(tok);
    return rc;
}

static int to_lines(struct dp_cli *c, const struct own *o, const struct dp_file_list *files, struct dp_err *e)
{
    static const char *const std = "-";
    struct ctx x;
    int rc = open_ctx(&x, o, (int)c->global.threads, c->options.shards.encoder_cache, e);
    if (rc >= 0) rc = encode_all(&x, files->n ? (const char *const *)files->path : &std, files->n ? files->n : 1, e);
    close_ctx(&x);
    return rc;
}

static int run(struct dp_cli *c, struct dp_err *e)
{
    const struct own *o = c->own;
    if (!o->tokenizer) {
        if (o->output) DP_FAIL(e, USAGE, "-o makes shards of files with a tokenizer: add --tokenizer FILE");
        if (c->nargs) DP_FAIL(e, USAGE, "files are given, but no tokenizer: add --tokenizer FILE");
        return dp_cli_run_until(c, DP_STEP_TOKENIZE, e);
    }
    if (o->b64_field && !o->jsonl) DP_FAIL(e, USAGE, "--b64-field is a member of JSON lines: add --jsonl");
    if (o->whole_file && o->jsonl) DP_FAIL(e, USAGE, "--whole-file and --jsonl: a file is one text, or lines with a text each?");
    if (o->total && !o->count) DP_FAIL(e, USAGE, "--total is for --count");
    if (o->count && o->offsets) DP_FAIL(e, USAGE, "--count gives no ids: --offsets has nothing to say");
    DP_TRY(dp_cli_options(c, e));
    struct dp_file_list files;
    DP_TRY(dp_file_list_open(&files, c->args, c->nargs, e));
    int rc = o->output ? to_shards(c, o, &files, e) : to_lines(c, o, &files, e);
    dp_file_list_close(&files);
    return rc;
}

extern const struct dp_command dp_cmd_tokenize;
const struct dp_command dp_cmd_tokenize = {.name = "tokenize", .summary = "texts to token ids", .args = "[-o DIR] [FILE...]", .rows = rows, .own_size = sizeof(struct own),
    .sections = "shards", .args_max = -1, .run = run,
    .about = "With --tokenizer: one JSON line {\"ids\":[...]} (with --count: {\"count\":N}) for each line of the files or standard input, in order, by --threads; a blank line\n"
             "is an empty text. A line of bad JSON, or without the member, ends it with status 65, its number on stderr, and all lines before it answered.\n"
             "A folder stands for the files below it. A partner that writes a line and waits gets its answer. docs/tokenize.md has it all.\n\n"
             "  dpipe tokenize --tokenizer cl100k_base.tiktoken --split cl100k --jsonl --field text <in.jsonl >ids.jsonl\n\n"
             "With -o: token shards of files, in the order of the files, for `dpipe feed --manifest`, `dpipe verify` and `dpipe export-shards --manifest`.\n\n"
             "  dpipe tokenize --tokenizer cl100k_base.tiktoken --split cl100k --jsonl -o shards/ a.jsonl b.jsonl\n\n"
             "Without a tokenizer: tokenizes the workspace's kept documents into shards, like `dpipe run --until tokenize`."};
