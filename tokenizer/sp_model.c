#include "tokenizer/sp.h"

#include "base/utf8.h"

#include <math.h>
#include <stdlib.h>

/* Looking for the two parts of a piece costs the square of its length; this bounds it to seconds. */
#define CUT_WORK_MAX (UINT64_C(1) << 32)
enum { PIECE_BYTES_MAX = 4096 };

void dp_sp_close(struct dp_sp *s)
{
    if (!s) return;
    free(s->f.piece);
    free((void *)(uintptr_t)s->f.merges);
    free(s->text);
    free(s->slots);
    free(s->symbol);
    free(s->out);
    free(s->rank);
    free(s->pairs);
    free(s->user.pattern);
    free(s->unused_at);
    free(s->unused_ids);
    free(s->beside);
    free(s);
}

static size_t table_size(size_t n)
{
    size_t size = 64;
    while (size < n * 2) size *= 2;
    return size;
}

static int64_t find(const struct dp_sp *s, struct dp_span text)
{
    for (size_t at = dp_word_hash(text.ptr, text.len) & s->slot_mask; s->slots[at] != DP_NO_ID; at = (at + 1) & s->slot_mask)
        if (dp_span_eq(s->symbol[s->slots[at]], text)) return s->slots[at];
    return -1;
}

static void insert(struct dp_sp *s, uint32_t symbol)
{
    size_t at = dp_word_hash(s->symbol[symbol].ptr, s->symbol[symbol].len) & s->slot_mask;
    while (s->slots[at] != DP_NO_ID) at = (at + 1) & s->slot_mask;
    s->slots[at] = symbol;
}

static int copy_fields(struct dp_sp *s, const struct dp_sp_fields *f, const char *name, struct dp_err *e)
{
    size_t total = f->rules.charsmap.len + f->unk_surface.len + 1;
    if (!f->count) DP_FAIL(e, CORRUPT, "%s: a sentencepiece model without pieces", name);
    for (uint32_t i = 0; i < f->count; i++) {
        struct dp_span t = f->piece[i].text;
        if (!t.len || t.len > PIECE_BYTES_MAX || !dp_utf8_valid(t))
            DP_FAIL(e, CORRUPT, "%s: piece %u is no UTF-8 text of 1 to %d bytes", name, i, PIECE_BYTES_MAX);
        if (f->piece[i].type < DP_SP_NORMAL || f->piece[i].type > DP_SP_BYTE)
            DP_FAIL(e, CORRUPT, "%s: piece %u ('%.*s') has the unknown type %u", name, i, DP_SPAN_FMT(t), f->piece[i].type);
        if (isnan(f->piece[i].score)) DP_FAIL(e, CORRUPT, "%s: piece %u ('%.*s') has no number for a score", name, i, DP_SPAN_FMT(t));
        total += t.len;
    }
    struct dp_merge *merges = f->merges ? malloc((f->merge_count + (size_t)1) * sizeof *merges) : NULL;
    s->f = *f;
    s->f.merges = merges;
    s->f.piece = malloc(f->count * sizeof *f->piece);
    char *to = s->text = malloc(total);
    if (!s->f.piece || !to || (f->merges && !merges)) DP_FAIL(e, NOMEM, "%s: %u pieces", name, f->count);
    if (f->merge_count) memcpy(merges, f->merges, f->merge_count * sizeof *merges);
    for (uint32_t i = 0; i < f->count; i++) {
        s->f.piece[i] = f->piece[i];
        s->f.piece[i].text.ptr = memcpy(to, f->piece[i].text.ptr, f->piece[i].text.len);
        to += f->piece[i].text.len;
    }
    struct dp_span *more[] = {&s->f.rules.charsmap, &s->f.unk_surface};
    for (int i = 0; i < 2; i++) {
        if (more[i]->len) memcpy(to, more[i]->ptr, more[i]->len);
        more[i]->ptr = to;
        to += more[i]->len;
    }
    return DP_OK;
}

/* The byte that "<0x41>" stands for, or -1. */
static int byte_of(struct dp_span s)
{
    static const char hex[] = "0123456789ABCDEF";
    if (s.len != 6 || memcmp(s.ptr, "<0x", 3) != 0 || s.ptr[5] != '>') return -1;
    const char *a = memchr(hex, s.ptr[3], 16), *b = memchr(hex, s.ptr[4], 16);
    return a && b ? (int)(a - hex) << 4 | (int)(b - hex) : -1;
}

