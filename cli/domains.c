#include "cli/domains.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAP = 4 * DP_DOMAINS_MAX };

void dp_domains_release(struct dp_domains *d)
{
    for (size_t i = 0; i < d->n; i++) free(d->v[i].sizes);
    free(d->v);
    free(d->map);
    *d = (struct dp_domains){.limit = d->limit};
}

static void put_in_map(struct dp_domains *d, size_t i)
{
    size_t at = d->v[i].hash % MAP;
    while (d->map[at]) at = (at + 1) % MAP;
    d->map[at] = (uint16_t)(i + 1);
}

int dp_domains_get(struct dp_domains *d, struct dp_span name, struct dp_domain **out, struct dp_err *e)
{
    if (name.len > DP_DOMAIN_NAME_MAX) name.len = DP_DOMAIN_NAME_MAX;
    if (d->last < d->n && dp_span_eq(dp_span(d->v[d->last].name, d->v[d->last].name_len), name)) return *out = &d->v[d->last], DP_OK;
    uint64_t h = dp_hash64(name.ptr, name.len, 0);
    if (!d->map && !(d->map = calloc(MAP, sizeof *d->map))) DP_FAIL(e, NOMEM, "domains");
    if (!d->n && !d->limit) d->limit = UINT64_MAX;
    for (size_t at = h % MAP; d->map[at]; at = (at + 1) % MAP) {
        struct dp_domain *k = &d->v[d->map[at] - 1];
        if (k->hash != h || !dp_span_eq(dp_span(k->name, k->name_len), name)) continue;
        d->last = d->map[at] - 1u;
        return *out = k, DP_OK;
    }
    if (d->n == DP_DOMAINS_MAX)
        DP_FAIL(e, LIMIT, "more than %d domains, the next is \"%.*s\": choose a member with fewer values", DP_DOMAINS_MAX, DP_SPAN_FMT(name));
    if (d->n == d->cap) {
        size_t cap = d->cap ? 2 * d->cap : 8;
        struct dp_domain *v = realloc(d->v, cap * sizeof *v);
        if (!v) DP_FAIL(e, NOMEM, "domains");
        d->v = v;
        d->cap = cap;
    }
    struct dp_domain *k = &d->v[d->n++];
    *k = (struct dp_domain){.name_len = name.len, .hash = h, .limit = d->limit};
    if (name.len) memcpy(k->name, name.ptr, name.len);
    put_in_map(d, d->n - 1);
    d->last = d->n - 1;
    return *out = k, DP_OK;
}

int dp_domains_mixture(struct dp_domains *d, const char *mixture, struct dp_err *e)
{
    for (const char *p = mixture; *p;) {
        size_t n = strcspn(p, ",");
        const char *eq = memrchr(p, '=', n);
        char *end = NULL;
        double share = eq ? strtod(eq + 1, &end) : 0;
        struct dp_domain *k;
        if (!eq || eq == p || end != p + n || !(share > 0) || !isfinite(share))
            DP_FAIL(e, USAGE, "--mixture: \"%.*s\" isn't NAME=SHARE with a share above 0", (int)n, p);
        DP_TRY(dp_domains_get(d, dp_span(p, (size_t)(eq - p)), &k, e));
        if (k->share > 0) DP_FAIL(e, USAGE, "--mixture names \"%.*s\" twice", (int)k->name_len, k->name);
        k->share = share;
        p += n + (p[n] == ',');
    }
    if (!d->n) DP_FAIL(e, USAGE, "--mixture names no domain");
    return DP_OK;
}

static int sizes_of(struct dp_domain *k, struct dp_err *e)
{
    if (!k->sizes && !(k->sizes = calloc(DP_DOMAIN_BUCKETS, sizeof *k->sizes))) DP_FAIL(e, NOMEM, "sizes of domains");
    return DP_OK;
}

int dp_domains_add(struct dp_domains *d, const struct dp_domains *from, struct dp_err *e)
{
    for (size_t i = 0; i < from->n; i++) {
        const struct dp_domain *f = &from->v[i];
        struct dp_domain *k;
        DP_TRY(dp_domains_get(d, dp_span(f->name, f->name_len), &k, e));
        k->texts += f->texts;
        k->bytes += f->bytes;
        k->taken_texts += f->taken_texts;
        k->taken_bytes += f->taken_bytes;
        if (f->sizes) DP_TRY(sizes_of(k, e));
        for (int b = 0; f->sizes && b < DP_DOMAIN_BUCKETS; b++) k->sizes[b] += f->sizes[b];
    }
    return DP_OK;
}

int dp_domains_copy(struct dp_domains *to, const struct dp_domains *from, struct dp_err *e)
{
    to->limit = from->limit;
    for (size_t i = 0; i < from->n; i++) {
        struct dp_domain *k;
        DP_TRY(dp_domains_get(to, dp_span(from->v[i].name, from->v[i].name_len), &k, e));
        k->limit = from->v[i].limit;
        k->share = from->v[i].share;
    }
    return DP_OK;
}

