#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/progress.h"
#include "cli/cli.h"
#include "cli/count_corpus.h"
#include "cli/count_ranks.h"
#include "tokenizer/bpe_seed.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/wordfile.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

struct own {
    char *output, *field, *domain_field, *mixture, *seed_tokens, *extend;
    bool whole_file, jsonl, count_only, from_counts, resume, super;
    double sample, checkpoint;
    uint64_t sample_bytes, word_bytes_max;
};
#define OWN(m) offsetof(struct own, m)
static const struct dp_opt rows[] = {
    {.name = "output", .letter = 'o', .type = DP_OPT_STRING, .offset = OWN(output), .arg = "DIR", .help = "train on the files given and write the tokenizer into DIR (with --count-only: the counts to this file)"},
    {.name = "whole_file", .type = DP_OPT_BOOL, .offset = OWN(whole_file), .help = "a file is one text (otherwise a line is, its newline with it)"},
    {.name = "jsonl", .type = DP_OPT_BOOL, .offset = OWN(jsonl), .help = "files are JSON lines"},
    {.name = "field", .type = DP_OPT_STRING, .offset = OWN(field), .preset = "text", .arg = "NAME", .help = "the JSON member with the text"},
    {.name = "count_only", .type = DP_OPT_BOOL, .offset = OWN(count_only), .help = "write the counted words to the file of -o, don't train (NAME.tsv: as text)"},
    {.name = "from_counts", .type = DP_OPT_BOOL, .offset = OWN(from_counts), .help = "files are counted words, from --count-only or as lines TEXT<TAB>COUNT"},
    {.name = "sample", .type = DP_OPT_REAL, .offset = OWN(sample), .preset = "1", .min = 1e-9, .max = 1, .arg = "PART", .help = "count this part of the texts, chosen by --seed"},
    {.name = "sample_bytes", .type = DP_OPT_SIZE, .offset = OWN(sample_bytes), .preset = "0", .min = 0, .max = 9e18, .arg = "SIZE", .help = "count about as much text as this, chosen by --seed; reads the files twice. 0: all"},
    {.name = "domain_field", .type = DP_OPT_STRING, .offset = OWN(domain_field), .arg = "NAME", .help = "the JSON member with a text's domain; otherwise the file's or folder's name up to its first dot"},
    {.name = "mixture", .type = DP_OPT_STRING, .offset = OWN(mixture), .arg = "LIST", .help = "shares of domains in the text that is counted: web=0.7,code=0.3; reads the files twice"},
    {.name = "word_bytes_max", .type = DP_OPT_SIZE, .offset = OWN(word_bytes_max), .preset = "1M", .min = 64, .max = 1 << 30, .arg = "SIZE", .help = "longer pretokens are cut, which bounds what text without spaces costs"},
    {.name = "checkpoint", .type = DP_OPT_TIME, .offset = OWN(checkpoint), .preset = "60s", .min = 0, .max = 1e9, .arg = "TIME", .help = "keep what is counted so often, in DIR/resume"},
    {.name = "resume", .type = DP_OPT_BOOL, .offset = OWN(resume), .preset = "true", .help = "go on from what an interrupted run kept; --no-resume: count anew"},
    {.name = "seed_tokens", .type = DP_OPT_STRING, .offset = OWN(seed_tokens), .arg = "FILE", .help = "tokens that must be in the vocabulary, one a line: a JSON string, or base64: and bytes in base64"},
    {.name = "extend", .type = DP_OPT_STRING, .offset = OWN(extend), .arg = "FILE", .help = "learn on top of this tokenizer: its ids, merges, split and special tokens stay; --vocab-size counts its ids too"},
    {.name = "super", .type = DP_OPT_BOOL, .offset = OWN(super), .help = "with --extend: learn across words (SuperBPE), whatever its split"},
    DP_OPT_END,
};

