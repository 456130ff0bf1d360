#!/bin/sh
# A Debian package from what is built: build/dpipe_VERSION-1_ARCH.deb. Root isn't needed. usage: tools/make-deb.sh VERSION PROGRAM
set -eu
cd "$(dirname "$0")/.."
version=$1 program=$2
command -v dpkg-deb >/dev/null 2>&1 || { echo "dpkg-deb is not here: make deb needs Debian's dpkg" >&2; exit 69; }
arch=$(dpkg --print-architecture) root=build/deb deb=build/dpipe_$version-1_$(dpkg --print-architecture).deb
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}"
rm -rf $root "$deb"
umask 022
d=$root/usr/share/doc/dpipe
mkdir -p $root/DEBIAN $root/usr/bin $root/lib/systemd/system $root/etc/dpipe $root/usr/share/man/man1 $root/usr/share/bash-completion/completions \
  $root/usr/share/zsh/vendor-completions $root/usr/share/fish/vendor_completions.d $d/examples
strip --strip-all --remove-section=.comment -o $root/usr/bin/dpipe "$program"
chmod 755 $root/usr/bin/dpipe
sed 's,@bindir@,/usr/bin,' packaging/dpipe.service >$root/lib/systemd/system/dpipe.service
cp packaging/recipe.yaml $root/etc/dpipe/recipe.yaml
cp packaging/recipe.yaml $d/examples/
for p in build/man/*.1; do gzip -9n <"$p" >"$root/usr/share/man/man1/$(basename "$p").gz"; done
"$program" help --completion bash >$root/usr/share/bash-completion/completions/dpipe
"$program" help --completion zsh >$root/usr/share/zsh/vendor-completions/_dpipe
"$program" help --completion fish >$root/usr/share/fish/vendor_completions.d/dpipe.fish
cp packaging/copyright $d/copyright
mkdir -p $root/usr/share/lintian/overrides; cp packaging/lintian-overrides $root/usr/share/lintian/overrides/dpipe
sed "1s/(.*)/($version-1)/" packaging/changelog | gzip -9n >$d/changelog.Debian.gz
cp README.md docs/daemon.md docs/metrics.md $d/
for s in postinst prerm postrm; do cp packaging/$s $root/DEBIAN/$s; chmod 755 $root/DEBIAN/$s; done
echo /etc/dpipe/recipe.yaml >$root/DEBIAN/conffiles

# What the program is linked with, as packages: dpkg-shlibdeps where dpkg-dev is, else the packages that own the libraries.
if command -v dpkg-shlibdeps >/dev/null 2>&1; then
  mkdir -p build/shlibs/debian; printf 'Source: dpipe\n\nPackage: dpipe\nArchitecture: any\n' >build/shlibs/debian/control
  depends=$(cd build/shlibs && dpkg-shlibdeps -O "../../$root/usr/bin/dpipe" 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
else
  depends=$(ldd $root/usr/bin/dpipe | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p' | xargs -n1 readlink -f | xargs -n1 dpkg-query -S 2>/dev/null | sed 's/:.*//' | sort -u | paste -sd, | sed 's/,/, /g')
fi
cat >$root/DEBIAN/control <<TEXT
Package: dpipe
Version: $version-1
Architecture: $arch
Maintainer: The dpipe authors <dpipe@example.org>
Installed-Size: $(du -sk --exclude=DEBIAN $root | cut -f1)
Depends: $depends
Section: science
Priority: optional
Description: documents to tokens to a trained model, in one program
 dpipe reads web archives, packages and JSON lines, extracts and filters text,
 finds duplicates, trains a BPE tokenizer, writes token shards, feeds them to
 trainers and trains a small transformer on them.
 .
 This package runs it as a service that keeps all of that up to date for the
 sources its recipe names, with metrics and a control socket.
TEXT
(cd $root && find . -path ./DEBIAN -prune -o -type f -printf '%P\n' | LC_ALL=C sort | xargs md5sum) >$root/DEBIAN/md5sums
dpkg-deb --root-owner-group --build $root "$deb" >/dev/null
echo "$deb"
if command -v lintian >/dev/null 2>&1; then lintian --allow-root --fail-on error,warning "$deb"; fi
