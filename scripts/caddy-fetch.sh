#!/usr/bin/env bash
# caddy-fetch.sh - builds Caddy, which bench http has beside the HTTP proxy, once,
# and prints where it is.
set -euo pipefail
export LC_ALL=C

version=2.11.9
cache=$(cd "$(dirname "$0")/.." && pwd)/.cache/bin
caddy=$cache/caddy-$version

mkdir -p "$cache"
exec 9>"$caddy.lock"
flock 9
if [ ! -x "$caddy" ]; then
	work=$(mktemp -d "$cache/.new.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	for try in 1 2 3; do
		GOBIN=$work GOFLAGS="-modcacherw ${GOFLAGS:-}" go install "github.com/caddyserver/caddy/v2/cmd/caddy@v$version" >"$work/log" 2>&1 && break
		if [ "$try" = 3 ]; then
			echo "build caddy: $(tail -n 1 "$work/log")" >&2
			exit 1
		fi
		sleep $((try * 2))
	done
	mv "$work/caddy" "$caddy" # appears by one rename
fi
echo "$caddy"
