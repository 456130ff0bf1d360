/* The API's description is true: every path that is served is described with its parameters and the other way round, and what a service at work
 * answers has the described members and no others. The checker knows the part of JSON Schema that the description uses. */
#include "daemon/serve_internal.h"
#include "tests/unit/http_service.h"

static struct dp_json *description(void)
{
    struct dp_json *v = NULL;
    struct dp_err err = {0};
    const struct dp_page_file *f = dp_page_file("/api/v1/openapi.json");
    if (!f || dp_json_parse(&v, f->body, "openapi.json", &err) < 0) DP_TEST_FAIL("openapi.json: %s", err.msg);
    return v;
}

static struct dp_json *at(struct dp_json *root, const char *pointer)
{
    char part[128];
    while (root && *pointer) {
        size_t n = strcspn(pointer, "|");
        snprintf(part, sizeof part, "%.*s", (int)n, pointer);
        root = dp_json_get(root, part);
        pointer += n + (pointer[n] == '|');
    }
    return root;
}

/* {"$ref": "#/a/b/c"} is what stands there. */
static struct dp_json *resolve(struct dp_json *doc, struct dp_json *v)
{
    struct dp_span r = dp_json_str(dp_json_get(v, "$ref"));
    if (!r.ptr) return v;
    char path[200];
    snprintf(path, sizeof path, "%.*s", (int)(r.len - 2), r.ptr + 2);
    for (char *c = path; *c; c++)
        if (*c == '/') *c = '|';
    return at(doc, path);
}

static bool has_text(const struct dp_json *list, const char *text)
{
    for (size_t i = 0; i < dp_json_count(list); i++)
        if (dp_span_is(dp_json_str(dp_json_at(list, i)), text)) return true;
    return false;
}

static const char *kind_name(const struct dp_json *v)
{
    switch (dp_json_kind(v)) {
    case DP_JSON_NULL: return "null";
    case DP_JSON_BOOL: return "boolean";
    case DP_JSON_INT: return "integer";
    case DP_JSON_REAL: return "number";
    case DP_JSON_STRING: return "string";
    case DP_JSON_ARRAY: return "array";
    case DP_JSON_OBJECT: return "object";
    }
    return "?";
}

static bool type_fits(const struct dp_json *type, const char *kind)
{
    bool number = strcmp(kind, "integer") == 0; /* every integer is a number */
    if (dp_json_kind(type) == DP_JSON_STRING) return dp_span_is(dp_json_str(type), kind) || (number && dp_span_is(dp_json_str(type), "number"));
    return has_text(type, kind) || (number && has_text(type, "number"));
}

static void check_value(struct dp_json *doc, struct dp_json *schema, const struct dp_json *v, const char *where);

static void check_object(struct dp_json *doc, struct dp_json *schema, const struct dp_json *v, const char *where)
{
    struct dp_json *properties = dp_json_get(schema, "properties"), *more = dp_json_get(schema, "additionalProperties"), *required = dp_json_get(schema, "required"), *x;
    const char *key;
    char text[300];
    for (size_t i = 0; i < dp_json_count(required); i++) {
        snprintf(text, sizeof text, "%.*s", (int)dp_json_str(dp_json_at(required, i)).len, dp_json_str(dp_json_at(required, i)).ptr);
        if (!dp_json_get(v, text)) DP_TEST_FAIL("%s: %s is described as always there, and isn't", where, text);
    }
    for (void *it = dp_json_next(v, NULL, &key, &x); it; it = dp_json_next(v, it, &key, &x)) {
        struct dp_json *p = dp_json_get(properties, key);
        snprintf(text, sizeof text, "%s.%s", where, key);
        if (p) check_value(doc, p, x, text);
        else if (dp_json_kind(more) == DP_JSON_OBJECT) check_value(doc, more, x, text);
        else if (more && dp_json_kind(more) == DP_JSON_BOOL && !dp_json_bool(more, true)) DP_TEST_FAIL("%s isn't described", text);
    }
}

