#!/usr/bin/env bash
# interop-fetch.sh - builds grpc-go's client and server for interoperability once, and
# prints where they are. What they consist of is pinned in scripts/interop.
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/go-tool.sh
. "$here/go-tool.sh"

version=1.85.0
own=$(sha256sum <"$here/interop/main.go" | cut -c 1-8)
go_tool interop "$version-$own" -C "$here/interop" .
go_tool server "grpc-$version" -C "$here/interop" google.golang.org/grpc/interop/server
