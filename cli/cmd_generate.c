#include "base/json.h"
#include "cli/cli.h"
#include "cli/model_input.h"
#include "tokenizer/encode.h"
#include "trainer/generate.h"

#include <stdlib.h>

struct own {
    struct dp_model_input in;
    char *prompt;
    int64_t tokens, top_k;
    double temperature, top_p;
};
#define O(f) offsetof(struct own, f)
static const struct dp_opt rows[] = {
    {.name = "model", .type = DP_OPT_STRING, .offset = O(in.model), .arg = "FILE", .help = "a checkpoint; default: the workspace's model"},
    {.name = "prompt", .letter = 'p', .type = DP_OPT_STRING, .offset = O(prompt), .arg = "TEXT", .help = "how the text begins; default: the start of a document"},
    {.name = "tokens", .letter = 'n', .type = DP_OPT_INT, .offset = O(tokens), .preset = "100", .min = 1, .max = 1e6, .arg = "N", .help = "tokens to generate at most"},
    {.name = "temperature", .type = DP_OPT_REAL, .offset = O(temperature), .preset = "0.8", .min = 0, .max = 10, .arg = "T", .help = "0: always the likeliest token"},
    {.name = "top_k", .type = DP_OPT_INT, .offset = O(top_k), .preset = "50", .min = 0, .max = 1e6, .arg = "K", .help = "choose among the K likeliest; 0: all"},
    {.name = "top_p", .type = DP_OPT_REAL, .offset = O(top_p), .preset = "1", .min = 0, .max = 1, .arg = "P", .help = "choose among the likeliest that sum to P"},
    DP_OPT_END,
};

struct text {
    const struct dp_tokenizer *tok;
    struct dp_buf *out;
};

static int emit(void *ctx, int32_t token)
{
    struct text *t = ctx;
    dp_buf_add_span(t->out, dp_tokenizer_bytes(t->tok, (uint32_t)token));
    return 0;
}

static int prompt_ids(const struct own *o, const struct dp_tokenizer *tok, struct dp_ids *ids, struct dp_err *e)
{
    struct dp_encoder *enc;
    int64_t eot = dp_tokenizer_eot(tok);
    DP_TRY(dp_ids_reserve(ids, 1, e));
    if (eot >= 0) ids->ptr[ids->len++] = (uint32_t)eot; /* what stood before every document in training */
    if (!o->prompt) return DP_OK;
    DP_TRY(dp_encoder_open(&enc, tok, 1 << 20, DP_SPECIAL_NONE, e));
    int rc = dp_encode(enc, dp_span_str(o->prompt), ids, e);
    dp_encoder_close(enc);
    return rc;
}

static int run(struct dp_cli *c, struct dp_err *e)
{
    const struct own *o = c->own;
    struct dp_generator *g = NULL;
    struct dp_loaded_model m;
    struct dp_ids ids = {0};
    struct dp_buf b;
    int64_t count = 0;
    dp_buf_init(&b, 64 << 20);
    DP_TRY(dp_model_input_open(&m, c, &o->in, e));
    char *path = o->in.model ? strdup(o->in.model) : dp_road_path(&c->road, "train", c->road.train.hex, "model", 0, e);
    int rc = path ? dp_generator_open(&g, path, c->road.pool, e) : DP_NOTFOUND;
    if (rc >= 0) rc = prompt_ids(o, m.tokenizer, &ids, e);
    if (rc >= 0 && ids.len == 0) rc = dp_err_set(e, DP_USAGE, 0, __FILE__, __LINE__, "this tokenizer has no end-of-text token to begin with: give a --prompt");
    if (rc >= 0) {
        struct dp_generate_options go = {.temperature = o->temperature, .top_k = o->top_k, .top_p = o->top_p, .seed = c->global.seed >= 0 ? (uint64_t)c->global.seed : 0,
                                         .tokens_max = o->tokens, .stop = (int32_t)dp_tokenizer_eot(m.tokenizer)};
        struct text t = {m.tokenizer, &b};
        if (o->prompt && !c->global.json) dp_buf_add_str(&b, o->prompt);
        rc = dp_generate(g, (const int32_t *)ids.ptr, (int64_t)ids.len, &go, emit, &t, &count, e);
    }
    if (rc >= 0) {
        struct dp_buf out;
        dp_buf_init(&out, 256 << 20);
        if (c->global.json) {
            struct dp_jsonw w;
            dp_jsonw_init(&w, &out, 0);
            dp_jsonw_begin(&w, '{');
            dp_jsonw_key(&w, "prompt");
            dp_jsonw_cstr(&w, o->prompt ? o->prompt : "");
            dp_jsonw_key(&w, "text");
            dp_jsonw_str(&w, dp_buf_span(&b));
            dp_jsonw_key(&w, "tokens");
            dp_jsonw_int(&w, count);
            dp_jsonw_end(&w, '}');
        } else dp_buf_add_span(&out, dp_buf_span(&b));
        dp_buf_add_char(&out, '\n');
        rc = dp_cli_print(&out, e);
        dp_buf_release(&out);
    }
    free(path);
    dp_generator_close(g);
    dp_ids_release(&ids);
    dp_buf_release(&b);
    dp_model_input_close(&m);
    return rc;
}

extern const struct dp_command dp_cmd_generate;
const struct dp_command dp_cmd_generate = {.name = "generate", .summary = "sample text from the model", .args = "", .rows = rows, .own_size = sizeof(struct own),
    .run = run};
