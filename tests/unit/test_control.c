/* What the service hears and says: control requests, HTTP heads, sd_notify, passed sockets, back-off, durations, complete files. */
#include "base/catalog.h"
#include "base/fs.h"
#include "base/opt.h"
#include "daemon/http.h"
#include "daemon/http_head.h"
#include "daemon/notify.h"
#include "daemon/request.h"
#include "daemon/inbox.h"
#include "tests/test.h"

#include <fcntl.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static int parse(const char *line, struct dp_request *r, struct dp_err *err)
{
    return dp_request_parse(r, dp_span_str(line), err);
}

TEST(requests_are_parsed)
{
    struct dp_err err = {0};
    struct dp_request r;
    REQUIRE_OK(parse("{\"op\":\"status\"}", &r, &err));
    CHECK_INT(r.op, DP_OP_STATUS);
    CHECK_INT(r.limit, DP_PAGE_DEFAULT);
    REQUIRE_OK(parse("{\"op\":\"jobs\",\"state\":\"failed\",\"stage\":\"clean\",\"after\":7,\"limit\":1000}", &r, &err));
    CHECK_STR(r.state, "failed");
    CHECK_STR(r.stage, "clean");
    CHECK_INT(r.after, 7);
    REQUIRE_OK(parse("{\"id\":9,\"op\":\"retry\"}", &r, &err));
    CHECK_INT(r.id, 9);
    for (int i = 0; i < DP_OP_COUNT; i++) {
        char line[64];
        snprintf(line, sizeof line, "{\"op\":\"%s\"%s}", dp_op_name((enum dp_op)i), i == DP_OP_LOGLEVEL ? ",\"level\":\"debug\"" : i == DP_OP_QUARANTINE_RETRY || i == DP_OP_QUARANTINE_DROP ? ",\"all\":true"
                 : i == DP_OP_REDO ? ",\"id\":7" : i == DP_OP_FIRST ? ",\"path\":\"a b*\"" : "");
        REQUIRE_OK(parse(line, &r, &err));
        CHECK_INT(r.op, i);
    }
}

