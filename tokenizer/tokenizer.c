/* tokenizer/tokenizer.c - build, look up, free.
 *
 * All readers and the trainer end in dp_tokenizer_build(), so that what a tokenizer may be is checked in one place.
 *
 * Rank files name no pairs. tiktoken merges two neighbours whenever their bytes together are a token; so every way of cutting a
 * token into two tokens becomes a pair of its rank. (The usual conversion, one pair a token by merging below its own rank, gives the
 * same ids for vocabularies that BPE training made, but not for edited ones; three pairs a token is a cheap price.) */
#include "tokenizer/tokenizer.h"

#include "tokenizer/added.h"
#include "tokenizer/encode_units.h"
#include "tokenizer/bpe_merge.h"
#include "tokenizer/sp.h"
#include "tokenizer/tokenizer_int.h"

#include "base/large.h"

#include <stdlib.h>

/* Looking for the cuts of a token costs the square of its length; this bounds it to seconds. */
#define CUT_WORK_MAX (UINT64_C(1) << 32)

uint32_t dp_byte_level_char(unsigned b)
{
    if ((b >= 33 && b <= 126) || (b >= 161 && b != 173)) return b;
    if (b < 33) return 256 + b;
    return b == 173 ? 256 + 67 : 256 + 33 + (b - 127);
}

int dp_byte_level_byte(uint32_t c)
{
    if ((c >= 33 && c <= 126) || (c >= 161 && c <= 255 && c != 173)) return (int)c;
    if (c < 256 || c > 323) return -1;
    c -= 256;
    return c < 33 ? (int)c : c == 67 ? 173 : (int)(c - 33 + 127);
}

unsigned dp_byte_level_order(unsigned i)
{
    if (i < 94) return 33 + i;
    if (i < 106) return 161 + (i - 94);
    if (i < 188) return 174 + (i - 106);
    return (unsigned)dp_byte_level_byte(256 + (i - 188));
}

void dp_tokenizer_free(struct dp_tokenizer *t)
{
    if (!t) return;
    free(t->bytes);
    free(t->short_bytes);
    free(t->is_special);
    free(t->text);
    free(t->by_bytes);
    free(t->merges);
    free(t->merge_id);
    free(t->pairs);
    free(t->pair_filter);
    free(t->byte_pairs);
    free(t->specials);
    dp_units_free(t->units);
    dp_splitter_close(t->splitter);
    free(t->added[0].pattern);
    free(t->added[1].pattern);
    free(t->normal_text);
    dp_sp_close(t->sp);
    for (int i = 0; i < DP_KEPT_COUNT; i++) free(t->kept[i]);
    free(t);
}

static size_t table_size(size_t n)
{
    size_t size = 64;
    while (size < n * 2) size *= 2;
    return size;
}

static int compare_special(const void *a, const void *b)
{
    const struct dp_special *x = a, *y = b;
    size_t n = x->text.len < y->text.len ? x->text.len : y->text.len;
    int c = memcmp(x->text.ptr, y->text.ptr, n);
    return c ? c : (x->text.len > y->text.len) - (x->text.len < y->text.len);
}

/* The tag spares a look at the texts of nearly all tokens that aren't it. No entry is DP_NO_ID: the largest tag isn't used. */
static uint32_t text_tag(uint64_t hash)
{
    uint32_t tag = (uint32_t)(hash >> 53);
    return (tag < 2047 ? tag : 2046) << 21;
}

static int64_t find(const struct dp_tokenizer *t, struct dp_span bytes)
{
    uint64_t h = dp_word_hash(bytes.ptr, bytes.len);
    uint32_t tag = text_tag(h);
    for (size_t at = h & t->by_bytes_mask; t->by_bytes[at] != DP_NO_ID; at = (at + 1) & t->by_bytes_mask) {
        uint32_t id = t->by_bytes[at] & (DP_TOKENIZER_IDS_MAX - 1);
        if (t->by_bytes[at] - id == tag && dp_span_eq(t->bytes[id], bytes)) return id;
    }
    return -1;
}

