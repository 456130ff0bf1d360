/* tokenizer/tokenizer_hf.c - Hugging Face's tokenizer.json, vocab.json and merges.txt.
 *
 * Read: model BPE with byte-level vocabulary; merges as ["a","b"] or "a b"; pre_tokenizer ByteLevel(use_regex) = gpt2, or a Sequence of
 * Split(Isolated) and Digits that ends in ByteLevel: known patterns become their scanners, others a splitter (tokenizer/splitter.h).
 * Normalizers: NFC, none, or a Sequence of these. What would change ids and isn't supported (other normalizers, dropout, add_prefix_space,
 * other pre-tokenizers) is refused, never skipped. post_processor, truncation, padding, decoder and unk_token (no byte is
 * unknown) are kept and written again: ids are those of encode(add_special_tokens=False) without truncation.
 *
 * Written: members in the order Hugging Face writes them; vocabulary by id, merges by rank. Ranks (a .tiktoken origin) are written as
 * one merge a token, found by merging the token with the ranks below its own, and ignore_merges. */
#include "tokenizer/bpe_merge.h"
#include "tokenizer/sp.h"

#include "base/arena.h"
#include "base/json.h"

#include <stdlib.h>

/* ---- characters of ByteLevel ---- */

/* Bytes of a token written in ByteLevel characters, in the arena; ptr NULL with *bad unless out of memory. */
static struct dp_span from_chars(struct dp_arena *mem, struct dp_span s, bool *bad)
{
    char *to = dp_arena_alloc(mem, s.len + 1);
    size_t n = 0;
    *bad = false;
    if (!to) return (struct dp_span){NULL, 0};
    for (size_t i = 0; i < s.len;) {
        uint8_t a = (uint8_t)s.ptr[i];
        uint32_t c = a;
        size_t len = 1;
        if (a >= 0xC2 && a < 0xE0 && i + 1 < s.len) c = (a & 31u) << 6 | ((uint8_t)s.ptr[i + 1] & 63u), len = 2;
        int b = a < 0x80 || len == 2 ? dp_byte_level_byte(c) : -1;
        if (b < 0) {
            *bad = true;
            return (struct dp_span){NULL, 0};
        }
        to[n++] = (char)b;
        i += len;
    }
    return dp_span(to, n);
}

void dp_byte_level_write(struct dp_buf *out, struct dp_span bytes)
{
    for (size_t i = 0; i < bytes.len; i++) {
        uint32_t c = dp_byte_level_char((uint8_t)bytes.ptr[i]);
        if (c < 0x80) dp_buf_add_char(out, (char)c);
        else {
            char two[2] = {(char)(0xC0 | c >> 6), (char)(0x80 | (c & 63))};
            dp_buf_add(out, two, 2);
        }
    }
}

/* ---- reading ---- */

/* Ids by the strings of the file's vocabulary. */
struct names {
    struct dp_span *name; /* by id */
    uint32_t *slots;
    size_t mask;
};

static int64_t name_id(const struct names *v, struct dp_span s)
{
    for (size_t at = dp_word_hash(s.ptr, s.len) & v->mask; v->slots[at] != DP_NO_ID; at = (at + 1) & v->mask)
        if (dp_span_eq(v->name[v->slots[at]], s)) return v->slots[at];
    return -1;
}

struct reader {
    const char *file;
    struct dp_tokenizer_parts parts;
    struct names names;
    struct dp_span *bytes;
    struct dp_merge *merges;
    struct dp_special *specials;
    struct dp_arena mem;
    struct dp_buf pair, kept[DP_KEPT_ANY];
};

const char *const dp_kept_names[DP_KEPT_COUNT] = {"truncation", "padding", "post_processor", "decoder", "unk_token", "normalizer", "pre_tokenizer", "fuse_unk"};

static bool is_null(const struct dp_json *v)
{
    return !v || dp_json_kind(v) == DP_JSON_NULL;
}

int dp_hf_must_be_off(const struct dp_json *o, const char *key, const char *file, struct dp_err *e)
{
    struct dp_json *v = dp_json_get(o, key);
    if (is_null(v) || (dp_json_kind(v) == DP_JSON_BOOL && !dp_json_bool(v, true))) return DP_OK;
    if (dp_json_kind(v) == DP_JSON_STRING && dp_json_str(v).len == 0) return DP_OK;
    if (dp_json_real(v, 1) == 0) return DP_OK;
    DP_FAIL(e, CONFIG, "%s: '%s' is set, which isn't supported: it would change ids", file, key);
}

static int read_byte_level(const struct dp_json *p, bool *regex, const char *file, struct dp_err *e)
{
    if (dp_json_bool(dp_json_get(p, "add_prefix_space"), true))
        DP_FAIL(e, CONFIG, "%s: ByteLevel with add_prefix_space isn't supported", file);
    *regex = dp_json_bool(dp_json_get(p, "use_regex"), true);
    return DP_OK;
}

static const char *const behaviors[] = {"Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"}; /* by enum dp_split_join */

/* Split(Regex or String). What drops text isn't supported, but for patterns that match everything, where "Removed" of what doesn't match is
 * the same as Isolated. */
