/* ingest/format_guess.h - what a record's bytes are, from its name, its declared type and its first bytes.
 *
 * The rules follow WHATWG MIME Sniffing (section 7.1) where they speak of HTML, and file suffixes otherwise. Pure functions. */
#ifndef DP_INGEST_FORMAT_GUESS_H
#define DP_INGEST_FORMAT_GUESS_H

#include "base/batch.h"

#include <stdbool.h>

/* For a file or archive member. `first`: its first bytes (up to 64 KiB). */
enum dp_format dp_format_of_file(struct dp_span name, struct dp_span first);
/* For a web record. mime and charset as declared: lower case, no parameters, may be empty. */
enum dp_format dp_format_of_mime(struct dp_span mime, struct dp_span charset, struct dp_span first, bool plain_text_html);
/* Bytes that are text in no charset: a known magic, or control bytes. UTF-16 and UTF-32 count as text. */
bool dp_looks_binary(struct dp_span first);
bool dp_looks_html(struct dp_span first);
/* Whether name ends with the suffix, in any case. */
bool dp_name_ends(struct dp_span name, const char *suffix);

#endif
