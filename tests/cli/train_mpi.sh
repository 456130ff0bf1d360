#!/usr/bin/env bash
# mpirun -n 1, 2, 3 dpipe train (make check-mpi): one rank's losses within rounding, the same bits from run to run, a checkpoint that another number of ranks goes
# on from, and a rank that is killed. Skipped where the program wasn't built with MPI; tests/unit/test_parallel.c has the arithmetic without it.
set -u
. "$(dirname "$0")/../lib.sh"
if ! command -v mpirun >/dev/null || ! ldd "$DPIPE" | grep libmpi >/dev/null; then echo "skip train_mpi: no mpirun, or built without MPI=1"; echo "0 passed, 0 failed, 1 skipped"; exit; fi
cd "$work"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_btl_base_warn_component_unused=0
corpus c; workspace proto c 2>/dev/null; "$DPIPE" run -q -w proto --until shard
opts=(--threads 1 --batch 2 --accum 3 --ckpt-every 10 --eval-every 10)
start() { local n=$1 w=$2; shift 2; [ -d "$w" ] || cp -r proto "$w"; exec timeout 60 mpirun --oversubscribe -n "$n" "$DPIPE" train -w "$w" "${opts[@]}" "$@"; }
run() { (start "$@"); }
digest() { cat "$1"/store/model-* "$1"/store/loss-*.jsonl | sha256sum; }
# near A B BOUND WHAT: every number of the loss logs
near() {
  paste <(tr -s '{}:,"' ' ' <"$1"/store/loss-*.jsonl) <(tr -s '{}:,"' ' ' <"$2"/store/loss-*.jsonl) | awk -v bound="$3" '{ h = NF / 2; for (i = 1; i <= h; i++) { d = $i - $(h + i); if ($i != $(h + i) && (d > bound || -d > bound || $i + 0 == 0)) bad = 1 } } END { exit bad || NR < 20 }' && ok || bad "$4"
}
steps() { sed 's/.*"step":\([0-9]*\).*/\1/' "$1"/store/loss-*.jsonl | sort -n | uniq -c | awk '$1 != 1 { bad = 1 } END { print NR - 1 (bad ? " doubled" : "") }'; }

cp -r proto alone; expect 0 "$DPIPE" train -q -w alone "${opts[@]}" --steps 40
for n in 1 2 3; do expect 0 run $n n$n -q --steps 40; near alone n$n 2e-5 "losses of $n ranks are not one's"; same "$(steps n$n)" 40 "lines of the log of $n ranks"; done
same "$(digest n1)" "$(digest alone)" "mpirun -n 1"
expect 0 run 2 again -q --steps 40; same "$(digest again)" "$(digest n2)" "two ranks, twice"
same "$(ls again/tmp | wc -l)" 0 "files left in tmp/"

newest() { find "$1/store" -name 'checkpoint-*' 2>/dev/null | awk -F'[-.]' '$(NF - 1) + 0 > m { m = $(NF - 1) + 0 } END { print m + 0 }'; }
# ranks W: "PID RANK" of each process of the job
ranks() {
  local k; for k in $(pgrep -f "train -w $1 "); do
    if [ "$(readlink "/proc/$k/exe")" = "$(readlink -f "$DPIPE")" ]; then tr '\0' '\n' <"/proc/$k/environ" | sed -n "s/^OMPI_COMM_WORLD_RANK=/$k /p"; fi
  done
}
# killed W N RANK: start N ranks, kill one behind their first checkpoint; all of them end, and say where to go on
killed() {
  local w=$1 n=$2 rank=$3 pid i s=0 before; before=$(newest "$w")
  start "$n" "$w" --steps 600 >out 2>err & pid=$!
  for i in $(seq 400); do [ "$(newest "$w")" -gt "$before" ] && break; sleep 0.05; done
  kill -9 "$(ranks "$w" | awk -v r="$rank" '$2 == r { print $1 }')"; wait $pid || s=$?
  [ $s != 0 ] && ok || bad "a job whose rank $rank was killed ends with 0"
  [ "$n" = 1 ] || says err "goes on from the checkpoint behind step"
  for i in $(seq 20); do [ -z "$(ranks "$w")" ] && break; sleep 0.1; done
  same "$(ranks "$w")" "" "processes that outlive the job"
}
killed k 2 1; killed k 1 0; killed k 3 0
run 3 k --steps 600 >out 2>err || bad "no end behind the kills: $(tail -3 err)"
says err "going on behind step"; same "$(steps k)" 600 "lines of the log, with ranks that were killed"
finish
