/* trace: which document, source file and record a token of a batch came from, and the text around it.
 *
 * A spot is a place in a shard, with what asked for it (sample, row, token). Spots are collected first, then their documents are
 * looked up together, one pass a unit (daemon/trace.h), and each text is tokenised again: the ids must be the shard's, which proves
 * that the document is the one that the trainer saw. */
#include "base/json.h"
#include "cli/cli.h"
#include "daemon/feed_sources.h"
#include "daemon/trace.h"
#include "shards/manifest.h"
#include "tokenizer/encode.h"
#include "tokenizer/tokenizer.h"

#include <inttypes.h>
#include <stdlib.h>

struct own {
    int64_t sample, row, token, step, context, limit;
    char *shard, *doc;
};
#define O(f) offsetof(struct own, f)
static const struct dp_opt rows[] = {
    {.name = "sample", .type = DP_OPT_INT, .offset = O(sample), .preset = "-1", .min = -1, .max = 4e18, .arg = "N", .help = "first global sample of a batch, as for feed --start"},
    {.name = "step", .type = DP_OPT_INT, .offset = O(step), .preset = "-1", .min = -1, .max = 1e15, .arg = "S",
     .help = "step of the recipe's training run, as the loss log counts them (from 1)"},
    {.name = "row", .type = DP_OPT_INT, .offset = O(row), .preset = "-1", .min = -1, .max = 1e15, .arg = "R",
     .help = "row of that batch or step (--sample: 0 unless given; --step: all)"},
    {.name = "token", .type = DP_OPT_INT, .offset = O(token), .preset = "-1", .min = -1, .max = 1e15, .arg = "T",
     .help = "id of the row, or of the shard; without it: every document of the row"},
    {.name = "shard", .type = DP_OPT_STRING, .offset = O(shard), .arg = "NAME", .help = "a shard's body, or the beginning of its name (with --token)"},
    {.name = "doc", .type = DP_OPT_STRING, .offset = O(doc), .arg = "ID", .help = "a document's id, or the beginning of it: where it lies in the shards"},
    {.name = "context", .type = DP_OPT_INT, .offset = O(context), .preset = "80", .min = 0, .max = 1 << 20, .arg = "BYTES", .help = "text shown on each side of a token"},
    {.name = "limit", .letter = 'n', .type = DP_OPT_INT, .offset = O(limit), .preset = "20", .min = 1, .max = 1e6, .arg = "N", .help = "documents listed for --doc"},
    DP_OPT_END,
};

struct spot {
    int64_t sample, row, token; /* -1: not asked by it */
    size_t shard;
    uint64_t document, document_token, shard_token;
    uint64_t tokens; /* of the segment; 1 for a single token */
    bool padding;
};

struct tracing {
    struct dp_cli *c;
    const struct own *o;
    struct dp_manifest *m;
    char *manifest;
    struct dp_shard **shard; /* [m->count], opened when needed */
    struct dp_feed *feed;
    struct dp_feed_sources *sources;
    struct dp_tokenizer *tok;
    struct dp_encoder *enc;
    struct dp_ids ids;
    int32_t *held; /* ids of a document as the shard has them */
    struct spot *spot;
    size_t spots, cap;
    struct dp_trace *doc; /* [spots] */
    struct dp_buf out;
    bool one_token;
};

static int open_shard(struct tracing *t, size_t s, struct dp_err *e)
{
    return t->shard[s] ? DP_OK : dp_manifest_open_shard(t->m, t->manifest, s, &t->shard[s], e);
}

static int add_spot(struct tracing *t, struct spot s, struct dp_err *e)
{
    if (t->spots == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 64;
        struct spot *p = realloc(t->spot, cap * sizeof *p);
        if (!p) DP_FAIL(e, NOMEM, "trace of %zu places", cap);
        t->spot = p;
        t->cap = cap;
    }
    t->spot[t->spots++] = s;
    return DP_OK;
}

/* --- what is asked --- */

static bool goes_on(const struct spot *a, const struct spot *b)
{
    if (a->padding || b->padding) return a->padding && b->padding;
    return a->shard == b->shard && a->document == b->document && b->document_token == a->document_token + a->tokens;
}

