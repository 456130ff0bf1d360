#!/bin/sh
# Install what dpipe is built and tested with, where apt-get is; elsewhere say what is needed.
# usage: tools/install-deps.sh [--print]
set -eu
packages="gcc g++ make pkg-config libarchive-dev libzstd-dev libpcre2-dev libsqlite3-dev libssl-dev libyaml-dev libjansson-dev
xz-utils zstd libdeflate-dev zlib1g-dev libbz2-dev liblzma-dev liblz4-dev libbrotli-dev libxxhash-dev libcld2-dev libevent-dev"
if [ "${1-}" = --print ]; then echo $packages; exit 0; fi
if ! command -v apt-get >/dev/null 2>&1; then
  cat >&2 <<TEXT
dpipe needs a C17 compiler, a C++ compiler (for CLD2), GNU make, pkg-config and the development files of:
libarchive zstd pcre2 sqlite3 openssl libyaml jansson libdeflate zlib bzip2 xz(liblzma) lz4 brotli(decoder) xxhash cld2 libevent
TEXT
  for t in gcc g++ make pkg-config; do command -v $t >/dev/null 2>&1 || echo "missing: $t" >&2; done
  exit 69
fi
missing=
for p in $packages; do
  dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
echo "dpipe: installing$missing" >&2
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
$sudo apt-get update -qq
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
