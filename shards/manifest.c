/* The manifest is rewritten whole and renamed into place, also to append: a few hundred bytes a
 * shard make the rewrite cheap beside the shard itself, and a reader never meets half a line.
 * Whoever holds the old file keeps a consistent view of it.
 *
 * Reading treats the file as foreign: every number is bounded before it is added, names may not
 * leave the folder. */
#include "shards/manifest.h"

#include "base/fs.h"
#include "base/json.h"

#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TRIM_BYTES = 1 << 20 };

int dp_manifest_new(struct dp_manifest **out, const struct dp_shard_meta *meta, struct dp_err *e)
{
    *out = NULL;
    struct dp_manifest *m = calloc(1, sizeof *m);
    if (!m) DP_FAIL(e, NOMEM, "manifest");
    m->meta = *meta;
    int rc = dp_shard_meta_check(&m->meta, "manifest", e);
    if (rc < 0) free(m);
    else *out = m;
    return rc;
}

void dp_manifest_free(struct dp_manifest *m)
{
    if (!m) return;
    for (size_t i = 0; i < m->count; i++) {
        free((void *)(uintptr_t)m->shards[i].name);
        free((void *)(uintptr_t)m->shards[i].index);
    }
    free(m->shards);
    free(m);
}

/* Relative, inside the folder, printable: "a/b.bin", but not "", "/a", "a/../b", "./a" or
 * "a//b". */
bool dp_manifest_name_ok(const char *s)
{
    size_t n = strlen(s);
    if (n == 0 || n > 1024) return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f || s[i] == '\\') return false;
    for (;;) {
        size_t k = strcspn(s, "/");
        if (k == 0 || (k == 1 && s[0] == '.') || (k == 2 && s[0] == '.' && s[1] == '.'))
            return false;
        if (!s[k]) return true;
        s += k + 1;
    }
}

static bool is_digest(const char *s)
{
    size_t n = strspn(s, "0123456789abcdef");
    return n == 64 && !s[64];
}