/* A domain may have another manifest, but only this workspace's documents can be looked up. */
static int shard_number(const struct tracing *t, const struct dp_feed_origin *at, size_t *s, struct dp_err *e)
{
    if (at->shard_number < t->m->count && strcmp(t->m->shards[at->shard_number].name, at->shard) == 0) return *s = (size_t)at->shard_number, DP_OK;
    for (*s = 0; *s < t->m->count; ++*s)
        if (strcmp(t->m->shards[*s].name, at->shard) == 0) return DP_OK;
    DP_FAIL(e, NOTFOUND, "trace: shard %s isn't of this workspace; trace it in its own with --shard and --token %" PRIu64, at->shard, at->shard_token);
}

/* One token of a row, or the row's segments. */
static int add_row(struct tracing *t, uint64_t sample, int64_t row, int64_t seq_len, struct dp_err *e)
{
    int64_t first = t->o->token < 0 ? 0 : t->o->token, last = t->o->token < 0 ? seq_len : t->o->token;
    struct spot run = {.tokens = 0};
    if (first > seq_len) DP_FAIL(e, USAGE, "--token %" PRId64 ": a row has ids 0 to %" PRId64, first, seq_len);
    for (int64_t k = first; k <= last; k++) {
        struct dp_feed_origin at = {0};
        size_t shard = 0;
        int rc = dp_feed_locate(t->feed, sample, (uint64_t)k, &at, e);
        if (rc < 0) return rc;
        if (rc == DP_OK) DP_TRY(shard_number(t, &at, &shard, e));
        struct spot s = {(int64_t)sample, row, k, shard, at.document, at.document_token, at.shard_token, 1, rc == DP_EMPTY};
        if (run.tokens && goes_on(&run, &s)) run.tokens++;
        else {
            if (run.tokens) DP_TRY(add_spot(t, run, e));
            run = s;
        }
    }
    return add_spot(t, run, e);
}

static int add_sample(struct tracing *t, struct dp_err *e)
{
    const struct dp_feed_options *f = &t->c->options.feed;
    int64_t row = t->o->row < 0 ? 0 : t->o->row;
    if (row >= f->batch) DP_FAIL(e, USAGE, "--row %" PRId64 ": a batch has rows 0 to %" PRId64, row, f->batch - 1);
    DP_TRY(dp_feed_sources_open(&t->sources, &t->feed, &t->c->road, t->manifest, f, e));
    return add_row(t, (uint64_t)(t->o->sample + f->rank * f->batch + row), row, f->seq_len, e);
}

/* What the trainer reads at a step: daemon/step_train.c. */
static int add_step(struct tracing *t, struct dp_err *e)
{
    const struct dp_train_options *o = &t->c->options.train;
    struct dp_feed_options f = t->c->options.feed;
    int64_t n = o->batch * o->accum, step = t->o->step;
    if (step < 1 || step > o->steps) DP_FAIL(e, USAGE, "--step %" PRId64 ": the run has steps 1 to %" PRId64, step, o->steps);
    if (t->o->row >= n) DP_FAIL(e, USAGE, "--row %" PRId64 ": a step has rows 0 to %" PRId64 " (batch x accum)", t->o->row, n - 1);
    f.seq_len = o->seq_len;
    f.batch = o->batch;
    f.rank = 0;
    f.world = 1;
    f.split = DP_FEED_TRAIN;
    DP_TRY(dp_feed_open(&t->feed, t->manifest, &f, e));
    int64_t first = t->o->row < 0 ? 0 : t->o->row, last = t->o->row < 0 ? n - 1 : t->o->row;
    for (int64_t row = first; row <= last; row++) DP_TRY(add_row(t, (uint64_t)((step - 1) * n + row), row, f.seq_len, e));
    return DP_OK;
}

static int add_shard(struct tracing *t, struct dp_err *e)
{
    size_t len = strlen(t->o->shard), found = 0, s = 0;
    for (size_t i = 0; i < t->m->count; i++)
        if (strncmp(t->m->shards[i].name, t->o->shard, len) == 0) {
            found++;
            s = i;
            if (!t->m->shards[i].name[len]) {
                found = 1;
                break;
            }
        }
    if (found != 1) DP_FAIL(e, NOTFOUND, "--shard %s: %zu of the manifest's %zu shards begin so", t->o->shard, found, t->m->count);
    DP_TRY(open_shard(t, s, e));
    if (t->o->token < 0 || (uint64_t)t->o->token >= dp_shard_tokens(t->shard[s]))
        DP_FAIL(e, USAGE, "--token: %s has ids 0 to %" PRIu64, t->m->shards[s].name, dp_shard_tokens(t->shard[s]) - 1);
    uint64_t at = (uint64_t)t->o->token, d = dp_shard_document_at(t->shard[s], at);
    return add_spot(t, (struct spot){-1, -1, -1, s, d, at - (d ? dp_shard_ends(t->shard[s])[d - 1] : 0), at, 1, false}, e);
}

