/* tokenizer/sp_json.c - tokenizer.json of a sentencepiece BPE model, as transformers writes it for Llama 2, Mistral, Gemma and others.
 *
 * Model BPE with byte_fallback and the 256 pieces <0xNN>; spaces written U+2581 in one of two ways:
 *   normalizer Replace " " by U+2581, behind a Prepend of U+2581 or alone, and pre_tokenizer null;
 *   normalizer null, and pre_tokenizer Metaspace that doesn't split, prepend_scheme always, first or never;
 * decoder Replace, ByteFallback, Fuse, and Strip of one space or not. Nothing else is read: ids would be others.
 *
 * Merges are those of the list, one by one in its order, as the reference takes them: converters list every way to make a piece, and where two
 * of equal score lie over each other, sentencepiece takes the left one, the reference the first of the list. */
#include "tokenizer/sp.h"

#include "base/json.h"
#include "base/utf8.h"

#include <stdlib.h>

struct reader {
    const char *file;
    const struct dp_json *vocab;
    struct dp_sp_fields f;
    struct dp_sp_piece *piece;
    struct dp_merge *merges;
    struct dp_special *specials;
    size_t special_count;
    struct dp_tokenizer_parts parts;
    struct dp_buf kept[DP_KEPT_COUNT], key;
    bool normalizer; /* there is one */
};

static bool is_null(const struct dp_json *v)
{
    return !v || dp_json_kind(v) == DP_JSON_NULL;
}

static bool is(const struct dp_json *v, const char *key, const char *text)
{
    return dp_span_is(dp_json_str(dp_json_get(v, key)), text);
}

bool dp_sp_json_is(const struct dp_json *root)
{
    return dp_json_bool(dp_json_get(dp_json_get(root, "model"), "byte_fallback"), false);
}

/* ---- normalizer, pre_tokenizer, decoder ---- */

static bool is_replace(const struct dp_json *v, const char *from, const char *to)
{
    return is(v, "type", "Replace") && is(dp_json_get(v, "pattern"), "String", from) && is(v, "content", to);
}

static int read_normalizer(struct reader *r, const struct dp_json *v, struct dp_err *e)
{
    const struct dp_json *list = dp_json_get(v, "normalizers"), *last = v;
    if (is_null(v)) return DP_OK;
    r->normalizer = true;
    if (is(v, "type", "Sequence")) {
        size_t n = dp_json_count(list);
        const struct dp_json *first = dp_json_at(list, 0);
        r->f.rules.add_dummy_prefix = n == 2 && is(first, "type", "Prepend") && is(first, "prepend", DP_SP_SPACE);
        last = n == 1 || r->f.rules.add_dummy_prefix ? dp_json_at(list, n - 1) : NULL;
    }
    if (last && is_replace(last, " ", DP_SP_SPACE)) return DP_OK;
    DP_FAIL(e, CONFIG, "%s: the normalizer of a vocabulary with byte_fallback must be Replace of ' ' by U+2581, behind Prepend of U+2581 or alone", r->file);
}

/* Metaspace: "split" is true and the scheme "always" where they aren't said. */
static int read_pre_tokenizer(struct reader *r, const struct dp_json *v, struct dp_err *e)
{
    static const char *const schemes[] = {"never", "always", "first"}; /* by enum dp_sp_prefix */
    struct dp_span scheme = dp_json_str(dp_json_get(v, "prepend_scheme"));
    int k = 0;
    if (is_null(v) && r->normalizer) return DP_OK;
    if (is_null(v) || r->normalizer || !is(v, "type", "Metaspace") || !is(v, "replacement", DP_SP_SPACE) || dp_json_bool(dp_json_get(v, "split"), true))
        DP_FAIL(e, CONFIG, "%s: a vocabulary with byte_fallback must have the normalizer Replace and no pre_tokenizer, or only the pre_tokenizer Metaspace with U+2581 and \"split\": false", r->file);
    while (scheme.ptr && k < 3 && !dp_span_is(scheme, schemes[k])) k++;
    r->f.prefix = scheme.ptr ? (enum dp_sp_prefix)k : DP_SP_PREFIX_ALWAYS;
    if (k == 3 || (r->f.prefix != DP_SP_PREFIX_NONE && !dp_json_bool(dp_json_get(v, "add_prefix_space"), true)))
        DP_FAIL(e, CONFIG, "%s: Metaspace with the prepend_scheme '%.*s', which isn't known or contradicts add_prefix_space", r->file, DP_SPAN_FMT(scheme));
    return DP_OK;
}

