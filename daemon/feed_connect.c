#include "daemon/feed_connect.h"

#include "base/tcp.h"

#include <stdlib.h>
#include <string.h>

#define S(field) offsetof(struct dp_feed_settings, field)
static const struct dp_opt rows[] = {
    {.name = "slots", .type = DP_OPT_INT, .offset = S(slots), .preset = "0", .min = 0, .max = 1024},
    {.name = "compress", .type = DP_OPT_INT, .offset = S(compress), .preset = "0", .min = 0, .max = 9},
    {.name = "reconnect", .type = DP_OPT_TIME, .offset = S(reconnect), .preset = "60s", .min = 0, .max = 1e9},
    {.name = "meta", .type = DP_OPT_STRING, .offset = S(meta)},
    {.name = "token_file", .type = DP_OPT_STRING, .offset = S(token_file)},
    {.name = "token", .type = DP_OPT_STRING, .offset = S(token)},
    {.name = "tls_ca", .type = DP_OPT_STRING, .offset = S(tls_ca)},
    {.name = "tls_cert", .type = DP_OPT_STRING, .offset = S(tls_cert)},
    {.name = "tls_key", .type = DP_OPT_STRING, .offset = S(tls_key)},
    {.name = "tls_host", .type = DP_OPT_STRING, .offset = S(tls_host)},
    {.name = "tls", .type = DP_OPT_BOOL, .offset = S(tls)},
    DP_OPT_END,
};

int dp_feed_option_line(const char **p, struct dp_span *name, struct dp_span *value)
{
    *p += *p ? strspn(*p, "\n") : 0;
    if (!*p || !**p) return DP_EOF;
    struct dp_span line = dp_span(*p, strcspn(*p, "\n"));
    const char *eq = memchr(line.ptr, '=', line.len);
    *name = dp_span(line.ptr, eq ? (size_t)(eq - line.ptr) : line.len);
    *value = eq ? dp_span(eq + 1, line.len - name->len - 1) : dp_span(NULL, 0);
    *p += line.len;
    return DP_OK;
}

/* Lines of ours into *s, the others into `wants`. */
static int sort_options(const char *text, struct dp_feed_settings *s, struct dp_buf *wants, struct dp_err *e)
{
    struct dp_span name, value;
    while (dp_feed_option_line(&text, &name, &value) == DP_OK) {
        const struct dp_opt *own = dp_opt_find(rows, name), *row = dp_opt_find(dp_feed_opts, name);
        if (!value.ptr || (!own && !row)) DP_FAIL(e, USAGE, "feed: there is no option \"%.*s\"", DP_SPAN_FMT(name));
        if (own) {
            DP_TRY(dp_opt_set(own, s, value, own->name, e));
            continue;
        }
        dp_buf_printf(wants, "%s=", row->name);
        dp_buf_add_span(wants, value);
        dp_buf_add_char(wants, '\n');
    }
    return dp_buf_check(wants, "feed: options", e);
}

int dp_feed_connect_parse(struct dp_feed_connect *c, const char *addr, const char *options, struct dp_err *e)
{
    *c = (struct dp_feed_connect){.addr = strdup(addr)};
    dp_buf_init(&c->wants, 16 << 10);
    if (!c->addr) DP_FAIL(e, NOMEM, "%s", addr);
    DP_TRY(dp_opt_defaults(rows, &c->s, e));
    DP_TRY(sort_options(options, &c->s, &c->wants, e));
    if (c->s.meta) DP_TRY(dp_feed_meta_parse(dp_span_str(c->s.meta), &c->o.meta, e));
    if (c->s.token_file) DP_TRY(dp_secret_read(&c->token_read, c->s.token_file, e));
    c->o.addr = c->addr;
    c->o.wants = c->wants.ptr;
    c->o.slots = (uint64_t)c->s.slots;
    c->o.reconnect_seconds = c->s.reconnect;
    c->o.compress = (int)c->s.compress;
    c->o.token = c->token_read ? c->token_read : c->s.token;
    c->o.tls = c->s.tls;
    c->o.ca = c->s.tls_ca;
    c->o.cert = c->s.tls_cert;
    c->o.key = c->s.tls_key;
    c->o.host = c->s.tls_host;
    return DP_OK;
}

void dp_feed_connect_release(struct dp_feed_connect *c)
{
    dp_opt_release(rows, &c->s);
    dp_buf_release(&c->wants);
    free(c->addr);
    free(c->token_read);
    *c = (struct dp_feed_connect){0};
}
