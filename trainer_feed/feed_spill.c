#include "trainer_feed/feed_spill.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int temporary(struct dp_err *e)
{
    const char *dir = getenv("TMPDIR");
    char name[512];
    if (!dir || !*dir) dir = "/var/tmp";
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0) return fd;
    snprintf(name, sizeof name, "%s/dpipe-feed-XXXXXX", dir); /* file systems without O_TMPFILE */
    fd = mkostemp(name, O_CLOEXEC);
    if (fd < 0) DP_FAIL_SYS(e, "%s: no temporary file for the feed's index; set TMPDIR to a folder with room", dir);
    unlink(name);
    return fd;
}

static int grow_file(struct dp_feed_spill *s, size_t cap, struct dp_err *e)
{
    int fd = s->fd ? s->fd - 1 : temporary(e);
    if (fd < 0) return fd;
    int sys = posix_fallocate(fd, 0, (off_t)cap);
    void *p = MAP_FAILED;
    if (!sys) {
        p = s->fd ? mremap(s->ptr, s->cap, cap, MREMAP_MAYMOVE) : mmap(NULL, cap, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) sys = errno;
    }
    if (sys) {
        if (!s->fd) close(fd);
        errno = sys;
        DP_FAIL_SYS(e, "temporary file of %zu bytes for the feed's index; set TMPDIR to a folder with room", cap);
    }
    if (!s->fd) {
        if (s->len) memcpy(p, s->ptr, s->len);
        free(s->ptr);
    }
    s->ptr = p;
    s->cap = cap;
    s->fd = fd + 1;
    return DP_OK;
}

int dp_feed_spill_add(struct dp_feed_spill *s, const void *p, size_t n, struct dp_err *e)
{
    if (!n) return DP_OK;
    if (s->cap - s->len < n) {
        size_t cap = s->cap ? s->cap * 2 : 4096, limit = s->limit ? s->limit : DP_FEED_SPILL_BYTES;
        while (cap - s->len < n) cap *= 2;
        if (cap > limit) {
            DP_TRY(grow_file(s, cap, e));
        } else {
            void *q = realloc(s->ptr, cap);
            if (!q) DP_FAIL(e, NOMEM, "feed: index of %zu bytes", cap);
            s->ptr = q;
            s->cap = cap;
        }
    }
    memcpy((char *)s->ptr + s->len, p, n);
    s->len += n;
    return DP_OK;
}

void dp_feed_spill_trim(struct dp_feed_spill *s)
{
    if (s->fd || !s->len) return;
    void *q = realloc(s->ptr, s->len);
    if (!q) return;
    s->ptr = q;
    s->cap = s->len;
}

void dp_feed_spill_release(struct dp_feed_spill *s)
{
    if (s->fd) {
        munmap(s->ptr, s->cap);
        close(s->fd - 1);
    } else {
        free(s->ptr);
    }
    *s = (struct dp_feed_spill){.limit = s->limit};
}