static int read_decoder(struct reader *r, const struct dp_json *v, struct dp_err *e)
{
    const struct dp_json *list = dp_json_get(v, "decoders"), *strip = dp_json_at(list, 3);
    size_t n = dp_json_count(list);
    bool known = is(v, "type", "Sequence") && (n == 3 || n == 4) && is_replace(dp_json_at(list, 0), DP_SP_SPACE, " ") &&
                 is(dp_json_at(list, 1), "type", "ByteFallback") && is(dp_json_at(list, 2), "type", "Fuse");
    r->f.strip = n == 4;
    if (known && n == 4)
        known = is(strip, "type", "Strip") && is(strip, "content", " ") && dp_json_int(dp_json_get(strip, "start"), 0) == 1 && dp_json_int(dp_json_get(strip, "stop"), -1) == 0;
    if (!known) DP_FAIL(e, CONFIG, "%s: the decoder of a vocabulary with byte_fallback must be Replace, ByteFallback, Fuse, and Strip of one space at the start or not", r->file);
    return DP_OK;
}

/* ---- pieces and merges ---- */

static int64_t vocab_id(const struct reader *r, const char *key)
{
    return dp_json_int(dp_json_get(r->vocab, key), -1);
}

static int put_piece(struct reader *r, int64_t id, struct dp_span text, uint8_t type, struct dp_err *e)
{
    if (id < 0 || id >= r->f.count)
        DP_FAIL(e, CONFIG, "%s: the id %lld of '%.*s'; with %u tokens and byte_fallback ids go from 0 to %u", r->file, (long long)id, DP_SPAN_FMT(text), r->f.count, r->f.count - 1);
    if (r->piece[id].text.ptr)
        DP_FAIL(e, CORRUPT, "%s: '%.*s' and '%.*s' have the id %lld", r->file, DP_SPAN_FMT(r->piece[id].text), DP_SPAN_FMT(text), (long long)id);
    r->piece[id] = (struct dp_sp_piece){.text = text, .type = type};
    return DP_OK;
}

static bool is_byte(const char *s)
{
    return strlen(s) == 6 && memcmp(s, "<0x", 3) == 0 && strspn(s + 3, "0123456789ABCDEF") == 2 && s[5] == '>';
}

static int read_added(struct reader *r, const struct dp_json *list, struct dp_err *e)
{
    for (size_t i = 0; i < dp_json_count(list); i++) {
        const struct dp_json *a = dp_json_at(list, i);
        struct dp_special s = {dp_json_str(dp_json_get(a, "content")), 0, dp_added_flags(a, true)};
        int64_t id = dp_json_int(dp_json_get(a, "id"), -1), known = s.text.len ? vocab_id(r, s.text.ptr) : -1;
        if (!s.text.len || strlen(s.text.ptr) != s.text.len) DP_FAIL(e, CORRUPT, "%s: added token %zu has no content, or a NUL in it", r->file, i);
        if (known >= 0 && known != id)
            DP_FAIL(e, CORRUPT, "%s: the added token '%.*s' has two ids, %lld, and %lld in the vocabulary", r->file, DP_SPAN_FMT(s.text), (long long)id, (long long)known);
        if (r->normalizer && (s.flags & DP_ADDED_NORMALIZED))
            DP_FAIL(e, CONFIG, "%s: the added token '%.*s' is looked for in normalised text (\"normalized\": true), which isn't supported beside Replace", r->file, DP_SPAN_FMT(s.text));
        if (known < 0) {
            DP_TRY(put_piece(r, id, s.text, DP_SP_CONTROL, e));
            s.flags |= DP_ADDED_OUTSIDE;
        }
        s.id = (uint32_t)id;
        r->specials[r->special_count++] = s;
    }
    return DP_OK;
}