/* Every piece and, behind them, every character of a piece that is none. */
static int index_symbols(struct dp_sp *s, const char *name, struct dp_err *e)
{
    size_t chars = 0;
    for (uint32_t i = 0; i < s->f.count; i++) chars += dp_utf8_count(s->f.piece[i].text.ptr, s->f.piece[i].text.len);
    size_t cap = s->f.count + chars, slots = table_size(cap);
    s->slots = malloc(slots * sizeof *s->slots);
    s->symbol = malloc(cap * sizeof *s->symbol);
    s->out = malloc(cap * sizeof *s->out);
    if (!s->slots || !s->symbol || !s->out) DP_FAIL(e, NOMEM, "%s: %zu symbols", name, cap);
    memset(s->slots, 0xff, slots * sizeof *s->slots);
    s->slot_mask = slots - 1;
    s->unk = DP_NO_ID;
    bool bytes = false;
    memset(s->byte_id, 0xff, sizeof s->byte_id);
    for (uint32_t i = 0; i < s->f.count; i++) {
        const struct dp_sp_piece *p = &s->f.piece[i];
        s->symbol[i] = p->text;
        int64_t twin = find(s, p->text);
        if (twin >= 0) DP_FAIL(e, CORRUPT, "%s: the pieces %u and %u are both '%.*s'", name, (uint32_t)twin, i, DP_SPAN_FMT(p->text));
        insert(s, i);
        s->out[i] = i;
        if (p->type == DP_SP_UNKNOWN) {
            if (s->unk != DP_NO_ID) DP_FAIL(e, CORRUPT, "%s: the pieces %u and %u are both the unknown one", name, s->unk, i);
            s->unk = i;
        }
        if (p->type != DP_SP_BYTE) continue;
        int b = byte_of(p->text);
        if (b < 0 || !s->f.byte_fallback) DP_FAIL(e, CORRUPT, "%s: piece %u ('%.*s') is no byte, or the model has no byte_fallback", name, i, DP_SPAN_FMT(p->text));
        s->byte_id[b] = i;
        bytes = true;
    }
    if (s->unk == DP_NO_ID) DP_FAIL(e, CORRUPT, "%s: no piece is the unknown one", name);
    for (int b = 0; b < 256; b++)
        if ((bytes || s->f.byte_fallback) && s->byte_id[b] == DP_NO_ID) DP_FAIL(e, CORRUPT, "%s: byte_fallback without the piece <0x%02X>", name, b);
    for (uint32_t i = 0; i < s->f.count; i++) /* a character that is a control piece is unknown to encoding */
        if (s->f.piece[i].type == DP_SP_CONTROL || s->f.piece[i].type == DP_SP_UNKNOWN || (s->f.piece[i].type == DP_SP_BYTE && !s->f.merges)) s->out[i] = s->unk;
    s->symbols = s->f.count;
    for (uint32_t i = 0; i < s->f.count; i++)
        for (size_t at = 0, n; at < s->f.piece[i].text.len; at += n) {
            struct dp_span t = s->f.piece[i].text;
            n = dp_utf8_size((unsigned char)t.ptr[at]);
            t = dp_span(t.ptr + at, n);
            if (find(s, t) >= 0) continue;
            s->symbol[s->symbols] = t;
            s->out[s->symbols] = s->unk;
            insert(s, s->symbols++);
        }
    if (s->symbols > DP_TOKENIZER_IDS_MAX) DP_FAIL(e, LIMIT, "%s: %u pieces and characters; at most 2097152", name, s->symbols);
    for (int c = 0; c < 128; c++) {
        char one = (char)c;
        int64_t k = find(s, dp_span(&one, 1));
        s->ascii[c] = k < 0 ? DP_NO_ID : (uint32_t)k;
    }
    return DP_OK;
}

static bool merges(const struct dp_sp *s, int64_t symbol)
{
    return symbol >= 0 && symbol < s->f.count && (s->f.piece[symbol].type == DP_SP_NORMAL || s->f.piece[symbol].type == DP_SP_UNUSED);
}

