#include "cli/cut_diff.h"

#include "base/hash.h"
#include "tokenizer/token_meter.h"

#include <stdlib.h>

enum { KINDS_MAX = 1 << 14 };

void dp_cut_diff_release(struct dp_cut_diff *d)
{
    free(d->place);
    free(d->index);
    *d = (struct dp_cut_diff){0};
}

void dp_cut_diff_clear(struct dp_cut_diff *d)
{
    if (d->index) memset(d->index, 0, (d->mask + 1) * sizeof *d->index);
    *d = (struct dp_cut_diff){.place = d->place, .cap = d->cap, .index = d->index, .mask = d->mask};
}

static bool same_kind(const struct dp_cut_place *x, const struct dp_cut_place *y)
{
    return x->len == y->len && x->a == y->a && x->b == y->b && memcmp(x->text, y->text, x->len) == 0;
}

static int add(struct dp_cut_diff *d, const struct dp_cut_place *p, struct dp_err *e)
{
    if (!d->index) { /* twice as many slots as kinds */
        d->index = calloc(2 * KINDS_MAX, sizeof *d->index);
        if (!d->index) DP_FAIL(e, NOMEM, "a table of cuts");
        d->mask = 2 * KINDS_MAX - 1;
    }
    size_t at = (size_t)dp_hash64(p->text, p->len, p->a ^ p->b << 1) & d->mask;
    for (; d->index[at]; at = (at + 1) & d->mask)
        if (same_kind(&d->place[d->index[at] - 1], p)) {
            d->place[d->index[at] - 1].count += p->count;
            return DP_OK;
        }
    if (d->n == KINDS_MAX) return DP_OK;
    if (d->n == d->cap) {
        size_t cap = d->cap * 2 + 64;
        struct dp_cut_place *q = realloc(d->place, cap * sizeof *q);
        if (!q) DP_FAIL(e, NOMEM, "%zu places", cap);
        d->place = q;
        d->cap = cap;
    }
    d->place[d->n++] = *p;
    d->index[at] = (uint32_t)d->n;
    return DP_OK;
}

static void note_first(struct dp_cut_diff *d, struct dp_span text, size_t at)
{
    size_t from = at < 40 ? 0 : at - 40, n = text.len - from < sizeof d->excerpt ? text.len - from : sizeof d->excerpt;
    while (from > 0 && n < sizeof d->excerpt && ((unsigned char)text.ptr[from] & 0xC0) == 0x80) from--, n++;
    d->first = d->texts;
    d->first_at = at;
    memcpy(d->excerpt, text.ptr + from, n);
    d->excerpt_len = (uint32_t)n;
}

/* One text's tokens, as a walk does them. */
struct walk {
    const struct dp_tokenizer *t;
    const struct dp_ids *ids;
    size_t i, end; /* tokens taken; bytes of them */
    size_t blank;  /* bytes of the first token that aren't in the text: dp_token_blank */
    uint64_t cuts;
};

static struct walk walk_of(const struct dp_tokenizer *t, const struct dp_ids *ids, struct dp_span text)
{
    struct walk w = {.t = t, .ids = ids, .blank = dp_token_blank(t, text.len, ids->ptr, ids->len)};
    if (w.blank && ids->len && dp_tokenizer_bytes(t, ids->ptr[0]).len == 1) w.i = 1, w.blank = 0; /* a token of its own */
    return w;
}

static void take(struct walk *w, size_t from)
{
    size_t at = w->end - from;
    if (at < DP_CUT_BYTES_MAX) w->cuts |= UINT64_C(1) << at;
    w->end += dp_tokenizer_bytes(w->t, w->ids->ptr[w->i++]).len - w->blank;
    w->blank = 0;
}

int dp_cut_diff_text(struct dp_cut_diff *d, struct dp_span text, const struct dp_tokenizer *a, const struct dp_ids *a_ids, const struct dp_tokenizer *b,
                     const struct dp_ids *b_ids, struct dp_err *e)
{
    struct walk x = walk_of(a, a_ids, text), y = walk_of(b, b_ids, text);
    bool other_ids = x.i != y.i || (x.i && a_ids->ptr[0] != b_ids->ptr[0]), other_cuts = false;
    if (other_ids && !d->other_ids) note_first(d, text, 0);
    while (x.i < a_ids->len && y.i < b_ids->len) {
        size_t from = x.end, i = x.i, j = y.i;
        x.cuts = y.cuts = 0;
        take(&x, from);
        take(&y, from);
        while (x.end != y.end && (x.end < y.end ? x.i < a_ids->len : y.i < b_ids->len)) take(x.end < y.end ? &x : &y, from);
        bool cuts = x.i - i != 1 || y.i - j != 1 || x.end != y.end;
        if (!cuts && a_ids->ptr[i] == b_ids->ptr[j]) continue;
        if (!other_ids && d->other_ids == 0) note_first(d, text, from < text.len ? from : text.len);
        other_ids = true;
        if (!cuts) continue;
        other_cuts = true;
        d->places++;
        struct dp_cut_place p = {.len = (uint32_t)((x.end > y.end ? x.end : y.end) - from), .a = x.cuts, .b = y.cuts, .count = 1};
        if (x.end != y.end || x.end > text.len || p.len > DP_CUT_BYTES_MAX) continue;
        memcpy(p.text, text.ptr + from, p.len);
        DP_TRY(add(d, &p, e));
    }
    if (x.i < a_ids->len || y.i < b_ids->len) { /* ids that don't add up to the same text: one of the two normalises */
        if (!other_ids && d->other_ids == 0) note_first(d, text, x.end < text.len ? x.end : text.len);
        other_ids = other_cuts = true;
    }
    d->other_ids += other_ids;
    d->other_cuts += other_cuts;
    d->texts++;
    return DP_OK;
}

int dp_cut_diff_merge(struct dp_cut_diff *d, const struct dp_cut_diff *more, struct dp_err *e)
{
    for (size_t i = 0; i < more->n; i++) DP_TRY(add(d, &more->place[i], e));
    if (!d->other_ids && more->other_ids) {
        d->first = d->texts + more->first;
        d->first_at = more->first_at;
        memcpy(d->excerpt, more->excerpt, sizeof d->excerpt);
        d->excerpt_len = more->excerpt_len;
    }
    d->places += more->places;
    d->texts += more->texts;
    d->other_ids += more->other_ids;
    d->other_cuts += more->other_cuts;
    return DP_OK;
}

static int most_first(const void *a, const void *b)
{
    const struct dp_cut_place *x = a, *y = b;
    if (x->count != y->count) return x->count < y->count ? 1 : -1;
    int c = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);
    if (c) return c;
    if (x->len != y->len) return x->len < y->len ? -1 : 1;
    if (x->a != y->a) return x->a < y->a ? -1 : 1;
    return (x->b > y->b) - (x->b < y->b);
}

void dp_cut_diff_sort(struct dp_cut_diff *d)
{
    if (d->n) qsort(d->place, d->n, sizeof *d->place, most_first);
    free(d->index); /* its numbers are no longer right */
    d->index = NULL;
}
