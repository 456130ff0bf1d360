#include "tokenizer/sp.h"

#include "base/utf8.h"
#include "tokenizer/added.h"
#include "tokenizer/bpe_merge.h"

#include <stdlib.h>

/* ---- normalising: sentencepiece's Normalizer::Normalize ---- */

/* The longest rule for the beginning of p[0..n): its length, and its text in *to; 0: none. The double array is darts-clone's: a unit has a
 * label, an offset to its children and a bit that says that its first child is a value. */
static size_t rule_at(struct dp_span map, const char *p, size_t n, struct dp_span *to)
{
    uint32_t bytes, unit;
    memcpy(&bytes, map.ptr, 4);
    const char *units = map.ptr + 4, *texts = units + bytes;
    size_t count = bytes / 4, texts_len = map.len - 4 - bytes, found = 0, node = 0;
    memcpy(&unit, units, 4);
    node ^= (unit >> 10) << ((unit & (1u << 9)) >> 6);
    for (size_t i = 0; i < n; i++) {
        node ^= (unsigned char)p[i];
        if (node >= count) break;
        memcpy(&unit, units + 4 * node, 4);
        if ((unit & ((1u << 31) | 0xff)) != (unsigned char)p[i]) break;
        node ^= (unit >> 10) << ((unit & (1u << 9)) >> 6);
        if (!(unit >> 8 & 1)) continue;
        if (node >= count) break;
        uint32_t value;
        memcpy(&value, units + 4 * node, 4);
        value &= (1u << 31) - 1;
        if (value >= texts_len || ((unsigned char)texts[value] & 0xC0) == 0x80) break;
        found = i + 1;
        *to = dp_span_str(texts + value); /* they are UTF-8, and the last ends with a NUL (check_rules) */
    }
    return found;
}

/* What the beginning of p[0..n) becomes; returns how much of it. */
static size_t normal_at(const struct dp_sp *s, const char *p, size_t n, struct dp_span *to)
{
    size_t len;
    if (s->user.count && s->user.first[(uint8_t)*p] && dp_pattern_at(&s->user, p, n, &len) >= 0) {
        *to = dp_span(p, len);
        return len;
    }
    len = s->f.rules.charsmap.len ? rule_at(s->f.rules.charsmap, p, n, to) : 0;
    if (len) return len;
    len = dp_utf8_size((unsigned char)*p);
    if (len <= n && dp_utf8_valid_len(p, len) == len) {
        *to = dp_span(p, len);
        return len;
    }
    *to = dp_span_str("\xEF\xBF\xBD");
    return 1;
}

static void add_space(const struct dp_sp *s, struct dp_buf *out)
{
    if (s->f.rules.escape_whitespaces) dp_buf_add(out, DP_SP_SPACE, 3);
    else dp_buf_add_char(out, ' ');
}

static void add_normal(const struct dp_sp *s, struct dp_span t, struct dp_buf *out)
{
    for (size_t i = 0; i < t.len; i++) {
        if (t.ptr[i] == ' ') add_space(s, out);
        else dp_buf_add_char(out, t.ptr[i]);
    }
}

/* Valid text that only has its spaces written otherwise. */
static void add_spaced(struct dp_span t, struct dp_buf *out)
{
    size_t spaces = 0;
    for (size_t i = 0; i < t.len; i++) spaces += t.ptr[i] == ' ';
    char *to = dp_buf_reserve(out, t.len + 2 * spaces + 3);
    if (!to) return;
    const char *p = t.ptr, *end = p + t.len;
    while (p < end) {
        const char *space = memchr(p, ' ', (size_t)(end - p));
        size_t n = (size_t)((space ? space : end) - p);
        memcpy(to, p, n);
        to += n;
        p += n;
        if (!space) break;
        memcpy(to, DP_SP_SPACE, 3);
        to += 3;
        p++;
    }
    out->len = (size_t)(to - out->ptr);
    *to = 0;
}

static void add_by_rules(const struct dp_sp *s, struct dp_span text, size_t begin, struct dp_buf *out)
{
    bool trim = s->f.rules.remove_extra_whitespaces, after_space = trim;
    for (size_t i = 0; i < text.len;) {
        struct dp_span t;
        i += normal_at(s, text.ptr + i, text.len - i, &t);
        while (after_space && t.len && t.ptr[0] == ' ') t.ptr++, t.len--;
        if (!t.len) continue;
        add_normal(s, t, out);
        after_space = trim && t.ptr[t.len - 1] == ' ';
    }
    const char *space = s->f.rules.escape_whitespaces ? DP_SP_SPACE : " ";
    size_t n = strlen(space);
    while (trim && out->len >= begin + n && memcmp(out->ptr + out->len - n, space, n) == 0) out->len -= n;
}

