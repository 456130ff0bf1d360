/* The header goes through base/json (depth, duplicates and UTF-8 are its business); then each entry
 * is checked by itself, and all of them sorted by offset must follow each other without gap to the
 * end of the file. Names are looked up through a second, sorted table. A tensor's size is computed
 * with overflow checks before it is compared with anything. */
#include "trainer/safetensors.h"

#include "base/fs.h"
#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct dp_safetensors {
    struct dp_map map;
    char *path;
    struct dp_json *json;
    struct dp_safetensor *tensors, **by_name;
    size_t count;
    const struct dp_json *meta;
    struct dp_span data;
};

static const struct {
    const char *name;
    unsigned bytes;
} dtypes[] = {{"F32", 4}, {"I32", 4}, {"F64", 8},  {"F16", 2},     {"BF16", 2},
              {"I64", 8}, {"U64", 8}, {"U32", 4},  {"I16", 2},     {"U16", 2},
              {"I8", 1},  {"U8", 1},  {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};

/* The table's own text and the size of one element; NULL when unknown. */
static const char *dtype_find(struct dp_span name, unsigned *bytes)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (dp_span_is(name, dtypes[i].name)) {
            *bytes = dtypes[i].bytes;
            return dtypes[i].name;
        }
    }
    return NULL;
}

/* shape -> elements; false when it overflows or a dimension is negative. */
static bool count_elements(struct dp_safetensor *t)
{
    t->elements = 1;
    for (int i = 0; i < t->dims; i++)
        if (t->shape[i] < 0 ||
            __builtin_mul_overflow(t->elements, (uint64_t)t->shape[i], &t->elements))
            return false;
    return true;
}

static int read_entry(struct dp_safetensors *s, const char *name, const struct dp_json *v,
                      struct dp_err *e)
{
    struct dp_safetensor *t = &s->tensors[s->count];
    const struct dp_json *shape = dp_json_get(v, "shape"),
                         *offsets = dp_json_get(v, "data_offsets");
    unsigned size = 0;
    uint64_t bytes;
    struct dp_span dtype = dp_json_str(dp_json_get(v, "dtype"));
    t->name = name;
    t->dtype = dtype.ptr ? dtype_find(dtype, &size) : NULL;
    if (!t->dtype)
        DP_FAIL(e, CORRUPT,
                "%s: tensor \"%.80s\" has dtype \"%.*s\", which safetensors doesn't know", s->path,
                name, (int)(dtype.len < 20 ? dtype.len : 20), dtype.ptr ? dtype.ptr : "");
    if (!shape || dp_json_kind(shape) != DP_JSON_ARRAY ||
        dp_json_count(shape) > DP_SAFETENSORS_DIMS)
        DP_FAIL(e, CORRUPT, "%s: tensor \"%.80s\" has no shape of at most %d dimensions", s->path,
                name, DP_SAFETENSORS_DIMS);
    t->dims = (int)dp_json_count(shape);
    for (int i = 0; i < t->dims; i++) t->shape[i] = dp_json_int(dp_json_at(shape, (size_t)i), -1);
    if (!count_elements(t) || __builtin_mul_overflow(t->elements, (uint64_t)size, &bytes))
        DP_FAIL(e, CORRUPT, "%s: tensor \"%.80s\" has an impossible shape", s->path, name);
    if (!offsets || dp_json_kind(offsets) != DP_JSON_ARRAY || dp_json_count(offsets) != 2)
        DP_FAIL(e, CORRUPT, "%s: tensor \"%.80s\" has no pair of data_offsets", s->path, name);
    int64_t begin = dp_json_int(dp_json_at(offsets, 0), -1),
            end = dp_json_int(dp_json_at(offsets, 1), -1);
    if (begin < 0 || end < begin || (uint64_t)end > s->data.len)
        DP_FAIL(e, CORRUPT,
                "%s: tensor \"%.80s\" lies at [%lld, %lld) of %zu bytes of data: the file is cut "
                "off or damaged",
                s->path, name, (long long)begin, (long long)end, s->data.len);
    if ((uint64_t)(end - begin) != bytes)
        DP_FAIL(e, CORRUPT, "%s: tensor \"%.80s\" has %lld bytes where its shape needs %llu",
                s->path, name, (long long)(end - begin), (unsigned long long)bytes);
    t->begin = (uint64_t)begin;
    t->end = (uint64_t)end;
    t->data = s->data.ptr + begin;
    s->count++;
    return DP_OK;
}

