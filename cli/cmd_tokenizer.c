/* tokenizer: look at vocabularies and change them; the work is in cli/tokenizer_*.c. */
#include "cli/tokenizer_verbs.h"

#include <string.h>

#define O(f) offsetof(struct dp_tokenizer_args, f)
static const struct dp_opt rows[] = {
    {.name = "split", .type = DP_OPT_STRING, .offset = O(split), .arg = "NAME", .help = "pre-tokenizer, over the file's: gpt2, cl100k, o200k ... or regex:PATTERN"},
    {.name = "tokenizer", .letter = 't', .type = DP_OPT_STRING, .offset = O(tokenizer), .arg = "FILE", .help = "report: the tokenizer file it is about"},
    {.name = "baseline", .type = DP_OPT_LIST, .offset = O(baseline), .arg = "NAME[=FILE],...", .help = "report: others beside it; gpt2, cl100k, o200k... from $DPIPE_TOKENIZERS or ~/.cache/dpipe/tokenizers"},
    {.name = "jsonl", .type = DP_OPT_BOOL, .offset = O(jsonl), .help = "report, compare, prune: files of text are JSON lines"},
    {.name = "field", .type = DP_OPT_STRING, .offset = O(field), .preset = "text", .arg = "NAME", .help = "the JSON member with the text"},
    {.name = "whole_file", .type = DP_OPT_BOOL, .offset = O(whole_file), .help = "report, compare, prune: a file of text is one text (otherwise a line is)"},
    {.name = "language_field", .type = DP_OPT_STRING, .offset = O(language_field), .arg = "NAME", .help = "the JSON member with the language"},
    {.name = "domain_field", .type = DP_OPT_STRING, .offset = O(domain_field), .arg = "NAME", .help = "the JSON member with the domain (otherwise of several files or folders each is one)"},
    {.name = "detect_language", .type = DP_OPT_BOOL, .offset = O(detect_language), .help = "report, compare: identify the language of each text where no member says it"},
    {.name = "svg", .type = DP_OPT_STRING, .offset = O(svg), .arg = "FILE", .help = "report: charts into this file too"},
    {.name = "list", .type = DP_OPT_BOOL, .offset = O(list), .help = "report: every unused token"},
    {.name = "special", .type = DP_OPT_CHOICE, .offset = O(special), .preset = "none", .choices = "none|all", .help = "report, compare: whether the text of special tokens becomes their ids"},
    {.name = "encoder_cache", .type = DP_OPT_SIZE, .offset = O(encoder_cache), .preset = "0", .max = 4294967296.0, .arg = "SIZE", .help = "report, compare: cache of pretokens for each tokenizer; 0: 96M"},
    {.name = "output", .letter = 'o', .type = DP_OPT_STRING, .offset = O(output), .arg = "PATH", .help = "where to write: a file (nest, convert) or a folder"},
    {.name = "vocab_size", .type = DP_OPT_INT, .offset = O(vocab_size), .min = 0, .max = 2097152, .arg = "N", .help = "tokens in all"},
    {.name = "keep", .type = DP_OPT_STRING, .offset = O(keep), .arg = "FILE", .help = "prune: ids to keep, in any notation of numbers"},
    {.name = "counts", .type = DP_OPT_STRING, .offset = O(counts), .arg = "FILE", .help = "prune: how often ids are used: lines of an id and a number"},
    {.name = "min_count", .type = DP_OPT_INT, .offset = O(min_count), .min = 0, .max = 9007199254740992.0, .arg = "N", .help = "prune: drop only what is used less often"},
    {.name = "to", .type = DP_OPT_CHOICE, .offset = O(to), .preset = "auto", .choices = "auto|hf|tiktoken|vocab|gguf|sp", .help = "convert: the format; auto: by the output's name"},
    DP_OPT_END,
};
#undef O

static const struct {
    const char *name;
    int args_min, args_max; /* args_max -1: any number */
    dp_tokenizer_verb_fn run;
} verbs[] = {
    {"info", 1, 1, dp_tokenizer_info},
    {"report", 0, -1, dp_tokenizer_report},
    {"compare", 2, -1, dp_tokenizer_compare},
    {"nest", 1, 1, dp_tokenizer_nest_file},
    {"prune", 1, -1, dp_tokenizer_prune_file},
    {"convert", 1, 1, dp_tokenizer_convert},
};

static int run(struct dp_cli *c, struct dp_err *e)
{
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (strcmp(c->args[0], verbs[i].name) != 0) continue;
        size_t n = c->nargs - 1;
        if (n < (size_t)verbs[i].args_min || (verbs[i].args_max >= 0 && n > (size_t)verbs[i].args_max))
            DP_FAIL(e, USAGE, "tokenizer %s: %zu arguments; see dpipe tokenizer --help", verbs[i].name, n);
        return verbs[i].run(c, c->own, c->args + 1, n, e);
    }
    DP_FAIL(e, USAGE, "tokenizer: there is no \"%s\"; see dpipe tokenizer --help", c->args[0]);
}

extern const struct dp_command dp_cmd_tokenizer;
const struct dp_command dp_cmd_tokenizer = {.name = "tokenizer", .summary = "look at tokenizers and change them", .args = "info FILE | report [FILE...] | compare A B [FILE...] | convert FILE | nest FILE | prune FILE [TEXT...]", .rows = rows,
    .own_size = sizeof(struct dp_tokenizer_args), .args_min = 1, .args_max = -1, .run = run,
    .about = "  info FILE          what a tokenizer file holds, as a JSON object\n"
             "  convert FILE -o PATH [--to hf|tiktoken|vocab|gguf|sp]   the same tokenizer in another format: tokenizer.json (in a folder, with what\n"
             "                     transformers wants beside it), .tiktoken, a folder of vocab.json and merges.txt, GGUF's fields, a sentencepiece .model\n"
             "  report FILE...     how well --tokenizer fits the texts, by language and domain, beside --baseline: a table, --json, --svg FILE\n"
             "  compare A B [FILE...]   what two vocabularies have in common, and where they cut texts differently; exit status 0 when B gives A's ids (without\n"
             "                     texts: when both are the same), 1 when not\n"
             "  nest FILE --vocab-size N -o FILE   the first merges as a vocabulary of its own; ids stay\n"
             "  prune FILE --keep IDS -o DIR   drop all other tokens, but for bytes, special tokens and parts of what stays\n"
             "  prune FILE [--counts FILE | TEXT...] [--vocab-size N] [--min-count N] -o DIR   drop the tokens used least\n"
             "A folder of texts stands for the files below it, without hidden and empty ones.\n"
             "prune writes tokenizer.json, and id_map.json and id_map.bin, which give the new id of an old one, -1 where it is gone."};
