#!/usr/bin/env bash
# protoc.sh FILE.proto - generates the Go code of a file, named from the top of the
# repository: messages beside it, services below it. Takes Debian's protoc and the
# plugins that go.mod names.
set -euo pipefail
cd "$(dirname "$0")/.."

messages=$(go tool -n google.golang.org/protobuf/cmd/protoc-gen-go)
services=$(go tool -n connectrpc.com/connect/cmd/protoc-gen-connect-go)
protoc --plugin=protoc-gen-go="$messages" --plugin=protoc-gen-connect-go="$services" \
	--go_out=. --go_opt=paths=source_relative \
	--connect-go_out=. --connect-go_opt=paths=source_relative,simple "$1"
