/* bench/bench_clean.c - speed and agreement of the cleaning stages.
 *
 * usage: bench_clean pages DIR [OUT.jsonl]     extract every DIR/ID.html; {"id","text"} lines for the extraction score; MB/s per stage
 *        bench_clean decisions FILE.jsonl      compare with datatrove's decisions (lines: text, decisions, c4_text_chars)
 * CPU seconds of this thread; one JSON line per figure on stdout. */
#include "base/fs.h"
#include "base/json.h"
#include "clean/stages.h"
#include "clean/utf8.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const struct dp_stage_type *const stages[] = {&dp_stage_extract, &dp_stage_normalise, &dp_stage_language,
                                                     &dp_stage_gopher_repetition, &dp_stage_gopher_quality, &dp_stage_c4};
enum { STAGES = sizeof stages / sizeof *stages };
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
        opened[i].worker = calloc(1, stages[i]->worker_size);
        if (!opened[i].ctx || !opened[i].worker) exit(1);
        if (dp_opt_defaults(stages[i]->opts, opened[i].ctx, &e) < 0) die(&e);
        if (stages[i]->worker_open && stages[i]->worker_open(opened[i].ctx, opened[i].worker, &e) < 0) die(&e);
    }
}

static void close_all(void)
{
    for (int i = 0; i < STAGES; i++) {
        if (stages[i]->worker_close) stages[i]->worker_close(opened[i].ctx, opened[i].worker);
        dp_opt_release(stages[i]->opts, opened[i].ctx);
        free(opened[i].ctx);
        free(opened[i].worker);
    }
}

static void run_stage(int k, struct dp_batch *b)
{
    struct dp_err e;
    for (uint32_t i = 0; i < b->count; i++)
        if (b->drop[i] == DP_DROP_KEEP) opened[k].bytes += (double)b->text[i].len;
    double t = cpu();
    if (stages[k]->run(opened[k].ctx, opened[k].worker, b, &e) < 0) die(&e);
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

struct tally {
    int same_keep, same_reason, n;
};

static int decisions(const char *path, struct tally t[3], int *c4_chars_same, int *c4_kept)
{
    static const char *const keys[] = {"gopher_rep", "gopher_qual", "c4"};
    struct dp_err e;
    struct dp_batch b;
    struct dp_buf file;
    dp_buf_init(&file, 256 << 20);
    if (dp_fs_read(path, &file, &e) < 0 || dp_batch_init(&b, 1, (size_t)1 << 30, &e) < 0) die(&e);
    for (char *p = file.ptr, *end = p + file.len, *q; p < end && (q = memchr(p, '\n', (size_t)(end - p))) != NULL; p = q + 1) {
        struct dp_json *root;
        if (dp_json_parse(&root, dp_span(p, (size_t)(q - p)), path, &e) < 0) die(&e);
        for (int k = 0; k < 3; k++) {
            struct dp_json *d = dp_json_get(dp_json_get(root, "decisions"), keys[k]);
            struct dp_span what = dp_json_str(dp_json_at(d, 0)), why = dp_json_str(dp_json_at(d, 1));
            dp_batch_reset(&b);
            dp_batch_add(&b);
            b.text[0] = dp_json_str(dp_json_get(root, "text"));
            run_stage(k + 3, &b);
            bool keep = dp_span_is(what, "keep"), ours = b.drop[0] == DP_DROP_KEEP;
            const char *name = dp_drop_name(b.drop[0]);
            size_t skip = strncmp(name, "gopher_", 7) == 0 && !dp_span_is(why, name) ? 7 : strncmp(name, "c4_", 3) == 0 ? 3 : 0;
            bool reason = keep ? ours : !ours && (dp_span_is(why, name) || dp_span_is(why, name + skip));
            t[k].n++;
            t[k].same_keep += keep == ours;
            t[k].same_reason += reason;
            if (!reason) fprintf(stderr, "%.*s %s: want %.*s %.*s, got %s %.6g / %.6g\n", DP_SPAN_FMT(dp_json_str(dp_json_get(root, "id"))),
                                 keys[k], DP_SPAN_FMT(what), DP_SPAN_FMT(why), name, b.value[0], b.limit[0]);
            if (k == 2 && keep && ours) {
                bool same = (int64_t)dp_utf8_count(b.text[0].ptr, b.text[0].len) == dp_json_int(dp_json_get(root, "c4_text_chars"), -1);
                ++*c4_kept;
                *c4_chars_same += same;
            }
        }
        dp_json_free(root);
    }
    dp_batch_release(&b);
    dp_buf_release(&file);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: bench_clean pages DIR [OUT.jsonl] | decisions FILE.jsonl\n");
        return 2;
    }
    open_all();
    int rc = 0;
    if (strcmp(argv[1], "pages") == 0) rc = pages(argv[2], argc > 3 ? argv[3] : NULL);
    else {
        static const char *const names[] = {"gopher_repetition", "gopher_quality", "c4"};
        struct tally t[3] = {{0, 0, 0}, {0, 0, 0}, {0, 0, 0}};
        int same = 0, kept = 0;
        rc = decisions(argv[2], t, &same, &kept);
        for (int k = 0; k < 3; k++)
            printf("{\"filter\":\"%s\",\"documents\":%d,\"same_decision\":%.5f,\"same_reason\":%.5f}\n", names[k], t[k].n,
                   (double)t[k].same_keep / t[k].n, (double)t[k].same_reason / t[k].n);
        printf("{\"c4_kept\":%d,\"c4_text_same_length\":%d}\n", kept, same);
    }
    for (int k = 0; k < STAGES; k++)
        if (opened[k].seconds > 0)
            printf("{\"stage\":\"%s\",\"mb\":%.2f,\"cpu_s\":%.3f,\"mb_s\":%.1f}\n", stages[k]->name, opened[k].bytes / 1e6, opened[k].seconds,
                   opened[k].bytes / 1e6 / opened[k].seconds);
    close_all();
    return rc;
}
