#!/bin/bash
# Inside the booted root: what an operator does with the installed package. Lines of /root/result: ok or FAIL.
exec 2>/root/talk; set -x
ok() { echo "ok: $1" >>/root/result; }
is() { if [ "$1" = "$2" ]; then ok "$3"; else echo "FAIL: $3: \"$1\" is not \"$2\"" >>/root/result; fi; }
has() { if grep -q -- "$2" <<<"$1"; then ok "$3"; else echo "FAIL: $3: $(tail -3 <<<"$1")" >>/root/result; fi; }
until_idle() { for _ in $(seq 100); do dpipe status -w /var/lib/dpipe --json 2>/dev/null | grep -q '"state": "idle"' && return; sleep 0.1; done; }
page() { curl -s --unix-socket /run/dpipe/http.sock "http://localhost$1"; }
until_idle
is "$(systemctl is-active dpipe)" active "started by the package"
has "$(systemctl show -p StatusText dpipe)" idle "STATUS is told"
for i in $(seq 60); do echo "The house by the river and the light of the morning number $i is where people walk and speak of the time they have."; done >/var/lib/dpipe/spool/a.txt
for _ in $(seq 100); do page /metrics | grep -q 'dpipe_documents_in{stage="ingest"} 1' && break; sleep 0.1; done
has "$(page /metrics)" 'dpipe_documents_in{stage="ingest"} 1' "a spooled file becomes a document"
is "$(page /readyz)" ok "readyz"
systemctl reload dpipe; is $? 0 "reload"
cp /etc/dpipe/recipe.yaml /root/recipe; echo 'serve: {rescan: never}' >/etc/dpipe/recipe.yaml
systemctl reload dpipe; is "$(($? != 0))" 1 "reload of a bad recipe fails"; is "$(systemctl is-active dpipe)" active "and the service goes on"
has "$(journalctl -u dpipe -p err -o cat --no-pager)" "recipe.yaml:.*serve.rescan" "the journal has the line, as an error"
for bad in 'clean: {patterns: {text_drop: "(a"}}' 'tokenizer: {file: /etc/dpipe/recipe.yaml}' 'serve: {hours: always}'; do
  echo "$bad" >/etc/dpipe/recipe.yaml; systemctl reload dpipe; is "$(($? != 0))" 1 "reload refuses $bad"; dpipe check-config -w /var/lib/dpipe >/dev/null; is $? 78 "check-config says so too"
done
kill -HUP "$(systemctl show -p MainPID --value dpipe)"; sleep 0.5; is "$(systemctl is-active dpipe)" active "SIGHUP with a bad recipe"
cp /root/recipe /etc/dpipe/recipe.yaml; systemctl reload dpipe; is $? 0 "reload of the good one"
dpipe check-config -w /var/lib/dpipe >/root/check; is $? 0 "check-config: $(tail -1 /root/check)"
has "$(journalctl -u dpipe -p warning -o cat --no-pager)" "refused" "warnings and errors have their priorities"
journalctl -u dpipe -o cat --no-pager | grep -q "patterns are interpreted"; is $? 1 "PCRE2's JIT works in the unit"
dpipe quarantine list -w /var/lib/dpipe >/root/quarantine; is $? 0 "quarantine list"; dpipe quarantine drop --all -w /var/lib/dpipe >/root/quarantine; is $? 0 "quarantine drop asks the service"
kill -9 "$(systemctl show -p MainPID --value dpipe)"; sleep 3; until_idle; is "$(systemctl show -p NRestarts --value dpipe)" 1 "kill -9: restarted"
has "$(page /metrics)" 'dpipe_documents_in{stage="ingest"} 1' "nothing lost"
t=$(date +%s%N); systemctl stop dpipe; is "$((($(date +%s%N) - t) / 1000000 < 10000))" 1 "stop within 10 s"; is "$(systemctl show -p Result --value dpipe)" success "a clean stop"
mkdir -p /etc/systemd/system/dpipe.service.d; echo 0123456789abcdefTOKEN >/etc/dpipe/http-token
printf '[Service]\nLoadCredential=http-token:/etc/dpipe/http-token\nEnvironment=DPIPE_SERVE_HTTP=0.0.0.0:8090\nWatchdogSec=3s\n' >/etc/systemd/system/dpipe.service.d/x.conf
systemctl daemon-reload; systemctl start dpipe; sleep 7; is "$(systemctl show -p NRestarts --value dpipe)" 0 "an idle service feeds its watchdog"
is "$(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8090/metrics)" 401 "TCP without the token"
is "$(curl -s -o /dev/null -w '%{http_code}' -H 'Authorization: Bearer 0123456789abcdefTOKEN' http://127.0.0.1:8090/metrics)" 200 "TCP with the credential's token"
systemctl kill -s STOP dpipe; sleep 7; is "$(systemctl show -p NRestarts --value dpipe)" 1 "a stopped process is restarted by the watchdog"; until_idle
has "$(journalctl -u dpipe --no-pager)" "Watchdog timeout" "by the watchdog"
# Stopped under load: much to read, and steps that run. And a unit that hangs: the manager is asked for more time than TimeoutStopSec gives.
awk 'BEGIN { x = 1; for (d = 0; d < 60000; d++) { t = ""; for (i = 0; i < 120; i++) { x = (x * 1103515245 + 12345) % 2147483648; t = t sprintf("w%x ", x % 5000) } printf "{\"text\":\"%s\"}\n", t } }' >/root/load.jsonl
for s in 0.3 1 2; do
  cp /root/load.jsonl "/var/lib/dpipe/spool/load$s.jsonl"; sleep "$s"; t=$(date +%s%N); systemctl stop dpipe
  is "$((($(date +%s%N) - t) / 1000000 < 10000))" 1 "stop under load within 10 s, $s s behind its begin"; is "$(systemctl show -p Result --value dpipe)" success "a clean stop under load"; systemctl start dpipe; is $? 0 "and a start"
