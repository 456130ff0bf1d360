/* clean/html_elements.c - names as 64-bit keys: lower case of eight bytes, longer names mixed; a key and a length are a name. */
#include "clean/html_elements.h"

#include <pthread.h>

struct dp_html_element dp_html_elements[E_COUNT] = {
    {"", 0, E_unknown, DP_HTML_OTHER, 0, 0},
#define X(n, t, f) {#n, 0, E_##n, DP_HTML_##t, sizeof(#n) - 1, (f)},
    ELEMENTS(X)
#undef X
};
static const char *const attr_names[ATTR_KINDS] = {"", "class", "id", "role", "itemprop", "style", "hidden", "aria-hidden", "lang"};
static uint64_t attr_keys[ATTR_KINDS];
enum { SLOTS = 512 };
static uint8_t slots[SLOTS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Up to eight bytes at p in lower case; e ends what may be read. (Control characters fold onto digits: no page has <h\x11>.) */
static uint64_t fold8(const char *p, size_t n, const char *e)
{
    uint64_t v = 0;
    if (e - p >= 8) {
        memcpy(&v, p, 8);
        if (n < 8) v &= (UINT64_C(1) << 8 * n) - 1;
    } else memcpy(&v, p, n < 8 ? n : 8);
    return v | (UINT64_C(0x2020202020202020) & (n < 8 ? (UINT64_C(1) << 8 * n) - 1 : UINT64_MAX));
}

static uint64_t name_key(struct dp_span s, const char *e)
{
    uint64_t k = fold8(s.ptr, s.len, e);
    if (s.len <= 8) return k;
    for (size_t i = 8; i < s.len; i += 8) k = (k ^ fold8(s.ptr + i, s.len - i, e)) * UINT64_C(0x9e3779b97f4a7c15);
    return k ^ s.len;
}

static unsigned slot_of(uint64_t key)
{
    return (unsigned)(key * UINT64_C(0x9e3779b97f4a7c15) >> 55);
}

static void index_names(void)
{
    for (unsigned i = 1; i < E_COUNT; i++) {
        struct dp_html_element *x = &dp_html_elements[i];
        x->key = name_key(dp_span(x->name, x->len), x->name + x->len);
        unsigned at = slot_of(x->key);
        while (slots[at]) at = (at + 1) % SLOTS;
        slots[at] = (uint8_t)i;
    }
    for (unsigned i = 1; i < ATTR_KINDS; i++) attr_keys[i] = name_key(dp_span_str(attr_names[i]), attr_names[i] + strlen(attr_names[i]));
}

void dp_html_elements_init(void)
{
    pthread_once(&once, index_names);
}

const struct dp_html_element *dp_html_element_of(struct dp_span name, const char *e, uint64_t *key)
{
    *key = name_key(name, e);
    for (unsigned at = slot_of(*key); slots[at]; at = (at + 1) % SLOTS) {
        const struct dp_html_element *x = &dp_html_elements[slots[at]];
        if (x->key == *key && x->len == name.len) return x;
    }
    return &dp_html_elements[E_unknown];
}

enum dp_html_attr_kind dp_html_attr_of(struct dp_span name, const char *e)
{
    /* Of each length there are two at most. */
    static const uint8_t by_len[12][2] = {[2] = {ATTR_ID}, [4] = {ATTR_ROLE, ATTR_LANG}, [5] = {ATTR_CLASS, ATTR_STYLE}, [6] = {ATTR_HIDDEN},
                                          [8] = {ATTR_ITEMPROP}, [11] = {ATTR_ARIA_HIDDEN}};
    if (name.len > 11 || !by_len[name.len][0]) return ATTR_OTHER;
    uint64_t key = name_key(name, e);
    for (int k = 0; k < 2; k++) {
        enum dp_html_attr_kind a = (enum dp_html_attr_kind)by_len[name.len][k];
        if (a && key == attr_keys[a]) return a;
    }
    return ATTR_OTHER;
}
