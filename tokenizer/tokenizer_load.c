/* tokenizer/tokenizer_load.c - which kind of file it is, by its content; folders; vocab.json with merges.txt.
 *
 * vocab.json and merges.txt don't say their special tokens and pre-tokenizer. That is told by transformers' files in the same folder, as far as they
 * are there: added_tokens.json, special_tokens_map.json, and tokenizer_config.json, whose added_tokens_decoder has the last word. The class
 * named there gives the pre-tokenizer; without one it is gpt2, and <|endoftext|> is special if the vocabulary has it, as GPT2Tokenizer does. */
#include "tokenizer/sp.h"

#include "base/fs.h"
#include "base/json.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { GGUF_HEAD_BYTES_MAX = 128 << 20 };
enum kind { KIND_RANKS, KIND_HF, KIND_VOCAB, KIND_MERGES, KIND_SP, KIND_GGUF };

static bool is_blank(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* A vocab.json's first member is a number; a tokenizer.json's isn't. */
static bool first_member_is_number(struct dp_span s)
{
    size_t i = 1;
    while (i < s.len && is_blank(s.ptr[i])) i++;
    if (i >= s.len || s.ptr[i] != '"') return false;
    for (i++; i < s.len && s.ptr[i] != '"'; i++)
        if (s.ptr[i] == '\\') i++;
    for (i++; i < s.len && (is_blank(s.ptr[i]) || s.ptr[i] == ':'); i++) {}
    return i < s.len && s.ptr[i] >= '0' && s.ptr[i] <= '9';
}

/* "a b" and no "base64 rank": the first merge is of two bytes, so that its left side is no base64, whose length is a multiple of four. */
static bool looks_like_merges(struct dp_span s)
{
    const char *end = memchr(s.ptr, '\n', s.len);
    struct dp_span line = dp_span(s.ptr, end ? (size_t)(end - s.ptr) : s.len);
    if (line.len >= 8 && memcmp(line.ptr, "#version", 8) == 0) return true;
    if (line.len && line.ptr[line.len - 1] == '\r') line.len--;
    const char *space = memchr(line.ptr, ' ', line.len);
    if (!space || space == line.ptr || memchr(space + 1, ' ', (size_t)(line.ptr + line.len - space) - 1)) return false;
    return (space - line.ptr) % 4 != 0 && space + 1 < line.ptr + line.len;
}

/* A sentencepiece model's first field is a piece, whose first is its text: 0x0A, a length, 0x0A, a length that fits in. */
static bool looks_like_sp(struct dp_span s)
{
    uint64_t n[2] = {0};
    size_t at = 0;
    for (int k = 0; k < 2; k++) {
        if (at >= s.len || s.ptr[at++] != 0x0A) return false;
        unsigned shift = 0;
        do {
            if (at >= s.len || shift > 28) return false;
            n[k] |= (uint64_t)(s.ptr[at] & 127) << shift;
            shift += 7;
        } while (s.ptr[at++] & 128);
        if (n[k] > s.len - at || (k && n[1] + 1 >= n[0])) return false;
    }
    return true;
}

/* The kind of a file, whose content *s is then without byte order mark and leading white space. */
static int find_kind(struct dp_span *s, enum kind *kind, const char *name, struct dp_err *e)
{
    size_t i = 0;
    if (looks_like_sp(*s)) {
        *kind = KIND_SP;
        return DP_OK;
    }
    if (s->len >= 4 && memcmp(s->ptr, "GGUF", 4) == 0) {
        *kind = KIND_GGUF;
        return DP_OK;
    }
    if (s->len >= 3 && memcmp(s->ptr, "\xEF\xBB\xBF", 3) == 0) i = 3;
    while (i < s->len && is_blank(s->ptr[i])) i++;
    if (i == s->len) DP_FAIL(e, CORRUPT, "%s: an empty file is no tokenizer", name);
    *s = dp_span(s->ptr + i, s->len - i);
    if (s->ptr[0] == '{') *kind = first_member_is_number(*s) ? KIND_VOCAB : KIND_HF;
    else *kind = looks_like_merges(*s) ? KIND_MERGES : KIND_RANKS;
    return DP_OK;
}

int dp_tokenizer_load(struct dp_tokenizer **out, struct dp_span content, const char *name, const char *split, struct dp_err *e)
{
    enum kind kind;
    *out = NULL;
    DP_TRY(find_kind(&content, &kind, name, e));
    switch (kind) {
    case KIND_HF: return dp_tokenizer_load_hf(out, content, name, split, e);
    case KIND_SP: return dp_tokenizer_load_sp(out, content, name, split, e);
    case KIND_GGUF: return dp_tokenizer_load_gguf(out, content, name, split, e);
    case KIND_RANKS: return dp_tokenizer_load_tiktoken(out, content, name, split, e);
    default: DP_FAIL(e, CONFIG, "%s: vocab.json and merges.txt are read together, which is not possible here: make one file of them, dpipe tokenizer convert --to hf", name);
    }
}

/* ---- vocab.json and merges.txt ---- */

struct folder {
    struct dp_vocab_files f;
    char *dir; /* with a slash at its end */
    struct dp_buf vocab_text, merges_text;
    struct dp_json *vocab, *added, *map, *config;
    struct dp_special *specials;
    size_t specials_cap;
    uint32_t next_id;
};

static void close_folder(struct folder *d)
{
    dp_splitter_close(d->f.splitter);
    free(d->dir);
    free(d->specials);
    dp_buf_release(&d->vocab_text);
    dp_buf_release(&d->merges_text);
    dp_json_free(d->vocab);
    dp_json_free(d->added);
    dp_json_free(d->map);
    dp_json_free(d->config);
}

/* NULL when there is no such file. */
static int read_json(struct folder *d, const char *file, struct dp_json **out, struct dp_err *e)
{
    struct dp_buf path;
    dp_buf_init(&path, 1 << 16);
    dp_buf_printf(&path, "%s%s", d->dir, file);
    int rc = dp_buf_check(&path, "a path", e);
    if (rc >= 0) rc = dp_json_parse_file(out, path.ptr, DP_TOKENIZER_FILE_BYTES_MAX, e);
    dp_buf_release(&path);
    if (rc != DP_NOTFOUND) return rc;
    dp_err_clear(e);
    *out = NULL;
    return DP_OK;
}

/* The id of an added token, or -1. */
static int64_t known_id(const struct folder *d, struct dp_span text)
{
    char key[256];
    if (!text.len || text.len >= sizeof key || memchr(text.ptr, 0, text.len)) return -1;
    memcpy(key, text.ptr, text.len);
    key[text.len] = 0;
    int64_t id = dp_json_int(dp_json_get(d->vocab, key), -1);
    return id >= 0 ? id : dp_json_int(dp_json_get(d->added, key), -1);
}

/* id -1: what is known of it, or the next free one. What stands there for the text already gets the flags. */
static int add_special(struct folder *d, struct dp_span text, int64_t id, unsigned flags, struct dp_err *e)
{
    if (!text.len) return DP_OK;
    for (size_t i = 0; i < d->f.special_count; i++)
        if (dp_span_eq(d->specials[i].text, text)) {
            d->specials[i].flags = flags;
            return DP_OK;
        }
    if (id < 0) id = known_id(d, text);
    if (id < 0) id = d->next_id;
    if (id >= DP_TOKENIZER_IDS_MAX) DP_FAIL(e, CORRUPT, "%s: the id %lld of the added token '%.*s'; ids are below 2097152", d->dir, (long long)id, DP_SPAN_FMT(text));
    if (id >= d->next_id) d->next_id = (uint32_t)id + 1;
    if (d->f.special_count == d->specials_cap) {
        size_t cap = d->specials_cap * 2 + 16;
        struct dp_special *more = realloc(d->specials, cap * sizeof *more);
        if (!more) DP_FAIL(e, NOMEM, "%s: added tokens", d->dir);
        d->specials = more;
        d->specials_cap = cap;
    }
    d->specials[d->f.special_count++] = (struct dp_special){text, (uint32_t)id, flags};
    d->f.specials = d->specials;
    return DP_OK;
}

static int add_named(struct folder *d, const struct dp_json *v, struct dp_err *e)
{
    if (dp_json_kind(v) == DP_JSON_STRING) return add_special(d, dp_json_str(v), -1, DP_ADDED_SPECIAL, e);
    if (dp_json_kind(v) == DP_JSON_OBJECT)
        return add_special(d, dp_json_str(dp_json_get(v, "content")), -1, dp_added_flags(v, true) | DP_ADDED_SPECIAL, e);
    for (size_t i = 0; i < dp_json_count(v); i++)
        if (dp_json_kind(dp_json_at(v, i)) != DP_JSON_ARRAY) DP_TRY(add_named(d, dp_json_at(v, i), e));
    return DP_OK;
}

static int read_specials(struct folder *d, struct dp_err *e)
{
    const char *key;
    struct dp_json *v;
    for (void *it = NULL; (it = dp_json_next(d->added, it, &key, &v));) {
        int64_t id = dp_json_int(v, -1);
        if (id < 0) DP_FAIL(e, CORRUPT, "%sadded_tokens.json: the id of '%.64s' isn't a number", d->dir, key);
        DP_TRY(add_special(d, dp_span_str(key), id, DP_ADDED_NORMALIZED, e));
    }
    for (void *it = NULL; (it = dp_json_next(d->map, it, &key, &v));) DP_TRY(add_named(d, v, e));
    for (void *it = NULL; (it = dp_json_next(dp_json_get(d->config, "added_tokens_decoder"), it, &key, &v));) {
        char *end;
        long long id = strtoll(key, &end, 10);
        struct dp_span text = dp_json_str(dp_json_get(v, "content"));
        if (*end || id < 0 || !text.len) DP_FAIL(e, CORRUPT, "%stokenizer_config.json: added_tokens_decoder '%.64s' has no content or is no id", d->dir, key);
        DP_TRY(add_special(d, text, id, dp_added_flags(v, false), e));
    }
    struct dp_span eot = dp_span_str("<|endoftext|>");
    bool listed = false;
    for (size_t i = 0; i < d->f.special_count; i++) listed = listed || dp_span_eq(d->specials[i].text, eot);
    return listed || known_id(d, eot) < 0 ? DP_OK : add_special(d, eot, -1, DP_ADDED_SPECIAL, e);
}

/* Of transformers' class; `split` is the caller's word. */
static int read_class(struct folder *d, const char *split, struct dp_err *e)
{
    static const char *const gpt2[] = {"GPT2Tokenizer", "GPT2TokenizerFast", "RobertaTokenizer", "RobertaTokenizerFast", "BartTokenizer", "BartTokenizerFast",
                                       "GPTNeoXTokenizerFast", "LongformerTokenizer", "PreTrainedTokenizerFast"};
    struct dp_span class = dp_json_str(dp_json_get(d->config, "tokenizer_class"));
    if (dp_json_bool(dp_json_get(d->config, "add_prefix_space"), false))
        DP_FAIL(e, CONFIG, "%stokenizer_config.json: add_prefix_space isn't supported: ids would be of another text", d->dir);
    bool qwen = dp_span_is(class, "Qwen2Tokenizer") || dp_span_is(class, "Qwen2TokenizerFast");
    if (qwen) d->f.normal = DP_NORMAL_NFC;
    if (split) return dp_splitter_parse(&d->f.splitter, &d->f.split, dp_span_str(split), e);
    d->f.split = qwen ? DP_SPLIT_QWEN2 : DP_SPLIT_GPT2;
    if (qwen || !class.ptr) return DP_OK;
    for (size_t i = 0; i < sizeof gpt2 / sizeof *gpt2; i++)
        if (dp_span_is(class, gpt2[i])) return DP_OK;
    DP_FAIL(e, CONFIG, "%stokenizer_config.json: the pre-tokenizer of %.*s isn't known; name a split if it is one we have", d->dir, DP_SPAN_FMT(class));
}

static int load_folder_files(struct folder *d, struct dp_tokenizer **out, const char *split, struct dp_err *e)
{
    const char *key;
    struct dp_json *v;
    DP_TRY(dp_fs_read(d->f.vocab_name, &d->vocab_text, e));
    DP_TRY(dp_fs_read(d->f.merges_name, &d->merges_text, e));
    DP_TRY(dp_json_parse(&d->vocab, dp_buf_span(&d->vocab_text), d->f.vocab_name, e));
    d->f.vocab = d->vocab;
    d->f.merges = dp_buf_span(&d->merges_text);
    for (void *it = NULL; (it = dp_json_next(d->vocab, it, &key, &v));)
        if (dp_json_int(v, -1) >= d->next_id && dp_json_int(v, -1) < DP_TOKENIZER_IDS_MAX) d->next_id = (uint32_t)dp_json_int(v, 0) + 1;
    DP_TRY(read_json(d, "added_tokens.json", &d->added, e));
    DP_TRY(read_json(d, "special_tokens_map.json", &d->map, e));
    DP_TRY(read_json(d, "tokenizer_config.json", &d->config, e));
    DP_TRY(read_class(d, split, e));
    DP_TRY(read_specials(d, e));
    return dp_tokenizer_load_vocab(out, &d->f, e);
}

/* The two names that belong together: what is before these ends is the same. */
static const char *const pairs[][2] = {{"vocab.json", "merges.txt"}, {"encoder.json", "vocab.bpe"}};

static bool ends_with(const char *s, const char *end)
{
    size_t a = strlen(s), b = strlen(end);
    return a >= b && strcmp(s + a - b, end) == 0;
}

/* `path` is one of the two files; which is `side`. */
static int load_pair(struct dp_tokenizer **out, const char *path, int side, const char *split, struct dp_err *e)
{
    for (size_t k = 0; k < sizeof pairs / sizeof *pairs; k++) {
        if (!ends_with(path, pairs[k][side])) continue;
        struct folder d = {.f = {0}};
        struct dp_buf other;
        const char *slash = strrchr(path, '/');
        dp_buf_init(&other, 1 << 16);
        dp_buf_init(&d.vocab_text, DP_TOKENIZER_FILE_BYTES_MAX);
        dp_buf_init(&d.merges_text, DP_TOKENIZER_FILE_BYTES_MAX);
        dp_buf_printf(&other, "%.*s%s", (int)(strlen(path) - strlen(pairs[k][side])), path, pairs[k][!side]);
        d.dir = strndup(path, slash ? (size_t)(slash - path) + 1 : 0);
        d.f.vocab_name = side ? other.ptr : path;
        d.f.merges_name = side ? path : other.ptr;
        int rc = dp_buf_check(&other, "a path", e);
        if (rc >= 0 && !d.dir) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", path);
        if (rc >= 0) rc = load_folder_files(&d, out, split, e);
        close_folder(&d);
        dp_buf_release(&other);
        return rc;
    }
    DP_FAIL(e, CONFIG, "%s: a file of %s has another beside it, and its name must say which: *%s with *%s, or *%s with *%s", path,
            side ? "merges" : "tokens", pairs[0][0], pairs[0][1], pairs[1][0], pairs[1][1]);
}

static int load_folder(struct dp_tokenizer **out, const char *path, const char *split, struct dp_err *e)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer.model", "vocab.json", "encoder.json"};
    struct dp_buf b;
    struct stat st;
    int rc = DP_OK;
    dp_buf_init(&b, 1 << 16);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        dp_buf_clear(&b);
        dp_buf_printf(&b, "%s/%s", path, names[i]);
        DP_TRY_OUT(dp_buf_check(&b, "a path", e));
        if (stat(b.ptr, &st) != 0) continue;
        rc = dp_tokenizer_load_file(out, b.ptr, split, e);
        goto out;
    }
    rc = dp_err_set(e, DP_NOTFOUND, 0, __FILE__, __LINE__, "%s: a folder with no tokenizer.json, tokenizer.model, vocab.json or encoder.json in it", path);