bool dp_sp_wants_space(const struct dp_sp *s, struct dp_span text, bool first)
{
    if (s->f.prefix == DP_SP_PREFIX_NONE || (s->f.prefix == DP_SP_PREFIX_FIRST && !first)) return false;
    return text.len && text.ptr[0] != ' ' && (text.len < 3 || memcmp(text.ptr, DP_SP_SPACE, 3) != 0);
}

int dp_sp_normalise(const struct dp_sp *s, struct dp_span text, struct dp_buf *out, struct dp_err *e)
{
    const struct dp_sp_rules *r = &s->f.rules;
    size_t begin = out->len, i = 0;
    struct dp_span t;
    while (r->remove_extra_whitespaces && i < text.len) {
        size_t n = normal_at(s, text.ptr + i, text.len - i, &t);
        if (!dp_span_is(t, " ")) break;
        i += n;
    }
    text = dp_span(text.ptr + i, text.len - i);
    if (!text.len) return DP_OK;
    if (r->add_dummy_prefix && !r->whitespace_as_suffix) add_space(s, out);
    bool plain = !s->user.count && !r->charsmap.len && !r->remove_extra_whitespaces && r->escape_whitespaces;
    if (plain && dp_utf8_valid(text)) add_spaced(text, out);
    else add_by_rules(s, text, begin, out);
    if (r->add_dummy_prefix && r->whitespace_as_suffix) add_space(s, out);
    int rc = dp_buf_check(out, "normalised text", e);
    if (rc < 0) out->len = begin;
    return rc;
}

/* ---- words ---- */

/* Words begin with a space after something else; where a word has got long, and between characters of scripts without spaces, any place will do. */
enum { WORD_LONG = 24, SPACE = 0x2581, NO_SPACES = 0x2E80 };

static inline bool beside(const struct dp_sp *s, uint32_t before, uint32_t c)
{
    uint64_t bit = dp_sp_beside_bit(before, c);
    return s->beside[bit >> 6] >> (bit & 63) & 1;
}

/* Normalised text is UTF-8: what is normalised to is, and bytes that aren't were replaced. */
size_t dp_sp_run(const struct dp_sp *s, struct dp_span text, size_t *pos, size_t *ends, size_t max)
{
    size_t n = 0;
    const char *p = text.ptr + *pos, *end = text.ptr + text.len;
    while (p < end && n < max) {
        const char *from = p;
        uint32_t before = dp_utf8_next(&p);
        while (p < end) {
            const char *next = p;
            uint32_t c = dp_utf8_next(&next);
            bool ask = (c == SPACE && before != SPACE) || (before >= NO_SPACES && c >= NO_SPACES) || p - from >= WORD_LONG;
            if (ask && !beside(s, before, c)) break;
            before = c;
            p = next;
        }
        ends[n++] = (size_t)(p - text.ptr);
    }
    if (n) *pos = ends[n - 1];
    return n;
}

/* ---- merging: sentencepiece's bpe::Model::SampleEncode ---- */

#define NONE UINT32_MAX
#define FROZEN UINT32_C(0x80000000) /* a user-defined piece, which never merges */

/* What the two merge to, or NONE: a piece, or with a list of merges one of these. */
static inline uint32_t pair(const struct dp_sp *s, uint32_t left, uint32_t right)
{
    if ((left | right) & FROZEN) return NONE; /* NONE is too */
    uint64_t key = (uint64_t)left << 21 | right;
    for (size_t at = dp_pair_hash(key) & s->pair_mask;; at = (at + 1) & s->pair_mask) {
        uint64_t x = s->pairs[at];
        if (x >> 21 == key) return (uint32_t)x & (DP_TOKENIZER_IDS_MAX - 1);
        if (x == DP_PAIR_EMPTY) return NONE;
    }
}

static uint32_t symbol_of(const struct dp_sp *s, struct dp_span c)
{
    if (c.len == 1) return s->ascii[(uint8_t)*c.ptr & 127];
    for (size_t at = dp_word_hash(c.ptr, c.len) & s->slot_mask; s->slots[at] != DP_NO_ID; at = (at + 1) & s->slot_mask)
        if (dp_span_eq(s->symbol[s->slots[at]], c)) return s->slots[at];
    return NONE;
}

