#include "trainer/source.h"

#include "base/fs.h"
#include "base/hash.h"
#include "base/json.h"
#include "trainer/train.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct dp_source {
    char *name;
    struct dp_feed *feed; /* NULL: a bare file */
    bool masked, documents;
    int64_t seq_len;
    struct dp_map map;
    uint64_t ids;
    uint32_t vocab;
    int width, draw; /* bytes an id */
};

static int make(struct dp_source **out, const char *name, int64_t seq_len, struct dp_err *e)
{
    struct dp_source *s = *out = calloc(1, sizeof *s);
    if (!s || !(s->name = strdup(name)))
        DP_FAIL(e, NOMEM, "%s", name);
    s->seq_len = seq_len;
    return DP_OK;
}

static int opened(struct dp_source **out, int rc)
{
    if (rc >= 0) return DP_OK;
    dp_source_close(*out);
    *out = NULL;
    return rc;
}

int dp_source_open_feed(struct dp_source **out, const char *manifest, const struct dp_feed_options *o,
                        bool documents, struct dp_err *e)
{
    int rc = make(out, manifest, o->seq_len, e);
    if (rc >= 0) rc = dp_feed_open(&(*out)->feed, manifest, o, e);
    if (rc >= 0) {
        (*out)->vocab = dp_feed_vocab_size((*out)->feed);
        (*out)->masked = documents || o->pack == DP_FEED_BESTFIT;
        (*out)->documents = documents;
    }
    return opened(out, rc);
}

static int width_of(const char *path)
{
    const char *dot = strrchr(path, '.');
    if (dot && (strcmp(dot, ".u16") == 0 || strcmp(dot, ".bin") == 0)) return 2;
    return dot && strcmp(dot, ".u32") == 0 ? 4 : 0;
}

bool dp_source_is_bare(const char *path)
{
    return width_of(path) != 0;
}

static int map_ids(struct dp_source *s, uint32_t vocab, int draw, struct dp_err *e)
{
    s->width = width_of(s->name);
    s->draw = draw;
    s->vocab = vocab;
    if (!s->width) DP_FAIL(e, USAGE, "%s: bare ids are in a .u16, .bin (uint16) or .u32 file", s->name);
    DP_TRY(dp_map_open(&s->map, s->name, e));
    s->ids = s->map.len / (size_t)s->width;
    if (s->map.len % (size_t)s->width)
        DP_FAIL(e, CORRUPT, "%s: %zu bytes are no whole number of ids of %d bytes", s->name, s->map.len,
                s->width);
    if (s->ids < (uint64_t)s->seq_len + 2)
        DP_FAIL(e, CORRUPT, "%s: %" PRIu64 " ids are too few for a row of %lld: lower seq_len", s->name,
                s->ids, (long long)s->seq_len + 1);
    return DP_OK;
}

int dp_source_open_bare(struct dp_source **out, const char *path, uint32_t vocab, int64_t seq_len,
                        int draw, struct dp_err *e)
{
    int rc = make(out, path, seq_len, e);
    if (rc >= 0) rc = map_ids(*out, vocab, draw, e);
    return opened(out, rc);
}

void dp_source_close(struct dp_source *s)
{
    if (!s) return;
    dp_feed_close(s->feed);
    dp_map_close(&s->map);
    free(s->name);
    free(s);
}

uint64_t dp_source_rows(const struct dp_source *s)
{
    if (s->feed) return dp_feed_samples(s->feed);
    return s->draw == DP_DRAW_ROWS ? s->ids / (uint64_t)(s->seq_len + 1) : (s->ids - 1) / (uint64_t)s->seq_len;
}

static uint64_t first_id(const struct dp_source *s, uint64_t row)
{
    if (s->draw != DP_DRAW_HASH)
        return row % dp_source_rows(s) * (uint64_t)(s->seq_len + (s->draw == DP_DRAW_ROWS));
    uint64_t state = (UINT64_C(1) << 48) + row;
    return dp_splitmix64(&state) % (s->ids - (uint64_t)s->seq_len - 1);
}

static void bare_row(const struct dp_source *s, uint64_t row, int32_t *ids)
{
    const unsigned char *p = (const unsigned char *)s->map.ptr + first_id(s, row) * (uint64_t)s->width;
    for (int64_t i = 0; i <= s->seq_len; i++, p += s->width) {
        uint32_t id = (uint32_t)p[0] | (uint32_t)p[1] << 8;
        if (s->width == 4) id |= (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
        ids[i] = id > INT32_MAX ? INT32_MAX : (int32_t)id; /* outside every vocabulary */
    }
}

int dp_source_row(const struct dp_source *s, uint64_t row, int32_t *ids, struct dp_err *e)
{
    if (!s->feed) {
        bare_row(s, row, ids);
        return DP_OK;
    }
    if (!s->masked) return dp_feed_get(s->feed, row, ids, e);
    uint8_t *mask = malloc((size_t)s->seq_len);
    int32_t *positions = malloc((size_t)s->seq_len * sizeof *positions);
    const struct dp_feed_meta m = {.loss_mask = mask, .positions = positions};
    int rc = mask && positions ? dp_feed_get_meta(s->feed, row, ids, &m, e)
                               : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "mask of a row");
    if (rc >= 0) dp_train_mark(ids, s->seq_len, s->documents ? positions : NULL, mask);
    free(mask);
    free(positions);
    return rc;
}

uint64_t dp_source_tokens(const struct dp_source *s)
{
    return s->feed ? dp_feed_tokens(s->feed) : s->ids;
}