/* What the report says beside the tokenizer. */
struct run {
    struct dp_ranks ranks;
    struct dp_count_result counted;
    struct dp_tokenizer *base; /* of --extend */
    struct dp_arena mem;       /* the seed tokens */
    double count_seconds, train_seconds;
};

static int open_base(struct dp_cli *c, struct run *r, struct dp_err *e)
{
    const struct own *o = c->own;
    struct dp_bpe_train_options *b = &c->options.bpe;
    if (o->super && !o->extend) DP_FAIL(e, USAGE, "--super goes with --extend; --super-from N says where a new vocabulary begins to learn across words");
    if (!o->extend) return DP_OK;
    DP_TRY(dp_tokenizer_load_file(&r->base, o->extend, NULL, e));
    if (dp_tokenizer_is_sp(r->base)) DP_FAIL(e, CONFIG, "%s: a sentencepiece model can't be extended: it has no list of merges", o->extend);
    b->base = r->base;
    if (o->super || dp_tokenizer_split(r->base) == DP_SPLIT_SUPERBPE) b->super_from = (int64_t)dp_tokenizer_size(r->base);
    return DP_OK;
}

static int read_seeds(struct dp_cli *c, struct run *r, struct dp_err *e)
{
    const char *path = ((const struct own *)c->own)->seed_tokens;
    struct dp_buf b;
    struct dp_span *seeds = NULL;
    if (!path) return DP_OK;
    dp_buf_init(&b, 64 << 20);
    int rc = dp_fs_read(path, &b, e);
    if (rc >= 0) rc = dp_bpe_seeds_read(dp_buf_span(&b), path, &r->mem, &seeds, &c->options.bpe.seed_count, e);
    dp_buf_release(&b);
    c->options.bpe.seeds = seeds;
    return rc;
}

static void merges_done(void *ctx, uint64_t done, uint64_t total)
{
    const int64_t *wanted = ctx;
    dp_progress_set((uint64_t)*wanted - total + done, NULL);
}

static int train(struct dp_cli *c, struct run *r, struct dp_tokenizer **t, struct dp_err *e)
{
    double begun = dp_now();
    dp_progress_begin("train-bpe", "tokens", (uint64_t)c->options.bpe.vocab_size);
    int rc = dp_bpe_train(t, &c->options.bpe, r->counted.counter, merges_done, &c->options.bpe.vocab_size, e);
    dp_progress_end();
    r->train_seconds = dp_now() - begun;
    return rc;
}

static int write_file(const char *dir, const char *name, int rc, const struct dp_buf *b, struct dp_err *e)
{
    if (rc < 0) return rc;
    char *p = dp_fs_join(dir, name);
    if (!p) DP_FAIL(e, NOMEM, "%s", name);
    rc = dp_fs_write_atomic(p, dp_buf_span(b), e);
    free(p);
    return rc;
}