static int read_split(const struct dp_json *p, struct dp_split_step *step, const char *file, struct dp_err *e)
{
    struct dp_json *pattern = dp_json_get(p, "pattern");
    struct dp_span regex = dp_json_str(dp_json_get(pattern, "Regex")), literal = dp_json_str(dp_json_get(pattern, "String"));
    struct dp_span behavior = dp_json_str(dp_json_get(p, "behavior"));
    bool invert = dp_json_bool(dp_json_get(p, "invert"), false);
    enum dp_split known;
    if (!regex.len && !literal.len) DP_FAIL(e, CORRUPT, "%s: a Split without a pattern", file);
    *step = (struct dp_split_step){.kind = regex.len ? DP_CUT_REGEX : DP_CUT_LITERAL, .text = regex.len ? regex : literal};
    for (int i = 0; i < 4; i++)
        if (dp_span_is(behavior, behaviors[i]) && (i == 0 || !invert)) return step->join = (enum dp_split_join)i, DP_OK;
    if (invert && dp_span_is(behavior, "Removed") && regex.len && dp_split_by_pattern(regex, &known)) return DP_OK;
    DP_FAIL(e, CONFIG, "%s: a Split with behavior '%.*s'%s, which would drop or move text, isn't supported; name a split if it is one we have", file,
            DP_SPAN_FMT(behavior), invert ? " and invert" : "");
}

/* Add a pre-tokenizer to the steps, which have room for one more than are allowed. *last: ByteLevel was there. */
static int read_step(const struct dp_json *p, struct dp_split_step *steps, size_t *n, bool *last, const char *file, struct dp_err *e)
{
    struct dp_span type = dp_json_str(dp_json_get(p, "type"));
    bool regex = false;
    if (*last) DP_FAIL(e, CONFIG, "%s: a pre-tokenizer behind ByteLevel isn't supported; name a split if it is one we have", file);
    struct dp_split_step *step = &steps[*n];
    if (dp_span_is(type, "ByteLevel")) {
        *last = true;
        DP_TRY(read_byte_level(p, &regex, file, e));
        if (!regex) return DP_OK;
        *step = (struct dp_split_step){.kind = DP_CUT_KNOWN, .split = DP_SPLIT_GPT2};
    } else if (dp_span_is(type, "Split")) DP_TRY(read_split(p, step, file, e));
    else if (dp_span_is(type, "Digits"))
        *step = (struct dp_split_step){.kind = DP_CUT_DIGITS, .digits = dp_json_bool(dp_json_get(p, "individual_digits"), false)};
    else DP_FAIL(e, CONFIG, "%s: a pre-tokenizer of type '%.*s'; ByteLevel, Split and Digits are supported; name a split if it is one we have",
                 file, DP_SPAN_FMT(type));
    if (++*n > DP_SPLIT_STEPS_MAX) DP_FAIL(e, CONFIG, "%s: a pre-tokenizer of more than %d steps", file, DP_SPLIT_STEPS_MAX);
    return DP_OK;
}

static int read_pre_tokenizer(const struct dp_json *p, struct dp_tokenizer_parts *parts, const char *file, struct dp_err *e)
{
    struct dp_split_step steps[DP_SPLIT_STEPS_MAX + 1] = {0};
    struct dp_json *list = dp_json_get(p, "pretokenizers");
    bool last = false, sequence = dp_span_is(dp_json_str(dp_json_get(p, "type")), "Sequence");
    size_t n = 0;
    if (is_null(p)) DP_FAIL(e, CONFIG, "%s: there is no pre_tokenizer; name a split", file);
    for (size_t i = 0; sequence && i < dp_json_count(list); i++) DP_TRY(read_step(dp_json_at(list, i), steps, &n, &last, file, e));
    if (!sequence) DP_TRY(read_step(p, steps, &n, &last, file, e));
    if (!last) DP_FAIL(e, CONFIG, "%s: the pre-tokenizer doesn't end in ByteLevel: only byte-level BPE is supported", file);
    if (!n) DP_FAIL(e, CONFIG, "%s: no pre-tokenizer pattern; name a split", file);
    if (dp_splitter_open(&parts->splitter, steps, n, e) < 0) return dp_err_prefix(e, "%s", file);
    dp_splitter_simplify(&parts->splitter, &parts->split);
    return DP_OK;
}

/* NFC, a Sequence of such, or none. */
static int read_normalizer(const struct dp_json *n, int depth, enum dp_normal *normal, const char *file, struct dp_err *e)
{
    struct dp_span type = dp_json_str(dp_json_get(n, "type"));
    if (is_null(n)) return DP_OK;
    if (dp_span_is(type, "NFC")) {
        *normal = DP_NORMAL_NFC;
        return DP_OK;
    }
    struct dp_json *list = dp_json_get(n, "normalizers");
    if (!dp_span_is(type, "Sequence") || dp_json_kind(list) != DP_JSON_ARRAY || depth == 8)
        DP_FAIL(e, CONFIG, "%s: the normalizer '%.*s' isn't supported (NFC is): remove it and normalise the text before", file, DP_SPAN_FMT(type));
    for (size_t i = 0; i < dp_json_count(list); i++) DP_TRY(read_normalizer(dp_json_at(list, i), depth + 1, normal, file, e));
    return DP_OK;
}