static int copy_texts(struct dp_tokenizer *t, const struct dp_tokenizer_parts *p, const char *name, struct dp_err *e)
{
    size_t total = 0;
    for (uint32_t i = 0; i < p->size; i++) total += p->bytes[i].ptr ? p->bytes[i].len : 0;
    for (size_t i = 0; i < p->special_count; i++) total += p->specials[i].text.len;
    t->bytes = calloc(t->size, sizeof *t->bytes);
    t->is_special = calloc(t->size, 1);
    t->specials = calloc(p->special_count + 1, sizeof *t->specials);
    t->text = calloc(total + 1, 1);
    if (!t->bytes || !t->is_special || !t->specials || !t->text) DP_FAIL(e, NOMEM, "%s: the texts of %u tokens", name, t->size);
    char *to = t->text;
    for (size_t i = 0; i < p->special_count; i++) {
        struct dp_special s = p->specials[i];
        if (!s.text.len) DP_FAIL(e, CORRUPT, "%s: the special token %u has no text", name, s.id);
        if (t->is_special[s.id]) DP_FAIL(e, CORRUPT, "%s: two added tokens have the id %u", name, s.id);
        memcpy(to, s.text.ptr, s.text.len);
        s.text.ptr = to;
        to += s.text.len;
        t->is_special[s.id] = s.flags & DP_ADDED_ORDINARY ? 3 : s.flags & DP_ADDED_OUTSIDE ? 2 : 1; /* 3 until its bytes are known */
        if (!(s.flags & DP_ADDED_ORDINARY)) t->bytes[s.id] = s.text;
        t->specials[t->special_count++] = s;
        if (s.text.len > t->special_bytes_max) t->special_bytes_max = s.text.len;
    }
    if (t->special_count) qsort(t->specials, t->special_count, sizeof *t->specials, compare_special);
    for (size_t i = 1; i < t->special_count; i++)
        if (dp_span_eq(t->specials[i].text, t->specials[i - 1].text))
            DP_FAIL(e, CORRUPT, "%s: the added token '%.*s' has two ids", name, DP_SPAN_FMT(t->specials[i].text));
    for (uint32_t i = 0; i < p->size; i++) {
        struct dp_span b = p->bytes[i];
        if (t->is_special[i] == 3) t->is_special[i] = 0;
        if (!b.ptr || t->bytes[i].ptr) continue;
        if (!b.len) DP_FAIL(e, CORRUPT, "%s: the token %u is empty", name, i);
        memcpy(to, b.ptr, b.len);
        t->bytes[i] = dp_span(to, b.len);
        to += b.len;
    }
    return DP_OK;
}

static int copy_short(struct dp_tokenizer *t, const char *name, struct dp_err *e)
{
    t->short_bytes = dp_large_alloc((size_t)t->size * sizeof *t->short_bytes);
    if (!t->short_bytes) DP_FAIL(e, NOMEM, "%s: the texts of %u tokens", name, t->size);
    for (uint32_t i = 0; i < t->size; i++) {
        size_t n = t->bytes[i].len;
        if (!t->bytes[i].ptr) continue;
        t->short_bytes[i].len = (uint8_t)(n <= DP_SHORT_BYTES ? n : DP_LONG_BYTES);
        if (n <= DP_SHORT_BYTES) memcpy(t->short_bytes[i].text, t->bytes[i].ptr, n);
    }
    return DP_OK;
}

static int compare_pattern(const void *a, const void *b)
{
    const struct dp_pattern *x = a, *y = b;
    size_t n = x->text.len < y->text.len ? x->text.len : y->text.len;
    int c = memcmp(x->text.ptr, y->text.ptr, n);
    if (c || x->text.len != y->text.len) return c ? c : x->text.len < y->text.len ? -1 : 1;
    return (x->special > y->special) - (x->special < y->special);
}

