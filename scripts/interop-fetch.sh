#!/usr/bin/env bash
# interop-fetch.sh - builds grpc-go's client and server for interoperability once, and
# prints the directory that has them. What they consist of is pinned in scripts/interop.
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "$0")" && pwd)
cache=$here/../.cache/interop-$(cat "$here"/interop/{go.mod,main.go} | sha256sum | cut -c 1-12)

mkdir -p "$(dirname "$cache")"
exec 9>"$cache.lock"
flock 9
if [ ! -d "$cache" ]; then
	work=$(mktemp -d "$cache.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	for try in 1 2 3; do
		GOFLAGS=-modcacherw go build -C "$here/interop" -o "$work/" . google.golang.org/grpc/interop/server >"$work/log" 2>&1 && break
		if [ "$try" = 3 ]; then
			echo "build grpc's client and server: $(tail -n 1 "$work/log")" >&2
			exit 1
		fi
		sleep $((try * 2))
	done
	mv "$work/interop" "$work/client"
	chmod a+rx "$work"
	mv "$work" "$cache" # appears by one rename
fi
echo "$cache"
