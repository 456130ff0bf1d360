/* The rule stages against decisions of datatrove 0.10.1: decisions, reasons, C4's text, and words, in shares of agreement.
 *
 * DP_CLEAN_DECISIONS=FILE.jsonl.zst names the file; without it the test is skipped. A line has `id`, `text`, `decisions` = {gopher_rep,
 * gopher_qual, c4, fineweb: ["keep"|"drop", reason]}, `c4_text_sha16` (SHA-256 of C4's text, first 16 digits) and `m` with `words` and
 * `words_crc32` (of the words joined by U+001F). tests/data/clean/rules.jsonl has some such lines in the tree. */
#include "base/docs.h"
#include "clean/words.h"
#include "tests/unit/stage_run.h"

enum { FILTERS = 4, C4 = 2 };
static const struct dp_stage_type *const types[FILTERS] = {&dp_stage_gopher_repetition, &dp_stage_gopher_quality, &dp_stage_c4, &dp_stage_fineweb};
static const char *const keys[FILTERS] = {"gopher_rep", "gopher_qual", "c4", "fineweb"};
static const char *const prefixes[FILTERS] = {"gopher_", "gopher_", "c4_", "fineweb_"};

struct tally {
    int documents, decisions[FILTERS], reasons[FILTERS], c4_kept, c4_same, words, words_known;
};

/* CRC-32 of gzip: polynomial 0xEDB88320, reflected. */
static uint32_t crc32_of(uint32_t crc, const void *p, size_t n)
{
    crc = ~crc;
    for (size_t i = 0; i < n; i++) {
        crc ^= ((const unsigned char *)p)[i];
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (0xEDB88320u & (0u - (crc & 1)));
    }
    return ~crc;
}

static void check_words(struct tally *t, struct dp_words *w, struct dp_span text, const struct dp_json *m)
{
    uint32_t crc = 0;
    w->count = 0;
    CHECK_INT(dp_words_split(w, text), DP_OK);
    for (size_t i = 0; i < w->count; i++) {
        if (i) crc = crc32_of(crc, "\x1f", 1);
        crc = crc32_of(crc, text.ptr + w->word[i].at, w->word[i].len);
    }
    int64_t want = dp_json_int(dp_json_get(m, "words_crc32"), -1);
    t->words_known += want >= 0;
    t->words += want == crc && dp_json_int(dp_json_get(m, "words"), -1) == (int64_t)w->count;
}

static void check_c4_text(struct tally *t, const struct dp_batch *b, const struct dp_json *line)
{
    struct dp_err err;
    char hex[DP_HEX256];
    struct dp_span want = dp_json_str(dp_json_get(line, "c4_text_sha16"));
    CHECK_OK(dp_sha256_span(b->text[0], hex, &err));
    t->c4_kept++;
    t->c4_same += want.len == 16 && memcmp(hex, want.ptr, 16) == 0;
}

static void check_line(struct tally *t, const struct stage_run *st, struct dp_batch *b, const struct dp_json *line)
{
    struct dp_span text = dp_json_str(dp_json_get(line, "text")), id = dp_json_str(dp_json_get(line, "id"));
    t->documents++;
    for (int k = 0; k < FILTERS; k++) {
        const struct dp_json *d = dp_json_get(dp_json_get(line, "decisions"), keys[k]);
        struct dp_span what = dp_json_str(dp_json_at(d, 0)), why = dp_json_str(dp_json_at(d, 1));
        batch_one(b, text);
        stage_go(&st[k], b);
        bool keep = dp_span_is(what, "keep"), ours = b->drop[0] == DP_DROP_KEEP;
        /* Our names have a prefix; some of datatrove's have the same. */
        const char *name = dp_drop_name(b->drop[0]);
        size_t skip = strncmp(name, prefixes[k], strlen(prefixes[k])) == 0 ? strlen(prefixes[k]) : 0;
        bool same = keep == ours && (keep || dp_span_is(why, name) || dp_span_is(why, name + skip));
        t->decisions[k] += keep == ours;
        t->reasons[k] += same;
        if (!same)
            printf("%.*s %s: datatrove %.*s %.*s, dpipe %s %.9g / %.9g\n", DP_SPAN_FMT(id), keys[k], DP_SPAN_FMT(what), DP_SPAN_FMT(why), name, b->value[0], b->limit[0]);
        if (k == C4 && keep && ours) check_c4_text(t, b, line);
    }
}

static double share(int same, int of)
{
    return of ? (double)same / of : 0;
}

TEST(agreement)
{
    const char *path = getenv("DP_CLEAN_DECISIONS");
    if (!path) SKIP("DP_CLEAN_DECISIONS names no file of datatrove's decisions");
    struct dp_err err;
    struct dp_docs_reader *r;
    struct dp_span raw;
    struct dp_batch b = {0};
    struct dp_words w = {0};
    struct stage_run st[FILTERS];
    struct tally t = {0};
    int rc;
    for (int k = 0; k < FILTERS; k++) st[k] = stage_open(types[k], (const char *const[]){"enabled", "true", NULL});
    REQUIRE_OK(dp_docs_open(&r, path, &err));
    while ((rc = dp_docs_next_line(r, &raw, &err)) == DP_OK) {
        struct dp_json *line;
        REQUIRE_OK(dp_json_parse(&line, raw, path, &err));
        check_line(&t, st, &b, line);
        check_words(&t, &w, dp_json_str(dp_json_get(line, "text")), dp_json_get(line, "m"));
        dp_json_free(line);
    }
    CHECK_OK(rc);
    for (int k = 0; k < FILTERS; k++) {
        printf("{\"filter\":\"%s\",\"documents\":%d,\"same_decision\":%.5f,\"same_reason\":%.5f}\n", types[k]->name, t.documents,
               share(t.decisions[k], t.documents), share(t.reasons[k], t.documents));
        CHECK(share(t.decisions[k], t.documents) >= 0.999);
        CHECK(share(t.reasons[k], t.documents) >= 0.997);
        stage_close(&st[k]);
    }
    printf("{\"c4_kept\":%d,\"same_text\":%.5f}\n{\"words_of\":%d,\"same_words\":%.5f}\n", t.c4_kept, share(t.c4_same, t.c4_kept), t.words_known,
           share(t.words, t.words_known));
    CHECK(t.c4_kept > 0 && t.c4_same == t.c4_kept);
    dp_docs_close(r);
    dp_words_release(&w);
    dp_batch_release(&b);
}
