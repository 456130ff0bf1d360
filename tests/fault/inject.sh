#!/usr/bin/env bash
# The n-th write, fsync, rename, mmap, malloc... fails (tests/fault/shim_fail.c), in `dpipe run`, in its worker processes, in the service, and in the
# feed's server and client. Never a signal, never a wrong byte: a clear error or success, what a success says is there is there, and the next run
# without the fault ends with the bytes of an unbroken one. Every point is proven to have fired.
# DP_PLACES=N: so many n for a point and error, spread over all calls (default 2, and 1 of the service; `make fault`: 300, which is all of
# most). DP_JOBS: at once (4).
# usage: tests/fault/inject.sh [run|worker|serve|server|client]...
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
shim=$BUILD/tests/fault/shim_fail.so probe=$BUILD/tests/fault/probe places=${DP_PLACES:-2} jobs=${DP_JOBS:-4}
trap 'kill -9 $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
corpus "$work/c"; workspace "$work/proto" "$work/c" 2>/dev/null
cp -r "$work/proto" "$work/whole"; "$DPIPE" run -q -w "$work/whole" 2>/dev/null; want=$(store "$work/whole"); (cd "$work/whole/store" && sha256sum -- *) >"$work/sums"
: >"$work/verdicts"; mkdir "$work/none"
good() { echo ok >>"$work/verdicts"; }
wrong() { echo "FAIL $*" >>"$work/verdicts"; }
# told STATUS ERR-FILE WHAT: an end that may be
told() {
  case $1 in
    0) good; return ;;
    64 | 65 | 74 | 75 | 78) ;;
    *) wrong "$3: exit $1: $(tail -2 "$2")"; return ;;
  esac
  if grep -q "error: ..*" "$2"; then good; else wrong "$3: exit $1 without a message"; fi
}
again() { # again WORKSPACE WHAT: a run without faults repairs it
  "$DPIPE" run -q -w "$1" >/dev/null 2>"$1.err" || wrong "$2: the next run: $(tail -1 "$1.err")"
  [ "$(store "$1")" = "$want" ] && good || wrong "$2: store after the next run"
  [ -z "$(ls "$1/tmp")" ] && good || wrong "$2: files in tmp/: $(ls "$1/tmp" | head -3)"
}
# The cases: each gets a folder $d of its own, and the fault in $DP_FAIL.
# A success holds all artifacts, byte for byte. More may be there: what couldn't be removed (an old checkpoint) waits for the next run.
holds() { (cd "$1/store" && sha256sum --status -c "$work/sums") || wrong "$2: exit 0, but another store"; }
case_run() {
  cp -r "$work/proto" "$d/w"; LD_PRELOAD=$shim timeout 120 "$DPIPE" run -w "$d/w" -q --threads 1 >/dev/null 2>"$d/err"; local s=$?
  told $s "$d/err" "$1"; [ $s = 0 ] && holds "$d/w" "$1"
  again "$d/w" "$1"
}
case_worker() {
  cp -r "$work/proto" "$d/w"; DP_FAIL_IN=worker LD_PRELOAD=$shim timeout 120 "$DPIPE" run -w "$d/w" -q --threads 1 --isolate=process >/dev/null 2>"$d/err"; local s=$?
  told $s "$d/err" "$1"; [ $s = 0 ] && holds "$d/w" "$1"
  [ -e "$d/w/quarantine" ] && wrong "$1: an innocent document is in quarantine"
  again "$d/w" "$1"
}
# A pass over all files, a control request, HTTP requests, a file that comes in, a stop. What fails before it is ready may end it with an error; after
# that it lives, and everything gets done without help.
case_serve() {
  local pid s i up=; cp -r "$work/served" "$d/w"; mkdir "$d/in"; cp "$work"/c/site/p1*.html "$d/in"; sed "s,@IN@,$d/in," "$work/served/recipe.yaml" >"$d/w/recipe.yaml"
  LD_PRELOAD=$shim "$DPIPE" serve -q -w "$d/w" --threads 2 >/dev/null 2>"$d/err" & pid=$!
  for i in $(seq 400); do kill -0 $pid 2>/dev/null || break; [ -n "$up" ] || { "$DPIPE" rescan -q -w "$d/w" 2>/dev/null && { up=1; cp "$work/c/site/p2.html" "$d/in/"; } }
    "$probe" get "$d/w/http.sock" /readyz >/dev/null 2>&1; "$probe" get "$d/w/http.sock" /api/v1/stages >/dev/null 2>&1
    [ "$up" ] && [ "$(store "$d/w" 2>/dev/null)" = "$want_served" ] && break; sleep 0.05
  done
  if kill -0 $pid 2>/dev/null; then
    [ "$(store "$d/w")" = "$want_served" ] && good || wrong "$1: the service doesn't come to an end: $("$DPIPE" status -w "$d/w" 2>&1 | head -3; tail -3 "$d/err")"
    kill -TERM $pid 2>/dev/null; wait $pid; s=$?; [ $s = 0 ] && good || wrong "$1: exit $s at SIGTERM: $(tail -2 "$d/err")"
  else
    wait $pid; s=$?; [ -z "$up" ] && [ $s != 0 ] && told $s "$d/err" "$1" || wrong "$1: the service ended by itself, exit $s: $(tail -2 "$d/err")"
  fi
  cp "$work/c/site/p2.html" "$d/in/" 2>/dev/null; "$DPIPE" run -q -w "$d/w" --until shard >/dev/null 2>"$d/err2" || wrong "$1: the next run: $(tail -1 "$d/err2")"
  [ "$(store "$d/w")" = "$want_served" ] && good || wrong "$1: store after the next run: $(diff <(ls "$work/sw/store") <(ls "$d/w/store") | head -3)"
}
feed="--seq-len 32 --batch 5 --seed 9 --pack bestfit --steps 3000"
case_feed() { # case_feed WHAT SERVER-PRELOAD CLIENT-PRELOAD
  local pid s i more=''; [ "$2" ] && more="--reconnect 3"
  LD_PRELOAD=$2 "$DPIPE" feed -q -w "$work/whole" --serve "$d/sock" 2>"$d/err" & pid=$!
  for i in $(seq 200); do [ -S "$d/sock" ] || ! kill -0 $pid 2>/dev/null && break; sleep 0.01; done
  # shellcheck disable=SC2086
  if kill -0 $pid 2>/dev/null; then
    LD_PRELOAD=$3 timeout 60 "$DPIPE" feed -q -w "$work/none" --connect "$d/sock" $feed $more --dump "$d/dump" >/dev/null 2>"$d/err2"; s=$?
    told $s "$d/err2" "$1"; if [ $s = 0 ]; then cmp -s "$d/dump" "$work/dump" && good || wrong "$1: exit 0, but another dump"; fi
    kill -0 $pid 2>/dev/null && good || { wait $pid; told $? "$d/err" "$1"; "$DPIPE" feed -q -w "$work/whole" --serve "$d/sock" 2>"$d/err" & pid=$!; for i in $(seq 200); do [ -S "$d/sock" ] && break; sleep 0.01; done; }
    for i in 1 2; do timeout 60 "$DPIPE" feed -q -w "$work/none" --connect "$d/sock" $feed --dump "$d/dump" >/dev/null 2>"$d/err2" && break; done # the fault may fall on it
    [ $i = 1 ] || "$probe" counts "$d/n" "${DP_FAIL%%:*}" | grep -q ' 1$' || i=3; cmp -s "$d/dump" "$work/dump" && [ $i -lt 3 ] && good || wrong "$1: the next client: $(tail -1 "$d/err2")"
    kill -TERM $pid 2>/dev/null; wait $pid; s=$?; [ $s = 0 ] && good || wrong "$1: exit $s at SIGTERM: $(tail -2 "$d/err")"
  else wait $pid; s=$?; [ $s != 0 ] && told $s "$d/err" "$1" || wrong "$1: the server ended with 0"; fi
}
case_server() { case_feed "$1" "$shim" ''; }
case_client() { case_feed "$1" '' "$shim"; }

