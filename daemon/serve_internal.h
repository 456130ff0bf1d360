/* daemon/serve_internal.h - what the files behind HTTP share: serve_api.c, serve_routes.c, serve_workers.c, serve_stream.c. */
#ifndef DP_DAEMON_SERVE_INTERNAL_H
#define DP_DAEMON_SERVE_INTERNAL_H

#include "daemon/serve.h"

/* --- serve_api.c --- */
/* Answer later with what the catalog says: a list as it is, or sums through `print`. type NULL: JSON. */
void dp_serve_ask(struct dp_serve *s, struct dp_http_request *r, enum dp_query_kind kind, const struct dp_page *p, const char *type,
                  void (*print)(struct dp_serve *, const struct dp_totals *, struct dp_buf *));
/* Answer now with an object of what `print` writes. */
void dp_serve_now_json(struct dp_serve *s, struct dp_http_request *r, const struct dp_page *p, void (*print)(struct dp_serve *, const struct dp_page *, struct dp_jsonw *));
void dp_serve_metrics(struct dp_serve *s, const struct dp_totals *t, struct dp_buf *b);
void dp_serve_stages(struct dp_serve *s, const struct dp_totals *t, struct dp_buf *b);
void dp_serve_drops(struct dp_serve *s, const struct dp_totals *t, struct dp_buf *b);
/* "stages":[...] */
void dp_serve_print_stages(const struct dp_totals *t, struct dp_jsonw *w);

/* --- serve_workers.c --- */
void dp_serve_print_workers(struct dp_serve *s, const struct dp_page *p, struct dp_jsonw *w);
/* Resident memory; 0 when there is no such process. */
uint64_t dp_process_rss(int pid);

/* --- serve_stream.c: Server-sent events --- */
struct dp_streams;
int dp_streams_open(struct dp_streams **out, struct dp_serve *s, struct dp_err *e);
/* When no connection is left. */
void dp_streams_close(struct dp_streams *t);
void dp_streams_add(struct dp_streams *t, struct dp_http_request *r, int64_t after);
/* Something changed: tell before the next second. */
void dp_streams_poke(struct dp_streams *t);

/* --- serve_routes.c --- */
struct dp_route {
    const char *path;   /* one part may be {id}: digits */
    const char *params; /* of the query, blanks between; others are refused */
    bool post;          /* POST alone; else GET and HEAD */
    void (*fn)(struct dp_serve *s, struct dp_http_request *r, const struct dp_page *p);
    bool by_name;       /* `after` is a name, not a number */
};
extern const struct dp_route dp_routes[];
extern const size_t dp_routes_count;
/* Pages without data, which need no token. */
bool dp_route_is_open(const char *path);

/* --- dashboard.c: files that are compiled in --- */
struct dp_page_file {
    const char *path, *type;
    struct dp_span body;
    char etag[40]; /* in its quotes */
};
/* NULL: there is none. The first call is from the loop's thread. */
const struct dp_page_file *dp_page_file(const char *path);
extern const char dp_page_csp[];

#endif
