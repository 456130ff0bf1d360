#include "daemon/isolate.h"

#include "base/log.h"
#include "daemon/quarantine.h"
#include "daemon/worker_process.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { KILLS_MAX = 20, UNEXPLAINED_MAX = 3, LIST_MAX = 1024 };

struct dp_isolate {
    struct dp_road *road;
    struct dp_worker **worker; /* road->threads of them, made when first used */
};

int dp_isolate_open(struct dp_isolate **out, struct dp_road *r, struct dp_err *e)
{
    struct dp_isolate *iso = calloc(1, sizeof *iso);
    *out = NULL;
    if (iso) iso->worker = calloc((size_t)r->threads, sizeof *iso->worker);
    if (!iso || !iso->worker) {
        free(iso);
        DP_FAIL(e, NOMEM, "worker processes");
    }
    iso->road = r;
    *out = iso;
    return DP_OK;
}

void dp_isolate_close(struct dp_isolate *iso)
{
    if (!iso) return;
    for (int i = 0; i < iso->road->threads; i++) dp_worker_close(iso->worker[i]);
    free(iso->worker);
    free(iso);
}

/* What is known about a unit from the attempts so far. */
struct trial {
    struct dp_isolate *iso;
    const struct dp_unit *unit;
    const struct dp_members *members;
    size_t stages; /* of which a document may be dropped at: the signature stage isn't one of them */
    struct dp_skip skip[LIST_MAX];
    struct dp_careful careful[LIST_MAX];
    struct dp_unit_care care;
    int64_t held;
    int64_t deaths;
    int kills, unexplained;
};

/* What the time limit ends belongs to the stage where it stood. The last stage signs documents for dedup and publishes no counts: a
 * document that dies there counts as dropped by the stage before. */
static uint32_t counted_at(const struct trial *t, const struct dp_watch_slot *s)
{
    uint32_t stage = s->phase == DP_WATCH_STAGE ? s->stage + 1 : (uint32_t)t->stages;
    return stage < t->stages ? stage : (uint32_t)t->stages;
}

static const char *stage_name(const struct trial *t, const struct dp_watch_slot *s)
{
    const struct dp_pipeline *clean = &t->iso->road->options->clean;
    if (s->phase == DP_WATCH_READ) return "ingest";
    if (s->phase == DP_WATCH_WRITE) return "write";
    return s->stage < clean->count ? clean->type[s->stage]->name : "?";
}

static int hold(struct trial *t, const struct dp_watch_slot *s, const struct dp_death *d, struct dp_err *e)
{
    const struct dp_unit *u = t->unit;
    const struct dp_member *m = &t->members->v[s->member];
    char id[DP_HEX128], rest[200];
    bool reading = s->phase == DP_WATCH_READ;
    struct dp_hash128 h = s->id;
    if (reading) {
        snprintf(rest, sizeof rest, "rest\n%s\n%llu", m->digest, (unsigned long long)s->first);
        h = dp_hash128(rest, strlen(rest));
    }
    dp_hash128_hex(h, id);
    struct dp_quarantined q = {.unit = u->origin.hex, .path = m->path, .position = s->pos, .url = s->url, .id = id, .stage = stage_name(t, s),
                               .reason = dp_death_name(d->reason), .what = d->what, .rows = (int64_t)s->first,
                               .round = dp_quarantine_round(t->iso->road->rounds, u->origin.hex), .bytes = reading ? 0 : (int64_t)s->bytes};
    DP_TRY(dp_quarantine_put(&t->iso->road->ws, &q, 2, reading ? dp_span("", 0) : d->text, e));
    struct dp_log_where at = {.unit = u->what, .path = m->path, .record = s->pos, .offset = -1};
    if (reading)
        dp_log_at(WARN, "quarantine", &at, "reading on behind record %llu killed its worker twice (%s: %s); the rest of the file is left out",
                  (unsigned long long)s->first, q.reason, d->what);
    else dp_log_at(WARN, "quarantine", &at, "stage %s killed its worker twice (%s: %s); `dpipe quarantine show %s`", q.stage, q.reason, d->what, q.name);
    return DP_OK;
}

