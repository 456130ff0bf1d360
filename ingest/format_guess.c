/* Names are believed for text formats, never for binary ones: a .html full of NULs is binary, a PNG named .txt is a PNG. */
#include "ingest/format_guess.h"

#include <strings.h>

bool dp_name_ends(struct dp_span name, const char *suffix)
{
    size_t n = strlen(suffix);
    return name.len >= n && strncasecmp(name.ptr + name.len - n, suffix, n) == 0;
}

static const struct {
    unsigned char len;
    const char *bytes;
} magics[] = {
    {4, "\x7f" "ELF"}, {4, "\x89PNG"}, {3, "\xff\xd8\xff"}, {4, "GIF8"}, {5, "%PDF-"}, {4, "RIFF"}, {4, "OggS"},
    {4, "fLaC"}, {3, "ID3"}, {4, "wOFF"}, {4, "wOF2"}, {4, "\0\1\0\0"}, {4, "\xca\xfe\xba\xbe"}, {4, "\xfe\xed\xfa\xce"},
    {4, "\xcf\xfa\xed\xfe"}, {4, "\x1a\x45\xdf\xa3"}, {4, "\xd0\xcf\x11\xe0"}, {4, "PK\3\4"}, {4, "Rar!"}, {6, "7z\xbc\xaf\x27\x1c"},
    {3, "\x1f\x8b\x08"}, {16, "SQLite format 3"}, {4, "\xde\x12\x04\x95"}, {4, "\x95\x04\x12\xde"}, {4, "\0asm"}, {4, "II*\0"},
    {4, "MM\0*"}, {4, "8BPS"}, {4, "!BDN"}, {5, "{\\rtf"}, {4, "%!PS"}, {4, "\x28\xb5\x2f\xfd"}, {6, "\xfd" "7zXZ\0"},
};

/* UTF-16 and UTF-32 without a mark: NULs sit at one parity only (at the other there are those of U+4E00 and the like). */
static bool wide_text(const unsigned char *p, size_t n)
{
    size_t even = 0, odd = 0;
    for (size_t i = 0; i < n; i++)
        if (!p[i]) (*(i & 1 ? &odd : &even))++;
    size_t most = even > odd ? even : odd, least = even > odd ? odd : even;
    return most > n / 5 && (least < n / 100 + 1 || least * 8 < most || least > n / 4);
}

bool dp_looks_binary(struct dp_span first)
{
    const unsigned char *p = (const unsigned char *)first.ptr;
    size_t n = first.len < 2048 ? first.len : 2048; /* enough for all but hand-made cases, and every page pays for it */
    for (size_t i = 0; i < sizeof magics / sizeof *magics; i++)
        if (n >= magics[i].len && memcmp(p, magics[i].bytes, magics[i].len) == 0) return true;
    if (n >= 8 && (memcmp(p + 4, "ftyp", 4) == 0)) return true;
    if (n >= 2 && ((p[0] == 0xff && p[1] == 0xfe) || (p[0] == 0xfe && p[1] == 0xff))) return false;
    size_t nul = 0, control = 0;
    /* TAB, LF, FF, CR, BS (overstrikes), ESC (ISO-2022, terminal colours) occur in text */
    const unsigned fine = 1u << 9 | 1u << 10 | 1u << 12 | 1u << 13 | 1u << 8 | 1u << 27;
    for (size_t i = 0; i < n; i++) {
        if (p[i] >= 32) continue;
        nul += p[i] == 0;
        control += !(fine >> p[i] & 1);
    }
    if (nul && wide_text(p, n)) return false;
    return nul > n / 512 || control > n / 32;
}

/* First bytes after white space and a byte order mark. */
static struct dp_span skip_space(struct dp_span s)
{
    if (s.len >= 3 && memcmp(s.ptr, "\xef\xbb\xbf", 3) == 0) s = dp_span(s.ptr + 3, s.len - 3);
    size_t i = 0;
    while (i < s.len && (s.ptr[i] == ' ' || (s.ptr[i] >= 9 && s.ptr[i] <= 13))) i++;
    return dp_span(s.ptr + i, s.len - i);
}

static bool begins(struct dp_span s, const char *word)
{
    size_t n = strlen(word);
    return s.len >= n && strncasecmp(s.ptr, word, n) == 0;
}

