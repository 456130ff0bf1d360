/* tokenizer compare A B [FILE...]: what the vocabularies have in common, and with texts, where they cut differently. Like diff: exit status 0 when nothing
 * differs, 1 when something does. */
#include "cli/cut_diff.h"
#include "cli/token_report.h"
#include "cli/tokenizer_verbs.h"

#include <math.h>
#include <stdlib.h>

enum { EXAMPLES = 10 };

/* Tokens of one that the other doesn't have, or has under another id. */
struct examples {
    uint64_t n;
    uint32_t id[EXAMPLES];
};

struct vocabularies {
    const struct dp_tokenizer *a, *b;
    uint64_t tokens[2], common;
    struct examples only[2], moved;           /* ordinary tokens */
    struct examples special[2], special_moved;
    bool lists;                               /* both have lists of merges, of which: */
    bool merges_differ;
    uint32_t merge; /* the first rank that differs, or the length of the shorter */
    bool same;      /* all that decides ids */
};

static void example(struct examples *x, uint32_t id)
{
    if (x->n < EXAMPLES) x->id[x->n] = id;
    x->n++;
}

static void compare_tokens(struct vocabularies *v)
{
    const struct dp_tokenizer *t[2] = {v->a, v->b};
    for (int k = 0; k < 2; k++)
        for (uint32_t i = 0; i < dp_tokenizer_size(t[k]); i++) {
            if (!dp_token_is_ordinary(t[k], i)) continue;
            v->tokens[k]++;
            int64_t there = dp_tokenizer_id(t[!k], dp_tokenizer_bytes(t[k], i));
            if (there < 0) example(&v->only[k], i);
            else if (k == 0) {
                v->common++;
                if (there != i) example(&v->moved, i);
            }
        }
}

static void compare_specials(struct vocabularies *v)
{
    const struct dp_tokenizer *t[2] = {v->a, v->b};
    for (int k = 0; k < 2; k++) {
        size_t n;
        const struct dp_special *s = dp_tokenizer_specials(t[k], &n);
        for (size_t i = 0; i < n; i++) {
            int64_t there = dp_tokenizer_special(t[!k], s[i].text);
            if (there < 0) example(&v->special[k], s[i].id);
            else if (k == 0 && there != s[i].id) example(&v->special_moved, s[i].id);
        }
    }
}

static bool same_merge(const struct vocabularies *v, uint32_t rank)
{
    uint32_t a[3], b[3];
    dp_tokenizer_merge(v->a, rank, &a[0], &a[1], &a[2]);
    dp_tokenizer_merge(v->b, rank, &b[0], &b[1], &b[2]);
    for (int i = 0; i < 2; i++)
        if (!dp_span_eq(dp_tokenizer_bytes(v->a, a[i]), dp_tokenizer_bytes(v->b, b[i]))) return false;
    return true;
}

static void compare_merges(struct vocabularies *v)
{
    uint32_t n = dp_tokenizer_merges(v->a), m = dp_tokenizer_merges(v->b), least = n < m ? n : m;
    v->lists = !dp_tokenizer_ranks(v->a) && !dp_tokenizer_ranks(v->b) && !dp_tokenizer_is_sp(v->a) && !dp_tokenizer_is_sp(v->b);
    if (!v->lists) return;
    while (v->merge < least && same_merge(v, v->merge)) v->merge++;
    v->merges_differ = v->merge < least || n != m;
}

/* The name of a split, or what a splitter does. */
static struct dp_span split_text(const struct dp_tokenizer *t)
{
    if (dp_tokenizer_is_sp(t)) return dp_span_str(dp_report_split(t));
    return dp_splitter_text(dp_tokenizer_splitter(t), dp_tokenizer_split(t));
}

/* --- text --- */

static void shown_token(const struct dp_tokenizer *t, uint32_t id, struct dp_buf *out)
{
    dp_token_show(dp_tokenizer_bytes(t, id), 60, out);
}