static void sort_patterns(struct dp_added_set *s)
{
    size_t n = 0;
    if (!s->count) return;
    qsort(s->pattern, s->count, sizeof *s->pattern, compare_pattern);
    for (size_t i = 0; i < s->count; i++) { /* normalising may make two equal */
        if (n && dp_span_eq(s->pattern[n - 1].text, s->pattern[i].text)) continue;
        s->pattern[n++] = s->pattern[i];
        s->first[(uint8_t)s->pattern[i].text.ptr[0]] = 1;
    }
    s->count = n;
    s->only = n && s->pattern[0].text.ptr[0] == s->pattern[n - 1].text.ptr[0] ? (uint8_t)s->pattern[0].text.ptr[0] : 0; /* they are sorted */
}

/* The two sets of added tokens, the second normalised. */
static int index_added(struct dp_tokenizer *t, const char *name, struct dp_err *e)
{
    struct dp_added_scratch scratch;
    int rc = DP_OK;
    dp_added_scratch_init(&scratch);
    for (int k = 0; k < 2; k++) {
        t->added[k].pattern = malloc((t->special_count + 1) * sizeof *t->added[k].pattern);
        if (!t->added[k].pattern) DP_GOTO(e, NOMEM, "%s: %zu added tokens", name, t->special_count);
    }
    for (size_t i = 0; i < t->special_count; i++) {
        struct dp_added_set *s = &t->added[(t->specials[i].flags & DP_ADDED_NORMALIZED) != 0];
        struct dp_span text = t->specials[i].text;
        if (t->normal != DP_NORMAL_NONE && s == &t->added[1]) {
            size_t at = scratch.normal.len;
            DP_TRY_OUT(dp_added_normalise(t->normal, &scratch, text, e));
            text = dp_span((const char *)at, scratch.normal.len - at); /* a place until the buffer has grown */
        }
        s->pattern[s->count++] = (struct dp_pattern){text, (uint32_t)i};
    }
    if (t->normal != DP_NORMAL_NONE) {
        t->normal_text = malloc(scratch.normal.len + 1);
        if (!t->normal_text) DP_GOTO(e, NOMEM, "%s: %zu added tokens", name, t->special_count);
        if (scratch.normal.len) memcpy(t->normal_text, scratch.normal.ptr, scratch.normal.len);
        for (size_t i = 0; i < t->added[1].count; i++) t->added[1].pattern[i].text.ptr = t->normal_text + (size_t)t->added[1].pattern[i].text.ptr;
    }
    sort_patterns(&t->added[0]);
    sort_patterns(&t->added[1]);
out:
    dp_added_scratch_release(&scratch);
    return rc;
}

static int index_texts(struct dp_tokenizer *t, const char *name, struct dp_err *e)
{
    for (uint32_t i = 0; i < t->size; i++) t->tokens += t->bytes[i].ptr != NULL;
    size_t slots = table_size(t->tokens);
    t->by_bytes = dp_large_alloc(slots * sizeof *t->by_bytes);
    if (!t->by_bytes) DP_FAIL(e, NOMEM, "%s: an index of %u tokens", name, t->tokens);
    memset(t->by_bytes, 0xff, slots * sizeof *t->by_bytes);
    t->by_bytes_mask = slots - 1;
    for (uint32_t i = 0; i < t->size; i++) {
        if (!t->bytes[i].ptr || t->is_special[i]) continue;
        int64_t twin = find(t, t->bytes[i]);
        if (twin >= 0 && t->sp) continue; /* a byte that is a character too */
        if (twin >= 0) DP_FAIL(e, CORRUPT, "%s: the ids %u and %u have the same bytes", name, (uint32_t)twin, i);
        uint64_t h = dp_word_hash(t->bytes[i].ptr, t->bytes[i].len);
        size_t at = h & t->by_bytes_mask;
        while (t->by_bytes[at] != DP_NO_ID) at = (at + 1) & t->by_bytes_mask;
        t->by_bytes[at] = text_tag(h) | i;
    }
    for (unsigned b = 0; b < 256 && !t->sp; b++) {
        char c = (char)b;
        int64_t id = find(t, dp_span(&c, 1));
        if (id < 0) DP_FAIL(e, CORRUPT, "%s: the byte 0x%02x is no token; byte-level vocabularies have all 256", name, b);
        t->byte_id[b] = (uint32_t)id;
    }
    return DP_OK;
}

