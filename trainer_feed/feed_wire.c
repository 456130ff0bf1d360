/* Texts are cut at newlines and parsed by the option table, so a request can say what a flag can say, under the same ranges. */
#include "trainer_feed/feed_wire.h"

#include "trainer_feed/feed_internal.h"

#include <inttypes.h>
#include <stdlib.h>

_Static_assert(sizeof(struct dp_feed_ring) <= DP_FEED_RING_HEAD, "the ring's head is a page");
_Static_assert(sizeof(struct dp_feed_slot) <= DP_FEED_SLOT_HEAD, "a slot's head is a cache line");

/* --- batches in memory --- */

static const struct {
    const char *name;
    unsigned bit;
    unsigned char bytes, per_row, per_id, plus; /* of an item; items a batch = batch * (per_row + per_id * seq_len + plus) */
} arrays[] = {{"cu_seqlens", DP_FEED_META_CU_SEQLENS, 4, 0, 1, 1}, {"segments", DP_FEED_META_SEGMENTS, 4, 1, 0, 0},
              {"positions", DP_FEED_META_POSITIONS, 4, 0, 1, 0},   {"loss_mask", DP_FEED_META_LOSS_MASK, 1, 0, 1, 0},
              {"domain", DP_FEED_META_DOMAIN, 4, 1, 0, 0},         {"sample", DP_FEED_META_SAMPLE, 8, 1, 0, 0}};
enum { ARRAYS = sizeof arrays / sizeof *arrays };
_Static_assert(ARRAYS == sizeof((struct dp_feed_shape *)0)->at / sizeof(uint64_t), "one place an array");

void dp_feed_shape_init(struct dp_feed_shape *s, int64_t seq_len, int64_t batch, uint64_t vocab_size, unsigned meta)
{
    uint64_t t = (uint64_t)seq_len, n = (uint64_t)batch;
    *s = (struct dp_feed_shape){.seq_len = seq_len, .batch = batch, .id_bytes = vocab_size <= 65536 ? 2 : 4, .meta = meta};
    uint64_t end = DP_FEED_SLOT_HEAD + n * (t + 1) * (uint64_t)s->id_bytes;
    for (int i = 0; i < ARRAYS; i++) {
        end = (end + 63) / 64 * 64;
        if (!(meta & arrays[i].bit)) continue;
        s->at[i] = end;
        end += n * (arrays[i].per_row + arrays[i].per_id * t + arrays[i].plus) * arrays[i].bytes;
    }
    s->slot_bytes = (end + 63) / 64 * 64;
}

void dp_feed_shape_meta(const struct dp_feed_shape *s, const void *slot, struct dp_feed_meta *out)
{
    char *p[ARRAYS];
    for (int i = 0; i < ARRAYS; i++) p[i] = s->at[i] ? (char *)(uintptr_t)slot + s->at[i] : NULL;
    *out = (struct dp_feed_meta){(void *)p[0], (void *)p[1], (void *)p[2], (void *)p[3], (void *)p[4], (void *)p[5]};
}

int dp_feed_meta_parse(struct dp_span text, unsigned *out, struct dp_err *e)
{
    *out = 0;
    while (text.len) {
        const char *comma = memchr(text.ptr, ',', text.len);
        struct dp_span word = dp_span(text.ptr, comma ? (size_t)(comma - text.ptr) : text.len);
        unsigned bit = dp_span_is(word, "all") ? DP_FEED_META_ALL : 0;
        for (int i = 0; i < ARRAYS; i++)
            if (dp_span_is(word, arrays[i].name)) bit = arrays[i].bit;
        if (!bit)
            DP_FAIL(e, USAGE, "feed: meta has \"%.*s\", which is none of cu_seqlens, segments, positions, loss_mask, domain, sample and all",
                    word.len > 40 ? 40 : (int)word.len, word.ptr);
        *out |= bit;
        text.ptr += word.len + (comma != NULL);
        text.len -= word.len + (comma != NULL);
    }
    return DP_OK;
}

void dp_feed_meta_print(unsigned meta, struct dp_buf *out)
{
    const char *comma = "";
    for (int i = 0; i < ARRAYS; i++) {
        if (!(meta & arrays[i].bit)) continue;
        dp_buf_printf(out, "%s%s", comma, arrays[i].name);
        comma = ",";
    }
}

