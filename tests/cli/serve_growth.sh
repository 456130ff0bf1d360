#!/usr/bin/env bash
# Growth of a served workspace: each new manifest begins with the one before, what was decided stays, and a lineage that ends is made anew as `dpipe run` would.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
w=$work/w in=$work/in
trap 'kill -9 $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
recipe() { # recipe SOURCE [MORE OF serve] [MORE SECTIONS]
  printf 'sources: [%s]\nclean:\n  c4: {enabled: false}\ntrain-bpe: {vocab_size: 400}\nshards: {bytes_per_shard: 64K}\nserve: {settle: 100ms, rescan: 1h, min_free: 0, append_wait: 0, retry_base: 1s, retry_max: 1s%s}\n%s' "$1" "${2:-}" "${3:-}"
}
serve() { "$DPIPE" serve -w "$w" "$@" >>"$work/log" 2>&1 & pid=$!; }
stop() { wait_for 20 "$DPIPE" stop -q -w "$w"; wait $pid; } # readers see the present state before the service listens
wait_for() { local n=$(($1 * 20)); shift; while [ $n -gt 0 ]; do "$@" >/dev/null 2>&1 && return 0; sleep 0.05; n=$((n - 1)); done; return 1; }
number() { "$DPIPE" status -w "$w" --json | sed -n "s/^.*\"$1\": *\([0-9]*\).*/\1/p" | head -1; }
generation() { [ "$(number generation)" = "$1" ] && "$DPIPE" status -w "$w" --json | grep -q '"state": "idle"'; }
documents() { "$DPIPE" status -w "$1" --json | tr -d ' \n' | grep -q "\"stage\":\"ingest\",\"documents_in\":$2,"; }
manifest() { ls -t "$1"/store/manifest-*.json | head -1; }
# The shards' lines of a manifest, one a line: name and digests.
shards() { (tr -d ' \n' <"$1"; echo) | sed 's/},{/}\n{/g' | sed -n 's/.*{"name":"\([^"]*\)".*"sha256":"\([0-9a-f]*\)".*/\1 \2/p'; }
begins() { # begins OLD NEW: the new list begins with the old and is longer
  local n; n=$(wc -l <"$1"); [ "$n" -ge 1 ] && [ "$(wc -l <"$2")" -gt "$n" ] && head -n "$n" "$2" | cmp -s - "$1" && ok || bad "manifest of $(wc -l <"$2") shards doesn't go on behind $n: $(diff "$1" "$2" | head -4)"
}
# sums: in = out + dropped in every stage, and what a stage gives the next one takes
sums() { "$DPIPE" status -w "$w" --json | tr -d ' \n' | grep -o '"stage":"[a-z0-9_]*","documents_in":[0-9]*,"documents_out":[0-9]*,[^}]*"dropped":{[^}]*}' | awk -F'[:,{}"]+' '
  { in_ = $5; out = $7; drop = 0; for (i = 8; i <= NF; i++) if ($i == "dropped") for (k = i + 2; k < NF; k += 2) drop += $k; if (in_ != out + drop || (NR > 1 && in_ != before)) { print; bad = 1 } before = out; n++ }
  END { exit bad || n < 8 }' >"$work/o" && ok || bad "sums: $(cat "$work/o")"; }
# roots: every document stands under the source it came from, whichever generation has its file
roots() { command -v python3 >/dev/null || { echo "skip roots: no python3"; return; }; python3 - "$w/http.sock" <<'PY' >"$work/o" 2>&1 && ok || bad "roots: $(cat "$work/o")"
import json, socket, sys
def ask(path):
    s = socket.socket(socket.AF_UNIX); s.settimeout(20); s.connect(sys.argv[1])
    s.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    return json.loads(b"".join(iter(lambda: s.recv(65536), b"")).split(b"\r\n\r\n", 1)[1])
r = ask("/api/v1/roots")
read = next(x for x in ask("/api/v1/stages")["stages"] if x["stage"] == "ingest")["documents_in"]
for x in r["roots"]: assert x["pending"] == 0, r
assert sum(x["documents"] + x["dropped"] for x in r["roots"]) == read and r["across"]["units"] == 0, (read, r)
PY
}
# stream FILE: the ids of all shards, in the manifest's order, as a reader sees them
stream() { local n; n=$("$DPIPE" feed -q -w "$w" --seq-len 32 --batch 1 --val-fraction 0 --no-shuffle --steps 1 | sed -n 's/.*"samples":\([0-9]*\).*/\1/p') && "$DPIPE" feed -q -w "$w" --seq-len 32 --batch 1 --val-fraction 0 --no-shuffle --steps "$n" --dump "$1" >/dev/null; }
goes_on() { stream "$work/s2" && cmp -s -n "$(stat -c %s "$work/s1")" "$work/s1" "$work/s2" && ok || bad "$1: the shards don't go on behind those before"; mv "$work/s2" "$work/s1"; }
whole() { rm -rf "$work/whole"; "$DPIPE" init -q "$work/whole"; recipe "$in" >"$work/whole/recipe.yaml"; expect 0 "$DPIPE" run -q -w "$work/whole" --until shard; }
rows() { "$DPIPE" feed -q -w "$1" --seq-len 32 --batch 4 --seed 3 --steps "$2" --val-fraction 0 --dump "$3"; }

mkdir -p "$in/dir"; for i in 1 2 3; do words $i 900 >"$in/dir/t$i.txt"; done; words 4 900 >"$in/a.txt"
"$DPIPE" init -q "$w"; recipe "$in" >"$w/recipe.yaml"; whole
serve --feed "$w/feed.sock"; wait_for 20 generation 1 && ok || bad "no first generation: $(tail -3 "$work/log")"
same "$(store "$w")" "$(store "$work/whole")" "the first generation's bytes"; diff <(ls "$work/whole/store") <(ls "$w/store")
shards "$(manifest "$w")" >"$work/m1"; "$DPIPE" status -w "$w" >"$work/o"

# A trainer that was there before: at its word a feed takes what has come, at the next epoch; over the workspace, and over a server of its feed.
trainer() { # trainer NAME: opens the feed by --feed's socket or by the workspace; at each line it reads, reloads, then draws to behind the next epoch and says what shards it saw
  python3 - "$BUILD/libdpipe.so" "$w" "$1" 3<&0 <<'PY' >"$work/trainer-$1" 2>&1
import ctypes as c, os, sys
lib, w, how = c.CDLL(sys.argv[1]), sys.argv[2].encode(), sys.argv[3]
for f in "open", "connect", "reload", "numbers", "next", "locate": getattr(lib, "dp_feed_abi_" + f).restype = c.c_int
h, msg, n, rows = c.c_void_p(), c.create_string_buffer(512), (c.c_int64 * 12)(), (c.c_int32 * (2 * 33))()
o = b"seq_len=32\nbatch=2\nval_fraction=0\nseed=5\n"
rc = lib.dp_feed_abi_open(c.byref(h), None, w, o, msg, 512) if how == "workspace" else lib.dp_feed_abi_connect(c.byref(h), w + b"/feed.sock", o, c.c_uint64(0), None, 0, msg, 512)
numbers = lambda: (lib.dp_feed_abi_numbers(h, n, c.c_size_t(12)), list(n))[1]
def draw(k):
    for _ in range(k):
        if lib.dp_feed_abi_next(h, rows, None, None, None, None, None, None, msg, 512) < 0: sys.exit(msg.value)
if rc < 0: sys.exit(msg.value)
draw(3)
print("open", numbers()[4], flush=True)
for line in os.fdopen(3):
    rc = lib.dp_feed_abi_reload(h, msg, 512)
    if rc < 0: sys.exit(msg.value)
    draw(numbers()[4])
    print("grown" if rc == 0 else "same", numbers()[4], flush=True)
PY
}
trainers=
if python3 -c 'import ctypes, sys; ctypes.CDLL(sys.argv[1])' "$BUILD/libdpipe.so" 2>/dev/null; then # a sanitized library isn't for it
  for t in workspace server; do mkfifo "$work/to-$t"; trainer $t <"$work/to-$t" & done; exec 5>"$work/to-workspace" 6>"$work/to-server"; trainers=1
  open_both() { grep -q ^open "$work/trainer-workspace" && grep -q ^open "$work/trainer-server"; }; wait_for 20 open_both && ok || bad "trainers: $(cat "$work"/trainer-*)"
  echo >&5; echo >&6; same_both() { grep -q ^same "$work/trainer-workspace" && grep -q ^same "$work/trainer-server"; }; wait_for 20 same_both && ok || bad "trainers, nothing new: $(cat "$work"/trainer-*)"
else echo "skip: no python3 that loads the library"; fi

# One after another: a file, one in a folder that has others, doubles of old ones (the text, and nearly), several at once.
step() { # step N: the generation is there, goes on behind the one before, and the sums hold
  wait_for 20 generation "$1" && ok || bad "no generation $1: $(number generation); $(tail -3 "$work/log")"
  shards "$(manifest "$w")" >"$work/m$1"; begins "$work/m$(($1 - 1))" "$work/m$1"; sums; roots
}
words 5 900 >"$w/spool/s5.txt"; step 2; documents "$w" 5 && ok || bad "no fifth document"
words 6 900 >"$in/dir/t0.txt"; step 3; documents "$w" 6 && ok || bad "no sixth document"
if [ -n "$trainers" ]; then
  echo >&5; echo >&6; grown_both() { grep -q ^grown "$work/trainer-workspace" && grep -q ^grown "$work/trainer-server"; }; wait_for 20 grown_both && ok || bad "trainers don't grow: $(cat "$work"/trainer-*)"
  for t in workspace server; do awk '/^open/ { was = $2 } /^grown/ { exit !($2 > was * 1.3) }' "$work/trainer-$t" && ok || bad "epochs of the $t's feed: $(cat "$work/trainer-$t")"; done
  exec 5>&- 6>&-
fi
expect 0 rows "$w" 40 "$work/before"
{ cat "$in/a.txt"; echo; } >"$in/again.txt"; (words 4 880; words 77 8) >"$in/near.txt"; words 7 900 >"$in/seven.txt"; "$DPIPE" rescan -q -w "$w"
documents_9() { documents "$w" 9; }; wait_for 20 documents_9; g=$(number generation); sums; [ "$g" -ge 4 ] && ok || bad "generation $g"
"$DPIPE" status -w "$w" --json | tr -d ' \n' | grep -q '"stage":"dedup","documents_in":9,"documents_out":7,[^}]*"dropped":{"duplicate_exact":1,"duplicate_near":1}' && ok || bad "doubles of old documents: $("$DPIPE" status -w "$w" --json | tr -d ' \n' | grep -o '"stage":"dedup".*}}')"
shards "$(manifest "$w")" >"$work/m4"; begins "$work/m3" "$work/m4"
same "$(ls "$w"/store/tokenizer-*.json | wc -l)" 1 "tokenizers"
expect 0 "$DPIPE" verify -q -w "$w"; expect 0 "$DPIPE" trace -w "$w" --seq-len 32 --sample 3; expect 0 "$DPIPE" export-shards -q -w "$w" --format nanogpt -o "$work/export"
# The present state is what readers see while more comes, and behind a restart, a kill and a retry of nothing.
"$DPIPE" pause -q -w "$w"; words 8 900 >"$in/eight.txt"; "$DPIPE" rescan -q -w "$w"; sleep 0.3; documents "$w" 9 && ok || bad "readers lost the present state"; expect 0 rows "$w" 40 "$work/now"
"$DPIPE" resume -q -w "$w"; documents_10() { documents "$w" 10; }; wait_for 20 documents_10 && ok || bad "no tenth document"
g=$(number generation); shards "$(manifest "$w")" >"$work/m5"; begins "$work/m4" "$work/m5"; before=$(store "$w"); stop
serve; wait_for 20 generation "$g" && ok || bad "a restart lost the lineage: $(number generation), not $g"; same "$(store "$w")" "$before" "store behind a restart"; stop

# Killed at any moment: what a reader saw before is the beginning of what it sees now.
stream "$work/s1"
n=10; for ms in 40 90 150 220 300 400 550; do
  words $((n + 10)) 900 >"$in/k$n.txt"; n=$((n + 1)); touch -d '1 hour ago' "$in"/k*.txt
  serve; sleep "$(printf '0.%03d' $ms)"; kill -9 $pid; wait $pid 2>/dev/null; goes_on "killed after $ms ms"
done
serve; all_17() { documents "$w" 17; }; wait_for 20 all_17 && ok || bad "documents are missing after kills: $("$DPIPE" status -w "$w" | head -12)"; stop; goes_on "after kills"
expect 0 "$DPIPE" verify -q -w "$w"; same "$(ls "$w"/store/tokenizer-*.json | wc -l)" 1 "tokenizers after kills"; sums

# A lost artifact of an old generation is made again, with the same bytes.
before=$(store "$w"); rm "$(ls "$w"/store/keep-* | head -1)" "$(ls "$w"/store/shard-*.bin | head -1)"
serve; same_store() { [ "$(store "$w")" = "$before" ]; }; wait_for 20 same_store && ok || bad "what was lost isn't what comes back"; stop

# A source that goes ends the lineage: then all is as `dpipe run` makes it.
grep -c "can't be appended" "$work/log" >"$work/o"; same "$(cat "$work/o")" 0 "ends until now"
rm "$in/dir/t2.txt"; mv "$w"/spool/s5.txt "$in/s5.txt"; sed -i 's/append_wait: 0/append_wait: 0, keep: 1s/' "$w/recipe.yaml"; serve; wait_for 20 generation 1 && ok || bad "no new lineage"
says "$work/log" "t2.txt is gone"; whole; gone() { "$DPIPE" rescan -q -w "$w" && [ "$(store "$w")" = "$(store "$work/whole")" ]; }
wait_for 20 gone && ok || bad "a new lineage isn't what run makes: $(diff <(ls "$work/whole/store") <(ls "$w/store"))"
# Options that change keys end it, too; those of the service alone don't.
sed -i 's/vocab_size: 400/vocab_size: 390/' "$w/recipe.yaml"; expect 0 "$DPIPE" reload -q -w "$w"; says_soon() { grep -q "tokenizer, or options" "$work/log"; }; wait_for 20 says_soon && ok || bad "no word of changed options"
wait_for 20 generation 1 && ok || bad "no lineage with other options"; words 60 900 >"$in/last.txt"; wait_for 20 generation 2 && ok || bad "it doesn't grow"
sed -i 's/64K/64K, compression: zstd/' "$w/recipe.yaml"; expect 0 "$DPIPE" reload -q -w "$w"; shards_soon() { grep -q "options of the shards" "$work/log"; }; wait_for 20 shards_soon && ok || bad "no word of changed shards"; wait_for 20 generation 1 && ok || bad "no lineage with other shards"
words 61 900 >"$in/later.txt"; wait_for 20 generation 2 && ok || bad "it doesn't grow with other shards"; stop
# `dpipe run` makes all anew, and ends it; with growth: append it goes on.
expect 0 "$DPIPE" run -w "$w" --until shard; says "$work/err" "made anew"; expect 0 "$DPIPE" run -w "$w" --until shard; grep -q "made anew" "$work/err" && bad "ended twice" || ok
rm -rf "$work/whole"; "$DPIPE" init -q "$work/whole"; sed 's/, keep: 1s//' "$w/recipe.yaml" >"$work/whole/recipe.yaml"; expect 0 "$DPIPE" run -q -w "$work/whole" --until shard
same "$(sed 's/"name": .*//' "$(manifest "$w")" | sha256sum)" "$(sed 's/"name": .*//' "$(manifest "$work/whole")" | sha256sum)" "manifest of run behind a lineage"
expect 0 "$DPIPE" run -q -w "$w" --until shard --growth append; shards "$(manifest "$w")" >"$work/m1"
words 62 900 >"$in/more.txt"; expect 0 "$DPIPE" run -q -w "$w" --until shard --growth append; shards "$(manifest "$w")" >"$work/m2"; begins "$work/m1" "$work/m2"

# What generations need is never retired, their manifests before the last are.
w=$work/k; mkdir "$work/kept"; words 1 300 >"$work/kept/1.txt"; "$DPIPE" init -q "$w"; recipe "$work/kept" ', keep: 1s' >"$w/recipe.yaml"; serve; wait_for 20 generation 1 && ok || bad "no generation to keep"
for i in 2 3 4; do words $i 300 >"$work/kept/$i.txt"; wait_for 20 generation $i && ok || bad "no generation $i to keep"; done
one() { "$DPIPE" rescan -q -w "$w"; [ "$(ls "$w"/store/manifest-* | wc -l)" = 1 ]; }; wait_for 20 one && ok || bad "superseded manifests stay: $(ls "$w"/store/manifest-*)"
sleep 1; "$DPIPE" rescan -q -w "$w"; stop; expect 0 "$DPIPE" verify -q -w "$w"; same "$(ls "$w"/store/keep-* | wc -l)" 4 "keep files of four generations"; documents "$w" 4 && ok || bad "documents of old generations are gone"
# A model is trained on what there is, without making the shards anew.
printf 'feed: {val_fraction: 0.3}\ntrain: {layers: 1, dim: 32, heads: 2, seq_len: 16, batch: 2, accum: 1, steps: 4, warmup: 1, eval_every: 2, eval_batches: 1, ckpt_every: 2}\n' >>"$w/recipe.yaml"
before=$(ls "$w"/store/shard-*); expect 0 "$DPIPE" train -q -w "$w"; expect 0 "$DPIPE" eval -q -w "$w"
same "$(ls "$w"/store/shard-*)" "$before" "shards behind training"; same "$(ls "$w"/store/model-*.safetensors | wc -l)" 1 "models"
w=$work/w
# Gathering: what comes waits for the time, or for enough text.
w=$work/g; mkdir "$work/few"; words 1 300 >"$work/few/1.txt"; touch -d '1 hour ago' "$work/few/1.txt"; "$DPIPE" init -q "$w"; recipe "$work/few" | sed 's/append_wait: 0/append_wait: 1h, append_min: 4K/' >"$w/recipe.yaml"; serve; wait_for 20 generation 1 && ok || bad "no generation to gather behind"
words 2 300 >"$work/few/2.txt"; gathering() { [ "$(number units_gathering)" = 1 ]; }; wait_for 20 gathering && ok || bad "nothing gathers"; sleep 0.5; same "$(number generation)" 1 "generation while it gathers"
words 3 600 >"$work/few/3.txt"; wait_for 20 generation 2 && ok || bad "enough text doesn't begin a generation"; same "$(number units_gathering)" 0 "units that gather"; stop
finish