int dp_manifest_add(struct dp_manifest *m, const struct dp_manifest_shard *s, struct dp_err *e)
{
    if (!dp_manifest_name_ok(s->name) || !dp_manifest_name_ok(s->index))
        DP_FAIL(e, CONFIG,
                "shard %zu: \"%.200s\" or \"%.200s\" is no name inside the manifest's folder",
                m->count, s->name, s->index);
    if (s->tokens > DP_SHARD_TOKENS_MAX || s->documents > DP_SHARD_DOCS_MAX ||
        (s->packed ? s->bytes > UINT64_C(1) << 33 || !s->bytes != !s->tokens
                   : s->bytes != s->tokens * (uint64_t)m->meta.dtype) ||
        (s->tokens && !s->documents))
        DP_FAIL(e, CONFIG,
                "shard %zu, %s: %" PRIu64 " ids, %" PRIu64 " documents and %" PRIu64
                " bytes don't go together",
                m->count, s->name, s->tokens, s->documents, s->bytes);
    if (!is_digest(s->sha256) || !is_digest(s->index_sha256))
        DP_FAIL(e, CONFIG, "shard %zu, %s: a digest isn't 64 hex digits in lower case", m->count,
                s->name);
    if (m->count == DP_MANIFEST_SHARDS_MAX)
        DP_FAIL(e, LIMIT, "a manifest has at most %zu shards", DP_MANIFEST_SHARDS_MAX);
    if (m->count == m->cap) {
        size_t cap = m->cap ? m->cap * 2 : 16;
        struct dp_manifest_shard *p = realloc(m->shards, cap * sizeof *p);
        if (!p) DP_FAIL(e, NOMEM, "manifest of %zu shards", cap);
        m->shards = p;
        m->cap = cap;
    }
    struct dp_manifest_shard copy = *s;
    char *name = strdup(s->name), *index = strdup(s->index);
    if (!name || !index) {
        free(name);
        free(index);
        DP_FAIL(e, NOMEM, "manifest");
    }
    copy.name = name;
    copy.index = index;
    m->shards[m->count++] = copy;
    m->tokens += s->tokens;
    m->documents += s->documents;
    return DP_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* All names, bodies and side files together, must differ. */
static int check_unique(const struct dp_manifest *m, const char *name, struct dp_err *e)
{
    size_t n = m->count * 2;
    if (!n) return DP_OK;
    const char **all = malloc(n * sizeof *all);
    if (!all) DP_FAIL(e, NOMEM, "%s", name);
    for (size_t i = 0; i < m->count; i++) {
        all[2 * i] = m->shards[i].name;
        all[2 * i + 1] = m->shards[i].index;
    }
    qsort(all, n, sizeof *all, compare_names);
    int rc = DP_OK;
    for (size_t i = 1; i < n && rc == DP_OK; i++)
        if (strcmp(all[i - 1], all[i]) == 0)
            rc = dp_err_set(e, DP_CORRUPT, 0, __FILE__, __LINE__, "%s: %s is named twice", name,
                            all[i]);
    free(all);
    return rc;
}

struct dp_hash128 dp_manifest_hash(struct dp_span text) { return dp_hash128(text.ptr, text.len); }

static void render_shard(struct dp_jsonw *w, const struct dp_manifest_shard *s)
{
    dp_jsonw_begin(w, '{');
    dp_jsonw_key(w, "name");
    dp_jsonw_cstr(w, s->name);
    dp_jsonw_key(w, "index");
    dp_jsonw_cstr(w, s->index);
    dp_jsonw_key(w, "tokens");
    dp_jsonw_uint(w, s->tokens);
    dp_jsonw_key(w, "documents");
    dp_jsonw_uint(w, s->documents);
    dp_jsonw_key(w, "bytes");
    dp_jsonw_uint(w, s->bytes);
    dp_jsonw_key(w, "sha256");
    dp_jsonw_cstr(w, s->sha256);
    dp_jsonw_key(w, "index_sha256");
    dp_jsonw_cstr(w, s->index_sha256);
    if (s->packed) {
        dp_jsonw_key(w, "compression");
        dp_jsonw_cstr(w, "zstd");
    }
    dp_jsonw_end(w, '}');
}

int dp_manifest_render(struct dp_manifest *m, struct dp_buf *out, struct dp_err *e)
{
    DP_TRY(check_unique(m, "manifest", e));
    char hex[DP_HEX128];
    size_t start = out->len;
    struct dp_jsonw w;
    dp_hash128_hex(m->meta.tokenizer, hex);
    dp_jsonw_init(&w, out, 1);
    dp_jsonw_begin(&w, '{');
    dp_jsonw_key(&w, "format");
    dp_jsonw_cstr(&w, "dpipe-manifest");
    dp_jsonw_key(&w, "version");
    dp_jsonw_uint(&w, 1);
    dp_jsonw_key(&w, "dtype");
    dp_jsonw_cstr(&w, m->meta.dtype == DP_SHARD_U16 ? "u16" : "u32");
    dp_jsonw_key(&w, "vocab_size");
    dp_jsonw_uint(&w, m->meta.vocab_size);
    dp_jsonw_key(&w, "eot");
    dp_jsonw_int(&w, m->meta.eot);
    dp_jsonw_key(&w, "tokenizer");
    dp_jsonw_cstr(&w, hex);
    dp_jsonw_key(&w, "tokens");
    dp_jsonw_uint(&w, m->tokens);
    dp_jsonw_key(&w, "documents");
    dp_jsonw_uint(&w, m->documents);
    dp_jsonw_key(&w, "shards");
    dp_jsonw_begin(&w, '[');
    for (size_t i = 0; i < m->count; i++) render_shard(&w, &m->shards[i]);
    dp_jsonw_end(&w, ']');
    dp_jsonw_end(&w, '}');
    dp_buf_add_char(out, '\n');
    DP_TRY(dp_buf_check(out, "manifest", e));
    m->hash = dp_manifest_hash(dp_span(out->ptr + start, out->len - start));
    return DP_OK;
}

int dp_manifest_write(struct dp_manifest *m, const char *path, struct dp_err *e)
{
    struct dp_buf buf;
    dp_buf_init(&buf, DP_MANIFEST_BYTES_MAX);
    int rc = dp_manifest_render(m, &buf, e);
    if (rc >= 0) rc = dp_fs_write_atomic(path, dp_buf_span(&buf), e);
    dp_buf_release(&buf);
    return rc;
}

/* The files that a row names are there, with the sizes that it says. */
static int check_files(const char *path, const struct dp_manifest_shard *s, struct dp_err *e)
{
    char *bin = dp_manifest_path(path, s->name), *dpx = dp_manifest_path(path, s->index);
    struct stat b, x;
    int rc = DP_OK;
    if (!bin || !dpx) DP_GOTO(e, NOMEM, "%s", path);
    if (stat(bin, &b) != 0 || stat(dpx, &x) != 0)
        DP_GOTO(e, CONFIG, "%s: %s or %s isn't there; publish the files before the manifest", path, bin, dpx);
    if ((uint64_t)b.st_size != s->bytes)
        DP_GOTO(e, CONFIG, "%s: %s has %" PRIu64 " bytes, not %" PRIu64, path, bin, (uint64_t)b.st_size, s->bytes);
out:
    free(bin);
    free(dpx);
    return rc;
}

int dp_manifest_append(const char *path, const struct dp_manifest_shard *rows, size_t n, struct dp_err *e)
{
    struct dp_manifest *m = NULL;
    char *dir = dp_manifest_path(path, ".");
    int rc = DP_OK, lock = -1;
    if (!dir) DP_GOTO(e, NOMEM, "%s", path);
    /* The folder's lock: the manifest itself is another file after each change. */
    lock = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock < 0) DP_GOTO_SYS(e, "%s", dir);
    do rc = flock(lock, LOCK_EX);
    while (rc != 0 && errno == EINTR);
    if (rc != 0) DP_GOTO_SYS(e, "%s: lock", dir);
    DP_TRY_OUT(dp_manifest_read(&m, path, e));
    for (size_t i = 0; i < n; i++) {
        DP_TRY_OUT(check_files(path, &rows[i], e));
        DP_TRY_OUT(dp_manifest_add(m, &rows[i], e));
    }
    rc = dp_manifest_write(m, path, e);
    if (rc == DP_CORRUPT) { /* a name twice: the caller's, not the file's */
        rc = DP_CONFIG;
        if (e) e->code = DP_CONFIG;
    }
out:
    if (lock >= 0) close(lock);
    dp_manifest_free(m);
    free(dir);
    return rc;
}

