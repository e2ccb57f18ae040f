#!/usr/bin/env bash
# pebble-fetch.sh - builds Pebble, an authority for tests of ACME, once, and prints
# where it is.
set -euo pipefail
export LC_ALL=C

# shellcheck source=scripts/go-tool.sh
. "$(dirname "$0")/go-tool.sh"

version=2.10.1
go_tool pebble "$version" "github.com/letsencrypt/pebble/v2/cmd/pebble@v$version"
