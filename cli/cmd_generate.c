/* generate: the text goes out as it comes, whole characters and never a part of a stop string; with --json at the end, in one object. */
#include "base/clock.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/model_input.h"
#include "tokenizer/decode_stream.h"
#include "tokenizer/encode.h"
#include "tokenizer/stop_text.h"
#include "trainer/generate.h"

#include <stdlib.h>

enum { STOPS_MAX = 64 };

struct own {
    struct dp_model_files in;
    char *prompt, *prompt_file, *stop;
    int64_t tokens, top_k;
    double temperature, top_p, min_p, repetition_penalty;
    bool begin, ignore_eot, echo;
    int special;
};
#define O(f) offsetof(struct own, f)
static const struct dp_opt rows[] = {
    DP_MODEL_FILES_ROWS(struct own, in),
    {.name = "prompt", .letter = 'p', .type = DP_OPT_STRING, .offset = O(prompt), .arg = "TEXT", .help = "how the text begins; default: the start of a document"},
    {.name = "prompt_file", .type = DP_OPT_STRING, .offset = O(prompt_file), .arg = "FILE", .help = "the same from a file; -: standard input"},
    {.name = "tokens", .letter = 'n', .type = DP_OPT_INT, .offset = O(tokens), .preset = "100", .min = 0, .max = 1e6, .arg = "N", .help = "tokens to generate at most; 0: until the context is full"},
    {.name = "temperature", .type = DP_OPT_REAL, .offset = O(temperature), .preset = "0.8", .min = 0, .max = 10, .arg = "T", .help = "0: always the likeliest token"},
    {.name = "top_k", .type = DP_OPT_INT, .offset = O(top_k), .preset = "50", .min = 0, .max = 4194304, .arg = "K", .help = "choose among the K likeliest; 0: all"},
    {.name = "top_p", .type = DP_OPT_REAL, .offset = O(top_p), .preset = "1", .min = 1e-9, .max = 1, .arg = "P", .help = "choose among the likeliest that sum to P"},
    {.name = "min_p", .type = DP_OPT_REAL, .offset = O(min_p), .preset = "0", .min = 0, .max = 1, .arg = "P", .help = "choose among those at least P times as likely as the likeliest"},
    {.name = "repetition_penalty", .type = DP_OPT_REAL, .offset = O(repetition_penalty), .preset = "1", .min = 0.01, .max = 100, .arg = "X", .help = "make tokens of the context less likely, as transformers does"},
    {.name = "stop", .type = DP_OPT_STRING, .offset = O(stop), .arg = "TEXT", .help = "end before this text; several: a JSON array of strings"},
    {.name = "begin", .type = DP_OPT_BOOL, .offset = O(begin), .preset = "true", .help = "begin with the end-of-text token, which stood before every document in training"},
    {.name = "ignore_eot", .type = DP_OPT_BOOL, .offset = O(ignore_eot), .help = "go on behind an end-of-text token"},
    {.name = "echo", .type = DP_OPT_BOOL, .offset = O(echo), .preset = "true", .help = "the prompt before the text"},
    {.name = "special", .type = DP_OPT_CHOICE, .offset = O(special), .preset = "none", .choices = "none|all", .help = "whether the text of special tokens in the prompt becomes their ids"},
    DP_OPT_END,
};

struct text {
    const struct own *o;
    struct dp_decode_stream decode;
    struct dp_stop_text stop;
    struct dp_buf piece, out; /* out: all of the text with --json, else what is to be written next */
    bool stream, stopped;
    int64_t eot;
    struct dp_err *e;
};

static int write_out(struct text *t)
{
    if (!t->stream || !t->out.len) return DP_OK;
    if (fwrite(t->out.ptr, 1, t->out.len, stdout) != t->out.len || fflush(stdout) != 0) {
        int sys = errno;
        return dp_err_set(t->e, dp_code_of_errno(sys), sys, __FILE__, __LINE__, "stdout: cannot write the text");
    }
    dp_buf_clear(&t->out);
    return DP_OK;
}

static int emit(void *ctx, int32_t token)
{
    struct text *t = ctx;
    uint32_t id = (uint32_t)token;
    if (token == t->eot && !t->o->ignore_eot) return 0;
    dp_buf_clear(&t->piece);
    /* A row of the embedding without a token (padding) is no text. */
    if (dp_tokenizer_bytes(t->decode.t, id).ptr) DP_TRY(dp_decode_stream_push(&t->decode, &id, 1, &t->piece, t->e));
    t->stopped = dp_stop_text_push(&t->stop, dp_buf_span(&t->piece), &t->out);
    DP_TRY(dp_buf_check(&t->out, "the text", t->e));
    DP_TRY(write_out(t));
    return t->stopped;
}

