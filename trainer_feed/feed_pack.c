/* Best-fit decreasing in O(1) a piece: a stack of rows for each room left, and a bitmap of four levels (64-ary) that finds the
 * least room that is enough. Windows bound what must be held and sorted; with 65,536 documents the rows that a window leaves
 * open are a few (docs/formats/feed_order.md has figures).
 *
 * Why an index of all rows and no windows rebuilt on demand: a permuted row would need its window's packing, milliseconds for
 * a copy of half a microsecond, or an order that stays within windows, which is no shuffle of a sorted corpus. */
#include "trainer_feed/feed_pack.h"

#include "base/search.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* --- the least room that is enough --- */

enum { LEVELS = 4 };
struct bits {
    uint64_t *level[LEVELS];
};

static void bits_set(struct bits *b, size_t i)
{
    for (int l = 0; l < LEVELS; l++, i /= 64) b->level[l][i / 64] |= UINT64_C(1) << i % 64;
}

static void bits_clear(struct bits *b, size_t i)
{
    for (int l = 0; l < LEVELS; l++, i /= 64) {
        b->level[l][i / 64] &= ~(UINT64_C(1) << i % 64);
        if (b->level[l][i / 64]) return;
    }
}

/* The first bit from i on; SIZE_MAX when there is none. */
static size_t bits_from(const struct bits *b, size_t i, size_t n)
{
    for (int l = 0; l < LEVELS; l++) {
        uint64_t w = i <= n ? b->level[l][i / 64] & UINT64_MAX << i % 64 : 0;
        if (w) {
            i = i / 64 * 64 + (size_t)__builtin_ctzll(w);
            while (l-- > 0) i = i * 64 + (size_t)__builtin_ctzll(b->level[l][i]);
            return i;
        }
        i = i / 64 + 1;
        n /= 64;
    }
    return SIZE_MAX;
}

/* --- building --- */

struct piece {
    uint32_t len;
    uint16_t doc;
};

struct builder {
    struct dp_feed_pack *p;
    size_t room_max; /* T + 1 */
    struct bits rooms;
    uint64_t *words;
    uint32_t *top;  /* [room_max + 1]: the row that last got this much room, plus 1 */
    uint32_t *next; /* [window]: the one before it */
    uint32_t *room; /* [window] */
    uint32_t *row_of;
    struct piece *piece, *sorted;
    uint32_t *count; /* [65536 + 1] */
    uint16_t *out;
    size_t pieces, rows; /* packed, of this window */
};

static int builder_open(struct builder *b, struct dp_feed_pack *p, struct dp_err *e)
{
    const size_t w = DP_FEED_PACK_WINDOW;
    *b = (struct builder){.p = p, .room_max = (size_t)p->seq_len + 1};
    size_t n = b->room_max, words = 0, at[LEVELS];
    for (int l = 0; l < LEVELS; l++) {
        at[l] = words;
        words += n / 64 + 1;
        n /= 64;
    }
    b->words = calloc(words, sizeof *b->words);
    for (int l = 0; b->words && l < LEVELS; l++) b->rooms.level[l] = b->words + at[l];
    b->top = calloc(b->room_max + 1, sizeof *b->top);
    b->next = malloc(w * sizeof *b->next);
    b->room = malloc(w * sizeof *b->room);
    b->row_of = malloc(w * sizeof *b->row_of);
    b->piece = malloc(w * sizeof *b->piece);
    b->sorted = malloc(w * sizeof *b->sorted);
    b->count = malloc((w + 1) * sizeof *b->count);
    b->out = malloc(w * sizeof *b->out);
    if (!b->words || !b->top || !b->next || !b->room || !b->row_of || !b->piece || !b->sorted || !b->count || !b->out)
        DP_FAIL(e, NOMEM, "feed: packing");
    return DP_OK;
}

