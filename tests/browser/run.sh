#!/usr/bin/env bash
# The dashboard in a real browser: Chromium, driven by playwright-core. Installs both where it can, says `skip` where it can't; screenshots stay in
# build/browser. usage: tests/browser/run.sh   (make check-browser)   CHROMIUM=PATH takes another browser
set -u; cd "$(dirname "$0")/../.."
skip() { echo "skip check-browser: $*"; echo "0 passed, 0 failed, 1 skipped"; exit 0; }
out=$PWD/build/browser; mkdir -p "$out"
DPIPE=${DPIPE:-$PWD/build/release/dpipe}; export DPIPE
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
find_chromium() { CHROMIUM=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}; [ -n "$CHROMIUM" ]; }
command -v node >/dev/null && command -v npm >/dev/null || { as_root apt-get install -y -qq --no-install-recommends nodejs npm >/dev/null 2>&1 && command -v npm >/dev/null; } || skip "no node and npm"
find_chromium || { as_root apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null 2>&1; find_chromium; } || skip "no chromium (apt-get install chromium)"
export CHROMIUM
if [ ! -d "$out/node_modules/playwright-core" ]; then
  (cd "$out" && { [ -e package.json ] || echo '{"private":true}' >package.json; } && PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm install --no-audit --no-fund --silent playwright-core@1 >npm.log 2>&1) || skip "playwright-core can't be installed ($(tail -1 "$out/npm.log"))"
fi

. tests/lib.sh
trap 'kill $(jobs -p) 2>/dev/null; wait 2>/dev/null; rm -rf "$work"' EXIT
# A small corpus with what a page must not believe: markup in texts, addresses and file names.
corpus "$work/in"
mkdir "$work/in/hostile"
printf '%s\n' '{"text":"<script>window.pwned=1</script><img src=x onerror=\"window.pwned=2\">","url":"https://e.example/\"><script>window.pwned=3</script>","id":"a"}' \
  '{"text":"javascript:window.pwned=4 \u202egnp.exe \u0000 & &lt;b&gt;","url":"javascript:window.pwned=5"}' >"$work/in/hostile/lines.jsonl"
words 77 6 >"$work/in/hostile/<img src=x onerror=window.pwned=6>.txt"
printf 'BOOM-segv-1 %s' "$(words 78 150)" >"$work/in/hostile/kills <b>its<b> worker.txt"
mkdir "$work/ill"; words 30 9000 >"$work/ill/<i>ill<i>.txt"
recipe() { # recipe SOURCES STEP
  printf 'sources: [%s]\nclean:\n  c4: {enabled: false}\ntrain-bpe: {vocab_size: 500}\nshards: {bytes_per_shard: 64K}\nfeed: {val_fraction: 0.1}\n' "$1"
  printf 'train: {layers: 1, dim: 32, heads: 2, seq_len: 32, batch: 2, accum: 1, steps: 120, warmup: 4, eval_every: 10, eval_batches: 2, ckpt_every: 40}\n'
  printf 'serve: {until: %s, settle: 200ms, rescan: 1h, min_free: 0, retry_base: 1s, retry_max: 1s, tries: 1, spool: false}\n' "$2"
}
port=$((21000 + $$ % 20000))
"$DPIPE" init -q "$work/w"; recipe "$work/in" train >"$work/w/recipe.yaml"
"$DPIPE" init -q "$work/ill-w"; recipe "$work/ill" shard >"$work/ill-w/recipe.yaml"
"$DPIPE" init -q "$work/token-w"; recipe "$work/in/site" shard >"$work/token-w/recipe.yaml"; echo 'correct-horse-battery' >"$work/token"
shim=build/release/tests/fault/shim_fail.so
serve() { DPIPE_TEST_FAULT=BOOM "$DPIPE" serve -w "$work/w" --http "127.0.0.1:$port" >>"$work/log" 2>&1 & echo $! >"$work/pid"; }
serve
if [ -e $shim ]; then DP_FAIL=rename:EIO:1 LD_PRELOAD=$PWD/$shim "$DPIPE" serve -w "$work/ill-w" --threads 1 --http "127.0.0.1:$((port + 1))" >>"$work/log" 2>&1 & fi
"$DPIPE" serve -w "$work/token-w" --http "127.0.0.1:$((port + 2))" --http-token-file "$work/token" >>"$work/log" 2>&1 &
export WORK=$work PORT=$port OUT=$out ILL=$([ -e $shim ] && echo 1 || echo 0)
# The page is told to go on when the service comes back: the script asks for that by a file.
(while sleep 0.2; do
  [ -e "$work/stop" ] && { kill -TERM "$(cat "$work/pid")"; rm "$work/stop"; }
  [ -e "$work/start" ] && { rm "$work/start"; DPIPE_TEST_FAULT=BOOM "$DPIPE" serve -w "$work/w" --http "127.0.0.1:$port" >>"$work/log" 2>&1 & echo $! >"$work/pid"; }
done) &
keeper=$!
NODE_PATH=$out/node_modules timeout 300 node tests/browser/dashboard.cjs; status=$?
kill $keeper; kill "$(cat "$work/pid")" 2>/dev/null
[ $status = 0 ] || tail -5 "$work/log"
exit $status