bool dp_looks_html(struct dp_span first)
{
    static const char *const tags[] = {"<!doctype html", "<html", "<head", "<script", "<iframe", "<h1", "<div", "<font", "<table",
                                       "<a", "<style", "<title", "<b", "<body", "<br", "<p", "<meta", "<link", "<center", "<span"};
    struct dp_span s = skip_space(first);
    for (int comments = 0; comments < 16 && begins(s, "<!--"); comments++) {
        const char *end = memmem(s.ptr + 4, s.len - 4, "-->", 3);
        if (!end) return false;
        s = skip_space(dp_span(end + 3, s.len - (size_t)(end + 3 - s.ptr)));
    }
    if (begins(s, "<?xml")) { /* XHTML */
        const char *end = memmem(s.ptr, s.len < 1024 ? s.len : 1024, "?>", 2);
        if (!end) return false;
        s = skip_space(dp_span(end + 2, s.len - (size_t)(end + 2 - s.ptr)));
    }
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        size_t n = strlen(tags[i]);
        if (begins(s, tags[i]) && s.len > n && strchr(" \t\r\n\f>/", s.ptr[n]) && s.ptr[n]) return true;
    }
    return false;
}

enum dp_format dp_format_of_file(struct dp_span name, struct dp_span first)
{
    static const char *const html[] = {".html", ".htm", ".xhtml", ".shtml", ".xht"};
    static const char *const markdown[] = {".md", ".markdown", ".mdown", ".mkd"};
    static const char *const xml[] = {".xml", ".svg", ".rss", ".atom", ".xsl", ".xsd", ".rdf", ".ncx", ".opf"};
    if (dp_looks_binary(first)) return DP_FORMAT_BINARY;
    for (size_t i = 0; i < 5; i++)
        if (dp_name_ends(name, html[i])) return DP_FORMAT_HTML;
    for (size_t i = 0; i < 4; i++)
        if (dp_name_ends(name, markdown[i])) return DP_FORMAT_MARKDOWN;
    for (size_t i = 0; i < 9; i++)
        if (dp_name_ends(name, xml[i])) return DP_FORMAT_XML;
    /* Source code may begin with a tag (templates, JSX): other suffixes are believed. */
    const char *slash = memrchr(name.ptr, '/', name.len), *dot = memrchr(name.ptr, '.', name.len);
    bool suffix = dot && (!slash || dot > slash + 1) && (size_t)(name.ptr + name.len - dot) <= 6;
    if (!suffix || dp_name_ends(name, ".txt")) {
        if (dp_looks_html(first)) return DP_FORMAT_HTML;
        if (begins(skip_space(first), "<?xml")) return DP_FORMAT_XML;
    }
    return DP_FORMAT_TEXT;
}

enum dp_format dp_format_of_mime(struct dp_span mime, struct dp_span charset, struct dp_span first, bool plain_text_html)
{
    /* Bytes of UTF-16 look like anything; who declares it for a text is believed. */
    bool wide = (begins(charset, "utf-16") || begins(charset, "utf-32")) && begins(mime, "text/");
    if (!wide && dp_looks_binary(first)) return DP_FORMAT_BINARY;
    if (dp_span_is(mime, "text/html") || dp_span_is(mime, "application/xhtml+xml")) return DP_FORMAT_HTML;
    if (dp_span_is(mime, "text/markdown")) return DP_FORMAT_MARKDOWN;
    if (dp_span_is(mime, "text/plain"))
        return plain_text_html && dp_looks_html(first) ? DP_FORMAT_HTML : DP_FORMAT_TEXT;
    if (dp_span_is(mime, "text/xml") || dp_span_is(mime, "application/xml")
        || (mime.len > 4 && memcmp(mime.ptr + mime.len - 4, "+xml", 4) == 0))
        return dp_looks_html(first) ? DP_FORMAT_HTML : DP_FORMAT_XML;
    if (begins(mime, "text/") || begins(mime, "application/json") || begins(mime, "application/javascript")) return DP_FORMAT_TEXT;
    bool unknown = mime.len == 0 || dp_span_is(mime, "application/octet-stream") || dp_span_is(mime, "unknown/unknown")
                   || dp_span_is(mime, "application/unknown") || dp_span_is(mime, "*/*") || !memchr(mime.ptr, '/', mime.len);
    if (!unknown) return DP_FORMAT_BINARY;
    return dp_looks_html(first) ? DP_FORMAT_HTML : begins(skip_space(first), "<?xml") ? DP_FORMAT_XML : DP_FORMAT_TEXT;
}
