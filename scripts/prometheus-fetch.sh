#!/usr/bin/env bash
# prometheus-fetch.sh - puts Debian's prometheus and promtool into the cache, and
# prints the directory that has both. Nothing is installed or started: a private
# apt downloads the package and checks its signature. What is in the cache stays,
# without asking the network.
#
#   DEBIAN_MIRROR  where to fetch from (http://deb.debian.org/debian)
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/private-apt.sh
. "$here/scripts/private-apt.sh"

die() {
	echo "fetch prometheus: $*" >&2
	exit 1
}

download() {
	apt-get -qq update || return
	(cd "$work" && apt-get -qq download prometheus)
}

fetch() {
	local try
	private_apt "$work/apt" deb bookworm
	for try in 1 2 3; do
		download >/dev/null 2>"$work/log" && break
		[ "$try" = 3 ] && die "download from $debian_mirror: $(grep -m 1 '^[EW]:' "$work/log" || echo "apt-get failed")"
		sleep $((try * 2))
	done
	dpkg -x "$work"/prometheus_*.deb "$work/root" || die "unpack the package"
	mkdir "$work/bin"
	mv "$work/root/usr/bin/prometheus" "$work/root/usr/bin/promtool" "$work/bin"
	mv "$work/bin" "$cache" # appears by one rename
}

[ -r "$debian_keyring" ] || die "$debian_keyring is missing: scripts/setup.sh test"
mkdir -p "$here/.cache"
cache=$(realpath "$here/.cache")/prometheus # apt looks for relative names elsewhere
exec 9>"$cache.lock"
flock 9
if [ ! -d "$cache" ]; then
	work=$(mktemp -d "$cache.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	fetch
fi
echo "$cache"