/* All pairs of tokens that make up a token. Lengths that no token has are skipped. */
static int cut_tokens(struct dp_tokenizer *t, const char *name, struct dp_err *e)
{
    uint64_t work = 0;
    size_t longest = 0, cap = (size_t)t->tokens * 4 + 16, n = 0;
    for (uint32_t i = 0; i < t->size; i++) {
        if (!t->bytes[i].ptr || t->is_special[i]) continue;
        size_t len = t->bytes[i].len;
        if (len > longest) longest = len;
        if (len > 65536 || (work += (uint64_t)len * len) > CUT_WORK_MAX)
            DP_FAIL(e, LIMIT, "%s: the tokens are too long to find their parts (id %u has %zu bytes)", name, i, len);
    }
    uint8_t *has = calloc(longest + 1, 1);
    struct dp_merge *m = malloc(cap * sizeof *m);
    int rc = DP_OK;
    if (!has || !m) DP_GOTO(e, NOMEM, "%s: %zu merges", name, cap);
    for (uint32_t i = 0; i < t->size; i++)
        if (t->bytes[i].ptr && !t->is_special[i]) has[t->bytes[i].len] = 1;
    for (uint32_t i = 0; i < t->size; i++) {
        struct dp_span b = t->bytes[i];
        if (!b.ptr || t->is_special[i]) continue;
        for (size_t k = 1; k < b.len; k++) {
            if (!has[k] || !has[b.len - k]) continue;
            int64_t left = find(t, dp_span(b.ptr, k));
            if (left < 0) continue;
            int64_t right = find(t, dp_span(b.ptr + k, b.len - k));
            if (right < 0) continue;
            if (n == cap) {
                struct dp_merge *more = realloc(m, (cap *= 2) * sizeof *m);
                if (!more) DP_GOTO(e, NOMEM, "%s: %zu merges", name, cap);
                m = more;
            }
            m[n++] = (struct dp_merge){(uint32_t)left, (uint32_t)right, i};
        }
    }
    t->merges = m;
    t->merge_count = (uint32_t)n;
    m = NULL;
out:
    free(has);
    free(m);
    return rc;
}

static int index_merges(struct dp_tokenizer *t, const char *name, struct dp_err *e)
{
    size_t slots = table_size(t->merge_count);
    t->pairs = dp_large_alloc(slots * sizeof *t->pairs);
    if (!t->ranks) t->merge_id = malloc(((size_t)t->merge_count + 1) * sizeof *t->merge_id);
    t->pair_filter = calloc((size_t)1 << (DP_PAIR_FILTER_BITS - 6), sizeof *t->pair_filter);
    t->byte_pairs = malloc(65536 * sizeof *t->byte_pairs);
    if (!t->pairs || !t->pair_filter || !t->byte_pairs || (!t->ranks && !t->merge_id)) DP_FAIL(e, NOMEM, "%s: %u merges", name, t->merge_count);
    memset(t->pairs, 0xff, slots * sizeof *t->pairs);
    t->pair_mask = slots - 1;
    for (uint32_t i = 0; i < t->merge_count; i++) {
        struct dp_merge m = t->merges[i];
        uint64_t key = (uint64_t)m.left << 21 | m.right;
        uint64_t h = dp_pair_hash(key), bit = h >> (64 - DP_PAIR_FILTER_BITS);
        size_t at = h & t->pair_mask;
        for (; t->pairs[at] != DP_PAIR_EMPTY; at = (at + 1) & t->pair_mask)
            if (t->pairs[at] >> 21 == key) DP_FAIL(e, CORRUPT, "%s: merge %u is the same pair as an earlier one", name, i);
        t->pairs[at] = key << 21 | (t->ranks ? m.id : i);
        t->pair_filter[bit >> 6] |= UINT64_C(1) << (bit & 63);
        if (t->merge_id) t->merge_id[i] = m.id;
    }
    for (unsigned a = 0; a < 256; a++)
        for (unsigned b = 0; b < 256; b++) t->byte_pairs[a << 8 | b] = dp_pair_rank(t, t->byte_id[a], t->byte_id[b]);
    return DP_OK;
}

