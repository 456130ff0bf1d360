/* tokenizer/sp_file.c - sentencepiece's .model: ModelProto of sentencepiece_model.proto, read and written by hand.
 *
 * Protobuf is a row of (field number << 3 | wire type) and values; of these only the fields below are looked at and all others are
 * passed over. Every length is checked against what is left of its message.
 *   ModelProto       1 pieces {1 piece, 2 score, 3 type}, 2 trainer_spec, 3 normalizer_spec, 5 denormalizer_spec
 *   TrainerSpec      3 model_type, 24 treat_whitespace_as_suffix, 35 byte_fallback, 41 bos_id, 42 eos_id, 43 pad_id, 44 unk_surface
 *   NormalizerSpec   2 precompiled_charsmap, 3 add_dummy_prefix, 4 remove_extra_whitespaces, 5 escape_whitespaces */
#include "tokenizer/sp.h"

#include <stdlib.h>

struct field {
    uint32_t number, wire;
    uint64_t value;      /* of a varint, or of 4 or 8 fixed bytes */
    struct dp_span bytes; /* of a length-delimited field */
};

/* *at behind the varint; false when it is cut short or over 64 bits. */
static bool varint(struct dp_span s, size_t *at, uint64_t *v)
{
    *v = 0;
    for (unsigned shift = 0; shift < 64 && *at < s.len; shift += 7) {
        uint8_t b = (uint8_t)s.ptr[(*at)++];
        *v |= (uint64_t)(b & 127) << shift;
        if (b < 128) return true;
    }
    return false;
}

/* The next field of a message: DP_EOF behind the last, DP_CORRUPT with the offset in `whole`. */
static int next_field(struct dp_span s, size_t *at, struct field *f, struct dp_span whole, const char *name, struct dp_err *e)
{
    uint64_t key;
    size_t from = *at;
    if (*at >= s.len) return DP_EOF;
    if (!varint(s, at, &key) || key >> 3 == 0 || key >> 3 > UINT32_MAX) goto bad;
    *f = (struct field){.number = (uint32_t)(key >> 3), .wire = (uint32_t)(key & 7)};
    if (f->wire == 0) {
        if (!varint(s, at, &f->value)) goto bad;
        return DP_OK;
    }
    if (f->wire == 2) {
        uint64_t n;
        if (!varint(s, at, &n) || n > s.len - *at) goto bad;
        f->bytes = dp_span(s.ptr + *at, (size_t)n);
        *at += (size_t)n;
        return DP_OK;
    }
    size_t n = f->wire == 5 ? 4 : f->wire == 1 ? 8 : 0;
    if (!n || s.len - *at < n) goto bad;
    for (size_t i = 0; i < n; i++) f->value |= (uint64_t)(uint8_t)s.ptr[*at + i] << 8 * i;
    *at += n;
    return DP_OK;
bad:
    DP_FAIL(e, CORRUPT, "%s: offset %zu is no field of a sentencepiece model: the file is cut short or another kind of file", name,
            (size_t)(s.ptr - whole.ptr) + from);
}

struct file {
    struct dp_span whole;
    const char *name;
    struct dp_sp_fields f;
    size_t cap;
    uint64_t model_type;
};

static int read_piece(struct file *r, struct dp_span s, struct dp_err *e)
{
    struct dp_sp_piece p = {.type = DP_SP_NORMAL};
    struct field x;
    int rc;
    if (r->f.count == DP_TOKENIZER_IDS_MAX) DP_FAIL(e, LIMIT, "%s: more than 2097152 pieces", r->name);
    for (size_t at = 0; (rc = next_field(s, &at, &x, r->whole, r->name, e)) == DP_OK;) {
        if (x.number == 1 && x.wire == 2) p.text = x.bytes;
        if (x.number == 2 && x.wire == 5) {
            uint32_t bits = (uint32_t)x.value;
            memcpy(&p.score, &bits, 4);
        }
        if (x.number == 3 && x.wire == 0) p.type = x.value < 256 ? (uint8_t)x.value : 0;
    }
    if (rc < 0) return rc;
    if (r->f.count == r->cap) {
        size_t cap = r->cap * 2 + 1024;
        struct dp_sp_piece *more = realloc(r->f.piece, cap * sizeof *more);
        if (!more) DP_FAIL(e, NOMEM, "%s: %zu pieces", r->name, cap);
        r->f.piece = more;
        r->cap = cap;
    }
    r->f.piece[r->f.count++] = p;
    return DP_OK;
}

static int read_trainer(struct file *r, struct dp_span s, struct dp_err *e)
{
    struct field x;
    int rc;
    for (size_t at = 0; (rc = next_field(s, &at, &x, r->whole, r->name, e)) == DP_OK;) {
        if (x.wire == 0) switch (x.number) {
            case 3: r->model_type = x.value; break;
            case 24: r->f.rules.whitespace_as_suffix = x.value; break;
            case 35: r->f.byte_fallback = x.value; break;
            case 41: r->f.bos = (int32_t)x.value; break;
            case 42: r->f.eos = (int32_t)x.value; break;
            case 43: r->f.pad = (int32_t)x.value; break;
            default: break;
            }
        else if (x.number == 44 && x.wire == 2) r->f.unk_surface = x.bytes;
    }
    return rc < 0 ? rc : DP_OK;
}