/* A symbol that can stand beside another when the two merge: a character, or what a merge made. */
static int64_t part(const struct dp_sp *s, struct dp_span text)
{
    int64_t k = find(s, text);
    return text.len == dp_utf8_size((unsigned char)text.ptr[0]) || merges(s, k) ? k : -1;
}

static int add_pair(struct dp_sp *s, size_t *n, uint64_t left, uint64_t right, uint32_t piece, struct dp_err *e)
{
    if (2 * *n > s->pair_mask) { /* grow: it is at most half full */
        size_t size = (s->pair_mask + 1) * 2;
        uint64_t *more = malloc(size * sizeof *more);
        if (!more) DP_FAIL(e, NOMEM, "%zu pairs of pieces", size);
        memset(more, 0xff, size * sizeof *more);
        for (size_t i = 0; i <= s->pair_mask; i++) {
            if (s->pairs[i] == DP_PAIR_EMPTY) continue;
            size_t at = dp_pair_hash(s->pairs[i] >> 21) & (size - 1);
            while (more[at] != DP_PAIR_EMPTY) at = (at + 1) & (size - 1);
            more[at] = s->pairs[i];
        }
        free(s->pairs);
        s->pairs = more;
        s->pair_mask = size - 1;
    }
    uint64_t key = left << 21 | right;
    size_t at = dp_pair_hash(key) & s->pair_mask;
    while (s->pairs[at] != DP_PAIR_EMPTY) at = (at + 1) & s->pair_mask;
    s->pairs[at] = key << 21 | piece;
    ++*n;
    return DP_OK;
}

/* What falls back to bytes never merges here, so no merge may be of such; and the unknown piece is what nothing becomes. */
static int add_merge(struct dp_sp *s, size_t *n, uint32_t m, const char *name, struct dp_err *e)
{
    struct dp_merge x = s->f.merges[m];
    uint64_t key = (uint64_t)x.left << 21 | x.right;
    if (s->f.piece[x.left].type == DP_SP_BYTE || s->f.piece[x.right].type == DP_SP_BYTE || x.id == s->unk || x.left == s->unk || x.right == s->unk)
        DP_FAIL(e, CONFIG, "%s: merge %u is of bytes or of the unknown token, which isn't supported", name, m);
    for (size_t at = dp_pair_hash(key) & s->pair_mask; s->pairs[at] != DP_PAIR_EMPTY; at = (at + 1) & s->pair_mask)
        if (s->pairs[at] >> 21 == key) DP_FAIL(e, CORRUPT, "%s: merge %u ('%.*s' '%.*s') stands there twice", name, m, DP_SPAN_FMT(s->symbol[x.left]), DP_SPAN_FMT(s->symbol[x.right]));
    return add_pair(s, n, x.left, x.right, m, e);
}

/* All pairs of symbols whose text is a piece. An unused piece is put in its parts again, so that these must be known. */
static int index_pairs(struct dp_sp *s, const char *name, struct dp_err *e)
{
    uint64_t work = 0;
    size_t n = 0, slots = table_size(2 * (size_t)s->f.count);
    s->pairs = malloc(slots * sizeof *s->pairs);
    if (!s->pairs) DP_FAIL(e, NOMEM, "%s: pairs of pieces", name);
    memset(s->pairs, 0xff, slots * sizeof *s->pairs);
    s->pair_mask = slots - 1;
    for (uint32_t m = 0; m < s->f.merge_count; m++) DP_TRY(add_merge(s, &n, m, name, e));
    for (uint32_t i = 0; i < s->f.count && !s->f.merges; i++) {
        struct dp_span t = s->f.piece[i].text;
        if (!merges(s, i)) continue;
        size_t ways = 0;
        if ((work += (uint64_t)t.len * t.len) > CUT_WORK_MAX) DP_FAIL(e, LIMIT, "%s: the pieces are too long to find their parts", name);
        for (size_t k = dp_utf8_size((unsigned char)t.ptr[0]); k < t.len; k += dp_utf8_size((unsigned char)t.ptr[k])) {
            int64_t left = part(s, dp_span(t.ptr, k)), right = left < 0 ? -1 : part(s, dp_span(t.ptr + k, t.len - k));
            if (right < 0) continue;
            DP_TRY(add_pair(s, &n, (uint64_t)left, (uint64_t)right, i, e));
            ways++;
        }
        if (s->f.piece[i].type == DP_SP_UNUSED && ways > 1)
            DP_FAIL(e, CONFIG, "%s: the unused piece %u ('%.*s') has parts in %zu ways, which isn't supported: make it a normal one", name, i,
                    DP_SPAN_FMT(t), ways);
    }
    return DP_OK;
}

