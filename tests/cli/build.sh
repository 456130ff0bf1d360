#!/usr/bin/env bash
# The targets around the build: help, dist, compdb, man, clang; nothing is written outside build/.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
unset MAKEFLAGS MFLAGS MAKELEVEL
expect 0 make help; for t in all demo check parity install uninstall dist compdb cov fuzz; do grep -qE "^  $t " "$work/out" && ok || bad "make help doesn't list $t"; done
expect 2 make MODE=fast all; says "$work/err" "MODE is"
# compile_commands.json: one entry a source, and every entry names a file that is there.
expect 0 make COMPDB="$work/compdb.json" compdb
sources=$(ls base/*.c ingest/*.c clean/*.c clean/*.cc dedup/*.c tokenizer/*.c shards/*.c trainer_feed/*.c trainer/*.c daemon/*.c cli/*.c | wc -l)
n=$(grep -oE '"file":"(base|ingest|clean|dedup|tokenizer|shards|trainer_feed|trainer|daemon|cli)/[^"]*"' "$work/compdb.json" | sort -u | wc -l); same "$n" "$sources" "sources in compile_commands.json"
for f in $(sed -n 's/.*"file":"\([^"]*\)".*/\1/p' "$work/compdb.json"); do [ -e "$f" ] || bad "compile_commands.json names $f"; done; ok
if command -v python3 >/dev/null; then expect 0 python3 -m json.tool "$work/compdb.json"; else echo "skip: no python3 to read compile_commands.json"; fi
# The source archive: every tracked file, and make in it knows what to do.
if git rev-parse -q --verify HEAD >/dev/null 2>&1; then
  expect 0 make dist; a=$(ls build/dpipe-*.tar.gz); name=$(basename "$a" .tar.gz)
  expect 0 tar xzf "$a" -C "$work"
  same "$(cd "$work/$name" && find . -type f | wc -l)" "$(git ls-tree -r --name-only HEAD | wc -l)" "files in $a"
  expect 0 make -C "$work/$name" lint; expect 0 make -C "$work/$name" -n all tests benches; says "$work/out" "cli/main.c"
else echo "skip: not a git clone: no make dist"; fi
finish