static size_t count_outside(const struct reader *r, const struct dp_json *list)
{
    size_t n = 0;
    for (size_t i = 0; i < dp_json_count(list); i++) {
        struct dp_span text = dp_json_str(dp_json_get(dp_json_at(list, i), "content"));
        n += text.ptr && vocab_id(r, text.ptr) < 0;
    }
    return n;
}

static int read_pieces(struct reader *r, const struct dp_json *model, const struct dp_json *added, struct dp_err *e)
{
    const char *key;
    struct dp_json *v;
    struct dp_span unk = dp_json_str(dp_json_get(model, "unk_token"));
    size_t n = dp_json_count(r->vocab) + count_outside(r, added);
    if (!dp_json_count(r->vocab)) DP_FAIL(e, CORRUPT, "%s: no model.vocab", r->file);
    if (n > DP_TOKENIZER_IDS_MAX) DP_FAIL(e, LIMIT, "%s: %zu tokens; at most 2097152", r->file, n);
    if (!unk.len || vocab_id(r, unk.ptr) < 0 || dp_utf8_count(unk.ptr, unk.len) < 2)
        DP_FAIL(e, CONFIG, "%s: byte_fallback without an unk_token of several characters in the vocabulary", r->file);
    r->f.count = (uint32_t)n;
    r->f.piece = r->piece = calloc(n, sizeof *r->piece);
    r->specials = calloc(dp_json_count(added) + 1, sizeof *r->specials);
    if (!r->piece || !r->specials) DP_FAIL(e, NOMEM, "%s: %zu tokens", r->file, n);
    for (void *it = NULL; (it = dp_json_next(r->vocab, it, &key, &v));)
        DP_TRY(put_piece(r, dp_json_int(v, -1), dp_span_str(key), dp_span_is(unk, key) ? DP_SP_UNKNOWN : is_byte(key) ? DP_SP_BYTE : DP_SP_NORMAL, e));
    return read_added(r, added, e); /* as many as ids, each with one of its own: none is left over */
}

static int read_merge(struct reader *r, uint32_t m, struct dp_span left, struct dp_span right, struct dp_err *e)
{
    struct dp_span part[] = {left, right};
    int64_t id[3];
    for (int i = 0; i < 3; i++) {
        dp_buf_clear(&r->key);
        dp_buf_add_span(&r->key, i < 2 ? part[i] : left);
        if (i == 2) dp_buf_add_span(&r->key, right);
        DP_TRY(dp_buf_check(&r->key, "a merge", e));
        id[i] = r->key.len && strlen(r->key.ptr) == r->key.len ? vocab_id(r, r->key.ptr) : -1;
        if (id[i] < 0) DP_FAIL(e, CORRUPT, "%s: merge %u ('%.*s' '%.*s') names a token that isn't in the vocabulary", r->file, m, DP_SPAN_FMT(left), DP_SPAN_FMT(right));
    }
    r->merges[m] = (struct dp_merge){(uint32_t)id[0], (uint32_t)id[1], (uint32_t)id[2]};
    return DP_OK;
}