static void check_value(struct dp_json *doc, struct dp_json *schema, const struct dp_json *v, const char *where)
{
    char text[300];
    schema = resolve(doc, schema);
    const struct dp_json *type = dp_json_get(schema, "type"), *choices = dp_json_get(schema, "enum");
    if (!schema || !type) {
        DP_TEST_FAIL("%s: no type is described", where);
        return;
    }
    if (!type_fits(type, kind_name(v))) {
        DP_TEST_FAIL("%s: it is a %s, which isn't described", where, kind_name(v));
        return;
    }
    if (choices) {
        snprintf(text, sizeof text, "%.*s", (int)dp_json_str(v).len, dp_json_str(v).ptr);
        if (!has_text(choices, text)) DP_TEST_FAIL("%s: \"%s\" isn't described", where, text);
    }
    if (dp_json_kind(v) == DP_JSON_OBJECT) check_object(doc, schema, v, where);
    for (size_t i = 0; dp_json_kind(v) == DP_JSON_ARRAY && i < dp_json_count(v); i++) {
        snprintf(text, sizeof text, "%s[%zu]", where, i);
        check_value(doc, dp_json_get(schema, "items"), dp_json_at(v, i), text);
    }
}

TEST(every_path_is_described_and_nothing_else)
{
    struct dp_json *doc = description(), *paths = dp_json_get(doc, "paths"), *item;
    const char *path;
    REQUIRE(paths);
    for (size_t i = 0; i < dp_routes_count; i++) {
        const struct dp_route *r = &dp_routes[i];
        struct dp_json *op = dp_json_get(dp_json_get(paths, r->path), r->post ? "post" : "get"), *params = dp_json_get(op, "parameters");
        if (!op) {
            DP_TEST_FAIL("%s isn't described", r->path);
            continue;
        }
        if (dp_json_count(dp_json_get(paths, r->path)) != 1) DP_TEST_FAIL("%s: more methods are described than there are", r->path);
        char query[200] = "";
        for (size_t k = 0; k < dp_json_count(params); k++) {
            const struct dp_json *p = resolve(doc, dp_json_at(params, k));
            struct dp_span name = dp_json_str(dp_json_get(p, "name"));
            if (!dp_span_is(dp_json_str(dp_json_get(p, "in")), "query")) continue;
            snprintf(query + strlen(query), sizeof query - strlen(query), "%s%.*s", *query ? " " : "", (int)name.len, name.ptr);
        }
        if (strcmp(query, r->params) != 0) DP_TEST_FAIL("%s: parameters \"%s\" are described, there are \"%s\"", r->path, query, r->params);
        const struct dp_json *security = dp_json_get(op, "security");
        bool open = security && dp_json_count(security) == 0, really = dp_route_is_open(r->path) || strcmp(r->path, "/livez") == 0 || strcmp(r->path, "/readyz") == 0;
        if (open != really) DP_TEST_FAIL("%s: %s", r->path, open ? "it is described as open" : "it isn't described as open");
    }
    for (void *it = dp_json_next(paths, NULL, &path, &item); it; it = dp_json_next(paths, it, &path, &item)) {
        bool found = false;
        for (size_t i = 0; i < dp_routes_count; i++) found = found || strcmp(dp_routes[i].path, path) == 0;
        if (!found) DP_TEST_FAIL("%s is described, and there is no such path", path);
    }
    dp_json_free(doc);
}

/* --- a service to ask --- */

static const char recipe[] =
    "clean:\n  c4: {enabled: false}\ntrain-bpe: {vocab_size: 300}\nfeed: {val_fraction: 0.1}\n"
    "train: {layers: 1, dim: 32, heads: 2, seq_len: 32, batch: 2, accum: 1, steps: 6, warmup: 2, eval_every: 3, eval_batches: 1, ckpt_every: 3}\n"
    "serve: {settle: 0, rescan: 1h, min_free: 0, drain_timeout: 2s, until: train, tries: 1, feed: ";

