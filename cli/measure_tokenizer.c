/* bench tokenizer: encoding cold and warm, with one thread and more; splitting, counting and decoding; training.
 *
 * Whatever is first in a process pays for page faults and cold tables, so the order is: training when it is asked for (its figures are then those of a fresh
 * process), encoding with the first number of threads, all the rest. Documents are taken by threads one after the other. Each thread's ids go to
 * one buffer, document after document, as dpipe's own writers have them; with --keep-ids all stay in memory, whose pages are then touched for the first time too. */
#include "base/ascending.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/thread.h"
#include "cli/measure.h"
#include "cli/text_input.h"
#include "daemon/events.h"
#include "tokenizer/encode.h"
#include "tokenizer/tokenizer.h"

#include <stdlib.h>

enum { THREADS_MAX = 64, COUNTS_MAX = 8 };

struct timing {
    double wall[DP_MEASURE_ROUNDS_MAX], cpu[DP_MEASURE_ROUNDS_MAX];
    size_t n;
};
struct worker {
    struct dp_encoder *enc;
    struct dp_ids ids;
    struct dp_err err;
    int rc;
    uint64_t count;
};
struct bench {
    struct dp_cli *cli;
    const struct dp_measure_args *o;
    struct dp_buf text;    /* of JSON lines, or of several files */
    struct dp_map map;     /* of one text file */
    struct dp_span all;
    size_t *ends, docs, cap; /* of documents, in all */
    struct dp_tokenizer *tok;
    int threads[COUNTS_MAX];
    size_t counts;
    struct worker worker[THREADS_MAX];
    uint64_t ids; /* of one pass */
    bool worked; /* something was measured in this process already */
};

/* --- texts --- */

static int add_document(struct bench *b, size_t end, struct dp_err *e)
{
    if (b->docs == b->cap) {
        size_t cap = b->cap * 2 + 1024, *p = realloc(b->ends, cap * sizeof *p);
        if (!p) DP_FAIL(e, NOMEM, "bench: list of documents");
        b->ends = p;
        b->cap = cap;
    }
    b->ends[b->docs++] = end;
    return DP_OK;
}

static int add_text(void *ctx, struct dp_span text, struct dp_err *e)
{
    struct bench *b = ctx;
    if (b->o->limit && b->text.len >= b->o->limit) return DP_OK;
    dp_buf_add_span(&b->text, text);
    DP_TRY(dp_buf_check(&b->text, "bench: the texts", e));
    return b->o->jsonl ? add_document(b, b->text.len, e) : DP_OK;
}

/* Lines that are together as long as a document is wanted. */
static int cut_documents(struct bench *b, struct dp_err *e)
{
    for (size_t at = 0; at < b->all.len;) {
        const char *nl = NULL;
        if (b->all.len - at > b->o->doc_bytes) nl = memchr(b->all.ptr + at + b->o->doc_bytes, '\n', b->all.len - at - b->o->doc_bytes);
        at = nl ? (size_t)(nl - b->all.ptr) + 1 : b->all.len;
        DP_TRY(add_document(b, at, e));
    }
    return DP_OK;
}

static int read_texts(struct bench *b, const char **files, size_t n, struct dp_err *e)
{
    const struct dp_text_input in = {.whole_file = !b->o->jsonl, .jsonl = b->o->jsonl, .field = b->o->field};
    dp_buf_init(&b->text, (size_t)1 << 40);
    if (n == 1 && !b->o->jsonl && strcmp(files[0], "-") != 0) {
        DP_TRY(dp_map_open(&b->map, files[0], e));
        b->all = dp_span(b->map.ptr, b->map.len);
    } else {
        for (size_t i = 0; i < n; i++) DP_TRY(dp_text_input_each(&in, files[i], add_text, b, e));
        b->all = dp_buf_span(&b->text);
    }
    if (b->o->limit && b->all.len > b->o->limit && !b->o->jsonl) b->all.len = b->o->limit;
    if (!b->o->jsonl) DP_TRY(cut_documents(b, e));
    volatile uint64_t touched = dp_hash64(b->all.ptr, b->all.len, 0); /* reading the file isn't what is measured */
    (void)touched;
    if (!b->all.len) DP_FAIL(e, USAGE, "bench tokenizer: the files hold no text");
    return DP_OK;
}