static int read_merges(struct reader *r, const struct dp_json *list, struct dp_err *e)
{
    size_t n = dp_json_count(list);
    if (n >= DP_TOKENIZER_IDS_MAX) DP_FAIL(e, LIMIT, "%s: %zu merges; less than 2097152", r->file, n);
    r->f.merges = r->merges = calloc(n + 1, sizeof *r->merges);
    if (!r->merges) DP_FAIL(e, NOMEM, "%s: %zu merges", r->file, n);
    for (uint32_t m = 0; m < n; m++) {
        const struct dp_json *v = dp_json_at(list, m);
        struct dp_span line = dp_json_str(v);
        const char *space = line.len ? memchr(line.ptr, ' ', line.len) : NULL;
        size_t at = space ? (size_t)(space - line.ptr) : 0;
        if (space) DP_TRY(read_merge(r, m, dp_span(line.ptr, at), dp_span(space + 1, line.len - at - 1), e));
        else if (dp_json_count(v) == 2) DP_TRY(read_merge(r, m, dp_json_str(dp_json_at(v, 0)), dp_json_str(dp_json_at(v, 1)), e));
        else DP_FAIL(e, CORRUPT, "%s: merge %u isn't two tokens", r->file, m);
    }
    r->f.merge_count = (uint32_t)n;
    return DP_OK;
}

/* tokenizer.json names no end of text: the token that such models have for it. */
static int64_t find_eot(const struct reader *r)
{
    static const char *const names[] = {"</s>", "<eos>", "<|endoftext|>"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++)
        for (size_t i = 0; i < r->special_count; i++)
            if (dp_span_is(r->specials[i].text, names[k])) return r->specials[i].id;
    return -1;
}

static int read_root(struct reader *r, const struct dp_json *root, struct dp_err *e)
{
    const struct dp_json *model = dp_json_get(root, "model");
    struct dp_span type = dp_json_str(dp_json_get(model, "type"));
    static const char *const off[] = {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges"};
    if (type.ptr && !dp_span_is(type, "BPE")) DP_FAIL(e, CONFIG, "%s: a model of type %.*s; only BPE is supported", r->file, DP_SPAN_FMT(type));
    for (size_t i = 0; i < sizeof off / sizeof *off; i++) DP_TRY(dp_hf_must_be_off(model, off[i], r->file, e));
    DP_TRY(read_normalizer(r, dp_json_get(root, "normalizer"), e));
    DP_TRY(read_pre_tokenizer(r, dp_json_get(root, "pre_tokenizer"), e));
    DP_TRY(read_decoder(r, dp_json_get(root, "decoder"), e));
    r->vocab = dp_json_get(model, "vocab");
    DP_TRY(read_pieces(r, model, dp_json_get(root, "added_tokens"), e));
    DP_TRY(read_merges(r, dp_json_get(model, "merges"), e));
    for (int i = 0; i < DP_KEPT_COUNT; i++)
        DP_TRY(dp_hf_keep(&r->parts, &r->kept[i], i, dp_json_get(i == DP_KEPT_UNK_TOKEN || i == DP_KEPT_FUSE_UNK ? model : root, dp_kept_names[i]), e));
    r->parts.specials = r->specials;
    r->parts.special_count = r->special_count;
    r->parts.eot = find_eot(r);
    return DP_OK;
}

int dp_tokenizer_load_sp_json(struct dp_tokenizer **out, const struct dp_json *root, const char *name, const char *split, struct dp_err *e)
{
    struct reader r = {.file = name, .f = {.byte_fallback = true, .bos = -1, .eos = -1, .pad = -1, .rules = {.escape_whitespaces = true}}};
    *out = NULL;
    if (split) DP_FAIL(e, CONFIG, "%s: a sentencepiece model splits by its own rules: leave out the split '%s'", name, split);
    dp_buf_init(&r.key, DP_TOKENIZER_FILE_BYTES_MAX);
    int rc = read_root(&r, root, e);
    if (rc >= 0) rc = dp_sp_tokenizer_of(out, &r.f, &r.parts, name, e);
    dp_buf_release(&r.key);
    for (int i = 0; i < DP_KEPT_COUNT; i++) dp_buf_release(&r.kept[i]);
    free(r.piece);
    free(r.merges);
    free(r.specials);
    return rc;
}