static void make(struct service *s)
{
    struct dp_err err = {0};
    static char text[40000];
    size_t n = 0;
    snprintf(s->dir, sizeof s->dir, "%s/w", dp_test_tmpdir());
    snprintf(s->socket, sizeof s->socket, "%s/http.sock", s->dir);
    if (dp_fs_mkdirs(s->dir, &err) < 0) abort();
    snprintf(text, sizeof text, "%s%s/feed.sock}\n", recipe, s->dir);
    dp_test_write(s->dir, "recipe.yaml", text);
    char spool[600];
    snprintf(spool, sizeof spool, "%s/spool", s->dir);
    if (dp_fs_mkdirs(spool, &err) < 0) abort();
    dp_test_write(spool, "short.txt", "too short");
    for (int d = 0; d < 12; d++) { /* twelve documents that pass the rules: words of a small language */
        static const char *const word[] = {"the", "river", "of", "house", "and", "to", "morning", "that", "light", "with", "have", "garden", "in", "winter", "stone", "be"};
        unsigned x = 17 + (unsigned)d * 7919;
        n = 0;
        for (int i = 0; i < 300; i++) {
            x = x * 1103515245 + 12345;
            n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", word[x >> 16 & 15], i % 12 == 11 ? ".\n" : " ");
        }
        char name[32];
        snprintf(name, sizeof name, "t%d.txt", d);
        dp_test_write(spool, name, text);
    }
    /* A document in quarantine. */
    snprintf(spool, sizeof spool, "%s/quarantine", s->dir);
    if (dp_fs_mkdirs(spool, &err) < 0) abort();
    dp_test_write(spool, "0123456789abcdef-0123456789abcdef0123456789abcdef",
               "{\"unit\":\"0123456789abcdef0123456789abcdef\",\"path\":\"/a\",\"position\":\"1\",\"url\":\"\",\"id\":\"0123456789abcdef0123456789abcdef\",\"stage\":\"extract\","
               "\"reason\":\"crash\",\"what\":\"signal 11 (SIGSEGV)\",\"state\":\"held\",\"rows\":0,\"attempts\":2,\"time\":1795506100,\"bytes\":3}\nabc");
}

static void check_answer(struct dp_json *doc, const struct service *s, const char *method, const char *path, const char *template_path, int want)
{
    static char body[1 << 20];
    char where[200];
    struct dp_err err = {0};
    struct dp_json *v = NULL;
    int status = ask(s, method, path, body, sizeof body);
    if (status != want) DP_TEST_FAIL("%s %s: status %d, not %d: %.200s", method, path, status, want, body);
    snprintf(where, sizeof where, "%d", status);
    struct dp_json *op = dp_json_get(dp_json_get(dp_json_get(doc, "paths"), template_path), strcmp(method, "POST") == 0 ? "post" : "get");
    struct dp_json *content = dp_json_get(resolve(doc, dp_json_get(dp_json_get(op, "responses"), where)), "content"), *json = dp_json_get(content, "application/json");
    if (!content) DP_TEST_FAIL("%s: an answer with status %d isn't described", path, status);
    if (!json || strcmp(template_path, "/api/v1/openapi.json") == 0) return;
    snprintf(where, sizeof where, "%s %s", method, path);
    if (dp_json_parse(&v, dp_span_str(body), path, &err) < 0) DP_TEST_FAIL("%s: %s", where, err.msg);
    else check_value(doc, dp_json_get(json, "schema"), v, where);
    dp_json_free(v);
}

