#include "tokenizer/ids_text.h"

#include <stdlib.h>

enum { TABLE_MAX = 1000000 };

static int digits_of(uint32_t id, char *to)
{
    char t[10];
    int n = 0;
    do t[n++] = (char)('0' + id % 10);
    while (id /= 10);
    for (int i = 0; i < n; i++) to[i] = t[n - 1 - i];
    return n;
}

int dp_ids_printer_open(struct dp_ids_printer *p, uint32_t vocab_size, struct dp_err *e)
{
    p->count = vocab_size < TABLE_MAX ? vocab_size : TABLE_MAX;
    p->digits = malloc(((size_t)p->count + 1) * sizeof *p->digits);
    if (!p->digits) DP_FAIL(e, NOMEM, "digits of ids");
    for (uint32_t i = 0; i < p->count; i++) {
        char t[8] = {0};
        int n = digits_of(i, t);
        t[n++] = ',';
        t[7] = (char)n;
        memcpy(&p->digits[i], t, 8);
    }
    return DP_OK;
}

void dp_ids_printer_close(struct dp_ids_printer *p)
{
    free(p->digits);
    *p = (struct dp_ids_printer){0};
}

void dp_ids_print(const struct dp_ids_printer *p, const uint32_t *ids, size_t n, struct dp_buf *out)
{
    char *start = dp_buf_reserve(out, n * 11 + 8), *to = start;
    if (!start) return;
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < p->count) {
            uint64_t d = p->digits[ids[i]];
            memcpy(to, &d, 8);
            to += d >> 56;
            continue;
        }
        to += digits_of(ids[i], to);
        *to++ = ',';
    }
    if (n) to--;
    *to = 0;
    out->len += (size_t)(to - start);
}

static const char *skip_space(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n')) p++;
    return p;
}

static int read_id(const char **at, const char *end, uint64_t *id)
{
    const char *p = *at;
    *id = 0;
    while (p < end && *p >= '0' && *p <= '9' && *id <= INT32_MAX) *id = *id * 10 + (uint64_t)(*p++ - '0');
    bool good = p > *at && (p - *at == 1 || **at != '0') && *id <= INT32_MAX;
    *at = p;
    return good;
}

int dp_ids_parse(struct dp_span list, struct dp_ids *ids, struct dp_err *e)
{
    const char *p = skip_space(list.ptr, list.ptr + list.len), *end = list.ptr + list.len;
    ids->len = 0;
    if (p == end || *p++ != '[') DP_FAIL(e, CORRUPT, "no list \"ids\"");
    DP_TRY(dp_ids_reserve(ids, list.len / 2 + 1, e));
    p = skip_space(p, end);
    if (p == end || *p != ']')
        for (;;) {
            uint64_t id;
            p = skip_space(p, end);
            if (!read_id(&p, end, &id)) DP_FAIL(e, CORRUPT, "ids[%zu] is no token id", ids->len);
            ids->ptr[ids->len++] = (uint32_t)id;
            p = skip_space(p, end);
            if (p < end && *p == ',') p++;
            else if (p < end && *p == ']') break;
            else DP_FAIL(e, CORRUPT, p < end ? "ids[%zu] is no token id" : "the list ends behind ids[%zu]", ids->len - 1);
        }
    if (skip_space(p + 1, end) != end) DP_FAIL(e, CORRUPT, "more behind the list of ids");
    return DP_OK;
}
