#!/usr/bin/env bash
# image-root.sh DIRECTORY - the whole file system of the container image.
#
# PROGRAMS is a directory of programs that are built already.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."

root=${1:?usage: image-root.sh DIRECTORY}
authorities=/etc/ssl/certs/ca-certificates.crt

mkdir -p "$root"/{usr/bin,etc/fairlead,etc/ssl/certs,proc,sys,dev,run,tmp,var/lib/fairlead}
if [ -n "${PROGRAMS:-}" ]; then
	cp "$PROGRAMS"/{fairlead,loader,dummyserver} "$root/usr/bin/"
else
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -buildid=" \
		-o "$root/usr/bin/" ./cmd/fairlead ./cmd/loader ./cmd/dummyserver
fi
cp deploy/debian/fairlead.yaml "$root/etc/fairlead/"
echo 'fairlead:x:10001:10001:Fairlead load balancer:/var/lib/fairlead:/usr/sbin/nologin' >"$root/etc/passwd"
echo 'fairlead:x:10001:' >"$root/etc/group"
# Who has none can still balance; HTTPS to backends then needs an authority by name.
[ ! -f "$authorities" ] || cp "$authorities" "$root$authorities"
chmod -R u=rwX,go=rX "$root"
# Written to by whatever user the image runs as; copying into an image may keep no owner.
chmod 1777 "$root"/{run,tmp,var/lib/fairlead}