unsigned dp_added_flags(const struct dp_json *a, bool special)
{
    static const struct {
        const char *name;
        unsigned flag;
    } flags[] = {{"lstrip", DP_ADDED_LSTRIP}, {"rstrip", DP_ADDED_RSTRIP}, {"single_word", DP_ADDED_SINGLE_WORD}};
    special = dp_json_bool(dp_json_get(a, "special"), special);
    unsigned f = special ? DP_ADDED_SPECIAL : 0;
    if (dp_json_bool(dp_json_get(a, "normalized"), !special)) f |= DP_ADDED_NORMALIZED;
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (dp_json_bool(dp_json_get(a, flags[i].name), false)) f |= flags[i].flag;
    return f;
}

static int read_added(struct reader *r, const struct dp_json *list, struct dp_err *e)
{
    size_t n = dp_json_count(list);
    r->specials = calloc(n + 1, sizeof *r->specials);
    if (!r->specials) DP_FAIL(e, NOMEM, "%s: added tokens", r->file);
    for (size_t i = 0; i < n; i++) {
        struct dp_json *a = dp_json_at(list, i);
        struct dp_span text = dp_json_str(dp_json_get(a, "content"));
        int64_t id = dp_json_int(dp_json_get(a, "id"), -1);
        if (!text.len || id < 0 || id >= DP_TOKENIZER_IDS_MAX)
            DP_FAIL(e, CORRUPT, "%s: added token %zu has no content, or no id from 0 to 2097151", r->file, i);
        r->specials[i] = (struct dp_special){text, (uint32_t)id, dp_added_flags(a, true)};
        if (id >= r->parts.size) r->parts.size = (uint32_t)id + 1;
    }
    r->parts.special_count = n;
    r->parts.specials = r->specials;
    return DP_OK;
}

/* What the vocabulary and the merges say of added tokens. The reference goes by their text: an id in the vocabulary decides. */
static int place_added(struct reader *r, struct dp_err *e)
{
    uint8_t *made = calloc(r->parts.size + 1, 1);
    int rc = DP_OK;
    if (!made) DP_FAIL(e, NOMEM, "%s: added tokens", r->file);
    for (size_t i = 0; i < r->parts.merge_count; i++) made[r->merges[i].id] = made[r->merges[i].left] = made[r->merges[i].right] = 1;
    for (size_t i = 0; i < r->parts.special_count; i++) {
        struct dp_special *s = &r->specials[i];
        int64_t id = name_id(&r->names, s->text);
        if (id < 0 && r->names.name[s->id].ptr)
            DP_GOTO(e, CORRUPT, "%s: the added token '%.*s' has the id %u, which is '%.*s' in the vocabulary", r->file, DP_SPAN_FMT(s->text), s->id,
                    DP_SPAN_FMT(r->names.name[s->id]));
        if (id >= 0 && id != s->id)
            DP_GOTO(e, CORRUPT, "%s: the added token '%.*s' has two ids, %u, and %u in the vocabulary", r->file, DP_SPAN_FMT(s->text), s->id,
                    (uint32_t)id);
        if (id < 0) {
            s->flags |= DP_ADDED_OUTSIDE;
            continue;
        }
        bool bad;
        struct dp_span bytes = from_chars(&r->mem, s->text, &bad);
        if (!bad && !bytes.ptr) DP_GOTO(e, NOMEM, "%s: added tokens", r->file);
        if (bad || ((s->flags & DP_ADDED_SPECIAL) && !made[id] && bytes.len > 1)) continue;
        s->flags |= DP_ADDED_ORDINARY; /* by the name of its bytes: an added "é" is the byte 0xe9 too, in the reference as here */
        r->bytes[id] = bytes;
    }
out:
    free(made);
    return rc;
}

/* Room for `count` names of ids below parts.size. */
static int open_names(struct reader *r, size_t count, struct dp_err *e)
{
    size_t slots = 64;
    while (slots < 2 * count) slots *= 2;
    r->bytes = calloc(r->parts.size, sizeof *r->bytes);
    r->names.name = calloc(r->parts.size, sizeof *r->names.name);
    r->names.slots = malloc(slots * sizeof *r->names.slots);
    if (!r->bytes || !r->names.name || !r->names.slots) DP_FAIL(e, NOMEM, "%s: %u ids", r->file, r->parts.size);
    memset(r->names.slots, 0xff, slots * sizeof *r->names.slots);
    r->names.mask = slots - 1;
    for (size_t i = 0; i < r->parts.special_count; i++) r->bytes[r->specials[i].id] = r->specials[i].text;
    r->parts.bytes = r->bytes;
    return DP_OK;
}

