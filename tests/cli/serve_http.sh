#!/usr/bin/env bash
# HTTP of the service without a browser: the dashboard's files, methods and types, the event stream, actions and who may ask for them, client certificates.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
w=$work/w
trap 'kill -9 $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
port=$((20000 + $$ % 20000))
serve() { "$DPIPE" serve -w "$w" --http "127.0.0.1:$port" "$@" >>"$work/log" 2>&1 & pid=$!; }
# ask METHOD PATH [FIELDS]: the whole answer in $work/o
ask() ( trap '' PIPE; exec 8<>"/dev/tcp/127.0.0.1/$port" || exit 1; printf '%s %s HTTP/1.1\r\nHost: 127.0.0.1:%s\r\n%bConnection: close\r\n\r\n' "$1" "$2" "$port" "${3:-}" >&8 2>/dev/null; timeout 10 cat <&8 >"$work/o" )
status() { same "$(head -1 "$work/o" | cut -d' ' -f2)" "$1" "status of $2"; }
wait_for() { local n=$(($1 * 20)); shift; while [ $n -gt 0 ]; do "$@" >/dev/null 2>&1 && return 0; sleep 0.05; n=$((n - 1)); done; return 1; }
up() { ask GET /livez && grep -q '^HTTP/1.1 200' "$work/o"; }
idle() { ask GET /api/v1/status && grep -q '"state":"idle"' "$work/o"; }
body() { sed '1,/^\r$/d' "$work/o"; }

mkdir "$work/in"; for i in 1 2 3; do words $i 200 >"$work/in/t$i.txt"; done
"$DPIPE" init -q "$w"; printf 'sources: [%s]\nclean:\n  c4: {enabled: false}\ntrain-bpe: {vocab_size: 400}\nshards: {growth: rebuild}\nserve: {settle: 200ms, rescan: 1h, min_free: 0, spool: false}\n' "$work/in" >"$w/recipe.yaml"
serve; wait_for 20 idle && ok || bad "not idle: $(tail -3 "$work/log")"

