#!/usr/bin/env bash
# pebble-fetch.sh - builds Pebble, an authority for tests of ACME, once, and prints
# where it is.
set -euo pipefail
export LC_ALL=C

version=2.10.1
cache=$(cd "$(dirname "$0")/.." && pwd)/.cache/bin
pebble=$cache/pebble-$version

mkdir -p "$cache"
exec 9>"$pebble.lock"
flock 9
if [ ! -x "$pebble" ]; then
	work=$(mktemp -d "$cache/.new.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	for try in 1 2 3; do
		GOBIN=$work GOFLAGS=-modcacherw go install "github.com/letsencrypt/pebble/v2/cmd/pebble@v$version" >"$work/log" 2>&1 && break
		if [ "$try" = 3 ]; then
			echo "build pebble: $(tail -n 1 "$work/log")" >&2
			exit 1
		fi
		sleep $((try * 2))
	done
	mv "$work/pebble" "$pebble" # appears by one rename
fi
echo "$pebble"