/* What was counted and learnt depends on nothing but text and options; "seconds" and what follows it is of this run. */
static void report(struct dp_cli *c, const struct run *r, const struct dp_tokenizer *t, struct dp_buf *b)
{
    const struct own *o = c->own;
    const struct dp_bpe_counter *n = r->counted.counter;
    struct rusage u;
    struct dp_jsonw w;
    getrusage(RUSAGE_SELF, &u);
    dp_jsonw_init(&w, b, 2);
    dp_jsonw_begin(&w, '{');
    dp_jsonw_member_uint(&w, "tokens", dp_tokenizer_tokens(t));
    dp_jsonw_member_uint(&w, "tokens_asked", (uint64_t)c->options.bpe.vocab_size);
    dp_jsonw_member_uint(&w, "merges", dp_tokenizer_merges(t));
    dp_jsonw_key(&w, "split");
    dp_jsonw_str(&w, dp_bpe_counter_split_text(n));
    dp_jsonw_member_uint(&w, "words", dp_bpe_counter_total(n));
    dp_jsonw_member_uint(&w, "words_unique", dp_bpe_counter_unique(n));
    dp_jsonw_member_uint(&w, "words_bytes_max", c->options.bpe.words_bytes_max);
    dp_jsonw_member_uint(&w, "words_left_out", dp_bpe_counter_left_out(n));
    dp_jsonw_member_real(&w, "coverage", dp_bpe_counter_coverage(n));
    if (!o->from_counts) {
        dp_jsonw_member_uint(&w, "words_cut", r->counted.words_cut);
        dp_jsonw_member_uint(&w, "files", r->counted.files);
        dp_jsonw_member_uint(&w, "texts", r->counted.texts);
        dp_jsonw_member_uint(&w, "bytes", r->counted.bytes);
        dp_jsonw_member_real(&w, "sample", o->sample);
        dp_jsonw_member_uint(&w, "sample_bytes", o->sample_bytes);
        dp_jsonw_member_uint(&w, "seed", c->global.seed >= 0 ? (uint64_t)c->global.seed : 0);
        dp_jsonw_key(&w, "domains");
        dp_domains_json(&r->counted.domains, false, &w);
    }
    dp_jsonw_key(&w, "seconds");
    dp_jsonw_begin(&w, '{');
    dp_jsonw_member_real(&w, "count", r->count_seconds);
    dp_jsonw_member_real(&w, "count_before_resume", r->counted.resumed_seconds);
    dp_jsonw_member_real(&w, "train", r->train_seconds);
    dp_jsonw_member_real(&w, "cpu", (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec));
    dp_jsonw_end(&w, '}');
    dp_jsonw_member_uint(&w, "threads", (uint64_t)c->global.threads);
    dp_jsonw_member_uint(&w, "memory_peak_bytes", (uint64_t)u.ru_maxrss * 1024);
    dp_jsonw_end(&w, '}');
    dp_buf_add_char(b, '\n');
}

static int write_all(struct dp_cli *c, const struct run *r, const struct dp_tokenizer *t, struct dp_err *e)
{
    const char *dir = ((const struct own *)c->own)->output;
    struct dp_buf b;
    dp_buf_init(&b, (size_t)1 << 30);
    int rc = write_file(dir, "tokenizer.json", dp_tokenizer_save_hf(t, &b, e), &b, e);
    dp_buf_clear(&b);
    if (rc >= 0) rc = write_file(dir, "vocab.json", dp_tokenizer_save_vocab(t, &b, e), &b, e);
    dp_buf_clear(&b);
    if (rc >= 0) rc = write_file(dir, "merges.txt", dp_tokenizer_save_merges(t, &b, e), &b, e);
    dp_buf_clear(&b);
    if (rc >= 0) rc = dp_tokenizer_save_tiktoken(t, &b, e);
    if (rc == DP_CONFIG) { /* of an extended vocabulary */
        dp_log(WARN, "train-bpe", "no tokenizer.tiktoken: %s", e->msg);
        rc = DP_OK;
    } else rc = write_file(dir, "tokenizer.tiktoken", rc, &b, e);
    dp_buf_clear(&b);
    if (rc >= 0) {
        report(c, r, t, &b);
        rc = write_file(dir, "report.json", dp_buf_check(&b, "report.json", e), &b, e);
    }
    dp_buf_release(&b);
    return rc;
}

/* Words from counts files. */
static int read_counts(struct dp_cli *c, struct run *r, const char *dir, struct dp_err *e)
{
    const struct own *o = c->own;
    DP_TRY(dp_bpe_counter_open_for(&r->counted.counter, &c->options.bpe, e));
    dp_bpe_counter_budget(r->counted.counter, c->global.memory / 4, dir);
    dp_bpe_counter_word_max(r->counted.counter, o->word_bytes_max);
    dp_progress_begin("read counts", "files", c->nargs);
    int rc = DP_OK;
    for (size_t i = 0; rc >= 0 && i < c->nargs; i++) {
        rc = dp_wordfile_count(r->counted.counter, c->args[i], e);
        dp_progress_add(1, 0);
    }
    dp_progress_end();
    r->counted.words_cut = rc >= 0 ? dp_bpe_counter_words_cut(r->counted.counter) : 0;
    return rc;
}

