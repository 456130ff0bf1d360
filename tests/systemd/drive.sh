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
kill -HUP "$(systemctl show -p MainPID --value dpipe)"; sleep 0.5; is "$(systemctl is-active dpipe)" active "SIGHUP with a bad recipe"
cp /root/recipe /etc/dpipe/recipe.yaml; systemctl reload dpipe; is $? 0 "reload of the good one"
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
journalctl -u dpipe --no-pager >/root/journal; systemctl poweroff
