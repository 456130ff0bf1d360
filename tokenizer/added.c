#include "tokenizer/added.h"

#include "base/utf8.h"
#include "tokenizer/sp.h"
#include "tokenizer/split_int.h"

/* \w where the classes of split_int.h don't say it: numbers that aren't (No), and others that are (Pc, Join_Control, circled letters). */
static const uint32_t no_word[][2] = {
    {0xB2, 0xB3},       {0xB9, 0xB9},       {0xBC, 0xBE},       {0x9F4, 0x9F9},     {0xB72, 0xB77},     {0xBF0, 0xBF2},
    {0xC78, 0xC7E},     {0xD58, 0xD5E},     {0xD70, 0xD78},     {0xF2A, 0xF33},     {0x1369, 0x137C},   {0x17F0, 0x17F9},
    {0x19DA, 0x19DA},   {0x2070, 0x2070},   {0x2074, 0x2079},   {0x2080, 0x2089},   {0x2150, 0x215F},   {0x2189, 0x2189},
    {0x2460, 0x249B},   {0x24EA, 0x24FF},   {0x2776, 0x2793},   {0x2CFD, 0x2CFD},   {0x3192, 0x3195},   {0x3220, 0x3229},
    {0x3248, 0x324F},   {0x3251, 0x325F},   {0x3280, 0x3289},   {0x32B1, 0x32BF},   {0xA830, 0xA835},   {0x10107, 0x10133},
    {0x10175, 0x10178}, {0x1018A, 0x1018B}, {0x102E1, 0x102FB}, {0x10320, 0x10323}, {0x10858, 0x1085F}, {0x10879, 0x1087F},
    {0x108A7, 0x108AF}, {0x108FB, 0x108FF}, {0x10916, 0x1091B}, {0x109BC, 0x109BD}, {0x109C0, 0x109CF}, {0x109D2, 0x109FF},
    {0x10A40, 0x10A48}, {0x10A7D, 0x10A7E}, {0x10A9D, 0x10A9F}, {0x10AEB, 0x10AEF}, {0x10B58, 0x10B5F}, {0x10B78, 0x10B7F},
    {0x10BA9, 0x10BAF}, {0x10CFA, 0x10CFF}, {0x10E60, 0x10E7E}, {0x10F1D, 0x10F26}, {0x10F51, 0x10F54}, {0x10FC5, 0x10FCB},
    {0x11052, 0x11065}, {0x111E1, 0x111F4}, {0x1173A, 0x1173B}, {0x118EA, 0x118F2}, {0x11C5A, 0x11C6C}, {0x11FC0, 0x11FD4},
    {0x16B5B, 0x16B61}, {0x16E80, 0x16E96}, {0x1D2C0, 0x1D2D3}, {0x1D2E0, 0x1D2F3}, {0x1D360, 0x1D378}, {0x1E8C7, 0x1E8CF},
    {0x1EC71, 0x1ECAB}, {0x1ECAD, 0x1ECAF}, {0x1ECB1, 0x1ECB4}, {0x1ED01, 0x1ED2D}, {0x1ED2F, 0x1ED3D}, {0x1F100, 0x1F10C},
};
static const uint32_t also_word[][2] = {{0x5F, 0x5F},     {0x200C, 0x200D}, {0x203F, 0x2040},   {0x2054, 0x2054},   {0x24B6, 0x24E9},  {0xFE33, 0xFE34},
                                        {0xFE4D, 0xFE4F}, {0xFF3F, 0xFF3F}, {0x1F130, 0x1F149}, {0x1F150, 0x1F169}, {0x1F170, 0x1F189}};

static bool in_ranges(const uint32_t (*r)[2], size_t n, uint32_t cp)
{
    for (size_t i = 0; i < n && r[i][0] <= cp; i++)
        if (cp <= r[i][1]) return true;
    return false;
}

/* The character at p: its class (0 at the end), length and code point, -1 for a byte that is no UTF-8. */
static unsigned class_behind(const uint8_t *p, const uint8_t *end, int *len, int32_t *cp)
{
    *cp = -1;
    if (p < end && *p < 0x80) *cp = *p;
    else if (p < end) dp_split_decode(p, end, cp);
    return dp_split_class_at(p, end, len);
}

