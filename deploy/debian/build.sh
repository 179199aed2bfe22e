#!/usr/bin/env bash
# build.sh VERSION DIR [ARCH] - makes DIR/walpurge_VERSION_ARCH.deb with dpkg-deb
# and Go, and nothing else. ARCH is amd64 or arm64; default: this machine's. The
# same commit makes the same bytes, if SOURCE_DATE_EPOCH is that of the commit.
set -euo pipefail

version=${1:?usage: build.sh VERSION DIR [ARCH]}
out=${2:?usage: build.sh VERSION DIR [ARCH]}
arch=${3:-$(dpkg --print-architecture)}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$here/../.."
umask 022

# A Debian version begins with a digit. What comes before a release is older than
# it (~), what git describe counts after one is newer (+).
debian=$(sed -E 's/-(alpha|beta|rc)/~\1/; s/[^A-Za-z0-9.+~]/+/g; s/^[^0-9]/0~&/' <<<"$version")
# A bare commit may begin with a digit and is no release.
if [[ $debian != *.* && $debian != 0~* ]]; then debian=0~$debian; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root

go run ./deploy/release build -version "$version" -platforms "linux/$arch" -out "$work/build" >&2
go run ./deploy/release man -version "$version" -out "$work/man"
go run ./deploy/release completion -out "$work/completion"

put() { install -D -m "$1" "$2" "$root/$3"; }
put 755 "$work/build/walpurge_${version}_linux_$arch" usr/bin/walpurge
put 644 deploy/systemd/walpurge.service usr/lib/systemd/system/walpurge.service
put 644 deploy/debian/walpurge.yaml etc/walpurge/walpurge.yaml
put 644 deploy/debian/rules.yaml etc/walpurge/rules/shop.yaml
put 600 deploy/debian/environment etc/walpurge/environment
install -d -m 700 "$root/etc/walpurge/credentials"
put 644 "$work/completion/walpurge" usr/share/bash-completion/completions/walpurge
put 644 "$work/completion/_walpurge" usr/share/zsh/vendor-completions/_walpurge
put 644 "$work/completion/walpurge.fish" usr/share/fish/vendor_completions.d/walpurge.fish
put 644 deploy/debian/copyright usr/share/doc/walpurge/copyright
put 644 "$work/build/walpurge_${version}_linux_$arch.cdx.json" usr/share/doc/walpurge/sbom.cdx.json
for page in "$work"/man/*.1; do
  put 644 "$page" "usr/share/man/man1/${page##*/}"
done
gzip -9n "$root"/usr/share/man/man1/*.1

for script in postinst prerm postrm; do
  put 755 "deploy/debian/$script" "DEBIAN/$script"
done
(cd "$root" && find etc -type f -printf '/%p\n' | LC_ALL=C sort) >"$root/DEBIAN/conffiles"
size=$(du -sk --apparent-size --exclude=DEBIAN "$root" | cut -f1)
sed -e "s/@VERSION@/$debian/; s/@ARCH@/$arch/; s/@SIZE@/$size/" deploy/debian/control >"$root/DEBIAN/control"

dpkg-deb --root-owner-group -Zxz --build "$root" "$out/walpurge_${debian}_$arch.deb" >&2
echo "$out/walpurge_${debian}_$arch.deb"
