/* tokenizer: look at vocabularies and change them; the work is in cli/tokenizer_*.c. */
#include "cli/tokenizer_verbs.h"

#include <string.h>

#define O(f) offsetof(struct dp_tokenizer_args, f)
static const struct dp_opt rows[] = {
    {.name = "split", .type = DP_OPT_STRING, .offset = O(split), .arg = "NAME", .help = "pre-tokenizer, over the file's: gpt2, cl100k, o200k ... or regex:PATTERN"},
    DP_OPT_END,
};
#undef O

static const struct {
    const char *name;
    int args_min, args_max; /* args_max -1: any number */
    dp_tokenizer_verb_fn run;
} verbs[] = {
    {"info", 1, 1, dp_tokenizer_info},
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
    .about = "  info FILE   what a tokenizer file holds, as a JSON object"};
