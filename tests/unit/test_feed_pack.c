#include "trainer_feed/feed_pack.h"

#include "tests/unit/test_shard_data.h"

static struct dp_err err;

/* What feed_pack.h promises, written down plainly: pieces sorted by falling length, stacks of rows searched one room after
 * the other. */
struct ref_piece {
    size_t doc;
    uint64_t from, n; /* in the document */
};
struct ref {
    struct ref_piece *piece; /* row after row */
    uint64_t *row;           /* where each row's begin; [rows + 1] */
    uint64_t rows, padding, cut;
};

static const struct data *sorting;
static struct ref_piece *sorting_piece;
static int by_length(const void *a, const void *b)
{
    const struct ref_piece *x = &sorting_piece[*(const size_t *)a], *y = &sorting_piece[*(const size_t *)b];
    return x->n != y->n ? (x->n < y->n ? 1 : -1) : x->doc < y->doc ? -1 : 1;
}

static void ref_window(struct ref *r, const struct data *d, size_t first, size_t end, uint64_t t, int split, double val, uint64_t *pieces)
{
    struct ref_piece *part = malloc((end - first + 1) * sizeof *part);
    size_t n = 0, *order = malloc((end - first + 1) * sizeof *order), *row_of = calloc(end - first + 1, sizeof *row_of);
    for (size_t k = first; k < end; k++) {
        if (dp_feed_split_of(d->doc[k].content, val, 0) != split) continue;
        uint64_t at = 0, len = d->doc[k].n;
        r->cut += len > t + 1;
        for (; len >= t + 1 && len - at >= t + 1; at += t) {
            r->piece[(*pieces)++] = (struct ref_piece){k, at, t + 1};
            r->row[++r->rows] = *pieces;
        }
        if (len - at > (at > 0)) part[n++] = (struct ref_piece){k, at, len - at};
    }
    for (size_t i = 0; i < n; i++) order[i] = i;
    sorting_piece = part;
    qsort(order, n, sizeof *order, by_length);
    struct stack {
        size_t *row, n;
    } *room = calloc(t + 2, sizeof *room);
    for (uint64_t i = 0; i <= t + 1; i++) room[i].row = malloc((n + 1) * sizeof *room[i].row);
    size_t rows = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t len = part[order[i]].n, at = len;
        while (at <= t + 1 && !room[at].n) at++;
        size_t row = at <= t + 1 ? room[at].row[--room[at].n] : rows++;
        if (at > t + 1) at = t + 1;
        row_of[order[i]] = row;
        room[at - len].row[room[at - len].n++] = row;
    }
    for (size_t row = 0; row < rows; row++) {
        for (size_t i = 0; i < n; i++)
            if (row_of[i] == row) r->piece[(*pieces)++] = part[i];
        r->row[++r->rows] = *pieces;
    }
    for (uint64_t i = 0; i <= t + 1; i++) {
        r->padding += i * room[i].n;
        free(room[i].row);
    }
    free(room);
    free(part);
    free(order);
    free(row_of);
}

static struct ref ref_make(const struct data *d, uint64_t t, int split, double val)
{
    struct ref r = {.piece = malloc((d->tokens + 1) * sizeof *r.piece), .row = calloc(d->tokens + 2, sizeof *r.row)};
    uint64_t pieces = 0;
    sorting = d;
    for (size_t first = 0; first < d->docs; first += DP_FEED_PACK_WINDOW)
        ref_window(&r, d, first, first + DP_FEED_PACK_WINDOW < d->docs ? first + DP_FEED_PACK_WINDOW : d->docs, t, split, val, &pieces);
    return r;
}

static void check_pack(const struct data *d, uint64_t t, int split, double val, size_t spill)
{
    struct dp_manifest *m;
    struct dp_feed_docs docs;
    struct dp_feed_pack p;
    struct dp_feed_select select = {.split = split, .val_fraction = val};
    REQUIRE_OK(dp_manifest_read(&m, d->path, &err));
    REQUIRE_OK(dp_feed_docs_open(&docs, m, d->path, m->count, &select, false, false, &err));
    REQUIRE_OK(dp_feed_pack_open(&p, &docs, t, spill, &err));
    struct ref r = ref_make(d, t, split, val);
    CHECK_INT(p.rows, r.rows);
    CHECK_INT(p.padding, r.padding);
    CHECK_INT(p.cut, r.cut);
    if (spill) CHECK(!p.piece.len || p.piece.fd);
    uint8_t *target = calloc(d->tokens + 1, 1);
    uint64_t ids = 0;
    for (uint64_t row = 0; row < p.rows && row < r.rows; row++) {
        struct dp_feed_pieces it;
        uint64_t used = 0;
        dp_feed_pack_row(&p, row, &it);
        for (uint64_t k = r.row[row];; k++) {
            REQUIRE(k < r.row[row + 1]);
            const struct data_doc *doc = &d->doc[r.piece[k].doc];
            REQUIRE(it.token == doc->first + r.piece[k].from && it.n == r.piece[k].n);
            for (uint64_t i = 1; i < it.n; i++) target[it.token + i]++;
            used += it.n;
            if (!dp_feed_pack_next(&p, &it)) {
                REQUIRE(k + 1 == r.row[row + 1]);
                break;
            }
        }
        REQUIRE(used <= t + 1);
        ids += used;
    }
    CHECK_INT(ids + p.padding, p.rows * (t + 1));
    /* Every id but a document's first is a target once; documents of the other side never. */
    uint64_t documents = 0;
    for (size_t k = 0; k < d->docs; k++) {
        bool ours = dp_feed_split_of(d->doc[k].content, val, 0) == split;
        documents += ours;
        for (uint64_t i = 0; i < d->doc[k].n; i++) REQUIRE(target[d->doc[k].first + i] == (ours && i > 0));
    }
    CHECK_INT(p.documents, documents);
    free(target);
    free(r.piece);
    free(r.row);
    dp_feed_pack_release(&p);
    dp_feed_docs_release(&docs);
    dp_manifest_free(m);
}