/* A member that must be a whole number in [low, high]. */
static int number(const struct dp_json *o, const char *key, int64_t low, int64_t high, int64_t *out,
                  const char *name, struct dp_err *e)
{
    const struct dp_json *v = dp_json_get(o, key);
    if (!v || dp_json_kind(v) != DP_JSON_INT)
        DP_FAIL(e, CORRUPT, "%s: \"%s\" is missing or no whole number", name, key);
    *out = dp_json_int(v, 0);
    if (*out < low || *out > high)
        DP_FAIL(e, CORRUPT, "%s: \"%s\" is %" PRId64 ", outside %" PRId64 " to %" PRId64, name, key,
                *out, low, high);
    return DP_OK;
}

/* A member that must be a string without NUL; malloc'ed. */
static int string(const struct dp_json *o, const char *key, char **out, const char *name,
                  struct dp_err *e)
{
    struct dp_span s = dp_json_str(dp_json_get(o, key));
    *out = NULL;
    if (!s.ptr || memchr(s.ptr, 0, s.len))
        DP_FAIL(e, CORRUPT, "%s: \"%s\" is missing or no text", name, key);
    *out = strndup(s.ptr, s.len);
    if (!*out) DP_FAIL(e, NOMEM, "%s", name);
    return DP_OK;
}

static int digest(const struct dp_json *o, const char *key, char out[DP_HEX256], const char *name,
                  struct dp_err *e)
{
    struct dp_span s = dp_json_str(dp_json_get(o, key));
    if (!s.ptr || s.len != 64)
        DP_FAIL(e, CORRUPT, "%s: \"%s\" is missing or not 64 hex digits", name, key);
    memcpy(out, s.ptr, 64);
    out[64] = 0;
    return DP_OK;
}