struct scored {
    float score;
    uint32_t piece;
};

/* -0 is below 0, as sentencepiece 0.2.3 has it. */
static int by_score(const void *a, const void *b)
{
    float x = ((const struct scored *)a)->score, y = ((const struct scored *)b)->score;
    return x != y ? (x > y ? -1 : 1) : (signbit(x) != 0) - (signbit(y) != 0);
}

static int index_ranks(struct dp_sp *s, const char *name, struct dp_err *e)
{
    struct scored *order = malloc(s->f.count * sizeof *order);
    s->rank = malloc((s->f.merges ? s->f.merge_count + (size_t)1 : s->f.count) * sizeof *s->rank);
    if (!order || !s->rank) {
        free(order);
        DP_FAIL(e, NOMEM, "%s: %u scores", name, s->f.count);
    }
    for (uint32_t m = 0; m < s->f.merge_count; m++) s->rank[m] = m;
    if (s->f.merges) {
        free(order);
        return DP_OK;
    }
    for (uint32_t i = 0; i < s->f.count; i++) order[i] = (struct scored){s->f.piece[i].score, i};
    qsort(order, s->f.count, sizeof *order, by_score);
    for (uint32_t i = 0, rank = 0; i < s->f.count; i++) {
        if (i && by_score(&order[i], &order[i - 1])) rank++; /* equal scores merge from left to right */
        s->rank[order[i].piece] = rank;
    }
    free(order);
    return DP_OK;
}

struct sized {
    size_t len;
    uint32_t piece;
};

static int by_length(const void *a, const void *b)
{
    const struct sized *x = a, *y = b;
    return x->len < y->len ? -1 : x->len > y->len ? 1 : (x->piece > y->piece) - (x->piece < y->piece);
}

/* The ids that an unused piece becomes: those of its two parts. The shortest first, so that the parts' are known. A character alone stays. */
static int index_unused(struct dp_sp *s, const char *name, struct dp_err *e)
{
    size_t n = 0, total = 0, used = 0;
    for (uint32_t i = 0; i < s->f.count; i++)
        if (s->f.piece[i].type == DP_SP_UNUSED) n++, total += s->f.piece[i].text.len + 1;
    if (!n) return DP_OK;
    struct sized *order = malloc(n * sizeof *order);
    s->unused_at = malloc(s->f.count * sizeof *s->unused_at);
    s->unused_ids = malloc(total * sizeof *s->unused_ids);
    int rc = DP_OK;
    if (!order || !s->unused_at || !s->unused_ids) DP_GOTO(e, NOMEM, "%s: %zu unused pieces", name, n);
    memset(s->unused_at, 0xff, s->f.count * sizeof *s->unused_at);
    n = 0;
    for (uint32_t i = 0; i < s->f.count; i++)
        if (s->f.piece[i].type == DP_SP_UNUSED) order[n++] = (struct sized){s->f.piece[i].text.len, i};
    qsort(order, n, sizeof *order, by_length);
    for (size_t i = 0; i < n; i++) {
        struct dp_span t = s->f.piece[order[i].piece].text;
        uint32_t *to = s->unused_ids + used, k = 0;
        int64_t left = -1, right = -1;
        for (size_t at = dp_utf8_size((unsigned char)t.ptr[0]); right < 0 && at < t.len; at += dp_utf8_size((unsigned char)t.ptr[at])) {
            left = part(s, dp_span(t.ptr, at));
            right = left < 0 ? -1 : part(s, dp_span(t.ptr + at, t.len - at));
        }
        if (right < 0) continue;
        int64_t both[2] = {left, right};
        for (int j = 0; j < 2; j++) {
            uint32_t at = both[j] < s->f.count ? s->unused_at[both[j]] : DP_NO_ID;
            if (at == DP_NO_ID && s->out[both[j]] == s->unk && s->f.byte_fallback)
                for (size_t m = 0; m < s->symbol[both[j]].len; m++) to[1 + k++] = s->byte_id[(uint8_t)s->symbol[both[j]].ptr[m]];
            else if (at == DP_NO_ID) to[1 + k++] = s->out[both[j]];
            else for (uint32_t m = 0; m < s->unused_ids[at]; m++) to[1 + k++] = s->unused_ids[at + 1 + m];
        }
        to[0] = k;
        s->unused_at[order[i].piece] = (uint32_t)used;
        used += 1 + k;
    }
out:
    free(order);
    return rc;
}