/* A slot of the dead worker. *fresh: something was learned. */
static int accuse(struct trial *t, const struct dp_watch_slot *s, const struct dp_death *d, bool *fresh, struct dp_err *e)
{
    if (s->member >= t->unit->members) return DP_OK; /* nonsense in the shared memory */
    bool reading = s->phase == DP_WATCH_READ;
    if (!s->exact) {
        /* Once the range is taken record by record its slots are exact; not so when the worker writes them as it likes. */
        if (dp_care_wanted(&t->care, s->member, s->first, reading ? UINT64_MAX - s->first : s->count, reading)) return DP_OK;
        if (t->care.carefuls == LIST_MAX) return DP_OK;
        t->careful[t->care.carefuls++] = (struct dp_careful){s->member, reading, s->first, reading ? UINT64_MAX : s->first + s->count};
        *fresh = true;
        return DP_OK;
    }
    if (t->held == t->iso->road->options->workers.quarantine_max || t->care.skips == LIST_MAX)
        DP_FAIL(e, LIMIT, "%lld documents of this unit killed their workers and are in quarantine; the next one did too (%s: %s). Is dpipe, or its memory, at "
                "fault? workers.quarantine_max allows more", (long long)t->held, dp_death_name(d->reason), d->what);
    DP_TRY(hold(t, s, d, e));
    t->skip[t->care.skips++] = (struct dp_skip){s->member, reading ? DP_SKIP_REST : counted_at(t, s), s->first};
    t->held++;
    *fresh = true;
    return DP_OK;
}

static int learn(struct trial *t, const struct dp_death *d, struct dp_err *e)
{
    if (d->reason == DP_DEATH_KILLED) {
        if (++t->kills > KILLS_MAX)
            DP_FAIL(e, BUSY, "its worker process was killed from outside %d times (%s); is the machine short of memory? Run again", t->kills, d->what);
        dp_log_at(WARN, "worker", (&(struct dp_log_where){.unit = t->unit->what, .offset = -1}), "the worker was killed from outside (%s); again", d->what);
        return DP_OK;
    }
    bool fresh = false;
    /* Two deaths name a document; the rest is for those that don't die every time. A worker that was taken over may accuse whom it likes: not for ever. */
    if (++t->deaths > 4 * t->iso->road->options->workers.quarantine_max + 32)
        DP_FAIL(e, LIMIT, "its worker process died %lld times (%s: %s)", (long long)t->deaths, dp_death_name(d->reason), d->what);
    for (size_t i = 0; i < d->suspects; i++) DP_TRY(accuse(t, &d->suspect[i], d, &fresh, e));
    if (!fresh && ++t->unexplained >= UNEXPLAINED_MAX)
        DP_FAIL(e, BROKEN, "its worker process died %d times outside any document (%s: %s)", t->unexplained, dp_death_name(d->reason), d->what);
    dp_log_at(INFO, "worker", (&(struct dp_log_where){.unit = t->unit->what, .offset = -1}), "the worker died (%s: %s); again, %s", dp_death_name(d->reason),
              d->what, fresh ? "with care" : "nothing was at hand");
    return DP_OK;
}

static int empty_outputs(const struct dp_unit_job *job, struct dp_err *e)
{
    for (int i = 0; i < DP_OUTS; i++)
        if (job->out[i] >= 0 && (ftruncate(job->out[i], 0) != 0 || lseek(job->out[i], 0, SEEK_SET) != 0)) DP_FAIL_SYS(e, "an output of the unit");
    return DP_OK;
}

static int attempts(struct trial *t, struct dp_worker *w, struct dp_unit_job *job, struct dp_unit_result *res, struct dp_err *e)
{
    for (;;) {
        int rc = dp_worker_run(w, job, res, e);
        if (rc != DP_EMPTY) return rc;
        const struct dp_death *d = dp_worker_death(w);
        DP_TRY(learn(t, d, e));
        if (d->reason != DP_DEATH_KILLED) job->lanes = 1;
        DP_TRY(empty_outputs(job, e));
    }
}

int dp_isolate_run(struct dp_isolate *iso, int worker, const struct dp_unit *u, const struct dp_members *m, const struct dp_unit_job *given, struct dp_unit_result *res, struct dp_err *e)
{
    struct dp_unit_job job = *given;
    struct trial *t = calloc(1, sizeof *t);
    int rc = t ? DP_OK : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "unit %s", u->what);
    if (rc >= 0 && !iso->worker[worker]) rc = dp_worker_open(&iso->worker[worker], iso->road->options, NULL, e);
    if (rc >= 0) {
        size_t sig = dp_options_signature_stage(iso->road->options);
        t->iso = iso;
        t->unit = u;
        t->members = m;
        t->stages = job.stages < sig ? job.stages : sig;
        t->care = (struct dp_unit_care){t->skip, 0, t->careful, 0};
        job.care = &t->care;
        job.what = u->what;
        if (job.lanes > DP_WATCH_LANES_MAX) job.lanes = DP_WATCH_LANES_MAX;
        rc = attempts(t, iso->worker[worker], &job, res, e);
    }
    for (int i = 0; i < DP_OUTS; i++)
        if (given->out[i] >= 0) close(given->out[i]);
    free(t);
    return rc;
}
