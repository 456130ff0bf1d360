#!/usr/bin/env bash
# Power cuts: ext4 on a loop device, shut down in the kernel without flushing its log (EXT4_IOC_SHUTDOWN) at random moments of `dpipe run` and `dpipe serve`.
# What the catalog or the service had said was done is done after the journal is replayed, whole; the next run ends with the bytes of an
# unbroken one. Needs root, loop devices and mkfs.ext4; skipped, aloud, where they aren't. DP_CUTS=N for each of the two (6); DP_SEED.
set -u; cd "$(dirname "$0")/../.."
# In a mount namespace of its own: a copy of the mount in another one, made meanwhile, would keep the dead file system alive.
[ "${DP_UNSHARED:-}" ] || ! unshare -m true 2>/dev/null || DP_UNSHARED=1 exec unshare -m --propagation private bash "$0" "$@"
. tests/lib.sh
probe=$BUILD/tests/fault/probe cuts=${DP_CUTS:-6} RANDOM=${DP_SEED:-5} disk=$work/disk
PATH=$PATH:/usr/sbin:/sbin
# Not lazily: what is still mounted somewhere stays dead. Whoever has a file open yet (a look at all processes, say) closes it in a moment.
mounted() { grep -q " $disk " /proc/self/mountinfo; }
off() { local i; for i in $(seq 200); do mounted || return 0; umount "$disk" 2>>"$work/umount"; sleep 0.01; done; echo "umount: $(tail -1 "$work/umount")"; umount -l "$disk"; return 1; }
trap 'kill -9 $(jobs -p) 2>/dev/null; wait 2>/dev/null; off; rm -rf "$work"' EXIT
mkdir "$disk"; truncate -s 96M "$work/img"
on() { mount -o loop "$work/img" "$disk" 2>"$work/err"; }
if ! { mkfs.ext4 -q -F "$work/img" 2>"$work/err" && on && "$probe" cut "$disk" 2>"$work/err" && umount "$disk" && on; }; then
  echo "skip: no power cuts here (root, loop devices, mkfs.ext4 and EXT4_IOC_SHUTDOWN are wanted): $(tail -1 "$work/err")"; finish
fi
nap() { sleep "$(printf '%d.%06d' $(($1 / 1000000)) $(($1 % 1000000)))"; }
corpus "$work/c"; workspace "$work/proto" "$work/c" 2>/dev/null
cp -r "$work/proto" "$work/whole"; t=$(date +%s%N); expect 0 "$DPIPE" run -q -w "$work/whole"; us=$((($(date +%s%N) - t) / 1000)); want=$(store "$work/whole")
middle=0 live=0
# darken PID: the moment comes: what was said to be done, then darkness
darken() {
  "$probe" done "$w/catalog.db" >"$work/said" 2>/dev/null || : >"$work/said"
  "$probe" cut "$disk"; kill -9 "$1" 2>/dev/null && live=$((live + 1)); wait "$1" 2>/dev/null; off || { bad "the disk stays busy"; finish; }; on || { bad "no mount after a cut: $(cat "$work/err")"; finish; }
  "$probe" done "$w/catalog.db" >"$work/kept" 2>"$work/err"; comm -23 "$work/said" "$work/kept" >"$work/lost"
  [ -s "$work/lost" ] && bad "lost in a power cut: $(head -3 "$work/lost")" || ok
  [ -s "$work/said" ] && middle=$((middle + 1))
  [ ! -e "$w/catalog.db" ] || same "$("$probe" catalog "$w/catalog.db" 2>&1)" ok "catalog after a cut"
}
n=0 w=$disk/w
while [ $n -lt "$cuts" ]; do
  rm -rf "$w"; cp -r "$work/proto" "$w"; sync -f "$disk"
  for _ in 1 2 3 4; do
    "$DPIPE" run -q -w "$w" >/dev/null 2>&1 & pid=$!
    nap $((3000 + RANDOM * us / 32768)); darken $pid; n=$((n + 1)); [ $n -lt "$cuts" ] || break
    "$DPIPE" verify -q -w "$w" >"$work/o" 2>&1 || grep -q "no manifest\|nothing" "$work/o" || bad "verify after a cut: $(tail -2 "$work/o")"
  done
  "$DPIPE" run -q -w "$w" >/dev/null 2>"$work/err" || bad "run after power cuts: $(tail -1 "$work/err")"
  same "$(store "$w")" "$want" "store after $n power cuts"; same "$(ls "$w/tmp" | wc -l)" 0 "files in tmp/"
done
# The service, documents coming in; its sources lie on another disk.
recipe() { printf 'sources: [%s]\nclean:\n  c4: {enabled: false}\ntrain-bpe: {vocab_size: 400}\nshards: {growth: rebuild}\nserve: {settle: 20ms, rescan: 1h, min_free: 0, retry_base: 1s, keep: 1h, spool: false}\n' "$work/in"; }
rm -rf "$w"; mkdir "$work/in"; "$DPIPE" init -q "$w"; recipe >"$w/recipe.yaml"; sync -f "$disk"
for n in $(seq 1 "$cuts"); do
  words $((n * 10)) 200 >"$work/in/a$n.txt"; "$DPIPE" serve -q -w "$w" >>"$work/log" 2>&1 & pid=$!
  nap $((RANDOM * 3)); words $((n * 10 + 1)) 200 >"$work/in/b$n.txt"; nap $((5000 + RANDOM * 6)); darken $pid
done
"$DPIPE" init -q "$work/one"; recipe >"$work/one/recipe.yaml"; expect 0 "$DPIPE" run -q -w "$work/one" --until shard
expect 0 "$DPIPE" run -q -w "$w" --until shard; (cd "$work/one/store" && sha256sum -- *) >"$work/sums"
(cd "$w/store" && sha256sum --status -c "$work/sums") && ok || bad "what a run over all documents makes isn't there after power cuts of the service"
"$DPIPE" verify -q -w "$w" >"$work/o" 2>&1 && ok || bad "verify: $(tail -2 "$work/o")"
[ $middle -ge $((cuts * 2 / 3)) ] && ok || bad "only $middle of $((2 * cuts)) cuts came when something was done"
off; echo "$((2 * cuts)) power cuts, $live of them under a live process, $middle with work that was said to be done" >&2
finish
