#!/usr/bin/env bash
# h2spec-fetch.sh - builds h2spec, the judge of HTTP/2, once, and prints where it is.
# What it consists of is pinned in scripts/h2spec.
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/go-tool.sh
. "$here/go-tool.sh"

go_tool h2spec 2.2.1 -C "$here/h2spec" github.com/summerwind/h2spec/cmd/h2spec