static int take_merges(struct dp_tokenizer *t, const struct dp_tokenizer_parts *p, const char *name, struct dp_err *e)
{
    if (p->merge_count >= DP_TOKENIZER_IDS_MAX) DP_FAIL(e, LIMIT, "%s: %zu merges; at most 2097151", name, p->merge_count);
    t->merges = malloc((p->merge_count + 1) * sizeof *t->merges);
    if (!t->merges) DP_FAIL(e, NOMEM, "%s: %zu merges", name, p->merge_count);
    for (size_t i = 0; i < p->merge_count; i++) {
        struct dp_merge m = p->merges[i];
        if (m.left >= t->size || m.right >= t->size || m.id >= t->size || !t->bytes[m.left].ptr || !t->bytes[m.right].ptr ||
            !t->bytes[m.id].ptr)
            DP_FAIL(e, CORRUPT, "%s: merge %zu names an id that is no token", name, i);
        t->merges[i] = m;
    }
    t->merge_count = (uint32_t)p->merge_count;
    return DP_OK;
}

/* Little-endian numbers and texts, in the order of ids, merges and special texts. */
static int take_digest(struct dp_tokenizer *t, const char *name, struct dp_err *e)
{
    struct dp_buf b;
    dp_buf_init(&b, SIZE_MAX / 2);
    dp_buf_add_str(&b, "dpipe tokenizer 1\n");
    dp_buf_add_span(&b, dp_splitter_text(t->splitter, t->split));
    dp_buf_printf(&b, "\n%d %d %u %u %zu\n", t->ignore_merges, t->ranks, t->size, t->merge_count, t->special_count);
    for (uint32_t i = 0; i < t->size; i++) {
        if (!t->bytes[i].ptr) continue;
        dp_buf_add_uint(&b, i);
        dp_buf_add_str(&b, t->is_special[i] ? " 1 " : " 0 ");
        dp_buf_add_uint(&b, t->bytes[i].len);
        dp_buf_add_char(&b, ':');
        dp_buf_add_span(&b, t->bytes[i]);
    }
    /* Only where it says something, so that the digests of others are as they were before these were known. */
    for (size_t i = 0; i < t->special_count; i++) {
        unsigned flags = t->specials[i].flags & ~(unsigned)DP_ADDED_OUTSIDE;
        if (flags != DP_ADDED_SPECIAL) dp_buf_printf(&b, "added %u %x\n", t->specials[i].id, flags);
    }
    if (t->normal != DP_NORMAL_NONE) dp_buf_printf(&b, "normal %d\n", t->normal);
    if (t->sp) dp_sp_digest(t->sp, &b);
    for (uint32_t i = 0; i < t->merge_count; i++) {
        const struct dp_merge *m = &t->merges[i];
        for (int k = 0; k < 3; k++) {
            uint32_t v = k == 0 ? m->left : k == 1 ? m->right : m->id;
            char le[4] = {(char)v, (char)(v >> 8), (char)(v >> 16), (char)(v >> 24)};
            dp_buf_add(&b, le, 4);
        }
    }
    int rc = dp_buf_check(&b, name, e);
    if (rc >= 0) t->digest = dp_hash128(b.ptr, b.len);
    dp_buf_release(&b);
    return rc;
}

