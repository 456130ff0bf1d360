#!/usr/bin/env bash
# What `make install` leaves: each header compiles alone, a program of a user's links by pkg-config and reads a batch; uninstall leaves no file.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
unset MAKEFLAGS MFLAGS MAKELEVEL
cc=${CC:-gcc} d=$work/root
export PKG_CONFIG_PATH="$d/opt/dp/lib/pkgconfig"
expect 0 make install MODE="$(basename "${BUILD:-build/release}")" DESTDIR="$d" PREFIX=/opt/dp
expect 0 "$d/opt/dp/bin/dpipe" --version
[ -s "$d/opt/dp/share/man/man1/dpipe-run.1" ] && ok || bad "no man page of run"
n=0
for h in "$d"/opt/dp/include/dpipe/*/*.h; do
  n=$((n + 1)); echo "#include \"${h#"$d"/opt/dp/include/dpipe/}\"" >"$work/one.c"
  expect 0 "$cc" -std=c17 -Wall -Wextra -Wpedantic -Werror -fsyntax-only -I "$d/opt/dp/include/dpipe" "$work/one.c"
done
[ $n -ge 9 ] && ok || bad "$n headers installed"
expect 0 pkg-config --cflags --libs dpipe; flags=$(cat "$work/out")
expect 0 pkg-config --static --libs dpipe; says "$work/out" "-lcld2"
expect 0 pkg-config --variable=archive_libs dpipe; archive=$(cat "$work/out")
corpus "$work/c"; workspace "$work/w" "$work/c"; expect 0 "$DPIPE" run -q -w "$work/w" --until shard
m=$(ls "$work"/w/store/manifest-*.json)
expect 0 "$DPIPE" feed --manifest "$m" --seq-len 16 --batch 4 --steps 2 --dump "$work/want"
# shellcheck disable=SC2086
expect 0 "$cc" -std=c17 -D_GNU_SOURCE -o "$work/shared" tests/cli/install_feed.c $flags
LD_LIBRARY_PATH="$d/opt/dp/lib" expect 0 "$work/shared" "$m"; cmp -s "$work/out" "$work/want" && ok || bad "the program's batches aren't those of dpipe feed"
LD_LIBRARY_PATH="$d/opt/dp/lib" expect 0 "$work/shared" "$m" "$work/sock"; cmp -s "$work/out" "$work/want" && ok || bad "the program's batches through a ring aren't those of dpipe feed"
LD_LIBRARY_PATH="$d/opt/dp/lib" expect 0 "$work/shared" "$m" "127.0.0.1:$((20000 + $$ % 20000))"; cmp -s "$work/out" "$work/want" && ok || bad "the program's batches over TCP aren't those of dpipe feed"
# shellcheck disable=SC2086
expect 0 "$cc" -std=c17 -D_GNU_SOURCE -o "$work/archive" tests/cli/install_feed.c ${flags%-ldpipe*} $archive
expect 0 "$work/archive" "$m"; cmp -s "$work/out" "$work/want" && ok || bad "the program linked with libdpipe.a gives other batches"
# The program of docs/c-api.md, with the shared library and with the archive; the header is C++ too.
sed -n '/^```c$/,/^```$/p' docs/c-api.md | sed '/^```/d' >"$work/app.c"
# shellcheck disable=SC2086
expect 0 "$cc" -std=c17 -Wall -Wextra -Werror -o "$work/app" "$work/app.c" $flags
# shellcheck disable=SC2086
expect 0 "$cc" -std=c17 -o "$work/app-archive" "$work/app.c" ${flags%-ldpipe*} $archive
printf 'the river\303\251' | expect 0 "$DPIPE" tokenize --tokenizer tests/data/tokenizer/hf.json --whole-file; ids=$(sed 's/[^0-9,]//g; s/,/ /g' "$work/out")
LD_LIBRARY_PATH="$d/opt/dp/lib" expect 0 "$work/app" tests/data/tokenizer/hf.json "$(printf 'the river\303\251')"; cp "$work/out" "$work/shared.out"
same "$(sed -n 's/ \[.*//p' "$work/out" | paste -sd' ')" "$ids" "ids of the C program"
says "$work/out" "$(printf 'the river\303\251')"; says "$work/out" "$(echo "$ids" | wc -w) ids, $(echo "$ids" | wc -w) in a stream"
expect 0 "$work/app-archive" tests/data/tokenizer/hf.json "$(printf 'the river\303\251')"; cmp -s "$work/out" "$work/shared.out" && ok || bad "the program linked with libdpipe.a gives other ids"
# And with the library that a wheel carries, which says at link time what it lacks.
if [ "$(basename "${BUILD:-build/release}")" = release ]; then
  expect 0 tools/wheel-libraries.sh "$BUILD/libdpipe.so" "$BUILD/libdpipe.a" "$work"; mkdir "$work/wl"; cp "$work"/lib*.so* "$work/wl/"; ln -s libdpipe-feed.so.0 "$work/wl/libdpipe-feed.so"
  expect 0 "$cc" -std=c17 -I. -o "$work/app-feed" "$work/app.c" -L"$work/wl" -ldpipe-feed
  LD_LIBRARY_PATH="$work/wl" expect 0 "$work/app-feed" tests/data/tokenizer/hf.json "$(printf 'the river\303\251')"; cmp -s "$work/out" "$work/shared.out" && ok || bad "the program with a wheel's library gives other ids"
fi
LD_LIBRARY_PATH="$d/opt/dp/lib" expect 1 "$work/app" "$work/none.json" x; says "$work/err" "none.json"
if command -v c++ >/dev/null; then echo '#include "tokenizer/tokenizer_abi.h"' >"$work/one.cc"; expect 0 c++ -std=c++17 -Wall -Wextra -Wpedantic -Werror -fsyntax-only -I "$d/opt/dp/include/dpipe" "$work/one.cc"; fi
expect 0 make uninstall DESTDIR="$d" PREFIX=/opt/dp
same "$(find "$d" ! -type d | wc -l)" 0 "files after make uninstall"; [ -e "$d/opt/dp/include/dpipe" ] && bad "a folder of headers is left" || ok
finish
