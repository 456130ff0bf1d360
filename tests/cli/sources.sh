#!/usr/bin/env bash
# Sources that change, vanish, can't be read or are no files; roots in any order; a workspace among its own sources.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
mkdir -p "$work/c/sub"; for i in 1 2 3 4 5; do words $i 80 >"$work/c/$i.txt"; done; words 9 80 >"$work/c/sub/x.txt"
positions() { "$DPIPE" inspect -w "$1" --records -n 0 --json | sed 's/.*"pos":"\([^"]*\)".*/\1/' | sort | tr '\n' ' '; }
made() { (cd "$1/store" && sha256sum records-* | sort); }
w=$work/w; "$DPIPE" init -q "$w"; expect 0 "$DPIPE" ingest -q -w "$w" "$work/c"; first=$(made "$w")
same "$(positions "$w")" "1.txt 2.txt 3.txt 4.txt 5.txt sub/x.txt " "records of a folder"
# Gone, changed, new: what is there counts, and gives what a fresh workspace gives.
rm "$work/c/2.txt"; words 33 80 >"$work/c/3.txt"; words 6 80 >"$work/c/6.txt"
expect 0 "$DPIPE" ingest -q -w "$w"; says "$work/err" "1 files that were sources are gone"
same "$(positions "$w")" "1.txt 3.txt 4.txt 5.txt 6.txt sub/x.txt " "records after a change"
"$DPIPE" init -q "$work/w2"; expect 0 "$DPIPE" ingest -q -w "$work/w2" "$work/c"
same "$(made "$work/w2" | cut -d' ' -f1)" "$(made "$w" | grep -v "${first%% *}" | cut -d' ' -f1)" "records of a fresh workspace"
# No files below a folder: left out, nothing hangs.
rm "$work/c/4.txt"; mkfifo "$work/c/4.txt"; ln -s loop "$work/c/loop"; ln -s . "$work/c/self"; ln -s /etc/passwd "$work/c/out"
expect 0 timeout 20 "$DPIPE" ingest -q -w "$w"; same "$(positions "$w")" "1.txt 3.txt 5.txt 6.txt sub/x.txt " "records beside a FIFO"
rm "$work/c/4.txt" "$work/c/loop" "$work/c/self" "$work/c/out"
expect 64 "$DPIPE" ingest -w "$w" /dev/null; expect 74 "$DPIPE" ingest -w "$w" "$work/absent"; expect 64 "$DPIPE" ingest -w "$w" --forget
# Unreadable ones: reported, the rest is read. root reads everything, so as nobody.
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
  mkdir "$work/c/shut"; words 8 80 >"$work/c/shut/y.txt"; chmod 0 "$work/c/shut" "$work/c/5.txt"; chmod 755 "$work"; "$DPIPE" init -q "$work/n"; chmod -R a+rwX "$work/n"
  expect 0 setpriv --reuid 65534 --clear-groups "$DPIPE" ingest -q -w "$work/n" "$work/c"; says "$work/err" "5.txt: cannot open: Permission denied; left out"; says "$work/err" "shut: Permission denied; left out"
  same "$(positions "$work/n")" "1.txt 3.txt 6.txt sub/x.txt " "records beside unreadable files"
  chmod -R a-w "$work/n"; for k in status "inspect --units"; do expect 0 setpriv --reuid 65534 --clear-groups "$DPIPE" $k -w "$work/n"; done
  expect 74 setpriv --reuid 65534 --clear-groups "$DPIPE" run -w "$work/n"; chmod -R u+w "$work/n"; chmod 700 "$work/c/shut"; rm -r "$work/c/shut"; chmod 644 "$work/c/5.txt"
fi
# A path longer than the system takes is named.
(cd "$work" && mkdir deep && cd deep && for i in $(seq 1 30); do d=$(printf "%0150d" "$i"); mkdir "$d" && cd "$d" || exit; echo text >t.txt; done)
"$DPIPE" init -q "$work/d"; expect 0 "$DPIPE" ingest -q -w "$work/d" "$work/deep"; says "$work/err" "File name too long; left out"
# A root inside another one: the outer names the files, whichever came first. Forgetting takes a root's files away.
for order in "c c/sub" "c/sub c"; do
  rm -rf "$work/o"; "$DPIPE" init -q "$work/o"; for r in $order; do expect 0 "$DPIPE" ingest -q -w "$work/o" --register-only "$work/$r"; done
  expect 0 "$DPIPE" run -q -w "$work/o" --until ingest; same "$(positions "$work/o")" "1.txt 3.txt 5.txt 6.txt sub/x.txt " "roots in the order $order"
done
expect 0 "$DPIPE" ingest -q -w "$work/o" --forget "$work/c"; same "$(positions "$work/o")" "" "records of what is left, not read yet"
expect 0 "$DPIPE" run -q -w "$work/o" --until ingest; same "$(positions "$work/o")" "x.txt " "records after forgetting"
expect 64 "$DPIPE" ingest -w "$work/o" --forget "$work/c"; says "$work/err" "is not registered"
mv "$work/c" "$work/c2"; expect 74 "$DPIPE" run -w "$work/o"; says "$work/err" "ingest --forget"; expect 0 "$DPIPE" ingest -q -w "$work/o" --forget "$work/c/sub"; mv "$work/c2" "$work/c"
# The workspace in the corpus, as after: cd corpus; dpipe init; dpipe ingest .
(cd "$work/c" && "$DPIPE" init -q && "$DPIPE" ingest -q . && "$DPIPE" ingest -q .) && ok || bad "a workspace among its sources"
same "$(positions "$work/c")" "1.txt 3.txt 5.txt 6.txt sub/x.txt " "records of a workspace's own folder"
# Patterns and paths of a recipe begin where it lies.
"$DPIPE" init -q "$work/g"; printf 'sources: ["../c/[13].txt"]\ntokenizer: {file: no.json}\n' >"$work/g/recipe.yaml"; expect 0 "$DPIPE" run -q -w "$work/g" --until ingest; same "$("$DPIPE" inspect -w "$work/g" --records | wc -l)" 2 "files of a pattern"
expect 74 "$DPIPE" run -q -w "$work/g" --until train-bpe; says "$work/err" "g/no.json"
printf 'sources: ["../c/[89].txt"]\n' >"$work/g/recipe.yaml"; expect 74 "$DPIPE" run -q -w "$work/g"; says "$work/err" "a source of recipe.yaml is not there"
finish