uint32_t dp_source_vocab(const struct dp_source *s)
{
    return s->vocab;
}

const char *dp_source_name(const struct dp_source *s)
{
    return s->name;
}

const struct dp_feed *dp_source_feed(const struct dp_source *s)
{
    return s->feed;
}

/* "feed ROW HEX" (HEX: a dp_feed_state, little-endian as the machine is) or "bare ROW HASH SEQ DRAW". */
int dp_source_state(const struct dp_source *s, uint64_t next_row, struct dp_buf *out, struct dp_err *e)
{
    if (s->feed) {
        struct dp_feed_state state;
        const unsigned char *p = (const unsigned char *)&state;
        dp_feed_state(s->feed, &state);
        state.sample = next_row;
        dp_buf_printf(out, "feed %" PRIu64 " ", next_row);
        for (size_t i = 0; i < sizeof state; i++) dp_buf_printf(out, "%02x", p[i]);
    } else {
        char hex[DP_HEX128];
        dp_hash128_hex(dp_hash128(s->map.ptr, s->map.len), hex);
        dp_buf_printf(out, "bare %" PRIu64 " %s %lld %d", next_row, hex, (long long)s->seq_len, s->draw);
    }
    return dp_buf_check(out, "state of the data", e);
}

static int resume_feed(struct dp_source *s, const char *hex, uint64_t row, struct dp_err *e)
{
    struct dp_feed_state state;
    unsigned char *p = (unsigned char *)&state;
    if (strlen(hex) != 2 * sizeof state)
        DP_FAIL(e, CORRUPT, "the state of the data is no one of this program");
    for (size_t i = 0; i < sizeof state; i++) {
        unsigned x;
        if (sscanf(hex + 2 * i, "%2x", &x) != 1) DP_FAIL(e, CORRUPT, "the state of the data is damaged");
        p[i] = (unsigned char)x;
    }
    state.sample = row;
    return dp_feed_resume(s->feed, &state, e);
}

int dp_source_resume(struct dp_source *s, struct dp_span text, uint64_t *next_row, struct dp_err *e)
{
    char all[2 * sizeof(struct dp_feed_state) + 64], kind[8], rest[2 * sizeof(struct dp_feed_state) + 8];
    uint64_t row;
    int used = 0;
    if (!text.ptr || text.len >= sizeof all)
        DP_FAIL(e, CORRUPT, "the checkpoint doesn't say where in the data it was");
    memcpy(all, text.ptr, text.len);
    all[text.len] = 0;
    _Static_assert(sizeof(struct dp_feed_state) == 176, "the format below has its size in hex digits");
    if (sscanf(all, "%7s %" SCNu64 " %359s%n", kind, &row, rest, &used) != 3 || !used)
        DP_FAIL(e, CORRUPT, "the state of the data is damaged");
    if ((strcmp(kind, "feed") == 0) != (s->feed != NULL))
        DP_FAIL(e, CONFIG, "it was trained on %s, not on %s", s->feed ? "a file of bare ids" : "shards",
                s->name);
    if (s->feed) DP_TRY(resume_feed(s, rest, row, e));
    else {
        struct dp_buf now;
        dp_buf_init(&now, sizeof all);
        int rc = dp_source_state(s, row, &now, e);
        bool same = rc >= 0 && dp_span_is(dp_buf_span(&now), all);
        dp_buf_release(&now);
        DP_TRY(rc);
        if (!same)
            DP_FAIL(e, CONFIG, "%s isn't the file it was trained on, or seq_len or draw are others",
                    s->name);
    }
    *next_row = row;
    return DP_OK;
}

static int feed_documents(const struct dp_source *s, uint64_t row, size_t most, struct dp_jsonw *w,
                          struct dp_err *e)
{
    size_t n = (size_t)s->seq_len;
    int32_t *cu = malloc((n + 1) * sizeof *cu), segments = 0;
    if (!cu) DP_FAIL(e, NOMEM, "documents of a row");
    int rc = dp_feed_get_meta(s->feed, row, NULL,
                              &(struct dp_feed_meta){.cu_seqlens = cu, .segments = &segments}, e);
    for (int32_t i = 0; rc >= 0 && i < segments && (size_t)i < most; i++) {
        struct dp_feed_origin o;
        char hex[DP_HEX128];
        rc = dp_feed_locate(s->feed, row, (uint64_t)cu[i], &o, e);
        if (rc == DP_EMPTY) break; /* padding */
        if (rc < 0) break;
        dp_hash128_hex(o.id, hex);
        dp_jsonw_begin(w, '{');
        dp_jsonw_member(w, "shard", o.shard);
        dp_jsonw_member_uint(w, "document", o.document);
        dp_jsonw_member(w, "id", hex);
        dp_jsonw_end(w, '}');
    }
    free(cu);
    return rc < 0 ? rc : DP_OK;
}

int dp_source_documents(const struct dp_source *s, uint64_t row, size_t most, struct dp_buf *out,
                        struct dp_err *e)
{
    struct dp_jsonw w;
    dp_jsonw_init(&w, out, 0);
    dp_jsonw_begin(&w, '[');
    int rc = DP_OK;
    if (s->feed) rc = feed_documents(s, row, most, &w, e);
    else {
        dp_jsonw_begin(&w, '{');
        dp_jsonw_member(&w, "file", s->name);
        dp_jsonw_member_uint(&w, "first_id", first_id(s, row));
        dp_jsonw_end(&w, '}');
    }
    dp_jsonw_end(&w, ']');
    return rc;
}
