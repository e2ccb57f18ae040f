#!/usr/bin/env bash
# kernels-fetch.sh LINE - puts a Debian kernel into the cache, unpacked, and prints
#   DIRECTORY RELEASE PACKAGE_VERSION
# DIRECTORY holds vmlinuz and modules/.
# LINE is 6.1, 6.12 or newest. Nothing is installed: a private apt downloads the
# package and checks its signature, dpkg -x unpacks it. What is in the cache and
# younger than a week is taken as it is, without asking the network.
#
#   KERNEL_CACHE   where to keep them (.cache/kernels of this tree)
#   DEBIAN_MIRROR  where to fetch from (http://deb.debian.org/debian)
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "$0")/.." && pwd)
cache=${KERNEL_CACHE:-$here/.cache/kernels}
meta=linux-image-cloud-amd64
# shellcheck source=scripts/private-apt.sh
. "$here/scripts/private-apt.sh"

die() {
	echo "fetch kernel $line: $*" >&2
	exit 1
}

# dependencies PACKAGE prints those of its dependencies whose name holds $2.
dependencies() {
	apt-cache depends "$1" | awk -v part="$2" '$1 == "Depends:" && index($2, part) {print $2}'
}

# download leaves the .deb files of one kernel in $work and prints its release.
# Since 7.x the image is split: it depends on packages of the same release.
download() {
	local image release parts
	apt-get -qq update || return
	image=$(dependencies "$meta" linux-image-)
	[ -n "$image" ] || return
	release=${image#linux-image-}
	mapfile -t parts < <(dependencies "$image" "$release")
	(cd "$work" && apt-get -qq download "$image" "${parts[@]}") || return
	echo "$release"
}

# unpack RELEASE leaves $work/vmlinuz and $work/modules, wherever the packages
# have them: in /boot and /lib until 6.12, in /usr/lib/modules since.
unpack() {
	local root=$work/root deb image
	for deb in "$work"/*.deb; do
		dpkg -x "$deb" "$root" || return
	done
	[ -e "$root/lib" ] || ln -s usr/lib "$root/lib" || return
	/sbin/depmod -b "$root" "$1" || return
	for image in "$root/boot/vmlinuz-$1" "$root/lib/modules/$1/vmlinuz"; do
		[ ! -e "$image" ] || mv "$image" "$work/vmlinuz" || return
	done
	mv "$root/lib/modules/$1" "$work/modules" || return
	dpkg-deb -f "$work/linux-image-$1"_*.deb Version >"$work/version" || return
	echo "$1" >"$work/release"
	rm -rf "$work"/*.deb "$root"
	[ -s "$work/vmlinuz" ]
}

is_fresh() {
	[ -n "$(find "$cache/$line/release" -mtime -7 2>/dev/null)" ]
}

fetch() {
	local try release
	private_apt "$work/apt" deb "$suite"
	for try in 1 2 3; do
		release=$(download 2>"$work/log") && break
		[ "$try" = 3 ] && die "download $meta of $suite from $debian_mirror: $(grep -m 1 '^[EW]:' "$work/log" || echo "no such package")"
		sleep $((try * 2))
	done
	unpack "$release" || die "unpack $release"
	rm -rf "$work/apt" "$work/log" "${cache:?}/$line"
	mv "$work" "$cache/$line"
}

line=${1:?usage: kernels-fetch.sh 6.1|6.12|newest}
case $line in
6.1) suite=bookworm ;;
6.12) suite=bookworm-backports ;;
newest) suite=trixie-backports ;;
*) die "unknown kernel line: want 6.1, 6.12 or newest" ;;
esac
[ -r "$debian_keyring" ] || die "$debian_keyring is missing: scripts/setup.sh kernels"
mkdir -p "$cache"
exec 9>"$cache/$line.lock"
flock 9
if ! is_fresh; then
	work=$(mktemp -d "$cache/.fetch.XXXXXX")
	chmod 755 "$work"
	trap 'rm -rf "$work"' EXIT
	fetch
fi
echo "$cache/$line $(<"$cache/$line/release") $(<"$cache/$line/version")"
