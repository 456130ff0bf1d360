/* daemon/worker_process.h - a worker as a process of its own, behind base/sandbox.h.
 *
 * The same unit as on a thread (daemon/unit_worker.h) goes in; members are opened by the broker and passed as descriptors when the worker asks;
 * counts and digests come back. A worker lives long: starting one costs some 10 ms, a message some 10 us.
 *
 * Started by running this program again (/proc/self/exe, which is the right file even after an upgrade replaced it on disk) with one hidden
 * argument, through posix_spawn. Not by fork: a broker has threads, and a child forked from it may find any lock held by a thread that isn't there,
 * malloc's among them. Not from a zygote either, a process forked before the first thread that forks workers later: it would be
 * quicker to start (0.3 ms), but all its children share one memory layout, so that what a document learns by crashing one worker holds for the
 * next; and it would be a third kind of process to supervise. A new program gets a new layout, inherits no descriptor but its channel (all of
 * dpipe's are close-on-exec), and no secret: neither the broker's memory nor its environment.
 *
 * What the worker sends is checked: sizes, codes, digests; a worker that sends what it shouldn't is killed. One that was taken over can still lie
 * about counts and text, as far as the catalog's sums allow, and write to the outputs of units that it finished, whose descriptors it may
 * have kept, until it is replaced: digests don't fit then, and reading the artifact says so.
 *
 * Limits of a document: doc_seconds of CPU for one stage (of a batch, or of one record once it is taken by itself), ten times that of wall-clock
 * time, and memory_bytes for the process. Reading may take a second more for each 16 MiB of its file.
 *
 * Thread-safety: a handle belongs to one thread at a time; different handles are independent. */
#ifndef DP_DAEMON_WORKER_PROCESS_H
#define DP_DAEMON_WORKER_PROCESS_H

#include "base/sandbox.h"
#include "daemon/options.h"
#include "daemon/unit_worker.h"

#define DP_WORKER_COMMAND "worker-process"

/* The child's whole life, on the channel `fd` (3). Its caller ends with _exit: a leak check at exit would need forbidden calls. */
int dp_worker_main(int fd);

enum dp_death_reason {
    DP_DEATH_CRASH,   /* a signal, or an exit nobody asked for */
    DP_DEATH_CPU, DP_DEATH_WALL, DP_DEATH_MEMORY,
    DP_DEATH_SANDBOX, /* SIGSYS: a call that only an intruder makes */
    DP_DEATH_LIED,    /* a message that is none */
    DP_DEATH_KILLED,  /* SIGKILL from outside: nobody's fault in here */
};
const char *dp_death_name(enum dp_death_reason r);

struct dp_death {
    enum dp_death_reason reason;
    char what[160];                  /* for people */
    size_t suspects;
    const struct dp_watch_slot *suspect; /* copies of the slots that were in use */
    struct dp_span text;             /* the bytes of the record taken by itself, when a suspect is `exact` */
};

struct dp_worker;
/* No process yet: the first unit starts it. `o` outlives the handle; program NULL is this one. */
int dp_worker_open(struct dp_worker **out, const struct dp_options *o, const char *program, struct dp_err *e);
void dp_worker_close(struct dp_worker *w);
/* One attempt at a unit. The outputs stay the caller's. DP_OK and *res; DP_EMPTY when the worker died or was killed for its document (see
 * dp_worker_death, valid until the next call); a negative code is the unit's, or DP_CONFIG when no worker can be started. */
int dp_worker_run(struct dp_worker *w, const struct dp_unit_job *job, struct dp_unit_result *res, struct dp_err *e);
const struct dp_death *dp_worker_death(const struct dp_worker *w);
/* What its process is restricted by, as it said when it started; all zero before. */
const struct dp_sandbox_report *dp_worker_sandbox(const struct dp_worker *w);
/* The process, 0 when there is none; for tests and metrics. */
int dp_worker_pid(const struct dp_worker *w);

#endif
