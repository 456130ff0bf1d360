#include "daemon/request.h"

#include "base/json.h"

#include <stdio.h>
#include <string.h>

static const char *const names[DP_OP_COUNT] = {
#define X(id, name) name,
    DP_OPS(X)
#undef X
};

const char *dp_op_name(enum dp_op op)
{
    return op < DP_OP_COUNT ? names[op] : "?";
}

/* What each operation may be given: bits of the members below. */
enum { ID = 1, AFTER = 2, LIMIT = 4, STATE = 8, STAGE = 16, LEVEL = 32, NAME = 64, ALL = 128, PATH = 256, STEPS = 512 };
static unsigned members_of(enum dp_op op)
{
    switch (op) {
    case DP_OP_JOBS: return ID | AFTER | LIMIT | STATE | STAGE;
    case DP_OP_RETRY:
    case DP_OP_REDO: return ID;
    case DP_OP_RESCAN: return PATH | STEPS;
    case DP_OP_FIRST: return PATH;
    case DP_OP_LOGLEVEL: return LEVEL;
    case DP_OP_QUARANTINE_RETRY:
    case DP_OP_QUARANTINE_DROP: return NAME | ALL;
    default: return 0;
    }
}

static int word(char *out, size_t cap, const struct dp_json *v, const char *key, struct dp_err *e)
{
    struct dp_span s = dp_json_str(v);
    if (!s.ptr || !s.len || s.len >= cap) DP_FAIL(e, USAGE, "\"%s\" wants a word of at most %zu bytes", key, cap - 1);
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.ptr[i] < 0x21 || (unsigned char)s.ptr[i] > 0x7e) DP_FAIL(e, USAGE, "\"%s\" wants a word of printable ASCII", key);
    memcpy(out, s.ptr, s.len);
    out[s.len] = 0;
    return DP_OK;
}

static int number(int64_t *out, const struct dp_json *v, const char *key, int64_t max, struct dp_err *e)
{
    if (dp_json_kind(v) != DP_JSON_INT || dp_json_int(v, -1) < 0 || dp_json_int(v, -1) > max)
        DP_FAIL(e, USAGE, "\"%s\" wants a whole number from 0 to %lld", key, (long long)max);
    *out = dp_json_int(v, 0);
    return DP_OK;
}

static int truth(bool *out, const struct dp_json *v, const char *key, struct dp_err *e)
{
    if (dp_json_kind(v) != DP_JSON_BOOL) DP_FAIL(e, USAGE, "\"%s\" is true or false", key);
    *out = dp_json_bool(v, false);
    return DP_OK;
}

/* Bytes as the file system has them, but no control characters. */
static int path(struct dp_request *r, const struct dp_json *v, const char *key, struct dp_err *e)
{
    struct dp_span s = dp_json_str(v);
    if (!s.ptr || !s.len || s.len >= sizeof r->path) DP_FAIL(e, USAGE, "\"%s\" wants a text of at most %zu bytes", key, sizeof r->path - 1);
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.ptr[i] < 0x20 || s.ptr[i] == 0x7f) DP_FAIL(e, USAGE, "\"%s\" holds a control character", key);
    memcpy(r->path, s.ptr, s.len);
    r->path[s.len] = 0;
    return DP_OK;
}

static int member(struct dp_request *r, const char *key, const struct dp_json *v, struct dp_err *e)
{
    unsigned may = members_of(r->op);
    if (strcmp(key, "op") == 0) return DP_OK;
    if (may & ID && strcmp(key, "id") == 0) return number(&r->id, v, key, INT64_MAX, e);
    if (may & AFTER && strcmp(key, "after") == 0) return number(&r->after, v, key, INT64_MAX, e);
    if (may & LIMIT && strcmp(key, "limit") == 0) return number(&r->limit, v, key, DP_PAGE_MAX, e);
    if (may & STATE && strcmp(key, "state") == 0) return word(r->state, sizeof r->state, v, key, e);
    if (may & STAGE && strcmp(key, "stage") == 0) return word(r->stage, sizeof r->stage, v, key, e);
    if (may & LEVEL && strcmp(key, "level") == 0) return word(r->level, sizeof r->level, v, key, e);
    if (may & NAME && strcmp(key, "name") == 0) return word(r->name, sizeof r->name, v, key, e);
    if (may & PATH && strcmp(key, "path") == 0) return path(r, v, key, e);
    if (may & ALL && strcmp(key, "all") == 0) return truth(&r->all, v, key, e);
    if (may & STEPS && strcmp(key, "steps") == 0) return truth(&r->steps, v, key, e);
    DP_FAIL(e, USAGE, "\"%s\" takes no \"%.40s\"", names[r->op], key);
}

static int take(struct dp_request *r, const struct dp_json *root, struct dp_err *e)
{
    const char *key;
    struct dp_json *v;
    if (dp_json_kind(root) != DP_JSON_OBJECT) DP_FAIL(e, USAGE, "a request is one JSON object on one line");
    struct dp_span op = dp_json_str(dp_json_get(root, "op"));
    if (!op.ptr) DP_FAIL(e, USAGE, "a request wants \"op\"");
    while (r->op < DP_OP_COUNT && !dp_span_is(op, names[r->op])) r->op++;
    if (r->op == DP_OP_COUNT) DP_FAIL(e, USAGE, "there is no operation \"%.*s\"", (int)(op.len < 40 ? op.len : 40), op.ptr);
    for (void *it = NULL; (it = dp_json_next(root, it, &key, &v));) DP_TRY(member(r, key, v, e));
    if (r->op == DP_OP_LOGLEVEL && !r->level[0]) DP_FAIL(e, USAGE, "\"loglevel\" wants \"level\": error, warning, info or debug");
    if (r->op == DP_OP_REDO && !r->id) DP_FAIL(e, USAGE, "\"redo\" wants a job's \"id\"");
    if (r->op == DP_OP_FIRST && !r->path[0]) DP_FAIL(e, USAGE, "\"first\" wants a \"path\"");
    if (members_of(r->op) & NAME && !r->name[0] == !r->all) DP_FAIL(e, USAGE, "\"%s\" wants a \"name\", or \"all\": true", names[r->op]);
    return DP_OK;
}

int dp_request_parse(struct dp_request *r, struct dp_span line, struct dp_err *e)
{
    struct dp_json *root = NULL;
    *r = (struct dp_request){.limit = DP_PAGE_DEFAULT};
    if (line.len > DP_REQUEST_MAX) DP_FAIL(e, USAGE, "a request line has at most %d bytes", DP_REQUEST_MAX);
    if (dp_json_parse(&root, line, "request", e) < 0) return dp_err_set(e, DP_USAGE, 0, __FILE__, __LINE__, "not a JSON object");
    int rc = take(r, root, e);
    dp_json_free(root);
    return rc;
}