static void list(struct dp_buf *out, const char *what, const struct dp_tokenizer *t, const struct examples *x)
{
    dp_buf_printf(out, "%-22s %llu", what, (unsigned long long)x->n);
    for (uint64_t i = 0; i < x->n && i < EXAMPLES; i++) {
        dp_buf_printf(out, "%s %u ", i ? "," : ":", x->id[i]);
        shown_token(t, x->id[i], out);
    }
    dp_buf_add_str(out, x->n > EXAMPLES ? ", ...\n" : "\n");
}

static void moved(struct dp_buf *out, const char *what, const struct vocabularies *v, const struct examples *x, bool special)
{
    dp_buf_printf(out, "%-22s %llu", what, (unsigned long long)x->n);
    for (uint64_t i = 0; i < x->n && i < EXAMPLES; i++) {
        struct dp_span b = dp_tokenizer_bytes(v->a, x->id[i]);
        dp_buf_add_str(out, i ? ", " : ": ");
        dp_token_show(b, 60, out);
        dp_buf_printf(out, " %u and %lld", x->id[i], (long long)(special ? dp_tokenizer_special(v->b, b) : dp_tokenizer_id(v->b, b)));
    }
    dp_buf_add_str(out, x->n > EXAMPLES ? ", ...\n" : "\n");
}

static void merge_text(const struct dp_tokenizer *t, uint32_t rank, struct dp_buf *out)
{
    uint32_t l, r, id;
    if (rank >= dp_tokenizer_merges(t)) {
        dp_buf_add_str(out, "none");
        return;
    }
    dp_tokenizer_merge(t, rank, &l, &r, &id);
    shown_token(t, l, out);
    dp_buf_add_str(out, " + ");
    shown_token(t, r, out);
}

static void text_vocabularies(const struct vocabularies *v, const struct dp_survey *s, struct dp_buf *out)
{
    const struct dp_tokenizer *t[2] = {v->a, v->b};
    for (int k = 0; k < 2; k++) {
        dp_buf_printf(out, "%c: %s: %llu tokens, %s%s, split ", 'A' + k, s->tokenizer[k].path, (unsigned long long)v->tokens[k],
                      dp_tokenizer_is_sp(t[k]) ? "merges of characters" : dp_tokenizer_ranks(t[k]) ? "merges by rank" : "a list of merges", dp_tokenizer_ignore_merges(t[k]) ? ", whole tokens first" : "");
        if (dp_tokenizer_splitter(t[k])) dp_token_show(split_text(t[k]), 400, out);
        else dp_buf_add_span(out, split_text(t[k]));
        dp_buf_add_char(out, '\n');
    }
    dp_buf_printf(out, "%-22s %llu: %.2f%% of A, %.2f%% of B\n", "tokens of both", (unsigned long long)v->common, 100 * (double)v->common / (double)v->tokens[0],
                  100 * (double)v->common / (double)v->tokens[1]);
    list(out, "only in A", v->a, &v->only[0]);
    list(out, "only in B", v->b, &v->only[1]);
    moved(out, "other ids", v, &v->moved, false);
    list(out, "special only in A", v->a, &v->special[0]);
    list(out, "special only in B", v->b, &v->special[1]);
    moved(out, "special, other ids", v, &v->special_moved, true);
    if (!v->lists) dp_buf_printf(out, "%-22s not compared: at least one has none, its ids or scores say what merges first\n", "lists of merges");
    else if (!v->merges_differ) dp_buf_printf(out, "%-22s the same, %u\n", "lists of merges", v->merge);
    else {
        dp_buf_printf(out, "%-22s first differ at merge %u: A ", "lists of merges", v->merge);
        merge_text(v->a, v->merge, out);
        dp_buf_add_str(out, ", B ");
        merge_text(v->b, v->merge, out);
        dp_buf_add_char(out, '\n');
    }
    dp_buf_printf(out, "%s\n", v->same ? "The same tokenizer." : "Not the same tokenizer.");
}

