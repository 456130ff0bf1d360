/* daemon/quarantine.h - documents that killed their worker: W/quarantine/NAME, one file each.
 *
 * A file is one line of JSON (what struct dp_quarantined says) and behind it the document's bytes as they were read, at most 16 MiB of them. It is
 * written and fsynced before the unit that left the document out is published, so whatever a `quarantined` count names is here until an
 * operator drops it; a crash between the two leaves a file that the next run writes again. Names come from unit and record: the same document in the
 * same unit is one file, with its attempts counted.
 *
 * Retrying is part of the unit's key (daemon/register.c): the unit gets new keys, so that it and all that is made from it is made anew, and
 * nothing that was made without the document changes its meaning. Thread-safety: calls for different units may run side by side. */
#ifndef DP_DAEMON_QUARANTINE_H
#define DP_DAEMON_QUARANTINE_H

#include "base/buf.h"
#include "base/err.h"
#include "base/workspace.h"

struct dp_quarantined {
    char name[52];
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
    int64_t time;         /* of the last, seconds since 1970 */
    int64_t bytes;        /* of the document; the file may hold fewer */
};

/* Write or renew the entry for (unit, id); q->name, attempts and state are filled here. */
int dp_quarantine_put(struct dp_workspace *w, struct dp_quarantined *q, int64_t attempts, struct dp_span bytes, struct dp_err *e);
/* All entries in order of name; strings live for the call only. fn's negative code ends the walk. */
int dp_quarantine_each(struct dp_workspace *w, int (*fn)(void *ctx, const struct dp_quarantined *q, struct dp_err *e), void *ctx, struct dp_err *e);
/* The bytes of one entry, appended to out. */
int dp_quarantine_bytes(struct dp_workspace *w, const char *name, struct dp_buf *out, struct dp_err *e);
int dp_quarantine_remove(struct dp_workspace *w, const char *name, struct dp_err *e);
/* The entry of that name. */
int dp_quarantine_one(struct dp_workspace *w, const char *name, int (*fn)(void *ctx, const struct dp_quarantined *q, struct dp_err *e), void *ctx,
                      struct dp_err *e);
/* Mark for another attempt: their units get new keys at the next plan, and all documents of these are tried again. */
int dp_quarantine_retry(struct dp_workspace *w, const char *const *names, size_t n, struct dp_err *e);
/* After a unit was published: entries of it that were to be retried and weren't put again are well now, and go. */
int dp_quarantine_settle(struct dp_workspace *w, const char *unit, struct dp_err *e);

/* How often units were sent round again: text for dp_quarantine_round, malloc'ed or NULL. */
char *dp_quarantine_rounds(struct dp_workspace *w);
/* 0 for a unit (its first ingest key) that never was. */
int64_t dp_quarantine_round(const char *rounds, const char *unit);

#endif
