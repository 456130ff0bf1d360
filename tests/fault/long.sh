#!/usr/bin/env bash
# The fault campaign in its long form: `make fault`. Each script's counts are raised; the last line sums them all up.
# usage: tests/fault/long.sh BUILD_FOLDER [NAME,...]   kills power inject sources clients conserve disk worker_crash
set -u; cd "$(dirname "$0")/../.."
build=$1 names=${2:-kills,power,inject,sources,clients,conserve,disk,worker_crash} p=0 f=0
export DP_LIMIT_S=${DP_LIMIT_S:-86400}
for name in ${names//,/ }; do
  case $name in
    kills) set -- DP_KILLS=${DP_KILLS:-6000} ;;
    power) set -- DP_CUTS=${DP_CUTS:-100} ;;
    inject) set -- DP_PLACES=${DP_PLACES:-300} ;;
    sources) set -- DP_CHANGES=${DP_CHANGES:-5000} ;;
    clients) set -- DP_GARBLED=${DP_GARBLED:-20000} DP_HELD=${DP_HELD:-100000} ;;
    conserve) set -- DP_SECONDS=${DP_SECONDS:-300} ;;
    worker_crash) set -- DP_KILLS=${DP_KILLS:-1000} ;;
    *) set -- ;;
  esac
  echo "$name $*:"; env "$@" tests/run.sh "$build" "tests/fault/$name.sh" | tee "$build/fault.log"
  line=$(tail -1 "$build/fault.log"); p=$((p + $(cut -d' ' -f1 <<<"$line"))) f=$((f + $(cut -d' ' -f3 <<<"$line")))
done
echo "$p passed, $f failed"; [ $f -eq 0 ]