done
printf '[Service]\nTimeoutStopSec=2s\nEnvironment=DPIPE_SERVE_DRAIN_TIMEOUT=4s\nWatchdogSec=5min\n' >/etc/systemd/system/dpipe.service.d/y.conf; systemctl daemon-reload; systemctl stop dpipe
cp /root/load.jsonl /var/lib/dpipe/spool/hang.jsonl; touch -d now /var/lib/dpipe/spool/hang.jsonl; systemctl start dpipe
for _ in $(seq 200); do w=$(pgrep -x dpipe-worker | head -1); [ "$w" ] && kill -STOP "$w" && break; sleep 0.02; done
if [ "$w" ]; then ok "a worker hangs"; else echo "FAIL: no worker to be found" >>/root/result; fi
t=$(date +%s%N); systemctl stop dpipe; ms=$((($(date +%s%N) - t) / 1000000)); is "$((ms > 3000 && ms < 10000))" 1 "EXTEND_TIMEOUT_USEC: stopped in $ms ms with TimeoutStopSec=2s"
is "$(systemctl show -p Result --value dpipe)" success "and not by force"; pgrep -x dpipe-worker >/dev/null; is $? 1 "no worker is left"
# Socket activation: a request starts the service, which takes the socket that the manager holds.
rm /etc/systemd/system/dpipe.service.d/y.conf; rm -f /var/lib/dpipe/spool/*
printf '[Socket]\nListenStream=/run/dpipe-control.sock\nFileDescriptorName=control\nSocketMode=0600\nService=dpipe.service\n[Install]\nWantedBy=sockets.target\n' >/etc/systemd/system/dpipe.socket
systemctl daemon-reload; systemctl start dpipe.socket; is "$(systemctl is-active dpipe)" inactive "only its socket is there"
answer=$(printf '{"op":"status"}\n' | timeout 20 perl -MSocket -e 'socket(S,PF_UNIX,SOCK_STREAM,0); connect(S,sockaddr_un("/run/dpipe-control.sock")) or die; syswrite(S,scalar(<STDIN>)); print scalar(<S>)')
has "$answer" '"ok":true' "a request starts the service"; is "$(systemctl is-active dpipe)" active "which is up then"
is "$(dpipe status -w /var/lib/dpipe --json | grep -c '"pid"')" 1 "the CLI finds the passed socket"
systemctl stop dpipe.socket dpipe; rm /etc/systemd/system/dpipe.socket; systemctl daemon-reload
# Taken away again: the program and its settings go, what it made stays.
dpkg --purge dpipe >/root/purge 2>&1; is $? 0 "purge: $(tail -1 /root/purge)"
is "$(ls -d /usr/bin/dpipe /lib/systemd/system/dpipe.service /etc/dpipe/recipe.yaml /var/cache/private/dpipe /var/log/private/dpipe 2>/dev/null | wc -l)" 0 "nothing of the package is left"
is "$(ls -d /var/lib/private/dpipe/catalog.db 2>/dev/null | wc -l)" 1 "what was made is still there"
journalctl -u dpipe --no-pager >/root/journal; systemctl poweroff