static struct dp_count_options count_options(struct dp_cli *c, const struct run *r, const char *dir)
{
    const struct own *o = c->own;
    return (struct dp_count_options){
        .corpus = {.whole_file = o->whole_file, .jsonl = o->jsonl, .part = (uint32_t)r->ranks.rank, .parts = (uint32_t)r->ranks.size},
        .bpe = &c->options.bpe,
        .field = o->field, .domain_field = o->domain_field, .sample = o->sample, .sample_bytes = o->sample_bytes, .mixture = o->mixture,
        .seed = c->global.seed >= 0 ? (uint64_t)c->global.seed : 0, .word_bytes_max = o->word_bytes_max, .memory = c->global.memory / 4,
        .threads = (int)c->global.threads, .dir = dir, .checkpoint_seconds = c->options.bpe.super_from ? 1e9 : o->checkpoint,
        .resume = o->resume && !c->options.bpe.super_from, /* a state has no sample of texts */
        .stop = c->stop,
    };
}

static int check_use(struct dp_cli *c, struct dp_err *e)
{
    const struct own *o = c->own;
    if (!c->nargs) DP_FAIL(e, USAGE, "-o trains on files: which? (without -o the workspace's kept documents are used)");
    if (o->whole_file && o->jsonl) DP_FAIL(e, USAGE, "--whole-file and --jsonl: a file is one text, or a line of it is a document; choose one");
    if (o->domain_field && !o->jsonl) DP_FAIL(e, USAGE, "--domain-field names a member of JSON lines: add --jsonl");
    if (o->sample < 1 && (o->sample_bytes || o->mixture)) DP_FAIL(e, USAGE, "--sample and --sample-bytes or --mixture: choose one");
    if (o->from_counts && (o->jsonl || o->whole_file || o->mixture || o->sample < 1 || o->sample_bytes))
        DP_FAIL(e, USAGE, "--from-counts takes words that are counted: --jsonl, --whole-file and samples belong to counting");
    if ((o->from_counts || o->count_only) && c->options.bpe.super_from)
        DP_FAIL(e, USAGE, "SuperBPE's second stage learns from texts, which counts don't hold: train from the texts in one go");
    return dp_bpe_train_check(&c->options.bpe, e);
}

static int check_ranks(struct dp_cli *c, struct dp_err *e)
{
    const struct own *o = c->own;
    if (c->options.bpe.super_from) DP_FAIL(e, USAGE, "SuperBPE's second stage: start one process");
    if (o->from_counts) DP_FAIL(e, USAGE, "--from-counts: start one process");
    if (o->sample_bytes || o->mixture) DP_FAIL(e, USAGE, "--sample-bytes and --mixture: measure and count in one process, or take a part with --sample");
    return DP_OK;
}

static int get_counts(struct dp_cli *c, struct run *r, const char *dir, struct dp_err *e)
{
    const struct own *o = c->own;
    struct dp_count_options k = count_options(c, r, dir);
    double begun = dp_now();
    int rc = o->from_counts ? read_counts(c, r, dir, e) : dp_count_corpus(&r->counted, &k, c->args, c->nargs, e);
    rc = dp_count_reduce(&r->counted, &k, &r->ranks, rc, e);
    r->count_seconds = dp_now() - begun;
    if (rc >= 0 && r->counted.counter && dp_bpe_counter_total(r->counted.counter) == 0) DP_FAIL(e, CORRUPT, "the files hold no text to learn from");
    return rc;
}

static void forget(struct dp_cli *c, const struct run *r, const char *dir)
{
    struct dp_count_options k = count_options(c, r, dir);
    if (!((const struct own *)c->own)->from_counts) dp_count_forget(&k);
}

