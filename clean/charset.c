/* clean/charset.c - labels, the prescan, and the guess.
 *
 * The guess decodes a sample with every candidate and asks CLD2 which result is a language that is written in that charset: one detector
 * instead of a table of letter frequencies for each charset. It runs only on bytes that aren't UTF-8 and declare nothing useful. */
#include "clean/charset.h"

#include "base/utf8.h"
#include "clean/cld2_shim.h"

#include <stdio.h>
#include <strings.h>

static const struct dp_charset charsets[] = {
    {"utf-8", "UTF-8", "unicode-1-1-utf-8 unicode11utf8 unicode20utf8 utf-8 utf8 x-unicode20utf8"},
    {"windows-1252", "CP1252", "ansi_x3.4-1968 ascii cp1252 cp819 csisolatin1 ibm819 iso-8859-1 iso-ir-100 iso8859-1 iso88591 iso_8859-1 iso_8859-1:1987 l1 latin1 us-ascii windows-1252 x-cp1252"},
    {"ibm866", "IBM866", "866 cp866 csibm866 ibm866"},
    {"iso-8859-2", "ISO-8859-2", "csisolatin2 iso-8859-2 iso-ir-101 iso8859-2 iso88592 iso_8859-2 iso_8859-2:1987 l2 latin2"},
    {"iso-8859-3", "ISO-8859-3", "csisolatin3 iso-8859-3 iso-ir-109 iso8859-3 iso88593 iso_8859-3 iso_8859-3:1988 l3 latin3"},
    {"iso-8859-4", "ISO-8859-4", "csisolatin4 iso-8859-4 iso-ir-110 iso8859-4 iso88594 iso_8859-4 iso_8859-4:1988 l4 latin4"},
    {"iso-8859-5", "ISO-8859-5", "csisolatincyrillic cyrillic iso-8859-5 iso-ir-144 iso8859-5 iso88595 iso_8859-5 iso_8859-5:1988"},
    {"iso-8859-6", "ISO-8859-6", "arabic asmo-708 csiso88596e csiso88596i csisolatinarabic ecma-114 iso-8859-6 iso-8859-6-e iso-8859-6-i iso-ir-127 iso8859-6 iso88596 iso_8859-6 iso_8859-6:1987"},
    {"iso-8859-7", "ISO-8859-7", "csisolatingreek ecma-118 elot_928 greek greek8 iso-8859-7 iso-ir-126 iso8859-7 iso88597 iso_8859-7 iso_8859-7:1987 sun_eu_greek"},
    {"iso-8859-8", "ISO-8859-8", "csiso88598e csisolatinhebrew hebrew iso-8859-8 iso-8859-8-e iso-ir-138 iso8859-8 iso88598 iso_8859-8 iso_8859-8:1988 visual csiso88598i iso-8859-8-i logical"},
    {"iso-8859-10", "ISO-8859-10", "csisolatin6 iso-8859-10 iso-ir-157 iso8859-10 iso885910 l6 latin6"},
    {"iso-8859-13", "ISO-8859-13", "iso-8859-13 iso8859-13 iso885913"},
    {"iso-8859-14", "ISO-8859-14", "iso-8859-14 iso8859-14 iso885914"},
    {"iso-8859-15", "ISO-8859-15", "csisolatin9 iso-8859-15 iso8859-15 iso885915 iso_8859-15 l9"},
    {"iso-8859-16", "ISO-8859-16", "iso-8859-16"},
    {"koi8-r", "KOI8-R", "cskoi8r koi koi8 koi8-r koi8_r"},
    {"koi8-u", "KOI8-U", "koi8-ru koi8-u"},
    {"macintosh", "MACINTOSH", "csmacintosh mac macintosh x-mac-roman"},
    {"windows-874", "CP874", "dos-874 iso-8859-11 iso8859-11 iso885911 tis-620 windows-874"},
    {"windows-1250", "CP1250", "cp1250 windows-1250 x-cp1250"},
    {"windows-1251", "CP1251", "cp1251 windows-1251 x-cp1251"},
    {"windows-1253", "CP1253", "cp1253 windows-1253 x-cp1253"},
    {"windows-1254", "CP1254", "cp1254 csisolatin5 iso-8859-9 iso-ir-148 iso8859-9 iso88599 iso_8859-9 iso_8859-9:1989 l5 latin5 windows-1254 x-cp1254"},
    {"windows-1255", "CP1255", "cp1255 windows-1255 x-cp1255"},
    {"windows-1256", "CP1256", "cp1256 windows-1256 x-cp1256"},
    {"windows-1257", "CP1257", "cp1257 windows-1257 x-cp1257"},
    {"windows-1258", "CP1258", "cp1258 windows-1258 x-cp1258"},
    {"x-mac-cyrillic", "MAC-CYRILLIC", "x-mac-cyrillic x-mac-ukrainian"},
    {"gb18030", "GB18030", "chinese csgb2312 csiso58gb231280 gb2312 gb_2312 gb_2312-80 gbk iso-ir-58 x-gbk gb18030"},
    {"big5", "BIG5-HKSCS", "big5 big5-hkscs cn-big5 csbig5 x-x-big5"},
    {"euc-jp", "EUC-JP-MS", "cseucpkdfmtjapanese euc-jp x-euc-jp"},
    {"iso-2022-jp", "ISO-2022-JP-2", "csiso2022jp iso-2022-jp"},
    {"shift_jis", "CP932", "csshiftjis ms932 ms_kanji shift-jis shift_jis sjis windows-31j x-sjis"},
    {"euc-kr", "UHC", "cseuckr csksc56011987 euc-kr iso-ir-149 korean ks_c_5601-1987 ks_c_5601-1989 ksc5601 ksc_5601 windows-949"},
    {"utf-16be", "UTF-16BE", "unicodefffe utf-16be"},
    {"utf-16le", "UTF-16LE", "csunicode iso-10646-ucs-2 ucs-2 unicode unicodefeff utf-16 utf-16le"},
    {"x-user-defined", "CP1252", "x-user-defined"},
};
enum { CHARSETS = sizeof charsets / sizeof *charsets, PRESCAN = 65536, SAMPLE = 8192 };

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\f' || c == '\r';
}