/* Its tokens by one of the two. */
static void cut_text(const struct dp_cut_place *p, uint64_t cuts, struct dp_buf *out)
{
    for (uint32_t i = 1, from = 0; i <= p->len; i++) {
        if (i < p->len && !(cuts >> i & 1)) continue;
        if (from) dp_buf_add_char(out, ' ');
        dp_token_show(dp_span(p->text + from, i - from), DP_CUT_BYTES_MAX, out);
        from = i;
    }
}

static void text_places(const struct dp_cut_diff *d, struct dp_buf *out)
{
    dp_buf_printf(out, "\ntexts: %llu, the same ids in %llu, the same cuts in %llu; places cut differently: %llu%s\n", (unsigned long long)d->texts,
                  (unsigned long long)(d->texts - d->other_ids), (unsigned long long)(d->texts - d->other_cuts), (unsigned long long)d->places, d->n ? ", the most frequent:" : "");
    for (size_t i = 0; i < d->n && i < 2 * EXAMPLES; i++) {
        dp_buf_printf(out, "%10llu times  A ", (unsigned long long)d->place[i].count);
        cut_text(&d->place[i], d->place[i].a, out);
        dp_buf_add_str(out, "   B ");
        cut_text(&d->place[i], d->place[i].b, out);
        dp_buf_add_char(out, '\n');
    }
    if (!d->other_ids) return;
    dp_buf_printf(out, "first other id: text %llu (from 1), byte %llu: ", (unsigned long long)d->first + 1, (unsigned long long)d->first_at);
    dp_token_show(dp_span(d->excerpt, d->excerpt_len), d->excerpt_len, out);
    dp_buf_add_char(out, '\n');
}

/* --- JSON --- */

static void json_examples(struct dp_jsonw *w, const char *key, const struct dp_tokenizer *t, const struct dp_tokenizer *other, bool special, const struct examples *x)
{
    dp_jsonw_key(w, key);
    dp_jsonw_begin(w, '{');
    dp_jsonw_member_uint(w, "count", x->n);
    dp_jsonw_key(w, "examples");
    dp_jsonw_begin(w, '[');
    for (uint64_t i = 0; i < x->n && i < EXAMPLES; i++) {
        struct dp_span b = dp_tokenizer_bytes(t, x->id[i]);
        dp_jsonw_begin(w, '{');
        dp_jsonw_member_uint(w, "id", x->id[i]);
        if (other) dp_jsonw_member_uint(w, "other_id", (uint64_t)(special ? dp_tokenizer_special(other, b) : dp_tokenizer_id(other, b)));
        dp_token_put_shown(w, "token", b, DP_SHOWN_TEXT);
        dp_jsonw_end(w, '}');
    }
    dp_jsonw_end(w, ']');
    dp_jsonw_end(w, '}');
}

static void json_merge(struct dp_jsonw *w, const char *key, const struct dp_tokenizer *t, uint32_t rank)
{
    uint32_t l, r, id;
    dp_jsonw_key(w, key);
    if (rank >= dp_tokenizer_merges(t)) {
        dp_jsonw_null(w);
        return;
    }
    dp_tokenizer_merge(t, rank, &l, &r, &id);
    dp_jsonw_begin(w, '{');
    dp_token_put_shown(w, "left", dp_tokenizer_bytes(t, l), DP_SHOWN_TEXT);
    dp_token_put_shown(w, "right", dp_tokenizer_bytes(t, r), DP_SHOWN_TEXT);
    dp_jsonw_end(w, '}');
}

