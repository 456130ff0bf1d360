/* Log lines: limits by call site with a summary, members of JSON lines, priorities for the journal. */
#include "base/log.h"
#include "tests/test.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

static char out[1 << 20];

/* What fn writes to stderr. */
static void captured(void (*fn)(void))
{
    FILE *f = tmpfile();
    int err = dup(2);
    fflush(stderr);
    dup2(fileno(f), 2);
    fn();
    dp_log_flush(true);
    dup2(err, 2);
    close(err);
    rewind(f);
    out[fread(out, 1, sizeof out - 1, f)] = 0;
    fclose(f);
}

static size_t count(const char *text)
{
    size_t n = 0;
    for (const char *p = out; (p = strstr(p, text)); p++) n++;
    return n;
}

static void many_of_a_kind(void)
{
    for (int i = 0; i < 1000; i++) dp_log(WARN, "ingest", "file %d is odd", i);
    dp_log(WARN, "ingest", "another kind");
    for (int i = 0; i < 150; i++) dp_log(ERROR, "run", "unit %d failed", i);
    for (int i = 0; i < 50; i++) dp_log(DEBUG, "x", "detail %d", i);
}

TEST(a_site_that_goes_on_and_on_is_summed_up)
{
    dp_log_init(DP_LOG_DEBUG, DP_LOG_TEXT);
    captured(many_of_a_kind);
    CHECK_INT(count("is odd\n"), DP_LOG_BURST + 1); /* the last one is in the summary */
    CHECK_INT(count("dpipe ingest: warning: 980 similar messages suppressed in 0 s, the last: file 999 is odd\n"), 1);
    CHECK_INT(count("another kind"), 1);
    CHECK_INT(count("dpipe run: error: unit"), 5 * DP_LOG_BURST);
    CHECK_INT(count("dpipe run: error: 50 similar messages suppressed in 0 s, the last: unit 149 failed\n"), 1);
    CHECK_INT(count("detail"), 50);
    dp_log_set_burst(0);
    captured(many_of_a_kind);
    CHECK_INT(count("is odd\n"), 1000);
    CHECK_INT(count("suppressed"), 0);
    dp_log_set_burst(DP_LOG_BURST);
}

static void *from_a_thread(void *v)
{
    for (int i = 0; i < 500; i++) dp_log(INFO, "x", "line %d of %d\n", i, *(const int *)v);
    return NULL;
}

static void threads(void)
{
    pthread_t t[4];
    int number[4];
    for (int i = 0; i < 4; i++) {
        number[i] = i;
        if (pthread_create(&t[i], NULL, from_a_thread, &number[i]) != 0) abort();
    }
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
}

TEST(threads_share_a_site)
{
    captured(threads);
    CHECK_INT(count("dpipe x: line "), DP_LOG_BURST);
    CHECK_INT(count("1980 similar messages suppressed"), 1);
    CHECK_INT(count("\n"), DP_LOG_BURST + 1);
}

static void about_places(void)
{
    dp_log_at(WARN, "ingest", (&(struct dp_log_where){.path = "/srv/a.warc.gz", .offset = 4711}), "bad header\nof a record");
    dp_log_at(ERROR, "worker", (&(struct dp_log_where){.unit = "a ... z (3 files)", .path = "/srv/\"b\"", .record = "@12", .offset = -1}), "it died");
    dp_log(INFO, "run", "done");
}

TEST(lines_name_the_place)
{
    dp_log_init(DP_LOG_INFO, DP_LOG_TEXT);
    captured(about_places);
    CHECK_STR(out, "dpipe ingest: warning: /srv/a.warc.gz, offset 4711: bad header of a record\n"
                   "dpipe worker: error: unit a ... z (3 files): /srv/\"b\", record @12: it died\ndpipe run: done\n");
    dp_log_init(DP_LOG_INFO, DP_LOG_JSON);
    captured(about_places);
    CHECK_INT(count("\n"), 3);
    CHECK_INT(count("{\"time\":\"20"), 3);
    CHECK(strstr(out, "\"level\":\"warning\",\"module\":\"ingest\",\"msg\":\"/srv/a.warc.gz, offset 4711: bad header of a record\",\"path\":\"/srv/a.warc.gz\",\"offset\":4711}\n") != NULL);
    CHECK(strstr(out, "\"unit\":\"a ... z (3 files)\",\"path\":\"/srv/\\\"b\\\"\",\"record\":\"@12\"}\n") != NULL);
    CHECK(strstr(out, "\"level\":\"info\",\"module\":\"run\",\"msg\":\"done\"}\n") != NULL);
}

/* stderr is the journal's only while it is the stream that systemd named. */
static enum dp_log_format asked;
static void as_under_systemd(void)
{
    struct stat st;
    char stream[64];
    fstat(2, &st);
    snprintf(stream, sizeof stream, "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    dp_log_init(DP_LOG_INFO, asked);
    about_places();
}

static void led_elsewhere(void)
{
    setenv("JOURNAL_STREAM", "9:99999999", 1);
    dp_log_init(DP_LOG_INFO, DP_LOG_AUTO);
    about_places();
}

TEST(the_journal_gets_priorities)
{
    asked = DP_LOG_AUTO;
    captured(as_under_systemd);
    CHECK(strncmp(out, "<4>dpipe ingest: warning: ", 26) == 0 && strstr(out, "\n<3>dpipe worker") && strstr(out, "\n<6>dpipe run: done\n"));
    asked = DP_LOG_JSON;
    captured(as_under_systemd);
    CHECK(strncmp(out, "<4>{\"time\"", 10) == 0 && strstr(out, "\n<3>{\"time\"") && strstr(out, "\n<6>{\"time\""));
    captured(led_elsewhere);
    CHECK(strncmp(out, "dpipe ingest: warning: ", 23) == 0);
    unsetenv("JOURNAL_STREAM");
    dp_log_init(DP_LOG_INFO, DP_LOG_TEXT);
}
