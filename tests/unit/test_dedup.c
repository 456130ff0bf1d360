/* dp_dedup_run: what is found and what isn't, against theory and against the definition; hostile and full disks. */
#include "tests/unit/dedup_fixture.h"

#include <sys/syscall.h>
#include <time.h>

/* All writes of this program: fail with ENOSPC once `budget` bytes are written, when armed. */
static int64_t write_budget = -1;
ssize_t write(int fd, const void *p, size_t n);
ssize_t write(int fd, const void *p, size_t n)
{
    if (write_budget >= 0 && fd > 2) {
        if ((int64_t)n > write_budget) {
            errno = ENOSPC;
            return -1;
        }
        write_budget -= (int64_t)n;
    }
    return syscall(SYS_write, fd, p, n);
}

static uint64_t rng = 11;
static uint32_t below(uint32_t n)
{
    return (uint32_t)(dp_splitmix64(&rng) % n);
}
static void add_words(struct dp_buf *b, size_t n, uint32_t vocabulary)
{
    for (size_t i = 0; i < n; i++) dp_buf_printf(b, "w%x ", below(vocabulary));
}
static void buf_new(struct dp_buf *b)
{
    dp_buf_init(b, 1 << 24);
    dp_buf_reserve(b, 1);
}

/* Pairs with Jaccard j by construction: a shared beginning, own ends. */
static void add_pairs(struct fixture *f, size_t pairs, double j)
{
    enum { SHINGLES = 400 };
    size_t shared = (size_t)lround(2 * SHINGLES * j / (1 + j));
    struct dp_buf head, doc;
    buf_new(&head);
    buf_new(&doc);
    for (size_t i = 0; i < pairs; i++) {
        dp_buf_clear(&head);
        add_words(&head, shared + 4, UINT32_MAX);
        for (int side = 0; side < 2; side++) {
            dp_buf_clear(&doc);
            dp_buf_add_span(&doc, dp_buf_span(&head));
            add_words(&doc, SHINGLES - shared, UINT32_MAX);
            fixture_text(f, dp_buf_span(&doc), 0);
        }
    }
    dp_buf_release(&head);
    dp_buf_release(&doc);
}

TEST(s_curve_of_14_by_8)
{
    enum { PAIRS = 2000 };
    static const double js[] = {0.5, 0.6, 0.7, 0.75, 0.8, 0.9};
    struct dp_err err;
    struct fixture *f = fixture_new();
    f->o.closure = true; /* band collisions alone: no check of similarity */
    f->o.keep = DP_DEDUP_FIRST;
    for (size_t k = 0; k < 6; k++) {
        fixture_begin(f);
        add_pairs(f, PAIRS, js[k]);
        fixture_end(f);
    }
    REQUIRE_OK(fixture_run(f, 2, &err));
    for (size_t k = 0; k < 6; k++) {
        uint64_t n;
        struct dp_keep_record *r = fixture_all(f, k, &n);
        CHECK_INT(n, 2 * PAIRS);
        size_t found = 0;
        double sum = 0;
        for (size_t i = 0; i < PAIRS && r; i++) {
            CHECK_INT(r[2 * i].decision, DP_KEEP_KEPT);
            if (r[2 * i + 1].decision == DP_KEEP_KEPT) continue;
            CHECK_INT(r[2 * i + 1].representative, k * 2 * PAIRS + 2 * i);
            found++;
            sum += (double)r[2 * i + 1].similarity;
        }
        double j = lround(800 * js[k] / (1 + js[k])) / (800.0 - (double)lround(800 * js[k] / (1 + js[k]))); /* as built */
        double p = 1 - pow(1 - pow(j, 8), 14), sd = sqrt(p * (1 - p) * PAIRS);
        CHECK_NEAR((double)found, p * PAIRS, 3 * sd + 1);
        if (js[k] >= 0.9) CHECK_NEAR(sum / (double)found, js[k], 0.01); /* below, found ones are a biased sample */
        free(r);
    }
    fixture_free(f);
}

TEST(verified_pairs_keep_the_dissimilar)
{
    enum { PAIRS = 500 };
    struct dp_err err;
    struct fixture *f = fixture_new();
    fixture_begin(f);
    add_pairs(f, PAIRS, 0.6);
    add_pairs(f, PAIRS, 0.9);
    fixture_end(f);
    REQUIRE_OK(fixture_run(f, 1, &err));
    uint64_t n;
    struct dp_keep_record *r = fixture_all(f, 0, &n);
    size_t low = 0, high = 0;
    for (uint64_t i = 0; i < n; i++) *(i < 2 * PAIRS ? &low : &high) += r[i].decision != DP_KEEP_KEPT;
    CHECK(low <= 5);            /* J 0.6 estimated >= 0.75: 3.2 sd */
    CHECK(high >= PAIRS * 985 / 1000); /* theory 0.9996 */
    CHECK_INT(f->t.near_dups, low + high);
    free(r);
    fixture_free(f);
}

