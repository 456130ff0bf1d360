#include "dedup/heirs.h"

#include "base/hash.h"

#include <stdlib.h>

struct dp_heirs_entry {
    uint32_t key, head; /* document + 1, node + 1; key 0: free */
};
struct dp_heirs_node {
    uint32_t heir, next;
};

void dp_heirs_release(struct dp_heirs *h)
{
    free(h->table);
    free(h->nodes);
    *h = (struct dp_heirs){0};
}

static struct dp_heirs_entry *find(const struct dp_heirs *h, uint32_t key)
{
    size_t at = (size_t)dp_mix64(key) & (h->cap - 1);
    while (h->table[at].key && h->table[at].key != key) at = (at + 1) & (h->cap - 1);
    return &h->table[at];
}

static int grow(struct dp_heirs *h, struct dp_err *e)
{
    struct dp_heirs bigger = {.cap = h->cap ? 2 * h->cap : 64};
    bigger.table = calloc(bigger.cap, sizeof *bigger.table);
    if (!bigger.table) DP_FAIL(e, NOMEM, "dedup: stand-ins of %zu documents", bigger.cap);
    for (size_t i = 0; i < h->cap; i++)
        if (h->table[i].key) *find(&bigger, h->table[i].key) = h->table[i];
    free(h->table);
    h->table = bigger.table;
    h->cap = bigger.cap;
    return DP_OK;
}

size_t dp_heirs_get(const struct dp_heirs *h, uint32_t of, uint32_t *out)
{
    size_t n = 0;
    if (!h->used) return 0;
    for (uint32_t node = find(h, of + 1)->head; node; node = h->nodes[node - 1].next) out[n++] = h->nodes[node - 1].heir;
    return n;
}

int dp_heirs_add(struct dp_heirs *h, uint32_t of, uint32_t heir, struct dp_err *e)
{
    uint32_t have[DP_HEIRS_MAX];
    if (dp_heirs_get(h, of, have) == DP_HEIRS_MAX) return DP_OK;
    if (2 * (h->used + 1) > h->cap) DP_TRY(grow(h, e));
    if (h->n_nodes == h->nodes_cap) {
        size_t cap = h->nodes_cap ? 2 * h->nodes_cap : 64;
        struct dp_heirs_node *p = realloc(h->nodes, cap * sizeof *p);
        if (!p) DP_FAIL(e, NOMEM, "dedup: %zu stand-ins", cap);
        h->nodes = p;
        h->nodes_cap = cap;
    }
    struct dp_heirs_entry *x = find(h, of + 1);
    h->used += x->key == 0;
    x->key = of + 1;
    h->nodes[h->n_nodes++] = (struct dp_heirs_node){heir, x->head};
    x->head = (uint32_t)h->n_nodes;
    return DP_OK;
}