static struct dp_span document(const struct bench *b, size_t i)
{
    size_t from = i ? b->ends[i - 1] : 0;
    return dp_span(b->all.ptr + from, b->ends[i] - from);
}

/* --- measuring --- */

struct clocks {
    double wall, cpu;
};
static struct clocks start(void)
{
    return (struct clocks){dp_now(), dp_clock_seconds(CLOCK_PROCESS_CPUTIME_ID)};
}

static void stop(struct timing *t, struct clocks since)
{
    if (t->n == DP_MEASURE_ROUNDS_MAX) return;
    t->wall[t->n] = dp_now() - since.wall;
    t->cpu[t->n++] = dp_clock_seconds(CLOCK_PROCESS_CPUTIME_ID) - since.cpu;
}

static void encode_task(void *ctx, size_t i, int worker)
{
    struct bench *b = ctx;
    struct worker *w = &b->worker[worker];
    if (!b->o->keep_ids) w->ids.len = 0;
    size_t had = w->ids.len;
    if (w->rc >= 0) w->rc = dp_encode(w->enc, document(b, i), &w->ids, &w->err);
    w->count += w->ids.len - had;
}

static int encode_pass(struct bench *b, struct dp_pool *pool, int threads, struct timing *t, struct dp_err *e)
{
    if (b->cli->stop && atomic_load(b->cli->stop)) DP_FAIL(e, STOPPED, "bench: stopped");
    for (int i = 0; i < threads; i++) b->worker[i].ids.len = b->worker[i].count = 0;
    struct clocks since = start();
    dp_pool_run(pool, b->docs, encode_task, b);
    stop(t, since);
    b->ids = 0;
    for (int i = 0; i < threads; i++) {
        if (b->worker[i].rc < 0) return *e = b->worker[i].err, b->worker[i].rc;
        b->ids += b->worker[i].count;
    }
    return DP_OK;
}

static void close_encoders(struct bench *b, int threads)
{
    for (int i = 0; i < threads; i++) {
        dp_encoder_close(b->worker[i].enc);
        dp_ids_release(&b->worker[i].ids);
        b->worker[i] = (struct worker){.enc = NULL};
    }
}

static int open_encoders(struct bench *b, int threads, struct dp_err *e)
{
    for (int i = 0; i < threads; i++) {
        DP_TRY(i ? dp_encoder_open_beside(&b->worker[i].enc, b->worker[0].enc, DP_SPECIAL_NONE, e)
                 : dp_encoder_open(&b->worker[i].enc, b->tok, 0, DP_SPECIAL_NONE, e));
        if (b->o->keep_ids) DP_TRY(dp_ids_reserve(&b->worker[i].ids, b->all.len / 2 + 1024, e));
    }
    return DP_OK;
}

/* Cold rounds by fresh encoders, then warm ones by the last. */
static int encode(struct bench *b, int threads, struct timing *cold, struct timing *warm, struct dp_err *e)
{
    struct dp_pool *pool = NULL;
    int rc = threads > 1 ? dp_pool_open(&pool, threads, e) : DP_OK;
    for (int64_t k = 0; rc >= 0 && k < b->o->rounds; k++) {
        close_encoders(b, threads);
        rc = open_encoders(b, threads, e);
        if (rc >= 0) rc = encode_pass(b, pool, threads, cold, e);
    }
    for (int64_t k = 0; rc >= 0 && k < b->o->rounds; k++) rc = encode_pass(b, pool, threads, warm, e);
    dp_pool_close(pool);
    b->worked = true;
    return rc;
}

static int split_pass(const struct bench *b, struct timing *t, uint64_t *pieces, struct dp_err *e)
{
    enum dp_split split = dp_tokenizer_split(b->tok);
    struct dp_splitter *own = dp_tokenizer_splitter(b->tok);
    struct dp_cutter *cutter = NULL;
    size_t ends[256];
    int n = 0;
    if (own) DP_TRY(dp_cutter_open(&cutter, own, e));
    struct clocks since = start();
    *pieces = 0;
    for (size_t i = 0; i < b->docs && n >= 0; i++)
        for (size_t pos = 0; (n = own ? dp_cutter_run(cutter, document(b, i), &pos, ends, 256, e) : (int)dp_split_run(split, document(b, i), &pos, ends, 256)) > 0;)
            *pieces += (uint64_t)n;
    stop(t, since);
    dp_cutter_close(cutter);
    return n;
}