TEST(cjk_with_one_percent_changed)
{
    enum { PAIRS = 300, CHARS = 600 };
    struct dp_err err;
    struct fixture *f = fixture_new();
    struct dp_buf b[2];
    f->o.keep = DP_DEDUP_FIRST;
    fixture_begin(f);
    buf_new(&b[0]);
    buf_new(&b[1]);
    for (int i = 0; i < PAIRS; i++) {
        dp_buf_clear(&b[0]);
        dp_buf_clear(&b[1]);
        for (int c = 0; c < CHARS; c++) {
            uint32_t cp = 0x4e00 + below(3000), other = below(100) ? cp : 0x4e00 + below(3000);
            for (int side = 0; side < 2; side++) {
                uint32_t v = side ? other : cp;
                dp_buf_printf(&b[side], "%c%c%c", (int)(0xe0 | v >> 12), (int)(0x80 | (v >> 6 & 63)), (int)(0x80 | (v & 63)));
            }
        }
        for (int side = 0; side < 2; side++) fixture_text(f, dp_buf_span(&b[side]), 0);
    }
    fixture_end(f);
    dp_buf_release(&b[0]);
    dp_buf_release(&b[1]);
    REQUIRE_OK(fixture_run(f, 1, &err));
    CHECK(f->t.near_dups + f->t.exact_dups >= PAIRS * 97 / 100);
    CHECK(f->t.near_dups + f->t.exact_dups <= PAIRS);
    fixture_free(f);
}

TEST(small_and_odd_documents)
{
    static const struct {
        const char *text;
        enum dp_keep want;
        uint64_t rep;
    } docs[] = {
        {"", DP_KEEP_KEPT, 0}, {"", DP_KEEP_EXACT, 0}, {" ", DP_KEEP_KEPT, 2}, {"...", DP_KEEP_KEPT, 3}, {"?!", DP_KEEP_KEPT, 4},
        {"...", DP_KEEP_EXACT, 3}, {"yes", DP_KEEP_KEPT, 6}, {"no", DP_KEEP_KEPT, 7}, {"yes", DP_KEEP_EXACT, 6}, {"Yes!", DP_KEEP_NEAR, 6},
        {"one two", DP_KEEP_KEPT, 10}, {"two one", DP_KEEP_KEPT, 11}, {"one two three", DP_KEEP_KEPT, 12},
        {"one two three four five", DP_KEEP_KEPT, 13}, {"one two  three\nfour\tfive", DP_KEEP_NEAR, 13},
        {"\xf0\x9f\x98\x80", DP_KEEP_KEPT, 15}, {"\xf0\x9f\x98\x81", DP_KEEP_KEPT, 16},
    };
    enum { N = sizeof docs / sizeof *docs };
    struct dp_err err;
    struct fixture *f = fixture_new();
    f->o.keep = DP_DEDUP_FIRST;
    fixture_begin(f);
    for (size_t i = 0; i < N; i++) fixture_text(f, dp_span_str(docs[i].text), 0);
    fixture_end(f);
    REQUIRE_OK(fixture_run(f, 1, &err));
    for (size_t i = 0; i < N; i++) {
        struct dp_keep_record r = fixture_get(f, 0, i);
        if (r.decision != docs[i].want || r.representative != docs[i].rep)
            DP_TEST_FAIL("document %zu: %d for %" PRIu64, i, (int)r.decision, r.representative);
    }
    CHECK_INT(f->t.exact_dups, 3);
    CHECK_INT(f->t.near_dups, 2);
    fixture_free(f);
}

/* One shingle each: 32-bit shingles alone would make 4.7 accidental pairs of these; a 64-bit hash makes none. */
TEST(many_tiny_documents_stay)
{
    enum { N = 200000 };
    struct dp_err err;
    struct fixture *f = fixture_new();
    fixture_begin(f);
    for (uint32_t i = 0; i < N; i++) {
        char text[32];
        snprintf(text, sizeof text, "id%u ok", i);
        fixture_text(f, dp_span_str(text), 0);
    }
    fixture_end(f);
    REQUIRE_OK(fixture_run(f, 2, &err));
    CHECK_INT(f->t.near_dups + f->t.exact_dups, 0);
    fixture_free(f);
}