out:
    dp_buf_release(&b);
    return rc;
}

/* A GGUF file may be of any size; its metadata stands at the beginning. `size` 0: no ordinary file. */
static int read_content(const char *path, size_t size, struct dp_buf *b, struct dp_err *e)
{
    char magic[4];
    size_t got = 0;
    if (size <= GGUF_HEAD_BYTES_MAX) return dp_fs_read(path, b, e);
    int fd = open(path, O_RDONLY | O_CLOEXEC), rc;
    if (fd < 0) DP_FAIL_SYS(e, "%s: cannot open", path);
    DP_TRY_OUT(dp_fs_pread_all(fd, magic, sizeof magic, 0, &got, path, e));
    if (got < sizeof magic || memcmp(magic, "GGUF", 4) != 0) {
        rc = dp_fs_read_fd(fd, path, b, e);
        goto out;
    }
    char *to = dp_buf_reserve(b, GGUF_HEAD_BYTES_MAX);
    if (!to) DP_GOTO(e, NOMEM, "%s: %d bytes", path, GGUF_HEAD_BYTES_MAX);
    rc = dp_fs_pread_all(fd, to, GGUF_HEAD_BYTES_MAX, 0, &b->len, path, e);
out:
    close(fd);
    return rc;
}

int dp_tokenizer_load_file(struct dp_tokenizer **out, const char *path, const char *split, struct dp_err *e)
{
    struct dp_buf b;
    struct stat st = {0};
    enum kind kind = KIND_HF;
    *out = NULL;
    bool there = stat(path, &st) == 0;
    if (there && S_ISDIR(st.st_mode)) return load_folder(out, path, split, e);
    dp_buf_init(&b, DP_TOKENIZER_FILE_BYTES_MAX);
    int rc = read_content(path, there && S_ISREG(st.st_mode) ? (size_t)st.st_size : 0, &b, e);
    struct dp_span content = dp_buf_span(&b);
    if (rc >= 0) rc = find_kind(&content, &kind, path, e);
    if (rc >= 0 && kind != KIND_VOCAB && kind != KIND_MERGES) rc = dp_tokenizer_load(out, dp_buf_span(&b), path, split, e);
    dp_buf_release(&b);
    return rc >= 0 && !*out ? load_pair(out, path, kind == KIND_MERGES, split, e) : rc;
}

int dp_tokenizer_load_alone(struct dp_tokenizer **out, const char *path, struct dp_err *e)
{
    struct dp_buf b;
    *out = NULL;
    dp_buf_init(&b, DP_TOKENIZER_FILE_BYTES_MAX);
    int rc = dp_fs_read(path, &b, e);
    if (rc >= 0) rc = dp_tokenizer_load(out, dp_buf_span(&b), path, NULL, e);
    dp_buf_release(&b);
    return rc;
}