TEST(pack_is_best_fit_decreasing)
{
    static const struct {
        int64_t eot;
        int shards, docs;
        uint32_t max_len;
    } t[] = {{0, 3, 300, 60}, {-1, 4, 250, 5}, {0, 1, 50, 3000}, {0, 5, 40, 0}, {-1, 3, 100, 1}, {0, 1, 1, 700}, {-1, 2, 400, 700}};
    static const uint64_t lens[] = {1, 2, 3, 8, 17, 64, 501, 2048};
    for (size_t k = 0; k < sizeof t / sizeof *t; k++) {
        struct data d;
        REQUIRE_OK(data_make(&d, 50257, t[k].eot, t[k].shards, t[k].docs, t[k].max_len, 131 + k, &err));
        for (size_t j = 0; j < sizeof lens / sizeof *lens; j++) {
            check_pack(&d, lens[j], DP_FEED_TRAIN, 0, 0);
            check_pack(&d, lens[j], DP_FEED_TRAIN, 0.3, 0);
            check_pack(&d, lens[j], DP_FEED_VAL, 0.3, 0);
        }
        data_release(&d);
    }
}

TEST(pack_of_several_windows)
{
    /* 150,000 documents: windows that shards and the split cut across. */
    struct data d;
    REQUIRE_OK(data_make(&d, 300, 0, 3, 50000, 4, 77, &err));
    struct dp_manifest *m;
    struct dp_feed_docs docs;
    struct dp_feed_pack p;
    struct dp_feed_select select = {.split = DP_FEED_TRAIN, .val_fraction = 0.01};
    REQUIRE_OK(dp_manifest_read(&m, d.path, &err));
    REQUIRE_OK(dp_feed_docs_open(&docs, m, d.path, m->count, &select, false, false, &err));
    REQUIRE_OK(dp_feed_pack_open(&p, &docs, 64, 0, &err));
    CHECK_INT(p.windows, 3);
    CHECK((double)p.padding < 0.001 * (double)p.tokens);
    uint8_t *hit = calloc(d.tokens, 1);
    uint64_t last_window = 0, ids = 0;
    for (uint64_t row = 0; row < p.rows; row++) {
        struct dp_feed_pieces it;
        dp_feed_pack_row(&p, row, &it);
        REQUIRE(it.first_doc >= last_window);
        last_window = it.first_doc;
        do {
            for (uint64_t i = 0; i < it.n; i++) REQUIRE(!hit[it.token + i]++);
            ids += it.n;
        } while (dp_feed_pack_next(&p, &it));
    }
    CHECK_INT(ids, p.tokens); /* nothing is longer than a row */
    free(hit);
    dp_feed_pack_release(&p);
    dp_feed_docs_release(&docs);
    dp_manifest_free(m);
    data_release(&d);
}

TEST(pack_in_a_temporary_file_is_the_same)
{
    struct data d;
    REQUIRE_OK(data_make(&d, 50257, -1, 3, 4000, 70, 91, &err));
    check_pack(&d, 16, DP_FEED_TRAIN, 0.1, 1);
    check_pack(&d, 64, DP_FEED_TRAIN, 0, 1);
    /* A folder that isn't there: an error, and nothing leaks. */
    struct dp_feed_spill s = {.limit = 1};
    char *tmp = getenv("TMPDIR"), keep[512];
    snprintf(keep, sizeof keep, "%s", tmp ? tmp : "");
    setenv("TMPDIR", "/nonexistent/dpipe", 1);
    CHECK(dp_feed_spill_add(&s, "x", 1, &err) < 0);
    CHECK(strstr(err.msg, "TMPDIR"));
    dp_feed_spill_release(&s);
    if (tmp) setenv("TMPDIR", keep, 1);
    else unsetenv("TMPDIR");
    data_release(&d);
}