static int count_pass(struct bench *b, struct timing *t, struct dp_err *e)
{
    struct clocks since = start();
    uint64_t all = 0, n;
    for (size_t i = 0; i < b->docs; i++, all += n) DP_TRY(dp_encode_count(b->worker[0].enc, document(b, i), &n, e));
    stop(t, since);
    if (all != b->ids) DP_FAIL(e, BROKEN, "bench: counted %llu ids, encoded %llu", (unsigned long long)all, (unsigned long long)b->ids);
    return DP_OK;
}

/* The ids of a one-thread pass, which are in order, document by document. */
static int decode_pass(struct bench *b, const size_t *ids_ends, struct dp_buf *out, struct timing *t, struct dp_err *e)
{
    const uint32_t *ids = b->worker[0].ids.ptr;
    struct clocks since = start();
    out->len = 0;
    for (size_t i = 0; i < b->docs; i++) {
        size_t from = i ? ids_ends[i - 1] : 0;
        DP_TRY(dp_decode(b->tok, ids + from, ids_ends[i] - from, out, e));
    }
    stop(t, since);
    return DP_OK;
}

static int decode(struct bench *b, struct timing *t, struct dp_err *e)
{
    struct dp_buf out;
    size_t *ends = malloc(b->docs * sizeof *ends);
    dp_buf_init(&out, b->all.len);
    struct worker *w = &b->worker[0];
    w->ids.len = 0;
    int rc = ends && dp_buf_reserve(&out, b->all.len) ? DP_OK : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "bench: decoded text");
    for (size_t i = 0; rc >= 0 && i < b->docs; ends[i++] = w->ids.len) rc = dp_encode(w->enc, document(b, i), &w->ids, e);
    for (int64_t k = 0; rc >= 0 && k < b->o->rounds; k++) rc = decode_pass(b, ends, &out, t, e);
    if (rc >= 0 && !dp_span_eq(dp_buf_span(&out), b->all)) rc = dp_err_set(e, DP_BROKEN, 0, __FILE__, __LINE__, "bench: decoding the ids didn't give the text back");
    dp_buf_release(&out);
    free(ends);
    return rc;
}

struct training {
    struct timing count, merge;
    uint64_t words;
    uint32_t merges;
    double peak_mib;
    bool fresh;
};

static int train(struct bench *b, struct training *t, struct dp_err *e)
{
    struct dp_bpe_train_options o = b->cli->options.bpe;
    struct dp_bpe_counter *counter;
    struct dp_tokenizer *made = NULL;
    enum dp_split split = (enum dp_split)o.split;
    if (b->o->split) DP_TRY(dp_split_parse(dp_span_str(b->o->split), &split, e));
    o.split = (int)split;
    if (b->o->train) o.vocab_size = b->o->train;
    t->fresh = !b->worked;
    struct clocks since = start();
    DP_TRY(dp_bpe_counter_open(&counter, split, e));
    int rc = DP_OK;
    for (size_t i = 0; rc >= 0 && i < b->docs; i++) rc = dp_bpe_counter_add(counter, document(b, i), e);
    stop(&t->count, since);
    t->words = dp_bpe_counter_unique(counter);
    since = start();
    if (rc >= 0) rc = dp_bpe_train(&made, &o, counter, NULL, NULL, e);
    dp_bpe_counter_close(counter);
    stop(&t->merge, since);
    t->peak_mib = dp_measure_status_mib("VmHWM");
    if (made) t->merges = dp_tokenizer_merges(made);
    b->worked = true;
    if (b->tok) dp_tokenizer_free(made);
    else b->tok = made;
    return rc;
}

/* --- telling --- */

