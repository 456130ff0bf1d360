#include "base/opt.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

static void *field(const struct dp_opt *row, const void *base)
{
    return (char *)(uintptr_t)base + row->offset;
}

static char fold(char c)
{
    return c == '-' ? '_' : c;
}

const struct dp_opt *dp_opt_find(const struct dp_opt *rows, struct dp_span name)
{
    for (; rows && rows->name; rows++) {
        size_t i = 0;
        while (i < name.len && rows->name[i] && fold(name.ptr[i]) == rows->name[i]) i++;
        if (i == name.len && !rows->name[i]) return rows;
    }
    return NULL;
}

/* A number with an optional binary suffix: 64M, 1.5G, 4096. */
static bool parse_size(const char *t, uint64_t *out)
{
    char *end;
    double v = strtod(t, &end);
    if (end == t || !(v >= 0) || !isfinite(v)) return false;
    static const char units[] = "kmgtp";
    double scale = 1;
    if (*end) {
        const char *u = strchr(units, tolower((unsigned char)*end));
        if (!u || !*u) return false;
        for (const char *k = units; k <= u; k++) scale *= 1024;
        end++;
        if (*end == 'i') end++;
        if (*end == 'B' || *end == 'b') end++;
    }
    if (*end || v * scale >= 18446744073709549568.0) return false;
    *out = (uint64_t)(v * scale);
    return true;
}

/* Seconds with an optional unit: 500ms, 10s, 1.5m, 2h, 1d. */
static bool parse_time(const char *t, double *out)
{
    static const struct {
        const char *unit;
        double s;
    } units[] = {{"", 1}, {"s", 1}, {"ms", 1e-3}, {"m", 60}, {"min", 60}, {"h", 3600}, {"d", 86400}};
    char *end;
    double v = strtod(t, &end);
    if (end == t || !(v >= 0) || !isfinite(v)) return false;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strcasecmp(end, units[i].unit) == 0) return *out = v * units[i].s, true;
    return false;
}

static int choice_of(const char *choices, const char *t)
{
    size_t n = strlen(t);
    int k = 0;
    for (const char *c = choices; c && *c; k++) {
        size_t len = strcspn(c, "|");
        if (len == n && strncasecmp(c, t, n) == 0) return k;
        c += len + (c[len] == '|');
    }
    return -1;
}

static int check_range(const struct dp_opt *row, double v, const char *t, const char *from, struct dp_err *e)
{
    if (row->min == 0 && row->max == 0) return DP_OK;
    if (v >= row->min && v <= row->max) return DP_OK;
    DP_FAIL(e, USAGE, "%s: %s is outside %.17g to %.17g", from, t, row->min, row->max);
}

static int set_text(const struct dp_opt *row, void *at, const char *t, const char *from, struct dp_err *e)
{
    char *end;
    switch (row->type) {
    case DP_OPT_BOOL: {
        static const char *const yes[] = {"true", "yes", "on", "1"}, *const no[] = {"false", "no", "off", "0"};
        for (int i = 0; i < 4; i++) {
            if (strcasecmp(t, yes[i]) == 0) return *(bool *)at = true, DP_OK;
            if (strcasecmp(t, no[i]) == 0) return *(bool *)at = false, DP_OK;
        }
        DP_FAIL(e, USAGE, "%s: \"%s\" is neither true nor false", from, t);
    }
    case DP_OPT_INT: {
        errno = 0;
        char digits[64];
        size_t n = 0; /* 32,000 and 32_000 read as 32000 */
        for (const char *c = t; *c && n < sizeof digits - 1; c++)
            if (*c != '_' && !(*c == ',' && n)) digits[n++] = *c;
        digits[n] = 0;
        long long v = strtoll(digits, &end, 10);
        if (end == digits || *end || errno) DP_FAIL(e, USAGE, "%s: \"%s\" is no whole number", from, t);
        DP_TRY(check_range(row, (double)v, t, from, e));
        *(int64_t *)at = v;
        return DP_OK;
    }
    case DP_OPT_SIZE: {
        uint64_t v;
        if (!parse_size(t, &v)) DP_FAIL(e, USAGE, "%s: \"%s\" is no size; write bytes, or 64K, 512M, 2G", from, t);
        DP_TRY(check_range(row, (double)v, t, from, e));
        *(uint64_t *)at = v;
        return DP_OK;
    }
    case DP_OPT_REAL: {
        double v = strtod(t, &end);
        if (end == t || *end || !isfinite(v)) DP_FAIL(e, USAGE, "%s: \"%s\" is no number", from, t);
        DP_TRY(check_range(row, v, t, from, e));
        *(double *)at = v;
        return DP_OK;
    }
    case DP_OPT_TIME: {
        double v;
        if (!parse_time(t, &v)) DP_FAIL(e, USAGE, "%s: \"%s\" is no time; write seconds, or 500ms, 10s, 5m, 2h, 1d", from, t);
        DP_TRY(check_range(row, v, t, from, e));
        *(double *)at = v;
        return DP_OK;
    }
    case DP_OPT_CHOICE: {
        int k = choice_of(row->choices, t);
        if (k < 0) DP_FAIL(e, USAGE, "%s: \"%s\" is not one of %s", from, t, row->choices);
        *(int *)at = k;
        return DP_OK;
    }
    case DP_OPT_STRING:
    case DP_OPT_LIST: {
        char *copy = strdup(t);
        if (!copy) DP_FAIL(e, NOMEM, "%s", from);
        free(*(char **)at);
        *(char **)at = copy;
        return DP_OK;
    }
    }
    DP_FAIL(e, BROKEN, "%s: an option of unknown type", from);
}

