#!/usr/bin/env bash
# vault-fetch.sh - builds the Vault that tests run, once, and prints where it is. What
# it consists of is pinned in scripts/vault. It takes about seven minutes of CPU time.
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/go-tool.sh
. "$here/go-tool.sh"

version=1.21.4
own=$(sha256sum <"$here/vault/main.go" | cut -c 1-8)
go_tool vault "$version-$own" -C "$here/vault" .
