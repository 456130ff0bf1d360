#!/usr/bin/env bash
# Shell tests with a program that sanitizers watch: their reports are failures also where the program is killed afterwards or nobody looks at its end.
# usage: tests/fault/sanitized.sh BUILD_FOLDER SCRIPT...
set -u; cd "$(dirname "$0")/../.."
build=$1; shift
reports=$(mktemp -d "${TMPDIR:-/tmp}/dpipe-reports.XXXXXX"); trap 'rm -rf "$reports"' EXIT
export DP_SANITIZED=1 DP_KILLS=${DP_KILLS:-60} DP_CHANGES=${DP_CHANGES:-100}
export ASAN_OPTIONS="log_path=$reports/asan:${ASAN_OPTIONS:-}" TSAN_OPTIONS="log_path=$reports/tsan:halt_on_error=1:${TSAN_OPTIONS:-}" UBSAN_OPTIONS="log_path=$reports/ubsan:print_stacktrace=1"
tests/run.sh "$build" "$@"; status=$?
# A worker that a test makes crash (DPIPE_TEST_FAULT) leaves a report where it can; its last words are SEGV, ABRT and the like.
for f in "$reports"/*; do
  [ -e "$f" ] || continue
  grep -qE 'Sanitizer:? (SEGV|ABRT|stack-overflow|nested bug)|DEADLYSIGNAL' "$f" && grep -q 'test_fault\|fault_' "$f" && continue
  status=1; echo "FAIL: $f"; head -60 "$f"
done
exit $status