TEST(number_templates_stay_unless_digits_fold)
{
    enum { N = 300 };
    struct dp_err err;
    for (int fold = 0; fold < 2; fold++) {
        struct fixture *f = fixture_new();
        struct dp_buf b;
        f->params.fold_digits = fold;
        buf_new(&b);
        fixture_begin(f);
        for (int i = 0; i < N; i++) {
            dp_buf_clear(&b);
            for (int k = 0; k < 60; k++) dp_buf_printf(&b, "invoice number %u for customer ", below(100000));
            fixture_text(f, dp_buf_span(&b), 0);
        }
        fixture_end(f);
        dp_buf_release(&b);
        REQUIRE_OK(fixture_run(f, 1, &err));
        CHECK_INT(f->t.near_dups, fold ? N - 1 : 0);
        fixture_free(f);
    }
}

TEST(keep_policies)
{
    static const uint64_t kept[] = {[DP_DEDUP_LONGEST] = 1, [DP_DEDUP_FIRST] = 0, [DP_DEDUP_BEST] = 2};
    struct dp_err err;
    struct fixture *f = fixture_new();
    fixture_begin(f);
    fixture_text(f, dp_span_str("a b c d e f g h"), -1);
    fixture_text(f, dp_span_str("a   b   c d e f g h"), (float)NAN);
    fixture_text(f, dp_span_str("a b c d e f, g h"), 0.5f);
    fixture_end(f);
    for (int keep = 0; keep < 3; keep++) {
        f->o.keep = keep;
        REQUIRE_OK(fixture_run(f, 1, &err));
        CHECK_INT(f->t.near_dups, 2);
        CHECK_INT(f->t.clusters, 1);
        CHECK_INT(f->t.largest, 3);
        for (uint64_t i = 0; i < 3; i++) {
            CHECK_INT(fixture_get(f, 0, i).representative, kept[keep]);
            CHECK_NEAR((double)fixture_get(f, 0, i).similarity, 1, 0);
        }
    }
    struct dp_buf b;
    dp_buf_init(&b, 10000);
    CHECK_OK(dp_fs_read(f->report, &b, &err));
    CHECK_STR(b.ptr, "{\"cluster\":2,\"input\":0,\"row\":2,\"size\":3,\"members\":["
                     "{\"doc\":0,\"input\":0,\"row\":0,\"similarity\":1,\"exact\":false},"
                     "{\"doc\":1,\"input\":0,\"row\":1,\"similarity\":1,\"exact\":false}]}\n");
    dp_buf_release(&b);
    fixture_free(f);
}

/* Synthetic signatures: families that drift, so that chains, leaders that fall, and rounds occur. */
static void add_families(struct fixture *f, uint32_t n, uint32_t family, uint32_t drift)
{
    uint32_t slots[112];
    for (uint32_t i = 0; i < n; i++) {
        if (i % family == 0)
            for (int j = 0; j < 112; j++) slots[j] = (uint32_t)dp_splitmix64(&rng);
        else
            for (uint32_t k = below(drift); k--;) slots[below(112)] = (uint32_t)dp_splitmix64(&rng);
        struct dp_sig_record r = {.hash = {dp_splitmix64(&rng), 1}, .length = 100 + below(1000), .score = (float)below(100), .slots = slots};
        fixture_record(f, &r);
    }
}

static uint32_t (*load_slots(struct fixture *f, uint64_t *n, uint32_t *lengths))[112]
{
    struct dp_err err;
    struct dp_sigfile *s;
    if (dp_sigfile_open(&s, f->sig[0], &err) < 0) abort();
    *n = dp_sigfile_count(s);
    uint32_t(*all)[112] = malloc(*n * sizeof *all);
    char *raw = malloc(dp_sigfile_record_bytes(s));
    if (!all || !raw) abort();
    for (uint64_t i = 0; i < *n; i++) {
        struct dp_sig_record r;
        if (dp_sigfile_read(s, i, 1, raw, &err) < 0) abort();
        dp_sigfile_decode(s, raw, &r);
        memcpy(all[i], r.slots, sizeof *all);
        lengths[i] = r.length;
    }
    free(raw);
    dp_sigfile_close(s);
    return all;
}

static bool better(const uint32_t *lengths, uint64_t a, uint64_t b)
{
    return lengths[a] != lengths[b] ? lengths[a] > lengths[b] : a < b;
}

