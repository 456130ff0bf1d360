#include "base/docs.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/progress.h"
#include "cli/cli.h"
#include "cli/text_input.h"
#include "tokenizer/tokenizer.h"

#include <stdlib.h>

struct own {
    char *output, *field;
    bool whole_file, jsonl;
};
static const struct dp_opt rows[] = {
    {.name = "output", .letter = 'o', .type = DP_OPT_STRING, .offset = offsetof(struct own, output), .arg = "DIR", .help = "train on the files given and write the tokenizer into DIR"},
    {.name = "whole_file", .type = DP_OPT_BOOL, .offset = offsetof(struct own, whole_file), .help = "a file is one text (otherwise a line is)"},
    {.name = "jsonl", .type = DP_OPT_BOOL, .offset = offsetof(struct own, jsonl), .help = "files are JSON lines"},
    {.name = "field", .type = DP_OPT_STRING, .offset = offsetof(struct own, field), .preset = "text", .arg = "NAME", .help = "the JSON member with the text"},
    DP_OPT_END,
};

static int count_text(void *ctx, struct dp_span text, struct dp_err *e)
{
    dp_progress_add(text.len, 0);
    return dp_bpe_counter_add(ctx, text, e);
}

static int merges_done(struct dp_cli *c, struct dp_bpe_counter *counter, struct dp_tokenizer **t, struct dp_err *e)
{
    dp_progress_begin("train-bpe", "tokens", (uint64_t)c->options.bpe.vocab_size);
    int rc = dp_bpe_train(t, &c->options.bpe, counter, NULL, NULL, e);
    dp_progress_end();
    return rc;
}

static int write_file(const char *dir, const char *name, int rc, const struct dp_buf *b, struct dp_err *e)
{
    if (rc < 0) return rc;
    char *p = dp_fs_join(dir, name);
    if (!p) DP_FAIL(e, NOMEM, "%s", name);
    rc = dp_fs_write_atomic(p, dp_buf_span(b), e);
    free(p);
    return rc;
}

static int write_all(const struct own *o, const struct dp_tokenizer *t, const struct dp_bpe_counter *counter, struct dp_err *e)
{
    struct dp_buf b;
    dp_buf_init(&b, (size_t)1 << 30);
    int rc = write_file(o->output, "tokenizer.json", dp_tokenizer_save_hf(t, &b, e), &b, e);
    dp_buf_clear(&b);
    if (rc >= 0) rc = write_file(o->output, "vocab.json", dp_tokenizer_save_vocab(t, &b, e), &b, e);
    dp_buf_clear(&b);
    if (rc >= 0) rc = write_file(o->output, "merges.txt", dp_tokenizer_save_merges(t, &b, e), &b, e);
    dp_buf_clear(&b);
    if (rc >= 0) rc = write_file(o->output, "tokenizer.tiktoken", dp_tokenizer_save_tiktoken(t, &b, e), &b, e);
    dp_buf_clear(&b);
    if (rc >= 0) {
        struct dp_jsonw w;
        dp_jsonw_init(&w, &b, 2);
        dp_jsonw_begin(&w, '{');
        dp_jsonw_key(&w, "tokens");
        dp_jsonw_uint(&w, dp_tokenizer_tokens(t));
        dp_jsonw_key(&w, "merges");
        dp_jsonw_uint(&w, dp_tokenizer_merges(t));
        dp_jsonw_key(&w, "words_unique");
        dp_jsonw_uint(&w, dp_bpe_counter_unique(counter));
        dp_jsonw_key(&w, "words_left_out");
        dp_jsonw_uint(&w, dp_bpe_counter_left_out(counter));
        dp_jsonw_key(&w, "words");
        dp_jsonw_uint(&w, dp_bpe_counter_total(counter));
        dp_jsonw_end(&w, '}');
        dp_buf_add_char(&b, '\n');
        rc = write_file(o->output, "report.json", DP_OK, &b, e);
    }
    dp_buf_release(&b);
    return rc;
}

static int train_files(struct dp_cli *c, struct dp_err *e)
{
    const struct own *o = c->own;
    struct dp_bpe_counter *counter = NULL;
    struct dp_tokenizer *t = NULL;
    struct dp_text_input in = {.whole_file = o->whole_file, .jsonl = o->jsonl, .field = o->field, .keep_newline = !o->jsonl};
    DP_TRY(dp_cli_options(c, e));
    if (!c->nargs) DP_FAIL(e, USAGE, "-o trains on files: which? (without -o the workspace's kept documents are used)");
    int rc = dp_fs_mkdirs(o->output, e);
    if (rc >= 0) rc = dp_bpe_counter_open_for(&counter, &c->options.bpe, e);
    if (rc >= 0) dp_bpe_counter_budget(counter, c->global.memory / 4, o->output);
    dp_progress_begin("count", "B", 0);
    for (size_t i = 0; rc >= 0 && i < c->nargs; i++) rc = dp_text_input_each(&in, c->args[i], count_text, counter, e);
    dp_progress_end();
    if (rc >= 0 && dp_bpe_counter_total(counter) == 0) rc = dp_err_set(e, DP_CORRUPT, 0, __FILE__, __LINE__, "the files hold no text to learn from");
    if (rc >= 0) rc = merges_done(c, counter, &t, e);
    if (rc >= 0) rc = write_all(o, t, counter, e);
    if (rc >= 0) dp_log(INFO, "train-bpe", "%u tokens from %llu distinct words, in %s", dp_tokenizer_tokens(t), (unsigned long long)dp_bpe_counter_unique(counter), o->output);
    dp_tokenizer_free(t);
    dp_bpe_counter_close(counter);
    return rc;
}

static int run(struct dp_cli *c, struct dp_err *e)
{
    const struct own *o = c->own;
    if (o->output) return train_files(c, e);
    if (c->nargs) DP_FAIL(e, USAGE, "files are given, but no folder for the tokenizer: add -o DIR");
    return dp_cli_run_until(c, DP_STEP_TRAIN_BPE, e);
}

extern const struct dp_command dp_cmd_train_bpe;
const struct dp_command dp_cmd_train_bpe = {.name = "train-bpe", .summary = "train a byte-level BPE tokenizer", .args = "[-o DIR FILE...]", .rows = rows,
    .own_size = sizeof(struct own), .sections = "train-bpe tokenizer", .args_max = -1, .run = run,
    .about = "On the workspace's kept documents; or, with -o, on files: writes tokenizer.json, vocab.json, merges.txt, tokenizer.tiktoken and report.json."};
