/* Documents in quarantine: pages, names cut short, rounds instead of rewritten files, the layout of older versions. */
#include "base/fs.h"
#include "base/workspace.h"
#include "daemon/quarantine.h"
#include "tests/test.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static struct dp_workspace *fresh(struct dp_workspace *w, char dir[64])
{
    struct dp_err err = {0};
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, 64, "%.40s/quarXXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(dir) || dp_workspace_init(dir, dp_span_str("sources: []\n"), &err) < 0 || dp_workspace_open(w, dir, true, &err) < 0) abort();
    return w;
}

static void end(struct dp_workspace *w, const char *dir)
{
    char cmd[128];
    dp_workspace_close(w);
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
    if (system(cmd)) abort();
}

/* Document d of unit u; their keys are spread over the folders. */
static void keys(unsigned u, unsigned d, char unit[DP_HEX128], char id[DP_HEX128])
{
    dp_hash128_hex(dp_hash128(&u, sizeof u), unit);
    u = u * 1000 + d + 7;
    dp_hash128_hex(dp_hash128(&u, sizeof u), id);
}

static int put(struct dp_workspace *w, unsigned u, unsigned d, int64_t round, char *name, struct dp_err *e)
{
    char unit[DP_HEX128], id[DP_HEX128];
    keys(u, d, unit, id);
    struct dp_quarantined q = {.unit = unit, .path = "/a/b", .position = "@1", .url = "", .id = id, .stage = "extract", .reason = "crash", .what = "SIGSEGV", .round = round, .bytes = 4};
    int rc = dp_quarantine_put(w, &q, 2, dp_span_str("byte"), e);
    if (name) snprintf(name, DP_QUARANTINE_NAME, "%s", q.name);
    return rc;
}

struct seen {
    size_t n, retry;
    char last[DP_QUARANTINE_NAME];
    bool ordered;
};
static int see(void *ctx, const struct dp_quarantined *q, struct dp_err *e)
{
    struct seen *s = ctx;
    (void)e;
    s->ordered = (!s->n || strcmp(s->last, q->name) < 0) && (s->ordered || !s->n);
    s->n++;
    s->retry += strcmp(q->state, "retry") == 0;
    snprintf(s->last, sizeof s->last, "%s", q->name);
    return DP_OK;
}

TEST(pages_give_every_entry_once_and_in_order)
{
    struct dp_workspace w;
    struct dp_err err = {0};
    struct seen all = {0};
    char dir[64], after[DP_QUARANTINE_NAME] = "";
    size_t pages = 0, n = 0;
    fresh(&w, dir);
    REQUIRE_OK(dp_quarantine_each(&w, NULL, see, &all, &err));
    CHECK_INT(all.n, 0);
    for (unsigned u = 0; u < 40; u++)
        for (unsigned d = 0; d < 3; d++) REQUIRE_OK(put(&w, u, d, 0, NULL, &err));
    REQUIRE_OK(put(&w, 3, 1, 0, NULL, &err)); /* the same document again */
    for (;; pages++) {
        struct seen s = {0};
        struct dp_quarantine_page p = {.after = *after ? after : NULL, .limit = 7};
        REQUIRE_OK(dp_quarantine_each(&w, &p, see, &s, &err));
        n += s.n;
        if (!s.n) break;
        CHECK(s.ordered && strcmp(s.last, after) > 0);
        memcpy(after, s.last, sizeof after);
    }
    CHECK_INT(n, 120);
    CHECK_INT(pages, 18);
    REQUIRE_OK(dp_quarantine_count(&w, &n, &err));
    CHECK_INT(n, 120);
    end(&w, dir);
}

TEST(names_may_be_cut_short)
{
    struct dp_workspace w;
    struct dp_err err = {0};
    char dir[64], name[DP_QUARANTINE_NAME], found[DP_QUARANTINE_NAME], shorter[20];
    fresh(&w, dir);
    REQUIRE_OK(put(&w, 1, 1, 0, name, &err));
    REQUIRE_OK(put(&w, 1, 2, 0, NULL, &err));
    REQUIRE_OK(put(&w, 2, 1, 0, NULL, &err));
    snprintf(shorter, sizeof shorter, "%s", name);
    REQUIRE_OK(dp_quarantine_find(&w, shorter, found, &err)); /* two digits of the document's part */
    CHECK_STR(found, name);
    shorter[16] = 0; /* the unit alone has two */
    CHECK_INT(dp_quarantine_find(&w, shorter, found, &err), DP_USAGE);
    CHECK_INT(dp_quarantine_find(&w, "", found, &err), DP_USAGE);
    CHECK_INT(dp_quarantine_find(&w, "../lock", found, &err), DP_NOTFOUND);
    const char *evil = "../../lock";
    size_t n;
    CHECK_INT(dp_quarantine_drop(&w, &evil, 1, &n, &err), DP_NOTFOUND);
    end(&w, dir);
}

