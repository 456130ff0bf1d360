#!/usr/bin/env bash
# dpipe train-bpe on files: the same bytes for any number of threads and any way of counting; what it refuses; going on after a kill.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"
cd "$work"

# 3 MB: more than one piece a file; lines of all lengths, one of them long, no newline at the end
{ words 1 60000; for i in 1 2 3 4 5 6; do printf '\n\n  indented %d\r\n\t\tint main(void) { return %d; }\n' $i $((i * 7919)); words $i 18000 | tr -d '.'; echo; done; words 9 60000 | tr ' ' '\n'
  printf '中文字符没有空格%.0s' $(seq 1 3000); printf 'é%.0s' $(seq 1 2000); printf '\nthe end'; } >a.txt
words 77 90000 | fold -s -w 70 >b.txt
awk '{ gsub(/[\\"\r\t]/, " "); printf "{\"source\":\"%s\",\"text\":\"%s\\n\\u00e9\"}\n", NR % 3 ? "web" : "code", $0 }' b.txt >b.jsonl
tr=("$DPIPE" train-bpe -q --vocab-size 400) # to be killed itself, not a shell around it
train() { "${tr[@]}" "$@"; }
model() { sha256sum <"$1/tokenizer.json" | cut -c 1-16; }

# threads, and each way of reading
for t in 1 3; do
  train --threads $t -o l$t a.txt b.txt
  train --threads $t --whole-file -o w$t a.txt b.txt
  train --threads $t --jsonl -o j$t b.jsonl
done
for k in l w j; do same "$(model ${k}3)" "$(model ${k}1)" "threads, $k"; done
for f in tokenizer.json vocab.json merges.txt tokenizer.tiktoken report.json; do [ -s l1/$f ] && ok || bad "no $f"; done
[ "$(model l1)" != "$(model w1)" ] && ok || bad "lines and whole files are the same"
gzip -nk a.txt; xz -k b.txt; "$DPIPE" --version >/dev/null
train -o gz a.txt.gz b.txt.xz; same "$(model gz)" "$(model l1)" "compressed"
train --whole-file -o gzw a.txt.gz b.txt.xz; same "$(model gzw)" "$(model w1)" "compressed, whole files"
cat a.txt | train -o in - b.txt; same "$(model in)" "$(model l1)" "standard input"
cat a.txt.gz | train -o in - b.txt; same "$(model in)" "$(model l1)" "compressed standard input"
mkdir folder; cp a.txt b.txt folder; train -o dir folder; same "$(model dir)" "$(model l1)" "a folder"
train -o low --memory 16M --word-bytes-max 1M a.txt b.txt; same "$(model low)" "$(model l1)" "little memory"

# what is left out is said; files are learnt from whole where a workspace would leave rare words out
expect 0 train -o few --words-bytes-max 2K a.txt; says "$work/err" "rarer ones are past"
expect 0 train -o cut --word-bytes-max 64 a.txt; says "$work/err" "were cut at"
says l1/report.json '"words_bytes_max": 134217728'
says few/report.json '"words_bytes_max": 2048'

# counts: in parts, as text, from many
train --count-only -o a.words a.txt
train --count-only --threads 3 -o b.words b.txt
train --count-only -o ab.words b.txt a.txt
train --count-only -o ab.tsv a.txt b.txt
train --from-counts --count-only -o sum.words b.words a.words
same "$(sha256sum <sum.words)" "$(sha256sum <ab.words)" "counts of parts together"
train --from-counts -o fc a.words b.words; same "$(model fc)" "$(model l1)" "trained from parts"
train --from-counts -o ft ab.tsv; same "$(model ft)" "$(model l1)" "trained from text"
train --from-counts -o fs - <ab.words; same "$(model fs)" "$(model l1)" "trained from standard input"
printf 'hello hello\t3\n\nhelp\t2\r\n' >list; expect 0 train --from-counts -o fl list; says fl/report.json '"words": 8'
head -c 1000 ab.words >short.words; expect 65 train --from-counts -o x short.words; says "$work/err" "cut short"
{ head -c 900 ab.words; printf '\377'; tail -c +902 ab.words; } >bent.words; expect 65 train --from-counts -o x bent.words; says "$work/err" "bent.words"
expect 78 train --from-counts --split cl100k -o x ab.words; says "$work/err" "split by gpt2"
printf 'no number\n' >list; expect 65 train --from-counts -o x list; says "$work/err" "TEXT<TAB>COUNT"