const struct dp_charset *dp_charset_find(struct dp_span s)
{
    while (s.len && blank(*s.ptr)) s.ptr++, s.len--;
    while (s.len && blank(s.ptr[s.len - 1])) s.len--;
    if (s.len == 0 || s.len > 32) return NULL;
    for (size_t i = 0; i < CHARSETS; i++) {
        for (const char *p = charsets[i].labels; *p;) {
            size_t n = strcspn(p, " ");
            if (n == s.len && strncasecmp(p, s.ptr, n) == 0) return &charsets[i];
            p += n + (p[n] == ' ');
        }
    }
    return NULL;
}

void dp_charset_preload(void)
{
    for (size_t i = 0; i < CHARSETS; i++) dp_iconv_preload(charsets[i].iconv);
}

static const struct dp_charset *named(const char *name)
{
    return dp_charset_find(dp_span_str(name));
}

static const char *find_fold(const char *p, const char *e, const char *what)
{
    size_t n = strlen(what);
    for (; (size_t)(e - p) >= n && p < e; p++)
        if (strncasecmp(p, what, n) == 0) return p;
    return NULL;
}

/* WHATWG "get an attribute": name and value point into the input; false at the tag's end. */
static bool attribute(const char **pp, const char *e, struct dp_span *name, struct dp_span *value)
{
    const char *p = *pp;
    while (p < e && (blank(*p) || *p == '/')) p++;
    *value = dp_span("", 0);
    *pp = p;
    if (p == e || *p == '>') return false;
    const char *from = p;
    while (p < e && !blank(*p) && *p != '/' && *p != '>' && (*p != '=' || p == from)) p++;
    *name = dp_span(from, (size_t)(p - from));
    while (p < e && blank(*p)) p++;
    *pp = p;
    if (p == e || *p != '=') return true;
    p++;
    while (p < e && blank(*p)) p++;
    if (p < e && (*p == '"' || *p == '\'')) {
        const char *q = memchr(p + 1, *p, (size_t)(e - p - 1));
        if (!q) q = e;
        *value = dp_span(p + 1, (size_t)(q - p - 1));
        p = q < e ? q + 1 : e;
    } else {
        from = p;
        while (p < e && !blank(*p) && *p != '>') p++;
        *value = dp_span(from, (size_t)(p - from));
    }
    *pp = p;
    return true;
}

