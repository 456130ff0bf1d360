#!/bin/sh
# The libraries that a Python package of dpipe carries, into a folder:
#   libdpipe-feed.so.0  feeds from manifests and servers, the tokenizer; OpenSSL is in it, libzstd, libjansson and libpcre2 lie beside it: of the system it needs libc alone
#   libdpipe.so.0       the whole of it, for workspaces; the libraries it is linked with are the system's
# usage: tools/wheel-libraries.sh LIBDPIPE.so LIBDPIPE.a FOLDER       CC=gcc; without a compiler the whole library alone
set -eu
cd "$(dirname "$0")/.."
library=$1 archive=$2 to=$3 cc=${CC:-gcc}
strip --strip-unneeded -o "$to/libdpipe.so.0" "$library"
command -v "$cc" >/dev/null && command -v pkg-config >/dev/null || exit 0
map=$(mktemp); trap 'rm -f "$map"' EXIT
# Only the functions for other languages are visible, so that nothing here meets another OpenSSL in the process.
echo '{ global: dp_abi_*; dp_feed_abi_*; dp_tokenizer_abi_*; local: *; };' >"$map"
static() { f=$("$cc" -print-file-name="lib$1.a"); if [ -e "$f" ]; then echo "$f"; else echo "-l$1"; fi; }
want=; for f in dp_abi_version dp_feed_abi_open dp_tokenizer_abi_open; do want="$want -Wl,-u,$f"; done
# shellcheck disable=SC2046,SC2086
"$cc" -std=c17 -O2 -Wall -Wextra -fPIC -D_GNU_SOURCE -I. -shared -Wl,-soname,libdpipe-feed.so.0 "-Wl,--version-script=$map" -Wl,-z,defs -Wl,--as-needed -Wl,--gc-sections \
  -Wl,-rpath,'$ORIGIN' -o "$to/libdpipe-feed.so.0" python/portable_source.c $want "$archive" $(static ssl) $(static crypto) $(pkg-config --libs libzstd jansson libpcre2-8) \
  -lm -lpthread
strip --strip-unneeded "$to/libdpipe-feed.so.0"
for l in $(readelf -d "$to/libdpipe-feed.so.0" | sed -n 's/.*NEEDED.*\[\(lib[a-z0-9-]*\.so[0-9.]*\)\]/\1/p' | grep -E 'zstd|jansson|pcre2|ssl|crypto'); do
  cp -L "$("$cc" -print-file-name="$l")" "$to/"
done
mkdir -p "$to/licenses"
for p in libzstd1 libjansson4 libpcre2-8-0 libssl3; do if [ -e /usr/share/doc/$p/copyright ]; then cp -L /usr/share/doc/$p/copyright "$to/licenses/$p.txt"; fi; done