/* The symbols of a word and where each begins; their number. */
static size_t first_symbols(const struct dp_sp *s, struct dp_span word, uint32_t *symbol, uint32_t *begin)
{
    size_t n = 0;
    for (size_t i = 0; i < word.len; n++) {
        size_t len;
        int64_t user = s->user.count && s->user.first[(uint8_t)word.ptr[i]] ? dp_pattern_at(&s->user, word.ptr + i, word.len - i, &len) : -1;
        begin[n] = (uint32_t)i;
        if (user >= 0) symbol[n] = s->user.pattern[user].special | FROZEN;
        else {
            len = dp_utf8_size((unsigned char)word.ptr[i]);
            symbol[n] = symbol_of(s, dp_span(word.ptr + i, len));
        }
        i += len;
    }
    return n;
}

/* The ids of a merged symbol, whose text is needed where it is unknown. */
static size_t put_ids(const struct dp_sp *s, uint32_t symbol, struct dp_span text, uint32_t *ids, size_t n)
{
    uint32_t id = symbol == NONE ? s->unk : symbol & FROZEN ? symbol & ~FROZEN : s->out[symbol];
    if (id == s->unk) {
        if (s->f.byte_fallback)
            for (size_t i = 0; i < text.len; i++) ids[n++] = s->byte_id[(uint8_t)text.ptr[i]];
        else if (!n || ids[n - 1] != id) ids[n++] = id;
        return n;
    }
    uint32_t at = s->unused_at && id < s->f.count ? s->unused_at[id] : DP_NO_ID;
    if (at == DP_NO_ID) {
        ids[n++] = id;
        return n;
    }
    for (uint32_t k = 0; k < s->unused_ids[at]; k++) ids[n++] = s->unused_ids[at + 1 + k];
    return n;
}

/* As merge_long() of bpe_merge.c: a heap of rank << 32 | place over a list in arrays, stale entries dropped when they come up. */
struct list {
    uint64_t *heap;
    size_t pushed;
    uint32_t *symbol, *begin, *next, *prev, *made; /* made: what the symbol and its right neighbour merge to now */
};

static void push(struct list *l, const struct dp_sp *s, uint32_t at)
{
    l->made[at] = l->next[at] == NONE ? NONE : pair(s, l->symbol[at], l->symbol[l->next[at]]);
    if (l->made[at] == NONE) return;
    uint64_t x = (uint64_t)s->rank[l->made[at]] << 32 | at;
    size_t i = l->pushed++;
    for (; i && x < l->heap[(i - 1) / 2]; i = (i - 1) / 2) l->heap[i] = l->heap[(i - 1) / 2];
    l->heap[i] = x;
}

static uint64_t pop(struct list *l)
{
    uint64_t top = l->heap[0], x = l->heap[--l->pushed];
    size_t i = 0;
    for (size_t k; (k = 2 * i + 1) < l->pushed; i = k) {
        if (k + 1 < l->pushed && l->heap[k + 1] < l->heap[k]) k++;
        if (l->heap[k] >= x) break;
        l->heap[i] = l->heap[k];
    }
    l->heap[i] = x;
    return top;
}

static int open_list(struct list *l, struct dp_merge_scratch *scratch, size_t len, struct dp_err *e)
{
    size_t need = len * (3 * sizeof(uint64_t) + 5 * sizeof(uint32_t));
    if (len > INT32_MAX) DP_FAIL(e, LIMIT, "a word of %zu bytes; at most 2^31", len);
    if (need > scratch->bytes) {
        void *p = realloc(scratch->mem, need);
        if (!p) DP_FAIL(e, NOMEM, "merging a word of %zu bytes", len);
        scratch->mem = p;
        scratch->bytes = need;
    }
    l->heap = scratch->mem;
    l->pushed = 0;
    l->symbol = (uint32_t *)(l->heap + 3 * len);
    l->begin = l->symbol + len;
    l->next = l->begin + len;
    l->prev = l->next + len;
    l->made = l->prev + len;
    return DP_OK;
}