static int keep_text(char **to, struct dp_span text, struct dp_err *e)
{
    if (!text.ptr) return DP_OK;
    *to = strndup(text.ptr, text.len);
    if (!*to) DP_FAIL(e, NOMEM, "%zu bytes of a tokenizer file", text.len);
    return DP_OK;
}

int dp_tokenizer_build(struct dp_tokenizer **out, const struct dp_tokenizer_parts *p, const char *name, struct dp_err *e)
{
    *out = NULL;
    uint32_t size = p->size;
    for (size_t i = 0; i < p->special_count; i++) {
        if (p->specials[i].id >= DP_TOKENIZER_IDS_MAX)
            DP_FAIL(e, LIMIT, "%s: the id %u of a special token; ids are below 2097152", name, p->specials[i].id);
        if (p->specials[i].id >= size) size = p->specials[i].id + 1;
    }
    if (size > DP_TOKENIZER_IDS_MAX) DP_FAIL(e, LIMIT, "%s: %u ids; at most 2097152", name, size);
    if (!p->splitter && p->split >= DP_SPLIT_COUNT) DP_FAIL(e, CONFIG, "%s: a split of one's own, without its splitter", name);
    struct dp_tokenizer *t = calloc(1, sizeof *t);
    if (!t) DP_FAIL(e, NOMEM, "%s: a tokenizer", name);
    t->split = p->splitter ? DP_SPLIT_CUSTOM : p->split;
    t->splitter = dp_splitter_ref(p->splitter);
    t->normal = p->normal;
    t->sp = p->sp;
    t->eot = p->sp ? p->eot : -1;
    t->ignore_merges = p->ignore_merges || p->ranks;
    t->ranks = p->ranks;
    t->size = size;
    int rc;
    DP_TRY_OUT(copy_texts(t, p, name, e));
    DP_TRY_OUT(copy_short(t, name, e));
    DP_TRY_OUT(index_added(t, name, e));
    DP_TRY_OUT(index_texts(t, name, e));
    DP_TRY_OUT(t->ranks ? cut_tokens(t, name, e) : take_merges(t, p, name, e));
    DP_TRY_OUT(index_merges(t, name, e));
    DP_TRY_OUT(take_digest(t, name, e));
    DP_TRY_OUT(dp_units_prepare(t, name, e));
    for (int i = 0; i < DP_KEPT_COUNT; i++) DP_TRY_OUT(keep_text(&t->kept[i], p->kept[i], e));
    *out = t;
    return DP_OK;
out:
    t->sp = NULL; /* the caller's still */
    dp_tokenizer_free(t);
    return rc;
}

struct dp_tokenizer_parts dp_tokenizer_parts_of(const struct dp_tokenizer *t)
{
    struct dp_tokenizer_parts p = {.split = t->split,
                                       .splitter = t->splitter,
                                       .normal = t->normal,
                                       .ignore_merges = t->ignore_merges,
                                       .ranks = t->ranks,
                                       .size = t->size,
                                       .bytes = t->bytes,
                                       .merges = t->merges,
                                       .merge_count = t->ranks ? 0 : t->merge_count,
                                       .specials = t->specials,
                                       .special_count = t->special_count};
    for (int i = 0; i < DP_KEPT_COUNT; i++) p.kept[i] = t->kept[i] ? dp_span_str(t->kept[i]) : dp_span(NULL, 0);
    return p;
}