/* The same of the character that ends at p. */
static unsigned class_before(const uint8_t *begin, const uint8_t *p, int *len, int32_t *cp)
{
    for (int n = 1; n <= 4 && p - begin >= n; n++) {
        unsigned class = class_behind(p - n, p, len, cp);
        if (*len == n && *cp >= 0) return class;
    }
    *len = p > begin;
    *cp = -1;
    return *len ? C_OTHER : 0;
}

static bool is_word(unsigned class, int32_t cp)
{
    if (class & (C_LETTER | C_MARK)) return true;
    if (class & C_NUMBER) return !in_ranges(no_word, sizeof no_word / sizeof *no_word, (uint32_t)cp);
    return cp >= 0 && (class & C_OTHER) && in_ranges(also_word, sizeof also_word / sizeof *also_word, (uint32_t)cp);
}

static bool word_before(struct dp_span s, size_t at)
{
    int len;
    int32_t cp;
    const uint8_t *p = (const uint8_t *)s.ptr;
    unsigned class = class_before(p, p + at, &len, &cp);
    return is_word(class, cp);
}

static bool word_behind(struct dp_span s, size_t at)
{
    int len;
    int32_t cp;
    const uint8_t *p = (const uint8_t *)s.ptr;
    unsigned class = class_behind(p + at, p + s.len, &len, &cp);
    return is_word(class, cp);
}

/* `at` less the white space before it, and plus the white space behind it. */
static size_t without_space_before(struct dp_span s, size_t at)
{
    int len;
    int32_t cp;
    const uint8_t *p = (const uint8_t *)s.ptr;
    while (at && (class_before(p, p + at, &len, &cp) & C_SPACE)) at -= (size_t)len;
    return at;
}

static size_t with_space_behind(struct dp_span s, size_t at)
{
    int len;
    const uint8_t *p = (const uint8_t *)s.ptr, *end = p + s.len;
    while (dp_split_class_at(p + at, end, &len) & C_SPACE) at += (size_t)len;
    return at;
}

/* The sorted texts that share what was read so far are a range, narrowed character by character. */
int64_t dp_pattern_at(const struct dp_added_set *set, const char *p, size_t room, size_t *len)
{
    size_t lo = 0, hi = set->count;
    int64_t found = -1;
    for (size_t d = 0; lo < hi; d++) {
        if (set->pattern[lo].text.len == d) { /* the shortest of the range sorts first */
            found = (int64_t)lo;
            *len = d;
            if (++lo == hi) break;
        }
        if (d == room) break;
        unsigned char ch = (unsigned char)p[d];
        size_t a = lo, b = hi;
        while (a < b) {
            size_t m = a + (b - a) / 2;
            if ((unsigned char)set->pattern[m].text.ptr[d] < ch) a = m + 1;
            else b = m;
        }
        lo = a;
        b = hi;
        while (a < b) {
            size_t m = a + (b - a) / 2;
            if ((unsigned char)set->pattern[m].text.ptr[d] <= ch) a = m + 1;
            else b = m;
        }
        hi = a;
    }
    return found;
}

/* What a walk over one text needs. */
struct walk {
    const struct dp_tokenizer *t;
    enum dp_special_policy policy;
    struct dp_added_scratch *scratch;
    const struct dp_added_sink *to;
    const char *begin; /* of the whole text */
};

/* Calls `between` for what lies between the matches of `set`, empty texts left out. The white space that one token takes may reach over matches
 * that come behind it. The reference then gives those too and steps back (without lstrip), drops a token of which nothing is left, and
 * panics where less than nothing is; here that token is dropped as well. */