static int put_name(struct reader *r, uint32_t id, struct dp_span s, struct dp_err *e)
{
    if (r->names.name[id].ptr) DP_FAIL(e, CORRUPT, "%s: '%.*s' has the id %u of another token", r->file, DP_SPAN_FMT(s), id);
    r->names.name[id] = s;
    size_t at = dp_word_hash(s.ptr, s.len) & r->names.mask;
    for (; r->names.slots[at] != DP_NO_ID; at = (at + 1) & r->names.mask)
        if (dp_span_eq(r->names.name[r->names.slots[at]], s))
            DP_FAIL(e, CORRUPT, "%s: the ids %u and %u are both '%.*s'", r->file, r->names.slots[at], id, DP_SPAN_FMT(s));
    r->names.slots[at] = id;
    if (r->bytes[id].ptr) return DP_OK; /* an added token stands as it is */
    bool bad;
    r->bytes[id] = from_chars(&r->mem, s, &bad);
    if (bad)
        DP_FAIL(e, CORRUPT, "%s: '%.*s' isn't written in byte-level characters; only byte-level BPE is supported", r->file, DP_SPAN_FMT(s));
    if (!r->bytes[id].ptr) DP_FAIL(e, NOMEM, "%s: tokens", r->file);
    return DP_OK;
}

static int read_vocab(struct reader *r, const struct dp_json *vocab, struct dp_err *e)
{
    const char *key;
    struct dp_json *v;
    if (!dp_json_count(vocab)) DP_FAIL(e, CORRUPT, "%s: no model.vocab", r->file);
    for (void *it = NULL; (it = dp_json_next(vocab, it, &key, &v));) {
        int64_t id = dp_json_int(v, -1);
        if (id < 0 || id >= DP_TOKENIZER_IDS_MAX)
            DP_FAIL(e, CORRUPT, "%s: the id of '%.64s' isn't a number from 0 to 2097151", r->file, key);
        if (id >= r->parts.size) r->parts.size = (uint32_t)id + 1;
    }
    DP_TRY(open_names(r, dp_json_count(vocab), e));
    for (void *it = NULL; (it = dp_json_next(vocab, it, &key, &v));) DP_TRY(put_name(r, (uint32_t)dp_json_int(v, 0), dp_span_str(key), e));
    return DP_OK;
}

/* The same of a list of tokens; ptr NULL: there is none of this id. */
static int take_tokens(struct reader *r, const struct dp_span *tokens, uint32_t n, struct dp_err *e)
{
    if (n > r->parts.size) r->parts.size = n;
    DP_TRY(open_names(r, n, e));
    for (uint32_t i = 0; i < n; i++)
        if (tokens[i].ptr) DP_TRY(put_name(r, i, tokens[i], e));
    return DP_OK;
}

static int read_merge(struct reader *r, size_t i, struct dp_span left, struct dp_span right, struct dp_err *e)
{
    if (!left.len || !right.len) DP_FAIL(e, CORRUPT, "%s: merge %zu isn't two tokens", r->file, i);
    dp_buf_clear(&r->pair);
    dp_buf_add_span(&r->pair, left);
    dp_buf_add_span(&r->pair, right);
    DP_TRY(dp_buf_check(&r->pair, r->file, e));
    int64_t a = name_id(&r->names, left), b = name_id(&r->names, right), id = name_id(&r->names, dp_buf_span(&r->pair));
    if (a < 0 || b < 0 || id < 0)
        DP_FAIL(e, CORRUPT, "%s: merge %zu ('%.*s' '%.*s') names a token that isn't in the vocabulary", r->file, i, DP_SPAN_FMT(left),
                DP_SPAN_FMT(right));
    r->merges[i] = (struct dp_merge){(uint32_t)a, (uint32_t)b, (uint32_t)id};
    return DP_OK;
}

/* The two sides of "a b". */
static int split_merge(struct reader *r, size_t i, struct dp_span line, struct dp_err *e)
{
    const char *space = line.len ? memchr(line.ptr, ' ', line.len) : NULL;
    if (!space) DP_FAIL(e, CORRUPT, "%s: merge %zu isn't two tokens", r->file, i);
    size_t left = (size_t)(space - line.ptr);
    return read_merge(r, i, dp_span(line.ptr, left), dp_span(space + 1, line.len - left - 1), e);
}

static int read_merges(struct reader *r, const struct dp_json *list, struct dp_err *e)
{
    size_t n = dp_json_count(list);
    r->merges = calloc(n + 1, sizeof *r->merges);
    if (!r->merges) DP_FAIL(e, NOMEM, "%s: %zu merges", r->file, n);
    for (size_t i = 0; i < n; i++) {
        struct dp_json *m = dp_json_at(list, i);
        if (dp_json_kind(m) == DP_JSON_STRING) {
            DP_TRY(split_merge(r, i, dp_json_str(m), e));
            continue;
        }
        if (dp_json_count(m) != 2) DP_FAIL(e, CORRUPT, "%s: merge %zu isn't two tokens", r->file, i);
        DP_TRY(read_merge(r, i, dp_json_str(dp_json_at(m, 0)), dp_json_str(dp_json_at(m, 1)), e));
    }
    r->parts.merges = r->merges;
    r->parts.merge_count = n;
    return DP_OK;
}

static int take_merges(struct reader *r, const struct dp_span *merge, size_t n, struct dp_err *e)
{
    r->merges = calloc(n + 1, sizeof *r->merges);
    if (!r->merges) DP_FAIL(e, NOMEM, "%s: %zu merges", r->file, n);
    for (size_t i = 0; i < n; i++) DP_TRY(split_merge(r, i, merge[i], e));
    r->parts.merges = r->merges;
    r->parts.merge_count = n;
    return DP_OK;
}

