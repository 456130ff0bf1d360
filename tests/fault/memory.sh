#!/usr/bin/env bash
# Peak memory doesn't follow the corpus: every command of the road on a corpus and on one ten times as large, as one big file, as a folder of
# small files and as one archive of them. And memory and threads don't show in what is made.
# usage: tests/fault/memory.sh   DP_PEAKS=1 prints all figures
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
shim=$BUILD/tests/fault/shim_peak.so
# documents SEED N WORDS FORM DIR: JSON lines to stdout, or files into DIR. A third of the words come from a vocabulary without end, so that a
# larger corpus has more distinct words, as real text does.
documents() {
  awk -v x="$1" -v docs="$2" -v words="$3" -v form="$4" -v dir="${5:-}" '
  function rnd() { x = (x * 69069 + 12345) % 4294967296; return int(x / 256) }
  function word(  r, k, w) {
    r = rnd()
    if (r % 5 < 3) return common[r % 50021 % nc + 1]
    if (r % 7 < 4) { r = rnd() % (1 + rnd() % 4096); return syl[r % ns + 1] syl[int(r / ns) % ns + 1] }
    for (k = 2 + r % 3; k-- > 0;) w = w syl[rnd() % ns + 1]
    return w
  }
  BEGIN {
    nc = split("the of and to in that with have time people water light house river stone green walk speak large small morning garden winter letter window bread music paper silver journey market forest bridge engine number question answer is was for on are this be at", common, " ")
    ns = split("ba ce di fo gu ha ke li mo nu pa re si to va we xi yo zu bra cle dri flo gru pha ske tri sto plu qua ren sol tam vel wor", syl, " ")
    for (d = 1; d <= docs; d++) {
      t = ""
      for (i = 1; i <= words; i++) t = t word() (i % 12 == 0 ? ". " : " ")
      if (form == "jsonl") { printf "{\"text\":\"%s.\",\"url\":\"http://e.example/%d\"}\n", t, d; continue }
      f = dir "/f" d ".txt"; print t "." >f; close(f)
    }
  }'
}
documents 1 2500 200 jsonl >"$work/small.jsonl"; documents 2 25000 200 jsonl >"$work/large.jsonl"
mkdir "$work/small" "$work/large"; documents 3 600 60 files "$work/small"; documents 4 6000 60 files "$work/large"
for s in small large; do tar -C "$work" -cf "$work/$s.tar" $s; done

# peak COMMAND...: its peak in KiB, in $kib
peak() {
  rm -f "$work/peak"; DP_PEAK=$work/peak LD_PRELOAD=$shim "$@" >/dev/null 2>"$work/err"; local s=$?
  kib=$(cat "$work/peak" 2>/dev/null); [ $s = 0 ] && [ "${kib:-0}" -gt 0 ] && return
  bad "exit $s, no peak: $*: $(tail -1 "$work/err")"; kib=0
}
# road NAME CORPUS: "STEP KIB" for each command, in $work/NAME.peaks
road() {
  local w=$work/w.$1 step
  "$DPIPE" init -q "$w"
  printf 'clean:\n  c4: {enabled: false}\ntrain-bpe: {vocab_size: 2000, words_bytes_max: 512K}\nshards: {bytes_per_shard: 4M}\n' >"$w/recipe.yaml"
  {
    peak "$DPIPE" ingest -q -w "$w" --register-only "$2"; echo "register $kib"
    for step in ingest clean dedup train-bpe tokenize shard; do peak "$DPIPE" run -q -w "$w" --until $step --memory 32M --threads 2; echo "$step $kib"; done
    peak "$DPIPE" run -q -w "$w" --until shard; echo "again $kib"
    peak "$DPIPE" status -w "$w"; echo "status $kib"
    peak "$DPIPE" inspect -w "$w" --kept -n 0; echo "inspect $kib"
    peak "$DPIPE" verify -w "$w" --threads 2; echo "verify $kib"
    peak "$DPIPE" export -w "$w" -f megatron -o "$work/x"; echo "export $kib"
    rm -rf "$work/x"
  } >"$work/$1.peaks"
}
# compare NAME: the large one within 1.3 times the small one and some MiB. The MiB because what needs 12 MiB for the program, its libraries and first
# buffers may fill budgets that a few documents left empty, which is no growth with the corpus: 16 for steps with budgets (--memory 32M, batches,
# decoders, blocks of mapped shards), 6 for the others (sqlite's page caches, a document at hand).
compare() {
  local step a b more
  while read -r step a && read -r _ b <&3; do
    [ "${DP_PEAKS:-}" ] && printf '%-7s %-10s %8d KiB %8d KiB\n' "$1" "$step" "$a" "$b" >&2
    case $step in ingest | clean | dedup | train-bpe | tokenize | verify) more=16384 ;; *) more=6144 ;; esac
    if [ "$b" -le $((a * 13 / 10 + more)) ]; then ok; else bad "$1: $step takes $b KiB for ten times the corpus, $a KiB for one"; fi
  done <"$work/small.$1.peaks" 3<"$work/large.$1.peaks"
  same "$(wc -l <"$work/large.$1.peaks")" 12 "commands measured"
}
for s in small large; do
  road $s.file "$work/$s.jsonl"; road $s.folder "$work/$s"; road $s.archive "$work/$s.tar"
done
for c in file folder archive; do compare $c; done

# Damage: listed up to a limit, then counted, in lines that can be read.
yes 'no JSON' | head -n 20000 >"$work/bad.small.jsonl"; yes 'no JSON' | head -n 200000 >"$work/bad.large.jsonl"
for s in small large; do
  w=$work/bad.$s; "$DPIPE" init -q "$w"; "$DPIPE" ingest -q -w "$w" --register-only "$work/bad.$s.jsonl"
  peak "$DPIPE" run -q -w "$w" --until ingest; eval "bad_$s=$kib"
done
[ "$bad_large" -le $((bad_small * 13 / 10 + 16384)) ] && ok || bad "200,000 damaged lines take $bad_large KiB, 20,000 $bad_small KiB"
expect 0 "$DPIPE" inspect -w "$work/bad.large" --damage -n 0; says "$work/out" "more damaged places from here on, not listed"

# Counting that overflows into runs, with one thread and two, ends with the same shards as counting in memory.
digest=$(store "$work/w.large.file")
w=$work/ram; mkdir "$w"; "$DPIPE" init -q "$w"; cp "$work/w.large.file/recipe.yaml" "$w/"
"$DPIPE" ingest -q -w "$w" --register-only "$work/large.jsonl"
expect 0 "$DPIPE" run -q -w "$w" --until shard --memory 2G --threads 1; same "$(store "$w")" "$digest" "a store made with 2 GiB and one thread, against 32 MiB and two"
for m in 16M 2G; do expect 0 "$DPIPE" train-bpe -q --jsonl --vocab-size 3000 --memory $m -o "$work/t$m" "$work/large.jsonl"; done
cmp -s "$work/t16M/tokenizer.json" "$work/t2G/tokenizer.json" && ok || bad "memory shows in the tokenizer"
finish
