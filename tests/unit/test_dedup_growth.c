/* dp_dedup_append: new documents behind decided ones, against the definition in dedup.h; whatever threads, memory and hostile input. */
#include "tests/unit/dedup_fixture.h"

enum { SLOTS = 112, ROWS = 8, BANDS = 14 };

struct doc {
    uint32_t slots[SLOTS];
    uint64_t text;
    uint32_t length;
};

static uint64_t rng = 5;
static uint32_t below(uint32_t n)
{
    return (uint32_t)(dp_splitmix64(&rng) % n);
}

static struct doc doc_new(uint64_t text, uint32_t length)
{
    struct doc d = {.text = text, .length = length};
    for (int i = 0; i < SLOTS; i++) d.slots[i] = (uint32_t)dp_splitmix64(&rng);
    return d;
}
/* The same but for the slots [from, from + n). */
static struct doc doc_like(const struct doc *o, uint64_t text, int from, int n)
{
    struct doc d = *o;
    d.text = text;
    for (int i = from; i < from + n; i++) d.slots[i] = (uint32_t)dp_splitmix64(&rng);
    return d;
}
static void put(struct fixture *f, const struct doc *d)
{
    struct dp_sig_record r = {.hash = dp_hash128(&d->text, sizeof d->text), .length = d->length, .score = (float)d->length, .slots = d->slots};
    fixture_record(f, &r);
}
/* The docs as one more input, and the decision on it with all before it frozen. */
static int grow(struct fixture *f, const struct doc *d, size_t n, int threads, struct dp_err *e)
{
    fixture_begin(f);
    for (size_t i = 0; i < n; i++) put(f, &d[i]);
    fixture_end(f);
    f->frozen = f->files - 1;
    return fixture_run(f, threads, e);
}
static void check_is(struct fixture *f, size_t file, uint64_t row, enum dp_keep want, uint64_t rep)
{
    struct dp_keep_record r = fixture_get(f, file, row);
    CHECK_INT(r.decision, want);
    CHECK_INT(r.representative, rep);
}

TEST(chains_do_not_form_over_growth)
{
    struct dp_err err = {0};
    struct fixture *f = fixture_new();
    f->o.similarity = 0.85;
    struct doc a = doc_new(1, 900), c = doc_like(&a, 2, 0, 12), b = doc_like(&c, 3, 16, 12), late = doc_like(&c, 4, 28, 12);
    struct doc first[] = {a, c};
    REQUIRE_OK(grow(f, first, 2, 1, &err));
    check_is(f, 0, 1, DP_KEEP_NEAR, 0);
    REQUIRE_OK(grow(f, &b, 1, 1, &err)); /* like c, which was dropped; not like a */
    check_is(f, 1, 0, DP_KEEP_KEPT, 2);
    CHECK_INT(f->t.docs, 1);
    REQUIRE_OK(grow(f, &late, 1, 1, &err));
    check_is(f, 2, 0, DP_KEEP_KEPT, 3);
    struct doc again = doc_like(&b, 5, 40, 4); /* like b, which was kept */
    REQUIRE_OK(grow(f, &again, 1, 1, &err));
    check_is(f, 3, 0, DP_KEEP_NEAR, 2);
    fixture_free(f);
}

TEST(a_chain_that_comes_late_is_decided_as_always)
{
    struct dp_err err = {0};
    struct fixture *f = fixture_new();
    f->o.similarity = 0.85;
    f->o.keep = DP_DEDUP_FIRST;
    struct doc a = doc_new(1, 900), c = doc_like(&a, 2, 0, 12), b = doc_like(&c, 3, 16, 12), chain[] = {c, b};
    REQUIRE_OK(grow(f, &a, 1, 1, &err));
    REQUIRE_OK(grow(f, chain, 2, 1, &err));
    check_is(f, 1, 0, DP_KEEP_NEAR, 0);
    check_is(f, 1, 1, DP_KEEP_KEPT, 2);
    fixture_free(f);
}