static int parse_shard(struct dp_manifest *m, const struct dp_json *o, const char *name,
                       struct dp_err *e)
{
    struct dp_manifest_shard s = {0};
    char *body = NULL, *side = NULL;
    int64_t v;
    int rc = DP_OK;
    DP_TRY_OUT(string(o, "name", &body, name, e));
    DP_TRY_OUT(string(o, "index", &side, name, e));
    s.name = body;
    s.index = side;
    DP_TRY_OUT(number(o, "tokens", 0, (int64_t)DP_SHARD_TOKENS_MAX, &v, name, e));
    s.tokens = (uint64_t)v;
    DP_TRY_OUT(number(o, "documents", 0, (int64_t)DP_SHARD_DOCS_MAX, &v, name, e));
    s.documents = (uint64_t)v;
    DP_TRY_OUT(number(o, "bytes", 0, INT64_C(1) << 40, &v, name, e));
    s.bytes = (uint64_t)v;
    DP_TRY_OUT(digest(o, "sha256", s.sha256, name, e));
    DP_TRY_OUT(digest(o, "index_sha256", s.index_sha256, name, e));
    const struct dp_json *packed = dp_json_get(o, "compression");
    s.packed = dp_span_is(dp_json_str(packed), "zstd");
    if (packed && !s.packed)
        DP_GOTO(e, CORRUPT, "%s: \"compression\" of %s isn't \"zstd\"", name, body);
    rc = dp_manifest_add(m, &s, e);
    if (rc == DP_CONFIG) { /* the same rules, but here a file breaks them, not a caller */
        dp_err_prefix(e, "%s", name);
        if (e) e->code = DP_CORRUPT;
        rc = DP_CORRUPT;
    }
out:
    free(body);
    free(side);
    return rc;
}

static int parse_meta(const struct dp_json *o, struct dp_shard_meta *meta, const char *name,
                      struct dp_err *e)
{
    int64_t v;
    if (!dp_span_is(dp_json_str(dp_json_get(o, "format")), "dpipe-manifest"))
        DP_FAIL(e, CORRUPT, "%s: no manifest: \"format\" isn't \"dpipe-manifest\"", name);
    DP_TRY(number(o, "version", 0, INT64_MAX, &v, name, e));
    if (v != 1)
        DP_FAIL(e, CORRUPT, "%s: version %" PRId64 " of the manifest, this program reads 1", name,
                v);
    DP_TRY(number(o, "vocab_size", 1, (int64_t)DP_SHARD_VOCAB_MAX, &v, name, e));
    meta->vocab_size = (uint32_t)v;
    DP_TRY(number(o, "eot", -1, (int64_t)DP_SHARD_VOCAB_MAX, &meta->eot, name, e));
    struct dp_span dtype = dp_json_str(dp_json_get(o, "dtype"));
    meta->dtype = dp_span_is(dtype, "u16")   ? DP_SHARD_U16
                  : dp_span_is(dtype, "u32") ? DP_SHARD_U32
                                             : -1;
    if (dp_shard_meta_check(meta, name, e) < 0) {
        if (e) e->code = DP_CORRUPT;
        return DP_CORRUPT;
    }
    struct dp_span hex = dp_json_str(dp_json_get(o, "tokenizer"));
    if (!hex.ptr) DP_FAIL(e, CORRUPT, "%s: \"tokenizer\" is missing", name);
    if (dp_hash128_parse(hex, &meta->tokenizer, e) < 0)
        return dp_err_prefix(e, "%s: \"tokenizer\"", name), DP_CORRUPT;
    char form[DP_HEX128]; /* one form: then a flipped bit is never the same digest */
    dp_hash128_hex(meta->tokenizer, form);
    if (!dp_span_is(hex, form)) DP_FAIL(e, CORRUPT, "%s: \"tokenizer\" isn't in lower case", name);
    return DP_OK;
}