/* The number below which texts of `want` bytes stand; within a bucket bytes are taken to be spread evenly. */
static uint64_t limit_for(const uint64_t *sizes, double want)
{
    double left = want;
    for (uint64_t b = 0; b < DP_DOMAIN_BUCKETS; b++) {
        double width = (double)(UINT64_MAX / DP_DOMAIN_BUCKETS);
        if (sizes[b] && left < (double)sizes[b]) return b * (UINT64_MAX / DP_DOMAIN_BUCKETS + 1) + (uint64_t)(width * (left / (double)sizes[b]));
        left -= (double)sizes[b];
    }
    return UINT64_MAX;
}

int dp_domains_limit(struct dp_domains *d, uint64_t bytes_max, bool mixture, const char **short_of, struct dp_err *e)
{
    double shares = 0, all = 0, most = -1;
    const char *scarce = NULL;
    if (short_of) *short_of = NULL;
    for (size_t i = 0; i < d->n; i++) {
        shares += d->v[i].share;
        all += (double)d->v[i].bytes;
    }
    for (size_t i = 0; i < d->n && mixture; i++) {
        struct dp_domain *k = &d->v[i];
        double can = k->share > 0 ? (double)k->bytes * shares / k->share : -1;
        if (can < 0 || (most >= 0 && can >= most)) continue;
        most = can;
        scarce = k->name;
    }
    if (mixture && most <= 0 && !bytes_max) DP_FAIL(e, USAGE, "--mixture: domain \"%s\" has no text", scarce ? scarce : "");
    double total = bytes_max ? (double)bytes_max : mixture ? most : all;
    if (mixture && total > most && short_of) *short_of = scarce;
    for (size_t i = 0; i < d->n; i++) {
        struct dp_domain *k = &d->v[i];
        double want = mixture ? total * k->share / shares : all > 0 ? total * ((double)k->bytes / all) : 0;
        DP_TRY(sizes_of(k, e));
        k->limit = want >= (double)k->bytes ? UINT64_MAX : limit_for(k->sizes, want);
        if (mixture && k->share <= 0) k->limit = 0;
        free(k->sizes);
        k->sizes = NULL;
    }
    return DP_OK;
}

void dp_domains_fraction(struct dp_domains *d, double fraction)
{
    d->limit = fraction >= 1 ? UINT64_MAX : (uint64_t)(fraction * 0x1p64) | 1; /* 0 would be "not set" */
    for (size_t i = 0; i < d->n; i++) d->v[i].limit = d->limit;
}

static int by_name(const void *a, const void *b)
{
    const struct dp_domain *x = a, *y = b;
    int c = memcmp(x->name, y->name, x->name_len < y->name_len ? x->name_len : y->name_len);
    return c ? c : (x->name_len > y->name_len) - (x->name_len < y->name_len);
}

void dp_domains_sort(struct dp_domains *d)
{
    if (!d->n) return;
    qsort(d->v, d->n, sizeof *d->v, by_name);
    memset(d->map, 0, MAP * sizeof *d->map);
    for (size_t i = 0; i < d->n; i++) put_in_map(d, i);
    d->last = d->n;
}

void dp_domains_json(const struct dp_domains *d, bool limits, struct dp_jsonw *w)
{
    dp_jsonw_begin(w, '[');
    for (size_t i = 0; i < d->n; i++) {
        const struct dp_domain *k = &d->v[i];
        const struct {
            const char *key;
            uint64_t n;
        } v[] = {{"texts", k->texts}, {"bytes", k->bytes}, {"texts_taken", k->taken_texts}, {"bytes_taken", k->taken_bytes}};
        dp_jsonw_begin(w, '{');
        dp_jsonw_key(w, "domain");
        dp_jsonw_str(w, dp_span(k->name, k->name_len));
        for (size_t j = 0; j < sizeof v / sizeof *v; j++) {
            dp_jsonw_key(w, v[j].key);
            dp_jsonw_uint(w, v[j].n);
        }
        if (limits) {
            char hex[17];
            snprintf(hex, sizeof hex, "%016llx", (unsigned long long)k->limit);
            dp_jsonw_key(w, "limit");
            dp_jsonw_cstr(w, hex);
        }
        dp_jsonw_end(w, '}');
    }
    dp_jsonw_end(w, ']');
}

int dp_domains_restore(struct dp_domains *d, const struct dp_json *v, struct dp_err *e)
{
    for (size_t i = 0; i < dp_json_count(v); i++) {
        const struct dp_json *o = dp_json_at(v, i);
        struct dp_span name = dp_json_str(dp_json_get(o, "domain")), limit = dp_json_str(dp_json_get(o, "limit"));
        struct dp_domain *k;
        char hex[17] = "";
        if (!name.ptr || limit.len != 16) DP_FAIL(e, CORRUPT, "no domain in a saved state");
        DP_TRY(dp_domains_get(d, name, &k, e));
        k->texts = (uint64_t)dp_json_int(dp_json_get(o, "texts"), 0);
        k->bytes = (uint64_t)dp_json_int(dp_json_get(o, "bytes"), 0);
        k->taken_texts = (uint64_t)dp_json_int(dp_json_get(o, "texts_taken"), 0);
        k->taken_bytes = (uint64_t)dp_json_int(dp_json_get(o, "bytes_taken"), 0);
        memcpy(hex, limit.ptr, 16);
        k->limit = strtoull(hex, NULL, 16);
    }
    return DP_OK;
}