/* Merges are those of the trainers this one is compared with as long as nothing is left out. */
static void warn_left_out(struct dp_cli *c, const struct run *r)
{
    uint64_t left_out = dp_bpe_counter_left_out(r->counted.counter);
    if (left_out)
        dp_log(WARN, "train-bpe", "learnt from the %llu most frequent words; %llu rarer ones are past --words-bytes-max (%llu bytes; 0: all): with them, merges may be others",
               (unsigned long long)dp_bpe_counter_taken(r->counted.counter), (unsigned long long)left_out, (unsigned long long)c->options.bpe.words_bytes_max);
    if (r->counted.words_cut)
        dp_log(WARN, "train-bpe", "%llu pretokens were cut at --word-bytes-max (%llu bytes): whole, merges may be others", (unsigned long long)r->counted.words_cut,
               (unsigned long long)((const struct own *)c->own)->word_bytes_max);
}

/* Stopped behind counting: the state of that is there all the same. */
static int say_kept(const char *output, int rc, struct dp_err *e)
{
    char *state = dp_fs_join(output, "resume/state.json");
    if (state && dp_fs_exists(state)) rc = dp_err_set(e, DP_STOPPED, 0, __FILE__, __LINE__, "stopped; what is counted is kept in %s/resume: the same command goes on from there", output);
    free(state);
    return rc;
}

static int train_files(struct dp_cli *c, struct run *r, struct dp_err *e)
{
    const struct own *o = c->own;
    struct dp_tokenizer *t = NULL;
    DP_TRY(dp_fs_mkdirs(o->output, e));
    int rc = get_counts(c, r, o->output, e);
    if (rc >= 0 && r->ranks.rank == 0) rc = train(c, r, &t, e);
    if (rc >= 0 && r->ranks.rank == 0) rc = write_all(c, r, t, e);
    if (rc == DP_STOPPED) rc = say_kept(o->output, rc, e);
    if (rc < 0) dp_ranks_abort(&r->ranks, e, dp_code_exit(rc));
    DP_TRY(dp_ranks_agree(&r->ranks, rc, e)); /* the others keep their states until it is done */
    forget(c, r, o->output);
    if (t) {
        dp_log(INFO, "train-bpe", "%u tokens from %llu distinct words, in %s", dp_tokenizer_tokens(t),
               (unsigned long long)dp_bpe_counter_unique(r->counted.counter), o->output);
        warn_left_out(c, r);
        if (dp_tokenizer_tokens(t) < (uint64_t)c->options.bpe.vocab_size)
            dp_log(WARN, "train-bpe", "the text has no pair left that occurs %lld times: %u tokens, not %lld",
                   (long long)(c->options.bpe.min_count > 1 ? c->options.bpe.min_count : 1), dp_tokenizer_tokens(t), (long long)c->options.bpe.vocab_size);
        rc = DP_SAY(c, e, {"tokens", NULL, dp_tokenizer_tokens(t)}, {"output", o->output, 0});
    }
    dp_tokenizer_free(t);
    return rc;
}

static int count_files(struct dp_cli *c, struct run *r, struct dp_err *e)
{
    const struct own *o = c->own;
    size_t n = strlen(o->output);
    bool text = n > 4 && strcmp(o->output + n - 4, ".tsv") == 0;
    char *dir = malloc(n + 8);
    if (!dir) DP_FAIL(e, NOMEM, "%s", o->output);
    memcpy(dir, o->output, n);
    memcpy(dir + n, ".tmp", 5);
    int rc = dp_fs_mkdirs(dir, e);
    if (rc >= 0) rc = get_counts(c, r, dir, e);
    uint64_t total = rc >= 0 && r->ranks.rank == 0 ? dp_bpe_counter_total(r->counted.counter) : 0;
    if (rc >= 0 && r->ranks.rank == 0) rc = dp_wordfile_save(r->counted.counter, o->output, text, e);
    if (rc < 0) dp_ranks_abort(&r->ranks, e, dp_code_exit(rc));
    if (rc >= 0) rc = dp_ranks_agree(&r->ranks, rc, e);
    if (rc >= 0) forget(c, r, dir);
    if (rc >= 0 && r->ranks.rank == 0) {
        dp_log(INFO, "train-bpe", "%llu words of %llu bytes of text counted, in %s", (unsigned long long)total, (unsigned long long)r->counted.bytes, o->output);
        rc = DP_SAY(c, e, {"words", NULL, total}, {"bytes", NULL, r->counted.bytes}, {"output", o->output, 0});
    }
    if (rc != DP_STOPPED) rmdir(dir);
    free(dir);
    return rc;
}