int dp_sp_merge(const struct dp_sp *s, struct dp_merge_scratch *scratch, struct dp_span word, uint32_t *ids, size_t *n, struct dp_err *e)
{
    struct list l = {0};
    DP_TRY(open_list(&l, scratch, word.len, e));
    size_t count = first_symbols(s, word, l.symbol, l.begin);
    for (size_t i = 0; i < count; i++) {
        l.prev[i] = i ? (uint32_t)i - 1 : NONE;
        l.next[i] = i + 1 < count ? (uint32_t)i + 1 : NONE;
    }
    for (size_t i = 0; i < count; i++) push(&l, s, (uint32_t)i);
    while (l.pushed) {
        uint64_t top = pop(&l);
        uint32_t at = (uint32_t)top;
        if (l.made[at] == NONE || s->rank[l.made[at]] != top >> 32) continue;
        uint32_t gone = l.next[at], after = l.next[gone];
        l.symbol[at] = s->f.merges ? s->f.merges[l.made[at]].id : l.made[at];
        l.made[gone] = NONE;
        l.next[at] = after;
        if (after != NONE) l.prev[after] = at;
        push(&l, s, at);
        if (l.prev[at] != NONE) push(&l, s, l.prev[at]);
    }
    *n = 0;
    for (uint32_t i = count ? 0 : NONE; i != NONE; i = l.next[i]) {
        size_t end = l.next[i] == NONE ? word.len : l.begin[l.next[i]];
        *n = put_ids(s, l.symbol[i], dp_span(word.ptr + l.begin[i], end - l.begin[i]), ids, *n);
    }
    return DP_OK;
}

/* ---- decoding: SentencePieceProcessor::Decode ---- */

/* Text of bytes; what is no UTF-8 becomes U+FFFD, byte by byte. */
static void put_bytes(const struct dp_sp *s, const uint32_t *ids, size_t n, struct dp_buf *out)
{
    size_t at = out->len;
    char *bytes = n ? dp_buf_reserve(out, 3 * n + n) : NULL; /* the bytes behind their text */
    if (!bytes) return;
    bytes += 3 * n;
    for (size_t i = 0; i < n; i++) {
        const char *hex = s->f.piece[ids[i]].text.ptr + 3;
        int hi = hex[0] <= '9' ? hex[0] - '0' : hex[0] - 'A' + 10, lo = hex[1] <= '9' ? hex[1] - '0' : hex[1] - 'A' + 10;
        bytes[i] = (char)(hi << 4 | lo);
    }
    for (size_t i = 0; i < n;) {
        size_t good = dp_utf8_valid_len(bytes + i, n - i);
        memmove(out->ptr + at, bytes + i, good);
        at += good;
        i += good;
        if (i == n) break;
        memcpy(out->ptr + at, "\xEF\xBF\xBD", 3);
        at += 3;
        i++;
    }
    out->len = at;
    out->ptr[at] = 0;
}

void dp_sp_put_piece(const struct dp_sp *s, uint32_t id, struct dp_sp_start *start, bool empty, struct dp_buf *out)
{
    const struct dp_sp_rules *r = &s->f.rules;
    const struct dp_sp_piece *p = &s->f.piece[id];
    struct dp_span t = p->text;
    if (start->took_space || !empty) start->over = true;
    start->took_space = false;
    bool text = s->f.merges, strip = text ? s->f.strip : r->add_dummy_prefix || r->remove_extra_whitespaces;
    if (p->type == DP_SP_CONTROL && !text) return;
    if (p->type == DP_SP_UNKNOWN && !text) {
        dp_buf_add_span(out, s->f.unk_surface);
        return;
    }
    if (!start->over && strip && t.len >= 3 && memcmp(t.ptr, DP_SP_SPACE, 3) == 0) {
        t = dp_span(t.ptr + 3, t.len - 3);
        start->took_space = !r->remove_extra_whitespaces;
    }
    while (t.len) {
        const char *space = memmem(t.ptr, t.len, DP_SP_SPACE, 3);
        size_t len = space ? (size_t)(space - t.ptr) : t.len;
        dp_buf_add(out, t.ptr, len);
        if (!space) break;
        dp_buf_add_char(out, ' ');
        t = dp_span(space + 3, t.len - len - 3);
    }
}

void dp_sp_decode(const struct dp_sp *s, const uint32_t *ids, size_t n, struct dp_buf *out)
{
    size_t begin = out->len;
    struct dp_sp_start start = {0};
    for (size_t i = 0; i < n; i++) {
        size_t k = i;
        while (k < n && s->f.piece[ids[k]].type == DP_SP_BYTE) k++;
        put_bytes(s, ids + i, k - i, out);
        i = k;
        if (i < n) dp_sp_put_piece(s, ids[i], &start, out->len == begin, out);
    }
}