static int add_documents(struct tracing *t, struct dp_err *e)
{
    size_t len = strlen(t->o->doc);
    for (size_t s = 0; s < t->m->count; s++) {
        DP_TRY(open_shard(t, s, e));
        const struct dp_shard *sh = t->shard[s];
        for (uint64_t d = 0; d < dp_shard_documents(sh) && t->spots < (size_t)t->o->limit; d++) {
            char hex[DP_HEX128];
            dp_hash128_hex(dp_shard_doc_ids(sh)[d], hex);
            if (len >= sizeof hex || memcmp(hex, t->o->doc, len) != 0) continue;
            uint64_t from = d ? dp_shard_ends(sh)[d - 1] : 0;
            DP_TRY(add_spot(t, (struct spot){-1, -1, -1, s, d, 0, from, dp_shard_ends(sh)[d] - from, false}, e));
        }
    }
    if (!t->spots) DP_FAIL(e, NOTFOUND, "--doc %s: no document of the shards has this id; `dpipe inspect --id` looks among dropped ones", t->o->doc);
    return DP_OK;
}

/* --- the answer --- */

struct text_place {
    uint64_t byte; /* of the token in the document's text */
    struct dp_span before, token, after;
    bool end; /* the token is the document's EOT */
};

/* Move p to the begin of a character, towards `to`. */
static const char *whole_char(const char *p, const char *to, int step)
{
    while (p != to && ((unsigned char)*p & 0xc0) == 0x80) p += step;
    return p;
}

/* Tokenise the text again, compare with the shard, and find the token's bytes. */
static int find_text(struct tracing *t, const struct spot *s, const struct dp_trace *d, struct text_place *out, struct dp_err *e)
{
    const struct dp_shard *sh = t->shard[s->shard];
    uint64_t from = s->document ? dp_shard_ends(sh)[s->document - 1] : 0, n = dp_shard_ends(sh)[s->document] - from;
    t->ids.len = 0;
    DP_TRY(dp_encode(t->enc, dp_span(d->text, d->text_len), &t->ids, e));
    int32_t *held = realloc(t->held, (size_t)(n + 1) * sizeof *held);
    if (!held) DP_FAIL(e, NOMEM, "document of %" PRIu64 " ids", n);
    t->held = held;
    DP_TRY(dp_shard_copy_ids(sh, from, n, held, e));
    uint64_t own = dp_shard_meta(sh)->eot >= 0 ? n - 1 : n;
    bool same = t->ids.len == own;
    for (uint64_t i = 0; same && i < own; i++) same = t->ids.ptr[i] == (uint32_t)held[i];
    if (!same)
        DP_FAIL(e, BROKEN, "%s, document %" PRIu64 ": tokenising %s (%s) again gives other ids than the shard has; was the store changed by hand?",
                t->m->shards[s->shard].name, s->document, d->path, d->pos);
    out->byte = 0;
    for (uint64_t i = 0; i < s->document_token && i < own; i++) out->byte += dp_tokenizer_bytes(t->tok, (uint32_t)held[i]).len;
    out->end = s->document_token >= own;
    size_t len = out->end ? 0 : dp_tokenizer_bytes(t->tok, (uint32_t)held[s->document_token]).len;
    const char *text = d->text, *end = text + d->text_len, *at = text + out->byte;
    DP_ASSERT(out->byte + len <= d->text_len);
    size_t left = (size_t)(at - text), right = (size_t)(end - at) - len, k = (size_t)t->o->context;
    const char *b = k < left ? whole_char(at - k, at, 1) : text, *a = k < right ? whole_char(at + len + k, at + len, -1) : end;
    out->before = dp_span(b, (size_t)(at - b));
    out->token = dp_span(at, len);
    out->after = dp_span(at + len, (size_t)(a - at) - len);
    return DP_OK;
}

static void key_str(struct dp_jsonw *w, const char *key, const char *value)
{
    if (!value || !*value) return;
    dp_jsonw_key(w, key);
    dp_jsonw_cstr(w, value);
}

static void key_int(struct dp_jsonw *w, const char *key, int64_t value)
{
    if (value < 0) return;
    dp_jsonw_key(w, key);
    dp_jsonw_int(w, value);
}