# Where the fault falls: so many places, spread over what an unbroken run calls.
spread() { awk -v n="$1" -v k="$places" 'BEGIN { if (k > n) k = n; for (i = 0; i < k; i++) { at = 1 + int(i * n / k); print at } }'; }
sweep() { # sweep CASE POINT:ERROR...
  local name=$1 spec point calls at fired d; shift
  d=$work/count.$name; mkdir "$d"; (export DP_FAIL_COUNT=$d/n; "case_$name" "counting for $name"); mv "$d/n" "$work/counts.$name"
  for spec in "$@"; do
    point=${spec%:*}; calls=$("$probe" counts "$work/counts.$name" "$point" | cut -d' ' -f1)
    [ "${calls:-0}" -gt 0 ] || { wrong "$name: point $point is never passed"; continue; }
    for at in $(spread "$calls"); do
      while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
      d=$work/$name.${spec/:/.}.$at; mkdir "$d"
      (export DP_FAIL=$spec:$at DP_FAIL_COUNT=$d/n; "case_$name" "$name, $spec number $at"; "$probe" counts "$d/n" "$point" | cut -d' ' -f2 >>"$work/fired.$name.$spec"; rm -rf "$d") &
    done
  done
  wait
  for spec in "$@"; do
    fired=$(awk '{ n += $1 } END { print n + 0 }' "$work/fired.$name.$spec" 2>/dev/null)
    [ "${fired:-0}" -gt 0 ] && good || wrong "$name: $spec never fired"; printf '%s %s: %s\n' "$name" "$spec" "${fired:-0}" >>"$work/fired"
  done
}
[ $# -gt 0 ] || set -- run worker serve server client
for part in "$@"; do
  case $part in
    run) sweep run write:ENOSPC write:EIO write:short write:EINTR read:EIO read:short read:EINTR fsync:EIO rename:EIO unlink:EACCES open:EMFILE open:EACCES truncate:EIO mmap:ENOMEM malloc:ENOMEM thread:EAGAIN opendir:EMFILE stat:EIO
      # A file that can't be looked at just now is not one that is gone: the run fails, and forgets nothing.
      w=$work/eio; cp -r "$work/whole" "$w"; DP_FAIL=stat:EIO:1+ DP_FAIL_PATH=site/note.txt LD_PRELOAD=$shim expect 74 "$DPIPE" run -q -w "$w"; says "$work/err" "note.txt"
      expect 0 "$DPIPE" run -q -w "$w" --json; says "$work/out" '"made":0' ;;
    worker) sweep worker write:ENOSPC write:EIO write:short fsync:EIO open:EMFILE mmap:ENOMEM malloc:ENOMEM send:ECONNRESET recv:ECONNRESET thread:EAGAIN stat:EIO
      # And what the broker does for its workers.
      case_broker() { cp -r "$work/proto" "$d/w"; LD_PRELOAD=$shim timeout 120 "$DPIPE" run -w "$d/w" -q --threads 1 --isolate=process >/dev/null 2>"$d/err"; local s=$?; told $s "$d/err" "$1"; again "$d/w" "$1"; }
      sweep broker spawn:EAGAIN memfd:EMFILE socket:EMFILE send:ENOMEM recv:ECONNRESET truncate:EIO mmap:ENOMEM malloc:ENOMEM ;;
    serve)
      "$DPIPE" init -q "$work/served"; printf 'sources: [%s]\nclean:\n  c4: {enabled: false}\ntrain-bpe: {vocab_size: 400}\nshards: {bytes_per_shard: 64K, growth: rebuild}\nserve: {settle: 50ms, rescan: 2s, min_free: 0, retry_base: 1s, retry_max: 1s, tries: 5, keep: 1s, spool: false}\n' @IN@ >"$work/served/recipe.yaml"
      mkdir "$work/in"; cp "$work"/c/site/p1*.html "$work/c/site/p2.html" "$work/in"; cp -r "$work/served" "$work/sw"; sed "s,@IN@,$work/in," "$work/served/recipe.yaml" >"$work/sw/recipe.yaml"
      "$DPIPE" run -q -w "$work/sw" --until shard 2>/dev/null; want_served=$(store "$work/sw")
      [ "${DP_PLACES:-}" ] || places=1; jobs=$((jobs * 2)) # they wait more than they work
      sweep serve write:ENOSPC write:EIO read:EIO fsync:EIO rename:EIO unlink:EACCES open:EMFILE truncate:EIO mmap:ENOMEM malloc:ENOMEM send:ENOMEM recv:ECONNRESET writev:ECONNRESET readv:ECONNRESET accept:EMFILE socket:EMFILE spawn:EAGAIN thread:EAGAIN memfd:EMFILE epoll:ENOMEM eventfd:EMFILE inotify:ENOSPC opendir:EMFILE stat:EIO ;;
    server | client)
      [ "${DP_PLACES:-}" ] || places=2
      # shellcheck disable=SC2086
      "$DPIPE" feed -w "$work/whole" $feed --dump "$work/dump" >/dev/null 2>&1
      if [ "$part" = server ]; then sweep server read:EIO open:EMFILE truncate:ENOSPC mmap:ENOMEM malloc:ENOMEM send:ECONNRESET recv:ECONNRESET accept:EMFILE socket:EMFILE thread:EAGAIN memfd:EMFILE eventfd:EMFILE stat:EIO
      else
        expect 74 "$DPIPE" feed -w "$work/whole" $feed --dump /dev/full; says "$work/err" "No space"
        sweep client open:EMFILE mmap:ENOMEM malloc:ENOMEM send:ECONNRESET recv:ECONNRESET socket:EMFILE
      fi ;;
  esac
done
passed=$((passed + $(grep -c '^ok' "$work/verdicts"))); grep '^FAIL' "$work/verdicts" | sort | sed 's/^FAIL/FAIL:/'; failed=$((failed + $(grep -c '^FAIL' "$work/verdicts")))
tr '\n' ';' <"$work/fired" | sed 's/^/fired: /' >&2; echo >&2
finish
