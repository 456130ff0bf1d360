/* bench: how fast this machine does it; the work is in cli/measure_*.c. */
#include "base/cpu.h"
#include "cli/measure.h"
#include "daemon/events.h"

#include <stdlib.h>

#define O(f) offsetof(struct dp_measure_args, f)
static const struct dp_opt rows[] = {
    {.name = "rounds", .type = DP_OPT_INT, .offset = O(rounds), .preset = "7", .min = 1, .max = DP_MEASURE_ROUNDS_MAX, .arg = "N", .help = "of which medians are printed"},
    {.name = "manifest", .type = DP_OPT_STRING, .offset = O(manifest), .arg = "FILE", .help = "feed: data to read; else the workspace's manifest, else made data"},
    {.name = "million_ids", .type = DP_OPT_INT, .offset = O(million_ids), .preset = "100", .min = 1, .max = 1000, .arg = "N", .help = "feed: size of made data, and (at most 32) of the compressed copy"},
    {.name = "seconds", .type = DP_OPT_TIME, .offset = O(seconds), .preset = "200ms", .min = 0.01, .max = 60, .arg = "TIME", .help = "feed: for each way in a round"},
    {.name = "slots", .type = DP_OPT_INT, .offset = O(slots), .preset = "0", .min = 0, .max = 1024, .arg = "N", .help = "feed: batches that may lie finished in a ring; 0: about 1 MiB"},
    {.name = "tokenizer", .letter = 't', .type = DP_OPT_STRING, .offset = O(tokenizer), .arg = "FILE", .help = "tokenizer: a tokenizer file; else one is trained on the text"},
    {.name = "split", .type = DP_OPT_STRING, .offset = O(split), .arg = "NAME", .help = "tokenizer: pre-tokenizer, over the file's: gpt2, cl100k, o200k ..."},
    {.name = "threads", .type = DP_OPT_STRING, .offset = O(threads), .preset = "1,2", .arg = "N,N...", .help = "tokenizer: numbers of threads to encode with, one after the other; trainer: the first"},
    {.name = "train", .type = DP_OPT_INT, .offset = O(train), .preset = "0", .min = 0, .max = 1e9, .arg = "VOCAB", .help = "tokenizer: train a vocabulary of this size too"},
    {.name = "doc_bytes", .type = DP_OPT_SIZE, .offset = O(doc_bytes), .preset = "64K", .min = 1, .max = 1e15, .arg = "SIZE", .help = "tokenizer: documents of a text file end with the first line behind this"},
    {.name = "limit", .type = DP_OPT_SIZE, .offset = O(limit), .preset = "0", .min = 0, .max = 1e15, .arg = "SIZE", .help = "tokenizer: how much of the text to take; 0: all"},
    {.name = "keep_ids", .type = DP_OPT_BOOL, .offset = O(keep_ids), .help = "tokenizer: keep all ids of a pass in memory, instead of a document's after another's"},
    {.name = "jsonl", .type = DP_OPT_BOOL, .offset = O(jsonl), .help = "tokenizer: files are JSON lines, a document each"},
    {.name = "field", .type = DP_OPT_STRING, .offset = O(field), .preset = "text", .arg = "NAME", .help = "tokenizer: the JSON member with the text"},
    {.name = "shape", .type = DP_OPT_CHOICE, .offset = O(shape), .preset = "10m", .choices = "10m|124m", .help = "trainer: GPT-2 of 6 layers of 384 with 8,192 tokens, or 12 of 768 with 50,257"},
    {.name = "dtype", .type = DP_OPT_CHOICE, .offset = O(dtype), .preset = "fp32", .choices = "fp32|bf16", .help = "trainer: what products multiply"},
    {.name = "context", .type = DP_OPT_INT, .offset = O(context), .preset = "256", .min = 1, .max = 65536, .arg = "N", .help = "trainer: tokens a sequence; a step takes 1,024 in all, or one sequence"},
    DP_OPT_END,
};
#undef O

