#!/usr/bin/env bash
# cachetests-fetch.sh - puts the test suite for HTTP caches into the cache, and
# prints the directory, which has it under node_modules. npm checks what it
# downloads, and this what npm has got. What is in the cache stays, without
# asking the network.
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "$0")/.." && pwd)
cache=$here/.cache/cachetests-0.4.5
# node-fetch is what the suite's own command line uses; this is its last version
# without modules of others.
packages=(
	"http-cache-tests 0.4.5 0e3bb037d9d46572d35bec1abf52d1112099355c65f12b21c0ecb8cf5a71b966d6b79fdacbab0cf5043595e6c16833ba3f520c0682ba99d7fe3ee54ffd034bf0"
	"node-fetch 2.6.1 57869883cf63128551c516f67c974083c147bc8edc13261d54087de071f45082bca09c547e48e50d037d45b331f9b1233fbfa080c885469ad2b62d37d8e8a9c7"
)

die() {
	echo "fetch cache tests: $*" >&2
	exit 1
}

# fetch NAME VERSION SHA512 leaves a package in $work/node_modules.
fetch() {
	local archive=$work/$1-$2.tgz try
	for try in 1 2 3; do
		npm pack --silent --pack-destination "$work" "$1@$2" >/dev/null 2>"$work/log" && break
		[ "$try" = 3 ] && die "download $1: $(tail -n 1 "$work/log")"
		sleep $((try * 2))
	done
	echo "$3  $archive" | sha512sum --check --status || die "$1: not the package that it was"
	mkdir -p "$work/node_modules/$1"
	tar -xzf "$archive" -C "$work/node_modules/$1" --strip-components 1 --no-same-owner
	rm "$archive"
}

mkdir -p "$(dirname "$cache")"
exec 9>"$cache.lock"
flock 9
if [ ! -d "$cache" ]; then
	work=$(mktemp -d "$cache.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	for package in "${packages[@]}"; do
		read -r name version sum <<<"$package"
		fetch "$name" "$version" "$sum"
	done
	chmod -R a+rX "$work"
	mv "$work" "$cache"
fi
echo "$cache"