TEST(bad_requests_say_why)
{
    static const struct {
        const char *line, *says;
    } bad[] = {{"", "not a JSON"}, {"[]", "one JSON object"}, {"{}", "wants \"op\""}, {"{\"op\":\"stat\"}", "no operation"}, {"{\"op\":7}", "wants \"op\""},
               {"{\"op\":\"status\",\"x\":1}", "takes no"}, {"{\"op\":\"jobs\",\"limit\":1001}", "0 to 1000"}, {"{\"op\":\"jobs\",\"after\":-1}", "whole number"},
               {"{\"op\":\"jobs\",\"state\":\"a state that is much too long\"}", "at most 15 bytes"}, {"{\"op\":\"jobs\",\"state\":\"a b\"}", "printable"},
               {"{\"op\":\"loglevel\"}", "wants \"level\""},
               {"{\"op\":\"quarantine.drop\"}", "wants a \"name\""}, {"{\"op\":\"quarantine.drop\",\"name\":\"00\",\"all\":true}", "wants a \"name\""},
               {"{\"op\":\"quarantine.retry\",\"all\":1}", "true or false"},
               {"{\"op\":\"redo\"}", "job's \"id\""}, {"{\"op\":\"first\"}", "wants a \"path\""}, {"{\"op\":\"rescan\",\"path\":\"a\\nb\"}", "control character"},
               {"{\"op\":\"rescan\",\"path\":\"\"}", "at most 4095"}, {"{\"op\":\"status\",\"op\":\"stop\"}", "not a JSON"}, {"{\"op\":\"jobs\",\"limit\":1.5}", "whole number"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct dp_err err = {0};
        struct dp_request r;
        CHECK_INT(parse(bad[i].line, &r, &err), DP_USAGE);
        if (!strstr(err.msg, bad[i].says)) DP_TEST_FAIL("%s: \"%s\", not \"%s\"", bad[i].line, err.msg, bad[i].says);
    }
}

static int head(const char *text, struct dp_http_head *h)
{
    return dp_http_head_parse(h, dp_span_str(text));
}

TEST(http_heads_are_parsed)
{
    struct dp_http_head h;
    REQUIRE(head("GET /api/v1/jobs?state=failed&limit=5&x=a%20b+c HTTP/1.1\r\nHost: x:1\r\nAuthorization: Bearer  t \r\nX: \xc3\xa9\r\n\r\n", &h) == 0);
    CHECK_INT(h.method, DP_HTTP_GET);
    CHECK_STR(h.path, "/api/v1/jobs");
    CHECK_INT(h.params, 3);
    CHECK_STR(h.param[2].value, "a b c");
    CHECK_STR(h.host, "x:1");
    CHECK_STR(h.authorization, "Bearer  t");
    CHECK(h.keep_alive);
    REQUIRE(head("HEAD / HTTP/1.0\r\n\r\n", &h) == 0);
    CHECK(!h.keep_alive);
    REQUIRE(head("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n", &h) == 0);
    CHECK(!h.keep_alive);
    REQUIRE(head("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n", &h) == 0);
    CHECK_INT(h.body_bytes, 12);
}

TEST(who_asks_is_read_from_a_head)
{
    struct dp_http_head h;
    char text[2000], longer[400];
    REQUIRE(head("POST /a HTTP/1.1\r\nHost: a\r\nOrigin: http://a\r\nSec-Fetch-Site: same-origin\r\nX-DPIPE-ACTION:\r\nLast-Event-ID: 17\r\n"
                 "Accept: text/html\r\nIf-None-Match: \"x\"\r\nAccept: */*;q=0.1\r\nIf-None-Match: W/\"y\"\r\n\r\n", &h) == 0);
    CHECK_INT(h.method, DP_HTTP_POST);
    CHECK_STR(h.origin, "http://a");
    CHECK_STR(h.fetch_site, "same-origin");
    CHECK_STR(h.last_event, "17");
    CHECK_STR(h.accept, "text/html, */*;q=0.1");
    CHECK_STR(h.if_none_match, "\"x\", W/\"y\"");
    CHECK(h.action);
    REQUIRE(head("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &h) == 0);
    CHECK(!h.action && !*h.origin);
    CHECK_INT(head("GET / HTTP/1.1\r\nHost: a\r\nOrigin: http://a\r\nOrigin: http://b\r\n\r\n", &h), 400);
    /* Lists that are too long are no reason to refuse, and count as absent; an origin that is too long is refused. */
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: a\r\nAccept: %s\r\nIf-None-Match: %s\r\n\r\n", longer, longer);
    REQUIRE(head(text, &h) == 0);
    CHECK(!*h.accept && !*h.if_none_match);
    snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: a\r\nOrigin: %s\r\n\r\n", longer);
    CHECK_INT(head(text, &h), 431);
}

TEST(bad_http_heads_are_refused)
{
    static const struct {
        const char *text;
        int status;
    } bad[] = {{"", 400}, {"\r\n", 400}, {"GET / HTTP/1.0\r\n\r", 400}, {"GET / HTTP/1.1\r\n\r\n", 400}, {"GET / HTTP/1.1\nHost: a\n\n", 400}, {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505},
               {"get / HTTP/1.1\r\nHost: a\r\n\r\n", 400}, {"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400}, {"GET /%0a HTTP/1.1\r\nHost: a\r\n\r\n", 400},
               {"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400}, {"GET /%4 HTTP/1.1\r\nHost: a\r\n\r\n", 400}, {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
               {"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400}, {"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400},
               {"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 501}, {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400},
               {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", 400}, {"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", 400}, {"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
               {"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400}, {"GET /?1&2&3&4&5&6&7&8&9 HTTP/1.1\r\nHost: a\r\n\r\n", 400}};
    struct dp_http_head h;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int got = head(bad[i].text, &h);
        if (got != bad[i].status) DP_TEST_FAIL("%d, not %d, for %s", got, bad[i].status, bad[i].text);
    }
}

TEST(secrets_are_compared_whole)
{
    CHECK(dp_secret_equal("0123456789abcdef", "0123456789abcdef"));
    CHECK(!dp_secret_equal("0123456789abcdef", "0123456789abcdeg"));
    CHECK(!dp_secret_equal("0123456789abcdef", "0123456789abcde"));
    CHECK(!dp_secret_equal("", "x"));
}

/* A notify socket, path or abstract. */
static int notify_socket(const char *name)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    size_t n = strlen(name);
    memcpy(a.sun_path, name, n);
    if (*name == '@') a.sun_path[0] = 0;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const struct timeval wait = {5, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    if (bind(fd, (const struct sockaddr *)&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (*name == '/'))) != 0) abort();
    return fd;
}

TEST(notify_reaches_both_kinds_of_address)
{
    char names[2][200], text[300];
    snprintf(names[0], sizeof names[0], "%s/n", dp_test_tmpdir());
    snprintf(names[1], sizeof names[1], "@dpipe-test-%ld", (long)getpid());
    for (int i = 0; i < 2; i++) {
        int fd = notify_socket(names[i]);
        setenv("NOTIFY_SOCKET", names[i], 1);
        setenv("WATCHDOG_USEC", "3000000", 1);
        unsetenv("WATCHDOG_PID");
        dp_notify_init();
        CHECK(dp_notify_wanted());
        CHECK(!getenv("NOTIFY_SOCKET"));
        CHECK_NEAR(dp_notify_watchdog_s(), 3, 1e-9);
        dp_notify("READY=1\nSTATUS=%s", "up");
        ssize_t n = recv(fd, text, sizeof text - 1, 0);
        REQUIRE(n > 0);
        text[n] = 0;
        CHECK_STR(text, "READY=1\nSTATUS=up");
        dp_notify_reloading();
        n = recv(fd, text, sizeof text - 1, 0);
        REQUIRE(n > 0);
        text[n] = 0;
        CHECK(strncmp(text, "RELOADING=1\nMONOTONIC_USEC=", 27) == 0 && strtoll(text + 27, NULL, 10) > 0);
        close(fd);
    }
    setenv("WATCHDOG_USEC", "3000000", 1);
    setenv("WATCHDOG_PID", "1", 1);
    dp_notify_init();
    CHECK(!dp_notify_wanted());
    CHECK_NEAR(dp_notify_watchdog_s(), 0, 0);
    dp_notify("nobody hears");
}

TEST(passed_sockets_are_for_this_process)
{
    CHECK_INT(dp_listen_parse("77", "2", "control:http", 77), 2);
    CHECK_INT(dp_listen_parse("78", "2", "control:http", 77), 0);
    CHECK_INT(dp_listen_parse("77", "x", NULL, 77), 0);
    CHECK_INT(dp_listen_parse("77", "-1", NULL, 77), 0);
    CHECK_INT(dp_listen_parse("77", "1000", "a", 77), 16);
    CHECK_INT(dp_listen_parse(NULL, NULL, NULL, 77), 0);
    CHECK_INT(dp_listen_take("control", true), -1);
}

TEST(durations)
{
    static const struct dp_opt row = {.name = "t", .type = DP_OPT_TIME, .offset = 0, .min = 0, .max = 1e9};
    static const struct {
        const char *text;
        double s;
    } good[] = {{"0", 0}, {"5", 5}, {"500ms", 0.5}, {"10s", 10}, {"1.5m", 90}, {"2h", 7200}, {"1d", 86400}};
    struct dp_err err = {0};
    double v;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        REQUIRE_OK(dp_opt_set(&row, &v, dp_span_str(good[i].text), "t", &err));
        CHECK_NEAR(v, good[i].s, 1e-9);
    }
    static const char *const bad[] = {"", "x", "5 weeks", "-1", "1e300d", "nan"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) CHECK_INT(dp_opt_set(&row, &v, dp_span_str(bad[i]), "t", &err), DP_USAGE);
}

TEST(back_off_doubles_and_ends)
{
    struct dp_catalog_retry r = {10, 100, 1};
    CHECK_INT(dp_catalog_delay_s(&r, 0), 10);
    CHECK_INT(dp_catalog_delay_s(&r, 1), 20);
    CHECK_INT(dp_catalog_delay_s(&r, 3), 80);
    CHECK_INT(dp_catalog_delay_s(&r, 4), 100);
    CHECK_INT(dp_catalog_delay_s(&r, INT64_MAX), 100);
    r.jitter = 0;
    CHECK_INT(dp_catalog_delay_s(&r, 0), 5);
}

TEST(failures_are_kept_and_forgotten)
{
    struct dp_err err = {0};
    struct dp_catalog *c;
    struct dp_catalog_retry retry = {100, 1000, 1};
    char path[600];
    int64_t unit, epoch, failures, at;
    int changed;
    snprintf(path, sizeof path, "%s/catalog.db", dp_test_tmpdir());
    REQUIRE_OK(dp_catalog_open(&c, path, &err));
    for (int i = 1; i <= 3; i++) {
        REQUIRE_OK(dp_catalog_claim(c, "clean", "k", "what", "me", 60, &unit, &epoch, &err));
        REQUIRE_OK(dp_catalog_failed_for(c, unit, epoch, "no", &retry, &err));
        REQUIRE_OK(dp_catalog_failures(c, "clean", "k", &failures, &at, &err));
        CHECK_INT(failures, i);
        CHECK(at >= (int64_t)time(NULL) + 90 * i);
    }
    REQUIRE_OK(dp_catalog_claim(c, "clean", "k", "what", "me", 60, &unit, &epoch, &err));
    REQUIRE_OK(dp_catalog_give_back(c, unit, epoch, &err));
    REQUIRE_OK(dp_catalog_retry(c, 0, &changed, &err));
    CHECK_INT(changed, 0); /* given back it is ready, not failed */
    REQUIRE_OK(dp_catalog_claim(c, "clean", "k", "what", "me", 60, &unit, &epoch, &err));
    REQUIRE_OK(dp_catalog_failed(c, unit, epoch, "no", &err));
    REQUIRE_OK(dp_catalog_retry(c, unit, &changed, &err));
    CHECK_INT(changed, 1);
    REQUIRE_OK(dp_catalog_failures(c, "clean", "k", &failures, &at, &err));
    CHECK_INT(failures, 0);
    dp_catalog_close(c);
}

/* --- complete files --- */

static bool accepted(struct dp_inbox *w, const char *dir, const char *name)
{
    char path[700];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return stat(path, &st) == 0 && dp_inbox_accept(w, path, name, &st);
}

static void sleep_ms(long ms)
{
    const struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

TEST(a_file_is_taken_when_it_is_complete)
{
    struct dp_err err = {0};
    struct dp_inbox *w;
    char *dir = dp_test_tmpdir(), path[700], *p = NULL, *r = NULL;
    struct dp_strings roots = {&dir, 1};
    REQUIRE_OK(dp_inbox_open(&w, &err));
    if (dp_inbox_fd(w) < 0) {
        dp_inbox_close(w);
        dp_test_skip = "no inotify here";
        return;
    }
    dp_inbox_set(w, 0.3, 16);
    REQUIRE_OK(dp_inbox_roots(w, &roots, &err));
    snprintf(path, sizeof path, "%s/slow.txt", dir);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    dp_test_write(dir, "whole.txt", "text");
    dp_test_write(dir, ".hidden", "text");
    CHECK(dp_inbox_read(w));
    CHECK(!accepted(w, dir, "whole.txt")); /* too young */
    CHECK(!accepted(w, dir, "slow.txt"));
    CHECK(dp_inbox_wait(w) >= 0 && dp_inbox_wait(w) < 0.5);
    sleep_ms(400);
    REQUIRE(dp_inbox_due(w, &p, &r));
    CHECK_STR(r, "whole.txt");
    free(p);
    free(r);
    CHECK(!dp_inbox_due(w, &p, &r));
    CHECK(accepted(w, dir, "whole.txt"));
    CHECK(!accepted(w, dir, "slow.txt")); /* quiet, but still open */
    if (write(fd, "x", 1) != 1) abort();
    close(fd);
    dp_inbox_read(w);
    sleep_ms(400);
    CHECK(accepted(w, dir, "slow.txt"));
    snprintf(path, sizeof path, "%s/sub", dir);
    REQUIRE_OK(dp_fs_mkdirs(path, &err));
    dp_inbox_read(w);
    CHECK(!dp_inbox_rescan(w));
    sleep_ms(400);
    CHECK(dp_inbox_rescan(w));
    size_t folders, beyond;
    dp_inbox_count(w, &folders, &beyond);
    CHECK_INT(folders, 2);
    dp_inbox_set(w, 0.3, 1);
    dp_test_write(path, "x.txt", "t");
    dp_inbox_read(w);
    sleep_ms(400);
    REQUIRE(dp_inbox_due(w, &p, &r));
    if (strcmp(r, "slow.txt") == 0) { /* its close came first */
        free(p);
        free(r);
        REQUIRE(dp_inbox_due(w, &p, &r));
    }
    CHECK_STR(r, "sub/x.txt");
    free(p);
    free(r);
    dp_inbox_close(w);
}

/* Of roots inside each other the outer one names the files, in whatever order they stand. */
TEST(nested_roots_give_one_name)
{
    struct dp_err err = {0};
    for (int order = 0; order < 2; order++) {
        struct dp_inbox *w;
        char *outer = dp_test_tmpdir(), inner[700], *p = NULL, *r = NULL;
        snprintf(inner, sizeof inner, "%s/in", outer);
        REQUIRE_OK(dp_fs_mkdirs(inner, &err));
        char *list[2] = {order ? inner : outer, order ? outer : inner};
        struct dp_strings roots = {list, 2};
        REQUIRE_OK(dp_inbox_open(&w, &err));
        if (dp_inbox_fd(w) < 0) {
            dp_inbox_close(w);
            dp_test_skip = "no inotify here";
            return;
        }
        dp_inbox_set(w, 0, 16);
        REQUIRE_OK(dp_inbox_roots(w, &roots, &err));
        dp_test_write(inner, "a.txt", "text");
        dp_inbox_read(w);
        REQUIRE(dp_inbox_due(w, &p, &r));
        CHECK_STR(r, "in/a.txt");
        free(p);
        free(r);
        dp_inbox_close(w);
    }
}