static void cpu_model(char *out, size_t n)
{
    FILE *f = fopen("/proc/cpuinfo", "re");
    char line[256];
    snprintf(out, n, "unknown");
    while (f && fgets(line, sizeof line, f)) {
        const char *colon = strchr(line, ':');
        if (!colon || strncmp(line, "model name", 10) != 0) continue;
        snprintf(out, n, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
        break;
    }
    if (f) fclose(f);
}

double dp_measure_status_mib(const char *name)
{
    FILE *f = fopen("/proc/self/status", "re");
    char line[256];
    double kib = 0;
    size_t n = strlen(name);
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, name, n) == 0 && line[n] == ':') kib = atof(line + n + 1);
    if (f) fclose(f);
    return kib / 1024;
}

int dp_measure_end(struct dp_jsonw *w, struct dp_buf *out, struct dp_err *e)
{
    dp_jsonw_end(w, '}');
    dp_buf_add_char(out, '\n');
    int rc = dp_cli_print(out, e);
    dp_buf_release(out);
    return rc;
}

void dp_measure_member(struct dp_jsonw *w, const char *key, double v, double per)
{
    dp_jsonw_key(w, key);
    dp_jsonw_real(w, (double)(int64_t)(v * per + 0.5) / per);
}

void dp_measure_machine(struct dp_jsonw *w, const char *bench)
{
    char model[256];
    double load[1] = {0};
    cpu_model(model, sizeof model);
    if (getloadavg(load, 1) != 1) load[0] = -1;
    dp_jsonw_member(w, "bench", bench);
    dp_jsonw_member(w, "version", DP_VERSION);
    dp_jsonw_member(w, "cpu", model);
    dp_jsonw_member_int(w, "cpus", dp_cpu_count());
    dp_jsonw_member(w, "level", dp_cpu_name(dp_cpu()));
    dp_measure_member(w, "load", load[0], 100);
}

static int run(struct dp_cli *c, struct dp_err *e)
{
    static const struct {
        const char *name;
        int (*run)(struct dp_cli *c, const struct dp_measure_args *o, const char **args, size_t n, struct dp_err *e);
    } benches[] = {{"feed", dp_measure_feed}, {"tokenizer", dp_measure_tokenizer}, {"trainer", dp_measure_trainer}};
    for (size_t i = 0; i < sizeof benches / sizeof *benches; i++)
        if (strcmp(c->args[0], benches[i].name) == 0) return benches[i].run(c, c->own, c->args + 1, c->nargs - 1, e);
    DP_FAIL(e, USAGE, "bench: there is no bench \"%s\"; there is feed, tokenizer and trainer", c->args[0]);
}

extern const struct dp_command dp_cmd_bench;
const struct dp_command dp_cmd_bench = {.name = "bench", .summary = "measure how fast batches come, the tokenizer, and the trainer", .args = "feed|tokenizer|trainer [FILE...]", .rows = rows,
    .own_size = sizeof(struct dp_measure_args), .sections = "feed", .args_min = 1, .args_max = -1, .run = run,
    .about = "Prints one JSON object. On a machine that does other things compare the figures per CPU-second.\n\n"
             "feed: ids per second, and per CPU-second of the reader and of the server, by every way that batches may come (in the process, through a memory ring, over TCP on\n"
             "loopback, from compressed shards, packed with masks), beside memcpy of the same rows. Data are the workspace's or the manifest's, or made in $TMPDIR and removed.\n\n"
             "  dpipe bench feed --seq-len 2048 --batch 8\n\n"
             "tokenizer: MB (10^6 bytes of text) per second and per CPU-second of encoding, cold and warm, with each number of threads, of splitting alone, counting ids alone and\n"
             "decoding, and with --train of training. Cold is the first pass of fresh encoders; `first` of the first number of threads is also the first of a fresh process, with\n"
             "its page faults: what a program that encodes one text sees. Warm passes go over the same text again. Ids of a document take the place of those of the one before;\n"
             "--keep-ids: all stay in memory, and writing to new memory is measured with them.\n\n"
             "  dpipe bench tokenizer --tokenizer cl100k_base.tiktoken --split cl100k --threads 1,2 web.txt\n\n"
             "trainer: tokens per second and per CPU-second of a whole training step, what part of the processor's peak (measured first) its multiplications and additions are,\n"
             "CPU milliseconds by what the step does, and memory. Weights and tokens are random: the rate doesn't depend on them.\n\n"
             "  dpipe bench trainer --shape 124m --threads 2"};
