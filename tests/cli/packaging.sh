#!/usr/bin/env bash
# The unit's exposure, an install into a prefix without root, the Debian package.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
sed 's,@bindir@,/bin,' packaging/dpipe.service >"$work/dpipe.service"
if command -v systemd-analyze >/dev/null && systemd-analyze security --help 2>/dev/null | grep -q -- --offline; then
  systemd-analyze security --offline=true --threshold=15 --no-pager "$work/dpipe.service" >"$work/o" 2>&1 && ok || bad "exposure over 1.5: $(tail -1 "$work/o")"
else echo "skip: no systemd-analyze with --offline"; fi
grep -q '^MemoryDenyWriteExecute=yes' "$work/dpipe.service" && bad "MemoryDenyWriteExecute takes PCRE2's JIT away" || ok
expect 0 make --no-print-directory install DESTDIR="$work/root" PREFIX=/opt/dpipe
p=$work/root/opt/dpipe; expect 0 "$p/bin/dpipe" --version
for f in share/man/man1/dpipe.1 share/man/man1/dpipe-serve.1 share/bash-completion/completions/dpipe lib/systemd/system/dpipe.service share/doc/dpipe/examples/recipe.yaml; do [ -s "$p/$f" ] && ok || bad "not installed: $f"; done
grep -q "ExecStart=/opt/dpipe/bin/dpipe serve" "$p/lib/systemd/system/dpipe.service" && ok || bad "the unit doesn't start the installed program"
# The recipe that the package brings is valid, the unit's options too, and so is the folder a service manager gives.
expect 0 "$DPIPE" check-config --recipe packaging/recipe.yaml; expect 0 "$DPIPE" check-config --recipe "$p/share/doc/dpipe/examples/recipe.yaml" --recipe-only
mkdir -p "$work/state" "$work/run" "$work/etc"; cp packaging/recipe.yaml "$work/etc/"
STATE_DIRECTORY=$work/state RUNTIME_DIRECTORY=$work/run CONFIGURATION_DIRECTORY=$work/etc "$DPIPE" serve --min-free 0 2>"$work/log" & pid=$!
for _ in $(seq 200); do "$DPIPE" status -w "$work/state" --json 2>/dev/null | grep -q '"state": "idle"' && break; sleep 0.05; done
[ -S "$work/run/control.sock" ] && [ -S "$work/run/http.sock" ] && ok || bad "no sockets in RUNTIME_DIRECTORY: $(cat "$work/log")"
same "$(readlink "$work/state/recipe.yaml")" "$work/etc/recipe.yaml" "the recipe of the state folder"
kill -TERM $pid; wait $pid; same $? 0 "exit status"
if command -v dpkg-deb >/dev/null; then
  expect 0 make --no-print-directory deb; deb=$(head -1 "$work/out"); grep -q '^[EW]:' "$work/out" "$work/err" && bad "lintian: $(grep -h '^[EW]:' "$work/out" "$work/err")" || ok
  dpkg-deb -c "$deb" >"$work/o"; for f in ./usr/bin/dpipe ./lib/systemd/system/dpipe.service ./etc/dpipe/recipe.yaml ./usr/share/man/man1/dpipe-job.1.gz ./usr/share/doc/dpipe/copyright; do says "$work/o" "$f"; done
  dpkg-deb -x "$deb" "$work/x"; expect 0 "$work/x/usr/bin/dpipe" --version
else echo "skip: no dpkg-deb"; fi
finish