static void builder_release(struct builder *b)
{
    free(b->words);
    free(b->top);
    free(b->next);
    free(b->room);
    free(b->row_of);
    free(b->piece);
    free(b->sorted);
    free(b->count);
    free(b->out);
}

/* One pass of a radix sort by 11 bits of the length, longest first, stable. */
static void sort_pass(struct builder *b, const struct piece *from, struct piece *to, int shift)
{
    uint32_t at = 0;
    memset(b->count, 0, 2048 * sizeof *b->count);
    for (size_t i = 0; i < b->pieces; i++) b->count[2047 - (from[i].len >> shift & 2047)]++;
    for (size_t k = 0; k < 2048; k++) {
        uint32_t n = b->count[k];
        b->count[k] = at;
        at += n;
    }
    for (size_t i = 0; i < b->pieces; i++) to[b->count[2047 - (from[i].len >> shift & 2047)]++] = from[i];
}

static void push(struct builder *b, uint32_t row, size_t room)
{
    b->room[row] = (uint32_t)room;
    b->next[row] = b->top[room];
    if (!b->top[room]) bits_set(&b->rooms, room);
    b->top[room] = row + 1;
}

static uint32_t pop(struct builder *b, size_t room)
{
    uint32_t row = b->top[room] - 1;
    b->top[room] = b->next[row];
    if (!b->top[room]) bits_clear(&b->rooms, room);
    return row;
}

/* Every piece of the window gets a row; b->piece ends up sorted. */
static void place(struct builder *b)
{
    sort_pass(b, b->piece, b->sorted, 0);
    sort_pass(b, b->sorted, b->piece, 11);
    for (size_t i = 0; i < b->pieces; i++) {
        size_t len = b->piece[i].len, room = bits_from(&b->rooms, len, b->room_max);
        uint32_t row;
        if (room == SIZE_MAX) {
            row = (uint32_t)b->rows++;
            room = b->room_max;
        } else {
            row = pop(b, room);
        }
        b->row_of[b->piece[i].doc] = row;
        push(b, row, room - len);
    }
    for (size_t r = 0; r < b->rows; r++) { /* empty the stacks for the next window */
        size_t room = b->room[r];
        b->p->padding += room;
        if (b->top[room]) bits_clear(&b->rooms, room);
        b->top[room] = 0;
    }
}

/* Write the window's pieces by row, in document order within one. `doc[]` is in document order. */
static int emit(struct builder *b, const uint16_t *doc, struct dp_err *e)
{
    memset(b->count, 0, (b->rows + 1) * sizeof *b->count);
    for (size_t i = 0; i < b->pieces; i++) b->count[b->row_of[doc[i]] + 1]++;
    for (size_t r = 0; r < b->rows; r++) {
        uint16_t start = (uint16_t)b->count[r];
        DP_TRY(dp_feed_spill_add(&b->p->packed, &start, sizeof start, e));
        b->count[r + 1] += b->count[r];
    }
    for (size_t i = 0; i < b->pieces; i++) b->out[b->count[b->row_of[doc[i]]]++] = doc[i];
    return dp_feed_spill_add(&b->p->piece, b->out, b->pieces * sizeof *b->out, e);
}

static int end_window(struct builder *b, uint64_t long_rows, struct dp_err *e)
{
    struct dp_feed_pack *p = b->p;
    uint16_t *doc = malloc((b->pieces + 1) * sizeof *doc);
    if (!doc) DP_FAIL(e, NOMEM, "feed: packing");
    for (size_t i = 0; i < b->pieces; i++) doc[i] = b->piece[i].doc;
    place(b);
    int rc = emit(b, doc, e);
    free(doc);
    p->rows += long_rows + b->rows;
    p->windows++;
    p->window[p->windows] = (struct dp_feed_window){p->rows, p->piece.len / 2, p->packed.len / 2, p->longs.len / 8};
    b->pieces = b->rows = 0;
    return rc;
}

