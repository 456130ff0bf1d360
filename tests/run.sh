#!/usr/bin/env bash
# Run test programs and scripts, add up their closing lines, print one "N passed, N failed" last.
# usage: tests/run.sh BUILD_FOLDER ITEM...   ITEM: a program, a script (*.sh; *.py with $PYTHON), or a fuzz target (replayed over its corpus)
set -u
build=$1; shift
export DPIPE="$PWD/$build/dpipe" BUILD="$PWD/$build" LC_ALL=C.UTF-8
export TMPDIR; TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/dpipe-check.XXXXXX"); chmod 711 "$TMPDIR" # some tests run as another user
trap 'rm -rf "$TMPDIR"' EXIT
passed=0 failed=0 skipped=0
for item in "$@"; do
  name=${item#"$build/"}; log=$TMPDIR/log; start=$(date +%s%N)
  case $name in
    *.sh) timeout "${DP_LIMIT_S:-900}" bash "$item" >"$log" 2>&1 ;;
    *.py) timeout 900 "${PYTHON:-python3}" "$item" >"$log" 2>&1 ;;
    tests/fuzz/*) timeout 600 "$item" "tests/fuzz/corpus/${name#tests/fuzz/fuzz_}" >"$log" 2>&1 ;;
    *) timeout 900 "$item" >"$log" 2>&1 ;;
  esac
  status=$?
  line=$(grep -aE '^[0-9]+ passed, [0-9]+ failed' "$log" | tail -1)
  p=$(sed -nE 's/^([0-9]+) passed.*/\1/p' <<<"$line"); f=$(sed -nE 's/.* ([0-9]+) failed.*/\1/p' <<<"$line"); s=$(sed -nE 's/.* ([0-9]+) skipped.*/\1/p' <<<"$line")
  # A program that dies, or closes without its line, is one failure more than it counted.
  if [ -z "$line" ]; then p=0 f=1; elif [ $status -ne 0 ] && [ "${f:-0}" = 0 ]; then f=1; fi
  passed=$((passed + ${p:-0})) failed=$((failed + ${f:-0})) skipped=$((skipped + ${s:-0}))
  ms=$((($(date +%s%N) - start) / 1000000))
  if [ "${f:-0}" = 0 ]; then printf '  ok    %-44s %4s passed  %6d ms\n' "$name" "${p:-0}" $ms
  else printf '  FAIL  %-44s %4s failed (exit %d)\n' "$name" "$f" $status; tail -40 "$log" | sed 's/^/        /'; fi
  grep -a '^skip ' "$log" | sed 's/^/        /'
done
if [ $skipped -gt 0 ]; then echo "$passed passed, $failed failed, $skipped skipped"; else echo "$passed passed, $failed failed"; fi
[ $failed -eq 0 ]