static bool fold_is(struct dp_span s, const char *t)
{
    return s.len == strlen(t) && strncasecmp(s.ptr, t, s.len) == 0;
}

/* WHATWG's algorithm for extracting a charset from a <meta> element's content. */
static const struct dp_charset *from_content(struct dp_span v)
{
    const char *p = v.ptr, *e = p + v.len;
    while ((p = find_fold(p, e, "charset")) != NULL) {
        p += 7;
        while (p < e && blank(*p)) p++;
        if (p == e || *p != '=') continue;
        p++;
        while (p < e && blank(*p)) p++;
        if (p == e) return NULL;
        const char *q = p;
        if (*p == '"' || *p == '\'') {
            q = memchr(p + 1, *p, (size_t)(e - p - 1));
            return q ? dp_charset_find(dp_span(p + 1, (size_t)(q - p - 1))) : NULL;
        }
        while (q < e && !blank(*q) && *q != ';') q++;
        return dp_charset_find(dp_span(p, (size_t)(q - p)));
    }
    return NULL;
}

static const struct dp_charset *meta(const char **pp, const char *e)
{
    struct dp_span name, value;
    const struct dp_charset *found = NULL, *content = NULL;
    bool pragma = false, seen_charset = false;
    while (attribute(pp, e, &name, &value)) {
        if (fold_is(name, "http-equiv")) pragma = pragma || fold_is(value, "content-type");
        else if (fold_is(name, "content") && !content) content = from_content(value);
        else if (fold_is(name, "charset") && !seen_charset) found = dp_charset_find(value), seen_charset = true;
    }
    if (*pp >= e) return NULL; /* the tag doesn't end here */
    if (!seen_charset) found = pragma ? content : NULL;
    if (!found) return NULL;
    if (strncmp(found->name, "utf-16", 6) == 0) return named("utf-8");
    return strcmp(found->name, "x-user-defined") == 0 ? named("windows-1252") : found;
}

static const struct dp_charset *xml_declaration(const char *p, const char *e)
{
    if (e - p < 6 || memcmp(p, "<?xml", 5) != 0) return NULL;
    const char *end = memchr(p, '>', (size_t)(e - p)), *q = end ? find_fold(p, end, "encoding") : NULL;
    if (!q) return NULL;
    q += 8;
    while (q < end && (blank(*q) || *q == '=')) q++;
    if (q == end || (*q != '"' && *q != '\'')) return NULL;
    const char *r = memchr(q + 1, *q, (size_t)(end - q - 1));
    const struct dp_charset *c = r ? dp_charset_find(dp_span(q + 1, (size_t)(r - q - 1))) : NULL;
    return c && strncmp(c->name, "utf-16", 6) == 0 ? named("utf-8") : c;
}

const struct dp_charset *dp_charset_prescan(struct dp_span s)
{
    const char *p = s.ptr, *e = p + (s.len < PRESCAN ? s.len : PRESCAN);
    const struct dp_charset *c = xml_declaration(p, e);
    if (c) return c;
    struct dp_span name, value;
    while ((p = memchr(p, '<', (size_t)(e - p))) != NULL) {
        if (e - p >= 4 && memcmp(p, "<!--", 4) == 0) {
            /* "<!-->" is a whole comment. */
            p = memmem(p + 2, (size_t)(e - p - 2), "-->", 3);
            if (!p) return NULL;
            p += 3;
        } else if (e - p >= 6 && strncasecmp(p, "<meta", 5) == 0 && (blank(p[5]) || p[5] == '/')) {
            p += 6;
            if ((c = meta(&p, e)) != NULL) return c;
        } else if (e - p >= 3 && (((p[1] | 32) >= 'a' && (p[1] | 32) <= 'z') || (p[1] == '/' && (p[2] | 32) >= 'a' && (p[2] | 32) <= 'z'))) {
            while (p < e && !blank(*p) && *p != '>') p++;
            while (attribute(&p, e, &name, &value)) {}
        } else if (e - p >= 2 && (p[1] == '!' || p[1] == '/' || p[1] == '?')) {
            p = memchr(p, '>', (size_t)(e - p));
            if (!p) return NULL;
        } else p++;
    }
    return NULL;
}

