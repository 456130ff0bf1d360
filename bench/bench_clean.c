/* bench/bench_clean.c - speed and agreement of the cleaning stages.
 *
 * usage: bench_clean pages DIR [OUT.jsonl]     extract every DIR/ID.html; {"id","text"} lines for the extraction score; MB/s per stage
 *        bench_clean text FILE.jsonl [ROUNDS]  MB/s of every text stage alone on every "text" as it is given, and of the chain: each text through
 *                                              the rules until one drops it, words split once, as the executor does it. Fastest of ROUNDS (9)
 * Agreement with datatrove's decisions: tests/parity/clean_parity.c. CPU seconds of this thread; one JSON line per figure on stdout. */
#include "base/fs.h"
#include "base/json.h"
#include "clean/stages.h"
#include "clean/words.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const struct dp_stage_type *const stages[] = {&dp_stage_extract, &dp_stage_normalise, &dp_stage_language,
                                                     &dp_stage_gopher_repetition, &dp_stage_gopher_quality, &dp_stage_c4,
                                                     &dp_stage_fineweb};
enum { STAGES = sizeof stages / sizeof *stages, RULES = 3 };
struct open_stage {
    void *ctx, *worker;
    double seconds, bytes;
};
static struct open_stage opened[STAGES];

static void die(const struct dp_err *e)
{
    fprintf(stderr, "bench_clean: %s\n", e->msg);
    exit(1);
}