/* The lines of merges.txt, "a b", behind a first line "#version ..." that may be missing. */
static int read_merge_lines(struct reader *r, struct dp_span text, const char *file, struct dp_err *e)
{
    size_t lines = 1, n = 0, number = 0;
    for (size_t i = 0; i < text.len; i++) lines += text.ptr[i] == '\n';
    r->merges = calloc(lines, sizeof *r->merges);
    if (!r->merges) DP_FAIL(e, NOMEM, "%s: %zu merges", file, lines);
    for (size_t i = 0; i < text.len;) {
        const char *end = memchr(text.ptr + i, '\n', text.len - i);
        struct dp_span line = dp_span(text.ptr + i, end ? (size_t)(end - text.ptr) - i : text.len - i);
        i += line.len + 1;
        number++;
        if (line.len && line.ptr[line.len - 1] == '\r') line.len--;
        if (!line.len || (number == 1 && line.len >= 8 && memcmp(line.ptr, "#version", 8) == 0)) continue;
        const char *space = memchr(line.ptr, ' ', line.len);
        size_t left = space ? (size_t)(space - line.ptr) : line.len;
        if (!space || memchr(space + 1, ' ', line.len - left - 1))
            DP_FAIL(e, CORRUPT, "%s: line %zu ('%.*s') isn't two tokens with a space between", file, number, DP_SPAN_FMT(line));
        int rc = read_merge(r, n++, dp_span(line.ptr, left), dp_span(space + 1, line.len - left - 1), e);
        if (rc < 0) return dp_err_prefix(e, "%s: line %zu", file, number);
    }
    r->parts.merges = r->merges;
    r->parts.merge_count = n;
    return DP_OK;
}

int dp_hf_keep(struct dp_tokenizer_parts *parts, struct dp_buf *mem, int which, const struct dp_json *v, struct dp_err *e)
{
    struct dp_jsonw w;
    dp_buf_init(mem, DP_TOKENIZER_FILE_BYTES_MAX);
    if (is_null(v)) return DP_OK;
    dp_jsonw_init(&w, mem, 0);
    dp_jsonw_copy(&w, v);
    parts->kept[which] = dp_buf_span(mem);
    return dp_buf_check(mem, dp_kept_names[which], e);
}

