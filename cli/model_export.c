#include "cli/model_export.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/out_folder.h"
#include "cli/tokenizer_verbs.h"
#include "trainer/export_model.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *const type_names[] = {"f32", "f16", "bf16"};

struct facts {
    const struct dp_model_parts *m;
    const char *format, *dtype;
};

static void receipt_facts(struct dp_jsonw *w, const void *ctx)
{
    const struct facts *f = ctx;
    dp_jsonw_member(w, "format", f->format);
    dp_jsonw_member(w, "dtype", f->dtype);
    dp_jsonw_member(w, "arch", dp_arch_name(f->m->weights.c.arch));
    dp_jsonw_member_uint(w, "parameters", f->m->weights.layout.total);
}

/* The last part of the output's path, without .gguf and slashes: what GGUF calls the model. */
static char *default_name(const char *output)
{
    size_t n = strlen(output);
    while (n > 1 && output[n - 1] == '/') n--;
    if (n > 5 && strncmp(output + n - 5, ".gguf", 5) == 0) n -= 5;
    size_t from = n;
    while (from > 0 && output[from - 1] != '/') from--;
    return strndup(output + from, n - from);
}

/* Beside its target, so that a file of this name is whole or absent. */
static int write_file(struct dp_model_parts *m, const struct dp_model_export *o, const char *name, const char *path, struct dp_err *e)
{
    size_t n = strlen(path) + 16;
    char *tmp = malloc(n);
    int rc = tmp ? DP_OK : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", path), fd = -1;
    if (tmp) snprintf(tmp, n, "%s.tmp%d", path, (int)getpid());
    if (rc >= 0) rc = dp_export_gguf(&m->weights, (enum dp_weights_type)o->dtype, m->tokenizer, name, tmp, e);
    if (rc >= 0 && (fd = open(tmp, O_RDONLY | O_CLOEXEC)) < 0) rc = dp_err_set(e, DP_IO, errno, __FILE__, __LINE__, "%s", tmp);
    if (rc >= 0) rc = dp_fs_publish(fd, tmp, path, e);
    if (fd >= 0) close(fd);
    if (rc < 0 && tmp) (void)unlink(tmp);
    free(tmp);
    return rc;
}

static int write_folder(struct dp_model_parts *m, const struct dp_model_export *o, bool gguf, const char *name, const char *dir, struct dp_err *e)
{
    struct dp_out_folder d = DP_OUT_FOLDER_INIT;
    struct facts facts = {m, gguf ? "gguf" : "hf", type_names[o->dtype]};
    char *path = NULL;
    int rc = dp_out_folder_open(&d, dir, e);
    if (rc >= 0 && !(path = dp_fs_join(d.tmp, "model.gguf"))) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", dir);
    if (rc >= 0 && gguf) rc = dp_export_gguf(&m->weights, (enum dp_weights_type)o->dtype, m->tokenizer, name, path, e);
    if (rc >= 0 && !gguf) rc = dp_export_hf(&m->weights, (enum dp_weights_type)o->dtype, dp_tokenizer_eot(m->tokenizer), d.tmp, e);
    if (rc >= 0 && !gguf) rc = dp_tokenizer_write_folder(m->tokenizer, d.tmp, e);
    if (rc >= 0) rc = dp_out_folder_receipt(&d, receipt_facts, &facts, e);
    if (rc >= 0) rc = dp_out_folder_publish(&d, e);
    dp_out_folder_close(&d, rc < 0);
    free(path);
    return rc;
}

int dp_cli_export_model(struct dp_cli *c, const struct dp_model_export *o, bool gguf, const char *output, struct dp_err *e)
{
    struct dp_model_parts m;
    size_t n = strlen(output);
    char *name = o->name ? strdup(o->name) : default_name(output);
    if (!name) DP_FAIL(e, NOMEM, "export");
    int rc = dp_model_parts_open(&m, c, &o->in, e);
    if (rc >= 0) {
        bool file = gguf && n > 5 && strcmp(output + n - 5, ".gguf") == 0;
        rc = file ? write_file(&m, o, name, output, e) : write_folder(&m, o, gguf, name, output, e);
        if (rc >= 0) dp_log(INFO, "export", "wrote %s, %s", output, type_names[o->dtype]);
        if (rc >= 0) rc = DP_SAY(c, e, {"format", gguf ? "gguf" : "hf", 0}, {"dtype", type_names[o->dtype], 0}, {"output", output, 0}, {"parameters", NULL, m.weights.layout.total});
        dp_model_parts_close(&m);
    }
    free(name);
    return rc;
}
