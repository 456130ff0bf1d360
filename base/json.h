/* base/json.h - JSON three ways (RFC 8259).
 *
 * 1. dp_json: a tree, for small files and API bodies (jansson behind it). Input must be UTF-8; duplicate
 *    keys, NUL bytes, trailing bytes and depth over 512 are errors.
 * 2. dp_jsonw: a streaming writer into a dp_buf; the caller's calls give the structure. Key order is the order of
 *    the calls, numbers and escapes have one form, so equal content gives equal bytes.
 * 3. dp_json_fields: the hot path: members of one flat JSONL line without a tree. */
#ifndef DP_BASE_JSON_H
#define DP_BASE_JSON_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>

struct dp_json; /* a value; children belong to their root */

/* Parse all of `text`; `name` goes into the error with line and column. Free the root with dp_json_free. */
int dp_json_parse(struct dp_json **out, struct dp_span text, const char *name, struct dp_err *e);
int dp_json_parse_file(struct dp_json **out, const char *path, size_t bytes_max, struct dp_err *e);
void dp_json_free(struct dp_json *root);

enum dp_json_kind { DP_JSON_NULL, DP_JSON_BOOL, DP_JSON_INT, DP_JSON_REAL, DP_JSON_STRING, DP_JSON_ARRAY, DP_JSON_OBJECT };
enum dp_json_kind dp_json_kind(const struct dp_json *v);
/* A member of an object, NULL when v is NULL, no object, or has no such key. */
struct dp_json *dp_json_get(const struct dp_json *v, const char *key);
size_t dp_json_count(const struct dp_json *v); /* elements of an array, members of an object, else 0 */
struct dp_json *dp_json_at(const struct dp_json *v, size_t i); /* element of an array, in order */
/* Walk an object in file order: it = NULL to start; returns the next iterator or NULL. */
void *dp_json_next(const struct dp_json *object, void *it, const char **key, struct dp_json **value);
/* With a default where v is NULL or of another kind. */
struct dp_span dp_json_str(const struct dp_json *v); /* ptr NULL unless a string */
int64_t dp_json_int(const struct dp_json *v, int64_t otherwise);
double dp_json_real(const struct dp_json *v, double otherwise); /* integers too */
bool dp_json_bool(const struct dp_json *v, bool otherwise);

struct dp_jsonw {
    struct dp_buf *buf;
    bool comma, after_key;
    int indent; /* spaces a level; 0 for one line */
    int depth;
};
void dp_jsonw_init(struct dp_jsonw *w, struct dp_buf *buf, int indent);
void dp_jsonw_begin(struct dp_jsonw *w, char open); /* '{' or '[' */
void dp_jsonw_end(struct dp_jsonw *w, char close);  /* '}' or ']' */
void dp_jsonw_key(struct dp_jsonw *w, const char *key);
void dp_jsonw_key_span(struct dp_jsonw *w, struct dp_span key);
/* Invalid UTF-8 is written as U+FFFD, one for each bad byte. */
void dp_jsonw_str(struct dp_jsonw *w, struct dp_span s);
void dp_jsonw_cstr(struct dp_jsonw *w, const char *s);
void dp_jsonw_int(struct dp_jsonw *w, int64_t v);
void dp_jsonw_uint(struct dp_jsonw *w, uint64_t v);
/* Shortest decimal that reads back equal; NaN and infinities become null. */
void dp_jsonw_real(struct dp_jsonw *w, double v);
void dp_jsonw_bool(struct dp_jsonw *w, bool v);
void dp_jsonw_null(struct dp_jsonw *w);
void dp_jsonw_raw(struct dp_jsonw *w, struct dp_span json); /* a finished value */
void dp_jsonw_copy(struct dp_jsonw *w, const struct dp_json *v); /* a value that was read; NULL: null */
/* "key":value */
static inline void dp_jsonw_member(struct dp_jsonw *w, const char *key, const char *v)
{
    dp_jsonw_key(w, key);
    dp_jsonw_cstr(w, v);
}
static inline void dp_jsonw_member_int(struct dp_jsonw *w, const char *key, int64_t v)
{
    dp_jsonw_key(w, key);
    dp_jsonw_int(w, v);
}
static inline void dp_jsonw_member_uint(struct dp_jsonw *w, const char *key, uint64_t v)
{
    dp_jsonw_key(w, key);
    dp_jsonw_uint(w, v);
}
static inline void dp_jsonw_member_real(struct dp_jsonw *w, const char *key, double v)
{
    dp_jsonw_key(w, key);
    dp_jsonw_real(w, v);
}
static inline void dp_jsonw_member_bool(struct dp_jsonw *w, const char *key, bool v)
{
    dp_jsonw_key(w, key);
    dp_jsonw_bool(w, v);
}
static inline void dp_jsonw_member_null(struct dp_jsonw *w, const char *key)
{
    dp_jsonw_key(w, key);
    dp_jsonw_null(w);
}
/* Append s as the inside of a JSON string, escaped, without the quotes. */
void dp_json_escape(struct dp_buf *buf, struct dp_span s);

/* One member asked of a line. After the call: `raw` is the value's text (quotes included for strings), ptr NULL when
 * absent; `str` is the decoded string when the value is one (in the line itself, or in the arena when it had escapes). */
struct dp_json_field {
    const char *key;
    struct dp_span raw, str;
};
/* Find the top-level members `f[0..n)` of the object in `line`; later duplicates of a key win. Lone surrogates decode to
 * U+FFFD. Checks structure and string syntax of all of the line; not the UTF-8 of strings. DP_CORRUPT names the byte offset. */
int dp_json_fields(struct dp_span line, struct dp_json_field *f, size_t n, struct dp_arena *mem, struct dp_err *e);

#endif