static void json_tokenizers(struct dp_jsonw *w, const struct vocabularies *v, const struct dp_survey *s)
{
    const struct dp_tokenizer *t[2] = {v->a, v->b};
    dp_jsonw_key(w, "tokenizers");
    dp_jsonw_begin(w, '[');
    for (int k = 0; k < 2; k++) {
        char hex[33];
        dp_hash128_hex(dp_tokenizer_digest(t[k]), hex);
        dp_jsonw_begin(w, '{');
        dp_jsonw_key(w, "file");
        dp_jsonw_cstr(w, s->tokenizer[k].path);
        dp_jsonw_member_uint(w, "tokens", v->tokens[k]);
        dp_jsonw_member_uint(w, "ids", dp_tokenizer_size(t[k]));
        dp_jsonw_key(w, "split");
        dp_jsonw_str(w, split_text(t[k]));
        dp_jsonw_member_bool(w, "ignore_merges", dp_tokenizer_ignore_merges(t[k]));
        dp_jsonw_member_bool(w, "by_rank", dp_tokenizer_ranks(t[k]));
        dp_jsonw_key(w, "digest");
        dp_jsonw_cstr(w, hex);
        dp_jsonw_end(w, '}');
    }
    dp_jsonw_end(w, ']');
}

static void json_vocabularies(struct dp_jsonw *w, const struct vocabularies *v, const struct dp_survey *s)
{
    json_tokenizers(w, v, s);
    dp_jsonw_member_bool(w, "same", v->same);
    dp_jsonw_member_uint(w, "common", v->common);
    json_examples(w, "only_a", v->a, NULL, false, &v->only[0]);
    json_examples(w, "only_b", v->b, NULL, false, &v->only[1]);
    json_examples(w, "other_ids", v->a, v->b, false, &v->moved);
    json_examples(w, "special_only_a", v->a, NULL, true, &v->special[0]);
    json_examples(w, "special_only_b", v->b, NULL, true, &v->special[1]);
    json_examples(w, "special_other_ids", v->a, v->b, true, &v->special_moved);
    dp_jsonw_key(w, "first_different_merge");
    if (!v->lists || !v->merges_differ) dp_jsonw_null(w);
    else {
        dp_jsonw_begin(w, '{');
        dp_jsonw_member_uint(w, "rank", v->merge);
        json_merge(w, "a", v->a, v->merge);
        json_merge(w, "b", v->b, v->merge);
        dp_jsonw_end(w, '}');
    }
}

static void json_cut(struct dp_jsonw *w, const char *key, const struct dp_cut_place *p, uint64_t cuts)
{
    dp_jsonw_key(w, key);
    dp_jsonw_begin(w, '[');
    for (uint32_t i = 1, from = 0; i <= p->len; i++) {
        if (i < p->len && !(cuts >> i & 1)) continue;
        struct dp_buf b;
        dp_buf_init(&b, 4096);
        dp_token_show(dp_span(p->text + from, i - from), DP_CUT_BYTES_MAX, &b);
        dp_jsonw_str(w, dp_span(b.ptr + 1, b.len - 2));
        dp_buf_release(&b);
        from = i;
    }
    dp_jsonw_end(w, ']');
}

static void json_texts(struct dp_jsonw *w, const struct dp_survey *s, const struct dp_cut_diff *d)
{
    dp_jsonw_member_uint(w, "texts", d->texts);
    dp_jsonw_member_uint(w, "texts_with_other_ids", d->other_ids);
    dp_jsonw_member_uint(w, "texts_with_other_cuts", d->other_cuts);
    dp_jsonw_member_uint(w, "places", d->places);
    dp_jsonw_key(w, "frequent_places");
    dp_jsonw_begin(w, '[');
    for (size_t i = 0; i < d->n && i < 10 * EXAMPLES; i++) {
        dp_jsonw_begin(w, '{');
        dp_jsonw_member_uint(w, "count", d->place[i].count);
        dp_token_put_shown(w, "text", dp_span(d->place[i].text, d->place[i].len), DP_SHOWN_TEXT);
        json_cut(w, "a", &d->place[i], d->place[i].a);
        json_cut(w, "b", &d->place[i], d->place[i].b);
        dp_jsonw_end(w, '}');
    }
    dp_jsonw_end(w, ']');
    dp_jsonw_key(w, "first_other_id");
    if (!d->other_ids) dp_jsonw_null(w);
    else {
        dp_jsonw_begin(w, '{');
        dp_jsonw_member_uint(w, "text", d->first + 1);
        dp_jsonw_member_uint(w, "byte", d->first_at);
        dp_token_put_shown(w, "excerpt", dp_span(d->excerpt, d->excerpt_len), DP_SHOWN_TEXT);
        dp_jsonw_end(w, '}');
    }
    dp_jsonw_key(w, "all");
    dp_jsonw_begin(w, '{');
    dp_report_json_group(w, s, &s->all);
    dp_jsonw_end(w, '}');
    dp_report_json_groups(w, s);
}

