#include "base/fs.h"
#include "cli/baseline.h"
#include "cli/token_report.h"
#include "cli/tokenizer_verbs.h"

int dp_tokenizer_survey_options(const struct dp_cli *c, const struct dp_tokenizer_args *o, struct dp_survey_options *out, struct dp_err *e)
{
    if (!o->jsonl && (o->language_field || o->domain_field)) DP_FAIL(e, USAGE, "--language-field and --domain-field are members of JSON lines: add --jsonl");
    if (o->jsonl && o->whole_file) DP_FAIL(e, USAGE, "--jsonl and --whole-file: a text is a member of a line, or a file");
    *out = (struct dp_survey_options){.jsonl = o->jsonl, .whole_file = o->whole_file, .detect_language = o->detect_language && !o->language_field,
                                      .specials = o->special == 1, .field = o->field, .language_field = o->language_field, .domain_field = o->domain_field,
                                      .threads = (int)c->global.threads, .cache_bytes = (size_t)o->encoder_cache};
    return DP_OK;
}

static int print(struct dp_cli *c, const struct dp_tokenizer_args *o, const struct dp_survey *s, struct dp_err *e)
{
    struct dp_buf b;
    dp_buf_init(&b, (size_t)1 << 30);
    int rc = DP_OK;
    if (o->svg) {
        dp_report_svg(s, &b);
        rc = dp_buf_check(&b, o->svg, e);
        if (rc >= 0) rc = dp_fs_write_atomic(o->svg, dp_buf_span(&b), e);
        dp_buf_clear(&b);
    }
    if (c->global.json) dp_report_json(s, o->list, &b);
    else dp_report_text(s, o->list, &b);
    if (rc >= 0) rc = dp_cli_print(&b, e);
    dp_buf_release(&b);
    return rc;
}

int dp_tokenizer_report(struct dp_cli *c, const struct dp_tokenizer_args *o, const char **args, size_t n, struct dp_err *e)
{
    struct dp_survey s = {0};
    struct dp_survey_options so;
    if (!o->tokenizer) DP_FAIL(e, USAGE, "tokenizer report: which one? --tokenizer FILE");
    DP_TRY(dp_tokenizer_survey_options(c, o, &so, e));
    int rc = dp_survey_add(&s, NULL, o->tokenizer, o->split, e);
    if (rc >= 0) rc = dp_baselines_add(&s, o->baseline, e);
    if (rc >= 0) rc = dp_survey_run(&s, &so, args, n, NULL, e);
    if (rc >= 0) rc = print(c, o, &s, e);
    dp_survey_release(&s);
    return rc;
}