static int find_each(struct walk *w, const struct dp_added_set *set, struct dp_span text, int (*between)(struct walk *, struct dp_span, struct dp_err *),
                     struct dp_err *e)
{
    size_t from = 0;
    for (size_t i = 0; set->count && i < text.len;) {
        size_t len = 0;
        if (set->only) { /* all begin with one byte, as <|...|> do */
            const char *next = memchr(text.ptr + i, set->only, text.len - i);
            if (!next) break;
            i = (size_t)(next - text.ptr);
        }
        int64_t k = set->first[(uint8_t)text.ptr[i]] ? dp_pattern_at(set, text.ptr + i, text.len - i, &len) : -1;
        if (k < 0) {
            i++;
            continue;
        }
        const struct dp_special *a = &w->t->specials[set->pattern[k].special];
        size_t start = i, stop = i + len;
        i = stop;
        if (w->policy == DP_SPECIAL_ADDED && (a->flags & DP_ADDED_SPECIAL)) continue;
        if ((a->flags & DP_ADDED_SINGLE_WORD) && (word_before(text, start) || word_behind(text, stop))) continue;
        if (a->flags & DP_ADDED_LSTRIP) {
            start = without_space_before(text, start);
            if (start < from) start = from;
        }
        if (a->flags & DP_ADDED_RSTRIP) stop = with_space_behind(text, stop);
        if (start > stop) continue;
        if (from < start) DP_TRY(between(w, dp_span(text.ptr + from, start - from), e));
        if (start < stop) DP_TRY(w->to->id(w->to->ctx, a->id, e));
        from = stop;
    }
    return from < text.len ? between(w, dp_span(text.ptr + from, text.len - from), e) : DP_OK;
}

static int ordinary(struct walk *w, struct dp_span text, struct dp_err *e)
{
    if (w->t->sp && dp_sp_wants_space(w->t->sp, text, text.ptr == w->begin)) {
        struct dp_buf *to = &w->scratch->normal; /* such a model has no other normal form */
        dp_buf_clear(to);
        dp_buf_add_char(to, ' ');
        dp_buf_add_span(to, text);
        DP_TRY(dp_buf_check(to, "a text", e));
        text = dp_buf_span(to);
    }
    return w->to->text(w->to->ctx, text, e);
}

static int normalise_and_find(struct walk *w, struct dp_span text, struct dp_err *e)
{
    if (w->t->normal != DP_NORMAL_NONE) {
        w->scratch->normal.len = 0;
        DP_TRY(dp_added_normalise(w->t->normal, w->scratch, text, e));
        text = dp_buf_span(&w->scratch->normal);
    }
    if (w->policy == DP_SPECIAL_NONE) return ordinary(w, text, e);
    return find_each(w, &w->t->added[1], text, ordinary, e);
}

int dp_added_each(const struct dp_tokenizer *t, enum dp_special_policy policy, struct dp_added_scratch *s, struct dp_span text,
                  const struct dp_added_sink *to, struct dp_err *e)
{
    struct walk w = {.t = t, .policy = policy, .scratch = s, .to = to, .begin = text.ptr};
    if (policy == DP_SPECIAL_NONE) return normalise_and_find(&w, text, e);
    return find_each(&w, &t->added[0], text, normalise_and_find, e);
}

void dp_added_scratch_init(struct dp_added_scratch *s)
{
    *s = (struct dp_added_scratch){.nfc = {.unicode9 = true}};
    dp_buf_init(&s->normal, SIZE_MAX / 2);
}

void dp_added_scratch_release(struct dp_added_scratch *s)
{
    dp_nfc_release(&s->nfc);
    dp_buf_release(&s->normal);
}

int dp_added_normalise(enum dp_normal normal, struct dp_added_scratch *s, struct dp_span text, struct dp_err *e)
{
    struct dp_buf *to = &s->normal;
    DP_ASSERT(normal == DP_NORMAL_NFC);
    for (size_t i = 0; i < text.len;) {
        size_t n = dp_utf8_valid_len(text.ptr + i, text.len - i);
        if (n && dp_nfc(&s->nfc, dp_span(text.ptr + i, n), to) < 0) DP_FAIL(e, NOMEM, "normalising %zu bytes", n);
        i += n;
        if (i < text.len) dp_buf_add_char(to, text.ptr[i++]); /* a byte that is no UTF-8 */
    }
    return dp_buf_check(to, "normalised text", e);
}
