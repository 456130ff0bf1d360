/* Names are ours already (layout.c); GPT-2's matrices inside blocks are Conv1D's there, [in, out]. */
#include "trainer/export_model.h"

#include "base/fs.h"
#include "trainer/hf_config.h"
#include "trainer/safetensors.h"

#include <stdlib.h>
#include <string.h>

static const char *const file_types[] = {"F32", "F16", "BF16"}, *const torch_types[] = {"float32", "float16", "bfloat16"};

static int add_bytes(void *ctx, const void *p, size_t n, struct dp_err *e)
{
    return dp_safetensors_add(ctx, p, n, e);
}

static bool transposed(const struct dp_weights *w, const struct dp_param *p)
{
    return w->c.arch == DP_ARCH_GPT2 && p->cols && strstr(p->name, ".h.");
}

static int write_tensors(const struct dp_weights *w, enum dp_weights_type type, struct dp_safetensors_writer *out, struct dp_err *e)
{
    for (size_t i = 0; i < w->layout.count; i++) {
        const struct dp_param *p = &w->layout.params[i];
        struct dp_weights_part part = {.name = p->name, .p = w->p + p->offset, .rows = p->rows, .cols = p->cols ? p->cols : 1, .type = (int)type};
        if (transposed(w, p)) {
            part.order = DP_WEIGHTS_TRANSPOSED;
            part.rows = p->cols;
            part.cols = p->rows;
        }
        DP_TRY(dp_weights_emit(&part, add_bytes, out, e));
    }
    return dp_safetensors_finish(out, e);
}

static int write_weights(const struct dp_weights *w, enum dp_weights_type type, const char *path, struct dp_err *e)
{
    static const struct dp_safetensors_kv meta = {"format", "pt"}; /* transformers asks for it */
    struct dp_safetensors_item *items = calloc(w->layout.count, sizeof *items);
    struct dp_safetensors_writer *out;
    if (!items) DP_FAIL(e, NOMEM, "%s", path);
    for (size_t i = 0; i < w->layout.count; i++) {
        const struct dp_param *p = &w->layout.params[i];
        bool turn = transposed(w, p);
        items[i] = (struct dp_safetensors_item){.name = p->name, .dtype = file_types[type], .dims = p->cols ? 2 : 1,
                                                .shape = {turn ? p->cols : p->rows, turn ? p->rows : p->cols}};
    }
    int rc = dp_safetensors_create(&out, path, items, w->layout.count, &meta, 1, e);
    if (rc >= 0) {
        rc = write_tensors(w, type, out, e);
        dp_safetensors_writer_close(out);
    }
    free(items);
    return rc;
}

/* Ids that transformers' generate() stops at; no class defaults of another vocabulary. */
static void generation_config(int64_t eot, struct dp_buf *b)
{
    struct dp_jsonw w;
    dp_jsonw_init(&w, b, 2);
    dp_jsonw_begin(&w, '{');
    if (eot >= 0) {
        dp_jsonw_member_int(&w, "bos_token_id", eot);
        dp_jsonw_member_int(&w, "eos_token_id", eot);
        dp_jsonw_member_int(&w, "pad_token_id", eot);
    }
    dp_jsonw_end(&w, '}');
    dp_buf_add_char(b, '\n');
}

static int write_text(const char *dir, const char *name, struct dp_buf *b, struct dp_err *e)
{
    char *path = dp_fs_join(dir, name);
    if (!path) DP_FAIL(e, NOMEM, "%s", name);
    int rc = dp_buf_check(b, name, e);
    if (rc >= 0) rc = dp_fs_write_atomic(path, dp_buf_span(b), e);
    free(path);
    dp_buf_clear(b);
    return rc;
}

int dp_export_hf(struct dp_weights *w, enum dp_weights_type type, int64_t eot, const char *dir, struct dp_err *e)
{
    struct dp_buf b;
    char *path = dp_fs_join(dir, "model.safetensors");
    if (!path) DP_FAIL(e, NOMEM, "%s", dir);
    dp_buf_init(&b, 1 << 20);
    dp_weights_fold_mup(w);
    int rc = dp_hf_config_write(&w->c, torch_types[type], eot, &b, e);
    if (rc >= 0) rc = write_text(dir, "config.json", &b, e);
    generation_config(eot, &b);
    if (rc >= 0) rc = write_text(dir, "generation_config.json", &b, e);
    if (rc >= 0) rc = write_weights(w, type, path, e);
    dp_buf_release(&b);
    free(path);
    return rc;
}
