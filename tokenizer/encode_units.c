#include "tokenizer/encode_units.h"

#include "tokenizer/bpe_merge.h"
#include "tokenizer/splitter.h"

#include <stdlib.h>

struct dp_units {
    struct dp_tokenizer *first; /* the first stage alone; ids are the whole's */
    uint64_t within[1024];      /* a bit for two bytes that a token of the first stage has side by side */
};

enum { SLOT_BITS = 16, INLINE_IDS = 4 };

struct slot {
    uint64_t lo, hi; /* dp_word_key; 0: empty */
    uint32_t ids[INLINE_IDS]; /* ids[0] has their number above bit 24 */
};

struct dp_unit_merger {
    const struct dp_tokenizer *t;
    struct dp_merge_scratch scratch;
    struct slot *slots;
};

/* --- preparing --- */

/* The first merge that joins two words: a visible ASCII character with a space behind it. */
static uint32_t first_joining(const struct dp_tokenizer *t)
{
    for (uint32_t i = 0; i < t->merge_count; i++) {
        struct dp_span left = t->bytes[t->merges[i].left], right = t->bytes[t->merges[i].right];
        unsigned a = (uint8_t)left.ptr[left.len - 1];
        if (right.ptr[0] == ' ' && a > ' ' && a < 127) return i;
    }
    return t->merge_count;
}

static bool in_stages(const struct dp_tokenizer *t, uint32_t second, uint8_t *part)
{
    for (uint32_t i = 0; i < second; i++) part[t->merges[i].left] = part[t->merges[i].right] = 1;
    for (uint32_t i = second; i < t->merge_count; i++)
        if (part[t->merges[i].id]) return false;
    return true;
}

static bool joins_words(const struct dp_tokenizer *t)
{
    size_t n = 0;
    const struct dp_split_step *steps = t->splitter ? dp_splitter_steps(t->splitter, &n) : NULL;
    for (size_t i = 0; i < n; i++)
        if (steps[i].kind == DP_CUT_KNOWN && steps[i].split == DP_SPLIT_SUPERBPE) return true;
    return t->split == DP_SPLIT_SUPERBPE;
}

int dp_units_prepare(struct dp_tokenizer *t, const char *name, struct dp_err *e)
{
    if (t->ranks || !joins_words(t)) return DP_OK;
    uint32_t second = first_joining(t);
    uint8_t *part = calloc((size_t)t->size + 1, 1);
    bool staged = part && in_stages(t, second, part);
    free(part);
    if (!part) DP_FAIL(e, NOMEM, "%s: %u tokens", name, t->size);
    if (!staged) return DP_OK;
    struct dp_units *u = calloc(1, sizeof *u);
    if (!u) DP_FAIL(e, NOMEM, "%s: the first stage's merges", name);
    struct dp_tokenizer_parts parts = dp_tokenizer_parts_of(t);
    parts.merge_count = second;
    parts.split = DP_SPLIT_GPT2; /* any other: it isn't asked */
    parts.splitter = NULL;
    parts.ignore_merges = false;
    int rc = dp_tokenizer_build(&u->first, &parts, name, e);
    if (rc < 0) {
        free(u);
        return rc;
    }
    for (uint32_t i = 0; i < second; i++) {
        struct dp_span b = t->bytes[t->merges[i].id];
        for (size_t k = 1; k < b.len; k++) {
            unsigned two = (unsigned)(uint8_t)b.ptr[k - 1] << 8 | (uint8_t)b.ptr[k];
            u->within[two >> 6] |= UINT64_C(1) << (two & 63);
        }
    }
    t->units = u;
    return DP_OK;
}

void dp_units_free(struct dp_units *u)
{
    if (!u) return;
    dp_tokenizer_free(u->first);
    free(u);
}

/* --- the first stage --- */

int dp_unit_merger_open(struct dp_unit_merger **out, const struct dp_tokenizer *t, struct dp_err *e)
{
    *out = NULL;
    if (!t->units) return DP_OK;
    struct dp_unit_merger *m = calloc(1, sizeof *m);
    if (m) m->slots = calloc((size_t)1 << SLOT_BITS, sizeof *m->slots);
    if (!m || !m->slots) {
        free(m);
        DP_FAIL(e, NOMEM, "an encoder's words");
    }
    m->t = t;
    *out = m;
    return DP_OK;
}

void dp_unit_merger_close(struct dp_unit_merger *m)
{
    if (!m) return;
    dp_merge_scratch_release(&m->scratch);
    free(m->slots);
    free(m);
}

/* The ids of a unit to `to`, which has room for its bytes and three more. */
static int unit(struct dp_unit_merger *m, struct dp_span w, size_t room, uint32_t *to, size_t *n, struct dp_err *e)
{
    const struct dp_tokenizer *first = m->t->units->first;
    if (w.len == 1) return *n = 1, to[0] = first->byte_id[(uint8_t)w.ptr[0]], DP_OK;
    if (w.len > DP_WORD_KEY_MAX) return dp_bpe_merge(first, &m->scratch, w, to, n, e);
    uint64_t key[2];
    if (room >= DP_WORD_KEY_READ) dp_word_key(w.ptr, w.len, &key[0], &key[1]);
    else dp_word_key_exact(w.ptr, w.len, &key[0], &key[1]);
    struct slot *s = &m->slots[dp_word_mix(key[0], key[1]) >> (64 - SLOT_BITS)];
    if (s->lo == key[0] && s->hi == key[1]) {
        memcpy(to, s->ids, sizeof s->ids);
        *n = to[0] >> 24;
        to[0] &= 0xffffff;
        return DP_OK;
    }
    DP_TRY(dp_bpe_merge(first, &m->scratch, w, to, n, e));
    if (*n > INLINE_IDS) return DP_OK;
    s->lo = key[0];
    s->hi = key[1];
    memcpy(s->ids, to, *n * sizeof *to);
    s->ids[0] |= (uint32_t)*n << 24;
    return DP_OK;
}

int dp_unit_merge(struct dp_unit_merger *m, struct dp_span piece, struct dp_ids *out, struct dp_err *e)
{
    const uint64_t *within = m->t->units->within;
    DP_TRY(dp_ids_reserve(out, piece.len + INLINE_IDS, e));
    uint32_t *ids = out->ptr + out->len;
    size_t n = 0, got = 0;
    for (size_t from = 0, i = 1; from < piece.len; from = i++) {
        for (; i < piece.len; i++) {
            unsigned two = (unsigned)(uint8_t)piece.ptr[i - 1] << 8 | (uint8_t)piece.ptr[i];
            if (!(within[two >> 6] >> (two & 63) & 1)) break;
        }
        DP_TRY(unit(m, dp_span(piece.ptr + from, i - from), piece.len - from, ids + n, &got, e));
        n += got;
    }
    DP_TRY(dp_bpe_merge_tokens(m->t, &m->scratch, ids, &n, e)); /* the second stage */
    out->len += n;
    return DP_OK;
}
