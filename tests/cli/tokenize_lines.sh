#!/usr/bin/env bash
# tokenize and detokenize line by line: a line for a line whatever comes, errors with their place, order with threads, a partner that waits for each answer.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
words 5 3000 >"$work/t.txt"; "$DPIPE" train-bpe -q --vocab-size 420 --special-tokens '<|endoftext|>,<|a b|>' -o "$work/tok" "$work/t.txt" 2>/dev/null
tok=$work/tok/tokenizer.json; T() { "$DPIPE" tokenize -t "$tok" "$@"; }; U() { "$DPIPE" detokenize -t "$tok" "$@"; }
# given TEXT COMMAND...: runs it with TEXT (printf escapes) on its standard input
given() { local text=$1 want=$2; shift 2; printf "$text" >"$work/in"; expect "$want" "$@" <"$work/in"; }
lines() { same "$(wc -l <"$work/out")" "$1" "lines of output"; }
# Every kind of text comes back as it was: through text, and exactly through base64.
given '{"text":""}\n{"text":"the water"}\n{"n":1,"text":"a\\u0000b\\ud83d\\ude00 \\u00e9\\/","z":[{}]}\n' 0 T --jsonl; lines 3; cp "$work/out" "$work/ids"; same "$(head -1 "$work/out")" '{"ids":[]}' "an empty text"
expect 0 U --jsonl "$work/ids"; same "$(cat "$work/out")" '{"text":""}
{"text":"the water"}
{"text":"a\u0000b😀 é/"}' "texts back"
given '{"text":"x\\ud800y\\udc00"}\n' 0 T --jsonl; cp "$work/out" "$work/lone"; given '{"text":"x\\ufffdy\\ufffd"}\n' 0 T --jsonl; same "$(cat "$work/out")" "$(cat "$work/lone")" "lone surrogates are U+FFFD"
b64='{"b64":"AP/+gMOpCg=="}
{"b64":""}
{"b64":"4piD8J+Y"}'
printf '%s\n' "$b64" >"$work/b"; expect 0 T --jsonl --b64-field b64 "$work/b"; cp "$work/out" "$work/ids"; expect 0 U --b64 "$work/ids"; same "$(cat "$work/out")" "$b64" "bytes that are no UTF-8"
expect 0 U --b64-field bytes "$work/ids"; says "$work/out" '{"bytes":""}'
given '{"b64":"4pg"}\n{"b64":"4pjwn5g="}\n' 0 T --jsonl --b64-field b64; cp "$work/out" "$work/ids"; expect 0 U "$work/ids"; same "$(cat "$work/out")" '{"text":"�"}
{"text":"��"}' "a replaced character for each beginning of one"
expect 0 U --field t "$work/ids"; says "$work/out" '{"t":"'
given "\xef\xbb\xbf{\"text\":\"a\"}\n" 0 T --jsonl; says "$work/out" "{\"ids\":["
# A line for a line: blank ones, CR LF, no newline at the end, nothing at all.
given '\n{"text":"a"}\r\n  \r\n{"text":"b"}' 0 T --jsonl; lines 4; same "$(sed -n 1p "$work/out")$(sed -n 3p "$work/out")" '{"ids":[]}{"ids":[]}' "blank lines"; cp "$work/out" "$work/ids"
expect 0 U "$work/ids"; lines 4; given '\n[]\n {"ids" : [ ] , "x":1}\n' 0 U; lines 3; same "$(sort -u "$work/out")" '{"text":""}' "empty lists"
given '' 0 T --jsonl; lines 0; given 'one\r\n\ntwo' 0 T; lines 3; cp "$work/out" "$work/ids"; expect 0 U "$work/ids"; same "$(head -1 "$work/out")" '{"text":"one\r"}' "CR is part of a plain line"
given 'a\nb\n' 0 T --count; same "$(cat "$work/out")" '{"count":1}
{"count":1}' counts
given 'x<|endoftext|>y\n' 0 T --special all --count; says "$work/out" '{"count":3}'; given 'x<|endoftext|>y\n' 0 T --count; grep -q '{"count":\([4-9]\|1[0-9]\)}' "$work/out" && ok || bad "a special token's text is ordinary text"
expect 0 T --whole-file --count "$work/in"; lines 1; given 'a\nb' 0 T --whole-file; lines 1
# Bad lines: those before are answered, the place is named; or skipped with an error in their place.
for l in '{"no":1}' '{"text":null}' '{"text":3}' '{"text":"x"' '{"text":"\\x"}' 'nonsense' '[1]' '{"text":"a"}{"text":"b"}'; do
  given "{\"text\":\"a\"}\n$l\n{\"text\":\"b\"}\n" 65 T --jsonl; lines 1; says "$work/err" "standard input line 2"
  expect 0 T --jsonl --on-error skip "$work/in"; lines 3; sed -n 2p "$work/out" | grep -q '^{"error":".*","line":2}$' && ok || bad "no error line for $l"; done
