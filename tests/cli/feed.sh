#!/usr/bin/env bash
# dpipe feed: domains by manifest, workspace and source files; mixtures, packing, ranks and restarts; bad shards.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
corpus "$work/c"; workspace "$work/a" "$work/c"; expect 0 "$DPIPE" run -q -w "$work/a" --until shard
tok=$(ls "$work"/a/store/tokenizer-*.json | head -1)
"$DPIPE" init -q "$work/b"; printf 'clean:\n  c4: {enabled: false}\ntokenizer: {file: %s}\nfeed: {val_fraction: 0.1}\n' "$tok" >"$work/b/recipe.yaml"
mkdir "$work/d"; for i in $(seq 1 40); do words $((i + 4000)) 170; done >"$work/d/all.txt"
for i in $(seq 1 40); do printf '{"text":"%s"}\n' "$(words $((i + 6000)) 140)"; done >"$work/d/more.jsonl"
expect 0 "$DPIPE" ingest -q -w "$work/b" --register-only "$work/d"; expect 0 "$DPIPE" run -q -w "$work/b" --until shard
# vals KEY: the numbers under it, in order
vals() { grep -o "\"$1\":[0-9]*" "$work/out" | cut -d: -f2 | tr '\n' ' '; }
# Sources of one workspace.
by='pages=source:*.warc.gz,lines=source:lines.jsonl,rest=source:site/*'
f() { "$DPIPE" feed -w "$work/a" --seq-len 32 --pack bestfit --seed 5 --domains "$by" --mixture 'pages=0.5,lines=0.25,rest=0.25; 40:lines=1' "$@"; }
expect 0 f --batch 1 --steps 72 --dump "$work/one"; same "$(stat -c %s "$work/one")" $((72 * 33 * 4)) "bytes of a dump"
same "$(vals draws)" "42 20 10 " "draws of lines, pages, rest"
for world in 2 3 8; do
  rm -f "$work"/rank*; for r in $(seq 0 $((world - 1))); do expect 0 f --batch 3 --world $world --rank $r --steps $((72 / 3 / world)) --dump "$work/rank$r"; done
  : >"$work/all"; for k in $(seq 0 $((72 / 3 / world - 1))); do for r in $(seq 0 $((world - 1))); do dd if="$work/rank$r" bs=$((3 * 33 * 4)) count=1 skip=$k status=none; done; done >>"$work/all"
  cmp -s "$work/all" "$work/one" && ok || bad "$world ranks give another sequence than one"
done
for s in 1 39 40 71; do expect 0 f --batch 1 --start $s --steps $((72 - s)) --dump "$work/rest"; tail -c +$((s * 33 * 4 + 1)) "$work/one" | cmp -s - "$work/rest" && ok || bad "a start at sample $s"; done
for s in 2 30 50; do # each token's document is of a file of its domain
  expect 0 "$DPIPE" trace -w "$work/a" --seq-len 32 --pack bestfit --seed 5 --domains "$by" --mixture 'pages=1;20:rest=1;40:lines=1' --batch 1 --sample $s --json
  case $s in 2) says "$work/out" pages.warc.gz ;; 30) says "$work/out" /site/ ;; 50) says "$work/out" lines.jsonl ;; esac