/* MB per second: of the first round, and median and best of all. */
static void print_rates(struct dp_jsonw *w, const struct bench *b, const struct timing *t, bool first)
{
    double wall[DP_MEASURE_ROUNDS_MAX], cpu[DP_MEASURE_ROUNDS_MAX], mb = 1e-6 * (double)b->all.len;
    for (size_t i = 0; i < t->n; i++) {
        wall[i] = mb / (t->wall[i] + 1e-9);
        cpu[i] = mb / (t->cpu[i] + 1e-9);
    }
    if (first) dp_measure_member(w, "first_mb_per_cpu_s", cpu[0], 1000);
    if (first) dp_measure_member(w, "first_mb_per_s", wall[0], 1000);
    qsort(wall, t->n, sizeof *wall, dp_ascending_doubles);
    qsort(cpu, t->n, sizeof *cpu, dp_ascending_doubles);
    dp_measure_member(w, "mb_per_cpu_s", cpu[t->n / 2], 1000);
    dp_measure_member(w, "mb_per_s", wall[t->n / 2], 1000);
    dp_measure_member(w, "best_mb_per_cpu_s", cpu[t->n - 1], 1000);
    dp_measure_member(w, "best_mb_per_s", wall[t->n - 1], 1000);
}

static double best_wall(const struct timing *t)
{
    double least = t->wall[0];
    for (size_t i = 1; i < t->n; i++)
        if (t->wall[i] < least) least = t->wall[i];
    return least;
}

static void print_object(struct dp_jsonw *w, const char *key, const struct bench *b, const struct timing *t, bool first)
{
    dp_jsonw_key(w, key);
    dp_jsonw_begin(w, '{');
    print_rates(w, b, t, first);
    dp_jsonw_end(w, '}');
}

static void print_encode(struct dp_jsonw *w, const struct bench *b, const struct timing (*t)[2])
{
    dp_jsonw_key(w, "encode");
    dp_jsonw_begin(w, '[');
    for (size_t i = 0; i < b->counts; i++) {
        dp_jsonw_begin(w, '{');
        dp_jsonw_member_int(w, "threads", b->threads[i]);
        dp_jsonw_key(w, "fresh_process");
        dp_jsonw_bool(w, i == 0 && b->o->tokenizer && !b->o->train);
        print_object(w, "cold", b, &t[i][0], true);
        print_object(w, "warm", b, &t[i][1], false);
        if (i) dp_measure_member(w, "speedup_cold", best_wall(&t[0][0]) / best_wall(&t[i][0]), 1000);
        if (i) dp_measure_member(w, "speedup_warm", best_wall(&t[0][1]) / best_wall(&t[i][1]), 1000);
        dp_jsonw_end(w, '}');
    }
    dp_jsonw_end(w, ']');
}

static void print_training(struct dp_jsonw *w, const struct bench *b, const struct training *t)
{
    dp_jsonw_key(w, "train");
    dp_jsonw_begin(w, '{');
    dp_jsonw_key(w, "fresh_process");
    dp_jsonw_bool(w, t->fresh);
    dp_jsonw_member_int(w, "merges", t->merges);
    dp_jsonw_member_int(w, "words", (int64_t)t->words);
    dp_measure_member(w, "count_cpu_s", t->count.cpu[0], 1000);
    dp_measure_member(w, "merge_cpu_s", t->merge.cpu[0], 1000);
    dp_measure_member(w, "cpu_s", t->count.cpu[0] + t->merge.cpu[0], 1000);
    dp_measure_member(w, "wall_s", t->count.wall[0] + t->merge.wall[0], 1000);
    dp_measure_member(w, "mb_per_cpu_s", 1e-6 * (double)b->all.len / (t->count.cpu[0] + t->merge.cpu[0]), 1000);
    dp_measure_member(w, "peak_rss_mib", t->peak_mib, 10); /* with the pages of the text */
    dp_jsonw_end(w, '}');
}

struct results {
    struct timing encode[COUNTS_MAX][2], split, count, decode;
    struct training train;
    uint64_t pieces;
    bool trained;
};

