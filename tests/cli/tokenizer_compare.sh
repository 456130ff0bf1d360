#!/usr/bin/env bash
# tokenizer compare: vocabularies, cuts and ids of texts; exit status like diff.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
words 3 20000 >"$work/a.txt"; printf 'the river\nthe house of stone 12\n' >"$work/t.txt"
expect 0 "$DPIPE" train-bpe -q --vocab-size 400 --split gpt2 -o "$work/a" "$work/a.txt"; expect 0 "$DPIPE" train-bpe -q --vocab-size 330 --split gpt2 -o "$work/b" "$work/a.txt"
expect 0 "$DPIPE" train-bpe -q --vocab-size 400 --split gpt2 --tie bytes -o "$work/c" "$work/a.txt"
a=$work/a/tokenizer.json b=$work/b/tokenizer.json c=$work/c/tokenizer.json
cmp_() { expect "$1" "$DPIPE" tokenizer compare "${@:2}"; }
# The same; a prefix of the merges; the same by ranks.
cmp_ 0 "$a" "$a"; says "$work/out" "The same tokenizer."; cmp_ 0 "$a" "$a" "$work/a.txt"; says "$work/out" "places cut differently: 0"
cmp_ 1 "$a" "$b"; says "$work/out" "Not the same"; says "$work/out" "first differ at merge"; says "$work/out" "B none"
n=$("$DPIPE" tokenizer info "$a" | sed -n 's/.*"tokens": \([0-9]*\),/\1/p'); m=$("$DPIPE" tokenizer info "$b" | sed -n 's/.*"tokens": \([0-9]*\),/\1/p')
cmp_ 1 --json "$a" "$b"; same "$(grep -A1 '"only_a"' "$work/out" | tail -1 | tr -cd 0-9)" "$((n - m))" "tokens only in the larger"
same "$(grep -A1 '"only_b"' "$work/out" | tail -1 | tr -cd 0-9)" 0 "tokens only in the smaller"
if [ -s "$work/a/tokenizer.tiktoken" ]; then cmp_ 0 "$a" "$work/a/tokenizer.tiktoken" --split gpt2 "$work/a.txt"; says "$work/out" "the same ids in 1,"; cmp_ 1 --split gpt2 "$a" "$work/a/tokenizer.tiktoken"; fi
# Other cuts, with the text where they are; the sums of what two cut differently are the difference of their tokens.
cmp_ 1 --json --threads 2 "$a" "$b" "$work/a.txt" "$work/t.txt"; cp "$work/out" "$work/json"; cmp_ 1 --json -j1 --encoder-cache 4K "$a" "$b" "$work/a.txt" "$work/t.txt"
cmp -s "$work/out" "$work/json" && ok || bad "threads change a comparison"
if command -v python3 >/dev/null; then expect 0 python3 -c 'import json, sys
r = json.load(open(sys.argv[1])); t = r["all"]["tokenizers"]
p = r["frequent_places"]; assert p and all("".join(x["a"]) == x["text"] == "".join(x["b"]) and x["a"] != x["b"] for x in p)
assert [x["count"] for x in p] == sorted((x["count"] for x in p), reverse=True) and sum(x["count"] for x in p) <= r["places"]
if len(p) < 100: assert sum((len(x["b"]) - len(x["a"])) * x["count"] for x in p) == t[1]["tokens"] - t[0]["tokens"]
assert r["texts"] == r["all"]["texts"] and 0 < r["texts_with_other_cuts"] <= r["texts_with_other_ids"] and r["first_other_id"]["text"] == 1
assert [d["name"] for d in r["domains"]] == ["a.txt", "t.txt"]' "$work/json"; fi
# Same tokens, other ids: the same cuts, other ids in every text that has them.
cmp_ 1 "$a" "$c" "$work/t.txt"; says "$work/out" "the same ids in 0, the same cuts in 2;"; says "$work/out" "first other id: text 1 (from 1), byte 0"
# A folder of texts.
mkdir "$work/dir"; cp "$work/a.txt" "$work/t.txt" "$work/dir/"; all() { sed -n '/^  "texts"/,$p' "$work/out" | sed '/"domains"/,$d'; }
cmp_ 1 --json "$a" "$b" "$work/dir/a.txt" "$work/dir/t.txt"; all >"$work/files"; cmp_ 1 --json "$a" "$b" "$work/dir"; [ -s "$work/files" ] && all | cmp -s - "$work/files" && ok || bad "a folder isn't its files"
cmp_ 64 "$a"; cmp_ 74 "$a" "$work/none.json"; cmp_ 74 "$a" "$b" "$work/none.txt"
finish