static int compare_offset(const void *a, const void *b)
{
    const struct dp_safetensor *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int compare_name(const void *a, const void *b)
{
    return strcmp((*(struct dp_safetensor *const *)a)->name,
                  (*(struct dp_safetensor *const *)b)->name);
}

static int read_metadata(struct dp_safetensors *s, const struct dp_json *v, struct dp_err *e)
{
    if (dp_json_kind(v) != DP_JSON_OBJECT)
        DP_FAIL(e, CORRUPT, "%s: __metadata__ is no object", s->path);
    const char *key;
    struct dp_json *value;
    for (void *it = NULL; (it = dp_json_next(v, it, &key, &value));)
        if (dp_json_kind(value) != DP_JSON_STRING)
            DP_FAIL(e, CORRUPT, "%s: __metadata__ \"%.80s\" is no string", s->path, key);
    s->meta = v;
    return DP_OK;
}

static int read_entries(struct dp_safetensors *s, struct dp_err *e)
{
    if (dp_json_kind(s->json) != DP_JSON_OBJECT)
        DP_FAIL(e, CORRUPT, "%s: the header is no JSON object", s->path);
    size_t members = dp_json_count(s->json);
    s->tensors = calloc(members + 1, sizeof *s->tensors);
    s->by_name = calloc(members + 1, sizeof *s->by_name);
    if (!s->tensors || !s->by_name) DP_FAIL(e, NOMEM, "%s: table of %zu tensors", s->path, members);
    const char *key;
    struct dp_json *value;
    for (void *it = NULL; (it = dp_json_next(s->json, it, &key, &value));) {
        if (strcmp(key, "__metadata__") == 0) DP_TRY(read_metadata(s, value, e));
        else DP_TRY(read_entry(s, key, value, e));
    }
    qsort(s->tensors, s->count, sizeof *s->tensors, compare_offset);
    uint64_t at = 0;
    for (size_t i = 0; i < s->count; i++) {
        struct dp_safetensor *t = &s->tensors[i];
        if (t->begin != at)
            DP_FAIL(e, CORRUPT,
                    "%s: tensor \"%.80s\" begins at %llu where the one before ends at %llu",
                    s->path, t->name, (unsigned long long)t->begin, (unsigned long long)at);
        at = t->end;
        s->by_name[i] = t;
    }
    if (at != s->data.len)
        DP_FAIL(e, CORRUPT, "%s: tensors end at %llu of %zu bytes of data", s->path,
                (unsigned long long)at, s->data.len);
    qsort(s->by_name, s->count, sizeof *s->by_name, compare_name);
    return DP_OK;
}

static int read_all(struct dp_safetensors *s, struct dp_span bytes, struct dp_err *e)
{
    if (bytes.len < 8)
        DP_FAIL(e, CORRUPT, "%s: %zu bytes are no safetensors file", s->path, bytes.len);
    uint64_t n = 0;
    for (int i = 7; i >= 0; i--) n = n << 8 | (unsigned char)bytes.ptr[i];
    if (n > DP_SAFETENSORS_HEADER_MAX || n > bytes.len - 8)
        DP_FAIL(e, CORRUPT,
                "%s: a header of %llu bytes in a file of %zu: no safetensors file, or cut off",
                s->path, (unsigned long long)n, bytes.len);
    if (n < 2 || bytes.ptr[8] != '{')
        DP_FAIL(e, CORRUPT, "%s: the header is no JSON object", s->path);
    s->data = dp_span(bytes.ptr + 8 + n, bytes.len - 8 - (size_t)n);
    DP_TRY(dp_json_parse(&s->json, dp_span(bytes.ptr + 8, (size_t)n), s->path, e));
    return read_entries(s, e);
}

int dp_safetensors_parse(struct dp_safetensors **out, struct dp_span bytes, const char *name,
                         struct dp_err *e)
{
    *out = NULL;
    struct dp_safetensors *s = calloc(1, sizeof *s);
    if (!s || !(s->path = strdup(name))) {
        free(s);
        DP_FAIL(e, NOMEM, "%s", name);
    }
    int rc = read_all(s, bytes, e);
    if (rc < 0) {
        dp_safetensors_close(s);
        return rc;
    }
    *out = s;
    return DP_OK;
}

int dp_safetensors_open(struct dp_safetensors **out, const char *path, struct dp_err *e)
{
    struct dp_map map;
    *out = NULL;
    DP_TRY(dp_map_open(&map, path, e));
    int rc = dp_safetensors_parse(out, dp_span(map.ptr, map.len), path, e);
    if (rc < 0) dp_map_close(&map);
    else (*out)->map = map;
    return rc;
}

void dp_safetensors_close(struct dp_safetensors *s)
{
    if (!s) return;
    if (s->json) dp_json_free(s->json);
    if (s->map.ptr) dp_map_close(&s->map);
    free(s->tensors);
    free(s->by_name);
    free(s->path);
    free(s);
}

const char *dp_safetensors_path(const struct dp_safetensors *s)
{
    return s->path;
}

size_t dp_safetensors_count(const struct dp_safetensors *s)
{
    return s->count;
}

const struct dp_safetensor *dp_safetensors_at(const struct dp_safetensors *s, size_t i)
{
    DP_ASSERT(i < s->count);
    return &s->tensors[i];
}

const struct dp_safetensor *dp_safetensors_find(const struct dp_safetensors *s, const char *name)
{
    struct dp_safetensor key = {.name = name}, *k = &key;
    struct dp_safetensor **hit = bsearch(&k, s->by_name, s->count, sizeof *s->by_name,
                                         compare_name);
    return hit ? *hit : NULL;
}

struct dp_span dp_safetensors_meta(const struct dp_safetensors *s, const char *key)
{
    return dp_json_str(dp_json_get(s->meta, key));
}

struct dp_span dp_safetensors_data(const struct dp_safetensors *s)
{
    return s->data;
}

static uint64_t item_bytes(const struct dp_safetensors_item *it)
{
    unsigned size = 0;
    struct dp_safetensor t = {.dims = it->dims};
    memcpy(t.shape, it->shape, sizeof t.shape);
    DP_ASSERT(dtype_find(dp_span_str(it->dtype), &size) && count_elements(&t));
    return t.elements * size;
}

static void build_header(struct dp_buf *b, const struct dp_safetensors_item *items, size_t count,
                         const struct dp_safetensors_kv *meta, size_t meta_count)
{
    struct dp_jsonw w;
    dp_jsonw_init(&w, b, 0);
    dp_jsonw_begin(&w, '{');
    if (meta_count) {
        dp_jsonw_key(&w, "__metadata__");
        dp_jsonw_begin(&w, '{');
        for (size_t i = 0; i < meta_count; i++) {
            dp_jsonw_key(&w, meta[i].key);
            dp_jsonw_cstr(&w, meta[i].value);
        }
        dp_jsonw_end(&w, '}');
    }
    uint64_t at = 0;
    for (size_t i = 0; i < count; i++) {
        dp_jsonw_key(&w, items[i].name);
        dp_jsonw_begin(&w, '{');
        dp_jsonw_key(&w, "dtype");
        dp_jsonw_cstr(&w, items[i].dtype);
        dp_jsonw_key(&w, "shape");
        dp_jsonw_begin(&w, '[');
        for (int d = 0; d < items[i].dims; d++) dp_jsonw_int(&w, items[i].shape[d]);
        dp_jsonw_end(&w, ']');
        dp_jsonw_key(&w, "data_offsets");
        dp_jsonw_begin(&w, '[');
        dp_jsonw_uint(&w, at);
        at += item_bytes(&items[i]);
        dp_jsonw_uint(&w, at);
        dp_jsonw_end(&w, ']');
        dp_jsonw_end(&w, '}');
    }
    dp_jsonw_end(&w, '}');
    while ((b->len + 8) % 64 && !b->full) dp_buf_add_char(b, ' ');
}

struct dp_safetensors_writer {
    struct dp_out *out;
    char *path;
    uint64_t left; /* bytes of data to come */
    bool finished;
};

static int write_header(struct dp_safetensors_writer *w, const struct dp_buf *header, struct dp_err *e)
{
    unsigned char len[8];
    for (int i = 0; i < 8; i++) len[i] = (unsigned char)((uint64_t)header->len >> (8 * i));
    DP_TRY(dp_out_open(&w->out, w->path, false, e));
    DP_TRY(dp_out_add(w->out, len, sizeof len, e));
    return dp_out_add(w->out, header->ptr, header->len, e);
}

int dp_safetensors_create(struct dp_safetensors_writer **out, const char *path,
                          const struct dp_safetensors_item *items, size_t count,
                          const struct dp_safetensors_kv *meta, size_t meta_count, struct dp_err *e)
{
    struct dp_buf header;
    struct dp_safetensors_writer *w = calloc(1, sizeof *w);
    *out = NULL;
    if (!w || !(w->path = strdup(path))) {
        free(w);
        DP_FAIL(e, NOMEM, "%s", path);
    }
    for (size_t i = 0; i < count; i++) w->left += item_bytes(&items[i]);
    dp_buf_init(&header, DP_SAFETENSORS_HEADER_MAX);
    build_header(&header, items, count, meta, meta_count);
    int rc = dp_buf_check(&header, "safetensors header", e);
    if (rc >= 0) rc = write_header(w, &header, e);
    dp_buf_release(&header);
    if (rc < 0) dp_safetensors_writer_close(w);
    else *out = w;
    return rc;
}

int dp_safetensors_add(struct dp_safetensors_writer *w, const void *p, size_t n, struct dp_err *e)
{
    DP_ASSERT(n <= w->left);
    w->left -= n;
    return dp_out_add(w->out, p, n, e);
}

int dp_safetensors_finish(struct dp_safetensors_writer *w, struct dp_err *e)
{
    DP_ASSERT(w->left == 0);
    DP_TRY(dp_out_finish(w->out, NULL, e));
    w->finished = true;
    return DP_OK;
}

void dp_safetensors_writer_close(struct dp_safetensors_writer *w)
{
    if (!w) return;
    if (w->out) {
        dp_out_close(w->out);
        if (!w->finished) (void)unlink(w->path); /* half a file helps nobody; the first error is the one to report */
    }
    free(w->path);
    free(w);
}

int dp_safetensors_write(const char *path, const struct dp_safetensors_item *items, size_t count,
                         const struct dp_safetensors_kv *meta, size_t meta_count, struct dp_err *e)
{
    struct dp_safetensors_writer *w;
    DP_TRY(dp_safetensors_create(&w, path, items, count, meta, meta_count, e));
    int rc = DP_OK;
    for (size_t i = 0; rc >= 0 && i < count; i++) rc = dp_safetensors_add(w, items[i].data, item_bytes(&items[i]), e);
    if (rc >= 0) rc = dp_safetensors_finish(w, e);
    dp_safetensors_writer_close(w);
    return rc;
}