TEST(a_retry_is_a_round_of_the_unit)
{
    struct dp_workspace w;
    struct dp_err err = {0};
    char dir[64], a[DP_QUARANTINE_NAME], b[DP_QUARANTINE_NAME], unit[DP_HEX128], id[DP_HEX128], *path;
    struct stat before, after;
    struct seen s = {0};
    size_t n;
    fresh(&w, dir);
    REQUIRE_OK(put(&w, 1, 1, 0, a, &err));
    REQUIRE_OK(put(&w, 1, 2, 0, b, &err));
    REQUIRE_OK(put(&w, 2, 1, 0, NULL, &err));
    path = malloc(200);
    snprintf(path, 200, "%s/quarantine/%.2s/%s", dir, a, a);
    REQUIRE(stat(path, &before) == 0);
    const char *names[] = {a};
    REQUIRE_OK(dp_quarantine_retry(&w, names, 1, &n, &err));
    REQUIRE(stat(path, &after) == 0);
    CHECK(before.st_ino == after.st_ino && before.st_ctim.tv_nsec == after.st_ctim.tv_nsec);
    REQUIRE_OK(dp_quarantine_each(&w, NULL, see, &s, &err));
    CHECK_INT(s.retry, 2); /* all documents of the unit are tried again */
    keys(1, 1, unit, id);
    struct dp_rounds *rounds = dp_quarantine_rounds(&w);
    CHECK_INT(dp_quarantine_round(rounds, unit), 1);
    /* Planned with these rounds; b dies again, and meanwhile somebody asks for everything. */
    REQUIRE_OK(put(&w, 1, 2, 1, NULL, &err));
    REQUIRE_OK(dp_quarantine_retry(&w, NULL, 0, &n, &err));
    CHECK_INT(n, 3);
    REQUIRE_OK(dp_quarantine_settle(&w, unit, rounds, &err));
    free(rounds);
    CHECK(access(path, F_OK) != 0);
    s = (struct seen){0};
    REQUIRE_OK(dp_quarantine_each(&w, NULL, see, &s, &err));
    CHECK_INT(s.n, 2);
    CHECK_INT(s.retry, 2);
    REQUIRE_OK(dp_quarantine_drop(&w, NULL, 0, &n, &err));
    CHECK_INT(n, 2);
    REQUIRE_OK(dp_quarantine_count(&w, &n, &err));
    CHECK_INT(n, 0);
    free(path);
    end(&w, dir);
}

TEST(the_layout_of_older_versions_is_read_and_moved)
{
    struct dp_workspace w;
    struct dp_err err = {0};
    char dir[64], unit[DP_HEX128], id[DP_HEX128], name[DP_QUARANTINE_NAME], path[200], text[400];
    struct seen s = {0};
    struct dp_buf b;
    fresh(&w, dir);
    dp_buf_init(&b, 1 << 20);
    for (unsigned i = 0; i < 2; i++) {
        keys(i, 1, unit, id);
        snprintf(name, sizeof name, "%.16s-%s", unit, id);
        snprintf(path, sizeof path, "%s/quarantine", dir);
        mkdir(path, 0777);
        snprintf(path, sizeof path, "%s/quarantine/%s", dir, name);
        snprintf(text, sizeof text, "{\"unit\":\"%s\",\"path\":\"/x\",\"position\":\"@1\",\"url\":\"\",\"id\":\"%s\",\"stage\":\"extract\",\"reason\":\"crash\","
                 "\"what\":\"\",\"state\":\"%s\",\"rows\":1,\"attempts\":2,\"time\":1,\"bytes\":3}\nold", unit, id, i ? "retry" : "held");
        REQUIRE_OK(dp_fs_write_atomic(path, dp_span_str(text), &err));
    }
    snprintf(text, sizeof text, "%s 4\n", unit);
    REQUIRE_OK(dp_catalog_set(w.catalog, "quarantine.rounds", text, &err));
    REQUIRE_OK(dp_quarantine_bytes(&w, name, &b, &err));
    CHECK(dp_span_is(dp_buf_span(&b), "old"));
    REQUIRE_OK(dp_quarantine_migrate(&w, &err));
    CHECK(access(path, F_OK) != 0);
    dp_buf_clear(&b);
    REQUIRE_OK(dp_quarantine_bytes(&w, name, &b, &err));
    CHECK(dp_span_is(dp_buf_span(&b), "old"));
    REQUIRE_OK(dp_quarantine_each(&w, NULL, see, &s, &err));
    CHECK_INT(s.n, 2);
    CHECK_INT(s.retry, 1);
    struct dp_rounds *rounds = dp_quarantine_rounds(&w);
    CHECK_INT(dp_quarantine_round(rounds, unit), 4);
    REQUIRE_OK(dp_quarantine_settle(&w, unit, rounds, &err));
    free(rounds);
    size_t n;
    REQUIRE_OK(dp_quarantine_count(&w, &n, &err));
    CHECK_INT(n, 1);
    dp_buf_release(&b);
    end(&w, dir);
}
