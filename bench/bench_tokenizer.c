/* bench/bench_tokenizer.c - speed of splitting, training and encoding on a file, one JSON line each, per CPU second of one thread.
 * usage: bench_tokenizer FILE [TOKENIZER|-] [SPLIT] [VOCAB]
 * TOKENIZER: a tokenizer.json or .tiktoken to encode with; without it (or -) one is trained from FILE first. Documents are cut at the
 * first line end after 64 KB. cold: a new encoder; warm: the same one again (best of 2). */
#include "base/fs.h"
#include "tokenizer/bpe_train.h"
#include "tokenizer/encode.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { PART = 16384 }; /* ids decoded at once */

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void die(const struct dp_err *e)
{
    fprintf(stderr, "bench_tokenizer: %s\n", e->msg);
    exit(1);
}

static bool next_document(struct dp_span all, size_t *at, struct dp_span *doc)
{
    if (*at >= all.len) return false;
    size_t end = all.len;
    if (all.len - *at > 65536) {
        const char *nl = memchr(all.ptr + *at + 65536, '\n', all.len - *at - 65536);
        if (nl) end = (size_t)(nl - all.ptr) + 1;
    }
    *doc = dp_span(all.ptr + *at, end - *at);
    *at = end;
    return true;
}

static void report(const char *what, const char *split, size_t bytes, double seconds, uint64_t n)
{
    printf("{\"bench\":\"tokenizer\",\"case\":\"%s\",\"split\":\"%s\",\"bytes\":%zu,\"cpu_s\":%.3f,\"mb_per_cpu_s\":%.1f,\"n\":%llu}\n",
           what, split, bytes, seconds, (double)bytes / 1e6 / seconds, (unsigned long long)n);
}

static void bench_split(struct dp_span all, enum dp_split split)
{
    size_t ends[256], n, pos = 0;
    uint64_t pieces = 0;
    double t = cpu_seconds();
    while ((n = dp_split_run(split, all, &pos, ends, 256)) > 0) pieces += n;
    report("split", dp_split_name(split), all.len, cpu_seconds() - t, pieces);
}

static struct dp_tokenizer *bench_train(struct dp_span all, enum dp_split split, int64_t vocab)
{
    struct dp_err e;
    struct dp_bpe_counter *c;
    struct dp_tokenizer *t;
    struct dp_bpe_train_options o = {.vocab_size = vocab, .split = split, .min_count = 1};
    struct dp_span doc;
    double t0 = cpu_seconds();
    if (dp_bpe_counter_open(&c, split, &e) < 0) die(&e);
    for (size_t at = 0; next_document(all, &at, &doc);)
        if (dp_bpe_counter_add(c, doc, &e) < 0) die(&e);
    double t1 = cpu_seconds();
    report("count", dp_split_name(split), all.len, t1 - t0, dp_bpe_counter_unique(c));
    if (dp_bpe_train(&t, &o, c, NULL, NULL, &e) < 0) die(&e);
    report("merge", dp_split_name(split), all.len, cpu_seconds() - t1, dp_tokenizer_merges(t));
    report("train", dp_split_name(split), all.len, cpu_seconds() - t0, dp_tokenizer_size(t));
    dp_bpe_counter_close(c);
    return t;
}

static double encode_pass(struct dp_encoder *c, struct dp_span all, struct dp_ids *ids)
{
    struct dp_err e;
    struct dp_span doc;
    double t = cpu_seconds();
    ids->len = 0;
    for (size_t at = 0; next_document(all, &at, &doc);)
        if (dp_encode(c, doc, ids, &e) < 0) die(&e);
    return cpu_seconds() - t;
}

int main(int argc, char **argv)
{
    struct dp_err e;
    struct dp_map m;
    struct dp_tokenizer *t = NULL;
    struct dp_encoder *c;
    struct dp_ids ids = {0};
    struct dp_buf text;
    enum dp_split split = DP_SPLIT_GPT2;
    if (argc < 2) {
        fprintf(stderr, "usage: bench_tokenizer FILE [TOKENIZER|-] [SPLIT] [VOCAB]\n");
        return 64;
    }
    if (argc > 3 && dp_split_parse(dp_span_str(argv[3]), &split, &e) < 0) die(&e);
    if (dp_map_open(&m, argv[1], &e) < 0) die(&e);
    struct dp_span all = dp_span(m.ptr, m.len);
    bool given = argc > 2 && strcmp(argv[2], "-") != 0;
    if (given && dp_tokenizer_load_file(&t, argv[2], argc > 3 ? argv[3] : NULL, &e) < 0) die(&e);
    if (given) split = dp_tokenizer_split(t);
    bench_split(all, split);
    if (!given) t = bench_train(all, split, argc > 4 ? atoll(argv[4]) : 32000);
    if (dp_encoder_open(&c, t, 0, DP_SPECIAL_NONE, &e) < 0) die(&e);
    if (dp_ids_reserve(&ids, all.len / 2 + 1024, &e) < 0) die(&e);
    memset(ids.ptr, 0, ids.cap * sizeof *ids.ptr);
    double cold = encode_pass(c, all, &ids), best = encode_pass(c, all, &ids), again = encode_pass(c, all, &ids);
    report("encode_cold", dp_split_name(split), all.len, cold, ids.len);
    report("encode_warm", dp_split_name(split), all.len, again < best ? again : best, ids.len);
    dp_buf_init(&text, all.len);
    bool equal = true;
    double seconds = 0;
    size_t at = 0;
    for (size_t i = 0; i < ids.len; i += PART) { /* into the same buffer again and again, as a reader of documents does */
        double t0 = cpu_seconds();
        dp_buf_clear(&text);
        if (dp_decode(t, ids.ptr + i, ids.len - i < PART ? ids.len - i : PART, &text, &e) < 0) die(&e);
        seconds += cpu_seconds() - t0;
        equal = equal && text.len <= all.len - at && memcmp(text.ptr, all.ptr + at, text.len) == 0;
        at += text.len;
    }
    equal = equal && at == all.len;
    report("decode", dp_split_name(split), all.len, seconds, ids.len);
    if (!equal) fprintf(stderr, "bench_tokenizer: decoding didn't give the text back\n");
    dp_buf_release(&text);
    dp_ids_release(&ids);
    dp_encoder_close(c);
    dp_tokenizer_free(t);
    dp_map_close(&m);
    return !equal;
}
