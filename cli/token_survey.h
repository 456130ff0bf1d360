/* cli/token_survey.h - the texts of files through one or several tokenizers at once, counted by language and domain.
 *
 * Texts are lines, members of JSON lines, or whole files; plain, or zstd where a name ends in .zst. A text's language is what its language field says, or what
 * clean/'s identifier says of it, or nothing; its domain is what its domain field says, else with several arguments the name of the file or folder that was given. A text
 * without the field is of the group "(none)"; past 1,000 names those that come are of "(other)".
 *
 * Results depend on the texts alone, not on threads: batches are cut by the data, groups come in the order of reading, counts are whole numbers.
 * Memory: for each thread four batches of about 1 MiB (or one text; a whole file is taken in parts where nobody watches, no language is asked for and no special
 * token is looked for) and 8 bytes for each id of a tokenizer, and a cache for each tokenizer. */
#ifndef DP_CLI_TOKEN_SURVEY_H
#define DP_CLI_TOKEN_SURVEY_H

#include "base/err.h"
#include "base/span.h"
#include "tokenizer/encode.h"
#include "tokenizer/token_meter.h"

#include <stdbool.h>
#include <stdint.h>

enum { DP_SURVEY_TOKENIZERS_MAX = 8, DP_SURVEY_GROUPS_MAX = 1000 };
enum dp_survey_kind { DP_SURVEY_LANGUAGES, DP_SURVEY_DOMAINS, DP_SURVEY_KINDS };

struct dp_survey_tokenizer {
    char *name, *path; /* malloc'ed */
    struct dp_tokenizer *t;
    struct dp_token_meter *meter;
    uint64_t *used; /* by id: how often it came */
};
struct dp_survey_group {
    struct dp_span name; /* malloc'ed */
    uint64_t texts, bytes, chars;
    struct dp_token_count count[DP_SURVEY_TOKENIZERS_MAX];
};
struct dp_survey_groups {
    struct dp_survey_group *group; /* most bytes first, then by name */
    size_t n;
};
struct dp_survey {
    struct dp_survey_tokenizer tokenizer[DP_SURVEY_TOKENIZERS_MAX];
    size_t tokenizers;
    struct dp_survey_group all;
    struct dp_survey_groups by[DP_SURVEY_KINDS];
};

struct dp_survey_options {
    bool jsonl, whole_file, detect_language, specials; /* specials: texts of special tokens become their ids */
    const char *field, *language_field, *domain_field; /* of JSON lines; NULL: none */
    int threads;
    size_t cache_bytes; /* of each encoder; 0: its default */
};

/* All zero is empty. */
void dp_survey_release(struct dp_survey *s);
/* Add a tokenizer from a file. DP_USAGE when there are too many. name NULL: after the file. */
int dp_survey_add(struct dp_survey *s, const char *name, const char *path, const char *split, struct dp_err *e);

/* For who wants to see every text. `text` is called on any thread, for the texts of a batch in their order, with the ids of each tokenizer; `slot` is the
 * batch's place, below dp_survey_slots(); `merge` on the caller's, for each batch in the order of reading, when it is done. */
struct dp_survey_watch {
    int (*text)(void *ctx, size_t slot, struct dp_span text, const struct dp_ids *ids, struct dp_err *e);
    int (*merge)(void *ctx, size_t slot, struct dp_err *e);
    void *ctx;
};
size_t dp_survey_slots(const struct dp_survey_options *o);
/* Once for a survey; without files standard input; folders stand for the files below them (cli/file_list.h). watch may be NULL. Errors name file and line. */
int dp_survey_run(struct dp_survey *s, const struct dp_survey_options *o, const char *const *files, size_t n, const struct dp_survey_watch *watch, struct dp_err *e);

#endif
