#!/usr/bin/env bash
# release.sh DIRECTORY - archives for every architecture, and their SHA256SUMS.
#
# The same commit gives the same bytes: paths are trimmed from the binaries, and
# the archives carry no times, owners or order but their own. Outside of git,
# VERSION and SOURCE_DATE_EPOCH say what git would.
set -euo pipefail
export LC_ALL=C TZ=UTC
cd "$(dirname "$0")/.."

out=${1:?usage: release.sh DIRECTORY}
version=${VERSION:-$(git describe --tags --always --dirty)}
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir -p "$out"
rm -f "$out"/fairlead-*.tar.gz "$out/SHA256SUMS"
for arch in amd64 arm64; do
	name=fairlead-$version-linux-$arch
	mkdir -p "$work/$name"
	GOOS=linux GOARCH=$arch CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -buildid=" \
		-o "$work/$name/" ./cmd/loader ./cmd/fairlead ./cmd/dummyserver
	cp -r README.md LICENSE docs deploy "$work/$name/"
	chmod -R u=rwX,go=rX "$work/$name"
	tar -C "$work" --format=gnu --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner -cf - "$name" |
		gzip -9n >"$out/$name.tar.gz"
	echo "$out/$name.tar.gz"
done
(cd "$out" && sha256sum fairlead-*.tar.gz >SHA256SUMS)
