#!/usr/bin/env bash
# captures-fetch.sh - puts the captures that the source packages of tcpdump and
# ndpi carry for their own tests into the cache, and prints the directory:
#   DIRECTORY/PACKAGE/...: .pcap, .cap and .pcapng
# Nothing is installed: a private apt downloads the upstream archives and checks
# their signatures. What is in the cache stays, without asking the network.
#
#   CAPTURE_CACHE  where to keep them (.cache/captures of this tree)
#   DEBIAN_MIRROR  where to fetch from (http://deb.debian.org/debian)
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "$0")/.." && pwd)
cache=${CAPTURE_CACHE:-$here/.cache/captures}
suite=bookworm
packages=(tcpdump ndpi)
# shellcheck source=scripts/private-apt.sh
. "$here/scripts/private-apt.sh"

die() {
	echo "fetch captures: $*" >&2
	exit 1
}

# download leaves the upstream archives in $work. Without a package's Debian
# part, which has no captures.
download() {
	apt-get -qq update || return
	(cd "$work" && apt-get -qq source --download-only --tar-only "${packages[@]}")
}

# unpack leaves the captures of every package in $work/captures.
unpack() {
	local package archive
	for package in "${packages[@]}"; do
		archive=("$work/$package"_*.orig.tar.?z)
		mkdir -p "$work/captures/$package" || return
		tar -tf "${archive[0]}" | grep -E '\.(pcap|cap|pcapng)$' >"$work/names" || return
		tar -xf "${archive[0]}" -C "$work/captures/$package" --strip-components 1 \
			--no-same-owner -T "$work/names" || return
	done
	chmod -R a+rX,u+w "$work/captures"
}

fetch() {
	local try
	private_apt "$work/apt" deb-src "$suite"
	for try in 1 2 3; do
		download >/dev/null 2>"$work/log" && break
		[ "$try" = 3 ] && die "download the sources of ${packages[*]} of $suite from $debian_mirror: $(grep -m 1 '^[EW]:' "$work/log" || echo "apt-get failed")"
		sleep $((try * 2))
	done
	unpack || die "unpack the sources of ${packages[*]}"
	mv "$work/captures" "$cache"
}

[ -r "$debian_keyring" ] || die "$debian_keyring is missing: scripts/setup.sh test"
mkdir -p "$(dirname "$cache")"
cache=$(realpath "$(dirname "$cache")")/$(basename "$cache") # apt looks for relative names elsewhere
exec 9>"$cache.lock"
flock 9
if [ ! -d "$cache" ]; then
	work=$(mktemp -d "$cache.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	fetch
fi
echo "$cache"