static int build(struct builder *b, struct dp_err *e)
{
    struct dp_feed_pack *p = b->p;
    const struct dp_feed_docs *docs = p->docs;
    struct dp_feed_asker asker = {0};
    uint64_t number = 0, long_rows = 0, t = p->seq_len;
    for (size_t s = 0; s < docs->shards; s++) {
        const uint64_t n_docs = dp_feed_docs_count(docs, s), *ends = n_docs ? dp_shard_ends(docs->shard[s]) : NULL;
        for (uint64_t d = 0, from = 0; d < n_docs; from = ends[d++], number++) {
            uint64_t n = ends[d] - from, place_in = number % DP_FEED_PACK_WINDOW;
            if (number && place_in == 0) {
                DP_TRY(end_window(b, long_rows, e));
                long_rows = 0;
            }
            if (!dp_feed_docs_takes(docs, &asker, s, d)) continue;
            p->documents++;
            p->tokens += n;
            if (n > t) {
                long_rows += (n - 1) / t;
                uint64_t entry = long_rows << 16 | place_in;
                DP_TRY(dp_feed_spill_add(&p->longs, &entry, sizeof entry, e));
                p->cut += n > t + 1;
                n = (n - 1) % t ? (n - 1) % t + 1 : 0;
            }
            if (n) b->piece[b->pieces++] = (struct piece){(uint32_t)n, (uint16_t)place_in};
        }
    }
    return number ? end_window(b, long_rows, e) : DP_OK;
}

int dp_feed_pack_open(struct dp_feed_pack *p, const struct dp_feed_docs *docs, uint64_t seq_len, size_t spill_limit,
                      struct dp_err *e)
{
    DP_ASSERT(seq_len >= 1 && seq_len <= DP_FEED_PACK_LEN_MAX);
    *p = (struct dp_feed_pack){.docs = docs, .seq_len = seq_len};
    p->piece.limit = p->packed.limit = p->longs.limit = spill_limit;
    size_t windows = (size_t)(docs->doc_start[docs->shards] / DP_FEED_PACK_WINDOW) + 1;
    struct builder b = {0};
    int rc = DP_OK;
    p->window = calloc(windows + 1, sizeof *p->window);
    if (!p->window) DP_GOTO(e, NOMEM, "feed: %zu windows of documents", windows);
    DP_TRY_OUT(builder_open(&b, p, e));
    DP_TRY_OUT(build(&b, e));
    dp_feed_spill_trim(&p->piece);
    dp_feed_spill_trim(&p->packed);
    dp_feed_spill_trim(&p->longs);
out:
    builder_release(&b);
    if (rc < 0) dp_feed_pack_release(p);
    return rc;
}

void dp_feed_pack_release(struct dp_feed_pack *p)
{
    free(p->window);
    dp_feed_spill_release(&p->piece);
    dp_feed_spill_release(&p->packed);
    dp_feed_spill_release(&p->longs);
    *p = (struct dp_feed_pack){0};
}

/* --- rows --- */

/* Ends of document `doc` (global): *from is the global number of its first id. */
static uint64_t document(const struct dp_feed_pack *p, struct dp_feed_pieces *it, uint64_t doc, uint64_t *from)
{
    const struct dp_feed_docs *docs = p->docs;
    if (doc < docs->doc_start[it->shard] || doc >= docs->doc_start[it->shard + 1]) it->shard = dp_feed_docs_shard_of(docs, doc);
    const uint64_t *ends = dp_shard_ends(docs->shard[it->shard]);
    uint64_t d = doc - docs->doc_start[it->shard], begin = d ? ends[d - 1] : 0;
    *from = docs->token_start[it->shard] + begin;
    return ends[d] - begin;
}

static void set_piece(const struct dp_feed_pack *p, struct dp_feed_pieces *it)
{
    uint64_t t = p->seq_len;
    it->n = document(p, it, it->first_doc + *it->at, &it->token);
    if (it->n > t) {
        it->token += (it->n - 1) / t * t;
        it->n = (it->n - 1) % t + 1;
    }
}