TEST(what_was_kept_stays_though_a_better_one_comes)
{
    struct dp_err err = {0};
    for (int keep = DP_DEDUP_LONGEST; keep <= DP_DEDUP_BEST; keep++) {
        struct fixture *f = fixture_new();
        f->o.keep = keep;
        struct doc a = doc_new(1, 100), longer = doc_like(&a, 2, 0, 8), longest = doc_like(&a, 3, 8, 8), both[] = {longer, longest};
        longer.length = both[0].length = 5000;
        longest.length = both[1].length = UINT32_MAX; /* the best there is */
        REQUIRE_OK(grow(f, &a, 1, 1, &err));
        REQUIRE_OK(grow(f, both, 2, 1, &err));
        check_is(f, 1, 0, DP_KEEP_NEAR, 0);
        check_is(f, 1, 1, DP_KEEP_NEAR, 0);
        fixture_free(f);
    }
}

TEST(the_text_of_an_old_one_follows_it)
{
    struct dp_err err = {0};
    struct fixture *f = fixture_new();
    struct doc a = doc_new(1, 900), near = doc_like(&a, 2, 0, 8), other = doc_new(7, 900);
    struct doc first[] = {a, near, near, a, other}, second[] = {near, a, other, other};
    REQUIRE_OK(grow(f, first, 5, 1, &err));
    REQUIRE_OK(grow(f, second, 4, 1, &err));
    check_is(f, 1, 0, DP_KEEP_NEAR, 0); /* of a text that was dropped as near */
    CHECK(fixture_get(f, 1, 0).similarity < 1);
    check_is(f, 1, 1, DP_KEEP_EXACT, 0);
    check_is(f, 1, 2, DP_KEEP_EXACT, 4);
    check_is(f, 1, 3, DP_KEEP_EXACT, 4);
    CHECK_INT(f->t.exact_dups, 3);
    CHECK_INT(f->t.near_dups, 1);
    CHECK_INT(f->t.clusters, 2);
    fixture_free(f);
}

TEST(closure_joins_new_ones_to_one_old_cluster)
{
    struct dp_err err = {0};
    struct fixture *f = fixture_new();
    f->o.closure = true;
    struct doc a = doc_new(1, 10), a2 = doc_like(&a, 2, 0, SLOTS - ROWS), z = doc_new(3, 10), old[] = {a, a2, z};
    REQUIRE_OK(grow(f, old, 3, 1, &err));
    check_is(f, 0, 1, DP_KEEP_NEAR, 0);
    struct doc bridge = doc_like(&a2, 4, 32, SLOTS - 32); /* meets a2 alone, which was dropped; and z */
    memcpy(bridge.slots + 32, z.slots + 32, ROWS * sizeof *z.slots);
    struct doc far = doc_new(5, 10); /* meets the bridge alone */
    memcpy(far.slots + 64, bridge.slots + 64, ROWS * sizeof *far.slots);
    struct doc fresh[] = {far, bridge, doc_new(6, 10)};
    REQUIRE_OK(grow(f, fresh, 3, 2, &err));
    CHECK_INT(fixture_get(f, 1, 0).decision, DP_KEEP_NEAR);
    CHECK_INT(fixture_get(f, 1, 1).decision, DP_KEEP_NEAR);
    CHECK_INT(fixture_get(f, 1, 0).representative, fixture_get(f, 1, 1).representative);
    CHECK(fixture_get(f, 1, 0).representative == 0 || fixture_get(f, 1, 0).representative == 2);
    check_is(f, 1, 2, DP_KEEP_KEPT, 5);
    fixture_free(f);
}

/* ---- many generations against the definition ---- */

enum { GENERATIONS = 8, EACH = 400, ALL = GENERATIONS * EACH };

static bool share_band(const struct doc *a, const struct doc *b)
{
    for (int i = 0; i < BANDS; i++)
        if (memcmp(a->slots + i * ROWS, b->slots + i * ROWS, ROWS * sizeof *a->slots) == 0) return true;
    return false;
}
static int agree(const struct doc *a, const struct doc *b)
{
    int n = 0;
    for (int i = 0; i < SLOTS; i++) n += a->slots[i] == b->slots[i];
    return n;
}