/* The sample for guessing: bytes outside tags, from the first byte that isn't ASCII (less some context) on. */
static struct dp_span sample_of(struct dp_span s, struct dp_buf *out)
{
    size_t at = dp_utf8_ascii_len(s.ptr, s.len), n = 0;
    at = at > 64 ? at - 64 : 0;
    dp_buf_clear(out);
    char *to = dp_buf_reserve(out, SAMPLE);
    if (!to) return dp_span("", 0);
    bool tag = false;
    for (; at < s.len && n < SAMPLE; at++) {
        char c = s.ptr[at];
        if (c == '<' && at + 1 < s.len && (s.ptr[at + 1] == '/' || s.ptr[at + 1] == '!' || (s.ptr[at + 1] | 32) >= 'a')) tag = true;
        if (!tag) to[n++] = c;
        if (c == '>') tag = false, n += n < SAMPLE ? (to[n] = ' ', 1u) : 0u;
    }
    out->len = n;
    return dp_buf_span(out);
}

/* UTF-16 without a mark: text in any script has ASCII spaces and line ends, so that zeros stand on one side. */
static const struct dp_charset *wide(struct dp_span s)
{
    size_t n = s.len < SAMPLE ? s.len : SAMPLE, even = 0, odd = 0;
    for (size_t i = 0; i + 1 < n; i += 2) even += s.ptr[i] == 0, odd += s.ptr[i + 1] == 0;
    if (odd > n / 20 && even * 8 < odd) return named("utf-16le");
    if (even > n / 20 && odd * 8 < even) return named("utf-16be");
    return NULL;
}

/* Scripts in decoded text, as counts of characters that aren't ASCII. */
struct scripts {
    size_t all, kana, half_kana, hangul, han, controls;
};
static struct scripts count_scripts(struct dp_span t)
{
    struct scripts n = {0, 0, 0, 0, 0, 0};
    for (const char *p = t.ptr, *e = p + t.len; p < e;) {
        uint32_t c = dp_utf8_next(&p);
        if (c < 0x80) continue;
        n.all++;
        n.controls += c < 0xA0;
        n.kana += c >= 0x3041 && c <= 0x30FE;
        n.half_kana += c >= 0xFF61 && c <= 0xFF9F;
        n.hangul += c >= 0xAC00 && c <= 0xD7A3;
        n.han += c >= 0x4E00 && c <= 0x9FFF;
    }
    return n;
}

/* CLD2 takes any Chinese characters for the language that the rest suggests; Japanese has kana, Korean is hangul with little else. */
static bool plausible(const char *lang, struct scripts n)
{
    if (strcmp(lang, " ja ") == 0) return n.kana * 10 > n.all && n.half_kana * 4 < n.all;
    if (strcmp(lang, " ko ") == 0) return n.hangul * 2 > n.all && n.han * 5 < n.all;
    if (strcmp(lang, " zh ") == 0 || strcmp(lang, " zh-Hant ") == 0) return n.kana * 10 < n.all && n.han * 2 > n.all;
    return true;
}

static int guess(struct dp_iconv *ic, struct dp_span s, struct dp_buf *out, struct dp_buf *scratch,
                 const struct dp_charset **best, struct dp_err *e)
{
    static const char *const candidates[][2] = {
        {"windows-1252", " en de fr es it pt nl sv da no nb nn fi is ca gl eu af ga sq id ms sw la lb "},
        {"windows-1251", " ru uk bg sr mk be kk mn tg "}, {"koi8-r", " ru uk bg "}, {"ibm866", " ru "}, {"shift_jis", " ja "},
        {"euc-jp", " ja "}, {"euc-kr", " ko "}, {"gb18030", " zh "}, {"big5", " zh-Hant "}, {"windows-1250", " pl cs sk hu sl hr ro bs sq "},
        {"iso-8859-2", " pl cs sk hu sl hr ro bs "}, {"windows-1253", " el "}, {"windows-1254", " tr az "}, {"windows-1255", " iw yi "},
        {"windows-1256", " ar fa ur "}, {"windows-1257", " lt lv et "}, {"windows-874", " th "}, {"iso-8859-5", " ru bg sr "}, {"windows-1258", " vi "}};
    *best = named("windows-1252");
    double top = 0.0;
    struct dp_span sample = sample_of(s, scratch);
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++) {
        const struct dp_charset *c = named(candidates[i][0]);
        size_t bad;
        char code[16], padded[20];
        float share;
        dp_buf_clear(out);
        DP_TRY(dp_iconv_decode(ic, c->iconv, sample, out, &bad, e));
        /* The last character may be cut by the sample's end. */
        if (bad > 1 + sample.len / 200) continue;
        dp_cld2_detect(out->len ? out->ptr : "", out->len, code, &share);
        snprintf(padded, sizeof padded, " %s ", code);
        if (!strstr(candidates[i][1], padded)) continue;
        struct scripts n = count_scripts(dp_buf_span(out));
        if (!plausible(candidates[i][1], n)) continue;
        double score = (double)share - 20.0 * (double)(bad > 1 ? bad - 1 : 0) / (double)(n.all + 1) - (double)n.controls * 0.02;
        /* Later candidates must be clearly better: the first ones are the commonest. */
        if (score > top + 0.02) top = score, *best = c;
    }
    return DP_OK;
}

