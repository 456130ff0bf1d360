/* The checksum goes over the data section in file order, so it is known before the header that
 * holds it is written; on load one pass over the map compares it. Shapes are compared tensor by
 * tensor although the config agrees: the file may be anybody's. */
#include "trainer/ckpt.h"

#include "base/hash.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char format_name[] = "dpipe-checkpoint-1";
enum { FIELDS = 9, EXTRAS = 6, OWN_META = FIELDS + EXTRAS + 4 };

struct dp_ckpt {
    struct dp_safetensors *file;
    struct dp_model_config config;
    int64_t step;
    uint64_t seed;
};

/* The config as named numbers, in the order of the file. */
struct field {
    const char *name;
    int64_t value;
};

static void fields_of(const struct dp_model_config *c, struct field f[FIELDS])
{
    const struct field all[FIELDS] = {
        {"arch", c->arch},       {"layers", c->layers},     {"dim", c->dim},
        {"heads", c->heads},     {"kv_heads", c->kv_heads}, {"ffn", c->ffn},
        {"seq_len", c->seq_len}, {"vocab", c->vocab},       {"tied", c->tied},
    };
    memcpy(f, all, sizeof all);
}

/* What a file states only when it isn't what older versions knew: the effective value and theirs. */
struct extra {
    const char *name;
    double value, usual, max;
};

static void extras_of(const struct dp_model_config *c, struct extra x[EXTRAS])
{
    const struct extra all[EXTRAS] = {
        {"qk_norm", c->qk_norm, 0, 1},
        {"head_dim", (double)c->head_dim, 0, INT32_MAX},
        {"norm_eps", c->norm_eps > 0 ? c->norm_eps : 1e-5, 1e-5, 1},
        {"rope_theta", dp_model_rope_theta(c), 10000, 1e12},
        {"mup_base_dim", (double)c->mup_base_dim, 0, INT32_MAX},
        {"mup_base_head_dim", (double)c->mup_base_head_dim, 0, INT32_MAX},
    };
    memcpy(x, all, sizeof all);
}

struct tables {
    struct dp_safetensors_item *items;
    char (*names)[DP_MODEL_NAME_MAX + 2];
    char values[OWN_META][32];
    struct dp_safetensors_kv meta[OWN_META + DP_CKPT_EXTRA_MAX];
    size_t own; /* of meta */
};

static const char *const prefixes[] = {"", "m.", "v."};

static uint32_t build_items(struct tables *t, const struct dp_ckpt_state *s)
{
    const float *blocks[] = {s->p, s->m, s->v};
    uint32_t crc = 0;
    size_t n = s->layout->count;
    for (size_t k = 0; k < 3; k++) {
        for (size_t i = 0; i < n; i++) {
            const struct dp_param *p = &s->layout->params[i];
            struct dp_safetensors_item *it = &t->items[k * n + i];
            snprintf(t->names[k * n + i], sizeof *t->names, "%s%s", prefixes[k], p->name);
            *it = (struct dp_safetensors_item){t->names[k * n + i],
                                               "F32",
                                               p->cols ? 2 : 1,
                                               {p->rows, p->cols},
                                               blocks[k] + p->offset};
            crc = dp_crc32c(crc, it->data, dp_param_count(p) * sizeof(float));
        }
    }
    return crc;
}

static int build_meta(struct tables *t, const struct dp_ckpt_state *s, uint32_t crc,
                      const struct dp_safetensors_kv *extra, size_t extra_count, struct dp_err *e)
{
    struct field f[FIELDS];
    fields_of(s->config, f);
    size_t n = 0;
    t->meta[n++] = (struct dp_safetensors_kv){"format", format_name};
    for (size_t i = 0; i < FIELDS; i++, n++) {
        if (i == 0) snprintf(t->values[n], sizeof *t->values, "%s", dp_arch_name(s->config->arch));
        else snprintf(t->values[n], sizeof *t->values, "%" PRId64, f[i].value);
        t->meta[n] = (struct dp_safetensors_kv){f[i].name, t->values[n]};
    }
    struct extra x[EXTRAS];
    extras_of(s->config, x);
    for (size_t i = 0; i < EXTRAS; i++) {
        if (x[i].value == x[i].usual) continue;
        snprintf(t->values[n], sizeof *t->values, "%.17g", x[i].value);
        t->meta[n] = (struct dp_safetensors_kv){x[i].name, t->values[n]};
        n++;
    }
    snprintf(t->values[n], sizeof *t->values, "%" PRId64, s->step);
    t->meta[n] = (struct dp_safetensors_kv){"step", t->values[n]};
    n++;
    snprintf(t->values[n], sizeof *t->values, "%" PRIu64, s->seed);
    t->meta[n] = (struct dp_safetensors_kv){"seed", t->values[n]};
    n++;
    snprintf(t->values[n], sizeof *t->values, "%08" PRIx32, crc);
    t->meta[n] = (struct dp_safetensors_kv){"crc32c", t->values[n]};
    n++;
    DP_ASSERT(n <= OWN_META);
    t->own = n;
    if (extra_count > DP_CKPT_EXTRA_MAX)
        DP_FAIL(e, LIMIT, "%zu extra keys in a checkpoint: at most %d", extra_count,
                DP_CKPT_EXTRA_MAX);
    for (size_t i = 0; i < extra_count; i++) {
        for (size_t k = 0; k < n + i; k++)
            if (strcmp(t->meta[k].key, extra[i].key) == 0)
                DP_FAIL(e, USAGE, "checkpoint key \"%s\" is taken: use another", extra[i].key);
        t->meta[n + i] = extra[i];
    }
    return DP_OK;
}