static struct doc *families(void)
{
    struct doc *d = calloc(ALL, sizeof *d);
    if (!d) abort();
    rng = 77;
    for (uint64_t i = 0; i < ALL; i++) {
        uint32_t r = below(10), at = i ? below((uint32_t)i) : 0;
        if (!i || r < 3) d[i] = doc_new(i, below(2000));
        else if (r < 5) d[i] = d[at];
        else d[i] = doc_like(&d[at], i, (int)below(90), (int)below(22) + 1);
        d[i].length = below(2000);
    }
    return d;
}

static uint64_t generations(const struct doc *d, int threads, uint64_t memory, struct dp_keep_record *out)
{
    struct dp_err err = {0};
    struct fixture *f = fixture_new();
    uint64_t digest = 0;
    f->o.memory_bytes = memory;
    for (size_t g = 0; g < GENERATIONS; g++) {
        uint64_t n;
        CHECK_OK(grow(f, d + g * EACH, EACH, threads, &err));
        digest = dp_hash64(&digest, sizeof digest, fixture_digest(f));
        struct dp_keep_record *r = fixture_all(f, g, &n);
        CHECK_INT(n, EACH);
        if (r && n == EACH) memcpy(out + g * EACH, r, EACH * sizeof *r);
        free(r);
    }
    fixture_free(f);
    return digest;
}

TEST(many_generations_obey_the_definition)
{
    struct doc *d = families();
    struct dp_keep_record *r = calloc(ALL, sizeof *r);
    size_t kept = 0, exact = 0, near = 0;
    if (!r) abort();
    generations(d, 2, 256 << 20, r);
    for (size_t i = 0; i < ALL; i++) {
        const struct dp_keep_record *rep = &r[r[i].representative];
        size_t g = i / EACH * EACH;
        CHECK(r[i].representative < g + EACH); /* nothing hangs on what came later */
        CHECK_INT(rep->decision, DP_KEEP_KEPT);
        if (r[i].decision == DP_KEEP_EXACT) CHECK_INT(d[i].text, d[r[i].representative].text);
        if (r[i].decision == DP_KEEP_NEAR) CHECK(agree(&d[i], &d[r[i].representative]) >= 84);
        kept += r[i].decision == DP_KEEP_KEPT;
        exact += r[i].decision == DP_KEEP_EXACT;
        near += r[i].decision == DP_KEEP_NEAR;
        for (size_t k = 0; r[i].decision == DP_KEEP_KEPT && k < g + EACH; k++) {
            if (k == i || r[k].decision != DP_KEEP_KEPT) continue;
            if (share_band(&d[i], &d[k]) && agree(&d[i], &d[k]) >= 84) DP_TEST_FAIL("%zu and %zu are both kept", i, k);
            CHECK(d[k].text != d[i].text);
        }
    }
    CHECK(kept > ALL / 4);
    CHECK(exact > ALL / 20);
    CHECK(near > ALL / 20);
    free(d);
    free(r);
}

TEST(the_same_whatever_threads_and_memory)
{
    struct doc *d = families();
    struct dp_keep_record *r = calloc(ALL, sizeof *r), *again = calloc(ALL, sizeof *r);
    if (!r || !again) abort();
    uint64_t want = generations(d, 1, 256 << 20, r);
    for (int threads = 1; threads <= 4; threads++) {
        CHECK_INT(generations(d, threads, 4 << 20, again), want);
        CHECK(memcmp(r, again, ALL * sizeof *r) == 0);
    }
    CHECK_INT(generations(d, 3, 64 << 10, again), want); /* sketches and states in files, a filter of 1,024 bits a lane */
    free(d);
    free(r);
    free(again);
}

TEST(a_bucket_of_thousands_of_kept_ones_stays_cheap)
{
    enum { N = 20000 };
    struct dp_err err = {0};
    struct fixture *f = fixture_new();
    struct doc one = doc_new(0, 100), *d = calloc(N, sizeof *d);
    if (!d) abort();
    for (uint64_t i = 0; i < N; i++) {
        d[i] = doc_new(i + 1, 100);
        memcpy(d[i].slots, one.slots, ROWS * sizeof *one.slots); /* one band in common, as boilerplate gives */
    }
    REQUIRE_OK(grow(f, d, N, 2, &err));
    CHECK_INT(f->t.near_dups, 0);
    struct doc late[] = {doc_like(&d[3], N + 1, 20, 10), doc_like(&d[N - 5], N + 2, 20, 10), doc_new(N + 3, 1)};
    memcpy(late[2].slots, one.slots, ROWS * sizeof *one.slots);
    REQUIRE_OK(grow(f, late, 3, 2, &err));
    check_is(f, 1, 0, DP_KEEP_NEAR, 3);
    check_is(f, 1, 1, DP_KEEP_NEAR, N - 5);
    check_is(f, 1, 2, DP_KEEP_KEPT, N + 2);
    free(d);
    fixture_free(f);
}

