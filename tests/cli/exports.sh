#!/usr/bin/env bash
# export-shards: every format from flat and compressed shards, links, replacing, kill -9 at random moments.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
RANDOM=${DP_SEED:-1}
corpus "$work/c"
workspace "$work/w" "$work/c"; expect 0 "$DPIPE" run -q -w "$work/w" --until shard
workspace "$work/z" "$work/c"; sed -i 's/shards: {/shards: {compression: zstd, /' "$work/z/recipe.yaml"; expect 0 "$DPIPE" run -q -w "$work/z" --until shard
says <(ls "$work/z/store") ".zbin"; says "$work/z/store/"manifest-*.json '"compression": "zstd"'
expect 0 "$DPIPE" verify -w "$work/z"; says "$work/out" "whole"
body() { (cd "$1" && find . -type f ! -name dpipe-export.json -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1); }
for f in megatron llmc nanogpt datatrove olmo mds; do
  expect 0 "$DPIPE" export-shards -w "$work/w" --format $f -o "$work/x/$f" --json; says "$work/out" "\"format\":\"$f\""
  case $f in llmc | mds | nanogpt) ;; *) grep -q '"linked":0,' "$work/out" && bad "$f: nothing is linked" || ok ;; esac
  expect 0 "$DPIPE" export-shards -w "$work/w" --format $f -o "$work/copy/$f" --no-link --json; says "$work/out" '"linked":0'
  expect 0 "$DPIPE" export-shards -w "$work/z" --format $f -o "$work/y/$f"
  same "$(body "$work/x/$f")" "$(body "$work/copy/$f")" "$f: linked and copied"
  same "$(body "$work/x/$f")" "$(body "$work/y/$f")" "$f: from flat and compressed shards"
  expect 0 "$DPIPE" export-shards -w "$work/w" --format $f -o "$work/m/$f" --merge
done
expect 0 "$DPIPE" export-shards -w "$work/w" --format mds --mds-zstd -o "$work/x/mz"
if command -v zstd >/dev/null; then
  expect 0 zstd -qt "$work/x/mz/shard.00000.mds.zstd"
  for b in "$work"/z/store/shard-*.zbin; do zstd -qdc --stdout "$b"; done | sha256sum >"$work/unpacked"
  cat "$work"/w/store/shard-*.bin | sha256sum >"$work/flat"
  [ "$(ls "$work"/w/store/shard-*.bin | wc -l)" -gt 1 ] || cmp -s "$work/flat" "$work/unpacked" && ok || bad "zstd -d of a compressed body"
fi
expect 64 "$DPIPE" export-shards -w "$work/w" -o "$work/n"; says "$work/err" "--format"
expect 64 "$DPIPE" export-shards -w "$work/w" --format parquet -o "$work/n"; says "$work/err" "mds"
mkdir "$work/n"; : >"$work/n/mine"; expect 78 "$DPIPE" export-shards -w "$work/w" --format mds -o "$work/n"; says "$work/err" "no export"
# The old export stays beside it.
expect 0 "$DPIPE" export -w "$work/z" -f olmo -o "$work/old"; cmp -s "$work/old/tokens.npy" "$work/m/olmo/tokens.npy" && ok || bad "export of compressed shards"
# kill -9: no folder, or all of it; then the next export succeeds and leaves nothing beside.
want=$(body "$work/copy/mds"); n=0
for i in $(seq 1 "${DP_KILLS:-30}"); do
  [ $((i % 2)) = 0 ] || rm -rf "$work/k/out"
  "$DPIPE" export-shards -q -w "$work/w" --format mds --no-link -o "$work/k/out" >/dev/null 2>&1 & pid=$!
  sleep "0.0$((RANDOM % 60 + 10))"; kill -9 $pid 2>/dev/null && n=$((n + 1)); wait $pid 2>/dev/null
  if [ -e "$work/k/out" ]; then same "$(body "$work/k/out")" "$want" "export after kill $i"; else ok; fi
done
expect 0 "$DPIPE" export-shards -q -w "$work/w" --format mds -o "$work/k/out"; same "$(body "$work/k/out")" "$want" "export after all kills"
same "$(ls -A "$work/k")" out "beside the export"
[ $n -gt 0 ] && ok || bad "nothing was killed"
finish