static int read_root(struct reader *r, const struct dp_json *root, const char *split, struct dp_err *e)
{
    struct dp_json *model = dp_json_get(root, "model");
    struct dp_span type = dp_json_str(dp_json_get(model, "type"));
    if (is_null(model)) DP_FAIL(e, CORRUPT, "%s: no 'model': not a tokenizer.json", r->file);
    if (type.ptr && !dp_span_is(type, "BPE"))
        DP_FAIL(e, CONFIG, "%s: a model of type %.*s; only BPE is supported", r->file, DP_SPAN_FMT(type));
    DP_TRY(read_normalizer(dp_json_get(root, "normalizer"), 0, &r->parts.normal, r->file, e));
    static const char *const off[] = {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"};
    for (size_t i = 0; i < sizeof off / sizeof *off; i++) DP_TRY(dp_hf_must_be_off(model, off[i], r->file, e));
    r->parts.ignore_merges = dp_json_bool(dp_json_get(model, "ignore_merges"), false);
    if (split) DP_TRY(dp_splitter_parse(&r->parts.splitter, &r->parts.split, dp_span_str(split), e));
    else DP_TRY(read_pre_tokenizer(dp_json_get(root, "pre_tokenizer"), &r->parts, r->file, e));
    DP_TRY(read_added(r, dp_json_get(root, "added_tokens"), e));
    DP_TRY(read_vocab(r, dp_json_get(model, "vocab"), e));
    DP_TRY(read_merges(r, dp_json_get(model, "merges"), e));
    for (int i = 0; i < DP_KEPT_ANY; i++)
        DP_TRY(dp_hf_keep(&r->parts, &r->kept[i], i, dp_json_get(i == DP_KEPT_UNK_TOKEN ? model : root, dp_kept_names[i]), e));
    return place_added(r, e);
}

static void open_reader(struct reader *r, const char *name)
{
    *r = (struct reader){.file = name};
    dp_arena_init(&r->mem, SIZE_MAX / 2);
    dp_buf_init(&r->pair, DP_TOKENIZER_FILE_BYTES_MAX);
}

static void close_reader(struct reader *r)
{
    dp_splitter_close(r->parts.splitter);
    free(r->names.name);
    free(r->names.slots);
    free(r->bytes);
    free(r->merges);
    free(r->specials);
    dp_buf_release(&r->pair);
    for (int i = 0; i < DP_KEPT_ANY; i++) dp_buf_release(&r->kept[i]);
    dp_arena_release(&r->mem);
}

int dp_tokenizer_load_hf(struct dp_tokenizer **out, struct dp_span content, const char *name, const char *split, struct dp_err *e)
{
    struct dp_json *root = NULL;
    struct reader r;
    *out = NULL;
    DP_TRY(dp_json_parse(&root, content, name, e));
    if (dp_sp_json_is(root)) {
        int sp = dp_tokenizer_load_sp_json(out, root, name, split, e);
        dp_json_free(root);
        return sp;
    }
    open_reader(&r, name);
    int rc = read_root(&r, root, split, e);
    if (rc >= 0) rc = dp_tokenizer_build(out, &r.parts, name, e);
    close_reader(&r);
    dp_json_free(root);
    return rc;
}

/* Added tokens are added where the vocabulary leaves room, or have an id there. */
static int take_added(struct reader *r, const struct dp_vocab_files *f, struct dp_err *e)
{
    r->specials = calloc(f->special_count + 1, sizeof *r->specials);
    if (!r->specials) DP_FAIL(e, NOMEM, "%s: added tokens", r->file);
    if (f->special_count) memcpy(r->specials, f->specials, f->special_count * sizeof *r->specials);
    for (size_t i = 0; i < f->special_count; i++)
        if (f->specials[i].id >= r->parts.size) r->parts.size = f->specials[i].id + 1;
    r->parts.specials = r->specials;
    r->parts.special_count = f->special_count;
    return DP_OK;
}

int dp_tokenizer_load_vocab(struct dp_tokenizer **out, const struct dp_vocab_files *f, struct dp_err *e)
{
    struct reader r;
    *out = NULL;
    open_reader(&r, f->vocab_name);
    r.parts.split = f->split;
    r.parts.splitter = dp_splitter_ref(f->splitter);
    r.parts.normal = f->normal;
    int rc = take_added(&r, f, e);
    r.parts.ignore_merges = f->ignore_merges;
    if (rc >= 0) rc = f->vocab ? read_vocab(&r, f->vocab, e) : take_tokens(&r, f->tokens, f->token_count, e);
    if (rc >= 0) rc = f->vocab ? read_merge_lines(&r, f->merges, f->merges_name, e) : take_merges(&r, f->merge, f->merge_count, e);
    if (rc >= 0) rc = place_added(&r, e);
    if (rc >= 0) rc = dp_tokenizer_build(out, &r.parts, f->vocab_name, e);
    close_reader(&r);
    return rc;
}

/* ---- writing ---- */

static int must_be_bytes(const struct dp_tokenizer *t, struct dp_err *e)
{
    if (t->sp) DP_FAIL(e, CONFIG, "a sentencepiece model can't be written as byte-level BPE: write .model or GGUF");
    return DP_OK;
}

/* A string of ByteLevel characters; special tokens stand as they are. */
static void write_token(struct dp_jsonw *w, const struct dp_tokenizer *t, uint32_t id, struct dp_buf *tmp, bool key)
{
    dp_buf_clear(tmp);
    if (t->sp) dp_buf_add_span(tmp, t->sp->f.piece[id].text);
    else if (t->is_special[id]) dp_buf_add_span(tmp, t->bytes[id]);
    else dp_byte_level_write(tmp, t->bytes[id]);
    if (tmp->full) w->buf->full = true; /* the next clear would forget it */
    if (key) dp_jsonw_key_span(w, dp_buf_span(tmp));
    else dp_jsonw_str(w, dp_buf_span(tmp));
}

int dp_tokenizer_each_merge(const struct dp_tokenizer *t, void (*write)(void *ctx, uint32_t left, uint32_t right), void *ctx, struct dp_err *e)
{
    for (uint32_t i = 0; t->sp && i < t->sp->f.merge_count; i++) write(ctx, t->sp->f.merges[i].left, t->sp->f.merges[i].right);
    if (!t->ranks) {
        for (uint32_t i = 0; i < t->merge_count; i++) write(ctx, t->merges[i].left, t->merges[i].right);
        return DP_OK;
    }
    size_t longest = 1;
    for (uint32_t i = 0; i < t->size; i++)
        if (t->bytes[i].ptr && t->bytes[i].len > longest) longest = t->bytes[i].len;
    uint32_t *ids = malloc(longest * sizeof *ids);
    if (!ids) DP_FAIL(e, NOMEM, "writing merges");
    for (uint32_t i = 0; i < t->size; i++)
        if (t->bytes[i].ptr && !t->is_special[i] && t->bytes[i].len > 1 && dp_bpe_last_two(t, i, i, ids)) write(ctx, ids[0], ids[1]);
    free(ids);
    return DP_OK;
}

struct merge_writer {
    struct dp_jsonw *w;
    const struct dp_tokenizer *t;
    struct dp_buf *tmp, *out;
};

static void write_merge_json(void *ctx, uint32_t left, uint32_t right)
{
    struct merge_writer *m = ctx;
    dp_jsonw_begin(m->w, '[');
    write_token(m->w, m->t, left, m->tmp, false);
    write_token(m->w, m->t, right, m->tmp, false);
    dp_jsonw_end(m->w, ']');
}

static void write_merge_text(void *ctx, uint32_t left, uint32_t right)
{
    struct merge_writer *m = ctx;
    dp_byte_level_write(m->out, m->t->bytes[left]);
    dp_buf_add_char(m->out, ' ');
    dp_byte_level_write(m->out, m->t->bytes[right]);
    dp_buf_add_char(m->out, '\n');
}

static void write_byte_level(struct dp_jsonw *w, bool regex)
{
    dp_jsonw_begin(w, '{');
    dp_jsonw_member(w, "type", "ByteLevel");
    dp_jsonw_member_bool(w, "add_prefix_space", false);
    dp_jsonw_member_bool(w, "trim_offsets", true);
    dp_jsonw_member_bool(w, "use_regex", regex);
    dp_jsonw_end(w, '}');
}

static void write_split(struct dp_jsonw *w, const char *kind, struct dp_span pattern, enum dp_split_join join)
{
    dp_jsonw_begin(w, '{');
    dp_jsonw_member(w, "type", "Split");
    dp_jsonw_key(w, "pattern");
    dp_jsonw_begin(w, '{');
    dp_jsonw_key(w, kind);
    dp_jsonw_str(w, pattern);
    dp_jsonw_end(w, '}');
    dp_jsonw_member(w, "behavior", behaviors[join]);
    dp_jsonw_member_bool(w, "invert", false);
    dp_jsonw_end(w, '}');
}

static void write_step(struct dp_jsonw *w, const struct dp_split_step *s, struct dp_buf *tmp)
{
    const char *const *known;
    size_t n;
    dp_buf_clear(tmp);
    switch (s->kind) {
    case DP_CUT_KNOWN:
        n = dp_split_patterns(s->split, &known);
        for (size_t i = 0; i < n; i++) write_split(w, "Regex", dp_span_str(known[i]), DP_JOIN_NOTHING);
        break;
    case DP_CUT_REGEX: write_split(w, "Regex", s->text, s->join); break;
    case DP_CUT_LITERAL: write_split(w, "String", s->text, s->join); break;
    case DP_CUT_DIGITS:
        if (s->digits < 2) {
            dp_jsonw_begin(w, '{');
            dp_jsonw_member(w, "type", "Digits");
            dp_jsonw_member_bool(w, "individual_digits", s->digits == 1);
            dp_jsonw_end(w, '}');
            break;
        }
        dp_buf_printf(tmp, "\\p{N}{1,%d}", s->digits);
        write_split(w, "Regex", dp_buf_span(tmp), DP_JOIN_NOTHING);
        break;
    case DP_CUT_SCRIPTS:
        dp_split_scripts_regex(tmp);
        write_split(w, "Regex", dp_buf_span(tmp), DP_JOIN_NOTHING);
        break;
    }
    if (tmp->full) w->buf->full = true;
}

static void write_pre_tokenizer(struct dp_jsonw *w, const struct dp_tokenizer *t, struct dp_buf *tmp)
{
    struct dp_split_step alone = {.kind = DP_CUT_KNOWN, .split = t->split};
    const struct dp_split_step *steps = &alone;
    size_t n = 1;
    if (t->splitter) steps = dp_splitter_steps(t->splitter, &n);
    bool gpt2 = n && steps[n - 1].kind == DP_CUT_KNOWN && steps[n - 1].split == DP_SPLIT_GPT2; /* ByteLevel's own */
    dp_jsonw_key(w, "pre_tokenizer");
    if (gpt2 && n == 1) {
        write_byte_level(w, true);
        return;
    }
    dp_jsonw_begin(w, '{');
    dp_jsonw_member(w, "type", "Sequence");
    dp_jsonw_key(w, "pretokenizers");
    dp_jsonw_begin(w, '[');
    for (size_t i = 0; i + gpt2 < n; i++) write_step(w, &steps[i], tmp);
    write_byte_level(w, gpt2);
    dp_jsonw_end(w, ']');
    dp_jsonw_end(w, '}');
}

static int compare_ids(const void *a, const void *b)
{
    uint32_t x = ((const struct dp_special *)a)->id, y = ((const struct dp_special *)b)->id;
    return (x > y) - (x < y);
}

static int write_added(struct dp_jsonw *w, const struct dp_tokenizer *t, struct dp_err *e)
{
    struct dp_special *s = malloc((t->special_count + 1) * sizeof *s);
    if (!s) DP_FAIL(e, NOMEM, "writing tokenizer.json");
    if (t->special_count) {
        memcpy(s, t->specials, t->special_count * sizeof *s);
        qsort(s, t->special_count, sizeof *s, compare_ids);
    }
    dp_jsonw_key(w, "added_tokens");
    dp_jsonw_begin(w, '[');
    for (size_t i = 0; i < t->special_count; i++) {
        dp_jsonw_begin(w, '{');
        dp_jsonw_key(w, "id");
        dp_jsonw_uint(w, s[i].id);
        dp_jsonw_key(w, "content");
        dp_jsonw_str(w, s[i].text);
        dp_jsonw_member_bool(w, "single_word", s[i].flags & DP_ADDED_SINGLE_WORD);
        dp_jsonw_member_bool(w, "lstrip", s[i].flags & DP_ADDED_LSTRIP);
        dp_jsonw_member_bool(w, "rstrip", s[i].flags & DP_ADDED_RSTRIP);
        dp_jsonw_member_bool(w, "normalized", s[i].flags & DP_ADDED_NORMALIZED);
        dp_jsonw_member_bool(w, "special", s[i].flags & DP_ADDED_SPECIAL);
        dp_jsonw_end(w, '}');
    }
    dp_jsonw_end(w, ']');
    free(s);
    return DP_OK;
}

static void write_vocab(struct dp_jsonw *w, const struct dp_tokenizer *t, struct dp_buf *tmp)
{
    dp_jsonw_begin(w, '{');
    for (uint32_t i = 0; i < t->size; i++) {
        if (!t->bytes[i].ptr || t->is_special[i] == 2) continue;
        write_token(w, t, i, tmp, true);
        dp_jsonw_uint(w, i);
    }
    dp_jsonw_end(w, '}');
}

static void write_kept(struct dp_jsonw *w, const struct dp_tokenizer *t, int which)
{
    dp_jsonw_key(w, dp_kept_names[which]);
    if (t->kept[which]) dp_jsonw_raw(w, dp_span_str(t->kept[which]));
    else dp_jsonw_null(w);
}

static void write_normalizer(struct dp_jsonw *w, enum dp_normal normal)
{
    dp_jsonw_key(w, "normalizer");
    if (normal == DP_NORMAL_NONE) {
        dp_jsonw_null(w);
        return;
    }
    dp_jsonw_begin(w, '{');
    dp_jsonw_member(w, "type", "NFC");
    dp_jsonw_end(w, '}');
}

static int write_model(struct dp_jsonw *w, const struct dp_tokenizer *t, struct dp_buf *tmp, struct dp_err *e)
{
    dp_jsonw_key(w, "model");
    dp_jsonw_begin(w, '{');
    dp_jsonw_member(w, "type", "BPE");
    dp_jsonw_member_null(w, "dropout");
    write_kept(w, t, DP_KEPT_UNK_TOKEN);
    dp_jsonw_member_null(w, "continuing_subword_prefix");
    dp_jsonw_member_null(w, "end_of_word_suffix");
    if (t->kept[DP_KEPT_FUSE_UNK]) write_kept(w, t, DP_KEPT_FUSE_UNK);
    else dp_jsonw_member_bool(w, "fuse_unk", false);
    dp_jsonw_member_bool(w, "byte_fallback", t->sp != NULL);
    dp_jsonw_member_bool(w, "ignore_merges", t->ignore_merges);
    dp_jsonw_key(w, "vocab");
    write_vocab(w, t, tmp);
    dp_jsonw_key(w, "merges");
    dp_jsonw_begin(w, '[');
    struct merge_writer m = {.w = w, .t = t, .tmp = tmp};
    DP_TRY(dp_tokenizer_each_merge(t, write_merge_json, &m, e));
    dp_jsonw_end(w, ']');
    dp_jsonw_end(w, '}');
    return DP_OK;
}

int dp_tokenizer_save_hf(const struct dp_tokenizer *t, struct dp_buf *out, struct dp_err *e)
{
    struct dp_jsonw w;
    struct dp_buf tmp;
    if (!t->sp || !t->sp->f.merges) DP_TRY(must_be_bytes(t, e));
    dp_buf_init(&tmp, DP_TOKENIZER_FILE_BYTES_MAX);
    dp_jsonw_init(&w, out, 0);
    dp_jsonw_begin(&w, '{');
    dp_jsonw_member(&w, "version", "1.0");
    write_kept(&w, t, DP_KEPT_TRUNCATION);
    write_kept(&w, t, DP_KEPT_PADDING);
    int rc;
    DP_TRY_OUT(write_added(&w, t, e));
    if (t->sp) {
        write_kept(&w, t, DP_KEPT_NORMALIZER);
        write_kept(&w, t, DP_KEPT_PRE_TOKENIZER);
    } else {
        write_normalizer(&w, t->normal);
        write_pre_tokenizer(&w, t, &tmp);
    }
    write_kept(&w, t, DP_KEPT_POST_PROCESSOR);
    if (t->kept[DP_KEPT_DECODER]) write_kept(&w, t, DP_KEPT_DECODER);
    else {
        dp_jsonw_key(&w, "decoder");
        write_byte_level(&w, true);
    }
    DP_TRY_OUT(write_model(&w, t, &tmp, e));
    dp_jsonw_end(&w, '}');
    DP_TRY_OUT(dp_buf_check(&tmp, "a token", e));
    rc = dp_buf_check(out, "tokenizer.json", e);
out:
    dp_buf_release(&tmp);
    return rc;
}

int dp_tokenizer_save_vocab(const struct dp_tokenizer *t, struct dp_buf *out, struct dp_err *e)
{
    struct dp_jsonw w;
    struct dp_buf tmp;
    DP_TRY(must_be_bytes(t, e));
    dp_buf_init(&tmp, DP_TOKENIZER_FILE_BYTES_MAX);
    dp_jsonw_init(&w, out, 0);
    write_vocab(&w, t, &tmp);
    int rc = dp_buf_check(&tmp, "a token", e);
    dp_buf_release(&tmp);
    return rc < 0 ? rc : dp_buf_check(out, "vocab.json", e);
}

int dp_tokenizer_save_merges(const struct dp_tokenizer *t, struct dp_buf *out, struct dp_err *e)
{
    struct merge_writer m = {.t = t, .out = out};
    DP_TRY(must_be_bytes(t, e));
    dp_buf_add_str(out, "#version: 0.2\n");
    DP_TRY(dp_tokenizer_each_merge(t, write_merge_text, &m, e));
    return dp_buf_check(out, "merges.txt", e);
}
