#!/usr/bin/env bash
# tokenizer report: its numbers against counting by hand, groups, baselines; JSON and SVG are well-formed whatever names say.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
t="tests/data/tokenizer/hf.json"
value() { sed -n '/^  "all"/,$p' "$1" | grep -m1 "\"$2\"" | sed 's/.*: //; s/,$//'; } # of all texts
# Counts of one text are those of tokenize.
printf 'the river, the house\n\346\227\245\346\234\254 abc\n' >"$work/a.txt"
expect 0 "$DPIPE" tokenizer report -t $t --json "$work/a.txt"; cp "$work/out" "$work/json"
tokens=$("$DPIPE" tokenize -t $t --count "$work/a.txt" | tr -cd '0-9\n' | awk '{ n += $1 } END { print n }')
same "$(value "$work/json" texts) $(value "$work/json" bytes) $(value "$work/json" chars) $(value "$work/json" words)" "2 30 26 7" "texts, bytes, characters, words"
same "$(value "$work/json" tokens)" "$tokens" "tokens"
same "$(printf %.4f "$(value "$work/json" bytes_per_token)")" "$(awk "BEGIN { printf \"%.4f\", 30 / $tokens }")" "bytes per token"
# Unused tokens and those that came are all ordinary ones; --list has them all.
expect 0 "$DPIPE" tokenizer report -t $t --json --list "$work/a.txt"
same "$(awk '/"unused_tokens"/ { on = 1 } on && /"id"/ { n++ } /"all":/ { print n + 0; exit }' "$work/out")" "$(sed -n 's/.*"unused": \([0-9]*\),/\1/p' "$work/out")" "unused tokens listed"
expect 0 "$DPIPE" tokenizer report -t $t --list "$work/a.txt"; says "$work/out" "unused tokens"
# By language and domain, with names that would break JSON, SVG and terminals.
{ printf '{"text":"the house","lang":"en","src":"a<b>&\\"\\u0027</text><script>x</script>\\u0001\\u001b[31m"}\n'; printf '{"text":"das Haus","lang":"de","src":"\377x"}\n'
  printf '{"text":"and","lang":"en"}\n'; printf '{"text":"","src":"empty"}\n'; printf '{"text":"\377\376 bad \355\240\200","lang":7,"src":"\357\277\276"}\n'; } >"$work/l.jsonl"
g="-t $t --jsonl --language-field lang --domain-field src"
# shellcheck disable=SC2086
{
expect 0 "$DPIPE" tokenizer report $g --svg "$work/r.svg" "$work/l.jsonl"; says "$work/out" "language en"; says "$work/out" "language (none)"; says "$work/out" "domain   empty"
grep -q "$(printf '\033')" "$work/out" && bad "an escape sequence on the terminal" || ok
expect 0 "$DPIPE" tokenizer report $g --json "$work/l.jsonl"; cp "$work/out" "$work/j1"
grep -q '<script' "$work/r.svg" && bad "a script in the chart" || ok; says "$work/r.svg" "prefers-color-scheme"; says "$work/r.svg" "&lt;b&gt;&amp;&quot;&#39;"
if command -v python3 >/dev/null; then
  expect 0 python3 -c 'import sys, xml.dom.minidom as m; d = m.parse(sys.argv[1]); assert {e.tagName for e in d.getElementsByTagName("*")} <= {"svg", "style", "title", "text", "rect", "line"}' "$work/r.svg"
  expect 0 python3 -c 'import json, sys
r = json.load(open(sys.argv[1], encoding="utf-8")); both = [r["languages"], r["domains"]]
assert [g["name"] for g in r["languages"]] == ["en", "(none)", "de"], r["languages"]
for k in "texts", "bytes", "chars", "words": assert all(sum(g[k] for g in gs) == r["all"][k] for gs in both), k
for gs in both: assert sum(g["tokenizers"][0]["tokens"] for g in gs) == r["all"]["tokenizers"][0]["tokens"]
t = r["tokenizers"][0]; assert sum(x["tokens"] for x in t["by_length"]) == t["tokens"] and sum(x["used"] for x in t["by_length"]) == t["tokens"] - t["unused"]' "$work/j1"
else echo "skip: no python3 to read JSON and SVG"; fi
}
# Several files are domains; threads change nothing; an identifier gives languages; caches don't matter.
words 3 30000 >"$work/b.txt"; words 5 30000 >"$work/c.txt";
base="--baseline other=tests/data/tokenizer/rust.tiktoken"
# shellcheck disable=SC2086
{
expect 78 "$DPIPE" tokenizer report -t $t $base "$work/b.txt" # .tiktoken of an odd size: no split
cp tests/data/tokenizer/rust.tiktoken "$work/cl100k_base.tiktoken"
expect 0 env DPIPE_TOKENIZERS="$work" "$DPIPE" tokenizer report -t $t --baseline "cl100k,same=$t" -j1 --json --detect-language "$work/b.txt" "$work/c.txt" "$work/a.txt"; cp "$work/out" "$work/one"
expect 0 env DPIPE_TOKENIZERS="$work" "$DPIPE" tokenizer report -t $t --baseline "cl100k,same=$t" -j3 --encoder-cache 4K --json --detect-language "$work/b.txt" "$work/c.txt" "$work/a.txt"
cmp -s "$work/out" "$work/one" && ok || bad "threads and caches change a report"
says "$work/one" '"name": "c.txt"'; says "$work/one" '"name": "en"'
expect 74 env DPIPE_TOKENIZERS="$work/none" "$DPIPE" tokenizer report -t $t --baseline o200k "$work/a.txt"; says "$work/err" "o200k_base.tiktoken https://"
expect 74 env DPIPE_TOKENIZERS="$work/none" "$DPIPE" tokenizer report -t $t --baseline nobody "$work/a.txt"; says "$work/err" "nobody.json"
expect 64 "$DPIPE" tokenizer report "$work/a.txt"; expect 64 "$DPIPE" tokenizer report -t $t --domain-field x "$work/a.txt"; expect 64 "$DPIPE" tokenizer report -t $t --jsonl --whole-file "$work/a.txt"
expect 64 "$DPIPE" tokenizer report -t $t --baseline "=x" "$work/a.txt"
expect 74 "$DPIPE" tokenizer report -t $t "$work/absent"; expect 65 "$DPIPE" tokenizer report -t $t --jsonl "$work/a.txt"; says "$work/err" "a.txt line 1"
}
# A folder is the files below it in the order of their paths, hidden and empty ones left out, and one domain.
mkdir -p "$work/dir/sub"; cp "$work/b.txt" "$work/dir/b.txt"; cp "$work/a.txt" "$work/dir/sub/z.txt"; : >"$work/dir/a-none"; words 9 100 >"$work/dir/.hidden"
texts() { sed -n '/^  "all"/,/^  }/p' "$work/out"; }
for m in "" --whole-file; do
  # shellcheck disable=SC2086
  { expect 0 "$DPIPE" tokenizer report -t $t --json $m "$work/dir"; texts >"$work/folder"; says "$work/out" '"domains": []'
  expect 0 "$DPIPE" tokenizer report -t $t --json $m "$work/dir/b.txt" "$work/dir/sub/z.txt"; texts | cmp -s - "$work/folder" && ok || bad "a folder isn't its files ($m)"; }