/* The definition, by brute force: no two kept documents share a band and are similar; who is dropped is similar to its
 * representative, which is kept, and nearly always the most similar better one that shares a band. */
TEST(the_definition_holds)
{
    struct dp_err err;
    struct fixture *f = fixture_new();
    fixture_begin(f);
    add_families(f, 1500, 30, 25);
    fixture_end(f);
    REQUIRE_OK(fixture_run(f, 2, &err));
    uint64_t n;
    struct dp_keep_record *r = fixture_all(f, 0, &n);
    static uint32_t lengths[1500];
    uint32_t(*slots)[112] = load_slots(f, &n, lengths);
    size_t dropped = 0, second_best = 0;
    for (uint64_t a = 0; a < n; a++) {
        uint32_t own = 0, best = 0;
        for (uint64_t b = 0; b < n; b++) {
            if (b == a || r[b].decision != DP_KEEP_KEPT) continue;
            uint32_t agree = 0;
            bool band = false;
            for (int j = 0; j < 112; j++) agree += slots[a][j] == slots[b][j];
            for (int j = 0; j < 14; j++) band = band || memcmp(slots[a] + 8 * j, slots[b] + 8 * j, 32) == 0;
            if (r[a].representative == b && agree >= 84) own = agree; /* an heir may share no band */
            if (!band || agree < 84) continue;
            if (r[a].decision == DP_KEEP_KEPT || better(lengths, b, a)) best = agree > best ? agree : best;
        }
        if (r[a].decision == DP_KEEP_KEPT) {
            if (best) DP_TEST_FAIL("%" PRIu64 " is kept beside a similar one", a);
            continue;
        }
        dropped++;
        if (!own) DP_TEST_FAIL("%" PRIu64 " is dropped for one that isn't similar or isn't kept", a);
        CHECK_NEAR((double)r[a].similarity, own / 112.0, 1.01 / 112); /* sketches have 16 bits a slot */
        second_best += own < best; /* the best one stood outside of the leaders */
    }
    CHECK(dropped > 300);
    CHECK(second_best * 50 <= dropped);
    free(slots);
    free(r);
    fixture_free(f);
}

TEST(same_bytes_for_any_threads_and_memory)
{
    struct dp_err err;
    static const struct {
        int threads;
        uint64_t memory;
    } runs[] = {{1, 256 << 20}, {4, 256 << 20}, {1, 1 << 20}, {3, 1 << 20}, {2, 4 << 20}};
    for (int closure = 0; closure < 2; closure++) {
        struct fixture *f = fixture_new();
        uint64_t want = 0;
        f->o.closure = closure;
        for (int i = 0; i < 3; i++) {
            fixture_begin(f);
            add_families(f, i == 1 ? 0 : 12000, i ? 40 : 6000, 12);
            fixture_end(f);
        }
        for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
            f->o.memory_bytes = runs[i].memory;
            REQUIRE_OK(fixture_run(f, runs[i].threads, &err));
            uint64_t got = fixture_digest(f);
            if (i == 0) want = got;
            if (got != want) DP_TEST_FAIL("%d threads with %" PRIu64 " bytes differ", runs[i].threads, runs[i].memory);
        }
        CHECK(f->t.near_dups > 5000);
        fixture_free(f);
    }
}

/* With lengths that differ, the policy decides everything: the order of files changes nobody's fate. */
TEST(order_of_files_does_not_matter)
{
    struct dp_err err;
    struct dp_buf b;
    struct fixture *f = fixture_new();
    buf_new(&b);
    for (int i = 0; i < 2; i++) {
        fixture_begin(f);
        for (int k = 0; k < 400; k++) {
            if (k % 4 == 0) {
                dp_buf_clear(&b);
                add_words(&b, 200, UINT32_MAX);
            }
            dp_buf_printf(&b, "%*s", 1 + 2 * k + i, "");
            fixture_text(f, dp_buf_span(&b), 0);
        }
        fixture_end(f);
    }
    dp_buf_release(&b);
    uint64_t n, m;
    REQUIRE_OK(fixture_run(f, 1, &err));
    struct dp_keep_record *a0 = fixture_all(f, 0, &n), *a1 = fixture_all(f, 1, &m);
    char *t = f->sig[0];
    f->sig[0] = f->sig[1];
    f->sig[1] = t;
    REQUIRE_OK(fixture_run(f, 1, &err));
    struct dp_keep_record *b0 = fixture_all(f, 0, &n), *b1 = fixture_all(f, 1, &m);
    CHECK_INT(f->t.near_dups, 600);
    for (uint64_t i = 0; i < 400; i++) {
        CHECK_INT(a0[i].decision, b1[i].decision);
        CHECK_INT(a1[i].decision, b0[i].decision);
        CHECK_INT(a0[i].representative, b1[i].representative - 400);
    }
    free(a0);
    free(a1);
    free(b0);
    free(b1);
    fixture_free(f);
}