static double cpu(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void open_all(void)
{
    struct dp_err e;
    for (int i = 0; i < STAGES; i++) {
        opened[i].ctx = calloc(1, stages[i]->ctx_size);
        if (!opened[i].ctx) exit(1);
        if (dp_opt_defaults(stages[i]->opts, opened[i].ctx, &e) < 0) die(&e);
        const struct dp_opt *on = dp_opt_find(stages[i]->opts, dp_span_str("enabled"));
        if (on && dp_opt_set(on, opened[i].ctx, dp_span_str("true"), "enabled", &e) < 0) die(&e);
        if (dp_stage_workers_open(&stages[i], &opened[i].ctx, 1, &opened[i].worker, &e) < 0) die(&e);
    }
}

static void close_all(void)
{
    for (int i = 0; i < STAGES; i++) {
        dp_stage_workers_close(&stages[i], &opened[i].ctx, 1, &opened[i].worker);
        dp_opt_release(stages[i]->opts, opened[i].ctx);
        free(opened[i].ctx);
    }
}

static void run_stage(int k, struct dp_batch *b)
{
    struct dp_err e;
    for (uint32_t i = 0; i < b->count; i++)
        if (b->drop[i] == DP_DROP_KEEP) opened[k].bytes += (double)b->text[i].len;
    double t = cpu();
    if (dp_stage_run(stages[k], opened[k].ctx, opened[k].worker, b, &e) < 0) die(&e);
    opened[k].seconds += cpu() - t;
}

static int pages(const char *dir, const char *out_path)
{
    struct dirent **names;
    struct dp_err e;
    struct dp_batch b;
    struct dp_buf file, line;
    int n = scandir(dir, &names, NULL, alphasort);
    FILE *out = out_path ? fopen(out_path, "w") : NULL;
    if (n < 0 || (out_path && !out)) {
        perror(n < 0 ? dir : out_path);
        return 1;
    }
    dp_buf_init(&file, DP_DOC_BYTES_MAX);
    dp_buf_init(&line, (size_t)DP_DOC_BYTES_MAX * 8);
    if (dp_batch_init(&b, 1, (size_t)1 << 30, &e) < 0) die(&e);
    for (int i = 0; i < n; i++) {
        char path[4096], *dot = strrchr(names[i]->d_name, '.');
        snprintf(path, sizeof path, "%s/%s", dir, names[i]->d_name);
        if (!dot || strcmp(dot, ".html") != 0) continue;
        if (dp_fs_read(path, &file, &e) < 0) die(&e);
        dp_batch_reset(&b);
        dp_batch_add(&b);
        b.text[0] = dp_buf_span(&file);
        b.format[0] = DP_FORMAT_HTML;
        run_stage(0, &b);
        if (b.drop[0] != DP_DROP_KEEP) fprintf(stderr, "%s: %s %g > %g\n", path, dp_drop_name(b.drop[0]), b.value[0], b.limit[0]);
        if (out && b.drop[0] == DP_DROP_KEEP) {
            struct dp_jsonw w;
            dp_buf_clear(&line);
            dp_jsonw_init(&w, &line, 0);
            dp_jsonw_begin(&w, '{');
            dp_jsonw_key(&w, "id");
            dp_jsonw_str(&w, dp_span(names[i]->d_name, (size_t)(dot - names[i]->d_name)));
            dp_jsonw_key(&w, "text");
            dp_jsonw_str(&w, b.text[0]);
            dp_jsonw_end(&w, '}');
            fprintf(out, "%s\n", line.ptr);
        }
        for (int k = 1; k < STAGES; k++) run_stage(k, &b);
    }
    for (int i = 0; i < n; i++) free(names[i]);
    free(names);
    dp_batch_release(&b);
    dp_buf_release(&file);
    dp_buf_release(&line);
    return out && fclose(out) ? 1 : 0;
}

struct texts {
    struct dp_span *text;
    size_t count, bytes;
};

/* The "text" of every line, copied side by side as a batch would hold them. */
static struct texts load(const char *path, struct dp_arena *mem)
{
    struct dp_err e;
    struct dp_buf file;
    struct texts t = {0};
    dp_buf_init(&file, (size_t)2 << 30);
    if (dp_fs_read(path, &file, &e) < 0) die(&e);
    t.text = calloc(file.len / 8 + 1, sizeof *t.text);
    if (!t.text) exit(1);
    for (char *p = file.ptr, *end = p + file.len, *q; p < end && (q = memchr(p, '\n', (size_t)(end - p))) != NULL; p = q + 1) {
        struct dp_json_field f = {.key = "text"};
        if (dp_json_fields(dp_span(p, (size_t)(q - p)), &f, 1, mem, &e) < 0) die(&e);
        if (!f.str.ptr) continue;
        t.text[t.count] = dp_arena_dup(mem, f.str);
        t.bytes += t.text[t.count++].len;
    }
    dp_buf_release(&file);
    return t;
}

/* Every text through n stages until one drops it; CPU seconds. */
static double pass(const struct texts *t, struct dp_batch *b, const struct dp_stage_type *const *types, void *const *ctx, void *const *worker, size_t n)
{
    struct dp_err e;
    double seconds = 0;
    for (size_t at = 0; at < t->count; at += b->count) {
        dp_batch_reset(b);
        while (b->count < b->cap && at + b->count < t->count) {
            int64_t i = dp_batch_add(b);
            b->text[i] = t->text[at + (size_t)i];
        }
        double from = cpu();
        for (uint32_t i = 0; i < b->count; i++) {
            for (size_t k = 0; k < n; k++) dp_stage_next_row(types[k], worker[k]);
            for (size_t k = 0; k < n && b->drop[i] == DP_DROP_KEEP; k++)
                if (dp_stage_row(types[k], ctx[k], worker[k], b, i, &e) < 0) die(&e);
        }
        seconds += cpu() - from;
    }
    return seconds;
}

static double split_all(const struct texts *t)
{
    struct dp_words w = {0};
    double from = cpu();
    for (size_t i = 0; i < t->count; i++) {
        w.count = 0;
        if (dp_words_split(&w, t->text[i]) < 0) exit(1);
    }
    from = cpu() - from;
    dp_words_release(&w);
    return from;
}

static int text(const char *path, int rounds)
{
    struct dp_arena mem;
    struct dp_batch b;
    struct dp_err e;
    void *ctx[STAGES], *worker[STAGES];
    dp_arena_init(&mem, (size_t)8 << 30);
    struct texts t = load(path, &mem);
    if (dp_batch_init(&b, 64, (size_t)2 << 30, &e) < 0) die(&e);
    for (int k = 0; k < STAGES; k++) ctx[k] = opened[k].ctx;
    if (dp_stage_workers_open(stages, ctx, STAGES, worker, &e) < 0) die(&e);
    for (int k = 0; k < STAGES + 2; k++) { /* the rules are the last stages; then the splitting alone */
        double best = 1e9;
        if (k < STAGES && !stages[k]->row) continue;
        for (int r = 0; r < rounds; r++) {
            double s = k < STAGES ? pass(&t, &b, stages + k, ctx + k, worker + k, 1)
                       : k == STAGES ? pass(&t, &b, stages + RULES, ctx + RULES, worker + RULES, STAGES - RULES) : split_all(&t);
            if (s < best) best = s;
        }
        printf("{\"stage\":\"%s\",\"texts\":%zu,\"mb\":%.2f,\"cpu_s\":%.4f,\"mb_s\":%.1f}\n", k < STAGES ? stages[k]->name : k == STAGES ? "rules chain" : "words",
               t.count, (double)t.bytes / 1e6, best, (double)t.bytes / 1e6 / best);
    }
    dp_stage_workers_close(stages, ctx, STAGES, worker);
    dp_batch_release(&b);
    dp_arena_release(&mem);
    free(t.text);
    return 0;
}

int main(int argc, char **argv)
{
    bool is_text = argc > 2 && strcmp(argv[1], "text") == 0;
    if (argc < 3 || (!is_text && strcmp(argv[1], "pages") != 0)) {
        fprintf(stderr, "usage: bench_clean pages DIR [OUT.jsonl] | text FILE.jsonl [ROUNDS]\n");
        return 2;
    }
    open_all();
    int rc = is_text ? text(argv[2], argc > 3 ? atoi(argv[3]) : 9) : pages(argv[2], argc > 3 ? argv[3] : NULL);
    for (int k = 0; k < STAGES; k++)
        if (opened[k].seconds > 0)
            printf("{\"stage\":\"%s\",\"mb\":%.2f,\"cpu_s\":%.3f,\"mb_s\":%.1f}\n", stages[k]->name, opened[k].bytes / 1e6, opened[k].seconds,
                   opened[k].bytes / 1e6 / opened[k].seconds);
    close_all();
    return rc;
}
