#!/usr/bin/env bash
# tokenize -o: files to shards that everything else reads, the same bytes for any number of threads; a folder is whole or isn't there.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
words 5 3000 >"$work/t.txt"; "$DPIPE" train-bpe -q --vocab-size 420 --special-tokens '<|endoftext|>,<|x|>' -o "$work/tok" "$work/t.txt" 2>/dev/null
tok=$work/tok/tokenizer.json; T() { "$DPIPE" tokenize -q -t "$tok" "$@"; }
ids() { for f in "$1"/*.bin; do od -An -v -t u2 -w2 "$f"; done | tr -d ' '; } # one a line
printed() { sed 's/{"ids":\[//; s/\]}/,0/; s/^,0/0/' "$1" | tr ',' '\n'; } # with an EOT (id 0) behind each line
for i in $(seq 300); do words "$i" $((i % 90 + 3)); [ $((i % 50)) = 0 ] && printf '\n  \n'; done >"$work/a.txt"; { words 7 40; printf '{"a":1}\r\nthe end'; } >"$work/b.txt"
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do cat "$work/a.txt"; done >"$work/many.txt"
# Lines: ids as tokenize prints them, an EOT behind each; empty lines are none.
expect 0 T --json -o "$work/s" "$work/a.txt" "$work/b.txt"; says "$work/out" '"shards":1,"documents":309'; ids "$work/s" >"$work/got"
grep -hv '^$' "$work/a.txt" "$work/b.txt" >"$work/full"; T "$work/full" >"$work/ids"; printed "$work/ids" >"$work/want"; cmp -s "$work/got" "$work/want" && ok || bad "lines: other ids than those printed"
expect 0 "$DPIPE" verify "$work/s/manifest.json"; says "$work/out" "1 shards are whole"
expect 0 "$DPIPE" feed -w "$work/none" --manifest "$work/s/manifest.json" --seq-len 16 --batch 2 --steps 3 --dump "$work/rows"; same "$(wc -c <"$work/rows")" $((3 * 2 * 17 * 4)) "bytes of rows"
expect 0 "$DPIPE" export-shards -w "$work/none" --manifest "$work/s/manifest.json" -f megatron -o "$work/mega"
# Any number of threads, and shards cut by the text: the same files.
expect 0 T --threads 1 --bytes-per-shard 64K -o "$work/s1" "$work/many.txt" "$work/b.txt"
for j in 2 3; do expect 0 T --threads $j --bytes-per-shard 64K -o "$work/s$j" "$work/many.txt" "$work/b.txt"; diff -r "$work/s1" "$work/s$j" >/dev/null && ok || bad "$j threads: other shards"; done
[ "$(ls "$work/s1"/*.bin | wc -l)" -gt 20 ] && ok || bad "shards aren't cut"; expect 0 "$DPIPE" verify "$work/s1/manifest.json"
# A whole file is one document, cut where its pieces begin anew: the ids of one text.
cat "$work/many.txt" "$work/many.txt" "$work/many.txt" | tr '\n' ' ' >"$work/one.txt"; { cat "$work/one.txt"; cat "$work/many.txt"; } >"$work/two.txt"
for j in 1 3; do expect 0 T --whole-file --threads $j -o "$work/w$j" "$work/two.txt" "$work/b.txt"; done; diff -r "$work/w1" "$work/w3" >/dev/null && ok || bad "whole files: threads"
ids "$work/w1" >"$work/got"; T --whole-file "$work/two.txt" "$work/b.txt" >"$work/ids"; printed "$work/ids" >"$work/want"; cmp -s "$work/got" "$work/want" && ok || bad "whole files: other ids than those of one text"
[ "$(wc -c <"$work/two.txt")" -gt 3000000 ] && ok || bad "too small to be cut"; expect 0 "$DPIPE" verify "$work/w1/manifest.json"; says "$work/out" "2 documents"
expect 0 T --whole-file --special all -o "$work/w4" "$work/two.txt" "$work/b.txt"; diff -r "$work/w1" "$work/w4" >/dev/null && ok || bad "special tokens, of which there are none"
# JSON lines, base64, EOT of one's own and none, compression.
{ printf '{"text":"the water"}\n\n{"text":""}\n'; printf '{"text":"a\\u0000b\\n<|x|>"}'; } >"$work/a.jsonl"; T --jsonl "$work/a.jsonl" | grep -v '\[\]' >"$work/ids"
expect 0 T --jsonl -o "$work/j" "$work/a.jsonl"; ids "$work/j" >"$work/got"; printed "$work/ids" >"$work/want"; cmp -s "$work/got" "$work/want" && ok || bad "JSON lines: other ids"
expect 0 T --jsonl --eot none -o "$work/jn" "$work/a.jsonl"; same "$(ids "$work/jn" | tr '\n' ' ')" "$(grep -v '^0$' "$work/want" | tr '\n' ' ')" "no EOT"
expect 0 T --jsonl --eot '<|x|>' --special all -o "$work/jx" "$work/a.jsonl"; same "$(ids "$work/jx" | grep -c '^1$')" 3 "EOT of one's own, and one in the text"; says "$work/jx/manifest.json" '"eot": 1'
printf '{"b":"AP8="}\n' >"$work/b.jsonl"; expect 0 T --jsonl --b64-field b --compression zstd -o "$work/z" "$work/b.jsonl"; expect 0 "$DPIPE" verify "$work/z/manifest.json"; [ -e "$work/z/shard-00000.zbin" ] && ok || bad "not compressed"
{ cat "$work/a.jsonl"; echo; echo '{"text":7}'; cat "$work/a.jsonl"; } >"$work/bad.jsonl"
expect 65 T --jsonl -o "$work/no" "$work/bad.jsonl"; says "$work/err" "bad.jsonl line 5"; expect 0 T --json --jsonl --on-error skip -o "$work/sk" "$work/bad.jsonl"; says "$work/out" '"documents":4'; says "$work/out" '"lines_left_out":1'
# What goes wrong leaves nothing; what was left is cleared away; what is there stays.
expect 78 T -o "$work/s" "$work/a.txt"; says "$work/err" "isn't empty"; expect 78 T --eot '<|y|>' -o "$work/no" "$work/a.txt"; : >"$work/empty"; expect 65 T -o "$work/no" "$work/empty"; expect 74 T -o "$work/no" "$work/nofile"
expect 64 T -o "$work/no"; expect 64 T --count -o "$work/no" "$work/a.txt"; expect 64 "$DPIPE" tokenize -o "$work/no" "$work/a.txt"; mkdir "$work/hollow"; expect 74 T -o "$work/no" "$work/hollow"; says "$work/err" "hollow: a folder without files"
(failed=0; ulimit -f 64; expect 74 T -o "$work/no" "$work/many.txt"; says "$work/err" "no.partial/shard-00000.bin"; exit $failed) && ok || bad "a file that may not grow"
"$DPIPE" tokenize -q -t "$tok" --compression zstd --zstd-level 19 -o "$work/no" "$work/many.txt" "$work/many.txt" "$work/many.txt" 2>"$work/err" & pid=$!
for _ in $(seq 200); do [ -e "$work/no.partial" ] && break; sleep 0.02; done; kill -TERM $pid; wait $pid; same $? 75 "status after SIGTERM"
same "$(ls -d "$work"/no* 2>/dev/null)" "" "left behind"
mkdir "$work/r.partial"; : >"$work/r.partial/shard-00000.bin"; : >"$work/r.partial/spill-abc"; mkdir "$work/r"; expect 0 T -o "$work/r/" "$work/a.txt"; expect 0 "$DPIPE" verify "$work/r/manifest.json"; [ ! -e "$work/r.partial" ] && ok || bad "r.partial is left"
mkdir "$work/q.partial"; : >"$work/q.partial/mine"; expect 78 T -o "$work/q" "$work/a.txt"; says "$work/err" "q.partial"; [ -e "$work/q.partial/mine" ] && ok || bad "somebody's file is gone"
mkdir "$work/l.partial"; if command -v flock >/dev/null; then exec 9<"$work/l.partial"; flock 9; expect 75 T -o "$work/l" "$work/a.txt"; says "$work/err" "another process"; exec 9<&-; fi
finish
