#!/usr/bin/env bash
# check-config: every problem with its place, in one go; and a service refuses the same recipes, at its start and at a reload.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
trap 'kill -9 $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
w=$work/w; "$DPIPE" init -q "$w"
expect 0 "$DPIPE" check-config -w "$w"; says "$work/out" "nothing is wrong"; says "$work/out" "seccomp"
expect 0 "$DPIPE" check-config --recipe packaging/recipe.yaml
expect 0 "$DPIPE" check-config -w "$w" --json; says "$work/out" '{"ok":true'; says "$work/out" '"problems":[]'
mkdir "$work/in"; printf 'no tokenizer\n' >"$work/t.json"; printf 'short\n' >"$work/token"
cat >"$w/recipe.yaml" <<YAML
sources: [$work/in, $work/gone]
clean:
  patterns: {text_drop: "(unclosed"}
  language: {languages: [en, English], min_skore: 0.5}
tokenizer:
  file: $work/t.json
train: {steps: -5}
serve:
  rescan: never
  until: trian
  http: 0.0.0.0:0
  group: no-such-group-here
  min_free: 800P
  tls_cert: $work/in
YAML
expect 78 "$DPIPE" check-config -w "$w"; cp "$work/out" "$work/o"; says "$work/err" "problems found"
for t in "yaml:1: error: $work/gone" 'yaml:3: error: clean.patterns.text_drop: ' 'yaml:4: error: clean.language.languages: "English"' 'yaml:4: error: unknown key clean.language.min_skore; did you mean min_score' \
  "yaml:6: error: tokenizer.file: $work/t.json" 'yaml:7: error: train.steps: -5' 'yaml:9: error: serve.rescan' 'yaml:10: error: serve.until: there is no stage "trian"' \
  'yaml:11: error: serve.http: 0.0.0.0:0 is reached' 'yaml:12: error: serve.group' 'yaml:13: warning: serve.min_free' 'yaml:14: error: serve.tls_cert'; do says "$work/o" "$t"; done
printf 'train-bpe: {super_from: 300, super_veto: [colon, comma]}\n' >"$work/r.yaml"; expect 78 "$DPIPE" check-config --recipe "$work/r.yaml"; says "$work/out" "yaml:1: error: train-bpe.super_veto: super_veto: there is no 'comma'"
expect 78 "$DPIPE" check-config -w "$w" --json; says "$work/out" '{"ok":false'; says "$work/out" '"line":9,"text":"serve.rescan'
expect 78 "$DPIPE" check-config -w "$w" --recipe-only; grep -q 'gone' "$work/out" && bad "--recipe-only looked at the machine" || ok
printf 'train: {steps: 5\n' >"$w/recipe.yaml"; expect 78 "$DPIPE" check-config -w "$w"; says "$work/out" "not YAML"
printf 'serve: {min_free: 800P}\n' >"$w/recipe.yaml"; expect 0 "$DPIPE" check-config -w "$w"; expect 78 "$DPIPE" check-config -w "$w" --strict
printf 'serve: {http_token_file: %s}\n' "$work/token" >"$w/recipe.yaml"; expect 78 "$DPIPE" check-config -w "$w"; says "$work/out" "16 to 1,024 bytes"
printf 'serve: {feed: "0.0.0.0:0"}\n' >"$w/recipe.yaml"; expect 78 "$DPIPE" check-config -w "$w"; says "$work/out" "serve.feed: 0.0.0.0:0 is reached"
printf 'serve: {feed: "127.0.0.1:0", feed_token_file: %s, feed_client_ca: %s}\n' "$work/token" "$work/token" >"$w/recipe.yaml"
expect 78 "$DPIPE" check-config -w "$w"; says "$work/out" "serve.feed_token_file"; says "$work/out" "serve.feed_client_ca"
printf 'serve: {feed: %s}\n' "$w/recipe.yaml" >"$w/recipe.yaml"; expect 78 "$DPIPE" check-config -w "$w"; says "$work/out" "no socket"
printf 'serve: {feed: %s/feed.sock, min_free: 0}\n' "$w" >"$w/recipe.yaml"; expect 0 "$DPIPE" check-config -w "$w"
expect 78 "$DPIPE" check-config -w "$work/none"; expect 78 "$DPIPE" check-config --recipe "$work/none.yaml"; expect 64 "$DPIPE" check-config --recipe
# A reload and a start refuse what the recipe gets wrong, with the line, and the old one stays in force.
good() { printf 'sources: [%s]\nserve: {min_free: 0, until: clean, spool: false, rescan: 1h}\n' "$work/in" >"$w/recipe.yaml"; }
good; "$DPIPE" serve -w "$w" >"$work/log" 2>&1 & pid=$!
for _ in $(seq 200); do "$DPIPE" status -w "$w" --json 2>/dev/null | grep -q '"state": "idle"' && break; sleep 0.05; done
refused() { # refused LINES SAYS
  printf '%b' "$1" >"$w/recipe.yaml"; expect 78 "$DPIPE" reload -w "$w"; says "$work/err" "$2"
}
refused "# a\nclean:\n  patterns: {line_drop: '[a'}\n" 'recipe.yaml:3: clean.patterns.line_drop'
refused "serve: {rescan: 1h}\ntokenizer: {file: $work/t.json}\n" 'recipe.yaml:2: tokenizer.file'
refused "tokenizer: {file: gone.json}\n" 'recipe.yaml:1: tokenizer.file'
refused "clean:\n  language:\n    languages: english\n" 'recipe.yaml:3: clean.language.languages'
refused "\nserve:\n  until: moon\n" 'recipe.yaml:3: serve.until'
refused "serve: {until: moon, rescan: never}\n" 'and 1 more'
kill -0 $pid && ok || bad "the service is gone: $(tail -3 "$work/log")"
printf 'a document\n' >"$work/in/a.txt"; good; expect 0 "$DPIPE" reload -w "$w"; says "$work/log" "the recipe is refused"
expect 0 "$DPIPE" stop -w "$w"; wait $pid
printf 'tokenizer: {file: %s}\n' "$work/t.json" >"$w/recipe.yaml"; expect 78 timeout 20 "$DPIPE" serve -w "$w"; says "$work/err" "recipe.yaml:1: tokenizer.file"
finish
