/* daemon/quarantine.h - documents that killed their worker: W/quarantine/NA/NAME, one file each, in folders by the first two digits of the name.
 *
 * A file is one line of JSON (what struct dp_quarantined says) and behind it the document's bytes as they were read, at most 16 MiB of them. It is
 * written and fsynced before the unit that left the document out is published, so whatever a `quarantined` count names is here until an
 * operator drops it; a crash between the two leaves a file that the next run writes again. Names come from unit and record: the same document in the
 * same unit is one file, with its attempts counted. Files are never rewritten but by that.
 *
 * Retrying is part of the unit's key (daemon/plan.c): the unit gets new keys, so that it and all that is made from it is made anew, and
 * nothing that was made without the document changes its meaning. The number of times that a unit was sent round again, its round, is in the catalog; an
 * entry of an earlier round is to be tried again. So a retry of any number of entries is one transaction, and takes effect with the next plan.
 *
 * Thread-safety: all calls may run side by side; also beside a service at work, whose puts replace files whole.
 * Costs, with 100,000 entries: a page of names reads the folders that it lies in, one entry one file, a retry or drop of all reads the folders. */
#ifndef DP_DAEMON_QUARANTINE_H
#define DP_DAEMON_QUARANTINE_H

#include "base/buf.h"
#include "base/err.h"
#include "base/workspace.h"

enum { DP_QUARANTINE_NAME = 52 };

struct dp_quarantined {
    char name[DP_QUARANTINE_NAME];
    const char *unit;     /* its ingest key */
    const char *path;     /* the source file */
    const char *position; /* of the record in it (ingest/reader.h); empty when reading itself failed */
    const char *url, *id;
    const char *stage;    /* where it died: "ingest", a stage's name, "write" */
    const char *reason;   /* dp_death_name */
    const char *what;     /* signal or limit */
    const char *state;    /* "held", "retry": asked to be tried again, not tried yet */
    int64_t rows;         /* records of the file that were read before it */
    int64_t attempts;     /* times that it killed a worker, all runs together */
    int64_t round;        /* of its unit, when it was put here */
    int64_t time;         /* of the last, seconds since 1970 */
    int64_t bytes;        /* of the document; the file may hold fewer */
};

/* Write or renew the entry for (unit, id); q->name, attempts and state are filled here. */
int dp_quarantine_put(struct dp_workspace *w, struct dp_quarantined *q, int64_t attempts, struct dp_span bytes, struct dp_err *e);

struct dp_quarantine_page {
    const char *after;  /* names behind this one; NULL: from the first */
    const char *prefix; /* names that begin so; NULL: all */
    size_t limit;       /* 0: none */
};
/* Entries in order of name, of a page (NULL: all); strings live for the call only. fn's negative code ends the walk. */
int dp_quarantine_each(struct dp_workspace *w, const struct dp_quarantine_page *page, int (*fn)(void *ctx, const struct dp_quarantined *q, struct dp_err *e), void *ctx,
                       struct dp_err *e);
int dp_quarantine_count(const struct dp_workspace *w, size_t *n, struct dp_err *e);
/* The one name that begins so: DP_NOTFOUND, DP_USAGE when it isn't the only one. */
int dp_quarantine_find(const struct dp_workspace *w, const char *begin, char name[DP_QUARANTINE_NAME], struct dp_err *e);
/* The entry of that name. */
int dp_quarantine_one(struct dp_workspace *w, const char *name, int (*fn)(void *ctx, const struct dp_quarantined *q, struct dp_err *e), void *ctx,
                      struct dp_err *e);
/* The bytes of one entry, appended to out. */
int dp_quarantine_bytes(struct dp_workspace *w, const char *name, struct dp_buf *out, struct dp_err *e);

/* names NULL: all of them. */
int dp_quarantine_drop(struct dp_workspace *w, const char *const *names, size_t n, size_t *dropped, struct dp_err *e);
/* Send their units round again: these get new keys at the next plan, and all documents of them are tried again. */
int dp_quarantine_retry(struct dp_workspace *w, const char *const *names, size_t n, size_t *marked, struct dp_err *e);

/* How often units were sent round again: one block, to be freed; NULL when none was (or without memory). */
struct dp_rounds;
struct dp_rounds *dp_quarantine_rounds(struct dp_workspace *w);
/* 0 for a unit (its first ingest key) that never was. */
int64_t dp_quarantine_round(const struct dp_rounds *rounds, const char *unit);
/* After a unit was published that was planned with these rounds: entries of earlier ones are well now, and go. */
int dp_quarantine_settle(struct dp_workspace *w, const char *unit, const struct dp_rounds *rounds, struct dp_err *e);
/* Move entries of older versions, which all lay in one folder, to where they belong. For a writer, at its start; a reader finds them anyway. */
int dp_quarantine_migrate(struct dp_workspace *w, struct dp_err *e);

#endif
