/* trainer_feed/feed_ring.h - the two sides of a ring, asleep and awake (trainer_feed/feed_wire.h has its layout).
 *
 * Sleeping without losing a wake-up: the sleeper raises its flag, then looks at the counter again; the other side moves the counter, then
 * looks at the flag. All four are sequentially consistent, so one of the two sees the other. Nobody makes a system call while both run. */
#ifndef DP_TRAINER_FEED_FEED_RING_H
#define DP_TRAINER_FEED_FEED_RING_H

#include "trainer_feed/feed_wire.h"

/* A sleep and its wake-up cost both sides more than a small batch takes: look for a while first. For how long follows from how the latest looks
 * ended, up to 20 us, so that who waits for something slow hardly burns processor time. */
struct dp_feed_patience {
    unsigned looks; /* 0: not set up yet */
};
/* Until *counter isn't `known` any more (true), or patience is over. */
bool dp_feed_ring_look(struct dp_feed_patience *p, const _Atomic uint64_t *counter, uint64_t known);
/* Write to the eventfd if the flag is up, and take it down; whether it was. */
bool dp_feed_ring_wake(_Atomic uint32_t *flag, int fd);
/* Who wakes another is often given it as a neighbour on its own processor, where the two then take turns, and spend their patience on each other; the
 * kernel sees no reason to part them, since only one is ever running. The producer's thread looks where the reader says it is, and steps
 * aside (for ten milliseconds at least it won't look again). At half the speed otherwise: `dpipe bench feed`. */
struct dp_feed_neighbour {
    double looked;
};
void dp_feed_ring_tell_cpu(struct dp_feed_ring *r);
void dp_feed_ring_step_aside(struct dp_feed_neighbour *n, const struct dp_feed_ring *r);
/* Take what was written to an eventfd. */
void dp_feed_ring_heard(int fd);

#endif