int dp_opt_set(const struct dp_opt *row, void *base, struct dp_span text, const char *from, struct dp_err *e)
{
    char *t = strndup(text.len ? text.ptr : "", text.len);
    if (!t) DP_FAIL(e, NOMEM, "%s", from);
    int rc = set_text(row, field(row, base), t, from, e);
    free(t);
    return rc;
}

int dp_opt_defaults(const struct dp_opt *rows, void *base, struct dp_err *e)
{
    for (; rows && rows->name; rows++) {
        if (rows->preset) DP_TRY(dp_opt_set(rows, base, dp_span_str(rows->preset), rows->name, e));
    }
    return DP_OK;
}

int dp_opt_environ(const struct dp_opt *rows, void *base, const char *section, struct dp_err *e)
{
    for (; rows && rows->name; rows++) {
        char name[128];
        snprintf(name, sizeof name, "DPIPE_%s%s%s", section ? section : "", section && *section ? "_" : "", rows->name);
        for (char *c = name; *c; c++) *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
        const char *v = getenv(name);
        if (v && *v) DP_TRY(dp_opt_set(rows, base, dp_span_str(v), name, e));
    }
    return DP_OK;
}

void dp_opt_print(const struct dp_opt *row, const void *base, struct dp_buf *out)
{
    const void *at = field(row, base);
    switch (row->type) {
    case DP_OPT_BOOL: dp_buf_add_str(out, *(const bool *)at ? "true" : "false"); break;
    case DP_OPT_INT: dp_buf_printf(out, "%lld", (long long)*(const int64_t *)at); break;
    case DP_OPT_SIZE: dp_buf_printf(out, "%llu", (unsigned long long)*(const uint64_t *)at); break;
    case DP_OPT_TIME:
    case DP_OPT_REAL: {
        char t[40];
        for (int digits = 1; digits <= 17; digits++) {
            snprintf(t, sizeof t, "%.*g", digits, *(const double *)at);
            if (strtod(t, NULL) == *(const double *)at) break;
        }
        dp_buf_add_str(out, t);
        break;
    }
    case DP_OPT_CHOICE: {
        const char *c = row->choices;
        for (int k = *(const int *)at; k > 0 && *c; k--) c += strcspn(c, "|") + 1;
        dp_buf_add(out, c, strcspn(c, "|"));
        break;
    }
    case DP_OPT_STRING:
    case DP_OPT_LIST: dp_buf_add_str(out, *(char *const *)at ? *(char *const *)at : ""); break;
    }
}

/* Out of memory it says no: a key that is longer than it must be finds nothing, which does no harm. */
static bool at_preset(const struct dp_opt *row, const void *base)
{
    void *other = calloc(1, row->offset + 16); /* any value fits in 16 bytes */
    struct dp_buf a, b;
    struct dp_opt one[2] = {*row, DP_OPT_END};
    bool same = false;
    dp_buf_init(&a, 1 << 20);
    dp_buf_init(&b, 1 << 20);
    if (other && dp_opt_defaults(one, other, NULL) >= 0) {
        dp_opt_print(row, base, &a);
        dp_opt_print(row, other, &b);
        same = a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
    }
    if (other) dp_opt_release(one, other);
    free(other);
    dp_buf_release(&a);
    dp_buf_release(&b);
    return same;
}

void dp_opt_canonical(const struct dp_opt *rows, const void *base, struct dp_buf *out)
{
    for (; rows && rows->name; rows++) {
        if (rows->flags & DP_OPT_NOKEY || (rows->flags & DP_OPT_LATER && at_preset(rows, base))) continue;
        dp_buf_printf(out, "%s=", rows->name);
        dp_opt_print(rows, base, out);
        dp_buf_add_char(out, '\n');
    }
}

void dp_opt_release(const struct dp_opt *rows, void *base)
{
    for (; rows && rows->name; rows++) {
        if (rows->type != DP_OPT_STRING && rows->type != DP_OPT_LIST) continue;
        char **p = field(rows, base);
        free(*p);
        *p = NULL;
    }
}

/* Damerau-Levenshtein (optimal string alignment) on words of at most 47 bytes. */
static int distance(struct dp_span a, const char *b)
{
    int n = (int)strlen(b), d[3][48], m = (int)a.len;
    if (n > 47 || m > 47) return 99;
    for (int j = 0; j <= n; j++) d[0][j] = j;
    for (int i = 1; i <= m; i++) {
        int *row = d[i % 3], *up = d[(i - 1) % 3];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            char x = (char)tolower((unsigned char)fold(a.ptr[i - 1])), y = (char)tolower((unsigned char)fold(b[j - 1]));
            int v = up[j - 1] + (x != y);
            if (up[j] + 1 < v) v = up[j] + 1;
            if (row[j - 1] + 1 < v) v = row[j - 1] + 1;
            if (i > 1 && j > 1 && x == fold(b[j - 2]) && fold(a.ptr[i - 2]) == y && d[(i - 2) % 3][j - 2] + 1 < v) v = d[(i - 2) % 3][j - 2] + 1;
            row[j] = v;
        }
    }
    return d[m % 3][n];
}

const char *dp_opt_nearest(struct dp_span word, const char *const *words, size_t n)
{
    const char *best = NULL;
    int best_d = 99;
    for (size_t i = 0; i < n; i++) {
        int d = distance(word, words[i]);
        if (word.len >= 3 && strncmp(words[i], word.ptr, word.len) == 0 && d > 2) d = 2; /* a beginning of it */
        if (d < best_d) {
            best_d = d;
            best = words[i];
        }
    }
    return best_d <= 1 + (int)word.len / 4 || best_d <= 2 ? best : NULL;
}