/* The first of n ascending entries with more rows than j < `last`, the last one's: from where it would be were they evenly
 * spaced outwards, so that a lookup touches two or three lines and not one a halving. */
static size_t first_above(const uint64_t *longs, size_t n, uint64_t j, uint64_t last)
{
    size_t lo = 0, hi = n - 1, at = (size_t)((double)j / (double)last * (double)n); /* it is in [lo, hi] */
    if (at >= hi) at = hi ? hi - 1 : 0;
    for (size_t step = 1; lo < hi; step *= 2) {
        bool above = longs[at] >> 16 > j;
        if (above) hi = at;
        else lo = at + 1;
        size_t half = (hi - lo) / 2;
        at = half < step ? lo + half : above ? hi - step : lo + step - 1;
    }
    return lo;
}

/* Place *it before the first piece of a packed row, given its number among its window's; or find it is a long document's. */
static bool packed_pieces(const struct dp_feed_pack *p, uint64_t row, struct dp_feed_pieces *it, uint64_t *j)
{
    size_t lo = dp_last_start(&p->window->row, p->windows, sizeof *p->window, row);
    const struct dp_feed_window *w = &p->window[lo];
    uint64_t n_longs = w[1].longs - w->longs, long_rows = n_longs ? ((const uint64_t *)p->longs.ptr)[w[1].longs - 1] >> 16 : 0;
    *it = (struct dp_feed_pieces){.first_doc = (uint64_t)lo * DP_FEED_PACK_WINDOW};
    *j = row - w->row;
    if (*j < long_rows) return false;
    const uint16_t *packed = (const uint16_t *)p->packed.ptr + w->packed, *piece = (const uint16_t *)p->piece.ptr + w->piece;
    uint64_t k = *j - long_rows;
    it->at = piece + packed[k];
    it->end = k + 1 < w[1].packed - w->packed ? piece + packed[k + 1] : piece + (w[1].piece - w->piece);
    return true;
}

void dp_feed_pack_row(const struct dp_feed_pack *p, uint64_t row, struct dp_feed_pieces *it)
{
    uint64_t j;
    DP_ASSERT(row < p->rows);
    if (packed_pieces(p, row, it, &j)) {
        set_piece(p, it);
        return;
    }
    const struct dp_feed_window *w = &p->window[it->first_doc / DP_FEED_PACK_WINDOW];
    const uint64_t *longs = (const uint64_t *)p->longs.ptr + w->longs;
    size_t n = (size_t)(w[1].longs - w->longs), a = first_above(longs, n, j, longs[n - 1] >> 16);
    document(p, it, it->first_doc + (longs[a] & 0xffff), &it->token);
    it->token += (j - (a ? longs[a - 1] >> 16 : 0)) * p->seq_len;
    it->n = p->seq_len + 1;
}

void dp_feed_pack_prefetch(const struct dp_feed_pack *p, uint64_t row)
{
    const struct dp_feed_docs *docs = p->docs;
    struct dp_feed_pieces it;
    uint64_t j;
    if (!packed_pieces(p, row, &it, &j)) return;
    for (int i = 0; it.at < it.end && i < 64; it.at++, i++) {
        uint64_t doc = it.first_doc + *it.at;
        if (doc >= docs->doc_start[it.shard + 1] || doc < docs->doc_start[it.shard]) it.shard = dp_feed_docs_shard_of(docs, doc);
        __builtin_prefetch(dp_shard_ends(docs->shard[it.shard]) + (doc - docs->doc_start[it.shard]), 0, 3);
    }
}

bool dp_feed_pack_next(const struct dp_feed_pack *p, struct dp_feed_pieces *it)
{
    if (it->at == it->end || ++it->at == it->end) return false;
    set_piece(p, it);
    return true;
}
