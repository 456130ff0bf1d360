#include "cli/baseline.h"

#include "base/fs.h"

#include <stdio.h>
#include <stdlib.h>

static const struct {
    const char *name, *other, *split;
} known[] = {
    {"gpt2", "gpt2", "gpt2"},           {"gpt2", "r50k_base", "gpt2"},           {"r50k_base", "gpt2", "gpt2"},
    {"cl100k", "cl100k_base", "cl100k"}, {"cl100k_base", "cl100k_base", "cl100k"}, {"o200k", "o200k_base", "o200k"},
    {"o200k_base", "o200k_base", "o200k"},
};

static int folder_of_tokenizers(char *out, size_t cap, struct dp_err *e)
{
    const char *own = getenv("DPIPE_TOKENIZERS"), *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int n;
    if (own && *own) n = snprintf(out, cap, "%s", own);
    else if (cache && *cache) n = snprintf(out, cap, "%s/dpipe/tokenizers", cache);
    else n = snprintf(out, cap, "%s/.cache/dpipe/tokenizers", home ? home : "");
    if (n < 0 || (size_t)n >= cap) DP_FAIL(e, CONFIG, "DPIPE_TOKENIZERS: the path is too long");
    return DP_OK;
}

static bool there(char *out, size_t cap, const char *dir, const char *name, const char *end)
{
    int n = snprintf(out, cap, "%s/%s%s", dir, name, end);
    return n > 0 && (size_t)n < cap && dp_fs_exists(out);
}

/* DP_OK with a path in out. */
static int find(const char *name, char *out, size_t cap, struct dp_err *e)
{
    static const char *const ends[] = {".json", ".tiktoken", "/tokenizer.json"};
    char dir[3000];
    DP_TRY(folder_of_tokenizers(dir, sizeof dir, e));
    for (size_t i = 0; i < 3; i++)
        if (there(out, cap, dir, name, ends[i])) return DP_OK;
    const char *get = "";
    for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
        if (strcmp(known[k].name, name) != 0) continue;
        for (size_t i = 0; i < 3; i++)
            if (there(out, cap, dir, known[k].other, ends[i])) return DP_OK;
        get = known[k].other;
    }
    if (!*get) DP_FAIL(e, NOTFOUND, "baseline %s: no such file, and %s has no %s.json or %s.tiktoken (DPIPE_TOKENIZERS names another folder); NAME=PATH names a file", name, dir, name, name);
    if (strcmp(get, "gpt2") == 0) get = "r50k_base";
    DP_FAIL(e, NOTFOUND, "baseline %s: not in %s (DPIPE_TOKENIZERS names another folder). Its publisher has it: "
            "curl --create-dirs -o %s/%s.tiktoken https://openaipublic.blob.core.windows.net/encodings/%s.tiktoken", name, dir, dir, get, get);
}

/* The split that a name stands for; NULL: what the file says. */
static const char *split_of(const char *name, const char *path)
{
    size_t n = strlen(path);
    if (n < 9 || strcmp(path + n - 9, ".tiktoken") != 0) return NULL;
    for (size_t k = 0; k < sizeof known / sizeof *known; k++)
        if (strcmp(known[k].name, name) == 0) return known[k].split;
    return NULL;
}

static int add_one(struct dp_survey *s, char *word, struct dp_err *e)
{
    char path[4096], *eq = strchr(word, '=');
    if (eq) {
        *eq = 0;
        if (!*word || !eq[1]) DP_FAIL(e, USAGE, "baseline: \"%s=%s\" is no NAME=PATH", word, eq + 1);
        return dp_survey_add(s, word, eq + 1, split_of(word, eq + 1), e);
    }
    if (strchr(word, '/') || strchr(word, '.')) return dp_survey_add(s, NULL, word, NULL, e);
    DP_TRY(find(word, path, sizeof path, e));
    return dp_survey_add(s, word, path, split_of(word, path), e);
}

int dp_baselines_add(struct dp_survey *s, const char *list, struct dp_err *e)
{
    int rc = DP_OK;
    if (!list) return DP_OK;
    char *copy = strdup(list), *at = copy;
    if (!copy) DP_FAIL(e, NOMEM, "baselines");
    while (rc >= 0 && at && *at) {
        char *comma = strchr(at, ',');
        if (comma) *comma = 0;
        if (*at) rc = add_one(s, at, e);
        at = comma ? comma + 1 : NULL;
    }
    free(copy);
    return rc;
}