/* ---- refused ---- */

static void forge(const char *path, uint64_t first, const struct dp_keep_record *r, size_t n)
{
    struct dp_err err = {0};
    struct dp_out *out;
    struct dp_keepfile_writer *w;
    unlink(path);
    CHECK_OK(dp_out_open(&out, path, false, &err));
    CHECK_OK(dp_keepfile_writer_open(&w, out, first, &err));
    for (size_t i = 0; i < n; i++) CHECK_OK(dp_keepfile_writer_add(w, &r[i], &err));
    CHECK_OK(dp_keepfile_writer_finish(w, &err));
    CHECK_OK(dp_out_finish(out, NULL, &err));
    dp_keepfile_writer_close(w);
    dp_out_close(out);
}

TEST(keep_files_of_something_else_are_refused)
{
    struct dp_err err = {0};
    struct fixture *f = fixture_new();
    struct doc two[] = {doc_new(1, 1), doc_new(2, 1)};
    REQUIRE_OK(grow(f, two, 2, 1, &err));
    REQUIRE_OK(grow(f, two, 1, 1, &err));
    const struct {
        uint64_t first;
        size_t n;
        struct dp_keep_record r[3];
    } bad[] = {{7, 2, {{DP_KEEP_KEPT, 1, 0}, {DP_KEEP_KEPT, 1, 1}}},                       /* numbered from elsewhere */
               {0, 1, {{DP_KEEP_KEPT, 1, 0}}},                                            /* one too few */
               {0, 3, {{DP_KEEP_KEPT, 1, 0}, {DP_KEEP_KEPT, 1, 1}, {DP_KEEP_KEPT, 1, 2}}}, /* and too many */
               {0, 2, {{DP_KEEP_KEPT, 1, 0}, {DP_KEEP_NEAR, 1, UINT64_C(1) << 40}}},       /* stands for by nobody */
               {0, 2, {{DP_KEEP_KEPT, 1, 0}, {DP_KEEP_NEAR, 1, 2}}},                       /* by a new one */
               {0, 2, {{DP_KEEP_NEAR, 1, 1}, {DP_KEEP_NEAR, 1, 0}}},                       /* by a dropped one */
               {0, 2, {{DP_KEEP_KEPT, 1, 1}, {DP_KEEP_KEPT, 1, 1}}}};                      /* kept, but for another */
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        forge(f->keep[0], bad[i].first, bad[i].r, bad[i].n);
        CHECK_INT(fixture_run(f, 1, &err), DP_CORRUPT);
        CHECK(strstr(err.msg, "run dedup") != NULL);
        CHECK(access(f->keep[0], F_OK) == 0); /* theirs stays */
        CHECK(access(f->keep[1], F_OK) != 0);
    }
    unlink(f->keep[0]);
    CHECK_INT(fixture_run(f, 1, &err), DP_NOTFOUND);
    fixture_free(f);
}

TEST(nothing_new_and_nothing_old)
{
    struct dp_err err = {0};
    struct fixture *f = fixture_new();
    struct doc a = doc_new(1, 1);
    REQUIRE_OK(grow(f, NULL, 0, 1, &err));
    REQUIRE_OK(grow(f, &a, 1, 1, &err));
    check_is(f, 1, 0, DP_KEEP_KEPT, 0);
    REQUIRE_OK(grow(f, NULL, 0, 1, &err));
    CHECK_INT(f->t.docs, 0);
    REQUIRE_OK(grow(f, &a, 1, 1, &err));
    check_is(f, 3, 0, DP_KEEP_EXACT, 0);
    fixture_free(f);
}
