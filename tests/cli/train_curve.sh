#!/usr/bin/env bash
# The first updates of the 10M reference curve, from the same weights and rows as PyTorch's: the loss within 1e-4, then 1e-3.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
d=tests/data/trainer; n=10
case $DPIPE in */asan/* | */tsan/* | */debug/*) n=1 ;; esac
expect 0 "$DPIPE" train -q --data $d/curve_rows.u16 --draw rows --vocab 8192 --seed 0 --warmup 10 --steps 200 --eval-every 0 --stop-at $n --log "$work/log"
sed 's/[{}":,]/ /g' $d/curve_10m.jsonl | head -$n | awk '{ print $4, $6, $8 }' >"$work/want"
sed 's/[{}":,]/ /g' "$work/log" | awk '{ print $4, $6, $8 }' >"$work/got"
same "$(wc -l <"$work/got")" $n "updates in the log"
paste "$work/got" "$work/want" | awk 'function far(x, y, d) { return x - y > d || y - x > d } { if (far($1, $4, NR == 1 ? 1e-4 : 1e-3) || far($2, $5, 0.02) || far($3, $6, 1e-9)) { print "update " NR ": " $0; bad = 1 } } END { exit bad || NR == 0 }' >"$work/far" && ok || bad "another curve: $(cat "$work/far")"
finish
