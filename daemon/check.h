/* daemon/check.h - whether a recipe can be worked with, and whether this machine is ready for it: every problem, with its place.
 *
 * The recipe's own problems make a service refuse it, at start and at a reload: keys, values and ranges, patterns that don't compile, languages
 * that are none, times that are none, a tokenizer file that can't be loaded. The machine's are for `dpipe check-config` alone: sources that can't
 * be reached, addresses, tokens and certificates, little disk space, a kernel without seccomp, no JIT. A service starts all the same
 * where it can wait for them: a disk that is mounted later is no reason to stay down.
 *
 * Thread-safety: one call at a time a struct. dp_check_machine forks a child for a moment, to try the sandbox in. */
#ifndef DP_DAEMON_CHECK_H
#define DP_DAEMON_CHECK_H

#include "base/recipe.h"
#include "daemon/road.h"

struct dp_problem {
    bool warning;    /* worth knowing; not a reason to fail */
    enum dp_code code;
    char file[256];  /* "" when it is no file's */
    size_t line;     /* 0: of no line, or unknown */
    char text[300];  /* begins with the option's name where there is one */
};

struct dp_check {
    const char *recipe, *dir; /* the file; the workspace, where relative sources begin */
    dp_apply_fn apply;        /* the command line's options, over the recipe; may be NULL */
    void *ctx;
    struct dp_options *options; /* at their defaults; filled */
    /* found: */
    struct dp_recipe_places places;
    struct dp_problem *problem;
    size_t n, errors;
    char sandbox[160];        /* what a worker process is shut in by */
    bool jit;
    uint64_t disk_free;
    size_t sources;           /* paths that the recipe and earlier `dpipe ingest` lead to */
};

/* Load the recipe into c->options and look at everything in it. Negative only where the check itself fails. With no errors found the stages are
 * open, as after dp_options_open. */
int dp_check_recipe(struct dp_check *c, struct dp_err *e);
/* Behind dp_check_recipe, whatever it found. */
int dp_check_machine(struct dp_check *c, struct dp_err *e);
/* DP_OK, or the first error as one's own, with its place and how many more there are. Problems whose code is `pardon` don't count (0: all do). */
int dp_check_verdict(const struct dp_check *c, int pardon, struct dp_err *e);
/* Not the options. */
void dp_check_release(struct dp_check *c);

#endif