static int compare_pattern(const void *a, const void *b)
{
    const struct dp_pattern *x = a, *y = b;
    size_t n = x->text.len < y->text.len ? x->text.len : y->text.len;
    int c = memcmp(x->text.ptr, y->text.ptr, n);
    return c ? c : (x->text.len > y->text.len) - (x->text.len < y->text.len);
}

static int index_user(struct dp_sp *s, const char *name, struct dp_err *e)
{
    size_t n = 0;
    for (uint32_t i = 0; i < s->f.count; i++) n += s->f.piece[i].type == DP_SP_USER_DEFINED;
    s->user.pattern = malloc((n + 1) * sizeof *s->user.pattern);
    if (!s->user.pattern) DP_FAIL(e, NOMEM, "%s: %zu user-defined pieces", name, n);
    for (uint32_t i = 0; i < s->f.count; i++) {
        if (s->f.piece[i].type != DP_SP_USER_DEFINED) continue;
        s->user.pattern[s->user.count++] = (struct dp_pattern){s->f.piece[i].text, i};
        s->user.first[(uint8_t)s->f.piece[i].text.ptr[0]] = 1;
    }
    if (n) qsort(s->user.pattern, n, sizeof *s->user.pattern, compare_pattern);
    return DP_OK;
}

static int index_beside(struct dp_sp *s, const char *name, struct dp_err *e)
{
    s->beside = calloc((size_t)1 << (DP_SP_BESIDE_BITS - 6), sizeof *s->beside);
    if (!s->beside) DP_FAIL(e, NOMEM, "%s: pairs of characters", name);
    for (uint32_t i = 0; i < s->f.count; i++) {
        const char *p = s->f.piece[i].text.ptr, *end = p + s->f.piece[i].text.len;
        uint32_t before = dp_utf8_next(&p);
        while (p < end) {
            uint32_t c = dp_utf8_next(&p);
            uint64_t bit = dp_sp_beside_bit(before, c);
            s->beside[bit >> 6] |= UINT64_C(1) << (bit & 63);
            before = c;
        }
    }
    return DP_OK;
}

/* The offsets in a double array are checked when it is walked; here only that the parts are there. */
static int check_rules(const struct dp_sp *s, const char *name, struct dp_err *e)
{
    struct dp_span m = s->f.rules.charsmap;
    if (!m.len) return DP_OK;
    uint32_t n = 0;
    if (m.len > 4) memcpy(&n, m.ptr, 4);
    if (n < 4 || n % 4 || n >= m.len - 4 || m.ptr[m.len - 1] != 0 || !dp_utf8_valid(dp_span(m.ptr + 4 + n, m.len - 4 - n)))
        DP_FAIL(e, CORRUPT, "%s: the normalizer's precompiled_charsmap of %zu bytes is cut short or damaged", name, m.len);
    return DP_OK;
}

int dp_sp_open(struct dp_sp **out, const struct dp_sp_fields *f, const char *name, struct dp_err *e)
{
    int rc;
    *out = NULL;
    struct dp_sp *s = calloc(1, sizeof *s);
    if (!s) DP_FAIL(e, NOMEM, "%s: a sentencepiece model", name);
    DP_TRY_OUT(copy_fields(s, f, name, e));
    DP_TRY_OUT(check_rules(s, name, e));
    DP_TRY_OUT(index_symbols(s, name, e));
    DP_TRY_OUT(index_pairs(s, name, e));
    DP_TRY_OUT(index_ranks(s, name, e));
    DP_TRY_OUT(index_unused(s, name, e));
    DP_TRY_OUT(index_user(s, name, e));
    DP_TRY_OUT(index_beside(s, name, e));
    *out = s;
    return DP_OK;
out:
    if (s->f.piece == f->piece) s->f.piece = NULL; /* not copied yet */
    dp_sp_close(s);
    return rc;
}

