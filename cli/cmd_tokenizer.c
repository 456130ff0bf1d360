/* tokenizer: look at vocabularies and change them; the work is in cli/tokenizer_*.c. */
#include "cli/tokenizer_verbs.h"

#include <string.h>

#define O(f) offsetof(struct dp_tokenizer_args, f)
static const struct dp_opt rows[] = {
    {.name = "split", .type = DP_OPT_STRING, .offset = O(split), .arg = "NAME", .help = "pre-tokenizer, over the file's: gpt2, cl100k, o200k ... or regex:PATTERN"},
    {.name = "tokenizer", .letter = 't', .type = DP_OPT_STRING, .offset = O(tokenizer), .arg = "FILE", .help = "report: the tokenizer.json or .tiktoken it is about"},
    {.name = "baseline", .type = DP_OPT_LIST, .offset = O(baseline), .arg = "NAME[=FILE],...", .help = "report: others beside it; gpt2, cl100k, o200k... from $DPIPE_TOKENIZERS or ~/.cache/dpipe/tokenizers"},
    {.name = "jsonl", .type = DP_OPT_BOOL, .offset = O(jsonl), .help = "report, compare: files are JSON lines"},
    {.name = "field", .type = DP_OPT_STRING, .offset = O(field), .preset = "text", .arg = "NAME", .help = "the JSON member with the text"},
    {.name = "whole_file", .type = DP_OPT_BOOL, .offset = O(whole_file), .help = "report, compare: a file is one text (otherwise a line is)"},
    {.name = "language_field", .type = DP_OPT_STRING, .offset = O(language_field), .arg = "NAME", .help = "the JSON member with the language"},
    {.name = "domain_field", .type = DP_OPT_STRING, .offset = O(domain_field), .arg = "NAME", .help = "the JSON member with the domain (otherwise with several files: the file)"},
    {.name = "detect_language", .type = DP_OPT_BOOL, .offset = O(detect_language), .help = "report, compare: identify the language of each text where no member says it"},
    {.name = "svg", .type = DP_OPT_STRING, .offset = O(svg), .arg = "FILE", .help = "report: charts into this file too"},
    {.name = "list", .type = DP_OPT_BOOL, .offset = O(list), .help = "report: every unused token"},
    {.name = "special", .type = DP_OPT_CHOICE, .offset = O(special), .preset = "none", .choices = "none|all", .help = "report, compare: whether the text of special tokens becomes their ids"},
    {.name = "encoder_cache", .type = DP_OPT_SIZE, .offset = O(encoder_cache), .preset = "0", .max = 4294967296.0, .arg = "SIZE", .help = "report, compare: cache of pretokens for each tokenizer; 0: 48M"},
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
const struct dp_command dp_cmd_tokenizer = {.name = "tokenizer", .summary = "look at tokenizers and change them", .args = "VERB FILE...", .rows = rows,
    .own_size = sizeof(struct dp_tokenizer_args), .args_min = 1, .args_max = -1, .run = run,
    .about = "  info FILE          what a tokenizer file holds, as a JSON object\n"
             "  report FILE...     how well --tokenizer fits the texts, by language and domain, beside --baseline: a table, --json, --svg FILE\n"
             "  compare A B [FILE...]   what two vocabularies have in common, and where they cut texts differently; exit status 0 when B gives A's ids (without\n"
             "                     texts: when both are the same), 1 when not"};
