/* Opening goes over all of it before anything is copied: config, index, headers of all files, then each of our
 * parameters is looked up and its shape compared, then what no parameter asked for is looked at. Names are ours
 * (layout.c), which are Hugging Face's, or the same without "transformer." or "model.", as the bare model class
 * writes them. */
#include "trainer/import_hf.h"

#include "base/fs.h"
#include "base/hash.h"
#include "base/json.h"
#include "trainer/half.h"
#include "trainer/hf_config.h"
#include "trainer/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONFIG_BYTES_MAX = 16 << 20, INDEX_BYTES_MAX = 100 << 20, FILES_MAX = 4096 };

struct dp_hf {
    char *dir, *config_path;
    struct dp_model_config c;
    struct dp_safetensors **file; /* sorted by name */
    size_t files;
    struct dp_layout layout;
    const struct dp_safetensor **source; /* of layout.params[i] */
};

static int open_file(struct dp_hf *h, const char *name, struct dp_err *e)
{
    char *path = dp_fs_join(h->dir, name);
    if (!path) DP_FAIL(e, NOMEM, "%s", name);
    int rc = dp_safetensors_open(&h->file[h->files], path, e);
    free(path);
    if (rc >= 0) h->files++;
    return rc;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The files that the index's weight_map names, each once; names are of files in the folder, nothing else. */
static int index_files(const struct dp_json *map, const char *path, const char ***out, size_t *n, struct dp_err *e)
{
    if (!map || dp_json_kind(map) != DP_JSON_OBJECT || dp_json_count(map) == 0) DP_FAIL(e, CORRUPT, "%s: no \"weight_map\"", path);
    const char **names = calloc(dp_json_count(map), sizeof *names), *key;
    size_t count = 0;
    struct dp_json *v;
    if (!names) DP_FAIL(e, NOMEM, "%s", path);
    *out = names;
    for (void *it = NULL; (it = dp_json_next(map, it, &key, &v));) {
        struct dp_span s = dp_json_str(v);
        if (!s.ptr || s.len == 0 || s.ptr[0] == '.' || memchr(s.ptr, '/', s.len) || strlen(s.ptr) != s.len)
            DP_FAIL(e, CORRUPT, "%s: tensor \"%.80s\": \"%.*s\" is no name of a file in the folder", path, key, (int)(s.len < 80 ? s.len : 80), s.ptr ? s.ptr : "");
        names[count++] = s.ptr;
    }
    qsort(names, count, sizeof *names, compare_names);
    size_t unique = 0;
    for (size_t i = 0; i < count; i++)
        if (i == 0 || strcmp(names[i], names[i - 1]) != 0) names[unique++] = names[i];
    if (unique > FILES_MAX) DP_FAIL(e, LIMIT, "%s: %zu files of weights; at most %d", path, unique, FILES_MAX);
    *n = unique;
    return DP_OK;
}

static int open_index(struct dp_hf *h, const char *path, struct dp_err *e)
{
    struct dp_json *root;
    const char **names = NULL;
    size_t n = 0;
    DP_TRY(dp_json_parse_file(&root, path, INDEX_BYTES_MAX, e));
    int rc = index_files(dp_json_get(root, "weight_map"), path, &names, &n, e);
    if (rc >= 0 && !(h->file = calloc(n, sizeof *h->file))) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", path);
    for (size_t i = 0; rc >= 0 && i < n; i++) rc = open_file(h, names[i], e);
    free(names);
    dp_json_free(root);
    return rc;
}

static int open_files(struct dp_hf *h, struct dp_err *e)
{
    char *single = dp_fs_join(h->dir, "model.safetensors"), *index = dp_fs_join(h->dir, "model.safetensors.index.json");
    int rc;
    if (!single || !index) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", h->dir);
    else if (dp_fs_exists(single)) {
        h->file = calloc(1, sizeof *h->file);
        rc = h->file ? open_file(h, "model.safetensors", e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", single);
    } else if (dp_fs_exists(index)) rc = open_index(h, index, e);
    else
        rc = dp_err_set(e, DP_NOTFOUND, 0, __FILE__, __LINE__,
                        "%s: neither model.safetensors nor model.safetensors.index.json: other formats of weights aren't read (transformers' "
                        "save_pretrained writes this one)",
                        h->dir);
    free(single);
    free(index);
    return rc;
}

static int read_config(struct dp_hf *h, struct dp_err *e)
{
    struct dp_buf b;
    dp_buf_init(&b, CONFIG_BYTES_MAX);
    int rc = dp_fs_read(h->config_path, &b, e);
    if (rc == DP_NOTFOUND) dp_err_prefix(e, "%s is no Hugging Face model folder", h->dir);
    if (rc >= 0) rc = dp_hf_config_parse(dp_buf_span(&b), h->config_path, &h->c, e);
    dp_buf_release(&b);
    return rc;
}

static const struct dp_safetensor *find_name(const struct dp_hf *h, const char *name)
{
    for (size_t i = 0; i < h->files; i++) {
        const struct dp_safetensor *t = dp_safetensors_find(h->file[i], name);
        if (t) return t;
    }
    return NULL;
}

static const char *base_name(const char *name)
{
    const char *dot = strchr(name, '.');
    size_t n = dot ? (size_t)(dot - name) : 0;
    bool prefix = (n == 11 && memcmp(name, "transformer", n) == 0) || (n == 5 && memcmp(name, "model", n) == 0);
    return prefix ? dot + 1 : name;
}

static bool is_transposed(const struct dp_model_config *c, const struct dp_param *p)
{
    return c->arch == DP_ARCH_GPT2 && p->cols && strstr(p->name, ".h.");
}

static int check_tensor(const struct dp_hf *h, const struct dp_param *p, const struct dp_safetensor *t, struct dp_err *e)
{
    bool turned = is_transposed(&h->c, p);
    int64_t rows = turned ? p->cols : p->rows, cols = turned ? p->rows : p->cols;
    if (t->dims != (p->cols ? 2 : 1) || t->shape[0] != rows || (p->cols && t->shape[1] != cols))
        DP_FAIL(e, CORRUPT, "%s: tensor \"%s\" is [%lld%s%lld]%s where config.json asks for [%lld, %lld]: the files don't belong together", h->dir, t->name,
                (long long)(t->dims > 0 ? t->shape[0] : 0), ", ", (long long)(t->dims > 1 ? t->shape[1] : 0), t->dims > 2 ? " and more" : "",
                (long long)rows, (long long)cols);
    if (strcmp(t->dtype, "F32") != 0 && strcmp(t->dtype, "F16") != 0 && strcmp(t->dtype, "BF16") != 0)
        DP_FAIL(e, CONFIG, "%s: tensor \"%s\" is %s: F32, F16 and BF16 can be imported", h->dir, t->name, t->dtype);
    return DP_OK;
}

static int find_tensors(struct dp_hf *h, struct dp_err *e)
{
    h->source = calloc(h->layout.count, sizeof *h->source);
    if (!h->source) DP_FAIL(e, NOMEM, "%s: table of %zu tensors", h->dir, h->layout.count);
    for (size_t i = 0; i < h->layout.count; i++) {
        const struct dp_param *p = &h->layout.params[i];
        const struct dp_safetensor *t = find_name(h, p->name);
        if (!t) t = find_name(h, base_name(p->name));
        if (!t)
            DP_FAIL(e, CORRUPT, "%s: tensor \"%s\" is missing: the folder is incomplete, or config.json belongs to another model", h->dir, p->name);
        DP_TRY(check_tensor(h, p, t, e));
        h->source[i] = t;
    }
    return DP_OK;
}

static bool ends_with(const char *s, const char *end)
{
    size_t a = strlen(s), b = strlen(end);
    return a >= b && strcmp(s + a - b, end) == 0;
}

static int compare_names_of(const void *a, const void *b)
{
    return strcmp((*(const struct dp_safetensor *const *)a)->name, (*(const struct dp_safetensor *const *)b)->name);
}

/* What is in the files must be a parameter, a buffer, or the head of a tied model. */
static int check_rest(const struct dp_hf *h, struct dp_err *e)
{
    size_t n = h->layout.count;
    const struct dp_safetensor **known = calloc(n, sizeof *known);
    if (!known) DP_FAIL(e, NOMEM, "%s", h->dir);
    memcpy(known, h->source, n * sizeof *known);
    qsort(known, n, sizeof *known, compare_names_of);
    int rc = DP_OK;
    for (size_t f = 0; rc >= 0 && f < h->files; f++) {
        for (size_t i = 0; rc >= 0 && i < dp_safetensors_count(h->file[f]); i++) {
            const struct dp_safetensor *t = dp_safetensors_at(h->file[f], i);
            bool buffer = ends_with(t->name, "rotary_emb.inv_freq") ||
                          (h->c.arch == DP_ARCH_GPT2 && (ends_with(t->name, ".attn.bias") || ends_with(t->name, ".attn.masked_bias")));
            bool head = h->c.tied && strcmp(t->name, "lm_head.weight") == 0;
            const struct dp_safetensor **hit = bsearch(&t, known, n, sizeof *known, compare_names_of);
            if (buffer || head || (hit && *hit == t)) continue;
            if (hit) rc = dp_err_set(e, DP_CORRUPT, 0, __FILE__, __LINE__, "%s: tensor \"%s\" stands in another file too", dp_safetensors_path(h->file[f]), t->name);
            else rc = dp_err_set(e, DP_CONFIG, 0, __FILE__, __LINE__, "%s: tensor \"%s\" has no place in this program's %s: the model can't be imported",
                            dp_safetensors_path(h->file[f]), t->name, dp_arch_name(h->c.arch));
        }
    }
    free(known);
    return rc;
}

static int open_all(struct dp_hf *h, const char *dir, struct dp_err *e)
{
    h->dir = strdup(dir);
    h->config_path = dp_fs_join(dir, "config.json");
    if (!h->dir || !h->config_path) DP_FAIL(e, NOMEM, "%s", dir);
    DP_TRY(read_config(h, e));
    DP_TRY(open_files(h, e));
    DP_TRY(dp_layout_init(&h->layout, &h->c, e));
    DP_TRY(find_tensors(h, e));
    return check_rest(h, e);
}

int dp_hf_open(struct dp_hf **out, const char *dir, struct dp_err *e)
{
    *out = NULL;
    struct dp_hf *h = calloc(1, sizeof *h);
    if (!h) DP_FAIL(e, NOMEM, "%s", dir);
    int rc = open_all(h, dir, e);
    if (rc < 0) {
        dp_hf_close(h);
        return rc;
    }
    *out = h;
    return DP_OK;
}

void dp_hf_close(struct dp_hf *h)
{
    if (!h) return;
    for (size_t i = 0; i < h->files; i++) dp_safetensors_close(h->file[i]);
    dp_layout_release(&h->layout);
    free(h->file);
    free(h->source);
    free(h->dir);
    free(h->config_path);
    free(h);
}

const struct dp_model_config *dp_hf_config(const struct dp_hf *h)
{
    return &h->c;
}

static float element(const struct dp_safetensor *t, uint64_t i)
{
    uint16_t half;
    float x;
    if (t->dtype[0] == 'F' && t->dtype[1] == '3') {
        memcpy(&x, t->data + 4 * i, sizeof x);
        return x;
    }
    memcpy(&half, t->data + 2 * i, sizeof half);
    return t->dtype[0] == 'F' ? dp_from_f16(half) : dp_from_bf16(half);
}

/* to[rows][cols]; in the file [cols][rows] when `turned`, read in its own order over 16 of its rows. */
static bool copy_tensor(const struct dp_safetensor *t, int64_t rows, int64_t cols, bool turned, float *to)
{
    enum { TILE = 16 };
    bool finite = true;
    if (!turned) {
        for (uint64_t i = 0; i < (uint64_t)rows * (uint64_t)cols; i++) {
            to[i] = element(t, i);
            finite &= isfinite(to[i]);
        }
        return finite;
    }
    for (int64_t c0 = 0; c0 < cols; c0 += TILE) {
        for (int64_t r = 0; r < rows; r++) {
            for (int64_t c = c0; c < cols && c < c0 + TILE; c++) {
                float x = element(t, (uint64_t)(c * rows + r));
                to[r * cols + c] = x;
                finite &= isfinite(x);
            }
        }
    }
    return finite;
}

static bool same_config(const struct dp_model_config *a, const struct dp_model_config *b)
{
    return a->arch == b->arch && a->layers == b->layers && a->dim == b->dim && a->heads == b->heads && a->kv_heads == b->kv_heads && a->ffn == b->ffn &&
           a->vocab == b->vocab && a->tied == b->tied && a->qk_norm == b->qk_norm && dp_model_head_dim(a) == dp_model_head_dim(b) &&
           dp_model_norm_eps(a) == dp_model_norm_eps(b) && dp_model_rope_theta(a) == dp_model_rope_theta(b);
}

int dp_hf_load(const struct dp_hf *h, const struct dp_model_config *c, const struct dp_layout *l, float *p, struct dp_err *e)
{
    if (!same_config(c, &h->c) || l->count != h->layout.count)
        DP_FAIL(e, CONFIG, "%s: the model there has another shape than this one: take its own", h->dir);
    if (c->seq_len > h->c.seq_len)
        DP_FAIL(e, CONFIG, "%s: seq_len is %lld, but the model was made for %lld: use at most that", h->dir, (long long)c->seq_len, (long long)h->c.seq_len);
    for (size_t i = 0; i < l->count; i++) {
        const struct dp_param *to = &l->params[i];
        DP_ASSERT(strcmp(to->name, h->layout.params[i].name) == 0);
        if (!copy_tensor(h->source[i], to->rows, to->cols ? to->cols : 1, is_transposed(c, to), p + to->offset))
            DP_FAIL(e, CORRUPT, "%s: tensor \"%s\" has a weight that is no finite number: the files are damaged, or the model has diverged", h->dir,
                    h->source[i]->name);
    }
    return DP_OK;
}

int dp_hf_digest(const struct dp_hf *h, char hex[65], struct dp_err *e)
{
    struct dp_sha256 *s;
    char one[65];
    int rc = dp_fs_sha256(h->config_path, one, e);
    if (rc < 0) return rc;
    DP_TRY(dp_sha256_open(&s, e));
    dp_sha256_add(s, one, 64);
    for (size_t i = 0; rc >= 0 && i < h->files; i++) {
        rc = dp_fs_sha256(dp_safetensors_path(h->file[i]), one, e);
        if (rc >= 0) dp_sha256_add(s, one, 64);
    }
    if (rc >= 0) dp_sha256_finish(s, hex); /* which closes it */
    else dp_sha256_close(s);
    return rc;
}