done
expect 0 "$DPIPE" tokenizer report -t $t "$work/dir/" "$work/c.txt"; says "$work/out" "domain   dir "; says "$work/out" "domain   c.txt"
mkdir "$work/nothing"; : >"$work/nothing/empty"; expect 74 "$DPIPE" tokenizer report -t $t "$work/nothing"; says "$work/err" "nothing: a folder without files"
# Nothing, and a whole file.
: >"$work/empty"; expect 0 "$DPIPE" tokenizer report -t $t --svg "$work/e.svg" "$work/empty"; expect 0 "$DPIPE" tokenizer report -t $t --json "$work/empty"; says "$work/out" '"bytes_per_token": null'
expect 0 "$DPIPE" tokenizer report -t $t --json --whole-file "$work/b.txt"; same "$(value "$work/out" texts) $(value "$work/out" bytes)" "1 $(wc -c <"$work/b.txt")" "a whole file"
expect 0 "$DPIPE" tokenizer report -t $t --json --whole-file <"$work/b.txt"; same "$(value "$work/out" texts)" 1 "standard input as one text"
# A large one is taken in parts: numbers are those of the whole, which a watched survey doesn't cut.
for i in $(seq 1 8); do cat "$work/b.txt" "$work/c.txt" | tr '\n' ' '; printf '\303\251\346\227\245 x\n\n  %s' "$i"; done >"$work/large.txt"
expect 0 "$DPIPE" tokenizer report -t $t --baseline "same=$t" --json --whole-file "$work/large.txt"; sed -n '/^  "all"/,/^  }/p' "$work/out" | sed 's/"same"/"B"/; s/"hf"/"A"/' >"$work/parts"
[ "$(wc -c <"$work/large.txt")" -gt 2500000 ] && ok || bad "large.txt is too small"
expect 0 "$DPIPE" tokenizer compare --json --whole-file $t $t "$work/large.txt"; sed -n '/^  "all"/,/^  }/p' "$work/out" | cmp -s - "$work/parts" && ok || bad "parts of a file have other numbers than the whole"
# Documents of a workspace's store.
corpus "$work/cp"; workspace "$work/w" "$work/cp"; expect 0 "$DPIPE" run -q -w "$work/w" --until clean
expect 0 "$DPIPE" tokenizer report -t $t --jsonl --language-field lang "$work"/w/store/docs-*.jsonl.zst; says "$work/out" "language en"
finish