static bool unicode(const struct dp_charset *c)
{
    return strncmp(c->name, "utf-", 4) == 0;
}

int dp_charset_decode(struct dp_iconv *ic, struct dp_span s, struct dp_span declared, bool html, struct dp_buf *out,
                      struct dp_buf *scratch, struct dp_charset_result *r, struct dp_err *e)
{
    const struct dp_charset *utf8 = &charsets[0], *c = NULL;
    bool marked = true;
    *r = (struct dp_charset_result){utf8, s, 0};
    if (s.len >= 3 && memcmp(s.ptr, "\xEF\xBB\xBF", 3) == 0) c = utf8, s = dp_span(s.ptr + 3, s.len - 3);
    else if (s.len >= 2 && memcmp(s.ptr, "\xFF\xFE", 2) == 0) c = named("utf-16le"), s = dp_span(s.ptr + 2, s.len - 2);
    else if (s.len >= 2 && memcmp(s.ptr, "\xFE\xFF", 2) == 0) c = named("utf-16be"), s = dp_span(s.ptr + 2, s.len - 2);
    else marked = false;
    if (!c) c = dp_charset_find(declared);
    if (!c && html) c = dp_charset_prescan(s);
    size_t ok = dp_utf8_valid_len(s.ptr, s.len);
    if (ok == s.len && !marked && (!c || !unicode(c))) {
        size_t ascii = dp_utf8_ascii_len(s.ptr, s.len), lead = 0;
        for (size_t i = ascii; i < s.len && lead < 4; i++) lead += (unsigned char)s.ptr[i] >= 0xC2;
        bool escapes = memchr(s.ptr, 0x1B, s.len) != NULL;
        const struct dp_charset *w = c ? NULL : wide(s);
        if (w) c = w;
        else if (!c && escapes && (memmem(s.ptr, s.len, "\x1B$B", 3) || memmem(s.ptr, s.len, "\x1B$@", 3))) c = named("iso-2022-jp");
        else if (!c || lead >= 4 || (ascii == s.len && !escapes)) c = c && lead == 0 ? c : utf8;
    }
    dp_buf_clear(out);
    if (c && unicode(c) && c != utf8 && !marked && !wide(s)) c = ok == s.len ? utf8 : NULL;
    if (c == utf8 && ok < s.len && !marked) {
        size_t high = 0, bad = dp_utf8_repair(s, out);
        for (size_t i = 0; i < s.len; i++) high += (unsigned char)s.ptr[i] >= 0xC0;
        if (bad * 2 > high) c = NULL;
        dp_buf_clear(out);
    }
    if (!c) c = wide(s);
    if (!c) DP_TRY(guess(ic, s, out, scratch, &c, e));
    r->charset = c;
    dp_buf_clear(out);
    if (c == utf8 && ok == s.len) {
        r->text = s;
        return DP_OK;
    }
    /* ASCII in any of the others but the wide and the escaped ones is itself. */
    if (ok == s.len && !unicode(c) && strcmp(c->name, "iso-2022-jp") != 0 && dp_utf8_ascii_len(s.ptr, s.len) == s.len) {
        r->text = s;
        return DP_OK;
    }
    if (c == utf8) r->replaced = dp_utf8_repair(s, out);
    else DP_TRY(dp_iconv_decode(ic, c->iconv, s, out, &r->replaced, e));
    DP_TRY(dp_buf_check(out, "text after decoding", e));
    r->text = dp_buf_span(out);
    return DP_OK;
}
