#include "base/batch.h"

#include <stdlib.h>

enum { KEEP_BYTES = 16 << 20 };

static const struct {
    const char *name, *unit, *help;
} drops[] = {
#define X(name, text, unit, help) {text, unit, help},
    DP_DROPS(X)
#undef X
};

const char *dp_drop_name(enum dp_drop d)
{
    return (unsigned)d < DP_DROP_COUNT ? drops[d].name : "unknown";
}
const char *dp_drop_unit(enum dp_drop d)
{
    return (unsigned)d < DP_DROP_COUNT ? drops[d].unit : "";
}
const char *dp_drop_help(enum dp_drop d)
{
    return (unsigned)d < DP_DROP_COUNT ? drops[d].help : "";
}
enum dp_drop dp_drop_parse(struct dp_span name)
{
    int d = 0;
    while (d < DP_DROP_COUNT && !dp_span_is(name, drops[d].name)) d++;
    return (enum dp_drop)d;
}

/* Every column, once: init, release and dp_batch_add follow this list. */
#define COLUMNS(X)                                                                                 \
    X(id) X(pos) X(text) X(url) X(mime) X(charset) X(meta) X(title) X(format) X(bytes_in) X(drop)  \
    X(value) X(limit) X(lang) X(lang_score) X(score) X(hash) X(sig)

int dp_batch_init(struct dp_batch *b, uint32_t rows, size_t bytes_max, struct dp_err *e)
{
    memset(b, 0, sizeof *b);
    dp_arena_init(&b->mem, bytes_max);
    bool ok = true;
#define X(c) ok = (b->c = calloc(rows, sizeof *b->c)) != NULL && ok;
    COLUMNS(X)
#undef X
    if (!ok) {
        dp_batch_release(b);
        DP_FAIL(e, NOMEM, "batch of %u rows", rows);
    }
    b->cap = rows;
    return DP_OK;
}

void dp_batch_release(struct dp_batch *b)
{
#define X(c) free(b->c);
    COLUMNS(X)
#undef X
    dp_arena_release(&b->mem);
    memset(b, 0, sizeof *b);
}

void dp_batch_reset(struct dp_batch *b)
{
    b->count = 0;
    b->seq = 0;
    b->first = 0;
    b->member = 0;
    b->columns = 0;
    /* One huge document must not stay in every batch of the pool. */
    if (b->mem.bytes_held > KEEP_BYTES) dp_arena_release(&b->mem);
    else dp_arena_reset(&b->mem);
}

struct dp_batch dp_batch_row(const struct dp_batch *b, uint32_t i)
{
    struct dp_batch row = *b;
#define X(c) row.c += i;
    COLUMNS(X)
#undef X
    row.first += i;
    row.count = row.cap = 1;
    return row;
}

int64_t dp_batch_add(struct dp_batch *b)
{
    if (b->count == b->cap) return -1;
    uint32_t i = b->count++;
#define X(c) memset(&b->c[i], 0, sizeof b->c[i]);
    COLUMNS(X)
#undef X
    return i;
}
