/* Design. Cluster sizes are counted into prio[], which nobody needs any more; then one external sort by (size
 * descending, representative, document) gives the report's order without holding any cluster. */
#include "base/fs.h"
#include "base/json.h"
#include "base/progress.h"
#include "base/search.h"
#include "dedup/dedup_impl.h"
#include "dedup/keepfile.h"

#include <math.h>
#include <unistd.h>

enum { MEMBERS_MAX = 1000, LINE_MAX_BYTES = 1 << 20 };

static bool dropped(const struct dp_dedup_state *s, uint32_t d)
{
    return s->state[d] == DP_ST_EXACT || s->state[d] == DP_ST_NEAR;
}

static int write_input(const struct dp_dedup_state *s, size_t i, const char *path, struct dp_err *e)
{
    struct dp_out *out = NULL;
    struct dp_keepfile_writer *w = NULL;
    int rc = DP_OK;
    DP_TRY(dp_out_open(&out, path, false, e));
    DP_TRY_OUT(dp_keepfile_writer_open(&w, out, s->first[i], e));
    for (uint64_t d = s->first[i]; d < s->first[i + 1]; d++) {
        if (d % DP_LOOK_DOCS == 0) DP_TRY_OUT(dp_progress_go_on(e));
        bool drop = dropped(s, (uint32_t)d);
        struct dp_keep_record r = {DP_KEEP_KEPT, 1, d};
        if (drop) r = (struct dp_keep_record){s->state[d] == DP_ST_EXACT ? DP_KEEP_EXACT : DP_KEEP_NEAR, s->sim[d], s->rep[d]};
        DP_TRY_OUT(dp_keepfile_writer_add(w, &r, e));
    }
    DP_TRY_OUT(dp_keepfile_writer_finish(w, e));
    DP_TRY_OUT(dp_out_finish(out, NULL, e));
out:
    dp_keepfile_writer_close(w);
    dp_out_close(out);
    if (rc < 0) unlink(path);
    return rc;
}

int dp_dedup_write_keep(const struct dp_dedup_state *s, const char *const *keep_paths, struct dp_err *e)
{
    for (size_t i = s->frozen_inputs; i < s->n_inputs; i++) {
        int rc = dp_progress_go_on(e);
        if (rc >= 0) rc = write_input(s, i, keep_paths[i], e);
        if (rc >= 0) continue;
        while (i-- > s->frozen_inputs) unlink(keep_paths[i]);
        return rc;
    }
    return DP_OK;
}

static void place(const struct dp_dedup_state *s, struct dp_jsonw *w, uint32_t doc)
{
    size_t i = dp_last_start(s->first, s->n_inputs, sizeof *s->first, doc); /* the last input that starts at or before it isn't empty */
    dp_jsonw_key(w, "input");
    dp_jsonw_uint(w, i);
    dp_jsonw_key(w, "row");
    dp_jsonw_uint(w, doc - s->first[i]);
}

static void member(const struct dp_dedup_state *s, struct dp_jsonw *w, uint32_t doc)
{
    dp_jsonw_begin(w, '{');
    dp_jsonw_key(w, "doc");
    dp_jsonw_uint(w, doc);
    place(s, w, doc);
    dp_jsonw_key(w, "similarity");
    dp_jsonw_real(w, round((double)s->sim[doc] * 1e4) / 1e4);
    dp_jsonw_key(w, "exact");
    dp_jsonw_bool(w, s->state[doc] == DP_ST_EXACT);
    dp_jsonw_end(w, '}');
}

/* Lines from records that come as (~size:representative, member). */
static int write_lines(const struct dp_dedup_state *s, struct dp_extsort *x, struct dp_out *out, struct dp_err *e)
{
    struct dp_buf line;
    struct dp_jsonw w;
    struct dp_rec r;
    uint64_t key = 0;
    uint32_t listed = 0;
    bool is_open = false;
    int rc = DP_OK, more;
    dp_buf_init(&line, LINE_MAX_BYTES);
    DP_TRY_OUT(dp_extsort_rewind(x, e));
    do {
        DP_TRY_OUT(more = dp_extsort_next(x, &r, e));
        if (is_open && (more == DP_EOF || r.key != key)) {
            dp_jsonw_end(&w, ']');
            dp_jsonw_end(&w, '}');
            dp_buf_add_char(&line, '\n');
            DP_TRY_OUT(dp_buf_check(&line, "line of the cluster report", e));
            DP_TRY_OUT(dp_out_add(out, line.ptr, line.len, e));
            is_open = false;
        }
        if (more == DP_EOF) break;
        if (!is_open) {
            uint32_t rep = (uint32_t)r.key;
            dp_buf_clear(&line);
            dp_jsonw_init(&w, &line, 0);
            dp_jsonw_begin(&w, '{');
            dp_jsonw_key(&w, "cluster");
            dp_jsonw_uint(&w, rep);
            place(s, &w, rep);
            dp_jsonw_key(&w, "size");
            dp_jsonw_uint(&w, (uint64_t)s->prio[rep] + 1);
            dp_jsonw_key(&w, "members");
            dp_jsonw_begin(&w, '[');
            key = r.key;
            listed = 0;
            is_open = true;
        }
        if (listed++ < MEMBERS_MAX) member(s, &w, (uint32_t)r.val);
    } while (true);
    rc = DP_OK;
out:
    dp_buf_release(&line);
    return rc;
}

int dp_dedup_write_report(struct dp_dedup_state *s, const char *path, struct dp_dedup_totals *t, struct dp_err *e)
{
    struct dp_extsort *x = NULL;
    struct dp_out *out = NULL;
    uint32_t *members = s->prio;
    int rc = DP_OK;
    memset(members, 0, (size_t)s->docs * sizeof *members);
    for (uint32_t d = s->frozen; d < s->docs; d++) {
        if (d % DP_LOOK_DOCS == 0) DP_TRY(dp_progress_go_on(e));
        if (dropped(s, d)) members[s->rep[d]]++;
    }
    for (uint32_t d = 0; d < s->docs; d++) {
        if (!members[d]) continue;
        t->clusters++;
        if (members[d] + UINT64_C(1) > t->largest) t->largest = members[d] + UINT64_C(1);
    }
    if (!path) return DP_OK;
    DP_TRY(dp_out_open(&out, path, false, e));
    DP_TRY_OUT(dp_extsort_open(&x, s->tmp_dir, "clusters", s->o->memory_bytes / 8, e));
    for (uint32_t d = s->frozen; d < s->docs; d++) {
        if (d % DP_LOOK_DOCS == 0) DP_TRY_OUT(dp_progress_go_on(e));
        if (dropped(s, d)) DP_TRY_OUT(dp_extsort_add(x, (uint64_t)~members[s->rep[d]] << 32 | s->rep[d], d, e));
    }
    DP_TRY_OUT(dp_extsort_finish(x, e));
    DP_TRY_OUT(write_lines(s, x, out, e));
    DP_TRY_OUT(dp_out_finish(out, NULL, e));
out:
    dp_extsort_close(x);
    dp_out_close(out);
    if (rc < 0) unlink(path);
    return rc;
}
