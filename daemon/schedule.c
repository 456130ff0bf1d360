#include "daemon/schedule.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char *const days[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};

/* "HH:MM"; the character behind it, or NULL. */
static const char *clock_time(const char *p, int *minute)
{
    int h, m, n = 0;
    if (sscanf(p, "%2d:%2d%n", &h, &m, &n) != 2 || h < 0 || h > 24 || m < 0 || m > 59 || h * 60 + m > 1440 || p[n - 3] != ':') return NULL;
    *minute = h * 60 + m;
    return p + n;
}

static const char *blanks(const char *p)
{
    return p + strspn(p, " \t");
}

int dp_times_parse(struct dp_times *t, const char *text, struct dp_err *e)
{
    *t = (struct dp_times){.n = 0};
    for (const char *p = blanks(text ? text : ""); *p;) {
        struct dp_time_of k = {-1, 0};
        const char *from = p;
        for (int d = 0; d < 7; d++)
            if (strncasecmp(p, days[d], 3) == 0 && (p[3] == ' ' || p[3] == '\t')) k.day = d;
        if (k.day >= 0) p = blanks(p + 3);
        const char *end = clock_time(p, &k.minute);
        if (!end || k.minute == 1440) DP_FAIL(e, CONFIG, "\"%.40s\" is no time; write 03:00, or sun 03:00, more of them with commas between", from);
        p = blanks(end);
        if (*p && *p != ',') DP_FAIL(e, CONFIG, "\"%.40s\": a comma is wanted behind the time", from);
        p = blanks(p + (*p == ','));
        if (t->n == DP_TIMES_MAX) DP_FAIL(e, CONFIG, "more than %d times", DP_TIMES_MAX);
        t->v[t->n++] = k;
    }
    return DP_OK;
}

time_t dp_times_next(const struct dp_times *t, time_t now)
{
    struct tm today;
    time_t first = 0;
    if (!t->n || !localtime_r(&now, &today)) return 0;
    for (int i = 0; i < t->n; i++)
        for (int d = 0; d <= 8; d++) { /* from today; mktime knows months, and hours that don't exist */
            struct tm k = {.tm_year = today.tm_year, .tm_mon = today.tm_mon, .tm_mday = today.tm_mday + d, .tm_hour = t->v[i].minute / 60,
                           .tm_min = t->v[i].minute % 60, .tm_isdst = -1};
            time_t at = mktime(&k);
            if (at <= now || (t->v[i].day >= 0 && k.tm_wday != t->v[i].day)) continue;
            if (!first || at < first) first = at;
            break;
        }
    return first;
}

int dp_hours_parse(struct dp_hours *h, const char *text, struct dp_err *e)
{
    const char *p = blanks(text ? text : ""), *q;
    *h = (struct dp_hours){0, 0};
    if (!*p) return DP_OK;
    q = clock_time(p, &h->from);
    if (q) q = blanks(q);
    q = q && *q == '-' ? clock_time(blanks(q + 1), &h->to) : NULL;
    if (!q || *blanks(q) || h->from == h->to) DP_FAIL(e, CONFIG, "\"%.40s\" is no span of hours; write 22:00-06:00", text);
    return DP_OK;
}

bool dp_hours_now(const struct dp_hours *h, time_t now)
{
    struct tm t;
    if (h->from == h->to || !localtime_r(&now, &t)) return true;
    int m = t.tm_hour * 60 + t.tm_min;
    return h->from < h->to ? m >= h->from && m < h->to : m >= h->from || m < h->to;
}