int dp_ckpt_write(const char *path, const struct dp_ckpt_state *s,
                  const struct dp_safetensors_kv *extra, size_t extra_count, struct dp_err *e)
{
    size_t n = s->layout->count * 3;
    struct tables *t = calloc(1, sizeof *t);
    int rc = DP_OK;
    if (!t || !(t->items = calloc(n, sizeof *t->items)) ||
        !(t->names = calloc(n, sizeof *t->names)))
        DP_GOTO(e, NOMEM, "%s: table of %zu tensors", path, n);
    uint32_t crc = build_items(t, s);
    DP_TRY_OUT(build_meta(t, s, crc, extra, extra_count, e));
    rc = dp_safetensors_write(path, t->items, n, t->meta, t->own + extra_count, e);
    if (rc < 0) dp_err_prefix(e, "checkpoint not saved (the one before it is untouched)");
out:
    if (t) {
        free(t->items);
        free(t->names);
    }
    free(t);
    return rc;
}

/* A decimal number of the metadata. */
static int meta_number(const struct dp_safetensors *f, const char *key, uint64_t max, uint64_t *out,
                       struct dp_err *e)
{
    struct dp_span s = dp_safetensors_meta(f, key);
    uint64_t v = 0;
    bool ok = s.ptr && s.len > 0 && s.len <= 20;
    for (size_t i = 0; ok && i < s.len; i++)
        ok = s.ptr[i] >= '0' && s.ptr[i] <= '9' && !__builtin_mul_overflow(v, UINT64_C(10), &v) &&
             !__builtin_add_overflow(v, (uint64_t)(s.ptr[i] - '0'), &v);
    if (!ok || v > max)
        DP_FAIL(e, CORRUPT,
                "%s: metadata \"%s\" is missing or no number: no dpipe checkpoint, or damaged; use "
                "an earlier one",
                dp_safetensors_path(f), key);
    *out = v;
    return DP_OK;
}

static int read_extras(struct dp_ckpt *c, struct dp_err *e)
{
    struct extra x[EXTRAS];
    extras_of(&c->config, x);
    for (size_t i = 0; i < EXTRAS; i++) {
        struct dp_span s = dp_safetensors_meta(c->file, x[i].name);
        if (!s.ptr) continue;
        char text[32], *end;
        snprintf(text, sizeof text, "%.*s", (int)(s.len < 31 ? s.len : 31), s.ptr);
        x[i].value = strtod(text, &end);
        if (!*text || *end || !(x[i].value >= 0 && x[i].value <= x[i].max))
            DP_FAIL(e, CORRUPT, "%s: metadata \"%s\" is \"%s\": damaged, or from a newer dpipe; use an earlier one",
                    dp_safetensors_path(c->file), x[i].name, text);
    }
    c->config.qk_norm = x[0].value != 0;
    c->config.head_dim = (int64_t)x[1].value;
    c->config.norm_eps = x[2].value;
    c->config.rope_theta = x[3].value;
    c->config.mup_base_dim = (int64_t)x[4].value;
    c->config.mup_base_head_dim = (int64_t)x[5].value;
    return DP_OK;
}

static int read_config(struct dp_ckpt *c, struct dp_err *e)
{
    uint64_t v[FIELDS] = {0};
    struct field f[FIELDS];
    fields_of(&c->config, f);
    struct dp_span arch = dp_safetensors_meta(c->file, "arch");
    if (!dp_span_is(arch, "gpt2") && !dp_span_is(arch, "llama"))
        DP_FAIL(e, CORRUPT, "%s: unknown architecture in the checkpoint: it needs a newer dpipe",
                dp_safetensors_path(c->file));
    for (size_t i = 1; i < FIELDS; i++)
        DP_TRY(meta_number(c->file, f[i].name, INT32_MAX, &v[i], e));
    c->config = (struct dp_model_config){
        .arch = dp_span_is(arch, "llama") ? DP_ARCH_LLAMA : DP_ARCH_GPT2,
        .layers = (int64_t)v[1],
        .dim = (int64_t)v[2],
        .heads = (int64_t)v[3],
        .kv_heads = (int64_t)v[4],
        .ffn = (int64_t)v[5],
        .seq_len = (int64_t)v[6],
        .vocab = (int64_t)v[7],
        .tied = v[8] != 0,
    };
    DP_TRY(read_extras(c, e));
    return dp_model_config_check(&c->config, e);
}