static int print(struct bench *b, const struct results *r, struct dp_err *e)
{
    struct dp_buf out;
    struct dp_jsonw w;
    char hex[DP_HEX128];
    dp_buf_init(&out, 1 << 20);
    dp_jsonw_init(&w, &out, 2);
    dp_jsonw_begin(&w, '{');
    dp_measure_machine(&w, "tokenizer");
    dp_jsonw_member(&w, "tokenizer", b->o->tokenizer ? b->o->tokenizer : "trained");
    dp_jsonw_member(&w, "split", dp_split_name(dp_tokenizer_split(b->tok)));
    dp_hash128_hex(dp_tokenizer_digest(b->tok), hex);
    dp_jsonw_member(&w, "digest", hex);
    dp_jsonw_member_int(&w, "bytes", (int64_t)b->all.len);
    dp_jsonw_member_int(&w, "documents", (int64_t)b->docs);
    dp_jsonw_key(&w, "ids_kept");
    dp_jsonw_bool(&w, b->o->keep_ids);
    dp_jsonw_member_int(&w, "pieces", (int64_t)r->pieces);
    dp_jsonw_member_int(&w, "ids", (int64_t)b->ids);
    dp_jsonw_member_int(&w, "rounds", b->o->rounds);
    if (r->trained) print_training(&w, b, &r->train);
    print_encode(&w, b, r->encode);
    print_object(&w, "split_only", b, &r->split, false);
    print_object(&w, "count_only", b, &r->count, false);
    print_object(&w, "decode", b, &r->decode, true);
    dp_measure_member(&w, "rss_mib", dp_measure_status_mib("VmRSS"), 10);
    dp_measure_member(&w, "rss_anon_mib", dp_measure_status_mib("RssAnon"), 10);
    dp_measure_member(&w, "peak_rss_mib", dp_measure_status_mib("VmHWM"), 10);
    return dp_measure_end(&w, &out, e);
}

/* --- */

static int parse_threads(struct bench *b, const char *s, struct dp_err *e)
{
    do {
        char *end;
        long v = strtol(s, &end, 10);
        if (end == s || (*end && *end != ',') || v < 1 || v > THREADS_MAX || b->counts == COUNTS_MAX)
            DP_FAIL(e, USAGE, "--threads \"%s\": up to %d numbers from 1 to %d, with commas between", b->o->threads, COUNTS_MAX, THREADS_MAX);
        b->threads[b->counts++] = (int)v;
        s = end + (*end == ',');
    } while (*s);
    return DP_OK;
}

static int measure(struct bench *b, struct results *r, const char **files, size_t n, struct dp_err *e)
{
    DP_TRY(parse_threads(b, b->o->threads, e));
    if (b->o->tokenizer) DP_TRY(dp_tokenizer_load_file(&b->tok, b->o->tokenizer, b->o->split, e));
    DP_TRY(read_texts(b, files, n, e));
    r->trained = b->o->train || !b->tok;
    if (r->trained) DP_TRY(train(b, &r->train, e));
    for (size_t i = 0; i < b->counts; i++) {
        close_encoders(b, THREADS_MAX);
        DP_TRY(encode(b, b->threads[i], &r->encode[i][0], &r->encode[i][1], e));
    }
    for (int64_t k = 0; k < b->o->rounds; k++) DP_TRY(split_pass(b, &r->split, &r->pieces, e));
    for (int64_t k = 0; k < b->o->rounds; k++) DP_TRY(count_pass(b, &r->count, e));
    DP_TRY(decode(b, &r->decode, e));
    return print(b, r, e);
}

int dp_measure_tokenizer(struct dp_cli *c, const struct dp_measure_args *o, const char **args, size_t n, struct dp_err *e)
{
    if (!n) DP_FAIL(e, USAGE, "bench tokenizer: of which text? dpipe bench tokenizer --tokenizer FILE TEXT...");
    DP_TRY(dp_cli_options(c, e));
    struct bench *b = calloc(1, sizeof *b);
    struct results *r = calloc(1, sizeof *r);
    int rc = DP_NOMEM;
    if (b && r) {
        *b = (struct bench){.cli = c, .o = o};
        rc = measure(b, r, args, n, e);
        close_encoders(b, THREADS_MAX);
        dp_tokenizer_free(b->tok);
        dp_buf_release(&b->text);
        dp_map_close(&b->map);
        free(b->ends);
    } else dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "bench");
    free(b);
    free(r);
    return rc;
}
