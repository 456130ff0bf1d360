#include "trainer_feed/feed_ring.h"

#include "base/clock.h"

#include "trainer_feed/feed_conn.h"

#include <sched.h>
#include <unistd.h>

enum { LOOKS_FIRST = 2000, LOOKS_MIN = 100, LOOKS_MAX = 6000 /* about 20 us */ };

bool dp_feed_ring_look(struct dp_feed_patience *p, const _Atomic uint64_t *counter, uint64_t known)
{
    if (!p->looks) p->looks = sysconf(_SC_NPROCESSORS_ONLN) > 1 ? LOOKS_FIRST : 1; /* alone, the other side can't come while we look */
    for (unsigned i = 0; i < p->looks; i++) {
        if (atomic_load_explicit(counter, memory_order_acquire) != known) {
            if (p->looks > 1 && p->looks < LOOKS_MAX) p->looks += p->looks / 8;
            return true;
        }
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
    if (p->looks > LOOKS_MIN) p->looks /= 2;
    return false;
}

/* A full eventfd (a client that sleeps on something else) is awake enough, hence the results don't matter. */
bool dp_feed_ring_wake(_Atomic uint32_t *flag, int fd)
{
    uint64_t one = 1;
    if (!atomic_load(flag) || !atomic_exchange(flag, 0)) return false;
    if (write(fd, &one, sizeof one) < 0) return true; /* full: awake enough */
    return true;
}

void dp_feed_ring_tell_cpu(struct dp_feed_ring *r)
{
    int cpu = sched_getcpu();
    if (cpu >= 0) atomic_store_explicit(&r->reader_cpu, (uint32_t)cpu + 1, memory_order_relaxed);
}

void dp_feed_ring_step_aside(struct dp_feed_neighbour *n, const struct dp_feed_ring *r)
{
    cpu_set_t mine, others;
    int cpu = sched_getcpu();
    if (cpu < 0 || cpu >= CPU_SETSIZE || atomic_load_explicit(&r->reader_cpu, memory_order_relaxed) != (uint32_t)cpu + 1) return;
    double t = dp_now();
    if (t - n->looked < 0.01) return;
    n->looked = t;
    if (sched_getaffinity(0, sizeof mine, &mine) != 0 || CPU_COUNT(&mine) < 2) return;
    others = mine;
    CPU_CLR((size_t)cpu, &others);
    if (sched_setaffinity(0, sizeof others, &others) == 0) sched_setaffinity(0, sizeof mine, &mine); /* moved now; free to go where it likes */
}

void dp_feed_ring_heard(int fd)
{
    uint64_t many;
    if (read(fd, &many, sizeof many) < 0) return;
}