/* --- texts --- */

/* The next NAME=VALUE: DP_OK, DP_EOF behind the last, DP_USAGE. */
static int next_line(struct dp_span *rest, struct dp_span *name, struct dp_span *value, struct dp_err *e)
{
    if (!rest->len) return DP_EOF;
    const char *end = memchr(rest->ptr, '\n', rest->len), *equals;
    size_t n = end ? (size_t)(end - rest->ptr) : rest->len;
    struct dp_span line = {rest->ptr, n};
    rest->ptr += n + (end != NULL);
    rest->len -= n + (end != NULL);
    equals = n ? memchr(line.ptr, '=', n) : NULL;
    if (!equals || memchr(line.ptr, 0, n))
        DP_FAIL(e, USAGE, "feed: \"%.*s\" is no line NAME=VALUE", line.len > 80 ? 80 : (int)line.len, line.ptr);
    *name = dp_span(line.ptr, (size_t)(equals - line.ptr));
    *value = dp_span(equals + 1, n - 1 - name->len);
    return DP_OK;
}

/* Decimal digits alone, below 2^63. */
static int parse_number(struct dp_span name, struct dp_span text, uint64_t max, uint64_t *out, struct dp_err *e)
{
    uint64_t x = 0;
    bool good = text.len > 0 && text.len <= 18;
    for (size_t i = 0; good && i < text.len; i++) {
        good = text.ptr[i] >= '0' && text.ptr[i] <= '9';
        x = x * 10 + (uint64_t)(text.ptr[i] - '0');
    }
    if (text.len == 19) { /* 2^62 has 19 digits */
        char digits[20];
        char *end;
        memcpy(digits, text.ptr, 19);
        digits[19] = 0;
        x = strtoull(digits, &end, 10);
        good = digits[0] >= '0' && digits[0] <= '9' && !*end;
    }
    if (!good || x > max)
        DP_FAIL(e, USAGE, "feed: %.*s is \"%.*s\", not a number from 0 to %" PRIu64, (int)name.len, name.ptr, text.len > 40 ? 40 : (int)text.len,
                text.ptr, max);
    *out = x;
    return DP_OK;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int parse_state(struct dp_span text, struct dp_feed_state *s, struct dp_err *e)
{
    unsigned char bytes[sizeof *s];
    if (text.len != 2 * sizeof *s) DP_FAIL(e, USAGE, "feed: state has %zu hex digits, not %zu", text.len, 2 * sizeof *s);
    for (size_t i = 0; i < sizeof *s; i++) {
        int high = hex_digit(text.ptr[2 * i]), low = hex_digit(text.ptr[2 * i + 1]);
        if (high < 0 || low < 0) DP_FAIL(e, USAGE, "feed: state has something else than hex digits at %zu", 2 * i);
        bytes[i] = (unsigned char)(high << 4 | low);
    }
    memcpy(s, bytes, sizeof *s);
    return DP_OK;
}

void dp_feed_state_print(const struct dp_feed_state *s, struct dp_buf *out)
{
    unsigned char bytes[sizeof *s];
    memcpy(bytes, s, sizeof *s);
    for (size_t i = 0; i < sizeof *s; i++) dp_buf_printf(out, "%02x", bytes[i]);
}

/* --- request --- */

/* What a request may say beside the feed's options; the place is the bit that says "seen". */
enum { WIRE = 56, TOKEN, META, COMPRESS, START, SLOTS, STATE, GROW };
static const char *const more[] = {"wire", "token", "meta", "compress", "start", "slots", "state", "grow"};

static int more_line(struct dp_feed_ask *a, unsigned bit, struct dp_span name, struct dp_span value, struct dp_err *e)
{
    uint64_t wire, yes;
    switch (bit) {
    case WIRE:
        DP_TRY(parse_number(name, value, UINT32_MAX, &wire, e));
        if (wire != DP_FEED_WIRE) DP_FAIL(e, USAGE, "feed: a client that speaks version %" PRIu64 " of the feed's wire; this server speaks %d", wire, DP_FEED_WIRE);
        return DP_OK;
    case META: return dp_feed_meta_parse(value, &a->meta, e);
    case COMPRESS: return parse_number(name, value, DP_FEED_COMPRESS_MAX, &a->compress, e);
    case START: a->has_start = true; return parse_number(name, value, DP_FEED_SAMPLE_MAX - 1, &a->start, e);
    case SLOTS: return parse_number(name, value, DP_FEED_SLOTS_MAX, &a->slots, e);
    case STATE: a->has_state = true; return parse_state(value, &a->state, e);
    case GROW:
        DP_TRY(parse_number(name, value, 1, &yes, e));
        a->grow = yes;
        return DP_OK;
    default: return DP_OK; /* the token was looked at before anything else */
    }
}

static int ask_line(struct dp_feed_ask *a, struct dp_span name, struct dp_span value, uint64_t *seen, struct dp_err *e)
{
    const struct dp_opt *row = dp_opt_find(dp_feed_opts, name);
    unsigned bit = row ? (unsigned)(row - dp_feed_opts) : 64;
    for (unsigned i = 0; i < sizeof more / sizeof *more; i++)
        if (dp_span_is(name, more[i])) bit = WIRE + i;
    if (row && strcmp(row->name, "domains") == 0) DP_FAIL(e, USAGE, "feed: domains are the server's business; a request gives their mixture");
    if (bit == 64) DP_FAIL(e, USAGE, "feed: a request for \"%.*s\", which this server doesn't know", name.len > 40 ? 40 : (int)name.len, name.ptr);
    if (*seen >> bit & 1) DP_FAIL(e, USAGE, "feed: the request says %.*s twice", (int)name.len, name.ptr);
    *seen |= UINT64_C(1) << bit;
    return bit >= WIRE ? more_line(a, bit, name, value, e) : dp_opt_set(row, &a->feed, value, row->name, e);
}

struct dp_span dp_feed_ask_token(struct dp_span text)
{
    static const char line[] = "token=";
    enum { NAME = sizeof line - 1 };
    for (const char *p = text.ptr, *end = p + text.len; p < end;) {
        const char *newline = memchr(p, '\n', (size_t)(end - p)), *stop = newline ? newline : end;
        if (stop - p >= NAME && memcmp(p, line, NAME) == 0) return dp_span(p + NAME, (size_t)(stop - p) - NAME);
        p = stop + 1;
    }
    return dp_span("", 0);
}

int dp_feed_ask_parse(struct dp_feed_ask *a, const struct dp_feed_options *defaults, struct dp_span text, struct dp_err *e)
{
    struct dp_span name, value;
    uint64_t seen = 0;
    int rc = DP_OK;
    memset(a, 0, sizeof *a);
    if (text.len > DP_FEED_ASK_BYTES_MAX) DP_FAIL(e, LIMIT, "feed: a request of %zu bytes, at most %d", text.len, DP_FEED_ASK_BYTES_MAX);
    a->feed = *defaults;
    a->feed.mixture = defaults->mixture ? strdup(defaults->mixture) : NULL;
    if (defaults->mixture && !a->feed.mixture) DP_FAIL(e, NOMEM, "feed: request");
    while (rc >= 0 && (rc = next_line(&text, &name, &value, e)) == DP_OK) rc = ask_line(a, name, value, &seen, e);
    if (rc >= 0 && !(seen >> WIRE & 1))
        rc = dp_err_set(e, DP_USAGE, 0, __FILE__, __LINE__, "feed: a client that speaks version 1 of the feed's wire; this server speaks %d", DP_FEED_WIRE);
    if (rc >= 0) rc = dp_feed_options_check(&a->feed, e);
    if (rc < 0) dp_feed_ask_release(a);
    return rc < 0 ? rc : DP_OK;
}

void dp_feed_ask_release(struct dp_feed_ask *a)
{
    free(a->feed.mixture);
    memset(a, 0, sizeof *a);
}

/* --- answer --- */

enum { SIGNED = 1 };
static const struct field {
    const char *name;
    size_t offset;
    int is_signed;
    uint64_t max;
} fields[] = {
#define F(name, is_signed, max) {#name, offsetof(struct dp_feed_accept, name), is_signed, max}
    F(seq_len, 0, 1 << 24), F(batch, 0, 1 << 20), F(rank, 0, 1 << 20), F(world, 0, 1 << 20), F(eot, SIGNED, UINT32_MAX), F(pad, 0, INT32_MAX),
    F(vocab_size, 0, UINT32_MAX), F(slots, 0, DP_FEED_SLOTS_MAX), F(slot_bytes, 0, UINT64_C(1) << 48), F(samples, 0, INT64_MAX),
    F(tokens, 0, INT64_MAX), F(documents, 0, INT64_MAX), F(sample, 0, DP_FEED_SAMPLE_MAX), F(compress, 0, DP_FEED_COMPRESS_MAX),
#undef F
};
enum { FIELDS = sizeof fields / sizeof *fields };

/* All numbers are 8 bytes wide; a signed one is -1 or a number. */
void dp_feed_accept_print(const struct dp_feed_accept *a, struct dp_buf *out)
{
    dp_buf_printf(out, "wire=%d\nmeta=", DP_FEED_WIRE);
    dp_feed_meta_print(a->meta, out);
    dp_buf_add_char(out, '\n');
    for (int i = 0; i < FIELDS; i++) {
        int64_t x;
        memcpy(&x, (const char *)a + fields[i].offset, sizeof x);
        dp_buf_printf(out, "%s=%" PRId64 "\n", fields[i].name, x);
    }
    dp_buf_add_str(out, "state=");
    dp_feed_state_print(&a->state, out);
    dp_buf_add_str(out, "\n");
}

static int accept_line(struct dp_feed_accept *a, struct dp_span name, struct dp_span value, uint64_t *seen, struct dp_err *e)
{
    uint64_t x;
    if (dp_span_is(name, "state")) {
        *seen |= UINT64_C(1) << FIELDS;
        return parse_state(value, &a->state, e);
    }
    if (dp_span_is(name, "meta")) {
        *seen |= UINT64_C(2) << FIELDS;
        return dp_feed_meta_parse(value, &a->meta, e);
    }
    for (int i = 0; i < FIELDS; i++) {
        if (!dp_span_is(name, fields[i].name)) continue;
        if (fields[i].is_signed && dp_span_is(value, "-1")) x = UINT64_MAX;
        else DP_TRY(parse_number(name, value, fields[i].max, &x, e));
        memcpy((char *)a + fields[i].offset, &x, sizeof x);
        *seen |= UINT64_C(1) << i;
    }
    return DP_OK; /* a later server may say more */
}

int dp_feed_accept_parse(struct dp_feed_accept *a, struct dp_span text, struct dp_err *e)
{
    struct dp_span name, value;
    uint64_t seen = 0;
    int rc;
    memset(a, 0, sizeof *a);
    while ((rc = next_line(&text, &name, &value, e)) == DP_OK)
        if ((rc = accept_line(a, name, value, &seen, e)) < 0) break;
    if (rc < 0) return dp_err_set(e, DP_CORRUPT, 0, __FILE__, __LINE__, "feed: the server's answer is damaged");
    struct dp_feed_shape shape;
    bool whole = seen == (UINT64_C(4) << FIELDS) - 1 && a->seq_len > 0 && a->batch > 0 && a->world > 0 && a->rank < a->world && a->slots > 0;
    if (whole) dp_feed_shape_init(&shape, a->seq_len, a->batch, a->vocab_size, a->meta);
    if (!whole || a->slot_bytes != shape.slot_bytes || a->state.sample != a->sample)
        DP_FAIL(e, CORRUPT, "feed: the server's answer doesn't hold together; is it of another version?");
    return DP_OK;
}

void dp_feed_refuse_print(const struct dp_err *e, struct dp_buf *out)
{
    dp_buf_printf(out, "%d %s", (int)e->code, e->msg);
}

int dp_feed_refuse_parse(struct dp_span text, struct dp_err *e)
{
    char copy[sizeof e->msg + 16], *end;
    size_t n = text.len < sizeof copy ? text.len : sizeof copy - 1;
    if (n) memcpy(copy, text.ptr, n);
    copy[n] = 0;
    long code = strtol(copy, &end, 10);
    if (end == copy || *end != ' ' || code < DP_BROKEN || code > DP_NOMEM) DP_FAIL(e, CORRUPT, "feed: the server's refusal is damaged");
    return dp_err_set(e, (enum dp_code)code, 0, __FILE__, __LINE__, "%s", end + 1);
}