done
# A mixture alone names sources: pages.warc.gz, lines.jsonl, site/.
expect 0 "$DPIPE" feed -w "$work/a" --seq-len 32 --seed 5 --batch 4 --steps 20 --mixture 'pages=0.5,lines=0.25,site=0.25; 40:lines=1' --dump "$work/named"; same "$(vals draws | wc -w)" 3 domains
expect 0 "$DPIPE" feed -w "$work/a" --seq-len 32 --seed 5 --batch 4 --steps 20 --domains 'lines=source:lines.jsonl,pages=source:*.warc.gz,site=source:site/*' --mixture 'pages=0.5,lines=0.25,site=0.25; 40:lines=1' --dump "$work/given"
cmp -s "$work/named" "$work/given" && ok || bad "a mixture of sources by name isn't that by pattern"
expect 78 "$DPIPE" feed -w "$work/a" --mixture 'pages=1,nothing=1'; says "$work/err" "domain nothing: no source file matches"
expect 78 "$DPIPE" feed -w "$work/a" --domains 'x=source:nothing*'; says "$work/err" "no source file matches"
expect 78 "$DPIPE" feed -w "$work/a" --domains 'x=source:site/p1.html'; says "$work/err" "can't be told apart"
expect 78 "$DPIPE" feed -w "$work/a" --domains "$by" --mixture pages=1,line=2; says "$work/err" "domain line that there isn't"
# Another workspace, and a manifest; neither needs this folder to be a workspace.
b=$(ls "$work"/b/store/manifest-*.json)
expect 0 "$DPIPE" feed -w "$work/none" --seq-len 32 --domains "a=$work/a,b=$b" --mixture a=1e,b=2e --dump "$work/x1"
expect 0 "$DPIPE" feed -w "$work/a" --seq-len 32 --val-fraction 0.01 --domains "b=$work/b,a=$work/a" --mixture b=2e,a=1e --dump "$work/x2"; cmp -s "$work/x1" "$work/x2" && ok || bad "domains by folder and by file differ"
set -- $(vals rows); same "$(vals samples)" "$(($1 + 2 * $2)) " "samples of a mixture by epochs"
expect 78 "$DPIPE" feed --manifest "$b" --domains 'x=source:*'; says "$work/err" "only a workspace knows"
expect 74 "$DPIPE" feed -w "$work/a" --domains "a=$work/absent.json"; says "$work/err" "absent.json"
# Documents whole: padding is told, and what train, val and test have is everything.
for s in train val test; do expect 0 "$DPIPE" feed -w "$work/a" --seq-len 256 --pack bestfit --split $s --val-fraction 0.2 --test-fraction 0.2; vals documents | cut -d' ' -f1; done >"$work/n"
expect 0 "$DPIPE" feed -w "$work/a" --seq-len 256 --pack bestfit --val-fraction 0; same "$(awk '{ n += $1 } END { print n }' "$work/n")" "$(vals documents | cut -d' ' -f1)" "documents of three splits"
expect 0 "$DPIPE" feed -w "$work/a" --seq-len 2048 --pack bestfit --val-fraction 0; set -- $(vals samples) $(vals tokens) $(vals padding); same "$(vals cut)" "0 " "documents cut"; same $4 $(($1 * 2049 - $2)) "padding where nothing is cut"
# A second implementation of docs/formats/feed_order.md gives the same rows.
if command -v python3 >/dev/null; then
  a=$(ls "$work"/a/store/manifest-*.json)
  # peer PACK VAL TEST SPLIT SHUFFLE START MIXTURE NAME=MANIFEST...
  peer() {
    local pack=$1 val=$2 test=$3 split=$4 shuffle=$5 start=$6 mixture=$7 t=$((16 + $6 % 50)); shift 7
    set -- "$@"; local domains; domains=$(IFS=,; echo "$*")
    local more=(); [ "$mixture" = - ] || more+=(--mixture "$mixture"); [ "$shuffle" = 1 ] || more+=(--no-shuffle)
    case $domains in =*) more+=(--manifest "${domains#=}") ;; *) more+=(--domains "$domains" -w "$work/none") ;; esac
    expect 0 "$DPIPE" feed --seq-len $t --batch 1 --steps 700 --seed 12345 --pack $pack --val-fraction $val --test-fraction $test --split $split --start $start "${more[@]}" --dump "$work/rows"
    expect 0 python3 tests/parity/feed_order.py "$work/rows" $t 12345 $pack $val $test $split $shuffle $start "$mixture" "$@"; says "$work/out" "700 rows agree"
  }
  for pack in concat bestfit; do
    peer $pack 0.1 0 train 1 0 - "=$a"; peer $pack 0.3 0.2 val 1 12345 - "=$b"; peer $pack 0.3 0.3 test 0 7 - "=$b"
    peer $pack 0.1 0.1 train 1 3 - "web=$a" "books=$b"; peer $pack 0 0 train 1 999999999999 'web=1.5e,books=0.25e' "web=$a" "books=$b"
    peer $pack 0 0.01 train 1 90 'web=0.7,books=0.2,x=0.1; 100: books=3,x=1; 301: web=0.123456789,x=1; 600: x=1' "web=$a" "books=$b" "x=$a"
  done
fi
# A trainer takes packed rows, with their masks and without what one document sees of another.
small() { DPIPE_TRAIN_SEQ_LEN=1024 expect 0 "$DPIPE" run -q -w "$work/a" --steps 3 --warmup 1 --eval-every 0 --ckpt-every 0 "$@"; grep -h "\"step\":3," "$(ls -t "$work"/a/store/loss-*.jsonl | head -1)"; }
DPIPE_FEED_PACK=bestfit small --documents restarted >"$work/restarted"; DPIPE_FEED_PACK=bestfit small >"$work/joined"
says "$work/restarted" '"loss":'; says "$work/joined" '"loss":'; if cmp -s "$work/restarted" "$work/joined"; then bad "documents restarted and joined train the same"; else ok; fi
# A bad byte: stop or skip.
shard=$(ls "$work"/b/store/shard-*-00.bin | head -1); other=$(stat -c %s "$shard"); printf '\001' | dd of="$shard" bs=1 seek=$((other / 2)) conv=notrunc status=none
expect 65 "$DPIPE" feed --manifest "$b" --seq-len 32 --steps 2000 --check; says "$work/err" "frame 0"
if [ "$(ls "$work"/b/store/shard-*.bin | wc -l)" = 1 ]; then expect 65 "$DPIPE" feed --manifest "$b" --seq-len 32 --on-bad skip; says "$work/err" "none is whole"; fi
a=$(ls "$work"/a/store/manifest-*.json); shard=$(ls "$work"/a/store/shard-*-00.bin | head -1); rm "$shard"
expect 74 "$DPIPE" feed --manifest "$a" --seq-len 32; says "$work/err" "$(basename "$shard")"
expect 0 "$DPIPE" feed --manifest "$a" --seq-len 32 --on-bad skip --steps 50; says "$work/err" "going on without"
finish