static int end_text(struct text *t)
{
    dp_buf_clear(&t->piece);
    if (t->stopped) return DP_OK;
    DP_TRY(dp_decode_stream_finish(&t->decode, &t->piece, t->e));
    t->stopped = dp_stop_text_push(&t->stop, dp_buf_span(&t->piece), &t->out);
    dp_stop_text_finish(&t->stop, &t->out);
    return write_out(t);
}

/* One string, or with a [ at its beginning a JSON array of them, which *root then owns. */
static int parse_stops(const char *text, struct dp_span stops[STOPS_MAX], size_t *n, struct dp_json **root, struct dp_err *e)
{
    *n = 0;
    if (!text || !*text) return DP_OK;
    if (*text != '[') {
        stops[(*n)++] = dp_span_str(text);
        return DP_OK;
    }
    DP_TRY(dp_json_parse(root, dp_span_str(text), "--stop", e));
    if (dp_json_count(*root) > STOPS_MAX) DP_FAIL(e, USAGE, "--stop: at most %d strings", STOPS_MAX);
    for (size_t i = 0; i < dp_json_count(*root); i++) {
        stops[i] = dp_json_str(dp_json_at(*root, i));
        if (!stops[i].len) DP_FAIL(e, USAGE, "--stop: item %zu is no string, or empty", i);
        (*n)++;
    }
    return DP_OK;
}

static int read_prompt(const struct own *o, struct dp_buf *b, struct dp_err *e)
{
    if (o->prompt && o->prompt_file) DP_FAIL(e, USAGE, "--prompt and --prompt-file: choose one");
    if (o->prompt) dp_buf_add_str(b, o->prompt);
    if (!o->prompt_file) return dp_buf_check(b, "--prompt", e);
    return strcmp(o->prompt_file, "-") == 0 ? dp_fs_read_fd(0, "standard input", b, e) : dp_fs_read(o->prompt_file, b, e);
}

static int prompt_ids(const struct own *o, const struct dp_tokenizer *tok, struct dp_span prompt, struct dp_ids *ids, struct dp_err *e)
{
    struct dp_encoder *enc;
    int64_t eot = dp_tokenizer_eot(tok);
    DP_TRY(dp_ids_reserve(ids, 1, e));
    if (eot >= 0 && o->begin) ids->ptr[ids->len++] = (uint32_t)eot;
    if (prompt.len) {
        DP_TRY(dp_encoder_open(&enc, tok, 1 << 20, o->special ? DP_SPECIAL_ALL : DP_SPECIAL_NONE, e));
        int rc = dp_encode(enc, prompt, ids, e);
        dp_encoder_close(enc);
        if (rc < 0) return rc;
    }
    if (!ids->len) DP_FAIL(e, USAGE, "there is no token to begin with%s: give a --prompt", eot < 0 ? " (this tokenizer has no end-of-text token)" : "");
    return DP_OK;
}

struct result {
    struct dp_span prompt;
    int64_t prompt_tokens, tokens;
    const char *end;
    double seconds;
};

static int print_json(const struct text *t, const struct result *r, struct dp_err *e)
{
    struct dp_buf b;
    struct dp_jsonw w;
    dp_buf_init(&b, 512 << 20);
    dp_jsonw_init(&w, &b, 0);
    dp_jsonw_begin(&w, '{');
    dp_jsonw_key(&w, "prompt");
    dp_jsonw_str(&w, r->prompt);
    dp_jsonw_key(&w, "text");
    dp_jsonw_str(&w, dp_buf_span(&t->out));
    dp_jsonw_member_int(&w, "tokens", r->tokens);
    dp_jsonw_member_int(&w, "prompt_tokens", r->prompt_tokens);
    dp_jsonw_member(&w, "end", r->end);
    dp_jsonw_member_real(&w, "seconds", r->seconds);
    dp_jsonw_member_real(&w, "tokens_per_second", r->seconds > 0 ? (double)r->tokens / r->seconds : 0);
    dp_jsonw_end(&w, '}');
    dp_buf_add_char(&b, '\n');
    int rc = dp_buf_check(&b, "the text", e);
    if (rc >= 0) rc = dp_cli_print(&b, e);
    dp_buf_release(&b);
    return rc;
}

