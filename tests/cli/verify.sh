#!/usr/bin/env bash
# verify: flipped bits are named; --quarantine moves files aside, --restore back; the next run makes them again, with the same bytes.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
corpus "$work/c"
for how in none zstd; do
  w=$work/$how; workspace "$w" "$work/c"; sed -i "s/shards: {/shards: {compression: $how, /" "$w/recipe.yaml"
  expect 0 "$DPIPE" run -q -w "$w" --until shard; want=$(store "$w")
  expect 0 "$DPIPE" verify -w "$w" --quarantine --restore; says "$work/out" "whole"; [ -e "$w/store/quarantine" ] && bad "a quarantine for nothing" || ok
  b=$(ls "$w"/store/shard-*.*bin | head -1); n=$(basename "$b"); x=${b%.*}.dpx; m=$(ls "$w"/store/manifest-*.json)
  printf 'XY' | dd of="$b" bs=1 seek=300 conv=notrunc status=none; hurt=$(sha256sum <"$b")
  expect 65 "$DPIPE" verify -w "$w"; says "$work/out" "$n, frame 0"; [ -e "$b" ] && ok || bad "verify alone moved the file"
  expect 65 "$DPIPE" verify -w "$w" --quarantine --json; says "$work/out" '"frame":0'; says "$work/out" '"quarantine":"moved to quarantine/"'
  same "$(sha256sum <"$w/store/quarantine/$n")" "$hurt" "bytes in quarantine"; says "$w/store/quarantine/list.json" "frame 0"
  [ -e "$b" ] && bad "the shard is still there" || ok
  expect 65 "$DPIPE" verify -w "$w"; says "$work/out" "in quarantine"
  [ $how = zstd ] || { expect 74 "$DPIPE" feed -w "$w" --seq-len 16; says "$work/err" "$n"; }
  expect 65 "$DPIPE" verify -w "$w" --restore; says "$work/out" "moved back"; says "$work/out" "$n, frame 0"; same "$(sha256sum <"$b")" "$hurt" "bytes restored"
  # Side file and manifest too; then a run makes all three again.
  printf 'Z' | dd of="$x" bs=1 seek=200 conv=notrunc status=none; printf '7' | dd of="$m" bs=1 seek=120 conv=notrunc status=none
  expect 65 "$DPIPE" verify -w "$w" --quarantine; says "$work/out" "$(basename "$m"): moved to quarantine/"; says "$work/out" "$(basename "$x"): moved to quarantine/"
  expect 0 "$DPIPE" run -q -w "$w" --until shard
  expect 0 "$DPIPE" verify -w "$w"; says "$work/out" "whole"
  expect 0 "$DPIPE" verify -w "$w" --restore; says "$work/out" "there again"
  rm -r "$w/store/quarantine"; same "$(store "$w")" "$want" "the store after quarantine and a run ($how)"
done
# A data set without a workspace.
cp -r "$work/none/store" "$work/set"; m=$(ls "$work"/set/manifest-*.json); b=$(ls "$work"/set/shard-*.bin | head -1)
printf 'XY' | dd of="$b" bs=1 seek=300 conv=notrunc status=none
expect 65 "$DPIPE" verify --quarantine "$m"; [ -e "$work/set/quarantine/$(basename "$b")" ] && ok || bad "not in quarantine"
expect 65 "$DPIPE" verify --restore "$m"; [ -e "$b" ] && ok || bad "not restored"
finish