void dp_sp_digest(const struct dp_sp *s, struct dp_buf *out)
{
    const struct dp_sp_fields *f = &s->f;
    dp_buf_printf(out, "sentencepiece %d %d %d %d %d %zu %lld\n", f->rules.add_dummy_prefix, f->rules.remove_extra_whitespaces,
                  f->rules.escape_whitespaces, f->rules.whitespace_as_suffix, f->byte_fallback, f->rules.charsmap.len, (long long)f->eos);
    dp_buf_add_span(out, f->rules.charsmap);
    dp_buf_add_span(out, f->unk_surface);
    for (uint32_t i = 0; i < f->count; i++) {
        dp_buf_printf(out, "\n%d %a %zu:", f->piece[i].type, (double)f->piece[i].score, f->piece[i].text.len);
        dp_buf_add_span(out, f->piece[i].text);
    }
    if (!f->merges) return;
    dp_buf_printf(out, "\nmerges %d %d", f->strip, f->prefix);
    for (uint32_t i = 0; i < f->merge_count; i++) dp_buf_printf(out, "\n%u %u", f->merges[i].left, f->merges[i].right);
}

/* ---- as a tokenizer ---- */

/* The bytes that a piece stands for in the middle of a text. */
static int take_bytes(const struct dp_sp_fields *f, struct dp_span *bytes, struct dp_buf *mem, const char *name, struct dp_err *e)
{
    for (uint32_t i = 0; i < f->count; i++) {
        struct dp_span t = f->piece[i].text;
        size_t at = mem->len;
        if (f->piece[i].type == DP_SP_BYTE && byte_of(t) >= 0) dp_buf_add_char(mem, (char)byte_of(t));
        else
            for (size_t k = 0; k < t.len; k++) {
                bool space = t.len - k >= 3 && memcmp(t.ptr + k, DP_SP_SPACE, 3) == 0;
                dp_buf_add_char(mem, space ? ' ' : t.ptr[k]);
                if (space) k += 2;
            }
        bytes[i] = dp_span((const char *)at, mem->len - at); /* a place until all are there */
    }
    for (uint32_t i = 0; i < f->count && mem->ptr; i++) bytes[i].ptr = mem->ptr + (size_t)bytes[i].ptr;
    return dp_buf_check(mem, name, e);
}

int dp_sp_tokenizer(struct dp_tokenizer **out, const struct dp_sp_fields *f, const char *name, struct dp_err *e)
{
    return dp_sp_tokenizer_of(out, f, NULL, name, e);
}

int dp_sp_tokenizer_of(struct dp_tokenizer **out, const struct dp_sp_fields *f, const struct dp_tokenizer_parts *given, const char *name, struct dp_err *e)
{
    struct dp_tokenizer_parts parts = given ? *given : (struct dp_tokenizer_parts){.eot = -1};
    struct dp_span *bytes = NULL;
    struct dp_special *specials = NULL;
    struct dp_buf mem;
    struct dp_sp *s;
    *out = NULL;
    dp_buf_init(&mem, SIZE_MAX / 2);
    DP_TRY(dp_sp_open(&s, f, name, e));
    int rc;
    bytes = malloc(f->count * sizeof *bytes);
    specials = malloc(f->count * sizeof *specials);
    if (!bytes || !specials) DP_GOTO(e, NOMEM, "%s: %u pieces", name, f->count);
    DP_TRY_OUT(take_bytes(f, bytes, &mem, name, e));
    for (uint32_t i = 0; i < f->count && !given; i++)
        if (f->piece[i].type == DP_SP_CONTROL || f->piece[i].type == DP_SP_UNKNOWN)
            specials[parts.special_count++] = (struct dp_special){f->piece[i].text, i, DP_ADDED_SPECIAL};
    parts.size = f->count;
    parts.bytes = bytes;
    if (!given) parts.specials = specials;
    parts.sp = s;
    if (!given && f->eos >= 0 && f->eos < f->count && f->piece[f->eos].type == DP_SP_CONTROL) parts.eot = f->eos;
    rc = dp_tokenizer_build(out, &parts, name, e);
    s = rc < 0 ? s : NULL; /* the tokenizer's now */
out:
    dp_sp_close(s);
    free(bytes);
    free(specials);
    dp_buf_release(&mem);
    return rc;
}
