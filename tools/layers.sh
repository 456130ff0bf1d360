#!/bin/sh
# A file includes only its own layer and lower ones; ingest, clean, dedup and tokenizer never each other. Third-party headers
# stand in one file each (OpenSSL's TLS and its digests apart). usage: tools/layers.sh   (exit 1 and a line for each breach)
set -eu
cd "$(dirname "$0")/.."
awk_prog='
BEGIN { rank["base"]=0; rank["ingest"]=rank["clean"]=rank["dedup"]=rank["tokenizer"]=1; rank["shards"]=2; rank["trainer_feed"]=3; rank["trainer"]=4; rank["daemon"]=5; rank["cli"]=6 }
/^[ \t]*#[ \t]*include[ \t]*"/ {
  split(FILENAME, f, "/"); inc=$0; sub(/^[^"]*"/, "", inc); sub(/".*/, "", inc); split(inc, i, "/")
  if (!(i[1] in rank)) { printf "%s:%d: include \"%s\" is not written from the root\n", FILENAME, FNR, inc; bad=1; next }
  if (rank[i[1]] > rank[f[1]] || (rank[i[1]] == rank[f[1]] && i[1] != f[1])) { printf "%s:%d: %s must not include %s\n", FILENAME, FNR, f[1], inc; bad=1 }
}
/^[ \t]*#[ \t]*include[ \t]*<(archive|archive_entry|zstd|pcre2|sqlite3|yaml|jansson|libdeflate|zlib|lzma|bzlib|lz4|lz4frame|xxhash|brotli\/[a-z]*|openssl\/[a-z]*|cld2\/[a-z\/_0-9]*)\.h>/ {
  split(FILENAME, f, "/"); lib=$0; sub(/^[^<]*</, "", lib); sub(/\.h>.*/, "", lib); sub(/_entry$/, "", lib); sub(/^lz4frame$/, "lz4", lib); if (lib ~ /^openssl/) sub(/\/(bio|err|ssl|x509v3)$/, "-tls", lib); sub(/\/.*/, "", lib)
  if ((f[1] SUBSEP lib) in seen && seen[f[1],lib] != FILENAME) { printf "%s:%d: <%s.h> is already wrapped by %s\n", FILENAME, FNR, lib, seen[f[1],lib]; bad=1 }
  seen[f[1],lib]=FILENAME
}
END { exit bad }'
awk "$awk_prog" base/*.[ch] ingest/*.[ch] clean/*.[ch] clean/*.cc dedup/*.[ch] tokenizer/*.[ch] shards/*.[ch] trainer_feed/*.[ch] trainer/*.[ch] daemon/*.[ch] cli/*.[ch]
