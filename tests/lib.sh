# Sourced by shell tests: cases, a small corpus, digests of a store. Needs DPIPE (the program) and TMPDIR from tests/run.sh.
passed=0 failed=0
: "${DPIPE:=$PWD/build/release/dpipe}"
work=$(mktemp -d "${TMPDIR:-/tmp}/dpipe-sh.XXXXXX")
ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "FAIL: $*"; }
# expect STATUS COMMAND...: the exit status is STATUS; output is left in $work/out, talk in $work/err
expect() {
  local want=$1 got=0; shift
  "$@" >"$work/out" 2>"$work/err" || got=$?
  if [ "$got" = "$want" ]; then ok; else bad "exit $got, not $want: $*"; sed 's/^/    /' "$work/err" | tail -5; fi
}
# says FILE TEXT: the file holds the text
says() { if grep -qF -- "$2" "$1"; then ok; else bad "no \"$2\" in $1: $(head -c 400 "$1")"; fi; }
same() { if [ "$1" = "$2" ]; then ok; else bad "$3: $1 is not $2"; fi; }
store() { (cd "$1/store" && sha256sum -- * | sha256sum | cut -d' ' -f1); }
finish() { rm -rf "$work"; echo "$passed passed, $failed failed"; [ $failed -eq 0 ]; exit; }

# words SEED N: N pseudo-words; the same for the same seed on every machine
words() { awk -v s="$1" -v n="$2" 'BEGIN { split("the of and to in that with have time people water light house river stone green walk speak large small morning garden winter letter window bread music paper silver journey market forest bridge engine number question answer", w, " "); k = length(w); x = s * 7919 + 17;
  for (i = 1; i <= n; i++) { x = (x * 1103515245 + 12345) % 2147483648; printf "%s%s", w[int(x / 65536) % k + 1], (i % 12 == 0) ? ". " : " " } print "." }'; }

# corpus DIR: a folder with HTML, text, Markdown, JSONL, a gzip'ed WARC and a tar.xz with a nested .gz, duplicates and bad files among them
corpus() {
  local d=$1 i t; mkdir -p "$d/site/sub" "$d/tar"
  for i in $(seq 1 40); do
    t=$(words "$i" 160)
    printf '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Page %d</title><script>var x = {};</script></head><body><nav><a href="/">Home</a> <a href="/a">About</a></nav><article><h1>Page %d</h1><p>%s</p><p>%s</p></article><footer>Copyright</footer></body></html>\n' "$i" "$i" "$t" "$(words $((i + 500)) 90)" >"$d/site/p$i.html"
  done
  cp "$d/site/p3.html" "$d/site/sub/again.html"
  words 900 200 >"$d/site/note.txt"; { echo "# Title"; echo; words 901 150; } >"$d/site/read.md"
  printf 'too short' >"$d/site/short.txt"; head -c 3000 /dev/zero >"$d/site/zeros.bin"
  for i in $(seq 1 30); do printf '{"text":"%s","url":"http://e.example/%d","n":%d}\n' "$(words $((i + 100)) 140)" "$i" "$i"; done >"$d/lines.jsonl"
  printf 'this is no JSON\n' >>"$d/lines.jsonl"
  for i in $(seq 1 20); do
    t="<html><body><main><p>$(words $((i + 200)) 150)</p></main></body></html>"
    t=$(printf 'HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n%s' "$t"; echo x); t=${t%x}
    printf 'WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://w.example/%d\r\nWARC-Date: 2020-01-01T00:00:00Z\r\nWARC-Record-ID: <urn:uuid:%08d-0000-0000-0000-000000000000>\r\nContent-Type: application/http; msgtype=response\r\nContent-Length: %d\r\n\r\n%s\r\n\r\n' "$i" "$i" "$(printf %s "$t" | wc -c)" "$t" | gzip -n
  done >"$d/pages.warc.gz"
  for i in $(seq 1 10); do words $((i + 300)) 170 >"$d/tar/t$i.txt"; done; gzip -n "$d/tar/t5.txt"
  (cd "$d" && tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cJf box.tar.xz tar); rm -r "$d/tar"
}
# workspace DIR CORPUS: a workspace with a small model, sources registered
workspace() {
  "$DPIPE" init -q "$1"
  cat >"$1/recipe.yaml" <<'YAML'
clean:
  c4: {enabled: false}
train-bpe: {vocab_size: 600}
shards: {bytes_per_shard: 64K}
feed: {val_fraction: 0.1}
train: {layers: 1, dim: 32, heads: 2, seq_len: 32, batch: 2, accum: 1, steps: 12, warmup: 2, eval_every: 6, eval_batches: 2, ckpt_every: 4}
YAML
  "$DPIPE" ingest -q -w "$1" --register-only "$2"/site "$2"/lines.jsonl "$2"/pages.warc.gz "$2"/box.tar.xz
}
