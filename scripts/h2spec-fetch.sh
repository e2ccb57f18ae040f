#!/usr/bin/env bash
# h2spec-fetch.sh - builds h2spec, the judge of HTTP/2, once, and prints where it is.
# What it consists of is pinned in scripts/h2spec.
set -euo pipefail
export LC_ALL=C

version=2.2.1
here=$(cd "$(dirname "$0")" && pwd)
cache=$here/../.cache/bin
h2spec=$cache/h2spec-$version

mkdir -p "$cache"
exec 9>"$h2spec.lock"
flock 9
if [ ! -x "$h2spec" ]; then
	work=$(mktemp -d "$cache/.new.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	for try in 1 2 3; do
		GOFLAGS=-modcacherw go build -C "$here/h2spec" -trimpath -o "$work/h2spec" github.com/summerwind/h2spec/cmd/h2spec >"$work/log" 2>&1 && break
		if [ "$try" = 3 ]; then
			echo "build h2spec: $(tail -n 1 "$work/log")" >&2
			exit 1
		fi
		sleep $((try * 2))
	done
	mv "$work/h2spec" "$h2spec" # appears by one rename
fi
echo "$h2spec"