TEST(answers_are_as_described)
{
    struct service s;
    struct dp_json *doc = description();
    REQUIRE(doc);
    make(&s);
    start(&s);
    bool up = wait_for(&s, "/api/v1/training", "\"finished\":true", 60) && wait_for(&s, "/api/v1/status", "\"state\":\"idle\"", 20);
    CHECK(up);
    for (size_t i = 0; up && i < dp_routes_count; i++) {
        const struct dp_route *r = &dp_routes[i];
        if (strcmp(r->path, "/api/v1/stream") == 0) continue; /* has no end */
        bool id = strstr(r->path, "{id}") != NULL;
        check_answer(doc, &s, r->post ? "POST" : "GET", id ? "/api/v1/jobs/999999/retry" : r->path, r->path, id ? 404 : 200);
        if (strstr(r->params, "limit")) {
            char path[200];
            snprintf(path, sizeof path, "%s?limit=1", r->path);
            check_answer(doc, &s, "GET", path, r->path, 200);
            snprintf(path, sizeof path, "%s?limit=0", r->path);
            check_answer(doc, &s, "GET", path, r->path, 400);
        }
    }
    /* What is to be seen is there, so that the checks above looked at something. */
    CHECK(wait_for(&s, "/api/v1/samples", "\"value\":", 1));
    CHECK(wait_for(&s, "/api/v1/feed", "\"clients\":[]", 1));
    CHECK(wait_for(&s, "/api/v1/languages", "\"tokens\":", 1));
    CHECK(wait_for(&s, "/api/v1/roots", "/spool\"", 1));
    CHECK(wait_for(&s, "/api/v1/shards", "\"manifest\":{", 1));
    CHECK(wait_for(&s, "/api/v1/quarantine", "\"what\":\"signal 11", 1));
    CHECK(wait_for(&s, "/api/v1/workers", "\"workers\":[{", 1));
    CHECK(wait_for(&s, "/api/v1/runs", "\"documents_kept\":12,", 10)); /* counted behind the run */
    stop(&s);
    dp_json_free(doc);
}

/* Runs and events of an earlier process are there, a torn line is skipped, and numbers go on. */
TEST(history_outlives_the_process)
{
    struct service s;
    static char body[1 << 20];
    char path[700];
    make(&s);
    dp_test_write(s.dir, "recipe.yaml", "clean:\n  c4: {enabled: false}\ntrain-bpe: {vocab_size: 300}\nserve: {settle: 0, rescan: 1h, min_free: 0, drain_timeout: 2s}\n");
    start(&s);
    REQUIRE(wait_for(&s, "/api/v1/shards", "\"manifest\":{", 60) && wait_for(&s, "/api/v1/runs", "\"number\":1", 20));
    const struct timespec a_second = {1, 0};
    nanosleep(&a_second, NULL);
    kill(s.pid, SIGKILL);
    waitpid(s.pid, NULL, 0);
    snprintf(path, sizeof path, "%s/history.jsonl", s.dir);
    FILE *f = fopen(path, "a");
    REQUIRE(f);
    fputs("{\"event\":{\"number\":77,\"time_ms\":1,\"level\":\"err", f);
    fclose(f);
    start(&s);
    REQUIRE(wait_for(&s, "/api/v1/events", "\"number\":1000001,", 60)); /* a new process, a new million */
    CHECK_INT(ask(&s, "GET", "/api/v1/events?limit=1000", body, sizeof body), 200);
    CHECK(strstr(body, "{\"events\":[{\"number\":1,") && strstr(body, "\"kind\":\"run\",\"text\":\"pass 1: done"));
    CHECK(!strstr(body, "\"number\":77,"));
    CHECK(wait_for(&s, "/api/v1/runs", "\"number\":2,", 20)); /* of this process */
    CHECK(wait_for(&s, "/api/v1/runs", "\"number\":1,", 1));
    CHECK(wait_for(&s, "/api/v1/runs", "\"documents_read\":13,", 10));
    CHECK_INT(ask(&s, "GET", "/api/v1/events?kind=run&limit=1", body, sizeof body), 200);
    CHECK(strstr(body, "\"kind\":\"run\"") && !strstr(body, "\"kind\":\"state\""));
    stop(&s);
    /* The torn line stayed alone: what the second process wrote behind it is whole. */
    start(&s);
    CHECK(wait_for(&s, "/api/v1/events?after=2000000", "\"number\":2000001,", 60));
    CHECK_INT(ask(&s, "GET", "/api/v1/events?after=1000000&limit=1", body, sizeof body), 200);
    CHECK(strstr(body, "\"number\":1000001,") != NULL);
    stop(&s);
}