for l in '{"b64":"a"}' '{"b64":"a b="}' '{"b64":"abcde==="}' '{"b64":"ab=c"}' '{"b64":"===="}'; do given "$l\n" 65 T --jsonl --b64-field b64; says "$work/err" "line 1"; done
for l in '[1,2' '[1,]' '[-1]' '[1.5]' '["a"]' '{"ids":{}}' '{"id":[1]}' '[1] 2' '[01]' '[99999999999999999999]' '[99999]' '{"ids":[99999]}' 'x'; do given "[65]\n$l\n" 65 U; lines 1; says "$work/err" "line 2"
  expect 0 U --on-error skip "$work/in"; lines 2; done
expect 74 T "$work/none"; expect 64 T --b64-field b; expect 64 T --jsonl --whole-file; printf 'a\n' | expect 74 T - "$work/none"; lines 1
# Order and bytes don't depend on threads, nor on how the input comes.
for i in $(seq 400); do printf '{"n":%d,"text":"%s"}\n' "$i" "$(words "$i" $((i % 60)))"; done >"$work/some"; for i in 1 2 3 4 5 6 7 8 9 10 11 12; do cat "$work/some"; done >"$work/many"; n=$(wc -l <"$work/many")
expect 0 T --jsonl --threads 1 "$work/many"; lines "$n"; cp "$work/out" "$work/one"
for j in 2 3 7; do expect 0 T --jsonl --threads $j "$work/many"; cmp -s "$work/out" "$work/one" && ok || bad "$j threads give other lines"; done
cat "$work/many" | expect 0 T --jsonl --threads 2; cmp -s "$work/out" "$work/one" && ok || bad "a pipe gives other lines"
expect 0 T --jsonl --threads 2 "$work/some" "$work/some"; lines 800; expect 0 U --threads 2 "$work/one"; lines "$n"; expect 0 U --threads 1 "$work/one"; same "$(sed 's/.*"text"/{"text"/' "$work/many" | sha256sum)" "$(sha256sum <"$work/out")" "texts of $n lines"
{ cat "$work/many"; echo bad; cat "$work/many"; } >"$work/broken"; expect 65 T --jsonl --threads 3 "$work/broken"; lines "$n"; says "$work/err" "line $((n + 1))"
{ printf '{"text":"'; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do cat "$work/t.txt"; done | tr '\n' ' '; printf '"}\n{"text":"x"}\n'; cat "$work/some"; } >"$work/long"
expect 0 T --jsonl --threads 2 --count "$work/long"; lines 402; says "$work/out" '{"count":1}'
# A partner that writes a line and waits; one that reads no more; a signal.
printf '{"text":"%s"}\n' "$(head -c 20000 /dev/zero | tr '\0' a)" >"$work/a20k"
for j in 1 2; do
  coproc TK { exec "$DPIPE" tokenize -t "$tok" --jsonl --threads $j; }; in=${TK[1]} got=0 pid=$TK_PID
  for i in 1 2 3; do printf '{"text":"water %d"}\n' $i >&"$in"; IFS= read -r -t 20 line <&"${TK[0]}" && got=$((got + 1)); done
  cat "$work/a20k" >&"$in"; IFS= read -r -t 20 line <&"${TK[0]}" && got=$((got + 1)); same $got 4 "answers to a partner that waits"
  kill -TERM "$pid"; wait "$pid" 2>/dev/null; same $? 75 "status after SIGTERM"
done
for j in 1 2; do # a reader who doesn't read
  mkfifo "$work/fifo$j"; sleep 20 <"$work/fifo$j" & reader=$!
  "$DPIPE" tokenize -t "$tok" --jsonl --threads $j "$work/many" "$work/many" "$work/many" "$work/many" "$work/many" "$work/many" >"$work/fifo$j" 2>"$work/err" & pid=$!
  sleep 0.4; kill -TERM $pid; wait $pid; same $? 75 "status after SIGTERM, of $j threads whose reader doesn't read"; kill $reader; wait $reader 2>/dev/null
done
T --jsonl "$work/many" 2>"$work/err" | head -1 >/dev/null; same "$(cat "$work/err")" "" "talk about a reader that has seen enough"
expect 0 T --help; for w in --on-error --b64-field "docs/tokenize.md"; do says "$work/out" "$w"; done
finish