static bool given(const struct dp_cli *c, const char *name)
{
    for (size_t i = 0; i < c->flags; i++)
        if (strcmp(c->flag[i].row->name, name) == 0) return true;
    return false;
}

/* Who trains on files compares with other trainers. They learn from all words: far fewer are left out than in a workspace, whose budget of memory is
 * smaller. They have no special tokens unless told: --vocab-size gives the merges that it gives there, to the last one. */
static void other_presets(struct dp_cli *c)
{
    struct dp_bpe_train_options *o = &c->options.bpe;
    const uint64_t preset = UINT64_C(16) << 20;
    if (!given(c, "words_bytes_max") && o->words_bytes_max == preset) o->words_bytes_max = 8 * preset;
    if (!given(c, "special_tokens") && o->special_tokens && strcmp(o->special_tokens, "<|endoftext|>") == 0) *o->special_tokens = 0;
}

static int run(struct dp_cli *c, struct dp_err *e)
{
    const struct own *o = c->own;
    struct run r = {0};
    if (!o->output) {
        if (o->seed_tokens || o->extend) DP_FAIL(e, USAGE, "--seed-tokens and --extend go with -o DIR and files to train on");
        if (c->nargs) DP_FAIL(e, USAGE, "files are given, but no folder for the tokenizer: add -o DIR");
        return dp_cli_run_until(c, DP_STEP_TRAIN_BPE, e);
    }
    DP_TRY(dp_cli_options(c, e));
    other_presets(c);
    dp_arena_init(&r.mem, SIZE_MAX / 2);
    int rc = open_base(c, &r, e);
    if (rc >= 0) rc = read_seeds(c, &r, e);
    if (rc >= 0) rc = check_use(c, e);
    if (rc >= 0) rc = dp_ranks_begin(&r.ranks, e);
    if (r.ranks.rank) dp_progress_init(DP_PROGRESS_QUIET);
    if (rc >= 0 && r.ranks.size > 1) rc = check_ranks(c, e);
    if (rc >= 0) rc = o->count_only ? count_files(c, &r, e) : train_files(c, &r, e);
    dp_count_result_release(&r.counted);
    dp_ranks_end(&r.ranks);
    dp_tokenizer_free(r.base);
    dp_arena_release(&r.mem);
    return rc;
}

extern const struct dp_command dp_cmd_train_bpe;
const struct dp_command dp_cmd_train_bpe = {.name = "train-bpe", .summary = "train a byte-level BPE tokenizer", .args = "[-o DIR FILE...]", .rows = rows,
    .own_size = sizeof(struct own), .sections = "train-bpe tokenizer", .args_max = -1, .run = run,
    .about = "On the workspace's kept documents; or, with -o, on files: writes tokenizer.json, vocab.json, merges.txt, tokenizer.tiktoken and report.json.\n\n"
             "A FILE may be compressed (gzip, zstd, xz, bzip2, lz4), a folder, or - for standard input. Each line is a text, each line's member with --jsonl, each file with "
             "--whole-file: no token is learnt across two texts. The result depends on texts and options alone. A run that was interrupted goes on from what it kept in "
             "DIR/resume when the same command is given again. Without --special-tokens there are none. --count-only and --from-counts cut the work for many machines. docs/train-bpe.md has more."};