static int parse_tree(struct dp_manifest **out, const struct dp_json *o, const char *name,
                      struct dp_err *e)
{
    struct dp_shard_meta meta = {0};
    DP_TRY(parse_meta(o, &meta, name, e));
    struct dp_manifest *m;
    DP_TRY(dp_manifest_new(&m, &meta, e));
    int rc = DP_OK;
    int64_t tokens, documents;
    const struct dp_json *list = dp_json_get(o, "shards");
    if (!list || dp_json_kind(list) != DP_JSON_ARRAY)
        DP_GOTO(e, CORRUPT, "%s: \"shards\" is missing or no list", name);
    for (size_t i = 0; i < dp_json_count(list); i++)
        DP_TRY_OUT(parse_shard(m, dp_json_at(list, i), name, e));
    DP_TRY_OUT(number(o, "tokens", 0, INT64_MAX, &tokens, name, e));
    DP_TRY_OUT(number(o, "documents", 0, INT64_MAX, &documents, name, e));
    if ((uint64_t)tokens != m->tokens || (uint64_t)documents != m->documents)
        DP_GOTO(e, CORRUPT,
                "%s: totals of %" PRId64 " ids and %" PRId64 " documents, its shards have %" PRIu64
                " and %" PRIu64,
                name, tokens, documents, m->tokens, m->documents);
    DP_TRY_OUT(check_unique(m, name, e));
    *out = m;
    m = NULL;
out:
    dp_manifest_free(m);
    return rc;
}

int dp_manifest_parse(struct dp_manifest **out, struct dp_span text, const char *name,
                      struct dp_err *e)
{
    *out = NULL;
    struct dp_json *root;
    DP_TRY(dp_json_parse(&root, text, name, e));
    int rc = parse_tree(out, root, name, e);
    dp_json_free(root);
    if (rc >= 0) (*out)->hash = dp_manifest_hash(text);
    return rc;
}

int dp_manifest_read(struct dp_manifest **out, const char *path, struct dp_err *e)
{
    struct dp_buf buf;
    *out = NULL;
    dp_buf_init(&buf, DP_MANIFEST_BYTES_MAX);
    int rc = dp_fs_read(path, &buf, e);
    if (rc >= 0) rc = dp_manifest_parse(out, dp_buf_span(&buf), path, e);
    bool large = buf.len > TRIM_BYTES;
    dp_buf_release(&buf);
    if (large) malloc_trim(0); /* parsing takes some five times the text, in small pieces that the C library would keep */
    return rc;
}

char *dp_manifest_path(const char *manifest_path, const char *name)
{
    const char *slash = strrchr(manifest_path, '/');
    size_t n = slash ? (size_t)(slash - manifest_path) + 1 : 0, k = strlen(name);
    char *p = malloc(n + k + 1);
    if (!p) return NULL;
    memcpy(p, manifest_path, n);
    memcpy(p + n, name, k + 1);
    return p;
}

int dp_manifest_open_shard(const struct dp_manifest *m, const char *manifest_path, size_t i,
                           struct dp_shard **out, struct dp_err *e)
{
    const struct dp_manifest_shard *want = &m->shards[i];
    char *bin = dp_manifest_path(manifest_path, want->name),
         *dpx = dp_manifest_path(manifest_path, want->index);
    int rc = DP_OK;
    *out = NULL;
    if (!bin || !dpx) DP_GOTO(e, NOMEM, "%s", manifest_path);
    DP_TRY_OUT(dp_shard_open(out, bin, dpx, e));
    const struct dp_shard_meta *meta = dp_shard_meta(*out);
    if (want->packed != (dp_shard_pack_ids(*out) != 0) || want->bytes != dp_shard_body_bytes(*out))
        DP_GOTO(e, CORRUPT, "%s: %s body of %" PRIu64 " bytes, %s says %s of %" PRIu64, dpx,
                dp_shard_pack_ids(*out) ? "a compressed" : "a flat", dp_shard_body_bytes(*out),
                manifest_path, want->packed ? "compressed" : "flat", want->bytes);
    if (dp_shard_tokens(*out) != want->tokens || dp_shard_documents(*out) != want->documents)
        DP_GOTO(e, CORRUPT,
                "%s: %" PRIu64 " ids in %" PRIu64 " documents, %s says %" PRIu64 " in %" PRIu64,
                dpx, dp_shard_tokens(*out), dp_shard_documents(*out), manifest_path, want->tokens,
                want->documents);
    if (meta->vocab_size != m->meta.vocab_size || meta->eot != m->meta.eot ||
        !dp_hash128_eq(meta->tokenizer, m->meta.tokenizer))
        DP_GOTO(e, CORRUPT, "%s: written with another vocabulary or tokenizer than %s says", dpx,
                manifest_path);
out:
    if (rc < 0) {
        dp_shard_close(*out);
        *out = NULL;
    }
    free(bin);
    free(dpx);
    return rc;
}