static void print_json(struct tracing *t, const struct spot *s, const struct dp_trace *d, const struct text_place *p)
{
    struct dp_jsonw w;
    char hex[DP_HEX128];
    dp_jsonw_init(&w, &t->out, 0);
    dp_jsonw_begin(&w, '{');
    key_int(&w, "sample", s->sample);
    key_int(&w, "row", s->row);
    key_int(&w, "token", s->token);
    key_int(&w, "tokens", (int64_t)s->tokens);
    if (s->padding) {
        dp_jsonw_key(&w, "padding");
        dp_jsonw_bool(&w, true);
    } else {
        const struct dp_shard *sh = t->shard[s->shard];
        if (p) key_int(&w, "id", (int64_t)dp_shard_id(sh, s->shard_token));
        key_str(&w, "shard", t->m->shards[s->shard].name);
        key_int(&w, "shard_token", (int64_t)s->shard_token);
        key_int(&w, "shard_document", (int64_t)s->document);
        key_int(&w, "document_token", (int64_t)s->document_token);
        dp_hash128_hex(d->id, hex);
        key_str(&w, "document", hex);
        dp_hash128_hex(dp_shard_contents(sh)[s->document], hex);
        key_str(&w, "content", hex);
        key_str(&w, "source", d->path);
        key_str(&w, "source_name", d->name);
        key_str(&w, "source_sha256", d->digest);
        key_str(&w, "position", d->pos);
        key_str(&w, "format", d->format);
        key_int(&w, "record_bytes", (int64_t)d->bytes);
        key_str(&w, "url", d->url);
        key_str(&w, "title", d->title);
        key_str(&w, "lang", d->lang);
    }
    if (p) {
        key_int(&w, "text_byte", (int64_t)p->byte);
        dp_jsonw_key(&w, "text");
        dp_jsonw_str(&w, p->token);
        dp_jsonw_key(&w, "before");
        dp_jsonw_str(&w, p->before);
        dp_jsonw_key(&w, "after");
        dp_jsonw_str(&w, p->after);
        dp_jsonw_key(&w, "end_of_document");
        dp_jsonw_bool(&w, p->end);
    }
    dp_jsonw_end(&w, '}');
    dp_buf_add_char(&t->out, '\n');
}

static void add_visible(struct dp_buf *b, struct dp_span s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        dp_buf_add_char(b, c < 0x20 || c == 0x7f ? ' ' : s.ptr[i]);
    }
}

static void print_text(struct tracing *t, const struct spot *s, const struct dp_trace *d, const struct text_place *p)
{
    struct dp_buf *b = &t->out;
    char hex[DP_HEX128];
    if (s->sample >= 0) dp_buf_printf(b, "sample %" PRId64 ", row %" PRId64 ", ", s->sample, s->row);
    if (s->padding) {
        dp_buf_printf(b, "ids %" PRId64 " to %" PRId64 ": padding\n", s->token, s->token + (int64_t)s->tokens - 1);
        return;
    }
    if (s->sample >= 0 && s->tokens == 1) dp_buf_printf(b, "token %" PRId64 ": ", s->token);
    else if (s->sample >= 0) dp_buf_printf(b, "tokens %" PRId64 " to %" PRId64 ": ", s->token, s->token + (int64_t)s->tokens - 1);
    dp_hash128_hex(d->id, hex);
    if (p) dp_buf_printf(b, "id %" PRIu32 ", ", dp_shard_id(t->shard[s->shard], s->shard_token));
    dp_buf_printf(b, "token %" PRIu64 " of document %s\n", s->document_token, hex);
    dp_buf_printf(b, "    source    %s\n    position  %s (%s, %" PRIu64 " bytes)\n", d->path, *d->pos ? d->pos : "the whole file", d->format, d->bytes);
    if (*d->url) dp_buf_printf(b, "    url       %s\n", d->url);
    if (*d->title) dp_buf_printf(b, "    title     %s\n", d->title);
    dp_buf_printf(b, "    shard     %s, document %" PRIu64 ", token %" PRIu64 "%s", t->m->shards[s->shard].name, s->document, s->shard_token, s->tokens > 1 ? "" : "\n");
    if (s->tokens > 1) dp_buf_printf(b, " to %" PRIu64 "\n", s->shard_token + s->tokens - 1);
    if (!p) return;
    dp_buf_printf(b, "    text      byte %" PRIu64 ": ", p->byte);
    add_visible(b, p->before);
    dp_buf_add_str(b, "[");
    if (p->end) dp_buf_add_str(b, "end of document");
    add_visible(b, p->token);
    dp_buf_add_str(b, "]");
    add_visible(b, p->after);
    dp_buf_add_char(b, '\n');
}

