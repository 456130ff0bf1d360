#!/usr/bin/env bash
# tokenize: offsets, counts and totals, and caches, which never change an id.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
t="--tokenizer tests/data/tokenizer/hf.json"
printf 'the caf\303\251s\n\n\360\237\230\200\n' >"$work/a"; words 7 3000 >"$work/b"
# shellcheck disable=SC2086
{
expect 0 "$DPIPE" tokenize $t --offsets bytes "$work/a"; cp "$work/out" "$work/bytes"
expect 0 "$DPIPE" tokenize $t "$work/a"; sed 's/,"offsets":.*/}/' "$work/bytes" | cmp -s - "$work/out" && ok || bad "ids with offsets aren't those without"
same "$(sed -n 2p "$work/bytes")" '{"ids":[],"offsets":[]}' "an empty line"
same "$(sed -n '1s/.*"offsets":\[\[0,.*,\([0-9]*\)\]\]}/\1/p' "$work/bytes")" 10 "bytes of the first line"
expect 0 "$DPIPE" tokenize $t --offsets chars "$work/a"
same "$(sed -n '1s/.*"offsets":\[\[0,.*,\([0-9]*\)\]\]}/\1/p' "$work/out")" 9 "characters of the first line"
same "$(sed -n '3s/.*"offsets"://p' "$work/out" | sed 's/\[0,1\]//g; s/,//g')" "[]}" "tokens inside one character"
expect 64 "$DPIPE" tokenize $t --count --offsets bytes "$work/a"; expect 64 "$DPIPE" tokenize $t --total "$work/a"
# A folder is the files below it.
mkdir -p "$work/dir/sub"; cp "$work/a" "$work/dir/sub/a"; cp "$work/b" "$work/dir/b"
for m in "" --whole-file --count; do
  expect 0 "$DPIPE" tokenize $t $m "$work/dir/b" "$work/dir/sub/a"; cp "$work/out" "$work/files"; expect 0 "$DPIPE" tokenize $t $m "$work/dir"; cmp -s "$work/out" "$work/files" && ok || bad "a folder isn't its files ($m)"
done
expect 0 "$DPIPE" tokenize $t -q -o "$work/s1" "$work/dir"; expect 0 "$DPIPE" tokenize $t -q -o "$work/s2" "$work/dir/b" "$work/dir/sub/a"; cmp -s "$work/s1/manifest.json" "$work/s2/manifest.json" && ok || bad "shards of a folder"
# Counts: a line a text; totals: a line a file and one for all.
n() { "$DPIPE" tokenize $t "$@" | tr -cd ',\n' | awk '{ n += length($0) + 1 } END { print n }'; }
expect 0 "$DPIPE" tokenize $t --count "$work/b"; same "$(tr -cd "0-9\n" <"$work/out" | awk "{ n += \$1 } END { print n }")" "$(n "$work/b")" "the sum of counts"
expect 0 "$DPIPE" tokenize $t --count --total --whole-file "$work/a" "$work/b"
same "$(sed -n 3p "$work/out")" "{\"files\":2,\"texts\":2,\"bytes\":$(cat "$work/a" "$work/b" | wc -c),\"count\":$(n --whole-file "$work/a" "$work/b")}" "totals"
same "$(sed -n 1p "$work/out" | cut -d, -f1-3)" "{\"file\":\"$work/a\",\"texts\":1,\"bytes\":$(wc -c <"$work/a")" "totals of a file"
expect 0 "$DPIPE" tokenize $t --count --total --jsonl <<<'{"text":"the \u00e9"}'; says "$work/out" '{"file":"-","texts":1,"bytes":6,'
# Any cache, the same ids.
expect 0 "$DPIPE" tokenize $t "$work/b"; cp "$work/out" "$work/want"
for c in 1 4K 64K 200M; do expect 0 "$DPIPE" tokenize $t --encoder-cache $c "$work/b"; cmp -s "$work/out" "$work/want" && ok || bad "a cache of $c changes ids"; done
expect 64 "$DPIPE" tokenize $t --encoder-cache 5G "$work/b"
}
# The recipe's cache is no part of an artifact's key.
corpus "$work/c"; workspace "$work/w" "$work/c"; expect 0 "$DPIPE" run -q -w "$work/w" --until shard; ls "$work/w/store" >"$work/names"
sed -i 's/^shards: {/&encoder_cache: 4K, /' "$work/w/recipe.yaml"; expect 0 "$DPIPE" run -q -w "$work/w" --until shard; ls "$work/w/store" | cmp -s - "$work/names" && ok || bad "a cache gives other artifacts"
finish