# The page and what it needs: as in the sources, with a policy and an ETag, and 304 for who has it.
for f in /=index.html /dashboard.css=dashboard.css /dashboard.js=dashboard.js /icon.svg=icon.svg /api/v1/openapi.json=openapi.json; do
  path=${f%%=*} file=daemon/dashboard/${f#*=}
  ask GET "$path"; status 200 "$path"; body | cmp -s - "$file" && ok || bad "$path isn't $file"
  says "$work/o" "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self';"; says "$work/o" "X-Content-Type-Options: nosniff"; says "$work/o" "Cache-Control: no-cache"
  etag=$(sed -n 's/^ETag: \(.*\)\r$/\1/p' "$work/o"); ask GET "$path" "If-None-Match: \"x\", W/$etag\r\n"; status 304 "$path with its tag"; same "$(body | wc -c)" 0 "bytes of a 304"
  ask GET "$path" 'If-None-Match: "x"\r\n'; status 200 "$path with another tag"
done
grep -qE '(src|href)="(https?:)?//|style="|onclick=' daemon/dashboard/index.html && bad "the page refers to others, or has inline style or script" || ok
grep -nE 'innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(' daemon/dashboard/dashboard.js && bad "markup made from text" || ok
# Methods, types, parameters.
ask HEAD /; status 200 HEAD; same "$(body | wc -c)" 0 "bytes of a HEAD"; grep -q "Content-Length: $(wc -c <daemon/dashboard/index.html)" "$work/o" && ok || bad "HEAD without the length"
ask GET /nothing; status 404 /nothing; ask GET /dashboard.jsx; status 404 "a longer name"; ask GET /api/v1/jobs/x/retry; status 404 "no number"; ask POST /api/v1/jobs/0/retry; status 404 "job 0"
ask POST /api/v1/jobs; status 405 "POST of a list"; says "$work/o" "Allow: GET, HEAD"; ask GET /api/v1/pause; status 405 "GET of an action"; says "$work/o" "Allow: POST"
ask PUT /; status 405 PUT; ask GET /api/v1/jobs 'Accept: text/html\r\n'; status 406 "another type"; ask GET /api/v1/jobs 'Accept: application/json;q=0\r\n'; status 406 "a type with weight 0"
for a in '*/*' 'application/*' 'text/html, application/json;q=0.5' 'application/json;q=0.01'; do ask GET /api/v1/jobs "Accept: $a\r\n"; status 200 "Accept: $a"; done
ask GET '/api/v1/jobs?stat=failed'; status 400 "an unknown parameter"; ask GET '/api/v1/stages?limit=1'; status 400 "a parameter of others"; ask GET '/api/v1/jobs?limit=0'; status 400 "a limit of 0"
ask POST /api/v1/rescan 'X-Dpipe-Action: 1\r\nContent-Length: 3\r\n'; status 413 "a body"
# The stream.
exec 7<>"/dev/tcp/127.0.0.1/$port"; printf 'GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: 0\r\n\r\n' >&7
timeout 20 cat <&7 >"$work/stream" & reader=$!; sleep 1; words 9 200 >"$work/in/.t9"; mv "$work/in/.t9" "$work/in/t9.txt"
wait_for 15 grep -q '"documents_in":4' "$work/stream"; sleep 1; kill $reader; wait $reader 2>/dev/null; exec 7>&-
for t in 'Content-Type: text/event-stream' 'event: state' 'event: progress' 'event: stages' 'id: 1' '"documents_in":4'; do says "$work/stream" "$t"; done
awk '/^id: / { if ($2 + 0 <= last) bad = 1; last = $2 + 0 } END { exit bad || !last }' "$work/stream" && ok || bad "event numbers don't go up"
sed '1,/^\r$/d' "$work/stream" | sed '$d' | grep -vE '^(|retry: [0-9]+|event: (state|progress|stages|event)|id: [0-9]+|data: \{.*\}|: .*)$' && bad "lines that are no part of a stream" || ok
# Actions: not for other origins, nor without the field that only a program or a page of this address sends.
for f in '' 'Origin: http://evil.example\r\nX-Dpipe-Action: 1\r\n' 'Sec-Fetch-Site: cross-site\r\nX-Dpipe-Action: 1\r\n' 'Origin: null\r\nX-Dpipe-Action: 1\r\n'; do ask POST /api/v1/pause "$f"; status 403 "POST with $f"; done
ask GET /api/v1/status; says "$work/o" '"state":"idle"'
ask POST /api/v1/pause "Origin: http://127.0.0.1:$port\r\nSec-Fetch-Site: same-origin\r\nX-Dpipe-Action: 1\r\n"; status 200 pause; ask GET /readyz; status 503 "readyz when paused"
ask POST /api/v1/resume 'X-Dpipe-Action: 1\r\n'; status 200 resume; ask POST /api/v1/rescan 'X-Dpipe-Action: 1\r\n'; status 200 rescan
ask POST /api/v1/jobs/retry 'X-Dpipe-Action: 1\r\n'; status 200 "retry all"; says "$work/o" '"retried":0'; ask POST /api/v1/jobs/1/retry 'X-Dpipe-Action: 1\r\n'; status 404 "a job that hasn't failed"
ask GET /api/v1/roots; says "$work/o" '"units":1,"documents":4,'; says "$work/o" '"across":{"units":0,'
expect 0 "$DPIPE" stop -w "$w"; wait $pid
ask GET /livez 2>/dev/null && bad "it answers after its end" || ok
# Two folders of small files share a unit: its documents are nobody's alone, its files each their root's.
mkdir "$work/in2"; words 20 200 >"$work/in2/u.txt"; sed -i "s,^sources: .*,sources: [$work/in\, $work/in2]," "$w/recipe.yaml"
# Events and runs of the process before.
serve; wait_for 20 idle; five() { ask GET /api/v1/stages && grep -q '"documents_in":5' "$work/o" && idle; }; wait_for 20 five
ask GET /api/v1/roots; says "$work/o" "{\"root\":\"$work/in2\",\"files\":1,"; says "$work/o" '"across":{"units":1,"documents":5,'; grep -q '"pending":[1-9]' "$work/o" && bad "files are pending: $(body)" || ok
ask GET '/api/v1/events?limit=1'; says "$work/o" '"events":[{"number":1,'; ask GET /api/v1/runs; says "$work/o" '"number":1,'
same "$(stat -c %a "$w/history.jsonl")" 600 "mode of the history"; expect 0 "$DPIPE" stop -w "$w"; wait $pid
# The history that can't be written stops nothing.
chmod 500 "$w/history.jsonl"; rm -f "$w/history.jsonl"; mkdir "$w/history.jsonl"; serve; wait_for 20 idle && ok || bad "no service without a history"; grep -q "aren't kept" "$work/log" || sleep 1; says "$work/log" "events aren't kept"
expect 0 "$DPIPE" stop -w "$w"; wait $pid; rmdir "$w/history.jsonl"
# A token: the page has no data and is open, the rest is not; an action with it needs no further field, but still no stranger's origin.
echo 'correct-horse-battery' >"$work/token"; serve --http-token-file "$work/token"; wait_for 20 up; auth='Authorization: Bearer correct-horse-battery\r\n'
for p in / /dashboard.js /api/v1/openapi.json; do ask GET $p; status 200 "$p without a token"; done
for p in /api/v1/status /api/v1/stream /metrics /nothing; do ask GET $p; status 401 "$p without a token"; says "$work/o" "WWW-Authenticate: Bearer"; done
ask POST /api/v1/pause 'X-Dpipe-Action: 1\r\n'; status 401 "an action without a token"; ask POST / 'X-Dpipe-Action: 1\r\n'; status 401 "POST of the page"
ask POST /api/v1/pause "${auth}Origin: http://evil.example\r\n"; status 403 "a stranger's page with the token"; ask POST /api/v1/pause "$auth"; status 200 "an action with the token"
ask POST /api/v1/resume "${auth}Origin: https://behind.a.proxy\r\nSec-Fetch-Site: same-origin\r\n"; status 200 "the page's own action behind a proxy that renames the host"
expect 0 "$DPIPE" stop -w "$w"; wait $pid

# Client certificates: of our authority, none, of another, expired, a server's.
if command -v openssl >/dev/null && (
  cd "$work" && for ca in ca other; do openssl req -x509 -newkey rsa:2048 -nodes -keyout $ca.key -out $ca.pem -days 2 -subj /CN=$ca 2>/dev/null || exit 1; done
  openssl req -x509 -newkey rsa:2048 -nodes -keyout server.key -out server.pem -days 2 -subj /CN=localhost 2>/dev/null || exit 1
  sign() { # sign NAME CA ARGUMENTS...
    openssl req -newkey rsa:2048 -nodes -keyout "$1.key" -out "$1.csr" -subj "/CN=$1" 2>/dev/null && openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -CAcreateserial -out "$1.pem" "${@:3}" 2>/dev/null; }
  printf 'extendedKeyUsage=serverAuth\n' >usage
  sign good ca -days 2 && sign stranger other -days 2 && sign wrong ca -days 2 -extfile usage && sign expired ca -days -1); then
  expect 78 "$DPIPE" serve -w "$w" --http 0.0.0.0:$port --tls-client-ca "$work/ca.pem"; says "$work/err" "tls_client_ca wants serve.tls_cert"
  cp "$w/recipe.yaml" "$work/recipe"; printf 'serve: {http: "0.0.0.0:0", tls_client_ca: %s}\n' "$work/ca.pem" >"$w/recipe.yaml"; expect 78 "$DPIPE" check-config -w "$w"; says "$work/out" "serve.tls_client_ca: wants serve.tls_cert"
  printf 'serve: {http: "0.0.0.0:0", tls_client_ca: %s, tls_cert: %s, tls_key: %s}\n' "$work/token" "$work/server.pem" "$work/server.key" >"$w/recipe.yaml"; expect 78 "$DPIPE" check-config -w "$w"; says "$work/out" "error: serve.tls_client_ca"
  sed -i "s,$work/token,$work/ca.pem," "$w/recipe.yaml"; expect 0 "$DPIPE" check-config -w "$w"; cp "$work/recipe" "$w/recipe.yaml"
  expect 78 "$DPIPE" serve -w "$w" --http 127.0.0.1:$port --tls-cert "$work/server.pem" --tls-key "$work/server.key" --tls-client-ca "$work/token"; says "$work/err" "token"
  "$DPIPE" serve -w "$w" --http "0.0.0.0:$port" --tls-cert "$work/server.pem" --tls-key "$work/server.key" --tls-client-ca "$work/ca.pem" >>"$work/log" 2>&1 & pid=$! # reached from elsewhere, without a token
  tls() { printf 'GET %s HTTP/1.1\r\nHost: box.example\r\n%bConnection: close\r\n\r\n' "$1" "${3:-}" | timeout 10 openssl s_client -quiet -verify_quiet -ign_eof -connect "127.0.0.1:$port" ${2:+-cert "$work/$2.pem" -key "$work/$2.key"} >"$work/o" 2>/dev/null; }
  good_up() { tls /livez good; grep -q 'HTTP/1.1 200' "$work/o"; }
  wait_for 20 good_up && ok || bad "no answer to a good certificate: $(tail -3 "$work/log")"
  tls /api/v1/status good; says "$work/o" '"state":'
  (printf 'GET /api/v1/stream HTTP/1.1\r\nHost: a\r\n\r\n'; sleep 2) | timeout 4 openssl s_client -quiet -verify_quiet -connect "127.0.0.1:$port" -cert "$work/good.pem" -key "$work/good.key" >"$work/o" 2>/dev/null; says "$work/o" "event: stages" # a stream over TLS
  for c in '' stranger wrong expired; do tls /livez $c; grep -q HTTP/1.1 "$work/o" && bad "answered to ${c:-no} certificate" || ok; done
  for v in tls1_2 tls1_3; do printf 'GET /livez HTTP/1.1\r\nHost: a\r\n\r\n' | timeout 10 openssl s_client -quiet -verify_quiet -ign_eof -$v -connect "127.0.0.1:$port" >"$work/o" 2>/dev/null; grep -q HTTP/1.1 "$work/o" && bad "answered by $v without a certificate" || ok; done
  good_up && ok || bad "a refused certificate hurt the others"
  expect 0 "$DPIPE" stop -w "$w"; wait $pid
  # With both, both are wanted.
  serve --tls-cert "$work/server.pem" --tls-key "$work/server.key" --tls-client-ca "$work/ca.pem" --http-token-file "$work/token"; wait_for 20 good_up
  tls /api/v1/status good; says "$work/o" "HTTP/1.1 401"; tls /api/v1/status good "$auth"; says "$work/o" "HTTP/1.1 200"; tls /api/v1/status stranger "$auth"; grep -q HTTP/1.1 "$work/o" && bad "the token alone is enough" || ok
  expect 0 "$DPIPE" stop -w "$w"; wait $pid
else echo "skip: no openssl program that signs certificates"; fi
finish
