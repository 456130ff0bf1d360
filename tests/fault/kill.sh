#!/usr/bin/env bash
# kill -9 at random moments of a run, again and again, then a run to the end: store/ as of an unbroken run, no orphans.
# DP_KILLS=N sets how many kills there are at least (default 50); DP_SEED the random seed.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
kills=${DP_KILLS:-50} RANDOM=${DP_SEED:-1}
corpus "$work/c"
workspace "$work/whole" "$work/c"; expect 0 "$DPIPE" run -q -w "$work/whole"; want=$(store "$work/whole")
start=$(date +%s%N); workspace "$work/timed" "$work/c"; "$DPIPE" run -q -w "$work/timed"; span=$((($(date +%s%N) - start) / 1000000))
n=0 round=0
while [ $n -lt "$kills" ]; do
  round=$((round + 1)); w=$work/k$round; workspace "$w" "$work/c"
  for _ in 1 2 3 4 5 6; do
    "$DPIPE" run -q -w "$w" >/dev/null 2>&1 & pid=$!
    ms=$((RANDOM % span)); sleep "$(printf '%d.%03d' $((ms / 1000)) $((ms % 1000)))"
    kill -9 $pid 2>/dev/null && n=$((n + 1)); wait $pid 2>/dev/null
  done
  "$DPIPE" run -q -w "$w" >"$work/out" 2>"$work/err" || bad "run after kills: $(tail -1 "$work/err")"
  same "$(store "$w")" "$want" "store after $n kills (round $round)"
  same "$(ls "$w/tmp" | wc -l)" 0 "files in tmp/ (round $round)"
  rm -rf "$w"
done
# SIGTERM: a clean stop, exit 75, then the same end.
workspace "$work/term" "$work/c"; "$DPIPE" run -q -w "$work/term" >/dev/null 2>&1 & pid=$!; sleep 0.2; kill -TERM $pid; wait $pid; s=$?
[ $s = 75 ] || [ $s = 0 ] && ok || bad "SIGTERM gave exit $s"
same "$(ls "$work/term/tmp" | wc -l)" 0 "files in tmp/ after SIGTERM"
expect 0 "$DPIPE" run -q -w "$work/term"; same "$(store "$work/term")" "$want" "store after SIGTERM"
echo "killed $n times" >&2
finish
