#!/usr/bin/env bash
# The whole 10M reference curve: 200 updates from the same weights and rows as PyTorch's, and how far from it. Some minutes of CPU.
# usage: CURVE=FOLDER bench/curve.sh [train's options]    FOLDER has kjv_train.u16.gz, kjv_val.u16.gz and curve_10m_fp32.jsonl
set -euo pipefail; cd "$(dirname "$0")/.."
: "${CURVE:?the folder of the reference curve: CURVE=FOLDER}" "${BUILD:=build/release}" "${VAL:=0.02}"
work=$(mktemp -d "${TMPDIR:-/tmp}/dpipe-curve.XXXXXX"); trap 'rm -rf "$work"' EXIT
for f in train val; do gzip -dc "$CURVE/kjv_$f.u16.gz" >"$work/$f.u16"; done
"$BUILD/dpipe" train --data "$work/train.u16" --val-data "$work/val.u16" --draw hash --vocab 8192 --seed 0 --warmup 10 --steps 200 --eval-every 20 --eval-batches 8 --log "$work/log" "$@"
num() { sed -n "s/.*\"$1\": *\([-0-9.e+]*\).*/\1/p" "$2"; }
paste <(num loss "$work/log") <(num train "$CURVE/curve_10m_fp32.jsonl") | awk 'NF == 2 { d = $1 > $2 ? $1 - $2 : $2 - $1; if (NR == 1) first = d; if (NR <= 10 && d > ten) ten = d; if (d > all) all = d; n++ }
  END { printf "{\"updates\": %d, \"first\": %.2e, \"first_ten\": %.2e, \"all\": %.2e", n, first, ten, all; exit n != 200 || first > 1e-4 || ten > 1e-3 }' && s=0 || s=1
paste <(num val_loss "$work/log") <(num val "$CURVE/curve_10m_fp32.jsonl") | awk -v within="$VAL" 'NF == 2 { d = $1 > $2 ? $1 - $2 : $2 - $1; if (d > all) all = d; last = d; n++ }
  END { printf ", \"validation\": %.2e, \"validation_at_200\": %.2e}\n", all, last; exit n != 11 || last > within }' || s=1
[ $s = 0 ] || { echo "curve: further than 1e-4, 1e-3 or $VAL" >&2; exit 1; }