# special tokens' texts are cut out and end texts, wherever pieces are cut; a split of one's own isn't cut
{ for i in $(seq 1 24000); do printf 'some text<|endoftext|>and<|x y|>'; done; } >special.txt
for t in 1 3; do train --threads $t --whole-file --special-tokens '<|endoftext|>,<|x y|>' --vocab-size 290 -o sp$t special.txt; done
same "$(model sp1)" "$(model sp3)" "special tokens"; says sp1/report.json '"words": 72000'
for t in 1 3; do train --threads $t --whole-file --split-pattern '[^ ]+ ?' -o own$t a.txt b.txt; done
same "$(model own1)" "$(model own3)" "a pattern of one's own"; train --split-pattern '[^ ]+ ?' -o own4 a.txt b.txt
train --count-only --split-pattern '[^ ]+ ?' -o own.words a.txt b.txt; train --from-counts --split-pattern '[^ ]+ ?' -o own5 own.words
same "$(model own5)" "$(model own4)" "counts by a pattern"
train --count-only --split-pattern '[^ ]+ ?' -o own.tsv a.txt b.txt; train --from-counts --split-pattern '[^ ]+ ?' -o own5 own.tsv
same "$(model own5)" "$(model own4)" "counts by a pattern, as text"
expect 78 train --from-counts -o x own.tsv
for t in 1 3; do train --threads $t --super-from 380 --super-bytes-max 1M -o sup$t a.txt b.txt; done; same "$(model sup1)" "$(model sup3)" "SuperBPE"
expect 64 train --from-counts --super-from 300 -o x ab.words

# refused
expect 74 train -o x nowhere.txt; says "$work/err" "nowhere.txt"
: >empty; expect 65 train -o x empty; says "$work/err" "no text to learn from"
expect 78 train --vocab-size 256 --special-tokens '<|endoftext|>' -o x a.txt; says "$work/err" "256 bytes and 1 special"
expect 64 train a.txt
expect 64 train -o x
expect 64 train -o x --jsonl --whole-file b.jsonl
head -c $(($(stat -c %s a.txt.gz) / 2)) a.txt.gz >cut.gz; expect 65 train -o x cut.gz; says "$work/err" "damaged"
printf '{"text":"a b"}\n{"text":1}\n' >bad.jsonl; expect 65 train --jsonl -o x bad.jsonl; says "$work/err" "byte 15"
expect 65 train --jsonl --field body -o x b.jsonl; says "$work/err" '"body"'
expect 0 "$DPIPE" train-bpe -o bin --vocab-size 300 "$DPIPE"; says "$work/err" "not text"

# samples: by seed, whatever threads and order; the mixture's shares
train --sample 0.25 --seed 5 --threads 1 -o s1 a.txt b.txt
train --sample 0.25 --seed 5 --threads 3 -o s2 b.txt.xz a.txt
same "$(model s2)" "$(model s1)" "a sample, other threads and order"
train --sample 0.25 --seed 6 -o s3 a.txt b.txt; [ "$(model s3)" != "$(model s1)" ] && ok || bad "another seed, the same sample"
train --jsonl --domain-field source --sample-bytes 200K --mixture web=1,code=3 -o m b.jsonl
field() { awk -v d="\"$2\"," -v k="\"$3\":" '$2 == d { on = 1 } on && $1 == k { sub(",", "", $2); print $2; exit }' "$1/report.json"; }
w=$(field m web bytes_taken) c=$(field m code bytes_taken)
[ $((w * 10)) -gt $((204800 * 24 / 10)) ] && [ $((w * 10)) -lt $((204800 * 26 / 10)) ] && ok || bad "web: $w bytes"
[ $((c * 10)) -gt $((204800 * 74 / 10)) ] && [ $((c * 10)) -lt $((204800 * 76 / 10)) ] && ok || bad "code: $c bytes"
expect 64 train --jsonl --domain-field source --sample-bytes 1K --mixture web=-1 -o x b.jsonl

# one at a time
{ sleep 0.3; cat b.txt; } | "${tr[@]}" -o busy - & p=$!
sleep 0.1; expect 75 train -o busy b.txt; says "$work/err" "another process"; wait $p

# interrupted: killed between checkpoints, then again, until it is done
expect 0 train --threads 2 --checkpoint 0 -o steps a.txt b.txt; same "$(model steps)" "$(model l1)" "in rounds"
[ ! -e steps/resume ] && ok || bad "a state is left behind"
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
  "${tr[@]}" --threads 2 --checkpoint 0 -o killed a.txt b.txt a.txt.gz b.txt.xz & p=$!
  for k in 1 2 3 4 5; do sleep 0.01; [ -e killed/resume/state.json ] && break; done
  kill -9 $p 2>/dev/null || true; if wait $p 2>/dev/null; then break; fi
done
train --checkpoint 0 -o killed a.txt b.txt a.txt.gz b.txt.xz; train -o four a.txt b.txt a.txt.gz b.txt.xz
same "$(model killed)" "$(model four)" "killed and gone on"
"${tr[@]}" --checkpoint 0 -o sig a.txt b.txt a.txt.gz b.txt.xz 2>err & p=$!
for k in $(seq 1 100); do [ -e sig/resume/state.json ] && break; sleep 0.01; done
kill -INT $p 2>/dev/null || true; got=0; wait $p || got=$?
if [ $got = 75 ] && [ -e sig/resume/state.json ]; then
  says err "goes on from there"
  "$DPIPE" train-bpe --vocab-size 400 -o sig b.txt 2>err; says err "counted anew"
elif [ $got != 75 ]; then same $got 0 "status after SIGINT"; fi
finish