uint32_t dp_tokenizer_size(const struct dp_tokenizer *t)
{
    return t->size;
}
uint32_t dp_tokenizer_tokens(const struct dp_tokenizer *t)
{
    return t->tokens;
}
uint32_t dp_tokenizer_merges(const struct dp_tokenizer *t)
{
    return t->merge_count;
}
enum dp_split dp_tokenizer_split(const struct dp_tokenizer *t)
{
    return t->split;
}
struct dp_splitter *dp_tokenizer_splitter(const struct dp_tokenizer *t)
{
    return t->splitter;
}
enum dp_normal dp_tokenizer_normal(const struct dp_tokenizer *t)
{
    return t->normal;
}
bool dp_tokenizer_is_sp(const struct dp_tokenizer *t)
{
    return t->sp != NULL;
}
bool dp_tokenizer_rewrites(const struct dp_tokenizer *t)
{
    return t->sp != NULL || t->normal != DP_NORMAL_NONE;
}
bool dp_tokenizer_ignore_merges(const struct dp_tokenizer *t)
{
    return t->ignore_merges;
}
bool dp_tokenizer_ranks(const struct dp_tokenizer *t)
{
    return t->ranks;
}
struct dp_hash128 dp_tokenizer_digest(const struct dp_tokenizer *t)
{
    return t->digest;
}
int64_t dp_tokenizer_id(const struct dp_tokenizer *t, struct dp_span bytes)
{
    return find(t, bytes);
}

void dp_tokenizer_merge(const struct dp_tokenizer *t, uint32_t rank, uint32_t *left, uint32_t *right, uint32_t *id)
{
    DP_ASSERT(rank < t->merge_count);
    *left = t->merges[rank].left;
    *right = t->merges[rank].right;
    *id = t->merges[rank].id;
}

struct dp_span dp_tokenizer_bytes(const struct dp_tokenizer *t, uint32_t id)
{
    return id < t->size ? t->bytes[id] : (struct dp_span){NULL, 0};
}

const struct dp_special *dp_tokenizer_specials(const struct dp_tokenizer *t, size_t *n)
{
    *n = t->special_count;
    return t->specials;
}

int64_t dp_tokenizer_special(const struct dp_tokenizer *t, struct dp_span text)
{
    struct dp_special key = {.text = text};
    const struct dp_special *s = t->special_count ? bsearch(&key, t->specials, t->special_count, sizeof key, compare_special) : NULL;
    return s ? (int64_t)s->id : -1;
}

int64_t dp_tokenizer_eot(const struct dp_tokenizer *t)
{
    return t->sp ? t->eot : dp_tokenizer_special(t, dp_span_str("<|endoftext|>"));
}

int dp_tokenizer_save(const struct dp_tokenizer *t, struct dp_buf *out, struct dp_err *e)
{
    return t->sp && !t->sp->f.merges ? dp_tokenizer_save_sp(t, out, e) : dp_tokenizer_save_hf(t, out, e);
}

int dp_tokenizer_whole_words(const struct dp_tokenizer *t, bool *needs, struct dp_err *e)
{
    struct dp_merge_scratch scratch = {0};
    struct dp_err ignored;
    uint32_t *ids = NULL;
    size_t longest = 1, n;
    int rc = DP_OK;
    *needs = false;
    for (uint32_t i = 0; i < t->size; i++)
        if (t->bytes[i].ptr && t->bytes[i].len > longest) longest = t->bytes[i].len;
    ids = malloc(longest * sizeof *ids);
    if (!ids) DP_FAIL(e, NOMEM, "looking at %u tokens", t->size);
    for (uint32_t i = 0; rc >= 0 && !*needs && i < t->size; i++) {
        if (!t->bytes[i].ptr || t->is_special[i]) continue;
        rc = dp_bpe_merge(t, &scratch, t->bytes[i], ids, &n, &ignored);
        *needs = rc >= 0 && n != 1;
    }
    dp_merge_scratch_release(&scratch);
    free(ids);
    if (rc < 0) DP_FAIL(e, NOMEM, "looking at %u tokens", t->size);
    return DP_OK;
}