static int generate(struct dp_cli *c, const struct dp_model_parts *m, struct text *t, struct dp_span prompt, struct dp_pool *pool, struct dp_err *e)
{
    static const char *const ends[] = {"tokens", "end of text", "context", "stop"};
    const struct own *o = c->own;
    const struct dp_generate_options go = {.temperature = o->temperature, .top_k = o->top_k, .top_p = o->top_p, .min_p = o->min_p, .repetition = o->repetition_penalty,
                                           .seed = c->global.seed >= 0 ? (uint64_t)c->global.seed : 0, .tokens_max = o->tokens,
                                           .stop = o->ignore_eot ? -1 : (int32_t)t->eot};
    struct dp_generator *g;
    struct dp_ids ids = {0};
    struct result r = {.prompt = prompt};
    enum dp_generate_end end = DP_END_TOKENS;
    DP_TRY(dp_generator_open_model(&g, &m->weights.c, m->weights.p, pool, e));
    int rc = prompt_ids(o, m->tokenizer, prompt, &ids, e);
    if (rc >= 0 && t->stream && o->echo) {
        dp_buf_add_span(&t->out, prompt);
        rc = write_out(t);
    }
    double begin = dp_now();
    if (rc >= 0) rc = dp_generate(g, (const int32_t *)ids.ptr, (int64_t)ids.len, &go, emit, t, &r.tokens, &end, e);
    if (rc >= 0) rc = end_text(t);
    r.seconds = dp_now() - begin;
    r.prompt_tokens = (int64_t)ids.len;
    r.end = ends[t->stopped ? DP_END_CALLER : end];
    if (rc >= 0 && t->stream) {
        dp_buf_add_char(&t->out, '\n');
        rc = write_out(t);
        dp_log(INFO, "generate", "%lld tokens behind %lld of the prompt in %.2f s: %.1f tokens/s; end: %s", (long long)r.tokens, (long long)r.prompt_tokens, r.seconds,
               r.seconds > 0 ? (double)r.tokens / r.seconds : 0, r.end);
    } else if (rc >= 0) rc = print_json(t, &r, e);
    dp_generator_close(g);
    dp_ids_release(&ids);
    return rc;
}

static int run(struct dp_cli *c, struct dp_err *e)
{
    const struct own *o = c->own;
    struct dp_span stops[STOPS_MAX];
    struct dp_json *root = NULL;
    struct dp_model_parts m = {0};
    struct dp_pool *pool = NULL;
    struct dp_buf prompt;
    size_t n = 0;
    dp_buf_init(&prompt, 64 << 20);
    int rc = parse_stops(o->stop, stops, &n, &root, e);
    if (rc >= 0) rc = read_prompt(o, &prompt, e);
    if (rc >= 0) rc = dp_model_parts_open(&m, c, &o->in, e);
    if (rc >= 0) rc = dp_pool_open(&pool, (int)c->global.threads, e);
    if (rc >= 0) {
        struct text t = {.o = o, .stream = !c->global.json, .eot = dp_tokenizer_eot(m.tokenizer), .e = e};
        dp_decode_stream_init(&t.decode, m.tokenizer, DP_BAD_REPLACE, false);
        dp_stop_text_init(&t.stop, stops, n);
        dp_buf_init(&t.piece, 16 << 20);
        dp_buf_init(&t.out, 256 << 20);
        rc = generate(c, &m, &t, dp_buf_span(&prompt), pool, e);
        dp_stop_text_release(&t.stop);
        dp_buf_release(&t.piece);
        dp_buf_release(&t.out);
    }
    if (pool) dp_pool_close(pool);
    dp_model_parts_close(&m);
    dp_json_free(root);
    dp_buf_release(&prompt);
    return rc;
}

extern const struct dp_command dp_cmd_generate;
const struct dp_command dp_cmd_generate = {.name = "generate", .summary = "sample text from a model", .args = "", .rows = rows, .own_size = sizeof(struct own), .run = run,
    .about = "From the workspace's model, a checkpoint, or a Hugging Face folder (--model, with --tokenizer where the model's folder hasn't got one). Text goes to\n"
             "standard output as it is made; the same seed gives the same text on every machine and for every number of threads. docs/models.md."};