/* --- texts --- */

struct watch {
    const struct dp_survey *s;
    struct dp_cut_diff all, *slot;
};

static int on_text(void *ctx, size_t slot, struct dp_span text, const struct dp_ids *ids, struct dp_err *e)
{
    struct watch *w = ctx;
    return dp_cut_diff_text(&w->slot[slot], text, w->s->tokenizer[0].t, &ids[0], w->s->tokenizer[1].t, &ids[1], e);
}

static int on_batch(void *ctx, size_t slot, struct dp_err *e)
{
    struct watch *w = ctx;
    DP_TRY(dp_cut_diff_merge(&w->all, &w->slot[slot], e));
    dp_cut_diff_clear(&w->slot[slot]);
    return DP_OK;
}

static int survey(struct dp_survey *s, const struct dp_survey_options *o, struct watch *w, const char **files, size_t n, struct dp_err *e)
{
    struct dp_survey_watch watch = {on_text, on_batch, w};
    size_t slots = dp_survey_slots(o);
    w->s = s;
    w->slot = calloc(slots, sizeof *w->slot);
    if (!w->slot) DP_FAIL(e, NOMEM, "tables of cuts");
    int rc = dp_survey_run(s, o, files, n, &watch, e);
    for (size_t i = 0; i < slots; i++) dp_cut_diff_release(&w->slot[i]);
    free(w->slot);
    dp_cut_diff_sort(&w->all);
    return rc;
}

static int print(struct dp_cli *c, const struct dp_survey *s, const struct vocabularies *v, const struct dp_cut_diff *d, bool texts, struct dp_err *e)
{
    struct dp_buf b;
    dp_buf_init(&b, (size_t)1 << 30);
    if (c->global.json) {
        struct dp_jsonw w;
        dp_jsonw_init(&w, &b, 2);
        dp_jsonw_begin(&w, '{');
        json_vocabularies(&w, v, s);
        if (texts) json_texts(&w, s, d);
        dp_jsonw_end(&w, '}');
        dp_buf_add_char(&b, '\n');
    } else {
        text_vocabularies(v, s, &b);
        if (texts) {
            text_places(d, &b);
            dp_buf_add_char(&b, '\n');
            dp_report_text_groups(s, &b);
        }
    }
    int rc = dp_cli_print(&b, e);
    dp_buf_release(&b);
    return rc;
}

int dp_tokenizer_compare(struct dp_cli *c, const struct dp_tokenizer_args *o, const char **args, size_t n, struct dp_err *e)
{
    struct dp_survey s = {0};
    struct dp_survey_options so;
    struct watch w = {0};
    struct vocabularies v = {0};
    DP_TRY(dp_tokenizer_survey_options(c, o, &so, e));
    int rc = dp_survey_add(&s, "A", args[0], o->split, e);
    if (rc >= 0) rc = dp_survey_add(&s, "B", args[1], o->split, e);
    if (rc >= 0) {
        v.a = s.tokenizer[0].t;
        v.b = s.tokenizer[1].t;
        v.same = dp_hash128_eq(dp_tokenizer_digest(v.a), dp_tokenizer_digest(v.b));
        compare_tokens(&v);
        compare_specials(&v);
        compare_merges(&v);
        if (n > 2) rc = survey(&s, &so, &w, args + 2, n - 2, e);
    }
    if (rc >= 0) rc = print(c, &s, &v, &w.all, n > 2, e);
    if (rc >= 0) c->status = n > 2 ? w.all.other_ids > 0 : !v.same;
    dp_cut_diff_release(&w.all);
    dp_survey_release(&s);
    return rc;
}