/* Buckets of all documents: equal ones, and ones that share a band but are all different. Quadratic would take minutes. */
TEST(huge_buckets_are_not_quadratic)
{
    enum { N = 60000 };
    struct dp_err err;
    for (int mode = 0; mode < 2; mode++) {
        struct fixture *f = fixture_new();
        uint32_t slots[112];
        for (int j = 0; j < 112; j++) slots[j] = (uint32_t)j;
        fixture_begin(f);
        for (uint32_t i = 0; i < N; i++) {
            if (mode == 0) slots[i % 112] = i; /* drifts by a slot: near-identical neighbours */
            else
                for (int j = 32; j < 112; j++) slots[j] = (uint32_t)dp_splitmix64(&rng); /* four bands the same in all */
            struct dp_sig_record r = {.hash = {i, 7}, .length = 1000, .slots = slots};
            fixture_record(f, &r);
        }
        fixture_end(f);
        clock_t start = clock();
        REQUIRE_OK(fixture_run(f, 1, &err));
        CHECK((double)(clock() - start) / CLOCKS_PER_SEC < 60);
        if (mode == 1) CHECK_INT(f->t.near_dups, 0);
        else CHECK(f->t.near_dups > N * 9 / 10);
        fixture_free(f);
    }
}

TEST(errors_are_clear_and_leave_nothing)
{
    struct dp_err err;
    struct fixture *f = fixture_new();
    fixture_begin(f);
    add_families(f, 20000, 10, 5);
    fixture_end(f);
    f->o.memory_bytes = 1 << 20;
    static const int64_t budgets[] = {0, 100000, 1000000, 6000000, 9000000};
    for (size_t i = 0; i < sizeof budgets / sizeof *budgets; i++) {
        fixture_remove_outputs(f);
        write_budget = budgets[i];
        int rc = fixture_run(f, 1, &err);
        write_budget = -1;
        CHECK_INT(rc, DP_NOSPACE);
        if (rc < 0) CHECK(strstr(err.msg, "No space left") != NULL && strstr(err.msg, f->dir) != NULL);
        CHECK(access(f->keep[0], F_OK) != 0);
        CHECK(access(f->report, F_OK) != 0);
    }
    f->params.seed = 2; /* a second file of other parameters */
    fixture_begin(f);
    add_families(f, 1, 1, 1);
    fixture_end(f);
    CHECK_INT(fixture_run(f, 1, &err), DP_CONFIG);
    CHECK(strstr(err.msg, "in1.sig") != NULL && strstr(err.msg, "seed 2") != NULL);
    f->files = 1;
    f->o.memory_bytes = 64 << 20;
    REQUIRE_OK(fixture_run(f, 1, &err));
    CHECK_INT(dp_dedup_run(&f->o, 1, (const char *const *)f->sig, (const char *const *)f->keep, NULL, f->tmp, NULL, &f->t, &err), DP_IO);
    f->files = 0; /* no inputs at all */
    REQUIRE_OK(fixture_run(f, 1, &err));
    CHECK_INT(f->t.docs, 0);
    fixture_free(f);
}

TEST(exact_and_near_can_be_turned_off)
{
    struct dp_err err;
    struct fixture *f = fixture_new();
    fixture_begin(f);
    fixture_text(f, dp_span_str("a b c d e f"), 0);
    fixture_text(f, dp_span_str("a b c d e f"), 0);
    fixture_text(f, dp_span_str("a b c d e  f"), 0);
    fixture_end(f);
    f->o.near = false;
    REQUIRE_OK(fixture_run(f, 1, &err));
    CHECK_INT(f->t.exact_dups, 1);
    CHECK_INT(f->t.near_dups, 0);
    f->o.near = true;
    f->o.exact = false;
    REQUIRE_OK(fixture_run(f, 1, &err));
    CHECK_INT(f->t.exact_dups, 0);
    CHECK_INT(f->t.near_dups, 2);
    f->o.exact = true; /* the longest is kept; both equal ones follow it */
    REQUIRE_OK(fixture_run(f, 1, &err));
    CHECK_INT(f->t.near_dups, 2);
    CHECK_INT(fixture_get(f, 0, 1).representative, 2);
    fixture_free(f);
}
