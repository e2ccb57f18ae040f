#!/usr/bin/env bash
# caddy-fetch.sh - builds Caddy, which bench http has beside the HTTP proxy, once,
# and prints where it is.
set -euo pipefail
export LC_ALL=C

# shellcheck source=scripts/go-tool.sh
. "$(dirname "$0")/go-tool.sh"

version=2.11.9
go_tool caddy "$version" "github.com/caddyserver/caddy/v2/cmd/caddy@v$version"