static int read_checked(struct dp_ckpt *c, struct dp_err *e)
{
    const char *path = dp_safetensors_path(c->file);
    if (!dp_span_is(dp_safetensors_meta(c->file, "format"), format_name))
        DP_FAIL(e, CORRUPT, "%s: no checkpoint of this program (metadata \"format\" is not \"%s\")",
                path, format_name);
    uint64_t step;
    DP_TRY(meta_number(c->file, "step", INT64_MAX, &step, e));
    DP_TRY(meta_number(c->file, "seed", UINT64_MAX, &c->seed, e));
    c->step = (int64_t)step;
    struct dp_span data = dp_safetensors_data(c->file),
                   want = dp_safetensors_meta(c->file, "crc32c");
    char got[16];
    snprintf(got, sizeof got, "%08" PRIx32, dp_crc32c(0, data.ptr, data.len));
    if (!want.ptr || !dp_span_is(want, got))
        DP_FAIL(
            e, CORRUPT,
            "%s: checksum is %s, not %.*s: the checkpoint is damaged; resume from an earlier one",
            path, got, (int)(want.len < 16 ? want.len : 16), want.ptr ? want.ptr : "");
    return read_config(c, e);
}

int dp_ckpt_open(struct dp_ckpt **out, const char *path, struct dp_err *e)
{
    *out = NULL;
    struct dp_ckpt *c = calloc(1, sizeof *c);
    if (!c) DP_FAIL(e, NOMEM, "%s", path);
    int rc = dp_safetensors_open(&c->file, path, e);
    if (rc >= 0) rc = read_checked(c, e);
    if (rc < 0) {
        if (rc == DP_CORRUPT) dp_err_prefix(e, "checkpoint");
        dp_ckpt_close(c);
        return rc;
    }
    *out = c;
    return DP_OK;
}

void dp_ckpt_close(struct dp_ckpt *c)
{
    if (!c) return;
    dp_safetensors_close(c->file);
    free(c);
}

const struct dp_model_config *dp_ckpt_config(const struct dp_ckpt *c)
{
    return &c->config;
}

int64_t dp_ckpt_step(const struct dp_ckpt *c)
{
    return c->step;
}

uint64_t dp_ckpt_seed(const struct dp_ckpt *c)
{
    return c->seed;
}

struct dp_span dp_ckpt_meta(const struct dp_ckpt *c, const char *key)
{
    return dp_safetensors_meta(c->file, key);
}

static int find_tensor(const struct dp_ckpt *c, const char *prefix, const struct dp_param *p,
                       const struct dp_safetensor **out, struct dp_err *e)
{
    char name[DP_MODEL_NAME_MAX + 2];
    snprintf(name, sizeof name, "%s%s", prefix, p->name);
    const struct dp_safetensor *t = dp_safetensors_find(c->file, name);
    const char *path = dp_safetensors_path(c->file);
    if (!t)
        DP_FAIL(e, CORRUPT,
                "%s: tensor \"%s\" is missing: the checkpoint is incomplete; resume from an "
                "earlier one",
                path, name);
    bool same = strcmp(t->dtype, "F32") == 0 && t->dims == (p->cols ? 2 : 1) &&
                t->shape[0] == p->rows && (!p->cols || t->shape[1] == p->cols);
    if (!same)
        DP_FAIL(e, CORRUPT,
                "%s: tensor \"%s\" has another shape or type than its own metadata says; resume "
                "from an earlier one",
                path, name);
    *out = t;
    return DP_OK;
}

int dp_ckpt_load(const struct dp_ckpt *c, struct dp_ckpt_state *s, struct dp_err *e)
{
    struct field have[FIELDS], want[FIELDS];
    fields_of(&c->config, have);
    fields_of(s->config, want);
    for (size_t i = 0; i < FIELDS; i++)
        if (have[i].value != want[i].value)
            DP_FAIL(e, CONFIG,
                    "%s: checkpoint has %s %s%lld, this run %s%lld: use the options it was trained "
                    "with, or another folder",
                    dp_safetensors_path(c->file), have[i].name, i ? "" : "no. ",
                    (long long)have[i].value, i ? "" : "no. ", (long long)want[i].value);
    struct extra had[EXTRAS], wanted[EXTRAS];
    extras_of(&c->config, had);
    extras_of(s->config, wanted);
    for (size_t i = 0; i < EXTRAS; i++)
        if (had[i].value != wanted[i].value)
            DP_FAIL(e, CONFIG,
                    "%s: checkpoint has %s %g, this run %g: use the options it was trained with, or "
                    "another folder",
                    dp_safetensors_path(c->file), had[i].name, had[i].value, wanted[i].value);
    float *blocks[] = {s->p, s->m, s->v};
    const struct dp_safetensor *t = NULL;
    for (int pass = 0; pass < 2; pass++) { /* all is checked before anything is overwritten */
        for (size_t k = 0; k < 3; k++) {
            for (size_t i = 0; blocks[k] && i < s->layout->count; i++) {
                const struct dp_param *p = &s->layout->params[i];
                DP_TRY(find_tensor(c, prefixes[k], p, &t, e));
                if (pass) memcpy(blocks[k] + p->offset, t->data, dp_param_count(p) * sizeof(float));
            }
        }
    }
    s->step = c->step;
    s->seed = c->seed;
    return DP_OK;
}