static int read_normalizer(struct file *r, struct dp_span s, struct dp_sp_rules *to, struct dp_err *e)
{
    struct field x;
    int rc;
    for (size_t at = 0; (rc = next_field(s, &at, &x, r->whole, r->name, e)) == DP_OK;) {
        if (x.number == 2 && x.wire == 2) to->charsmap = x.bytes;
        if (x.number == 3 && x.wire == 0) to->add_dummy_prefix = x.value;
        if (x.number == 4 && x.wire == 0) to->remove_extra_whitespaces = x.value;
        if (x.number == 5 && x.wire == 0) to->escape_whitespaces = x.value;
    }
    return rc < 0 ? rc : DP_OK;
}

static int read_file(struct file *r, struct dp_err *e)
{
    struct field x;
    int rc;
    struct dp_sp_rules back = {.charsmap = {NULL, 0}};
    for (size_t at = 0; (rc = next_field(r->whole, &at, &x, r->whole, r->name, e)) == DP_OK;) {
        if (x.wire != 2) continue;
        if (x.number == 1) DP_TRY(read_piece(r, x.bytes, e));
        if (x.number == 2) DP_TRY(read_trainer(r, x.bytes, e));
        if (x.number == 3) DP_TRY(read_normalizer(r, x.bytes, &r->f.rules, e));
        if (x.number == 5) DP_TRY(read_normalizer(r, x.bytes, &back, e));
    }
    static const char *const types[] = {"unigram", "bpe", "word", "char"};
    if (rc < 0) return rc;
    if (r->model_type != 2)
        DP_FAIL(e, CONFIG, "%s: a sentencepiece model of type %s; only bpe is supported", r->name,
                r->model_type >= 1 && r->model_type <= 4 ? types[r->model_type - 1] : "unknown");
    if (back.charsmap.len) DP_FAIL(e, CONFIG, "%s: the model has denormalisation rules, which aren't supported", r->name);
    return DP_OK;
}

int dp_tokenizer_load_sp(struct dp_tokenizer **out, struct dp_span content, const char *name, const char *split, struct dp_err *e)
{
    struct file r = {.whole = content, .name = name, .model_type = 1};
    *out = NULL;
    if (split) DP_FAIL(e, CONFIG, "%s: a sentencepiece model splits by its own rules: leave out the split '%s'", name, split);
    r.f.rules = (struct dp_sp_rules){.add_dummy_prefix = true, .remove_extra_whitespaces = true, .escape_whitespaces = true};
    r.f.bos = 1;
    r.f.eos = 2;
    r.f.pad = -1;
    r.f.unk_surface = dp_span_str(" \xE2\x81\x87 ");
    int rc = read_file(&r, e);
    if (rc >= 0) rc = dp_sp_tokenizer(out, &r.f, name, e);
    free(r.f.piece);
    return rc;
}

/* ---- writing ---- */

static void put_int(struct dp_buf *b, uint32_t number, int64_t v)
{
    dp_buf_add_varint(b, (uint64_t)number << 3);
    dp_buf_add_varint(b, (uint64_t)v);
}

static void put_bytes(struct dp_buf *b, uint32_t number, struct dp_span s)
{
    dp_buf_add_varint(b, (uint64_t)number << 3 | 2);
    dp_buf_add_varint(b, s.len);
    dp_buf_add_span(b, s);
}

int dp_tokenizer_save_sp(const struct dp_tokenizer *t, struct dp_buf *out, struct dp_err *e)
{
    struct dp_buf m;
    if (!t->sp) DP_FAIL(e, CONFIG, "a byte-level vocabulary can't be written as a sentencepiece model");
    if (t->sp->f.merges) DP_FAIL(e, CONFIG, "this tokenizer.json has a list of merges, which scores needn't give: where a .model is wanted, give the one it was made from");
    const struct dp_sp_fields *f = &t->sp->f;
    dp_buf_init(&m, DP_TOKENIZER_FILE_BYTES_MAX);
    for (uint32_t i = 0; i < f->count && !out->full; i++) {
        uint32_t bits;
        memcpy(&bits, &f->piece[i].score, 4);
        char score[5] = {2 << 3 | 5, (char)bits, (char)(bits >> 8), (char)(bits >> 16), (char)(bits >> 24)};
        dp_buf_clear(&m);
        put_bytes(&m, 1, f->piece[i].text);
        dp_buf_add(&m, score, 5);
        if (f->piece[i].type != DP_SP_NORMAL) put_int(&m, 3, f->piece[i].type);
        put_bytes(out, 1, dp_buf_span(&m));
    }
    dp_buf_clear(&m);
    put_int(&m, 3, 2);
    put_int(&m, 4, f->count);
    put_int(&m, 24, f->rules.whitespace_as_suffix);
    put_int(&m, 35, f->byte_fallback);
    put_int(&m, 40, t->sp->unk);
    put_int(&m, 41, f->bos);
    put_int(&m, 42, f->eos);
    put_int(&m, 43, f->pad);
    put_bytes(&m, 44, f->unk_surface);
    put_bytes(out, 2, dp_buf_span(&m));
    dp_buf_clear(&m);
    put_bytes(&m, 1, dp_span_str(f->rules.charsmap.len ? "user_defined" : "identity"));
    put_bytes(&m, 2, f->rules.charsmap);
    put_int(&m, 3, f->rules.add_dummy_prefix);
    put_int(&m, 4, f->rules.remove_extra_whitespaces);
    put_int(&m, 5, f->rules.escape_whitespaces);
    put_bytes(out, 3, dp_buf_span(&m));
    int rc = dp_buf_check(&m, "a sentencepiece model", e);
    dp_buf_release(&m);
    return rc < 0 ? rc : dp_buf_check(out, "a sentencepiece model", e);
}
