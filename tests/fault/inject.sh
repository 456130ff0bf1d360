#!/usr/bin/env bash
# The n-th write, fsync, rename or malloc fails: a clear error (or none), never a crash; the run after it ends with the same store.
# DP_STRIDE=N tests each N-th call (default: about 12 places a function).
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
shim=$BUILD/tests/fault/shim_fail.so
corpus "$work/c"; workspace "$work/proto" "$work/c"
cp -r "$work/proto" "$work/whole"; "$DPIPE" run -q -w "$work/whole" 2>/dev/null; want=$(store "$work/whole")
for spec in write:ENOSPC fsync:EIO rename:EIO malloc:ENOMEM write:EIO; do
  fn=${spec%:*} fired=0 k=1
  step=${DP_STRIDE:-$([ $fn = malloc ] && echo 331 || { [ $fn = write ] && echo 9 || echo 4; })}
  for _ in $(seq 1 14); do
    w=$work/f; rm -rf "$w" "$work/mark"; cp -r "$work/proto" "$w"
    DP_FAIL=$spec:$k DP_FAIL_MARK=$work/mark LD_PRELOAD=$shim timeout 120 "$DPIPE" run -w "$w" -q --threads 1 >/dev/null 2>"$work/err"; s=$?
    [ -e "$work/mark" ] && fired=$((fired + 1)) || { [ $k -gt 1 ] && break; }
    case $s in
      0 | 65 | 70 | 74 | 75) ok ;;
      *) bad "$spec number $k: exit $s: $(tail -1 "$work/err")" ;;
    esac
    if [ $s != 0 ] && ! grep -q "error: ..*" "$work/err"; then bad "$spec number $k: exit $s without a message"; fi
    "$DPIPE" run -q -w "$w" >/dev/null 2>"$work/err" && same "$(store "$w")" "$want" "store after $spec number $k" || bad "run after $spec number $k: $(tail -1 "$work/err")"
    k=$((k + step))
  done
  if [ $fired -gt 0 ]; then ok; else bad "$spec never fired"; fi
  echo "$spec fired $fired times" >&2
done
finish