static int answer(struct tracing *t, struct dp_err *e)
{
    size_t n = 0;
    t->doc = calloc(t->spots + 1, sizeof *t->doc);
    if (!t->doc) DP_FAIL(e, NOMEM, "trace");
    for (size_t i = 0; i < t->spots; i++) {
        const struct spot *s = &t->spot[i];
        if (s->padding) continue;
        DP_TRY(open_shard(t, s->shard, e));
        t->doc[n++] = (struct dp_trace){.shard = t->m->shards[s->shard].name, .source = dp_shard_sources(t->shard[s->shard])[s->document],
                                        .id = dp_shard_doc_ids(t->shard[s->shard])[s->document], .want_text = t->one_token};
    }
    DP_TRY(dp_trace_find(&t->c->road, t->doc, n, e));
    for (size_t i = 0, k = 0; i < t->spots; i++) {
        const struct spot *s = &t->spot[i];
        const struct dp_trace *d = s->padding ? NULL : &t->doc[k++];
        struct text_place p;
        bool with_text = d && t->one_token;
        if (with_text) DP_TRY(find_text(t, s, d, &p, e));
        if (t->c->global.json) print_json(t, s, d, with_text ? &p : NULL);
        else print_text(t, s, d, with_text ? &p : NULL);
        if (t->out.len > 1 << 16) {
            DP_TRY(dp_cli_print(&t->out, e));
            dp_buf_clear(&t->out);
        }
    }
    return dp_cli_print(&t->out, e);
}

static int open_tokenizer(struct tracing *t, struct dp_err *e)
{
    char *path = dp_road_path(&t->c->road, "train-bpe", t->c->road.bpe.hex, "tokenizer", 0, e);
    int rc = path ? dp_tokenizer_load_file(&t->tok, path, NULL, e) : DP_NOTFOUND;
    free(path);
    return rc < 0 ? rc : dp_encoder_open(&t->enc, t->tok, 0, DP_SPECIAL_NONE, e);
}

static int run(struct dp_cli *c, struct dp_err *e)
{
    const struct own *o = c->own;
    struct tracing t = {.c = c, .o = o, .one_token = o->token >= 0};
    int asked = (o->sample >= 0) + (o->step >= 0) + (o->shard != NULL) + (o->doc != NULL);
    if (asked != 1) DP_FAIL(e, USAGE, "trace: one of --sample N, --step S, --shard NAME or --doc ID is wanted");
    if (o->shard && o->token < 0) DP_FAIL(e, USAGE, "trace --shard: which id? add --token N");
    if (o->doc && o->token >= 0) DP_FAIL(e, USAGE, "trace --doc takes no --token");
    DP_TRY(dp_cli_manifest(c, NULL, &t.manifest, e));
    dp_buf_init(&t.out, (size_t)1 << 30);
    int rc = dp_manifest_read(&t.m, t.manifest, e);
    if (rc >= 0 && !(t.shard = calloc(t.m->count + 1, sizeof *t.shard))) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "trace");
    if (rc >= 0) rc = o->sample >= 0 ? add_sample(&t, e) : o->step >= 0 ? add_step(&t, e) : o->shard ? add_shard(&t, e) : add_documents(&t, e);
    if (rc >= 0 && t.one_token) rc = open_tokenizer(&t, e);
    if (rc >= 0) rc = answer(&t, e);
    if (t.doc) dp_trace_release(t.doc, t.spots);
    for (size_t i = 0; t.shard && i < t.m->count; i++) dp_shard_close(t.shard[i]);
    dp_feed_close(t.feed);
    dp_feed_sources_close(t.sources);
    dp_encoder_close(t.enc);
    dp_tokenizer_free(t.tok);
    dp_ids_release(&t.ids);
    dp_manifest_free(t.m);
    dp_buf_release(&t.out);
    free(t.held);
    free(t.shard);
    free(t.spot);
    free(t.doc);
    free(t.manifest);
    return rc;
}

extern const struct dp_command dp_cmd_trace;
const struct dp_command dp_cmd_trace = {.name = "trace", .summary = "where a token of a batch came from", .args = "", .rows = rows,
    .own_size = sizeof(struct own), .sections = "feed", .run = run,
    .about = "Names document, source file, record position and URL of any token of any batch (--sample, with the feed's options), of any step of the "
             "recipe's training run (--step), or of a shard (--shard, --token). With --token it shows the text around it, having tokenised the document "
             "again and compared every id with the shard's."};
