#!/usr/bin/env bash
# `make check-systemd`: the Debian package in a minimal Debian that boots under systemd-nspawn. Needs root, mmdebstrap, systemd-nspawn and a
# mirror (two minutes for the root, which is kept in build/systemd/root.tar); skips where these are not.
set -u; cd "$(dirname "$0")/../.."
for t in mmdebstrap systemd-nspawn dpkg-deb; do command -v $t >/dev/null || { echo "skip: no $t"; echo "0 passed, 0 failed, 1 skipped"; exit 0; }; done
[ "$(id -u)" = 0 ] || { echo "skip: not root"; echo "0 passed, 0 failed, 1 skipped"; exit 0; }
deb=$(make --no-print-directory deb 2>/dev/null | grep '\.deb$' | head -1); dir=build/systemd; mkdir -p $dir
depends=$(dpkg-deb -f "$deb" Depends | sed 's/([^)]*)//g; s/ //g')
[ -s $dir/root.tar ] || mmdebstrap --variant=minbase --include="systemd,systemd-sysv,procps,curl,$depends" bookworm $dir/root.tar || exit 1
rm -rf $dir/root; mkdir $dir/root; tar -C $dir/root -xf $dir/root.tar 2>/dev/null
cp "$deb" $dir/root/root/dpipe.deb; chroot $dir/root dpkg -i /root/dpipe.deb >$dir/dpkg.log 2>&1 || { cat $dir/dpkg.log; exit 1; }
cp tests/systemd/drive.sh $dir/root/root/drive.sh
printf '[Unit]\nAfter=dpipe.service\n[Service]\nType=oneshot\nExecStart=/bin/bash /root/drive.sh\n' >$dir/root/etc/systemd/system/drive.service
ln -sf /etc/systemd/system/drive.service $dir/root/etc/systemd/system/multi-user.target.wants/
timeout 300 systemd-nspawn -q --register=no --keep-unit -D $dir/root -b >$dir/boot.log 2>&1 </dev/null
cat $dir/root/root/result; p=$(grep -c '^ok' $dir/root/root/result) f=$(grep -c '^FAIL' $dir/root/root/result)
[ -e $dir/root/root/journal ] || f=$((f + 1))
echo "$p passed, $f failed"; [ $f -eq 0 ]
